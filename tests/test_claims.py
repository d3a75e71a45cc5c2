"""Claims: the plan fits, units run and are never run twice, verdicts follow from items that are the same."""

import dataclasses
import gzip
import json
from pathlib import Path

import pytest
import yaml

from vigorl_lib import claims, stats
from vigorl_lib.claims import PLAN, Arm, Claim, Plan, judge, paired_scores, read_plan, result_path, run_unit, waiting
from vigorl_lib.report import PUBLISHED, read_project
from vigorl_lib.runs import record_measurements

ROOT = Path(__file__).parent.parent
SEEDS = (1, 2, 3)


def arm(name, seeds=SEEDS, **more):
    return Arm(name, "direct", ("sat2",), seeds, 1.0, **more)


def plan(*found, arms=("new", "old"), seeds=SEEDS):
    return Plan(
        None,
        {},
        "sat2",
        {"new": 480},
        {"sat2": 6},
        {"sat2": "twin"},
        0.5,
        16,
        {name: arm(name, seeds) for name in arms},
        found,
    )


def claim(id="C", ours="new", theirs="old", smallest=0.05, primary=True):
    return Claim(id, "", ours, theirs, "sat2", "accuracy", smallest, primary)


def save(folder, name, seed, scores, version="one", first=0):
    path = result_path(arm(name), seed, folder)
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = "".join(json.dumps({"id": f"q{first + k}", "accuracy": score}) + "\n" for k, score in enumerate(scores))
    (path.parent / "sat2.jsonl.gz").write_bytes(gzip.compress(lines.encode()))
    cost = {"policy_tokens": 100 * seed, "updates": 10}
    measured = [score for score in scores if score is not None]
    accuracy = {"value": sum(measured) / len(measured), "n": len(measured)}
    path.write_text(json.dumps({"items": {"sat2": {"fingerprint": version, "accuracy": accuracy}}, "cost": cost}))


def test_the_projects_plan_fits_its_arms_and_its_sources():
    found = read_plan(ROOT / PLAN)
    published = read_project(PUBLISHED)
    for one in found.claims:
        assert {name for key, name in one.paper.items() if key != "note"} <= published.keys(), one.id
    for one in found.arms.values():
        folder = ROOT / "params" / "arms" / one.overlay
        assert one.overlay == "vigorl" or folder.is_dir(), one.name
        assert {step for step in one.steps if not (ROOT / "notebooks" / f"{step}.ipynb").exists()} == set()
    overlays = {one.overlay for one in found.arms.values()} | {"own", "released"}  # the reader's: questions, or a GPU
    assert {path.name for path in (ROOT / "params" / "arms").iterdir()} <= overlays, "an arm that nobody runs"


@pytest.mark.parametrize(
    ("place", "value", "told"),
    [
        (("claims", "C1a", "ours"), "vigorll", "arm 'vigorll'"),
        (("claims", "C1a", "items"), "vstar", "which 'vigorl' does not answer"),
        (("arms", "base", "seeds"), "many", "many"),
        (("arms", "base", "colour"), "red", "colour"),
        (("arms", "base", "shown"), "random_crops", "under 'direct' nobody looks"),
        (("arms", "base", "shown"), "oracle", "known: random_crops, oracle_crops, larger_picture"),
    ],
)
def test_a_plan_that_does_not_fit_is_refused(place, value, told, tmp_path):
    raw = yaml.safe_load((ROOT / PLAN).read_text())
    entry = raw
    for key in place[:-1]:
        entry = entry[key]
    entry[place[-1]] = value
    path = tmp_path / "claims.yaml"
    path.write_text(yaml.safe_dump(raw))
    with pytest.raises(ValueError, match=told):
        read_plan(path)


