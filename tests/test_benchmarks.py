"""Benchmarks: rows of the hub's schema and of the twins become the same records; graders, edge by edge."""

from __future__ import annotations

import dataclasses
import json
import os
import random
import re
import subprocess
import sys
import time
import tracemalloc
from collections import Counter
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vigorl_lib import images
from vigorl_lib.benchmarks import graders, sources
from vigorl_lib.benchmarks import registry as benchmarks
from vigorl_lib.benchmarks.family import Hub
from vigorl_lib.benchmarks.vstar import split_text
from vigorl_lib.records import Example
from vigorl_lib.stats import wilson

pytestmark = pytest.mark.filterwarnings("ignore:.*is read as it is now")  # the hub, as faked here
ROOT = Path(__file__).parent.parent
PNG = b"\x89PNG made up"
SAT_ROW = {
    "image_bytes": [PNG, b"second"],
    "question": "Did any object move?",
    "answers": ["the chair moved left", "the chair moved right", "nothing moved"],
    "question_type": "obj_movement",
    "correct_answer": "the chair moved right",
}
VSTAR_ROW = {
    "image": {"bytes": PNG, "path": "sa_1.jpg"},
    "text": "What is the colour of the flag? (A) red (B) blue (C) green (D) white\n"
    "Answer with the option's letter from the given choices directly.",
    "category": "direct_attributes",
    "label": "B",
    "question_id": 7,
}
SAT = Example("s", "sat2", "goal_aim", "?", ("left", "right", "no"), "right", ())
NO = dataclasses.replace(SAT, answer="no")
VSTAR = Example("v", "vstar", "direct_attributes", "?", ("red", "blue", "green"), "B", ())

SAT_SCHEMA = pyarrow.schema(
    [
        ("image_bytes", pyarrow.list_(pyarrow.binary())),
        ("question", pyarrow.string()),
        ("answers", pyarrow.list_(pyarrow.string())),
        ("question_type", pyarrow.string()),
        ("correct_answer", pyarrow.string()),
    ]
)


@pytest.fixture(autouse=True)
def outputs(tmp_path, monkeypatch):
    """Commits of the hub are noted there, and not in this checkout."""
    monkeypatch.setenv("VIGORL_OUTPUTS", str(tmp_path))


IMAGE = pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())])


def write(path, rows, schema=None):
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows, schema=schema), path, row_group_size=3)
    return path


def encoded(example):
    """The images as the files hold them."""
    return tuple(image.read() if isinstance(image, images.ParquetCell) else image for image in example.images)


def sat_rows(count):
    return [SAT_ROW | {"question": f"Question {number}?"} for number in range(count)]


# Rows


def test_a_sat_row_becomes_an_example(tmp_path):
    path = write(tmp_path / "SAT_val.parquet", [SAT_ROW], SAT_SCHEMA)
    (example,) = benchmarks.load("sat2", path, split="val")
    assert example.benchmark == "sat2" and example.kind == "obj_movement"
    assert encoded(example) == (PNG, b"second")
    assert sorted(example.options) == sorted(SAT_ROW["answers"]) and example.answer in example.options
    assert example.question.startswith("Question: Did any object move?\nAnswer Choices:\nA. ")
    assert example.question.endswith("Answer with the text of the option.")
    order = [int(digit) for digit in example.id.removeprefix(f"{example.group}-p")]
    assert example.options == tuple(SAT_ROW["answers"][place] for place in order)
    assert example.truth is None


def test_a_vstar_row_becomes_an_example(tmp_path):
    path = write(tmp_path / "test-00000-of-00001.parquet", [VSTAR_ROW])
    (example,) = benchmarks.load("vstar", path, split="test")
    assert example.options == ("red", "blue", "green", "white") and example.answer == "B"
    assert example.kind == "direct_attributes" and encoded(example) == (PNG,)
    assert example.question.splitlines() == [
        "What is the colour of the flag?",
        "(A) red",
        "(B) blue",
        "(C) green",
        "(D) white",
        "Answer with the option's letter from the given choices directly.",
    ]


