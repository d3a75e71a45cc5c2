"""The search: the four verbs by hand, golden trees, and what must hold for every tree.

`python tests/test_search.py` writes the golden trees anew; look at the difference before you keep it.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from vigorl_lib.records import Example, Proposal, Refused, StepRequest
from vigorl_lib.search import mcts
from vigorl_lib.search.mcts import SearchSettings
from vigorl_lib.search.tree import (
    Node,
    Quarantined,
    Rollout,
    Tree,
    check_visits,
    node_at,
    nodes_along,
    steps_along,
    walk,
)

GOLDEN = Path(__file__).parent / "golden"
GOLDEN_SETTINGS = SearchSettings(simulations=5, children=2, rollouts=2, max_depth=3, rollout_steps=2)
SMALL = SearchSettings(simulations=4, children=2, rollouts=2, max_depth=4, rollout_steps=3)


def example(name: str, answer: str = "cup", question: str = "Which is closer, the cup or the bowl?") -> Example:
    return Example(name, "toy", "depth", question, ("cup", "bowl"), answer, ())


TINY = (example("cup-or-bowl"), example("bowl-or-cup", "bowl", "Which is left, the bowl or the cup?"))


def scripted(requests: Sequence[StepRequest]) -> list[Proposal]:
    """A policy that is a function of the request alone, with few points, so that it repeats some."""
    return [reply(request) for request in requests]


def reply(request: StepRequest) -> Proposal:
    draw = request.seed
    draw, thing = divmod(draw, 3)
    draw, x = divmod(draw, 3)
    draw, y = divmod(draw, 2)
    text = f"I see a {('cup', 'bowl', 'spoon')[thing]} at ({10 * x}, {10 * y})."
    draw, choice = divmod(draw, 8)
    if not request.must_answer and (choice > 2 or not request.steps):
        return Proposal("" if choice == 7 else text, None, tokens=10 + thing)
    draw, side = divmod(draw, 2)
    draw, mute = divmod(draw, 5)
    return Proposal(text if choice % 2 else "", None if mute == 0 else ("cup", "bowl")[side], tokens=4)


def judge(item: Example, answer: str) -> float:
    return float(answer == item.answer)


def plain(tree: Tree) -> dict:
    return json.loads(json.dumps(tree.to_json()))


def grown(item: Example, settings: SearchSettings = SMALL, seed: int = 0, policy: mcts.Policy = scripted) -> Tree:
    return mcts.drive(mcts.grow(item, judge, settings, seed), policy)


def says(*replies: tuple[str, str | None]) -> mcts.Policy:
    """A policy that gives these replies in turn, then the last one for ever."""
    left = list(replies)

    def policy(requests: Sequence[StepRequest]) -> list[Proposal]:
        return [Proposal(*(left.pop(0) if len(left) > 1 else left[0]), tokens=1) for _ in requests]

    return policy


# --- the four verbs, by hand ---


def test_ucb_by_hand():
    parent = Node("question", visit_count=8)
    child = Node("step", value=0.5, visit_count=3)
    # 0.5 + 2·√(ln 9 / 4) and 0.5 + 2·√(ln 8 / 3)
    assert mcts.ucb(parent, child, SearchSettings()) == pytest.approx(1.982_303_3)
    assert mcts.ucb(parent, child, SearchSettings(ucb="paper")) == pytest.approx(2.165_109_2)
    assert mcts.ucb(parent, child, SearchSettings(exploration=0)) == 0.5
    assert mcts.ucb(parent, Node("new"), SearchSettings(ucb="paper")) == math.inf


def test_the_two_formulas_choose_differently():
    root = Node("q", visit_count=4, children=(Node("a", value=0.9, visit_count=3), Node("b", visit_count=1)))
    assert mcts.select(root, SearchSettings(ucb="released")) == (0,)
    assert mcts.select(root, SearchSettings(ucb="paper")) == (1,)


def test_select_goes_down_and_takes_the_first_of_equals():
    pair = (Node("c", value=1.0, visit_count=1), Node("d", value=1.0, visit_count=1))
    root = Node(
        "q",
        visit_count=4,
        children=(Node("a", visit_count=2), Node("b", visit_count=2, value=0.9, children=pair)),
    )
    assert mcts.select(root, SearchSettings()) == (1, 0)
    assert mcts.select(Node("q"), SearchSettings()) == ()


def test_expand_rejects_points_of_ancestors_as_numbers():
    root = Node("q", children=(Node("Cup (1, 2).", points=((1, 2),)),))
    proposals = [
        Proposal("Again ( 1,2 ).", None, 1),
        Proposal("Bowl (3, 4).", None, 1),
        Proposal("Seen both, (1, 2).", "cup", 1),
        Proposal(" ", None, 1),
        Proposal("Bowl (3, 4).", None, 1),
    ]
    new_root, paths = mcts.expand(root, (0,), proposals, SearchSettings(), simulation=7)
    node = node_at(new_root, (0,))
    assert paths == [(0, 0), (0, 1), (0, 2)]
    assert node.rejected == 2
    assert node.children == (
        Node("Bowl (3, 4).", ((3, 4),), simulation=7),
        Node("Seen both, (1, 2).", ((1, 2),), terminal=True, answer="cup", simulation=7),
        Node("Bowl (3, 4).", ((3, 4),), simulation=7),
    )
    assert root.children[0].children == ()
    free = SearchSettings(forbid_repeated_points=False)
    assert len(mcts.expand(root, (0,), proposals, free)[1]) == 4


def test_expand_counts_the_question_as_an_ancestor():
    tree = grown(
        example("a", question="What is at (5, 6)?"),
        SearchSettings(simulations=2),
        policy=says(("It is (5, 6).", None)),
    )
    assert tree.root.points == ((5, 6),)
    assert tree.root.children == ()


def test_expand_at_the_depth_limit_ends_the_chain_with_or_without_an_answer():
    settings = SearchSettings(max_depth=1)
    root, _ = mcts.expand(Node("q"), (), [Proposal("Hm (1, 2).", None, 1), Proposal("", "cup", 1)], settings)
    assert [(child.terminal, child.answer) for child in root.children] == [(True, None), (True, "cup")]
    with pytest.raises(ValueError, match="already expanded"):
        mcts.expand(root, (), [], settings)
    with pytest.raises(ValueError, match="terminal"):
        mcts.expand(root, (0,), [], settings)


def test_simulate_advances_in_lockstep_and_forces_the_last_step():
    settings = SearchSettings(rollouts=2, rollout_steps=3)
    root = Node("q", children=(Node("Cup (1, 2)."), Node("", terminal=True, answer="bowl"), Node("Bowl (3, 4).")))
    batches = []

    def policy(requests: Sequence[StepRequest]) -> list[Proposal]:
        batches.append([(request.steps, request.must_answer, request.seed) for request in requests])
        # The first rollout answers at once, with a thought; the others when they must, the last never.
        return [
            Proposal("So.", "cup", 1)
            if request.seed == 0
            else Proposal("", "bowl", 2)
            if request.must_answer and request.seed < 9
            else Proposal(f"Step {request.seed}.", None, 3)
            for request in requests
        ]

    asking = mcts.simulate(example("a"), root, [(0,), (1,), (2,)], judge, settings, itertools.count())
    first, second, third = mcts.drive(asking, policy)
    assert [len(batch) for batch in batches] == [4, 3, 3]
    assert batches[1][0] == (("Cup (1, 2).", "Step 1."), False, 4)
    assert all(must for _, must, _ in batches[2])
    assert first == (
        Rollout(("So.",), "cup", 1.0, False, 1),
        Rollout(("Step 1.", "Step 4."), "bowl", 0.0, True, 8),
    )
    assert second == (Rollout((), "bowl", 0.0), Rollout((), "bowl", 0.0))
    assert third[1] == Rollout(("Step 3.", "Step 6.", "Step 9."), None, 0.0, True, 9)


def test_simulate_stops_at_the_depth_limit():
    root = Node("q", children=(Node("Cup (1, 2)."),))
    asked = []

    def policy(requests: Sequence[StepRequest]) -> list[Proposal]:
        asked.extend(request.must_answer for request in requests)
        return [Proposal("Hm.", None, 1) for _ in requests]

    settings = SearchSettings(rollouts=1, rollout_steps=5, max_depth=3)
    ((rollout,),) = mcts.drive(mcts.simulate(example("a"), root, [(0,)], judge, settings, itertools.count()), policy)
    assert asked == [False, True]
    assert rollout == Rollout(("Hm.", "Hm."), None, 0.0, True, 2)


def test_backup_keeps_the_mean_along_the_path_only():
    root = Node("q", children=(Node("a", children=(Node("b"),)), Node("c")))
    for reward in (1.0, 0.0, 1.0):
        root = mcts.backup(root, (0, 0), reward)
    root = mcts.backup(root, (0,), 0.0)
    numbers = [(node.visit_count, node.value) for _, node in Tree("", "", "", root, 0, 0, 0).nodes()]
    assert numbers == [(4, pytest.approx(0.5)), (4, pytest.approx(0.5)), (3, pytest.approx(2 / 3)), (0, 0.0)]


# --- one tree ---


def test_terminal_node_selected_again_backs_up_its_mean_without_a_call():
    tree = grown(example("a"), SearchSettings(simulations=3, children=1), policy=says(("It is the cup (1, 2).", "cup")))
    (child,) = tree.root.children
    assert (tree.calls, child.visit_count, child.revisits, child.value) == (1, 4, 2, 1.0)
    assert (child.text, child.answer) == ("It is the cup (1, 2).", "cup")


def test_node_whose_proposals_are_all_rejected_is_tried_again_with_fresh_seeds():
    seeds = []

    def policy(requests: Sequence[StepRequest]) -> list[Proposal]:
        seeds.extend(request.seed for request in requests)
        return [
            Proposal("", "cup", 1) if request.must_answer else Proposal("Cup (1, 2).", None, 1) for request in requests
        ]

    settings = SearchSettings(simulations=5, children=2, rollouts=1, rollout_steps=1)
    tree = grown(example("a"), settings, policy=policy)
    first, second = tree.root.children
    # Simulation 1 adds both; the others try the two in turn, because each visit moves selection on.
    assert (first.visit_count, first.revisits, first.rejected, first.value) == (3, 2, 4, 1.0)
    assert (second.visit_count, second.revisits, second.rejected, second.value) == (3, 2, 4, 1.0)
    assert tree.rejected == 8
    assert len(set(seeds)) == tree.calls == tree.tokens == 12


def test_a_refused_request_gives_up_its_tree_alone():
    def policy(batch: Sequence[StepRequest]) -> list[Proposal | Refused]:
        said = zip(batch, scripted(batch), strict=True)
        return [Refused("no such picture") if request.example is TINY[0] else found for request, found in said]

    sizes = {"seed": 0, "batch_size": 4, "trees_in_flight": 3}
    results = list(mcts.search(TINY, policy, judge, SMALL, **sizes))
    whole = {tree.id: tree for tree in mcts.search(TINY, scripted, judge, SMALL, **sizes)}
    refused = [result for result in results if isinstance(result, Quarantined)]
    assert refused == [Quarantined(TINY[0].id, "no such picture")]
    assert {tree.id: tree for tree in results if isinstance(tree, Tree)} == {
        id: tree for id, tree in whole.items() if id != TINY[0].id
    }
    with pytest.raises(Refused, match="no such picture"):
        mcts.drive(mcts.grow(TINY[0], judge, SMALL, 0), policy)


def test_rollouts_without_an_answer_are_counted_and_never_judged():
    def no_judge(item: Example, answer: str) -> float:
        raise AssertionError("nothing to judge")

    settings = SearchSettings(simulations=1, children=2, rollouts=2, rollout_steps=2)
    tree = mcts.drive(mcts.grow(example("a"), no_judge, settings, 0), says(("Hm (1, 2).", None)))
    assert (tree.unanswered, tree.root.visit_count, tree.root.value) == (4, 4, 0.0)


@given(
    seed=st.integers(0, 10**6),
    settings=st.builds(
        SearchSettings,
        simulations=st.integers(1, 6),
        children=st.integers(1, 3),
        rollouts=st.integers(1, 2),
        max_depth=st.integers(1, 4),
        rollout_steps=st.integers(1, 3),
        exploration=st.sampled_from([0.0, 2.0]),
        ucb=st.sampled_from(["released", "paper"]),
    ),
)
@hypothesis_settings(max_examples=40, deadline=None)
def test_what_holds_for_every_tree(seed: int, settings: SearchSettings):
    backed_up: list[tuple[tuple[int, ...], float]] = []
    requests: list[StepRequest] = []

    def watch(root: Node, path: tuple[int, ...], reward: float) -> Node:
        backed_up.append((path, reward))
        return original(root, path, reward)

    def policy(batch: Sequence[StepRequest]) -> list[Proposal]:
        requests.extend(batch)
        return scripted(batch)

    original = mcts.backup
    with mock.patch.object(mcts, "backup", watch):
        tree = grown(TINY[0], settings, seed, policy)

    check_visits(tree.root)
    assert tree.calls == len(requests)
    assert tree.tokens == sum(proposal.tokens for proposal in scripted(requests))
    assert Tree.from_json(plain(tree)) == tree
    for path, node in tree.nodes():
        rewards = [reward for at, reward in backed_up if at[: len(path)] == path]
        assert node.visit_count == len(rewards) >= 1
        assert node.value == pytest.approx(sum(rewards) / len(rewards))
        assert node.terminal or len(path) < settings.max_depth
        assert not (node.terminal and node.children)
        assert len(node.rollouts) == (settings.rollouts if path else 0)
        if not node.terminal:
            above = {point for ancestor in nodes_along(tree.root, path)[:-1] for point in ancestor.points}
            assert above.isdisjoint(node.points)
        for rollout in node.rollouts:
            assert len(rollout.steps) <= settings.rollout_steps
            assert len(steps_along(tree.root, path)) + len(rollout.steps) <= settings.max_depth
            assert rollout.reward == (0.0 if rollout.answer is None else judge(TINY[0], rollout.answer))
            assert rollout.forced or rollout.answer is not None


def test_selections_in_flight_go_to_different_leaves_and_each_is_counted():
    children = tuple(Node(f"{k}", value=value, visit_count=2) for k, value in enumerate((0.9, 0.8, 0.1)))
    root = Node("?", value=0.6, visit_count=6, children=children)
    assert mcts.select_many(root, SearchSettings(exploration=0.5), 2) == [(0,), (1,)]
    assert mcts.select_many(root, SearchSettings(exploration=0.0), 9) == [(0,), (1,)]  # then the first again
    assert mcts.select_many(Node("?"), SearchSettings(), 3) == [()]
    for seed, item in enumerate(TINY):
        settings = SearchSettings(simulations=9, children=2, rollouts=1, in_flight=3)
        tree = grown(item, settings, seed)
        check_visits(tree.root)
        asking, proposals, asked = mcts.grow(item, judge, settings, seed), None, []
        with pytest.raises(StopIteration):
            while True:
                batch = asking.send(proposals)
                asked.append(len(batch))
                proposals = scripted(batch)
        assert sum(asked) == tree.calls and max(asked) > 2  # an expansion of one leaf asks for two
        roots = mcts.history(tree, settings)
        assert len(roots) == 10 and roots[-1] == tree.root


def test_a_search_can_be_watched_again_from_its_tree():
    for seed, item in enumerate(TINY):
        for settings in (
            SMALL,
            SearchSettings(simulations=12, children=2, rollouts=1, max_depth=3, ucb="paper"),
        ):
            tree = grown(item, settings, seed)
            roots = mcts.history(tree, settings)
            assert len(roots) == settings.simulations + 1 and roots[-1] == tree.root
            for simulation, root in enumerate(roots):
                shorter = grown(item, dataclasses.replace(settings, simulations=simulation or 1), seed).root
                if simulation:
                    assert [path for path, _ in walk(root)] == [path for path, _ in walk(shorter)]
                    assert [(n.value, n.visit_count, n.revisits) for _, n in walk(root)] == [
                        (n.value, n.visit_count, n.revisits) for _, n in walk(shorter)
                    ]
    with pytest.raises(ValueError, match="was not grown with"):
        mcts.history(tree, dataclasses.replace(settings, exploration=0.0))


@pytest.mark.parametrize("item", TINY, ids=lambda item: item.id)
def test_golden_tree(item: Example):
    golden = json.loads((GOLDEN / f"tree_{item.id}.json").read_text())
    assert plain(grown(item, GOLDEN_SETTINGS)) == golden


def test_golden_trees_show_the_special_cases():
    trees = [Tree.from_json(json.loads(path.read_text())) for path in sorted(GOLDEN.glob("tree_*.json"))]
    nodes = [node for tree in trees for _, node in tree.nodes()]
    assert sum(tree.rejected for tree in trees) > 0
    assert sum(tree.unanswered for tree in trees) > 0
    assert any(node.revisits for node in nodes)
    assert any(node.answer is not None and node.text for node in nodes)
    assert any(rollout.reward == 1.0 for node in nodes for rollout in node.rollouts)


# --- many trees ---


@pytest.mark.parametrize(("batch_size", "trees_in_flight"), [(1, 3), (5, 2), (7, 10), (1000, 6)])
def test_batched_trees_equal_trees_one_call_at_a_time(batch_size: int, trees_in_flight: int):
    items = [example(f"item-{number}", ("cup", "bowl")[number % 2]) for number in range(6)]
    sizes, mixed = [], False

    def policy(requests: Sequence[StepRequest]) -> list[Proposal]:
        nonlocal mixed
        sizes.append(len(requests))
        mixed = mixed or len({request.example.id for request in requests}) > 1
        return scripted(requests)

    alone = list(mcts.search(items, scripted, judge, SMALL, seed=3, batch_size=1, trees_in_flight=1))
    merged = list(
        mcts.search(items, policy, judge, SMALL, seed=3, batch_size=batch_size, trees_in_flight=trees_in_flight)
    )
    assert [tree.id for tree in alone] == [item.id for item in items]
    assert {tree.id: tree for tree in merged} == {tree.id: tree for tree in alone}
    assert alone == [grown(item, seed=3) for item in items]
    assert max(sizes) <= batch_size
    assert mixed == (batch_size > 1)


def test_seed_and_example_change_the_tree():
    assert grown(TINY[0], seed=1).root != grown(TINY[0], seed=2).root
    assert grown(TINY[0]).root.children != grown(dataclasses.replace(TINY[0], id="other")).root.children


def test_examples_are_taken_as_they_are_needed_and_trees_given_as_they_finish():
    taken = []

    def source():
        for number in range(5):
            taken.append(number)
            yield example(str(number))

    trees = mcts.search(source(), scripted, judge, SMALL, seed=0, batch_size=2, trees_in_flight=2)
    next(trees)
    assert len(taken) == 2
    assert len(list(trees)) == 4


def test_a_failing_policy_is_not_swallowed_and_finished_trees_stay():
    def policy(requests: Sequence[StepRequest]) -> list[Proposal]:
        if any(request.example.id == "b" for request in requests):
            raise ConnectionError("server is gone")
        return scripted(requests)

    trees = mcts.search([example("a"), example("b")], policy, judge, SMALL, seed=0, batch_size=9, trees_in_flight=1)
    assert next(trees).id == "a"
    with pytest.raises(ConnectionError, match="server is gone"):
        next(trees)


def test_a_policy_that_stops_iteration_is_an_error_too():
    def policy(requests: Sequence[StepRequest]) -> list[Proposal]:
        raise StopIteration("not a result")

    with pytest.raises(StopIteration, match="not a result"):
        grown(TINY[0], policy=policy)


@pytest.mark.parametrize("reward", [-0.1, 1.5, math.nan])
def test_a_reward_out_of_range_names_the_example(reward: float):
    with pytest.raises(ValueError, match="'cup-or-bowl'"):
        mcts.drive(mcts.grow(TINY[0], lambda item, answer: reward, SMALL, 0), says(("", "cup")))


def test_a_policy_must_answer_every_request():
    with pytest.raises(ValueError, match="1 proposals for 2 requests"):
        grown(TINY[0], policy=lambda requests: scripted(requests)[1:])


@pytest.mark.parametrize(
    "wrong",
    [
        {"simulations": 0},
        {"children": 0},
        {"rollouts": -1},
        {"max_depth": 0},
        {"rollout_steps": 0},
        {"exploration": math.nan},
        {"exploration": -1.0},
        {"ucb": "uct"},
    ],
)
def test_settings_name_what_is_wrong(wrong: dict):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        SearchSettings(**wrong)


def test_sizes_are_checked_at_once():
    with pytest.raises(ValueError, match="batch_size 0"):
        mcts.search([], scripted, judge, SMALL, seed=0, batch_size=0, trees_in_flight=1)
    with pytest.raises(ValueError, match="trees_in_flight 0"):
        mcts.search([], scripted, judge, SMALL, seed=0, batch_size=1, trees_in_flight=0)
    assert list(mcts.search([], scripted, judge, SMALL, seed=0, batch_size=1, trees_in_flight=1)) == []


# --- the record ---


def test_broken_tree_records_are_named():
    record = plain(grown(TINY[0]))
    with pytest.raises(ValueError, match=r"'cup-or-bowl'.*99 visits"):
        Tree.from_json({**record, "root": {**record["root"], "visit_count": 99}})
    with pytest.raises(ValueError, match=r"'cup-or-bowl'.*root"):
        Tree.from_json({key: value for key, value in record.items() if key != "root"})
    with pytest.raises(ValueError, match=r"'cup-or-bowl'.*extra"):
        Tree.from_json({**record, "extra": 1})


@pytest.mark.parametrize(("part", "key"), [("node", "simulation"), ("node", "rejected"), ("rollout", "tokens")])
def test_a_record_that_lacks_what_has_a_default_is_of_another_version(part, key):
    record = plain(grown(TINY[0]))
    node = next(child for child in record["root"]["children"] if child["rollouts"])
    del (node if part == "node" else node["rollouts"][0])[key]
    with pytest.raises(ValueError, match=f"'cup-or-bowl' is not a search record .{part}: {key} missing"):
        Tree.from_json(record)


def test_search_needs_no_torch():
    code = "import sys, vigorl_lib.search.mcts, vigorl_lib.search.linearise; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[1], check=False).returncode == 0


if __name__ == "__main__":
    GOLDEN.mkdir(exist_ok=True)
    for item in TINY:
        text = json.dumps(grown(item, GOLDEN_SETTINGS).to_json(), indent=1)
        (GOLDEN / f"tree_{item.id}.json").write_text(text + "\n")
