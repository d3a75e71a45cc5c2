"""The paper's claims on the twins: arms trained over seeds, compared item by item, with a verdict for each claim.

`python -m vigorl_lib.claims forecast` says what is left to run and how long it takes, `run` runs it (a unit is one arm
with one seed; a finished one is never run again), `judge` writes `outputs/reference/claims.json` from what is there,
and `power` says, from the spread over development seeds, how large an effect has to be to be shown. `grid` tries the
plan's learning rates on a development seed, for every arm alike, and writes `outputs/reference/grid/<arm>.json`.
A process has one core, as so small a model gains little from a second: with `--part 1/2` and `--part 2/2` two share
the work.
The plan is `params/claims.yaml`, the arms' parameters are `params/arms/<overlay>/<notebook>.yaml`.
"""

from __future__ import annotations

import argparse
import dataclasses
import gzip
import hashlib
import json
import os
import re
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import torch
import yaml

from vigorl_lib import stats
from vigorl_lib.behaviours import Behaviours, count_behaviours
from vigorl_lib.benchmarks import registry as benchmarks
from vigorl_lib.evaluation import predict
from vigorl_lib.faithfulness import oracle_crops, probe_points, random_crops, with_other_crops
from vigorl_lib.policy import LocalPolicy, load_policy
from vigorl_lib.records import Example, to_json
from vigorl_lib.report import PUBLISHED, collect, read_project
from vigorl_lib.runs import (
    PACKAGE,
    code_version,
    machine,
    outputs_root,
    read_manifest,
    record_measurements,
    write_json_atomic,
)
from vigorl_lib.views import Zoom, pixels_of_all

PLAN, REFERENCE, PROFILE = Path("params/claims.yaml"), Path("outputs/reference"), "claims"
GRID_ITEMS = 300  # development questions that choose between learning rates
BASE = PACKAGE / "checkpoints" / "base"
CONTROLS = ("", "random_crops", "oracle_crops", "larger_picture")
COUNTED = {field.name for field in dataclasses.fields(Behaviours)}  # metrics that are no fractions


@dataclasses.dataclass(frozen=True)
class Arm:
    """A way to train and to ask: the last of `steps`, run with the parameters of `overlay`, made the model.

    Without steps it is the shipped base. `items` names the twins it answers, `minutes` is what a seed should cost on
    one core. With `probes` its points are tested too (`faithfulness.probe_points`).

    `shown` is a control of what the model sees when it answers: "random_crops" or "oracle_crops" whatever it points at
    (`faithfulness`), or in one turn a "larger_picture" that costs what view and looks do (`views.pixels_of_all`).
    """

    name: str
    mode: str
    items: tuple[str, ...]
    seeds: tuple[int, ...]
    minutes: float
    overlay: str = "vigorl"
    steps: tuple[str, ...] = ()
    probes: bool = False
    shown: str = ""


@dataclasses.dataclass(frozen=True)
class Claim:
    """`metric` of the arm `ours` minus that of `theirs` on the twin `items` is more than `smallest_effect`.

    `their_metric` is another one for `theirs`, as where an arm is compared with itself under a control. Of the
    `primary` claims the p values are adjusted together (Holm).
    """

    id: str
    statement: str
    ours: str
    theirs: str
    items: str
    metric: str
    smallest_effect: float
    primary: bool
    paper: Mapping[str, str] = dataclasses.field(default_factory=dict)
    their_metric: str = ""


