"""We-Math (`We-Math/We-Math`): problems beside the two or three steps that they consist of.

Split `testmini`, 1,740 rows: `ID`, `key` (2steps_1, 2steps_2, 2steps_multi; 3steps_1 … 3steps_3, 3steps_multi),
`question`, `question number`, `option` (one text, "A. …; B. …"), `answer` (a letter), `image_path`, and
`knowledge concept`. 525 problems: 360 of two steps, 165 of three. An example's group is `ID`, a slash and the concept.
Licence: CC BY-NC 4.0, load it from the hub. Not in the paper.

`official` takes what follows the last "Answer" of the reply, without ">", "<", ":" and ".", and of that the first
character, if it is one of A to H: "(B)" and "The answer is B" give none, "Area" gives A. `figures` has the four
dimensions. lmms-eval judges right and wrong otherwise and aggregates alike; VLMEvalKit can ask a judge.
"""

from __future__ import annotations

import random
import re
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np

from vigorl_lib.answers import letter, right_option
from vigorl_lib.benchmarks.family import Family, Grade, Hub, Reply, Row
from vigorl_lib.benchmarks.graders import answer_span, clean_letter, released_choice, verdict
from vigorl_lib.benchmarks.sources import encoded_image, text_cell
from vigorl_lib.nano import problems, puzzles
from vigorl_lib.prompts import options_as_letters
from vigorl_lib.records import Example
from vigorl_lib.stats import counted, share

KEYS = ("2steps_1", "2steps_2", "2steps_multi", "3steps_1", "3steps_2", "3steps_3", "3steps_multi")
_OPTION = re.compile(r"(?:^|;)\s*+([A-H])\. ?")
_DELETED = str.maketrans("", "", "><:.")


def split_options(text: str) -> tuple[str, ...]:
    """The options of "A. …; B. …". Raises ValueError where they are not lettered in order."""
    marks = list(_OPTION.finditer(text))
    ends = [*(mark.start() for mark in marks), len(text)][1:]
    options = tuple(text[mark.end() : end].strip() for mark, end in zip(marks, ends, strict=False))
    if len(options) < 2 or [mark[1] for mark in marks] != [letter(place) for place in range(len(marks))]:
        raise ValueError(f"no options 'A. …; B. …' in column 'option': {text!r}")
    return options


def example(row: Row, id: str, seed: int) -> Example:
    """The record of one row; the image stays encoded. Raises ValueError on a row that cannot be asked."""
    options, answer, key = split_options(text_cell(row, "option")), text_cell(row, "answer"), text_cell(row, "key")
    letters = [letter(place) for place in range(len(options))]
    if answer not in letters:
        raise ValueError(f"the answer {answer!r} is not one of the letters {letters}")
    if key not in KEYS:
        raise ValueError(f"unknown key {key!r}; known: {', '.join(KEYS)}")
    return Example(
        id=id,
        benchmark="wemath",
        kind=key,
        question=options_as_letters(text_cell(row, "question"), options),
        options=options,
        answer=options[letters.index(answer)],
        images=(encoded_image(row["image_path"]),),
        group=f"{row['ID']}/{row['knowledge concept'] or ''}",
    )


def twin(rng: random.Random, number: int, *, resolution: float = 1.0) -> tuple[Row, dict[str, Any]]:
    """A procedural row and its ground truth."""
    question = problems.wemath(rng, number % problems.WEMATH_ROWS).scaled(resolution)
    return problems.wemath_row(question, number), question.truth


def nano(rng: random.Random, number: int) -> tuple[Row, dict[str, Any]]:
    """The same about pictures of the nano world, in its words."""
    question = puzzles.wemath(rng, number % problems.WEMATH_ROWS)
    return problems.wemath_row(question, number), question.truth


def official(reply: Reply, example: Example) -> Grade:
    """We-Math's own reading of a reply; see the module's text."""
    text = (answer_span(reply) or "").split("Answer")[-1].strip().translate(_DELETED).strip()
    said = text[:1]
    if not said or said not in "ABCDEFGH":
        return Grade(0.0, text or None, "not_an_option" if text else "no_answer")
    return verdict(said == letter(right_option(example)), said)


