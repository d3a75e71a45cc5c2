"""What the text alone gives away of each twin, and how long one nano evaluation over all of them takes.

    python -m tests.bench_twins             # about half an hour

A reader learns from `--learn` rows of a twin without their pictures (naive Bayes over words and option texts; where a
place is asked for, over words and the cells of a grid) and answers `--test` others. Writes
`twins.text_only_accuracy.<name>` and beside it `twins.text_only_majority.<name>`, what guessing or one answer for all
gets right, whichever is more, and `evaluation.all_twins_seconds`: the shipped base answers `--items` questions of every
twin, drawing included.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import random
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from unittest import mock

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import numpy as np

from tests import text_only
from vigorl_lib import stats
from vigorl_lib.benchmarks import registry as benchmarks
from vigorl_lib.benchmarks.robospatial import polygon
from vigorl_lib.nano import general, gui, twins, webpages
from vigorl_lib.nano.drawing import Question
from vigorl_lib.policy import answer, load_policy
from vigorl_lib.runs import PACKAGE, record_measurements

LEDGER = PACKAGE.parent / "outputs/reference/measurements.json"
GRID = 24  # cells along a side, for the reader of places
DOUBT = 20  # rows of which a word is believed to say nothing, beside those in which it was seen


def routed(make):
    """A maker of route questions as one of `Question`s."""

    def ask(rng: random.Random, number: int) -> Question:
        item = make(rng)
        return Question(item.kind, item.question, item.options, item.answer, list, {})

    return ask


CHOICES = text_only.ASK | {
    "sat2": routed(twins.sat2_item),
    "vstar": routed(twins.vstar_item),
    "visualwebarena": webpages.step,
}
SCREENS = ("screenspot", "screenspot_v2", "screenspot_pro")


def asked_places(name: str, count: int) -> Iterator[tuple[str, tuple[float, ...]]]:
    """Requests for a place of a twin, and the boxes asked for as shares of the sides."""
    rng = random.Random(f"{name}, text only")
    for _ in range(count):
        if name == "robospatial":
            question = general.robospatial(rng, "context")
            corners = polygon(question.answer)
            yield question.text, (*map(min, zip(*corners, strict=True)), *map(max, zip(*corners, strict=True)))
            continue
        with mock.patch.object(gui, "png", lambda _: b""):  # the reader sees no picture
            row = (
                gui.screenspot_pro(rng)[0] if name == "screenspot_pro" else gui.screenspot(rng, convention="shares")[0]
            )
        sides = row.get("img_size", [1, 1]) * 2
        yield row["instruction"], tuple(value / side for value, side in zip(row["bbox"], sides, strict=True))


def cells(box: Sequence[float]) -> np.ndarray:
    """Which cells (down, across) have their middle in a box."""
    middles = (np.arange(GRID) + 0.5) / GRID
    across, down = ((box[k] <= middles) & (middles <= box[k + 2]) for k in (0, 1))
    return np.outer(down, across)


def placed(learn: Sequence[tuple], test: Sequence[tuple]) -> tuple[list[bool], list[bool]]:
    """For each of `test`, whether the reader hits by all the words, and by one place for all."""
    hits, words, seen = np.ones((GRID, GRID)), {}, Counter()
    for instruction, box in learn:
        found = cells(box)
        hits += found
        for word in set(instruction.lower().split()):
            words[word] = words.get(word, 0) + found
            seen[word] += 1
    usual = hits / (len(learn) + 1)
    says = {word: np.log((words[word] + DOUBT * usual) / (seen[word] + DOUBT) / usual) for word in words}
    places = [
        np.argmax(np.log(usual) + sum(says.get(word, 0) for word in set(text.lower().split()))) for text, _ in test
    ]
    by_words = [bool(cells(box).flat[place]) for (_, box), place in zip(test, places, strict=True)]
    return by_words, [bool(cells(box).flat[np.argmax(usual)]) for _, box in test]


def text_alone(name: str, learn: int, test: int) -> tuple[dict[str, float], float]:
    """What the reader gets right of a twin, and what guessing or one answer for all does, whichever is more."""
    hits, usual, places = 0, 0.0, {**dict.fromkeys(SCREENS, 1), "robospatial": 3}.get(name)
    if places:  # all rows ask for a place, or one in three
        rows = list(asked_places(name, learn // places + test // places))
        by_words, constant = placed(rows[: learn // places], rows[learn // places :])
        hits, usual = sum(by_words), sum(constant)
    learn, rest = (count - (count // places if places else 0) for count in (learn, test))
    if rest:
        rng = random.Random(f"{name}, text only")
        # Without what would draw them: 15,000 screens do not fit into memory.
        asked = [dataclasses.replace(CHOICES[name](rng, n), draw=list, truth={}) for n in range(learn + rest)]
        hits += round(text_only.answered(asked[:learn], asked[learn:]) * rest)
        usual += text_only.majority(asked[:learn], asked[learn:]) * rest
    return stats.share([True] * hits + [False] * (test - hits)), usual / test


def evaluate_all(items: int) -> float:
    """Seconds that the shipped base takes for so many questions of every twin, drawing and grading included."""
    policy, began = load_policy(PACKAGE / "checkpoints/base"), time.perf_counter()
    for name in benchmarks.names():
        examples = benchmarks.load(name, split="dev", limit=items)
        replies = answer(policy, examples, "direct", max_new_tokens=48, temperature=0.5, seed=0)
        grades = [
            benchmarks.grade(name, reply.turns, example, frame=policy.frame_of(example))
            for reply, example in zip(replies, examples, strict=True)
        ]
        found = benchmarks.aggregate(name, grades)["accuracy"]
        print(f"{name:15} {found['value']:.3f}, {time.perf_counter() - began:.0f} s so far", flush=True)
    return time.perf_counter() - began


def main() -> None:
    """Measure both and write them to the ledger."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--learn", type=int, default=5000)
    parser.add_argument("--test", type=int, default=10_000)
    parser.add_argument("--items", type=int, default=200)
    parser.add_argument("--only", choices=("evaluation", "text"), help="one of the two")
    parser.add_argument("--ledger", type=Path, default=LEDGER, help="where the result is written")
    chosen = parser.parse_args()
    if chosen.only != "text":
        command = f"python -m tests.bench_twins --only evaluation --items {chosen.items}"
        entry = {"value": evaluate_all(chosen.items), "unit": "s", "n": chosen.items, "seeds": [0], "command": command}
        record_measurements(chosen.ledger, {"evaluation.all_twins_seconds": entry})
    if chosen.only == "evaluation":
        return
    common = {
        "unit": "fraction",
        "seeds": [],
        "command": f"python -m tests.bench_twins --only text --learn {chosen.learn} --test {chosen.test}",
    }
    for name in benchmarks.names():
        found, majority = text_alone(name, chosen.learn, chosen.test)
        print("{:15} {value:.3f} [{low:.3f}, {high:.3f}], majority {:.3f}".format(name, majority, **found), flush=True)
        entries = {f"twins.text_only_accuracy.{name}": found | common}
        entries[f"twins.text_only_majority.{name}"] = {"value": majority, "n": chosen.test} | common
        record_measurements(chosen.ledger, entries)


if __name__ == "__main__":
    main()
