"""Three small sites on loopback, for web agents: classifieds, a forum and a shop, after those of VisualWebArena.

Each site is an application on a port of its own; behind all three stands one SQLite database per session, a copy of the
one that `world.fill` makes from a seed. A browser context is a session by its cookie, so that contexts that run side by
side see nothing of each other. Who visits is logged in as `world.YOU`.

In the skin `nano` the same applications show pages that the nano base can read (`nano.skin`): other templates, another
world, no text.

All that a visitor sends is hostile: the templates escape it, statements take it as parameters, and its size is bounded.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import functools
import math
import secrets
import socket
import sqlite3
import threading
import time
import urllib.parse
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jinja2
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route

from vigorl_lib.nano import skin as nano_skin
from vigorl_lib.nano.drawing import png
from vigorl_lib.nano.world import COLOURS, SHAPES
from vigorl_lib.web import world
from vigorl_lib.web.pictures import PAINT, THINGS, picture

COOKIE = "session"
PER_PAGE = 12
MAX_BODY = 20_000  # bytes of a form
MAX_SESSIONS = 64  # the oldest goes when another comes
HEADERS = {
    "content-security-policy": "default-src 'none'; img-src 'self' data:; style-src 'self'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'",
    "cache-control": "no-store",
}
KEPT = {"cache-control": "private, max-age=3600"}  # pictures and styles: the same address, the same bytes
TEMPLATES = Path(__file__).with_name("templates")
FOLDERS: dict[world.Skin, list[Path]] = {"plain": [TEMPLATES], "nano": [TEMPLATES / "nano", TEMPLATES]}


def _environment(folders: list[Path]) -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(folders), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True
    )
    environment.filters["dollars"] = lambda cents: f"${cents / 100:,.2f}"
    return environment


_environments = {skin: _environment(folders) for skin, folders in FOLDERS.items()}

Row = dict[str, Any]


class Rejected(Exception):
    """A form or an address that a site does not take: `status` is HTTP's, the text is for the visitor."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


@dataclasses.dataclass(frozen=True)
class Visit:
    """One request: the session's database, the parts of the path, the query and the form (the last of equal names)."""

    skin: world.Skin
    database: sqlite3.Connection
    path: dict[str, Any]
    query: dict[str, str]
    form: dict[str, str]

    def rows(self, statement: str, *values: Any) -> list[Row]:
        cursor = self.database.execute(statement, values)
        names = [column[0] for column in cursor.description]
        return [dict(zip(names, row, strict=True)) for row in cursor]

    def row(self, statement: str, *values: Any) -> Row:
        """The one row. Raises Rejected (404) without one."""
        found = self.rows(statement, *values)
        if not found:
            raise Rejected(404, "There is no such page.")
        return found[0]

    def change(self, statement: str, *values: Any) -> int:
        """Carry it out; the number of the row that was inserted, if one was."""
        with self.database:
            return self.database.execute(statement, values).lastrowid or 0

    def text(self, field: str, longest: int = 2000) -> str:
        """A field of the form. Raises Rejected (400) where it is empty or longer than `longest` characters."""
        value = self.form.get(field, "").strip()
        if not value or len(value) > longest:
            raise Rejected(400, f"Please fill in the field “{field}” (at most {longest} characters).")
        return value

    def number(self, field: str, least: int, most: int) -> int:
        """A whole number in the form. Raises Rejected (400) for anything else."""
        value = self.form.get(field, "").strip()
        if not (value.isascii() and value.isdigit() and len(value) < 10 and least <= int(value) <= most):
            raise Rejected(400, f"The field “{field}” takes a whole number from {least} to {most}.")
        return int(value)

    def page(self, template: str, **values: Any) -> Response:
        text = _environments[self.skin].get_template(template).render(query=self.query, you=world.YOU, **values)
        return HTMLResponse(text, headers=HEADERS)

    def listed(self, template: str, rows: list[Row], **values: Any) -> Response:
        """The part of the rows that `?page=` asks for (from 1; what is out of range shows the nearest page)."""
        pages = max(1, math.ceil(len(rows) / PER_PAGE))
        asked = self.query.get("page", "1")
        here = min(max(int(asked) if asked.isascii() and asked.isdigit() and len(asked) < 6 else 1, 1), pages)
        links = [
            (number, "?" + urllib.parse.urlencode({**self.query, "page": number})) for number in range(1, pages + 1)
        ]
        shown = rows[(here - 1) * PER_PAGE : here * PER_PAGE]
        return self.page(template, rows=shown, total=len(rows), here=here, pages=links, **values)


Handler = Callable[[Visit], Response]


