"""The kit's figures: traces on their image, results with their intervals, search trees.

Every function that draws returns a matplotlib Figure that pyplot no longer holds, so that a notebook shows
it once and keeps no memory; two return HTML. Fractions stay fractions. What a model or a data set wrote is
untrusted: it is drawn with mathtext off and without unprintable characters, and escaped in HTML.
"""

from __future__ import annotations

import base64
import dataclasses
import functools
import hashlib
import html
import io
import itertools
import math
import re
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns
from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke
from PIL import Image

from vigorl_lib.grounding import Frame, Point
from vigorl_lib.search.tree import Node, Path, Tree, walk
from vigorl_lib.traces import Trace, find_points, parse_trace, split_steps

Window = tuple[int, int, int, int]
"""(left, top, right, bottom) in pixels of the `original` frame, as `grounding.crop_window` gives it."""

INK, FAINT, ALARM, ZOOM = "#222222", "#8a8a8a", "#b3261e", "#c75b00"
BAR = "#5b7083"  # bars of no named arm
# seaborn's "colorblind", without its grey and its two palest
PALETTE = ("#0173b2", "#de8f05", "#029e73", "#cc78bc", "#ca9161", "#56b4e9", "#d55e00")
ARMS = {  # one arm, one colour, in every figure
    "base": "#949494",
    "sft": "#0173b2",
    "vanilla grpo": "#56b4e9",
    "vigorl": "#d55e00",
    "without points": "#029e73",
    "multi turn": "#cc78bc",
}
FONT = "DejaVu Sans"  # ships with matplotlib: the same picture everywhere
THEME = {
    **sns.axes_style("ticks"),
    **sns.plotting_context("notebook", font_scale=0.9),
    "font.family": [FONT],
    "text.parse_math": False,
    "axes.prop_cycle": mpl.cycler(color=PALETTE),
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": FAINT,
    "axes.labelcolor": INK,
    "axes.titlelocation": "left",
    "axes.titlesize": 11.5,
    "axes.axisbelow": True,
    "xtick.color": FAINT,
    "ytick.color": FAINT,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "grid.color": "#e4e4e4",
    "legend.frameon": False,
    "figure.dpi": 100,
    "savefig.dpi": 150,
}
# A figure is no archive: what one shows of a text without end.
MAX_STEPS = 40  # of one turn
MAX_POINTS = 20  # of one step
MAX_CHARACTERS = 600  # of one step
MAX_PIECES = 36  # lines of text beside an image

NEAR = 0.03  # points nearer than this part of the image's longer side share a label
PITCH = 15  # points (1/72 inch) from one line of text to the next

TRACE_STYLE = (  # every rule is put under the class of its own snippet
    f".trace{{display:flex;flex-wrap:wrap;gap:16px;background:white;color:{INK};padding:8px;"
    f"font:14px/1.45 {FONT},system-ui,sans-serif}}"
    "svg{flex:none;overflow:visible}circle{stroke-width:1.5px}line{stroke-width:2px}"
    f".halo{{stroke:white;stroke-width:4.5px}}rect{{fill:none;stroke:{ZOOM};stroke-width:2px}}"
    f".tag{{fill:{ZOOM};font-size:11px;stroke:white;stroke-width:3px;paint-order:stroke}}"
    ".number{font-size:10px;font-weight:bold;text-anchor:middle}"
    ".trace>div{flex:1;min-width:220px;max-width:640px;max-height:420px;overflow:auto}"
    "p{display:flex;gap:8px;margin:0;padding:3px 6px;border-radius:4px}"
    "p b{flex:none;min-width:19px;height:19px;border-radius:10px;color:white;font-size:11px;line-height:19px;"
    "text-align:center}span{overflow-wrap:anywhere;unicode-bidi:isolate}"
    f".answer span{{font-weight:bold}}.zoom span{{color:{ZOOM}}}"
    f".problem span{{color:{ALARM};font-style:italic}}.note span{{color:#666;font-size:12px}}"
)
TOKEN_STYLE = {True: "background:#ffd9a8;color:#222", False: "background:#eee;color:#6a6a6a"}


def use_theme() -> None:
    """Make the kit's look the default of every later figure; the functions here have it anyway."""
    mpl.rcParams.update(THEME)


def _themed(draw: Callable[..., Figure]) -> Callable[..., Figure]:
    """Draw under the kit's theme, and take the figure out of pyplot's hands."""

    @functools.wraps(draw)
    def themed(*args: Any, **kwargs: Any) -> Figure:
        open_before = set(plt.get_fignums())
        try:
            with mpl.rc_context(THEME):
                return draw(*args, **kwargs)
        finally:
            for number in set(plt.get_fignums()) - open_before:
                plt.close(number)

    return themed


# Untrusted text --------------------------------------------------------------------------------------


def _printable(text: str) -> str:
    """One line without control, surrogate or direction characters, cut at MAX_CHARACTERS and saying so."""
    cut = text[:MAX_CHARACTERS]
    shown = "".join(c if c.isprintable() else " " if c.isspace() else "\ufffd" for c in cut)
    more = f" … ({len(text) - len(cut):,} more characters)" if len(text) > len(cut) else ""
    return " ".join(shown.split()) + more


@functools.cache
def _glyphs() -> frozenset[int]:
    styles = ({}, {"weight": "bold"}, {"style": "italic"})  # bold and italic have fewer
    files = [font_manager.findfont(font_manager.FontProperties(family=FONT, **style)) for style in styles]
    return frozenset.intersection(*(frozenset(font_manager.get_font(file).get_charmap()) for file in files))