def test_verdicts(tmp_path):
    for seed in SEEDS:
        save(tmp_path, "old", seed, [0, 0, 1, 0, 0, 1])
        save(tmp_path, "new", seed, [1, 1, 1, 1, seed == 2, 1])
        save(tmp_path, "same", seed, [0, 0, 1, 0, seed == 1, seed != 1])
    found = (claim("up"), claim("down", "old", "new"), claim("level", "same", primary=False))
    up, down, level = judge(plan(*found, arms=("new", "old", "same")), tmp_path)
    assert (up["verdict"], down["verdict"], level["verdict"]) == ("shown", "contradicted", "not shown")
    assert up["effect"] == pytest.approx((3 + 4 + 3) / 18)
    assert up["low"] < up["effect"] < up["high"]
    assert (up["n_items"], up["n_seeds"]) == (18, 3)
    assert level["effect"] == 0
    assert up["boot_low"] <= up["effect"] <= up["boot_high"]
    assert up["ours_cost"] == {"policy_tokens": 200, "updates": 10}
    assert up["by_seed"][1] == {"seed": 2, "ours": 1.0, "theirs": pytest.approx(1 / 3)}


def test_holm_counts_the_primary_claims_only(tmp_path):
    for seed in SEEDS:
        save(tmp_path, "old", seed, [0, 0, 1, 0, 0, 1])
        save(tmp_path, "new", seed, [1, 1, 1, 1, seed == 2, 1])
    alone = judge(plan(claim("a")), tmp_path)[0]["p_holm"]
    others = claim("b"), claim("c", primary=False), claim("missing", theirs="absent")
    rows = judge(plan(claim("a"), *others, arms=("new", "old", "absent")), tmp_path)
    assert [row["p_holm"] for row in rows[:3]] == pytest.approx([3 * alone, 3 * alone, alone])
    assert rows[3]["p_holm"] is None


def test_missing_seeds_keep_a_verdict_open(tmp_path):
    assert judge(plan(claim()), tmp_path)[0]["verdict"] == "not run"
    for seed in SEEDS[:2]:
        save(tmp_path, "old", seed, [0] * 6)
        save(tmp_path, "new", seed, [1] * 6)
    row = judge(plan(claim()), tmp_path)[0]
    assert (row["verdict"], row["effect"], row["n_seeds"], row["missing_seeds"]) == ("incomplete", 1.0, 2, [3])


@pytest.mark.parametrize(
    ("changed", "told"), [({"first": 3}, "q0 and 5 more ids"), ({"version": "two"}, "two versions")]
)
def test_results_about_other_items_are_refused(changed, told, tmp_path):
    save(tmp_path, "new", 1, [1] * 6)
    save(tmp_path, "old", 1, [0] * 6, **changed)
    with pytest.raises(ValueError, match=told):
        paired_scores(claim(), plan(claim()), tmp_path)


def test_items_without_the_measure_are_left_out(tmp_path):
    save(tmp_path, "new", 1, [1, None, 1, 0, 1, 1])
    save(tmp_path, "old", 1, [0, 0, None, 0, 1, 0])
    assert paired_scores(claim(), plan(claim()), tmp_path) == {1: [(1, 0), (0, 0), (1, 1), (1, 0)]}


def test_an_arm_can_be_compared_with_itself_under_a_control(tmp_path):
    save(tmp_path, "new", 1, [1, 1, 0, 1, 1, 1])
    self_claim = Claim("C", "", "new", "new", "sat2", "accuracy", 0.0, False, their_metric="control")
    path = result_path(arm("new"), 1, tmp_path).parent / "sat2.jsonl.gz"
    lines = map(json.loads, gzip.decompress(path.read_bytes()).decode().splitlines())
    path.write_bytes(gzip.compress("".join(json.dumps(x | {"control": 0}) + "\n" for x in lines).encode()))
    assert paired_scores(self_claim, plan(self_claim), tmp_path)[1] == [(1, 0), (1, 0), (0, 0), (1, 0), (1, 0), (1, 0)]


