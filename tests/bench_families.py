"""Which family shall the nano base be? Both learn the same first lessons, one after the other, in this run.

    python -m tests.bench_families          # about ten minutes on two idle cores

Same seed, sizes, tokenizer, pictures and lessons; the eye first, then listings of pictures with up to three things.
Reported: what the eye says right at the end, the loss, how many of the exam's points hit on pictures of two or three
things, and the seconds that each took. Writes `nano_family.<family>.point_hit` to the ledger of measurements.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path
from typing import get_args

os.environ.setdefault("HF_HUB_OFFLINE", "1")

from vigorl_lib import stats, training
from vigorl_lib.nano import exam, eye, lessons
from vigorl_lib.nano.model import Family, build_model, build_processor
from vigorl_lib.nano.muon import MuonAdamW
from vigorl_lib.policy import LocalPolicy, load_policy
from vigorl_lib.runs import PACKAGE, record_measurements

LEDGER = PACKAGE.parent / "outputs/reference/measurements.json"
BATCH = 32


def race(family: Family, tokenizer, *, seed: int, eye_steps: int, steps: int, items: int) -> dict:
    """Train one family from nothing and examine it: the share of points that hit, with its interval."""
    began = time.perf_counter()
    model, processor = build_model(family, tokenizer, seed=seed), build_processor(family, tokenizer)
    *_, seen = eye.train_eye(model, processor, steps=eye_steps, learning_rate=2e-3, seed=seed)
    settings = training.SFTSettings(
        max_steps=steps, batch_size=BATCH, learning_rate=3e-3, warmup_steps=30, logging_steps=min(25, steps), seed=seed
    )

    def lesson(index: int) -> list[dict]:
        return lessons.lesson(seed * 1_000_000_000 + index, most=3, kind=0.0)

    rows = training.lazy_rows(lesson, range(steps * BATCH))
    with tempfile.TemporaryDirectory() as folder:
        trainer = training.sft_trainer(
            model, processor, rows, settings, folder, optimiser=MuonAdamW(model, learning_rate=3e-3)
        )
        trainer.train()
    asked = exam.exam("point", items, seed=seed, things=3)
    said = LocalPolicy(model, processor).complete([item.messages for item in asked], max_new_tokens=16, temperature=0)
    hits = stats.share(item.right(reply.text) for item, reply in zip(asked, said, strict=True))
    seconds, loss = time.perf_counter() - began, training.curve(trainer)[-1]["loss"]
    told = ", ".join(f"{name} {seen[name]:.2f}" for name in ("colour", "shape", "x"))
    size = sum(value.numel() for value in model.parameters())
    print(
        f"{family:11} {size:,} parameters: eye {told}; loss {loss:.3f}; "
        f"points {hits['value']:.2f} [{hits['low']:.2f}, {hits['high']:.2f}]; {seconds:.0f} s",
        flush=True,
    )
    return hits


def main() -> None:
    """Race both families and write their points to the ledger."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--eye-steps", type=int, default=250)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--items", type=int, default=400)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--ledger", type=Path, default=LEDGER, help="where the result is written")
    chosen = parser.parse_args()
    tokenizer = load_policy(PACKAGE / "checkpoints/base").tokenizer
    sizes = {"seed": chosen.seed, "eye_steps": chosen.eye_steps, "steps": chosen.steps, "items": chosen.items}
    for family in get_args(Family):
        hits = race(family, tokenizer, **sizes)
        words = " ".join(f"--{name.replace('_', '-')} {value}" for name, value in sizes.items())
        entry = {
            **hits,
            "unit": "fraction",
            "seeds": [chosen.seed],
            "command": f"python -m tests.bench_families {words}",
        }
        record_measurements(chosen.ledger, {f"nano_family.{family}.point_hit": entry})


if __name__ == "__main__":
    main()
