"""A real server: `transformers serve` with a shipped model on loopback, asked by the search."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import time
import urllib.request

import pytest

from vigorl_lib import prompts
from vigorl_lib.benchmarks import registry as benchmarks
from vigorl_lib.records import Refused, StepRequest
from vigorl_lib.runs import PACKAGE
from vigorl_lib.search.mcts import SearchSettings
from vigorl_lib.search.served import in_thread, search_served
from vigorl_lib.search.tree import Tree, check_visits
from vigorl_lib.served import ServedPolicy, Sizes

MODEL = str(PACKAGE / "checkpoints/grpo")
NANO = Sizes(min_pixels=24**2, max_pixels=96**2, factor=24)


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    """The address of a server that is up."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = tmp_path_factory.mktemp("server") / "log.txt"
    words = ["--port", str(port), "--host", "127.0.0.1", "--dtype", "float32", "--device", "cpu"]
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    with log.open("w") as written:
        server = subprocess.Popen(
            [sys.executable, "-m", "vigorl_lib.serving", MODEL, *words], stdout=written, stderr=written, env=environment
        )
    try:
        end = time.monotonic() + 120
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5).close()
                break
            except OSError:
                assert server.poll() is None and time.monotonic() < end, log.read_text()
                time.sleep(0.5)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        server.terminate()
        server.wait()


def policy(url, model=MODEL, **more):
    return ServedPolicy(
        model, url, system=prompts.NANO_SYSTEM["grounded"], max_new_tokens=96, sizes=NANO, retries=1, timeout=60, **more
    )


def test_trees_grow_on_a_real_server(url):
    examples = benchmarks.load("sat2", "twin", split="train", limit=3, seed=0)
    asked = policy(url, concurrency=2)
    judge = lambda example, answer: float(benchmarks.right(example, answer))  # noqa: E731
    settings = SearchSettings(simulations=2, children=2, rollouts=1)
    grow = lambda: search_served(examples, asked.ask, judge, settings, seed=0, trees_in_flight=2)  # noqa: E731
    trees = {tree.id: tree for tree in in_thread(grow)}
    assert trees.keys() == {example.id for example in examples}
    for tree in trees.values():
        assert isinstance(tree, Tree)
        check_visits(tree.root)
    unusable = sum(asked.account.unusable.values())
    again = asked.account.answered - sum(tree.calls for tree in trees.values())  # what was no step is drawn once more
    assert asked.account.calls == asked.account.answered and again <= unusable <= 2 * again
    assert asked.account.completion_tokens == sum(tree.tokens for tree in trees.values()) > 0
    # It is the shipped model that answers, and it sees the picture: it points at things and names an option.
    nodes = [node for tree in trees.values() for _, node in tree.nodes() if node.answer]
    assert any(node.points and node.answer in tree.question for tree in trees.values() for _, node in tree.nodes())
    assert nodes and unusable < asked.account.answered / 2


def test_a_real_server_s_no_is_a_refusal_with_its_words(url):
    example = benchmarks.load("sat2", "twin", split="train", limit=1, seed=0)[0]
    with pytest.raises(Refused, match="BadRequestError.*pinned to"):
        asyncio.run(policy(url, model="another").ask(StepRequest(example, (), False, 1)))
