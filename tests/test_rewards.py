"""Rewards: the released code to the letter, oddities included, and the clean one beside it."""

from __future__ import annotations

import itertools
import json
import math
import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vigorl_lib import rewards
from vigorl_lib.answers import is_right, last_answer, named_option, normalise, right_option
from vigorl_lib.benchmarks import registry as benchmarks
from vigorl_lib.grounding import Frame
from vigorl_lib.records import Example
from vigorl_lib.rewards import count_distinct, score
from vigorl_lib.traces import render_answer, render_call, render_single

VIEW = Frame.resized(Frame.original(672, 672), 96, 96)
SAT = Example("s", "sat2", "goal_aim", "Where?", ("on the left", "on the right"), "on the right", ())
CAPITAL = Example("c", "sat2", "goal_aim", "Where?", ("Left", "Right"), "Right", ())
PLACE = Example("p", "screenspot", "web/icon", "Where?", (), "", (), box=(70, 140, 140, 210), size=(672, 672))
VSTAR = Example("v", "vstar", "direct_attributes", "Colour?", ("red", "blue", "green"), "B", ())
RIGHT = render_single(["The sofa (12, 30).", "The lamp (40, 5)."], "on the right")

TAGS = ["<think>", "</think>", "<answer>", "</answer>", "<tool_call>", "</tool_call>", "<observation>"]
CALL = '{"name": "search_coordinate", "arguments": {"coordinate": [3, 4]}}'
pieces = st.sampled_from([*TAGS, "</observation>", CALL, "(1, 2)", "B. ", "on the right", "<ANSWER>", "\n", "}"])
hostile = st.lists(pieces | st.text(max_size=4), max_size=14).map("".join)


def vigorl(text, example=SAT, mode="grounded", **more):
    return score([text], example, mode=mode, protocol="vigorl", frame=VIEW, **more)


def clean(text, example=SAT, mode="grounded", **more):
    turns = [text] if isinstance(text, str) else text
    return score(turns, example, mode=mode, protocol="clean", frame=VIEW, **more)


def looks(*points, answer="B"):
    return [*(render_call(f"Look {point}.", point) for point in points), render_answer("Seen.", answer)]


# Answers


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("left of it", 0),
        ("  Left OF it. ", 0),
        ("left, of it!", 0),
        ("**left of it**", 0),
        ("A", 0),
        ("b", 1),
        ("(C)", 2),
        ("(c).", None),
        ("B.", 1),
        ("B)", 1),
        ("A. left of it", 0),
        ("(A) left of it", 0),
        ("A: left of it", 0),
        ("B. left of it", None),  # a letter that contradicts the text
        ("D", None),
        ("left", None),
        ("left of it or right-hand side", None),
        ("right hand side", 1),
        ("the answer is A", None),
        ("0.5", 2),
        ("5", None),
        ("", None),
        ("   ", None),
        (".", None),
    ],
)
def test_what_names_an_option(text, place):
    assert named_option(text, ("left of it", "right-hand side", "0.5")) == place


def test_options_that_look_alike_are_told_apart_or_not_at_all():
    assert named_option("-1", ("1", "-1")) == 1
    assert named_option("1", ("1", "-1")) == 0
    assert named_option("It's", ("its", "It's")) == 1  # as written
    assert named_option("ITS", ("its", "It's")) is None
    assert named_option("no", ("No", "No")) == 0
    assert named_option("B", ("B", "A")) == 0, "an option's text goes before a letter"
    assert named_option("\uff59", ("x", "y")) == 1, "a full-width y"


@given(st.lists(st.text(min_size=1), min_size=2, max_size=5, unique=True), st.data())
def test_an_option_as_written_always_names_itself(options, data):
    options = tuple(option.strip() for option in options)
    place = data.draw(st.integers(0, len(options) - 1))
    assert options[named_option(f" {options[place]}\n", options)] == options[place]


