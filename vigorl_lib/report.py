"""What the manifests of a run say: figures by name, entries for the ledger of numbers, one page for people.

`python -m vigorl_lib.report record outputs/nano/vigorl/seed0` writes the ledger from a run's manifests (`--step` from
one of them),
`python -m vigorl_lib.report quote README.md` renews the numbers that a text quotes from the ledger.
"""

from __future__ import annotations

import argparse
import base64
import html
import io
import json
import re
import sys
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import pandas as pd
import yaml
from matplotlib.figure import Figure

from vigorl_lib.runs import PACKAGE, read_manifest, record_measurements, write_text_atomic

Manifests = Mapping[str, Mapping[str, Any]]
STEPS = (
    "00_tour", "01_nano_world", "02_search_traces", "03_warm_start", "04_grounded_grpo", "05_zoom_grpo",
    "06_eval_spatial",
)  # fmt: skip
LEDGER, PUBLISHED = "outputs/reference/measurements.json", "params/published.yaml"
CLAIMS, ARMS = "outputs/reference/claims.json", "outputs/reference/arms.json"
SCALING, ATTEMPTS = "outputs/reference/scaling.json", "outputs/reference/attempts.json"
DISAGREEMENTS = "outputs/reference/ledger.json"
BASE, SAT2, VSTAR = "01_nano_world", "06_eval_spatial/sat2_twin", "05_zoom_grpo/accuracy"
SEARCH = "07_eval_visual_search"
WEB, HABITS, MUSEUM = "09_eval_web_agents", "11_behaviours", "13_reward_museum"
# The museum's rewards that can be hacked, each trained in one turn or with a zoom.
HACKED = (
    *(f"grounded_{name}" for name in ("points_anywhere", "format_only", "substring", "length")),
    "zoom_uncapped_bonus",
)
# Name in the ledger -> step/metric of the manifests; of several the lowest counts. Benchmark scripts add
# their own, such as `search.speedup_batched`.
RECORDED = {
    "tour.first_figure_s": ["00_tour/first_figure_seconds"],
    "nano_base.mib": [f"{BASE}/mib"],
    "nano_base.point_hit": [f"{BASE}/exam.shipped.point"],
    "nano_base.naming": [f"{BASE}/exam.shipped.name"],
    "nano_base.single_step": [
        f"{BASE}/exam.shipped.{subject}" for subject in ("next", "further_left", "larger", "crop")
    ],
    "nano_base.relational_direct": [f"{SAT2}.base.accuracy"],  # as in notebook 01, of ten times as many questions
    "nano_base.format_rate.direct": [f"{BASE}/format_rate.direct"],
    "nano_base.format_rate.vanilla": [f"{BASE}/format_rate.vanilla"],
    "nano_base.format_rate.grounded": [f"{BASE}/format_rate.grounded"],
    "nano_base_retrained.point_hit": [f"{BASE}/exam.retrained.point"],
    "nano_base_retrained.naming": [f"{BASE}/exam.retrained.name"],
    "nano_base_retrained.seconds": [f"{BASE}/retrained.train_seconds"],
    "sat2_twin.chance": [f"{SAT2}.chance"],
    "sat2_twin.base.accuracy": [f"{SAT2}.base.accuracy"],
    "sat2_twin.sft.accuracy": [f"{SAT2}.sft.accuracy"],
    "sat2_twin.vanilla_grpo.accuracy": [f"{SAT2}.vanilla_grpo.accuracy"],
    "sat2_twin.vigorl.accuracy": [f"{SAT2}.vigorl.accuracy"],
    "vstar_twin.single_turn.accuracy": [f"{VSTAR}.single_turn"],
    "vstar_twin.multi_turn.accuracy": [f"{VSTAR}.multi_turn"],
    **{  # on held-out questions: each way to spend visual tokens
        f"vstar_twin.{name}.accuracy": [f"{SEARCH}/vstar_twin.{name}.accuracy"]
        for name in (
            "vigorl_one_turn",
            "vigorl_one_turn_larger_picture",
            "zoom_model_tool_off",
            "zoom_model",
            "zoom_model_random_looks",
            "zoom_model_oracle_looks",
        )
    },
    "control.shuffled_image.accuracy": ["06_eval_spatial/control.shuffled_image.accuracy"],
    "control.text_only.accuracy": ["06_eval_spatial/control.text_only.accuracy"],
    "control.random_points.accuracy": ["06_eval_spatial/control.random_points.accuracy"],
    "search.vigorl_judge_false_correct": ["02_search_traces/judges.trees.false_correct"],
    "search.vigorl_judge_false_correct_zoom": ["02_search_traces/judges.zoom_trees.false_correct"],
    **{f"web.nano.{name}.success": [f"{WEB}/nano.{name}.success"] for name in ("grounded", "ungrounded")},
    "behaviours.coder.precision": [f"{HABITS}/coder.precision"],
    "behaviours.coder.recall": [f"{HABITS}/coder.recall"],
    **{f"points.hit_rate.{how}": [f"{HABITS}/points.{how}"] for how in ("model", "random", "shuffled")},
    **{
        f"faithfulness.{what}.effect": [f"{HABITS}/effect.{what}"]
        for what in (
            "moved_point",
            "drawn_again",
            "grey",
            "another_picture",
            "way_out_offered",
            "grey_way_out_offered",
            "tool_on",
            "tool_off",
            "first_step_alone",
            "steps_in_another_order",
            "first_point_moved",
            "placebo_move",
            "blank_looks",
            "another_looks",
            "recoloured_looks",
        )
    },
    "museum.rewards": [f"{MUSEUM}/rewards"],
    "museum.slowest.seconds": [f"{MUSEUM}/slowest.seconds"],
    **{f"museum.start.{mode}": [f"{MUSEUM}/start.{mode}"] for mode in ("grounded", "zoom")},
    **{
        f"museum.accuracy.{exhibit}": [f"{MUSEUM}/accuracy.{exhibit}"]
        for exhibit in ("grounded_clean", "zoom_clean", *HACKED)
    },
    **{f"museum.gap.{exhibit}": [f"{MUSEUM}/gap.{exhibit}"] for exhibit in HACKED},
    **{f"museum.tokens.{name}": [f"{MUSEUM}/tokens.{name}"] for name in ("grounded_clean", "grounded_length")},
    **{f"museum.looks.{name}": [f"{MUSEUM}/looks.{name}"] for name in ("zoom_clean", "zoom_uncapped_bonus")},
}
TARGETS = {SEARCH: "evaluate", WEB: "evaluate", HABITS: "evaluate", MUSEUM: "museum"}  # of make; all others: reproduce
UNITS = {"rewards": "rewards", "seconds": "s", "first_figure_s": "s", "mib": "MiB", "peak_gib": "GiB"}
QUOTE = re.compile(r"<!-- m:([a-z0-9_.]+?)(?:/(\d+))? -->([^<]*)<!-- /m -->")
STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;color:#222;max-width:1200px;margin:2em auto;padding:0 1em}"
    "table{border-collapse:collapse;margin:1em 0;display:block;overflow-x:auto}"
    "td,th{padding:3px 10px;text-align:left;border-bottom:1px solid #ddd}img{max-width:100%}"
)


