"""School diagrams in the form of AI2D: food webs, cycles and labelled parts, with names or with letters for them.

The creatures and stages are made up and stand anywhere, so that no knowledge and no word of a question helps: the
arrows and lines must be followed. AI2D's own diagrams show real things, and knowing them helps much. All places are
pixels of the drawn page.
"""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable, Sequence
from typing import Any

from PIL import Image, ImageDraw

from vigorl_lib.nano.drawing import INK, Box, Pen, Place, Question, arrow, border_point, font, label, png, shape, turned
from vigorl_lib.nano.world import COLOURS, NAMES

AI2D = ("web", "cycle", "parts")
NANO = ("web", "cycle")
WORDS = (
    "balu dorin esk fenna gorp hilda ivo jask kelto lumo mirra nubb orlo pask quill rando sorex tavek ulmo vesk wompa "
    "xeno yarrow zilk"
).split()
LETTERS = "ABCDEFGHIJ"
PAGE = (800, 600)
PAPERS = ("#ffffff", "#fbf8ef", "#eef4f8")
FILLS = ("#dcebd5", "#f6e3c5", "#d9e6f5", "#efdcec")
TEXT = 24  # pixels, the height of a name
THING = 42  # pixels, half the side of a thing that stands for itself


def _names(rng: random.Random, count: int, pool: Sequence[str]) -> list[str]:
    """So many different names; of `LETTERS`, where labels are masked, the first ones in any order."""
    return rng.sample(pool[:count] if pool is LETTERS else pool, count)


def _node(at: Place, name: str) -> Box:
    half, high = (THING, THING) if name in NAMES else (max(font(TEXT).getlength(name) / 2 + 14, 26), 22)
    return at[0] - half, at[1] - high, at[0] + half, at[1] + high


def _middle(box: Box) -> Place:
    return (box[0] + box[2]) / 2, (box[1] + box[3]) / 2


def _page(paper: str, title: str) -> tuple[Image.Image, Pen]:
    image = Image.new("RGB", PAGE, paper)
    pen = ImageDraw.Draw(image)
    label(pen, (PAGE[0] / 2, 28), title, halo=paper)
    return image, pen


def _draw_nodes(pen: Pen, boxes: Sequence[Box], names: Sequence[str], fill: str) -> None:
    for box, name in zip(boxes, names, strict=True):
        if name in NAMES:
            colour, form = name.split()
            shape(pen, form, _middle(box), THING - 2, COLOURS[colour])
            continue
        pen.rounded_rectangle(box, 10, fill, INK, 2)
        label(pen, _middle(box), name, size=TEXT, halo=fill)


def _draw_arrows(pen: Pen, boxes: Sequence[Box], arrows: Sequence[tuple[int, int]]) -> None:
    for start, end in arrows:
        from_, to = _middle(boxes[start]), _middle(boxes[end])
        arrow(pen, border_point(boxes[start], to), border_point(boxes[end], from_))


def _truth(boxes: Sequence[Box], names: Sequence[str], **more: Any) -> dict[str, Any]:
    return {"boxes": [[round(side) for side in box] for box in boxes], "names": list(names), **more}


def _asked(rng: random.Random, names: Sequence[str], right: int, wrong: Sequence[int]) -> tuple[tuple[str, ...], str]:
    """Four options in any order, and the right one."""
    chosen = [names[right], *(names[index] for index in rng.sample(wrong, 3))]
    return tuple(rng.sample(chosen, 4)), names[right]


def food_web(rng: random.Random, pool: Sequence[str]) -> Question:
    """Who eats whom? Three rows of creatures; an arrow goes from the eaten to the eater in the row above."""
    rows = [rng.randint(2, 3), rng.randint(2, 3), rng.randint(2, 3)]  # from the bottom
    names, boxes = _names(rng, sum(rows), pool), []
    for row, count in enumerate(rows):
        width = PAGE[0] / count
        for column in range(count):
            x = width * (column + 0.5) + rng.uniform(-0.1, 0.1) * width
            boxes.append(_node((x, 520 - 200 * row + rng.uniform(-8, 8)), names[len(boxes)]))
    starts = [0, rows[0], rows[0] + rows[1], len(names)]
    level = [range(a, b) for a, b in zip(starts, starts[1:], strict=False)]
    arrows = []
    for below, above in zip(level, level[1:], strict=False):
        found = {(prey, eater) for eater in above for prey in rng.sample(below, rng.randint(1, len(below) - 1))}
        found |= {(prey, rng.choice(above)) for prey in below if prey not in {eaten for eaten, _ in found}}
        arrows += sorted(found)
    down = rng.random() < 0.5  # ask for the eaten
    asked = rng.choice(sorted({eater if down else prey for prey, eater in arrows}))
    right = {prey if down else eater for prey, eater in arrows if asked == (eater if down else prey)}
    wrong = [index for index in range(len(names)) if index not in right and index != asked]
    options, answer = _asked(rng, names, rng.choice(sorted(right)), wrong)
    paper, fill = rng.choice(PAPERS), rng.choice(FILLS)

    def draw() -> list[Image.Image]:
        image, pen = _page(paper, "Food web. Arrows go from the eaten to the eater.")
        _draw_arrows(pen, boxes, arrows)
        _draw_nodes(pen, boxes, names, fill)
        return [image]

    text = f"According to the food web, what does {names[asked]} eat?" if down else f"Which one eats {names[asked]}?"
    return Question("web", text, options, answer, draw, _truth(boxes, names, arrows=arrows, asked=asked))


