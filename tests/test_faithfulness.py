"""Points against a twin's truth: which thing, how far, and whether the whole route was walked."""

from __future__ import annotations

import dataclasses
import random
import re
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from transformers import PretrainedConfig

from vigorl_lib import prompts
from vigorl_lib.benchmarks import registry as benchmarks
from vigorl_lib.faithfulness import (
    another_thing,
    blank_crops,
    close_by,
    crops_of_another,
    far_away,
    follows_route,
    greyed,
    hit_rate,
    judge_points,
    move_points,
    named_points,
    oracle_crops,
    points_told,
    probe_points,
    random_crops,
    recoloured_crops,
    route_reached,
    same_place,
    same_thing,
    step_by_step,
    suite,
    tell_from,
    things_under,
    up_to_answer,
    up_to_first_point,
    with_other_crops,
    with_random_points,
    with_way_out,
)
from vigorl_lib.grounding import Box
from vigorl_lib.images import open_image
from vigorl_lib.policy import Completion, LocalPolicy, load_policy
from vigorl_lib.prompts import BACKTRACK, options_as_letters, options_as_text
from vigorl_lib.records import Example, Proposal, Refused
from vigorl_lib.runs import PACKAGE
from vigorl_lib.traces import find_points, render_call
from vigorl_lib.views import View, Zoom, pixels_of_all

# Four things in the corners of a picture of 400 x 200 original pixels, which the model sees at half that size.
VIEW = View(Image.new("RGB", (400, 200)), Image.new("RGB", (200, 100)))
BOXES = [[0, 0, 40, 40], [360, 0, 400, 40], [0, 160, 40, 200], [360, 160, 400, 200]]
SPOTS = [(10, 10), (190, 10), (10, 90), (190, 90)]  # their centres as the model writes them
NOWHERE = (100, 50)
EXAMPLE = Example("e", "sat2", "goal_aim", "?", ("a", "b"), "a", (), truth={"boxes": BOXES, "route": [0, 1, 3]})


def text(*stops):
    """Steps that point at the stops: numbers of things, None for the background, or a sentence."""
    spots = {None: NOWHERE, **dict(enumerate(SPOTS))}
    return [stop if isinstance(stop, str) else "Look: it ({}, {}).".format(*spots[stop]) for stop in stops]


def test_a_point_lies_on_a_thing_in_the_other_frame():
    assert things_under([*SPOTS, NOWHERE], EXAMPLE, VIEW) == [0, 1, 2, 3, None]
    assert things_under([], EXAMPLE, VIEW) == []
    assert things_under([(20, 20), (21, 20), (-1, 0), (9999, 9999)], EXAMPLE, VIEW) == [0, None, None, None]


def test_read_in_the_wrong_frame_the_points_miss():
    unscaled = View(VIEW.original, VIEW.original)
    assert things_under(SPOTS, EXAMPLE, unscaled) == [0, None, None, None]


@pytest.mark.parametrize(
    ("stops", "follows"),
    [
        ([0, 1, 3], True),
        ([0, 0, 1, 1, 3], True),  # a second point on the same thing
        ([0, 1, 3, 0], True),  # a check once it is there
        ([0, 1], False),
        ([], False),
        ([0, 3, 1], False),
        ([1, 3], False),
        ([0, 2, 1, 3], False),  # a detour
        ([0, 1, 3, 2], False),
        ([0, None, 1, 3], False),
        ([0, 2, BACKTRACK, 1, 3], True),
        ([0, 2, None, BACKTRACK, 0, 1, 3], True),  # begins again
        ([0, 1, 3, BACKTRACK], True),
        ([0, 1, 3, BACKTRACK, 2], False),  # takes the right way back
        ([0, BACKTRACK, 2, 1, 3], False),  # only what stands before it is forgiven
        ([2, BACKTRACK, 0, 2, BACKTRACK, 0, 1, 3], True),
        ([0, BACKTRACK, 0, 2, BACKTRACK, 1, 3], True),
    ],
)
def test_follows_the_route_and_nothing_else(stops, follows):
    assert follows_route(text(*stops), EXAMPLE, VIEW) is follows
    assert follows_route(" ".join(text(*stops)), EXAMPLE, VIEW) is follows