@given(st.text())
def test_normalised_text_has_no_outer_space_and_no_capitals(text):
    bare = normalise(text)
    assert bare == bare.strip() and "  " not in bare and not re.search("[A-Z]", bare)


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("<answer> B </answer>", "B"),
        ("<answer>A</answer> no, <answer>B</answer>", "B"),
        ("<answer>A</answer> <answer>B", "A"),
        ("<answer><answer>B</answer></answer>", "B"),
        ("<answer>B</answer></answer>", "B"),
        ("<answer></answer>", ""),
        ("</answer>B<answer>", None),
        ("B", None),
        ("<answer>B", None),
        ("<ANSWER>B</ANSWER>", None),
    ],
)
def test_the_last_closed_answer_counts(text, answer):
    assert last_answer(text) == answer


def test_the_right_option_by_text_or_letter():
    assert right_option(SAT) == 1 and right_option(VSTAR) == 1
    assert is_right(VSTAR, "blue") and is_right(VSTAR, "(b)") and not is_right(VSTAR, "A")
    twice = Example("t", "sat2", "k", "?", ("a chair", "a sofa", "a chair"), "a chair", ())
    assert is_right(twice, "A") and is_right(twice, "C") and is_right(twice, "a chair")
    with pytest.raises(ValueError, match="neither"):
        right_option(Example("x", "sat2", "k", "?", ("a", "b"), "c", ()))


# vigorl, single turn


def test_a_released_single_turn_earns_half_and_half():
    assert vigorl(RIGHT).total == 1 and vigorl(RIGHT).problems == ()
    wrong = RIGHT.replace("on the right", "on the left")
    assert vigorl(wrong).total == 0.5
    without = render_single(["The sofa."], "on the right")
    reward = vigorl(without)
    assert (reward.total, reward.format, reward.coordinate) == (0.5, 1, 0)
    assert reward.problems == ("no_point",)
    assert vigorl(without, mode="vanilla").total == 1


@pytest.mark.parametrize(
    ("text", "accuracy", "form"),
    [
        ("<think>(1, 2)</think><answer>on the right</answer>", 1, 1),
        ("<think>(1, 2)</think><answer>ON THE RIGHT</answer>", 1, 1),
        ("<think>(1, 2)</think><answer>A. on the right</answer>", 1, 1),  # any letter will do
        ("<think>(1, 2)</think><answer>Q) on the right</answer>", 1, 1),
        ("<think>(1, 2)</think><answer>(B) on the right</answer>", 0, 1),  # but not in brackets
        ("<think>(1, 2)</think><answer>B</answer>", 0, 1),
        ("<think>(1, 2)</think><answer>on the right.</answer>", 0, 1),
        ("<think>(1, 2)</think><answer>\non the right\n</answer>", 0, 1),  # `.` stops at a line end
        ("<think>(1, 2)</think><answer>on the right</answer>\n", 1, 0),
        (" <think>(1, 2)</think><answer>on the right</answer>", 1, 0),
        ("<think>(1, 2)</think><answer>on the right</answer><|im_end|>", 1, 1),  # special tokens are dropped
        ("<think>(1, 2)</think> so <answer>on the right</answer>", 1, 0),
        ("<think>(1, 2)</think><answer>on the right</answer><answer>on the left</answer>", 1, 1),
        ("<think>(1, 2)</think><answer> </answer>", 0, 0),
        ("<think><think>(1, 2)</think></think><answer>on the right</answer>", 1, 1),
        ("<think>(1, 2)<answer>on the right</answer>", 1, 0),
        ("on the right", 1, 0),
        ("B. on the right", 1, 0),
        ("", 0, 0),
    ],
)
def test_the_released_single_turn_to_the_letter(text, accuracy, form):
    reward = vigorl(text, mode="vanilla")
    assert (reward.accuracy, reward.format) == (accuracy, form)
    assert reward.total == 0.5 * accuracy + 0.5 * form


def test_a_gold_with_a_capital_is_never_reached():
    text = "<think>(1, 2)</think><answer>Right</answer>"
    assert vigorl(text, CAPITAL).accuracy == 0 and clean(text, CAPITAL).accuracy == 1
    assert vigorl("<think>(1, 2)</think><answer>B</answer>", VSTAR).accuracy == 0


