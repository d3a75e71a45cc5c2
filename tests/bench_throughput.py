"""How much of a policy's own throughput does the search keep, and what do several selections in flight change?

    python -m tests.bench_throughput        # about twelve minutes on two idle cores

Tokens a second while trees wait (the final drain is left out), over those of the same model and requests without a
search, in their best batch. That is told twice. Plain `generate` is given pictures and texts, and writes for each
request as many tokens as a proposal has on average; the search reads a prompt once and goes on from what it remembers,
so it can be the faster one. `complete` is given the same requests as prompts that were read before the clock starts,
and stops where the search does: what the search itself costs. All sides are warmed up and take turns, and of three
rounds the best counts. Look whether the best batch lies between the others: else the peak may be higher.

Then trees with one and with four selections of each in flight, the sides in turn over three seeds: calls of a tree,
seconds of a call, and the share of right endings, tree by tree. Writes `search.share_of_peak_throughput`,
`search.share_of_peak_throughput_read`, `search.in_flight_<n>.{calls,seconds_per_call,right}` and
`search.in_flight_4.right_difference` to the ledger of measurements.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import mean

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch

from vigorl_lib import stats
from vigorl_lib.answers import is_right
from vigorl_lib.benchmarks import registry as benchmarks
from vigorl_lib.policy import ANSWER_OPENING, STEP_OPENING, LocalPolicy, Prompt, load_policy, step_policy
from vigorl_lib.records import Example, Proposal, StepRequest
from vigorl_lib.runs import PACKAGE, record_measurements
from vigorl_lib.search.mcts import SearchSettings, search

LEDGER = PACKAGE.parent / "outputs/reference/measurements.json"
BATCHES = (16, 32, 64, 128, 256, 512)
BATCH, TREES = 256, 96  # of the search: requests a call, trees in flight
ROUNDS, SEEDS, FLIGHTS = 3, (0, 1, 2), (1, 4)
STEP = 32  # most tokens of one


def searched(
    policy: LocalPolicy, examples: Sequence[Example], settings: SearchSettings
) -> tuple[float, list[StepRequest], float]:
    """Tokens a second until no tree waits any more; the requests made until then, and tokens of a proposal."""
    propose = step_policy(policy, "grounded", max_new_tokens=STEP)
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

    for _ in search(feed(), watched, is_right, settings, seed=0, batch_size=BATCH, trees_in_flight=TREES):
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


def completed(policy: LocalPolicy, requests: Sequence[StepRequest], prompts: Sequence[Prompt]) -> float:
    """Tokens a second of `complete` on these requests, whose prompts and steps were read before."""
    openings = [("" if r.steps else STEP_OPENING) + (ANSWER_OPENING if r.must_answer else "") for r in requests]
    began = time.perf_counter()
    said = policy.complete(prompts, prefixes=openings, max_new_tokens=STEP, temperature=1.0, stop=".", seed=0)
    return sum(completion.tokens for completion in said) / (time.perf_counter() - began)


def read(policy: LocalPolicy, requests: Sequence[StepRequest]) -> list[Prompt]:
    """Each request's prompt with its steps, as the model has read them."""
    items = {request.example.id: request.example for request in requests}
    talks = [policy.conversation(item, policy.view_of(item).image, "grounded") for item in items.values()]
    opened = dict(zip(items, policy.read(talks), strict=True))
    prompts = [opened[request.example.id] for request in requests]
    begun = [number for number, request in enumerate(requests) if request.steps]
    texts = [STEP_OPENING + " ".join(requests[number].steps) for number in begun]
    tokens = policy.tokenizer(texts, add_special_tokens=False)["input_ids"] if texts else []
    for number, further in zip(begun, policy.read_on([prompts[n] for n in begun], tokens), strict=True):
        prompts[number] = further
    return prompts


def shares(policy: LocalPolicy, examples: Sequence[Example], settings: SearchSettings) -> dict[str, float]:
    """The search's best rate over that of plain `generate`, and of `complete` on prompts that were read before."""
    _, asked, _ = searched(policy, examples, dataclasses.replace(settings, simulations=1))
    generated(policy, asked[:16], 8), completed(policy, asked[:16], read(policy, asked[:16]))
    search_rates: list[float] = []
    rates: dict[str, dict[int, list[float]]] = {side: {n: [] for n in BATCHES} for side in ("generate", "complete")}
    for _ in range(ROUNDS):
        rate, asked, length = searched(policy, examples, settings)
        search_rates.append(rate)
        middle = len(asked) // 2
        some = asked[middle : middle + max(BATCHES)]
        prompts = read(policy, some)
        for size in BATCHES:
            rates["generate"][size].append(generated(policy, some[:size], round(length)))
            rates["complete"][size].append(completed(policy, some[:size], prompts[:size]))
        print(f"search: {rate:.0f} tokens/s in batches of up to {BATCH}, {length:.1f} tokens a proposal", flush=True)
    found = {}
    for side, by_size in rates.items():
        peaks = {size: max(values) for size, values in by_size.items()}
        found[side] = max(search_rates) / max(peaks.values())
        told = ", ".join(f"{peak:.0f} in batches of {size}" for size, peak in peaks.items())
        print(f"{side}: {told}; the search keeps {found[side]:.2f} of the best")
    return found


