"""Errands on the pages of the nano skin: what is wanted, the moves that do it, and each step of the way as a question.

A store has `STORE` articles on three shelves: one more further down the first page, one on page two. What is wanted is
named, or found by a route from what is named. A move says what to do in words of its own ("open 4"); `action` is what
an agent has to write for it. Each step is a row of VisualWebArena's released step files, with the screenshot before it.
"""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Sequence
from typing import Any

from vigorl_lib import prompts
from vigorl_lib.nano import lessons, skin, twins
from vigorl_lib.nano.drawing import png
from vigorl_lib.nano.skin import SHELF, Article, Page
from vigorl_lib.nano.world import NAMES, Scene
from vigorl_lib.traces import render_single

STORE = 3 * SHELF
VERBS = {"shopping": "Buy", "reddit": "Like", "classifieds": "Ask for"}  # what each site is for
LEVELS = {
    "open": "easy", "do": "medium", "reach": "medium", "elsewhere": "medium", "reach_do": "hard", "scroll": "hard",
    "page": "hard",
}  # fmt: skip
LOOKS = 64  # of an article: so few that they need not be drawn anew for each page
# Words of pages and actions, which the base would have to spell out letter by letter.
WORDS = (
    "OBJECTIVE", "PREVIOUS ACTIONS", "IMAGE", "IMG", "BUTTON", "Home", "Next", "Open", *VERBS.values(), "click",
    "scroll", "down", "go_back", "stop",
)  # fmt: skip
HOPS = (1, 2, 2)  # moves of a route
DETOUR = 0.25  # of the walks from a shelf first open a wrong article
VISUAL = 2  # so many times likelier than any other step to be asked for: the one that chooses an article
# How far a narration of the warm start heeds its errand: it looks at the thing that is asked for, or begins there; its
# moves are those of `lessons.narrate`; it goes all the way; its action is the one that it arrives at.
LOOK, FINISH, ACT = 0.9, 0.8, 0.9


@dataclasses.dataclass(frozen=True)
class Errand:
    """What is wanted in a store: all numbers are those of articles, from 0.

    start       whose page it begins on; None: the first shelf
    wanted      what the last page is about
    named       what the text names: what is wanted, or where the route begins
    directions  of the route, none without one
    moves       what does it
    """

    site: str
    kind: str
    text: str
    start: int | None
    wanted: int
    named: int
    directions: tuple[str, ...]
    moves: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Step:
    """One step of a walk: the page, the actions before, and the move that is right."""

    errand: Errand
    page: Page
    previous: tuple[str, ...]
    move: str

    @property
    def text(self) -> str:
        return prompts.web_step(self.errand.text, self.previous)


def store(rng: random.Random) -> tuple[str, ...]:
    """The names of a store's articles, shelf by shelf: some occur once, at least two of them on the first shelf."""
    while True:
        every = rng.sample(NAMES, 2 * SHELF)
        names = rng.sample([*every, *rng.choices(every[SHELF:], k=SHELF)], STORE)
        single = [names.count(name) == 1 for name in names]
        shelves = [sum(single[first : first + SHELF]) for first in range(0, STORE, SHELF)]
        if shelves[0] >= 2 and min(shelves) >= 1:
            return tuple(names)


def errand(rng: random.Random, articles: Sequence[Article], site: str, kind: str) -> Errand:
    """An errand of one of `LEVELS` in a store of these articles."""
    names = [article.name for article in articles]
    shelf = {"scroll": 1, "page": 2}.get(kind, 0)
    named = rng.choice([k for k in range(shelf * SHELF, (shelf + 1) * SHELF) if names.count(names[k]) == 1])
    wanted, directions = named, ()
    verb = VERBS[site] if kind.endswith("do") else "Open"
    text = f"{verb} the {names[named]}."
    if kind.startswith("reach"):
        wanted, directions = _route(rng, articles, named)
        go = ", ".join(twins.numbered(directions))
        text = f"Start at the {names[named]}. Go {go}. {verb} what you reach."
    start = rng.choice([k for k in range(STORE) if k != wanted]) if kind == "elsewhere" else None
    before = {"scroll": ("scroll",), "page": ("scroll", "next"), "elsewhere": ("home",)}.get(kind, ())
    after = ("do", "stop") if kind.endswith("do") else ("stop",)
    return Errand(
        site, kind, text, start, wanted, named, directions, (*before, f"open {wanted % SHELF}", *after)
    )  # fmt: skip


def _route(rng: random.Random, articles: Sequence[Article], start: int) -> tuple[int, tuple[str, ...]]:
    order = [start, *(k for k in range(SHELF) if k != start)]
    scene = Scene(0, tuple(skin.thing(articles[k], k) for k in order))
    while True:
        found = twins.sample_route(rng, scene, hops=rng.choice(HOPS))
        if found:
            return order[found[0][-1]], found[1]


