"""Twins: procedural items that stand in for a real benchmark and are written in its own row schema.

Every item is a route through a scene: a thing with a unique name, then one to three moves to "the next
thing in a direction". Names of the things on the way repeat, so that a name alone does not say where
one is. Three question kinds follow from a route:

- its end's name (SAT-2 `goal_aim`): decidable from positions alone;
- its end's size against the thing before it (SAT-2 `action_consequence`): not decidable from positions, and
  not from the start either, whose own size would give the answer away;
- its end's surface pattern (V*Bench `direct_attributes`): not visible in the model's view without a zoom.

On screens (ScreenSpot, ScreenSpot-Pro) the answer is a place: the end of a route, or the one of several icons of a name
that has the pattern asked for, which again takes a zoom.
"""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Sequence
from typing import Any

from vigorl_lib.nano import drawing, world
from vigorl_lib.nano.world import DIRECTIONS, NAMES, OPPOSITE, PATTERNS, Scene

ORDINALS = ("first", "second", "third", "fourth")  # how a question and a trace number their moves
SIZE_OPTIONS = ("larger", "smaller")
SIZE_MARGIN = 1.25  # the larger radius is at least this many times the smaller one, wherever sizes are compared


@dataclasses.dataclass(frozen=True)
class Item:
    """A question with its scene and the route that answers it (indices into `scene.things`)."""

    benchmark: str
    kind: str
    scene: Scene
    question: str
    options: tuple[str, ...]
    answer: str
    route: tuple[int, ...]
    directions: tuple[str, ...]


def check_distractors(distractors: int, *, fullest: int) -> None:
    """Raises ValueError where a scene that has up to `fullest` things without any has no room for so many."""
    most = world.CELLS**2 - fullest
    if not 0 <= distractors <= most:
        raise ValueError(f"distractors is {distractors}; a scene has room for 0 to {most}")


def check_sizes(radii: tuple[int, int]) -> None:
    """Raises ValueError where not even the smallest and the largest of these radii can be told apart."""
    if radii[1] < SIZE_MARGIN * radii[0]:
        raise ValueError(f"radii {radii}: sizes can not be told apart; the larger must be {SIZE_MARGIN} times")


def route_scene(
    rng: random.Random, ground: world.Ground = "plain", *, radii: tuple[int, int] = world.RADII, distractors: int = 0
) -> Scene:
    """Seven things: one name that occurs once (the start), four others of which two occur twice.

    The names on offer are the four others, all of them present: neither the question's words nor the
    list of things in view tells which one is right. With `distractors` there are so many more of these four.
    """
    check_distractors(distractors, fullest=7)
    start, *others = rng.sample(NAMES, 5)
    names = [start, *others, *rng.sample(others, 2), *rng.choices(others, k=distractors)]
    return world.make_scene(rng, names=names, ground=ground, radii=radii)


def sample_route(rng: random.Random, scene: Scene, *, hops: int) -> tuple[tuple[int, ...], tuple[str, ...]] | None:
    """`hops` unambiguous moves from thing 0 that never turn back or return to it; None if stuck."""
    route, directions = [0], []
    for _ in range(hops):
        here = scene.things[route[-1]]
        moves = []
        for direction in DIRECTIONS:
            there = world.next_thing(scene, here.x, here.y, direction)
            if there is None or there < 0 or there == 0:
                continue
            if not directions or direction != OPPOSITE[directions[-1]]:
                moves.append((direction, there))
        if not moves:
            return None
        direction, there = rng.choice(moves)
        route.append(there)
        directions.append(direction)
    return tuple(route), tuple(directions)


def _routed(
    rng: random.Random, hops: int, ground: world.Ground = "plain", **knobs: Any
) -> tuple[Scene, tuple[int, ...], tuple[str, ...]]:
    while True:
        scene = route_scene(rng, ground, **knobs)
        found = sample_route(rng, scene, hops=hops)
        if found:
            return scene, *found


def numbered(directions: Sequence[str]) -> list[str]:
    """Moves as questions and traces count them: "first left", "second below"."""
    return [
        f"{ordinal} {direction}" for ordinal, direction in zip(ORDINALS[: len(directions)], directions, strict=True)
    ]


def _go(scene: Scene, directions: tuple[str, ...]) -> str:
    return f"Start at the {scene.things[0].name}. Go {', '.join(numbered(directions))}."


def sat2_item(
    rng: random.Random, *, hops: tuple[int, ...] = (2, 3), sizes: float = 0.3, kind: str | None = None, **knobs: Any
) -> Item:
    """One SAT-2 twin item: the share `sizes` ask for the size of the end, the others for its name. At least two hops.

    `knobs` are those of `route_scene`: `radii` (original pixels) and `distractors`.
    """
    if min(hops) < 2:
        raise ValueError(f"hops {hops}: the SAT-2 twin needs at least two")
    if not 0 <= sizes <= 1:
        raise ValueError(f"sizes is {sizes}; it is a share of the questions, from 0 to 1")
    if kind == "action_consequence" or (kind is None and sizes):
        check_sizes(knobs.get("radii", world.RADII))
    kind = kind or ("goal_aim" if rng.random() < 1 - sizes else "action_consequence")
    if kind == "goal_aim":
        scene, route, directions = _routed(rng, rng.choice(hops), **knobs)
        options = list(dict.fromkeys(thing.name for thing in scene.things[1:]))
        rng.shuffle(options)
        question, answer = "What do you reach?", scene.things[route[-1]].name
    elif kind == "action_consequence":
        while True:
            scene, route, directions = _routed(rng, rng.choice(hops), **knobs)
            before, end = (scene.things[index].radius for index in route[-2:])
            if max(before, end) >= SIZE_MARGIN * min(before, end):
                break
        options = rng.sample(SIZE_OPTIONS, 2)
        question = "Is what you reach larger or smaller than the thing before?"
        answer = SIZE_OPTIONS[0] if end > before else SIZE_OPTIONS[1]
    else:
        raise ValueError(f"unknown SAT-2 twin kind {kind!r}; known: goal_aim, action_consequence")
    return Item("sat2", kind, scene, f"{_go(scene, directions)} {question}", tuple(options), answer, route, directions)


