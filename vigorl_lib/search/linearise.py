"""From trees to chains, and from chains to the texts of the warm start (paper §4.2, §4.3.1, §A5.5.1).

The paper's recipe with the bugs of `build_reasoning_chains_from_mcts{,_multiturn}.py` left out:

1. A corrected chain resumes where the two rollouts part; the released one starts the correct reasoning
   again at the root and so repeats the shared steps verbatim after the backtracking sentence (`restart=True`).
2. Chains are deduplicated in order; the released `list(set(chains))` has another order in every process.
3. An answer is a parsed answer; released rollouts that never answered became chains that answer with a
   whole thought.
4. In the conversion to turns, reasoning after the last zoom goes into the final think; the released code
   discards it.
5. Only the thoughts are scanned for points; the released code also scanned `<answer> (x, y) </answer>` and
   made of it one more zoom, with a piece of an answer tag in its thought.

Left to the caller, who knows the image: points outside of it (`Chain.points`; the released builder drops
such chains) and chains without any point. Points stay in the frame that the policy wrote.
"""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Iterable, Sequence
from typing import Literal

from vigorl_lib.prompts import BACKTRACK
from vigorl_lib.search.tree import Node, Path, Rollout, Tree, steps_along
from vigorl_lib.traces import (
    Turn,
    find_points,
    parse_turn,
    render_answer,
    render_call,
    render_single,
    split_steps,
)

FINAL_THOUGHT = "I have looked enough to answer."
"""Closes the last thought of a multi-turn chain, as a fixed sentence does in the released builder."""

CORRECT = 1.0  # the released builder asks for a reward of at least 1


@dataclasses.dataclass(frozen=True)
class Chain:
    """One linear reasoning with a correct answer: `steps` are what goes between the think tags, in order.

    kind is "direct" (one rollout), "corrected" (a wrong one, the backtracking sentence, then a correct
    one of the same node) or "answer" (no step, the given answer: the baseline SFT direct, which needs no tree).
    node_path is the node whose rollouts it is made of.
    """

    tree_id: str
    node_path: Path
    kind: Literal["direct", "corrected", "answer"]
    steps: tuple[str, ...]
    answer: str

    @property
    def points(self) -> tuple[tuple[int, int], ...]:
        """Every point that the steps mention, in order, in the frame that the policy wrote."""
        return tuple((mention.x, mention.y) for step in self.steps for mention in find_points(step))


def direct_chains(tree: Tree) -> list[Chain]:
    """One chain per correct rollout: the steps down to its node, then its own. Duplicates are still in it."""
    return [
        Chain(tree.id, path, "direct", steps_along(tree.root, path) + rollout.steps, rollout.answer)
        for path, node in tree.nodes()
        for rollout in node.rollouts
        if _is_correct(rollout)
    ]


def corrected_chains(tree: Tree, *, restart: bool = False) -> list[Chain]:
    """One chain per node and (wrong, correct) pair of its rollouts, joined by BACKTRACK where the two part.

    A pair makes no chain where one of the two adds no step after they part: then there is nothing to take
    back, or nothing else that was tried. Duplicates are still in it. With `restart` the right one is told from the root
    again, as released.
    """
    found = []
    for path, node in tree.nodes():
        for wrong in node.rollouts:
            for right in node.rollouts:
                if wrong.reward >= CORRECT or not _is_correct(right):
                    continue
                shared = _shared_length(wrong.steps, right.steps)
                lost, rest = wrong.steps[shared:], right.steps[shared:]
                if lost and rest:
                    prefix = steps_along(tree.root, path) + right.steps[:shared]
                    steps = (*prefix, *lost, BACKTRACK, *(prefix if restart else ()), *rest)
                    found.append(Chain(tree.id, path, "corrected", steps, right.answer))
    return found


def all_right(tree: Tree) -> Tree:
    """The tree with every answered ending called right: for a judge that comes later, such as a look closer."""

    def node(found: Node) -> Node:
        endings = (e if e.answer is None else dataclasses.replace(e, reward=CORRECT) for e in found.rollouts)
        return dataclasses.replace(found, rollouts=tuple(endings), children=tuple(map(node, found.children)))

    return dataclasses.replace(tree, root=node(tree.root))


