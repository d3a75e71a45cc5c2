"""What speeds training up: each change against what it replaces, both sides in one run, in turns.

    python -m tests.bench_training        # under two minutes on two idle cores, at nano size

With a model of true size, on a GPU: `--model Qwen/Qwen2.5-VL-3B-Instruct --rows 8`. One pass is forward and backward
over a batch of the policy's own conversations, the vision tower frozen.

features   a group's rollouts share their picture: seen once (`fused.see_once`), or once for each rollout. TRL gives
           every rollout its pixels
padding    batches of rows in length order, or in random order: seconds for the same rows
attention  sdpa, or eager
head       log-probabilities in tiles (TRL's fused head), or from whole logits: seconds, and bytes at the peak

Prints median seconds of both sides and the speed-up, at last the seconds of a pass as `prediction` has them. With
`--ledger FILE` it writes `training.speedup.<change>` there.
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
from torch.nn import functional as F
from trl.trainer.utils import add_fused_lm_head

from vigorl_lib import learning, lengths, training
from vigorl_lib.attention import see_by_length
from vigorl_lib.benchmarks import registry as benchmarks
from vigorl_lib.fused import see_once
from vigorl_lib.policy import LocalPolicy, load_policy
from vigorl_lib.prediction import Device, _Meter, build, measured_device
from vigorl_lib.prediction import one_pass as predicted_pass
from vigorl_lib.runs import PACKAGE, record_measurements

NO_DEVICE = Device("none", 0, 1.0, 1.0, 0.0)  # only bytes are read off the meter


def conversations(policy: LocalPolicy, count: int) -> tuple[list[Any], list[int]]:
    """Conversations with replies of unlike length, and their tokens."""
    examples = benchmarks.load("sat2", split="train", limit=count, seed=0)
    rng = random.Random(0)
    replies = [["Look: red circle (20, 31). " * rng.randint(1, 8)] for _ in examples]
    tokens = [s.tokens for s in lengths.samples(policy, examples, "grounded", replies)]
    talks = [
        [*policy.conversation(e, policy.view_of(e).image, "grounded"), {"role": "assistant", "content": reply}]
        for e, (reply,) in zip(examples, replies, strict=True)
    ]
    return talks, tokens


def batch_of(policy: LocalPolicy, talks: Sequence[Any]) -> dict[str, torch.Tensor]:
    """A training batch on the model's device."""
    batch = training.Collator(policy.processor)([{"messages": talk} for talk in talks])
    return {name: value.to(policy.model.device) for name, value in batch.items()}


def one_pass(policy: LocalPolicy, batch: dict[str, torch.Tensor], *, fused: bool = True) -> None:
    """Forward and backward; `fused=False`: from whole logits, as a loss written down plainly has it."""
    labels = batch["labels"]
    inputs = {name: value for name, value in batch.items() if name != "labels"}
    if fused:
        loss = policy.model(**inputs, labels=labels, fused_lm_head=True).loss
    else:
        logs = policy.model(**inputs).logits[:, :-1].float().log_softmax(-1)
        loss = F.nll_loss(logs.transpose(1, 2), labels[:, 1:], ignore_index=-100)
    loss.backward()
    policy.model.zero_grad(set_to_none=True)
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def compare(sides: dict[str, Callable[[], None]], rounds: int) -> dict[str, float]:
    """Median seconds of each side, measured in turns after one warm-up; on a CPU those of this process."""
    clock = time.perf_counter if torch.cuda.is_available() else time.process_time
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(rounds + 1):
        for name, work in sides.items():
            began = clock()
            work()
            if number:
                seconds[name].append(clock() - began)
    return {name: statistics.median(found) for name, found in seconds.items()}


def features(policy: LocalPolicy, talks: Sequence[Any], tokens: Sequence[int], rounds: int) -> dict[str, float]:
    """One picture for all rows, as in a group of rollouts."""
    batch, tower = batch_of(policy, [talks[0]] * len(talks)), policy.model.model.visual

    def once() -> None:
        see_once(policy.model)
        one_pass(policy, batch)
        del tower.forward

    return compare({"each": lambda: one_pass(policy, batch), "once": once}, rounds)


