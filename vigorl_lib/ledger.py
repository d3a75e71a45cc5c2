"""The ledger of disagreements: where the paper and its released code, or two parts of the code, say different things.

A row of `params/ledger.yaml` says what and where, by which switch of the kit either is chosen, what we recommend, and
what it is worth at nano size (`effects.MEASURES`), or why that can not be measured there.
`python -m vigorl_lib.ledger run` measures what is missing, one file a row and seed in `outputs/reference/ledger/`;
`judge` makes `outputs/reference/ledger.json` of them, and `show` prints what there is. What was measured with other
sizes or checkpoints is measured again.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from vigorl_lib import stats
from vigorl_lib.effects import CHECKPOINTS, MEASURES, Lab, Sizes
from vigorl_lib.report import DISAGREEMENTS, LEDGER
from vigorl_lib.runs import (
    code_version,
    hash_path,
    machine,
    outputs_root,
    record_measurements,
    write_json_atomic,
)

PLAN, REFERENCE = Path("params/ledger.yaml"), Path("outputs/reference")


@dataclasses.dataclass(frozen=True)
class Effect:
    """How a row is measured: `metric` in words, in `unit`, under the setting `first` and under `second`.

    The function is the one of `effects.MEASURES` with the row's id; `trains` says that it trains models.
    """

    metric: str
    first: str
    second: str
    unit: str = "fraction"
    trains: bool = False


@dataclasses.dataclass(frozen=True)
class Row:
    """One disagreement.

    title        what it is about
    paper, code  what either says, and where ("silent" where it says nothing)
    recommended  what to use, and why
    switch       the parameter that chooses: `<notebook>.<parameter>`, `<module>.<function or class>.<argument>`, or
                 `none (why)`
    values       that parameter's values for paper and code, in this order
    effect       how it is measured at nano size; None where `no_counterpart` says why it is not
    marks, bugs  numbers by which a test keeps count of the known disagreements, and of the released code's bugs
    """

    id: str
    title: str
    paper: str
    code: str
    recommended: str
    switch: str
    values: tuple[Any, ...] = ()
    effect: Effect | None = None
    no_counterpart: str = ""
    marks: tuple[int, ...] = ()
    bugs: tuple[int, ...] = ()


@dataclasses.dataclass(frozen=True)
class Plan:
    """What `params/ledger.yaml` says: the rows, the seeds of the reference run, and how much a seed measures."""

    seeds: tuple[int, ...]
    sizes: Sizes
    rows: tuple[Row, ...]

    def measured(self) -> tuple[Row, ...]:
        """The rows that are measured."""
        return tuple(row for row in self.rows if row.effect)


def read_plan(path: str | Path = PLAN) -> Plan:
    """The plan of a file. Raises ValueError naming file and row where one is not whole."""
    path = Path(path)
    raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    try:
        rows = tuple(
            Row(
                **{
                    "id": id,
                    **entry,
                    "effect": Effect(**entry["effect"]) if "effect" in entry else None,
                    **{name: tuple(entry.get(name, ())) for name in ("values", "marks", "bugs")},
                }
            )
            for id, entry in raw["rows"].items()
        )
        plan = Plan(tuple(raw["seeds"]), Sizes(**raw["sizes"]), rows)
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path}: not a ledger ({error!r}); params/ledger.yaml of the project is one") from error
    for row in plan.rows:
        if (row.effect is None) == (not row.no_counterpart):
            raise ValueError(f"{path}: {row.id}: give either `effect` or `no_counterpart`")
        if row.effect and row.id not in MEASURES:
            raise ValueError(f"{path}: {row.id}: no such measure; known: {', '.join(MEASURES)}")
    return plan


# Measuring ------------------------------------------------------------------------------------------------


def result_path(row: Row, seed: int, reference: Path = REFERENCE) -> Path:
    """Where a row's result of a seed lies: `<reference>/ledger/<row>/seed<k>.json`."""
    return reference / "ledger" / row.id / f"seed{seed}.json"


def conditions(plan: Plan) -> dict[str, Any]:
    """What a result holds for: the sizes, and the fingerprint of the shipped checkpoints."""
    return {"sizes": dataclasses.asdict(plan.sizes), "checkpoints": hash_path(CHECKPOINTS)[0]}


def waiting(plan: Plan, reference: Path = REFERENCE) -> list[tuple[Row, int]]:
    """The rows and seeds without a result that holds for these sizes and checkpoints, seed by seed."""
    now = conditions(plan)
    pairs = [(row, seed) for seed in plan.seeds for row in plan.measured()]
    found = {pair: _read(result_path(*pair, reference)) for pair in pairs}
    return [pair for pair in pairs if found[pair] is None or {key: found[pair][key] for key in now} != now]


def _read(path: Path) -> dict[str, Any] | None:
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def measure(plan: Plan, row: Row, seed: int, reference: Path = REFERENCE) -> dict[str, Any]:
    """Measure a row with a seed, and write its result. What it shares with other rows is kept for them."""
    began, now = time.monotonic(), conditions(plan)
    sizes = "-".join(map(str, dataclasses.astuple(plan.sizes)))
    folder = outputs_root() / "ledger" / f"{now['checkpoints'][:12]}-{sizes}" / f"seed{seed}"
    folder.mkdir(parents=True, exist_ok=True)
    pair = MEASURES[row.id](Lab(seed, folder, plan.sizes))
    result = {
        "row": row.id,
        "seed": seed,
        **dataclasses.asdict(pair),
        **now,
        "seconds": round(time.monotonic() - began, 1),
        "code": code_version(),
        "machine": machine(),
    }
    path = result_path(row, seed, reference)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json_atomic(path, result)
    return result


