"""How much of a policy's own throughput does the search keep, and what do several selections in flight change?

    python -m tests.bench_throughput        # about five minutes on two idle cores

Tokens a second while trees wait (the final drain is left out), over those of plain `generate`: the same model continues
requests that the search made, all for as many tokens as a proposal has on average, in its best batch. Then few trees
with one and with four selections of each in flight: seconds, and the share of right endings. Writes
`search.share_of_peak_throughput` and `search.in_flight_<n>.{seconds,right}` to the ledger of measurements.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch

from vigorl_lib import stats
from vigorl_lib.answers import is_right
from vigorl_lib.benchmarks import registry as benchmarks
from vigorl_lib.policy import ANSWER_OPENING, STEP_OPENING, LocalPolicy, load_policy, step_policy
from vigorl_lib.records import Example, Proposal, StepRequest
from vigorl_lib.runs import PACKAGE, record_measurements
from vigorl_lib.search.mcts import SearchSettings, search

LEDGER = PACKAGE.parent / "outputs/reference/measurements.json"
BATCHES = (32, 64, 128, 256)


def searched(policy: LocalPolicy, examples: Sequence[Example], settings: SearchSettings, batch: int, trees: int):
    """Tokens a second until no tree waits any more; the requests made until then, and tokens of a proposal."""
    propose = step_policy(policy, "grounded", max_new_tokens=32)
    asked: list[StepRequest] = []
    tokens, drained_at, began = 0, 0.0, time.perf_counter()

    def feed() -> Iterator[Example]:
        nonlocal drained_at
        yield from examples
        drained_at = time.perf_counter()

    def watched(requests: Sequence[StepRequest]) -> list[Proposal]:
        nonlocal tokens
        made = propose(requests)
        if not drained_at:
            asked.extend(requests)
            tokens += sum(proposal.tokens for proposal in made)
        return made

    for _ in search(feed(), watched, is_right, settings, seed=0, batch_size=batch, trees_in_flight=trees):
        pass
    return tokens / (drained_at - began), asked, tokens / len(asked)


@torch.no_grad()
def generated(policy: LocalPolicy, requests: Sequence[StepRequest], length: int) -> float:
    """Tokens a second of plain `generate` on these requests, reading their prompts included."""
    talks = [policy.conversation(r.example, policy.view_of(r.example).image, "grounded") for r in requests]
    starts = [STEP_OPENING + " ".join(r.steps) + (ANSWER_OPENING if r.must_answer else "") for r in requests]
    inputs = policy._processed(talks, starts)
    began = time.perf_counter()
    policy.model.generate(
        **inputs, do_sample=True, temperature=1.0, min_new_tokens=length, max_new_tokens=length, top_k=0
    )
    return len(requests) * length / (time.perf_counter() - began)


def in_flight(policy: LocalPolicy, examples: Sequence[Example], settings: SearchSettings) -> dict[str, float]:
    """Seconds of a search over few trees, and the share of right endings."""
    propose, began = step_policy(policy, "grounded", max_new_tokens=32), time.perf_counter()
    grown = list(search(examples, propose, is_right, settings, seed=0, batch_size=256, trees_in_flight=len(examples)))
    seconds = time.perf_counter() - began
    endings = [ending.reward for tree in grown for _, node in tree.nodes() for ending in node.rollouts]
    return {"seconds": seconds, **stats.share(endings)}


def main() -> None:
    """Measure both and write them to the ledger."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trees", type=int, default=192)
    parser.add_argument("--few", type=int, default=8)
    parser.add_argument("--ledger", type=Path, default=LEDGER, help="where the result is written")
    chosen = parser.parse_args()
    examples = benchmarks.load("sat2", split="train", limit=chosen.trees, seed=0)
    policy = load_policy(PACKAGE / "checkpoints/base", batch_size=256)
    settings = SearchSettings(simulations=8, max_depth=7)
    warm = dataclasses.replace(settings, simulations=1)
    searched(policy, examples[:4], warm, 32, 2)
    rate, asked, mean = searched(policy, examples, settings, 256, 96)
    length = max(1, round(mean))
    print(f"search: {rate:.0f} tokens/s in batches of up to 256, {mean:.1f} tokens a proposal", flush=True)
    middle = len(asked) // 2
    peaks = {size: generated(policy, asked[middle : middle + size], length) for size in BATCHES}
    print("generate: " + ", ".join(f"{peak:.0f} in batches of {size}" for size, peak in peaks.items()), flush=True)
    share = rate / max(peaks.values())
    print(f"the search keeps {share:.2f} of it")
    command = f"python -m tests.bench_throughput --trees {chosen.trees} --few {chosen.few}"
    common = {"seeds": [0], "command": command}
    entries = {"search.share_of_peak_throughput": {"value": share, "unit": "fraction", "n": chosen.trees}}
    for flight in (1, 4):
        found = in_flight(policy, examples[: chosen.few], dataclasses.replace(settings, in_flight=flight))
        print("{} in flight: {seconds:.1f} s, {value:.2f} [{low:.2f}, {high:.2f}] right".format(flight, **found))
        entries[f"search.in_flight_{flight}.seconds"] = {
            "value": found.pop("seconds"), "unit": "s", "n": chosen.few,
        }  # fmt: skip
        entries[f"search.in_flight_{flight}.right"] = found | {"unit": "fraction"}
    record_measurements(chosen.ledger, {name: entry | common for name, entry in entries.items()})


if __name__ == "__main__":
    main()
