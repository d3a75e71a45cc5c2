"""RoboSpatial-Home (`chanhee-luke/RoboSpatial-Home`): where things stand, whether one fits, and where there is room.

Splits `configuration` (123) and `compatibility` (105), answered by yes or no, and `context` (122), answered by a point
in a free area. Columns: `category`, `question`, `answer`, `img`; also depth and masks, which are not read. Licence:
Apache-2.0. The paper reports the first two splits alone, and its 7B rows seem to use one of them each: give all three
and the pooled 228.

`official` is `evaluation.py`: yes or no is what the reply starts with ("nope" is no, "Answer: yes" is neither); a point
is the first `(x, y)`, else the first `[x, y]`, else the first list as a Python literal ("[.5, .3]", "[(.5, .3), …]"),
as shares of the image's sides, and is tried against the polygon by ray casting with half-open edges (as it is since
2025-12-17; before, and in VLMEvalKit still, any vertical edge toggled). lmms-eval asks otherwise and finds "no" in
"know". `vigorl` judges yes and no by substring, "no" in "cannot" too; of places the released code has no judge.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Sequence
from typing import Any

from vigorl_lib.benchmarks.family import Family, Grade, Hub, Reply, Row
from vigorl_lib.benchmarks.graders import (
    answer_span,
    clean_choice,
    clean_point,
    literal,
    released_choice,
    scores_by_kind,
    verdict,
)
from vigorl_lib.benchmarks.sources import encoded_image, text_cell
from vigorl_lib.images import image_size
from vigorl_lib.nano import general
from vigorl_lib.prompts import clean_user_text
from vigorl_lib.records import Example
from vigorl_lib.stats import mean_of_shares, share

OPTIONS = ("yes", "no")
_NUMBER = r"[ \t]*+([0-9]{1,9}+(?:\.[0-9]{0,18}+)?)[ \t]*+"
_ROUND = re.compile(rf"\({_NUMBER},{_NUMBER}\)")
_SQUARE = re.compile(rf"\[{_NUMBER},{_NUMBER}\]")


def example(row: Row, id: str, seed: int) -> Example:
    """The record of one row; the image stays encoded. Raises ValueError on a row that cannot be asked."""
    kind, question, answer = (text_cell(row, column) for column in ("category", "question", "answer"))
    picture = encoded_image(row["img"])
    if kind == "context":
        size = image_size(picture)
        corners = tuple((x * size[0], y * size[1]) for x, y in polygon(answer))
        text = clean_user_text(question)
        return Example(id, "robospatial", kind, text, (), answer, (picture,), polygon=corners, size=size)
    if kind not in ("configuration", "compatibility"):
        raise ValueError(f"unknown category {kind!r}; known: configuration, compatibility, context")
    if answer.lower() not in OPTIONS:
        raise ValueError(f"the answer {answer!r} is neither yes nor no")
    text = f"{clean_user_text(question)} Answer with the text of the option."
    return Example(id, "robospatial", kind, text, OPTIONS, answer.lower(), (picture,))


def polygon(text: str) -> tuple[tuple[float, float], ...]:
    """The corners of a context answer, "[(0.41, 0.55), …]", as shares of the image's sides.

    Raises ValueError where they are fewer than three, or outside the image.
    """
    try:
        found = json.loads(text.replace("(", "[").replace(")", "]"))
        corners = tuple((float(x), float(y)) for x, y in found)
    except (ValueError, TypeError) as error:
        raise ValueError(f"the answer is not a list of points (x, y): {text[:80]!r}") from error
    if len(corners) < 3 or not all(0 <= side <= 1 for corner in corners for side in corner):
        raise ValueError(f"the answer must be three or more points of shares from 0 to 1: {text[:80]!r}")
    return corners


def inside(corners: Sequence[tuple[float, float]], x: float, y: float) -> bool:
    """Whether a point lies in a polygon: ray casting along x, an edge's upper end counts and its lower does not."""
    odd = False
    for (x1, y1), (x2, y2) in zip(corners, (*corners[1:], *corners[:1]), strict=True):
        if (y1 > y) != (y2 > y) and x < (x2 - x1) * (y - y1) / (y2 - y1) + x1:
            odd = not odd
    return odd


def twin(rng: random.Random, number: int, *, resolution: float = 1.0, **knobs: Any) -> tuple[Row, dict[str, Any]]:
    """A procedural row and its ground truth; `knobs` of `general.scene_of`."""
    kind = general.ROBOSPATIAL[number % len(general.ROBOSPATIAL)]
    question = general.robospatial(rng, kind, **knobs).scaled(resolution)
    return general.robospatial_row(question), question.truth


def official(reply: Reply, example: Example) -> Grade:
    """RoboSpatial's own reading of a reply; see the module's text."""
    text = (answer_span(reply) or "").strip()
    if not text:
        return Grade(0.0, None, "no_answer")
    if example.options:
        said = next((option for option in OPTIONS if text.lower().startswith(option)), None)
        return verdict(said == example.answer, said) if said else Grade(0.0, text, "not_an_option")
    match = _ROUND.search(text) or _SQUARE.search(text)
    point = (float(match[1]), float(match[2])) if match else _listed(text)
    if point is None:
        return Grade(0.0, text, "not_a_point")
    return verdict(inside(polygon(example.answer), *point), match[0] if match else str(point))


def _listed(text: str) -> tuple[float, float] | None:
    """The point that the first list in a text is, or begins with, as a Python literal that ends at the first "]"."""
    _, _, rest = text.partition("[")
    content, closed, _ = rest.partition("]")
    found = literal(f"[{content.strip().removesuffix(',')}]") if closed else None
    if found and not all(isinstance(side, (int, float)) for side in found):
        found = found[0] if isinstance(found[0], (tuple, list)) else None
    try:
        x, y = (float(side) for side in found or ())
    except (TypeError, ValueError, OverflowError):
        return None
    return x, y


def released(reply: Reply, example: Example) -> Grade:
    """The released judge of yes and no. Raises ValueError on a place: there is none for it."""
    if example.polygon:
        raise ValueError(f"example {example.id!r}: the released code has no judge for polygons; grade by 'clean'")
    return released_choice(reply, example)


def clean(reply: Reply, example: Example) -> Grade:
    """A choice by `graders.clean_choice`; else the last closed `<answer>` holds one point, and that lies inside."""
    if example.options:
        return clean_choice(reply, example)
    point, grade = clean_point(reply)
    return verdict(inside(example.polygon, *point), grade.extracted) if point else grade


def figures(grades: Sequence[Grade]) -> dict[str, Any]:
    """The pooled yes-and-no questions (228 in all), and the means over two (`vqa`) and three (`macro`) categories."""
    scores = scores_by_kind(grades)
    binary = [scores[kind] for kind in ("configuration", "compatibility") if kind in scores]
    found: dict[str, Any] = {"macro": mean_of_shares(list(scores.values()))}
    if binary:
        found |= {"pooled": share(score for part in binary for score in part), "vqa": mean_of_shares(binary)}
    return found


SPLITS = {"configuration": 123, "compatibility": 105, "context": 122}
FAMILY = Family(
    name="robospatial",
    columns=("category", "question", "answer", "img"),
    hub=Hub(
        repos={"chanhee-luke/RoboSpatial-Home": None},
        files={split: f"data/{split}-*.parquet" for split in SPLITS},
        rows={split: (count,) for split, count in SPLITS.items()},
    ),
    example=example,
    twin=twin,
    knobs=("radii", "distractors", "resolution"),
    graders={"official": official, "vigorl": released, "clean": clean},
    figures=figures,
)