def to(path: str) -> Response:
    """Go and look at that path of the same site: the answer to a form."""
    return RedirectResponse(path, status_code=303, headers=HEADERS)


def _matches(words: str, *columns: str) -> tuple[str, list[str]]:
    """A condition that every word stands in one of the columns, case apart, and its values."""
    found = [word for word in words.lower().split()[:8]]
    one = "(" + " or ".join(f"instr(lower({column}), ?)" for column in columns) + ")"
    return " and ".join([one] * len(found)) or "1", [word for word in found for _ in columns]


# Classifieds ------------------------------------------------------------------------------------------

LISTING_SORTS = {"newest": "id desc", "price_low": "price", "price_high": "price desc"}


def _listings(visit: Visit) -> Response:
    condition, values = _matches(visit.query.get("q", ""), "title", "body")
    for column in ("category", "city", "seller"):
        if visit.query.get(column):
            condition, values = f"{condition} and {column} = ?", [*values, visit.query[column]]
    order = LISTING_SORTS.get(visit.query.get("sort", ""), "id desc")
    rows = visit.rows(f"select * from listings where {condition} order by {order}", *values)
    keep = {key: value for key, value in visit.query.items() if key not in ("sort", "page")}
    sorts = [(name, "?" + urllib.parse.urlencode({**keep, "sort": name})) for name in LISTING_SORTS]
    return visit.listed("listings.html", rows, categories=list(world.KINDS), cities=world.CITIES, sorts=sorts)


def _listing(visit: Visit) -> Response:
    listing = visit.row("select * from listings where id = ?", visit.path["id"])
    remarks = visit.rows("select * from remarks where listing = ? order by id", listing["id"])
    return visit.page("listing.html", listing=listing, remarks=remarks)


def _remark(visit: Visit) -> Response:
    listing = visit.row("select id from listings where id = ?", visit.path["id"])["id"]
    visit.change(
        "insert into remarks(listing, author, body) values (?, ?, ?)", listing, world.YOU, visit.text("comment")
    )
    return to(f"/listing/{listing}")


def _own_listing(visit: Visit) -> Row:
    listing = visit.row("select * from listings where id = ?", visit.path["id"])
    if listing["seller"] != world.YOU:
        raise Rejected(403, "This listing is not yours.")
    return listing


def _reprice(visit: Visit) -> Response:
    listing = _own_listing(visit)["id"]
    visit.change("update listings set price = ? where id = ?", visit.number("price", 1, 100_000), listing)
    return to(f"/listing/{listing}")


def _withdraw(visit: Visit) -> Response:
    visit.change("delete from listings where id = ?", _own_listing(visit)["id"])
    return to(f"/?seller={world.YOU}")


def _publish_form(visit: Visit) -> Response:
    return visit.page("publish.html", kinds=list(world.CATEGORY), cities=world.CITIES)


def _publish(visit: Visit) -> Response:
    kind = visit.text("kind")
    if kind not in world.CATEGORY:
        raise Rejected(400, f"The kind is one of {', '.join(world.CATEGORY)}.")
    city = visit.text("city")
    if city not in world.CITIES:
        raise Rejected(400, f"The city is one of {', '.join(world.CITIES)}.")
    number = visit.change(
        "insert into listings(title, kind, colour, category, price, city, seller, body) "
        "values (?, ?, ?, ?, ?, ?, ?, ?)",
        visit.text("title", 80), kind, "grey", world.CATEGORY[kind], visit.number("price", 1, 100_000), city,
        world.YOU, visit.text("description"),
    )  # fmt: skip
    return to(f"/listing/{number}")


# Forum ------------------------------------------------------------------------------------------------

POSTS = """select posts.*, (select coalesce(sum(value), 0) from votes where post = posts.id) as score,
  (select count(*) from comments where post = posts.id) as replies,
  (select coalesce(sum(value), 0) from votes where post = posts.id and voter = ?) as mine from posts"""
POST_SORTS = {"new": "posts.id desc", "top": "score desc, posts.id", "discussed": "replies desc, posts.id"}


def _posts(visit: Visit) -> Response:
    condition, values = _matches(visit.query.get("q", ""), "title", "body")
    board = visit.path.get("board")
    if board is not None:
        if board not in world.BOARDS:
            raise Rejected(404, "There is no such board.")
        condition, values = f"{condition} and board = ?", [*values, board]
    if "name" in visit.path:
        condition, values = f"{condition} and author = ?", [*values, visit.path["name"]]
    order = POST_SORTS.get(visit.query.get("sort", ""), POST_SORTS["new"])
    rows = visit.rows(f"{POSTS} where {condition} order by {order}", world.YOU, *values)
    keep = {key: value for key, value in visit.query.items() if key not in ("sort", "page")}
    sorts = [(name, "?" + urllib.parse.urlencode({**keep, "sort": name})) for name in POST_SORTS]
    return visit.listed("posts.html", rows, boards=list(world.BOARDS), board=board, sorts=sorts,
                        author=visit.path.get("name"))  # fmt: skip