def vstar_item(rng: random.Random, *, hops: tuple[int, ...] = (0, 1, 2), **knobs: Any) -> Item:
    """One V*Bench twin item: the pattern of a thing named outright (0 hops) or reached by a route.

    `knobs` are those of `route_scene`.
    """
    scene, route, directions = _routed(rng, rng.choice(hops), **knobs)
    options = rng.sample(PATTERNS, len(PATTERNS))
    go = (
        f"{_go(scene, directions)} What is its pattern?"
        if directions
        else f"What is the pattern of the {scene.things[0].name}?"
    )
    return Item(
        "vstar",
        "direct_attributes",
        scene,
        go,
        tuple(options),
        scene.things[route[-1]].pattern,
        route,
        directions,
    )


def screen_item(
    rng: random.Random, *, hops: tuple[int, ...] = (2, 3), kind: str = "route", pattern: str | None = None
) -> Item:
    """One item about a screen: a place is asked for, that of the last thing on its route.

    `kind` "route" leads there from a thing whose name occurs once, "pattern" names it among two or three of its name by
    its `pattern`, by default any.
    """
    if kind == "route":
        scene, route, directions = _routed(rng, rng.choice(hops), "screen")
        question = f"{_go(scene, directions)} Point to what you reach."
    elif kind == "pattern":
        asked, *others = rng.sample(NAMES, 4)
        count = rng.choice((2, 3))
        scene = world.make_scene(rng, names=[asked] * count + rng.choices(others, k=7 - count), ground="screen")
        patterns = rng.sample(PATTERNS, count)
        if pattern:
            patterns = [pattern, *rng.sample([other for other in PATTERNS if other != pattern], count - 1)]
        pairs = zip(scene.things, patterns, strict=False)
        alike = [dataclasses.replace(thing, pattern=pattern) for thing, pattern in pairs]
        scene = dataclasses.replace(scene, things=(*alike, *scene.things[count:]))
        route, directions, question = (0,), (), f"Point to the {patterns[0]} {asked}."
    else:
        raise ValueError(f"unknown kind of screen item {kind!r}; known: route, pattern")
    return Item("screenspot", kind, scene, question, (), "", route, directions)


def png(scene: Scene, resolution: float = 1.0) -> bytes:
    """The scene's picture (original frame: 672 x 672, times `resolution` along each side) as PNG bytes."""
    return drawing.png(drawing.resized(world.draw(scene), resolution))


def truth(item: Item, resolution: float = 1.0) -> dict[str, Any]:
    """Ground truth of an item as JSON values: every thing's box (original pixels), and the route."""
    return {
        "boxes": [[round(side * resolution) for side in thing.box] for thing in item.scene.things],
        "names": [thing.name for thing in item.scene.things],
        "patterns": [thing.pattern for thing in item.scene.things],
        "route": list(item.route),
        "directions": list(item.directions),
    }


def sat2_row(item: Item, resolution: float = 1.0) -> dict[str, Any]:
    """The item with the columns of `array/SAT`."""
    return {
        "image_bytes": [png(item.scene, resolution)],
        "question": item.question,
        "answers": list(item.options),
        "question_type": item.kind,
        "correct_answer": item.answer,
    }


def screenspot_row(item: Item) -> dict[str, Any]:
    """The screen item with the columns of `rootsautomation/ScreenSpot` (its box as shares of the sides)."""
    return {
        "image": png(item.scene),
        "bbox": [side / world.SIDE for side in item.scene.things[item.route[-1]].box],
        "instruction": item.question,
        "data_type": "icon",
        "data_source": "tool",
    }


def screenspot_v2_row(item: Item) -> dict[str, Any]:
    """The screen item as `OS-Copilot/ScreenSpot-v2` has it: its box as a corner, width and height in pixels."""
    left, top, right, bottom = item.scene.things[item.route[-1]].box
    return screenspot_row(item) | {"bbox": [left, top, right - left, bottom - top]}


def screenspot_pro_row(item: Item) -> dict[str, Any]:
    """The screen item with the columns of `likaixin/ScreenSpot-Pro`."""
    return {
        "image": png(item.scene),
        "bbox": list(item.scene.things[item.route[-1]].box),
        "img_size": [world.SIDE, world.SIDE],
        "instruction": item.question,
        "application": "vscode",
        "group": "Dev",
        "ui_type": "icon",
    }


def vstar_row(item: Item, *, question_id: int, resolution: float = 1.0) -> dict[str, Any]:
    """The item with the columns of `lmms-lab/vstar-bench` (the label is a letter)."""
    letters = [chr(ord("A") + index) for index in range(len(item.options))]
    choices = [f"({letter}) {option}" for letter, option in zip(letters, item.options, strict=True)]
    tail = "Answer with the option's letter from the given choices directly."
    return {
        "image": png(item.scene, resolution),
        "text": "\n".join([item.question, *choices, tail]),
        "category": item.kind,
        "label": letters[item.options.index(item.answer)],
        "question_id": question_id,
    }