@pytest.mark.parametrize("cell", [pyarrow.binary(), IMAGE], ids=["bytes", "struct"])
def test_a_twin_and_a_hub_file_of_its_rows_give_the_same_examples(tmp_path, cell):
    twins = benchmarks.load("sat2", split="dev", limit=6)
    family, rows = benchmarks.FAMILIES["sat2"], []
    for number in range(6):
        rng = random.Random(sources.digest(f"sat2/dev/0/{number}"))
        row = dict(family.twin(rng, number)[0])
        if cell == IMAGE:
            row["image_bytes"] = [{"bytes": image, "path": None} for image in row["image_bytes"]]
        rows.append(row)
    schema = SAT_SCHEMA.set(0, pyarrow.field("image_bytes", pyarrow.list_(cell)))
    found = benchmarks.load("sat2", write(tmp_path / "SAT_val.parquet", rows, schema), split="val")
    for real, twin in zip(found, twins, strict=True):
        assert (encoded(real), real.kind, real.answer) == (twin.images, twin.kind, twin.answer)
        assert sorted(real.options) == sorted(twin.options)
        assert real.question.splitlines()[0] == twin.question.splitlines()[0]
        assert twin.truth and not real.truth


def test_a_vstar_twin_and_its_row_read_from_a_file_are_the_same(tmp_path):
    (twin,) = benchmarks.load("vstar", split="test", limit=1)
    rng = random.Random(sources.digest("vstar/test/0/0"))
    row = benchmarks.FAMILIES["vstar"].twin(rng, 0)[0]
    path = write(tmp_path / "x.parquet", [row | {"image": {"bytes": row["image"], "path": ""}}])
    (real,) = benchmarks.load("vstar", path, split="test")
    assert dataclasses.replace(real, id=twin.id, truth=twin.truth, images=encoded(real)) == twin


def test_images_stored_as_paths_are_found_beside_their_file(tmp_path):
    row = VSTAR_ROW | {"image": {"bytes": None, "path": "photos/1.jpg"}}
    (example,) = benchmarks.load("vstar", write(tmp_path / "x.parquet", [row]), split="test")
    assert example.images == (str(tmp_path / "photos/1.jpg"),)


def noise(count, size=200_000):
    return [VSTAR_ROW | {"image": {"bytes": random.Random(k).randbytes(size), "path": None}} for k in range(count)]


def test_loading_and_reading_hold_one_image_at_a_time(tmp_path):
    path, rows = tmp_path / "test.parquet", noise(30)
    pages = {"use_dictionary": False, "data_page_size": 100_000, "write_batch_size": 1}  # one for each row
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path, **pages)
    held, before = [], pyarrow.total_allocated_bytes()
    tracemalloc.start()
    try:
        examples = benchmarks.load("vstar", path)
        for example, row in zip(examples, rows, strict=True):
            assert encoded(example) == (row["image"]["bytes"],)
            held.append(pyarrow.total_allocated_bytes() - before)
        assert max(held) < 1_500_000 and tracemalloc.get_traced_memory()[1] < 1_500_000, "the rows have 6,000,000 bytes"
    finally:
        tracemalloc.stop()


def test_images_are_read_in_any_order_and_each_once_in_theirs(tmp_path, monkeypatch):
    path = write(tmp_path / "test.parquet", noise(8, size=10))
    opened, whole = [], pyarrow.parquet.ParquetFile
    examples = benchmarks.load("vstar", path)
    monkeypatch.setattr("pyarrow.parquet.ParquetFile", lambda *a, **k: opened.append(a) or whole(*a, **k))
    wanted = [(row["image"]["bytes"],) for row in noise(8, size=10)]
    assert [encoded(example) for example in [*examples, examples[-1]]] == [*wanted, wanted[-1]]
    assert len(opened) == 3, "once for each row group of three"
    assert [encoded(example) for example in examples[::-1]] == wanted[::-1]


def test_a_parquet_file_that_is_gone_or_another_is_named(tmp_path):
    path = write(tmp_path / "test.parquet", noise(5, size=10))
    *_, last = benchmarks.load("vstar", path)
    assert encoded(last)
    write(path, noise(2, size=10))
    with pytest.raises(ValueError, match="test.parquet, row 1 of group 1, column 'image': not the file that"):
        images.open_image(last.images[0])
    path.unlink()
    with pytest.raises(FileNotFoundError, match="test.parquet, row 1.*no such file"):
        images.image_size(last.images[0])


def test_a_folder_like_the_hubs_and_several_files_in_order(tmp_path):
    (tmp_path / "data").mkdir()
    for part in range(2):
        rows = [VSTAR_ROW | {"question_id": part * 4 + k} for k in range(4)]
        write(tmp_path / f"data/test-0000{part}-of-00002.parquet", rows)
    found = benchmarks.load("vstar", tmp_path, split="test")
    assert [example.id for example in found] == [f"vstar-test-{number}" for number in range(8)]


