"""Tasks on the three sites in VisualWebArena's schema, each with the steps that solve it.

A seed makes a world (`world.fill`) and its tasks; what they ask follows from the database, so that the answers are
known. Easy: one or two steps on one page. Medium: several pages, or a form. Hard: a long form, several things at once,
or a thing that only its picture tells from others. Save the rows as a file, and `evaluators.load_tasks` reads it like
an official one.
"""

from __future__ import annotations

import collections
import dataclasses
import json
import random
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from vigorl_lib.nano import errands
from vigorl_lib.nano import skin as nano_skin
from vigorl_lib.runs import write_text_atomic
from vigorl_lib.web import world
from vigorl_lib.web.agent import Policy
from vigorl_lib.web.browser import Observation

EACH = 3  # tasks of every kind, where the world has so many
SAYINGS = (
    "I can pick it up on Friday.", "Is the price final?", "I would like two of these.", "Greetings from Dunmore!",
    "Please send me a message.", "Does it fit into a small car?",
)  # fmt: skip
PRAISE = ("Exactly what I needed.", "Sturdier than it looks.", "My aunt was delighted.")
STREETS = ("Mill Lane 4", "Harbour Road 17", "Station Street 9")
TOPICS = ("A bench for the square", "Who has a spare key?", "Meeting on the first of May")
ITEMS = (
    "[...document.querySelectorAll('.item')].map((row) => row.querySelector('.quantity').outerText + ' x ' + "
    "row.querySelector('.name').outerText).sort().join(', ')"
)


@dataclasses.dataclass(frozen=True)
class Step:
    """One step of a solution: an action's verb, the mark that it is for by its text or label, and a content."""

    verb: str
    target: str = ""
    content: str = ""


@dataclasses.dataclass(frozen=True)
class Solved:
    """A task as a row of the file, with its solution."""

    row: dict[str, Any]
    steps: tuple[Step, ...]

    @property
    def id(self) -> str:
        """As `evaluators.Task.id`."""
        return f"{self.row['sites'][0]}/{self.row['task_id']}"


def generate(seed: int, skin: world.Skin = "plain") -> list[Solved]:
    """The tasks of the world that this seed makes, numbered from 0 on each site."""
    rng = random.Random(f"tasks {seed}")
    if skin == "nano":
        found = [task for site in errands.VERBS for task in _errands(site, seed, rng)]
    else:
        database = sqlite3.connect(":memory:")
        database.row_factory = sqlite3.Row
        world.fill(database, seed)
        found = [*_classifieds(database, rng), *_forum(database, rng), *_shop(database, rng)]
    numbers: collections.Counter[str] = collections.Counter()
    tasks = []
    for one in found:
        (site,) = one.row["sites"]
        tasks.append(dataclasses.replace(one, row={**one.row, "task_id": numbers[site]}))
        numbers[site] += 1
    return tasks


def save_tasks(path: str | Path, tasks: Sequence[Solved]) -> None:
    """Write the rows as a file that `evaluators.load_tasks` reads."""
    write_text_atomic(path, json.dumps([task.row for task in tasks], indent=2, ensure_ascii=False) + "\n")


def scripted(steps: Sequence[Step]) -> Policy:
    """A policy for `agent.run_episode` that carries the steps out: it looks for each mark, and scrolls down for it."""
    left = collections.deque(steps)

    def policy(observation: Observation, objective: str, previous: Sequence[str]) -> str:
        if not left:
            return "stop []"
        step = left[0]
        if not step.target:
            left.popleft()
            return f"{step.verb} [{step.content}]"
        marks = [mark for mark in observation.marks if step.target in (mark.text, mark.label)]
        if not marks:
            return "scroll [down]"
        left.popleft()
        return f"{step.verb} [{marks[0].id}]{step.content}"

    return policy


def _click(target: str) -> Step:
    return Step("click", target)


def _write(field: str, text: str, *, enter: bool = False) -> Step:
    return Step("type", field, f" [{text}] [{int(enter)}]")


def _stop(answer: str = "") -> Step:
    return Step("stop", content=answer)


