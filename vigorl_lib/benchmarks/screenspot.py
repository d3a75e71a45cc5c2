"""ScreenSpot, ScreenSpot-v2 and ScreenSpot-Pro: where on this screen would you click?

    name            hub id                        rows   boxes as stored           images
    screenspot      rootsautomation/ScreenSpot    1,272  shares of the sides, xyxy in the rows (parquet)
    screenspot_v2   OS-Copilot/ScreenSpot-v2      1,272  pixels, x y width height  screenspotv2_image.zip
    screenspot_pro  likaixin/ScreenSpot-Pro       1,581  pixels, xyxy              images/
                    TIGER-Lab/ScreenSpot-Pro             the same, perhaps as text in the rows
                    lmms-lab/ScreenSpot-Pro

ScreenSpot-v2 has mirrors too, but nobody says by which convention their boxes are stored: they are not read.
Each box becomes (left, top, right, bottom) in `original` pixels by the convention of its
source, never by looking at a row; a box that is inside out or leaves its image by more than a pixel is refused.

`official` takes the numbers of a reply as SeeClick's script does: two are a point, four a box whose centre counts,
anything else is a wrong format; the point must be in the box, borders included. Its replies are shares of the sides;
here they are in the frame that `grade` is given. With the letters "box" anywhere in it a reply must hold Qwen-VL's
`<box>(x1,y1),(x2,y2)</box>` in thousandths of the sides. ScreenSpot-Pro's script leaves reading to each model's class.
`vigorl` is the released `point_in_bbox`: the answer must be two *whole* numbers in brackets or bare, and nothing more.
`clean` takes the one point of the answer. The papers' average is the mean of six cells (platform by text or icon),
later ones give the share of all rows: both are among the figures. lmms-eval asks for a box and reads silence as the
point (0, 0); VLMEvalKit's text and icon figures weight each cell by the square of its size.
"""

from __future__ import annotations

import functools
import json
import random
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from vigorl_lib.benchmarks.family import Family, Grade, Hub, Reply, Row
from vigorl_lib.benchmarks.graders import answer_span, clean_point, literal, released_answer, scores_by_kind, verdict
from vigorl_lib.benchmarks.sources import encoded_image, read_rows, text_cell
from vigorl_lib.images import ZipMember, image_size
from vigorl_lib.nano import gui, twins
from vigorl_lib.prompts import clean_user_text
from vigorl_lib.records import Example
from vigorl_lib.stats import mean_of_shares, share

Convention = Literal["shares", "xyxy", "xywh"]
PLATFORMS = {
    **dict.fromkeys(("ios", "android"), "mobile"),
    **dict.fromkeys(("macos", "windows"), "desktop"),
    **dict.fromkeys(("gitlab", "shop", "forum", "tool"), "web"),
}
PRO_COLUMNS = ("image", "bbox", "img_size", "instruction", "application", "group", "ui_type")
GROUPS = ("CAD", "Creative", "Dev", "OS", "Office", "Scientific")
TYPES = ("icon", "text")
_NUMBER = re.compile(r"-?[0-9]{1,9}+(?:\.[0-9]{1,18}+)?")
_BOX = re.compile(r"<box>\((\d{1,9}+),(\d{1,9}+)\),\((\d{1,9}+),(\d{1,9}+)\)</box>", re.ASCII)


def pixel_box(
    stored: Sequence[Any], size: tuple[int, int], convention: Convention
) -> tuple[float, float, float, float]:
    """A stored box as (left, top, right, bottom) in `original` pixels. Raises ValueError where it can not be one."""
    if not isinstance(stored, Sequence) or isinstance(stored, str) or len(stored) != 4:
        raise ValueError(f"column 'bbox' must hold four numbers, not {stored!r}")
    a, b, c, d = map(float, stored)
    width, height = size
    if convention == "shares":
        # Shares of whole pixels are such pixels again: without rounding a border would not be on the border.
        box = tuple(round(share * side, 6) for share, side in zip((a, b, c, d), (width, height) * 2, strict=True))
    else:
        box = (a, b, a + c, b + d) if convention == "xywh" else (a, b, c, d)
    left, top, right, bottom = box
    if not (-1 <= left < right <= width + 1 and -1 <= top < bottom <= height + 1):
        raise ValueError(
            f"the box {list(stored)} read as {convention} is {tuple(round(side, 1) for side in box)}, which is inside "
            f"out or leaves the image of {width} x {height} pixels; is the source's box convention another one?"
        )
    return box