def _post(visit: Visit) -> Response:
    post = visit.row(f"{POSTS} where posts.id = ?", world.YOU, visit.path["id"])
    comments = visit.rows("select * from comments where post = ? order by id", post["id"])
    return visit.page("post.html", post=post, comments=comments, boards=list(world.BOARDS))


def _comment(visit: Visit) -> Response:
    post = visit.row("select id, board from posts where id = ?", visit.path["id"])
    visit.change(
        "insert into comments(post, author, body) values (?, ?, ?)", post["id"], world.YOU, visit.text("comment")
    )
    return to(f"/f/{post['board']}/{post['id']}")


def _vote(visit: Visit) -> Response:
    """Up or down; the same again takes the vote back."""
    post = visit.row(f"{POSTS} where posts.id = ?", world.YOU, visit.path["id"])
    value = {"up": 1, "down": -1}.get(visit.text("vote"))
    if value is None:
        raise Rejected(400, "A vote is up or down.")
    visit.change("delete from votes where post = ? and voter = ?", post["id"], world.YOU)
    if value != post["mine"]:
        visit.change("insert into votes(post, voter, value) values (?, ?, ?)", post["id"], world.YOU, value)
    return to(f"/f/{post['board']}/{post['id']}")


def _submit_form(visit: Visit) -> Response:
    return visit.page("submit.html", boards=list(world.BOARDS))


def _submit(visit: Visit) -> Response:
    board = visit.text("board")
    if board not in world.BOARDS:
        raise Rejected(400, f"The board is one of {', '.join(world.BOARDS)}.")
    number = visit.change(
        "insert into posts(board, title, body, author, kind, colour) values (?, ?, ?, ?, '', '')",
        board, visit.text("title", 120), visit.text("body"), world.YOU,
    )  # fmt: skip
    return to(f"/f/{board}/{number}")


# Shop -------------------------------------------------------------------------------------------------

PRODUCTS = """select products.*, (select round(avg(stars), 1) from reviews where product = products.id) as stars,
  (select count(*) from reviews where product = products.id) as reviews from products"""
PRODUCT_SORTS = {
    "name": "title", "price_low": "cents", "price_high": "cents desc", "rating": "coalesce(stars, 0) desc, products.id",
}  # fmt: skip
CART = "select products.*, quantity from cart join products on products.id = cart.product order by cart.rowid"


def _shop_page(visit: Visit, template: str, **values: Any) -> Response:
    return visit.page(template, in_cart=_in_cart(visit), categories=list(world.KINDS), **values)


def _in_cart(visit: Visit) -> int:
    return visit.row("select coalesce(sum(quantity), 0) as count from cart")["count"]


def _products(visit: Visit) -> Response:
    condition, values = _matches(visit.query.get("q", ""), "title", "products.body")
    category = visit.path.get("category")
    if category is not None:
        if category not in world.KINDS:
            raise Rejected(404, "There is no such category.")
        condition, values = f"{condition} and category = ?", [*values, category]
    order = PRODUCT_SORTS.get(visit.query.get("sort", ""), "products.id")
    rows = visit.rows(f"{PRODUCTS} where {condition} order by {order}", *values)
    keep = {key: value for key, value in visit.query.items() if key not in ("sort", "page")}
    sorts = [(name, "?" + urllib.parse.urlencode({**keep, "sort": name})) for name in PRODUCT_SORTS]
    return visit.listed("products.html", rows, category=category, sorts=sorts, in_cart=_in_cart(visit),
                        categories=list(world.KINDS))  # fmt: skip


def _product(visit: Visit) -> Response:
    product = visit.row(f"{PRODUCTS} where products.id = ?", visit.path["id"])
    reviews = visit.rows("select * from reviews where product = ? order by id", product["id"])
    return _shop_page(visit, "product.html", product=product, reviews=reviews)


def _review(visit: Visit) -> Response:
    product = visit.row("select id from products where id = ?", visit.path["id"])["id"]
    visit.change(
        "insert into reviews(product, author, stars, body) values (?, ?, ?, ?)",
        product, world.YOU, visit.number("stars", 1, 5), visit.text("review"),
    )  # fmt: skip
    return to(f"/product/{product}")


