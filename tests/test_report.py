"""Manifests become figures, ledger entries and a page; nothing is lost, nothing of another run slips in."""

import json
from pathlib import Path

import pandas as pd
import pytest

from vigorl_lib import report
from vigorl_lib.report import collect, flat, measurements, page, recorded, refresh, totals
from vigorl_lib.runs import MANIFEST_KEYS, start_run

ROOT = Path(__file__).parent.parent
CODE = {"version": "1", "commit": "abc", "dirty": False}


def manifest(step, metrics, **changes):
    whole = {key: kinds[0]() for key, kinds in MANIFEST_KEYS.items()}
    whole |= {"step": step, "metrics": metrics, "seconds": 60.0, "peak_memory_gib": 1.5, "code": CODE}
    return {**whole, "finished": "2025-01-01T00:01:00+00:00", "machine": {"cpus": 2}, **changes}


def write(seed, *manifests):
    for whole in manifests:
        folder = seed / whole["step"]
        folder.mkdir(parents=True)
        (folder / "manifest.json").write_text(json.dumps(whole))
    return seed


@pytest.fixture
def seed(tmp_path):
    accuracy = {"value": 0.5, "low": 0.4, "high": 0.6, "n": 1000}
    return write(
        tmp_path / "nano/vigorl/seed3",
        manifest("00_tour", {"first_figure_seconds": 12.5}),
        manifest(
            "06_eval_spatial",
            {"sat2_twin": {"vigorl": {"accuracy": accuracy}}},
            seed=3,
            finished="2025-01-01T00:05:00+00:00",
        ),
        # The report was made again, days later.
        manifest("12_report", {"a": 1}, peak_memory_gib=2.5, resumed=True, finished="2025-01-09T00:00:00+00:00"),
    )


def test_collect_reads_finished_steps_in_order_and_no_other_folder(seed):
    aside = seed / "06_eval_spatial.old1"
    aside.mkdir()
    (aside / "manifest.json").write_text((seed / "06_eval_spatial/manifest.json").read_text())
    (seed / "05_zoom_grpo").mkdir()
    assert list(collect(seed)) == ["00_tour", "06_eval_spatial", "12_report"]
    assert collect(seed / "nowhere") == {}


def test_collect_reads_what_a_run_really_writes(tmp_path):
    run = start_run("00_tour", out_dir=str(tmp_path / "00_tour"), seed=0, params={})
    run.finish({"first_figure_seconds": 7.0})
    assert recorded(collect(tmp_path))["tour.first_figure_s"] == {"value": 7.0, "step": "00_tour"}


def test_one_step_can_be_recorded_alone(seed):
    accuracy = {"value": 0.5, "low": 0.4, "high": 0.6, "n": 120}
    write(seed, manifest(report.MUSEUM, {"rewards": 5, "accuracy": {"grounded_length": accuracy}}, seed=3))
    entries = measurements(seed, report.MUSEUM)
    assert set(entries) == {"museum.rewards", "museum.accuracy.grounded_length"}
    assert entries["museum.rewards"]["value"] == 5 and entries["museum.rewards"]["unit"] == "rewards"
    assert entries["museum.accuracy.grounded_length"]["command"] == "make museum PROFILE=nano ARM=vigorl SEED=3"
    assert entries.items() <= measurements(seed).items()
    with pytest.raises(ValueError, match="no finished step"):
        measurements(seed, "05_zoom_grpo")


def test_collect_names_a_broken_manifest(seed):
    (seed / "00_tour/manifest.json").write_text("{")
    with pytest.raises(ValueError, match="00_tour/manifest.json: not JSON"):
        collect(seed)


def test_flat_takes_any_nesting_and_leaves_out_the_undefined():
    nested = {"a": {"b": {"value": 1, "low": 0}, "c": 2}, "d.e": 3, "f": None, "g": {"value": None}}
    assert flat(nested) == {"a.b": {"value": 1, "low": 0}, "a.c": {"value": 2}, "d.e": {"value": 3}}


def test_recorded_takes_the_lowest_of_several_and_only_when_all_are_there():
    subjects = {"next": 0.9, "further_left": 0.8, "larger": 0.95}
    name = "nano_base.single_step"
    assert name not in recorded({report.BASE: manifest(report.BASE, {"exam": {"shipped": subjects}})})
    full = {"exam": {"shipped": {**subjects, "crop": 1.0}}}
    assert recorded({report.BASE: manifest(report.BASE, full)})[name]["value"] == 0.8


def test_recorded_is_not_fooled_by_the_same_name_in_another_step():
    metrics = {"sat2_twin": {"vigorl": {"accuracy": {"value": 1.0}}}}
    assert recorded({"00_tour": manifest("00_tour", metrics)}) == {}


def test_totals_count_the_time_between_steps_too(seed):
    manifests = collect(seed)
    del manifests["12_report"]
    assert totals(manifests) == {"seconds": 120.0, "elapsed": 300.0, "peak_gib": 1.5, "resumed": []}
    assert totals({})["seconds"] == totals({})["elapsed"] == 0


def test_measurements_say_where_they_are_from(seed):
    entries = measurements(seed)
    assert entries["sat2_twin.vigorl.accuracy"] == {
        "value": 0.5, "low": 0.4, "high": 0.6, "n": 1000, "unit": "fraction", "seeds": [3], "commit": "abc",
        "command": "make reproduce PROFILE=nano ARM=vigorl SEED=3", "machine": {"cpus": 2},
    }  # fmt: skip
    assert entries["tour.first_figure_s"]["unit"] == "s"
    assert entries["reproduce.seconds"]["value"] == 360 and entries["reproduce.peak_gib"]["value"] == 2.5


