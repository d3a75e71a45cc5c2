"""VisualWebArena offline: rows in LLaVA's form, the action grammar, and the two graders' edges."""

from __future__ import annotations

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vigorl_lib.benchmarks import registry as benchmarks
from vigorl_lib.benchmarks.visualwebarena import Action, parse_action


def row(action, question="OBJECTIVE: Buy it.\n\nPREVIOUS ACTIONS: \n1. go_back\n\nIMAGE:\n<image>"):
    talk = [{"from": "human", "value": question}, {"from": "gpt", "value": action}]
    return {"id": "ical-1", "image": "shots/1.png", "conversations": talk}


def step(action):
    return benchmarks.from_row("visualwebarena", row(action))


def test_rows_are_read_from_json_lines(tmp_path):
    path = tmp_path / "steps.jsonl"
    path.write_text("".join(json.dumps(row(action)) + "\n" for action in ("click [12]", "type [3] [red lamp]")))
    click, typing = benchmarks.load("visualwebarena", path, split="train")
    assert (click.kind, click.answer, click.images) == ("click", "click [12]", (str(tmp_path / "shots/1.png"),))
    assert typing.kind == "type" and "<image>" not in typing.question and "OBJECTIVE" in typing.question
    path.write_text("{torn")
    with pytest.raises(ValueError, match="steps.jsonl:1: not a row"):
        benchmarks.load("visualwebarena", path, split="train")
    with pytest.raises(FileNotFoundError, match="unpack web_action.tar"):
        benchmarks.load("visualwebarena", tmp_path, split="train")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"conversations": []}, "two messages"),
        ({"conversations": None}, "two messages"),
        ({"conversations": row("buy it")["conversations"]}, "not one action"),
        ({"image": None}, "image cell"),
        ({"id": None}, "'id' must hold text"),
    ],
)
def test_a_bad_row_is_named(change, message):
    with pytest.raises(ValueError, match=f"visualwebarena, row: .*{message}"):
        benchmarks.from_row("visualwebarena", row("click [1]") | change)


@pytest.mark.parametrize(
    ("text", "action"),
    [
        ("click [12]", Action("click", 12)),
        ("click[12]", Action("click", 12)),
        (" ```click [12]``` ", Action("click", 12)),
        ("type [3] [a [red] lamp]", Action("type", 3, "a [red] lamp")),
        ("type [3] []", Action("type", 3)),
        ("scroll [down]", Action("scroll", None, "down")),
        ("scroll up", Action("scroll", None, "up")),
        ("go_back", Action("go_back")),
        ("stop [12 €]", Action("stop", None, "12 €")),
        ("stop", Action("stop")),
        ("click 12", None),
        ("click [twelve]", None),
        ("Click [12]", None),
        ("click [12] now", None),
        ("scroll", None),
        ("type [3]", None),
        ("", None),
    ],
)
def test_the_grammar(text, action):
    assert parse_action(text) == action


@pytest.mark.parametrize(
    ("gold", "said", "vigorl", "clean"),
    [
        ("click [12]", "click [12]", 1, 1),
        ("click [12]", "click [1]", 0, 0),
        ("click [12]", "click 1", 1, 0),  # a substring is enough
        ("click [12]", "Click [12]", 1, 0),  # case counts for nothing in the evaluation
        ("click [12]", "click [12] now", 0, 0),
        ("click [12]", "click", 0, 0),
        ("click [12]", "type [12] [x]", 0, 0),
        ("type [3] [red lamp]", "type [3] [red lamp]", 0, 1),  # two words: four pieces
        ("type [3] [lamp]", "type [3] [lamp]", 1, 1),
        ("type [3] [lamp]", "type [3] [chair]", 1, 0),  # what is typed counts for nothing
        ("type [3] [lamp]", "type [3] [Lamp]", 1, 1),
        ("scroll [down]", "scroll [down]", 1, 1),
        ("scroll [down]", "scroll [up]", 1, 0),
        ("scroll [down]", "I scroll a bit", 1, 0),
        ("go_back", "go_back", 1, 1),
        ("go_back", "please go_back or stop", 1, 0),
        ("stop [5]", "stop [7]", 1, 0),
        ("stop [5]", "stop [5]", 1, 1),
        ("stop [5]", "go_back", 0, 0),
        ("click [12]", "", 0, 0),
        ("click [12]", "[12]", 0, 0),
    ],
)
def test_graders(gold, said, vigorl, clean):
    reply, example = f"<think>There.</think><answer>{said}</answer>", step(gold)
    assert benchmarks.grade("visualwebarena", reply, example, "vigorl").score == vigorl
    assert benchmarks.grade("visualwebarena", reply, example, "clean").score == clean
    assert benchmarks.grade("visualwebarena", "no tags", example).why == "no_answer"


def test_there_is_no_official_offline_figure():
    with pytest.raises(ValueError, match="no protocol 'official'; known: vigorl, clean"):
        benchmarks.grade("visualwebarena", "stop", step("stop"), "official")


@given(st.text(max_size=60) | st.from_regex(r"(click|type|stop|scroll) ?\[.{0,9}\]"))
def test_any_text_gets_a_grade(text):
    for protocol in ("vigorl", "clean"):
        grade = benchmarks.grade("visualwebarena", f"<answer>{text}</answer>", step("click [1]"), protocol)
        assert grade.score in (0.0, 1.0) and (grade.why == "right") == (grade.score == 1)


@pytest.mark.parametrize("piece", ["type [1] [", "stop [", "click ", "[", "`"])
def test_a_long_reply_is_graded_at_once(piece):
    text, start = piece * (100_000 // len(piece)), time.process_time()
    for protocol in ("vigorl", "clean"):
        benchmarks.grade("visualwebarena", f"<answer>{text}</answer>", step("stop"), protocol)
    assert time.process_time() - start < 2