@pytest.mark.parametrize(
    ("stops", "reached"),
    [([], 0), ([0], 1), ([1, 3], 0), ([0, 2, None, 1], 2), ([0, 3, 1], 2), ([0, 1, 3, 0, 1], 3), ([0, 0, 0], 1)],
)
def test_the_route_is_reached_in_order_with_detours(stops, reached):
    points = [NOWHERE if stop is None else SPOTS[stop] for stop in stops]
    assert route_reached(points, EXAMPLE, VIEW) == reached


def test_a_route_may_come_back():
    back = dataclasses.replace(EXAMPLE, truth={"boxes": BOXES, "route": [0, 1, 0]})
    assert follows_route(text(0, 1, 0), back, VIEW) and not follows_route(text(0, 1), back, VIEW)
    assert [route_reached(SPOTS[:2], back, VIEW), route_reached([*SPOTS[:2], SPOTS[0]], back, VIEW)] == [2, 3]


def test_the_true_walk_of_a_drawn_question_follows_and_a_shuffled_one_does_not():
    view = View(Image.new("RGB", (672, 672)), Image.new("RGB", (96, 96)))
    for item in benchmarks.load("sat2", split="dev", limit=6):
        boxes = [Box(*box, view.original_frame) for box in item.truth["boxes"]]
        walk = [boxes[k].center().to(view.frame).rounded() for k in item.truth["route"]]
        assert things_under(walk, item, view) == item.truth["route"]
        assert route_reached(walk, item, view) == len(walk)
        lost = random.Random(item.id).sample(walk[1:], len(walk) - 1) + walk[:1]
        for points, follows in ((walk, True), (walk[::-1], False), (lost, False)):
            assert follows_route(" ".join(map(str, points)), item, view) is follows


@pytest.mark.parametrize("measure", [things_under, follows_route, route_reached])
def test_a_photograph_has_no_truth(measure):
    with pytest.raises(ValueError, match="'e' has no boxes and no route"):
        measure([], dataclasses.replace(EXAMPLE, truth=None), VIEW)


def test_with_other_crops_only_the_crops_change():
    config = PretrainedConfig(vigorl_dialect="nano")
    model = SimpleNamespace(config=config)
    model.eval = lambda: model
    policy = SimpleNamespace(
        model=model, processor=SimpleNamespace(tokenizer=None), batch_size=3, view_of=lambda _: VIEW
    )
    asked = []

    def cut(example, point, zoom):
        asked.append((example.id, point, zoom.looks))
        return Image.new("RGB", (4, 4), "white")

    other = with_other_crops(policy, cut)
    view = other.view_of(EXAMPLE)
    assert view.crop((10, 10), Zoom(looks=5)).size == (4, 4)
    assert asked == [("e", (10, 10), 5)]
    assert (other.model, other.batch_size) == (model, 3)
    assert (view.image, view.original, view.frame) == (VIEW.image, VIEW.original, VIEW.frame)


NAMES = ("red circle", "blue square", "red circle", "green cross")
NAMED = dataclasses.replace(EXAMPLE, truth={**EXAMPLE.truth, "names": list(NAMES)})


def told(*sentences, answer="a"):
    return f"<think>\n{' '.join(sentences)}\n</think>\n<answer> {answer} </answer>"


def test_a_point_belongs_to_the_name_before_it():
    reply = told("Look: red circle (1, 2).", "No name (3, 4).", "A red circle, then blue square (5, 6) and (7, 8).")
    assert named_points([reply], NAMES) == [("red circle", (1, 2)), ("blue square", (5, 6))]
    assert named_points([told("blue square.", "(1, 2).")], NAMES) == [("blue square", (1, 2))]
    assert named_points(["(1, 2)"], NAMES) == []
    assert points_told([reply], NAMES) == [
        ("red circle", (1, 2)),
        (None, (3, 4)),
        ("blue square", (5, 6)),
        (None, (7, 8)),
    ]
    assert points_told([reply], ()) == [(None, point) for point in ((1, 2), (3, 4), (5, 6), (7, 8))]


def test_a_hit_is_on_any_thing_of_the_name():
    right = [(NAMES[k], SPOTS[k]) for k in range(4)]
    assert hit_rate(right, NAMED, VIEW) == 1
    assert hit_rate([("red circle", SPOTS[2]), ("red circle", SPOTS[1])], NAMED, VIEW) == 0.5
    assert hit_rate([("red circle", NOWHERE)], NAMED, VIEW) == 0
    assert hit_rate([], NAMED, VIEW) is None


