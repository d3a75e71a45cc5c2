"""Twins: every item is right, needs its picture, and is spread evenly over its answers."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json
import random
import re
import zlib
from collections import Counter

import numpy as np
import pytest
from scipy import optimize, sparse

from vigorl_lib import images
from vigorl_lib.benchmarks import registry as benchmarks
from vigorl_lib.grounding import Box, Frame
from vigorl_lib.nano import twins, world
from vigorl_lib.nano.world import DIRECTIONS, NAMES, OPPOSITE, PATTERNS

MAKERS = {"sat2": twins.sat2_item, "vstar": twins.vstar_item}
TRAINED_ON, TESTED_ON = 5000, 2000


@pytest.fixture(scope="module", params=MAKERS)
def items(request):
    """Items of one twin, without pictures: 5,000 to learn from and 2,000 to test on."""
    rng = random.Random(f"{request.param} for the tests")
    return [MAKERS[request.param](rng) for _ in range(TRAINED_ON + TESTED_ON)]


def walk(item):
    """Where the item's directions lead from the thing that its question names, step by step."""
    (place,) = [k for k, thing in enumerate(item.scene.things) if thing.name in item.question]
    places = [place]
    for direction in item.directions:
        here = item.scene.things[places[-1]]
        places.append(world.next_thing(item.scene, here.x, here.y, direction))
        assert places[-1] is not None and places[-1] >= 0, "every step of a question is clear"
    return tuple(places)


# How the scene answers a question; a new kind of question needs its line here.
ORACLE = {
    twins.SIZE_OPTIONS: lambda before, end: "larger" if end.radius > before.radius else "smaller",
    PATTERNS: lambda before, end: end.pattern,
}


def scene_answer(item):
    places = walk(item)
    assert places == item.route
    rule = next((rule for texts, rule in ORACLE.items() if set(item.options) == set(texts)), lambda _, end: end.name)
    return rule(*(item.scene.things[place] for place in (places * 2)[-2:]))


def test_the_scene_gives_every_answer(items):
    assert all(scene_answer(item) == item.answer for item in items)


def test_the_question_says_the_route(items):
    for item in items:
        words = re.findall("|".join(DIRECTIONS), item.question)
        assert tuple(words) == item.directions


def test_options_are_valid(items):
    for item in items:
        assert len(set(item.options)) == len(item.options) >= 2 and item.answer in item.options
        present = {thing.name for thing in item.scene.things}
        if set(item.options) <= set(NAMES):
            start = item.scene.things[item.route[0]].name
            assert set(item.options) <= present, "a name that is not in the picture could be struck out"
            assert start not in item.options
            assert set(item.options) == present - {start}


def test_names_only_tell_the_start(items):
    for item in items:
        names = Counter(thing.name for thing in item.scene.things)
        assert names[item.scene.things[item.route[0]].name] == 1
        assert max(names.values()) > 1, "some name repeats, so that a name is not a place"


def test_routes_do_not_turn_back(items):
    for item in items:
        assert item.route[0] not in item.route[1:]
        for before, after in itertools.pairwise(item.directions):
            assert after != OPPOSITE[before]


def test_sizes_that_are_asked_for_differ_visibly(items):
    for item in items:
        if set(item.options) == set(twins.SIZE_OPTIONS):
            radii = [item.scene.things[place].radius for place in item.route[-2:]]
            assert max(radii) >= twins.SIZE_MARGIN * min(radii)


def test_the_start_does_not_tell_the_size():
    """Whoever sees everything but does not walk: the start's own size, against the middle, is worth nothing."""
    rng, hits, count = random.Random(5), 0, 1500
    middle = sum(world.RADII) / 2
    for _ in range(count):
        item = twins.sat2_item(rng, kind="action_consequence")
        guess = "larger" if item.scene.things[0].radius < middle else "smaller"
        hits += guess == item.answer
    assert within_chance(hits, count, 1 / 2), hits / count


