"""Mathematical problems with a figure, in the form of MathVision and We-Math.

The numbers stand in the figure, not in the text. Wrong options are the answers of other problems of the same kind, so
that nothing about an option, its size or its form, tells whether it is right. All places are pixels of the figure.
"""

from __future__ import annotations

import dataclasses
import heapq
import math
import random
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any

from PIL import Image, ImageDraw

from vigorl_lib.nano.drawing import INK, Pen, Place, Question, font, label, png

DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri")
FILLS = ("#cfe0f3", "#f6dfc0", "#d8ecd2", "#eedcf0")


@dataclasses.dataclass(frozen=True)
class Problem:
    """One problem: what its figure says (JSON values), how that is drawn, and for each of its questions the answer.

    MathVision's problems have one question. We-Math's have one for each step, and at the end the one that needs them
    all.
    """

    given: dict[str, Any]
    draw: Callable[[], Image.Image]
    answers: tuple[str, ...]


def _canvas(width: int = 560, height: int = 420) -> tuple[Image.Image, Pen]:
    image = Image.new("RGB", (width, height), "white")
    return image, ImageDraw.Draw(image)


def _alternatives(
    rng: random.Random, make: Callable[[random.Random], Problem], problem: Problem, which: int, count: int
) -> tuple[str, ...]:
    """The answer to one question of a problem among those of others of its kind, all different, in any order."""
    found = {problem.answers[which]: None}
    while len(found) < count:
        found[make(rng).answers[which]] = None
    return tuple(rng.sample(list(found), count))


def latex(value: Fraction) -> str:
    """A number, or a fraction in LaTeX."""
    return str(value) if value.denominator == 1 else rf"\frac{{{value.numerator}}}{{{value.denominator}}}"


def root(square: int) -> str:
    """A square root in its simplest form, in LaTeX."""
    factor = next(k for k in range(math.isqrt(square), 0, -1) if square % k**2 == 0)
    rest = square // factor**2
    if rest == 1:
        return str(factor)
    return rf"{factor if factor > 1 else ''}\sqrt{{{rest}}}"


# --- MathVision ----------------------------------------------------------------------------------------


def _bar_chart(heights: Sequence[int], names: Sequence[str], fill: str) -> Image.Image:
    image, pen = _canvas()
    for tick in range(0, 11):
        y = 360 - 32 * tick
        pen.line((60, y, 540, y), "#c9ced6", 1)
        pen.text((50, y), str(tick), INK, font(18), anchor="rm")
    for place, (height, name) in enumerate(zip(heights, names, strict=True)):
        x = 110 + 95 * place
        pen.rectangle((x - 26, 360 - 32 * height, x + 26, 360), fill, INK, 2)
        label(pen, (x, 385), name)
    pen.line((60, 40, 60, 360, 540, 360), INK, 2)
    return image


def bars_difference(rng: random.Random) -> Problem:
    """How far apart two bars are."""
    heights, fill = rng.sample(range(1, 11), 5), rng.choice(FILLS)
    return Problem({"heights": heights}, lambda: _bar_chart(heights, DAYS, fill), (str(abs(heights[0] - heights[3])),))


def bars_mean(rng: random.Random) -> Problem:
    """The mean of four bars, a fraction at times."""
    heights, fill = [rng.randint(1, 10) for _ in range(4)], rng.choice(FILLS)
    return Problem(
        {"heights": heights}, lambda: _bar_chart(heights, DAYS[:4], fill), (latex(Fraction(sum(heights), 4)),)
    )


def right_triangle(rng: random.Random) -> Problem:
    """The longest side of a right triangle; legs true to scale."""
    a, b = rng.randint(2, 9), rng.randint(2, 9)
    unit, fill = 300 / max(a, b), rng.choice(FILLS)

    def draw() -> Image.Image:
        image, pen = _canvas()
        left, bottom = 280 - a * unit / 2, 370
        right, top = left + a * unit, bottom - b * unit
        pen.polygon([(left, bottom), (right, bottom), (left, top)], fill, INK, 3)
        pen.rectangle((left, bottom - 18, left + 18, bottom), outline=INK, width=2)
        label(pen, ((left + right) / 2, bottom + 24), str(a))
        label(pen, (left - 24, (top + bottom) / 2), str(b))
        label(pen, ((left + right) / 2 + 20, (top + bottom) / 2 - 20), "x", size=26)
        return image

    return Problem({"legs": [a, b]}, draw, (root(a * a + b * b),))