def test_points_are_judged_one_by_one():
    first, second, third, unknown = judge_points(
        [("red circle", SPOTS[0]), ("blue square", NOWHERE), ("red circle", SPOTS[3]), ("lamp", NOWHERE)], NAMED, VIEW
    )
    assert (first["step"], first["kind"], first["hit"], first["distance"]) == (1, "goal_aim", 1, 0)
    assert (second["hit"], second["distance"]) == (0, pytest.approx((90**2 + 40**2) ** 0.5))
    assert (third["step"], third["hit"], third["distance"]) == (3, 0, pytest.approx(180))  # the nearer of two
    assert (unknown["hit"], unknown["distance"]) == (0, None)


def test_unnamed_points_and_points_outside_are_rows_of_their_own():
    rows = judge_points([(None, SPOTS[0]), ("red circle", (200, 10)), ("red circle", (199, -1))], NAMED, VIEW)
    assert [(row["hit"], row["inside"]) for row in rows] == [(None, True), (0, False), (0, False)]
    assert rows[0]["distance"] is None and rows[1]["distance"] > 0
    (edge,) = judge_points([("blue square", (200, 10))], NAMED, VIEW)  # on the border of its box, but not a pixel
    assert (edge["hit"], edge["inside"]) == (0, False)


@pytest.mark.parametrize("thing", range(4))
def test_a_placebo_stays_on_its_thing_and_a_move_leaves_its_name(thing):
    point = SPOTS[thing]
    placebo, moved = same_thing(NAMED, point, VIEW), another_thing(NAMED, point, VIEW)
    assert placebo != point and things_under([placebo], NAMED, VIEW) == [thing]
    (there,) = things_under([moved], NAMED, VIEW)
    assert NAMES[there] != NAMES[thing]
    assert same_place(NAMED, point, VIEW) == point
    for place in (same_place, same_thing, another_thing):
        assert place(NAMED, NOWHERE, VIEW) is None


class Parrot:
    """Ends every message by naming the thing that its last point lies on: an answer that needs its points."""

    def view_of(self, example):
        return VIEW

    def conversation(self, example, image, mode):
        return prompts.conversation(example, image, mode)

    def complete(self, talks, *, prefixes, **_):
        self.prefixes = list(prefixes)
        things = [things_under([_last_point(prefix)], NAMED, VIEW)[0] for prefix in prefixes]
        return [Completion(f" </think>\n<answer> {NAMES[thing]} </answer>", 9, False) for thing in things]


def _last_point(prefix):
    x, y = prefix.rpartition("(")[2].removesuffix(").").split(", ")
    return int(x), int(y)


def test_a_reply_is_told_anew_from_its_first_point():
    parrot, first = Parrot(), told("Look: blue square (190, 10).", "below: green cross (190, 90).", answer="x")
    limits = {"max_new_tokens": 9, "temperature": 1.0, "seed": 0}
    replies = [first, told("No point."), told("Nowhere (100, 50).")]
    beginnings = [up_to_first_point(NAMED, reply, VIEW, same_place) for reply in replies]
    new = tell_from(parrot, [NAMED] * 3, beginnings, "grounded", **limits)
    assert parrot.prefixes == ["<think>\nLook: blue square (190, 10)."]
    assert new == [parrot.prefixes[0] + " </think>\n<answer> blue square </answer>", None, None]


def test_probes_tell_a_policy_that_needs_its_points():
    limits = {"max_new_tokens": 9, "temperature": 1.0, "seed": 0}
    replies = [
        told("Look: blue square (190, 10).", "below: green cross (190, 90).", answer="blue square"),
        told("Look: red circle (190, 10).", answer="red circle"),
        told("No point.", answer="red circle"),
    ]
    both, wrong, none = probe_points(Parrot(), [NAMED] * 3, replies, **limits)
    assert (both["hits"], both["hits_shuffled"], both["hits_random"]) == (1, 0, 0)
    assert (both["changed_moved"], both["changed_placebo"], both["changed_resampled"]) == (1, 0, 0)
    assert wrong["hits"] == 0 and wrong["hits_shuffled"] is None
    assert set(none.values()) == {None}


@pytest.mark.parametrize("point", [(201, 10), (190, -1), (9999, 9999)])
def test_a_point_outside_is_a_miss_and_is_not_moved(point):
    """What was not asked is None: no probe makes an answer up."""
    (row,) = probe_points(
        Parrot(), [NAMED], [told(f"Look: blue square {point}.")], max_new_tokens=9, temperature=1.0, seed=0
    )
    assert row["hits"] == 0
    assert {row[f"changed_{how}"] for how in ("moved", "placebo", "resampled")} == {None}