def _in_font(text: str) -> str:
    """The text with a replacement for what the figures' font lacks: matplotlib would warn at each."""
    return "".join(c if ord(c) in _glyphs() else "\ufffd" for c in text)


def _drawable(text: str) -> str:
    return _in_font(_printable(text))


def _short(text: str, limit: int) -> str:
    text = _drawable(text)
    return text if len(text) <= limit else text[: limit - 1].rstrip() + "…"


# Traces ----------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class _Line:
    """One line of a trace's story; `points` are in the frame that the model writes."""

    turn: int
    kind: Literal["step", "zoom", "answer", "problem"]
    text: str
    number: int | None = None
    points: tuple[tuple[int, int], ...] = ()


@dataclasses.dataclass(frozen=True)
class _Mark:
    """What is drawn at one place: the numbers of the steps that point there; x and y in original pixels."""

    x: float
    y: float
    numbers: list[int]
    inside: bool


def _story(trace: Trace | Sequence[str]) -> list[_Line]:
    """Steps, zooms, answer and problems in order. Steps are numbered through all turns, from 1."""
    if isinstance(trace, str):
        raise TypeError("a trace is a sequence of messages, not one text; give [text]")
    raw = [] if isinstance(trace, Trace) else list(trace)
    trace = trace if isinstance(trace, Trace) else parse_trace(raw, zoom=True)
    lines: list[_Line] = []
    numbers, zooms = itertools.count(1), itertools.count(1)
    for index, turn in enumerate(trace.turns):
        steps = [step for step in split_steps(turn.think or "") if step.text.strip()]
        for step in steps[:MAX_STEPS]:
            lines.append(_Line(index, "step", _printable(step.text), next(numbers), step.points[:MAX_POINTS]))
        if len(steps) > MAX_STEPS:
            lines.append(_Line(index, "problem", f"{len(steps) - MAX_STEPS:,} more steps are not shown"))
        if turn.call is not None:
            text = f"zoom {next(zooms)}: looks closer at ({turn.call[0]}, {turn.call[1]})"
            if turn.call in [(m.x, m.y) for m in find_points(turn.think or "")]:
                lines.append(_Line(index, "zoom", text))
            else:
                lines.append(_Line(index, "zoom", text, next(numbers), (turn.call,)))
        if turn.answer is not None:
            lines.append(_Line(index, "answer", _printable(f"answer: {turn.answer}")))
        if raw and turn.think is None and turn.call is None and turn.answer is None:
            lines.append(_Line(index, "problem", "written: " + (_printable(raw[index]) or "nothing")))
    if trace.problems:
        lines.append(_Line(len(trace.turns), "problem", "not well-formed: " + ", ".join(trace.problems)))
    return lines


def _marks(
    lines: Iterable[_Line], frame: Frame, image: Image.Image
) -> tuple[list[_Mark], list[tuple[_Mark, _Mark, int]]]:
    """The marks on the image, and its path as (from, to, step number). Points outside go to the border."""
    if frame.window != (0, 0, image.width, image.height):
        raise ValueError(
            f"frame {frame.name!r} covers {tuple(map(float, frame.window))} original pixels, the image has "
            f"{image.width} x {image.height}; give the original image and a frame of all of it"
        )
    original = Frame.original(image.width, image.height)
    marks: list[_Mark] = []
    stops: list[tuple[_Mark, int]] = []
    for line in lines:
        for point in line.points:
            place = Point(*point, frame).to(original)
            x, y = float(min(max(place.x, 0), image.width)), float(min(max(place.y, 0), image.height))
            near = [mark for mark in marks if math.hypot(mark.x - x, mark.y - y) < NEAR * max(image.size)]
            if not near:
                inside = 0 <= place.x <= image.width and 0 <= place.y <= image.height
                near = [_Mark(x, y, [], inside)]
                marks += near
            if line.number not in near[0].numbers:
                near[0].numbers.append(line.number)
            if not stops or stops[-1][0] is not near[0]:
                stops.append((near[0], line.number))
    return marks, [(start, stop, number) for (start, _), (stop, number) in itertools.pairwise(stops)]


def _label(mark: _Mark) -> str:
    numbers = [str(number) for number in mark.numbers]
    return ",".join(numbers if len(numbers) <= 3 else [*numbers[:2], "…"])


def _step_colours(lines: Iterable[_Line]) -> dict[int, str]:
    """Step number to colour, dark to light in the order of steps; white text is legible on each."""
    numbers = [line.number for line in lines if line.number is not None]
    shades = mpl.colormaps["viridis"](np.linspace(0.05, 0.66, max(len(numbers), 2)))
    return {number: mpl.colors.to_hex(shade) for number, shade in zip(numbers, shades, strict=False)}


def _check_windows(lines: Iterable[_Line], windows: Sequence[Window]) -> None:
    calls = sum(line.kind == "zoom" for line in lines)
    if len(windows) > calls:
        raise ValueError(f"{len(windows)} crop windows for {calls} zoom calls; give one a call, in order")