@dataclasses.dataclass(frozen=True)
class Plan:
    """What `params/claims.yaml` says. `items`: twin -> held-out questions a seed; `frozen`: the recipe's commit.

    `sources`: twin -> its skin and knobs, as `benchmarks.load` takes them.

    `rates` are the learning rates that the grid tries: step -> values. `scaling` is a curve: arm -> its training
    questions, in accuracy on the twin `scaling_items`.
    """

    frozen: str | None
    rates: Mapping[str, tuple[float, ...]]
    scaling_items: str
    scaling: Mapping[str, int]
    items: Mapping[str, int]
    sources: Mapping[str, str]
    temperature: float
    max_new_tokens: int
    arms: Mapping[str, Arm]
    claims: tuple[Claim, ...]

    def units(self, part: int = 1, parts: int = 1) -> list[tuple[Arm, int]]:
        """Every arm with every one of its seeds, seed by seed, so that comparisons fill up early; or one part of them.

        Arms with the same overlay and seed share folders, so they are in the same part. Parts are about equally long.
        """
        pairs = [(arm, seed) for arm in self.arms.values() for seed in arm.seeds]
        minutes: dict[tuple[str, int], float] = defaultdict(float)
        for arm, seed in pairs:
            minutes[arm.overlay, seed] += arm.minutes
        loads, where = [0.0] * parts, {}
        for shared, cost in sorted(minutes.items(), key=lambda found: -found[1]):
            where[shared] = loads.index(min(loads)) + 1
            loads[where[shared] - 1] += cost
        mine = [(arm, seed) for arm, seed in pairs if where[arm.overlay, seed] == part]
        return sorted(mine, key=lambda pair: pair[0].seeds.index(pair[1]))


def read_plan(path: str | Path = PLAN) -> Plan:
    """The plan of a file. Raises ValueError naming file and key where a claim or an arm does not fit."""
    path = Path(path)
    raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    try:
        seeds = {name: tuple(found) for name, found in raw["seeds"].items()}
        arms = {
            name: Arm(
                **{
                    "name": name,
                    **entry,
                    "items": tuple(entry["items"]),
                    "steps": tuple(entry.get("steps", ())),
                    "seeds": seeds[entry["seeds"]],
                }
            )
            for name, entry in raw["arms"].items()
        }
        claims = tuple(Claim(id=id, **entry) for id, entry in raw["claims"].items())
        rates = {step: tuple(values) for step, values in raw["rates"].items()}
        plan = Plan(
            frozen=raw["frozen"],
            rates=rates,
            scaling_items=raw["scaling"]["items"],
            scaling=raw["scaling"]["arms"],
            items=raw["items"],
            sources=raw["sources"],
            temperature=raw["temperature"],
            max_new_tokens=raw["max_new_tokens"],
            arms=arms,
            claims=claims,
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path}: not a plan ({error!r}); params/claims.yaml of the project is one") from error
    for arm in arms.values():
        if arm.shown not in CONTROLS:
            raise ValueError(f"{path}: the arm {arm.name!r} is shown {arm.shown!r}; known: {', '.join(CONTROLS[1:])}")
        if arm.shown.endswith("crops") and arm.mode != "zoom":
            raise ValueError(
                f"{path}: the arm {arm.name!r} is shown {arm.shown!r}, but under {arm.mode!r} nobody looks"
            )
    for claim in plan.claims:
        for name in (claim.ours, claim.theirs):
            if name not in arms:
                raise ValueError(f"{path}: claim {claim.id} names the arm {name!r}; known: {', '.join(arms)}")
            if claim.items not in arms[name].items:
                raise ValueError(f"{path}: claim {claim.id} is about {claim.items!r}, which {name!r} does not answer")
    return plan


# Running --------------------------------------------------------------------------------------------------


def make(arm: Arm, seed: int, steps: Sequence[str]) -> Path:
    """Run steps of an arm (what is done stays as it is); the folder that they lie in."""
    words = [
        f"PROFILE={PROFILE}",
        f"ARM={arm.overlay}",
        f"SEED={seed}",
        f"STEPS={' '.join(steps)}",
        f"VENV={sys.prefix}",
    ]
    subprocess.run(["make", "--no-print-directory", "reproduce", *words], check=True)
    return folder_of(arm, seed)


def folder_of(arm: Arm, seed: int) -> Path:
    """Where the steps of a unit write."""
    return outputs_root() / PROFILE / arm.overlay / f"seed{seed}"


# What a step says in its manifest about the model that it trained, on development questions.
ON_DEV = {
    "03_warm_start": ("dev", "sft", "right_answer"),
    "04_grounded_grpo": ("accuracy", "after"),
    "05_zoom_grpo": ("accuracy", "multi_turn"),
}


