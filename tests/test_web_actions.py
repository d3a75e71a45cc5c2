"""The agent's grammar: what is an action, what is not, and that long replies cost little."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vigorl_lib.web.actions import BARE, Action, parse_action, reply_action


@pytest.mark.parametrize(
    ("text", "action"),
    [
        ("click [12]", Action("click", 12)),
        (" click[12] ", Action("click", 12)),
        ("click [12] and wait", Action("click", 12)),
        ("hover [3]", Action("hover", 3)),
        ("clear [3]", Action("clear", 3)),
        ("type [3] [red lamp]", Action("type", 3, "red lamp")),
        ("type [3] [red lamp] [0]", Action("type", 3, "red lamp", False)),
        ("type[3][red lamp][1]", Action("type", 3, "red lamp")),
        ("type [3] [a [b] c] [0]", Action("type", 3, "a [b] c", False)),
        ("type [3] [two\nlines] [0]", Action("type", 3, "two\nlines", False)),
        ("type [3] [2] [1]", Action("type", 3, "2")),
        ("type [3] [2]", Action("type", 3, "2")),
        ("press [Control+A]", Action("press", content="Control+A")),
        ("scroll [down]", Action("scroll", content="down")),
        ("scroll up", Action("scroll", content="up")),
        ("goto [http://127.0.0.1:1/?a=[b]]", Action("goto", content="http://127.0.0.1:1/?a=[b]")),
        ("new_tab", Action("new_tab")),
        ("tab_focus [0]", Action("tab_focus", 0)),
        ("close_tab", Action("close_tab")),
        ("go_back", Action("go_back")),
        ("go_forward now", Action("go_forward")),
        ("stop [$12.50]", Action("stop", content="$12.50")),
        ("stop []", Action("stop")),
        ("stop", Action("stop")),
        ("Click [12]", None),
        ("click 12", None),
        ("click [twelve]", None),
        ("click [٣]", None),
        ("click [1234567]", None),
        ("I click [12]", None),
        ("type [3] []", None),
        ("type [3] [] [1]", None),
        ("type [3]", None),
        ("press []", None),
        ("goto", None),
        ("scroll [left]", None),
        ("upload [3] [file]", None),
        ("tab_focus", None),
        ("", None),
        ("[", None),
    ],
)
def test_the_grammar(text, action):
    assert parse_action(text) == action


def test_the_action_of_a_reply():
    assert reply_action("I look. ```click [3]``` or ```click [4]```") == Action("click", 3)
    assert reply_action("<think>(3, 4)</think> <answer> click [5] </answer>") == Action("click", 5)
    assert reply_action("<answer>click [5]</answer> ... <answer>```stop [no]```</answer>") == Action(
        "stop", content="no"
    )
    assert reply_action("go_back") == Action("go_back")
    assert reply_action("I would click on the lamp.") is None
    assert reply_action("``````") is None


ACTIONS = (
    st.builds(Action, st.sampled_from(["click", "hover", "clear", "tab_focus"]), st.integers(0, 999999))
    | st.builds(Action, st.just("type"), st.integers(0, 999), st.text("ab[] \n1", min_size=1), st.booleans())
    | st.builds(lambda verb, content: Action(verb, content=content), st.sampled_from(["press", "goto", "stop"]),
                st.text("ab[] ", min_size=1))
    | st.sampled_from(BARE).map(Action)
)  # fmt: skip


@given(ACTIONS)
def test_an_action_reads_back(action):
    assert parse_action(str(action)) == action


@given(st.text(max_size=80))
def test_any_text_is_an_action_or_none(text):
    assert isinstance(reply_action(text), Action | None)


@pytest.mark.parametrize("piece", ["type [1] [", "] [1", "click [", "stop [", "[", "`", "<answer>", "scroll "])
def test_a_long_reply_is_read_at_once(piece):
    for start in ("", "type [1] [", "stop [", "```"):
        text, began = start + piece * (400_000 // len(piece)), time.process_time()
        reply_action(text)
        assert time.process_time() - began < 1
