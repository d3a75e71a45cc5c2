"""Many scripted trees to disk: how many a second, how much memory, and what kills do to them.

    python -m tests.bench_gather            # about two minutes on one core

The policy is a function of the request, so that all time is the search's own. 10,000 trees of 8 simulations are grown
and appended to a file, each forced to disk; resident memory is read after 100 and at the end. Then a search is killed
20 times and begun again, each time at a random moment after its first new tree: after each kill every tree that was
there is still there, once, and in the end the trees are those of a search that nobody killed. Writes
`search.scripted_trees_per_second`, `search.memory_growth` and `search.kills_survived` to the ledger of measurements.
"""

from __future__ import annotations

import argparse
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import psutil

from vigorl_lib.records import Example, Proposal, StepRequest
from vigorl_lib.runs import PACKAGE, record_measurements
from vigorl_lib.search.gather import gather, read_trees
from vigorl_lib.search.mcts import SearchSettings, search

LEDGER = PACKAGE.parent / "outputs/reference/measurements.json"
QUESTION = "Start at the red circle. Go first right, second below. Is what you reach larger or smaller?"
SETTINGS = SearchSettings(simulations=8, max_depth=7)


class Examples(Sequence[Example]):
    """So many questions that differ by their ids, made when asked for."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Example:
        if not 0 <= index < self.count:
            raise IndexError(index)
        return Example(f"q{index}", "sat2", "scripted", QUESTION, ("larger", "smaller"), "larger", ())


def scripted(requests: Sequence[StepRequest]) -> list[Proposal]:
    """An answer in three of ten requests, else a step with a point; the request's seed says which."""
    made = []
    for request in requests:
        draw = request.seed
        if request.must_answer or draw % 10 < 3:
            made.append(Proposal("", "larger" if draw % 3 else "smaller", 5))
        else:
            made.append(Proposal(f"Look: red circle ({draw % 96}, {draw // 96 % 96}).", None, 12))
    return made


def judge(example: Example, answer: str) -> float:
    return float(answer == example.answer)


def grow(examples: Iterable[Example]) -> Iterator:
    return search(examples, scripted, judge, SETTINGS, seed=0, batch_size=256, trees_in_flight=48)


def speed(count: int, folder: Path) -> tuple[float, float]:
    """Trees a second, and resident memory at the end as a multiple of that after 100 trees."""
    process, began, early = psutil.Process(), time.perf_counter(), 0
    for number, _ in enumerate(gather(folder / "many.jsonl", Examples(count), grow), start=1):
        if number == 100:
            early = process.memory_info().rss
    seconds, late = time.perf_counter() - began, process.memory_info().rss
    print(f"{count} trees in {seconds:.1f} s; {early / 2**20:.0f} MiB after 100, {late / 2**20:.0f} MiB at the end")
    return count / seconds, late / early


def lines(path: Path) -> int:
    """Whole lines of a file."""
    return path.read_bytes().count(b"\n") if path.exists() else 0


def survived(kills: int, count: int, folder: Path) -> int:
    """How many of the kills left every tree that was there as it was, once."""
    path, rng, good = folder / "killed.jsonl", random.Random(0), 0
    expected = {tree.id: tree for tree in grow(Examples(count))}
    words = [sys.executable, "-m", "tests.bench_gather", "--grow", str(path), "--trees", str(count)]
    before: set[str] = set()
    for number in range(kills):
        process = subprocess.Popen(words)
        while process.poll() is None and lines(path) <= len(before):
            time.sleep(0.02)
        time.sleep(rng.uniform(0.0, 0.5))
        assert process.poll() is None, "the search was over before it could be killed: give it more trees"
        process.kill()
        process.wait()
        found = list(read_trees(path)) if path.exists() else []
        ids = Counter(tree.id for tree in found)
        fine = before <= set(ids) and all(n == 1 for n in ids.values())
        fine = fine and all(tree == expected[tree.id] for tree in found)
        good += fine
        print(f"kill {number + 1}: {len(found)} trees, {'all well' if fine else 'DAMAGED'}", flush=True)
        before = set(ids)
    subprocess.run(words, check=True)
    whole = list(read_trees(path))
    same = len(whole) == count and {tree.id: tree for tree in whole} == expected
    print("the final set is", "that of the unbroken search" if same else "ANOTHER ONE")
    return good if same else 0


def main() -> None:
    """Measure all three and write them to the ledger."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trees", type=int, default=10_000)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--grow", type=Path, help="only grow trees into this file, slowly: the one that is killed")
    parser.add_argument("--ledger", type=Path, default=LEDGER, help="where the result is written")
    chosen = parser.parse_args()
    if chosen.grow:
        for _ in gather(chosen.grow, Examples(chosen.trees), grow):
            time.sleep(0.01)
        return
    with tempfile.TemporaryDirectory() as folder:
        rate, growth = speed(chosen.trees, Path(folder))
        good = survived(chosen.kills, 1200, Path(folder))
    common = {"seeds": [0], "command": f"python -m tests.bench_gather --trees {chosen.trees} --kills {chosen.kills}"}
    entries = {
        "search.scripted_trees_per_second": {"value": rate, "unit": "trees/s", "n": chosen.trees},
        "search.memory_growth": {"value": growth, "unit": "times", "n": chosen.trees},
        "search.kills_survived": {"value": good, "unit": "kills", "n": chosen.kills},
    }
    record_measurements(chosen.ledger, {name: entry | common for name, entry in entries.items()})
    print(f"{rate:.0f} trees/s, memory x {growth:.2f}, {good} of {chosen.kills} kills survived")


if __name__ == "__main__":
    main()
