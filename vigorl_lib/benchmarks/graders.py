"""Graders that several families share. Those that only one benchmark has live in its own file."""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Iterator, Sequence
from typing import Any

from vigorl_lib.answers import (
    is_right,
    last_answer,
    lone_letter,
    named_option,
    normalise,
    released_string_match,
    right_option,
)
from vigorl_lib.benchmarks.family import Grade, Reply
from vigorl_lib.records import Example
from vigorl_lib.traces import find_points

_TAG = re.compile(r"<(/?)(think|answer)>")
_LONGEST_LITERAL = 500  # characters: deep nesting in much longer ones can bring the interpreter down


def turns_of(reply: Reply) -> tuple[str, ...]:
    """The policy's messages in order. Raises ValueError where the reply is not text."""
    turns = (reply,) if isinstance(reply, str) else tuple(reply)
    if not all(isinstance(turn, str) for turn in turns):
        raise ValueError("this protocol grades text: give the reply, or its turns, as str (no losses)")
    return turns


def verdict(right: bool, extracted: str) -> Grade:
    """The grade of an answer that could be read."""
    return Grade(float(right), extracted, "right" if right else "wrong")


def scores_by_kind(grades: Sequence[Grade]) -> dict[str, list[float]]:
    """The scores of each kind that there is, kinds in order."""
    scores: dict[str, list[float]] = {}
    for grade in grades:
        scores.setdefault(grade.kind, []).append(grade.score)
    return dict(sorted(scores.items()))


def answer_span(reply: Reply) -> str | None:
    """What a scorer that knows no tags is given: the last turn's last closed `<answer>`, else that whole turn."""
    turns = turns_of(reply)
    if not turns:
        return None
    answer = last_answer(turns[-1])
    return turns[-1] if answer is None else answer


def closed_answer(reply: Reply) -> str | None:
    """The last turn's last closed `<answer>`, stripped; None where there is none."""
    turns = turns_of(reply)
    return last_answer(turns[-1]) if turns else None


def clean_text(reply: Reply, example: Example) -> Grade:
    """A free answer as it should be graded: the last turn's last closed `<answer>` is the gold answer.

    Case, punctuation, blanks and a leading article do not count (`answers.normalise`).
    """
    answer = closed_answer(reply)
    if answer is None:
        return Grade(0.0, None, "no_answer")
    return verdict(_without_article(answer) == _without_article(example.answer), answer)


def _without_article(text: str) -> str:
    text = normalise(text)
    return next((text.removeprefix(article) for article in ("a ", "an ", "the ") if text.startswith(article)), text)


def literal(text: str) -> Any:
    """What a short text is as a Python literal, as released scorers read numbers; None where it is none."""
    try:
        return ast.literal_eval(text) if len(text) <= _LONGEST_LITERAL else None
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return None


def clean_point(reply: Reply) -> tuple[tuple[int, int] | None, Grade]:
    """The one point (x, y) in the last turn's last closed `<answer>`, in the reply's frame; else why there is none."""
    answer = closed_answer(reply)
    if answer is None:
        return None, Grade(0.0, None, "no_answer")
    points = {(point.x, point.y) for point in find_points(answer)}
    return (points.pop() if len(points) == 1 else None), Grade(0.0, answer, "not_a_point")


def clean_letter(reply: Reply, example: Example) -> Grade:
    """`clean_choice` where a letter was asked for: a lone letter is an option's place, even if it is also a text."""
    answer = closed_answer(reply)
    if answer is not None and (place := lone_letter(answer)) is not None:
        return verdict(place == right_option(example), answer)
    return clean_choice(reply, example)


def clean_choice(reply: Reply, example: Example) -> Grade:
    """Multiple choice as it should be graded: the last turn's last closed `<answer>` names the right option.

    See `answers.named_option` for what names an option. Not an answer: text outside the tags
    ("no_answer"), and what names no option or several ("not_an_option").
    """
    answer = closed_answer(reply)
    if answer is None:
        return Grade(0.0, None, "no_answer")
    if named_option(answer, example.options) is None:
        return Grade(0.0, answer, "not_an_option")
    return verdict(is_right(example, answer), answer)


def released_choice(reply: Reply, example: Example) -> Grade:
    """ViGoRL's evaluation: its way of reading an answer (`released_answer`), then its judge `string_match`.

    The gold is `example.answer`: the option's text, or in V*Bench its letter.
    """
    answer, why = released_answer(reply)
    if answer is None:
        return Grade(0.0, None, why)
    return verdict(released_string_match(example.answer, answer), answer)


def released_answer(reply: Reply) -> tuple[str | None, str]:
    """How ViGoRL's evaluation reads an answer, to the letter; where it reads none, why not.

    * One turn: `<think>…</think>` and `<answer>…</answer>` are cut out and read in order, then the whole text
      is read again. The first of them with an `<answer>` gives it, up to `</answer>` or to its end: so the
      first answer wins, and the closing tag may be missing. Inside a think it wins too, but cuts that off: the
      thought before it then lacks its `</think>`, and the score is 0 ("bad_thought").
    * Several turns: the first with an `<answer>` gives it; every turn before it must hold `<think>` and
      `</think>`, else the score is 0 ("bad_thought").
    * No tag at all: the whole text is judged, as for baselines (`--rollout_no_thinking`).
    * Nothing read: the released code drops the row from its mean; here it is wrong ("no_answer").

    Their limit of thoughts before the answer (`max_depth`) is left out.
    Source: `single_path_rollouts.py`, `judge.py`.
    """
    turns = turns_of(reply)
    if len(turns) == 1 and not _TAG.search(turns[0]):
        return turns[0].strip(), ""
    pieces = turns if len(turns) != 1 else (*_released_pieces(turns[0]), turns[0])
    for piece in pieces:
        if "<answer>" in piece:
            thought, answer = piece.split("<answer>", 2)[:2]
            if thought.startswith("<think>") and "</think>" not in thought:
                return None, "bad_thought"
            return answer.split("</answer>")[0].strip(), ""
        if "<think>" not in piece or "</think>" not in piece:
            return None, "bad_thought"
    return None, "no_answer"


def _released_pieces(text: str) -> Iterator[str]:
    """The matches of `<think>.*?</think>|<answer>.*?</answer>`, line ends included, in linear time."""
    tags = list(_TAG.finditer(text))
    closing: dict[str, int] = {}
    closed_at: list[int | None] = [None] * len(tags)  # for each tag, the place of the next closing one
    for place in range(len(tags) - 1, -1, -1):
        if tags[place][1]:
            closing[tags[place][2]] = place
        else:
            closed_at[place] = closing.get(tags[place][2])
    place = 0
    while place < len(tags):
        end = closed_at[place]
        if end is not None:
            yield text[tags[place].start() : tags[end].end()]
            place = end
        place += 1


def losses_of(reply: Reply, example: Example) -> Sequence[float]:
    """One loss per option, in the order of `example.options`. Raises ValueError on anything else."""
    if isinstance(reply, str) or any(isinstance(loss, str) for loss in reply):
        raise ValueError(
            f"{example.benchmark!r} is graded 'official' by likelihood: give one mean cross-entropy per "
            "option, or grade text with 'vigorl' or 'clean'"
        )
    losses = [float(loss) for loss in reply]
    if len(losses) != len(example.options):
        raise ValueError(f"example {example.id!r} has {len(example.options)} options but {len(losses)} losses came")
    if any(math.isnan(loss) for loss in losses):
        raise ValueError(f"example {example.id!r}: a loss is not a number: {losses}; check the model's output")
    return losses