def _add(visit: Visit) -> Response:
    product = visit.row("select * from products where id = ?", visit.path["id"])
    already = sum(row["quantity"] for row in visit.rows("select quantity from cart where product = ?", product["id"]))
    quantity = already + visit.number("quantity", 1, 99)
    if quantity > product["stock"]:
        raise Rejected(400, f"Only {product['stock']} of “{product['title']}” are in stock.")
    visit.change("insert or replace into cart(product, quantity) values (?, ?)", product["id"], quantity)
    return to("/cart")


def _cart(visit: Visit) -> Response:
    rows = visit.rows(CART)
    return _shop_page(visit, "cart.html", rows=rows, total=sum(row["cents"] * row["quantity"] for row in rows))


def _remove(visit: Visit) -> Response:
    visit.change("delete from cart where product = ?", visit.path["id"])
    return to("/cart")


def _checkout_form(visit: Visit) -> Response:
    rows = visit.rows(CART)
    return _shop_page(visit, "checkout.html", rows=rows, total=sum(row["cents"] * row["quantity"] for row in rows))


def _checkout(visit: Visit) -> Response:
    rows = visit.rows(CART)
    if not rows:
        raise Rejected(400, "Your cart is empty.")
    address = [visit.text(field, 200) for field in ("name", "street", "city")]
    number = visit.change("insert into orders(name, street, city) values (?, ?, ?)", *address)
    for row in rows:
        values = (number, row["id"], row["quantity"], row["cents"])
        visit.change("insert into items(orderno, product, quantity, cents) values (?, ?, ?, ?)", *values)
    visit.change("delete from cart")
    return to(f"/order/{number}")


def _orders(visit: Visit) -> Response:
    statement = """select orders.*, sum(quantity * cents) as total, sum(quantity) as count
      from orders join items on items.orderno = orders.id group by orders.id order by orders.id desc"""
    return _shop_page(visit, "orders.html", rows=visit.rows(statement))


def _order(visit: Visit) -> Response:
    order = visit.row("select * from orders where id = ?", visit.path["id"])
    rows = visit.rows(
        "select products.*, items.quantity, items.cents from items join products on products.id = items.product "
        "where items.orderno = ?",
        order["id"],
    )
    total = sum(row["cents"] * row["quantity"] for row in rows)
    return _shop_page(visit, "order.html", order=order, rows=rows, total=total)


# What stands where: (path, what a GET shows, what a POST does).
Places = tuple[tuple[str, Handler | None, Handler | None], ...]
PLACES: dict[str, Places] = {
    "classifieds": (
        ("/", _listings, None),
        ("/publish", _publish_form, _publish),
        ("/listing/{id:int}", _listing, None),
        ("/listing/{id:int}/comment", None, _remark),
        ("/listing/{id:int}/price", None, _reprice),
        ("/listing/{id:int}/delete", None, _withdraw),
    ),
    "reddit": (
        ("/", _posts, None),
        ("/submit", _submit_form, _submit),
        ("/user/{name}", _posts, None),
        ("/f/{board}", _posts, None),
        ("/f/{board}/{id:int}", _post, None),
        ("/post/{id:int}/comment", None, _comment),
        ("/post/{id:int}/vote", None, _vote),
    ),
    "shopping": (
        ("/", _products, None),
        ("/category/{category}", _products, None),
        ("/product/{id:int}", _product, None),
        ("/product/{id:int}/add", None, _add),
        ("/product/{id:int}/review", None, _review),
        ("/cart", _cart, None),
        ("/cart/{id:int}/remove", None, _remove),
        ("/checkout", _checkout_form, _checkout),
        ("/orders", _orders, None),
        ("/order/{id:int}", _order, None),
    ),
}


# Serving ----------------------------------------------------------------------------------------------


