"""VisualWebArena, one step at a time: which action did the demonstrator take on this screenshot?

The paper's live runs were never released, and live runs are not this file's business. Offline, a row is one step of an
ICAL trajectory (`gsarch/vigorl_datasets`, `web_action.tar`, 92 trajectories): a screenshot with numbered elements, the
objective, the actions before, and the action taken. Rows are JSON lines `{id, image, conversations}` in LLaVA's form:
the first message asks, the second is the action. Unpack the archive and give the .jsonl file as the source: the hub
has nothing smaller, so "hub" is none.

There is no official offline figure. `vigorl` is the released `_web_action`: it looks for verbs anywhere, in the order
go_back, stop, scroll, click, type: a scroll's direction, what is typed and the answer of a stop count for nothing, an
element need only occur in the gold action ("click 1" is right for "click [12]"), and typing two words is always wrong.
`clean` compares whole actions.

In training an action that is half right is paid half (`released_credit`, `credit`; paper §A5.2).
"""

from __future__ import annotations

import dataclasses
import json
import random
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vigorl_lib.answers import normalise
from vigorl_lib.benchmarks.family import Family, Grade, Hub, Reply, Row
from vigorl_lib.benchmarks.graders import closed_answer, released_answer, verdict
from vigorl_lib.benchmarks.sources import encoded_image, text_cell
from vigorl_lib.nano import errands, webpages
from vigorl_lib.prompts import clean_user_text
from vigorl_lib.records import Example

_ACTION = re.compile(
    r"(?:(?P<click>click)\s*+\[(?P<clicked>[0-9]{1,6}+)\]"
    r"|(?P<type>type)\s*+\[(?P<field>[0-9]{1,6}+)\]\s*+\[(?P<typed>.*)\]"
    r"|(?P<scroll>scroll)\s*+\[?(?P<direction>up|down)\]?"
    r"|(?P<back>go_back)"
    r"|(?P<stop>stop)(?:\s*+\[(?P<said>.*)\])?)",
    re.DOTALL,
)


@dataclasses.dataclass(frozen=True)
class Action:
    """One action: its verb, the number of the element, and what is typed, said or the direction ("" where none)."""

    verb: str
    element: int | None = None
    content: str = ""


def parse_action(text: str) -> Action | None:
    """The one action that a text is: `click [id]`, `type [id] [text]`, `scroll [up]`, `go_back`, `stop [answer]`."""
    match = _ACTION.fullmatch(text.strip().strip("`").strip())
    if not match:
        return None
    verb = next(name for name in ("click", "type", "scroll", "back", "stop") if match[name])
    element = match["clicked"] or match["field"]
    content = match["typed"] or match["direction"] or match["said"] or ""
    return Action(match[verb], int(element) if element else None, content)


def example(row: Row, id: str, seed: int) -> Example:
    """The record of one row; the image stays encoded. Raises ValueError on a row that cannot be asked."""
    talk = row["conversations"]
    if not isinstance(talk, list) or len(talk) < 2 or not all(isinstance(turn, dict) for turn in talk):
        raise ValueError("column 'conversations' must be a list of two messages, the question and the action")
    question, answer = (text_cell(turn, "value") for turn in talk[:2] if "value" in turn)
    action = parse_action(answer)
    if action is None:
        raise ValueError(f"the answer {answer[:80]!r} is not one action such as 'click [12]'")
    return Example(
        id=id,
        benchmark="visualwebarena",
        kind=action.verb,
        question=clean_user_text(question.replace("<image>", "").strip()),
        options=(),
        answer=answer,
        images=(encoded_image(row["image"]),),
        group=text_cell(row, "id"),
    )


def read_lines(path: Path, split: str) -> Iterator[tuple[Path, int, Row]]:
    """The rows of a .jsonl file, with their images' paths from its folder; there is one split."""
    if path.suffix != ".jsonl" or not path.is_file():
        raise FileNotFoundError(f"{path}: unpack web_action.tar and give its .jsonl file as the source")
    with path.open() as lines:
        for number, line in enumerate(lines):
            try:
                row = json.loads(line)
                yield path, number, {**row, "image": str(path.parent / row["image"])}
            except (ValueError, TypeError, KeyError) as error:
                raise ValueError(f"{path}:{number + 1}: not a row with an image ({error!r}); correct it") from error


def twin(rng: random.Random, number: int, *, resolution: float = 1.0) -> tuple[Row, dict[str, Any]]:
    """A procedural row and its ground truth."""
    question = webpages.step(rng, number).scaled(resolution)
    return webpages.visualwebarena_row(rng, question, number), question.truth


def nano(rng: random.Random, number: int) -> tuple[Row, dict[str, Any]]:
    """The same on pages that the nano base can read: a step of an errand."""
    step = errands.step(rng, number)
    return errands.visualwebarena_row(step, number), errands.truth(step)


def released(reply: Reply, example: Example) -> Grade:
    """ViGoRL's evaluation: its way of reading an answer, then its judge `_web_action`; see the module's text."""
    answer, why = released_answer(reply)
    if answer is None:
        return Grade(0.0, None, why)
    gold, said = example.answer.strip().lower(), answer.strip().lower()
    for verb in ("go_back", "stop", "scroll"):
        if verb in said:
            return verdict(verb in gold, answer)
    words = said.split(" ")
    for verb, length in (("click", 2), ("type", 3)):
        if verb in said:
            return verdict(len(words) == length and verb in gold and words[1].strip() in gold, answer)
    return verdict(False, answer)


def clean(reply: Reply, example: Example) -> Grade:
    """The last turn's last closed `<answer>` is the demonstrator's action: verb, element, direction and text."""
    answer = closed_answer(reply)
    if answer is None:
        return Grade(0.0, None, "no_answer")
    said, gold = parse_action(answer), parse_action(example.answer)
    if said is None:
        return Grade(0.0, answer, "not_an_action")
    same = (said.verb, said.element) == (gold.verb, gold.element) and normalise(said.content) == normalise(gold.content)
    return verdict(same, answer)


def credit(answer: str, gold: str) -> float:
    """What an action earns in training: half for its verb, half for the rest, read and compared as in `clean`."""
    said, wanted = parse_action(answer), parse_action(gold)
    if said is None or wanted is None or said.verb != wanted.verb:
        return 0.0
    same = said.element == wanted.element and normalise(said.content) == normalise(wanted.content)
    return 0.5 + 0.5 * same


def released_credit(answer: str, gold: str) -> float:
    """The released reward of an action (`web_action_grounded_thinking.py`): verbs anywhere, in this order.

    go_back and stop: whether the gold has it too. scroll: whether it goes the same way. click and type: half for the
    verb, half for the element, which is the first number (`click`) or the first text in brackets (`type`).
    """
    for verb in ("go_back", "stop"):
        if verb in answer:
            return float(verb in gold)
    if "scroll" in answer:
        return float("scroll" in gold and any(way in answer and way in gold for way in ("[down]", "[up]")))
    for verb, element in (("click", r"\[(\d+)\]"), ("type", r"\[(.*?)\]")):
        if verb in answer:
            said, wanted = re.search(element, answer), re.search(element, gold)
            same = said is not None and wanted is not None and said[1] == wanted[1]
            return 0.5 * (verb in gold) + 0.5 * (verb in gold and same)
    return 0.0


FAMILY = Family(
    name="visualwebarena",
    columns=("id", "image", "conversations"),
    hub=Hub(repos={"gsarch/vigorl_datasets": None}, files={}, rows={}),
    example=example,
    twin=twin,
    knobs=("resolution",),
    nano=nano,
    graders={"vigorl": released, "clean": clean},
    read=read_lines,
)
