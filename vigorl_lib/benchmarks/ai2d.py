"""AI2D (`lmms-lab/ai2d`): four-way questions about school diagrams whose labels are masked by letters.

One split `test`, 3,088 rows: `question`, `options`, `answer` (the place as a text, "0" … "3"), `image`. The variant
`lmms-lab/ai2d-no-mask` shows the labels and scores much higher: say which was used. Not in the paper.

Where labels are masked the options are often letters themselves, in another order. The question asks for an option's
letter, so a lone letter is read as that (`clean` too).

The makers of AI2D left no script for free text; `official` is lmms-eval's `ai2d`, which most report: a letter with a
full stop at the reply's beginning is taken, else the whole reply, compared with the letter without case and
punctuation. So "(B)" is right, and "B) cat" and "The answer is B" are wrong. VLMEvalKit looks for a letter among the
last words, then for an option's text, and then asks a judge.
"""

from __future__ import annotations

import random
import re
import string
from typing import Any

from vigorl_lib.answers import letter, right_option
from vigorl_lib.benchmarks.family import Family, Grade, Hub, Reply, Row
from vigorl_lib.benchmarks.graders import answer_span, clean_letter, released_choice, verdict
from vigorl_lib.benchmarks.sources import encoded_image, text_cell, text_list
from vigorl_lib.nano import diagrams
from vigorl_lib.prompts import options_as_letters
from vigorl_lib.records import Example

_LETTER = re.compile(r"\s*+([A-Z])\.")
_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)


def example(row: Row, id: str, seed: int) -> Example:
    """The record of one row; the image stays encoded. Raises ValueError on a row that cannot be asked."""
    options, place = text_list(row, "options"), text_cell(row, "answer")
    if place not in map(str, range(len(options))):
        raise ValueError(f"the answer {place!r} is not the place of one of {len(options)} options (0 is the first)")
    return Example(
        id=id,
        benchmark="ai2d",
        kind="diagram",
        question=options_as_letters(text_cell(row, "question"), options),
        options=options,
        answer=options[int(place)],
        images=(encoded_image(row["image"]),),
    )


def twin(rng: random.Random, number: int, *, resolution: float = 1.0) -> tuple[Row, dict[str, Any]]:
    """A procedural row and its ground truth."""
    question = diagrams.ai2d(rng, diagrams.AI2D[number % len(diagrams.AI2D)]).scaled(resolution)
    return diagrams.ai2d_row(question), question.truth


def nano(rng: random.Random, number: int) -> tuple[Row, dict[str, Any]]:
    """The same about things that the nano base can name."""
    question = diagrams.nano(rng, diagrams.NANO[number % len(diagrams.NANO)])
    return diagrams.ai2d_row(question), question.truth


def official(reply: Reply, example: Example) -> Grade:
    """lmms-eval's reading of a reply; see the module's text."""
    text = answer_span(reply)
    if text is None:
        return Grade(0.0, None, "no_answer")
    match = _LETTER.match(text)
    said = match[1] if match else text
    return verdict(said.lower().translate(_NO_PUNCTUATION) == letter(right_option(example)).lower(), said)


FAMILY = Family(
    name="ai2d",
    columns=("question", "options", "answer", "image"),
    hub=Hub(
        repos={"lmms-lab/ai2d": None, "lmms-lab-encoder/ai2d": None},
        files={"test": "data/test-*.parquet"},
        rows={"test": (3088,)},
    ),
    example=example,
    twin=twin,
    knobs=("resolution",),
    nano=nano,
    graders={"official": official, "vigorl": released_choice, "clean": clean_letter},
)
