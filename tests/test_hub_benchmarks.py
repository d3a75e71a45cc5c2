"""Benchmarks beside SAT and V*: rows of the hub's schema become records, and each grader's edges, one by one."""

from __future__ import annotations

import dataclasses
import io
import itertools
import json
import time
import zipfile
from collections import Counter

import hypothesis
import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from vigorl_lib import images
from vigorl_lib.benchmarks import realworldqa, registry, robospatial, screenspot, wemath
from vigorl_lib.benchmarks import registry as benchmarks
from vigorl_lib.grounding import Frame

pytestmark = pytest.mark.filterwarnings("ignore:.*is read as it is now")  # the hub, as faked here
CHOICE = ("blink", "ai2d", "pope", "gqa", "realworldqa", "wemath", "robospatial")
SCREENS = ("screenspot", "screenspot_v2", "screenspot_pro")


def picture(width=100, height=50):
    file = io.BytesIO()
    Image.new("RGB", (width, height), "white").save(file, "PNG")
    return file.getvalue()


@pytest.fixture(autouse=True)
def outputs(tmp_path, monkeypatch):
    """Commits of the hub are noted there, and not in this checkout."""
    monkeypatch.setenv("VIGORL_OUTPUTS", str(tmp_path))


IMAGE = {"bytes": picture(), "path": "a.png"}
ROWS = {
    "blink": {
        "idx": "val_Relative_Depth_1",
        "question": "Which is closer?",
        "sub_task": "Relative_Depth",
        "image_1": IMAGE,
        "image_2": None,
        "image_3": None,
        "image_4": None,
        "choices": ["the lamp", "the chair", "the door"],
        "answer": "(B)",
    },
    "ai2d": {"question": "What eats grass?", "options": ["owl", "hare", "fox", "oak"], "answer": "1", "image": IMAGE},
    "pope": {
        "question_id": "1",
        "question": "Is there a dog in the image?",
        "answer": "no",
        "image": IMAGE,
        "category": "popular",
    },
    "gqa": {
        "imageId": "n1",
        "question": "Who is there?",
        "answer": "man",
        "types": {"structural": "query"},
        "image": IMAGE,
    },
    "realworldqa": {
        "question": "Where is the car?\n\nA. Left\nB. Right\nC. Ahead\nPlease answer with the letter.",
        "answer": "B",
        "image": IMAGE,
    },
    "wemath": {
        "ID": 7,
        "key": "2steps_multi",
        "question number": 3,
        "knowledge concept": "Length",
        "question": "How long is it?",
        "option": "A. 3 cm; B. 4 cm; C. 5 cm; D. No correct answer",
        "answer": "B",
        "image_path": IMAGE,
    },
    "robospatial": {"category": "compatibility", "question": "Does the box fit?", "answer": "No", "img": IMAGE},
    "screenspot": {
        "image": IMAGE,
        "bbox": [0.1, 0.2, 0.3, 0.4],
        "instruction": "close",
        "data_type": "icon",
        "data_source": "ios",
    },
    "screenspot_v2": {
        "image": IMAGE,
        "bbox": [10, 10, 20, 10],
        "instruction": "close",
        "data_type": "icon",
        "data_source": "ios",
    },
    "screenspot_pro": {
        "id": "vscode_1",
        "image": IMAGE,
        "bbox": [10, 10, 30, 20],
        "img_size": ["100", "50"],
        "instruction": "close",
        "application": "vscode",
        "group": "Dev",
        "ui_type": "icon",
    },
}
CONTEXT = {
    "category": "context",
    "question": "Where is room?",
    "answer": "[(0.2, 0.2), (0.6, 0.2), (0.6, 0.6)]",
    "img": IMAGE,
}
EXAMPLES = {name: benchmarks.from_row(name, row) for name, row in ROWS.items()}
PLACE = benchmarks.from_row("robospatial", CONTEXT)
# Every pair that there is: of places like RoboSpatial's the released code has no judge.
GRADED = [(example, protocol) for example in EXAMPLES.values() for protocol in ("official", "vigorl", "clean")]
GRADED += [(PLACE, "official"), (PLACE, "clean")]
OPEN = benchmarks.from_row("realworldqa", ROWS["realworldqa"] | {"question": "How fast?", "answer": "35"})
GRADED += [(OPEN, protocol) for protocol in ("official", "vigorl", "clean")]


def score(name, reply, protocol, example=None, **more):
    return benchmarks.grade(name, reply, example or EXAMPLES[name], protocol, **more).score


# Rows