@pytest.mark.parametrize(
    ("think", "found"),
    [
        ("(1, 2)", 1),
        ("(1,2)", 1),
        ("(1 , 2)", 1),
        ("(9999, 9999)", 1),  # no look at the image's size
        ("( 1, 2)", 0),
        ("(1, 2 )", 0),
        ("(-1, 2)", 0),
        ("(1.5, 2)", 0),
        ("[1, 2]", 0),
        ("", 0),
    ],
)
def test_what_the_released_code_takes_for_a_point(think, found):
    assert vigorl(f"<think>{think}</think><answer>x</answer>").coordinate == found


@given(hostile)
def test_the_linear_readers_find_what_the_released_expressions_find(text):
    outline = re.fullmatch(r"<think>.*?</think>\s*<answer>.*?</answer>", text, re.DOTALL)
    content = re.search(r"<answer>(.*?)</answer>", text, re.DOTALL)
    reward = vigorl(text)
    assert reward.format == float(bool(outline and content[1].strip()))
    think = re.search(r"<think>(.*?)</think>", text, re.DOTALL)
    assert reward.coordinate == float(bool(think and re.search(r"\((\d+)\s*,\s*(\d+)\)", think[1])))
    inline = re.search(r"<answer>(.*?)</answer>", text)
    prediction = inline[1].strip() if inline else text.strip()
    prefix = re.match(r"^[A-Za-z][\.\)]\s*(.*)", prediction)
    prediction = prefix[1].strip() if prefix else prediction
    assert reward.accuracy == float(prediction.lower() == "on the right")
    calls = [match[1] for match in re.finditer(r"<tool_call>\s*({.*?})\s*</tool_call>", text, re.DOTALL)]
    assert rewards._released_calls(text) == calls


# vigorl, zoom


def zoomed(turns, **more):
    return score(turns, VSTAR, mode="zoom", protocol="vigorl", frame=VIEW, **more)


def test_a_released_zoom_pays_for_every_distinct_look_without_limit():
    assert zoomed(looks()).total == pytest.approx(1.0)
    for count in range(1, 7):
        reward = zoomed(looks(*((15 * k, 0) for k in range(count))))
        assert reward.diversity == pytest.approx(0.2 * (count - 1))
        assert reward.total == pytest.approx(0.6 + 0.4 * (1 + 0.2 * (count - 1)))
    wrong = zoomed(looks((0, 0), (20, 0), answer="A"))
    assert wrong.total == pytest.approx(0.4 * 1.2), "whether the answer is right or not"
    assert zoomed(looks((0, 0), (20, 0)), diversity_bonus=0.0).total == pytest.approx(1.0)


@pytest.mark.parametrize(("second", "distinct"), [((10, 0), 2), ((9, 0), 1), ((6, 8), 2), ((7, 7), 1), ((0, 0), 1)])
def test_ten_pixels_tell_two_looks_apart(second, distinct):
    assert count_distinct([(0, 0), second]) == distinct
    assert zoomed(looks((0, 0), second)).diversity == pytest.approx(0.2 * (distinct - 1))


@given(st.lists(st.tuples(st.integers(-60, 60), st.integers(-60, 60)), max_size=40))
def test_counting_distinct_points_is_the_plain_greedy_count(points):
    kept = []
    for point in points:
        if all(math.dist(point, other) >= 10 for other in kept):
            kept.append(point)
    assert count_distinct(points) == len(kept)


@pytest.mark.parametrize(
    ("answer", "accuracy"), [("B", 1), ("b", 1), ("\nB\n", 1), ("(B)", 0), ("blue", 0), ("B.", 0), ("A", 0)]
)
def test_the_released_zoom_wants_the_bare_letter(answer, accuracy):
    assert zoomed([f"<think>x</think><answer>{answer}</answer>"]).accuracy == accuracy


