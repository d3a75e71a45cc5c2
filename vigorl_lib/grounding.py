"""Points, boxes and the frames they live in.

A *frame* is a pixel grid laid over a window of the original image. Four kinds exist: `original`; `resized`
(what the model sees); `crop k` (the k-th zoom); `relative` (0 to 1000 on both sides, Qwen3-VL).

One convention: coordinates are continuous and measured from the left (top) edge, so `x` in a frame of width
`w` whose window starts at `left` lies at `left + x * window_width / w` original pixels; an integer `x` is the
left edge of pixel `x`. No half-pixel offsets anywhere: this is how the models are trained and how the
released code rescales. All arithmetic is exact (`Fraction`); only `rounded`, `crop_window` and `distance`
leave it.
"""

from __future__ import annotations

import dataclasses
import math
from fractions import Fraction
from typing import Literal

Number = int | Fraction


@dataclasses.dataclass(frozen=True)
class Frame:
    """A grid of `width` x `height` pixels over `window` = (left, top, right, bottom), in original pixels."""

    name: str
    width: int
    height: int
    window: tuple[Fraction, Fraction, Fraction, Fraction]

    def __post_init__(self) -> None:
        left, top, right, bottom = self.window
        if self.width < 1 or self.height < 1 or right <= left or bottom <= top:
            raise ValueError(
                f"frame {self.name!r} is empty: {self.width} x {self.height} pixels over the window "
                f"({left}, {top}, {right}, {bottom}); every side must be positive"
            )

    def holds(self, x: Number, y: Number) -> bool:
        """Whether a place is one of its pixels."""
        return 0 <= x < self.width and 0 <= y < self.height

    @classmethod
    def original(cls, width: int, height: int) -> Frame:
        """The frame of the image file, after its EXIF orientation is applied."""
        return cls("original", width, height, (Fraction(0), Fraction(0), Fraction(width), Fraction(height)))

    @classmethod
    def resized(cls, original: Frame, width: int, height: int) -> Frame:
        """The whole original at the size that the model sees (`images.fit_size`)."""
        return cls("resized", width, height, original.window)

    @classmethod
    def relative(cls, original: Frame) -> Frame:
        """The whole original, both sides counted from 0 to 1000."""
        return cls("relative", 1000, 1000, original.window)

    @classmethod
    def crop(
        cls, k: int, original: Frame, window: tuple[Number, Number, Number, Number], width: int, height: int
    ) -> Frame:
        """The k-th crop: `window` in original pixels, shown at `width` x `height`.

        Raises ValueError where the window leaves the original.
        """
        left, top, right, bottom = (Fraction(side) for side in window)
        if left < 0 or top < 0 or right > original.width or bottom > original.height:
            raise ValueError(
                f"crop {k}: the window {tuple(window)} leaves the original of {original.width} x "
                f"{original.height} pixels; take it from crop_window"
            )
        return cls(f"crop {k}", width, height, (left, top, right, bottom))


@dataclasses.dataclass(frozen=True)
class Point:
    """A position in pixels of `frame`; it may lie outside of it."""

    x: Fraction
    y: Fraction
    frame: Frame

    def __post_init__(self) -> None:
        object.__setattr__(self, "x", Fraction(self.x))
        object.__setattr__(self, "y", Fraction(self.y))

    def to(self, frame: Frame) -> Point:
        """The same position in another frame of the same image, exactly."""
        if frame == self.frame:
            return self
        left, top, right, bottom = self.frame.window
        new_left, new_top, new_right, new_bottom = frame.window
        x = left + self.x * (right - left) / self.frame.width
        y = top + self.y * (bottom - top) / self.frame.height
        return Point(
            (x - new_left) * frame.width / (new_right - new_left),
            (y - new_top) * frame.height / (new_bottom - new_top),
            frame,
        )

    def rounded(self) -> tuple[int, int]:
        """The nearest integers (halves go up), clamped to the frame's pixels 0 … width-1 and 0 … height-1.

        At most half a pixel away from a point between the frame's first and last pixel.
        """
        return (
            min(max(_nearest(self.x), 0), self.frame.width - 1),
            min(max(_nearest(self.y), 0), self.frame.height - 1),
        )


@dataclasses.dataclass(frozen=True)
class Box:
    """A rectangle in pixels of `frame`; `left <= right` and `top <= bottom`, else ValueError."""

    left: Number
    top: Number
    right: Number
    bottom: Number
    frame: Frame

    def __post_init__(self) -> None:
        if self.left > self.right or self.top > self.bottom:
            raise ValueError(
                f"box ({self.left}, {self.top}, {self.right}, {self.bottom}) is inside out; "
                "give left, top, right, bottom (not width and height)"
            )

    def to(self, frame: Frame) -> Box:
        """The same rectangle in another frame of the same image, exactly."""
        start = Point(self.left, self.top, self.frame).to(frame)
        stop = Point(self.right, self.bottom, self.frame).to(frame)
        return Box(start.x, start.y, stop.x, stop.y, frame)

    def contains(self, point: Point) -> bool:
        """Whether the point, from any frame of the image, lies inside or on the border.

        All four sides count, as in the released judge (`point_in_bbox`).
        """
        point = point.to(self.frame)
        return self.left <= point.x <= self.right and self.top <= point.y <= self.bottom

    def center(self) -> Point:
        return Point(Fraction(self.left + self.right) / 2, Fraction(self.top + self.bottom) / 2, self.frame)


def crop_window(
    point: Point, *, offset: int, original: Frame, border: Literal["shift", "clip"]
) -> tuple[int, int, int, int]:
    """The window (left, top, right, bottom), in whole original pixels, to cut around a point.

    Wanted is a square of side `2 * offset` centred on the point. `border` says what happens at an edge:

    * `"shift"`: the square is moved inside (and made smaller only where the image is), so that its aspect
      ratio and scale are kept; a point outside the image counts as the nearest pixel.
    * `"clip"`: what lies outside is cut off, as in `_get_point_crop` of the released code, whose resize to a
      square then stretches the rest; at least one pixel remains. A point outside the image gives a sliver.
      (Far outside, the released code shows one black pixel, this function the nearest pixels.)
    """
    if offset < 1:
        raise ValueError(f"offset must be at least 1 original pixel, got {offset}")
    point = point.to(original)
    width, height = original.width, original.height
    if border == "shift":
        x, y = point.rounded()
        side = min(2 * offset, width, height)
        left = min(max(x - side // 2, 0), width - side)
        top = min(max(y - side // 2, 0), height - side)
        return left, top, left + side, top + side
    if border == "clip":
        x, y = _nearest(point.x), _nearest(point.y)
        left, top = min(max(x - offset, 0), width - 1), min(max(y - offset, 0), height - 1)
        return left, top, max(min(x + offset, width), left + 1), max(min(y + offset, height), top + 1)
    raise ValueError(f"border must be 'shift' or 'clip', got {border!r}")


def distance(a: Point, b: Point) -> float:
    """The Euclidean distance of two points of one image, in pixels of `a`'s frame."""
    b = b.to(a.frame)
    return math.hypot(a.x - b.x, a.y - b.y)


def _nearest(value: Fraction) -> int:
    return math.floor(value + Fraction(1, 2))
