"""The vision tower's own lessons: what they ask of each image token, and that they teach nothing else."""

from __future__ import annotations

import random

import pytest
import torch

from vigorl_lib.nano import eye, lessons, world
from vigorl_lib.nano.model import build_model, build_processor, texts, train_tokenizer
from vigorl_lib.nano.world import SIDE


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(texts([lessons.lesson(seed) for seed in range(50)]))


def named(row: torch.Tensor) -> dict[str, int]:
    return dict(zip(eye.ASKED, row.tolist(), strict=True))


def test_a_view_asks_each_token_for_its_own_thing():
    scene = lessons.skill_scene(random.Random(0), 7)
    labels = eye.token_labels(scene, (0, 0, SIDE, SIDE))
    assert labels.shape == (16, len(eye.ASKED))
    assert int(labels[:, 0].sum()) == len(scene.things)
    for thing in scene.things:
        cell = SIDE // eye.GRID
        asked = named(labels[thing.y // cell * eye.GRID + thing.x // cell])
        x, y = lessons.spot(thing)
        assert (asked["x"], asked["y"]) == (x, y)
        assert eye.WORDS["width"][asked["width"]] == str(world.width(thing.radius))
        assert f"{list(world.COLOURS)[asked['colour']]} {world.SHAPES[asked['shape']]}" == thing.name
        assert asked["pattern"] == eye.IGNORED


def test_a_crop_asks_for_the_pattern_and_not_for_the_place():
    scene = lessons.skill_scene(random.Random(1), 3)
    thing = scene.things[0]
    asked = named(eye.token_labels(scene, lessons.window(lessons.spot(thing)))[5])
    assert world.PATTERNS[asked["pattern"]] == thing.pattern
    assert asked["x"] == asked["y"] == asked["width"] == eye.IGNORED


def test_every_answer_is_one_that_a_head_has():
    rng = random.Random(2)
    for _ in range(50):
        scene = lessons.skill_scene(rng, 16)
        labels = eye.token_labels(scene, (0, 0, SIDE, SIDE))
        for name, values in zip(eye.ASKED, labels.T, strict=True):
            answers = eye.WORDS.get(name, ("nothing", "something"))
            assert set(values.tolist()) <= {eye.IGNORED, *range(len(answers))}


@pytest.mark.parametrize("family", ["qwen2_5_vl", "qwen3_vl"])
def test_it_learns_with_the_vision_tower_alone(tokenizer, family):
    processor = build_processor(family, tokenizer)
    model = build_model(family, tokenizer, seed=0)
    before = {name: value.clone() for name, value in model.named_parameters()}
    steps = eye.train_eye(model, processor, steps=12, learning_rate=3e-3, batch_size=16, warmup_steps=2, workers=0)
    losses = [step["loss"] for step in steps]
    assert losses[-1] < losses[0] - 0.1
    changed = {name for name, value in model.named_parameters() if not torch.equal(value, before[name])}
    assert changed and all("visual" in name or "embed_tokens" in name for name in changed)


def test_a_seed_gives_one_course(tokenizer):
    images = build_processor("qwen3_vl", tokenizer).image_processor
    (a, labels), (b, same) = (eye.Pictures(images, 4, seed=3)[2] for _ in range(2))
    assert torch.equal(a, b) and torch.equal(labels, same)
    assert not torch.equal(a, eye.Pictures(images, 4, seed=4)[2][0])