def test_a_unit_runs_once_and_holds_what_the_verdict_needs(tmp_path, monkeypatch):
    monkeypatch.setenv("VIGORL_OUTPUTS", str(tmp_path / "outputs"))
    small = plan(claim(), arms=("new",), seeds=(1,))
    assert [(one.name, seed) for one, seed in waiting(small.units(), tmp_path)] == [("new", 1)]
    result = run_unit(small, small.arms["new"], 1, tmp_path)
    assert waiting(small.units(), tmp_path) == []
    assert result["items"]["sat2"]["accuracy"]["n"] == 6
    assert result["cost"] == {"policy_tokens": 0, "updates": 0}  # the shipped base, as it is
    scores, print_of = claims._scores(result_path(small.arms["new"], 1, tmp_path), "sat2", "accuracy")
    assert len(scores) == 6
    assert sum(scores.values()) / 6 == result["items"]["sat2"]["accuracy"]["value"]
    assert print_of == result["items"]["sat2"]["fingerprint"]


@pytest.mark.parametrize(("last", "tokens", "updates"), [("04_grounded_grpo", 115, 9), ("05_zoom_grpo", 27, 12)])
def test_the_cost_counts_the_search_that_the_arm_needs(last, tokens, updates):
    metrics = {
        "02_search_traces": {"policy_tokens": {"trees": 100, "zoom_trees": 12}},
        "03_warm_start": {"training": {"updates": 4}},
        last: {"training": {"policy_tokens": 15, "updates": 5} | ({"sft_updates": 3} if "05" in last else {})},
    }
    assert claims.cost(metrics) == {"policy_tokens": tokens, "updates": updates}


def test_power_is_that_of_the_plan_s_seeds_from_the_spread_of_others(tmp_path):
    for seed, scores in ((7, [1, 1, 1, 0, 0, 0]), (8, [1, 1, 1, 1, 0, 0]), (9, [1, 1, 1, 1, 1, 0])):
        save(tmp_path, "new", seed, scores)
        save(tmp_path, "old", seed, [0] * 6)
    small = plan(claim("A"), claim("B", primary=False), seeds=(1, 2, 3, 4, 5))
    (one, two) = claims.power(small, (7, 8, 9), tmp_path)
    assert one["effect"] == pytest.approx(4 / 6) and one["deviation"] == pytest.approx(1 / 6)
    expected = stats.minimum_detectable_effect(1 / 6, 5, smallest_effect=0.05, alpha=0.05)
    assert one["detectable"] == two["detectable"] == pytest.approx(expected)
    assert claims.power(small, (7,), tmp_path) == []


def test_the_scaling_curve_has_the_arms_with_two_seeds(tmp_path):
    for seed, scores in ((1, [1, 1, 0, 0, 0]), (2, [1, 1, 1, 0, 0])):
        save(tmp_path, "new", seed, scores)
    save(tmp_path, "old", 1, [1] * 6)
    (row,) = claims.scaling(plan(claim()), claims.arm_rows(plan(claim()), tmp_path))
    assert (row["arm"], row["x"], row["n"], row["n_items"]) == ("new", 480, 2, 10)
    assert row["value"] == pytest.approx(0.5) and row["low"] < 0.5 < row["high"]
    assert (row["policy_tokens"], row["updates"]) == (150, 10)
    assert claims.arm_rows(plan(claim()), tmp_path) == [{key: row[key] for key in row if key != "x"}]


def part(id, verdict, effect=0.2, primary=True):
    return {"id": id, "verdict": verdict, "effect": effect, "smallest_effect": 0.05, "primary": primary}


@pytest.mark.parametrize(
    ("parts", "found"),
    [
        ([part("C1a", "shown"), part("C1b_gui", "not shown")], ("C1", "C1b_gui", "not shown")),
        ([part("C1a", "shown", 0.3), part("C1b", "shown", 0.1)], ("C1", "C1b", "shown")),
        ([part("C1a", "shown"), part("C1b", "contradicted", primary=False)], ("C1", "C1a", "shown")),
        ([part("C1a", "not shown", 0.3, False), part("C1b", "not shown", -0.1, False)], ("C1", "C1b", "not shown")),
        ([part("C1a", "shown"), part("C1b", "not run", None)], ("C1", "C1b", "not run")),
        ([part("C1a", "incomplete"), part("C1b", "contradicted", -0.2)], ("C1", "C1b", "contradicted")),
    ],
)
def test_a_claim_is_as_its_worst_primary_part(parts, found):
    other = part("C12", "shown")
    one, last = claims.summary([*parts, other])
    assert (one["id"], one["part"], one["verdict"]) == found
    assert one["parts"] == [row["id"] for row in parts]
    assert (last["id"], last["part"]) == ("C12", "C12")


