"""From files and bytes to safe RGB images, and the two ways to resize them: fit and crop."""

from __future__ import annotations

import dataclasses
import functools
import io
import math
import threading
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
from PIL import ExifTags, Image, ImageOps

from vigorl_lib.records import Example

# Raster formats that Pillow decodes itself: EPS, for one, would start another program.
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF")
MIN_SIDE = 2
MAX_BYTES = 200_000_000  # of one encoded image: a zip file may promise much and unpack to more
MAX_ASPECT_RATIO = 200


@dataclasses.dataclass(frozen=True)
class ZipMember:
    """An encoded image inside a zip file, read when it is opened."""

    archive: str
    name: str

    def __str__(self) -> str:
        return f"{self.archive}, member {self.name!r}"

    def read(self) -> bytes:
        """Its bytes. Raises FileNotFoundError without the archive or the member, ValueError where one is damaged."""
        try:
            with zipfile.ZipFile(self.archive) as archive:
                info = archive.getinfo(self.name)
                if info.file_size > MAX_BYTES:
                    raise ValueError(f"{self}: {info.file_size:,} bytes, more than {MAX_BYTES:,}; leave it out")
                return archive.read(info)
        except KeyError as error:
            raise FileNotFoundError(f"{self}: not in the archive; download it again") from error
        except (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError) as error:
            raise ValueError(f"{self}: not a whole zip file ({error}); download it again") from error


@dataclasses.dataclass(frozen=True)
class ParquetCell:
    """An encoded image in a parquet file, read when it is opened. Row groups, their rows and places count from 0.

    `place` is that in a list of images. What lies before a row in its group is decompressed to get at it, but for rows
    that are read in their stored order; the page of the file that the last one lies in stays in memory.
    """

    path: str
    group: int
    row: int
    column: str
    place: int = 0

    def __str__(self) -> str:
        return f"{self.path}, row {self.row} of group {self.group}, column {self.column!r}"

    def read(self) -> bytes:
        """Its bytes. Raises FileNotFoundError without the file, ValueError where it is no longer what it was."""
        try:
            with _READING:
                cell = _column(self.path, Path(self.path).stat().st_mtime_ns, self.group, self.column)[self.row]
            cell = cell[self.place] if isinstance(cell, list) else cell
            return cell["bytes"] if isinstance(cell, dict) else cell
        except FileNotFoundError as error:
            raise FileNotFoundError(f"{self}: no such file; download it again") from error
        except (pyarrow.ArrowException, OSError, LookupError) as error:
            raise ValueError(f"{self}: not the file that was loaded ({error!r}); load it again") from error


class _Column:
    """One column of a row group, a row at a time; the place is kept for whoever reads on from it."""

    def __init__(self, path: str, group: int, column: str) -> None:
        self._where = path, group, column
        self._start()

    def _start(self) -> None:
        path, group, column = self._where
        self._rest = open_parquet(path).iter_batches(1, row_groups=[group], columns=[column], use_threads=False)
        self._row = -1

    def __getitem__(self, row: int) -> Any:
        if row < self._row:
            self._start()
        while self._row < row:
            batch = next(self._rest, None)
            if batch is None:
                raise LookupError(f"there are {self._row + 1} rows")
            self._row, self._batch = self._row + 1, batch
        return self._batch.column(0)[0].as_py()


def open_parquet(path: str | Path) -> pyarrow.parquet.ParquetFile:
    """A parquet file to be read piece by piece: by default the whole column of a row group is in memory."""
    return pyarrow.parquet.ParquetFile(path, buffer_size=1 << 16, pre_buffer=False)


@functools.lru_cache(maxsize=4)  # a row of BLINK has images in up to four columns
def _column(path: str, changed: int, group: int, column: str) -> _Column:
    return _Column(path, group, column)


_READING = threading.Lock()
Source = str | Path | bytes | ZipMember | ParquetCell