def test_options_are_shuffled_by_seed_and_id():
    def first_shown(seed):
        examples = (benchmarks.FAMILIES["sat2"].example(SAT_ROW, f"sat2-val-{number}", seed) for number in range(600))
        return [example.options[0] for example in examples]

    shown = first_shown(0)
    assert shown == first_shown(0) != first_shown(1)
    assert all(abs(count / 600 - 1 / 3) < 0.07 for count in Counter(shown).values())


def test_circular_orders_show_every_option_at_every_place(tmp_path):
    path = write(tmp_path / "SAT_test.parquet", sat_rows(4), SAT_SCHEMA)
    found = benchmarks.load("sat2", path, split="test", circular=True)
    assert len(found) == 4 * 3 and len({example.id for example in found}) == 12
    for start in range(0, 12, 3):
        group = found[start : start + 3]
        assert len({example.group for example in group}) == 1
        assert all(len(set(shown)) == 3 for shown in zip(*(example.options for example in group), strict=True))
    replies = ["<answer>A</answer>"] * 6 + [f"<answer>{example.answer}</answer>" for example in found[6:]]
    grades = [benchmarks.grade("sat2", reply, example) for reply, example in zip(replies, found, strict=True)]
    figures = benchmarks.aggregate("sat2", grades)["circular"]
    assert figures["mean"]["value"] == pytest.approx((1 / 3 + 1 / 3 + 1 + 1) / 4)
    assert figures["all"]["value"] == 0.5 and figures["all"]["n"] == 4
    assert "circular" not in benchmarks.aggregate("sat2", grades[::3])
    with pytest.raises(ValueError, match="not asked in circular orders"):
        benchmarks.load("vstar", split="test", limit=1, circular=True)
    twins = benchmarks.load("sat2", split="test", limit=2, circular=True)
    assert len({example.group for example in twins}) == 2 and all(example.truth for example in twins)


def test_a_limit_draws_a_sample_that_grows_and_keeps_the_stored_order(tmp_path):
    path = write(tmp_path / "SAT_val.parquet", sat_rows(50), SAT_SCHEMA)

    def numbers(**settings):
        return [int(e.group.split("-")[-1]) for e in benchmarks.load("sat2", path, split="val", **settings)]

    few, more = numbers(limit=5), numbers(limit=20)
    assert few == sorted(few) and set(few) < set(more) and len(more) == 20
    assert few != list(range(5)) and few != numbers(limit=5, seed=1)
    assert numbers() == list(range(50)) == numbers(limit=99)


def test_special_tokens_in_a_row_do_not_reach_the_prompt(tmp_path):
    row = SAT_ROW | {
        "question": "<|im_end|> <think>",
        "answers": ["<|image_pad|>", "b"],
        "correct_answer": "b",
    }
    (example,) = benchmarks.load("sat2", write(tmp_path / "x.parquet", [row], SAT_SCHEMA), split="val")
    assert "<|" not in example.question and "<think>" not in example.question


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"correct_answer": "it flew"}, "not among the options"),
        ({"correct_answer": None}, "column 'correct_answer' must hold text"),
        ({"answers": ["only one"]}, "two or more texts"),
        ({"answers": None}, "two or more texts"),
        ({"answers": ["a", None]}, "two or more texts"),
        ({"image_bytes": []}, "one or two images"),
        ({"image_bytes": None}, "one or two images"),
        ({"image_bytes": [b"1", b"2", b"3"]}, "one or two images"),
        ({"image_bytes": [b""]}, "image cell"),
        ({"image_bytes": [None]}, "image cell"),
        ({"question": " "}, "column 'question' must hold text"),
        ({"question_type": None}, "column 'question_type' must hold text"),
    ],
)
def test_a_bad_sat_row_is_named(tmp_path, change, message):
    path = write(tmp_path / "SAT_val.parquet", [SAT_ROW, SAT_ROW | change], SAT_SCHEMA)
    with pytest.raises(ValueError, match=rf"SAT_val.parquet, row 1: .*{message}"):
        benchmarks.load("sat2", path, split="val")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"label": "E"}, "not one of the letters"),
        ({"label": None}, "column 'label' must hold text"),
        ({"text": "What colour?"}, "no question with options"),
        ({"text": "What? (A) red"}, "no question with options"),
        ({"text": "(A) red (B) blue"}, "no question with options"),
        ({"text": "What? (A) (B) blue"}, "no question with options"),
        ({"text": "What? (A) red (B) blue\nPlease\nsay"}, "no question with options"),
        ({"text": None}, "column 'text' must hold text"),
        ({"text": "Which letter? (A) B (B) A"}, "themselves letters"),
        ({"image": None}, "image cell"),
        ({"category": None}, "column 'category' must hold text"),
    ],
)
def test_a_bad_vstar_row_is_named(tmp_path, change, message):
    schema = pyarrow.Table.from_pylist([VSTAR_ROW]).schema
    path = write(tmp_path / "x.parquet", [VSTAR_ROW | change], schema)
    with pytest.raises(ValueError, match=rf"x.parquet, row 0: .*{message}"):
        benchmarks.load("vstar", path, split="test")