# Judging --------------------------------------------------------------------------------------------------


def judge(plan: Plan, reference: Path = REFERENCE) -> list[dict[str, Any]]:
    """One row of the ledger each, for people and programs: its texts, and how the effect came out.

    first, second      the metric's mean over seeds under either setting
    effect, low, high  second minus first, mean over seeds, with its 95 % t interval over seeds
    n, seeds           items of a seed, and the seeds
    verdict            "higher" or "lower" (of the second setting; the interval is clear of 0), "no effect within ±x"
                       (x is the interval's farther end), "not measured" (fewer than two seeds), "no nano counterpart"

    Raises ValueError where the seeds of a row were measured with different sizes or checkpoints.
    """
    rows = []
    for row in plan.rows:
        texts = {key: value for key, value in vars(row).items() if key not in ("effect", "marks", "bugs", "values")}
        entry = texts | {"values": list(row.values), "verdict": "no nano counterpart"}
        if row.effect:
            found = [x for seed in plan.seeds if (x := _read(result_path(row, seed, reference)))]
            if len({json.dumps([x["sizes"], x["checkpoints"]]) for x in found}) > 1:
                folder = result_path(row, 0, reference).parent
                raise ValueError(f"{folder}: seeds of different sizes or checkpoints; run the missing ones again")
            entry |= {"measured": dataclasses.asdict(row.effect), **_outcome(found)}
        rows.append(entry)
    return rows


def _outcome(found: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    if len(found) < 2:
        return {"verdict": "not measured"}
    effect = stats.paired_effect([x["second"] - x["first"] for x in found])
    low, high = effect.interval.low, effect.interval.high
    verdict = "higher" if low > 0 else "lower" if high < 0 else f"no effect within ±{max(abs(low), abs(high)):.3f}"
    means = {side: sum(x[side] for x in found) / len(found) for side in ("first", "second")}
    counts = {"n": min(x["n"] for x in found), "seeds": [x["seed"] for x in found]}
    return {"verdict": verdict, **means, "effect": effect.mean, "low": low, "high": high, **counts}


def table(rows: Iterable[Mapping[str, Any]]) -> str:
    """The rows in words, one line each."""
    lines = []
    for row in rows:
        numbers = "{effect:+.3f} [{low:+.3f}, {high:+.3f}] ".format(**row) if row.get("effect") is not None else ""
        lines.append(f"{row['id']:26} {numbers}{row['verdict']}")
    return "\n".join(lines)


def main(words: Sequence[str] | None = None) -> int:
    """See the module's text; 2 and the reason where it can not be done."""
    parser = argparse.ArgumentParser(prog="python -m vigorl_lib.ledger")
    parser.add_argument("do", choices=("run", "judge", "show"))
    parser.add_argument("--plan", type=Path, default=PLAN)
    parser.add_argument("--reference", type=Path, default=REFERENCE)
    parser.add_argument("--seeds", type=int, nargs="+", help="these of the plan's; others while developing")
    parser.add_argument("--rows", nargs="+", help="these rows only")
    for name in (field.name for field in dataclasses.fields(Sizes)):
        parser.add_argument(f"--{name}", type=int, help="instead of the plan's, while developing")
    chosen = parser.parse_args(words)
    try:
        plan = _chosen(read_plan(chosen.plan), chosen)
        if chosen.do == "run":
            left = waiting(plan, chosen.reference)
            print(f"{len(left)} of {len(plan.seeds) * len(plan.measured())} results to measure", flush=True)
            for row, seed in left:
                result = measure(plan, row, seed, chosen.reference)
                print("{row}, seed {seed}: {first:.3f} and {second:.3f} in {seconds} s".format(**result), flush=True)
        else:
            rows = judge(plan, chosen.reference)
            print(table(rows))
            if chosen.do == "judge":
                place = chosen.reference / Path(DISAGREEMENTS).name
                write_json_atomic(place, rows)
                _record(rows, chosen.reference / Path(LEDGER).name)
    except (ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    return 0


def _chosen(plan: Plan, chosen: argparse.Namespace) -> Plan:
    sizes = {name: value for name in vars(plan.sizes) if (value := vars(chosen)[name]) is not None}
    other = (
        sizes or set(chosen.seeds or ()) - set(plan.seeds) or (chosen.do == "judge" and (chosen.seeds or chosen.rows))
    )
    if other and chosen.reference == REFERENCE:
        raise ValueError(f"other seeds, sizes or rows are for development: give another --reference than {REFERENCE}")
    if unknown := set(chosen.rows or ()) - {row.id for row in plan.rows}:
        raise ValueError(f"{chosen.plan}: no row {', '.join(sorted(unknown))}")
    return dataclasses.replace(
        plan,
        seeds=tuple(chosen.seeds or plan.seeds),
        sizes=dataclasses.replace(plan.sizes, **sizes),
        rows=tuple(row for row in plan.rows if not chosen.rows or row.id in chosen.rows),
    )


def _record(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    counts = {"rows": len(rows), "measured": sum(row.get("effect") is not None for row in rows)}
    entry = {"unit": "rows", "command": "python -m vigorl_lib.ledger judge"}
    record_measurements(path, {f"ledger.{name}": {"value": value, **entry} for name, value in counts.items()})


if __name__ == "__main__":
    sys.exit(main())
