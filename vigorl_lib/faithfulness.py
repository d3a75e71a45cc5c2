"""Does a model do what its points say? Routes judged by a twin's truth (never a reward), and crops that lie.

Points are pixels of the frame that the model writes in (`View.frame`), the truth's boxes are pixels of the original
(`View.original_frame`). Of the view only these two frames are used: the pictures of a twin are all of one size, so
one view serves all of its examples. Every function raises ValueError on an example without truth (a photograph).
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from PIL import Image

from vigorl_lib.grounding import Box, Point
from vigorl_lib.policy import LocalPolicy, View, Zoom
from vigorl_lib.prompts import BACKTRACK
from vigorl_lib.records import Example
from vigorl_lib.traces import find_points


def things_under(points: Iterable[tuple[int, int]], example: Example, view: View) -> list[int | None]:
    """For each point the number of the thing whose box it lies in (the border counts), or None."""
    boxes = [Box(*box, view.original_frame) for box in _truth(example)["boxes"]]
    places = [Point(x, y, view.frame).to(view.original_frame) for x, y in points]
    return [next((k for k, box in enumerate(boxes) if box.contains(place)), None) for place in places]


def follows_route(said: str | Sequence[str], example: Example, view: View) -> bool:
    """Do the points visit the route's things in order, and nothing else?

    `said` is a text, the turns of a reply or the steps of a chain; every point written in it counts. Several points
    on one thing are one visit, and things of the route may be visited again once its end is reached. What was taken
    back is forgiven: of the points before the last `prompts.BACKTRACK` any number of the latest may be left out.
    """
    route = list(_truth(example)["route"])
    before, _, after = (said if isinstance(said, str) else " ".join(said)).rpartition(BACKTRACK)
    head, tail = (
        things_under([(mention.x, mention.y) for mention in find_points(text)], example, view)
        for text in (before, after)
    )
    for kept in range(len(head) + 1):
        visits = [thing for thing, _ in itertools.groupby(head[:kept] + tail)]
        if visits[: len(route)] == route and set(visits) <= set(route):
            return True
    return False


def route_reached(points: Iterable[tuple[int, int]], example: Example, view: View) -> int:
    """How many things of the route the points visit in its order, from the start on; detours are allowed."""
    route, reached = _truth(example)["route"], 0
    for thing in things_under(points, example, view):
        reached += reached < len(route) and thing == route[reached]
    return reached


def _truth(example: Example) -> Any:
    if example.truth is None:
        raise ValueError(
            f"example {example.id!r} has no boxes and no route: only a twin's examples have (source 'twin')"
        )
    return example.truth


def with_other_crops(policy: LocalPolicy, cut: Callable[[Example, tuple[int, int], Zoom], Image.Image]) -> LocalPolicy:
    """The policy, but a look at a point of an example shows what `cut` returns instead of the place itself.

    Weights and prompts are the same: what its answers lose or gain, they owe to what the crops show.
    """
    other = LocalPolicy(policy.model, policy.processor, batch_size=policy.batch_size)

    def view_of(example: Example) -> View:
        view = policy.view_of(example)
        return _OtherView(view.original, view.image, functools.partial(cut, example))

    other.view_of = view_of
    return other


@dataclasses.dataclass(frozen=True)
class _OtherView(View):
    cut: Callable[[tuple[int, int], Zoom], Image.Image]

    def crop(self, coordinate: tuple[int, int], zoom: Zoom) -> Image.Image:
        return self.cut(coordinate, zoom)
