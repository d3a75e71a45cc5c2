"""Steps of a web agent: a drawn page with numbered elements, an objective, and the one action that is right.

Stand-ins for the steps of VisualWebArena. What the objective asks for may be in sight, or further down, or on another
page; the text does not say which, so each of three actions is as likely before one looks. All boxes are pixels of the
screenshot.
"""

from __future__ import annotations

import random
from typing import Any

from PIL import Image, ImageDraw

from vigorl_lib.nano import gui
from vigorl_lib.nano.drawing import Question, font, png

WIDTH, HEIGHT = 1280, 900  # of the screenshot
MARGIN, BAR = 20, 14  # left of the page, for numbers; right of it, the scroll bar
SORTS = ("click", "type", "look")
COLOURS = (
    "#1f77b4", "#ff7f0e", "#2ca02c", "#d62728", "#9467bd", "#8c564b", "#e377c2", "#7f7f7f", "#bcbd22", "#17becf",
)  # fmt: skip
# How an instruction of `gui` begins, and what there must be of each sort.
BEGINNINGS = {"type": "fill in ", "look": "open the entry "}


def draw_marks(image: Image.Image, boxes: list[gui.Box]) -> None:
    """A coloured frame around every box, and its number, from 1, at its left."""
    pen, face = ImageDraw.Draw(image), font(16)
    for number, (left, top, right, bottom) in enumerate(boxes, start=1):
        colour = COLOURS[(number - 1) % len(COLOURS)]
        pen.rectangle((left - 3, top - 3, right + 3, bottom + 3), outline=colour, width=2)
        width = pen.textlength(str(number), font=face) + 6
        x, y = max(left - width - 3, 0), top - 3
        pen.rectangle((x, y, x + width, y + 18), fill=colour)
        pen.text((x + 3, y - 1), str(number), fill="white", font=face)


def step(rng: random.Random, number: int) -> Question:
    """The step number so and so: the sorts take turns, and so do the three actions that each may want."""
    sort, turn = SORTS[number % 3], number // 3 % 3
    while True:
        height = HEIGHT if sort == "look" else rng.randint(HEIGHT + 500, 2 * HEIGHT)
        screen = gui.draw_screen(rng, (WIDTH - MARGIN - BAR, height), windows=1, line=rng.randint(22, 30), framed=False)
        seen = [control for control in screen.controls if control.box[3] < HEIGHT]
        below = [control for control in screen.controls if control.box[1] >= HEIGHT]
        found = _wanted(sort, below if sort != "look" and turn == 1 else seen, screen)
        if found and seen:
            break
    wanted = rng.choice(found)
    what, _, page = wanted.instruction.rpartition(" in ")
    asked_page = rng.choice([name for name in gui.NAMES if name != page]) if turn == 2 else page
    sentence = what[0].upper() + what[1:]
    shown = seen.index(wanted) if wanted in seen else rng.randrange(len(seen))
    if sort == "look":
        missing = [name for name in gui.NAMES if name not in (page, *map(_entry, screen.controls))]
        entry = _entry(wanted) if turn == 0 else rng.choice(missing)
        objective, options = f"Is there an entry {entry} in {asked_page}?", ["stop [yes]", "stop [no]", "go_back"]
    elif sort == "type":
        value = rng.choice(gui.PRODUCTS).lower()
        objective = f'{sentence} in {asked_page} with "{value}".'
        options = [f"type [{shown + 1}] [{value}]", "scroll [down]", "go_back"]
    else:
        objective = f"{sentence} in {asked_page}."
        options = [f"click [{shown + 1}]", "scroll [down]", "go_back"]
    answer = options[turn]
    rng.shuffle(options)
    boxes = [(left + MARGIN, top, right + MARGIN, bottom) for left, top, right, bottom in (c.box for c in seen)]

    def draw() -> list[Image.Image]:
        return [_screenshot(screen.image, boxes)]

    truth = {"boxes": [list(box) for box in boxes], "action": answer, "page": page}
    return Question(sort, f"OBJECTIVE: {objective}", tuple(options), answer, draw, truth)


def visualwebarena_row(rng: random.Random, question: Question, number: int) -> dict[str, Any]:
    """The question as a row of the released step files."""
    before = "1. click  [A] [] [Home]" if rng.random() < 0.5 else ""
    text = f"<image>{question.text}\n\nPREVIOUS ACTIONS: \n{before}\n\nIMAGE:\n"
    (picture,) = question.draw()
    talk = [{"from": "human", "value": text}, {"from": "gpt", "value": question.answer}]
    return {"id": f"page-{number}", "image": png(picture), "conversations": talk}


def _wanted(sort: str, controls: list[gui.Control], screen: gui.Screen) -> list[gui.Control]:
    """Those of the sort that no other instruction of the page is the same as."""
    said = [control.instruction for control in screen.controls]
    beginning = BEGINNINGS.get(sort, "")
    return [
        control
        for control in controls
        if control.instruction.startswith(beginning)
        and said.count(control.instruction) == 1
        and (sort != "click" or not control.instruction.startswith(BEGINNINGS["type"]))
    ]


def _entry(control: gui.Control) -> str:
    """The name of a list's entry; "" of anything else."""
    instruction = control.instruction
    return instruction.split()[3] if instruction.startswith(BEGINNINGS["look"]) else ""


def _screenshot(page: Image.Image, boxes: list[gui.Box]) -> Image.Image:
    """The page's upper part with a scroll bar that says how much there is, and the marks."""
    image = Image.new("RGB", (WIDTH, HEIGHT), "#d7dade")
    image.paste(page, (MARGIN, 0))
    length = HEIGHT * HEIGHT // page.height
    ImageDraw.Draw(image).rectangle((WIDTH - BAR + 2, 2, WIDTH - 3, length - 3), fill="#6b7078")
    draw_marks(image, boxes)
    return image