def try_rate(arm: Arm, seed: int, rate: float) -> dict[str, Any]:
    """An arm's last step with a learning rate: the accuracy on development questions after it.

    The earlier steps run as they are. A rate's own folder stands beside the step's, and is not made twice.
    """
    *earlier, last = arm.steps
    folder = make(arm, seed, earlier) if earlier else folder_of(arm, seed)
    out = folder / f"{last}.rate{rate:g}"
    if not (out / "manifest.json").exists():
        out.mkdir(parents=True, exist_ok=True)
        overlay = Path("params/arms") / arm.overlay / f"{last}.yaml"
        words = ["-f", f"params/{PROFILE}/{last}.yaml", *(["-f", str(overlay)] if overlay.exists() else [])]
        words += ["-p", "num_eval" if last == "03_warm_start" else "eval_examples", str(GRID_ITEMS)]
        words += ["-p", "learning_rate", f"{rate:.6f}", "-p", "seed", str(seed), "-p", "out_dir", str(out)]
        line = [sys.executable, "-m", "papermill", f"notebooks/{last}.ipynb", str(out / f"{last}.ipynb"), *words]
        subprocess.run(line, check=True)
    found: Any = read_manifest(out / "manifest.json")["metrics"]
    for key in ON_DEV[last]:
        found = found[key]
    return {"step": last, "seed": seed, "learning_rate": rate, "accuracy": found}


def try_grid(plan: Plan, units: Sequence[tuple[Arm, int]], reference: Path = REFERENCE) -> None:
    """Every arm with the plan's first learning rate, then with the next; `grid/<arm>.json` has what came out."""
    trained = [(arm, seed) for arm, seed in units if arm.steps]
    rows = defaultdict(list)
    (reference / "grid").mkdir(parents=True, exist_ok=True)
    for tried in zip(*plan.rates.values(), strict=True):
        rates = dict(zip(plan.rates, tried, strict=True))
        for arm, seed in trained:
            rows[arm.name].append(row := try_rate(arm, seed, rates[arm.steps[-1]]))
            write_json_atomic(reference / "grid" / f"{arm.name}.json", rows[arm.name])
            told = "{learning_rate:g}, seed {seed}: {accuracy[value]:.3f} [{accuracy[low]:.3f}, {accuracy[high]:.3f}]"
            print(f"{arm.name}, {told.format(**row)}", flush=True)


def result_path(arm: Arm, seed: int, reference: Path = REFERENCE) -> Path:
    """Where a unit's result lies: `<reference>/arms/<arm>/seed<k>/result.json`."""
    return reference / "arms" / arm.name / f"seed{seed}" / "result.json"


def waiting(units: Iterable[tuple[Arm, int]], reference: Path = REFERENCE) -> list[tuple[Arm, int]]:
    """The units without a result."""
    return [(arm, seed) for arm, seed in units if not result_path(arm, seed, reference).exists()]


def fingerprint(examples: Iterable[Example]) -> str:
    """SHA-256 over ids, questions, answers and pictures: predictions on another version of a twin do not count."""
    digest = hashlib.sha256()
    for example in examples:
        asked = [example.id, example.question, list(example.options), example.answer, example.box]
        digest.update(json.dumps(asked).encode())
        for image in example.images:
            digest.update(image if isinstance(image, bytes) else str(image).encode())
    return digest.hexdigest()