@pytest.mark.parametrize("name", ROWS)
def test_a_row_becomes_a_record(name):
    example = EXAMPLES[name]
    assert example.benchmark == name and example.question and example.images == (IMAGE["bytes"],)
    assert not example.options or example.answer in example.options
    for column in benchmarks.FAMILIES[name].columns:
        with pytest.raises(ValueError, match=column):
            benchmarks.from_row(name, {key: value for key, value in ROWS[name].items() if key != column})


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("blink", {"image_1": None, "image_2": IMAGE}, "image_1, image_3, image_4 are null"),
        ("blink", {"image_3": IMAGE}, "image_2, image_4 are null"),
        ("blink", {"answer": "(D)"}, "not one of"),
        ("blink", {"answer": "hidden"}, "hides its answers"),
        ("blink", {"sub_task": "Depth"}, "unknown sub_task"),
        ("blink", {"choices": ["one"]}, "two or more texts"),
        ("ai2d", {"answer": "4"}, "not the place"),
        ("ai2d", {"answer": "B"}, "not the place"),
        ("pope", {"answer": "maybe"}, "neither yes nor no"),
        ("pope", {"category": "hard"}, "unknown category"),
        ("gqa", {"types": None}, "structural"),
        ("gqa", {"answer": ""}, "'answer' must hold text"),
        ("realworldqa", {"answer": "D"}, "not the letter"),
        ("wemath", {"option": "3 cm or 4 cm"}, "no options"),
        ("wemath", {"option": "A. 3; C. 4"}, "no options"),
        ("wemath", {"answer": "E"}, "not one of the letters"),
        ("wemath", {"key": "4steps_1"}, "unknown key"),
        ("robospatial", {"answer": "perhaps"}, "neither yes nor no"),
        ("robospatial", {"category": "room"}, "unknown category"),
        ("robospatial", CONTEXT | {"answer": "[(0.1, 0.2), (0.3, 0.4)]"}, "three or more"),
        ("robospatial", CONTEXT | {"answer": "[(1, 2), (3, 4), (5, 6)]"}, "shares from 0 to 1"),
        ("robospatial", CONTEXT | {"answer": "__import__('os')"}, "not a list of points"),
        ("screenspot", {"bbox": [10, 10, 30, 20]}, "convention"),
        ("screenspot", {"bbox": [0.3, 0.2, 0.1, 0.4]}, "inside out"),
        ("screenspot", {"bbox": [0.1, 0.2]}, "four numbers"),
        ("screenspot", {"data_source": "amiga"}, "unknown place"),
        ("screenspot_v2", {"bbox": [90, 10, 20, 10]}, "leaves the image"),
        ("screenspot_pro", {"bbox": [30, 20, 10, 10]}, "inside out"),
        ("screenspot_pro", {"img_size": [50, 100]}, "'img_size' says"),
        ("screenspot_pro", {"image": b"no image"}, "not a readable image"),
        ("screenspot_pro", {"ui_type": "both"}, "unknown place or kind"),
    ],
)
def test_a_bad_row_is_named(name, change, message):
    with pytest.raises(ValueError, match=f"(?s){name}, row 12.*{message}.*leave the row out"):
        benchmarks.from_row(name, ROWS[name] | change, id="row 12")


def test_boxes_become_original_pixels_by_their_sources_convention():
    assert EXAMPLES["screenspot"].box == pytest.approx((10, 10, 30, 20))
    assert EXAMPLES["screenspot_v2"].box == EXAMPLES["screenspot_pro"].box == (10, 10, 30, 20)
    assert EXAMPLES["screenspot_pro"].size == (100, 50) and EXAMPLES["screenspot_pro"].kind == "Dev/icon"
    assert PLACE.polygon == ((20, 10), (60, 10), (60, 30))


def test_an_upright_size_is_what_counts(tmp_path):
    image, exif = Image.new("RGB", (100, 50)), Image.Exif()
    exif[0x0112] = 6  # turned by 90 degrees
    image.save(tmp_path / "turned.jpg", exif=exif)
    assert images.image_size(tmp_path / "turned.jpg") == images.open_image(tmp_path / "turned.jpg").size == (50, 100)


# Files


def write(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)


# The columns that the hub's rows have beside those that are read, and rows that go through files in another way.
MORE = {
    "blink": {"prompt": "Which is closer? Select from (A) …", "explanation": None},
    "pope": {"id": "0", "image_source": "COCO_val2014_000000310196"},
    "gqa": {
        "id": "201307251",
        "fullAnswer": "It is a man.",
        "isBalanced": True,
        "entailed": None,
        "semanticStr": "who",
    },
    "wemath": {"split": "testmini", "knowledge concept description": "How long a thing is."},
    "robospatial": {"depth_image": IMAGE | {"path": "depth.png"}, "mask": None},
    "screenspot": {"file_name": "mobile_a.png"},
    "screenspot_pro": {"img_filename": "vscode/a.png", "instruction_cn": "…", "platform": "macos"},
    "mathvision": {"id": "1", "image": "images/1.jpg", "solution": None},
}
MATHVISION = {
    "question": "What is the area? <image1>",
    "options": ["2", "4", "6", "8", "10"],
    "decoded_image": IMAGE,
    "answer": "B",
    "level": 2,
    "subject": "metric geometry - area",
}
FILES = {name: row for name, row in ROWS.items() if name != "screenspot_v2"} | {"mathvision": MATHVISION}


