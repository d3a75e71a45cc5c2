"""Monte Carlo tree search over grounded thoughts: select, expand, simulate, backup.

Source: paper §4.2, `src/vlmsearch/tree_search/mcts_search.py`.

The search knows no network: a policy proposes the next step for a batch of unfinished chains, a judge looks
at a final answer. Departures from the released code, each deliberate:

1. Points are compared as integers; the released code compares strings, so "(3,4)" and "(3, 4)" were two
   points.
2. A rollout that never answers has no answer and reward 0; the released code judged its whole last thought
   with a substring match, which nearly any text passes when the truth is a single letter.
3. A thought that comes with an answer is a step of the terminal node; the released code dropped it in the
   tree, and glued thought and tags together in rollouts.
4. Where every proposal of an expansion is rejected, the node's current value is backed up. Its visit count
   grows, so selection turns elsewhere, and comes back, with fresh seeds, if the node stays the best. The
   released code backed up nothing and so chose the same node again and again.
5. The answer is due at depth `max_depth` for tree and rollouts alike; the released tree went one deeper, to
   nodes whose rollouts had no step left and were judged on their thought.

As released: a terminal node that is selected again backs up its stored mean; rollouts may repeat a point;
there is no early stop; equal siblings are kept.
"""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import math
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from typing import Literal, TypeVar

from vigorl_lib.records import Example, Proposal, Refused, StepRequest
from vigorl_lib.search.tree import (
    Node,
    Path,
    Quarantined,
    Rollout,
    Tree,
    node_at,
    nodes_along,
    replace_at,
    steps_along,
)
from vigorl_lib.traces import find_points

Policy = Callable[[Sequence[StepRequest]], Sequence[Proposal | Refused]]
"""Batch in, batch out, same order; `Refused` in place of a proposal gives up that request's tree."""

Judge = Callable[[Example, str], float]
"""The reward of a final answer, 0 … 1. It never sees the steps."""

Result = TypeVar("Result")
Asking = Generator[list[StepRequest], Sequence[Proposal], Result]
"""Code that yields requests, is sent their proposals, and returns a result: so many trees share a batch."""


@dataclasses.dataclass(frozen=True)
class SearchSettings:
    """How one tree is grown; the defaults are those of the released script `run_mcts_qwen72b.sh`.

    simulations             selections per tree; the paper's table says 20 (P-Tab.A4), the script 8
    children                proposals per expansion
    rollouts                simulated continuations per new child
    max_depth               longest chain in policy calls; the answer is due at this depth
    rollout_steps           longest rollout in policy calls; the answer is due in the last
    exploration             the constant c of the selection score
    forbid_repeated_points  reject a step that mentions a point of an ancestor, the question included
    ucb                     "released" value + c·√(ln(N+1)/(n+1)), or "paper" Q + c·√(ln N / n)
    in_flight               selections of one tree that are worked on at the same time (`select_many`); 1 as released
    """

    simulations: int = 8
    children: int = 3
    rollouts: int = 2
    max_depth: int = 10
    rollout_steps: int = 5
    exploration: float = 2.0
    forbid_repeated_points: bool = True
    ucb: Literal["released", "paper"] = "released"
    in_flight: int = 1

    def __post_init__(self) -> None:
        for name in ("simulations", "children", "rollouts", "max_depth", "rollout_steps", "in_flight"):
            if vars(self)[name] < 1:
                raise ValueError(f"search setting {name} is {vars(self)[name]}; it must be at least 1")
        if not self.exploration >= 0:
            raise ValueError(f"search setting exploration is {self.exploration}; it must be 0 or more")
        if self.ucb not in ("released", "paper"):
            raise ValueError(f"search setting ucb is {self.ucb!r}; known: released, paper")


def request_seed(seed: int, example_id: str, call: int) -> int:
    """The seed of request number `call` (from 0) of one example's tree, whatever batch it travels in."""
    digest = hashlib.blake2b(f"{seed}/{call}/{example_id}".encode(), digest_size=4).digest()
    return int.from_bytes(digest, "big")