def run_unit(plan: Plan, arm: Arm, seed: int, reference: Path = REFERENCE) -> dict[str, Any]:
    """Train an arm with a seed (through `make`, which resumes), let it answer, and write its result last of all.

    Raises subprocess.CalledProcessError where a notebook fails.
    """
    began = time.monotonic()
    folder = make(arm, seed, arm.steps) if arm.steps else folder_of(arm, seed)
    policy = policy_of(arm, folder / arm.steps[-1] / "model" if arm.steps else BASE, seed)
    path = result_path(arm, seed, reference)
    path.parent.mkdir(parents=True, exist_ok=True)
    answers: dict[str, Any] = {}
    sampling = {"max_new_tokens": plan.max_new_tokens, "temperature": plan.temperature, "seed": seed}
    for name in arm.items:
        examples = benchmarks.load(name, plan.sources[name], split="test", limit=plan.items[name], seed=seed)
        draft = folder / "claims" / arm.name / f"{name}.jsonl"
        draft.parent.mkdir(parents=True, exist_ok=True)
        replies = predict(
            policy,
            examples,
            arm.mode,
            draft,
            **sampling,
            zoom=Zoom() if arm.mode == "zoom" else None,
            title=f"{arm.name}, seed {seed}, {name}",
        )
        grades = [
            benchmarks.grade(name, reply.turns, example, frame=policy.frame_of(example))
            for reply, example in zip(replies, examples, strict=True)
        ]
        more: list[dict[str, Any]] = [
            dataclasses.asdict(count_behaviours(reply.turns, example.truth["names"]))
            for reply, example in zip(replies, examples, strict=True)
        ]
        if arm.probes:
            probed = probe_points(policy, examples, [reply.turns[0] for reply in replies], **sampling)
            more = [counted | row for counted, row in zip(more, probed, strict=True)]
        lines = [
            json.dumps(to_json(reply) | {"accuracy": grade.score, "why": grade.why} | measured) + "\n"
            for reply, grade, measured in zip(replies, grades, more, strict=True)
        ]
        # mtime 0: the same predictions make the same file.
        (path.parent / f"{name}.jsonl.gz").write_bytes(gzip.compress("".join(lines).encode(), mtime=0))
        answers[name] = {"fingerprint": fingerprint(examples), **benchmarks.aggregate(name, grades)}
    keep_curves(arm, seed, reference)
    manifests = {step: manifest for step, manifest in collect(folder).items() if step in arm.steps}
    result = {
        "arm": arm.name,
        "seed": seed,
        "mode": arm.mode,
        "code": code_version(),
        "machine": machine(),
        "seconds": round(time.monotonic() - began),
        "cost": cost({step: manifest["metrics"] for step, manifest in manifests.items()}),
        "steps": {
            step: {key: manifest[key] for key in ("params", "metrics", "seconds", "code", "inputs")}
            for step, manifest in manifests.items()
        },
        "items": answers,
    }
    write_json_atomic(path, result)
    return result


def policy_of(arm: Arm, model: Path, seed: int) -> LocalPolicy:
    """An arm's model, seeing what the arm is to see."""
    # In fp32 on a GPU too, as the profile trains: predictions differ by no more than the order of sums.
    policy = load_policy(model, dtype=torch.float32)
    if arm.shown == "larger_picture":
        return load_policy(model, dtype=torch.float32, max_pixels=pixels_of_all(policy.limits(), Zoom()))
    if arm.shown == "random_crops":
        return with_other_crops(policy, random_crops(policy, seed=seed))
    return with_other_crops(policy, oracle_crops(policy)) if arm.shown == "oracle_crops" else policy


def keep_curves(arm: Arm, seed: int, reference: Path = REFERENCE) -> None:
    """Write the learning curves of a unit's steps beside its result: `curves.json.gz`, step -> rows of its log."""
    paths = {step: folder_of(arm, seed) / step / "curve.json" for step in arm.steps}
    curves = {step: json.loads(path.read_text(encoding="utf-8")) for step, path in paths.items() if path.exists()}
    if curves:
        place = result_path(arm, seed, reference).parent / "curves.json.gz"
        place.write_bytes(gzip.compress(json.dumps(curves).encode(), mtime=0))


def cost(metrics: Mapping[str, Mapping[str, Any]]) -> dict[str, int]:
    """What training an arm took, of its steps' metrics: tokens that policies wrote, search included, and updates."""
    tokens = updates = 0
    for step, found in metrics.items():
        training = found.get("training", {})
        tokens += training.get("policy_tokens", 0)
        updates += training.get("updates", 0) + training.get("sft_updates", 0)
        if step == "02_search_traces":
            tokens += found["policy_tokens"]["zoom_trees" if "05_zoom_grpo" in metrics else "trees"]
    return {"policy_tokens": tokens, "updates": updates}


# Judging --------------------------------------------------------------------------------------------------


