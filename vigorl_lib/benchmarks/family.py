"""What a benchmark family must say about itself; a new family is one file that ends in a `Family`."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from vigorl_lib.images import ParquetCell, ZipMember
from vigorl_lib.records import Example

Protocol = Literal["official", "vigorl", "clean"]
Row = Mapping[str, Any]
Image = str | bytes | ZipMember | ParquetCell
Reply = str | Sequence[str] | Sequence[float]
"""What a grader reads: one text, the policy's turns in order, or one loss per option (lower is likelier)."""


@dataclasses.dataclass(frozen=True)
class Grade:
    """One reply, graded.

    score      0 … 1
    extracted  the answer as it was read from the reply; None where none could be read
    why        "right", "wrong", or what kept the answer from being read, in snake_case

    The rest says whose grade it is, for the figures: the example's id, kind, group and answer, and the protocol.
    """

    score: float
    extracted: str | None
    why: str
    id: str = ""
    kind: str = ""
    group: str | None = None
    gold: str = ""
    protocol: Protocol | None = None


@dataclasses.dataclass(frozen=True)
class Hub:
    """Where the real rows lie.

    repos   dataset id on the hub -> the commit that is read, None where none is known; first choice first. A commit is
            one that public evaluation code pins; the hub itself was not asked. `revision` overrules it
    files   split -> pattern of its files inside any of the repositories; none where these are archives
    rows    split -> the numbers of rows that are known to be right
    parts   a column, and for each of its values how many rows of a split have it
    images  where they lie in files of their own (columns `id`, `image`): pattern of those, the column of a row that
            holds its image's id, and how many images there are
    """

    repos: Mapping[str, str | None]
    files: Mapping[str, str]
    rows: Mapping[str, tuple[int, ...]]
    parts: tuple[str, Mapping[str, int]] | None = None
    images: tuple[str, str, int] | None = None


@dataclasses.dataclass(frozen=True)
class Family:
    """One benchmark.

    columns  of the hub's rows, all that `example` reads
    key      columns of which no two rows have the same values, where the hub has such
    example  (row, id of the question, seed of the option order) -> record; raises ValueError on a bad row
    graders  protocol -> grader
    losses   protocols that grade one loss per option instead of a text
    twin     (random numbers, running number, knobs) -> a procedural row of the same columns, and its ground truth
    knobs    what `twin` can be asked for to be easier or harder; `registry.load` says what each means
    nano     the same as pictures of the nano world, where the twin has words or numbers to be read
    block    how many of the twin's rows in a row share their random numbers: those that are about one problem
    figures  grades -> what the benchmark reports besides accuracies, as plain JSON values
    circular (row, id of the question) -> one record for each rotation of the stored options, of one `group`
    read     (folder or file, split) -> (file, number, row) of data that is not stored as parquet
    """

    name: str
    columns: tuple[str, ...]
    hub: Hub
    example: Callable[[Row, str, int], Example]
    graders: Mapping[Protocol, Callable[[Reply, Example], Grade]]
    twin: Callable[..., tuple[Row, dict[str, Any]]] | None = None
    knobs: tuple[str, ...] = ()
    nano: Callable[[random.Random, int], tuple[Row, dict[str, Any]]] | None = None
    key: tuple[str, ...] = ()
    losses: tuple[Protocol, ...] = ()
    block: int = 1
    figures: Callable[[Sequence[Grade]], dict[str, Any]] | None = None
    circular: Callable[[Row, str], list[Example]] | None = None
    read: Callable[[Path, str], Iterator[tuple[Path, int, Row]]] | None = None