def cycle(rng: random.Random, pool: Sequence[str]) -> Question:
    """What comes next, or what came before? Five to seven stages on a ring, either way round."""
    count = rng.randint(5, 7)
    names = _names(rng, count, pool)
    start, radius = rng.uniform(0, 360), rng.uniform(190, 225)
    ring = [turned((400 + radius, 320), (400, 320), start + 360 * k / count) for k in range(count)]
    boxes = [_node((400 + 1.25 * (x - 400), y), name) for (x, y), name in zip(ring, names, strict=True)]
    way = rng.choice((1, -1))
    arrows = [(k, (k + way) % count) for k in range(count)]
    asked, after = rng.randrange(count), rng.random() < 0.5
    right = (asked + way if after else asked - way) % count
    wrong = [index for index in range(count) if index not in (asked, right)]
    options, answer = _asked(rng, names, right, wrong)
    paper, fill = rng.choice(PAPERS), rng.choice(FILLS)

    def draw() -> list[Image.Image]:
        image, pen = _page(paper, "Life cycle")
        _draw_arrows(pen, boxes, arrows)
        _draw_nodes(pen, boxes, names, fill)
        return [image]

    text = f"In the cycle shown, which stage comes right {'after' if after else 'before'} {names[asked]}?"
    return Question("cycle", text, options, answer, draw, _truth(boxes, names, arrows=arrows, asked=asked))


def parts(rng: random.Random, pool: Sequence[str]) -> Question:
    """Which label belongs to a part? Six parts of one body, each with a line to its label at the margin."""
    names, looks = _names(rng, 6, pool), rng.sample(NAMES, 6)
    centres = [
        (345 + 110 * (k % 2) + rng.uniform(-12, 12), 160 + 155 * (k // 2) + 45 * (k % 2) + rng.uniform(-18, 18))
        for k in range(6)
    ]
    boxes = [
        _node((120 if k % 2 == 0 else 680, min(max(y + rng.uniform(-35, 35), 80), 570)), name)
        for k, ((_, y), name) in enumerate(zip(centres, names, strict=True))
    ]
    target, by_name = rng.randrange(6), rng.random() < 0.5
    wrong = [index for index in range(6) if index != target]
    options, answer = _asked(rng, looks if by_name else names, target, wrong)
    paper, body = rng.choice(PAPERS), rng.choice(FILLS)

    def draw() -> list[Image.Image]:
        image, pen = _page(paper, "The parts of a gadget")
        pen.rounded_rectangle((275, 85, 525, 585), 70, body, INK, 3)
        for look, at in zip(looks, centres, strict=True):
            colour, form = look.split()
            shape(pen, form, at, 38, COLOURS[colour])
        for box, at in zip(boxes, centres, strict=True):
            pen.line([border_point(box, at, gap=0), at], INK, 2)
            pen.ellipse((at[0] - 4, at[1] - 4, at[0] + 4, at[1] + 4), INK)
        _draw_nodes(pen, boxes, names, paper)
        return [image]

    text = (
        f"What does the label {names[target]} point to?" if by_name else f"Which label points to the {looks[target]}?"
    )
    return Question("parts", text, options, answer, draw, _truth(boxes, names, looks=looks, asked=target))


MAKERS: dict[str, Callable[..., Question]] = {"web": food_web, "cycle": cycle, "parts": parts}


def ai2d(rng: random.Random, kind: str) -> Question:
    """A question about a diagram; in two of three, as in the masked AI2D, letters stand for the names.

    The options are then letters themselves, in another order than A to D.
    """
    return MAKERS[kind](rng, LETTERS if rng.random() < 2 / 3 else WORDS)


def nano(rng: random.Random, kind: str) -> Question:
    """A food web or a cycle of the things that the nano base can name, drawn as such: nothing has to be read.

    Asked in the base's words, as its walks are: what an arrow leads to, or what it comes from.
    """
    question = MAKERS[kind](rng, NAMES)
    names, asked = question.truth["names"], question.truth["asked"]
    along = (asked, names.index(question.answer)) in question.truth["arrows"]
    one = f"the {names[asked]}"
    text = f"Start at {one}. What do you reach first?" if along else f"What is directly before {one}?"
    return dataclasses.replace(question, text=text)


def ai2d_row(question: Question) -> dict[str, Any]:
    """The question with the columns of `lmms-lab/ai2d`: the answer is the option's place, as a text."""
    (image,) = question.draw()
    return {
        "question": question.text,
        "options": list(question.options),
        "answer": str(question.place),
        "image": png(image),
    }
