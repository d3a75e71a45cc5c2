"""Points against a twin's truth: which thing, how far, and whether the whole route was walked."""

from __future__ import annotations

import dataclasses
import random
from types import SimpleNamespace

import pytest
from PIL import Image

from vigorl_lib.benchmarks import registry as benchmarks
from vigorl_lib.faithfulness import follows_route, route_reached, things_under, with_other_crops
from vigorl_lib.grounding import Box
from vigorl_lib.policy import View, Zoom
from vigorl_lib.prompts import BACKTRACK
from vigorl_lib.records import Example

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
    model = SimpleNamespace(eval=lambda: "the model")
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
    assert (other.model, other.batch_size) == ("the model", 3)
    assert (view.image, view.original, view.frame) == (VIEW.image, VIEW.original, VIEW.frame)
