"""JSON lines survive crashes, torn lines and a full disk, and a damaged file says where."""

from __future__ import annotations

import errno
import json
import os
import resource

import pytest

from vigorl_lib.records import Example, Prediction, append_line, read_lines, to_json

FIRST, SECOND = {"id": "a", "text": "größer, 1 <\n>"}, {"id": "b", "text": ""}


@pytest.fixture
def path(tmp_path):
    """A file with one whole line."""
    append_line(tmp_path / "lines.jsonl", FIRST)
    return tmp_path / "lines.jsonl"


def test_what_was_appended_is_read_in_order(path):
    append_line(path, SECOND)
    assert list(read_lines(path)) == [FIRST, SECOND]
    assert path.read_bytes().count(b"\n") == 2


def test_no_file_holds_no_lines(tmp_path):
    assert list(read_lines(tmp_path / "none.jsonl")) == []


def test_a_line_is_forced_to_disk(path, monkeypatch):
    forced = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: forced.append(os.fstat(descriptor).st_size))
    append_line(path, SECOND)
    assert forced == [path.stat().st_size]


@pytest.mark.parametrize("torn", ['{"id": "b", "te', "{", '{"id": "b", "text": "gr\u00f6'])
def test_a_torn_last_line_is_left_out_then_cut(path, torn):
    whole = path.read_bytes()
    path.write_bytes(whole + torn.encode()[:-1])  # the last one is cut inside a letter
    assert list(read_lines(path)) == [FIRST]
    append_line(path, SECOND)
    assert list(read_lines(path)) == [FIRST, SECOND]
    assert path.read_bytes().startswith(whole + b'{"id": "b", "text": ""}')


def test_a_last_line_that_lacks_only_its_end_is_kept(path):
    path.write_bytes(path.read_bytes()[:-1])
    assert list(read_lines(path)) == [FIRST]
    append_line(path, SECOND)
    assert list(read_lines(path)) == [FIRST, SECOND]


def test_a_disk_that_does_not_keep_the_line_costs_only_that_line(path, monkeypatch):
    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    whole = path.read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="lines.jsonl: No space left on device; free some space") as caught:
            append_line(path, SECOND)
    assert caught.value.errno == errno.ENOSPC
    assert path.read_bytes() == whole
    append_line(path, SECOND)
    assert list(read_lines(path)) == [FIRST, SECOND]


@pytest.mark.parametrize("length", [100, 100_000])
def test_a_disk_that_fills_up_inside_a_line_leaves_no_half_of_it(path, length):
    whole = path.read_bytes()
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(whole) + 50, before[1]))  # the system takes 50 bytes more
    try:
        append_line(path, {"id": "b", "text": "x" * length})
    except OSError as error:
        caught = error
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert caught.errno == errno.EFBIG and "free some space, then run again" in str(caught)
    assert path.read_bytes() == whole


@pytest.mark.parametrize(
    ("row", "says"),
    [("{nonsense", "not a JSON line"), ("", "not a JSON line"), ("[1, 2]", "expected a JSON object, found list")],
)
def test_a_bad_row_is_named(path, row, says):
    with path.open("a") as file:
        file.write(f"{row}\n" + json.dumps(SECOND) + "\n")
    lines = read_lines(path)
    assert next(lines) == FIRST
    with pytest.raises(ValueError, match=rf"lines\.jsonl:2: {says}"):
        next(lines)


def test_a_run_goes_on_with_the_ids_that_are_missing(path):
    with path.open("a") as file:
        file.write('{"id": "b", "text": "torn')  # the crash came while b was written
    asked = []
    for _ in range(2):
        done = {line["id"] for line in read_lines(path)}
        for id in ("a", "b", "c"):
            if id not in done:
                asked.append(id)
                append_line(path, {"id": id})
    assert asked == ["b", "c"]
    assert [line["id"] for line in read_lines(path)] == ["a", "b", "c"]


def test_records_become_plain_json_and_images_do_not():
    prediction = Prediction("p", ("one", "two"), points=((1, 2),), tokens=3, frame=(96, 96))
    assert json.loads(json.dumps(to_json(prediction))) == {
        "id": "p",
        "turns": ["one", "two"],
        "points": [[1, 2]],
        "tokens": 3,
        "truncated": False,
        "frame": [96, 96],
    }
    with pytest.raises(TypeError, match="bytes"):
        to_json(Example("e", "sat2", "k", "?", ("a", "b"), "a", (b"\x89PNG",)))
    assert to_json(Example("e", "sat2", "k", "?", ("a", "b"), "a", ("e.png",)))["images"] == ("e.png",)


def test_a_value_that_is_not_json_leaves_the_file_alone(path):
    whole = path.read_bytes()
    with pytest.raises(TypeError):
        append_line(path, {"id": "b", "image": b"\x89PNG"})
    assert path.read_bytes() == whole