def open_image(source: Source, *, max_pixels: int = 50_000_000, name: str = "") -> Image.Image:
    """One still image as 8-bit RGB, upright: its pixels are the `original` frame.

    `source` is a path, the encoded file, or where that lies in a zip or parquet file; `name` says in errors which image
    it was (its path, where empty). EXIF orientation is applied, 16-bit grey is scaled to 8 bits, CMYK is converted,
    transparency becomes white. The size is read from the header and checked before any pixel is decoded.

    Raises FileNotFoundError, or ValueError for what is not a raster image, is damaged or truncated, has
    several frames, is larger than `max_pixels` (width times height) or has a side of less than two pixels.
    """
    if isinstance(source, ZipMember | ParquetCell):
        name, source = name or str(source), source.read()
    if isinstance(source, bytes):
        label, file = name or f"image of {len(source)} bytes", io.BytesIO(source)
    else:
        label, file = name or str(source), Path(source)
        if not file.exists():
            raise FileNotFoundError(f"{label}: no such image file ({file}); check the path or fetch the data set again")
        if not file.is_file():
            raise ValueError(f"{label}: {file} is not a file; give the path of an image")
    try:
        image = Image.open(file, formats=FORMATS)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ValueError(f"{label}: {error}; shrink the image before use") from error
    except Exception as error:  # Pillow's plugins raise all kinds on hostile headers
        raise ValueError(f"{label}: not a readable image ({error}); use one of {', '.join(FORMATS)}") from error
    with image:
        width, height = image.size
        if width * height > max_pixels:
            raise ValueError(
                f"{label}: {width} x {height} = {width * height:,} pixels, more than the limit of "
                f"{max_pixels:,}; shrink the image or raise max_pixels"
            )
        if min(width, height) < MIN_SIDE:
            raise ValueError(
                f"{label}: {width} x {height} pixels, but both sides must have at least {MIN_SIDE}; "
                "leave this image out"
            )
        try:
            rgb = None if _has_second_frame(image) else _to_rgb(ImageOps.exif_transpose(image))
        except Exception as error:  # likewise, on hostile pixel data
            raise ValueError(
                f"{label}: damaged or unsupported image ({error}); fetch it again or save it as PNG"
            ) from error
    if rgb is None:
        raise ValueError(f"{label}: has several frames; save the one that is meant as PNG")
    return rgb


def image_size(source: Source, *, name: str = "", upright: bool = True) -> tuple[int, int]:
    """The (width, height) of an image in its `original` frame, without its pixels. Raises as `open_image` does.

    In a PNG file the orientation may stand behind the pixels, which are then decoded: with `upright=False` only the
    header is read, and width and height are as stored.
    """
    if isinstance(source, ZipMember | ParquetCell):
        name, source = name or str(source), source.read()
    label = name or (f"image of {len(source)} bytes" if isinstance(source, bytes) else str(source))
    try:
        with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source, formats=FORMATS) as image:
            turned = upright and image.getexif().get(ExifTags.Base.Orientation) in (5, 6, 7, 8)
            return image.size[::-1] if turned else image.size
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{label}: no such image file; check the path or fetch the data set again") from error
    except Exception as error:  # Pillow's plugins raise all kinds on hostile headers
        raise ValueError(f"{label}: not a readable image ({error}); use one of {', '.join(FORMATS)}") from error