@pytest.mark.parametrize(
    ("text", "question", "options"),
    [
        ("Q? (A) a (B) b", "Q?", ("a", "b")),
        ("Q?\n(A) a\n(B) b", "Q?", ("a", "b")),
        ("Is the cat left of (the) dog?(A)left(B)right", "Is the cat left of (the) dog?", ("left", "right")),
        ("Q? (A) vitamin (C) (B) none", "Q?", ("vitamin (C)", "none")),
        (
            "Q? (A) a\n(B) b (red)\nAnswer with the option's letter from the given choices directly.",
            "Q?",
            ("a", "b (red)"),
        ),
    ],
)
def test_a_question_and_its_options_are_told_apart(text, question, options):
    assert split_text(text) == (question, options)


# Files


def test_missing_columns_are_named(tmp_path):
    rows = [{"image": b"x", "question": "?", "answers": ["a"], "question_type": "k"}]
    path = write(tmp_path / "SAT_val.parquet", rows)
    with pytest.raises(ValueError, match=r"\['correct_answer', 'image_bytes'\] are missing.*'image'.*revision"):
        benchmarks.load("sat2", path, split="val")


def test_more_columns_do_no_harm(tmp_path):
    path = write(tmp_path / "x.parquet", [VSTAR_ROW | {"bbox": [1, 2]}])
    assert len(benchmarks.load("vstar", path, split="test")) == 1


def test_a_truncated_file_is_named(tmp_path):
    path = write(tmp_path / "SAT_val.parquet", sat_rows(9), SAT_SCHEMA)
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(ValueError, match="SAT_val.parquet: not a whole parquet file.*download it again"):
        benchmarks.load("sat2", path, split="val")


def test_what_is_not_there_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such file or folder"):
        benchmarks.load("sat2", tmp_path / "none", split="val")
    with pytest.raises(FileNotFoundError, match="no file .*val.* for split 'val'"):
        benchmarks.load("sat2", tmp_path, split="val")
    with pytest.raises(ValueError, match="unknown split 'dev'.*train, static, val, test"):
        benchmarks.load("sat2", tmp_path, split="dev")
    with pytest.raises(ValueError, match="unknown benchmark 'sat3'; known: sat2, blink"):
        benchmarks.load("sat3", split="test", limit=1)
    with pytest.raises(ValueError, match="splits train, dev, test, not 'val'"):
        benchmarks.load("sat2", split="val", limit=1)
    with pytest.raises(ValueError, match="has no end"):
        benchmarks.load("sat2", split="test")
    with pytest.raises(ValueError, match="limit is 0"):
        benchmarks.load("sat2", split="test", limit=0)


HUB = Hub(repos={"first/choice": None, "second/choice": "4d5e6f"}, files={"test": "*test-*.parquet"}, rows={})


def test_without_a_network_the_hub_says_what_to_do():
    with pytest.raises(FileNotFoundError, match="(?s)HF_HUB_OFFLINE=0.*first/choice.*second/choice"):
        sources.download(HUB, "test")


@pytest.mark.parametrize(("given", "revisions"), [(None, [None, "4d5e6f"]), ("0a1b2c", ["0a1b2c", "0a1b2c"])])
def test_the_second_hub_id_is_tried_at_the_pinned_revision(tmp_path, monkeypatch, given, revisions, recwarn):
    asked = []

    def snapshot_download(repo, **settings):
        asked.append((repo, settings["revision"], settings["allow_patterns"]))
        if repo == "first/choice":
            raise OSError("gone")
        return str(tmp_path)

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    assert sources.download(HUB, "test", given) == tmp_path and not recwarn.list
    assert asked == [(repo, at, ["*test-*.parquet"]) for repo, at in zip(HUB.repos, revisions, strict=True)]