def collect(folder: str | Path) -> dict[str, dict[str, Any]]:
    """Step -> manifest of the steps that are done in `<profile>/<arm>/seed<k>`, in reading order."""
    found = {path.parent.name: read_manifest(path) for path in sorted(Path(folder).glob("*/manifest.json"))}
    # A folder that was set aside (`<step>.old1`) may hold a manifest too.
    return {name: manifest for name, manifest in found.items() if name == manifest["step"]}


def flat(metrics: Mapping[str, Any], above: str = "") -> dict[str, dict[str, Any]]:
    """Dotted name -> `{"value": …}`, with `low`, `high`, `n` where known; what is None is left out."""
    leaves: dict[str, dict[str, Any]] = {}
    for key, part in metrics.items():
        leaf = part if isinstance(part, Mapping) else {"value": part}
        if "value" not in leaf:
            leaves |= flat(leaf, f"{above}{key}.")
        elif leaf["value"] is not None:
            leaves[f"{above}{key}"] = dict(leaf)
    return leaves


def leaves(manifests: Manifests) -> dict[str, dict[str, Any]]:
    """All metrics of a run as `step/dotted name` -> leaf, with the `step` it is from."""
    return {
        f"{step}/{name}": {**leaf, "step": step}
        for step, manifest in manifests.items()
        for name, leaf in flat(manifest["metrics"]).items()
    }


def recorded(manifests: Manifests) -> dict[str, dict[str, Any]]:
    """Name in the ledger -> leaf, for what the manifests hold of `RECORDED`."""
    found = leaves(manifests)
    return {
        name: min((found[place] for place in places), key=lambda leaf: leaf["value"])
        for name, places in RECORDED.items()
        if found.keys() >= set(places)
    }


def totals(manifests: Manifests) -> dict[str, Any]:
    """What a run cost: the steps' `seconds` in sum, `elapsed` seconds from the first start to the last end,
    `peak_gib` of the largest step, and the names of those that were `resumed` (their seconds are too few)."""
    ends = [datetime.fromisoformat(manifest["finished"]).timestamp() for manifest in manifests.values()]
    starts = [end - manifest["seconds"] for end, manifest in zip(ends, manifests.values(), strict=True)]
    return {
        "seconds": sum(manifest["seconds"] for manifest in manifests.values()),
        "elapsed": max(ends) - min(starts) if ends else 0.0,
        "peak_gib": max((manifest["peak_memory_gib"] for manifest in manifests.values()), default=0.0),
        "resumed": [step for step, manifest in manifests.items() if manifest["resumed"]],
    }


