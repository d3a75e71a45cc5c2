"""Screens that look like screens: drawn windows, pages and apps, each control with its box and what a user would ask.

Stand-ins for ScreenSpot, its v2 and its Pro. Places are free (windows are split and inset at random, bars stand on
either side), names and icons are drawn anew for every screen, and a label may occur several times, so that the
instruction alone says nothing about where its target is. All boxes are `original` pixels of the drawn screen.
"""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable
from typing import Any

from PIL import Image, ImageDraw

from vigorl_lib.nano.drawing import Pen, font, png

Box = tuple[int, int, int, int]  # left, top, right, bottom

NAMES = (
    "Orders Invoices Drafts Archive Recipes Budget Travel Photos Notes Meetings Projects Contacts Reports Stock "
    "Garden Kitchen Library Music Weather Games Taxes Letters Sketches Backups Calendar Tickets Reviews Members Alerts"
).split()
PRODUCTS = [
    f"{colour} {thing}"
    for colour in ("Red", "Blue", "Oak", "Silver", "Green")
    for thing in ("lamp", "chair", "mug", "bag", "clock", "scarf", "shelf", "tent")
]
MENUS = "File Edit View Insert Format Tools Window Help Layout Data Go Profile".split()
FIELDS = "Name Email Street City Country Phone Company Title Age Website".split()
BUTTONS = "Apply Cancel Submit Reset Continue Skip Import Export Preview Publish".split()
SOURCES = {
    "ios": (585, 1266),
    "android": (540, 1170),
    "macos": (1280, 800),
    "windows": (1280, 800),
    "gitlab": (1280, 900),
    "shop": (1280, 900),
    "forum": (1280, 900),
    "tool": (1280, 900),
}
APPLICATIONS = {  # of ScreenSpot-Pro, one for each group
    "CAD": "autocad",
    "Creative": "photoshop",
    "Dev": "vscode",
    "OS": "windows_common",
    "Office": "excel",
    "Scientific": "matlab",
}


LINES = (10, 48)  # pixels: what can be read on one side, what fits a phone's screen on the other


@dataclasses.dataclass(frozen=True)
class Control:
    """Something that can be clicked: its box, "text" or "icon", and what a user asks for who means it and no other."""

    box: Box
    type: str
    instruction: str


@dataclasses.dataclass(frozen=True)
class Screen:
    """A drawn screen with all of its controls."""

    image: Image.Image
    controls: tuple[Control, ...]


@dataclasses.dataclass(frozen=True)
class Theme:
    """Colours, and the height of a line in pixels, from which every size follows."""

    back: str
    panel: str
    ink: str
    faint: str
    accent: str
    line: int


# --- icons, drawn in a unit square ---------------------------------------------------------------------