def test_a_commit_that_is_not_pinned_is_noted_and_asked_for_from_then_on(tmp_path, monkeypatch, recwarn):
    asked, newest = [], iter(("0a1b2c", "3d4e5f"))

    def snapshot_download(repo, revision, **_):
        asked.append(revision)
        return str(tmp_path / "snapshots" / (revision or next(newest)))

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    with pytest.warns(UserWarning, match="first/choice is read as it is now, at 0a1b2c: noted in .*revisions.json"):
        assert sources.download(HUB, "test").name == "0a1b2c"
    recwarn.clear()
    assert sources.download(HUB, "test").name == "0a1b2c"
    assert sources.download(HUB, "test", "6a7b8c").name == "6a7b8c"
    assert asked == [None, "0a1b2c", "6a7b8c"] and not recwarn.list
    assert json.loads((tmp_path / "revisions.json").read_text()) == {"first/choice": "0a1b2c"}
    assert sources.commits(HUB) == {"first/choice": "0a1b2c", "second/choice": "4d5e6f"}
    with pytest.warns(UserWarning, match="other/set"):
        sources.download(Hub({"other/set": None}, HUB.files, {}), "test")
    assert json.loads((tmp_path / "revisions.json").read_text()) == {"first/choice": "0a1b2c", "other/set": "3d4e5f"}


@pytest.mark.parametrize(("text", "message"), [("{", "not JSON"), ("[]", "a commit each"), ('{"a/b": 1}', "a commit")])
def test_damaged_notes_are_not_read_over(text, message, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda *_, **__: pytest.fail("a download"))
    (tmp_path / "revisions.json").write_text(text)
    with pytest.raises(ValueError, match=f"revisions.json: .*{message}"):
        sources.download(HUB, "test")


def test_pins_are_whole_commits():
    pins = [commit for family in benchmarks.FAMILIES.values() for commit in family.hub.repos.values() if commit]
    assert len(pins) == 9 and all(re.fullmatch("[0-9a-f]{40}", commit) for commit in pins)


@pytest.mark.parametrize("name", ["visualwebarena", "released", "own"])
def test_archives_are_not_downloaded(name, monkeypatch):
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda *_, **__: pytest.fail("a download"))
    with pytest.raises(ValueError, match="give the path of a file"):
        benchmarks.load(name, "hub", split="train")


def test_a_hub_split_with_a_wrong_number_of_rows_is_refused(tmp_path, monkeypatch):
    write(tmp_path / "SAT_test.parquet", sat_rows(9), SAT_SCHEMA)
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda *_, **__: str(tmp_path))
    with pytest.raises(ValueError, match="9 rows, expected 150"):
        benchmarks.load("sat2", "hub", split="test")
    assert len(benchmarks.load("sat2", tmp_path, split="test")) == 9, "a local subset may be any size"
    write(tmp_path / "SAT_val.parquet", sat_rows(4001), SAT_SCHEMA)
    assert len(benchmarks.load("sat2", "hub", split="val", limit=7)) == 7
    (tmp_path / "data").mkdir()
    (tmp_path / "SAT_val.parquet").rename(tmp_path / "data/val-00000-of-00001.parquet")  # as in array/SAT-v2
    assert len(benchmarks.load("sat2", "hub", split="val", limit=7)) == 7


def test_a_hub_split_with_other_parts_is_refused(tmp_path, monkeypatch):
    rows = [VSTAR_ROW | {"category": name} for name in ["direct_attributes"] * 115 + ["relative_position"] * 76]
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda *_, **__: str(tmp_path))
    write(tmp_path / "test-00000.parquet", rows)
    assert len(benchmarks.load("vstar", "hub", limit=2)) == 2
    write(tmp_path / "test-00000.parquet", [*rows[1:], rows[-1]])
    with pytest.raises(ValueError, match=r"'category' .*114.*, expected \{'direct_attributes': 115.*pin a revision"):
        benchmarks.load("vstar", "hub", limit=2)


# Twins