def _cut_rectangle(sides: tuple[int, int, int, int], fill: str, unit: str) -> Image.Image:
    """A rectangle of `width` by `height` without its upper right corner of `cut` by `deep`, all four labelled."""
    width, height, cut, deep = sides
    scale, (image, pen) = min(360 / width, 280 / height), _canvas()
    left, top = 280 - width * scale / 2, 210 - height * scale / 2
    right, bottom = left + width * scale, top + height * scale
    x, y = right - cut * scale, top + deep * scale
    pen.polygon([(left, top), (x, top), (x, y), (right, y), (right, bottom), (left, bottom)], fill, INK, 3)
    pen.line((x, top, right, top, right, y), "#9aa0a6", 2)
    label(pen, ((left + right) / 2, bottom + 24), f"{width}{unit}")
    label(pen, (left - 14 - font(22).getlength(f"{height}{unit}") / 2, (top + bottom) / 2), f"{height}{unit}")
    label(pen, ((x + right) / 2, top - 20), f"{cut}{unit}")
    label(pen, (right + 14 + font(22).getlength(f"{deep}{unit}") / 2, (top + y) / 2), f"{deep}{unit}")
    return image


def _cut_sides(rng: random.Random) -> tuple[int, int, int, int]:
    width, height = rng.randint(6, 12), rng.randint(5, 9)
    return width, height, rng.randint(2, width - 2), rng.randint(2, height - 2)


def polygon_area(rng: random.Random) -> Problem:
    """The area of a rectangle without one corner."""
    sides, fill = _cut_sides(rng), rng.choice(FILLS)
    width, height, cut, deep = sides
    return Problem({"sides": list(sides)}, lambda: _cut_rectangle(sides, fill, ""), (str(width * height - cut * deep),))


def third_angle(rng: random.Random) -> Problem:
    """The third angle of a triangle, drawn true."""
    a, b = rng.randint(35, 75), rng.randint(35, 75)
    fill = rng.choice(FILLS)

    def draw() -> Image.Image:
        image, pen = _canvas()
        slope_a, slope_b = math.tan(math.radians(a)), math.tan(math.radians(b))
        base = min(400.0, 290 * (slope_a + slope_b) / (slope_a * slope_b))
        foot = base * slope_b / (slope_a + slope_b)
        left, bottom = 280 - base / 2, 370
        corners = [(left, bottom), (left + base, bottom), (left + foot, bottom - foot * slope_a)]
        pen.polygon(corners, fill, INK, 3)
        middle = tuple(sum(side) / 3 for side in zip(*corners, strict=True))
        for corner, text in zip(corners, (f"{a}\u00b0", f"{b}\u00b0", "x"), strict=True):
            label(pen, tuple(c + 0.3 * (m - c) for c, m in zip(corner, middle, strict=True)), text, halo=fill)
        return image

    return Problem({"angles": [a, b]}, draw, (str(180 - a - b),))


def grid_paths(rng: random.Random) -> Problem:
    """Shortest ways along the lines of a grid that avoid one crossing."""
    columns, rows = rng.randint(2, 4), rng.randint(2, 4)
    ends = ((0, 0), (columns, rows))
    closed = rng.choice([(x, y) for x in range(columns + 1) for y in range(rows + 1) if (x, y) not in ends])
    ways = {(0, 0): 1}
    for x in range(columns + 1):
        for y in range(rows + 1):
            if (x, y) != (0, 0):
                ways[x, y] = 0 if (x, y) == closed else ways.get((x - 1, y), 0) + ways.get((x, y - 1), 0)

    def draw() -> Image.Image:
        image, pen = _canvas()
        at = lambda x, y: (280 + 78 * (x - columns / 2), 210 - 78 * (y - rows / 2))  # noqa: E731
        for x in range(columns + 1):
            pen.line([at(x, 0), at(x, rows)], INK, 3)
        for y in range(rows + 1):
            pen.line([at(0, y), at(columns, y)], INK, 3)
        (left, bottom), (right, top), (x, y) = at(0, 0), at(columns, rows), at(*closed)
        label(pen, (left - 18, bottom + 18), "A", size=26)
        label(pen, (right + 18, top - 18), "B", size=26)
        pen.ellipse((x - 17, y - 17, x + 17, y + 17), "white", "#c0392b", 3)
        pen.line((x - 9, y - 9, x + 9, y + 9), "#c0392b", 4)
        pen.line((x - 9, y + 9, x + 9, y - 9), "#c0392b", 4)
        return image

    return Problem({"size": [columns, rows], "closed": list(closed)}, draw, (str(ways[columns, rows]),))