def test_the_ledger_has_the_effects_the_accuracies_and_the_hours_of_finished_units(tmp_path):
    assert claims.measurements(plan(claim()), judge(plan(claim()), tmp_path), [], tmp_path) == {}
    for name, seconds in (("new", 1800), ("old", 5400)):
        for seed in (1, 2):
            save(tmp_path, name, seed, [name == "new"] * 5 + [1])
            path = result_path(arm(name), seed, tmp_path)
            path.write_text(json.dumps(json.loads(path.read_text()) | {"seconds": seconds}))
    rows = judge(plan(claim(id="C1a")), tmp_path)
    found = claims.measurements(plan(claim(id="C1a")), rows, claims.arm_rows(plan(claim()), tmp_path), tmp_path)
    assert found["claims.new.sat2.accuracy"]["value"] == 1.0
    assert (found["claims.old.sat2.accuracy"]["n"], found["claims.old.sat2.accuracy"]["seeds"]) == (12, [1, 2])
    assert found["claims.c1a.effect"]["value"] == pytest.approx(5 / 6)
    assert (found["claims.c1a.effect"]["n"], found["claims.c1a.effect"]["seeds"]) == (12, [1, 2])
    hours = found["claims.core_hours"]
    assert (hours["value"], hours["n"], hours["seeds"]) == (4.0, 4, [1, 2])
    record_measurements(tmp_path / "measurements.json", found)


def test_controls_change_what_an_arm_is_shown():
    example = claims.benchmarks.load("vstar", "twin", split="dev", limit=1, seed=1)[0]
    model, zoom = claims.PACKAGE / "checkpoints" / "zoom", claims.Zoom()
    found = {name: claims.policy_of(arm("new", shown=name), model, 1) for name in claims.CONTROLS}
    views = {name: policy.view_of(example) for name, policy in found.items()}
    assert {name: view.image.width for name, view in views.items()} == {
        "": 96, "random_crops": 96, "oracle_crops": 96, "larger_picture": 168,
    }  # fmt: skip
    corner = {name: view.crop((0, 0), zoom).tobytes() for name, view in views.items()}
    assert corner["random_crops"] != corner[""] != corner["oracle_crops"]


def test_a_unit_is_shown_what_its_arm_says(tmp_path, monkeypatch):
    frames = {}
    for shown in ("", "larger_picture"):
        monkeypatch.setenv("VIGORL_OUTPUTS", str(tmp_path / shown / "outputs"))
        small = plan(claim(), arms=("new",), seeds=(1,))
        run_unit(small, dataclasses.replace(small.arms["new"], shown=shown), 1, tmp_path / shown)
        path = result_path(small.arms["new"], 1, tmp_path / shown).parent / "sat2.jsonl.gz"
        frames[shown] = {tuple(json.loads(line)["frame"]) for line in gzip.decompress(path.read_bytes()).splitlines()}
    assert frames == {"": {(96, 96)}, "larger_picture": {(168, 168)}}


def test_curves_lie_beside_the_result(tmp_path, monkeypatch):
    monkeypatch.setenv("VIGORL_OUTPUTS", str(tmp_path / "outputs"))
    one = arm("new", steps=("02_search_traces", "03_warm_start"))
    claims.keep_curves(one, 1, tmp_path)
    place = result_path(one, 1, tmp_path).parent / "curves.json.gz"
    assert not place.exists()
    place.parent.mkdir(parents=True)
    log = claims.folder_of(one, 1) / "03_warm_start" / "curve.json"
    log.parent.mkdir(parents=True)
    log.write_text('[{"step": 1, "loss": 0.5}]')
    claims.keep_curves(one, 1, tmp_path)
    assert json.loads(gzip.decompress(place.read_bytes())) == {"03_warm_start": [{"step": 1, "loss": 0.5}]}