@pytest.mark.parametrize("name", ["sat2", "vstar"])
def test_a_twin_depends_on_split_seed_and_number_alone(name):
    few, more = (benchmarks.load(name, split="test", limit=limit) for limit in (2, 4))
    assert few == more[:2]
    scenes = [
        example.images
        for split in benchmarks.TWIN_SPLITS
        for seed in (0, 1)
        for example in benchmarks.load(name, split=split, limit=2, seed=seed)
    ]
    assert len(set(scenes)) == len(scenes)
    (source,) = more[0].images
    assert images.open_image(source).size and more[0].truth["boxes"]


def test_a_twin_is_the_same_in_every_process():
    code = (
        "from vigorl_lib.benchmarks import registry as b\n"
        "import hashlib\n"
        "found = b.load('sat2', split='test', limit=2)\n"
        "print([(e.id, e.question, e.answer, hashlib.sha256(e.images[0]).hexdigest()) for e in found])"
    )
    printed = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(printed) == 1


# Graders


@pytest.mark.parametrize(
    ("reply", "score", "why"),
    [
        ("<think>(1, 2)</think> <answer> right </answer>", 1, "right"),
        ("<answer>Right.</answer>", 1, "right"),
        ("<answer>B</answer>", 1, "right"),
        ("<answer>(b)</answer>", 1, "right"),
        ("<answer>B. right</answer>", 1, "right"),
        ("<answer>left</answer> <answer>right</answer>", 1, "right"),
        ("<answer>right</answer> <answer>left", 1, "right"),
        ("<answer>left</answer>", 0, "wrong"),
        ("<answer>A</answer>", 0, "wrong"),
        ("<answer>right</answer><answer>left</answer>", 0, "wrong"),
        ("<answer>A. right</answer>", 0, "not_an_option"),
        ("<answer>left or right</answer>", 0, "not_an_option"),
        ("<answer>D</answer>", 0, "not_an_option"),
        ("<answer></answer>", 0, "not_an_option"),
        ("right", 0, "no_answer"),
        ("<answer>right", 0, "no_answer"),
        ("", 0, "no_answer"),
        (["<think>a</think><answer>left</answer>", "<answer>right</answer>"], 1, "right"),
        (["<answer>right</answer>", "<think>cut off"], 0, "no_answer"),
        ([], 0, "no_answer"),
        (None, 0, "missing"),
    ],
)
def test_clean(reply, score, why):
    grade = benchmarks.grade("sat2", reply, SAT)
    assert (grade.score, grade.why) == (score, why)
    assert (grade.extracted is None) == (why in ("no_answer", "missing"))


@pytest.mark.parametrize(
    ("reply", "example", "score", "why"),
    [
        ("<think>a</think><answer>right</answer>", SAT, 1, "right"),
        ("<think>a</think><answer>left or right</answer>", SAT, 1, "right"),  # a substring is enough
        ("<think>a</think><answer>BRIGHT</answer>", SAT, 1, "right"),
        ("<think>a</think><answer>r-i g.h(t)</answer>", SAT, 1, "right"),
        ("<think>a</think><answer>ri\nght</answer>", SAT, 0, "wrong"),  # line ends inside stay
        ("<think>a</think><answer>rig</answer>", SAT, 0, "wrong"),
        ("<think>a</think><answer>B</answer>", SAT, 0, "wrong"),  # a letter is no text
        ("<think>a</think><answer>nothing</answer>", NO, 1, "right"),
        ("<think>a</think><answer>right</answer><answer>left</answer>", SAT, 1, "right"),  # the first wins
        ("<think>a</think><answer>left</answer><answer>right</answer>", SAT, 0, "wrong"),
        ("<think>a</think><answer>right", SAT, 1, "right"),  # the closing tag may be missing
        ("<think>a <answer>right</answer> b</think><answer>left</answer>", SAT, 0, "bad_thought"),  # a thought cut off
        ("<think>a <answer>right", SAT, 0, "bad_thought"),
        ("<think>a <answer>right</answer>", SAT, 1, "right"),  # the thought is no piece, the answer is
        ("<think>a</think> b <answer>right", SAT, 1, "right"),
        ("<think>right</think>", SAT, 0, "no_answer"),
        ("<answer></answer>", SAT, 0, "wrong"),
        ("I would say right.", SAT, 1, "right"),  # no tags: a baseline, judged in whole
        ("", SAT, 0, "wrong"),
        (
            ["<think>a</think>\n<tool_call>…</tool_call>", "<think>b</think><answer>right</answer>"],
            SAT,
            1,
            "right",
        ),
        (
            ["<think>a\n<tool_call>…</tool_call>", "<think>b</think><answer>right</answer>"],
            SAT,
            0,
            "bad_thought",
        ),
        (["<think>a</think>", "<think>b</think>"], SAT, 0, "no_answer"),
        (["<think>a</think>", "<think>b <answer>right</answer></think>"], SAT, 0, "bad_thought"),
        ("<think>a</think><answer>B</answer>", VSTAR, 1, "right"),
        ("<think>a</think><answer>A</answer>", VSTAR, 0, "wrong"),
        ("<think>a</think><answer>blue</answer>", VSTAR, 1, "right"),  # because of its b
        ("<think>a</think><answer>(A) a black one</answer>", VSTAR, 1, "right"),
        (None, SAT, 0, "missing"),
    ],
)
def test_vigorl(reply, example, score, why):
    grade = benchmarks.grade(example.benchmark, reply, example, "vigorl")
    assert (grade.score, grade.why) == (score, why)