def hub_copy(folder, name, rows):
    """The rows, with all columns, in files of the hub's names."""
    pattern = next(iter(benchmarks.FAMILIES[name].hub.files.values()))
    path = pattern.replace("*/*", "data/test-*.parquet").replace("*/", "One/").replace("*", "00000-of-00001")
    rows = [MORE.get(name, {}) | row for row in rows]
    if name == "gqa":
        pictures = {row["imageId"]: {"id": row["imageId"], "image": row.pop("image")} for row in rows}
        write(folder / "testdev_balanced_images/testdev-00000-of-00001.parquet", list(pictures.values()))
    write(folder / path, rows)
    return folder


@pytest.mark.parametrize("name", FILES)
def test_a_row_of_the_hubs_files_is_the_same_record(name, tmp_path):
    split = next(iter(benchmarks.FAMILIES[name].hub.files))
    (found,) = benchmarks.load(name, hub_copy(tmp_path, name, [FILES[name]]), split=split)
    assert [image.read() for image in found.images] == [IMAGE["bytes"]]
    wanted = benchmarks.from_row(name, FILES[name])
    assert dataclasses.replace(found, id=wanted.id, images=wanted.images) == wanted


def test_a_free_place_of_robospatial_is_read_from_its_file(tmp_path):
    write(tmp_path / "data/context-00000-of-00001.parquet", [CONTEXT | {"depth_image": IMAGE, "mask": IMAGE}])
    (found,) = benchmarks.load("robospatial", tmp_path, split="context")
    assert (found.polygon, found.size) == (PLACE.polygon, (100, 50))


def test_gqa_joins_its_questions_and_its_images(tmp_path, monkeypatch):
    questions = [{key: value for key, value in ROWS["gqa"].items() if key != "image"} for _ in range(5)]
    write(tmp_path / "testdev_balanced_instructions/testdev-00000.parquet", questions)
    write(tmp_path / "testdev_balanced_images/testdev-00000.parquet", [{"id": "n1", "image": IMAGE}])
    found = benchmarks.load("gqa", tmp_path, split="testdev", limit=3)
    assert len(found) == 3 and all(example.images[0].read() == IMAGE["bytes"] for example in found)
    assert len({example.images for example in found}) == 1
    write(tmp_path / "testdev_balanced_images/testdev-00000.parquet", [{"id": "n2", "image": IMAGE}])
    with pytest.raises(ValueError, match="row 0: no image 'n1'"):
        benchmarks.load("gqa", tmp_path, split="testdev")
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda *_, **__: str(tmp_path))
    with pytest.raises(ValueError, match="testdev_balanced_images.*1 rows, expected 398"):
        benchmarks.load("gqa", "hub", split="testdev")


def test_blinks_tasks_are_read_from_their_folders(tmp_path):
    for task in ("Counting", "Jigsaw"):
        write(tmp_path / task / "val-00000.parquet", [ROWS["blink"] | {"sub_task": task, "idx": task}])
    assert [example.kind for example in benchmarks.load("blink", tmp_path, split="val")] == ["Counting", "Jigsaw"]


def test_screenspot_v2_is_read_from_its_zip_file(tmp_path):
    row = {"img_filename": "a.png"} | {k: v for k, v in ROWS["screenspot_v2"].items() if k != "image"}
    for kind in ("desktop", "web"):
        (tmp_path / f"screenspot_{kind}_v2.json").write_text(json.dumps([row]))
    with zipfile.ZipFile(tmp_path / "screenspotv2_image.zip", "w") as archive:
        archive.writestr("screenspotv2_image/a.png", picture())
    found = benchmarks.load("screenspot_v2", tmp_path, split="test")
    assert len(found) == 2 and images.open_image(found[0].images[0]).size == (100, 50)
    (tmp_path / "screenspot_web_v2.json").write_text(json.dumps([row | {"img_filename": "b.png"}]))
    with pytest.raises(FileNotFoundError, match="row 1: .*b.png'.*not in the archive"):
        benchmarks.load("screenspot_v2", tmp_path, split="test")
    left_out = []
    assert len(benchmarks.load("screenspot_v2", tmp_path, split="test", left_out=left_out)) == len(left_out) == 1
    (tmp_path / "screenspotv2_image.zip").write_bytes(b"PK torn")
    with pytest.raises(ValueError, match="not a whole zip file"):
        benchmarks.load("screenspot_v2", tmp_path, split="test")


