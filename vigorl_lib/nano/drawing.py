"""What drawn twins share: a question whose pictures are drawn when needed, shapes, arrows, marks, text, PNG bytes.

All places are pixels of the picture that is drawn on.
"""

from __future__ import annotations

import base64
import dataclasses
import functools
import io
import math
from collections.abc import Callable
from typing import Any

from PIL import Image, ImageDraw, ImageFont

Pen = ImageDraw.ImageDraw
Place = tuple[float, float]
Box = tuple[float, float, float, float]  # left, top, right, bottom

INK = "#1d2126"
MARK = "#e0004d"
PLACES = ("boxes", "free", "drawn", "points", "ref", "starts")  # what in a ground truth is in pixels of the pictures


@dataclasses.dataclass(frozen=True)
class Question:
    """A question and its ground truth.

    kind     what the benchmark calls such questions
    text     without options
    options  what the answer was drawn from, all equally likely; a benchmark may show them or not
    answer   one of the options
    draw     makes the pictures, which takes most of an item's time; the same ones each time
    truth    ground truth as JSON values
    """

    kind: str
    text: str
    options: tuple[str, ...]
    answer: str
    draw: Callable[[], list[Image.Image]]
    truth: dict[str, Any]

    @property
    def place(self) -> int:
        """Where the answer stands among the options; 0 is the first."""
        return self.options.index(self.answer)

    def scaled(self, resolution: float) -> Question:
        """The same with so many times as many pixels along each side, in the pictures and the truth's places."""
        places = {name: _times(self.truth[name], resolution) for name in PLACES if name in self.truth}
        draw = lambda: [resized(image, resolution) for image in self.draw()]  # noqa: E731
        return dataclasses.replace(self, draw=draw, truth=self.truth | places)


def _times(places: Any, factor: float) -> Any:
    if isinstance(places, dict):
        return {name: _times(place, factor) for name, place in places.items()}
    return [_times(place, factor) for place in places] if isinstance(places, list) else round(places * factor)


def resized(image: Image.Image, resolution: float) -> Image.Image:
    """The picture with so many times as many pixels along each side."""
    width, height = (round(side * resolution) for side in image.size)
    return image.resize((width, height), Image.Resampling.BICUBIC)


def png(image: Image.Image) -> bytes:
    """The picture as an encoded file."""
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", compress_level=1)  # the default takes twice the time
    return buffer.getvalue()


def png_url(image: Image.Image) -> str:
    """The same as an address that holds it, as servers take pictures."""
    return f"data:image/png;base64,{base64.b64encode(png(image)).decode()}"


@functools.lru_cache(maxsize=64)
def font(size: int) -> ImageFont.FreeTypeFont:
    """The typeface that comes with Pillow."""
    return ImageFont.load_default(size)


def label(pen: Pen, at: Place, text: str, *, size: int = 22, ink: str = INK, halo: str = "white") -> None:
    """A line of text with its middle at `at` and a thin halo, legible on any ground."""
    pen.text(at, text, fill=ink, font=font(size), anchor="mm", stroke_width=3, stroke_fill=halo)


def mark(image: Image.Image, at: Place, name: str) -> None:
    """A small circle around a point, and its name beside it, inside the picture."""
    pen, (x, y) = ImageDraw.Draw(image), at
    for radius, width, ink in ((12, 7, "white"), (10, 3, MARK)):
        pen.ellipse((x - radius, y - radius, x + radius, y + radius), outline=ink, width=width)
    half = pen.textlength(name, font=font(26)) / 2 + 4
    label(pen, (min(max(x, half), image.width - half), y - 30 if y > 60 else y + 30), name, size=26, ink=MARK)


def shape(pen: Pen, name: str, at: Place, radius: float, fill: Any, outline: str = INK) -> None:
    """One of the nano world's shapes in one colour, with an outline two pixels wide."""
    x, y = at
    box = (x - radius, y - radius, x + radius, y + radius)
    if name == "circle":
        pen.ellipse(box, fill, outline, 2)
    elif name == "square":
        pen.rectangle(box, fill, outline, 2)
    elif name == "triangle":
        pen.polygon([(x, y - radius), (x + radius, y + radius), (x - radius, y + radius)], fill, outline, 2)
    elif name == "cross":
        arm = radius / 3
        corners = [(arm, radius), (arm, arm), (radius, arm)]  # of one quarter
        quarters = [corners, [(a, -b) for a, b in corners[::-1]]]
        quarters += [[(-a, -b) for a, b in part] for part in quarters]
        pen.polygon([(x + a, y + b) for part in quarters for a, b in part], fill, outline, 2)
    else:
        raise ValueError(f"unknown shape {name!r}; known: circle, square, triangle, cross")


def arrow(pen: Pen, start: Place, end: Place, ink: str = INK, width: int = 3) -> None:
    """A straight arrow whose tip is at `end`."""
    angle = math.atan2(end[1] - start[1], end[0] - start[0])
    head = 5 * width
    back = (end[0] - head * math.cos(angle), end[1] - head * math.sin(angle))
    pen.line([start, back], ink, width)
    sides = [
        (end[0] - 1.2 * head * math.cos(angle + a), end[1] - 1.2 * head * math.sin(angle + a)) for a in (0.4, -0.4)
    ]
    pen.polygon([end, *sides], ink)


def border_point(box: Box, towards: Place, gap: float = 4) -> Place:
    """Where the line from a box's centre to a place outside leaves the box, which is taken `gap` pixels larger."""
    left, top, right, bottom = box
    x, y = (left + right) / 2, (top + bottom) / 2
    dx, dy = towards[0] - x, towards[1] - y
    share = min(
        ((right - left) / 2 + gap) / abs(dx) if dx else math.inf,
        ((bottom - top) / 2 + gap) / abs(dy) if dy else math.inf,
    )
    return x + share * dx, y + share * dy


def turned(at: Place, centre: Place, degrees: float) -> Place:
    """A place turned clockwise (as seen, y grows downwards) about a centre."""
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    dx, dy = at[0] - centre[0], at[1] - centre[1]
    return centre[0] + cos * dx - sin * dy, centre[1] + sin * dx + cos * dy
