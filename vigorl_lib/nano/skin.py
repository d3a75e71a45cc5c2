"""Pages that the nano base can read: shelves of the things it knows, pages of one thing, and two grey buttons.

This is how the sites of `vigorl_lib.web` look in their nano skin, drawn here too: training needs no browser. A page
is 672 x 672 pixels, on the world's grid of cells. Its numbers are too small for the model's view; they follow from the
place instead: 1 and 2 are the buttons on the right, 3 to 8 the things of a shelf, line by line. Frames are
grey, because colours mean something here: with coloured ones the base names fewer things rightly.
"""

from __future__ import annotations

import dataclasses
import functools
import random
from collections.abc import Sequence

from PIL import Image, ImageDraw

from vigorl_lib.nano import gui, world
from vigorl_lib.nano.drawing import png
from vigorl_lib.nano.webpages import draw_marks
from vigorl_lib.nano.world import CELLS, PATTERNS, RADII, SIDE, Scene, Thing

CELL, MARGIN = SIDE // CELLS, 4
ROWS, COLUMNS = 2, 3  # of a shelf
SHELF = ROWS * COLUMNS
JITTER = 6  # of a thing about its middle: so little that "the next thing to the right" is always the neighbour
GROUND, BAR, CARD, PRESSED, INK = "#e4e6e8", "#c4c8cc", "#f2f3f4", "#8a9097", "#5b6269"
MARKS = ("#9aa0a6",)  # the one colour of frames and numbers
# What is drawn on a button. The second one leads on from a shelf, and does what the site is for with one thing.
BUTTONS = {"home": "home", "next": "forward", "do": "add"}


@dataclasses.dataclass(frozen=True)
class Article:
    """What stands on a shelf: its name, and a number that varies its look."""

    name: str
    number: int


@dataclasses.dataclass(frozen=True)
class Page:
    """A shelf of `SHELF` articles, or the page of one; `done` says that what the site is for has been done with it."""

    articles: tuple[Article, ...]
    done: bool = False

    @property
    def single(self) -> bool:
        return len(self.articles) == 1


def cell(row: int, column: int) -> gui.Box:
    """What is drawn in a cell of the grid: left, top, right, bottom in pixels of the page, the latter two exclusive."""
    left, top = column * CELL + MARGIN, row * CELL + MARGIN
    return left, top, left + CELL - 2 * MARGIN, top + CELL - 2 * MARGIN


PLACES = tuple(cell(1 + place // COLUMNS, place % COLUMNS) for place in range(SHELF))
SINGLE = 1  # the place of the one
FIRST, SECOND = cell(1, CELLS - 1), cell(2, CELLS - 1)  # the buttons


def places(page: Page) -> range:
    """Where the page's articles stand, as indices into `PLACES`."""
    return range(SINGLE, SINGLE + 1) if page.single else range(SHELF)


def place_word(thing: Thing) -> str:
    """Where on a shelf a thing stands, in words: the lines are top and bottom here."""
    row, column = thing.y // CELL - 1, thing.x // CELL
    return f"{('top', 'bottom')[row]} {('left', 'middle', 'right')[column]}"


def thing(article: Article, place: int = 0) -> Thing:
    """The article as a thing of the world, at one of the places of a shelf (pixels of the page)."""
    rng = random.Random(f"{article.name} {article.number}")
    colour, shape = article.name.split()
    left, top, right, bottom = PLACES[place]
    x, y = ((low + high) // 2 + rng.randint(-JITTER, JITTER) for low, high in ((left, right), (top, bottom)))
    return Thing(colour, shape, rng.choice(PATTERNS), x, y, rng.randint(*RADII))


@functools.lru_cache(maxsize=2048)
def tile(article: Article) -> Image.Image:
    """The article as the sites show it, of a cell's size without its margins."""
    return world.draw(Scene(article.number, (thing(article),))).crop(PLACES[0])


@functools.cache
def button(name: str, pressed: bool = False) -> Image.Image:
    """One of `BUTTONS`, as large as a tile."""
    side = CELL - 2 * MARGIN
    image = Image.new("RGB", (side, side), PRESSED if pressed else CARD)
    box = (side // 4, side // 4, side * 3 // 4, side * 3 // 4)
    gui.draw_icon(ImageDraw.Draw(image), box, BUTTONS[name], CARD if pressed else INK)
    return image


def boxes(page: Page) -> list[gui.Box]:
    """The marks of a page, in their order: the page of one has only the buttons."""
    return [FIRST, SECOND, *(() if page.single else PLACES)]


def draw(page: Page, colours: Sequence[str] = MARKS) -> Image.Image:
    """The page as a browser shows it, with marks in these colours."""
    image = Image.new("RGB", (SIDE, SIDE), GROUND)
    ImageDraw.Draw(image).rectangle((0, 0, SIDE, 23), fill=BAR)
    image.paste(button("home"), FIRST[:2])
    image.paste(button("do", page.done) if page.single else button("next"), SECOND[:2])
    for place, article in zip(places(page), page.articles, strict=True):
        image.paste(tile(article), PLACES[place][:2])
    draw_marks(image, boxes(page), colours)
    return image


@functools.lru_cache(maxsize=512)
def tile_png(article: Article) -> bytes:
    """The tile as an encoded file."""
    return png(tile(article))