Stroke = list[tuple[float, float]]
ICONS: dict[str, tuple[list[Stroke], list[str]]] = {
    "search": ([[(0.62, 0.62), (0.92, 0.92)]], ["look something up", "find a word"]),
    "add": ([[(0.5, 0.1), (0.5, 0.9)], [(0.1, 0.5), (0.9, 0.5)]], ["add a new entry", "create one more"]),
    "back": ([[(0.9, 0.5), (0.1, 0.5), (0.45, 0.15)], [(0.1, 0.5), (0.45, 0.85)]], ["return", "go one step back"]),
    "forward": ([[(0.1, 0.5), (0.9, 0.5), (0.55, 0.15)], [(0.9, 0.5), (0.55, 0.85)]], ["go forward", "move on"]),
    "home": (
        [[(0.08, 0.5), (0.5, 0.1), (0.92, 0.5)], [(0.2, 0.42), (0.2, 0.9), (0.8, 0.9), (0.8, 0.42)]],
        ["go to the start page", "show the main screen"],
    ),
    "delete": (
        [
            [(0.12, 0.22), (0.88, 0.22)],
            [(0.22, 0.22), (0.3, 0.92), (0.7, 0.92), (0.78, 0.22)],
            [(0.4, 0.1), (0.6, 0.1)],
        ],
        ["throw it away", "remove the selection"],
    ),
    "save": (
        [
            [(0.1, 0.1), (0.75, 0.1), (0.9, 0.25), (0.9, 0.9), (0.1, 0.9), (0.1, 0.1)],
            [(0.28, 0.9), (0.28, 0.55), (0.72, 0.55), (0.72, 0.9)],
            [(0.3, 0.1), (0.3, 0.32), (0.62, 0.32), (0.62, 0.1)],
        ],
        ["save the changes", "keep this version"],
    ),
    "mail": (
        [[(0.06, 0.2), (0.94, 0.2), (0.94, 0.8), (0.06, 0.8), (0.06, 0.2), (0.5, 0.55), (0.94, 0.2)]],
        ["write a message", "open the messages"],
    ),
    "play": ([[(0.22, 0.1), (0.9, 0.5), (0.22, 0.9), (0.22, 0.1)]], ["start the recording", "run it"]),
    "pause": ([[(0.33, 0.12), (0.33, 0.88)], [(0.67, 0.12), (0.67, 0.88)]], ["hold for a moment", "interrupt it"]),
    "download": (
        [[(0.5, 0.08), (0.5, 0.68), (0.24, 0.42)], [(0.5, 0.68), (0.76, 0.42)], [(0.1, 0.92), (0.9, 0.92)]],
        ["fetch the file", "get a local copy"],
    ),
    "menu": (
        [[(0.08, 0.2), (0.92, 0.2)], [(0.08, 0.5), (0.92, 0.5)], [(0.08, 0.8), (0.92, 0.8)]],
        ["show all options", "unfold the list of commands"],
    ),
    "flag": ([[(0.2, 0.95), (0.2, 0.08), (0.85, 0.3), (0.2, 0.52)]], ["mark it for later", "report this"]),
    "chart": (
        [
            [(0.1, 0.08), (0.1, 0.92), (0.94, 0.92)],
            [(0.34, 0.92), (0.34, 0.55)],
            [(0.58, 0.92), (0.58, 0.3)],
            [(0.82, 0.92), (0.82, 0.15)],
        ],
        ["draw a diagram", "show the figures as bars"],
    ),
    "lock": (
        [
            [(0.18, 0.45), (0.82, 0.45), (0.82, 0.92), (0.18, 0.92), (0.18, 0.45)],
            [(0.32, 0.45), (0.32, 0.15), (0.68, 0.15), (0.68, 0.45)],
        ],
        ["protect it", "forbid changes"],
    ),
    "zoom": (
        [[(0.62, 0.62), (0.92, 0.92)], [(0.25, 0.4), (0.55, 0.4)], [(0.4, 0.25), (0.4, 0.55)]],
        ["enlarge the view", "look closer"],
    ),
}
ROUND = {"search": (0.1, 0.1, 0.7, 0.7), "zoom": (0.1, 0.1, 0.7, 0.7)}  # circles that strokes cannot draw
CORNER = {  # of a window: strokes and what is asked, with the window's name
    "close": ([[(0.15, 0.15), (0.85, 0.85)], [(0.15, 0.85), (0.85, 0.15)]], "close the {} window"),
    "minimise": ([[(0.12, 0.8), (0.88, 0.8)]], "put the {} window away for now"),
    "maximise": ([[(0.15, 0.15), (0.85, 0.15), (0.85, 0.85), (0.15, 0.85), (0.15, 0.15)]], "make the {} window larger"),
}


def draw_strokes(pen: Pen, box: Box, strokes: list[Stroke], ink: str, circle: tuple[float, ...] | None = None) -> None:
    """Lines, and a circle, given in a unit square, inside `box`."""
    left, top, right, bottom = box
    width = max(1, round((right - left) / 9))
    place = lambda x, y: (left + x * (right - left), top + y * (bottom - top))  # noqa: E731
    for stroke in strokes:
        pen.line([place(*point) for point in stroke], fill=ink, width=width, joint="curve")
    if circle:
        pen.ellipse([*place(*circle[:2]), *place(*circle[2:])], outline=ink, width=width)


def draw_icon(pen: Pen, box: Box, name: str, ink: str) -> None:
    """One of ICONS or CORNER inside `box`."""
    draw_strokes(pen, box, (ICONS.get(name) or CORNER[name])[0], ink, ROUND.get(name))


def write(pen: Pen, theme: Theme, x: float, y: float, text: str, ink: str = "") -> Box:
    """A line of text with its middle at height `y`; returns its box."""
    face = font(round(theme.line * 0.55))
    pen.text((x, y), text, fill=ink or theme.ink, font=face, anchor="lm")
    left, top, right, bottom = pen.textbbox((x, y), text, font=face, anchor="lm")
    return round(left), round(top), round(right), round(bottom)


# --- widgets: each draws itself and returns its controls ------------------------------------------------