def test_changed_code_makes_no_reference(monkeypatch, capsys):
    monkeypatch.setattr(claims, "code_version", lambda: {"version": "0", "commit": "abc", "dirty": True})
    assert claims.main(["run", "--plan", str(ROOT / PLAN)]) == 2
    assert "made by committed ones" in capsys.readouterr().err


def test_other_seeds_are_not_for_the_reference(tmp_path, capsys):
    assert claims.main(["run", "--plan", str(ROOT / PLAN), "--seeds", "1"]) == 2
    assert "development" in capsys.readouterr().err


def test_the_seeds_fill_up_one_after_the_other():
    assert [seed for _, seed in plan().units()] == [1, 1, 2, 2, 3, 3]


def test_every_attempt_is_kept_and_the_same_one_renewed(tmp_path):
    path = tmp_path / "attempts.json"
    first, second = plan(), Plan("abc", {}, "sat2", {}, {"sat2": 6}, {}, 0.5, 16, {}, ())
    for one, verdict in [(first, "not run"), (second, "shown"), (first, "contradicted")]:
        row = {"id": "C", "verdict": verdict, "effect": 0.1, "low": 0.0, "high": 0.2, "n_seeds": 2, "statement": ""}
        claims.remember_attempt(one, [row], path)
    found = json.loads(path.read_text())
    assert [(one["frozen"], one["claims"][0]["verdict"]) for one in found] == [("abc", "shown"), (None, "contradicted")]


def test_reference_runs_need_a_frozen_recipe(tmp_path, capsys):
    raw = yaml.safe_load((ROOT / PLAN).read_text()) | {"frozen": None}
    path = tmp_path / "claims.yaml"
    path.write_text(yaml.safe_dump(raw))
    assert claims.main(["run", "--plan", str(path)]) == 2
    assert "`frozen` names no commit" in capsys.readouterr().err


def test_parts_share_the_work_but_no_folder():
    whole = read_plan(ROOT / PLAN)
    parts = [whole.units(part, 3) for part in (1, 2, 3)]
    assert sorted((arm.name, seed) for part in parts for arm, seed in part) == sorted(
        (arm.name, seed) for arm, seed in whole.units()
    )
    folders = [{(arm.overlay, seed) for arm, seed in part} for part in parts]
    assert not folders[0] & folders[1] | folders[1] & folders[2] | folders[0] & folders[2]
    minutes = [sum(arm.minutes for arm, _ in part) for part in parts]
    assert max(minutes) < 1.2 * min(minutes)


@pytest.mark.parametrize("part", ["3/2", "0/2", "2", "a/b"])
def test_a_part_that_does_not_exist_is_refused(part, tmp_path, capsys):
    assert claims.main(["forecast", "--plan", str(ROOT / PLAN), "--reference", str(tmp_path), "--part", part]) == 2
    assert f"--part {part}: K/N with K from 1 to N" in capsys.readouterr().err


def test_the_grid_tries_the_first_rate_of_every_arm_before_the_next(tmp_path, monkeypatch):
    tried = []

    def try_rate(arm, seed, rate):
        tried.append((arm.name, rate))
        accuracy = {"value": 0.5, "low": 0.4, "high": 0.6, "n": 300}
        return {"step": arm.steps[-1], "seed": seed, "learning_rate": rate, "accuracy": accuracy}

    monkeypatch.setattr(claims, "try_rate", try_rate)
    whole = read_plan(ROOT / PLAN)
    arms = {name: whole.arms[name] for name in ("base", "mcts_sft", "vanilla")}
    small = dataclasses.replace(whole, arms=arms, claims=())
    claims.try_grid(small, claims.with_seeds(small, [1]).units(), tmp_path)
    warm, rl = whole.rates["03_warm_start"], whole.rates["04_grounded_grpo"]
    assert tried == [pair for a, b in zip(warm, rl, strict=True) for pair in (("mcts_sft", a), ("vanilla", b))]
    saved = json.loads((tmp_path / "grid" / "vanilla.json").read_text())
    assert [row["learning_rate"] for row in saved] == list(rl)