def _example(row: Row, id: str, seed: int, *, name: str, convention: Convention) -> Example:
    instruction, image = text_cell(row, "instruction"), encoded_image(row["image"])
    pro = name == "screenspot_pro"
    place, kind = text_cell(row, "group" if pro else "data_source"), text_cell(row, "ui_type" if pro else "data_type")
    platform = place if pro else PLATFORMS.get(place, "")
    if platform not in (GROUPS if pro else PLATFORMS.values()) or kind not in TYPES:
        raise ValueError(f"unknown place or kind of target: {place!r}, {kind!r}")
    size = image_size(image)
    if pro and [int(side) for side in _numbers(row["img_size"])] != list(size):
        raise ValueError(f"'img_size' says {row['img_size']}, but the image has {size[0]} x {size[1]} pixels")
    return Example(
        id=id,
        benchmark=name,
        kind=f"{platform}/{kind}",
        question=clean_user_text(instruction),
        options=(),
        answer="",
        images=(image,),
        group=text_cell(row, "application") if pro else None,
        box=pixel_box(_numbers(row["bbox"]), size, convention),
        size=size,
    )


def _numbers(cell: Any) -> Any:
    """A list of numbers, which a mirror may store as text."""
    return (literal(cell) or ()) if isinstance(cell, str) else cell


def read_zip(folder: Path, split: str) -> Iterator[tuple[Path, int, Row]]:
    """The rows of OS-Copilot's three JSON files, with their images in the zip file beside them."""
    archive, number = folder / "screenspotv2_image.zip", 0
    for path in _json_files(folder, "screenspot_*_v2.json"):
        for row in _rows(path):
            yield path, number, {**row, "image": ZipMember(str(archive), f"screenspotv2_image/{row['img_filename']}")}
            number += 1


def read_files(folder: Path, split: str) -> Iterator[tuple[Path, int, Row]]:
    """The rows of ScreenSpot-Pro's JSON files, one for each application, with the paths of their images.

    Where there are parquet files (a mirror), theirs.
    """
    if mirror := [folder] if folder.suffix == ".parquet" else sorted(folder.rglob("*.parquet")):
        yield from read_rows(mirror, ("id", *PRO_COLUMNS))
        return
    number = 0
    for path in _json_files(folder, "annotations/*.json"):
        for row in _rows(path):
            yield path, number, {**row, "image": str(folder / "images" / row["img_filename"])}
            number += 1


def _json_files(folder: Path, pattern: str) -> list[Path]:
    files = sorted(folder.glob(pattern))
    if not files:
        raise FileNotFoundError(f"{folder}: no file {pattern!r}; give the folder of the hub's repository")
    return files


def _rows(path: Path) -> list[Row]:
    try:
        rows = json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(f"{path}: not a whole JSON file ({error}); download it again") from error
    if not isinstance(rows, list) or not all(isinstance(row, dict) and "img_filename" in row for row in rows):
        raise ValueError(f"{path}: not a list of rows with 'img_filename'; give ScreenSpot's own file")
    names = (PurePosixPath(str(row["img_filename"])) for row in rows)
    if outside := next((name for name in names if name.is_absolute() or ".." in name.parts), None):
        raise ValueError(f"{path}: the image {str(outside)!r} lies outside of the data set; do not use this file")
    return rows


def official(reply: Reply, example: Example) -> Grade:
    """The numbers of a reply as SeeClick's script takes them, in the frame of `example.box` and `example.size`."""
    text = answer_span(reply) or ""
    if "box" in text:
        match = _BOX.search(text)
        sides = match.groups() if match else ()
        numbers = [int(side) * example.size[place % 2] / 1000 for place, side in enumerate(sides)]
    else:
        numbers = [float(number) for number in _NUMBER.findall(text)]
    if len(numbers) == 4:
        left, top, right, bottom = numbers
        numbers = [(left + right) / 2, (top + bottom) / 2]
    if len(numbers) != 2:
        return Grade(0.0, text or None, "not_a_point" if text else "no_answer")
    return _hit(numbers, example)


def released(reply: Reply, example: Example) -> Grade:
    """ViGoRL's evaluation: its way of reading an answer, then its judge `point_in_bbox`."""
    answer, why = released_answer(reply)
    if answer is None:
        return Grade(0.0, None, why)
    hit = released_hit(answer, example.box)
    return Grade(0.0, answer, "not_a_point") if hit is None else verdict(hit, answer)


def released_hit(answer: str, box: Sequence[float]) -> bool | None:
    """The released judge `point_in_bbox` on an answer's text: in the box, borders included? None if it is no point.

    A point is any Python literal that two whole numbers can be taken from: lists and sets too, and True is 1.
    """
    found = literal(answer) if "," in answer else None  # the parser is slow to refuse prose
    point = tuple(found) if isinstance(found, Iterable) else ()
    return _inside(point, box) if [isinstance(side, int) for side in point] == [True, True] else None