def within_chance(count, n, chance):
    return abs(count / n - chance) < 4 * (chance * (1 - chance) / n) ** 0.5


def test_answers_are_balanced_over_places_and_texts(items):
    for size in {len(item.options) for item in items}:
        chosen = [item for item in items if len(item.options) == size]
        places = Counter(item.options.index(item.answer) for item in chosen)
        assert all(within_chance(places[place], len(chosen), 1 / size) for place in range(size)), places
    for kind in {item.kind for item in items}:
        chosen = [item for item in items if item.kind == kind]
        texts = Counter(item.answer for item in chosen)
        assert all(within_chance(count, len(chosen), 1 / len(texts)) for count in texts.values()), texts


# No leak through the text


def _features(items, width=2**13):
    """One row per option: its words and place, alone and with each word and pair of words of the question."""
    columns, ends = [], [0]
    for item in items:
        words = item.question.lower().split()
        asked = ["", *words, *map(" ".join, itertools.pairwise(words))]
        for place, option in enumerate(item.options):
            offered = [option, *option.split(), f"place {place}"]
            columns += [zlib.crc32(f"{a}|{b}".encode()) % width for a in asked for b in offered]
            ends.append(len(columns))
    ones = np.ones(len(columns), np.float32)
    return sparse.csr_matrix((ones, columns, ends), shape=(len(ends) - 1, width))


def text_only_accuracy(items):
    """Share of held-out items that a logistic regression gets right which never sees a picture."""
    learn, test = items[:TRAINED_ON], items[TRAINED_ON:]
    rows = _features(learn)
    right = np.array([option == item.answer for item in learn for option in item.options], float)

    def loss(weights):
        score = rows @ weights
        value = np.logaddexp(0, score).sum() - score @ right + 2.0 * weights @ weights
        return value, rows.T @ (1 / (1 + np.exp(-score)) - right) + 4.0 * weights

    start = np.zeros(rows.shape[1])
    weights = optimize.minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": 40}).x
    scores, found, position = _features(test) @ weights, 0, 0
    for item in test:
        best = int(np.argmax(scores[position : position + len(item.options)]))
        found += item.options[best] == item.answer
        position += len(item.options)
    return found / len(test)


def test_the_text_alone_answers_nothing(items):
    chance = float(np.mean([1 / len(item.options) for item in items[TRAINED_ON:]]))
    assert text_only_accuracy(items) < chance + 3 * (chance * (1 - chance) / TESTED_ON) ** 0.5


def test_that_classifier_finds_a_leak_where_there_is_one(items):
    """The control: the same reader, given items whose first direction goes with the right option's place."""
    rng = random.Random(0)
    leaky = []
    for item in items:
        options, first = list(item.options), list(DIRECTIONS).index((*item.directions, "right")[0])
        if rng.random() < 0.5:
            options.remove(item.answer)
            options.insert(first % (len(options) + 1), item.answer)
        leaky.append(dataclasses.replace(item, options=tuple(options)))
    chance = float(np.mean([1 / len(item.options) for item in items]))
    assert text_only_accuracy(leaky) > chance + 0.1


# Rows


def test_the_same_numbers_give_the_same_item():
    for make in MAKERS.values():
        assert make(random.Random(3)) == make(random.Random(3)) != make(random.Random(4))


def test_an_unknown_kind_is_refused():
    with pytest.raises(ValueError, match="unknown SAT-2 twin kind"):
        twins.sat2_item(random.Random(0), kind="telepathy")


@pytest.mark.parametrize("name", MAKERS)
def test_rows_have_the_hubs_columns_and_the_truth_is_json(name):
    row, truth = benchmarks.FAMILIES[name].twin(random.Random(0), 0)
    assert set(row) == set(benchmarks.FAMILIES[name].columns)
    assert json.loads(json.dumps(truth)) == truth
    assert len(truth["boxes"]) == len(truth["names"]) == len(truth["patterns"])