def test_screenspot_pro_is_read_from_its_folders(tmp_path):
    row = {"img_filename": "vscode/a.png"} | {k: v for k, v in ROWS["screenspot_pro"].items() if k != "image"}
    for folder in ("annotations", "images/vscode"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "images/vscode/a.png").write_bytes(picture())
    path = tmp_path / "annotations/vscode.json"
    path.write_text(json.dumps([row, row | {"id": "vscode_2"}]))
    found = benchmarks.load("screenspot_pro", tmp_path, split="test", limit=1)
    assert len(found) == 1 and images.open_image(found[0].images[0]).size == (100, 50)
    for name, message in [("../../secret.png", "lies outside"), ("/etc/passwd", "lies outside")]:
        path.write_text(json.dumps([row | {"img_filename": name}]))
        with pytest.raises(ValueError, match=message):
            benchmarks.load("screenspot_pro", tmp_path, split="test")
    path.write_text("[")
    with pytest.raises(ValueError, match="not a whole JSON file"):
        benchmarks.load("screenspot_pro", tmp_path, split="test")
    path.unlink()
    with pytest.raises(FileNotFoundError, match="annotations"):
        benchmarks.load("screenspot_pro", tmp_path, split="test")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("blink", "the idx 'val_Relative_Depth_1' is also that of row 0"),
        ("pope", "the category and question_id 'popular' and '1' is also that of row 0"),
        ("wemath", "the ID and key 7 and '2steps_multi' is also that of row 0"),
        ("screenspot_pro", "the id 'vscode_1' is also that of row 0"),
    ],
)
def test_a_row_that_is_there_twice_is_named_or_left_out(name, message, tmp_path):
    path, split = tmp_path / "x.parquet", next(iter(benchmarks.FAMILIES[name].hub.files))
    write(path, [ROWS[name], ROWS[name]])
    with pytest.raises(ValueError, match=f"x.parquet, row 1: {message}"):
        benchmarks.load(name, path, split=split)
    left_out = []
    assert len(benchmarks.load(name, path, split=split, left_out=left_out)) == len(left_out) == 1