def _draw_image(ax: Axes, image: Image.Image, lines: Sequence[_Line], frame: Frame, windows: Sequence[Window]) -> None:
    """The original with windows, path and numbered points; its ticks count pixels of `frame`."""
    marks, path = _marks(lines, frame, image)
    _check_windows(lines, windows)
    colours = _step_colours(lines)
    ax.imshow(image, extent=(0, image.width, image.height, 0))
    ax.set(xlim=(0, image.width), ylim=(image.height, 0))
    part = np.array([0, 0.5, 1])
    ax.set_xticks(part * image.width, [f"{share * frame.width:g}" for share in part])
    ax.set_yticks(part * image.height, [f"{share * frame.height:g}" for share in part])
    ax.set_xlabel(f"pixels of the {frame.name} frame", fontsize=9)
    ax.tick_params(length=3, labelsize=8)
    halo = [withStroke(linewidth=4, foreground="white")]
    for k, (left, top, right, bottom) in enumerate(windows, start=1):
        size = (right - left, bottom - top)
        ax.add_patch(Rectangle((left, top), *size, fill=False, ec=ZOOM, lw=2, path_effects=halo))
        tag = dict(boxstyle="square,pad=0.2", fc=ZOOM, ec="none")
        ax.text(left, top, f"zoom {k}", color="white", size=8, bbox=tag, ha="left", va="bottom")
    for start, stop, number in path:
        arrow = dict(arrowstyle="-|>", color=colours[number], lw=1.8, shrinkA=8, shrinkB=9, path_effects=halo)
        ax.annotate("", (stop.x, stop.y), (start.x, start.y), arrowprops=arrow)
    for mark in marks:
        colour = colours[mark.numbers[0]]
        face, ink, edge = (colour, "white", "white") if mark.inside else ("white", colour, colour)
        _disc(ax, mark.x, mark.y, _label(mark), face=face, ink=ink, edge=edge)


def _disc(ax: Axes, x: float, y: float, text: str, *, face: str, ink: str = "white", edge: str = "none") -> None:
    box = dict(boxstyle="circle,pad=0.22" if len(text) == 1 else "round,pad=0.3,rounding_size=0.8")
    box |= dict(fc=face, ec=edge, lw=1.4)
    ax.text(x, y, text, color=ink, size=8.5, weight="bold", ha="center", va="center", bbox=box)


def _wrap(lines: Sequence[_Line], width: float) -> list[tuple[_Line, str, bool]]:
    """(line, piece, first piece?) for a column of `width` points, at most MAX_PIECES."""
    pieces = []
    for line in lines:
        text = _in_font(line.text)
        for mention in find_points(text):  # a line never breaks inside a point
            point = text[mention.start : mention.end]
            text = text[: mention.start] + point.replace(" ", "\xa0") + text[mention.end :]
        wrapped = textwrap.wrap(text, int((width - 24) / 6.1)) or [""]
        pieces += [(line, piece, first == 0) for first, piece in enumerate(wrapped)]
    if len(pieces) > MAX_PIECES:
        rest = _Line(0, "problem", f"… {len(pieces) - MAX_PIECES + 1} more lines")
        pieces = [*pieces[: MAX_PIECES - 1], (rest, rest.text, True)]
    return pieces


def _draw_text(ax: Axes, pieces: Sequence[tuple[_Line, str, bool]], colours: Mapping[int, str]) -> None:
    """Lines of text, top to bottom, with their step numbers; the axes' data units are points."""
    style = {
        "step": dict(color=INK),
        "zoom": dict(color=ZOOM),
        "answer": dict(color=INK, weight="bold"),
        "problem": dict(color=ALARM, style="italic"),
    }
    for row, (line, piece, first) in enumerate(pieces):
        y = 8 + row * PITCH
        if first and line.number is not None:
            _disc(ax, 8, y, str(line.number), face=colours[line.number])
        ax.text(24, y, piece, size=10, va="center", clip_on=True, **style[line.kind])


def _text_axes(figure: Figure, left: float, top: float, width: float, height: float) -> Axes:
    ax = _axes(figure, left, top, width, height)
    ax.set(xlim=(0, width), ylim=(height, 0))
    ax.axis("off")
    return ax


def _axes(figure: Figure, left: float, top: float, width: float, height: float) -> Axes:
    """Axes placed in points from the figure's top left corner."""
    across, down = (72 * side for side in figure.get_size_inches())
    return figure.add_axes((left / across, 1 - (top + height) / down, width / across, height / down))


def _shape(image: Image.Image) -> float:
    """Height over width of the room that an image is given."""
    return min(max(image.height / image.width, 0.4), 1.4)


def _titled_figure(width: float, height: float, title: str) -> tuple[Figure, float]:
    """A figure for `width` x `height` points of content and the title above; and where the content begins."""
    wrapped = textwrap.wrap(_drawable(title), int(width / 7.2))[:3]
    top = 12 + 17 * len(wrapped) + (5 if wrapped else 0)
    figure = plt.figure(figsize=(width / 72, (top + height) / 72))
    place = 16 / width, 1 - 10 / (top + height)
    figure.text(*place, "\n".join(wrapped), size=11.5, va="top", color=INK, linespacing=1.25)
    return figure, top


@_themed
def draw_trace(
    image: Image.Image,
    trace: Trace | Sequence[str],
    frame: Frame,
    *,
    windows: Sequence[Window] = (),
    title: str = "",
) -> Figure:
    """A trace on its image: numbered points, arrows along the path, crop windows; beside it the text.

    `image` is the `original`; `trace` is parsed, or the policy's messages in order; its points are in `frame`
    (`resized` or `relative`: the frame that the model writes). `windows` are the crops that came back, one a
    zoom call, in original pixels. Numbers count the steps; a point outside the image is drawn hollow, at the
    border. A malformed trace is drawn too, and its problems are named.

    Raises ValueError where the frame is not one of the image, or there are more windows than calls.
    """
    lines = _story(trace)
    height = 300 * _shape(image)
    column = 340
    pieces = _wrap(lines, column)
    below = max(height, len(pieces) * PITCH + 8)
    figure, top = _titled_figure(366 + column, max(height + 44, below + 6), title)
    _draw_image(_axes(figure, 36, top, 300, height), image, lines, frame, windows)
    _draw_text(_text_axes(figure, 362, top, column, below), pieces, _step_colours(lines))
    return figure


