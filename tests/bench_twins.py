"""What the text alone gives away of each twin, and how long one nano evaluation over all of them takes.

    python -m tests.bench_twins             # about half an hour

A reader learns from `--learn` rows of a twin without their pictures (naive Bayes over words and option texts; where a
place is asked for, the cell of a grid that answers most often, word by word) and answers `--test` others. Writes
`twins.text_only_accuracy.<name>` and beside it `twins.text_only_chance.<name>`, and `evaluation.all_twins_seconds`: the
shipped base answers `--items` questions of every twin, drawing included.
"""

from __future__ import annotations

import argparse
import os
import random
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")

from tests import text_only
from vigorl_lib import stats
from vigorl_lib.benchmarks import registry as benchmarks
from vigorl_lib.nano import gui, twins, webpages
from vigorl_lib.nano.drawing import Question
from vigorl_lib.policy import answer, load_policy
from vigorl_lib.runs import PACKAGE, record_measurements

LEDGER = PACKAGE.parent / "outputs/reference/measurements.json"
GRID = 24  # cells along a side, for the reader of screens


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
SCREENS = {"screenspot": 2, "screenspot_v2": 2, "screenspot_pro": 5}  # windows, at most


def asked_places(name: str, count: int) -> Iterator[tuple[str, tuple[float, ...]]]:
    """Instructions of a screen's twin, and the boxes asked for as shares of the sides."""
    rng = random.Random(f"{name}, text only")
    for _ in range(count):
        row = gui.screenspot_pro(rng)[0] if name == "screenspot_pro" else gui.screenspot(rng, convention="shares")[0]
        sides = row.get("img_size", [1, 1]) * 2
        yield row["instruction"], tuple(value / side for value, side in zip(row["bbox"], sides, strict=True))


def cells(box: Sequence[float]) -> Iterator[tuple[int, int]]:
    """The cells whose middle lies in a box."""
    for x in range(GRID):
        for y in range(GRID):
            across, down = (x + 0.5) / GRID, (y + 0.5) / GRID
            if box[0] <= across <= box[2] and box[1] <= down <= box[3]:
                yield x, y


def placed(learn: Sequence[tuple], test: Sequence[tuple]) -> tuple[list[bool], list[bool]]:
    """For each of `test`, whether the reader hits by the words, and by one place for all."""
    hits, words = Counter(), defaultdict(Counter)
    for instruction, box in learn:
        for cell in cells(box):
            hits[cell] += 1
            for word in instruction.split()[:1]:
                words[word][cell] += 1
    best = max(hits, key=hits.get)
    best_of = {word: max(found, key=found.get) for word, found in words.items() if found}
    by_word = [best_of.get(instruction.split()[0], best) in set(cells(box)) for instruction, box in test]
    return by_word, [best in set(cells(box)) for _, box in test]


def text_alone(name: str, learn: int, test: int) -> tuple[dict[str, float], float]:
    """What the reader gets right of a twin, and what chance is."""
    if name in SCREENS:
        rows = list(asked_places(name, learn + test))
        by_word, constant = placed(rows[:learn], rows[learn:])
        return stats.share(by_word), sum(constant) / test
    rng = random.Random(f"{name}, text only")
    asked = [CHOICES[name](rng, number) for number in range(learn + test)]
    found = text_only.answered(asked[:learn], asked[learn:])
    hits = round(found * test)
    return stats.share([True] * hits + [False] * (test - hits)), text_only.chance(asked[learn:])


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
        found, chance = text_alone(name, chosen.learn, chosen.test)
        print("{:15} {value:.3f} [{low:.3f}, {high:.3f}], chance {:.3f}".format(name, chance, **found), flush=True)
        entries = {f"twins.text_only_accuracy.{name}": found | common}
        entries[f"twins.text_only_chance.{name}"] = {"value": chance, "n": chosen.test} | common
        record_measurements(chosen.ledger, entries)


if __name__ == "__main__":
    main()