@pytest.mark.parametrize("name", FILES)
def test_images_that_are_missing_or_torn_are_left_out_when_asked_for(name, tmp_path):
    family, whole = benchmarks.FAMILIES[name], picture()
    (tmp_path / "torn.png").write_bytes(whole[: len(whole) // 2])
    unlike = {*family.key, *(family.hub.images or ())[1:2]} - {"category", "key"}
    rows = [FILES[name] | dict.fromkeys(unlike, str(number)) for number in range(3)]
    (column,) = [key for key, value in FILES[name].items() if value == IMAGE]
    for row, file in zip(rows, ("gone.png", "torn.png"), strict=False):
        row[column] = {"bytes": None, "path": str(tmp_path / file)}
    folder, split = hub_copy(tmp_path / "hub", name, rows), next(iter(family.hub.files))
    left_out = []
    assert len(benchmarks.load(name, folder, split=split, left_out=left_out)) == 1
    assert len(left_out) == 2 and "row 0: " in left_out[0] and "gone.png" in left_out[0] and "row 1: " in left_out[1]


@pytest.mark.parametrize("stored", [list, str])
def test_screenspot_pro_is_read_from_a_mirror_in_parquet(tmp_path, stored):
    row = ROWS["screenspot_pro"] | {"bbox": stored([10, 10, 30, 20]), "img_size": stored([100, 50])}
    write(tmp_path / "data/test-00000.parquet", [row])
    for source in (tmp_path, tmp_path / "data/test-00000.parquet"):
        (example,) = benchmarks.load("screenspot_pro", source)
        assert example.box == (10, 10, 30, 20) and example.size == (100, 50)
    write(tmp_path / "data/test-00000.parquet", [row | {"bbox": stored([10, 10, 30])}])
    with pytest.raises(ValueError, match="row 0: .*four numbers"):
        benchmarks.load("screenspot_pro", tmp_path)


def test_a_hub_copy_of_another_length_is_refused(tmp_path, monkeypatch):
    write(tmp_path / "data/test-00000.parquet", [ROWS["ai2d"]])
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda *_, **__: str(tmp_path))
    with pytest.raises(ValueError, match="1 rows, expected 3088"):
        benchmarks.load("ai2d", "hub", split="test")


# Graders by letter and word. The right answer: blink B "the chair", ai2d B "hare", wemath B "4 cm", realworldqa B
# "Right", pope and robospatial "no", gqa "man".

OFFICIAL = [
    *[("blink", reply, 1) for reply in ("B", "(B)", "The answer is (B) .", "(A) no.\n\nSo (B)", "(B) (B)", "(B) B")],
    *[
        ("blink", reply, 0)
        for reply in ("A", "(A)", "(B).", "B.", "b", "(b)", "(A) or (B)", "the chair", "", "F", "(Z)")
    ],
    *[("ai2d", reply, 1) for reply in ("B", "b", "(B)", "B.", "B. hare", "B. owl", " B. x", "<answer> (b) </answer>")],
    *[
        ("ai2d", reply, 0)
        for reply in ("B) hare", "The answer is B", "hare", " B", "A", "", "BB", "b. hare", "A. hare")
    ],
    *[
        ("pope", reply, 1)
        for reply in ("No", "no", "No, it is", "There is not one", "not.", "no way", ",no", "a no b.")
    ],
    *[("pope", reply, 0) for reply in ("NO", "None", "isn't", "", "No\nYes", "yes. no", "yes", "maybe", "no!", "Nope")],
    *[
        ("gqa", reply, 1)
        for reply in ("man", "Man", "man.", "MAN...", "<answer>man</answer>", "<answer> Man. </answer>")
    ],
    *[("gqa", reply, 0) for reply in ("a man", "man!", " man", "man .", "", "woman", "men", "the man.", "man, boy")],
    *[("realworldqa", reply, 1) for reply in ("B", "B.", "(B)", "B) Right", "It is B", "answer is B", "so (B)")],
    *[
        ("realworldqa", reply, 0)
        for reply in ("A car, so B", "b", "Right", "", "C", "A or B", "right", "D", "answer is B, not A")
    ],
    *[("wemath", reply, 1) for reply in ("B", "B.", "<B>", "Answer: B", "Answer B", "Answer: A Answer: B", "Because")],
    *[("wemath", reply, 0) for reply in ("(B)", "**B**", "The answer is B", "b", "", "A", "4 cm", "Area", "answer: B")],
    *[
        ("robospatial", reply, 1)
        for reply in ("no", "No.", "nope", "not sure", " NO ", "nothing fits", "<answer>No</answer>")
    ],
    *[("robospatial", reply, 0) for reply in ("yes", "Answer: no", "", "(no)", "It does not", "y", "yes, no", "0")],
]


@pytest.mark.parametrize(("name", "reply", "wanted"), OFFICIAL)
def test_official(name, reply, wanted):
    assert score(name, reply, "official") == wanted


def test_what_blink_would_have_asked_a_judge_is_said():
    assert benchmarks.grade("blink", "the chair", EXAMPLES["blink"], "official").why == "needs_a_judge"


CLEAN = [
    *[("blink", answer, 1) for answer in ("the chair", "B", "(B)", "B. the chair", "The chair.", "**B**")],
    *[("blink", answer, 0) for answer in ("the lamp", "A", "the chair or the lamp", "", "chair")],
    *[("ai2d", answer, 1) for answer in ("B", "b", "(B)", "B.", "hare", "B. hare", "B) hare")],
    *[("ai2d", answer, 0) for answer in ("A", "owl", "hares", "", "The answer is B", "B or C", "E")],
    *[("pope", answer, 1) for answer in ("no", "No.", "NO", "**no**")],
    *[("pope", answer, 0) for answer in ("yes", "none", "not", "", "no or yes", "know")],
    *[("gqa", answer, 1) for answer in ("man", "Man", "a man", "the man.", " man ", "man!")],
    *[("gqa", answer, 0) for answer in ("men", "woman", "", "man and boy", "an")],
    *[("realworldqa", answer, 1) for answer in ("B", "b", "Right", "B. Right")],
    *[("realworldqa", answer, 0) for answer in ("A", "A car, so B", "", "D")],
    *[("wemath", answer, 1) for answer in ("B", "(B)", "4 cm", "B. 4 cm", "**B**")],
    *[("wemath", answer, 0) for answer in ("A", "4", "", "Area", "5 cm")],
    *[("robospatial", answer, 1) for answer in ("no", "No.", "NO")],
    *[("robospatial", answer, 0) for answer in ("yes", "nope", "not sure", "cannot", "")],
]


@pytest.mark.parametrize(("name", "answer", "wanted"), CLEAN)
def test_clean(name, answer, wanted):
    assert score(name, f"<think>B no man (1, 2)</think><answer>{answer}</answer>", "clean") == wanted
    assert score(name, answer, "clean") == 0, "without tags there is no answer"


def test_a_letter_that_is_also_a_text_means_the_place_where_letters_were_asked_for():
    example = benchmarks.from_row("ai2d", ROWS["ai2d"] | {"options": ["C", "A", "B", "D"], "answer": "1"})
    assert score("ai2d", "<answer>B</answer>", "clean", example) == score("ai2d", "B", "official", example) == 1
    assert score("ai2d", "<answer>A</answer>", "clean", example) == 0


@pytest.mark.parametrize("answer", ["cannot", "nothing", "know", "not sure", "no"])
def test_the_released_judge_finds_no_in_many_words(answer):
    assert score("robospatial", f"<think>.</think><answer>{answer}</answer>", "vigorl") == 1


def test_the_released_judge_knows_no_places():
    with pytest.raises(ValueError, match="no judge for polygons"):
        score("robospatial", CONTEXT["answer"], "vigorl", PLACE)


@pytest.mark.parametrize(("gold", "reply", "wanted"), [("35", "35.", 1), ("Two", "two", 1), ("35", "35 mph", 0)])
def test_an_open_answer_of_realworldqa(gold, reply, wanted):
    row = ROWS["realworldqa"] | {"question": "How fast? Answer with a number.", "answer": gold}
    example = benchmarks.from_row("realworldqa", row)
    assert example.kind == "open" and not example.options
    assert score("realworldqa", reply, "official", example) == wanted
    assert score("realworldqa", f"<answer>{reply}</answer>", "clean", example) == wanted


def test_letters_are_found_in_lmms_evals_order():
    found = {"B": "B", "x (C) A": "A", "(C) x": "C", "ABC D.": "D", "aD": "D", "none": None, "The answer is C ok": "C"}
    assert {text: realworldqa.extract_letter(text) for text in found} == found


# Graders of places. All boxes are (10, 10, 30, 20) in an image of 100 x 50; the polygon is a triangle.

POINTS = [
    *[("official", reply, 1) for reply in ("(10, 10)", "30, 20", "x 15.5 y 12", "[10, 10, 30, 20]", "(0, 0, 40, 30)")],
    *[
        ("official", reply, 0)
        for reply in ("(9, 10)", "(31, 20)", "15", "1, 15, 12", "", "no", "(-15, 12)", "(15, 12) 1")
    ],
    # In thousandths of the sides, and only in Qwen-VL's form, where "box" occurs.
    *[("official", reply, 1) for reply in ("<box>(150,240),(150,240)</box>", "a <box>(0,0),(400,600)</box> b")],
    *[
        ("official", reply, 0)
        for reply in ("<box>(15,12),(15,12)</box>", "the text box (15, 12)", "<box>(150, 240), (150, 240)</box>")
    ],
    *[("vigorl", reply, 1) for reply in ("(15, 12)", "15, 12", "[15,12]", "(15, 12,)", "( 30 , 20 )", "(+15, 12)")],
    *[("vigorl", reply, 1) for reply in ("((15, 12))", "((15), 12)", "{15, 12}", "([1_5, 0xC])", "(15, 12) # there")],
    *[
        ("vigorl", reply, 0)
        for reply in ("(15.0, 12)", "click (15, 12)", "(15, 12]", "(15 12)", "(015, 12)", "", "(15,)")
    ],
    *[("vigorl", reply, 0) for reply in ("(15, 12, 1)", "[[15, 12]]", "15", "x=15, y=12", "(9, 12)")],
    *[("clean", reply, 1) for reply in ("(15, 12)", "click (15, 12)", "(15, 12) (15, 12)", "at ( 10 , 20 ).")],
    *[("clean", reply, 0) for reply in ("15, 12", "[15, 12]", "(15, 12) or (1, 2)", "", "(15.5, 12)", "(9, 12)")],
]


@pytest.mark.parametrize("name", SCREENS)
@pytest.mark.parametrize(("protocol", "reply", "wanted"), POINTS)
def test_points(name, protocol, reply, wanted):
    assert score(name, f"<think>It is there.</think><answer>{reply}</answer>", protocol) == wanted


def test_the_released_judge_of_points_takes_whole_numbers_and_nothing_else():
    found = {"(True, 12)": True, "(True, 25)": False, "(15.0, 12)": None, "'15'": None, "15": None, "(1, 2": None}
    assert {answer: screenspot.released_hit(answer, (0, 0, 30, 20)) for answer in found} == found


def test_a_point_is_read_in_the_frame_it_was_written_in():
    original = Frame.original(100, 50)
    for frame, inside, outside in [
        (Frame.resized(original, 50, 25), "(6, 6)", "(20, 12)"),
        (Frame.relative(original), "(200, 300)", "(20, 15)"),
        (original, "(20, 15)", "(6, 6)"),
    ]:
        for name, protocol in itertools.product(SCREENS, ("official", "vigorl", "clean")):
            assert score(name, f"<think>.</think><answer>{inside}</answer>", protocol, frame=frame) == 1
            assert score(name, f"<think>.</think><answer>{outside}</answer>", protocol, frame=frame) == 0
        assert score("blink", "(B)", "official", frame=frame) == 1, "frames change nothing where no place is asked for"
    with pytest.raises(ValueError, match="does not show its whole picture"):
        score("screenspot", "(1, 2)", "clean", frame=Frame.original(10, 10))


PLACES = [
    ("(0.5, 0.3)", 1),
    ("[0.5, 0.3]", 1),
    ("at (0.5, 0.3), or (0.9, 0.9)", 1),  # the first one counts
    ("[0.9, 0.9] (0.5, 0.3)", 1),  # round brackets go first
    ("(0.6, 0.3)", 0),  # the right edge is outside
    ("(0.2, 0.2)", 1),  # the lower end of an edge is inside
    ("(0.3, 0.5)", 0),
    ("(0.5 0.3)", 0),
    ("0.5, 0.3", 0),
    ("(-0.5, 0.3)", 0),
    ("", 0),
    ("(50, 30)", 0),  # pixels are no shares
    ("[.5, .3]", 1),  # a literal list
    ("it is [ .5, 3e-1, ].", 1),
    ("[(.5, .3), (.9, .9)]", 1),  # its first point
    ("[(.9, .9), (.5, .3)]", 0),
    ("[[.5, .3]]", 0),  # a list ends at its first bracket
    ("[-.5, .3]", 0),
    ("[.5, .3", 0),
    ("['.5', '.3']", 0),
    ("[.5 + 0, .3]", 0),
    ("[]", 0),
    ("(.5, .3)", 0),
]


@pytest.mark.parametrize(("reply", "wanted"), PLACES)
def test_a_free_place_of_robospatial(reply, wanted):
    assert score("robospatial", reply, "official", PLACE) == wanted


def test_every_official_grader_has_its_edges():
    edges = Counter(name for name, _, _ in OFFICIAL)
    edges |= {"screens": sum(protocol == "official" for protocol, _, _ in POINTS), "places": len(PLACES)}
    assert set(edges) == {*CHOICE, "screens", "places"} and min(edges.values()) >= 15


def test_a_free_place_in_pixels():
    assert score("robospatial", "<answer>(50, 15)</answer>", "clean", PLACE) == 1
    assert score("robospatial", "<answer>(50, 29)</answer>", "clean", PLACE) == 0
    half = Frame.resized(Frame.original(100, 50), 50, 25)
    assert score("robospatial", "<answer>(25, 7)</answer>", "clean", PLACE, frame=half) == 1


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=3, max_size=3), st.floats(0, 1), st.floats(0, 1))
def test_a_triangle_contains_what_its_half_planes_say(corners, x, y):
    sides = [
        (bx - ax) * (y - ay) - (by - ay) * (x - ax)
        for (ax, ay), (bx, by) in zip(corners, (*corners[1:], corners[0]), strict=True)
    ]
    if min(map(abs, sides)) > 1e-6:  # not on an edge
        assert robospatial.inside(corners, x, y) == (len({side > 0 for side in sides}) == 1)