def test_the_truth_of_an_example_holds_the_things_of_its_route():
    for example in benchmarks.load("sat2", split="dev", limit=8):
        truth = example.truth
        start, end = (truth["names"][truth["route"][place]] for place in (0, -1))
        assert start in example.question and len(truth["directions"]) == len(truth["route"]) - 1
        assert example.answer in (end, *twins.SIZE_OPTIONS)
    for example in benchmarks.load("vstar", split="dev", limit=8):
        pattern = example.truth["patterns"][example.truth["route"][-1]]
        assert example.options["ABCD".index(example.answer)] == pattern


@pytest.mark.parametrize("kind", ["route", "pattern"])
def test_a_screen_s_target_is_the_only_one_that_fits(kind):
    rng = random.Random(f"screens {kind}")
    for _ in range(500):
        item = twins.screen_item(rng, kind=kind)
        assert item.scene.ground == "screen" and item.options == ()
        if kind == "route":
            assert walk(item) == item.route
            continue
        fits = [k for k, t in enumerate(item.scene.things) if f"{t.pattern} {t.name}" in item.question]
        alike = [t for t in item.scene.things if t.name in item.question]
        assert tuple(fits) == item.route and len(alike) in (2, 3)
        item = twins.screen_item(rng, kind=kind, pattern="checked")
        patterns = [t.pattern for t in item.scene.things if t.name in item.question]
        assert "checked" in item.question and patterns.count("checked") == 1 and len(set(patterns)) == len(patterns)
        assert item.scene.things[item.route[0]].pattern == "checked"


def test_a_screen_differs_from_a_plain_ground_around_its_things_only():
    scene = twins.screen_item(random.Random(5)).scene
    screen, plain = (np.asarray(world.draw(dataclasses.replace(scene, ground=g)), int) for g in ("screen", "plain"))
    assert (screen != plain).any()
    for thing in (thing for thing in scene.things if thing.shape == "square"):
        left, top, right, bottom = thing.box
        assert (screen[top:bottom, left:right] == plain[top:bottom, left:right]).all()


@pytest.mark.parametrize("name", ["screenspot", "screenspot_v2", "screenspot_pro"])
def test_of_a_nano_screen_s_things_exactly_one_is_right(name):
    for example in benchmarks.load(name, "nano", split="dev", limit=10, seed=1):
        original = Frame.original(*example.size)
        view = Frame.resized(original, world.VIEW_SIDE, world.VIEW_SIDE)
        middles = [Box(*box, original).center().to(view).rounded() for box in example.truth["boxes"]]
        right = [benchmarks.right(example, f"({x}, {y})", frame=view) for x, y in middles]
        assert right == [k == example.truth["route"][-1] for k in range(len(right))]
        assert benchmarks.chance(example) < 0.04


def test_nano_screens_are_screenspot_s_alone():
    with pytest.raises(ValueError, match="'sat2' has no nano"):
        benchmarks.load("sat2", "nano", split="dev", limit=1)


def test_a_word_of_one_s_own_is_never_guessed():
    (example,) = benchmarks.load("mathvision", "twin", split="dev", limit=1)
    assert benchmarks.chance(dataclasses.replace(example, options=())) == 0


def test_chance_is_the_place_s_share_of_the_picture():
    polygons = [e for e in benchmarks.load("robospatial", split="dev", limit=9) if e.polygon]
    boxes = benchmarks.load("screenspot", split="dev", limit=3)
    places = [(e, e.truth["free"]) for e in polygons] + [(e, e.box) for e in boxes]
    assert len(places) == 6
    for example, (left, top, right, bottom) in places:
        whole = example.size[0] * example.size[1]
        assert benchmarks.chance(example) == pytest.approx((right - left) * (bottom - top) / whole, rel=0.02)