@_themed
def draw_episode(
    image: Image.Image,
    trace: Trace | Sequence[str],
    frame: Frame,
    windows: Sequence[Window],
    crops: Sequence[Image.Image],
    *,
    title: str = "",
) -> Figure:
    """A dialogue with zooms, picture by picture: the original, then each crop that came back, in order.

    Under each picture stands what the policy wrote after seeing it. Points, `frame` and `windows` are as in
    `draw_trace`; crop k is what was returned for window k.

    Raises ValueError where crops and windows do not pair up.
    """
    if len(crops) != len(windows):
        raise ValueError(f"{len(crops)} crops for {len(windows)} windows; give the window of every crop, in order")
    lines = _story(trace)
    side, gap = 232, 30
    columns = [[line for line in lines if min(line.turn, len(crops)) == k] for k in range(len(crops) + 1)]
    pieces = [_wrap(column, side) for column in columns]
    text = max(len(column) for column in pieces) * PITCH + 10
    tallest = side * max(map(_shape, (image, *crops)))
    figure, top = _titled_figure(36 + (side + gap) * len(columns), 16 + tallest + 40 + text, title)
    colours = _step_colours(lines)
    for k, picture in enumerate((image, *crops)):
        left = 36 + k * (side + gap)
        ax = _axes(figure, left, top + 16, side, side * _shape(picture))
        if k == 0:
            _draw_image(ax, image, lines, frame, windows)
            ax.set_title("the image", size=10)
        else:
            ax.imshow(picture, extent=(0, picture.width, picture.height, 0))
            ax.set(xticks=[], yticks=[])
            for spine in ax.spines.values():
                spine.set(visible=True, edgecolor=ZOOM, linewidth=2)
            left_x, top_y, right_x, bottom_y = windows[k - 1]
            source = f"{right_x - left_x} × {bottom_y - top_y} px shown at {picture.width} × {picture.height}"
            ax.set_title(f"zoom {k}: {source}", size=10, color=ZOOM)
        _draw_text(_text_axes(figure, left - 8, top + 16 + tallest + 38, side + 14, text), pieces[k], colours)
    return figure


def show_trace_html(
    image: Image.Image,
    trace: Trace | Sequence[str],
    frame: Frame,
    *,
    windows: Sequence[Window] = (),
) -> str:
    """`draw_trace` as an HTML snippet: pointing at a step lights its point, and the other way round.

    Self-contained (a PNG of at most 336 px inside, no script, no network) and escaped; the arguments and the
    errors are those of `draw_trace`.
    """
    lines = _story(trace)
    marks, path = _marks(lines, frame, image)
    _check_windows(lines, windows)
    colours = _step_colours(lines)
    scale = 336 / max(image.size)
    width, height = (max(1, round(side * scale)) for side in image.size)
    size = f'width="{width}" height="{height}"'
    parts = [f'<image href="{data_url(image, 336)}" {size} preserveAspectRatio="none"/>']
    for k, window in enumerate(windows, start=1):
        left, top, right, bottom = (side * scale for side in window)
        box = f'x="{left:.1f}" y="{top:.1f}" width="{right - left:.1f}" height="{bottom - top:.1f}"'
        parts.append(f'<rect {box}/><text class="tag" x="{left + 3:.1f}" y="{top + 13:.1f}">zoom {k}</text>')
    for start, stop, number in path:
        a, b = complex(start.x, start.y) * scale, complex(stop.x, stop.y) * scale
        ahead = (b - a) / abs(b - a)
        tip = b - 9 * ahead
        neck = tip - 8 * ahead
        head = " ".join(f"{p.real:.1f},{p.imag:.1f}" for p in (tip, neck + 4j * ahead, neck - 4j * ahead))
        line = f'<line x1="{a.real:.1f}" y1="{a.imag:.1f}" x2="{neck.real:.1f}" y2="{neck.imag:.1f}"'
        parts.append(f'{line} class="halo"/>{line} stroke="{colours[number]}"/>')
        parts.append(f'<polygon points="{head}" fill="{colours[number]}"/>')
    for mark in marks:
        keys = " ".join(f"s{number}" for number in mark.numbers)
        face, ink = (colours[mark.numbers[0]], "white")[:: 1 if mark.inside else -1]
        x, y, radius = mark.x * scale, mark.y * scale, 8 if len(_label(mark)) <= 2 else 11
        parts.append(
            f'<g class="{keys}"><circle cx="{x:.1f}" cy="{y:.1f}" r="{radius}" fill="{face}" stroke="{ink}"/>'
            f'<text class="number" x="{x:.1f}" y="{y + 3.6:.1f}" fill="{ink}">{_label(mark)}</text></g>'
        )
    items = [_html_line(line, colours) for line in lines]
    note = f"points in pixels of the {frame.name} frame, {frame.width} × {frame.height}"
    body = (
        f'<svg viewBox="0 0 {width} {height}" {size} role="img" aria-label="the points on the image">'
        f"{''.join(parts)}</svg><div>{''.join(items)}"
        f'<p class="note"><b></b><span>{html.escape(note)}</span></p></div>'
    )
    scope = "trace-" + hashlib.sha256(body.encode()).hexdigest()[:10]
    lit = "".join(
        f".{scope}:has(.s{n}:hover) g.s{n} circle{{stroke:#ffd400;stroke-width:4px}}"
        f".{scope}:has(.s{n}:hover) p.s{n}{{background:#fff3b0}}"
        for n in colours
    )
    style = re.sub(r"(^|\})(?=[^}])", rf"\1.{scope} ", TRACE_STYLE)
    return f'<div class="{scope}"><style>{style}{lit}</style><div class="trace">{body}</div></div>'