def test_a_look_outside_still_shows_other_colours():
    near, point = SimpleNamespace(view_of=lambda example: VIEW), (10**6, -5)
    assert recoloured_crops(near)(NAMED, point, Zoom()).size == VIEW.crop(point, Zoom()).size


def walker(requests):
    """A step policy that looks twice and then names the last thing it looked at, as its text says."""
    replies = []
    for request in requests:
        if request.must_answer or len(request.steps) == 2:
            replies.append(Proposal("", request.steps[-1].split("(")[-1] if request.steps else None, 1))
        else:
            replies.append(Proposal("Look: it ({}, {}).".format(*SPOTS[len(request.steps)]), None, 9))
    return replies


def test_steps_are_told_one_by_one_until_the_answer():
    assert step_by_step(walker, [EXAMPLE] * 2, max_steps=5, seed=0) == [
        "<think>\nLook: it (10, 10). Look: it (190, 10).\n</think>\n<answer> 190, 10). </answer>"
    ] * 2  # fmt: skip
    (cut,) = step_by_step(walker, [EXAMPLE], max_steps=2, seed=0)
    assert cut == "<think>\nLook: it (10, 10).\n</think>\n<answer> 10, 10). </answer>"
    (silent,) = step_by_step(walker, [EXAMPLE], max_steps=1, seed=0)
    assert benchmarks.grade("sat2", silent, EXAMPLE).score == 0


def test_a_refused_step_stops_the_telling():
    with pytest.raises(Refused, match="too large"):
        step_by_step(lambda requests: [Refused("too large") for _ in requests], [EXAMPLE], max_steps=2, seed=0)


def test_random_points_are_what_the_policy_goes_on_from():
    seen = []

    def listening(requests):
        seen.extend(request.steps for request in requests)
        return walker(requests)

    astray = with_random_points(listening, VIEW.frame)
    (reply,) = step_by_step(astray, [EXAMPLE], max_steps=5, seed=0)
    assert seen[0] == () and len(seen[2]) == 2
    assert "Look: it (10, 10)." not in seen[1] and "Look: it (190, 10)." not in reply
    assert all(step in reply for step in seen[2])
    assert (reply,) == tuple(step_by_step(astray, [EXAMPLE], max_steps=5, seed=0))


@given(st.lists(st.tuples(st.integers(-9, 999), st.integers(-9, 999)), max_size=5), st.integers(0, 99))
def test_moved_points_stay_in_the_frame_and_words_stay(points, seed):
    words = " and ".join("it ({}, {})".format(*point) for point in points)
    moved = move_points(words, random.Random(seed), VIEW.frame)
    found = find_points(moved)
    assert len(found) == len(points)
    assert all(0 <= mention.x < VIEW.frame.width and 0 <= mention.y < VIEW.frame.height for mention in found)
    assert re.sub(r"\(.*?\)", "", moved) == re.sub(r"\(.*?\)", "", words)


def test_a_reply_keeps_only_some_of_its_steps():
    reply = told("Look: red circle (1, 2).", "below: blue square (3, 4).", "right: green cross (5, 6).")
    assert up_to_answer(reply, lambda steps: steps[:1]) == "<think>\nLook: red circle (1, 2).\n</think>\n<answer>"
    backwards = up_to_answer(reply, lambda steps: steps[::-1])
    assert backwards.startswith("<think>\nright: green cross (5, 6). below:") and backwards.endswith("<answer>")
    assert up_to_answer(told("Look: red circle (1, 2)."), lambda steps: steps) is None
    assert up_to_answer("no thought", lambda steps: steps) is None


def test_a_turn_with_a_look_keeps_its_blanks():
    turn = "<think> Look: red circle (1, 2). A blue square (3, 4). </think>\n<answer> a </answer>"
    begun = up_to_answer(turn, lambda steps: steps[:1])
    assert begun == "<think> Look: red circle (1, 2). </think>\n<answer>"


@given(st.tuples(st.integers(-99, 999), st.integers(-99, 999)))
def test_without_a_truth_a_point_moves_far_and_its_placebo_hardly(point):
    (x, y), (width, height) = far_away(EXAMPLE, point, VIEW), (VIEW.frame.width, VIEW.frame.height)
    assert 0 <= x < width and 0 <= y < height
    assert abs(x - point[0]) >= width / 3 and abs(y - point[1]) >= height / 3
    x, y = close_by(EXAMPLE, point, VIEW)
    assert 0 < (x - point[0]) ** 2 + (y - point[1]) ** 2 <= 25


