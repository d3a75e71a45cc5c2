"""RealWorldQA (`lmms-lab/RealWorldQA`): questions about photographs taken mostly from cars.

One split `test`, 765 rows: `question` (with lettered options and the request for an answer inside), `answer` (a letter,
a word or a number), `image`. xAI published it under CC BY-ND 4.0: load it from the hub, do not redistribute. In the
paper's appendix (Tab. A7) alone.

There is no script of the makers; `official` is lmms-eval's: a gold of A to D is compared with the letter that
`extract_letter` finds, any other gold with the whole reply in lower case, without outer blanks and last full stops.
"A car is there, so B" is A. The question is asked as it stands in the row.
"""

from __future__ import annotations

import random
import re
from typing import Any

from vigorl_lib.answers import letter, right_option
from vigorl_lib.benchmarks.family import Family, Grade, Hub, Reply, Row
from vigorl_lib.benchmarks.graders import answer_span, clean_letter, clean_text, released_choice, verdict
from vigorl_lib.benchmarks.sources import encoded_image, text_cell
from vigorl_lib.nano import general
from vigorl_lib.prompts import clean_user_text
from vigorl_lib.records import Example

_OPTION = re.compile(r"^\s*+([A-Z])\. ?(.*)$", re.MULTILINE)
# In lmms-eval's order; only capitals are letters.
_LETTERS = (
    re.compile(r"\A\s*+([A-D])\b"),
    re.compile(r"\b([A-D])[.)]?+\s*+\Z"),
    re.compile(r"[Aa]nswer(?: is|:)[\s:(]*+([A-D])\b"),
    re.compile(r"\(([A-D])\)"),
    re.compile(r"([A-D])\."),
    re.compile(r"([A-D]):"),
    re.compile(r"([A-D])\)"),
    re.compile(r"([A-D]) "),
    re.compile(r"([A-D])"),
)


def example(row: Row, id: str, seed: int) -> Example:
    """The record of one row; the image stays encoded. Raises ValueError on a row that cannot be asked."""
    question, answer = text_cell(row, "question"), text_cell(row, "answer")
    lettered = _OPTION.findall(question)
    options = tuple(text.strip() for _, text in lettered)
    if [mark for mark, _ in lettered] != [chr(ord("A") + place) for place in range(len(lettered))]:
        options = ()  # lines that only look like options
    chosen = len(answer) == 1 and answer.isupper()
    if chosen and not ord("A") <= ord(answer) < ord("A") + len(options):
        raise ValueError(f"the answer {answer!r} is not the letter of one of the {len(options)} options in 'question'")
    return Example(
        id=id,
        benchmark="realworldqa",
        kind="choice" if chosen else "open",
        question=clean_user_text(question),
        options=options if chosen else (),
        answer=options[ord(answer) - ord("A")] if chosen else answer,
        images=(encoded_image(row["image"]),),
    )


def extract_letter(text: str) -> str | None:
    """The first letter A to D where lmms-eval looks for one: at the start, at the end, after "answer is", in marks."""
    for pattern in _LETTERS:
        if match := pattern.search(text):
            return match[1]
    return None


def twin(rng: random.Random, number: int, *, resolution: float = 1.0, **knobs: Any) -> tuple[Row, dict[str, Any]]:
    """A procedural row and its ground truth; `knobs` of `general.scene_of`."""
    kind = general.REALWORLDQA[number % len(general.REALWORLDQA)]
    question = general.realworldqa(rng, kind, **knobs).scaled(resolution)
    return general.realworldqa_row(question), question.truth


def official(reply: Reply, example: Example) -> Grade:
    """lmms-eval's reading of a reply; see the module's text."""
    text = answer_span(reply)
    if text is None:
        return Grade(0.0, None, "no_answer")
    if not example.options:
        said = text.lower().strip().rstrip(".")
        return verdict(said == example.answer.lower(), said)
    said = extract_letter(text)
    return verdict(said == letter(right_option(example)), said) if said else Grade(0.0, text, "not_an_option")


def clean(reply: Reply, example: Example) -> Grade:
    """A choice by `graders.clean_letter`; an open answer by `graders.clean_text`."""
    return (clean_letter if example.options else clean_text)(reply, example)


FAMILY = Family(
    name="realworldqa",
    columns=("question", "answer", "image"),
    hub=Hub(
        repos={
            "lmms-lab/RealWorldQA": "907c4e5228fd1703c710ed937601cb5f89ab8d5c",
            "lmms-lab-encoder/RealWorldQA": None,
        },
        files={"test": "data/test-*.parquet"},
        rows={"test": (765,)},
    ),
    example=example,
    twin=twin,
    knobs=("radii", "distractors", "resolution"),
    graders={"official": official, "vigorl": released_choice, "clean": clean},
)