def _task(
    site: str, level: str, template: str, values: dict[str, Any], evaluation: dict[str, Any], steps: Sequence[Step], *,
    visual: bool = False, start: str = "",
) -> Solved:  # fmt: skip
    intent = template
    for name, value in values.items():
        intent = intent.replace("{{" + name + "}}", str(value))
    row = {
        "sites": [site],
        "task_id": None,
        "require_login": False,
        "storage_state": None,
        "start_url": start or f"__{site.upper()}__/",
        "geolocation": None,
        "intent_template": template,
        "intent": intent,
        "image": None,
        "instantiation_dict": values,
        "require_reset": "program_html" in evaluation["eval_types"],
        "eval": {"reference_answers": None, "reference_url": "", "program_html": [], **evaluation},
        "reasoning_difficulty": level,
        "visual_difficulty": "medium" if visual else "easy",
        "overall_difficulty": level,
        "comments": "",
        "intent_template_id": None,
    }
    return Solved(row, tuple(steps))


def _errands(site: str, seed: int, rng: random.Random) -> Iterator[Solved]:
    """The errands of `nano.errands` on a site in its nano skin: one of each kind."""
    articles = [nano_skin.Article(name, id) for id, name in world.nano_store(site, seed)]
    home, verb = f"__{site.upper()}__", errands.VERBS[site]
    page = {"classifieds": "/listing/{}", "reddit": f"/f/{world.NANO_BOARD}/{{}}", "shopping": "/product/{}"}[site]
    for kind, level in errands.LEVELS.items():
        found = errands.errand(rng, articles, site, kind)
        id = articles[found.wanted].number
        steps = {"home": _click("Home"), "next": _click("Next"), "do": _click(verb), "stop": _stop()}
        steps |= {
            "scroll": Step("scroll", content="down"),
            f"open {found.wanted % nano_skin.SHELF}": _click(f"no. {id}"),
        }
        done = (home + page.format(id), "document.querySelector('button').className", {"exact_match": "done"})
        if site == "shopping":
            done = (f"{home}/cart", "document.querySelector('#items').textContent", {"exact_match": f"1 x no. {id}"})
        wanted = _shown(done) if "do" in found.moves else _opened(home + page.format(id))
        start = home + ("/" if found.start is None else page.format(articles[found.start].number))
        yield _task(site, level, found.text, {}, wanted, [steps[move] for move in found.moves], start=start)


def _answer(*parts: str) -> dict[str, Any]:
    return {"eval_types": ["string_match"], "reference_answers": {"must_include": list(parts)}}


def _opened(url: str) -> dict[str, Any]:
    return {"eval_types": ["url_match"], "reference_url": url, "url_note": "EXACT"}


def _shown(*targets: tuple[str, str, dict[str, Any]]) -> dict[str, Any]:
    """What pages have to hold in the end: (address, locator, required contents) each."""
    parts = [{"url": url, "locator": locator, "required_contents": required} for url, locator, required in targets]
    return {"eval_types": ["program_html"], "program_html": parts}


def _text(selector: str) -> str:
    return f"document.querySelector('{selector}').outerText"


def _rows(database: sqlite3.Connection, rng: random.Random, table: str) -> Iterator[list[sqlite3.Row]]:
    """For one kind of task after another: `EACH` rows drawn from the table."""
    rows = list(database.execute(f"select * from {table} order by id"))
    while True:
        yield rng.sample(rows, EACH)


def _only(rows: Sequence[sqlite3.Row], rng: random.Random, *columns: str) -> list[sqlite3.Row]:
    """Up to `EACH` rows that share the values of these columns with no other row."""
    count = collections.Counter(tuple(row[column] for column in columns) for row in rows)
    alone = [row for row in rows if count[tuple(row[column] for column in columns)] == 1]
    return rng.sample(alone, min(EACH, len(alone)))