def button(pen: Pen, theme: Theme, x: int, y: int, text: str, instruction: str, *, filled: bool) -> Control:
    """A button with a text, its upper left corner at (x, y)."""
    width = round(pen.textlength(text, font=font(round(theme.line * 0.55)))) + theme.line
    box = x, y, x + width, y + round(theme.line * 1.2)
    pen.rounded_rectangle(box, theme.line // 4, theme.accent if filled else theme.panel, theme.faint)
    write(pen, theme, x + theme.line / 2, y + theme.line * 0.6, text, "white" if filled else theme.ink)
    return Control(box, "text", instruction)


def icon_row(pen: Pen, theme: Theme, rng: random.Random, box: Box, where: str) -> list[Control]:
    """As many different icons as fit, from the left or from the right."""
    left, top, right, bottom = box
    step, from_right = round(theme.line * 1.5), rng.random() < 0.4
    names = rng.sample(list(ICONS), min(rng.randint(3, 9), max((right - left) // step, 0), len(ICONS)))
    found = []
    for place, name in enumerate(names):
        x = right - (place + 1) * step if from_right else left + place * step
        middle, half = (top + bottom) // 2, round(theme.line * 0.4)
        area = x, middle - half, x + 2 * half, middle + half
        draw_icon(pen, area, name, theme.ink)
        found.append(Control(area, "icon", f"{rng.choice(ICONS[name][1])} {where}"))
    return found


def words_row(pen: Pen, theme: Theme, rng: random.Random, box: Box, words: list[str], where: str) -> list[Control]:
    """Different words beside each other, as in a menu bar; those that fit."""
    left, top, right, bottom = box
    x, found = left + rng.randint(0, theme.line * 2), []
    for word in rng.sample(words, rng.randint(3, 6)):
        if x + pen.textlength(word, font=font(round(theme.line * 0.55))) > right:
            break
        area = write(pen, theme, x, (top + bottom) / 2, word)
        found.append(Control(area, "text", f"open {word} {where}"))
        x = area[2] + theme.line
    return found


def text_list(pen: Pen, theme: Theme, rng: random.Random, box: Box, where: str) -> list[Control]:
    """Lines with a name and an icon at the end: the name opens it, the icon removes or flags that one line."""
    left, top, right, bottom = box
    name, verb = rng.choice([("delete", "delete"), ("flag", "flag"), ("download", "fetch"), ("lock", "protect")])
    found, height = [], round(theme.line * 1.5)
    for row, word in enumerate(rng.sample(NAMES, min(rng.randint(3, 8), max((bottom - top) // height, 0)))):
        middle, half = top + row * height + height // 2, round(theme.line * 0.35)
        pen.line((left, middle + height // 2, right, middle + height // 2), theme.faint)
        found.append(Control(write(pen, theme, left + 8, middle, word), "text", f"open the entry {word} {where}"))
        area = right - 4 * half, middle - half, right - 2 * half, middle + half
        draw_icon(pen, area, name, theme.ink)
        found.append(Control(area, "icon", f"{verb} {word} {where}"))
    return found


def form(pen: Pen, theme: Theme, rng: random.Random, box: Box, where: str) -> list[Control]:
    """Labelled fields or boxes to tick, and two buttons."""
    left, top, right, bottom = box
    found, height, y = [], round(theme.line * 1.7), top
    for label in rng.sample(FIELDS, rng.randint(2, 5)):
        if y + 2 * height > bottom:
            break
        middle, indent = y + height // 2, left + round(theme.line * 4.5)
        write(pen, theme, left + 8, middle, label)
        if rng.random() < 0.6:
            area = (
                indent,
                y + theme.line // 4,
                max(right - theme.line, indent + theme.line),
                y + height - theme.line // 4,
            )
            found.append(Control(area, "text", f"fill in {label} {where}"))
        else:
            area = indent, middle - theme.line // 3, indent + 2 * (theme.line // 3), middle + theme.line // 3
            found.append(Control(area, "icon", f"tick {label} {where}"))
        pen.rectangle(area, theme.back, theme.faint)
        y += height
    x = left + 8
    for place, text in enumerate(rng.sample(BUTTONS, 2)):
        if y + height > bottom or x + theme.line * 5 > right:
            break
        found.append(button(pen, theme, x, y, text, f"press {text} {where}", filled=place == 0))
        x = found[-1].box[2] + theme.line // 2
    return found


def cards(pen: Pen, theme: Theme, rng: random.Random, box: Box, where: str) -> list[Control]:
    """Things on offer, each with the same button: only its neighbour says which one it is."""
    left, top, right, bottom = box
    across = max(1, (right - left) // (theme.line * 9))
    width, height, text = (right - left) // across, theme.line * 6, rng.choice(["Buy", "Add to cart", "Reserve"])
    rows = min(max((bottom - top) // height, 0), rng.randint(1, 3))
    places = [(column, row) for row in range(rows) for column in range(across)]
    found = []
    for (column, row), product in zip(places, rng.sample(PRODUCTS, len(PRODUCTS)), strict=False):
        x, y = left + column * width, top + row * height
        pen.rectangle((x + 4, y + 4, x + width - 8, y + height - 8), theme.panel, theme.faint)
        colours = ("#c44", "#48c", "#b84", "#aaa", "#4a6")
        thumb = x + theme.line // 2, y + theme.line // 2, x + theme.line * 3, y + theme.line * 3
        (pen.ellipse if rng.random() < 0.5 else pen.rectangle)(thumb, colours[PRODUCTS.index(product) // 8])
        name = write(pen, theme, x + theme.line // 2, y + theme.line * 3.6, product)
        found.append(Control(name, "text", f"show more about the {product} {where}"))
        asked = f"{text.lower().replace('add to', 'put it in the')}: the {product} {where}"
        found.append(button(pen, theme, x + theme.line // 2, y + round(theme.line * 4.3), text, asked, filled=True))
    return [control for control in found if control.box[2] <= right]


BODIES: tuple[Callable[..., list[Control]], ...] = (text_list, form, cards)


def window(pen: Pen, theme: Theme, rng: random.Random, box: Box, name: str, *, framed: bool) -> list[Control]:
    """A window or page called `name`: a title with its corner icons if it is framed, bars, and one or two bodies."""
    left, top, right, bottom = box
    line, where = theme.line, f"in {name}"
    pen.rectangle(box, theme.back, theme.faint)
    bar, found = (left + 1, top + 1, right - 1, top + round(line * 1.5)), []
    pen.rectangle(bar, theme.panel)
    write(pen, theme, (left + right) / 2 - len(name) * line / 6, (bar[1] + bar[3]) / 2, name)
    if framed:
        at_left, half = rng.random() < 0.5, round(line * 0.35)
        for place, (corner, (_, asked)) in enumerate(CORNER.items()):
            x = left + line // 2 + place * line if at_left else right - line - place * line
            area = x, (bar[1] + bar[3]) // 2 - half, x + 2 * half, (bar[1] + bar[3]) // 2 + half
            draw_icon(pen, area, corner, theme.ink)
            found.append(Control(area, "icon", asked.format(name)))
    rows = [
        lambda area: icon_row(pen, theme, rng, area, where),
        lambda area: words_row(pen, theme, rng, area, MENUS, where),
    ]
    y = bar[3]
    for row in rng.sample(rows, rng.randint(1, 2)):
        area = left + line // 2, y + 4, right - line // 2, y + round(line * 1.6)
        pen.rectangle((left + 1, y + 1, right - 1, area[3]), theme.panel)
        found += row(area)
        y = area[3]
    columns = 2 if right - left > line * 24 and rng.random() < 0.6 else 1
    width = (right - left - line) // columns
    for column in range(columns):
        x, top_of_body = left + line // 2 + column * width, y + line // 2
        for body in rng.sample(BODIES, len(BODIES)):  # below each other, while there is room
            area = x, top_of_body, x + width - line, bottom - line // 2
            drawn = body(pen, theme, rng, area, where)
            found += drawn
            top_of_body = max((control.box[3] for control in drawn), default=top_of_body) + 2 * line
            if bottom - top_of_body < line * 7 or rng.random() < 0.2:
                break
    return found


def split(rng: random.Random, box: Box, parts: int, least: int) -> list[Box]:
    """`box` in so many rectangles without overlap, each inset by chance; fewer where they would get below `least`."""
    left, top, right, bottom = box
    across = right - left >= bottom - top
    if parts > 1 and (right - left if across else bottom - top) >= 2 * least:
        share = rng.uniform(0.4, 0.6)
        if across:
            cut = left + round(share * (right - left))
            halves = (left, top, cut, bottom), (cut, top, right, bottom)
        else:
            cut = top + round(share * (bottom - top))
            halves = (left, top, right, cut), (left, cut, right, bottom)
        first = rng.choice([parts // 2, parts - parts // 2])
        return [*split(rng, halves[0], first, least), *split(rng, halves[1], parts - first, least)]
    inset = lambda length: rng.randint(0, max((length - least) // 8, 0))  # noqa: E731
    width, height = right - left, bottom - top
    return [(left + inset(width), top + inset(height), right - inset(width), bottom - inset(height))]


def theme(rng: random.Random, line: int) -> Theme:
    """Light or dark, with an accent."""
    accent = rng.choice(["#2563c9", "#0a7d4f", "#a33a8e", "#b3541e"])
    if rng.random() < 0.3:
        return Theme("#22252a", "#30343b", "#e6e6e6", "#555b66", accent, line)
    return Theme("#ffffff", "#eef0f3", "#1d2126", "#b9bfc9", accent, line)


def draw_screen(rng: random.Random, size: tuple[int, int], *, windows: int, line: int, framed: bool) -> Screen:
    """A screen of `size` pixels with up to so many windows, or one page; `line`, a line's height, sets all sizes."""
    colours = theme(rng, line)
    image = Image.new("RGB", size, rng.choice(["#3b4a5a", "#5a4a3b", "#44524a", "#5b5b66"]))
    pen, controls = ImageDraw.Draw(image), []
    whole = 0, 0, size[0] - 1, size[1] - 1
    areas = split(rng, whole, windows, line * 14) if framed else [whole]
    for area, name in zip(areas, rng.sample(NAMES, len(areas)), strict=True):
        controls += window(pen, colours, rng, area, name, framed=framed)
    return Screen(image, tuple(controls))


def _asked(rng: random.Random, screen: Screen) -> Control:
    """One of the controls whose instruction no other has; icons and texts are equally likely where there are both."""
    said = [control.instruction for control in screen.controls]
    alone = [control for control in screen.controls if said.count(control.instruction) == 1]
    types = sorted({control.type for control in alone})
    wanted = rng.choice(types)
    return rng.choice([control for control in alone if control.type == wanted])


def _line(rng: random.Random, low: int, high: int) -> int:
    if not LINES[0] <= low <= high <= LINES[1]:
        raise ValueError(f"line is {(low, high)}; a line's height is from {LINES[0]} to {LINES[1]} pixels")
    return rng.randint(low, high)


def _truth(screen: Screen) -> dict[str, Any]:
    """The box of each control, and what it is asked for by."""
    return {
        "boxes": [list(control.box) for control in screen.controls],
        "instructions": [control.instruction for control in screen.controls],
    }


def screenspot(
    rng: random.Random,
    *,
    convention: str,
    windows: int | None = None,
    line: tuple[int, int] | None = None,
    resolution: float = 1.0,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """A row of ScreenSpot ("shares") or ScreenSpot-v2 ("xywh") and its ground truth: all controls.

    So many `windows` on a desktop instead of one to three; a `line` of other height (from, to; pixels), and controls
    with it; a screen `resolution` times as large along each side, with controls of the same pixels: more of them, each
    a smaller share.
    """
    source = rng.choice(list(SOURCES))
    width, height = (round(side * resolution) for side in SOURCES[source])
    desktop = source in ("macos", "windows")
    height_of_line = _line(rng, *(line or ((30, 40) if source in ("ios", "android") else (22, 30))))
    screen = draw_screen(
        rng, (width, height), windows=windows or rng.randint(1, 3), line=height_of_line, framed=desktop
    )
    target = _asked(rng, screen)
    left, top, right, bottom = target.box
    box = {
        "shares": [left / width, top / height, right / width, bottom / height],
        "xywh": [left, top, right - left, bottom - top],
    }[convention]
    row = {
        "image": png(screen.image),
        "bbox": box,
        "instruction": target.instruction,
        "data_type": target.type,
        "data_source": source,
    }
    return row, _truth(screen)


def screenspot_pro(
    rng: random.Random, *, windows: int | None = None, line: tuple[int, int] = (18, 24), resolution: float = 1.0
) -> tuple[dict[str, Any], dict[str, Any]]:
    """A row of ScreenSpot-Pro and its ground truth: a large screen, many windows, small controls; else `screenspot`."""
    group = rng.choice(list(APPLICATIONS))
    size = round(2560 * resolution), round(1440 * resolution)
    windows = windows or rng.randint(4, 6)
    screen = draw_screen(rng, size, windows=windows, line=_line(rng, *line), framed=True)
    target = _asked(rng, screen)
    row = {
        "image": png(screen.image),
        "bbox": list(target.box),
        "img_size": list(size),
        "instruction": target.instruction,
        "application": APPLICATIONS[group],
        "group": group,
        "ui_type": target.type,
    }
    return row, _truth(screen)