@pytest.mark.parametrize(
    ("turns", "problem"),
    [
        (["<think>a</think><answer>B</answer>"], None),
        (["<think>a</think> so <answer>B</answer> "], None),  # text outside the tags is not looked at
        (["<THINK>a</Think><answer>B</answer>"], None),
        (["<think>a</think><answer>B</answer> <|im_end|>"], None),
        (["<think>a</think><tool_call>zoom in</tool_call>", "<think>b</think><answer>B</answer>"], None),
        (["<think>a</think><answer>B</answer>."], "no_answer_at_end"),
        (["<think>a</think>"], "no_answer_at_end"),
        (["<answer>B</answer>"], "tags_out_of_order"),
        (["<think>a</think><think>b</think><answer>B</answer>"], "tags_out_of_order"),
        (["<think>a</think><answer>A</answer><answer>B</answer>"], "tags_out_of_order"),
        (["<think>a</think>", "<think>b</think><answer>B</answer>"], "tags_out_of_order"),
        (["<think>a</think><answer> </answer>"], "empty_answer"),
        (["<think>a</think><tool_call>{}</tool_call>", "<think>b</think><answer>B</answer>"], "bad_call"),
        (["<think>a</think><tool_call>{oops}</tool_call>", "<think>b</think><answer>B</answer>"], "bad_call"),
    ],
)
def test_the_released_zoom_grammar(turns, problem):
    reward = zoomed(turns)
    assert reward.problems == ((problem,) if problem else ())
    assert reward.format == float(problem is None)


@pytest.mark.parametrize(
    ("coordinate", "good"),
    [
        ([3, 4], True),
        ([-3, 99999], True),
        ([True, 4], True),
        ([10**400, 4], True),
        ([3.0, 4], False),
        (["3", 4], False),
        ([3, 4, 5], False),
        ({"x": 3}, False),
        (None, False),
    ],
)
def test_what_the_released_zoom_takes_for_a_coordinate(coordinate, good):
    call = json.dumps({"name": "anything", "arguments": {"coordinate": coordinate, "more": 1}})
    turns = [f"<think>a</think><tool_call>{call}</tool_call>", "<think>b</think><answer>B</answer>"]
    assert zoomed(turns).format == float(good)


def test_a_single_turn_is_scored_alike_whether_an_observation_is_ours_or_written_by_the_model():
    written = "".join(looks((0, 0), (30, 0))).replace("</tool_call>", "</tool_call><observation>x</observation>")
    assert zoomed([written]).total == zoomed(looks((0, 0), (30, 0))).total


# clean


def test_a_clean_single_turn_earns_half_and_half():
    assert clean(RIGHT).total == 1
    assert clean(RIGHT, mode="vanilla").total == 1
    outside = RIGHT.replace("(40, 5)", "(96, 5)")
    reward = clean(outside)
    assert (reward.total, reward.format, reward.coordinate) == (0.5, 1, 0)
    assert reward.problems == ("point_outside_image",)
    assert clean(outside, mode="vanilla").total == 1, "no points are asked for, so none are checked"
    assert clean(RIGHT.replace("(40, 5)", "(-1, 5)")).coordinate == 0
    assert clean(render_single(["No point."], "B")).problems == ("no_point",)


def test_clean_accuracy_does_not_need_clean_form():
    broken = "Well. " + RIGHT
    assert clean(broken).total == 0.5 and clean(broken).problems == ("text_outside",)
    assert clean("on the right").total == 0


def test_clean_looks_pay_only_in_right_rollouts_and_up_to_four():
    def reward(turns, **more):
        return clean(turns, VSTAR, "zoom", **more)

    totals = [reward(looks(*((15 * k, 0) for k in range(count)))).total for count in range(7)]
    assert totals == pytest.approx([1.0, 1.0, 1.08, 1.16, 1.24, 1.24, 1.24])
    assert reward(looks((0, 0), (20, 0), answer="A")).total == pytest.approx(0.4)
    assert reward(looks((0, 0), (20, 0)), diversity_bonus=0.0).total == pytest.approx(1.0)
    outside = reward(looks((0, 0), (200, 0)))
    assert outside.total == pytest.approx(0.6) and outside.problems == ("point_outside_image",)


