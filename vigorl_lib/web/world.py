"""The invented town behind the three sites: who lives there, what they sell, say and buy, all drawn from one seed.

One SQLite database holds all three sites. What a thing looks like (its colour) stands in no text: whoever wants to know
has to look at its picture. Prices of classifieds are whole dollars, those of the shop are cents.
"""

from __future__ import annotations

import random
import sqlite3
from typing import Literal

from vigorl_lib.nano import errands

Skin = Literal["plain", "nano"]
YOU = "blake"  # who is logged in, on every site
NAMES = (
    "ada", "bruno", "clara", "dario", "elif", "farid", "greta", "hugo", "ines", "jonas", "kaja", "luca", "mona", "nils",
    "olga", "pavel", "quinn", "rosa", "sami", "tilda", "ugo", "vera", "wim", "xenia", "yara", "zeno",
)  # fmt: skip
CITIES = ("Alderton", "Brookfield", "Casterby", "Dunmore", "Eastwick")
COLOURS = ("red", "blue", "green", "yellow", "purple", "orange", "pink", "grey")
KINDS = {  # what there is, by category; `pictures` can draw each
    "Home": ("lamp", "chair", "mug", "vase", "clock"),
    "Outdoors": ("bicycle", "tent", "umbrella", "backpack"),
    "Leisure": ("guitar", "kite", "ball"),
}
CATEGORY = {kind: category for category, kinds in KINDS.items() for kind in kinds}
ADJECTIVES = (
    "Sturdy", "Vintage", "Compact", "Classic", "Elegant", "Handy", "Rustic", "Modern", "Quiet", "Light", "Bright",
    "Solid", "Simple", "Noble", "Cosy", "Swift", "Clever", "Plain",
)  # fmt: skip
CONDITIONS = ("like new", "used a few times", "with a few scratches", "well looked after", "from a smoke-free home")
REASONS = (
    "I am moving and have no room for it.", "It was a present, and I have two of them now.",
    "My children have outgrown it.", "I bought a larger one.", "It only stands in the cellar.",
)  # fmt: skip
QUESTIONS = (
    "Is it still available?", "Could you hold it until Friday?", "Would you take a little less?",
    "Where in town can I pick it up?", "Does it come with the box?",
)  # fmt: skip
BOARDS = {
    "cycling": ("Which tyres for wet cobbles?", "My first hundred kilometres", "The new lane along the river",
                "How often do you oil the chain?", "Found: a glove on the bridge", "Night rides on Thursdays",
                "A bell that people hear"),
    "baking": ("Why does my bread stay flat?", "Plum cake without an oven", "Rye starter to give away",
               "The best mill in the region", "Salt: how much is too much?", "Cookies for forty children",
               "A crust like the baker's"),
    "gardening": ("Slugs, again", "Tomatoes on a north balcony", "When do you cut roses?", "Swap meet for seeds",
                  "My compost smells", "A hedge that feeds birds", "Rain barrels compared"),
    "photography": ("Fog over the lake this morning", "Which lens for a choir?", "Film or not?",
                    "A picture a day, month two", "Portraits in the old mill", "How to store negatives",
                    "Colours of the autumn market"),
}  # fmt: skip
NANO_BOARD = "cycling"  # the only one in the nano skin
OPENINGS = (
    "I have been at this for a year now and would like to hear what works for you.",
    "Here is what I tried last week, and what came of it.", "Short question, long story.",
    "Perhaps this helps somebody; it took me a while to find out.", "All advice is welcome, even the blunt kind.",
)  # fmt: skip
OPINIONS = (
    "I would do it the same way.", "That did not work for me at all.", "Thank you, I will try it on Sunday.",
    "Ask at the shop by the station; they know.", "Patience is most of it.", "Do you have a picture?",
    "I read the opposite somewhere.", "Count me in.",
)  # fmt: skip
FEATURES = (
    "Made to last, with parts that can be replaced.", "Our customers' favourite three years running.",
    "A small thing that makes a day better.", "Tested by hand before it leaves the store.",
    "Comes with a guarantee of two years.",
)  # fmt: skip
VERDICTS = (
    "Does what it should.", "Smaller than I thought, but good.", "I bought a second one.", "The colour is lovely.",
    "It broke after a month.", "Good value.",
)  # fmt: skip

SCHEMA = """
create table listings(id integer primary key, title text, kind text, colour text, category text, price integer,
  city text, seller text, body text);
create table remarks(id integer primary key, listing integer, author text, body text);
create table posts(id integer primary key, board text, title text, body text, author text, kind text, colour text);
create table comments(id integer primary key, post integer, author text, body text);
create table votes(post integer, voter text, value integer, primary key(post, voter));
create table products(id integer primary key, title text, kind text, colour text, category text, cents integer,
  stock integer, body text);
create table reviews(id integer primary key, product integer, author text, stars integer, body text);
create table cart(product integer primary key, quantity integer);
create table orders(id integer primary key, name text, street text, city text);
create table items(orderno integer, product integer, quantity integer, cents integer);
"""