class Sites:
    """The sites while they are served: `urls` (`http://127.0.0.1:PORT`, no last slash) by their names in a task."""

    def __init__(self, seed: int, urls: dict[str, str], skin: world.Skin = "plain") -> None:
        self.urls = urls
        self.skin = skin
        self._seed = seed  # of a visitor that no one made a session for
        self._databases: dict[str, sqlite3.Connection] = {}

    def reset(self, session: str, seed: int) -> None:
        """Give the session that this cookie names a fresh database, whatever it did before."""
        copy = sqlite3.connect(":memory:", check_same_thread=False)
        _prepared(seed, self.skin).backup(copy)
        while len(self._databases) >= MAX_SESSIONS and session not in self._databases:
            self._databases.pop(next(iter(self._databases)), None)
        self._databases[session] = copy

    def database(self, session: str) -> sqlite3.Connection | None:
        """The session's database, None where there is none."""
        return self._databases.get(session)

    def application(self, site: str) -> Starlette:
        """One of the three as an ASGI application."""
        routes = [
            Route(path, functools.partial(self._answer, handler=handler), methods=[method])
            for path, get, post in PLACES[site]
            for method, handler in (("GET", get), ("POST", post))
            if handler is not None
        ]
        routes.append(Route("/style.css", self._style))
        routes.append(Route("/button/{name}.png", _button))
        routes.append(Route("/picture/{kind}/{colour}/{number:int}.png", _picture))
        return Starlette(routes=routes)

    async def _style(self, request: Request) -> Response:
        return Response((FOLDERS[self.skin][0] / "style.css").read_bytes(), headers=KEPT, media_type="text/css")

    async def _answer(self, request: Request, handler: Handler) -> Response:
        session = request.cookies.get(COOKIE, "")
        database = self.database(session)
        fresh = database is None
        if database is None:
            session = secrets.token_hex(16)
            self.reset(session, self._seed)
            database = self._databases[session]
        try:
            form = await _form(request)
            response = handler(Visit(self.skin, database, request.path_params, dict(request.query_params), form))
        except (Rejected, OverflowError) as problem:
            if isinstance(problem, OverflowError):  # a number in the address that SQLite has no room for
                problem = Rejected(404, "There is no such page.")
            text = _environments[self.skin].get_template("rejected.html").render(text=str(problem))
            response = HTMLResponse(text, problem.status, headers=HEADERS)
        if fresh:
            response.set_cookie(COOKIE, session, httponly=True, samesite="lax")
        return response


async def _form(request: Request) -> dict[str, str]:
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > MAX_BODY:
            raise Rejected(413, "That is too much text.")
    text = body.decode("utf-8", "replace")
    return dict(urllib.parse.parse_qsl(text, keep_blank_values=True, encoding="utf-8", errors="replace"))


async def _picture(request: Request) -> Response:
    kind, colour = request.path_params["kind"], request.path_params["colour"]
    number = request.path_params["number"] % 1000
    if kind in SHAPES and colour in COLOURS:
        drawn = nano_skin.tile_png(nano_skin.Article(f"{colour} {kind}", number))
    elif kind in THINGS and colour in PAINT:
        drawn = picture(kind, colour, number)
    else:
        return Response("no such picture", 404)
    return Response(drawn, headers=KEPT, media_type="image/png")


async def _button(request: Request) -> Response:
    name = request.path_params["name"]
    if name == "done":
        return Response(png(nano_skin.button("do", pressed=True)), headers=KEPT, media_type="image/png")
    if name not in nano_skin.BUTTONS:
        return Response("no such button", 404)
    return Response(png(nano_skin.button(name)), headers=KEPT, media_type="image/png")


@functools.lru_cache(maxsize=8)
def _prepared(seed: int, skin: world.Skin) -> sqlite3.Connection:
    database = sqlite3.connect(":memory:", check_same_thread=False)
    world.fill(database, seed, skin)
    return database


@contextlib.contextmanager
def serve(seed: int = 0, skin: world.Skin = "plain") -> Iterator[Sites]:
    """The three sites on free ports of 127.0.0.1, in a thread, for as long as the block lasts.

    `seed` is the world that a visitor without a session of its own sees. Raises RuntimeError where they do not start.
    """
    listening = {site: socket.create_server(("127.0.0.1", 0)) for site in PLACES}
    urls = {site: f"http://127.0.0.1:{found.getsockname()[1]}" for site, found in listening.items()}
    sites = Sites(seed, urls, skin)
    servers = [
        uvicorn.Server(
            uvicorn.Config(sites.application(site), log_level="warning", access_log=False, lifespan="off", ws="none")
        )
        for site in PLACES
    ]

    async def run() -> None:
        pairs = zip(servers, listening.values(), strict=True)
        await asyncio.gather(*(server.serve(sockets=[found]) for server, found in pairs))

    thread = threading.Thread(target=asyncio.run, args=(run(),), name="sites", daemon=True)
    thread.start()
    try:
        until = time.monotonic() + 10
        while not all(server.started for server in servers):
            if not thread.is_alive() or time.monotonic() > until:
                raise RuntimeError("the sites did not start within ten seconds; see what the thread `sites` printed")
            time.sleep(0.01)
        yield sites
    finally:
        for server in servers:
            server.should_exit = True
            server.force_exit = True
        thread.join(timeout=10)
        for found in listening.values():
            found.close()