def _classifieds(database: sqlite3.Connection, rng: random.Random) -> Iterator[Solved]:
    site, home = "classifieds", "__CLASSIFIEDS__"
    every = list(database.execute("select * from listings order by id"))
    drawn = _rows(database, rng, "listings")

    def find(row: sqlite3.Row) -> Step:
        return _write("Search listings", row["title"], enter=True)

    for row in next(drawn):
        values = {"title": row["title"]}
        steps = [find(row), _stop(f"${row['price']}")]
        yield _task(site, "easy", "How much does the {{title}} cost?", values, _answer(str(row["price"])), steps)
    for row in next(drawn):
        steps = [find(row), _click(row["title"]), _stop()]
        place = _opened(f"{home}/listing/{row['id']}")
        yield _task(site, "easy", "Open the listing “{{title}}”.", {"title": row["title"]}, place, steps)
    for row in next(drawn):
        steps = [find(row), _click(row["title"]), _stop(row["seller"])]
        yield _task(site, "medium", "Who sells the {{title}}?", {"title": row["title"]}, _answer(row["seller"]), steps)
    for city in rng.sample(world.CITIES, EACH):
        row = min((row for row in every if row["city"] == city), key=lambda row: row["price"])
        steps = [_click(city), _click("Lower price first"), _click(row["title"]), _stop()]
        place = _opened(f"{home}/listing/{row['id']}")
        yield _task(site, "medium", "Open the cheapest listing in {{city}}.", {"city": city}, place, steps)
    for row, said in zip(next(drawn), rng.sample(SAYINGS, EACH), strict=True):
        steps = [find(row), _click(row["title"]), _write("Your comment", said), _click("Leave comment"), _stop()]
        there = _shown((f"{home}/listing/{row['id']}", _text("#comments"), {"must_include": [said]}))
        values = {"title": row["title"], "comment": said}
        yield _task(site, "medium", "Leave the comment “{{comment}}” at the {{title}}.", values, there, steps)
    for kind, topic in zip(rng.sample(list(world.CATEGORY), EACH), TOPICS, strict=True):
        price, city = rng.randint(5, 90), rng.choice(world.CITIES)
        values = {"title": f"{topic}: {kind}", "kind": kind, "price": price, "city": city, "text": rng.choice(PRAISE)}
        steps = [_click("Publish ad"), _write("Title", values["title"]), _write("Kind of thing", kind),
                 _write("Price in dollars", str(price)), _write("City", city), _write("Description", values["text"]),
                 _click("Publish"), _stop()]  # fmt: skip
        page = f"{home}/listing/{len(every) + 1}"
        there = _shown(
            (page, _text("#title"), {"exact_match": values["title"]}),
            (page, _text("#price"), {"exact_match": f"${price}"}),
            (page, _text(".detail table"), {"must_include": [city]}),
        )
        wanted = "Publish an ad “{{title}}”: a {{kind}} for ${{price}} in {{city}}, described as “{{text}}”."
        yield _task(site, "hard", wanted, values, there, steps)
    for row in _only(every, rng, "kind", "colour"):
        values = {"colour": row["colour"], "kind": row["kind"]}
        steps = [_write("Search listings", row["kind"], enter=True), _stop(f"${row['price']}")]
        wanted = _answer(str(row["price"]))
        yield _task(site, "hard", "What does the {{colour}} {{kind}} cost?", values, wanted, steps, visual=True)
    mine = [row for row in every if row["seller"] == world.YOU]
    for row in mine:
        price = row["price"] + 10
        steps = [_click("My listings"), _click(row["title"]), _write("New price", str(price)), _click("Change price"),
                 _stop()]  # fmt: skip
        there = _shown((f"{home}/listing/{row['id']}", _text("#price"), {"exact_match": f"${price}"}))
        yield _task(site, "hard", "Raise the price of my {{title}} by $10.", {"title": row["title"]}, there, steps)
    for row in mine:
        steps = [_click("My listings"), _click(row["title"]), _click("Delete listing"), _stop()]
        there = _shown((f"{home}/?seller={world.YOU}", _text("main"), {"must_exclude": [row["title"]]}))
        yield _task(site, "medium", "Delete my listing “{{title}}”.", {"title": row["title"]}, there, steps)