def padding(policy: LocalPolicy, talks: Sequence[Any], tokens: Sequence[int], rounds: int) -> dict[str, float]:
    """Four batches: rows as they come, or in length order."""
    order, size = sorted(range(len(talks)), key=tokens.__getitem__), max(1, len(talks) // 4)

    def batches(rows: Sequence[int]) -> list[dict[str, torch.Tensor]]:
        parts = [rows[start : start + size] for start in range(0, len(rows), size)]
        return [batch_of(policy, [talks[row] for row in part]) for part in parts]

    mixed, alike = batches(range(len(talks))), batches(order)
    whole = {name: sum(b["input_ids"].numel() for b in found) for name, found in (("mixed", mixed), ("alike", alike))}
    print(f"  tokens with padding: {whole}, without: {sum(tokens)}")
    return compare(
        {
            "mixed": lambda: [one_pass(policy, batch) for batch in mixed],
            "alike": lambda: [one_pass(policy, batch) for batch in alike],
        },
        rounds,
    )


def attention(policy: LocalPolicy, talks: Sequence[Any], tokens: Sequence[int], rounds: int) -> dict[str, float]:
    """The same batch by both implementations."""
    batch = batch_of(policy, talks)

    def by(name: str) -> Callable[[], None]:
        def work() -> None:
            policy.model.set_attn_implementation(name)
            one_pass(policy, batch)

        return work

    found = compare({"eager": by("eager"), "sdpa": by("sdpa")}, rounds)
    policy.model.set_attn_implementation("sdpa")
    see_by_length(policy.model)  # as it was loaded: setting an implementation sets the vision tower's too
    return found


def head(policy: LocalPolicy, talks: Sequence[Any], tokens: Sequence[int], rounds: int) -> dict[str, float]:
    """The same batch with whole logits, and in tiles."""
    batch = batch_of(policy, talks)
    sides = {"logits": lambda: one_pass(policy, batch, fused=False), "tiles": lambda: one_pass(policy, batch)}
    for name, work in sides.items():
        with _Meter(NO_DEVICE) as meter:
            work()
        print(f"  {name}: {meter.peak / 2**20:.0f} MiB at the peak")
    return compare(sides, rounds)


def predicted(policy: LocalPolicy, talks: Sequence[Any], tokens: Sequence[int], rounds: int) -> dict[str, float]:
    """The seconds of a pass as `prediction` has them, and as they are."""
    batch = batch_of(policy, talks)
    rows, width = batch["input_ids"].shape
    picture = int(batch["image_grid_thw"][0].prod()) // policy.model.config.vision_config.spatial_merge_size**2
    settings = training.SFTSettings(max_steps=1, learning_rate=1.0, batch_size=rows)
    model, device = build(policy.model.config, settings, policy.model.dtype), measured_device(policy.model.dtype)
    sample = lengths.Sample(width - picture, (picture,))
    found = predicted_pass(model, device, rows=rows, sample=sample, scored=sample.text)
    print(f"  {device}")
    return {"predicted": found.whole.seconds, **compare({"measured": lambda: one_pass(policy, batch)}, rounds)}


CHANGES = (features, padding, attention, head)


def main() -> None:
    """Measure all changes and print them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default=str(PACKAGE / "checkpoints/base"), help="a folder or hub id")
    parser.add_argument("--rows", type=int, default=32, help="of a batch")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--ledger", type=Path, help="where the result is written")
    chosen = parser.parse_args()
    policy = load_policy(chosen.model)
    learning.freeze_vision(policy.model)
    add_fused_lm_head(policy.model)
    policy.model.train()
    talks, tokens = conversations(policy, chosen.rows)
    entries = {}
    for change in CHANGES:
        print(f"{change.__name__}", flush=True)
        (old, before), (new, after) = change(policy, talks, tokens, chosen.rounds).items()
        print(f"  {old} {before:.3f} s, {new} {after:.3f} s: {before / after:.2f} times as fast", flush=True)
        entries[f"training.speedup.{change.__name__}"] = {
            "value": before / after, "unit": "times", "n": chosen.rounds, "seeds": [0],
            "command": f"python -m tests.bench_training --rows {chosen.rows} --rounds {chosen.rounds}",
        }  # fmt: skip
    print("predicted")
    both = predicted(policy, talks, tokens, chosen.rounds)
    print("  " + ", ".join(f"{name} {seconds:.3f} s" for name, seconds in both.items()))
    if chosen.ledger:
        record_measurements(chosen.ledger, entries)


if __name__ == "__main__":
    main()
