"""Pictures of what the sites sell and show, drawn when asked for: one thing in one colour before a plain wall."""

from __future__ import annotations

import functools
import random
from collections.abc import Callable

from PIL import Image, ImageDraw

from vigorl_lib.nano.drawing import INK, Pen, png

SIZE = (320, 240)
SCALE = 2  # drawn so many times larger, then shrunk: smooth edges
PAINT = {
    "red": "#d23b3b", "blue": "#2f6fd0", "green": "#3f9a4a", "yellow": "#f0c533", "purple": "#7d4bb8",
    "orange": "#ee8427", "pink": "#ef86b4", "grey": "#8a9097",
}  # fmt: skip
WALLS = ("#f4efe6", "#e9eff4", "#eef3ea", "#f4ecef", "#efeef6")
FLOORS = ("#c9a77c", "#b9bec4", "#a98f78", "#9fb09a")
WOOD, STEEL = "#8b5e34", "#4b5259"


@functools.lru_cache(maxsize=512)
def picture(kind: str, colour: str, number: int) -> bytes:
    """A PNG of 320 x 240 pixels; `number` varies the wall and the place. Raises KeyError for what nobody can draw."""
    rng = random.Random(f"{kind} {number}")
    width, height = (side * SCALE for side in SIZE)
    image = Image.new("RGB", (width, height), rng.choice(WALLS))
    pen = ImageDraw.Draw(image)
    floor = height * 0.74
    pen.rectangle((0, floor, width, height), fill=rng.choice(FLOORS))
    x, ground = width / 2 + rng.randint(-70, 70), height * 0.86
    unit = height * rng.uniform(0.062, 0.078)
    pen.ellipse((x - 4 * unit, ground - 0.4 * unit, x + 4 * unit, ground + 0.4 * unit), fill="#7d7469")
    THINGS[kind](_Brush(pen, x, ground, unit), PAINT[colour])
    return png(image.resize(SIZE, Image.Resampling.LANCZOS).quantize(64))


class _Brush:
    """Draws in units of the thing: x to the right of its middle, y upwards from the ground."""

    def __init__(self, pen: Pen, x: float, y: float, unit: float) -> None:
        self.pen, self.x, self.y, self.unit = pen, x, y, unit

    def at(self, *places: float) -> list[float]:
        """x, y, x, y … as pixels of the picture."""
        return [
            self.x + place * self.unit if k % 2 == 0 else self.y - place * self.unit for k, place in enumerate(places)
        ]

    def box(self, left: float, top: float, right: float, bottom: float, paint: str, corner: float = 0.3) -> None:
        self.pen.rounded_rectangle(self.at(left, top, right, bottom), corner * self.unit, paint, INK, 4)

    def oval(self, left: float, top: float, right: float, bottom: float, paint: str | None, width: int = 4) -> None:
        self.pen.ellipse(self.at(left, top, right, bottom), paint, INK if paint else STEEL, width)

    def area(self, paint: str, *places: float) -> None:
        self.pen.polygon(self.at(*places), paint, INK, 4)

    def line(self, paint: str, width: int, *places: float) -> None:
        self.pen.line(self.at(*places), paint, width, joint="curve")


def _lamp(brush: _Brush, paint: str) -> None:
    brush.box(-1.6, 0.7, 1.6, 0, STEEL)
    brush.line(STEEL, 16, 0, 0.5, 0, 6)
    brush.area(paint, -1.4, 9, 1.4, 9, 2.8, 5.4, -2.8, 5.4)


def _chair(brush: _Brush, paint: str) -> None:
    for x in (-2, 2):
        brush.line(WOOD, 18, x, 0, x, 4)
    brush.box(-2.3, 9, -1.6, 3.6, WOOD)
    brush.box(-2.2, 8.8, 1.2, 5.6, paint)
    brush.box(-2.5, 4.4, 2.6, 3.5, paint)


def _mug(brush: _Brush, paint: str) -> None:
    brush.oval(1.2, 4.6, 4.2, 1.2, None, 22)
    brush.box(-2.6, 5.6, 2.4, 0, paint, 0.8)
    brush.oval(-2.6, 6.2, 2.4, 5, "#5b3a24")


