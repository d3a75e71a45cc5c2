"""Trees on disk: resumed, budgeted, forecast, set aside."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from types import SimpleNamespace

import pytest

from tests.test_search import SMALL, example, judge, scripted
from vigorl_lib.records import Account, Proposal, Refused, read_lines
from vigorl_lib.search.gather import Budget, Spent, gather, quarantine_path, read_trees
from vigorl_lib.search.mcts import search
from vigorl_lib.search.tree import Quarantined

EXAMPLES = [example(f"q{number}") for number in range(30)]


def grow(examples, in_flight=4):
    return search(examples, scripted, judge, SMALL, seed=0, batch_size=8, trees_in_flight=in_flight)


def test_each_tree_is_on_disk_before_it_is_yielded_and_none_is_grown_twice(tmp_path):
    path = tmp_path / "trees.jsonl"
    growing = gather(path, EXAMPLES, grow)
    for number, tree in enumerate(growing, start=1):
        assert [found.id for found in read_trees(path)][-1] == tree.id
        if number == 11:
            break
    rest = list(gather(path, EXAMPLES, grow))
    assert len(rest) == 19 and {tree.id for tree in read_trees(path)} == {item.id for item in EXAMPLES}
    assert {tree.id: tree for tree in read_trees(path)} == {tree.id: tree for tree in grow(EXAMPLES)}
    assert list(gather(path, EXAMPLES, grow)) == []


def test_a_budget_ends_the_search_and_loses_nothing(tmp_path):
    whole = sum(tree.tokens for tree in grow(EXAMPLES))
    said = []
    trees = list(gather(tmp_path / "a.jsonl", EXAMPLES, grow, budget=Budget(tokens=whole / 2), say=said.append))
    assert len(trees) == len(list(read_trees(tmp_path / "a.jsonl")))
    assert 0.35 * whole < sum(tree.tokens for tree in trees) < 0.65 * whole
    assert f"{30 - len(trees)} of 30 trees are not begun" in said[-1]

    paid = iter(range(1000))  # one for every time that anyone asks: once at the start, then once a tree
    trees = list(gather(tmp_path / "b.jsonl", EXAMPLES, grow, budget=Budget(money=10), money=lambda: next(paid)))
    assert 6 <= len(trees) <= 13
    assert list(gather(tmp_path / "c.jsonl", EXAMPLES, grow, budget=Budget(seconds=0))) == []


def test_the_first_trees_tell_what_the_rest_will_cost(tmp_path):
    said = []
    list(gather(tmp_path / "trees.jsonl", EXAMPLES, grow, say=said.append))
    assert len(said) == 1 and "of 30 trees are done" in said[0]
    spent = Spent(begun=4, done=2, tokens=100, written=160, seconds=16, money=4)
    told = "2 of 8 trees are done; all will take about 480 tokens, 0.8 min, 12.00 of money"
    assert spent.forecast(8, 60) == told
    assert spent.reaches(Budget(tokens=200)) and not spent.reaches(Budget(tokens=201))
    assert spent.reaches(Budget(money=5)) and not spent.reaches(Budget(money=5.1))
    assert spent.reaches(Budget(seconds=16)) and not spent.reaches(Budget(seconds=17))


@pytest.mark.parametrize(("in_flight", "batch_size"), [(1, 4), (48, 64), (48, 1000)])
def test_the_forecast_is_near_what_it_takes(tmp_path, monkeypatch, in_flight, batch_size):
    """Short trees are done first, and many grow when the first are: neither may be taken for the whole."""
    account, minutes, said = Account(), [0.0], []
    monkeypatch.setattr("vigorl_lib.search.gather.time", SimpleNamespace(monotonic=lambda: 60 * minutes[0]))

    def timed(requests):
        minutes[0] += 0.5 + len(requests) / 100
        made = scripted(requests)
        account.completion_tokens += sum(proposal.tokens for proposal in made)
        return made

    examples = [example(f"q{number}") for number in range(120)]
    sizes = {"batch_size": batch_size, "trees_in_flight": in_flight}
    grow = lambda items: search(items, timed, judge, SMALL, seed=0, **sizes)  # noqa: E731
    trees = list(gather(tmp_path / "trees.jsonl", examples, grow, account=account, say=said.append))
    (told,) = said
    done, total, tokens, time = (float(x.replace(",", "")) for x in re.findall(r"[0-9][0-9.,]*[0-9]|[0-9]", told))
    assert max(24, in_flight) <= done <= 100 and total == 120
    assert tokens == pytest.approx(sum(tree.tokens for tree in trees), rel=0.15)
    assert time == pytest.approx(minutes[0], rel=0.2)


def test_what_has_no_tree_is_set_aside_with_the_reason_and_tried_again(tmp_path):
    path = tmp_path / "trees.jsonl"
    results = list(gather(path, EXAMPLES[:2], lambda items: (Quarantined(item.id, "HTTP 500") for item in items)))
    assert results == [Quarantined("q0", "HTTP 500"), Quarantined("q1", "HTTP 500")] and not path.exists()
    assert list(read_lines(quarantine_path(path))) == [
        {"id": f"q{k}", "reason": "HTTP 500", "tokens": 0} for k in range(2)
    ]
    assert len(list(gather(path, EXAMPLES[:2], grow))) == 2


def test_a_tree_that_is_refused_half_grown_has_cost_its_tokens(tmp_path):
    asked = Counter()

    def refusing(requests):
        made = []
        for request, proposal in zip(requests, scripted(requests), strict=True):
            asked[request.example.id] += 1
            full = asked[request.example.id] > 6
            made.append(Refused("too long") if full else Proposal(proposal.text, proposal.answer, 5))
        return made

    grow = lambda items: search(items, refusing, judge, SMALL, seed=0, batch_size=2, trees_in_flight=2)  # noqa: E731
    aside = list(gather(tmp_path / "trees.jsonl", EXAMPLES, grow, budget=Budget(tokens=150)))
    assert {result.tokens for result in aside} == {30}
    assert len(aside) == 5, "a budget counts them"
    assert [line["tokens"] for line in read_lines(quarantine_path(tmp_path / "trees.jsonl"))] == [30] * len(aside)


def test_a_tree_of_another_version_is_set_aside_and_grown_again(tmp_path):
    path = tmp_path / "trees.jsonl"
    list(gather(path, EXAMPLES[:3], grow))
    lines = path.read_text().splitlines()
    old = json.loads(lines[1]) | {"beam": 3}
    path.write_text("\n".join([lines[0], json.dumps(old), lines[2][: len(lines[2]) // 2]]))  # the last one is torn
    with pytest.raises(ValueError, match=f"tree '{old['id']}' is not a search record"):
        list(read_trees(path))
    grown = list(gather(path, EXAMPLES[:3], grow))
    assert {tree.id for tree in grown} == {old["id"], json.loads(lines[2])["id"]}
    assert {tree.id: tree for tree in read_trees(path)} == {tree.id: tree for tree in grow(EXAMPLES[:3])}
    (aside,) = read_lines(quarantine_path(path))
    assert aside["id"] == old["id"] and "beam" in aside["reason"]
    assert list(read_lines(tmp_path / "trees.other_version.jsonl")) == [old], "it was paid for"


def test_a_killed_search_goes_on_where_it_was(tmp_path):
    path = tmp_path / "trees.jsonl"
    code = (
        "import sys, time; from tests import test_gather as t\n"
        "for tree in t.gather(sys.argv[1], t.EXAMPLES, t.grow): time.sleep(0.05)"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(path)], cwd=os.getcwd())
    while not path.exists() or path.read_bytes().count(b"\n") < 5:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    before = path.read_bytes().count(b"\n")
    assert 5 <= before < len(EXAMPLES)
    list(gather(path, EXAMPLES, grow))
    trees = list(read_trees(path))
    assert len(trees) == len(EXAMPLES) and {t.id: t for t in trees} == {t.id: t for t in grow(EXAMPLES)}
