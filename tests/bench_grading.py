"""How many replies a second does each grader grade? `python -m tests.bench_grading` (seconds on one core).

Replies of ordinary length to one example of each sort of answer. Mathematics is left out: it is decided in a process of
its own (`benchmarks/maths.py`). Writes the slowest rate as `grading.items_per_second` to the ledger of measurements.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from vigorl_lib.benchmarks import registry as benchmarks
from vigorl_lib.grounding import Frame
from vigorl_lib.records import Example
from vigorl_lib.runs import PACKAGE, record_measurements

LEDGER = PACKAGE.parent / "outputs/reference/measurements.json"
THINK = "<think>\nThe red circle is at (12, 40). First right: blue square (60, 41). Second below: (61, 80).\n</think>\n"
CHOICE = {"options": ("left", "right", "above"), "answer": "right", "images": ()}
EXAMPLES = [
    Example("a", "sat2", "goal_aim", "?", **CHOICE),
    Example("b", "blink", "Counting", "?", **CHOICE),
    Example("c", "ai2d", "diagram", "?", **CHOICE),
    Example("d", "wemath", "2steps_1", "?", **CHOICE),
    Example("e", "realworldqa", "choice", "?", **CHOICE),
    Example("f", "pope", "popular", "?", ("yes", "no"), "yes", ()),
    Example("g", "robospatial", "compatibility", "?", ("yes", "no"), "yes", ()),
    Example("h", "gqa", "query", "?", (), "right", ()),
    Example("i", "screenspot", "web/icon", "?", (), "", (), box=(50, 40, 70, 60), size=(1280, 900)),
    Example("j", "visualwebarena", "click", "?", (), "click [12]", ()),
]
ANSWERS = ("right", "A", "(60, 41)", "yes", "click [12]", "nothing of the kind")


def main() -> None:
    """Measure every pair of grader and protocol."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--replies", type=int, default=20_000, help="graded by each pair")
    parser.add_argument("--ledger", type=Path, default=LEDGER, help="where the result is written")
    chosen = parser.parse_args()

    frame = Frame.resized(Frame.original(1280, 900), 640, 450)
    replies = [f"{THINK}<answer> {answer} </answer>" for answer in ANSWERS]
    rates = {}
    for example in EXAMPLES:
        for protocol in benchmarks.FAMILIES[example.benchmark].graders:
            began = time.process_time()
            for number in range(chosen.replies):
                reply = replies[number % len(replies)]
                benchmarks.grade(example.benchmark, reply, example, protocol, frame=frame)
            rates[example.benchmark, protocol] = chosen.replies / (time.process_time() - began)
            print(f"{example.benchmark:15} {protocol:9} {rates[example.benchmark, protocol]:10,.0f} replies/s")
    entry = {
        "value": min(rates.values()),
        "unit": "replies/s",
        "n": chosen.replies,
        "seeds": [],
        "command": f"python -m tests.bench_grading --replies {chosen.replies}",
    }
    record_measurements(chosen.ledger, {"grading.items_per_second": entry})
    print(f"slowest: {min(rates, key=rates.get)}; written to {chosen.ledger}")


if __name__ == "__main__":
    main()
