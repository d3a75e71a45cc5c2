"""MathVision (`MathLLMs/MathVision`): competition problems with a figure; a letter, a number or an expression.

Splits `test` (3,040 rows) and `testmini` (304). Columns: `question` (with `<image1>` …; all figures of a problem are
one image), `options` (none or five), `decoded_image`, `answer`, `level` (1 to 5), `subject`. Licence: MIT. Not in the
paper.

`official` is MATH-V's `evaluate.py`: what it takes for the answer (`extract`) equals the gold answer or the gold option
as text, by elements of a tuple, or as a value rounded to 0.01 (so 0.333 is 1/3). It runs `eval` on model text; here
SymPy does the arithmetic (`maths`). VLMEvalKit lets a model extract, and takes silence for a right answer where the
gold one is empty.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from typing import Any

from vigorl_lib.answers import letter, named_option, right_option
from vigorl_lib.benchmarks import maths
from vigorl_lib.benchmarks.family import Family, Grade, Hub, Reply, Row
from vigorl_lib.benchmarks.graders import answer_span, closed_answer, released_choice, verdict
from vigorl_lib.benchmarks.sources import encoded_image, text_cell
from vigorl_lib.nano import problems, puzzles
from vigorl_lib.prompts import clean_user_text
from vigorl_lib.records import Example
from vigorl_lib.stats import share

REQUEST = "If it is a multiple choice question, answer with its letter, else with a number or an expression."
LEVELS = range(1, 6)
_FIGURE = re.compile(r"<image[0-9]{1,2}>")
_ANNOUNCEMENTS = ("the final answer is", "the answer is", "the correct answer is", "the answer should be")
# What goes from an extracted answer, in this order.
_DROPPED = (" ", "\\,", "\n", "$", "%", "\\text", "\\mbox", "\\left", "\\right", "^{\\circ}", "^\\circ")
_UNITS = ("{m}^3", "m^3", "{units}", "units", "{km}", "km")


def example(row: Row, id: str, seed: int) -> Example:
    """The record of one row; the image stays encoded. Raises ValueError on a row that cannot be asked."""
    options, answer, level = row["options"], text_cell(row, "answer"), row["level"]
    if not isinstance(options, list) or not all(isinstance(option, str) for option in options):
        raise ValueError(f"column 'options' must be a list of texts, not {options!r}")
    if level not in LEVELS:
        raise ValueError(f"column 'level' must be 1 to 5, not {level!r}")
    letters = [letter(place) for place in range(len(options))]
    if options and answer not in letters:
        raise ValueError(f"the answer {answer!r} is not one of the letters {letters}")
    lines = [f"({mark}) {clean_user_text(option)}" for mark, option in zip(letters, options, strict=True)]
    question = _FIGURE.sub("", text_cell(row, "question")).strip()
    return Example(
        id=id,
        benchmark="mathvision",
        kind=text_cell(row, "subject"),
        question="\n".join([clean_user_text(question), *lines, REQUEST]),
        options=tuple(option.strip() for option in options),
        answer=options[letters.index(answer)].strip() if options else answer,
        images=(encoded_image(row["decoded_image"]),),
        group=f"level {level}",
    )


def extract(text: str) -> str:
    """What MATH-V's script takes for the answer of a reply, in lower case and without blanks, marks and units."""
    text = text.strip()
    for mark in "ABCDE":
        if text.endswith((f" {mark}.", f" ({mark}).")) or text.startswith((f"{mark}\n", f"({mark})\n")):
            text = mark
    number = text.split("is ")[-1].rstrip(".")
    if _is_number(number):
        text = number
    if "oxed{" not in text:
        for said in (form for words in _ANNOUNCEMENTS for form in (words, words.replace("the", "The"))):
            if said in text:
                text = text.split(said)[-1].strip().split("\n")[0].split(". ")[0]
    return _plain(text)


def _is_number(text: str) -> bool:
    try:
        float(text.replace(",", ""))
    except ValueError:
        return False
    return True


