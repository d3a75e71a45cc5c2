"""Does a model do what its points say? Routes judged by a twin's truth (never a reward), crops that lie, moved points.

Points are pixels of the frame that the model writes in (`View.frame`), the truth's boxes are pixels of the original
(`View.original_frame`). Of the view only these two frames are used: the pictures of a twin are all of one size, so
one view serves all of its examples. Every function raises ValueError on an example without truth (a photograph).
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import random
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from PIL import Image

from vigorl_lib.answers import last_answer, letter
from vigorl_lib.grounding import Box, Point
from vigorl_lib.images import picture_of
from vigorl_lib.nano.drawing import png
from vigorl_lib.policy import LocalPolicy
from vigorl_lib.prompts import BACKTRACK, Mode
from vigorl_lib.records import Example
from vigorl_lib.traces import find_points, parse_turn, render_single, split_steps
from vigorl_lib.views import View, Zoom


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
        return _OtherView(view.original, view.image, view.points, cut=functools.partial(cut, example))

    other.view_of = view_of
    return other


@dataclasses.dataclass(frozen=True, kw_only=True)
class _OtherView(View):
    cut: Callable[[tuple[int, int], Zoom], Image.Image]

    def crop(self, coordinate: tuple[int, int], zoom: Zoom) -> Image.Image:
        return self.cut(coordinate, zoom)


# --- pictures and questions that are changed ----------------------------------------------------------------


def greyed(example: Example) -> Example:
    """The example with a grey picture of the same size: what is right then was not seen."""
    grey = Image.new("RGB", picture_of(example).size, (128, 128, 128))
    return dataclasses.replace(example, images=(png(grey),))


def with_way_out(example: Example, words: str = "cannot tell") -> Example:
    """The example with one more option at the end. Raises ValueError where the question does not list its options."""
    last = f"\n{letter(len(example.options) - 1)}. {example.options[-1]}" if example.options else ""
    if not last or last not in example.question:
        raise ValueError(f"example {example.id!r}: its question lists no options such as 'A. …'; none can be added")
    more = f"{last}\n{letter(len(example.options))}. {words}"
    question = more.join(example.question.rsplit(last, 1))
    return dataclasses.replace(example, question=question, options=(*example.options, words))


# --- points that are moved, thoughts that are cut ---------------------------------------------------------

# Where a point of an example goes; both points are in the frame that the policy writes in.
Place = Callable[[Example, tuple[int, int], View], tuple[int, int] | None]


def named_points(turns: Sequence[str], names: Iterable[str]) -> list[tuple[str, tuple[int, int]]]:
    """Every point that a step names a thing for, with that name: the last one before the point in its step."""
    known, found = set(names), []
    for step in itertools.chain(*(split_steps(parse_turn(turn, zoom=True).think or "") for turn in turns)):
        start = 0
        for mention in find_points(step.text):
            where = {name: step.text.rfind(name, start, mention.start) for name in known}
            last = max(where, key=where.__getitem__)
            if where[last] >= 0:
                found.append((last, (mention.x, mention.y)))
            start = mention.end
    return found


def hit_rate(named: Sequence[tuple[str, tuple[int, int]]], example: Example, view: View) -> float | None:
    """The share of points that lie in the box of a thing of their name; None where there are none."""
    names = _truth(example)["names"]
    under = things_under([point for _, point in named], example, view)
    hits = [thing is not None and names[thing] == name for (name, _), thing in zip(named, under, strict=True)]
    return sum(hits) / len(hits) if hits else None


def probe_points(
    policy: LocalPolicy,
    examples: Sequence[Example],
    texts: Sequence[str],
    *,
    max_new_tokens: int,
    temperature: float,
    seed: int,
) -> list[dict[str, float | None]]:
    """Are the points of single-turn grounded replies right, and does the answer need them? One row an example.

    hits, hits_shuffled, hits_random
        the share of points on a thing of the name that their step says; the same with the reply's points handed round
        among its steps (None where there is one alone), and with points drawn at random
    changed_moved, changed_placebo, changed_resampled
        1 where the answer is another one after the first point was moved to a thing of another name, moved within its
        own thing, or kept, and the rest was drawn anew; None where the first point lies on nothing
    """
    limits = {"max_new_tokens": max_new_tokens, "temperature": temperature, "seed": seed}
    rows: list[dict[str, float | None]] = []
    view = policy.view_of(examples[0])
    for example, text in zip(examples, texts, strict=True):
        rng = random.Random(f"{seed}/{example.id}")
        named = named_points([text], _truth(example)["names"])
        names, points = [name for name, _ in named], [point for _, point in named]
        anywhere = [(rng.randrange(view.frame.width), rng.randrange(view.frame.height)) for _ in named]
        rotated = list(zip(names, points[1:] + points[:1], strict=True)) if len(named) > 1 else []
        rows.append(
            {
                "hits": hit_rate(named, example, view),
                "hits_shuffled": hit_rate(rotated, example, view),
                "hits_random": hit_rate(list(zip(names, anywhere, strict=True)), example, view),
            }
        )
    for name, place in (("moved", another_thing), ("placebo", same_thing), ("resampled", same_place)):
        pairs = zip(examples, texts, strict=True)
        beginnings = [up_to_first_point(example, text, view, place) for example, text in pairs]
        retold = tell_from(policy, examples, beginnings, "grounded", **limits)
        for row, before, after in zip(rows, texts, retold, strict=True):
            row[f"changed_{name}"] = None if after is None else float(last_answer(after) != last_answer(before))
    return rows


def tell_from(
    policy: LocalPolicy,
    examples: Sequence[Example],
    beginnings: Sequence[str | None],
    mode: Mode,
    *,
    max_new_tokens: int,
    temperature: float,
    seed: int,
) -> list[str | None]:
    """Single-turn replies that begin as given and that the policy goes on with; None stays None."""
    rows = [row for row, beginning in enumerate(beginnings) if beginning is not None]
    talks = [policy.conversation(examples[row], policy.view_of(examples[row]).image, mode) for row in rows]
    prefixes = [beginnings[row] for row in rows]
    written = policy.complete(
        talks, prefixes=prefixes, max_new_tokens=max_new_tokens, temperature=temperature, seed=seed
    )
    told: list[str | None] = [None] * len(beginnings)
    for row, prefix, completion in zip(rows, prefixes, written, strict=True):
        told[row] = prefix + completion.text
    return told


def up_to_first_point(example: Example, text: str, view: View, place: Place) -> str | None:
    """A reply up to its first point, which goes to `place`; None without a point, or where `place` gives none."""
    first = next(iter(find_points(text.partition("</think>")[0])), None)
    moved = place(example, (first.x, first.y), view) if first else None
    if moved is None:
        return None
    # With its full stop, since ")." may be one token, which the policy could not write any more.
    stop = "." if text.startswith(".", first.end) else ""
    return f"{text[: first.start]}({moved[0]}, {moved[1]}){stop}"


def up_to_answer(text: str, keep: Callable[[list[str]], list[str]]) -> str | None:
    """A reply with only the steps that `keep` returns, in its order, up to the tag of the answer.

    None where the reply thinks fewer than two steps.
    """
    steps = [step.text.strip() for step in split_steps(parse_turn(text, zoom=False).think or "")]
    if len(steps) < 2:
        return None
    return render_single(keep(steps), "").partition("<answer>")[0] + "<answer>"


def same_place(example: Example, point: tuple[int, int], view: View) -> tuple[int, int] | None:
    """Nothing moves, if the point is on a thing: what changes then is the luck of sampling."""
    return None if things_under([point], example, view) == [None] else point


def same_thing(example: Example, point: tuple[int, int], view: View) -> tuple[int, int] | None:
    """Another pixel of the thing under the point, a quarter of its box away from the middle: the placebo."""
    (thing,) = things_under([point], example, view)
    if thing is None:
        return None
    box = Box(*_truth(example)["boxes"][thing], view.original_frame)
    rng = random.Random(f"{example.id}/{point}")
    dx, dy = rng.choice([(1, 0), (-1, 0), (0, 1), (0, -1)])
    middle = box.center()
    side = (box.right - box.left) // 4
    moved = Point(middle.x + dx * side, middle.y + dy * side, view.original_frame).to(view.frame).rounded()
    return moved if moved != point else middle.to(view.frame).rounded()


def another_thing(example: Example, point: tuple[int, int], view: View) -> tuple[int, int] | None:
    """The middle of a thing of another name than the one under the point."""
    (thing,) = things_under([point], example, view)
    truth = _truth(example)
    others = [k for k, name in enumerate(truth["names"]) if thing is not None and name != truth["names"][thing]]
    if not others:
        return None
    chosen = random.Random(f"{example.id}/{point}").choice(others)
    return Box(*truth["boxes"][chosen], view.original_frame).center().to(view.frame).rounded()
