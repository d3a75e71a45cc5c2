"""Do two processes train what one does? The largest difference of a parameter after a few steps of SFT.

    python -m tests.bench_ddp        # about a minute on two idle cores

The nano base learns to name the things of the SAT-2 twin's true routes, in one process and, by torchrun over gloo, in
two, with the same batches. Compared are the weights of the last checkpoint, in fp32. Writes
`ddp.two_process_max_abs_diff` to the ledger of measurements. (test_launching.py: a smaller, random model.)
"""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")

from safetensors.torch import load_file

from vigorl_lib import training
from vigorl_lib.benchmarks import registry as benchmarks
from vigorl_lib.jobs import Job, SFTSettings, write_turns
from vigorl_lib.runs import PACKAGE, record_measurements
from vigorl_lib.traces import render_single

LEDGER = PACKAGE.parent / "outputs/reference/measurements.json"


def weights(folder: Path, settings: SFTSettings, launcher: str) -> dict:
    """The weights after a run in that folder, as its last checkpoint has them."""
    needed = settings.batch_size * settings.accumulate * settings.max_steps
    examples = benchmarks.load("sat2", "twin", split="train", limit=needed, seed=0)
    rows = []
    for example in examples:
        names = [example.truth["names"][index] for index in example.truth["route"]]
        rows.append((example.id, [render_single([f"Look: {name} (48, 48)." for name in names], example.answer)]))
    folder.mkdir()
    turns = write_turns(folder / "turns.jsonl", rows)
    job = Job(str(PACKAGE / "checkpoints/base"), str(folder), "grounded", "sat2", "twin", needed, turns=turns)
    training.launch(job, settings, launcher)
    return load_file(folder / f"trainer/checkpoint-{settings.max_steps}/model.safetensors")


def main() -> None:
    """Train twice, compare, record."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--ledger", type=Path, default=LEDGER, help="where the result is written")
    chosen = parser.parse_args()
    settings = SFTSettings(
        max_steps=chosen.steps, learning_rate=3e-4, batch_size=8, accumulate=2, save_steps=chosen.steps, logging_steps=1
    )
    with tempfile.TemporaryDirectory() as folder:
        one = weights(Path(folder) / "one", settings, "")
        two = weights(Path(folder) / "two", settings, "torchrun --standalone --nproc_per_node 2")
    worst = {name: (one[name] - two[name]).abs().max().item() for name in one}
    name = max(worst, key=worst.get)
    print(f"after {chosen.steps} steps the weights differ by at most {worst[name]:.2e} ({name})")
    entry = {
        "value": worst[name],
        "unit": "absolute difference",
        "n": sum(value.numel() for value in one.values()),
        "seeds": [0],
        "command": f"python -m tests.bench_ddp --steps {chosen.steps}",
    }
    record_measurements(chosen.ledger, {"ddp.two_process_max_abs_diff": entry})


if __name__ == "__main__":
    main()