def _plain(text: str) -> str:
    text = text.lower().replace("{}", "")
    start, end = text.rfind("oxed{"), text.rfind("}")
    if 0 <= start < end:
        text = text[start + len("oxed{") : end]
    if "}" in text and not -1 < text.find("{") < text.find("}"):  # closed before it is opened
        text = text.split("}")[0]
    text = text.split("=")[-1].split("\\approx")[-1].replace("∞", "\\infty").replace("\\\\", "\\")
    for dropped in (*_DROPPED, *_UNITS):
        text = text.replace(dropped, "")
    for mark in "abcde":
        text = text.replace(f"({mark})", mark).replace(f"{{{mark}}}", mark)
    text = text.rstrip(".").lstrip(":").strip()
    return "\\frac{1}{2}" if text == "0.5" else text


def is_equal(gold: str, said: str) -> bool:
    """MATH-V's `is_equal`: the same text, tuples of equal elements, or values that round to the same hundredth."""
    gold, said = gold.lower().strip(), said.lower().strip()
    if not gold or not said:
        return False
    if gold == said:
        return True
    golds, saids = (_elements(text) for text in (gold, said))
    if len(golds) != len(saids):
        return False
    if len(golds) > 1:
        return all(is_equal(a, b) for a, b in zip(golds, saids, strict=True))
    return maths.equal(gold, said, way="hundredths") is True


def _elements(text: str) -> list[str]:
    if len(text) > 2 and text[0] + text[-1] in ("()", "[]"):
        return text[1:-1].split(",")
    return [text]


def twin(rng: random.Random, number: int, *, resolution: float = 1.0) -> tuple[Row, dict[str, Any]]:
    """A procedural row and its ground truth."""
    question = problems.mathvision(rng, number % len(problems.MATHVISION)).scaled(resolution)
    return problems.mathvision_row(question), question.truth


def nano(rng: random.Random, number: int) -> tuple[Row, dict[str, Any]]:
    """The same about pictures of the nano world, in its words."""
    question = puzzles.mathvision(rng, number % len(puzzles.MATHVISION))
    return problems.mathvision_row(question), question.truth


def official(reply: Reply, example: Example) -> Grade:
    """MATH-V's own reading of a reply; see the module's text."""
    text = answer_span(reply)
    if text is None:
        return Grade(0.0, None, "no_answer")
    said = extract(text)
    golds = [letter(right_option(example)), example.answer] if example.options else [example.answer]
    return verdict(any(is_equal(gold, said) for gold in golds), said)


def clean(reply: Reply, example: Example) -> Grade:
    """The last closed `<answer>`, or the last box in it, is the right letter or option, or mathematically the same.

    A comparison that takes longer than `maths.SECONDS` is "not_decided" and wrong.
    """
    answer = closed_answer(reply)
    if answer is None:
        return Grade(0.0, None, "no_answer")
    said = _boxed(answer)
    if example.options:
        place = named_option(said, example.options)
        if place is not None:
            return verdict(place == right_option(example), said)
    same = maths.equal(example.answer, said) if said else False
    return Grade(0.0, said, "not_decided") if same is None else verdict(same, said)


def _boxed(text: str) -> str:
    """The content of the last `\\boxed{…}` whose braces close, else the whole text."""
    start = text.rfind("\\boxed{")
    if start < 0:
        return text
    depth, first = 1, start + len("\\boxed{")
    for place in range(first, len(text)):
        depth += (text[place] == "{") - (text[place] == "}")
        if depth == 0:
            return text[first:place].strip()
    return text


def figures(grades: Sequence[Grade]) -> dict[str, Any]:
    """Shares by level of difficulty."""
    scores: dict[str, list[float]] = {}
    for grade in grades:
        scores.setdefault(str(grade.group), []).append(grade.score)
    return {"levels": {level: share(found) for level, found in sorted(scores.items())}}


FAMILY = Family(
    name="mathvision",
    columns=("question", "options", "decoded_image", "answer", "level", "subject"),
    hub=Hub(
        repos={"MathLLMs/MathVision": None},
        files={split: f"data/{split}-*.parquet" for split in ("test", "testmini")},
        rows={"test": (3040,), "testmini": (304,)},
    ),
    example=example,
    twin=twin,
    knobs=("resolution",),
    nano=nano,
    graders={"official": official, "vigorl": released_choice, "clean": clean},
    figures=figures,
)
