"""How long does the suite of interventions take on one model? `python -m tests.bench_suite` (minutes on two cores).

The shipped ViGoRL model and `--items` questions of the SAT-2 twin, drawing and pictures included, with the settings of
memory that the Makefile gives to notebooks. Writes `faithfulness.suite_s` to the ledger of measurements.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")

from vigorl_lib.benchmarks import registry as benchmarks
from vigorl_lib.faithfulness import suite
from vigorl_lib.policy import load_policy
from vigorl_lib.runs import PACKAGE, record_measurements

# The Makefile's; the C library reads them when it starts.
MEMORY = dict(re.findall(r"^export (MALLOC_\w+) = (\d+)$", (PACKAGE.parent / "Makefile").read_text(), re.MULTILINE))
LEDGER = PACKAGE.parent / "outputs/reference/measurements.json"


def main() -> None:
    """Run the suite once, into a folder that is thrown away."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--items", type=int, default=500, help="questions")
    parser.add_argument("--batch-size", type=int, default=256, help="replies written together")
    parser.add_argument("--ledger", type=Path, default=LEDGER, help="where the result is written")
    chosen = parser.parse_args()

    policy = load_policy(PACKAGE / "checkpoints/grpo", batch_size=chosen.batch_size)
    began, used = time.monotonic(), time.process_time()
    examples = benchmarks.load("sat2", split="test", limit=chosen.items, seed=0)
    with tempfile.TemporaryDirectory() as folder:
        found = suite(policy, examples, "grounded", folder, max_new_tokens=96, temperature=0.5, seed=0)
    seconds, work = time.monotonic() - began, time.process_time() - used
    for name, row in found.items():
        print(f"{name:24} {row['accuracy']['value']:.3f}")
    command = f"python -m tests.bench_suite --items {chosen.items} --batch-size {chosen.batch_size}"
    entry = {"value": round(seconds, 1), "unit": "s", "n": chosen.items, "seeds": [0], "command": command}
    record_measurements(chosen.ledger, {"faithfulness.suite_s": entry})
    print(f"{chosen.items} questions, {len(found)} rows: {seconds:.1f} s ({work:.1f} s of work), to {chosen.ledger}")


if __name__ == "__main__":
    if not MEMORY.items() <= os.environ.items():
        os.execve(sys.executable, [sys.executable, "-m", "tests.bench_suite", *sys.argv[1:]], os.environ | MEMORY)
    main()