def in_flight(
    policy: LocalPolicy, examples: Sequence[Example], settings: SearchSettings
) -> dict[str, dict[str, float | str]]:
    """Entries for the ledger: what several selections in flight change, by tree and by call."""
    calls: dict[int, list[int]] = {flight: [] for flight in FLIGHTS}
    seconds: dict[int, list[float]] = {flight: [] for flight in FLIGHTS}
    right: dict[int, dict[str, list[float]]] = {flight: {item.id: [] for item in examples} for flight in FLIGHTS}
    sizes = {"batch_size": BATCH, "trees_in_flight": len(examples)}
    for turn, seed in enumerate(SEEDS):
        for flight in FLIGHTS[:: -1 if turn % 2 else 1]:
            used = dataclasses.replace(settings, in_flight=flight)
            propose, began = step_policy(policy, "grounded", max_new_tokens=STEP), time.perf_counter()
            grown = list(search(examples, propose, is_right, used, seed=seed, **sizes))
            took, made = time.perf_counter() - began, sum(tree.calls for tree in grown)
            calls[flight].append(made)
            seconds[flight].append(took / made)
            for tree in grown:
                rewards = [ending.reward for _, node in tree.nodes() for ending in node.rollouts]
                right[flight][tree.id].append(mean(rewards) if rewards else 0.0)
            print(f"seed {seed}, {flight} in flight: {made} calls in {took:.1f} s", flush=True)
    shares_right = {flight: [mean(values) for values in right[flight].values()] for flight in FLIGHTS}
    entries: dict[str, dict[str, float | str]] = {}
    for flight in FLIGHTS:
        name = f"search.in_flight_{flight}"
        entries[f"{name}.calls"] = stats.average(n / len(examples) for n in calls[flight]) | {"unit": "calls a tree"}
        entries[f"{name}.seconds_per_call"] = stats.average(seconds[flight]) | {"unit": "s"}
        entries[f"{name}.right"] = stats.average(shares_right[flight]) | {"unit": "fraction"}
    one, many = (shares_right[flight] for flight in FLIGHTS)
    difference = stats.average(b - a for a, b in zip(one, many, strict=True))
    entries[f"search.in_flight_{FLIGHTS[1]}.right_difference"] = difference | {"unit": "fraction"}
    return entries


def main() -> None:
    """Measure both and write them to the ledger."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trees", type=int, default=192, help="for the shares of throughput")
    parser.add_argument("--few", type=int, default=48, help="for the selections in flight")
    parser.add_argument("--simulations", type=int, default=8)
    parser.add_argument("--ledger", type=Path, default=LEDGER, help="where the result is written")
    chosen = parser.parse_args()
    if chosen.trees < TREES:
        parser.error(f"--trees is {chosen.trees}; give at least {TREES}, or none waits while the search is measured")
    examples = benchmarks.load("sat2", split="train", limit=chosen.trees, seed=0)
    policy = load_policy(PACKAGE / "checkpoints/base", batch_size=max(BATCHES))
    settings = SearchSettings(simulations=chosen.simulations, max_depth=7)
    words = f"--trees {chosen.trees} --few {chosen.few} --simulations {chosen.simulations}"
    common = {"seeds": [0], "command": f"python -m tests.bench_throughput {words}"}
    entries = {}
    names = {"generate": "search.share_of_peak_throughput", "complete": "search.share_of_peak_throughput_read"}
    for side, share in shares(policy, examples, settings).items():
        entries[names[side]] = {"value": share, "unit": "fraction", "n": chosen.trees} | common
    for name, entry in in_flight(policy, examples[: chosen.few], settings).items():
        entries[name] = entry | common | {"seeds": list(SEEDS)}
        print("{}: {value:.4f} [{low:.4f}, {high:.4f}]".format(name, **entry))
    record_measurements(chosen.ledger, entries)


if __name__ == "__main__":
    main()
