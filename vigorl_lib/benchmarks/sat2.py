"""SAT-2 (`array/SAT`, `array/SAT-v2`): spatial aptitude, motion and perspective, one or two images, options of text.

Splits on the hub: `train` 175k, `static` 127k, `val` 4k (the paper's; its file has 4,001 rows), `test` 150
real images. Columns: `image_bytes` (list of encoded images), `question`, `answers` (list of option
texts), `question_type` (obj_movement, ego_movement, goal_aim, action_consequence, perspective, others
static), `correct_answer` (text). Licence: MIT.

The stored order of the options carries a bias, so they are shuffled by a hash of (seed, id); the order is
part of the id: `…-p10` shows the stored options 1 and 0. `Example.group` is the id without it.

`official` is lmms-eval's scorer (`tasks/sat`), which wants letters: punctuation is deleted, and the first
blank-separated word must be the right letter, in any case. Its mapping of option texts to letters never
acts (it looks for `A. text` in the question, where no options are) and is left out, so an option's *text*
counts as wrong. lmms-eval reads the whole reply; here a reply with tags is read by its last `<answer>`.
The real `test` split is published with circular orders; whether a question then counts by its mean or only if right in
every order is not said, so `figures` has both.
"""

from __future__ import annotations

import random
import re
import string
from collections.abc import Sequence
from typing import Any

from vigorl_lib.answers import letter, right_option
from vigorl_lib.benchmarks.family import Family, Grade, Hub, Reply, Row
from vigorl_lib.benchmarks.graders import answer_span, clean_choice, released_choice, verdict
from vigorl_lib.benchmarks.sources import digest, encoded_image, text_cell, text_list
from vigorl_lib.nano import twins
from vigorl_lib.prompts import options_as_text
from vigorl_lib.records import Example
from vigorl_lib.stats import share

_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)


def example(row: Row, id: str, seed: int) -> Example:
    """The record of one row; images stay encoded. Raises ValueError on a row that cannot be asked."""
    options = text_list(row, "answers")
    order = random.Random(digest(f"{seed}/{id}")).sample(range(len(options)), len(options))
    return _ordered(row, id, order)


def circular(row: Row, id: str) -> list[Example]:
    """The row once for each rotation of the stored options, so that every option stands at every place once."""
    places = range(len(text_list(row, "answers")))
    return [_ordered(row, id, [*places[start:], *places[:start]]) for start in places]


def _ordered(row: Row, id: str, order: Sequence[int]) -> Example:
    images, options = row["image_bytes"], text_list(row, "answers")
    if not isinstance(images, list) or not 1 <= len(images) <= 2:
        raise ValueError("column 'image_bytes' must be a list of one or two images")
    answer = text_cell(row, "correct_answer")
    if answer not in options:
        raise ValueError(f"the correct answer {answer!r} is not among the options {options}")
    shown = tuple(options[place] for place in order)
    return Example(
        id=f"{id}-p{''.join(map(str, order))}",
        benchmark="sat2",
        kind=text_cell(row, "question_type"),
        question=options_as_text(text_cell(row, "question"), shown),
        options=shown,
        answer=answer,
        images=tuple(encoded_image(image) for image in images),
        group=id,
    )


def twin(rng: random.Random, number: int, *, resolution: float = 1.0, **knobs: Any) -> tuple[Row, dict[str, Any]]:
    """A procedural row and its ground truth; `knobs` of `twins.sat2_item`."""
    item = twins.sat2_item(rng, **knobs)
    return twins.sat2_row(item, resolution), twins.truth(item, resolution)


def official(reply: Reply, example: Example) -> Grade:
    """lmms-eval's scorer; see the module's text."""
    text = answer_span(reply)
    if text is None:
        return Grade(0.0, None, "no_answer")
    word = re.sub(r"[^\w\s]", "", text).strip().split(" ")[0].translate(_NO_PUNCTUATION)
    return verdict(word.lower() == letter(right_option(example)).lower(), word)


def figures(grades: Sequence[Grade]) -> dict[str, Any]:
    """Of circular orders: `mean` over each question's orders, and the share of questions right in `all` of them."""
    groups: dict[str | None, list[float]] = {}
    for grade in grades:
        groups.setdefault(grade.group, []).append(grade.score)
    if len(groups) == len(grades):
        return {}
    means = [sum(scores) / len(scores) for scores in groups.values()]
    return {"circular": {"mean": share(means), "all": share(mean == 1 for mean in means)}}


FAMILY = Family(
    name="sat2",
    columns=("image_bytes", "question", "answers", "question_type", "correct_answer"),
    hub=Hub(
        repos={"array/SAT": None, "array/SAT-v2": None},  # SAT_val.parquet, data/val-00000-of-00001.parquet
        files={split: f"*[_/]{split}[-.]*parquet" for split in ("train", "static", "val", "test")},
        rows={"val": (4000, 4001), "test": (150,)},
    ),
    example=example,
    twin=twin,
    knobs=("hops", "radii", "distractors", "sizes", "resolution"),
    circular=circular,
    figures=figures,
    graders={"official": official, "vigorl": released_choice, "clean": clean_choice},
)
