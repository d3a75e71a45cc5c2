"""MathVision: its rows, how its answers are read, and mathematics under a time limit."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vigorl_lib.benchmarks import maths, mathvision
from vigorl_lib.benchmarks import registry as benchmarks

ROW = {
    "question": "What is the area? <image1>",
    "options": [],
    "decoded_image": {"bytes": b"encoded", "path": None},
    "answer": "\\frac{1}{3}",
    "level": 2,
    "subject": "metric geometry - area",
}
OPEN = benchmarks.from_row("mathvision", ROW)
POINT = benchmarks.from_row("mathvision", ROW | {"answer": "(3,4)"})
CHOICE = benchmarks.from_row("mathvision", ROW | {"options": ["2", "4", "6", "8", "10"], "answer": "B"})


def test_a_row_becomes_a_record():
    assert OPEN.options == () and OPEN.answer == "\\frac{1}{3}" and OPEN.group == "level 2"
    assert "<image" not in OPEN.question and "\n(" not in OPEN.question
    assert CHOICE.answer == "4" and "(B) 4" in CHOICE.question


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"options": None}, "'options' must be"),
        ({"options": ["1", None]}, "'options' must be"),
        ({"options": ["1", "2"], "answer": "C"}, "not one of the letters"),
        ({"level": 6}, "'level' must be"),
        ({"level": None}, "'level' must be"),
        ({"answer": None}, "'answer' must hold text"),
        ({"decoded_image": None}, "image cell"),
    ],
)
def test_a_bad_row_is_named(change, message):
    with pytest.raises(ValueError, match=f"row.*{message}"):
        benchmarks.from_row("mathvision", ROW | change)


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("So it is C.", "c"),
        ("So it is (C).", "c"),
        ("C\nbecause", "c"),
        ("The area is 12.", "12"),
        ("The answer is 3 cm. It is long.", "3cm"),
        ("the correct answer is 7\nas shown", "7"),
        ("\\boxed{4} no, \\boxed{5}", "5"),
        ("\\boxed{\\frac{1}{2}}", "\\frac{1}{2}"),
        ("\\boxed{x = 5}", "5"),
        ("\\boxed{30^\\circ}", "30"),
        ("\\boxed{30 \\%}", "30\\"),
        ("\\boxed{(b)}", "b"),
        ("\\boxed{0.5}", "\\frac{1}{2}"),
        ("\\boxed{12\\text{ km}}", "12"),
        ("\\boxed{$7$}", "7"),
        ("12", "12"),
        ("", ""),
        ("The answer is 3. So \\boxed{4}", "4"),  # with a box nothing that is announced counts
        ("The answer is 3. So 4", "3"),
    ],
)
def test_what_the_script_takes_for_the_answer(text, answer):
    assert mathvision.extract(text) == answer


@pytest.mark.parametrize(
    ("example", "reply", "score"),
    [
        (OPEN, "\\boxed{\\frac{1}{3}}", 1),
        (OPEN, "1/3", 1),
        (OPEN, "0.333", 1),  # values are rounded to hundredths
        (OPEN, "The answer is 0.33.", 1),
        (OPEN, "0.3", 0),
        (OPEN, "x", 0),
        (OPEN, "", 0),
        (OPEN, "__import__('os').system('true')", 0),
        (POINT, "(3, 4)", 1),
        (POINT, "[3.001, 8/2]", 1),  # element by element
        (POINT, "(4, 3)", 0),
        (POINT, "(3, 4, 5)", 0),
        (POINT, "(3,)", 0),
        (POINT, "3, 4", 0),
        (CHOICE, "B", 1),
        (CHOICE, "b", 1),
        (CHOICE, "(B)", 1),
        (CHOICE, "4", 1),  # the option's value
        (CHOICE, "\\boxed{4.001}", 1),
        (CHOICE, "It is B.", 1),
        (CHOICE, "2", 0),
        (CHOICE, "A", 0),
        (CHOICE, "D", 0),
    ],
)
def test_official(example, reply, score):
    assert benchmarks.grade("mathvision", reply, example, "official").score == score


@pytest.mark.parametrize(
    ("example", "answer", "score"),
    [
        (OPEN, "1/3", 1),
        (OPEN, "\\frac{2}{6}", 1),
        (OPEN, "so \\boxed{\\frac{1}{3}}", 1),
        (OPEN, "0.333", 0),
        (OPEN, "1/4", 0),
        (OPEN, "", 0),
        (OPEN, "one third", 0),
        (CHOICE, "B", 1),
        (CHOICE, "4", 1),
        (CHOICE, "\\boxed{4.0}", 1),
        (CHOICE, "\\boxed{B}", 1),
        (CHOICE, "A", 0),
        (CHOICE, "6", 0),
    ],
)
def test_clean(example, answer, score):
    assert benchmarks.grade("mathvision", f"<answer>{answer}</answer>", example).score == score
    assert benchmarks.grade("mathvision", answer, example).why == "no_answer"


@pytest.mark.parametrize("hostile", ["9^{9^{9^{9}}}", "(10^{9})!", "9" * 5_000, "\\frac{" * 600, "((" * 900])
def test_an_answer_that_takes_forever_is_wrong_in_time(hostile):
    start = time.monotonic()
    assert maths.equal("1", hostile, seconds=1.0) in (False, None)
    assert maths.equal("1/2", "0.5") is True, "the next comparison works again"
    assert time.monotonic() - start < 30


@settings(max_examples=30, deadline=None)
@given(st.text(alphabet="0123456789+-*/^_{}()\\frac sqrt.,=", max_size=30))
def test_any_text_gets_a_grade(text):
    for example in (OPEN, CHOICE):
        for protocol in ("official", "vigorl", "clean"):
            grade = benchmarks.grade("mathvision", f"<answer>{text}</answer>", example, protocol)
            assert grade.score in (0.0, 1.0) and (grade.why == "right") == (grade.score == 1)


@pytest.mark.parametrize("piece", ["\\boxed{", "}", "(a)", "the answer is ", "is ", "=", "{}"])
def test_a_long_reply_is_read_at_once(piece):
    text, start = piece * (100_000 // len(piece)), time.process_time()
    for protocol in ("official", "vigorl", "clean"):
        benchmarks.grade("mathvision", f"<answer>{text}</answer>", OPEN, protocol)
    assert time.process_time() - start < 5  # quadratic time would be minutes


@settings(max_examples=15, deadline=None)
@given(st.lists(st.sampled_from(["\\boxed{", "}", "(", "is ", ", ", "the answer is ", "9"]), min_size=1, max_size=6))
def test_any_long_reply_is_read_at_once(pieces):
    text = "".join(pieces)
    test_a_long_reply_is_read_at_once(text)
