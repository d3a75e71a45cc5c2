"""Anyone's own questions, in one schema: `benchmarks.load("photos/questions.jsonl")`.

A row is one JSON line, or one row of a parquet file, with

    id        any text, once in the file or in its split
    images    one or two paths (relative to the file) or encoded files; `image` or `file_name` for one alone
    question  what is asked
    kind      optional, not of actions: what the figures group by
    options   optional: two or more texts, one of which is the answer
    split     optional: train, dev or test. Where it is left out, the id decides: of twenty rows about three are dev
              and three are test, always the same ones

and exactly one of

    answer    text: one of the options, or a free answer
    box       [left, top, right, bottom] in pixels of the upright image: the answer is a point inside
    polygon   [[x, y], …] likewise
    action    a web action such as "click [12]"

`benchmarks.load(PATH)` gives all rows, `benchmarks.load("own", PATH, split="train")` those of one split: with
`benchmark: own` and `source: PATH` among its parameters a notebook searches, trains and evaluates on them. A folder
with a `metadata.jsonl` (the layout of `datasets`' ImageFolder) can be given instead of the file. Graders: `clean`, and
`vigorl` where the released code has a judge for such an answer (all but polygons).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet

from vigorl_lib.benchmarks import robospatial, screenspot, visualwebarena
from vigorl_lib.benchmarks.family import Family, Grade, Hub, Reply, Row
from vigorl_lib.benchmarks.graders import clean_choice, clean_text, released_choice
from vigorl_lib.benchmarks.sources import digest, encoded_image, json_rows, read_rows, text_cell, text_list
from vigorl_lib.images import image_size
from vigorl_lib.prompts import clean_user_text, options_as_text
from vigorl_lib.records import Example

SPLITS, ALL = ("train", "dev", "test"), "all"
_IMAGES, _ANSWERS = ("images", "image", "file_name"), ("answer", "box", "polygon", "action")


def example(row: Row, id: str, seed: int) -> Example:
    """The record of one row; images stay encoded. Raises ValueError on a row that cannot be asked."""
    given = [name for name in _ANSWERS if row.get(name) is not None]
    if len(given) != 1:
        raise ValueError(f"a row needs exactly one of {', '.join(_ANSWERS)}, not {' and '.join(given) or 'none'}")
    pictures, question = _pictures(row), text_cell(row, "question")
    options = text_list(row, "options") if row.get("options") is not None else ()
    answer = text_cell(row, given[0]) if given[0] in ("answer", "action") else ""
    if options and answer not in options:
        raise ValueError(f"the answer {answer or given[0]!r} is not one of the options {list(options)}")
    if given[0] == "action" and visualwebarena.parse_action(answer) is None:
        raise ValueError(f"the action {answer!r} is not one such as 'click [12]' or 'type [3] [red lamp]'")
    kind = text_cell(row, "kind") if row.get("kind") is not None else given[0]
    if (kind == "action") != (given[0] == "action"):
        raise ValueError(f"the kind {kind!r} does not go with the column {given[0]!r}; leave it out")
    place = given[0] in ("box", "polygon")
    if place and len(pictures) > 1:
        raise ValueError(f"a {given[0]} needs a single image: in pixels of which of {len(pictures)} would it be?")
    size = image_size(pictures[0]) if place else None
    return Example(
        id=text_cell(row, "id"),
        benchmark="own",
        kind=kind,
        question=options_as_text(question, options) if options else clean_user_text(question),
        options=options,
        answer=answer,
        images=pictures,
        box=screenspot.pixel_box(row["box"], size, "xyxy") if given[0] == "box" else None,
        polygon=_corners(row["polygon"], size) if given[0] == "polygon" else (),
        size=size,
    )


def _pictures(row: Row) -> tuple[Any, ...]:
    name = next((name for name in _IMAGES if row.get(name) is not None), None)
    if name is None:
        raise ValueError(f"a row needs one of the columns {', '.join(_IMAGES)}")
    cells = row[name] if isinstance(row[name], list) else [row[name]]
    if not 1 <= len(cells) <= 2:
        raise ValueError(f"column {name!r} must hold one or two images, not {len(cells)}")
    return tuple(encoded_image(cell) for cell in cells)


def _corners(stored: Any, size: tuple[int, int]) -> tuple[tuple[float, float], ...]:
    try:
        corners = tuple((float(x), float(y)) for x, y in stored)
    except (TypeError, ValueError) as error:
        raise ValueError(f"column 'polygon' must hold points [x, y], not {stored!r}") from error
    if len(corners) < 3 or not all(0 <= x <= size[0] and 0 <= y <= size[1] for x, y in corners):
        width, height = size
        raise ValueError(f"the polygon {corners} needs three or more corners in the image of {width} x {height} pixels")
    return corners


def split_of(row: Row) -> str:
    """The split that a row belongs to. Raises ValueError where it names none that there is."""
    if row.get("split") is None:
        return ("dev", "test", *["train"] * 5)[digest(f"own/{row.get('id')}") % 20 // 3]
    if row["split"] not in SPLITS:
        raise ValueError(f"unknown split {row['split']!r}; known: {', '.join(SPLITS)}")
    return row["split"]


def read(source: Path, split: str) -> Iterator[tuple[Path, int, Row]]:
    """The rows of a .jsonl or .parquet file, or of a folder's metadata.jsonl; images' paths from the file's folder.

    Of one split, or all of them.
    """
    if split not in (*SPLITS, ALL):
        raise ValueError(f"own questions have the splits {', '.join(SPLITS)}, or {ALL}, not {split!r}")
    path = source / "metadata.jsonl" if source.is_dir() else source
    if not path.is_file():
        raise FileNotFoundError(
            f"{path}: no such file; give a .jsonl or .parquet file, or a folder with metadata.jsonl"
        )
    if path.suffix == ".parquet":
        columns = pyarrow.parquet.read_schema(path).names
        rows = ((number, row) for _, number, row in read_rows([path], columns))
    elif path.suffix == ".jsonl":
        rows = json_rows(path)
    else:
        raise ValueError(f"{path}: not a .jsonl or .parquet file; see the schema in vigorl_lib/benchmarks/own.py")
    for number, row in rows:
        try:
            chosen = split in (ALL, split_of(row))
        except ValueError as error:
            raise ValueError(f"{path}, row {number}: {error}; correct it") from error
        if chosen:
            yield path, number, {name: _beside(path, cell) if name in _IMAGES else cell for name, cell in row.items()}


def _beside(path: Path, cell: Any) -> Any:
    if isinstance(cell, list):
        return [_beside(path, part) for part in cell]
    return str(path.parent / cell) if isinstance(cell, str) else cell


def clean(reply: Reply, example: Example) -> Grade:
    """By the kind of the answer: an option, a point inside, an action, or free text."""
    if example.options:
        return clean_choice(reply, example)
    if example.box or example.polygon:
        return (screenspot.clean if example.box else robospatial.clean)(reply, example)
    return (visualwebarena.clean if example.kind == "action" else clean_text)(reply, example)


def released(reply: Reply, example: Example) -> Grade:
    """The released judge for the kind of the answer. Raises ValueError for polygons: there is none."""
    if example.box or example.polygon:
        return (screenspot.released if example.box else robospatial.released)(reply, example)
    return (visualwebarena.released if example.kind == "action" else released_choice)(reply, example)


FAMILY = Family(
    name="own",
    key=("id",),
    columns=("id", "question"),
    hub=Hub(repos={}, files={}, rows={}),
    example=example,
    graders={"vigorl": released, "clean": clean},
    read=read,
)