def dot_pattern(rng: random.Random) -> Problem:
    """The tenth of a row of growing figures: each has one column of dots more than the one before."""
    tall, extra = rng.randint(2, 6), rng.randint(0, 6)

    def draw() -> Image.Image:
        image, pen = _canvas(620, 260)
        for number, left in ((1, 60), (2, 220), (3, 420)):
            for column in range(number):
                for row in range(tall):
                    x, y = left + 26 * column, 180 - 26 * row
                    pen.ellipse((x - 8, y - 8, x + 8, y + 8), "#2563c9")
            for row in range(extra):
                x, y = left + 26 * number, 180 - 26 * row
                pen.ellipse((x - 8, y - 8, x + 8, y + 8), "#2563c9")
            label(pen, (left + 30, 225), f"figure {number}")
        return image

    return Problem({"tall": tall, "extra": extra}, draw, (str(10 * tall + extra),))


def midpoint(rng: random.Random) -> Problem:
    """The middle of two lattice points."""
    while True:
        a, b = ((rng.randint(0, 10), rng.randint(0, 8)) for _ in range(2))
        if (a[0] + b[0]) % 2 == (a[1] + b[1]) % 2 == 0 and abs(a[0] - b[0]) + abs(a[1] - b[1]) >= 4:
            break

    def draw() -> Image.Image:
        image, pen = _canvas()
        at = lambda x, y: (60 + 44 * x, 380 - 42 * y)  # noqa: E731
        for x in range(11):
            pen.line([at(x, 0), at(x, 8)], "#c9ced6", 1)
            pen.text((at(x, 0)[0], 386), str(x), INK, font(16), anchor="mt")
        for y in range(9):
            pen.line([at(0, y), at(10, y)], "#c9ced6", 1)
            pen.text((50, at(0, y)[1]), str(y), INK, font(16), anchor="rm")
        pen.line([at(0, 8), at(0, 0), at(10, 0)], INK, 2)
        pen.line([at(*a), at(*b)], "#2563c9", 3)
        for name, point in (("A", a), ("B", b)):
            x, y = at(*point)
            pen.ellipse((x - 6, y - 6, x + 6, y + 6), INK)
            label(pen, (x + 18, y - 16), name)
        return image

    return Problem({"points": [list(a), list(b)]}, draw, (f"({(a[0] + b[0]) // 2},{(a[1] + b[1]) // 2})",))


STOPS: dict[str, Place] = {
    "A": (60, 210),
    "C": (190, 90),
    "D": (190, 330),
    "E": (370, 90),
    "F": (370, 330),
    "B": (500, 210),
}
ROADS = ("AC", "AD", "CD", "CE", "DF", "EF", "EB", "FB")


def shortest_way(rng: random.Random) -> Problem:
    """The length of the shortest way through a small net of roads."""
    lengths = {road: rng.randint(2, 12) for road in ROADS}
    best, queue = {}, [(0, "A")]
    while queue:
        length, stop = heapq.heappop(queue)
        if stop not in best:
            best[stop] = length
            for road, more in lengths.items():
                if stop in road:
                    heapq.heappush(queue, (length + more, road.replace(stop, "")))

    def draw() -> Image.Image:
        image, pen = _canvas()
        for road, length in lengths.items():
            (x1, y1), (x2, y2) = (STOPS[stop] for stop in road)
            pen.line((x1, y1, x2, y2), "#7a828c", 5)
            label(pen, ((x1 + x2) / 2, (y1 + y2) / 2), str(length), size=24)
        for stop, (x, y) in STOPS.items():
            pen.ellipse((x - 20, y - 20, x + 20, y + 20), "#f6dfc0", INK, 2)
            pen.text((x, y), stop, INK, font(22), anchor="mm")
        return image

    return Problem({"lengths": lengths}, draw, (str(best["B"]),))


# Maker, subject, level and text; the text is the same for all problems of a maker.
MATHVISION: tuple[tuple[Callable[[random.Random], Problem], str, int, str], ...] = (
    (bars_difference, "statistics", 1, "By how much do the numbers for Mon and Thu differ?"),
    (bars_mean, "statistics", 3, "What is the mean of the four numbers shown?"),
    (right_triangle, "metric geometry - length", 2, "The triangle has a right angle. How long is the side x?"),
    (polygon_area, "metric geometry - area", 3, "All angles are right angles. What is the area of the colored figure?"),
    (third_angle, "metric geometry - angle", 1, "How many degrees is the angle x?"),
    (grid_paths, "combinatorics", 5, "How many shortest ways lead from A to B if the marked crossing is closed?"),
    (dot_pattern, "algebra", 2, "The figures go on in the same way. How many dots does figure 10 have?"),
    (midpoint, "analytic geometry", 3, "What are the coordinates of the midpoint of A and B? Answer as (x,y)."),
    (shortest_way, "graph theory", 4, "The numbers are lengths of roads. How long is the shortest way from A to B?"),
)  # fmt: skip


