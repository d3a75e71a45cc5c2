"""Drawn screens: what is asked is there, once, and nothing but its box is right."""

from __future__ import annotations

import random

import pytest
from PIL import Image, ImageDraw

from vigorl_lib import images
from vigorl_lib.benchmarks import registry as benchmarks
from vigorl_lib.nano import gui

NAMES = ("screenspot", "screenspot_v2", "screenspot_pro")


def oracle(example):
    """Where the one control is that is asked for by the example's words."""
    pairs = zip(example.truth["boxes"], example.truth["instructions"], strict=True)
    (box,) = [box for box, instruction in pairs if instruction == example.question]
    return centre(box)


def centre(box):
    left, top, right, bottom = box
    return round((left + right) / 2), round((top + bottom) / 2)


@pytest.mark.parametrize("name", NAMES)
def test_the_scene_oracle_is_always_right_and_other_controls_are_not(name):
    examples = benchmarks.load(name, split="dev", limit=12)
    right, other = [], []
    for example in examples:
        right += [benchmarks.grade(name, f"<answer>{oracle(example)}</answer>", example)]
        boxes = [box for box in example.truth["boxes"] if tuple(box) != tuple(example.box)]
        other += [benchmarks.grade(name, f"<answer>{centre(box)}</answer>", example).score for box in boxes]
        assert images.open_image(example.images[0]).size == example.size
        assert list(example.box) in example.truth["boxes"]
    assert benchmarks.aggregate(name, right)["accuracy"]["value"] == 1
    assert sum(other) == 0 and len(other) > 100


def test_the_same_screen_is_stored_by_either_convention():
    (shares, _), (pixels, _) = (gui.screenspot(random.Random(3), convention=c) for c in ("shares", "xywh"))
    assert shares["image"] == pixels["image"] and shares["instruction"] == pixels["instruction"]
    boxes = [benchmarks.from_row(name, row).box for name, row in zip(NAMES, (shares, pixels), strict=False)]
    assert boxes[0] == pytest.approx(boxes[1])


@pytest.mark.parametrize("seed", range(40))
def test_controls_are_on_the_screen_and_do_not_overlap(seed):
    rng = random.Random(seed)
    size = rng.choice([(540, 1170), (1280, 800), (2560, 1440)])
    screen = gui.draw_screen(rng, size, windows=rng.randint(1, 6), line=rng.randint(18, 34), framed=seed % 2 == 0)
    boxes = [control.box for control in screen.controls]
    assert len(boxes) >= 6
    for left, top, right, bottom in boxes:
        assert 0 <= left < right <= size[0] and 0 <= top < bottom <= size[1]
    for number, (left, top, right, bottom) in enumerate(boxes):
        for other in boxes[:number]:
            assert right <= other[0] or other[2] <= left or bottom <= other[1] or other[3] <= top


def test_targets_of_both_types_and_from_every_platform_occur():
    kinds = {example.kind for example in benchmarks.load("screenspot", split="train", limit=80)}
    assert kinds == {f"{platform}/{kind}" for platform in ("mobile", "desktop", "web") for kind in ("icon", "text")}


def test_every_icon_can_be_drawn():
    drawn = set()
    for name in (*gui.ICONS, *gui.CORNER):
        image = Image.new("L", (24, 24), 255)
        gui.draw_icon(ImageDraw.Draw(image), (2, 2, 22, 22), name, "black")
        drawn.add(image.tobytes())
    assert len(drawn) == len(gui.ICONS) + len(gui.CORNER)
