"""Measure the web sites, their tasks and the browser that agents drive: `python -m tests.bench_web`.

The solutions of all tasks of a seed run with eight contexts in one browser, then an agent that stops at once. Two busy
cores take about six minutes.
"""

from __future__ import annotations

import argparse
import asyncio
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from vigorl_lib.runs import PACKAGE, record_measurements
from vigorl_lib.web import world
from vigorl_lib.web.agent import Episode, Policy, run_tasks, success_rate
from vigorl_lib.web.evaluators import Task, load_tasks
from vigorl_lib.web.sites import Sites, serve
from vigorl_lib.web.tasks import generate, save_tasks, scripted

LEDGER = PACKAGE.parent / "outputs/reference/measurements.json"


def start_seconds(repeats: int) -> list[float]:
    """How long the three sites take to serve, each time anew."""
    taken = []
    for _ in range(repeats):
        began = time.perf_counter()
        with serve(0):
            taken.append(time.perf_counter() - began)
    return taken


def reset_seconds(sites: Sites, repeats: int) -> list[float]:
    """How long a session takes to get a fresh database: each time of a seed that was not asked for before."""
    taken = []
    for seed in range(1000, 1000 + repeats):
        began = time.perf_counter()
        sites.reset("bench", seed)
        taken.append(time.perf_counter() - began)
    expected = sqlite3.connect(":memory:")
    world.fill(expected, 1000 + repeats - 1)
    assert list(sites.database("bench").iterdump()) == list(expected.iterdump())
    return taken


def run(
    tasks: Sequence[Task], policy_of: Callable[[Task], Policy], folder: Path, sites: Sites, seed: int
) -> tuple[list[Episode], float]:
    """The episodes and their steps a second, the browser's start and the evaluations among them."""
    began = time.perf_counter()
    episodes = asyncio.run(run_tasks(tasks, policy_of, folder, sites=sites, seed=seed, contexts=8))
    rate = sum(episode.steps for episode in episodes) / (time.perf_counter() - began)
    for episode in episodes:
        if episode.error:
            print(f"{episode.id}: {episode.error}")
    return episodes, rate


def main() -> None:
    """Measure all and write it to the ledger."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--ledger", type=Path, default=LEDGER, help="where the result is written")
    chosen = parser.parse_args()
    starts = start_seconds(10)
    solved = {one.id: one for one in generate(chosen.seed)}
    with serve(0) as sites, tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        resets = reset_seconds(sites, 20)
        save_tasks(folder / "tasks.json", list(solved.values()))
        tasks = load_tasks(folder / "tasks.json", sites.urls)
        episodes, rate = run(
            tasks, lambda task: scripted(solved[task.id].steps), folder / "scripted", sites, chosen.seed
        )
        idle, _ = run(tasks, lambda task: scripted([]), folder / "idle", sites, chosen.seed)
    for episode in episodes:
        if min(episode.scores.values()) < 1:
            print(f"not solved: {episode.id}, {episode.intent} ({episode.end})")
    common = {"seeds": [chosen.seed], "command": f"python -m tests.bench_web --seed {chosen.seed}"}
    entries = {
        "web.start_s": {"value": statistics.median(starts), "unit": "s", "high": max(starts), "n": len(starts)},
        "web.reset_s": {"value": statistics.median(resets), "unit": "s", "high": max(resets), "n": len(resets)},
        "web.steps_per_s": {"value": rate, "unit": "steps/s", "n": sum(episode.steps for episode in episodes)},
        "web.tasks": {"value": len(tasks), "unit": "tasks", "n": len(tasks)},
        "web.scripted_success": {"value": success_rate(episodes, "official"), "unit": "fraction", "n": len(tasks)},
        "web.noop_success": {"value": success_rate(idle, "official"), "unit": "fraction", "n": len(tasks)},
    }
    record_measurements(chosen.ledger, {name: entry | common for name, entry in entries.items()})
    for name, entry in entries.items():
        print(f"{name} {entry['value']:.4g} {entry['unit']}")


if __name__ == "__main__":
    main()