# Any text


PIECES = ["<answer>", "</answer>", "B", "(B)", "no", "Answer", " ", "\n", ".", "(15, 12)", "[0.5, 0.3]", "9" * 400]
hostile = st.lists(st.sampled_from(PIECES) | st.text(max_size=5), max_size=12).map("".join)


@given(hostile)
def test_any_text_gets_a_grade(reply):
    for example, protocol in GRADED:
        found = benchmarks.grade(example.benchmark, reply, example, protocol)
        assert found.score in (0.0, 1.0) and (found.why == "right") == (found.score == 1)
        assert found == benchmarks.grade(example.benchmark, reply, example, protocol)


@settings(max_examples=20)
@given(hostile.filter(bool))
@hypothesis.example("(")
@hypothesis.example("[9, ")
@hypothesis.example("(9,")
@hypothesis.example("<answer>")
@hypothesis.example(" ")
def test_a_long_reply_is_graded_at_once(piece):
    text, start = piece * (100_000 // len(piece)), time.process_time()
    for sample, protocol in GRADED:
        for reply in (text, f"<answer>{text}</answer>"):
            assert benchmarks.grade(sample.benchmark, reply, sample, protocol).score in (0.0, 1.0)
    assert time.process_time() - start < 10  # quadratic time would be minutes


# Figures


def graded(name, scores, kinds, **fields):
    found = []
    for number, (right, kind) in enumerate(zip(scores, kinds, strict=True)):
        extra = {key: values[number] for key, values in fields.items()}
        why = "right" if right else "wrong"
        found.append(registry.Grade(float(right), "", why, id=str(number), kind=kind, protocol="clean", **extra))
    return benchmarks.aggregate(name, found)


def test_blinks_total_is_the_mean_over_its_tasks():
    figures = graded("blink", [1, 0, 0, 0, 1], ["Counting"] * 4 + ["Relative_Depth"])
    assert figures["accuracy"]["value"] == 0.4 and figures["macro"]["value"] == pytest.approx((0.25 + 1) / 2)
    assert figures["spatial"] == figures["kinds"]["Relative_Depth"]


def test_popes_five_figures():
    golds = ["yes"] * 4 + ["no"] * 4
    figures = graded("pope", [1, 1, 1, 0, 1, 1, 0, 0], ["popular"] * 8, gold=golds)["categories"]["popular"]
    found = {name: figure["value"] for name, figure in figures.items()}
    assert found == pytest.approx(
        {"accuracy": 5 / 8, "precision": 3 / 5, "recall": 3 / 4, "f1": 6 / 9, "yes_ratio": 5 / 8}
    )
    assert all(figure["low"] < figure["value"] < figure["high"] for figure in figures.values())
    nothing = graded("pope", [1, 1], ["random"] * 2, gold=["no", "no"])
    assert nothing["categories"]["random"]["precision"]["value"] is None  # the official script divides by zero
    assert nothing["mean_of_categories"]["recall"] is None


def test_pope_counts_what_says_neither_yes_nor_no():
    replies = ["Yes", "no", "None", "", "maybe", "<answer>no</answer>", None]
    for protocol, unparsed in (("official", 3), ("clean", 5)):  # clean reads nothing without tags
        examples = [dataclasses.replace(EXAMPLES["pope"], id=str(number)) for number in range(len(replies))]
        pairs = zip(replies, examples, strict=True)
        found = [benchmarks.grade("pope", reply, example, protocol) for reply, example in pairs]
        assert benchmarks.aggregate("pope", found)["unparsed"] == unparsed
    assert found[2].score == 0 and found[5].score == 1


def problem(steps, right, multi):
    """Rows of one We-Math problem: `right` of its steps are right, and perhaps the problem."""
    keys = [f"{steps}steps_{number + 1}" for number in range(steps)] + [f"{steps}steps_multi"]
    return keys, [*(number < right for number in range(steps)), multi]


def test_we_maths_four_dimensions():
    ends = [(2, 2, True), (3, 3, False), (2, 1, True), (3, 0, True), (2, 0, False), (3, 2, False)]
    kinds, scores, groups = [], [], []
    for number, end in enumerate(ends):
        keys, right = problem(*end)
        kinds, scores, groups = kinds + keys, scores + right, groups + [str(number)] * len(keys)
    figures = graded("wemath", scores, kinds, group=groups)
    found = {name: figures[name]["value"] for name in wemath.dimensions(np.ones(6))}
    assert found == pytest.approx(
        {
            "ig": 1 / 6,
            "ik": 2 / 6,
            "cm_strict": 1 / 6,
            "rm_strict": 2 / 3,
            "score_strict": 1.5 / 6,
            "cm_loose": 2 / 6,
            "rm_loose": 1 / 3,
            "score_loose": 2.5 / 6,
        }
    )
    assert (figures["problems"], figures["incomplete"]) == (6, 0)
    assert figures["s2"]["value"] == pytest.approx(2 / 3) and figures["s3"]["n"] == 3
    short = graded("wemath", scores[:-1], kinds[:-1], group=groups[:-1])
    assert (short["problems"], short["incomplete"]) == (5, 1)
    with pytest.raises(ValueError, match="problem 0 has two rows '2steps_1'"):
        graded("wemath", [*scores, True], [*kinds, "2steps_1"], group=[*groups, "0"])


def test_we_maths_concepts_are_those_of_its_steps():
    keys = ["2steps_1", "2steps_2", "2steps_multi"] * 2
    group = ["1/Area", "1/Price", "1/Area; Price", "2/Area", "2/Area", "2/Area"]
    figures = graded("wemath", [1, 0, 1, 0, 1, 1], keys, group=group)
    assert {name: (found["value"], found["n"]) for name, found in figures["concepts"].items()} == {
        "Area": (pytest.approx(2 / 3), 3),
        "Price": (0, 1),
    }
    assert figures["problems"] == 2 and EXAMPLES["wemath"].group == "7/Length"


@given(st.lists(st.integers(0, 200), min_size=6, max_size=6).filter(sum))
def test_we_maths_dimensions_follow_the_official_formulae(counts):
    found, n = wemath.dimensions(np.array(counts)), sum(counts)
    mastered = {"strict": counts[0], "loose": counts[0] + counts[1]}
    ig, ik, right = counts[3], counts[4] + counts[5], sum(counts[:3])
    for setting, cm in mastered.items():
        assert found[f"score_{setting}"] == pytest.approx((n - 0.5 * ig - ik - (right - cm)) / n)
        assert found["ig"] + found["ik"] + found[f"cm_{setting}"] + (right - cm) / n == pytest.approx(1)


def test_screens_have_six_cells_and_a_mean_over_them():
    kinds = ["mobile/text"] * 3 + ["web/icon"]
    figures = graded("screenspot", [1, 1, 0, 0], kinds)
    assert figures["accuracy"]["value"] == 0.5 and figures["mean_of_cells"]["value"] == pytest.approx(1 / 3)
    assert figures["all"]["icon"]["n"] == 1 and figures["groups"]["mobile"]["accuracy"]["value"] == pytest.approx(2 / 3)
    assert set(figures["groups"]["mobile"]) == {"accuracy", "text", "wrong_format"} and figures["applications"] == {}


def test_screenspot_pro_reports_groups_applications_and_wrong_formats():
    rows = [("Dev", "icon", "vscode"), ("Dev", "text", "pycharm"), ("Office", "icon", "excel")]
    grades, replies = [], ("(15, 12)", "up", "(1, 1)")
    for number, ((group, ui_type, application), said) in enumerate(zip(rows, replies, strict=True)):
        row = ROWS["screenspot_pro"] | {"group": group, "ui_type": ui_type, "application": application}
        example = benchmarks.from_row("screenspot_pro", row, id=str(number))
        grades.append(benchmarks.grade("screenspot_pro", said, example, "official"))
    figures = benchmarks.aggregate("screenspot_pro", grades)
    assert figures["all"]["wrong_format"] == figures["groups"]["Dev"]["wrong_format"] == 1
    assert figures["groups"]["Office"]["wrong_format"] == 0 == figures["applications"]["excel"]["accuracy"]["value"]
    assert figures["groups"]["Dev"]["icon"]["value"] == figures["applications"]["vscode"]["icon"]["value"] == 1
    assert figures["groups"]["Dev"]["accuracy"]["value"] == 0.5 and figures["applications"]["pycharm"]["text"]["n"] == 1


def test_robospatial_reports_every_way_of_averaging():
    kinds = ["configuration"] * 3 + ["compatibility"] + ["context"] * 2
    figures = graded("robospatial", [1, 1, 0, 0, 1, 0], kinds)
    assert figures["pooled"]["value"] == 0.5 and figures["pooled"]["n"] == 4
    assert figures["vqa"]["value"] == pytest.approx(1 / 3) and figures["macro"]["value"] == pytest.approx(7 / 18)
