"""The ledger: every disagreement has a row, every switch is there, effects follow from what was measured."""

import dataclasses
import importlib
import inspect
import json
import re
from pathlib import Path

import pytest
import yaml

from vigorl_lib import effects, ledger
from vigorl_lib.effects import MEASURES, Lab, Pair, Sizes
from vigorl_lib.ledger import PLAN, Effect, Plan, Row, judge, measure, read_plan, result_path, waiting
from vigorl_lib.policy import Completion
from vigorl_lib.records import Example, Prediction
from vigorl_lib.runs import parameter_problem, read_parameters

ROOT = Path(__file__).parent.parent
ROWS = read_plan(ROOT / PLAN).rows
MARKS, BUGS = 14, 16  # known disagreements of paper and code, and bugs of the released code


def each_row(test):
    return pytest.mark.parametrize("row", ROWS, ids=lambda row: row.id)(test)


def test_no_disagreement_of_the_notes_is_missing():
    assert sorted(mark for row in ROWS for mark in row.marks) == list(range(1, MARKS + 1)), "one row a mark"
    assert {bug for row in ROWS for bug in row.bugs} == set(range(1, BUGS + 1))


def test_enough_is_measured_and_every_measure_belongs_to_a_row():
    measured = [row for row in ROWS if row.effect]
    assert len(measured) >= 12
    assert {row.id for row in measured} == set(MEASURES)


@each_row
def test_a_row_says_what_it_must(row):
    texts = [row.title, row.paper, row.code, row.recommended]
    texts += [row.effect.metric, row.effect.first, row.effect.second] if row.effect else [row.no_counterpart]
    assert all(isinstance(text, str) and text.strip() for text in texts)
    assert (row.paper, row.code) != ("silent", "silent")
    assert row.effect is None or row.effect.first != row.effect.second
    assert re.fullmatch(r"[\w.]+\.\w+|none \(.{9,}\)", row.switch), "a parameter, or `none (why)`"
    assert not row.values or (len(row.values) == 2 and row.values[0] != row.values[1] and has_switch(row))


def has_switch(row):
    return not row.switch.startswith("none (")


@each_row
def test_a_row_without_a_switch_names_what_is_there(row):
    for name in re.findall(r"`(\w+)\.(\w+)`", row.switch):
        assert name[1] in vars(importlib.import_module(f"vigorl_lib.{name[0]}"))
    for step, name in re.findall(r"\b(\d\d_\w+)\.(\w+)", row.switch):
        assert name in read_parameters(ROOT / "notebooks" / f"{step}.ipynb")