@pytest.mark.parametrize(
    ("reply", "score"),
    [
        ("B", 1),
        ("b", 1),
        ("(B)", 1),
        ("B.", 1),
        ("**B**", 1),
        ("_B_", 1),
        ("B. right", 1),
        (" B right", 1),
        ("B, because it is", 1),
        ("<think>A</think> <answer> B </answer>", 1),
        ("right", 0),  # a text is no letter
        ("The answer is B", 0),
        ("Answer: B", 0),
        ("B\nright", 0),  # only blanks end the first word
        ("B)right", 0),
        ("A", 0),
        ("", 0),
        ("...", 0),
        ([], 0),
        (None, 0),
    ],
)
def test_official_sat_is_the_first_word_as_a_letter(reply, score):
    assert benchmarks.grade("sat2", reply, SAT, "official").score == score


LOSSES = [
    ([2.0, 1.0, 3.0], 1, "B"),
    ([1.0, 2.0, 3.0], 0, "A"),
    ((3, 2, 1), 0, "C"),
    ([1.0, 1.0, 1.0], 1, "B"),  # the official order has the right one first, and takes the first minimum
    ([1.0, 2.0, 1.0], 0, "A"),
    ([float("inf"), 5.0, float("inf")], 1, "B"),
    ([-1.0, -2.0, 0.0], 1, "B"),
    ([2.0, 1.0, 1.0], 1, "B"),
    ([1.0, 1.0, 2.0], 1, "B"),
    ([1.0, 2.0, 2.0], 0, "A"),
    ([2.0, 2.0, 1.0], 0, "C"),
    ([5.0, float("inf"), 5.0], 0, "A"),
    ([float("inf")] * 3, 1, "B"),
    ([0.0, -0.0, 0.0], 1, "B"),
    ([0, 1e-300, 1], 0, "A"),
    ([1.0, 1.0 - 1e-16, 1.0], 1, "B"),
    ([float("-inf"), 0.0, 0.0], 0, "A"),
]


@pytest.mark.parametrize(("losses", "score", "chosen"), LOSSES)
def test_official_vstar_is_the_likeliest_option(losses, score, chosen):
    grade = benchmarks.grade("vstar", losses, VSTAR, "official")
    assert (grade.score, grade.extracted) == (score, chosen) and len(LOSSES) >= 15


def test_what_cannot_be_graded_is_refused():
    for reply, example, protocol, message in [
        ("B", VSTAR, "official", "by likelihood"),
        (["B"], VSTAR, "official", "by likelihood"),
        ([1.0, 2.0], VSTAR, "official", "3 options but 2 losses"),
        ([1.0, float("nan"), 2.0], VSTAR, "official", "not a number"),
        ([1.0, 2.0, 3.0], VSTAR, "clean", "grades text"),
        ([1.0, 2.0, 3.0], SAT, "official", "grades text"),
        ("B", SAT, "fair", "no protocol 'fair'; known: official, vigorl, clean"),
    ]:
        with pytest.raises(ValueError, match=message):
            benchmarks.grade(example.benchmark, reply, example, protocol)
    with pytest.raises(ValueError, match="belongs to 'sat2'"):
        benchmarks.grade("vstar", "B", SAT)
    with pytest.raises(ValueError, match="unknown benchmark"):
        benchmarks.grade("docvqa", "yes", SAT)


TEXT_GRADERS = [(SAT, "official"), (SAT, "vigorl"), (SAT, "clean"), (VSTAR, "vigorl"), (VSTAR, "clean")]
PIECES = ["<think>", "</think>", "<answer>", "</answer>", "right", "B", " ", "\n", ".", "<|im_end|>"]
hostile = st.lists(st.sampled_from(PIECES) | st.text(max_size=5), max_size=14).map("".join)


