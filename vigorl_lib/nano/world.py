"""Procedural scenes with full ground truth, drawn with Pillow at 672 px.

The world isolates one mechanism on purpose: names repeat (only a point says which red circle is
meant), questions need several visual steps, and surface patterns are too fine for the model's small
view (a zoom is needed). All coordinates here are pixels of the `original` frame, 672 x 672, unless a
name says `view`.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import random
from collections.abc import Sequence
from typing import Literal

import numpy as np
from PIL import Image, ImageDraw

SIDE = 672  # original frame, pixels
VIEW_SIDE = 96  # what the nano model sees: one view pixel is 7 original pixels
CROP_OFFSET = 84  # half a crop's window in original pixels: 168 px shown at 96 px, four times finer than the view
SCALE = SIDE // VIEW_SIDE

# No channel above 168: the brightest crest of a pattern then stays below 255, and a patterned thing is on
# average exactly as bright as a plain one, so that the view cannot tell them apart.
COLOURS = {
    "red": (168, 45, 45),
    "green": (45, 135, 55),
    "blue": (45, 70, 168),
    "yellow": (168, 148, 40),
    "purple": (130, 55, 150),
}
SHAPES = ("circle", "square", "triangle", "cross")
NAMES = tuple(f"{colour} {shape}" for colour in COLOURS for shape in SHAPES)
PATTERNS = ("plain", "striped", "barred", "checked")
DIRECTIONS = {"right": (1, 0), "left": (-1, 0), "below": (0, 1), "above": (0, -1)}
OPPOSITE = {"right": "left", "left": "right", "below": "above", "above": "below"}

Ground = Literal["plain", "screen"]
CELLS = 4  # things sit on a jittered 4 x 4 grid, so that none hides another
JITTER = 24
RADII = (36, 58)
RADIUS_LIMITS = (SCALE, SIDE // CELLS // 2 - JITTER - 1)  # two periods of a pattern across; what a cell holds
# A period of exactly SCALE pixels is what the view's resampling filter removes completely.
PATTERN_PERIOD = SCALE
PATTERN_STRENGTH = 0.3
SHADING = 0.05  # random brightness and gradient of each thing: hides what little the filter leaves of a pattern


@dataclasses.dataclass(frozen=True)
class Thing:
    """One object: its centre and radius (half its box's side), in original pixels."""

    colour: str
    shape: str
    pattern: str
    x: int
    y: int
    radius: int

    @property
    def name(self) -> str:
        return f"{self.colour} {self.shape}"

    @property
    def box(self) -> tuple[int, int, int, int]:
        """(left, top, right, bottom) in original pixels, inclusive."""
        return self.x - self.radius, self.y - self.radius, self.x + self.radius, self.y + self.radius

    def contains(self, x: float, y: float) -> bool:
        left, top, right, bottom = self.box
        return left <= x <= right and top <= y <= bottom


@dataclasses.dataclass(frozen=True)
class Scene:
    """The things of one picture, the seed of its background and pattern phases, and what they lie on.

    The `ground` is "plain", or a "screen": bars and cards in greys, on which the things are icons.
    """

    seed: int
    things: tuple[Thing, ...]
    ground: Ground = "plain"


def make_scene(
    rng: random.Random, *, names: Sequence[str], ground: Ground = "plain", radii: tuple[int, int] = RADII
) -> Scene:
    """Place one thing per entry of `names` (repeats allowed) on the jittered grid; `radii` in original pixels."""
    if not 1 <= len(names) <= CELLS**2:
        raise ValueError(f"a scene holds 1 to {CELLS**2} things, not {len(names)}")
    if not RADIUS_LIMITS[0] <= radii[0] <= radii[1] <= RADIUS_LIMITS[1]:
        raise ValueError(f"radii {radii}: in a scene they go from {RADIUS_LIMITS[0]} up to {RADIUS_LIMITS[1]} pixels")
    cell = SIDE // CELLS
    things = []
    for name, place in zip(names, rng.sample(range(CELLS**2), len(names)), strict=True):
        colour, shape = name.split()
        row, column = divmod(place, CELLS)
        things.append(
            Thing(
                colour=colour,
                shape=shape,
                pattern=rng.choice(PATTERNS),
                x=column * cell + cell // 2 + rng.randint(-JITTER, JITTER),
                y=row * cell + cell // 2 + rng.randint(-JITTER, JITTER),
                radius=rng.randint(*radii),
            )
        )
    return Scene(rng.getrandbits(32), tuple(things), ground)


def draw(scene: Scene) -> Image.Image:
    """The scene as a 672 x 672 RGB image. The same scene always gives the same pixels."""
    rng = np.random.default_rng(scene.seed)
    shade = rng.integers(222, 244, size=3)
    canvas = np.empty((SIDE, SIDE, 3), np.uint8)
    canvas[:] = shade
    if scene.ground == "screen":
        canvas = _screen(tuple(map(int, shade)), random.Random(scene.seed))
    for thing in scene.things:
        left, top, right, bottom = thing.box
        mask = _mask(thing.shape, thing.radius)
        phase = rng.uniform(0, 2 * math.pi, size=2).astype(np.float32)
        light, slope_x, slope_y = rng.uniform(-SHADING / 2, SHADING / 2, size=3).astype(np.float32)
        ramp = np.linspace(-1, 1, right - left + 1, dtype=np.float32)
        surface = 1 + PATTERN_STRENGTH * _pattern(thing.pattern, right - left + 1, phase)
        surface = surface * (1 + light + (slope_x * ramp)[None, :] / 2 + (slope_y * ramp)[:, None] / 2)
        paint = (surface[..., None] * np.array(COLOURS[thing.colour], np.float32) + 0.5).astype(np.uint8)
        region = canvas[top : bottom + 1, left : right + 1]
        np.copyto(region, paint, where=mask[..., None])
    return Image.fromarray(canvas)


def _screen(shade: tuple[int, int, int], rng: random.Random) -> np.ndarray:
    """An empty screen, 672 x 672 RGB: a title bar, and a card with a line of text on most cells of the grid."""
    image = Image.new("RGB", (SIDE, SIDE), shade)
    pen, cell = ImageDraw.Draw(image), SIDE // CELLS
    tint = lambda value: tuple(min(channel * value // 240, 255) for channel in shade)  # noqa: E731
    for place in range(CELLS**2):
        row, column = divmod(place, CELLS)
        left, top = column * cell + 5, row * cell + 5
        if rng.random() < 0.8:
            pen.rounded_rectangle((left, top, left + cell - 10, top + cell - 10), 14, tint(255), tint(190), 2)
        if rng.random() < 0.6:
            end = left + rng.randint(cell // 3, cell - 30)
            pen.rectangle((left + 14, top + cell - 24, end, top + cell - 17), tint(170))
    bar = rng.choice((18, 24))
    pen.rectangle((0, 0, SIDE, bar), tint(rng.randint(150, 200)))
    for button in range(3):
        x = SIDE - 20 * (button + 1)
        pen.ellipse((x, bar // 2 - 5, x + 10, bar // 2 + 5), tint(120))
    return np.array(image)


@functools.cache
def _mask(shape: str, radius: int) -> np.ndarray:
    side = 2 * radius + 1
    image = Image.new("1", (side, side))
    pen = ImageDraw.Draw(image)
    if shape == "circle":
        pen.ellipse((0, 0, side - 1, side - 1), fill=1)
    elif shape == "square":
        pen.rectangle((0, 0, side - 1, side - 1), fill=1)
    elif shape == "triangle":
        pen.polygon([(radius, 0), (side - 1, side - 1), (0, side - 1)], fill=1)
    elif shape == "cross":
        third = side // 3
        pen.rectangle((third, 0, side - 1 - third, side - 1), fill=1)
        pen.rectangle((0, third, side - 1, side - 1 - third), fill=1)
    else:
        raise ValueError(f"unknown shape {shape!r}; known: {', '.join(SHAPES)}")
    return np.array(image)


def _pattern(pattern: str, side: int, phase: Sequence[float]) -> np.ndarray:
    wave = 2 * math.pi * np.arange(side, dtype=np.float32) / PATTERN_PERIOD
    down, across = np.sin(wave + phase[0])[:, None], np.sin(wave + phase[1])[None, :]
    if pattern == "plain":
        return np.zeros((side, side), np.float32)
    if pattern == "striped":
        return np.broadcast_to(down, (side, side))
    if pattern == "barred":
        return np.broadcast_to(across, (side, side))
    if pattern == "checked":
        return math.sqrt(2) * down * across
    raise ValueError(f"unknown pattern {pattern!r}; known: {', '.join(PATTERNS)}")


def next_thing(scene: Scene, x: float, y: float, direction: str) -> int | None:
    """Index of the nearest thing in `direction` from a point (original pixels); -1 where there is none.

    A thing lies in a direction if it is off the axis by at most half of its distance along it. None
    means that two readings are possible (a near tie, or something close to the diagonal): such a step
    is never asked.
    """
    along_x, along_y = DIRECTIONS[direction]
    clear, unclear = [], []
    for index, thing in enumerate(scene.things):
        dx, dy = thing.x - x, thing.y - y
        if thing.contains(x, y):
            continue
        along, off = dx * along_x + dy * along_y, abs(dx * along_y) + abs(dy * along_x)
        if along <= 0 or off >= 1.2 * along:
            continue
        (clear if off <= 0.5 * along else unclear).append((math.hypot(dx, dy), index))
    if not clear:
        return None if unclear else -1
    clear.sort()
    rivals = [distance for distance, _ in clear[1:2]] + [distance for distance, _ in unclear]
    return clear[0][1] if all(distance > 1.2 * clear[0][0] for distance in rivals) else None


def thing_at(scene: Scene, x: float, y: float) -> Thing | None:
    """The thing whose box holds the point (original pixels), if any; boxes never overlap."""
    return next((thing for thing in scene.things if thing.contains(x, y)), None)


def to_view(x: float, y: float) -> tuple[int, int]:
    """Original pixels to the nano model's view pixels (0 … 95)."""
    return min(int(x / SCALE), VIEW_SIDE - 1), min(int(y / SCALE), VIEW_SIDE - 1)


def width(radius: int) -> int:
    """How wide a thing of this radius (original pixels) is: from 0 to the last number that a place can have."""
    return round((VIEW_SIDE - 1) * (radius - RADII[0]) / (RADII[1] - RADII[0]))
