"""The released chains for the warm start (`MCTS_72b_reasoning_chains_*.json`), row by row, as our records.

A row is `{"id", "metadata", "messages": [system, user, assistant], "images": [path], "gt_answer"}`; in several turns
`messages` go on (assistant: a thought and a call; user: the observation; …), `images` holds the crops as well, and id
and gt_answer may be missing: then the last turn's answer, which the search had judged right, stands for it. System
prompts are left out: each model is asked in its own dialect.

Points are pixels of the stored picture, in chains and in turns. A model sees another size, so write them in its frame
before training (the released code does not; for most pictures that is off by less than a patch):

    for example, chain in released.chains(path):
        view = policy.view_of(example)
        chain = released.chain_in(chain, view.original_frame, view.frame)

A row that breaks the grammar, points out of its picture, or does not fit its own pictures is an error that names file
and row, or with a list as `left_out` one of its lines.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from vigorl_lib.benchmarks import released
from vigorl_lib.benchmarks.sources import json_rows
from vigorl_lib.grounding import Frame, Point
from vigorl_lib.images import image_size
from vigorl_lib.prompts import BACKTRACK
from vigorl_lib.records import Example
from vigorl_lib.search.linearise import Chain
from vigorl_lib.traces import Trace, find_points, parse_trace, parse_turn, render_call, split_steps

Found = TypeVar("Found")
_OBSERVATION = re.compile(
    r"<observation>\s*Here is the crop of the image centered on the coordinate"
    r"(?P<dot>, with a red dot at the coordinate location)?:\s*<image>\s*</observation>"
)


@dataclasses.dataclass(frozen=True)
class Dialogue:
    """A chain in several turns: the policy's messages (`training.episode` makes a training row of them).

    crops  the files of the crops that it was shown, one after each turn but the last
    dot    whether they have a red dot at the point (web grounding)
    """

    example: Example
    turns: tuple[str, ...]
    crops: tuple[str, ...]
    dot: bool


def chains(path: str | Path, *, left_out: list[str] | None = None) -> list[tuple[Example, Chain]]:
    """The single-turn chains of a file, each with its question. Raises ValueError naming file and row.

    Chains of one tree have the same `tree_id`, which is their example's id (released ids are `tree_chain`).
    """
    return list(_converted(Path(path), _chain, left_out))


def dialogues(path: str | Path, *, left_out: list[str] | None = None) -> list[Dialogue]:
    """The chains in several turns of a file. Raises ValueError naming file and row."""
    return list(_converted(Path(path), _dialogue, left_out))


def chain_in(chain: Chain, source: Frame, target: Frame) -> Chain:
    """The chain with its points, and the one that it may answer with, in another frame of the same picture."""
    steps = tuple(text_in(step, source, target) for step in chain.steps)
    return dataclasses.replace(chain, steps=steps, answer=text_in(chain.answer, source, target))


def dialogue_in(dialogue: Dialogue, source: Frame, target: Frame) -> Dialogue:
    """The dialogue with its points and calls in another frame of the same picture."""
    turns = []
    for turn in dialogue.turns:
        said = parse_turn(turn, zoom=True)
        moved = text_in(turn, source, target)
        if said.call is not None:
            moved = render_call(text_in(said.think or "", source, target), _moved(*said.call, source, target))
        turns.append(moved)
    return dataclasses.replace(dialogue, turns=tuple(turns))


def text_in(text: str, source: Frame, target: Frame) -> str:
    """A text with every point (x, y) of one frame written in another."""
    pieces, cursor = [], 0
    for mention in find_points(text):
        x, y = _moved(mention.x, mention.y, source, target)
        pieces += [text[cursor : mention.start], f"({x}, {y})"]
        cursor = mention.end
    return "".join([*pieces, text[cursor:]])


def _moved(x: int, y: int, source: Frame, target: Frame) -> tuple[int, int]:
    return Point(x, y, source).to(target).rounded()


def _converted(
    path: Path, convert: Callable[[dict[str, Any], str], Found], left_out: list[str] | None
) -> Iterator[Found]:
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; unpack the tar of its domain from gsarch/vigorl_datasets")
    for number, row in json_rows(path):
        try:
            yield convert(released.with_pictures(path, row), f"{path.stem}-{number}")
        except ValueError as error:
            message = f"{path}, row {number}: {error}; leave the row out, or correct it"
            if left_out is None:
                raise ValueError(message) from error
            left_out.append(message)


def _chain(row: dict[str, Any], id: str) -> tuple[Example, Chain]:
    messages = _messages(row)
    if [message["role"] for message in messages] != ["user", "assistant"]:
        raise ValueError("a single-turn chain is one user's and one assistant's message; dialogues() reads several")
    text = messages[1]["content"]
    trace = parse_trace([text], zoom=False)
    tree_id, _, _ = str(row.get("id") or f"{id}_0").rpartition("_")
    example = _example(row, messages[0]["content"], trace, tree_id or id)
    before, mark, after = (trace.turns[0].think or "").partition(BACKTRACK)
    steps = [*_steps(before), *([mark] if mark else []), *_steps(after)]
    return example, Chain(example.id, (), "corrected" if mark else "direct", tuple(steps), trace.answer or "")


def _dialogue(row: dict[str, Any], id: str) -> Dialogue:
    messages = _messages(row)
    roles = [message["role"] for message in messages]
    if len(roles) % 2 or roles != ["user", "assistant"] * (len(roles) // 2):
        raise ValueError(f"user and assistant must take turns, the assistant last; here it is {', '.join(roles)}")
    turns = tuple(message["content"] for message in messages[1::2])
    seen = [_OBSERVATION.fullmatch(message["content"].strip()) for message in messages[2::2]]
    if not all(seen):
        place = 2 + 2 * seen.index(None)
        raise ValueError(f"message {place + 1} is no observation: {messages[place]['content'][:80]!r}")
    crops = row["images"][1:]
    if len(crops) != len(seen):
        raise ValueError(f"{len(seen)} observations, but {len(crops)} crops behind the picture in column 'images'")
    dots = {match["dot"] is not None for match in seen if match}
    if len(dots) > 1:
        raise ValueError("some observations speak of a red dot and some do not")
    trace = parse_trace(turns, zoom=True)
    example = _example(row, messages[0]["content"], trace, str(row.get("id") or id))
    return Dialogue(example, turns, tuple(crops), dots == {True})


def _messages(row: dict[str, Any]) -> list[dict[str, str]]:
    """The messages behind the system prompt."""
    messages, pictures = row.get("messages"), row.get("images")
    fields = {"role", "content"}
    if not isinstance(messages, list) or not all(isinstance(m, dict) and fields <= set(m) for m in messages):
        raise ValueError("column 'messages' must be a list of messages with role and content")
    if not all(isinstance(message["content"], str) for message in messages):
        raise ValueError("a message's content must be text; its pictures belong into column 'images'")
    if not isinstance(pictures, list) or not pictures or not all(isinstance(picture, str) for picture in pictures):
        raise ValueError(f"column 'images' must be a list of paths, not {pictures!r}")
    return messages[1:] if messages and messages[0]["role"] == "system" else messages


def _example(row: dict[str, Any], question: str, trace: Trace, id: str) -> Example:
    """The question of a chain, whose own text must be well-formed and point into the picture."""
    if not trace.well_formed:
        raise ValueError(f"the chain breaks the grammar: {', '.join(trace.problems)}")
    width, height = image_size(row["images"][0])
    outside = [(x, y) for x, y in (*trace.points, *trace.calls) if not (0 <= x < width and 0 <= y < height)]
    if outside:
        raise ValueError(f"the point {outside[0]} is not in the picture of {width} x {height} pixels")
    answer = row.get("gt_answer") or trace.answer
    return released.example({"problem": question, "answer": answer, "images": row["images"][:1]}, id)


def _steps(think: str) -> list[str]:
    return [text for step in split_steps(think) if (text := step.text.strip())]