def paired_scores(claim: Claim, plan: Plan, reference: Path = REFERENCE) -> dict[int, list[tuple[float, float]]]:
    """Seed -> (ours, theirs) of every item, for the seeds that both arms have finished.

    Raises ValueError where two results of a seed are not about the same items of the same twin.
    """
    ours, theirs = plan.arms[claim.ours], plan.arms[claim.theirs]
    found = {}
    for seed in (seed for seed in ours.seeds if seed in theirs.seeds):
        paths = [result_path(arm, seed, reference) for arm in (ours, theirs)]
        if not all(path.exists() for path in paths):
            continue
        metrics = claim.metric, claim.their_metric or claim.metric
        (mine, print_of_mine), (other, print_of_other) = (
            _scores(path, claim.items, metric) for path, metric in zip(paths, metrics, strict=True)
        )
        remedy = f"{paths[0].parent} and {paths[1].parent}; delete the older one and run it again"
        if unlike := sorted(mine.keys() ^ other.keys()):
            raise ValueError(
                f"claim {claim.id}: {unlike[0]} and {len(unlike) - 1} more ids are only in one of {remedy}"
            )
        if print_of_mine != print_of_other:
            raise ValueError(f"claim {claim.id}: two versions of the twin {claim.items} in {remedy}")
        # A measure that an item does not have (no point, say) is none of the comparison's.
        found[seed] = [(mine[id], other[id]) for id in mine if None not in (mine[id], other[id])]
    return found


def _scores(path: Path, items: str, metric: str) -> tuple[dict[str, float | None], str]:
    """Id -> a metric, and the twin's fingerprint, of the result at `path`."""
    text = gzip.decompress((path.parent / f"{items}.jsonl.gz").read_bytes()).decode()
    scores = {line["id"]: line[metric] for line in map(json.loads, text.splitlines())}
    return scores, json.loads(path.read_text(encoding="utf-8"))["items"][items]["fingerprint"]


def judge(plan: Plan, reference: Path = REFERENCE) -> list[dict[str, Any]]:
    """One row a claim, for people and programs: what is compared, how it came out, and the verdict.

    effect, low, high      mean over seeds of the paired differences, its 95 % t interval over seeds
    boot_low, boot_high    the same by a bootstrap over seeds and items, as a check
    p_holm                 one-sided, against the smallest effect; adjusted over all primary claims, run or not
    by_seed                the two arms' means, seed by seed
    missing_seeds          those of the plan that one of the two arms has not finished
    ours_cost, theirs_cost what a seed's training took (`cost`), the mean over seeds
    paper_effect           the difference that the paper reports, None where it has none

    verdict: "shown" (p_holm below 0.05), "contradicted" (the whole interval below 0), "not shown", "not run" (fewer
    than two seeds), "incomplete" (a seed of the plan is missing; the other figures are those so far).
    """
    scores = {claim.id: paired_scores(claim, plan, reference) for claim in plan.claims}
    effects = {
        claim.id: stats.paired_effect(
            [_mean_gain(pairs) for pairs in found.values()], smallest_effect=claim.smallest_effect
        )
        for claim in plan.claims
        if len(found := scores[claim.id]) >= 2
    }
    primary = [claim.id for claim in plan.claims if claim.primary]
    adjusted = dict(zip(primary, stats.holm([effects[id].p if id in effects else 1.0 for id in primary]), strict=True))
    published = read_project(PUBLISHED)
    rows = []
    for claim in plan.claims:
        found, effect = scores[claim.id], effects.get(claim.id)
        wanted = set(plan.arms[claim.ours].seeds) & set(plan.arms[claim.theirs].seeds)
        p = adjusted.get(claim.id, effect.p if effect else 1.0)
        rows.append(
            {
                "id": claim.id,
                "statement": claim.statement,
                "ours": claim.ours,
                "theirs": claim.theirs,
                "items": claim.items,
                "metric": claim.metric,
                "their_metric": claim.their_metric or claim.metric,
                "primary": claim.primary,
                "verdict": _verdict(effect, p, wanted - set(found)),
                "missing_seeds": sorted(wanted - set(found)),
                "effect": effect and effect.mean,
                "low": effect and effect.interval.low,
                "high": effect and effect.interval.high,
                **_bootstrap(found),
                "p_holm": p if effect else None,
                "n_items": sum(map(len, found.values())),
                "n_seeds": len(found),
                "smallest_effect": claim.smallest_effect,
                "paper_effect": _paper_effect(claim, published),
                "ours_cost": _mean_cost(plan.arms[claim.ours], found, reference),
                "theirs_cost": _mean_cost(plan.arms[claim.theirs], found, reference),
                "by_seed": [
                    {"seed": seed, "ours": mean(a for a, _ in pairs), "theirs": mean(b for _, b in pairs)}
                    for seed, pairs in found.items()
                ],
            }
        )
    return rows