@each_row
def test_a_switch_is_there_and_takes_its_values(row):
    if not has_switch(row):
        return
    place, _, name = row.switch.rpartition(".")
    if (ROOT / "notebooks" / f"{place}.ipynb").exists():
        parameters = read_parameters(ROOT / "notebooks" / f"{place}.ipynb")
        assert name in parameters
        assert [parameter_problem(parameters[name][0], value) for value in row.values] == [None] * len(row.values)
        return
    module, _, thing = place.rpartition(".")
    found = inspect.signature(vars(importlib.import_module(f"vigorl_lib.{module}"))[thing]).parameters[name]
    known = str(found.annotation)
    assert all(not isinstance(value, str) or "Literal" not in known or repr(value) in known.replace('"', "'")
               for value in row.values)  # fmt: skip


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"no_counterpart": "none"}, "simulations: give either"),
        ({"effect": None}, "not a ledger"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_a_broken_row_is_named(change, told, tmp_path):
    raw = yaml.safe_load((ROOT / PLAN).read_text(encoding="utf-8"))
    raw["rows"]["simulations"] |= change
    path = tmp_path / "ledger.yaml"
    path.write_text(yaml.safe_dump(raw))
    with pytest.raises(ValueError, match=told):
        read_plan(path)


def test_a_row_without_a_switch_is_refused(tmp_path):
    raw = yaml.safe_load((ROOT / PLAN).read_text(encoding="utf-8"))
    del raw["rows"]["crop_frame"]["switch"]
    path = tmp_path / "ledger.yaml"
    path.write_text(yaml.safe_dump(raw))
    with pytest.raises(ValueError, match="not a ledger.*switch"):
        read_plan(path)


def test_a_measure_that_is_not_there_is_named(tmp_path):
    raw = yaml.safe_load((ROOT / PLAN).read_text(encoding="utf-8"))
    raw["rows"]["tool_name"]["effect"] = raw["rows"]["simulations"]["effect"]
    del raw["rows"]["tool_name"]["no_counterpart"]
    path = tmp_path / "ledger.yaml"
    path.write_text(yaml.safe_dump(raw))
    with pytest.raises(ValueError, match="tool_name: no such measure"):
        read_plan(path)


# Measured once, judged over seeds

SMALL = Sizes(items=4, trees=2, groups=1, steps=1)


@pytest.fixture
def plan(monkeypatch, tmp_path):
    monkeypatch.setenv("VIGORL_OUTPUTS", str(tmp_path / "outputs"))
    first = Row("simulations", "A", "20", "8", "8", "none (a test)", effect=Effect("share", "one", "two"))
    second = ROWS[4]
    return Plan((1, 2, 3), SMALL, (first, second))


def measured(plan, monkeypatch, folder, pairs):
    """Results of the plan's first row, with these two means a seed."""
    found = dict(zip(plan.seeds, pairs, strict=False))
    monkeypatch.setitem(MEASURES, "simulations", lambda lab: Pair(*found[lab.seed], 4))
    for seed in found:
        measure(plan, plan.rows[0], seed, folder)


def test_a_result_is_measured_once_for_its_sizes_and_checkpoints(plan, monkeypatch, tmp_path):
    assert [(row.id, seed) for row, seed in waiting(plan, tmp_path)] == [("simulations", seed) for seed in (1, 2, 3)]
    measured(plan, monkeypatch, tmp_path, [(0.5, 0.25)])
    assert [seed for _, seed in waiting(plan, tmp_path)] == [2, 3]
    found = json.loads(result_path(plan.rows[0], 1, tmp_path).read_text())
    assert (found["first"], found["second"], found["n"]) == (0.5, 0.25, 4)
    larger = dataclasses.replace(plan, sizes=dataclasses.replace(SMALL, items=5))
    assert [seed for _, seed in waiting(larger, tmp_path)] == [1, 2, 3]
    monkeypatch.setattr(ledger, "hash_path", lambda path: ("other", 1))
    assert [seed for _, seed in waiting(plan, tmp_path)] == [1, 2, 3]


@pytest.mark.parametrize(
    ("pairs", "verdict"),
    [
        ([(0.5, 0.1), (0.6, 0.2), (0.5, 0.12)], "lower"),
        ([(0.1, 0.5), (0.2, 0.6), (0.1, 0.52)], "higher"),
        ([(0.5, 0.5)] * 3, "no effect within ±0.000"),
        ([(0.5, 0.4), (0.5, 0.6)], "no effect within ±1.271"),  # a t interval over two seeds
        ([(0.5, 0.4)], "not measured"),
        ([], "not measured"),
    ],
)
def test_the_verdict_follows_from_the_interval(plan, pairs, verdict, monkeypatch, tmp_path):
    measured(plan, monkeypatch, tmp_path, pairs)
    row, other = judge(plan, tmp_path)
    assert row["verdict"] == verdict and other["verdict"] == "no nano counterpart"
    if len(pairs) > 1:
        assert row["effect"] == pytest.approx(sum(b - a for a, b in pairs) / len(pairs))
        assert row["low"] <= row["effect"] <= row["high"] and row["seeds"] == list(plan.seeds[: len(pairs)])


def test_seeds_of_different_sizes_are_not_mixed(plan, monkeypatch, tmp_path):
    measured(plan, monkeypatch, tmp_path, [(0.5, 0.1)] * 3)
    path = result_path(plan.rows[0], 2, tmp_path)
    path.write_text(json.dumps(json.loads(path.read_text()) | {"checkpoints": "others"}))
    with pytest.raises(ValueError, match="different sizes or checkpoints"):
        judge(plan, tmp_path)


def test_the_command_measures_judges_and_shows(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("VIGORL_OUTPUTS", str(tmp_path / "outputs"))
    monkeypatch.setitem(MEASURES, "clip", lambda lab: Pair(0.5, 0.5 + lab.seed / 100, lab.sizes.items))
    words = ["--plan", str(ROOT / PLAN), "--reference", str(tmp_path), "--rows", "clip", "--seeds", "1", "2", "3"]
    for do in ("run", "judge", "show"):
        assert ledger.main([do, *words, "--items", "7"]) == 0
    said = capsys.readouterr().out
    assert "3 of 3 results to measure" in said and "clip, seed 2: 0.500 and 0.520" in said and "+0.020" in said
    (row,) = json.loads((tmp_path / "ledger.json").read_text())
    assert row["n"] == 7 and row["measured"]["trains"] and row["switch"] == "training.GRPOSettings.epsilon_high"
    numbers = json.loads((tmp_path / "measurements.json").read_text())
    assert (numbers["ledger.rows"]["value"], numbers["ledger.measured"]["value"]) == (1, 1)


def test_the_committed_ledger_is_what_was_measured():
    plan, reference = read_plan(ROOT / PLAN), ROOT / ledger.REFERENCE
    rows = json.loads((reference / "ledger.json").read_text(encoding="utf-8"))
    assert json.loads(json.dumps(judge(plan, reference))) == rows
    measured = [row for row in rows if row.get("effect") is not None]
    assert len(measured) >= 12 and all(row["seeds"] == list(plan.seeds) for row in measured)
    assert all(row["verdict"] == "no nano counterpart" for row in rows if row not in measured)
    numbers = json.loads((reference / "measurements.json").read_text(encoding="utf-8"))
    counted = (numbers["ledger.rows"]["value"], numbers["ledger.measured"]["value"])
    assert counted == (len(rows), len(measured))


@pytest.mark.parametrize("words", [["run", "--items", "3"], ["run", "--seeds", "1"], ["judge", "--rows", "clip"]])
def test_the_reference_is_for_the_plan(words, capsys):
    assert ledger.main([*words, "--plan", str(ROOT / PLAN)]) == 2
    assert "development" in capsys.readouterr().err


# Measures by hand


class Speaker:
    """A policy that notes what it was asked and says one thing."""

    model, processor, batch_size = None, None, 4

    def __init__(self, says):
        self.says, self.heard, self.begun = says, [], []

    def complete(self, talks, *, prefixes=None, **_):
        self.heard += talks
        self.begun += prefixes or []
        return [Completion(self.says, 1, False) for _ in talks]


@pytest.fixture
def listening(monkeypatch):
    """Let the interventions be made of a `Speaker`."""
    monkeypatch.setattr(effects, "LocalPolicy", lambda *parts, **more: Speaker(""))


def test_other_words_reach_all_but_the_policy_s_own_turns(listening):
    speaker = Speaker("done")
    policy = effects.with_other_words(speaker, str.upper)
    talk = [
        {"role": "system", "content": "think."},
        {"role": "user", "content": [{"type": "image", "image": 1}, {"type": "text", "text": "which?"}]},
        {"role": "assistant", "content": "look"},
        {"role": "tool", "content": [{"type": "text", "text": "here"}, {"type": "image", "image": 2}]},
    ]
    assert policy.complete([talk], max_new_tokens=1)[0].text == "done"
    system, user, own, tool = speaker.heard[0]
    assert (system["content"], own["content"]) == ("THINK.", "look")
    assert (user["content"][1]["text"], tool["content"][0]["text"]) == ("WHICH?", "HERE")
    assert user["content"][0]["image"] == 1 and talk[1]["content"][1]["text"] == "which?"


def test_an_answer_is_forced_after_the_last_look_only(listening):
    speaker = Speaker(" a </answer>")
    look, turn = {"role": "tool", "content": []}, {"role": "assistant", "content": ""}
    policy = effects.with_forced_answer(speaker, 2)
    first, last = policy.complete([[turn, look], [turn, look, turn, look]], max_new_tokens=1)
    assert first.text == " a </answer>" and speaker.begun[0] == ""
    assert last.text.endswith("<answer> a </answer>") and last.text.startswith("<think>")


def test_wrong_episodes_are_encouraged_where_they_earn_more_than_their_group():
    totals = [1.0, 0.2, 0.2, 0.2, 0.2, 0.9, *[0.5] * 6]
    rights = [1, 0, 0, 0, 0, 0, *[0] * 6]
    assert effects._encouraged(totals, rights) == [0, 0, 0, 0, 1, *[0] * 6]


@pytest.fixture
def lab(tmp_path):
    return Lab(3, tmp_path, SMALL)


def test_replies_on_disk_are_not_made_again(lab):
    examples = [Example(str(k), "sat2", "goal_aim", "?", ("a", "b"), "a", ()) for k in range(2)]
    lines = [json.dumps(dataclasses.asdict(Prediction(e.id, ("<answer> a </answer>",)))) for e in examples]
    (lab.folder / "kept.jsonl").write_text("\n".join(lines) + "\n")
    given = effects.replies(lab, "kept", lambda: pytest.fail("made again"), examples, "grounded")
    assert effects.scores(given, examples) == [1.0, 1.0]


def test_measures_that_share_replies_of_the_shipped_models(lab):
    """Three measures on the same four replies, and what the released code makes of them."""
    found = {name: MEASURES[name](lab) for name in ("gold_case", "behaviours_of_right", "literal_newlines")}
    assert {path.name for path in lab.folder.iterdir()} == {"sat2.jsonl", "sat2_literal.jsonl"}
    assert found["gold_case"].second == 0 and found["gold_case"].n == SMALL.items
    assert found["gold_case"].first == found["literal_newlines"].first
    assert found["behaviours_of_right"].second > 0
    assert MEASURES["gold_case"](lab) == found["gold_case"]
