"""Problems in the form of MathVision and We-Math about pictures of the nano world, in the words that its base knows.

Numbers are counted or compared, not read. Answers are drawn first, all equally likely, then a scene that makes them
true; wrong options are other answers. So neither a text nor its options tell. Things stand in the middles of the
world's 4 x 4 cells (`original` pixels, 672 x 672); places in texts are view pixels, as in all that the base reads.
"""

from __future__ import annotations

import dataclasses
import math
import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from vigorl_lib.nano import general, lessons, world
from vigorl_lib.nano.drawing import Question
from vigorl_lib.nano.problems import WEMATH_ROWS, wemath_key
from vigorl_lib.nano.world import CELLS, COLOURS, DIRECTIONS, NAMES, SHAPES, SIDE, Scene

CELL = SIDE // CELLS
LADDER = (36, 45, 57)  # radii of three sizes, each `twins.SIZE_MARGIN` times the one before
WIDTHS = {str(world.width(radius)): radius for radius in (36, 42, 47, 53, 58)}

Given = dict[str, Any]  # what stands in the text's brackets


def _laid(rng: random.Random, names: Mapping[int, str]) -> Scene:
    """Things in the middles of these cells of the world's grid: 0 … 15, line by line."""
    scene = world.make_scene(rng, names=list(names.values()))
    things = [
        dataclasses.replace(thing, x=cell % CELLS * CELL + CELL // 2, y=cell // CELLS * CELL + CELL // 2)
        for thing, cell in zip(scene.things, names, strict=True)
    ]
    return dataclasses.replace(scene, things=tuple(things))


def _anywhere(rng: random.Random, names: Sequence[str]) -> Scene:
    return _laid(rng, dict(zip(rng.sample(range(CELLS**2), len(names)), names, strict=True)))


def _coloured(rng: random.Random, counts: Sequence[int], more: int) -> tuple[list[str], list[str]]:
    """As many colours as there are counts; the names of so many things of each, and of `more` of other colours."""
    colours = rng.sample(list(COLOURS), len(counts))
    names = [
        f"{colour} {rng.choice(SHAPES)}" for colour, count in zip(colours, counts, strict=True) for _ in range(count)
    ]
    rest = [colour for colour in COLOURS if colour not in colours]
    return colours, names + [f"{rng.choice(rest)} {rng.choice(SHAPES)}" for _ in range(more)]


def _with_radii(scene: Scene, radii: Sequence[int]) -> Scene:
    things = [dataclasses.replace(thing, radius=radius) for thing, radius in zip(scene.things, radii, strict=True)]
    return dataclasses.replace(scene, things=tuple(things))


def _beside(rng: random.Random, larger: int, smaller: int) -> tuple[Given, Scene]:
    """A thing of the middle size, whose name occurs once, among so many larger and smaller ones."""
    one = rng.choice(NAMES)
    scene = _anywhere(rng, [one, *general.others(rng, larger + smaller, one)])
    small, middle, large = LADDER
    return {"one": one}, _with_radii(scene, [middle, *[large] * larger, *[small] * smaller])


# --- MathVision ----------------------------------------------------------------------------------------


def by_colour(rng: random.Random, answer: int) -> tuple[Given, Scene]:
    """Things of one colour."""
    (one,), names = _coloured(rng, [answer], rng.randint(2, 7))
    return {"one": one}, _anywhere(rng, names)


def larger(rng: random.Random, answer: int) -> tuple[Given, Scene]:
    """Things that are larger than one of them."""
    return _beside(rng, answer, rng.randint(1, 6))


def wide(rng: random.Random, answer: int) -> tuple[Given, Scene]:
    """One thing among others, as wide as its radius says; five widths that differ visibly."""
    one = rng.choice(NAMES)
    scene = _anywhere(rng, [one, *general.others(rng, rng.randint(2, 5), one)])
    return {"one": one}, _with_radii(scene, [answer, *(thing.radius for thing in scene.things[1:])])


def choices(rng: random.Random, answer: tuple[int, int]) -> tuple[Given, Scene]:
    """Ways from one thing to another over a full grid, by so many steps to the right and downwards in any order."""
    across, down = rng.choice((answer, answer[::-1]))
    column, row = rng.randrange(CELLS - across), rng.randrange(CELLS - down)
    one, other = rng.sample(NAMES, 2)
    names = dict(enumerate(general.others(rng, CELLS**2, one, other)))
    names |= {row * CELLS + column: one, (row + down) * CELLS + column + across: other}
    return {"one": one, "other": other}, _laid(rng, names)


def series(rng: random.Random, answer: int) -> tuple[Given, Scene]:
    """What comes after three lines of things, each with one more than that above it, or one less, or as many."""
    steps = [step for step in (-1, 0, 1) if all(1 <= answer - step * k <= CELLS for k in (1, 2, 3))]
    step = rng.choice(steps)
    counts = [answer - step * k for k in (3, 2, 1)]
    cells = [row * CELLS + column for row, n in enumerate(counts) for column in rng.sample(range(CELLS), n)]
    return {}, _laid(rng, {cell: rng.choice(NAMES) for cell in cells})


def crossing(rng: random.Random, answer: tuple[int, int]) -> tuple[Given, Scene]:
    """The place in the column of one thing and in the line of another: (column, line), where there is nothing."""
    (column, row), (one, other) = answer, rng.sample(NAMES, 2)
    named = {rng.randrange(row) * CELLS + column: one, row * CELLS + rng.randrange(column): other}
    free = [cell for cell in range(CELLS**2) if cell not in named and cell != row * CELLS + column]
    cells = rng.sample(free, rng.randint(2, 6))
    more = dict(zip(cells, general.others(rng, len(cells), one, other), strict=True))
    return {"one": one, "other": other}, _laid(rng, named | more)


def around(rng: random.Random, answer: int) -> tuple[Given, Scene]:
    """In how many of the four directions there is a next thing: in line with the first, and with no second reading."""
    one = rng.choice(NAMES)
    while True:
        start = rng.randrange(CELLS**2)
        lines = [line for line in _lines(start) if line]
        if len(lines) < answer:
            continue
        cells = [rng.choice(line) for line in rng.sample(lines, answer)]
        free = [cell for cell in range(CELLS**2) if cell not in (start, *cells)]
        cells += rng.sample(free, rng.randint(0, answer))
        scene = _laid(rng, dict(zip((start, *cells), (one, *general.others(rng, len(cells), one)), strict=True)))
        here = scene.things[0]
        found = [world.next_thing(scene, here.x, here.y, direction) for direction in DIRECTIONS]
        if None in found:
            continue
        there = [scene.things[index] for index in found if index >= 0]
        if len(there) == answer and all(thing.x == here.x or thing.y == here.y for thing in there):
            return {"one": one}, scene


def _lines(cell: int) -> list[list[int]]:
    """The cells to the right of one, to the left, below and above."""
    row, column = divmod(cell, CELLS)
    return [
        [row * CELLS + other for other in range(column + 1, CELLS)],
        [row * CELLS + other for other in range(column)],
        [other * CELLS + column for other in range(row + 1, CELLS)],
        [other * CELLS + column for other in range(row)],
    ]


def _numbers(low: int, high: int) -> dict[str, int]:
    return {str(number): number for number in range(low, high + 1)}


def _written(column: int, row: int) -> str:
    """The middle of a cell, as the policy writes it."""
    return lessons.write(world.to_view(column * CELL + CELL // 2, row * CELL + CELL // 2))


WAYS = {str(math.comb(a + b, a)): (a, b) for a in range(1, CELLS) for b in range(1, a + 1)}
PLACES = {_written(column, row): (column, row) for column in range(1, CELLS) for row in range(1, CELLS)}
# Maker, subject, level, text, and the answers there are: what is written, and what the maker makes of it.
MATHVISION: tuple[tuple[Callable[..., tuple[Given, Scene]], str, int, str, Mapping[str, Any]], ...] = (
    (by_colour, "statistics", 1, "How many {one} things?", _numbers(1, 7)),
    (larger, "statistics", 3, "How many things larger than the {one}?", _numbers(0, 6)),
    (wide, "metric geometry - length", 2, "How wide is the {one}?", WIDTHS),
    (choices, "combinatorics", 5, "Start at the {one}. Go right or below. How many choices reach the {other}?", WAYS),
    (series, "algebra", 2, "First, second, third. How many things fourth?", _numbers(0, 5)),
    (crossing, "analytic geometry", 3, "Which place is below the {one}, right from the {other}?", PLACES),
    (around, "graph theory", 4, "Start at the {one}. Look around. How many things?", _numbers(0, 4)),
)
CHOSEN = (wide,)  # always with options: nobody sees a width to the last pixel


def mathvision(rng: random.Random, kind: int) -> Question:
    """The problem of a line of MATHVISION. Not kept of `problems`: areas and angles, of which the base has no words."""
    make, subject, level, text, answers = MATHVISION[kind]
    options = rng.sample(list(answers), 5)
    answer = rng.choice(options)
    given, scene = make(rng, answers[answer])
    shown = make in CHOSEN or rng.random() < 0.5
    return general.about(scene, subject, text.format(**given), options, answer, given=given, level=level, shown=shown)


# --- We-Math -------------------------------------------------------------------------------------------

PART, OF_TWO, OF_THREE = range(1, 5), range(3, 8), range(6, 10)  # what a number can be, and the sum of two and of three
# Of two numbers: each of them is equally often any of PART, and their sum any of OF_TWO.
PAIRS = (
    2 * ((1, 2), (2, 1), (1, 4), (4, 1), (3, 4), (4, 3), (2, 2), (3, 3)) + ((1, 3), (3, 1), (2, 4), (4, 2))
)  # fmt: skip


def _triple(rng: random.Random) -> tuple[int, int, int]:
    """Three numbers: each of them is equally often any of PART, and their sum any of OF_THREE."""
    total, first = rng.choice(OF_THREE), rng.choice(PART)
    second = rng.choice([number for number in PART if total - first - number in PART])
    return first, second, total - first - second


Made = tuple[Given, Scene, tuple[int, ...]]  # what stands in brackets, the figure, and the answers


def two_colours(rng: random.Random) -> Made:
    """Things of one colour, of another, and of both."""
    counts = rng.choice(PAIRS)
    (one, other), names = _coloured(rng, counts, rng.randint(2, 5))
    return {"one": one, "other": other}, _anywhere(rng, names), (*counts, sum(counts))


def all_but_one(rng: random.Random) -> Made:
    """All things, those of one colour, and the rest."""
    one_of, rest = rng.choice(PAIRS)
    (one,), names = _coloured(rng, [one_of], rest)
    return {"one": one, "rest": _listed(one)}, _anywhere(rng, names), (one_of + rest, one_of, rest)


def two_sizes(rng: random.Random) -> Made:
    """What is larger than a thing, what is smaller, and both."""
    counts = rng.choice(PAIRS)
    return *_beside(rng, *counts), (*counts, sum(counts))


def three_colours(rng: random.Random) -> Made:
    """Things of one colour, of a second, of a third, and of all three."""
    counts = _triple(rng)
    (one, other, third), names = _coloured(rng, counts, rng.randint(2, 5))
    return {"one": one, "other": other, "third": third}, _anywhere(rng, names), (*counts, sum(counts))


def all_but_two(rng: random.Random) -> Made:
    """All things, those of one colour, of another, and the rest."""
    *counts, rest = _triple(rng)
    (one, other), names = _coloured(rng, counts, rest)
    given = {"one": one, "other": other, "rest": _listed(one, other)}
    return given, _anywhere(rng, names), (sum(counts) + rest, *counts, rest)


def _listed(*without: str) -> str:
    """All colours but these in a row."""
    *first, last = (colour for colour in COLOURS if colour not in without)
    return f"{', '.join(first)} or {last}"


BY_COLOUR, ALL, BY_SIZE = "Counting by color", "Counting", "Comparison of sizes"
# Maker, what its steps take one to know, the texts of the steps and of the problem, and what their answers can be.
Line = tuple[Callable[[random.Random], Made], tuple[str, ...], tuple[str, ...], tuple[range, ...]]
TWO_STEPS: tuple[Line, ...] = (
    (two_colours, (BY_COLOUR, BY_COLOUR), (
        "How many {one} things?", "How many {other} things?", "How many {one} or {other} things?",
    ), (PART, PART, OF_TWO)),
    (all_but_one, (ALL, BY_COLOUR), (
        "How many things?", "How many {one} things?", "How many {rest} things?",
    ), (OF_TWO, PART, PART)),
    (two_sizes, (BY_SIZE, BY_SIZE), (
        "How many things larger than the {one}?", "How many things smaller than the {one}?",
        "How many things larger or smaller than the {one}?",
    ), (PART, PART, OF_TWO)),
)  # fmt: skip
THREE_STEPS: tuple[Line, ...] = (
    (three_colours, (BY_COLOUR,) * 3, (
        "How many {one} things?", "How many {other} things?", "How many {third} things?",
        "How many {one}, {other} or {third} things?",
    ), (PART, PART, PART, OF_THREE)),
    (all_but_two, (ALL, BY_COLOUR, BY_COLOUR), (
        "How many things?", "How many {one} things?", "How many {other} things?", "How many {rest} things?",
    ), (OF_THREE, PART, PART, PART)),
)  # fmt: skip


def wemath(rng: random.Random, row: int) -> Question:
    """One of the seven questions of two problems, as `problems.wemath` has them: `rng` decides which problems."""
    lines = rng.choice(TWO_STEPS), rng.choice(THREE_STEPS)
    made = [line[0](rng) for line in lines]
    own = random.Random(rng.getrandbits(64) * WEMATH_ROWS + row)  # else the right letter is one for all rows
    steps, which, key = wemath_key(row)
    (_, concepts, texts, numbers), (given, scene, answers) = lines[steps - 2], made[steps - 2]
    wrong = [number for number in numbers[which] if number != answers[which]]
    options = [str(number) for number in own.sample([answers[which], *own.sample(wrong, 3)], 4)]
    text = texts[which].format(**given)
    return general.about(scene, key, text, options, str(answers[which]), given=given, concepts=list(concepts))