WORST_FIRST = ("contradicted", "not shown", "not run", "incomplete", "shown")


def summary(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """One row for each of the paper's claims, C1 of C1a, C1b …: that of its part with the worst verdict.

    Of several such parts it is the one whose effect exceeds its smallest one by least. Only primary `parts` decide
    where there are some. `part` names the one that did.
    """
    found = []
    for name in dict.fromkeys(_family(row["id"]) for row in rows):
        parts = [row for row in rows if _family(row["id"]) == name]
        deciding = [row for row in parts if row["primary"]] or parts
        worst = min(deciding, key=lambda row: (WORST_FIRST.index(row["verdict"]), _excess(row)))
        found.append({**worst, "id": name, "part": worst["id"], "parts": [row["id"] for row in parts]})
    return found


def _family(id: str) -> str:
    """The claim that a part belongs to: C1 of C1a_gui."""
    return re.match(r"[A-Z]\d*", id)[0]


def _excess(row: Mapping[str, Any]) -> float:
    return 0.0 if row["effect"] is None else row["effect"] - row["smallest_effect"]


def measurements(
    plan: Plan, rows: Sequence[Mapping[str, Any]], arms: Sequence[Mapping[str, Any]], reference: Path = REFERENCE
) -> dict[str, Any]:
    """For the ledger, of the rows of `judge` and `arm_rows`.

    claims.<id>.effect               of each claim that has one
    claims.<arm>.<items>.accuracy    the mean over seeds
    claims.core_hours                of all finished units
    """
    finished = [(arm, seed) for arm, seed in plan.units() if result_path(arm, seed, reference).exists()]
    seconds = [_result(arm, seed, reference)["seconds"] for arm, seed in finished]
    seeds = sorted({seed for _, seed in finished})
    found: dict[str, Any] = {
        f"claims.{row['id'].lower()}.effect": {
            "value": row["effect"],
            "unit": "in a reply" if row["metric"] in COUNTED else "fraction",
            "low": row["low"],
            "high": row["high"],
            "n": row["n_items"],
            "seeds": [one["seed"] for one in row["by_seed"]],
        }
        for row in rows
        if row["effect"] is not None
    } | {
        f"claims.{row['arm']}.{row['items']}.accuracy": {
            **{key: row[key] for key in ("value", "low", "high")},
            "unit": "fraction",
            "n": row["n_items"],
            "seeds": [seed for arm, seed in finished if arm.name == row["arm"]],
        }
        for row in arms
    }
    if finished:
        hours = {"value": sum(seconds) / 3600, "unit": "core-hours", "n": len(finished), "seeds": seeds}
        found["claims.core_hours"] = hours
    return {name: {**entry, "command": "make claims"} for name, entry in found.items()}


def _result(arm: Arm, seed: int, reference: Path) -> dict[str, Any]:
    return json.loads(result_path(arm, seed, reference).read_text(encoding="utf-8"))


def _mean_cost(arm: Arm, seeds: Iterable[int], reference: Path) -> dict[str, float] | None:
    found = [_result(arm, seed, reference)["cost"] for seed in seeds]
    return {name: mean(one[name] for one in found) for name in found[0]} if found else None


def _mean_gain(pairs: Sequence[tuple[float, float]]) -> float:
    return mean(ours - theirs for ours, theirs in pairs)


def _verdict(effect: stats.Effect | None, p: float, missing: set[int]) -> str:
    if effect is None:
        return "not run"
    if missing:
        return "incomplete"
    return "shown" if p < 0.05 else "contradicted" if effect.interval.high < 0 else "not shown"


def _bootstrap(found: Mapping[int, Sequence[tuple[float, float]]]) -> dict[str, float | None]:
    if len(found) < 2:
        return {"boot_low": None, "boot_high": None}
    count = min(map(len, found.values()))  # seeds ask questions of their own, and some have no measure
    interval = stats.hierarchical_bootstrap([[a - b for a, b in pairs[:count]] for pairs in found.values()])
    return {"boot_low": interval.low, "boot_high": interval.high}


def _paper_effect(claim: Claim, published: Mapping[str, Mapping[str, Any]]) -> float | None:
    ours, theirs = (published.get(claim.paper.get(side, "")) for side in ("ours", "theirs"))
    return ours["value"] - theirs["value"] if ours and theirs else None


def arm_rows(plan: Plan, reference: Path = REFERENCE) -> list[dict[str, Any]]:
    """One row for each arm and twin with two finished seeds: accuracy, its mean and 95 % t interval, and the cost."""
    rows = []
    for arm in plan.arms.values():
        seeds = [seed for seed in arm.seeds if result_path(arm, seed, reference).exists()]
        if len(seeds) < 2:
            continue
        for items in arm.items:
            found = [_result(arm, seed, reference)["items"][items]["accuracy"] for seed in seeds]
            average = stats.average([accuracy["value"] for accuracy in found])
            asked = sum(accuracy["n"] for accuracy in found)
            told = {"arm": arm.name, "mode": arm.mode, "items": items, **average, "n_items": asked}
            rows.append(told | (_mean_cost(arm, seeds, reference) or {}))
    return rows


def scaling(plan: Plan, rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The curve of `plan.scaling`: its arms' `rows` (of `arm_rows`) with their training questions as `x`."""
    found = {row["arm"]: row for row in rows if row["items"] == plan.scaling_items}
    return [{**found[name], "x": questions} for name, questions in plan.scaling.items() if name in found]


def with_seeds(plan: Plan, seeds: Sequence[int]) -> Plan:
    """The plan with other seeds for every arm."""
    arms = {name: dataclasses.replace(arm, seeds=tuple(seeds)) for name, arm in plan.arms.items()}
    return dataclasses.replace(plan, arms=arms)


def power(plan: Plan, seeds: Sequence[int], reference: Path) -> list[dict[str, Any]]:
    """For each claim with two or more of `seeds` finished in `reference`: how large an effect the plan can show.

    deviation   of the per-seed differences there (development seeds: this is for before the reference run)
    detectable  the true effect that comes out as shown in 80 % of repetitions with the plan's seeds, at the level that
                Holm asks of the smallest p value
    """
    count = sum(claim.primary for claim in plan.claims)
    rows = []
    for claim in plan.claims:
        pilot = paired_scores(claim, with_seeds(plan, seeds), reference)
        gains = [_mean_gain(pairs) for pairs in pilot.values()]
        if len(gains) < 2:
            continue
        planned = len(set(plan.arms[claim.ours].seeds) & set(plan.arms[claim.theirs].seeds))
        detectable = stats.minimum_detectable_effect(
            spread := stdev(gains), planned, smallest_effect=claim.smallest_effect, alpha=0.05 / count
        )
        rows.append({"id": claim.id, "effect": mean(gains), "deviation": spread, "detectable": detectable})
    return rows


def remember_attempt(plan: Plan, rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Keep what came out of this recipe and these seeds in the list of all attempts; the same again replaces it."""
    seeds = {name: list(arm.seeds) for name, arm in plan.arms.items()}
    kept = ("id", "verdict", "effect", "low", "high", "n_seeds")
    attempt = {"frozen": plan.frozen, "seeds": seeds, "claims": [{key: row[key] for key in kept} for row in rows]}
    before = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
    others = [found for found in before if (found["frozen"], found["seeds"]) != (plan.frozen, seeds)]
    write_json_atomic(path, [*others, attempt])


def forecast(units: Sequence[tuple[Arm, int]], reference: Path = REFERENCE) -> str:
    """What is left to run, in words: units, and core-hours from the plan's minutes."""
    left = waiting(units, reference)
    minutes = sum(arm.minutes for arm, _ in left)
    done = len(units) - len(left)
    return f"{done} units done, {len(left)} to run: about {minutes / 60:.1f} core-hours, half as long on two cores"


def _take_one_core() -> None:
    os.environ["OMP_NUM_THREADS"] = "1"  # of the notebooks
    torch.set_num_threads(1)


def main(words: Sequence[str] | None = None) -> int:
    """See the module's text; 2 and the reason where it can not be done."""
    parser = argparse.ArgumentParser(prog="python -m vigorl_lib.claims")
    parser.add_argument("do", choices=("forecast", "run", "judge", "power", "grid"))
    parser.add_argument("--plan", type=Path, default=PLAN)
    parser.add_argument("--reference", type=Path, default=REFERENCE)
    parser.add_argument("--seeds", type=int, nargs="+", help="instead of the plan's, while developing")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="begin no unit after so long")
    parser.add_argument("--part", default="1/1", help="K/N: only the K-th of N parts of the units")
    chosen = parser.parse_args(words)
    try:
        plan = read_plan(chosen.plan)
        if chosen.seeds and chosen.do != "power":
            if chosen.reference == REFERENCE and chosen.do != "grid":
                raise ValueError(f"--seeds is for development: give another --reference than {REFERENCE}")
            plan = with_seeds(plan, chosen.seeds)
        if not (found := re.fullmatch(r"(\d+)/(\d+)", chosen.part)) or not 1 <= int(found[1]) <= int(found[2]):
            raise ValueError(f"--part {chosen.part}: K/N with K from 1 to N, such as 1/2")
        part, parts = map(int, found.groups())
        units = plan.units(part, parts)
        if chosen.do != "grid":
            print(forecast(units, chosen.reference), flush=True)
        if chosen.do == "run":
            if plan.frozen is None and chosen.reference == REFERENCE:
                raise ValueError(
                    f"{chosen.plan}: `frozen` names no commit, and {REFERENCE} is for a frozen recipe; "
                    "write it there, or give another --reference while developing"
                )
            if chosen.reference == REFERENCE and code_version()["dirty"]:
                raise ValueError(f"the code or its parameters have changes; {REFERENCE} is made by committed ones")
            _take_one_core()
            end = time.monotonic() + 60 * chosen.minutes
            for arm, seed in waiting(units, chosen.reference):
                if time.monotonic() + 60 * arm.minutes > end:
                    print("time is up: the rest another day")
                    break
                seconds = run_unit(plan, arm, seed, chosen.reference)["seconds"]
                print(f"{arm.name}, seed {seed}: done in {seconds} s", flush=True)
        elif chosen.do == "grid":
            if len(chosen.seeds or ()) != 1:
                raise ValueError("the grid is tried on one development seed: give --seeds 1")
            _take_one_core()
            try_grid(plan, units, chosen.reference)
        elif chosen.do == "power":
            if not chosen.seeds:
                raise ValueError("power looks at development seeds: give --seeds 1 2 3, and their --reference")
            for row in power(plan, chosen.seeds, chosen.reference):
                told = "{id:8} effect {effect:+.3f}, deviation {deviation:.3f}, detectable {detectable:.3f}"
                print(told.format(**row))
        elif chosen.do == "judge":
            judged = judge(plan, chosen.reference)
            rows = summary(judged) + judged
            write_json_atomic(chosen.reference / "claims.json", rows)
            arms = arm_rows(plan, chosen.reference)
            write_json_atomic(chosen.reference / "arms.json", arms)
            write_json_atomic(chosen.reference / "scaling.json", scaling(plan, arms))
            remember_attempt(plan, rows, chosen.reference / "attempts.json")
            entries = measurements(plan, judged, arms, chosen.reference)
            record_measurements(chosen.reference / "measurements.json", entries)
            for row in rows:
                effect = "" if row["effect"] is None else " {effect:+.3f} [{low:+.3f}, {high:+.3f}]".format(**row)
                missing = f"; missing seeds: {row['missing_seeds']}" if row["missing_seeds"] else ""
                told = f"{row['ours']} - {row['theirs']}, {row['n_seeds']} seeds{missing}"
                print(f"{row['id']:8} {row['verdict']:12}{effect} {told}")
    except (ValueError, OSError, subprocess.CalledProcessError) as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
