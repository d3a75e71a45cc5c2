"""From trees to chains, by hand on a small tree, and what must hold for every chain of a searched tree."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from vigorl_lib.prompts import BACKTRACK
from vigorl_lib.search.linearise import (
    FINAL_THOUGHT,
    Chain,
    all_right,
    chains,
    corrected_chains,
    direct_chains,
    render_turns,
    select_chains,
    strip_points,
    to_single,
    to_turns,
)
from vigorl_lib.search.tree import Node, Rollout, Tree
from vigorl_lib.traces import Turn, find_points, parse_trace, parse_turn

GOLDEN = Path(__file__).parent / "golden"


def tree_of(*children: Node, name: str = "toy") -> Tree:
    return Tree(name, "Which is closer (9, 9)?", "cup", Node("Which is closer (9, 9)?", children=children), 1, 0, 0)


def chain_of(*steps: str, answer: str = "cup", tree_id: str = "toy") -> Chain:
    return Chain(tree_id, (0,), "direct", steps, answer)


RIGHT = Rollout(("Left (3, 4).", "Cup (7, 8).", "It is big."), "cup", 1.0)
WRONG = Rollout(("Left (3, 4).", "Bowl (5, 6)."), "bowl", 0.0)
TREE = tree_of(
    Node("Start (1, 2).", rollouts=(WRONG, RIGHT)),
    Node("Look, the cup (2, 2).", terminal=True, answer="cup", rollouts=(Rollout((), "cup", 1.0),) * 2),
    Node("", terminal=True, answer="cup", rollouts=(Rollout((), "cup", 1.0),) * 2),
)


def test_direct_chains_start_below_the_question():
    first, *others = direct_chains(TREE)
    assert first == Chain("toy", (0,), "direct", ("Start (1, 2).", *RIGHT.steps), "cup")
    assert [chain.steps for chain in others] == [("Look, the cup (2, 2).",)] * 2 + [()] * 2


def test_corrected_chain_does_not_repeat_the_shared_prefix():
    (chain,) = corrected_chains(TREE)
    assert chain.kind == "corrected"
    assert chain.node_path == (0,)
    assert chain.answer == "cup"
    assert chain.steps == (
        "Start (1, 2).",
        "Left (3, 4).",
        "Bowl (5, 6).",
        BACKTRACK,
        "Cup (7, 8).",
        "It is big.",
    )


def test_as_released_the_right_one_is_told_from_the_root_again():
    (chain,) = corrected_chains(TREE)
    (released,) = corrected_chains(TREE, restart=True)
    before = chain.steps.index(BACKTRACK)
    assert released.steps[: before + 1] == chain.steps[: before + 1]
    told_again = released.steps[before + 1 : len(released.steps) - len(chain.steps[before + 1 :])]
    assert told_again and told_again == chain.steps[: len(told_again)]
    assert released in chains(TREE, restart=True)


def test_every_wrong_and_correct_pair_of_a_node_is_corrected():
    wrong = [Rollout((f"Bowl ({number}, 0).",), None, 0.0) for number in range(2)]
    right = [Rollout((f"Cup ({number}, 1).",), "cup", 1.0) for number in range(3)]
    found = corrected_chains(tree_of(Node("Start.", rollouts=(*wrong, *right)), Node("Other.", rollouts=(right[0],))))
    assert [chain.points for chain in found] == [((w, 0), (r, 1)) for w in range(2) for r in range(3)]


@pytest.mark.parametrize(
    ("wrong", "right"),
    [((), ("Cup (7, 8).",)), (("Bowl (5, 6).",), ()), (("Same (1, 1).",), ("Same (1, 1).", "Cup (7, 8)."))],
)
def test_no_corrected_chain_without_something_to_take_back_and_something_else(wrong: tuple, right: tuple):
    node = Node("Start (1, 2).", rollouts=(Rollout(wrong, "bowl", 0.0), Rollout(right, "cup", 1.0)))
    assert corrected_chains(tree_of(node)) == []


def test_chains_are_in_tree_order_without_duplicates_and_empty_ones():
    found = chains(TREE)
    assert [(chain.kind, chain.node_path) for chain in found] == [
        ("direct", (0,)),
        ("direct", (1,)),
        ("corrected", (0,)),
    ]


def test_partial_reward_is_not_correct_and_an_answer_is_required():
    rollouts = (Rollout(("Cup (7, 8).",), "cup", 0.9), Rollout(("Hm (5, 6).",), None, 1.0))
    assert chains(tree_of(Node("Start (1, 2).", rollouts=rollouts))) == []


@pytest.mark.parametrize(
    ("step", "answer"),
    [
        ("See </think> (1, 2).", "cup"),
        ("<answer> bowl </answer> (1, 2).", "cup"),
        ("See <|im_end|> (1, 2).", "cup"),
        ("See (12345678, 2).", "cup"),
        ("See (1, 2).", "cup </answer> <answer> bowl"),
        ("See (1, 2).", " "),
    ],
)
def test_text_that_would_become_structure_makes_no_chain(step: str, answer: str):
    assert chains(tree_of(Node(step, rollouts=(Rollout(("Cup (7, 8).",), answer, 1.0),)))) == []


def test_single_turn_text():
    text = to_single(chain_of("Cup (7, 8).", "It is big."))
    assert text == "<think>\nCup (7, 8). It is big.\n</think>\n<answer> cup </answer>"


def test_with_all_endings_right_every_answer_makes_a_chain():
    found = {(chain.steps, chain.answer, chain.kind) for chain in chains(all_right(TREE))}
    assert found == {
        (("Start (1, 2).", *RIGHT.steps), "cup", "direct"),
        (("Start (1, 2).", *WRONG.steps), "bowl", "direct"),
        (("Look, the cup (2, 2).",), "cup", "direct"),
    }


# --- turns ---


def test_turns_zoom_at_new_points_and_keep_all_text():
    chain = chain_of("First. Cup (7, 8). And", "Bowl (5, 6)", BACKTRACK, "Cup (7, 8) again.", "Big (1, 2) it is. So.")
    assert to_turns(chain, 9) == (
        Turn("First. Cup (7, 8).", (7, 8), None, ()),
        Turn("And Bowl (5, 6)", (5, 6), None, ()),
        Turn(f"{BACKTRACK} Cup (7, 8) again. Big (1, 2) it is.", (1, 2), None, ()),
        Turn(f"So. {FINAL_THOUGHT}", None, "cup", ()),
    )
    assert to_turns(chain, 1) == (
        Turn("First. Cup (7, 8).", (7, 8), None, ()),
        Turn(
            f"And Bowl (5, 6) {BACKTRACK} Cup (7, 8) again. Big (1, 2) it is. So. {FINAL_THOUGHT}",
            None,
            "cup",
            (),
        ),
    )


def test_turns_may_keep_the_places_where_a_chain_arrives():
    chain = chain_of("Cup (7, 8).", "Bowl (5, 6).", "Big (1, 2). So.")
    assert to_turns(chain, 2, kept="last") == (
        Turn("Cup (7, 8). Bowl (5, 6).", (5, 6), None, ()),
        Turn("Big (1, 2).", (1, 2), None, ()),
        Turn(f"So. {FINAL_THOUGHT}", None, "cup", ()),
    )
    assert to_turns(chain, 3, kept="last") == to_turns(chain, 3)
    assert [turn.call for turn in to_turns(chain, 0, kept="last")] == [None]


def test_turns_take_the_first_new_point_of_a_sentence():
    chain = chain_of("From (1, 2) to (3, 4).", "Back from (1, 2) to (3, 4).")
    assert [turn.call for turn in to_turns(chain, 9)] == [(1, 2), (3, 4), None]


def test_turns_do_not_zoom_at_the_answer():
    turns = to_turns(chain_of("The button (7, 8).", answer="(70, 80)"), 9)
    assert [turn.call for turn in turns] == [(7, 8), None]
    assert turns[-1] == Turn(FINAL_THOUGHT, None, "(70, 80)", ())


# --- twins and selection ---


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Cup (7, 8).", "Cup."),
        ("Cup (7, 8) left of bowl (-1, 2); so.", "Cup left of bowl; so."),
        ("(7, 8) is the cup.", "is the cup."),
        ("(7, 8)", ""),
        ("No point (here), 2.", "No point (here), 2."),
        ("Odd (1(3, 4), 2).", "Odd."),
    ],
)
def test_strip_points(text: str, expected: str):
    twin = strip_points(chain_of(text, "It is big (1, 1)."))
    assert twin == chain_of(expected, "It is big.")
    assert twin.points == ()


def test_twin_of_a_point_alone_renders_without_a_hole():
    twin = strip_points(chain_of("Cup.", "(7, 8)", "Big."))
    assert to_single(twin).startswith("<think>\nCup. Big.\n</think>")
    assert to_turns(twin, 5) == (Turn(f"Cup. Big. {FINAL_THOUGHT}", None, "cup", ()),)


def test_select_chains_caps_every_tree_by_itself():
    many = [chain_of(str(number), tree_id=f"tree-{number % 3}") for number in range(30)]
    kept = select_chains(many, per_tree=4, seed=1)
    assert [chain for chain in many if chain in kept] == kept
    assert sorted(chain.tree_id for chain in kept) == ["tree-0"] * 4 + ["tree-1"] * 4 + ["tree-2"] * 4
    assert kept == select_chains(many, per_tree=4, seed=1)
    assert kept != select_chains(many, per_tree=4, seed=2)
    alone = [chain for chain in many if chain.tree_id == "tree-1"]
    assert select_chains(alone, per_tree=4, seed=1) == [chain for chain in kept if chain.tree_id == "tree-1"]
    assert select_chains(many, per_tree=99) == select_chains(many) == many
    with pytest.raises(ValueError, match="per_tree is 0"):
        select_chains(many, per_tree=0)


# --- every chain ---

things = st.sampled_from(
    ["Cup (1, 2).", "Bowl (3, 4)", "Cup (1, 2). Then (5, 6)!", "It is big.", "Go (7, 8), (9, 9). So"]
)
texts = st.lists(things, max_size=3).map(tuple)
rollouts = st.builds(
    lambda steps, answer: Rollout(steps, answer, float(answer == "cup")),
    texts,
    st.sampled_from(["cup", "bowl", None]),
)
nodes = st.builds(lambda text, found: Node(text, rollouts=tuple(found)), things, st.lists(rollouts, max_size=3))


@given(st.lists(nodes, max_size=3), st.integers(0, 4), st.sampled_from(["first", "last"]))
@hypothesis_settings(max_examples=60, deadline=None)
def test_what_holds_for_every_chain(children: list[Node], max_calls: int, kept: str):
    tree = tree_of(*children)
    found = chains(tree)
    assert len({(chain.steps, chain.answer) for chain in found}) == len(found)
    for chain in found:
        single = parse_turn(to_single(chain), zoom=False)
        assert single.well_formed
        assert single.answer == chain.answer == "cup"
        assert chain.steps.count(BACKTRACK) == (chain.kind == "corrected")

        turns = to_turns(chain, max_calls, kept=kept)
        parsed = parse_trace(render_turns(turns), zoom=True)
        assert parsed.turns == turns
        assert parsed.well_formed
        assert len(parsed.calls) == len(set(parsed.calls)) <= max_calls
        assert parsed.points == chain.points
        text = " ".join(turn.think for turn in turns)
        assert text == f"{' '.join(chain.steps)} {FINAL_THOUGHT}"

        twin = strip_points(chain)
        assert len(twin.steps) == len(chain.steps)
        assert not find_points(to_single(twin))
        assert dataclasses.replace(twin, steps=chain.steps) == chain


def test_golden_chains():
    golden = json.loads((GOLDEN / "chains.json").read_text())
    assert golden == golden_chains()
    assert {chain["kind"] for chain in golden} == {"direct", "corrected"}


def golden_chains() -> list[dict]:
    """The chains of the golden trees of test_search.py, as JSON values."""
    trees = [Tree.from_json(json.loads(path.read_text())) for path in sorted(GOLDEN.glob("tree_*.json"))]
    return json.loads(json.dumps([dataclasses.asdict(chain) for tree in trees for chain in chains(tree)]))


if __name__ == "__main__":
    (GOLDEN / "chains.json").write_text(json.dumps(golden_chains(), indent=1) + "\n")


def test_a_chain_without_steps_is_its_answer_alone():
    assert to_single(Chain("q", (), "answer", (), "red circle")) == "<answer> red circle </answer>"