@given(hostile | st.lists(hostile, max_size=3))
def test_any_text_gets_a_grade(reply):
    for example, protocol in TEXT_GRADERS:
        name = example.benchmark
        grade = benchmarks.grade(name, reply, example, protocol)
        assert grade.score in (0.0, 1.0) and (grade.why == "right") == (grade.score == 1)
        assert grade == benchmarks.grade(name, reply, example, protocol)


@given(hostile)
def test_the_linear_reader_cuts_out_what_the_released_expression_does(text):
    expression = re.compile("(<think>.*?</think>|<answer>.*?</answer>)", re.DOTALL)
    assert list(graders._released_pieces(text)) == expression.findall(text)


@pytest.mark.parametrize("piece", ["<think>", "<answer>", "</answer>", "<think></think>", "(", " ", "a", "B.", "-a"])
def test_a_long_reply_is_graded_at_once(piece):
    text = piece * (1_000_000 // len(piece))
    start = time.process_time()
    for example, protocol in TEXT_GRADERS:
        benchmarks.grade(example.benchmark, text, example, protocol)
        benchmarks.grade(example.benchmark, f"<answer>{text}</answer>", example, protocol)
    assert time.process_time() - start < 5  # quadratic time would be minutes


@settings(max_examples=25)
@given(hostile.filter(bool))
def test_any_long_reply_is_graded_at_once(piece):
    text = piece * (100_000 // len(piece))
    start = time.process_time()
    for example, protocol in TEXT_GRADERS:
        assert benchmarks.grade(example.benchmark, text, example, protocol).score in (0.0, 1.0)
    assert time.process_time() - start < 5


# Figures


def test_figures_of_a_small_evaluation():
    kinds = ["a", "a", "a", "b", "b"]
    examples = [dataclasses.replace(SAT, id=str(number), kind=kind) for number, kind in enumerate(kinds)]
    replies = [
        "<answer>right</answer>",
        "<answer>left</answer>",
        None,
        "<answer>up</answer>",
        "<answer>B</answer>",
    ]
    grades = [benchmarks.grade("sat2", reply, example) for reply, example in zip(replies, examples, strict=True)]
    figures = benchmarks.aggregate("sat2", grades)
    interval = wilson(2, 5)
    assert figures["accuracy"] == {"value": 0.4, "low": interval.low, "high": interval.high, "n": 5}
    assert [figures["kinds"][kind]["value"] for kind in "ab"] == pytest.approx([1 / 3, 1 / 2])
    assert (figures["missing"], figures["malformed"]) == (1, 1)
    assert figures["reasons"] == {"missing": 1, "not_an_option": 1, "right": 2, "wrong": 1}


def test_figures_need_each_example_once_and_one_protocol():
    clean, released = (benchmarks.grade("sat2", "left", SAT, protocol) for protocol in ("clean", "vigorl"))
    other = dataclasses.replace(released, id="other")
    for grades, protocol in [([], None), ([clean, clean], None), ([clean, other], None), ([clean], "vigorl")]:
        with pytest.raises(ValueError, match="give every example one grade"):
            benchmarks.aggregate("sat2", grades, protocol)
    assert benchmarks.aggregate("sat2", [released], "vigorl")["protocol"] == "vigorl"


def test_the_oracle_is_right_and_a_fixed_letter_is_not():
    for name in ("sat2", "vstar"):
        examples = benchmarks.load(name, split="dev", limit=12)
        right = [benchmarks.grade(name, f"<answer>{e.answer}</answer>", e) for e in examples]
        assert benchmarks.aggregate(name, right)["accuracy"]["value"] == 1
        fixed = [benchmarks.grade(name, "<answer>A</answer>", e) for e in examples]
        figures = benchmarks.aggregate(name, fixed)
        assert figures["accuracy"]["value"] < 1 and figures["malformed"] == 0


def test_grading_is_fast():
    reply, start = (
        "<think>The sofa (1, 2).</think>\n<answer> nothing of the kind </answer>",
        time.process_time(),
    )
    for _ in range(2000):
        benchmarks.grade("sat2", reply, SAT)
        benchmarks.grade("sat2", reply, SAT, "vigorl")
    assert 4000 / (time.process_time() - start) > 20_000
