"""An example's picture in its two frames, the original and what a model is shown, and looks closer at it.

Whoever writes the text brings its own sizes: `policy.LocalPolicy` and `served.ServedPolicy` make the views.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

from PIL import Image

from vigorl_lib import grounding, images, traces
from vigorl_lib.records import Example

Points = Literal["resized", "relative"]


@dataclasses.dataclass(frozen=True)
class Zoom:
    """How a look closer works; the default window and size are the nano world's.

    offset   half the window's side, in original pixels (released V* runs: 182)
    size     side of the crop as the model sees it, in pixels (released V* runs: 672)
    looks    most crops in one conversation (released: 4); the last one says that the answer is due
    """

    offset: int = 84
    size: int = 96
    looks: int = 2


def pixels_of_all(limits: Mapping[str, int], zoom: Zoom) -> int:
    """Pixels of a square picture that costs, in visual tokens, no less than a view and all looks together.

    As `max_pixels` it is the budget of several turns spent in one. `limits` as in `fit_size`.
    """
    pixels = limits["max_pixels"] + zoom.looks * zoom.size**2
    side = math.ceil(math.sqrt(pixels) / limits["factor"]) * limits["factor"]
    return side**2


@dataclasses.dataclass(frozen=True)
class View:
    """An example's picture in its two frames: the original, and the image that the model is shown.

    `points` says in which frame the model writes: pixels of that image ("resized"), or "relative", 0 to 1000.
    """

    original: Image.Image
    image: Image.Image
    points: Points = "resized"

    @functools.cached_property
    def original_frame(self) -> grounding.Frame:
        return grounding.Frame.original(*self.original.size)

    @functools.cached_property
    def frame(self) -> grounding.Frame:
        if self.points == "relative":
            return grounding.Frame.relative(self.original_frame)
        return grounding.Frame.resized(self.original_frame, *self.image.size)

    def window(self, coordinate: tuple[int, int], zoom: Zoom) -> tuple[int, int, int, int]:
        """The crop's window (left, top, right, bottom) in original pixels around a point of the model's frame."""
        sides = self.frame.width, self.frame.height
        x, y = (min(max(value, 0), side - 1) for value, side in zip(coordinate, sides, strict=True))
        point = grounding.Point(x, y, self.frame)
        return grounding.crop_window(point, offset=zoom.offset, original=self.original_frame, border="shift")

    def crop(self, coordinate: tuple[int, int], zoom: Zoom) -> Image.Image:
        """The crop around a point of the model's frame, cut from the original (paper §4.3.1)."""
        return images.cut_crop(self.original, self.window(coordinate, zoom), (zoom.size, zoom.size))

    def looks(self, turns: Sequence[str], zoom: Zoom) -> tuple[list[tuple[int, int, int, int]], list[Image.Image]]:
        """The windows and crops that a reply's turns were shown; what its last turn asks for never came."""
        calls = traces.parse_trace(turns[:-1], zoom=True).calls
        return [self.window(call, zoom) for call in calls], [self.crop(call, zoom) for call in calls]


def view_of(example: Example, limits: Mapping[str, int], points: Points = "resized") -> View:
    """An example's picture within the size limits of `images.fit_size`. Raises what `images.open_image` raises."""
    original = images.picture_of(example)
    return View(original, images.fit_image(original, **limits), points)


def frame_of(example: Example, limits: Mapping[str, int], points: Points = "resized") -> grounding.Frame | None:
    """The frame of an example's view, from its size alone; None where the example asks for no place."""
    if example.size is None:
        return None
    original = grounding.Frame.original(*example.size)
    if points == "relative":
        return grounding.Frame.relative(original)
    return grounding.Frame.resized(original, *images.fit_size(*example.size, **limits))


class Views(Sequence[View]):
    """The views of many examples, made when asked for; the last ones are kept, as all originals may not fit."""

    def __init__(self, view_of: Callable[[Example], View], examples: Sequence[Example], *, kept: int = 64) -> None:
        self._count = len(examples)
        self._view = functools.lru_cache(maxsize=kept)(lambda index: view_of(examples[index]))

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> View:
        if not 0 <= index < self._count:
            raise IndexError(index)
        return self._view(index)