def chains(tree: Tree, *, restart: bool = False) -> list[Chain]:
    """The training chains of a tree: direct, then corrected, each in tree order, of equals the first.

    Chains without a step are left out, and those whose own text breaks the grammar (a tag or a chat marker
    in a step or an answer, a point of more than six digits): what the policy wrote cannot become structure.
    `restart` as in `corrected_chains`.
    """
    found: dict[tuple[tuple[str, ...], str], Chain] = {}
    for chain in direct_chains(tree) + corrected_chains(tree, restart=restart):
        if chain.steps and parse_turn(to_single(chain), zoom=False).well_formed:
            found.setdefault((chain.steps, chain.answer), chain)
    return list(found.values())


def select_chains(chains: Sequence[Chain], *, per_tree: int | None = None, seed: int = 0) -> list[Chain]:
    """At most `per_tree` chains of every tree, drawn at random, in their old order; None keeps all.

    The draw in one tree depends on the seed and that tree's chains alone, so that other trees can come and
    go. Raises ValueError for `per_tree` below 1.
    """
    if per_tree is None:
        return list(chains)
    if per_tree < 1:
        raise ValueError(f"per_tree is {per_tree}; give at least 1, or None for all chains")
    positions: dict[str, list[int]] = {}
    for position, chain in enumerate(chains):
        positions.setdefault(chain.tree_id, []).append(position)
    kept: set[int] = set()
    for tree_id, own in positions.items():
        kept.update(random.Random(f"{seed}/{tree_id}").sample(own, min(per_tree, len(own))))
    return [chain for position, chain in enumerate(chains) if position in kept]


def strip_points(chain: Chain) -> Chain:
    """The chain's ungrounded twin: the same steps, one for one, with the points cut out of the text.

    Nothing else is reworded ("a cup at (3, 4)." becomes "a cup at."), and a step that was only a point
    stays as "". The answer is kept as it is, point or not.
    """
    return dataclasses.replace(chain, steps=tuple(_without_points(step) for step in chain.steps))


def to_single(chain: Chain) -> str:
    """The chain as one completion: one think block, one answer block; without any step the answer block alone."""
    if not chain.steps:
        return f"<answer> {chain.answer} </answer>"
    return render_single(filter(None, chain.steps), chain.answer)


def to_turns(chain: Chain, max_calls: int, *, kept: Literal["first", "last"] = "first") -> tuple[Turn, ...]:
    """The chain as a dialogue of at most `max_calls` zooms and a last turn that answers.

    A sentence with a point that was not zoomed at before (exact integers, as released) ends a thought, and
    its first such point is the zoom: no thought is without text. All other text waits for the next thought;
    what is left, and FINAL_THOUGHT, is the last. Of more such sentences than `max_calls` the first are `kept`, as
    released, or the last, where the chain arrives.
    """
    parts = [part for step in chain.steps for part in split_steps(step)]
    called: dict[tuple[int, int], int] = {}  # point -> number of the sentence that zooms there
    for number, part in enumerate(parts):
        new = [point for point in part.points if point not in called]
        if new:
            called[new[0]] = number
    start = 0 if kept == "first" else max(0, len(called) - max_calls)
    zooms = {number: point for point, number in list(called.items())[start : start + max_calls]}
    turns: list[Turn] = []
    waiting: list[str] = []
    for number, part in enumerate(parts):
        if text := part.text.strip():
            waiting.append(text)
        if number in zooms:
            turns.append(Turn(" ".join(waiting), zooms[number], None, ()))
            waiting = []
    return (*turns, Turn(" ".join([*waiting, FINAL_THOUGHT]), None, chain.answer, ()))


def render_turns(turns: Iterable[Turn]) -> list[str]:
    """The policy's message of every turn that `to_turns` made."""
    return [
        render_answer(turn.think, turn.answer) if turn.call is None else render_call(turn.think, turn.call)
        for turn in turns
    ]


def _is_correct(rollout: Rollout) -> bool:
    return rollout.answer is not None and rollout.reward >= CORRECT


def _shared_length(first: Sequence[str], second: Sequence[str]) -> int:
    length = 0
    while length < min(len(first), len(second)) and first[length] == second[length]:
        length += 1
    return length


def _without_points(text: str) -> str:
    # Cutting "(3, 4)" out of "(1(3, 4), 2)" leaves another point, hence the loop.
    while mentions := find_points(text):
        pieces, cursor = [], 0
        for mention in mentions:
            pieces.append(text[cursor : mention.start].rstrip())
            cursor = mention.end
        text = "".join([*pieces, text[cursor:]]).strip()
    return text