def test_knobs_make_a_twin_harder_and_leave_the_plain_one_alone():
    plain = benchmarks.load("sat2", split="dev", limit=12, seed=4)
    harder = benchmarks.load("sat2", split="dev", limit=12, seed=4, hops=(3,), radii=(20, 30), distractors=4)
    assert [len(example.truth["boxes"]) for example in plain] == [7] * 12
    assert [len(example.truth["boxes"]) for example in harder] == [11] * 12
    assert {len(example.truth["directions"]) for example in harder} == {3}
    widths = [right - left for example in harder for left, _, right, _ in example.truth["boxes"]]
    assert min(widths) >= 40 and max(widths) <= 60
    assert not {example.id for example in plain} & {example.id for example in harder}
    screens = [benchmarks.load("screenspot_pro", split="dev", limit=2, resolution=share) for share in (0.5, 1.0)]
    assert [example.size for examples in screens for example in examples] == [(1280, 720)] * 2 + [(2560, 1440)] * 2
    for name in ("screenspot", "screenspot_pro"):
        small, large = (benchmarks.load(name, split="dev", limit=6, line=(line, line)) for line in (12, 44))
        heights = [sum(e.box[3] - e.box[1] for e in examples) for examples in (small, large)]
        assert heights[0] < heights[1] / 2


@pytest.mark.parametrize("name", MAKERS)
def test_resolution_scales_the_picture_and_the_places_in_it(name):
    for resolution in (0.5, 2.0):
        (plain,) = benchmarks.load(name, split="dev", limit=1)
        (other,) = benchmarks.load(name, split="dev", limit=1, resolution=resolution)
        assert images.image_size(other.images[0]) == (round(world.SIDE * resolution),) * 2
        assert plain.answer == other.answer and sorted(plain.options) == sorted(other.options)
        for box, scaled in zip(plain.truth["boxes"], other.truth["boxes"], strict=True):
            assert scaled == [round(side * resolution) for side in box]


# SHA-256 of what is asked and true in twelve rows: the nano models are trained on them.
TRAINED_ROWS = {
    ("sat2", "twin"): "07ccaf515ce4d1792f12153d663f6f978bce840062d61ad7989c4ed380caaf67",
    ("vstar", "twin"): "e6ba50c4a983538b0a6ea6ba66c7289b67516fd0fbc9c6df29b04844d3bd03c4",
    ("screenspot", "nano"): "ccc886019614bbd12226bfac85a0b2187cddb6187c9c9c867878fcc57d24a24c",
    ("screenspot_pro", "nano"): "abaddd8a4416bb9f206830ce1033375fa597eb999c7de041857d226fca268f66",
}


@pytest.mark.parametrize(("name", "source"), TRAINED_ROWS)
def test_the_rows_that_models_are_trained_on_stay_as_they_are(name, source):
    rows = benchmarks.load(name, source, split="train", limit=12)
    facts = [[e.id, e.kind, e.question, e.options, e.answer, e.box, e.truth] for e in rows]
    assert hashlib.sha256(json.dumps(facts).encode()).hexdigest() == TRAINED_ROWS[name, source]


@pytest.mark.parametrize(
    ("name", "source", "knobs", "message"),
    [
        (
            "sat2",
            "twin",
            {"size": 3},
            "the twin of 'sat2' has no knob size; known: hops, radii, distractors, sizes, resolution",
        ),
        ("pope", "twin", {"hops": 3}, "known: radii, distractors, resolution"),
        ("screenspot", "nano", {"windows": 3}, "the nano of 'screenspot' has no knob windows"),
        ("sat2", "hub", {"hops": (2,)}, "hops: only a twin has knobs, not 'hub'"),
        ("sat2", "twin", {"hops": (1,)}, "needs at least two"),
        ("sat2", "twin", {"radii": (40, 41)}, "can not be told apart"),
        ("vstar", "twin", {"distractors": 10}, "room for 0 to 9"),
        ("screenspot", "twin", {"line": (9, 12)}, "from 10 to 48 pixels"),
    ],
)
def test_a_knob_that_does_not_fit_is_named(name, source, knobs, message):
    with pytest.raises(ValueError, match=message):
        benchmarks.load(name, source, split="dev" if source != "hub" else "val", limit=1, **knobs)