def clean(reply: Reply, example: Example) -> Grade:
    """The last turn's last closed `<answer>` holds one point, and that lies in the box."""
    point, grade = clean_point(reply)
    return _hit(point, example) if point else grade


def _hit(point: Sequence[float], example: Example) -> Grade:
    x, y = point
    return verdict(_inside(point, example.box), f"({x:g}, {y:g})")


def _inside(point: Sequence[float], box: Sequence[float]) -> bool:
    (x, y), (left, top, right, bottom) = point, box
    return left <= x <= right and top <= y <= bottom


def figures(grades: Sequence[Grade]) -> dict[str, Any]:
    """ScreenSpot-Pro's figures of all rows, of each of its groups (else platform) and applications; SeeClick's mean.

    A figure is the `accuracy`, that of `text` and of `icon`, and how many replies had a `wrong_format`.
    `mean_of_cells` is over platform and type of target: with all rows of ScreenSpot, over six cells.
    """
    groups: dict[str, list[Grade]] = {}
    applications: dict[str, list[Grade]] = {}
    for grade in grades:
        groups.setdefault(grade.kind.split("/")[0], []).append(grade)
        if grade.group:
            applications.setdefault(grade.group, []).append(grade)
    return {
        "all": _figure(grades),
        "groups": {name: _figure(part) for name, part in sorted(groups.items())},
        "applications": {name: _figure(part) for name, part in sorted(applications.items())},
        "mean_of_cells": mean_of_shares(list(scores_by_kind(grades).values())),
    }


def _figure(grades: Sequence[Grade]) -> dict[str, Any]:
    types = {name: [grade.score for grade in grades if grade.kind.endswith(f"/{name}")] for name in TYPES}
    return {
        "accuracy": share(grade.score for grade in grades),
        **{name: share(scores) for name, scores in types.items() if scores},
        "wrong_format": sum(grade.why not in ("right", "wrong") for grade in grades),
    }


def _nano(
    rng: random.Random, number: int, *, row: Callable[[twins.Item], Row], **asked: str
) -> tuple[Row, dict[str, Any]]:
    item = twins.screen_item(rng, **asked)
    return row(item), twins.truth(item)


def _family(name: str, convention: Convention, hub: Hub, columns: tuple[str, ...], **more: Any) -> Family:
    return Family(
        name=name,
        columns=columns,
        hub=hub,
        example=functools.partial(_example, name=name, convention=convention),
        graders={"official": official, "vigorl": released, "clean": clean},
        figures=figures,
        knobs=("windows", "line", "resolution"),
        **more,
    )


FAMILIES = (
    _family(
        "screenspot",
        "shares",
        Hub(
            {"rootsautomation/ScreenSpot": "0be08781e2e188582f6131625ae1598d443b4d5d"},
            {"test": "data/test-*.parquet"},
            {"test": (1272,)},
        ),
        ("image", "bbox", "instruction", "data_type", "data_source"),
        twin=lambda rng, number, **knobs: gui.screenspot(rng, convention="shares", **knobs),
        nano=functools.partial(_nano, kind="route", row=twins.screenspot_row),
    ),
    _family(
        "screenspot_v2",
        "xywh",
        Hub(
            {"OS-Copilot/ScreenSpot-v2": "5efbb1f1b5463a575f2eb7bc30fe29e49c15f93c"},
            {"test": "screenspot*"},
            {"test": (1272,)},
        ),
        ("image", "bbox", "instruction", "data_type", "data_source"),
        read=read_zip,
        twin=lambda rng, number, **knobs: gui.screenspot(rng, convention="xywh", **knobs),
        nano=functools.partial(_nano, kind="route", row=twins.screenspot_v2_row),
    ),
    _family(
        "screenspot_pro",
        "xyxy",
        Hub(
            {"likaixin/ScreenSpot-Pro": "210e78d3844251110bff86c95835ebd37a6930fa"}
            | dict.fromkeys(("TIGER-Lab/ScreenSpot-Pro", "lmms-lab/ScreenSpot-Pro")),
            {"test": "*/*"},
            {"test": (1581,)},
        ),
        PRO_COLUMNS,
        key=("id",),
        read=read_files,
        twin=lambda rng, number, **knobs: gui.screenspot_pro(rng, **knobs),
        # One of several icons alike is checked. To ask for any pattern would also try whether a model can tell what it
        # sees from what is asked, which the nano base can not: it read the pattern, and stayed where it had looked.
        nano=functools.partial(_nano, kind="pattern", pattern="checked", row=twins.screenspot_pro_row),
    ),
)
