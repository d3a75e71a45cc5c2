"""What a twin's text gives away: the reader of places finds what there is, and the ledger's figures keep the limit."""

import json
import random
from pathlib import Path

import pytest

from tests import bench_twins, text_only
from vigorl_lib.benchmarks import registry as benchmarks
from vigorl_lib.nano.drawing import Question

LEDGER = json.loads((Path(__file__).parent.parent / "outputs/reference/measurements.json").read_text())
LIMIT = 0.03  # how far the upper end of the interval may lie above the majority


def places(*words):
    """Requests for a box in one of four corners, with a word for it at the end, or one that says nothing."""
    rng = random.Random(0)
    for _ in range(600):
        corner = rng.randrange(4)
        left, top = (corner % 2) / 2, (corner // 2) / 2
        yield f"Open the entry {words[corner] if words else rng.choice('abcd')}", (left, top, left + 0.5, top + 0.5)


def test_the_reader_of_places_reads_every_word():
    rows = list(places("north", "east", "south", "west"))
    by_words, constant = bench_twins.placed(rows[:400], rows[400:])
    assert sum(by_words) == 200 and sum(constant) < 80
    rows = list(places())
    by_words, constant = bench_twins.placed(rows[:400], rows[400:])
    assert sum(by_words) < 80


def test_the_majority_is_more_than_chance_where_one_answer_is_usual():
    asked = [
        Question("k", "?", ("yes", "no")[:: 1 if k % 2 else -1], "yes" if k % 4 else "no", list, {}) for k in range(80)
    ]
    assert text_only.chance(asked) == 0.5 and text_only.majority(asked, asked) == 0.75


@pytest.mark.parametrize("name", ["robospatial", "screenspot", "pope"])
def test_all_rows_of_a_twin_are_read(name):
    found, majority = bench_twins.text_alone(name, 60, 30)
    assert found["n"] == 30 and 0 <= majority < 1


def test_the_text_alone_keeps_to_the_majority():
    measured = {name for name in benchmarks.names() if f"twins.text_only_accuracy.{name}" in LEDGER}
    assert measured in (set(), set(benchmarks.names())), "python -m tests.bench_twins --only text measures all"
    for name in measured:
        found, majority = (LEDGER[f"twins.text_only_{what}.{name}"] for what in ("accuracy", "majority"))
        assert found["n"] == majority["n"] >= 10_000
        assert found["high"] <= majority["value"] + LIMIT, name