def _html_line(line: _Line, colours: Mapping[int, str]) -> str:
    text = html.escape(line.text)
    if line.number is None:
        return f'<p class="{line.kind}"><b></b><span>{text}</span></p>'
    disc = f'<b style="background:{colours[line.number]}">{line.number}</b>'
    return f'<p class="{line.kind} s{line.number}">{disc}<span>{text}</span></p>'


def data_url(image: Image.Image, longest: int) -> str:
    """The image as a PNG inside a `data:` address, shrunk so that no side is over `longest` pixels."""
    image = image.convert("RGB")
    image.thumbnail((longest, longest), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


# Results ---------------------------------------------------------------------------------------------


def _arm(name: str) -> str | None:
    return ARMS.get(name.lower().replace("_", " ").replace("-", " "))


def _line_colours(names: Iterable[str]) -> dict[str, str]:
    """A colour for every name: the arm's own, else the next one that none of them has."""
    known = {name: _arm(name) for name in names}
    free = itertools.cycle([colour for colour in PALETTE if colour not in known.values()])
    return {name: colour or next(free) for name, colour in known.items()}


def _interval(row: Mapping[str, Any], key: str = "value") -> tuple[float, float, float]:
    """value, low, high of a row, checked."""
    try:
        value, low, high = float(row[key]), float(row["low"]), float(row["high"])
    except (KeyError, TypeError) as error:
        message = f"row {dict(row)}: {key}, low and high must be numbers ({error!r}); measure it first"
        raise ValueError(message) from error
    if not low <= value <= high:
        raise ValueError(f"row {dict(row)}: low <= {key} <= high is not so; give the interval's two ends")
    return value, low, high


def _number(value: float) -> str:
    return f"{value:.3g}" if abs(value) >= 1 else f"{value:.1g}" if 0 < abs(value) < 0.01 else f"{value:.2f}"


def _panel(width: float, height: float, *, title: str, x: str, y: str, grid: str) -> tuple[Figure, Axes]:
    figure, ax = plt.subplots(figsize=(width, height), layout="constrained")
    ax.set(title=_short(title, 90), xlabel=_short(x, 90), ylabel=_short(y, 60))
    ax.grid(axis=grid)
    return figure, ax


@_themed
def bars_with_intervals(
    rows: Sequence[Mapping[str, Any]],
    *,
    label: str,
    chance: float | None = None,
    references: Mapping[str, float] | None = None,
    title: str = "",
) -> Figure:
    """One horizontal bar a row, top to bottom, with its interval, and the figures in plain text at the right.

    A row has `name`, `value`, `low` and `high` (a 95 % interval) and, where bars are to be grouped, `group`:
    then each name has one bar a group, and colours tell the groups apart. `label` says what is measured and
    in which unit ("accuracy (fraction)"). `chance` and `references` (name -> value) are vertical lines.

    Raises ValueError without rows, or naming a row without a proper interval, or that is there twice.
    """
    if not rows:
        raise ValueError("bars_with_intervals needs at least one row, got none")
    names = list(dict.fromkeys(row["name"] for row in rows))
    groups = list(dict.fromkeys(row.get("group", "") for row in rows))
    for row in rows:
        if sum((r["name"], r.get("group", "")) == (row["name"], row.get("group", "")) for r in rows) > 1:
            raise ValueError(f"row {dict(row)} has the name and group of another; give each its own")
    height = 1.3 + 0.36 * len(rows) + 0.12 * len(names)
    figure, ax = _panel(8, height, title=title, x=f"{label}; lines: 95 % intervals", y="", grid="x")
    thickness = 0.8 / len(groups)
    for k, (group, colour) in enumerate(_line_colours(groups).items()):
        own = [row for row in rows if row.get("group", "") == group]
        ys = [names.index(row["name"]) + (k - (len(groups) - 1) / 2) * thickness for row in own]
        colours = colour if len(groups) > 1 else [_arm(row["name"]) or BAR for row in own]
        values, lows, highs = np.array([_interval(row) for row in own]).T
        ax.barh(ys, values, 0.86 * thickness, color=colours, label=_short(group, 30) or None)
        ends = [values - lows, highs - values]
        ax.errorbar(values, ys, xerr=ends, fmt="none", ecolor=INK, elinewidth=1.5, capsize=3, capthick=1.5)
        for y, numbers in zip(ys, zip(values, lows, highs, strict=True), strict=True):
            text = "{}  [{}, {}]".format(*map(_number, numbers))
            ax.annotate(text, (1.02, y), xycoords=("axes fraction", "data"), va="center", size=9)
    if chance is not None:
        ax.axvline(chance, color=INK, ls="--", lw=1.2, label=f"chance {_number(chance)}")
    for name, colour in _line_colours(references or {}).items():
        text = f"{_short(name, 30)} {_number(references[name])}"
        ax.axvline(references[name], color=colour, ls=":", lw=2, label=text)
    ax.set_yticks(range(len(names)), [_short(name, 40) for name in names])
    ax.set_ylim(len(names) - 0.5, -0.5)
    ax.tick_params(axis="y", length=0)
    ax.axvline(0, color=FAINT, lw=1)
    if ax.get_legend_handles_labels()[1]:
        figure.legend(loc="outside lower left", ncols=4)
    return figure


@_themed
def note_left_out(figure: Figure, left_out: Mapping[str, Sequence[str]], asked: Mapping[str, Sequence[Any]]) -> Figure:
    """The figure with a footnote under its first axes: of each set, how many rows were left out because of damage.

    `left_out` (set -> what `benchmarks.load` said of such rows) and `asked` (set -> the examples that remained) add up
    to the rows that were drawn. Nothing is written where nothing was left out. Raises KeyError for a set in `left_out`
    that is not in `asked`.
    """
    found = [f"{name} {len(rows)} of {len(rows) + len(asked[name])}" for name, rows in left_out.items() if rows]
    if found:
        ax = figure.axes[0]
        text = textwrap.fill(_drawable(f"left out, damaged: {', '.join(found)}"), 80)
        below = {"xytext": (0, -6), "textcoords": "offset points", "va": "top"}  # of the label, wherever layout puts it
        ax.annotate(text, (0, 0), xycoords=("axes fraction", ax.xaxis.label), size=9, color=INK, **below)
    return figure


def _chance_line(ax: Axes, chance: float | None) -> None:
    if chance is not None:
        ax.axhline(chance, color=INK, ls="--", lw=1.2, label=f"chance {_number(chance)}")
        ax.update_datalim([(0, chance)], updatex=False)
        ax.autoscale_view(scalex=False)


def _band(ax: Axes, xs: Sequence[float], intervals: Sequence[tuple[float, float, float]], colour: str) -> None:
    _, lows, highs = np.array(intervals).T
    ax.fill_between(xs, lows, highs, color=colour, alpha=0.18, lw=0)


@_themed
def learning_curves(
    curves: Mapping[str, Sequence[Mapping[str, Any]]],
    *,
    label: str,
    value: str = "value",
    window: int = 1,
    chance: float | None = None,
    title: str = "",
) -> Figure:
    """One line a run over its training steps: `curves` maps a name to rows with `step` and `value`.

    Rows without the key `value` are other records (a trainer's log mixes several) and are passed over. With
    `window` > 1 the thick line is the mean of the last `window` points, and the points themselves are the
    pale line behind it. Rows with `low` and `high` (a 95 % interval) get a band.

    Raises ValueError naming a curve without any such row, or a window below 1.
    """
    if window < 1:
        raise ValueError(f"window is {window}; the mean is of at least 1 point")
    x = "training step" + (f"; thick: mean of the last {window} points" if window > 1 else "")
    figure, ax = _panel(8, 4, title=title, x=x, y=label, grid="y")
    for name, colour in _line_colours(curves).items():
        rows = [row for row in curves[name] if value in row]
        if not rows:
            raise ValueError(f"curve {name!r}: no row has the key {value!r}; look at what the trainer logs")
        steps, values = [row["step"] for row in rows], [float(row[value]) for row in rows]
        if window > 1:
            ax.plot(steps, values, color=colour, lw=1, alpha=0.35)
        smooth = [float(np.mean(values[max(0, k + 1 - window) : k + 1])) for k in range(len(values))]
        marker = "o" if len(rows) == 1 else None
        ax.plot(steps, smooth, color=colour, lw=2.2, marker=marker, label=_short(name, 30))
        if "low" in rows[0]:
            _band(ax, steps, [_interval(row, value) for row in rows], colour)
    _chance_line(ax, chance)
    figure.legend(loc="outside right upper")
    return figure


@_themed
def budget_curve(
    lines: Mapping[str, Sequence[Mapping[str, Any]]],
    *,
    x_label: str,
    label: str,
    chance: float | None = None,
    title: str = "",
) -> Figure:
    """What more of something buys: `lines` maps a name to rows with `x`, `value`, `low` and `high`.

    `low` and `high` are a 95 % interval. The horizontal axis is logarithmic where the largest `x` is at least
    ten times the smallest, and that is positive.

    Raises ValueError naming a row without a proper interval, or a line without rows.
    """
    figure, ax = _panel(8, 4, title=title, x=x_label, y=f"{label}; bands: 95 % intervals", grid="y")
    for name, colour in _line_colours(lines).items():
        if not lines[name]:
            raise ValueError(f"line {name!r} has no rows; leave it out")
        rows = sorted(lines[name], key=lambda row: row["x"])
        xs, intervals = [row["x"] for row in rows], [_interval(row) for row in rows]
        ax.plot(xs, [value for value, _, _ in intervals], "o-", color=colour, lw=2, label=_short(name, 30))
        _band(ax, xs, intervals, colour)
    places = sorted({row["x"] for rows in lines.values() for row in rows})
    if 0 < 10 * places[0] <= places[-1]:
        ax.set_xscale("log")
    if len(places) <= 8:
        ax.set_xticks(places, [f"{x:,g}" for x in places])
        ax.minorticks_off()
    _chance_line(ax, chance)
    figure.legend(loc="outside right upper")
    return figure


@dataclasses.dataclass(frozen=True)
class Paired:
    """Two arms' values in pairs: `names` are the arms', `label` says what is measured and in which unit."""

    title: str
    names: tuple[str, str]
    pairs: Sequence[tuple[float, float]]
    label: str


@_themed
def paired_lines(panels: Sequence[Paired], *, title: str = "") -> Figure:
    """Panels in rows of four, each with two arms side by side and one line from the first to the second for every pair.

    A slope a seed, with the means in figures. Raises ValueError without panels, or naming one without pairs.
    """
    if not panels:
        raise ValueError("paired_lines needs at least one panel, got none")
    across = min(len(panels), 4)
    down = -(-len(panels) // across)
    size = max(3.3 * across, 4.6), 3.2 * down + 0.4 * bool(title)
    figure, axs = plt.subplots(down, across, figsize=size, layout="constrained", squeeze=False)
    figure.suptitle(_short(title, 90))
    for ax, panel in zip(axs.flat, panels, strict=False):
        if not panel.pairs:
            raise ValueError(f"paired_lines needs at least one pair, panel {panel.title!r} has none")
        for values in panel.pairs:
            ax.plot((0, 1), values, color=BAR, lw=1.2, alpha=0.7, zorder=1)
        for x, name in enumerate(panel.names):
            points = [values[x] for values in panel.pairs]
            ax.scatter([x] * len(points), points, color=_arm(name) or PALETTE[x], s=36, zorder=2)
            mean, (shift, side) = float(np.mean(points)), ((14, "left") if x else (-14, "right"))
            away = {"xytext": (shift, 0), "textcoords": "offset points", "ha": side, "va": "center"}
            ax.annotate(_number(mean), (x, mean), size=10, weight="bold", **away)
        # Long names of two arms would run into each other: in two lines, from their first underscore.
        ax.set_xticks((0, 1), [_short(n, 24).replace("_", "\n", len(n) > 12) for n in panel.names])
        ax.set(title=_short(panel.title, 40), ylabel=_short(panel.label, 60), xlim=(-0.6, 1.6))
        ax.grid(axis="y")
    for ax in list(axs.flat)[len(panels) :]:
        ax.set_axis_off()
    return figure


@_themed
def distributions(groups: Mapping[str, Sequence[float]], *, label: str, of: str = "items", title: str = "") -> Figure:
    """Histograms of several groups over common bins, each as a share of its own group; medians dashed.

    `label` names the quantity with its unit, `of` what is counted. Raises ValueError naming an empty group.
    """
    for name, values in groups.items():
        if not len(values):
            raise ValueError(f"group {name!r} is empty; leave it out")
    x, y = f"{label}; dashed: medians", f"share of {of}"
    figure, ax = _panel(8, 3.6, title=title, x=x, y=y, grid="y")
    everything = np.concatenate([np.asarray(values, float) for values in groups.values()])
    edges = np.histogram_bin_edges(everything, 30)
    if np.all(everything == np.round(everything)) and np.ptp(everything) <= 40:  # a bin for every number
        edges = np.arange(everything.min() - 0.5, everything.max() + 1)
    for name, colour in _line_colours(groups).items():
        values = np.asarray(groups[name], float)
        share = np.histogram(values, edges)[0] / len(values)
        ax.stairs(share, edges, fill=True, color=colour, alpha=0.15)
        ax.stairs(share, edges, color=colour, lw=2, label=f"{_short(name, 30)} (n = {len(values):,})")
        ax.axvline(float(np.median(values)), color=colour, ls="--", lw=1.5)
    ax.set_ylim(bottom=0)
    figure.legend(loc="outside right upper")
    return figure


@_themed
def confusion(truths: Sequence[str], answers: Sequence[str | None], *, title: str = "") -> Figure:
    """Counts of (truth, answer); colours show each row's shares. None is "no answer".

    Answers that are no truth of any item share the column "other". Raises ValueError where the two differ in
    length or are empty.
    """
    if len(truths) != len(answers) or not truths:
        counted = f"{len(truths)} truths and {len(answers)} answers"
        raise ValueError(f"{counted}; give one answer (or None) an item")
    rows = sorted(set(truths))
    named = ["no answer" if a is None else a if a in rows else "other" for a in answers]
    columns = rows + [extra for extra in ("other", "no answer") if extra in named and extra not in rows]
    counts = np.zeros((len(rows), len(columns)), int)
    for truth, answer in zip(truths, named, strict=True):
        counts[rows.index(truth), columns.index(answer)] += 1
    cell = 0.62 if len(columns) <= 12 else 0.42
    size = (2.6 + cell * len(columns), 1.9 + cell * len(rows))
    figure, ax = plt.subplots(figsize=size, layout="constrained")
    shares = counts / counts.sum(axis=1, keepdims=True)
    bar = dict(label="share of the row", shrink=0.8)
    look = dict(cmap="Blues", vmin=0, vmax=1, square=True, linewidths=1, annot_kws=dict(size=9))
    sns.heatmap(shares, annot=counts, fmt="d", ax=ax, cbar_kws=bar, **look)
    turned = dict(rotation=40, ha="right", rotation_mode="anchor")
    ax.set_xticks(np.arange(len(columns)) + 0.5, [_short(name, 24) for name in columns], **turned)
    ax.set_yticks(np.arange(len(rows)) + 0.5, [_short(name, 24) for name in rows], rotation=0)
    ax.tick_params(length=0)
    ax.set_xlabel("answer of the policy (numbers: items)")
    ax.set_ylabel("truth")
    ax.set_title(_short(title, 60))
    return figure


def tokens_by_mask(tokens: Sequence[str], mask: Sequence[bool | int]) -> str:
    """The tokens of one training row as HTML: those with a loss on orange, the others grey.

    A token that repeats (image pads do) is written once with its count. Raises ValueError where the mask has
    another length than the tokens.
    """
    if len(tokens) != len(mask):
        raise ValueError(f"{len(tokens)} tokens, but a mask of {len(mask)}; give the mask of these tokens")
    spans = []
    for (token, trained), run in itertools.groupby(zip(tokens, map(bool, mask), strict=True)):
        text = "↵\n".join(html.escape(_printable_token(line)) for line in token.split("\n"))
        count = len(list(run))
        span = f'<span style="{TOKEN_STYLE[trained]};border-radius:3px;margin:1px;unicode-bidi:isolate">'
        spans += [f"{span}{text}</span>"] * count if count <= 3 else [f"{span}{text}<i> × {count}</i></span>"]
    trained = sum(map(bool, mask))
    key = [(True, f"trained: {trained:,} tokens"), (False, f"not trained: {len(mask) - trained:,} tokens")]
    keys = " ".join(f'<span style="{TOKEN_STYLE[kind]}">{text}</span>' for kind, text in key)
    return (
        '<div style="background:white;color:#222;padding:8px;font-size:13px;line-height:1.7">'
        f'<div style="margin-bottom:6px;font-family:{FONT},sans-serif">{keys}</div>'
        '<div style="font-family:monospace;white-space:pre-wrap;overflow-wrap:anywhere">'
        f"{''.join(spans)}</div></div>"
    )


def _printable_token(text: str) -> str:
    return "".join(c if c.isprintable() else "→" if c == "\t" else "\ufffd" for c in text)


# Search trees ----------------------------------------------------------------------------------------


def tree_layout(root: Node) -> dict[Path, tuple[int, float]]:
    """Where every node stands: its depth and its row.

    Leaves take the rows 0, 1, 2 … in tree order; a parent stands midway between its first and last child.
    """
    nodes = list(walk(root))
    rows: dict[Path, float] = {}
    for path, node in nodes:
        if not node.children:
            rows[path] = float(len(rows))
    for path, node in reversed(nodes):
        if node.children:
            rows[path] = (rows[(*path, 0)] + rows[(*path, len(node.children) - 1)]) / 2
    return {path: (len(path), rows[path]) for path, _ in nodes}


def most_visited_path(root: Node) -> Path:
    """From the root always to the child with the most visits, the first of equals."""
    path: Path = ()
    node = root
    while node.children:
        index = max(range(len(node.children)), key=lambda k: node.children[k].visit_count)
        path, node = (*path, index), node.children[index]
    return path


@_themed
def tree_figure(tree: Tree, *, title: str | None = None) -> Figure:
    """A search tree, root at the left: a node's number and area are its visits, its colour is its value.

    Squares are terminal. The heavy line is the most visited path. The default title is the question.
    """
    places = tree_layout(tree.root)
    depth = max(place[0] for place in places.values())
    leaves = sum(not node.children for _, node in tree.nodes())
    column = 2.5 if depth <= 4 else max(1.1, 12 / (depth + 1))
    size = (column * (depth + 1) + 1.2, max(2.6, 0.56 * leaves + 1.2))
    figure, ax = plt.subplots(figsize=size, layout="constrained")
    best = most_visited_path(tree.root)
    most = max(tree.root.visit_count, 1)
    shades = mpl.colormaps["viridis"]
    halo = [withStroke(linewidth=2.5, foreground="white")]
    bend = np.linspace(0, 1, 24)
    for path, node in tree.nodes():
        x, y = places[path]
        if path:
            px, py = places[path[:-1]]
            heavy = path == best[: len(path)]
            look = dict(color=INK, lw=2.4, zorder=2) if heavy else dict(color="#c4c4c4", lw=1.3, zorder=1)
            ax.plot(px + (x - px) * bend, py + (y - py) * bend**2 * (3 - 2 * bend), **look)
        area = 130 + 570 * node.visit_count / most
        look = dict(color=shades(float(node.value)), edgecolor="white", linewidth=1.2, zorder=3)
        ax.scatter(x, y, s=area, marker="s" if node.terminal else "o", **look)
        ink = "white" if node.value < 0.6 else INK
        ax.text(x, y, str(node.visit_count), size=8, color=ink, ha="center", va="center", zorder=4)
        gap = math.sqrt(area) / 2 + 2
        look = dict(textcoords="offset points", ha="center", size=7.5, color=INK, zorder=5, path_effects=halo)
        text = _short(node.text, int(column * 13)) if path else "question"
        ax.annotate(text, (x, y), (0, gap), va="bottom", **look)
        if node.terminal:
            text = f"→ {_short(node.answer or 'no answer', int(column * 11))}"
            ax.annotate(text, (x, y), (0, -gap), va="top", weight="bold", **look)
    ax.set(xlim=(-0.5, depth + 0.5), ylim=(leaves - 0.4, -0.75))
    ax.set_xticks(range(depth + 1))
    ax.set_yticks([])
    ax.spines["left"].set_visible(False)
    ax.set_xlabel("depth (steps); number and area of a node: visits; square: terminal; heavy line: most visited path")
    heading = f"{tree.question}  (truth: {tree.answer})" if title is None else title
    ax.set_title("\n".join(textwrap.wrap(_drawable(heading), int(figure.get_figwidth() * 11))[:3]))
    scale = mpl.cm.ScalarMappable(mpl.colors.Normalize(0, 1), shades)
    figure.colorbar(scale, ax=ax, label="value (mean reward, 0 … 1)", fraction=0.02, pad=0.01, aspect=30)
    return figure
