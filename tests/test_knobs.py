"""Knobs of the twins: sizes, distractors and resolution do what they say, and all stays true of its picture."""

from __future__ import annotations

import random

import pytest

from tests import test_general_twins as plain
from vigorl_lib import images
from vigorl_lib.benchmarks import registry as benchmarks
from vigorl_lib.nano import blink, general, twins, world
from vigorl_lib.nano.drawing import PLACES

MAKERS = {  # each with its kinds, whose answers the checks find again
    "pope": (general.pope, general.POPE, plain.test_pope_is_true_of_its_scenes),
    "gqa": (general.gqa, general.GQA, plain.test_gqa_is_true_of_its_scenes),
    "robospatial": (general.robospatial, general.ROBOSPATIAL[:2], plain.test_robospatial_is_true_of_its_scenes),
    "realworldqa": (general.realworldqa, general.REALWORLDQA, plain.test_realworldqa_is_true_of_its_scenes),
}
FULLEST = {"pope": 6, "gqa": 8, "robospatial": 11, "realworldqa": 12}
ROOM = {name: world.CELLS**2 - count for name, count in FULLEST.items()}


def radii_of(truth):
    return [(right - left) // 2 for left, _, right, _ in truth["boxes"]]


@pytest.mark.parametrize("name", MAKERS)
@pytest.mark.parametrize("radii", [(30, 40), (24, 59)])
@pytest.mark.parametrize("full", [False, True])
def test_answers_stay_true_whatever_the_knobs(name, radii, full):
    make, kinds, check = MAKERS[name]
    distractors = ROOM[name] if full else 1
    rng, asked = random.Random(f"{name} {radii} {full}"), []
    for number in range(900):
        asked.append(make(rng, kinds[number % len(kinds)], radii=radii, distractors=distractors))
        assert all(radii[0] <= radius <= radii[1] for radius in radii_of(asked[-1].truth))
    check({name: asked})
    counts = {len(question.truth["boxes"]) for question in asked}
    assert max(counts) == FULLEST[name] + distractors and min(counts) > distractors + 2


@pytest.mark.parametrize("knobs", [{"radii": (30, 40)}, {"radii": (50, 59), "distractors": 5}])
def test_free_places_stay_free(knobs):
    for seed in range(60):
        truth = general.robospatial(random.Random(seed), "context", **knobs).truth
        assert not any(plain.meets(truth["free"], box) for box in truth["boxes"])


@pytest.mark.parametrize("name", MAKERS)
def test_the_same_question_gets_more_and_smaller_things(name):
    few = benchmarks.load(name, split="dev", limit=12)
    many = benchmarks.load(name, split="dev", limit=12, distractors=3, radii=(30, 38))
    assert [item.kind for item in few] == [item.kind for item in many]
    assert not {item.id for item in few} & {item.id for item in many}
    mean = [sum(sum(radii_of(item.truth)) / len(item.truth["boxes"]) for item in items) for items in (few, many)]
    assert mean[1] < 0.8 * mean[0]
    assert sum(len(item.truth["boxes"]) for item in many) > sum(len(item.truth["boxes"]) for item in few)


@pytest.mark.parametrize("radii", [(20, 26), (50, 59)])
def test_blinks_scenes_have_things_of_the_size_that_is_asked_for(radii):
    rng = random.Random(5)
    asked = [blink.blink(rng, list(blink.TASKS)[number % 14], radii=radii) for number in range(280)]
    plain.test_blinks_answers_are_true({"blink": asked})
    sizes = [radius for question in asked if "boxes" in question.truth for radius in radii_of(question.truth)]
    assert len(sizes) > 500 and radii[0] <= min(sizes) and max(sizes) <= radii[1]
    for task in blink.OF_SCENES:
        assert all(image.size[0] >= 200 for image in blink.blink(random.Random(1), task, radii=radii).draw())


def test_blinks_other_tasks_know_no_radii():
    others = set(blink.TASKS) - set(blink.OF_SCENES)
    for task in others:
        same = [blink.blink(random.Random(2), task, **knobs).truth for knobs in ({}, {"radii": (20, 26)})]
        assert same[0] == same[1]
    assert len(others) == 5


@pytest.mark.parametrize("name", [*plain.ASK, "visualwebarena"])
def test_resolution_scales_pictures_and_the_places_in_them(name):
    limit = {"blink": 14, "wemath": 7}.get(name, 6)
    for resolution in (0.5, 1.5):
        usual = benchmarks.load(name, split="dev", limit=limit)
        other = benchmarks.load(name, split="dev", limit=limit, resolution=resolution)
        for before, after in zip(usual, other, strict=True):
            assert (before.question, before.options, before.answer) == (after.question, after.options, after.answer)
            for old, new in zip(before.images, after.images, strict=True):
                assert images.image_size(new) == tuple(round(side * resolution) for side in images.image_size(old))
            for key in before.truth:
                same = after.truth[key] == before.truth[key]
                assert not same if key in PLACES else same
            for box, scaled in zip(before.truth.get("boxes", ()), after.truth.get("boxes", ()), strict=True):
                assert scaled == [round(side * resolution) for side in box]
        if name == "robospatial":
            assert any(item.polygon for item in other)
            for item in other:
                if item.polygon:
                    left, top, right, bottom = item.truth["free"]
                    assert benchmarks.right(item, f"({(left + right) // 2}, {(top + bottom) // 2})")


@pytest.mark.parametrize(
    ("name", "knobs", "message"),
    [
        *(
            (name, {"distractors": room + 1}, f"distractors is {room + 1}; .* 0 to {room}")
            for name, room in ROOM.items()
        ),
        ("pope", {"distractors": -1}, "distractors is -1"),
        ("pope", {"radii": (40, 60)}, r"radii \(40, 60\): in a scene they go from 7 up to 59 pixels"),
        ("sat2", {"radii": (36, 100)}, "up to 59 pixels"),
        ("vstar", {"radii": (5, 20)}, "from 7"),
        ("pope", {"radii": (50, 40)}, "radii"),
        ("gqa", {"radii": (40, 45)}, "can not be told apart"),
        ("realworldqa", {"radii": (40, 45)}, "can not be told apart"),
        ("robospatial", {"radii": (10, 29)}, "radii .* fits everywhere"),
        ("blink", {"radii": (19, 40)}, "radii .* below 20 pixels"),
        ("blink", {"distractors": 1}, "no knob distractors; known: radii, resolution"),
        ("ai2d", {"radii": (20, 30)}, "no knob radii; known: resolution"),
        ("mathvision", {"resolution": 0}, "resolution is 0; a twin is drawn at 0.25 to 4 times"),
        ("visualwebarena", {"line": (20, 30)}, "no knob line; known: resolution"),
    ],
)
def test_a_knob_that_a_twin_has_no_room_for_is_named(name, knobs, message):
    with pytest.raises(ValueError, match=message):
        benchmarks.load(name, split="dev", limit=1, **knobs)


def test_a_source_may_name_knobs():
    load = lambda source, **knobs: benchmarks.load("vstar", source, split="dev", limit=3, seed=1, **knobs)  # noqa: E731
    assert load("twin?radii=13,16&hops=0&resolution=0.5") == load("twin", radii=(13, 16), hops=(0,), resolution=0.5)
    assert load("twin?radii=13,16", hops=(0,)) == load("twin", radii=(13, 16), hops=(0,))
    assert load("twin?") == load("twin")
    ids = [example.id for example in load("twin?radii=13,16")]
    assert (
        benchmarks.drawn_as(ids) == benchmarks.drawn_as([id.split("-radii")[0] for id in ids]) == ("vstar", "dev", 1, 3)
    )
    assert benchmarks.drawn_as(["sat2-twin-train-s0-17-p2013"]) == ("sat2", "train", 0, 18)
    assert [benchmarks.is_drawn(source) for source in ("twin?radii=13,16", "nano", "hub", "twins")] == [1, 1, 0, 0]
    with pytest.raises(ValueError, match=r"radii='a,16' is no knob"):
        load("twin?radii=a,16")
    with pytest.raises(ValueError, match="no knob colour"):
        load("twin?colour=3")


def test_every_twin_has_a_resolution():
    assert all("resolution" in family.knobs for family in benchmarks.FAMILIES.values())


@pytest.mark.parametrize(("sizes", "kinds"), [(0, {"goal_aim"}), (1, {"action_consequence"})])
def test_sat2_asks_for_sizes_as_often_as_it_is_told(sizes, kinds):
    assert {item.kind for item in benchmarks.load("sat2", f"twin?sizes={sizes}", split="dev", limit=60)} == kinds


def test_sat2_asks_for_sizes_in_three_of_ten_questions_by_default():
    usual, told = (benchmarks.load("sat2", source, split="dev", limit=200) for source in ("twin", "twin?sizes=0.3"))
    assert [(item.kind, item.truth) for item in usual] == [(item.kind, item.truth) for item in told]
    assert 40 <= sum(item.kind == "action_consequence" for item in usual) <= 80


def test_sizes_that_can_not_be_told_apart_are_refused_only_where_they_are_asked_for():
    assert benchmarks.load("sat2", "twin?sizes=0&radii=40,44", split="dev", limit=3)
    with pytest.raises(ValueError, match="sizes can not be told apart"):
        benchmarks.load("sat2", "twin?radii=40,44", split="dev", limit=3)
    with pytest.raises(ValueError, match="sizes can not be told apart"):
        twins.sat2_item(random.Random(1), kind="action_consequence", sizes=0, radii=(40, 44))
    with pytest.raises(ValueError, match="sizes='0,1': one number; only radii, hops, line have several"):
        benchmarks.load("sat2", "twin?sizes=0,1", split="dev", limit=3)
    with pytest.raises(ValueError, match="sizes is 3"):
        benchmarks.load("sat2", "twin?sizes=3", split="dev", limit=3)