def test_a_resumed_or_unfinished_run_has_no_total_time(seed):
    write(seed, manifest("05_zoom_grpo", {}, resumed=True))
    assert "reproduce.seconds" not in measurements(seed)
    (seed / "12_report/manifest.json").unlink()
    assert "reproduce.peak_gib" not in measurements(seed)


def test_changed_code_is_said(tmp_path):
    changed = manifest("00_tour", {"first_figure_seconds": 1.0}, code={**CODE, "dirty": True})
    entries = measurements(write(tmp_path / "nano/vigorl/seed0", changed))
    assert entries["tour.first_figure_s"]["commit"] == "abc with changes"


@pytest.mark.parametrize("folder", ["smoke/vigorl/seed0", "nano/vigorl/seed9"])
def test_smoke_figures_and_empty_folders_stay_out_of_the_ledger(tmp_path, folder):
    write(tmp_path / "smoke/vigorl/seed0", manifest("00_tour", {"first_figure_seconds": 1.0}))
    with pytest.raises(ValueError, match="give outputs/nano"):
        measurements(tmp_path / folder)


def test_the_command_writes_the_ledger_and_renews_quotes(seed, tmp_path, capsys):
    ledger, text = tmp_path / "reference/measurements.json", tmp_path / "README.md"
    assert report.main(["record", str(seed), "--ledger", str(ledger)]) == 0
    said = capsys.readouterr().out
    assert "sat2_twin.base.accuracy" in said and "sat2_twin.vigorl.accuracy" not in said
    text.write_text("It takes <!-- m:reproduce.seconds/60 -->?<!-- /m --> minutes.")
    assert report.main(["quote", str(text), "--ledger", str(ledger)]) == 0
    assert text.read_text() == "It takes <!-- m:reproduce.seconds/60 -->6<!-- /m --> minutes."
    text.write_text("<!-- m:nobody.knows -->1<!-- /m -->")
    assert report.main(["quote", str(text), "--ledger", str(ledger)]) == 2
    assert "nobody.knows: not in the ledger" in capsys.readouterr().err


def quoted(name, shown):
    return f"<!-- m:{name} -->{shown}<!-- /m -->"


@pytest.mark.parametrize(
    ("name", "shown", "right"),
    [
        ("a.b", "0.99", "0.31"), ("a.b", "0.9", "0.3"), ("a.b", "?", "0"), ("a.b.low", "0.00", "0.29"),
        ("a.b.n", "12", "1,024"), ("a.b/60", "0.000", "0.005"), ("a.low", "0.0", "7.0"),
    ],
)  # fmt: skip
def test_refresh_rounds_to_the_decimals_that_stand_there(name, shown, right):
    ledger = {"a.b": {"value": 0.3062, "low": 0.288, "high": None, "n": 1024}, "a.low": {"value": 7}}
    assert refresh(f"x {quoted(name, shown)} y", ledger) == f"x {quoted(name, right)} y"


@pytest.mark.parametrize("name", ["nobody", "a.b.high"])
def test_refresh_refuses_what_was_never_measured(name):
    with pytest.raises(ValueError, match=name):
        refresh(quoted(name, "1"), {"a.b": {"value": 1, "high": None}})


def test_the_page_is_escaped_and_needs_no_network():
    table = pd.DataFrame({"<i>": ["<script>alert(1)</script>"]})
    text = page("a & b", ["## Heading", "<b>model text</b> # no heading", table])
    assert "<h1>a &amp; b</h1>" in text and "<h2>Heading</h2>" in text
    assert "&lt;b&gt;model text&lt;/b&gt; # no heading" in text
    assert "<script" not in text and "<i>" not in text and "http:" not in text.replace("http-equiv", "")
    assert "default-src 'none'" in text


def test_the_released_judge_is_recorded_for_both_kinds_of_trees():
    rows = {"trees": {"value": 0.0, "n": 9}, "zoom_trees": {"value": 0.5, "n": 8}}
    judges = {name: {"endings": 20, "false_correct": row} for name, row in rows.items()}
    found = report.recorded({"02_search_traces": {"metrics": {"judges": judges}}})
    assert {name: (leaf["value"], leaf["n"]) for name, leaf in found.items()} == {
        "search.vigorl_judge_false_correct": (0.0, 9),
        "search.vigorl_judge_false_correct_zoom": (0.5, 8),
    }


def test_the_rule_coder_is_recorded_with_the_number_of_labelled_traces():
    """Beside the agreement with a language model, whose own `n` counts other traces."""
    coder = {told: {"value": 1.0, "n": 300} for told in ("precision", "recall")}
    coder |= {"kappa": {"regions": 0.5}, "n": {"regions": 9}, "not_counted": {"regions": 3}}
    found = report.recorded({report.HABITS: manifest(report.HABITS, {"coder": coder})})
    assert {name: (leaf["value"], leaf["n"]) for name, leaf in found.items()} == {
        "behaviours.coder.precision": (1.0, 300),
        "behaviours.coder.recall": (1.0, 300),
    }


def test_every_recorded_figure_has_a_step_and_every_unit_a_figure():
    steps = {place.partition("/")[0] for places in report.RECORDED.values() for place in places}
    ends = {name.rpartition(".")[2] for name in (*report.RECORDED, "reproduce.peak_gib")}
    assert steps <= {*report.STEPS, *report.TARGETS} and report.UNITS.keys() <= ends


def test_the_report_asks_for_all_that_the_literature_lists():
    text = (ROOT / "notebooks/12_report.ipynb").read_text(encoding="utf-8")
    found = {name.rpartition(".")[2] for name in report.read_project(report.PUBLISHED) if name.startswith("literature")}
    assert found and all(f"literature.{{}}.{last}" in text for last in found)