@pytest.mark.parametrize(
    ("text", "problems"),
    [
        ("<answer> on the right </answer>", ()),
        ("<answer>B</answer><|im_end|>", ()),
        ("on the right", ("text_outside", "no_answer")),
        ("So <answer>B</answer>", ("text_outside",)),
        ("<answer>B</answer><answer>B</answer>", ("two_answers",)),
        ("<think>hm</think><answer>B</answer>", ("think_in_direct",)),
        ("<answer></answer>", ("empty_answer",)),
    ],
)
def test_a_direct_answer_is_the_tags_and_nothing_else(text, problems):
    reward = clean(text, mode="direct")
    assert reward.problems == problems and reward.format == float(not problems)


@given(st.lists(hostile, min_size=1, max_size=3), st.sampled_from(["vanilla", "grounded", "zoom", "direct"]))
def test_any_rollout_gets_a_reward_within_bounds_that_agrees_with_the_grader(turns, mode):
    turns = turns if mode == "zoom" else turns[:1]
    for example in (SAT, VSTAR):
        reward = clean(turns, example, mode)
        most = 1.24 if mode == "zoom" else 1.0
        assert 0 <= reward.total <= most + 1e-9
        assert reward.accuracy == benchmarks.grade(example.benchmark, turns, example, "clean").score
        if mode != "direct":
            released = score(turns, example, mode=mode, protocol="vigorl", frame=VIEW)
            assert released.total >= 0 and {released.accuracy, released.format} <= {0.0, 1.0}


def test_what_does_not_exist_is_refused():
    for arguments, message in [
        ({"mode": "direct", "protocol": "vigorl"}, "no reward 'vigorl'"),
        ({"mode": "loud", "protocol": "clean"}, "unknown prompt mode"),
        ({"mode": "zoom", "protocol": "paper"}, "unknown reward protocol"),
    ]:
        with pytest.raises(ValueError, match=message):
            score(["x"], SAT, frame=VIEW, **arguments)
    with pytest.raises(ValueError, match="2 turns"):
        clean(["x", "y"])
    with pytest.raises(ValueError, match="0 turns"):
        clean([], mode="zoom")


