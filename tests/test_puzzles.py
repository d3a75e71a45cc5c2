"""Nano skins: known words, and mute without a picture; MathVision's and We-Math's are counted again from its truth."""

from __future__ import annotations

import math
import random
import re
from collections import Counter

import pytest
from tokenizers import Tokenizer

from tests import text_only
from vigorl_lib import images
from vigorl_lib.answers import letter, right_option
from vigorl_lib.benchmarks import registry as benchmarks
from vigorl_lib.benchmarks import wemath
from vigorl_lib.nano import diagrams, problems, puzzles, twins, world
from vigorl_lib.nano.world import COLOURS, DIRECTIONS, SHAPES, SIDE
from vigorl_lib.runs import PACKAGE

ASK = {
    "mathvision": lambda rng, number: puzzles.mathvision(rng, number % len(puzzles.MATHVISION)),
    "wemath": lambda rng, number: puzzles.wemath(rng, number % problems.WEMATH_ROWS),
}
TEXTS = ASK | {"ai2d": lambda rng, number: diagrams.nano(rng, diagrams.NANO[number % len(diagrams.NANO)])}
LEARN, TEST = 2000, 1500


@pytest.fixture(scope="module")
def asked():
    """Questions of each, without pictures."""
    return {
        name: [ask(random.Random(f"{name} {number}"), number) for number in range(LEARN + TEST)]
        for name, ask in TEXTS.items()
    }