def mathvision(rng: random.Random, kind: int) -> Question:
    """The problem of a line of MATHVISION.

    Kept: subjects, levels, numbers and LaTeX or five options. Not kept: that every problem is a new idea. Some kinds
    have few problems (35 patterns of dots), so two splits can share a figure.
    """
    make, subject, level, text = MATHVISION[kind]
    problem = make(rng)
    options = _alternatives(rng, make, problem, 0, 5)
    truth = {"given": problem.given, "level": level, "shown": rng.random() < 0.5}
    return Question(subject, text, options, problem.answers[0], lambda: [problem.draw()], truth)


def mathvision_row(question: Question) -> dict[str, Any]:
    """The question with the columns of `MathLLMs/MathVision`: five options, or none."""
    (image,) = question.draw()
    shown = question.truth["shown"]
    return {
        "question": f"{question.text}\n<image1>",
        "options": list(question.options) if shown else [],
        "decoded_image": png(image),
        "answer": chr(ord("A") + question.place) if shown else question.answer,
        "level": question.truth["level"],
        "subject": question.kind,
    }


# --- We-Math -------------------------------------------------------------------------------------------


def fence(rng: random.Random) -> Problem:
    """A garden's border, what ten metres of fence cost, and what the whole fence costs."""
    width, height, price = rng.randint(4, 12), rng.randint(3, 9), rng.randint(3, 9)
    fill = rng.choice(FILLS)

    def draw() -> Image.Image:
        image, pen = _canvas()
        scale = min(340 / width, 240 / height)
        x, y = width * scale / 2, height * scale / 2
        pen.rectangle((280 - x, 190 - y, 280 + x, 190 + y), fill, INK, 4)
        label(pen, (280, 190 + y + 22), f"{width} m")
        label(pen, (280 - x - 40, 190), f"{height} m")
        label(pen, (280, 390), f"Fence: {price} euros per metre")
        return image

    border = 2 * (width + height)
    answers = f"{border} m", f"{10 * price} euros", f"{price * border} euros"
    return Problem({"sides": [width, height], "price": price}, draw, answers)


def cut_out(rng: random.Random) -> Problem:
    """The whole rectangle, the piece that was cut out, and what is left."""
    sides, fill = _cut_sides(rng), rng.choice(FILLS)
    whole, piece = sides[0] * sides[1], sides[2] * sides[3]
    answers = tuple(f"{area} cm\u00b2" for area in (whole, piece, whole - piece))
    return Problem({"sides": list(sides)}, lambda: _cut_rectangle(sides, fill, " cm"), answers)


def _journey(rng: random.Random, legs: int) -> Problem:
    hours, speeds = ([rng.randint(low, high) for _ in range(legs)] for low, high in ((1, 8), (2, 9)))
    stops = [(70 + 420 * k / legs, 210 + rng.randint(-70, 70)) for k in range(legs + 1)]

    def draw() -> Image.Image:
        image, pen = _canvas()
        for start, end, hour, speed in zip(stops, stops[1:], hours, speeds, strict=False):
            pen.line([start, end], "#7a828c", 5)
            x, y = (start[0] + end[0]) / 2, (start[1] + end[1]) / 2
            label(pen, (x, y - 46), f"{hour * speed} km", size=20)
            label(pen, (x, y + 46), f"{speed} km/h", size=20)
        for stop, (x, y) in zip("ABCD", stops, strict=False):
            pen.ellipse((x - 18, y - 18, x + 18, y + 18), "#f6dfc0", INK, 2)
            pen.text((x, y), stop, INK, font(20), anchor="mm")
        return image

    answers = tuple(f"{hour} h" for hour in (*hours, sum(hours)))
    return Problem({"hours": hours, "speeds": speeds}, draw, answers)


def two_legs(rng: random.Random) -> Problem:
    """A journey of two legs, each at its speed, and the whole time."""
    return _journey(rng, 2)


def three_legs(rng: random.Random) -> Problem:
    """A journey of three legs, each at its speed, and the whole time."""
    return _journey(rng, 3)


