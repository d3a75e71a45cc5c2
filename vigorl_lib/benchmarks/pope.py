"""POPE (`lmms-lab/POPE`): is a thing in the picture, or does the model only think so?

Split `test` (9,000 rows); in the config `Full`: `adversarial`, `popular`, `random`, 3,000 each, half yes and half no.
Columns: `id`, `question_id`, `question`, `answer` (yes/no), `image_source`, `image`, `category`. Not in the paper.

`official` is POPE's `evaluate.py`: of the text before the first full stop, without commas, one of the words "No",
"not", "no" makes it no, and everything else yes: "NO", "None", "isn't" and silence too. lmms-eval wants the whole
reply to be yes or no and reports the yes ratio of the gold answers; VLMEvalKit takes an exclusive yes or no.
"""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from vigorl_lib.benchmarks.family import Family, Grade, Hub, Reply, Row
from vigorl_lib.benchmarks.graders import answer_span, clean_choice, released_choice, verdict
from vigorl_lib.benchmarks.sources import encoded_image, text_cell
from vigorl_lib.nano import general
from vigorl_lib.prompts import options_as_text
from vigorl_lib.records import Example
from vigorl_lib.stats import counted

CATEGORIES = ("adversarial", "popular", "random")
OPTIONS = ("yes", "no")


def example(row: Row, id: str, seed: int) -> Example:
    """The record of one row; the image stays encoded. Raises ValueError on a row that cannot be asked."""
    answer, category = text_cell(row, "answer").lower(), text_cell(row, "category")
    if answer not in OPTIONS:
        raise ValueError(f"the answer {answer!r} is neither yes nor no")
    if category not in CATEGORIES:
        raise ValueError(f"unknown category {category!r}; known: {', '.join(CATEGORIES)}")
    return Example(
        id=id,
        benchmark="pope",
        kind=category,
        question=options_as_text(text_cell(row, "question"), OPTIONS),
        options=OPTIONS,
        answer=answer,
        images=(encoded_image(row["image"]),),
    )


def twin(rng: random.Random, number: int, *, resolution: float = 1.0, **knobs: Any) -> tuple[Row, dict[str, Any]]:
    """A procedural row and its ground truth; `knobs` of `general.scene_of`."""
    kind = general.POPE[number % len(general.POPE)]
    question = general.pope(rng, kind, **knobs).scaled(resolution)
    return general.pope_row(question), question.truth


def official(reply: Reply, example: Example) -> Grade:
    """POPE's own reading of a reply; see the module's text."""
    text = answer_span(reply) or ""
    words = text.partition(".")[0].replace(",", "").split(" ")
    said = "no" if {"No", "not", "no"}.intersection(words) else "yes"
    grade = verdict(said == example.answer, said)
    parsed = said == "no" or "yes" in map(str.lower, words)
    return grade if parsed else dataclasses.replace(grade, extracted=None)


# The five figures, of how often there was: a true yes, a false yes, a true no, a no for yes, neither for yes, for no.
FIVE: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "accuracy": lambda c: (c[..., 0] + c[..., 2]) / c.sum(-1),
    "precision": lambda c: c[..., 0] / (c[..., 0] + c[..., 1]),
    "recall": lambda c: c[..., 0] / (c[..., 0] + c[..., 3] + c[..., 4]),
    "f1": lambda c: 2 * c[..., 0] / (2 * c[..., 0] + c[..., 1] + c[..., 3] + c[..., 4]),
    "yes_ratio": lambda c: (c[..., 0] + c[..., 1]) / c.sum(-1),
}


def _outcome(grade: Grade) -> int:
    wanted = grade.gold == "yes"
    if grade.why not in ("right", "wrong"):
        return 4 if wanted else 5
    if (grade.score == 1) == wanted:
        return 0 if wanted else 1
    return 3 if wanted else 2


def figures(grades: Sequence[Grade]) -> dict[str, Any]:
    """POPE's five figures for each category and their means; what is neither yes nor no counts as not yes.

    A figure that divides by zero, where the official script stops, is None. `unparsed` counts the replies that say
    neither yes nor no, which the official script takes for a yes.
    """
    outcomes = {kind: [_outcome(grade) for grade in grades if grade.kind == kind] for kind in CATEGORIES}
    found = {
        kind: {name: counted(np.bincount(of_kind, minlength=6), figure) for name, figure in FIVE.items()}
        for kind, of_kind in outcomes.items()
        if of_kind
    }
    values = {name: [five[name]["value"] for five in found.values()] for name in FIVE}
    means = {name: None if None in column else sum(column) / len(column) for name, column in values.items()}
    replies = [grade for grade in grades if grade.why != "missing"]
    unparsed = sum(grade.extracted is None or grade.why not in ("right", "wrong") for grade in replies)
    return {"categories": found, "mean_of_categories": means, "unparsed": unparsed}


FAMILY = Family(
    name="pope",
    key=("category", "question_id"),  # each category counts for itself
    columns=("question", "answer", "image", "category"),
    hub=Hub(
        # The first id leads to the second by now.
        repos=dict.fromkeys(("lmms-lab/POPE", "lmms-lab-encoder/POPE"), "4db1276663dfa5eb8ad16a52d24c31a09e470896"),
        files={"test": "data/test-*.parquet"} | {name: f"Full/{name}-*.parquet" for name in CATEGORIES},
        rows={"test": (9000,)} | {name: (3000,) for name in CATEGORIES},
        parts=("category", dict.fromkeys(CATEGORIES, 3000)),
    ),
    example=example,
    twin=twin,
    knobs=("radii", "distractors", "resolution"),
    graders={"official": official, "vigorl": released_choice, "clean": clean_choice},
    figures=figures,
)
