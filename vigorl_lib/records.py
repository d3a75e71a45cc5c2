"""The frozen dataclasses that flow between the steps, and their JSON lines."""

from __future__ import annotations

import dataclasses
import json
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from io import FileIO
from pathlib import Path
from typing import Any


@dataclasses.dataclass(frozen=True)
class Example:
    """One benchmark item.

    `images` holds file paths or encoded bytes (PNG, JPEG …), opened by `images.open_image`; every
    example is shown as one image (two frames are put side by side, as the released code does).
    `kind` is the benchmark's own sub-task name. `group` links the permutations of one question.
    `truth` is ground truth that only a twin has (boxes in `original` pixels, the route …): never
    shown to a policy.

    Where the answer is a place, `box` (left, top, right, bottom) or `polygon` (corners) says which, in `original`
    pixels, and `size` is the picture's (width, height); then `answer` is text about it, or empty.
    """

    id: str
    benchmark: str
    kind: str
    question: str
    options: tuple[str, ...]
    answer: str
    images: tuple[Any, ...]
    group: str | None = None
    truth: Mapping[str, Any] | None = None
    box: tuple[float, float, float, float] | None = None
    polygon: tuple[tuple[float, float], ...] = ()
    size: tuple[int, int] | None = None


@dataclasses.dataclass(frozen=True)
class Prediction:
    """What a policy wrote about one example, kept so that anyone can grade it again.

    `turns` are the policy's own messages, in order. `points` are the coordinates that it looked at,
    in the frame the model writes, and `frame` is that frame's (width, height). `tokens` counts the tokens that the
    policy generated.
    """

    id: str
    turns: tuple[str, ...]
    points: tuple[tuple[int, int], ...] = ()
    tokens: int = 0
    truncated: bool = False
    frame: tuple[int, int] | None = None


@dataclasses.dataclass(frozen=True)
class StepRequest:
    """One question to the policy: what comes after `steps`? `must_answer` says that the answer is due now.

    `seed` (0 … 2³²-1) makes the sampling of this one request reproducible, whatever batch it travels in.
    """

    example: Example
    steps: tuple[str, ...]
    must_answer: bool
    seed: int


@dataclasses.dataclass(frozen=True)
class Proposal:
    """The reply: a step without tags ("" if it only answers), the answer or None, the tokens generated."""

    text: str
    answer: str | None
    tokens: int


class Refused(Exception):
    """A request that a policy will not answer, whatever one does: the reason is its text."""


@dataclasses.dataclass(frozen=True)
class Asked:
    """One request to a policy, and how it went.

    id, seed           of the example, and of the sampling
    attempts           calls over the wire, retries included; 0 of a local model
    seconds            until the reply was there; 0 where the requests of a batch share the time
    prompt_tokens      that a server read; 0 of a local model, which reads a prompt once for many requests
    completion_tokens  that were written
    outcome            "used", "refused", or why nothing could be taken of the reply (`traces.step_problem`)
    reason             of a refusal
    """

    id: str
    seed: int
    attempts: int
    seconds: float
    prompt_tokens: int
    completion_tokens: int
    outcome: str
    reason: str = ""


@dataclasses.dataclass
class Account:
    """The sums over a policy's requests: answered or refused, calls over the wire, tokens as in `Asked`.

    `unusable` counts the replies of which nothing could be taken, by reason; they are answered, too.
    """

    answered: int = 0
    refused: int = 0
    calls: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    unusable: Counter[str] = dataclasses.field(default_factory=Counter)

    def add(self, asked: Asked) -> None:
        """Count one more request."""
        refused = asked.outcome == "refused"
        self.refused += refused
        self.answered += not refused
        self.calls += asked.attempts
        self.prompt_tokens += asked.prompt_tokens
        self.completion_tokens += asked.completion_tokens
        if not refused and asked.outcome != "used":
            self.unusable[asked.outcome] += 1


def to_json(record: Any) -> dict[str, Any]:
    """The record as plain JSON values. Raises TypeError on encoded images: save those as files."""
    value = dataclasses.asdict(record)
    json.dumps(value)
    return value


def append_line(path: str | os.PathLike, value: Mapping[str, Any]) -> None:
    """Append one JSON line and force it to disk, so that a finished item survives a crash.

    A last line that a crash tore off, which `read_lines` leaves out, is cut away first. Raises OSError (for
    example a full disk) after cutting the file back to its last whole line.
    """
    line = (json.dumps(value, ensure_ascii=False) + "\n").encode()
    # Unbuffered: closing must not write what a full disk refused.
    with open(path, "ab+", buffering=0) as file:
        end = _end_of_whole_lines(file)
        try:
            while line:
                line = line[file.write(line) :]
            os.fsync(file.fileno())
        except OSError as error:
            os.truncate(path, end)
            raise OSError(
                error.errno, f"could not append to {path}: {error.strerror}; free some space, then run again"
            ) from error


def _end_of_whole_lines(file: FileIO) -> int:
    """The file's size, once its last line is whole: completed where only the line end is missing, else cut."""
    size = file.seek(0, os.SEEK_END)
    if size == 0 or os.pread(file.fileno(), 1, size - 1) == b"\n":
        return size
    file.seek(0)
    content = file.read()
    start = content.rfind(b"\n") + 1
    try:
        json.loads(content[start:])
    except ValueError:
        file.truncate(start)
        return start
    return size + file.write(b"\n")


def read_lines(path: str | os.PathLike) -> Iterator[dict[str, Any]]:
    """The JSON lines of a file; a torn last line (a crash while writing) is left out.

    Raises ValueError naming file and line where any other line is not a JSON object.
    """
    path = Path(path)
    if not path.exists():
        return
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                value = json.loads(line)
            except ValueError as error:
                if not line.endswith(b"\n"):
                    return
                raise ValueError(f"{path}:{number}: not a JSON line ({error}); delete that line or the file") from error
            if not isinstance(value, dict):
                raise ValueError(f"{path}:{number}: expected a JSON object, found {type(value).__name__}")
            yield value
