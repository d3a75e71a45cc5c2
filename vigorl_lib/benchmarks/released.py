"""The released data of ViGoRL, `gsarch/vigorl_datasets`: its question files, row by row, as our records.

Licence: MIT. About 125 GB in tars; unpack the one of a domain and give its folder, or one file of it, as the source:
`benchmarks.load("released", "vigorl_datasets", split="sat2_train")`.

    tar                       splits                                              rows (paper, §5)
    spatial_reasoning 11 GB   sat2_mcts sat2_train sat2_val sat2_test blink_val   32k train, 1k val; 4,001 test
    visual_search     12 GB   visual_search_mcts visual_search_train vstar_test   11k train; 191 test
    web_grounding     13 GB   web_grounding_{mcts,train,val} screenspot_pro_test  12k train, 1.5k val; 1,581 and 1,272
                              screenspot_v2_test
    web_action       0.2 GB   web_action_{mcts,train,val}                         the steps of 92 trajectories

A row for RL is `{"problem", "answer", "images"}`, one for search or evaluation `{"id", "image", "conversations"}` with
the question and the answer as two messages. Which of the four domains it is, the question's own words say:

    "… Answer Choices:\\nA. …"        spatial: the answer is an option's *text* (a letter is taken too)
    "… (A) … (B) …"                  visual search: the answer is a *letter*
    "Description: …"                 web grounding: a box "(x1, y1, x2, y2)", whole pixels of the stored picture
    "OBJECTIVE: …"                   web action: such as "click [12]"

The user's text stays as it is but for the `<image>` mark and anything that could pass for a tag. Two frames of SAT lie
side by side in one file already. Boxes are `original` pixels; the released training code does not scale them where it
shrinks a picture, ours does. The chains for the warm start are read by `search.released`. No row of the real files
could be opened here: the schemas are those that the released code reads and writes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from vigorl_lib.answers import letter, named_option
from vigorl_lib.benchmarks import own, screenspot, visualwebarena, vstar
from vigorl_lib.benchmarks.family import Family, Hub, Row
from vigorl_lib.benchmarks.sources import json_rows, text_cell
from vigorl_lib.images import image_size
from vigorl_lib.prompts import clean_user_text
from vigorl_lib.records import Example

FILES = {
    "sat2_mcts": "spatial_reasoning/vigorl_sat2_MCTS.jsonl",
    "sat2_train": "spatial_reasoning/vigorl_sat2_train_RL.jsonl",
    "sat2_val": "spatial_reasoning/vigorl_sat2_val_RL.jsonl",
    "sat2_test": "spatial_reasoning/sat2_test/sat2_test.jsonl",
    "blink_val": "spatial_reasoning/blink/blink_validation.jsonl",
    "visual_search_mcts": "visual_search/vigorl_SA_MCTS.jsonl",
    "visual_search_train": "visual_search/vigorl_SA_RL.jsonl",
    "vstar_test": "visual_search/vstar/vstarbench_test.jsonl",
    "web_grounding_mcts": "web_grounding/vigorl_osatlas_MCTS.jsonl",
    "web_grounding_train": "web_grounding/vigorl_osatlas_train_RL.jsonl",
    "web_grounding_val": "web_grounding/vigorl_osatlas_val_RL.jsonl",
    "screenspot_pro_test": "web_grounding/ScreenSpot-Pro/screenspot_pro_test.jsonl",
    "screenspot_v2_test": "web_grounding/ScreenSpot-V2/screenspot_v2_test.jsonl",
    "web_action_mcts": "web_action/vigorl_web_action_MCTS.jsonl",
    "web_action_train": "web_action/vigorl_ical_train_RL.jsonl",
    "web_action_val": "web_action/vigorl_ical_val_RL.jsonl",
}
_OPTION = re.compile(r"([A-Z])\. (.+)")
_BOX = re.compile(r"\(\s*(\d+)\s*,\s*(\d+)\s*,\s*(\d+)\s*,\s*(\d+)\s*\)", re.ASCII)


def example(row: Row, id: str, seed: int = 0) -> Example:
    """The record of one row; `seed` changes nothing: the options keep their order. Raises ValueError on a bad row."""
    text, answer, picture = _parts(row)
    text = text.replace("<image>", "").strip()
    options: tuple[str, ...] = ()
    box = size = None
    if text.startswith("OBJECTIVE:"):
        kind = "action"
        if visualwebarena.parse_action(answer) is None:
            raise ValueError(f"the answer {answer[:80]!r} is not one action such as 'click [12]'")
    elif text.startswith("Description:"):
        kind, size = "web_grounding", image_size(picture)
        sides = _BOX.fullmatch(answer)
        if not sides:
            raise ValueError(f"the answer {answer[:80]!r} is not a box '(x1, y1, x2, y2)' in whole pixels")
        box, answer = screenspot.pixel_box([int(side) for side in sides.groups()], size, "xyxy"), ""
    elif "Answer Choices:" in text:
        kind, options = "spatial", _choices(text)
        answer = options[_place(answer, options)]
    else:
        kind, options = "visual_search", vstar.split_text(text)[1]
        answer = letter(_place(answer, options))
    return Example(
        id=id,
        benchmark="released",
        kind=kind,
        question=clean_user_text(text),
        options=options,
        answer=answer,
        images=(picture,),
        group=text_cell(row, "id") if "id" in row else None,
        box=box,
        size=size,
    )


def _parts(row: Row) -> tuple[str, str, str]:
    """Question, answer and picture of a row of either schema."""
    if "problem" in row:
        pictures = row.get("images")
        if not isinstance(pictures, list) or len(pictures) != 1:
            raise ValueError(f"column 'images' must be a list of one path, not {pictures!r}")
        return (
            text_cell(row, "problem"),
            text_cell({"answer": None, **row}, "answer"),
            text_cell({"images": pictures[0]}, "images"),
        )
    if "conversations" in row:
        talk = row["conversations"]
        if not isinstance(talk, list) or len(talk) < 2 or not all(isinstance(m, dict) and "value" in m for m in talk):
            raise ValueError("column 'conversations' must be a list of two messages, the question and the answer")
        question, answer = (text_cell(message, "value") for message in talk[:2])
        return question, answer, text_cell({"image": None, **row}, "image")
    raise ValueError(
        f"columns {sorted(row)}: neither a row for RL (problem, answer, images) nor one for search or evaluation "
        "(id, image, conversations); chains are read by search.released"
    )


def _choices(text: str) -> tuple[str, ...]:
    """The options of a spatial question: lines "A. …", in order."""
    lines = [line.strip() for line in text.partition("Answer Choices:")[2].splitlines()]
    marked = [match for match in map(_OPTION.fullmatch, lines) if match]
    if len(marked) < 2 or [match[1] for match in marked] != [letter(place) for place in range(len(marked))]:
        raise ValueError(f"no options 'A. …', 'B. …' in order behind 'Answer Choices:' in {text[:120]!r}")
    return tuple(match[2].strip() for match in marked)


def _place(answer: str, options: tuple[str, ...]) -> int:
    place = named_option(answer, options)
    if place is None:
        raise ValueError(f"the answer {answer!r} names none of the options {list(options)}")
    return place


def read(source: Path, split: str) -> Iterator[tuple[Path, int, Row]]:
    """The rows of a file, or of the split's file in the unpacked folder, with the paths of their pictures.

    Rows without a picture are left out, as the released loader does.
    """
    path = source
    if source.is_dir():
        if split not in FILES:
            raise ValueError(f"unknown split {split!r} of the released data; known: {', '.join(FILES)}")
        path = source / FILES[split]
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; unpack the tar of its domain from gsarch/vigorl_datasets")
    for number, row in json_rows(path):
        try:
            found = with_pictures(path, row)
        except ValueError as error:
            raise ValueError(f"{path}, row {number}: {error}; do not use this file") from error
        if row.get("image") or row.get("images"):
            yield path, number, found


def with_pictures(path: Path, row: Row) -> Row:
    """The row with where its pictures lie: their paths are relative to the file's folder, or to one above it.

    Raises ValueError on a path that leads out of the data.
    """
    return {name: _beside(path, cell) if name in ("image", "images") else cell for name, cell in row.items()}


def _beside(path: Path, cell: Any) -> Any:
    if isinstance(cell, list):
        return [_beside(path, part) for part in cell]
    if not isinstance(cell, str):
        return cell
    name = PurePosixPath(cell)
    if name.is_absolute() or ".." in name.parts:
        raise ValueError(f"the picture {cell!r} lies outside of the data set")
    places = [folder / name for folder in list(path.parents)[:3]]
    return str(next((place for place in places if place.is_file()), places[0]))


FAMILY = Family(
    name="released",
    columns=(),
    hub=Hub(repos={"gsarch/vigorl_datasets": None}, files={}, rows={}),
    example=example,
    graders={"vigorl": own.released, "clean": own.clean},
    read=read,
)
