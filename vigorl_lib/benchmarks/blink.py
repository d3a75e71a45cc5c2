"""BLINK (`BLINK-Benchmark/BLINK`): 14 visual tasks that people do at a glance, one to four images, lettered options.

One config per task, splits `val` (1,901 rows, what the paper and most others report) and `test` (answers hidden).
Columns: `idx`, `question`, `sub_task`, `image_1` … `image_4` (null where unused), `choices`, `answer` ("(B)"),
`prompt`. Licence: Apache-2.0.

Options keep the stored order: the right letters are spread over it. The user's text is the released model's format
(option texts); `options_as_letters` is nearer to BLINK's own `prompt`.

`official` is BLINK's `evaluate.py`: a bare letter, a lettered token "(B)" that is the only one in the reply or in its
last paragraph, and else a request to GPT-3.5, which is not made here ("needs_a_judge", wrong). "(B)." is no such
token, and neither is "B.". Reply with tags: its last `<answer>` is read. The official total is the mean over tasks.
lmms-eval takes the first letter of the reply ("The answer is B" is T), VLMEvalKit averages over rows.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

from vigorl_lib.answers import letter, right_option
from vigorl_lib.benchmarks.family import Family, Grade, Hub, Reply, Row
from vigorl_lib.benchmarks.graders import answer_span, clean_choice, released_choice, scores_by_kind, verdict
from vigorl_lib.benchmarks.sources import encoded_image, text_cell, text_list
from vigorl_lib.nano import blink as miniature
from vigorl_lib.prompts import options_as_text
from vigorl_lib.records import Example
from vigorl_lib.stats import mean_of_shares, share

TASKS = {  # and their rows in the split `val`
    "Art_Style": 117,
    "Counting": 120,
    "Forensic_Detection": 132,
    "Functional_Correspondence": 130,
    "IQ_Test": 150,
    "Jigsaw": 150,
    "Multi-view_Reasoning": 133,
    "Object_Localization": 122,
    "Relative_Depth": 124,
    "Relative_Reflectance": 134,
    "Semantic_Correspondence": 139,
    "Spatial_Relation": 143,
    "Visual_Correspondence": 172,
    "Visual_Similarity": 135,
}
SPATIAL_TASKS = ("Relative_Depth", "Multi-view_Reasoning", "Spatial_Relation")  # those that the paper's text names
_IMAGES = ("image_1", "image_2", "image_3", "image_4")
_MARKS = tuple(f"({mark})" for mark in "ABCDE")


def example(row: Row, id: str, seed: int) -> Example:
    """The record of one row; images stay encoded. Raises ValueError on a row that cannot be asked."""
    there = [row[column] is not None for column in _IMAGES]
    if not there[0] or there != sorted(there, reverse=True):
        empty = [column for column, filled in zip(_IMAGES, there, strict=True) if not filled]
        raise ValueError(f"the images must come first and nulls last, but {', '.join(empty)} are null")
    options, answer = text_list(row, "choices"), text_cell(row, "answer")
    marks = _MARKS[: len(options)]
    if answer not in marks:
        raise ValueError(f"the answer {answer!r} is not one of {', '.join(marks)}; the split 'test' hides its answers")
    task = text_cell(row, "sub_task")
    if task not in TASKS:
        raise ValueError(f"unknown sub_task {task!r}; known: {', '.join(TASKS)}")
    return Example(
        id=id,
        benchmark="blink",
        kind=task,
        question=options_as_text(text_cell(row, "question"), options),
        options=options,
        answer=options[marks.index(answer)],
        images=tuple(encoded_image(row[column]) for column, filled in zip(_IMAGES, there, strict=True) if filled),
    )


def twin(rng: random.Random, number: int, *, resolution: float = 1.0, **knobs: Any) -> tuple[Row, dict[str, Any]]:
    """A procedural row and its ground truth; `knobs` of `miniature.blink`."""
    question = miniature.blink(rng, list(TASKS)[number % len(TASKS)], **knobs).scaled(resolution)
    return miniature.blink_row(question), question.truth


def official(reply: Reply, example: Example) -> Grade:
    """BLINK's own reading of a reply; see the module's text."""
    text = answer_span(reply)
    if text is None:
        return Grade(0.0, None, "no_answer")
    wanted = f"({letter(right_option(example))})"
    if text in ("A", "B", "C", "D", "E"):
        return verdict(f"({text})" == wanted, text)
    for part in (text, text.split("\n\n")[-1]):
        found = set(part.split()).intersection(_MARKS)
        if len(found) == 1:
            (mark,) = found
            return verdict(mark == wanted, mark)
    return Grade(0.0, text, "needs_a_judge")


def figures(grades: Sequence[Grade]) -> dict[str, Any]:
    """`macro`, the official total (the mean over the tasks that there are), and the paper's three spatial tasks."""
    scores = scores_by_kind(grades)
    spatial = [score for task in SPATIAL_TASKS for score in scores.get(task, [])]
    return {
        "macro": mean_of_shares(list(scores.values())),
        **({"spatial": share(spatial)} if spatial else {}),
    }


FAMILY = Family(
    name="blink",
    key=("idx",),
    columns=("question", "sub_task", *_IMAGES, "choices", "answer"),
    hub=Hub(
        repos={"BLINK-Benchmark/BLINK": "a3666eb249237ba3d5eca8db21176cc47967e040"},
        files={"val": "*/val-*.parquet"},
        rows={"val": (1901,)},
        parts=("sub_task", TASKS),
    ),
    example=example,
    twin=twin,
    knobs=("radii", "resolution"),
    graders={"official": official, "vigorl": released_choice, "clean": clean_choice},
    figures=figures,
)