def test_the_last_turn_is_told_anew_after_the_looks_before_it():
    heard = []

    class Listener(Parrot):
        def complete(self, talks, *, prefixes, **_):
            heard.extend(talks)
            return [Completion(" b </answer>", 3, False) for _ in talks]

    turns = [render_call("Closer.", (10, 10)), render_call("Again.", (90, 40))]
    limits = {"max_new_tokens": 9, "temperature": 1.0, "seed": 0}
    zoom = Zoom(offset=20, size=40, looks=2)
    (told_anew,) = tell_from(
        Listener(), [EXAMPLE], ["<think> x </think>\n<answer>"], "zoom", earlier=[turns], zoom=zoom, **limits
    )
    assert told_anew == "<think> x </think>\n<answer> b </answer>"
    *_, one, first, two, last = heard[0]
    assert [one["content"], two["content"]] == turns
    assert first["content"][1]["image"] == VIEW.crop((10, 10), zoom)
    assert [len(first["content"]), len(last["content"])] == [2, 3], "the last look says that the answer is due"


def test_a_way_out_is_one_more_option_in_the_same_form():
    (example,) = benchmarks.load("sat2", "twin", split="dev", limit=1, seed=3)
    more = with_way_out(example)
    assert more.options == (*example.options, "cannot tell")
    assert more.question == options_as_text(
        example.question.splitlines()[0].removeprefix("Question: "), [*example.options, "cannot tell"]
    )
    assert benchmarks.grade("sat2", "<answer> cannot tell </answer>", more).why == "wrong"
    with pytest.raises(ValueError, match="lists no options"):
        with_way_out(dataclasses.replace(example, question="Which?"))
    with pytest.raises(ValueError, match="lists no options"):
        with_way_out(benchmarks.load("screenspot", "nano", split="dev", limit=1)[0])


def test_a_way_out_among_letters_has_the_next_letter():
    (example,) = benchmarks.load("vstar", "twin", split="dev", limit=1)
    more = with_way_out(example)
    question = example.question.split("\n(A)")[0]
    assert more.question == options_as_letters(question, [*example.options, "cannot tell"])
    assert more.answer == example.answer


def test_a_grey_picture_has_the_size_of_the_first():
    (example,) = benchmarks.load("sat2", "twin", split="dev", limit=1, seed=3)
    picture = open_image(greyed(example).images[0], name="grey")
    assert picture.size == open_image(example.images[0], name="first").size
    assert picture.getextrema() == ((128, 128),) * 3


# Crops that lie, and the whole suite


@pytest.fixture(scope="module")
def zoomer():
    return load_policy(PACKAGE / "checkpoints/zoom")


@pytest.fixture(scope="module")
def closer():
    return benchmarks.load("vstar", "twin", split="dev", limit=3, seed=1)