def _vase(brush: _Brush, paint: str) -> None:
    for x, y in ((-1.6, 8.6), (0, 9.4), (1.6, 8.4)):
        brush.line("#3c7a3f", 8, 0, 5, x, y)
        brush.oval(x - 0.6, y + 0.6, x + 0.6, y - 0.6, "#fff3c9")
    brush.oval(-2.2, 4.6, 2.2, 0, paint)
    brush.area(paint, -1, 6, 1, 6, 0.8, 4, -0.8, 4)


def _clock(brush: _Brush, paint: str) -> None:
    brush.oval(-3.6, 8.4, 3.6, 1.2, paint)
    brush.oval(-2.9, 7.7, 2.9, 1.9, "white")
    brush.line(INK, 12, 0, 4.8, 0, 7)
    brush.line(INK, 12, 0, 4.8, 1.7, 4)
    brush.line(STEEL, 16, -2.2, 1.9, -3, 0)
    brush.line(STEEL, 16, 2.2, 1.9, 3, 0)


def _bicycle(brush: _Brush, paint: str) -> None:
    for x in (-3.4, 3.4):
        brush.pen.ellipse(brush.at(x - 2, 4, x + 2, 0), None, INK, 12)
    brush.line(paint, 16, -3.4, 2, -1.4, 5, 2.4, 5, 3.4, 2)
    brush.line(paint, 16, -1.4, 5, -0.2, 1.8, 2.4, 5)
    brush.line(paint, 16, -3.4, 2, -0.2, 1.8)
    brush.line(STEEL, 12, 2.4, 5, 2, 6.4, 3.4, 6.6)
    brush.line(STEEL, 12, -1.4, 5, -1.7, 6)
    brush.box(-2.6, 6.5, -0.8, 5.9, INK)


def _tent(brush: _Brush, paint: str) -> None:
    brush.area(paint, -5, 0, 0, 7, 5, 0)
    brush.area("#2b2620", -1.4, 0, 0, 4.6, 1.4, 0)
    brush.line(WOOD, 12, 0, 7, 0, 8)


def _umbrella(brush: _Brush, paint: str) -> None:
    brush.line(WOOD, 14, 0, 8, 0, 1, 0.5, 0.4, 1.1, 0.8)
    brush.pen.pieslice(brush.at(-4.4, 9.4, 4.4, 0.6), 180, 360, paint, INK, 4)
    for x in (-1.5, 1.5):
        brush.line(INK, 4, 0, 9.2, x, 5)


def _backpack(brush: _Brush, paint: str) -> None:
    brush.oval(-1, 8.8, 1, 7, None, 14)
    brush.box(-3, 8, 3, 0, paint, 1.6)
    brush.box(-2.1, 3.8, 2.1, 0.7, paint, 0.6)
    brush.line(INK, 6, -2.1, 5.2, 2.1, 5.2)
    brush.box(-0.5, 5.5, 0.5, 4.6, "#e8e2d2")


def _guitar(brush: _Brush, paint: str) -> None:
    brush.line(WOOD, 26, 0, 4, 0, 10)
    brush.box(-0.7, 11, 0.7, 9.6, WOOD)
    brush.oval(-2.5, 4.4, 2.5, 0, paint)
    brush.oval(-1.9, 6.4, 1.9, 3, paint)
    brush.oval(-0.9, 4.4, 0.9, 2.6, INK)
    brush.line("#e8e2d2", 4, 0, 1.2, 0, 10.4)


def _kite(brush: _Brush, paint: str) -> None:
    brush.line(INK, 5, 0, 2.6, 0.8, 1.6, -0.6, 0.8, 0.4, 0)
    brush.area(paint, 0, 10, 3, 6.8, 0, 2.6, -3, 6.8)
    brush.line("white", 6, 0, 9.6, 0, 3)
    brush.line("white", 6, -2.6, 6.8, 2.6, 6.8)


def _ball(brush: _Brush, paint: str) -> None:
    brush.oval(-3, 6, 3, 0, paint)
    brush.pen.arc(brush.at(-5.4, 6, 0.6, 0), 310, 50, "white", 10)
    brush.pen.arc(brush.at(-0.6, 6, 5.4, 0), 130, 230, "white", 10)


THINGS: dict[str, Callable[[_Brush, str], None]] = {
    "lamp": _lamp, "chair": _chair, "mug": _mug, "vase": _vase, "clock": _clock, "bicycle": _bicycle, "tent": _tent,
    "umbrella": _umbrella, "backpack": _backpack, "guitar": _guitar, "kite": _kite, "ball": _ball,
}  # fmt: skip