# How a problem can end: (all steps right, at least one right), and its own answer.
_ENDS = ("all", "some", "none")


def dimensions(counts: np.ndarray) -> dict[str, np.ndarray]:
    """We-Math's four dimensions and scores of how often each end occurred: [..., 6], steps all, some, none right with
    the problem right, then the same with the problem wrong.

    IG insufficient generalisation (steps right, problem wrong), IK insufficient knowledge (a step and the problem
    wrong), CM complete mastery, RM rote memorisation (the problem right in spite of wrong steps). Strict: one wrong
    step makes a right problem rote. Loose: one right step makes it mastery. RM is a share of the problems got right.
    """
    right_all, right_some, right_none, wrong_all, wrong_some, wrong_none = np.moveaxis(np.asarray(counts, float), -1, 0)
    n, right = np.asarray(counts).sum(-1), right_all + right_some + right_none
    shares = {"ig": wrong_all / n, "ik": (wrong_some + wrong_none) / n}
    for setting, mastered in (("strict", right_all), ("loose", right_all + right_some)):
        shares[f"cm_{setting}"] = mastered / n
        shares[f"rm_{setting}"] = (right - mastered) / right
        shares[f"score_{setting}"] = (mastered + 0.5 * wrong_all) / n
    return shares


def figures(grades: Sequence[Grade]) -> dict[str, Any]:
    """The four dimensions, strict and loose, over the problems whose rows are all there; S1, S2 and S3.

    The official script divides by 525 whatever there is. `problems` says over how many this is, `incomplete` how many
    were left out because rows of theirs are missing. `concepts` are the steps' shares for each knowledge concept; the
    official means over the concepts of a branch need its tree of them, which is not in the rows.

    Raises ValueError where a problem has two rows of one key.
    """
    problems: dict[str, dict[str, bool]] = defaultdict(dict)
    concepts: dict[str, list[float]] = defaultdict(list)
    for grade in grades:
        problem, _, concept = grade.group.partition("/")
        if grade.kind in problems[problem]:
            raise ValueError(f"problem {problem} has two rows {grade.kind!r}; grade each of its rows once")
        problems[problem][grade.kind] = grade.score == 1
        if concept and not grade.kind.endswith("multi"):
            concepts[concept].append(grade.score)
    counts, incomplete = [0] * 6, 0
    for rows in problems.values():
        steps = next(iter(rows))[0]
        wanted = {key for key in KEYS if key.startswith(steps)}
        if set(rows) != wanted:
            incomplete += 1
            continue
        done = [right for key, right in rows.items() if not key.endswith("multi")]
        end = _ENDS.index("all" if all(done) else "some" if any(done) else "none")
        counts[end + (0 if rows[f"{steps}steps_multi"] else 3)] += 1
    found: dict[str, Any] = {"problems": sum(counts), "incomplete": incomplete}
    if sum(counts):
        names = dimensions(np.ones(6))
        found |= {name: counted(counts, lambda c, name=name: dimensions(c)[name]) for name in names}
    levels = {"s1": [key for key in KEYS if not key.endswith("multi")], "s2": ["2steps_multi"], "s3": ["3steps_multi"]}
    for level, keys in levels.items():
        scores = [grade.score for grade in grades if grade.kind in keys]
        found |= {level: share(scores)} if scores else {}
    return found | {"concepts": {concept: share(scores) for concept, scores in sorted(concepts.items())}}


FAMILY = Family(
    name="wemath",
    key=("ID", "key"),
    columns=("ID", "key", "question number", "knowledge concept", "question", "option", "answer", "image_path"),
    hub=Hub(
        repos={"We-Math/We-Math": None},
        files={"testmini": "data/testmini-*.parquet"},
        rows={"testmini": (1740,)},
        parts=("key", {key: 360 if key.startswith("2") else 165 for key in KEYS}),
    ),
    example=example,
    twin=twin,
    knobs=("resolution",),
    nano=nano,
    block=problems.WEMATH_ROWS,
    graders={"official": official, "vigorl": released_choice, "clean": clean_letter},
    figures=figures,
)