def ucb(parent: Node, child: Node, settings: SearchSettings) -> float:
    """How much a child deserves the next simulation: its value plus a bonus for being seldom visited."""
    if settings.ucb == "released":
        bonus = math.log(parent.visit_count + 1) / (child.visit_count + 1)
    elif child.visit_count == 0:
        return math.inf
    else:
        bonus = math.log(parent.visit_count) / child.visit_count
    return child.value + settings.exploration * math.sqrt(bonus)


def select(root: Node, settings: SearchSettings) -> Path:
    """Follow the best `ucb` score from the root to a node without children; the first of equals wins."""
    path: Path = ()
    node = root
    while node.children:
        scores = [ucb(node, child, settings) for child in node.children]
        index = scores.index(max(scores))
        path, node = (*path, index), node.children[index]
    return path


def select_many(root: Node, settings: SearchSettings, count: int) -> list[Path]:
    """Up to `count` different leaves to work on at once, the one of `select` first.

    Each selection counts as one more visit that brought nothing, so that the next looks elsewhere (virtual loss). The
    first that comes back to a leaf ends the list.
    """
    paths: list[Path] = []
    while len(paths) < count and (path := select(root, settings)) not in paths:
        paths.append(path)
        if len(paths) < count:
            root = backup(root, path, 0.0)
    return paths


def expansion_requests(
    example: Example, root: Node, path: Path, settings: SearchSettings, seeds: Iterator[int]
) -> list[StepRequest]:
    """The `settings.children` independent requests that expand the node at `path`, as one batch."""
    steps, due = steps_along(root, path), len(path) + 1 >= settings.max_depth
    return [StepRequest(example, steps, due, next(seeds)) for _ in range(settings.children)]


def expand(
    root: Node, path: Path, proposals: Sequence[Proposal], settings: SearchSettings, *, simulation: int = 0
) -> tuple[Node, list[Path]]:
    """The root with the accepted proposals as children of the node at `path`, and these children's paths.

    A proposal is rejected when it neither says nor answers anything, and, unless it answers, when it
    mentions a point of an ancestor. At `settings.max_depth` every child is terminal, with or without an
    answer. Raises ValueError for a node that is terminal or has children.
    """
    node = node_at(root, path)
    if node.terminal or node.children:
        raise ValueError(f"node {path} is terminal or already expanded; expand what `select` returns")
    due = len(path) + 1 >= settings.max_depth
    used = {point for ancestor in nodes_along(root, path) for point in ancestor.points}
    children = []
    for proposal in proposals:
        text = proposal.text.strip()
        points = _points(text)
        terminal = due or proposal.answer is not None
        repeated = settings.forbid_repeated_points and not used.isdisjoint(points)
        if terminal or (text and not repeated):
            children.append(Node(text, points, terminal, proposal.answer, simulation=simulation))
    rejected = node.rejected + len(proposals) - len(children)
    root = replace_at(root, path, children=tuple(children), rejected=rejected)
    return root, [(*path, index) for index in range(len(children))]


def simulate(
    example: Example,
    root: Node,
    paths: Sequence[Path],
    judge: Judge,
    settings: SearchSettings,
    seeds: Iterator[int],
) -> Asking[list[tuple[Rollout, ...]]]:
    """Roll out every path `settings.rollouts` times: yield one batch per step, return the rollouts by path.

    All rollouts advance in lockstep. A terminal node asks nothing: its answer counts as each of its
    rollouts. An empty proposal uses up a call and adds no step. By hand: `drive(simulate(…), policy)`.
    """
    starts = [path for path in paths for _ in range(settings.rollouts)]
    rollouts, running = [], []
    for index, path in enumerate(starts):
        node = node_at(root, path)
        rollouts.append(Rollout(answer=node.answer, forced=len(path) >= settings.max_depth))
        if not node.terminal:
            running.append(index)
    for step in range(1, settings.rollout_steps + 1):
        if not running:
            break
        requests = [
            StepRequest(
                example,
                steps_along(root, starts[index]) + rollouts[index].steps,
                step == settings.rollout_steps or len(starts[index]) + step >= settings.max_depth,
                next(seeds),
            )
            for index in running
        ]
        proposals = yield requests
        still = []
        for index, request, proposal in zip(running, requests, proposals, strict=True):
            text = proposal.text.strip()
            rollouts[index] = dataclasses.replace(
                rollouts[index],
                steps=rollouts[index].steps + ((text,) if text else ()),
                answer=proposal.answer,
                forced=request.must_answer,
                tokens=rollouts[index].tokens + proposal.tokens,
            )
            if proposal.answer is None and not request.must_answer:
                still.append(index)
        running = still
    judged = [dataclasses.replace(item, reward=_reward(example, item.answer, judge)) for item in rollouts]
    size = settings.rollouts
    return [tuple(judged[start : start + size]) for start in range(0, len(judged), size)]