def _forum(database: sqlite3.Connection, rng: random.Random) -> Iterator[Solved]:
    site, home = "reddit", "__REDDIT__"
    scores = dict(database.execute("select post, sum(value) from votes group by post"))
    replies = dict(database.execute("select post, count(*) from comments group by post"))
    every = list(database.execute("select * from posts order by id"))
    drawn = _rows(database, rng, "posts")

    def find(row: sqlite3.Row) -> Step:
        return _write("Search posts", row["title"], enter=True)

    def url(row: sqlite3.Row) -> str:
        return f"{home}/f/{row['board']}/{row['id']}"

    for row in next(drawn):
        steps = [find(row), _click(row["title"]), _stop()]
        yield _task(site, "easy", "Open the post “{{title}}”.", {"title": row["title"]}, _opened(url(row)), steps)
    for row in next(drawn):
        count = str(replies[row["id"]])
        steps = [find(row), _stop(count)]
        wanted = "How many comments does the post “{{title}}” have?"
        yield _task(site, "easy", wanted, {"title": row["title"]}, _answer(count), steps)
    for row in next(drawn):
        steps = [find(row), _click(f"Upvote {row['title']}"), _stop()]
        locator = "document.querySelector('.votes button[value=up]').className"
        there = _shown((url(row), locator, {"exact_match": "on"}))
        yield _task(site, "medium", "Upvote the post “{{title}}”.", {"title": row["title"]}, there, steps)
    for board in rng.sample(list(world.BOARDS), EACH):
        row = max((row for row in every if row["board"] == board), key=lambda row: scores.get(row["id"], 0))
        steps = [_click(board), _click("Top"), _click(row["title"]), _stop()]
        wanted = "Open the post with the highest score in {{board}}."
        yield _task(site, "medium", wanted, {"board": board}, _opened(url(row)), steps)
    for row, said in zip(next(drawn), rng.sample(SAYINGS, EACH), strict=True):
        steps = [find(row), _click(row["title"]), _write("Your comment", said), _click("Post"), _stop()]
        there = _shown((url(row), _text("#comments"), {"must_include": [said]}))
        values = {"title": row["title"], "comment": said}
        yield _task(site, "medium", "Comment “{{comment}}” on the post “{{title}}”.", values, there, steps)
    for board, topic in zip(rng.sample(list(world.BOARDS), EACH), TOPICS, strict=True):
        values = {"board": board, "title": topic, "text": rng.choice(SAYINGS)}
        steps = [_click("Submit"), _write("Title", topic), _write("Body", values["text"]), _click(board),
                 _click("Create post"), _stop()]  # fmt: skip
        page = f"{home}/f/{board}/{len(every) + 1}"
        there = _shown(
            (page, _text("#title"), {"exact_match": topic}), (page, _text("#body"), {"exact_match": values["text"]})
        )
        wanted = "Submit a post “{{title}}” to {{board}} that says “{{text}}”."
        yield _task(site, "hard", wanted, values, there, steps)
    for row in _only(every, rng, "board", "kind"):
        values = {"board": row["board"], "kind": row["kind"]}
        steps = [_click(row["board"]), _click(row["title"]), _stop()]
        wanted = "Open the post in {{board}} whose picture shows a {{kind}}."
        yield _task(site, "hard", wanted, values, _opened(url(row)), steps, visual=True)
    authors = collections.Counter(row["author"] for row in every)
    pairs = [author for author, count in sorted(authors.items()) if count == 2]
    for author in rng.sample(pairs, min(EACH, len(pairs))):
        first, second = (row for row in every if row["author"] == author)
        steps = [find(first), _click(author), _click(f"Downvote {first['title']}"), _click(author),
                 _click(f"Downvote {second['title']}"), _stop()]  # fmt: skip
        locator = "document.querySelector('.votes button[value=down]').className"
        there = _shown(*((url(row), locator, {"exact_match": "on"}) for row in (first, second)))
        yield _task(site, "hard", "Downvote all posts of {{author}}.", {"author": author}, there, steps)


