"""Held-out questions on single visual steps, and their marking: what a base must see before it reasons."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable
from typing import Any

from vigorl_lib.nano import lessons, world
from vigorl_lib.nano.world import SCALE, Scene, Thing
from vigorl_lib.traces import find_points

SUBJECTS = ("point", "name", "next", "further_left", "larger", "crop")


@dataclasses.dataclass(frozen=True)
class ExamItem:
    """One question: `messages` to put to the policy, and how to mark what it writes."""

    subject: str
    messages: list[dict[str, Any]]
    right: Callable[[str], bool]


def pointed_at(scene: Scene, text: str) -> Thing | None:
    """The thing under the last point that a text mentions (view pixels), if any."""
    points = find_points(text)
    return world.thing_at(scene, (points[-1].x + 0.5) * SCALE, (points[-1].y + 0.5) * SCALE) if points else None


def exam(
    subject: str, count: int, *, seed: int, things: int = 5, radii: tuple[int, int] = world.RADII
) -> list[ExamItem]:
    """`count` items of one subject about pictures of two to `things` things; no lesson has their seeds.

    `radii` are the smallest and the largest of the things, in original pixels.
    """
    rng = random.Random(f"exam {subject} {seed}")
    items: list[ExamItem] = []
    while len(items) < count:
        scene = lessons.skill_scene(rng, things, radii=radii)
        item = _item(subject, rng, scene) if len(scene.things) >= 2 else None
        if item:
            items.append(item)
    return items


def _item(subject: str, rng: random.Random, scene: Scene) -> ExamItem | None:
    if subject == "crop":
        thing = rng.choice(scene.things)
        closer = lessons.crop(world.draw(scene), lessons.spot(thing, rng))
        return _ask(subject, closer, "What is in this crop?", lessons.describe(thing).__eq__)
    skills = {
        "point": lessons._point,
        "name": lessons._name,
        "next": lessons._next,
        "further_left": lessons._further_left,
        "larger": lessons._larger,
    }
    asked = skills[subject](rng, scene, list(range(len(scene.things))))
    if asked is None or asked[1] == "nothing.":
        return None
    question, answer, _ = asked
    if subject == "point":
        name = question.removeprefix("Point to the ").removesuffix(".")
        right = lambda text: (hit := pointed_at(scene, text)) is not None and hit.name == name  # noqa: E731
    elif subject == "next":
        wanted = pointed_at(scene, answer)
        right = lambda text: pointed_at(scene, text) == wanted and text.startswith(wanted.name)  # noqa: E731
    elif subject == "name":
        right = answer.__eq__
    else:  # which of two points: the one on the same thing, which need not be repeated to the pixel
        wanted = pointed_at(scene, answer)
        right = lambda text: pointed_at(scene, text) == wanted  # noqa: E731
    return _ask(subject, lessons.view(scene), question, right)


def _ask(subject: str, image: Any, question: str, right: Callable[[str], bool]) -> ExamItem:
    content = [{"type": "image", "image": image}, {"type": "text", "text": question}]
    return ExamItem(subject, [{"role": "user", "content": content}], right)