def backup(root: Node, path: Path, reward: float) -> Node:
    """The root with one more visit and `reward` in the mean value at every node from the root to `path`."""
    for length in range(len(path) + 1):
        node = node_at(root, path[:length])
        visit_count = node.visit_count + 1
        value = node.value + (reward - node.value) / visit_count
        root = replace_at(root, path[:length], visit_count=visit_count, value=value)
    return root


def grow(example: Example, judge: Judge, settings: SearchSettings, seed: int) -> Asking[Tree]:
    """Search one example: yield batches of requests, be sent their proposals, return the tree.

    The proposals of an expansion are one batch; the rollouts of all new children advance together, one batch per
    step. With more selections `in_flight` so do several expansions.
    """
    numbers = itertools.count()
    seeds = (request_seed(seed, example.id, number) for number in numbers)
    root = Node(example.question, _points(example.question))
    tokens = simulation = 0
    while simulation < settings.simulations:
        paths = select_many(root, settings, min(settings.in_flight, settings.simulations - simulation))
        alive = [path for path in paths if not node_at(root, path).terminal]
        requests = [found for path in alive for found in expansion_requests(example, root, path, settings, seeds)]
        answers = iter((yield requests) if requests else ())
        born: dict[Path, list[Path]] = {}
        for path in paths:
            simulation += 1
            if path in alive:
                proposals = list(itertools.islice(answers, settings.children))
                tokens += sum(proposal.tokens for proposal in proposals)
                root, born[path] = expand(root, path, proposals, settings, simulation=simulation)
        new = [child for children in born.values() for child in children]
        groups = dict(zip(new, (yield from simulate(example, root, new, judge, settings, seeds)), strict=True))
        for path in paths:
            if not born.get(path):
                root = _revisited(root, path)
            for child in born.get(path, ()):
                root = replace_at(root, child, rollouts=groups[child])
                for rollout in groups[child]:
                    tokens += rollout.tokens
                    root = backup(root, child, rollout.reward)
    calls = next(numbers)  # each call took one
    return Tree(example.id, example.question, example.answer, root, settings.simulations, calls, tokens)


def _revisited(root: Node, path: Path) -> Node:
    """The root after a selection that brought nothing new: the node's own value is backed up once more."""
    node = node_at(root, path)
    return backup(replace_at(root, path, revisits=node.revisits + 1), path, node.value)


def history(tree: Tree, settings: SearchSettings) -> list[Node]:
    """The root as it was after each simulation, from 0 (nothing yet) to the end: the search once more, without policy.

    Selection follows from values and visits alone, and every node says which simulation added it. What was `rejected`
    is not told apart by simulation: a node has all of it from the beginning. Raises ValueError where the tree was not
    grown with these settings.
    """
    roots = [dataclasses.replace(tree.root, value=0.0, visit_count=0, children=(), rollouts=(), revisits=0)]
    while len(roots) <= tree.simulations:
        for path in select_many(roots[-1], settings, min(settings.in_flight, tree.simulations + 1 - len(roots))):
            found = [child for child in node_at(tree.root, path).children if child.simulation == len(roots)]
            bare = [dataclasses.replace(child, value=0.0, visit_count=0, children=(), revisits=0) for child in found]
            root = replace_at(roots[-1], path, children=tuple(bare)) if found else _revisited(roots[-1], path)
            for index, child in enumerate(found):
                for rollout in child.rollouts:
                    root = backup(root, (*path, index), rollout.reward)
            roots.append(root)
    if roots[-1] != tree.root:
        raise ValueError(f"tree {tree.id!r} was not grown with {settings}; give the settings of its search")
    return roots


