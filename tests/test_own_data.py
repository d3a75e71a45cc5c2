"""Anyone's own questions: one schema, in JSON lines, parquet or a folder, with images of all kinds."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from PIL import Image

from vigorl_lib import images
from vigorl_lib.benchmarks import registry as benchmarks

OWN = Path(__file__).parent / "own"
ROWS = [
    {"id": "choice", "image": "a.png", "question": "What is it?", "options": ["cat", "dog"], "answer": "dog"},
    {"id": "free", "images": ["a.png", "a.png"], "question": "What is it?", "answer": "a dog", "kind": "pets"},
    {"id": "box", "image": "a.png", "question": "Where is it?", "box": [10, 10, 30, 20]},
    {"id": "polygon", "image": "a.png", "question": "Where is room?", "polygon": [[0, 0], [40, 0], [0, 40]]},
    {"id": "action", "file_name": "a.png", "question": "OBJECTIVE: go on", "action": "click [12]"},
]


@pytest.fixture
def folder(tmp_path):
    Image.new("RGB", (100, 50)).save(tmp_path / "a.png")
    return tmp_path


def write(folder, rows, name="questions.jsonl"):
    path = folder / name
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_every_sort_of_answer_is_loaded_and_graded(folder):
    found = {example.id: example for example in benchmarks.load(write(folder, ROWS))}
    assert list(found) == [row["id"] for row in ROWS]
    assert [example.kind for example in found.values()] == ["answer", "pets", "box", "polygon", "action"]
    assert found["box"].box == (10, 10, 30, 20) and found["box"].size == (100, 50)
    assert all(images.open_image(example.images[0]).size == (100, 50) for example in found.values())
    for id, right, wrong in [
        ("choice", "dog", "cat"),
        ("free", "Dog.", "cat"),
        ("box", "(15, 15)", "(5, 5)"),
        ("polygon", "(5, 5)", "(39, 39)"),
        ("action", "click [12]", "click [1]"),
    ]:
        for said, score in ((right, 1), (wrong, 0)):
            assert benchmarks.grade("own", f"<think>.</think><answer>{said}</answer>", found[id]).score == score
    for id, said in [("choice", "dogs"), ("free", "a dog"), ("box", "15, 15"), ("action", "click 1")]:
        assert benchmarks.grade("own", f"<think>.</think><answer>{said}</answer>", found[id], "vigorl").score == 1
    with pytest.raises(ValueError, match="no judge for polygons"):
        benchmarks.grade("own", "(1, 2)", found["polygon"], "vigorl")


@pytest.mark.parametrize("piece", ["(", "[9, ", "a ", "click [", "<answer>", "type [1] [", " "])
def test_a_long_reply_is_graded_at_once(piece, folder):
    text, start = piece * (100_000 // len(piece)), time.process_time()
    for example in benchmarks.load(write(folder, ROWS)):
        for protocol in ("clean",) if example.polygon else ("vigorl", "clean"):
            for reply in (text, f"<answer>{text}</answer>"):
                assert benchmarks.grade("own", reply, example, protocol).score in (0.0, 1.0)
    assert time.process_time() - start < 5  # quadratic time would be minutes


def test_the_ways_to_store_rows_agree(folder):
    rows = [{**row, "image": "a.png"} for row in ROWS[:1]]
    lines = benchmarks.load(str(write(folder, rows)))
    write(folder, rows, "metadata.jsonl")
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), folder / "q.parquet")
    assert lines == benchmarks.load(folder) == benchmarks.load(folder / "q.parquet")
    encoded = [{**row, "image": {"bytes": (folder / "a.png").read_bytes(), "path": None}} for row in rows]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(encoded), folder / "q.parquet")
    assert images.open_image(benchmarks.load(folder / "q.parquet")[0].images[0]).size == (100, 50)


def test_a_limit_draws_a_sample(folder):
    path = write(folder, [{**ROWS[0], "id": str(number)} for number in range(30)])
    few, more = ({example.id for example in benchmarks.load(path, limit=limit)} for limit in (5, 9))
    assert len(few) == 5 and few < more


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"answer": None}, "exactly one of answer, box, polygon, action, not none"),
        ({"box": [1, 2, 3, 4]}, "not answer and box"),
        ({"answer": "bird"}, "not one of the options"),
        ({"image": None}, "one of the columns images"),
        ({"image": None, "images": ["a.png"] * 3}, "one or two images"),
        ({"question": ""}, "'question' must hold text"),
        ({"id": None}, "'id' must hold text"),
        ({"options": ["dog"]}, "two or more texts"),
        ({"kind": "action"}, "does not go with"),
        ({"answer": None, "options": None, "action": "buy"}, "not one such as"),
        ({"answer": None, "options": None, "box": [10, 10, 20, 5]}, "inside out"),
        ({"answer": None, "options": None, "box": [10, 10, 200, 50]}, "leaves the image"),
        ({"answer": None, "options": None, "polygon": [[0, 0], [1, 1]]}, "three or more corners"),
        ({"answer": None, "options": None, "polygon": "no"}, "must hold points"),
        ({"answer": None, "options": None, "box": [0, 0, 5, 5], "image": "none.png"}, "no such image"),
    ],
)
def test_a_bad_row_is_named(folder, change, message):
    path = write(folder, [ROWS[0], ROWS[0] | {"id": "second"} | change])
    with pytest.raises((ValueError, FileNotFoundError), match=rf"(?s)questions.jsonl, row 1: .*{message}"):
        benchmarks.load(path)


def test_a_bad_file_is_named(folder):
    with pytest.raises(ValueError, match="row 1: the id 'choice' is also that of row 0"):
        benchmarks.load(write(folder, [ROWS[0], ROWS[0]]))
    for text, message in [("{", "row 0: not a JSON line"), ("[1]", "row 0: not a JSON object")]:
        (folder / "bad.jsonl").write_text(text)
        with pytest.raises(ValueError, match=message):
            benchmarks.load(folder / "bad.jsonl")
    with pytest.raises(FileNotFoundError, match="metadata.jsonl"):
        benchmarks.load(folder)
    (folder / "q.csv").write_text("id")
    with pytest.raises(ValueError, match=r"not a \.jsonl or \.parquet file"):
        benchmarks.load(folder / "q.csv")
    with pytest.raises(ValueError, match="or the path of a file of your own"):
        benchmarks.load("no/such/file.jsonl")


def test_images_of_all_kinds(folder):
    """A photograph on its side (EXIF), larger, with a palette, in 16 bit grey: boxes are upright pixels."""
    asked = {example.id: example for example in benchmarks.load(OWN / "questions.jsonl")}
    upright = Image.fromarray(np.rot90(np.asarray(Image.open(OWN / "photo.jpg")), -1))  # as its tag says
    ribbons = [160, 242, 228, 266]
    assert asked["photo-3"].box == tuple(ribbons) and asked["photo-3"].size == upright.size == (256, 300)
    exif = Image.Exif()
    exif[0x0112] = 6
    large = upright.resize((2560, 3000)).transpose(Image.Transpose.ROTATE_90)
    large.save(folder / "large.jpg", exif=exif)
    upright.quantize(64).save(folder / "palette.png")
    grey = upright.convert("L")
    Image.fromarray(np.asarray(grey, np.uint16) * 257).save(folder / "deep.png")
    (folder / "turned.jpg").write_bytes((OWN / "photo.jpg").read_bytes())
    scales = {"turned.jpg": 1, "large.jpg": 10, "palette.png": 1, "deep.png": 1}
    rows = [
        {"id": name, "image": name, "question": "Where are the ribbons?", "box": [scale * side for side in ribbons]}
        for name, scale in scales.items()
    ]
    wanted = np.asarray(grey.crop(ribbons), float)
    elsewhere = np.asarray(grey.crop([160, 216, 228, 240]), float)
    for example in benchmarks.load(write(folder, rows)):
        found = images.open_image(example.images[0])
        assert found.size == example.size == (256 * scales[example.id], 300 * scales[example.id])
        seen = np.asarray(found.convert("L").crop(example.box).resize((68, 24)), float)
        assert abs(seen - wanted).mean() < 10 < abs(elsewhere - wanted).mean()


def test_rows_go_to_the_split_that_they_name_or_that_their_id_decides(folder):
    named = [{**ROWS[0], "id": f"{split}-{k}", "split": split} for split in ("train", "dev", "test") for k in range(3)]
    path = write(folder, named)
    for split in ("train", "dev", "test"):
        found = benchmarks.load("own", path, split=split)
        assert [example.id for example in found] == [f"{split}-{k}" for k in range(3)]
        assert len(benchmarks.load("own", path, split=split, limit=2)) == 2
    many = write(folder, [{**ROWS[0], "id": str(k)} for k in range(400)], "many.jsonl")
    parts = {split: {e.id for e in benchmarks.load("own", many, split=split)} for split in ("train", "dev", "test")}
    assert sum(map(len, parts.values())) == len(set().union(*parts.values())) == len(benchmarks.load(many)) == 400
    assert 35 < len(parts["dev"]) < 85 and 35 < len(parts["test"]) < 85
    write(folder, [{**ROWS[0], "id": str(k)} for k in range(100)], "many.jsonl")  # the others do not move
    assert {e.id for e in benchmarks.load("own", many, split="dev")} <= parts["dev"]
    with pytest.raises(ValueError, match="row 0: unknown split 'val'"):
        benchmarks.load(write(folder, [{**ROWS[0], "split": "val"}]))
    with pytest.raises(ValueError, match="own questions have the splits train, dev, test"):
        benchmarks.load("own", path, split="val")


def test_bad_rows_are_left_out_and_counted_when_asked_for(folder):
    path = write(folder, [ROWS[0], {**ROWS[1], "answer": ""}, ROWS[2], {**ROWS[3], "polygon": [[0, 0]]}])
    left_out = []
    assert [example.id for example in benchmarks.load(path, left_out=left_out)] == ["choice", "box"]
    assert len(left_out) == 2 and "row 1" in left_out[0] and "row 3" in left_out[1]
    with pytest.raises(ValueError, match="row 1"):
        benchmarks.load(path)


def test_images_that_are_missing_or_torn_and_repeated_ids_are_left_out_when_asked_for(folder):
    whole = (folder / "a.png").read_bytes()
    (folder / "torn.png").write_bytes(whole[: len(whole) // 2])
    rows = [{**ROWS[k], "image": name} for k, name in ((0, "a.png"), (0, "a.png"), (2, "gone.png"), (4, "gone.png"))]
    rows += [{"id": "torn", "image": "torn.png", "question": "What is it?", "answer": "a dog"}]
    del rows[3]["file_name"]
    left_out = []
    assert [example.id for example in benchmarks.load(write(folder, rows), left_out=left_out)] == ["choice"]
    reasons = ("row 1: the id 'choice' is also", "row 2: .*no such image", "row 3: .*no such image", "row 4: .*damaged")
    assert all(re.search(reason, said) for reason, said in zip(reasons, left_out, strict=True))


def test_the_prompt_holds_the_question_and_no_picture(folder):
    (example,) = benchmarks.load(write(folder, ROWS[:1]))
    system, user = benchmarks.prompt(example, "vanilla")
    assert system["content"] == "Think, then answer."
    assert [block["type"] for block in user["content"]] == ["image", "text"] and user["content"][0]["image"] is None
    assert user["content"][1]["text"] == example.question