def tiles(rng: random.Random) -> Problem:
    """A floor, the corner of it that stays bare, what ten square metres of tiles cost, and what the tiles cost."""
    sides, price, fill = _cut_sides(rng), rng.randint(2, 9), rng.choice(FILLS)
    whole, bare = sides[0] * sides[1], sides[2] * sides[3]

    def draw() -> Image.Image:
        image = _cut_rectangle(sides, fill, " m")
        label(ImageDraw.Draw(image), (280, 400), f"Tiles: {price} euros per square metre")
        return image

    answers = f"{whole} m\u00b2", f"{bare} m\u00b2", f"{10 * price} euros", f"{price * (whole - bare)} euros"
    return Problem({"sides": list(sides), "price": price}, draw, answers)


# Maker, what its steps take one to know, and the texts of the steps and of the problem.
TWO_STEPS: tuple[tuple[Callable[[random.Random], Problem], tuple[str, str], tuple[str, str, str]], ...] = (
    (fence, ("Perimeter of rectangles", "Unit price"), (
        "The figure shows a garden. How long is its border?",
        "What do 10 metres of the fence cost?",
        "What does a fence around the whole garden cost?",
    )),
    (cut_out, ("Area of rectangles", "Area of rectangles"), (
        "What is the area of the rectangle, the missing corner included?",
        "What is the area of the missing corner alone?",
        "What is the area of the colored figure?",
    )),
    (two_legs, ("Time from distance and speed", "Time from distance and speed"), (
        "How long does it take from A to B?",
        "How long does it take from B to C?",
        "How long does the whole journey from A to C take?",
    )),
)  # fmt: skip
THREE_STEPS: tuple[tuple[Callable[[random.Random], Problem], tuple[str, str, str], tuple[str, str, str, str]], ...] = (
    (three_legs, ("Time from distance and speed",) * 3, (
        "How long does it take from A to B?",
        "How long does it take from B to C?",
        "How long does it take from C to D?",
        "How long does the whole journey from A to D take?",
    )),
    (tiles, ("Area of rectangles", "Area of rectangles", "Unit price"), (
        "What is the area of the rectangle, the missing corner included?",
        "What is the area of the missing corner alone?",
        "What do tiles for 10 square metres cost?",
        "Only the colored figure is tiled. What do the tiles cost?",
    )),
)  # fmt: skip
WEMATH_ROWS = 7  # of one problem of two steps and one of three
NONE_RIGHT = "No correct answer"


def wemath_key(row: int) -> tuple[int, int, str]:
    """Of one of the seven rows: how many steps its problem has, which of its questions it is (from 0), and its key."""
    steps, which = (2, row) if row < 3 else (3, row - 3)
    return steps, which, f"{steps}steps_{which + 1 if which < steps else 'multi'}"


def wemath(rng: random.Random, row: int) -> Question:
    """One of the seven questions (0 … 6) of a problem of two steps and one of three: `rng` decides which problems.

    Kept: steps that together make the problem, one figure for all its rows, what each step takes one to know, four
    options and "No correct answer", which here, unlike there in 1 of 1,740 rows, is never right. Here there are as many
    problems of three steps as of two (there 165 and 360), and a step never quotes another one's result.
    """
    two, three = rng.choice(TWO_STEPS), rng.choice(THREE_STEPS)
    problems = two[0](rng), three[0](rng)
    steps, which, key = wemath_key(row)
    (make, concepts, texts), problem = (two, three)[steps - 2], problems[steps - 2]
    own = random.Random(rng.getrandbits(64) * WEMATH_ROWS + row)  # else the right letter is one for all rows
    options = _alternatives(own, make, problem, which, 4)
    truth = {"given": problem.given, "concepts": list(concepts)}
    return Question(key, texts[which], options, problem.answers[which], lambda: [problem.draw()], truth)


def wemath_row(question: Question, number: int) -> dict[str, Any]:
    """The question with the columns of `We-Math/We-Math`; the rows of one problem share its ID.

    A problem itself takes one to know what its steps do.
    """
    problem = 2 * (number // WEMATH_ROWS) + (number % WEMATH_ROWS >= 3)
    (image,) = question.draw()
    texts = [*question.options, NONE_RIGHT]
    step, concepts = question.kind.split("_")[1], question.truth["concepts"]
    return {
        "ID": problem,
        "key": question.kind,
        "question number": number,
        "knowledge concept": "; ".join(dict.fromkeys(concepts)) if step == "multi" else concepts[int(step) - 1],
        "question": question.text,
        "option": "; ".join(f"{chr(ord('A') + place)}. {text}" for place, text in enumerate(texts)),
        "answer": chr(ord("A") + question.place),
        "image_path": png(image),
    }