def drive(asking: Asking[Result], policy: Policy) -> Result:
    """Run one generator (`simulate`, `grow`) to its end; each of its batches is one policy call.

    Raises Refused where the policy refuses a request.
    """
    proposals = None
    while True:
        try:
            requests = asking.send(proposals)
        except StopIteration as end:
            return end.value
        proposals = _ask(policy, requests)
        for proposal in proposals:
            if isinstance(proposal, Refused):
                raise proposal


def search(
    examples: Iterable[Example],
    policy: Policy,
    judge: Judge,
    settings: SearchSettings,
    *,
    seed: int,
    batch_size: int,
    trees_in_flight: int,
) -> Iterator[Tree | Quarantined]:
    """Search many examples, up to `trees_in_flight` at a time, and yield each tree, or why there is none, as it is
    finished.

    Pending requests of all trees in flight are merged into policy calls of at most `batch_size` requests,
    oldest tree first. With a policy that depends on nothing but the request, a tree does not depend on the
    two sizes; only the order in which trees are finished does. (1, 1) is one request at a time.

    A request that the policy refuses gives up its tree alone. An exception of the policy or the judge ends the search:
    trees already yielded are whole, the others are lost. Raises ValueError at once for a size below 1, and later where
    the policy returns another number of proposals than it was asked for or the judge a reward outside 0 … 1.
    """
    if batch_size < 1 or trees_in_flight < 1:
        raise ValueError(f"batch_size {batch_size}, trees_in_flight {trees_in_flight}: both must be 1 or more")
    return _search(examples, policy, judge, settings, seed, batch_size, trees_in_flight)


@dataclasses.dataclass
class _InFlight:
    id: str
    asking: Asking[Tree]
    requests: list[StepRequest]
    proposals: list[Proposal] = dataclasses.field(default_factory=list)
    refused: str = ""
    tokens: int = 0


def _search(
    examples: Iterable[Example],
    policy: Policy,
    judge: Judge,
    settings: SearchSettings,
    seed: int,
    batch_size: int,
    trees_in_flight: int,
) -> Iterator[Tree | Quarantined]:
    waiting = iter(examples)
    trees: list[_InFlight] = []
    while True:
        for example in itertools.islice(waiting, trees_in_flight - len(trees)):
            asking = grow(example, judge, settings, seed)
            trees.append(_InFlight(example.id, asking, next(asking)))
        if not trees:
            return
        pending = [(tree, request) for tree in trees for request in tree.requests[len(tree.proposals) :]]
        batch = pending[:batch_size]
        for (tree, _), proposal in zip(batch, _ask(policy, [request for _, request in batch]), strict=True):
            if isinstance(proposal, Refused):
                tree.refused = str(proposal)
            else:
                tree.proposals.append(proposal)
                tree.tokens += proposal.tokens
        growing, finished = [], []
        for tree in trees:
            if tree.refused:
                finished.append(Quarantined(tree.id, tree.refused, tree.tokens))
                continue
            if len(tree.proposals) == len(tree.requests):
                try:
                    tree.requests, tree.proposals = tree.asking.send(tree.proposals), []
                except StopIteration as end:
                    finished.append(end.value)
                    continue
            growing.append(tree)
        trees = growing
        yield from finished


def _ask(policy: Policy, requests: list[StepRequest]) -> Sequence[Proposal | Refused]:
    proposals = policy(requests)
    if len(proposals) != len(requests):
        raise ValueError(f"the policy made {len(proposals)} proposals for {len(requests)} requests; make one each")
    return proposals


def _reward(example: Example, answer: str | None, judge: Judge) -> float:
    if answer is None:
        return 0.0
    reward = float(judge(example, answer))
    if not 0.0 <= reward <= 1.0:
        raise ValueError(f"the judge gave {reward} to an answer of example {example.id!r}; rewards are 0 … 1")
    return reward


def _points(text: str) -> tuple[tuple[int, int], ...]:
    return tuple((mention.x, mention.y) for mention in find_points(text))