def fill(database: sqlite3.Connection, seed: int, skin: Skin = "plain") -> None:
    """Make the tables and everything in them: the same seed, the same rows. Titles are unique on each plain site."""
    rng = random.Random(seed)
    database.executescript(SCHEMA)
    if skin == "nano":
        _nano(database, seed)
    else:
        _classifieds(database, rng)
        _forum(database, rng)
        _shop(database, rng)
    database.commit()


def nano_store(site: str, seed: int) -> list[tuple[int, str]]:
    """(id, name) of what a site shows in its nano skin, in the order shown."""
    names = errands.store(random.Random(f"store {site} {seed}"))
    ids = range(1, len(names) + 1)
    return list(zip(ids if site == "shopping" else reversed(ids), names, strict=True))  # the others: newest first


def _nano(database: sqlite3.Connection, seed: int) -> None:
    shown = {
        site: [(id, name, *reversed(name.split())) for id, name in nano_store(site, seed)] for site in errands.VERBS
    }
    columns = "id title kind colour"
    rows = [(*row, "Home", 10, CITIES[0], NAMES[0], "") for row in shown["classifieds"]]
    _insert(database, "listings", f"{columns} category price city seller body", rows)
    rows = [(*row, NANO_BOARD, "", NAMES[0]) for row in shown["reddit"]]
    _insert(database, "posts", f"{columns} board body author", rows)
    rows = [(*row, "Home", 1000, 99, "") for row in shown["shopping"]]
    _insert(database, "products", f"{columns} category cents stock body", rows)


def _things(rng: random.Random, count: int) -> list[tuple[str, str, str, str]]:
    """So many things: (title, kind, colour, category), no title twice."""
    pairs = [(adjective, kind) for adjective in ADJECTIVES for kind in CATEGORY]
    return [
        (f"{adjective} {kind}", kind, rng.choice(COLOURS), CATEGORY[kind])
        for adjective, kind in rng.sample(pairs, count)
    ]


def _insert(database: sqlite3.Connection, table: str, columns: str, rows: list[tuple]) -> None:
    places = ", ".join("?" * len(columns.split()))
    database.executemany(f"insert into {table}({', '.join(columns.split())}) values ({places})", rows)


def _classifieds(database: sqlite3.Connection, rng: random.Random) -> None:
    listings, remarks = [], []
    prices = rng.sample(range(5, 400), 60)  # no price twice, so that "the cheapest" is one
    for number, (thing, price) in enumerate(zip(_things(rng, 60), prices, strict=True), start=1):
        title, kind, colour, category = thing
        body = f"{title}, {rng.choice(CONDITIONS)}. {rng.choice(REASONS)}"
        seller = YOU if number % 20 == 0 else rng.choice(NAMES)
        listings.append((number, title, kind, colour, category, price, rng.choice(CITIES), seller, body))
        remarks += [(number, rng.choice(NAMES), text) for text in rng.sample(QUESTIONS, rng.randint(0, 3))]
    _insert(database, "listings", "id title kind colour category price city seller body", listings)
    _insert(database, "remarks", "listing author body", remarks)


def _forum(database: sqlite3.Connection, rng: random.Random) -> None:
    titles = [(board, title) for board, found in BOARDS.items() for title in found]
    rng.shuffle(titles)
    posts, comments, votes = [], [], []
    scores = rng.sample(range(-3, len(NAMES)), len(titles))
    for number, ((board, title), score) in enumerate(zip(titles, scores, strict=True), start=1):
        kind, colour = rng.choice(list(CATEGORY)), rng.choice(COLOURS)
        posts.append((number, board, title, rng.choice(OPENINGS), rng.choice(NAMES), kind, colour))
        comments += [(number, rng.choice(NAMES), text) for text in rng.sample(OPINIONS, rng.randint(1, 5))]
        votes += [(number, name, 1 if score > 0 else -1) for name in rng.sample(NAMES, abs(score))]
    _insert(database, "posts", "id board title body author kind colour", posts)
    _insert(database, "comments", "post author body", comments)
    _insert(database, "votes", "post voter value", votes)


def _shop(database: sqlite3.Connection, rng: random.Random) -> None:
    products, reviews = [], []
    prices = [5 * step for step in rng.sample(range(100, 3000), 48)]
    for number, (thing, cents) in enumerate(zip(_things(rng, 48), prices, strict=True), start=1):
        title, kind, colour, category = thing
        products.append((number, title, kind, colour, category, cents, rng.randint(3, 40), rng.choice(FEATURES)))
        texts = rng.sample(VERDICTS, rng.randint(0, 4))
        reviews += [(number, rng.choice(NAMES), rng.randint(1, 5), text) for text in texts]
    _insert(database, "products", "id title kind colour category cents stock body", products)
    _insert(database, "reviews", "product author stars body", reviews)