def things(truth):
    """Name, middle and radius of each thing."""
    for name, (left, top, right, bottom) in zip(truth["names"], truth["boxes"], strict=True):
        yield name, ((left + right) // 2, (top + bottom) // 2), (right - left) // 2


def named_in(text, truth):
    """The things that a text names, in its order; each such name occurs once."""
    found = re.findall(rf"(?:{'|'.join(COLOURS)}) (?:{'|'.join(SHAPES)})", text)
    every = {thing[0]: thing for thing in things(truth)}
    assert all(truth["names"].count(name) == 1 for name in found)
    return [every[name] for name in found]


def cell(thing):
    """Column and line of the world's grid."""
    return tuple(side * world.CELLS // SIDE for side in thing[1])


def counted(text, truth):
    """What a question "How many … things …?" counts."""
    if "than" in text:
        ((_, _, one),) = named_in(text, truth)
        ways = [way for way in twins.SIZE_OPTIONS if way in text]
        radii = [radius for _, _, radius in things(truth) if radius != one]
        assert all(max(one, other) >= twins.SIZE_MARGIN * min(one, other) for other in radii)
        return sum(("larger" if radius > one else "smaller") in ways for radius in radii)
    colours = [colour for colour in COLOURS if f" {colour}" in text] or list(COLOURS)
    return sum(name.split()[0] in colours for name in truth["names"])


def ways_right_or_below(start, end):
    """Every walk, taken: so many reach the end."""
    (column, row), (last_column, last_row) = start, end
    if start == end:
        return 1
    right = ways_right_or_below((column + 1, row), end) if column < last_column else 0
    return right + (ways_right_or_below((column, row + 1), end) if row < last_row else 0)


def neighbours(here, truth):
    """In how many directions something stands in line; elsewhere nothing lies that way, not even diagonally."""
    others = [(x - here[1][0], y - here[1][1]) for _, (x, y), _ in things(truth) if (x, y) != here[1]]
    found = 0
    for along_x, along_y in DIRECTIONS.values():
        seen = [(dx * along_x + dy * along_y, abs(dx * along_y) + abs(dy * along_x)) for dx, dy in others]
        in_line = any(along > 0 and off == 0 for along, off in seen)
        assert in_line or not any(along >= off for along, off in seen)
        found += in_line
    return found


def solved(question):
    """The answer again, from the boxes and names of the picture alone."""
    text, truth = question.text, question.truth
    if question.kind == "combinatorics":
        return str(ways_right_or_below(*map(cell, named_in(text, truth))))
    if question.kind == "algebra":
        lines = Counter(cell(thing)[1] for thing in things(truth))
        assert lines[3] == 0 and lines[2] - lines[1] == lines[1] - lines[0]
        return str(2 * lines[2] - lines[1])
    if question.kind == "analytic geometry":
        above, left = named_in(text, truth)
        place = above[1][0], left[1][1]
        assert above[1][1] < place[1] and left[1][0] < place[0] and place not in [at for _, at, _ in things(truth)]
        return "({}, {})".format(*world.to_view(*place))
    if question.kind == "graph theory":
        return str(neighbours(*named_in(text, truth), truth))
    if question.kind == "metric geometry - length":
        ((_, _, radius),) = named_in(text, truth)
        return str(world.width(radius))
    return str(counted(text, truth))


@pytest.mark.parametrize("name", ASK)
def test_answers_are_true_of_their_scenes(name, asked):
    for question in asked[name]:
        assert solved(question) == question.answer, question
        assert len(set(question.options)) == len(question.options) == (5 if name == "mathvision" else 4)


@pytest.mark.parametrize("name", ASK)
def test_pictures_show_the_things_of_their_truth(name):
    for number in range(14):
        question = ASK[name](random.Random(number), number)
        (image,) = question.draw()
        for thing, (x, y), radius in things(question.truth):
            assert 0 <= x - radius and x + radius < SIDE and 0 <= y - radius and y + radius < SIDE
            red, green, blue = COLOURS[thing.split()[0]]
            seen = image.resize((SIDE // 7, SIDE // 7), resample=4).getpixel((x // 7, y // 7))  # without the pattern
            assert all(abs(a - b) < 40 for a, b in zip(seen, (red, green, blue), strict=True))


@pytest.mark.parametrize("name", TEXTS)
def test_the_words_are_those_of_the_base(name, asked):
    """Every word is one token, if need be after one for the blank: the base spells nothing letter by letter."""
    tokenizer = Tokenizer.from_file(str(PACKAGE / "checkpoints/base/tokenizer.json"))
    for text in {text for question in asked[name] for text in (question.text, *question.options)}:
        pieces = [piece for piece, _ in tokenizer.pre_tokenizer.pre_tokenize_str(text)]
        tokens = [token for token in tokenizer.encode(text).tokens if token != "Ġ"]
        assert [token.lstrip("Ġ") for token in tokens] == [piece.lstrip("Ġ") for piece in pieces]


@pytest.mark.parametrize("name", TEXTS)
def test_the_text_alone_answers_nothing(name, asked):
    learn, test = asked[name][:LEARN], asked[name][LEARN:]
    assert text_only.answered(learn, test) < text_only.chance(test) + text_only.margin(test)


@pytest.mark.parametrize("name", ASK)
def test_each_answer_is_equally_likely(name, asked):
    by_text = {}
    for question in asked[name]:
        line = re.sub(rf"(?:{'|'.join(COLOURS)})(?: (?:{'|'.join(SHAPES)}))?", "_", question.text)
        by_text.setdefault((question.kind, line), Counter())[question.answer] += 1
    assert len(by_text) >= len(puzzles.MATHVISION if name == "mathvision" else wemath.KEYS)
    for counts in by_text.values():
        n, expected = counts.total(), counts.total() / len(counts)
        assert sum((count - expected) ** 2 / expected for count in counts.values()) < len(counts) + 4.5 * math.sqrt(
            2 * len(counts)
        ), (n, counts)


@pytest.mark.parametrize("name", ASK)
def test_rows_are_examples_that_the_oracle_answers(name):
    examples = benchmarks.load(name, "nano", split="dev", limit=28)
    assert examples == benchmarks.load(name, "nano", split="dev", limit=28)
    assert {example.kind for example in examples} <= (
        {subject for _, subject, _, _ in problems.MATHVISION} if name == "mathvision" else set(wemath.KEYS)
    )
    for protocol in benchmarks.protocols(name):
        said = answer_text if protocol == "vigorl" else reply  # the released judge compares texts
        grades = [benchmarks.grade(name, f"<answer>{said(item)}</answer>", item, protocol) for item in examples]
        assert all(grade.score == 1 for grade in grades), protocol
    for example in examples:
        for wrong in set(example.options) - {example.answer}:
            assert not benchmarks.right(example, wrong)
        assert images.image_size(example.images[0]) == (SIDE, SIDE)
        assert len(example.truth["boxes"]) == len(example.truth["names"])


def answer_text(example):
    return example.answer


def reply(example):
    return letter(right_option(example)) if example.options else example.answer


def test_mathvisions_numbers_are_asked_for_with_options_and_without():
    examples = benchmarks.load("mathvision", "nano", split="dev", limit=70)
    lengths = [example for example in examples if example.kind == "metric geometry - length"]
    assert lengths and all(example.options for example in lengths), "a width is no number that one sees"
    assert {bool(example.options) for example in examples if example not in lengths} == {True, False}
    assert {example.group for example in examples} == {f"level {level}" for level in range(1, 6)}


def test_the_rows_of_a_problem_share_its_figure_and_make_it_up():
    for block in range(60):
        rows = [puzzles.wemath(random.Random(block), row) for row in range(problems.WEMATH_ROWS)]
        assert [question.kind for question in rows] == list(wemath.KEYS)
        for steps in (rows[:3], rows[3:]):
            assert all(question.truth == steps[0].truth for question in steps)
            *parts, whole = (int(question.answer) for question in steps)
            assert whole == (parts[0] - sum(parts[1:]) if steps[0].text == "How many things?" else sum(parts))
            assert len(steps[0].truth["concepts"]) == len(parts)


def test_wemaths_four_dimensions_come_from_nano_problems_too():
    examples = benchmarks.load("wemath", "nano", split="dev", limit=28)
    for first in range(0, 28, 7):
        for problem in (examples[first : first + 3], examples[first + 3 : first + 7]):
            assert len({example.group.partition("/")[0] for example in problem}) == 1
            assert len({example.images for example in problem}) == 1
            known = [example.group.partition("/")[2] for example in problem]
            assert set(known[-1].split("; ")) == set(known[:-1])
    wrong = lambda example: example.options[right_option(example) - 1]  # noqa: E731
    by_heart = [
        example.answer if example.kind.endswith("multi") else wrong(example) for example in examples
    ]  # problems right, steps wrong
    grades = [
        benchmarks.grade("wemath", f"<answer>{said}</answer>", example)
        for said, example in zip(by_heart, examples, strict=True)
    ]
    found = benchmarks.aggregate("wemath", grades)
    assert (found["problems"], found["incomplete"], found["rm_strict"]["value"]) == (8, 0, 1)
