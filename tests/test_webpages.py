"""Drawn steps of a web agent: one action is right, the text does not tell which, and the marks are in sight."""

from __future__ import annotations

import random
import re
from collections import Counter

import pytest

from tests import text_only
from vigorl_lib import images
from vigorl_lib.benchmarks import registry as benchmarks
from vigorl_lib.benchmarks.visualwebarena import parse_action
from vigorl_lib.nano import webpages

LEARN, TEST = 225, 135


@pytest.fixture(scope="module")
def steps():
    rng = random.Random("steps for the tests")
    return [webpages.step(rng, number) for number in range(LEARN + TEST)]


def oracle(text, truth):
    """The action that an objective wants, from its words and the instructions of what is on the page."""
    objective = re.search(r"OBJECTIVE: (.+)", text)[1] if "OBJECTIVE" in text else text
    words, page = re.fullmatch(r"(.+) in (\w+)(?:[.?]| with .*)", objective).groups()
    words = words.removeprefix("Is there an entry ") if objective.endswith("?") else words[0].lower() + words[1:]
    if page != truth["page"]:
        return "go_back"
    if objective.endswith("?"):
        entries = [said.split()[3] for said in truth["shown"] if said.startswith("open the entry ")]
        return f"stop [{'yes' if words in entries else 'no'}]"
    wanted = f"{words} in {page}"
    if wanted in truth["hidden"]:
        return "scroll [down]"
    element = truth["shown"].index(wanted) + 1
    value = re.search(r'with "(.+)"\.', objective)
    return f"type [{element}] [{value[1]}]" if value else f"click [{element}]"


def test_the_oracle_is_always_right(steps):
    assert all(oracle(step.text, step.truth) == step.answer for step in steps)


def test_the_oracle_s_replies_are_right_and_other_actions_are_not():
    examples = benchmarks.load("visualwebarena", split="dev", limit=9)
    assert Counter(example.kind for example in examples) == {
        "go_back": 3,
        "scroll": 2,
        "stop": 2,
        "click": 1,
        "type": 1,
    }
    for example in examples:
        action = oracle(example.question, example.truth)
        replies = {action: 1.0, "go_back": float(action == "go_back"), "click [999]": 0.0, "stop [maybe]": 0.0}
        for reply, score in replies.items():
            assert benchmarks.grade("visualwebarena", f"<answer>{reply}</answer>", example).score == score
        assert images.open_image(example.images[0]).size == (webpages.WIDTH, webpages.HEIGHT)


def test_actions_are_equally_likely_and_offered_once(steps):
    assert Counter(step.kind for step in steps) == dict.fromkeys(webpages.SORTS, len(steps) // 3)
    for sort in webpages.SORTS:
        verbs = Counter(parse_action(step.answer) for step in steps if step.kind == sort)
        assert verbs[parse_action("go_back")] == len(steps) // 9
    for step in steps:
        assert len(set(step.options)) == 3 and step.answer == step.truth["action"]
        action = parse_action(step.answer)
        assert action.element is None or 1 <= action.element <= len(step.truth["boxes"])


def test_the_page_of_the_objective_is_another_exactly_where_one_has_to_go_back(steps):
    for step in steps:
        assert (f" in {step.truth['page']}" in step.text) == (step.answer != "go_back")


def test_marks_are_in_sight_and_apart(steps):
    for step in steps[:60]:
        boxes = step.truth["boxes"]
        assert all(0 <= l < r < webpages.WIDTH and 0 <= t < b < webpages.HEIGHT for l, t, r, b in boxes)  # noqa: E741
        assert len({tuple(box) for box in boxes}) == len(boxes)


def test_the_same_numbers_give_the_same_step():
    one, other = (webpages.step(random.Random(5), 4) for _ in range(2))
    assert (one.text, one.options, one.truth) == (other.text, other.options, other.truth)
    assert one.draw()[0].tobytes() == other.draw()[0].tobytes()


def test_the_text_alone_answers_nothing(steps):
    learn, test = steps[:LEARN], steps[LEARN:]
    assert text_only.answered(learn, test) < text_only.chance(test) + text_only.margin(test)