MEGABYTE = 1_000_000
HOSTILE = {
    "opened": "<think>" * (MEGABYTE // 7),
    "answers": "<answer>" * (MEGABYTE // 8),
    "closed": "</think><answer>" * (MEGABYTE // 16),
    "answered": "<think>" + "</think><answer></answer>" * (MEGABYTE // 25) + "x",
    "calls": "<think></think>" + "<tool_call>{" * (MEGABYTE // 12) + "</answer>",
    "cycles": '<think></think><tool_call>{"</tool_call><observation></observation>' * (MEGABYTE // 65)
    + "<think></think><answer>B</answer>",
    "looks": "".join(
        f'<think></think><tool_call>{{"arguments":{{"coordinate":[{10 * k},0]}}}}</tool_call>'
        "<observation></observation>"
        for k in range(MEGABYTE // 110)
    )
    + "<think></think><answer>B</answer>",
    "digits": "<think>(" + "1" * MEGABYTE + "</think><answer>B</answer>",
    "points": "<think>" + "(1, 2)" * (MEGABYTE // 6) + "</think><answer>B</answer>",
    "spaces": "<answer>" + " " * MEGABYTE,
    "ends": "<think></think><answer>B</answer>" + " <|im_end|>" * (MEGABYTE // 11),
    "braces": "<think>a</think><tool_call>" + '{"a":' * (MEGABYTE // 5) + "</tool_call>",
    "prefix": "<answer>A. " + " " * MEGABYTE + "</answer>",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_megabyte_of_hostile_text_is_scored_at_once(name):
    for mode, protocol in itertools.product(("grounded", "zoom"), ("vigorl", "clean")):
        start = time.process_time()
        score([HOSTILE[name]], VSTAR, mode=mode, protocol=protocol, frame=VIEW)
        assert time.process_time() - start < 2.0, (mode, protocol)  # quadratic time would be minutes


@pytest.mark.parametrize("protocol", rewards.PROTOCOLS)
@pytest.mark.parametrize(
    ("answer", "accuracy"),
    [("(10, 20)", 1), ("(20, 30)", 1), ("(21, 25)", 0), ("(70, 140)", 0), ("the icon", 0)],
)
def test_a_place_is_right_inside_its_box_in_the_model_s_frame(protocol, answer, accuracy):
    """The box is 10 to 20 by 20 to 30 in the view: its place in `original` pixels, (70, 140), is none here."""
    single = render_single(["The icon (3, 4)."], answer)
    grounded = score([single], PLACE, mode="grounded", protocol=protocol, frame=VIEW)
    zoomed = score(looks((3, 4), answer=answer), PLACE, mode="zoom", protocol=protocol, frame=VIEW)
    assert grounded.accuracy == zoomed.accuracy == accuracy
    malformed = protocol == "vigorl" and answer == "the icon"
    assert (grounded.format == 0) == (zoomed.format == 0) == malformed


@given(st.integers(0, 95), st.integers(0, 95))
def test_clean_and_the_grader_agree_on_places(x, y):
    text = render_single(["The icon (3, 4)."], f"({x}, {y})")
    assert clean(text, PLACE).accuracy == benchmarks.grade("screenspot", text, PLACE, frame=VIEW).score
    assert benchmarks.right(PLACE, f"({x}, {y})", frame=VIEW) == (10 <= x <= 20 and 20 <= y <= 30)


def test_an_answer_with_tags_in_it_is_not_right():
    assert not benchmarks.right(PLACE, "x </answer> <answer> (10, 20)", frame=VIEW)
    assert benchmarks.right(SAT, "on the right") and not benchmarks.right(SAT, "on the left")


ALL_NAMES = render_single(["On the left (1, 2), on the right (3, 4)."], "on the left")
RAMBLE = render_single(["Look, look, look " * 30 + "(1, 2)."], "on the left")
SPRAY = render_single([" ".join(f"({k}, {k})." for k in range(8))], "on the left")
HONEST = render_single(["The sofa (12, 30)."], "on the right")


@pytest.mark.parametrize(
    ("protocol", "trick", "mode"),
    [
        ("points_anywhere", [SPRAY], "grounded"),
        ("format_only", [ALL_NAMES], "grounded"),
        ("substring", [ALL_NAMES], "grounded"),
        ("length", [RAMBLE], "grounded"),
        ("uncapped_bonus", looks(*((20 * k, 5) for k in range(5)), answer="on the left"), "zoom"),
    ],
)
def test_a_reward_of_the_museum_pays_a_trick(protocol, trick, mode):
    """A wrong rollout earns more than `clean` or its plain sibling gets, and mostly as much as an honest, right one."""
    honest = [HONEST] if mode == "grounded" else looks((12, 30), answer="on the right")
    paid, fair = (score(x, SAT, mode=mode, protocol=protocol, frame=VIEW) for x in (trick, honest))
    cleanly = score(trick, SAT, mode=mode, protocol="clean", frame=VIEW)
    assert paid.accuracy == cleanly.accuracy == 0 and fair.accuracy == 1
    plain = score([render_single(["(1, 2)."], "on the left")], SAT, mode="grounded", protocol="length", frame=VIEW)
    assert paid.total > (plain if protocol == "length" else cleanly).total
    if protocol in ("points_anywhere", "format_only", "substring"):
        assert paid.total >= fair.total


def test_the_museum_s_rewards_end_somewhere():
    most = render_single(["(1, 2)." * 500], "on the right")
    for protocol in rewards.MUSEUM[:4]:
        assert 0 <= score([most], SAT, mode="grounded", protocol=protocol, frame=VIEW).total <= 1