def walk(rng: random.Random, articles: Sequence[Article], errand: Errand) -> list[Step]:
    """The steps of an errand, at the rate `DETOUR` with a wrong article opened first, and the way back."""
    moves = list(errand.moves)
    if errand.start is None and not errand.directions and rng.random() < DETOUR:
        wrong = rng.choice([k for k in range(SHELF) if articles[k].name != articles[errand.wanted].name])
        moves = [f"open {wrong}", "back", *moves]
    steps: list[Step] = []
    previous: list[str] = []
    shelf, one, done = 0, errand.start, False
    for move in moves:
        shown = articles[shelf * SHELF : (shelf + 1) * SHELF] if one is None else [articles[one]]
        page = Page(tuple(shown), done)
        steps.append(Step(errand, page, tuple(previous), move))
        previous.append(described(page, move, errand.site))
        if move.startswith("open"):
            one = shelf * SHELF + int(move.split()[1])
        elif move in ("home", "next", "scroll"):
            shelf, one = {"home": 0, "scroll": 1, "next": 2}[move], None
        elif move == "back":
            one = None
        done = move == "do"
    # A wrong article is opened to go back from it, not to learn to open it.
    return [step for step, after in zip(steps, [*moves[1:], ""], strict=True) if after != "back"]


def action(move: str) -> str:
    """The move as an agent writes it."""
    if move.startswith("open"):
        return f"click [{3 + int(move.split()[1])}]"
    written = {"home": "click [1]", "next": "click [2]", "do": "click [2]", "scroll": "scroll [down]"}
    return (written | {"back": "go_back", "stop": "stop []"})[move]


def described(page: Page, move: str, site: str) -> str:
    """The move as an agent's list of previous actions has it: what is clicked by what it says, not by its number."""
    if move.startswith("open"):
        return f"click [IMG] [{page.articles[int(move.split()[1])].name}]"
    clicked = {"home": "click [IMG] [Home]", "next": "click [IMG] [Next]", "do": f"click [BUTTON] [{VERBS[site]}]"}
    return clicked.get(move, action(move))


def step(rng: random.Random, number: int) -> Step:
    """The step number so and so, in a store of its own: the kinds of errands take turns."""
    kind = list(LEVELS)[number % len(LEVELS)]
    articles = [Article(name, rng.randrange(LOOKS)) for name in store(rng)]
    steps = walk(rng, articles, errand(rng, articles, rng.choice(list(VERBS)), kind))
    weights = [VISUAL if found.move.startswith("open") else 1 for found in steps]
    return rng.choices(steps, weights)[0]


def visualwebarena_row(step: Step, number: int) -> dict[str, Any]:
    """The step as a row of the released step files."""
    talk = [{"from": "human", "value": f"<image>{step.text}"}, {"from": "gpt", "value": action(step.move)}]
    return {"id": f"errand-{number}", "image": png(skin.draw(step.page)), "conversations": talk}


def truth(step: Step) -> dict[str, Any]:
    """Ground truth of a step as JSON values."""
    return {
        "kind": step.errand.kind,
        "level": LEVELS[step.errand.kind],
        "action": action(step.move),
        "names": [article.name for article in step.page.articles],
        "boxes": [list(box) for box in skin.boxes(step.page)],
        "directions": list(step.errand.directions),
    }


def narrated(rng: random.Random, step: Step, *, grounded: bool) -> str:
    """A reply in the right form that is not always right: what is on the page, and an action.

    On a shelf the thing that is named is looked at, or another where it is not there, or a route is walked.
    """
    things = tuple(
        skin.thing(article, place) for article, place in zip(step.page.articles, skin.places(step.page), strict=True)
    )
    said, move = _said(rng, step, Scene(0, things), {"grounded": grounded, "where": skin.place_word})
    if rng.random() >= ACT:
        others = ["do"] if step.page.single else ["next", *(f"open {place}" for place in range(SHELF))]
        move = rng.choice([*others, "home", "scroll", "back", "stop"])
    return render_single(said, action(move))


def _said(rng: random.Random, step: Step, scene: Scene, how: dict[str, Any]) -> tuple[list[str], str]:
    """What is said of a page, and the move that follows from it."""
    heeds, asked = rng.random() < LOOK, step.errand.directions
    if step.page.single:
        return lessons.survey(rng, scene, places=[0], **how), step.move
    if asked:
        first = step.errand.named if heeds else rng.randrange(SHELF)
        hops = len(asked) if rng.random() < FINISH else rng.randint(0, len(asked))
        said, _, end = lessons.narrate(rng, scene, first=first, hops=hops, asked=asked, **how)
        return said, f"open {end}"
    # What is asked for, if it is here; else something that is not it.
    here = int(step.move.split()[1]) if heeds and step.move.startswith("open") else rng.randrange(SHELF)
    move = f"open {here}" if step.move.startswith("open") else step.move
    return lessons.survey(rng, scene, places=[here], **how), move