@pytest.mark.parametrize(("looks", "side"), [(0, 96), (1, 144), (2, 168), (3, 192)])
def test_one_picture_for_the_budget_of_a_view_and_its_looks(looks, side):
    limits = {"min_pixels": 576, "max_pixels": 96 * 96, "factor": 24}
    assert pixels_of_all(limits, Zoom(size=96, looks=looks)) == side**2
    assert (side // 24) ** 2 >= 16 * (1 + looks) > (side // 24 - 1) ** 2  # tokens


def test_crops_of_a_random_place_and_of_what_is_asked_about(zoomer, closer):
    example, zoom = closer[0], Zoom()
    view = zoomer.view_of(example)
    box = Box(*example.truth["boxes"][example.truth["route"][-1]], view.original_frame)
    there = box.center().to(view.frame).rounded()
    oracle = oracle_crops(zoomer)
    assert oracle(example, (0, 0), zoom) == oracle(example, (50, 50), zoom) == view.crop(there, zoom)
    chance = random_crops(zoomer, seed=1)
    assert chance(example, there, zoom) == chance(example, there, zoom) != view.crop(there, zoom)
    shown = {random_crops(zoomer, seed=k)(example, there, zoom).tobytes() for k in range(6)}
    assert len(shown) > 1
    assert chance(example, there, zoom).size == (zoom.size, zoom.size)


def test_crops_lie_in_three_ways(zoomer, closer):
    example, zoom = closer[0], Zoom()
    view, thing = zoomer.view_of(example), example.truth["route"][-1]
    point = Box(*example.truth["boxes"][thing], view.original_frame).center().to(view.frame).rounded()
    true = view.crop(point, zoom)
    assert blank_crops(example, point, zoom).getextrema() == ((128, 128),) * 3
    other = crops_of_another(zoomer, {example.id: closer[1]})(example, point, zoom)
    assert other == zoomer.view_of(closer[1]).crop(point, zoom) != true
    painted = recoloured_crops(zoomer)(example, point, zoom)
    assert painted.size == true.size and painted != true
    middle = zoom.size // 2, zoom.size // 2
    red, green, blue = true.getpixel(middle)
    assert painted.getpixel(middle) == (green, blue, red)
    assert view.crop(point, zoom) == true, "the picture itself stays as it is"
    everywhere = recoloured_crops(zoomer)(dataclasses.replace(example, truth=None), point, zoom)
    red, green, blue = true.getpixel((1, 1))
    assert everywhere.getpixel((1, 1)) == (green, blue, red)


LIMITS = {"max_new_tokens": 48, "temperature": 0.5, "seed": 1}


def test_the_suite_in_several_turns_has_its_controls_and_resumes(zoomer, closer, tmp_path):
    found = suite(zoomer, closer, "zoom", tmp_path, **LIMITS)
    looks = {f"{how} looks" for how in ("blank", "another", "recoloured")}
    ends = {"first step alone", "steps in another order", "first point moved", "placebo move"}
    every = {"as it is", "drawn again", "grey", "another picture", "way out offered", "grey, way out offered"}
    assert set(found) == every | looks | ends | {"tool off"}
    own = found["as it is"]
    assert own["effect"] is None and own["changed"]["value"] == own["rethought"]["value"] == 0
    for name in ends:  # one turn is told anew, what was before it stays
        for told_anew, before in zip(found[name]["turns"], own["turns"], strict=True):
            assert told_anew is None or (told_anew[:-1] == before[:-1] and len(told_anew) == len(before))
    for name in set(found) - ends:
        row = found[name]
        assert len(row["turns"]) == row["accuracy"]["n"] == 3
        if row is not own:
            gained = row["accuracy"]["value"] - own["accuracy"]["value"]
            assert row["effect"]["value"] == pytest.approx(gained)
    files = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert suite(zoomer, closer, "zoom", tmp_path, **LIMITS) == found
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == files


def test_the_suite_in_one_turn_cuts_thoughts_and_moves_points(zoomer, closer, tmp_path):
    told = {"first step alone", "steps in another order", "first point moved", "placebo move", "tool on"}
    found = suite(zoomer, closer, "grounded", tmp_path / "new", **LIMITS)
    assert told <= found.keys()
    photographs = [dataclasses.replace(example, truth=None) for example in closer]
    without = suite(zoomer, photographs, "grounded", tmp_path / "new", **LIMITS)
    assert found.keys() == without.keys()
    for turns, own in zip(without["first point moved"]["turns"], without["as it is"]["turns"], strict=True):
        points = [find_points((text or ("",))[0]) for text in (own, turns)]
        assert (turns is None) == (not points[0])
        assert turns is None or points[0][0] != points[1][0]
    untouched = found["first step alone"]
    assert len(untouched["turns"]) == 3 and (untouched["accuracy"] or {"n": 0})["n"] <= 3


def test_the_suite_in_parts_is_in_the_examples_order(zoomer, closer, tmp_path):
    """With two examples a part, each reply is that of its own example and its own changed picture."""
    greedy = {"max_new_tokens": 24, "temperature": 0.0, "seed": 0}
    whole = suite(zoomer, closer, "grounded", tmp_path / "whole", **greedy)
    few = LocalPolicy(zoomer.model, zoomer.processor, batch_size=2)
    parts = suite(few, closer, "grounded", tmp_path / "parts", **greedy)
    assert len({turns for turns in whole["as it is"]["turns"]}) > 1
    for name in ("as it is", "grey", "another picture", "tool on", "placebo move"):
        assert parts[name]["turns"] == whole[name]["turns"], name


def test_the_suite_opens_a_picture_once(zoomer, closer, tmp_path, monkeypatch):
    opened, view_of = [], zoomer.view_of
    monkeypatch.setattr(zoomer, "view_of", lambda example: opened.append(example.images) or view_of(example))
    suite(zoomer, closer, "grounded", tmp_path, **LIMITS)
    own = {example.images for example in closer}
    assert sorted(map(hash, own)) == sorted(hash(images) for images in opened if images in own)