def _shop(database: sqlite3.Connection, rng: random.Random) -> Iterator[Solved]:
    site, home = "shopping", "__SHOPPING__"
    every = list(database.execute("select * from products order by id"))
    drawn = _rows(database, rng, "products")

    def find(row: sqlite3.Row) -> Step:
        return _write("Search the store", row["title"], enter=True)

    def put(row: sqlite3.Row, count: int) -> list[Step]:
        """Put so many of it into the cart."""
        many = [Step("clear", "Quantity"), _write("Quantity", str(count))] if count > 1 else []
        return [find(row), _click(row["title"]), *many, _click("Add to cart")]

    def dollars(cents: int) -> str:
        return f"${cents / 100:,.2f}"

    for row in next(drawn):
        price = dollars(row["cents"])
        steps = [find(row), _stop(price)]
        yield _task(site, "easy", "What is the price of the {{title}}?", {"title": row["title"]}, _answer(price), steps)
    for row in next(drawn):
        steps = [find(row), _click(row["title"]), _stop()]
        place = _opened(f"{home}/product/{row['id']}")
        yield _task(site, "easy", "Show me the page of the {{title}}.", {"title": row["title"]}, place, steps)
    for row in next(drawn):
        count = rng.randint(2, 3)
        there = _shown((f"{home}/cart", ITEMS, {"exact_match": f"{count} x {row['title']}"}))
        values = {"title": row["title"], "count": count}
        steps = [*put(row, count), _stop()]
        yield _task(site, "medium", "Put {{count}} pieces of the {{title}} into my cart.", values, there, steps)
    for category in world.KINDS:
        row = min((row for row in every if row["category"] == category), key=lambda row: row["cents"])
        steps = [_click(category), _click("Price: low to high"), _click(row["title"]), _stop()]
        place = _opened(f"{home}/product/{row['id']}")
        wanted = "Open the cheapest product of the category {{category}}."
        yield _task(site, "medium", wanted, {"category": category}, place, steps)
    for row, said in zip(next(drawn), PRAISE, strict=True):
        stars = rng.randint(2, 5)
        steps = [find(row), _click(row["title"]), _click(f"{stars} stars"), _write("Your review", said),
                 _click("Submit review"), _stop()]  # fmt: skip
        last = "[...document.querySelectorAll('#reviews .comment')].at(-1).outerText"
        there = _shown((f"{home}/product/{row['id']}", last, {"must_include": [said, "★" * stars + "☆" * (5 - stars)]}))
        values = {"title": row["title"], "stars": stars, "review": said}
        wanted = "Review the {{title}} with {{stars}} stars and the words “{{review}}”."
        yield _task(site, "medium", wanted, values, there, steps)
    for (one, two, _), street in zip((next(drawn) for _ in STREETS), STREETS, strict=True):
        count, city = rng.randint(1, 3), rng.choice(world.CITIES)
        values = {"count": count, "one": one["title"], "two": two["title"], "street": street, "city": city}
        steps = [*put(one, count), *put(two, 1), _click("Proceed to checkout"), _write("Name", "Blake"),
                 _write("Street", street), _write("City", city), _click("Place order"), _stop()]  # fmt: skip
        order = f"{home}/order/1"
        there = _shown(
            (order, ITEMS, {"exact_match": ", ".join(sorted((f"{count} x {one['title']}", f"1 x {two['title']}")))}),
            (order, _text("#address"), {"must_include": ["Blake", street, city]}),
        )
        wanted = "Order {{count}} of the {{one}} and one {{two}} for Blake, {{street}}, {{city}}."
        yield _task(site, "hard", wanted, values, there, steps)
    for row in _only(every, rng, "kind", "colour"):
        steps = [_write("Search the store", row["kind"], enter=True), _click(row["title"]), _click("Add to cart"),
                 _stop()]  # fmt: skip
        there = _shown((f"{home}/cart", ITEMS, {"exact_match": f"1 x {row['title']}"}))
        values = {"colour": row["colour"], "kind": row["kind"]}
        yield _task(site, "hard", "Put the {{colour}} {{kind}} into my cart.", values, there, steps, visual=True)
    for one, two, _ in (next(drawn) for _ in range(EACH)):
        total = dollars(2 * one["cents"] + two["cents"])
        steps = [find(one), find(two), _stop(total)]
        values = {"one": one["title"], "two": two["title"]}
        wanted = "How much do two of the {{one}} and one {{two}} cost together?"
        yield _task(site, "hard", wanted, values, _answer(total), steps)
