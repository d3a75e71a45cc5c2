"""Steps of a web agent: a drawn page with numbered elements, an objective, and the one action that is right.

Stand-ins for the steps of VisualWebArena. What the objective asks for may be in sight, or further down, or on another
page; the text does not say which, so each of three actions is as likely before one looks. All boxes are pixels of the
screenshot.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

from PIL import Image, ImageDraw

from vigorl_lib import prompts
from vigorl_lib.nano import gui
from vigorl_lib.nano.drawing import Question, font, png

Place = tuple[float, float, float, float]

WIDTH, HEIGHT = 1280, 900  # of the screenshot
MARGIN, BAR = 20, 14  # left of the page, for numbers; right of it, the scroll bar
SORTS = ("click", "type", "look")
COLOURS = (
    "#1f77b4", "#ff7f0e", "#2ca02c", "#d62728", "#9467bd", "#8c564b", "#e377c2", "#7f7f7f", "#bcbd22", "#17becf",
)  # fmt: skip
# How an instruction of `gui` begins, and what there must be of each sort.
BEGINNINGS = {"type": "fill in ", "look": "open the entry "}


def draw_marks(image: Image.Image, boxes: Sequence[Place], colours: Sequence[str] = COLOURS) -> None:
    """A coloured frame around every box and its number, from 1, at a corner: the first that covers no other number.

    A box is left, top, right, bottom in pixels of the image; the latter two are not part of it.
    """
    pen, face = ImageDraw.Draw(image), font(16)
    inks = [colours[place % len(colours)] for place in range(len(boxes))]
    for (left, top, right, bottom), ink in zip(boxes, inks, strict=True):
        pen.rectangle((left - 2, top - 2, right + 1, bottom + 1), outline=ink, width=2)
    taken: list[Place] = []
    for number, ((left, top, right, bottom), ink) in enumerate(zip(boxes, inks, strict=True), start=1):
        width, height = pen.textlength(str(number), font=face) + 6, 18
        corners = [(left - width, top - height), (left, top - height), (right - width, top - height), (right, top),
                   (left, bottom), (right - width, bottom), (left - width, top)]  # fmt: skip
        places = [(x, y, x + width, y + height) for x, y in corners]
        inside = [place for place in places if _within(place, image.size)] or [(left, top, left + width, top + height)]
        place = next((place for place in inside if not any(_overlap(place, other) for other in taken)), inside[0])
        taken.append(place)
        pen.rectangle(place, fill=ink)
        pen.text((place[0] + 3, place[1] - 1), str(number), fill="white", font=face)


def _within(place: Place, size: tuple[int, int]) -> bool:
    return place[0] >= 0 and place[1] >= 0 and place[2] <= size[0] and place[3] <= size[1]


def _overlap(one: Place, other: Place) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


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

    truth = {
        "boxes": [list(box) for box in boxes],
        "action": answer,
        "page": page,
        "shown": [control.instruction for control in seen],
        "hidden": [control.instruction for control in screen.controls if control not in seen],
    }
    return Question(sort, objective, tuple(options), answer, draw, truth)


def visualwebarena_row(rng: random.Random, question: Question, number: int) -> dict[str, Any]:
    """The question as a row of the released step files."""
    before = ["click  [A] [] [Home]"] if rng.random() < 0.5 else []
    text = f"<image>{prompts.web_step(question.text, before)}"
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
