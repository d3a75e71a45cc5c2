"""Measure the web sites, their tasks and the browser that agents drive: `python -m tests.bench_web`.

The solutions of all tasks of a seed run side by side in one browser, then an agent that stops at once; then, for leaks,
the solutions several times more. CPU seconds are those of this process, the driver and the browser together.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import dataclasses
import sqlite3
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import psutil

from vigorl_lib.runs import PACKAGE, record_measurements
from vigorl_lib.web import world
from vigorl_lib.web.agent import Episode, Policy, run_tasks, success_rate
from vigorl_lib.web.browser import VIEWPORT
from vigorl_lib.web.evaluators import Task, load_tasks
from vigorl_lib.web.sites import Sites, serve
from vigorl_lib.web.tasks import Solved, generate, save_tasks, scripted

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


def family() -> Iterator[psutil.Process]:
    """This process and all below it."""
    me = psutil.Process()
    return iter([me, *me.children(recursive=True)])


def cpu_seconds() -> float:
    """What the family has used, with what those of its members used that ended and were waited for."""
    used = 0.0
    for process in family():
        with contextlib.suppress(psutil.NoSuchProcess):
            used += sum(process.cpu_times()[:4])
    return used


def memory() -> int:
    """The family's memory in bytes, what is shared counted once (PSS)."""
    held = 0
    for process in family():
        with contextlib.suppress(psutil.NoSuchProcess):
            held += process.memory_full_info().pss
    return held


class Watch(threading.Thread):
    """Looks twice a second at the family: `used` are its CPU seconds, `seen` who was in it.

    What a browser's processes used is lost when they end with it, so the most that was seen counts.
    """

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.before, self.over = set(family()), threading.Event()
        self.began, self.most, self.seen = cpu_seconds(), 0.0, set()

    def run(self) -> None:
        while not self.over.wait(0.5):
            self.most = max(self.most, cpu_seconds())
            self.seen |= set(family())

    def stop(self) -> float:
        """The CPU seconds since the beginning."""
        self.over.set()
        self.join()
        return self.most - self.began

    def left_over(self) -> int:
        """How many processes that came are still there, zombies too, five seconds later."""
        _, alive = psutil.wait_procs(self.seen - self.before, timeout=5)
        return len(alive)


@dataclasses.dataclass(frozen=True)
class Run:
    """Episodes, their steps and CPU seconds; the browser's start and the evaluations are in the times."""

    episodes: list[Episode]
    seconds: float
    cpu_seconds: float
    left_over: int

    @property
    def steps(self) -> int:
        return sum(episode.steps for episode in self.episodes)


def run(tasks: Sequence[Task], policy_of: Callable[[Task], Policy], folder: Path, **how: Any) -> Run:
    """One episode of each task."""
    watch, began = Watch(), time.perf_counter()
    watch.start()
    episodes = asyncio.run(run_tasks(tasks, policy_of, folder, **how))
    seconds, used = time.perf_counter() - began, watch.stop()
    for episode in episodes:
        if episode.error:
            print(f"{episode.id}: {episode.error}")
    return Run(episodes, seconds, used, watch.left_over())


def soak(tasks: Sequence[Task], solved: dict[str, Solved], folder: Path, rounds: int, **how: Any) -> tuple[float, Run]:
    """All tasks `rounds` times in one browser: by which fraction the memory grew from the second round to the last.

    Of each round it is the median of what is held when an episode begins.
    """
    again = [dataclasses.replace(task, id=f"{task.id}/{turn}") for turn in range(rounds) for task in tasks]
    held = []

    def policy_of(task: Task) -> Policy:
        held.append(memory())
        return scripted(solved[task.id.rsplit("/", 1)[0]].steps)

    found = run(again, policy_of, folder, **how)
    second, last = held[len(tasks) : 2 * len(tasks)], held[-len(tasks) :]
    return statistics.median(last) / statistics.median(second) - 1, found


def main() -> None:
    """Measure all and write it to the ledger."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--contexts", type=int, default=8, help="episodes side by side")
    parser.add_argument("--viewport", type=int, nargs=2, default=VIEWPORT, help="the window's width and height, pixels")
    parser.add_argument("--tasks", type=int, default=None, help="only so many of the seed's tasks")
    parser.add_argument("--rounds", type=int, default=7, help="how often the soak does all tasks; 0: none")
    parser.add_argument("--ledger", type=Path, default=LEDGER, help="where the result is written")
    chosen = parser.parse_args()
    if chosen.rounds in (1, 2):
        parser.error("--rounds: the second round is compared with a later one; give 3 or more, or 0")
    starts = start_seconds(10)
    solved = {one.id: one for one in generate(chosen.seed)}
    with serve(0) as sites, tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        resets = reset_seconds(sites, 20)
        save_tasks(folder / "tasks.json", list(solved.values()))
        tasks = load_tasks(folder / "tasks.json", sites.urls)
        tasks = tasks[:: -(-len(tasks) // chosen.tasks)] if chosen.tasks else tasks
        how = {"sites": sites, "seed": chosen.seed, "contexts": chosen.contexts, "viewport": tuple(chosen.viewport)}
        done = run(tasks, lambda task: scripted(solved[task.id].steps), folder / "scripted", **how)
        idle = run(tasks, lambda task: scripted([]), folder / "idle", **how)
        growth, soaked = soak(tasks, solved, folder / "soak", chosen.rounds, **how) if chosen.rounds else (None, None)
    for episode in done.episodes:
        if min(episode.scores.values()) < 1:
            print(f"not solved: {episode.id}, {episode.intent} ({episode.end})")
    command = f"python -m tests.bench_web --seed {chosen.seed} --contexts {chosen.contexts}"
    common = {"seeds": [chosen.seed], "command": f"{command} --viewport {chosen.viewport[0]} {chosen.viewport[1]}"}
    entries = {
        "web.start_s": {"value": statistics.median(starts), "unit": "s", "high": max(starts), "n": len(starts)},
        "web.reset_s": {"value": statistics.median(resets), "unit": "s", "high": max(resets), "n": len(resets)},
        "web.steps_per_s": {"value": done.steps / done.seconds, "unit": "steps/s", "n": done.steps},
        "web.cpu_s_per_step": {"value": done.cpu_seconds / done.steps, "unit": "CPU s", "n": done.steps},
        "web.tasks": {"value": len(tasks), "unit": "tasks", "n": len(tasks)},
        "web.scripted_success": {"value": success_rate(done.episodes, "official"), "unit": "fraction", "n": len(tasks)},
        "web.noop_success": {"value": success_rate(idle.episodes, "official"), "unit": "fraction", "n": len(tasks)},
    }
    if soaked:
        count = len(soaked.episodes)
        entries["web.memory_growth"] = {"value": growth, "unit": "fraction", "n": count}
        entries["web.zombies"] = {"value": soaked.left_over, "unit": "processes", "n": count}
    record_measurements(chosen.ledger, {name: entry | common for name, entry in entries.items()})
    for name, entry in entries.items():
        print(f"{name} {entry['value']:.4g} {entry['unit']}")


if __name__ == "__main__":
    main()
