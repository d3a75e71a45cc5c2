"""Trees on disk as they finish: resumed by id, ended by a budget, forecast from the first, bad ones set aside.

A file of trees holds one JSON line a tree. Beside it, `<name>.quarantine.jsonl` says which examples have none, and why,
and `<name>.other_version.jsonl` keeps the trees that this version can not read.
"""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from statistics import mean

from vigorl_lib.records import Account, Example, append_line, read_lines, to_json
from vigorl_lib.runs import write_text_atomic
from vigorl_lib.search.tree import Quarantined, Tree

FORECAST_AFTER = 24  # trees at least


@dataclasses.dataclass(frozen=True)
class Budget:
    """What one call of `gather` may spend; None is no limit.

    No tree is begun once those that are done, and those that grow, at the mean cost of a tree so far, come to it. So
    many trees as grow at once are begun before any cost is known. Trees that grow are finished, so nothing that was
    paid for is lost.
    """

    tokens: float | None = None
    seconds: float | None = None
    money: float | None = None


@dataclasses.dataclass
class Spent:
    """What the trees of this call cost so far: how many were begun and done, and the `tokens` of those that are done.

    What was `written`, the `seconds` and the money are spent on trees that grow as well.
    """

    begun: int = 0
    done: int = 0
    tokens: float = 0.0
    written: float = 0.0
    seconds: float = 0.0
    money: float = 0.0

    def reaches(self, budget: Budget) -> bool:
        """Whether the budget is used up, trees that grow included."""
        tokens = max(self.tokens * self.begun / self.done if self.done else 0.0, self.written)
        expected = {"tokens": tokens, "seconds": self.seconds, "money": self.money * self._times(tokens)}
        return any(limit is not None and expected[name] >= limit for name, limit in vars(budget).items())

    def forecast(self, total: int, tokens: float) -> str:
        """What `total` trees of so many tokens each will have cost in the end, in words."""
        times = self._times(tokens * total)
        price = f", {self.money * times:,.2f} of money" if self.money else ""
        return (
            f"{self.done} of {total} trees are done; all will take about {tokens * total:,.0f} tokens, "
            f"{self.seconds * times / 60:.1f} min{price}"
        )

    def _times(self, tokens: float) -> float:
        """So many times the time and money so far are spent when that many tokens are written."""
        return tokens / self.written if self.written else 1.0


def quarantine_path(path: str | Path) -> Path:
    """Where `gather` writes the examples that have no tree."""
    return Path(path).with_suffix(".quarantine.jsonl")


def read_trees(path: str | Path) -> Iterator[Tree]:
    """The trees of a file. Raises ValueError naming the tree that is none, or is of another version."""
    return map(Tree.from_json, read_lines(path))


def gather(
    path: str | Path,
    examples: Sequence[Example],
    grow: Callable[[Iterable[Example]], Iterable[Tree | Quarantined]],
    *,
    budget: Budget = Budget(),
    account: Account | None = None,
    money: Callable[[], float] = lambda: 0.0,
    say: Callable[[str], None] = print,
) -> Iterator[Tree | Quarantined]:
    """Grow the trees that a file lacks; each is on disk before it is yielded.

    `grow` searches the examples that it is given, in any order, as `mcts.search` or `served.search_served` do. The
    policy's `account` tells what trees that grow have cost, and `money` what has been paid so far; of both the
    difference counts. Short trees are done before long ones, so `say` gets the forecast once all that were begun at
    first are done. A tree of the file that can not be read (another version wrote it) is moved to a file beside it and
    grown again, and an example in quarantine is tried again.
    """
    path = Path(path)
    known = _sort_out(path)
    missing = [example for example in examples if example.id not in known]
    spent, began, paid = Spent(), time.monotonic(), money()
    written = account.completion_tokens if account else 0
    first: set[str] | None = None  # the trees that were begun at first and are not done
    costs: list[int] = []  # tokens of those that are

    def feed() -> Iterator[Example]:
        for example in missing:
            spent.seconds = time.monotonic() - began
            if spent.reaches(budget):
                say(f"the budget is used up: {len(missing) - spent.begun} of {len(missing)} trees are not begun")
                return
            spent.begun += 1
            yield example

    for result in grow(feed()):
        if first is None:
            first = {example.id for example in missing[: max(FORECAST_AFTER, spent.begun)]}
        if isinstance(result, Quarantined):
            append_line(quarantine_path(path), to_json(result))
        else:
            append_line(path, result.to_json())
        spent.done += 1
        spent.tokens += result.tokens
        spent.written = account.completion_tokens - written if account else spent.tokens
        spent.seconds, spent.money = time.monotonic() - began, money() - paid
        if result.id in first:
            first.remove(result.id)
            costs.append(result.tokens)
            if not first and spent.done < len(missing):
                say(spent.forecast(len(missing), mean(costs)))
        yield result


def _sort_out(path: Path) -> set[str]:
    """The ids of a file's trees. What is no tree of this version is moved to `<name>.other_version.jsonl` first."""
    ids, bad = set(), set()
    for number, line in enumerate(read_lines(path)):
        try:
            ids.add(Tree.from_json(line).id)
        except ValueError as error:
            bad.add(number)
            append_line(quarantine_path(path), to_json(Quarantined(str(line.get("id")), str(error))))
            append_line(path.with_suffix(".other_version.jsonl"), line)
    if bad:
        good = (line for number, line in enumerate(read_lines(path)) if number not in bad)
        write_text_atomic(path, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in good))
    return ids