def fit_size(width: int, height: int, *, min_pixels: int, max_pixels: int, factor: int) -> tuple[int, int]:
    """The (width, height) in which the model sees an image of `width` x `height`: the `resized` frame.

    Both sides become multiples of `factor` (patch size times merge size: 28 in Qwen2.5-VL, 32 in Qwen3-VL),
    their product lies within the limits and the aspect ratio is kept as nearly as that allows. Equal to
    transformers' `smart_resize`, rounding included. Fitting a fitted size changes nothing, provided that
    `max_pixels >= 4 * min_pixels` and `min_pixels >= aspect ratio * factor**2`.

    Raises ValueError on an aspect ratio above 200, as transformers does.
    """
    if max(width, height) / min(width, height) > MAX_ASPECT_RATIO:
        raise ValueError(
            f"image of {width} x {height} pixels: one side is more than {MAX_ASPECT_RATIO} times the other, "
            "which the model's processor refuses; crop or pad it"
        )
    new_width, new_height = round(width / factor) * factor, round(height / factor) * factor
    if new_width * new_height > max_pixels:
        shrink = math.sqrt(width * height / max_pixels)
        new_width = max(factor, math.floor(width / shrink / factor) * factor)
        new_height = max(factor, math.floor(height / shrink / factor) * factor)
    elif new_width * new_height < min_pixels:
        grow = math.sqrt(min_pixels / (width * height))
        new_width = math.ceil(width * grow / factor) * factor
        new_height = math.ceil(height * grow / factor) * factor
    return new_width, new_height


def fit_image(image: Image.Image, *, min_pixels: int, max_pixels: int, factor: int) -> Image.Image:
    """The image in the model's `resized` frame (see `fit_size`), bicubic.

    Given this image, the model's processor with the same limits has nothing left to resize, so the points
    the model writes are pixels of exactly this frame (the released code left up to 14 pixels of difference).
    """
    size = fit_size(image.width, image.height, min_pixels=min_pixels, max_pixels=max_pixels, factor=factor)
    return image.resize(size, Image.Resampling.BICUBIC)


def cut_crop(image: Image.Image, window: tuple[int, int, int, int], size: tuple[int, int]) -> Image.Image:
    """The window (left, top, right, bottom), in pixels of the ORIGINAL image, at `size` = (width, height).

    Bicubic; the pixels around the window have no influence.

    Raises ValueError where the window is empty or leaves the image: Pillow would fill in black.
    """
    left, top, right, bottom = window
    if not (0 <= left < right <= image.width and 0 <= top < bottom <= image.height):
        raise ValueError(
            f"window {window} is not inside the image of {image.width} x {image.height} pixels; "
            "take it from grounding.crop_window"
        )
    return image.crop(window).resize(size, Image.Resampling.BICUBIC)


def side_by_side(images: Sequence[Image.Image]) -> Image.Image:
    """Several frames as one image, left to right, touching, top-aligned, each at its own size.

    So a point of the second frame is moved right by the first frame's width, and by nothing else. SAT's
    two frames are merged side by side in one file in the released data, and their heights are equal;
    under a lower image the rest is white.

    Raises ValueError without images.
    """
    if not images:
        raise ValueError("side_by_side needs at least one image, got none")
    merged = Image.new("RGB", (sum(i.width for i in images), max(i.height for i in images)), "white")
    left = 0
    for image in images:
        merged.paste(image, (left, 0))
        left += image.width
    return merged


def picture_of(example: Example) -> Image.Image:
    """What an example shows, as one image: its only one, or several side by side. Raises what `open_image` raises."""
    frames = [open_image(source, name=f"{example.benchmark} {example.id}") for source in example.images]
    return frames[0] if len(frames) == 1 else side_by_side(frames)


def shown_size(example: Example) -> tuple[int, int]:
    """The (width, height) of `picture_of` an example, from headers alone. Raises what `image_size` raises.

    A picture that is stored on its side comes with its sides exchanged: it has as many pixels.
    """
    name = f"{example.benchmark} {example.id}"
    sizes = [image_size(source, name=name, upright=False) for source in example.images]
    return sum(width for width, _ in sizes), max(height for _, height in sizes)


def _has_second_frame(image: Image.Image) -> bool:
    if image.format == "MPO":  # a phone's photo with a preview or a stereo half: the first image is the photo
        return False
    try:
        image.seek(1)
    except EOFError:
        return False
    return True


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16"):
        return image.convert("I").point(lambda value: value * (1 / 257) + 0.5).convert("L").convert("RGB")
    if image.mode in ("I", "F"):
        raise ValueError(f"mode {image.mode} has no fixed range of brightness")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image.convert("RGB")