def measurements(folder: str | Path, step: str = "") -> dict[str, dict[str, Any]]:
    """The ledger's entries that a run holds, or one `step` of it; ValueError on a profile that it does not know.

    `reproduce.*` needs all steps up to the report, `reproduce.seconds` each finished at its first start.
    """
    folder = Path(folder).resolve()
    profile, arm = folder.parent.parent.name, folder.parent.name
    manifests = {name: manifest for name, manifest in collect(folder).items() if step in ("", name)}
    if profile not in ("nano", "base") or not manifests:
        raise ValueError(f"{folder}: no finished step of profile nano or base; give outputs/nano/<arm>/seed<k>")
    found = recorded(manifests)
    report = manifests.pop("12_report", None)  # it may have been made again later: a break is no cost
    if report:
        cost = totals(manifests)
        manifests["12_report"] = report
        peak = max(cost["peak_gib"], report["peak_memory_gib"])
        found["reproduce.peak_gib"] = {"value": peak, "step": "12_report"}
        if not cost["resumed"]:
            seconds = round(cost["elapsed"] + report["seconds"])
            found["reproduce.seconds"] = {"value": seconds, "step": "12_report"}
    entries = {}
    for name, leaf in found.items():
        manifest = manifests[leaf["step"]]
        code = manifest["code"]
        entries[name] = {key: leaf[key] for key in ("value", "low", "high", "n") if key in leaf} | {
            "unit": UNITS.get(name.rpartition(".")[2], "fraction"),
            "seeds": [manifest["seed"]],
            "command": f"make {TARGETS.get(leaf['step'], 'reproduce')} PROFILE={profile} ARM={arm} "
            f"SEED={manifest['seed']}",
            "commit": f"{code['commit']} with changes" if code["dirty"] else code["commit"],
            "machine": manifest["machine"],
        }
    return entries


def read_project(name: str) -> Any:
    """What the project's `PUBLISHED` (the literature's figures), `LEDGER` (ours), `CLAIMS` (verdicts) or another holds.

    Nothing where that file is not there, as for a package that was installed without the project.
    """
    places = [folder / name for folder in (PACKAGE.parent, Path.cwd(), *Path.cwd().parents)]
    texts = [place.read_text(encoding="utf-8") for place in places if place.exists()]
    return (json.loads if name.endswith(".json") else yaml.safe_load)(texts[0]) if texts else {}


def refresh(text: str, ledger: Mapping[str, Mapping[str, Any]]) -> str:
    """The text with every quoted number as the ledger has it, rounded to the decimals that stand there.

    A quote is `<!-- m:NAME -->0.31<!-- /m -->`; NAME may end in `.low`, `.high` or `.n`, and in `/60` to turn
    seconds into minutes. Raises ValueError naming what is not in the ledger.
    """

    def quote(match: re.Match[str]) -> str:
        name, divisor, shown = match.groups()
        key, _, field = name.rpartition(".")
        key, field = (key, field) if key in ledger and field in ("low", "high", "n") else (name, "value")
        if key not in ledger or ledger[key][field] is None:
            raise ValueError(f"{name}: not in the ledger of numbers; measure it, or take the quote out")
        value = f"{ledger[key][field] / int(divisor or 1):,.{len(shown.partition('.')[2])}f}"
        return match[0].replace(f"-->{shown}<!--", f"-->{value}<!--")

    return QUOTE.sub(quote, text)


def page(title: str, parts: Sequence[str | pd.DataFrame | Figure]) -> str:
    """One HTML page without script or network: texts (`## ` opens a heading), tables and figures, escaped."""
    body = []
    for part in (f"# {title}", *parts):
        if isinstance(part, pd.DataFrame):
            with pd.option_context("display.max_colwidth", None):
                body.append(part.to_html(border=0))
        elif isinstance(part, Figure):
            buffer = io.BytesIO()
            part.savefig(buffer, format="png")
            picture = base64.b64encode(buffer.getvalue()).decode()
            body.append(f'<img alt="" src="data:image/png;base64,{picture}">')
        else:
            level = next((level for level in (1, 2) if part.startswith("#" * level + " ")), 0)
            tag, text = (f"h{level}", part[level + 1 :]) if level else ("p", part)
            body.append(f"<{tag}>{html.escape(text)}</{tag}>")
    policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{html.escape(title)}</title>'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}"><style>{STYLE}</style>'
        f"<body>{''.join(body)}</body></html>\n"
    )


def main(words: Sequence[str] | None = None) -> int:
    """See the module's text; 2 and the reason where it can not be done."""
    parser = argparse.ArgumentParser(prog="python -m vigorl_lib.report")
    parser.add_argument("do", choices=("record", "quote"))
    parser.add_argument("path", type=Path, help="the folder of a seed, or the text that quotes")
    parser.add_argument("--ledger", type=Path, default=Path(LEDGER))
    parser.add_argument("--step", default="", help="record this one alone")
    chosen = parser.parse_args(words)
    try:
        if chosen.do == "record":
            entries = measurements(chosen.path, chosen.step)
            record_measurements(chosen.ledger, entries)
            wanted = () if chosen.step else (*RECORDED, "reproduce.seconds")
            missing = ", ".join(name for name in wanted if name not in entries) or "none"
            print(f"{chosen.ledger}: {len(entries)} entries; not in these manifests: {missing}")
        else:
            ledger = json.loads(chosen.ledger.read_text(encoding="utf-8"))
            write_text_atomic(chosen.path, refresh(chosen.path.read_text(encoding="utf-8"), ledger))
    except (ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
