"""The three sites: what they show and take, and that no session sees another's."""

from __future__ import annotations

import io
import re
import sqlite3
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from PIL import Image

from vigorl_lib.web import world
from vigorl_lib.web.pictures import PAINT, THINGS, picture
from vigorl_lib.web.sites import COOKIE, MAX_SESSIONS, PLACES, Sites, serve

HOSTILE = "<script>alert(1)</script>{{ 7 * 7 }}'; drop table listings; -- \u202e\x00 %s"


@pytest.fixture(scope="module")
def sites():
    began = time.monotonic()
    with serve(0) as found:
        assert time.monotonic() - began < 3
        yield found


def visitor(sites, site, session, seed=0):
    sites.reset(session, seed)
    return httpx.Client(base_url=sites.urls[site], cookies={COOKIE: session}, follow_redirects=True)


def dump(seed):
    database = sqlite3.connect(":memory:")
    world.fill(database, seed)
    return list(database.iterdump())


def test_a_seed_is_a_world():
    assert dump(3) == dump(3) != dump(4)
    database = sqlite3.connect(":memory:")
    world.fill(database, 5)
    for table in ("listings", "products", "posts"):
        titles = [title for (title,) in database.execute(f"select title from {table}")]
        assert len(set(titles)) == len(titles) > 25
    texts = " ".join(dump(5)).lower()
    assert not re.search(r"'[^']*\b(red|yellow|purple) (lamp|bicycle|mug)", texts), "a colour is only in the picture"


def test_every_thing_has_a_picture_that_shows_its_colour():
    assert set(world.CATEGORY) == set(THINGS) and set(world.COLOURS) == set(PAINT)
    for kind in THINGS:
        image = Image.open(io.BytesIO(picture(kind, "red", 1))).convert("RGB")
        assert image.size == (320, 240)
        red = sum(count for count, (r, g, b) in image.getcolors(100_000) if r > 180 and g < 90 and b < 90)
        assert red > 200, kind
    assert picture("mug", "red", 1) == picture("mug", "red", 1) != picture("mug", "blue", 1)


def test_every_place_answers(sites):
    numbers = {"{id:int}": "1", "{board}": "baking", "{name}": "blake", "{category}": "Home"}
    for site, places in PLACES.items():
        with visitor(sites, site, "round") as client:
            for path, get, _ in places:
                for name, value in numbers.items():
                    path = path.replace(name, value)
                if get is not None and "/order/" not in path:
                    reply = client.get(path)
                    assert reply.status_code == 200 and "</html>" in reply.text, path
                    assert "<script" not in reply.text
                    assert "default-src 'none'" in reply.headers["content-security-policy"]
                    for source in re.findall(r'src="([^"]*)"', reply.text)[:1]:
                        assert client.get(source).headers["content-type"] == "image/png"
            assert client.get("/style.css").headers["content-type"].startswith("text/css")
            assert client.get("/picture/mug/red/7.png").content == picture("mug", "red", 7)
            assert client.get("/picture/gun/red/7.png").status_code == 404
            assert client.get("/nowhere").status_code == 404


def test_classifieds(sites):
    with visitor(sites, "classifieds", "seller") as client:
        assert client.get("/", params={"q": "lamp"}).text.count('class="card"') <= 12
        first, second = (client.get("/", params={"page": page}).text for page in (1, 2))
        assert first.count('class="card"') == 12 and first != second
        cheap = [int(found) for found in re.findall(r"\$(\d+)<", client.get("/?sort=price_low").text)]
        assert cheap == sorted(cheap)
        form = {"title": "Old oak table", "kind": "chair", "price": "12", "city": "Dunmore", "description": "Fine."}
        made = client.post("/publish", data=form)
        assert "Old oak table" in made.text and "/listing/61" in str(made.url)
        assert client.post("/publish", data=form | {"price": "-3"}).status_code == 400
        assert client.post("/publish", data=form | {"city": "Rome"}).status_code == 400
        assert "$15" in client.post("/listing/61/price", data={"price": "15"}).text
        assert client.post("/listing/1/price", data={"price": "15"}).status_code == 403
        assert "Old oak table" not in client.post("/listing/61/delete").text
        assert client.get("/listing/61").status_code == 404


def test_forum(sites):
    with visitor(sites, "reddit", "poster") as client:
        score = int(re.search(r'"score">(-?\d+)', client.get("/f/baking/1").text or "")[1])

        def vote(which):
            return int(re.search(r'"score">(-?\d+)', client.post("/post/1/vote", data={"vote": which}).text)[1])

        assert (vote("up"), vote("down"), vote("down")) == (score + 1, score - 1, score)
        assert client.post("/post/1/vote", data={"vote": "twice"}).status_code == 400
        assert "I agree." in client.post("/post/1/comment", data={"comment": "I agree."}).text
        made = client.post("/submit", data={"title": "Hello", "body": "World", "board": "cycling"})
        assert str(made.url).endswith("/f/cycling/29") and "Hello" in client.get("/user/blake").text
        scores = [int(found) for found in re.findall(r'"score">(-?\d+)', client.get("/?sort=top").text)]
        assert scores == sorted(scores, reverse=True) and len(scores) == 12
        assert client.get("/f/poetry").status_code == 404


def test_shop(sites):
    with visitor(sites, "shopping", "buyer") as client:
        prices = [float(found) for found in re.findall(r"\$([\d.]+)<", client.get("/?sort=price_high").text)]
        assert prices == sorted(prices, reverse=True)
        assert "Cart (2)" in client.post("/product/3/add", data={"quantity": "2"}).text
        assert "Cart (3)" in client.post("/product/4/add", data={"quantity": "1"}).text
        assert client.post("/product/4/add", data={"quantity": "99"}).status_code == 400
        assert "Cart (2)" in client.post("/cart/4/remove").text
        assert client.post("/checkout", data={"name": "B"}).status_code == 400
        order = client.post("/checkout", data={"name": "Blake", "street": "Mill Lane 1", "city": "Dunmore"})
        assert str(order.url).endswith("/order/1") and "Mill Lane 1" in order.text and "Cart (0)" in order.text
        assert "Order no. 1" in client.get("/orders").text
        assert client.post("/checkout", data={"name": "B", "street": "s", "city": "c"}).status_code == 400
        reviewed = client.post("/product/5/review", data={"stars": "4", "review": "Nice vase."}).text
        assert "Nice vase." in reviewed and "★★★★☆" in reviewed


def test_what_a_visitor_sends_is_text(sites):
    with visitor(sites, "classifieds", "hostile") as client:
        for reply in (
            client.post("/listing/1/comment", data={"comment": HOSTILE}),
            client.get("/", params={"q": HOSTILE}),
            client.get("/", params={"seller": HOSTILE, "page": "9" * 50, "sort": HOSTILE}),
        ):
            assert reply.status_code == 200 and "<script" not in reply.text
        assert client.get("/").text.count('class="card"') == 12
        assert "{{ 7 * 7 }}" in client.get("/listing/1").text
        assert client.post("/listing/1/comment", data={"comment": "x" * 30_000}).status_code == 413
        assert client.post("/listing/1/comment", data={"comment": "x" * 3_000}).status_code == 400
        assert client.post("/listing/1/comment", data={"comment": " "}).status_code == 400
        assert client.post("/listing/1/comment", content=b"comment=%ff%fe\xff").status_code == 200
        assert client.get("/listing/99999999999999999999999").status_code == 404


def test_sessions_do_not_see_each_other_and_reset_restores(sites):
    def visit(number):
        with visitor(sites, "shopping", f"side{number}") as client:
            for _ in range(number + 1):
                text = client.post("/product/7/add", data={"quantity": "1"}).text
            return int(re.search(r"Cart \((\d+)\)", text)[1])

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(visit, range(3))) == [1, 2, 3]
    client = httpx.Client(base_url=sites.urls["shopping"], cookies={COOKIE: "side2"})
    assert "Cart (3)" in client.get("/").text
    began = time.monotonic()
    sites.reset("side2", 0)
    assert time.monotonic() - began < 1
    assert "Cart (0)" in client.get("/").text
    stranger = httpx.Client(base_url=sites.urls["shopping"])
    assert "Cart (0)" in stranger.get("/").text and COOKIE in stranger.cookies
    stranger.post("/product/7/add", data={"quantity": "1"})
    assert "Cart (1)" in stranger.get("/").text


def test_the_number_of_sessions_is_bounded():
    sites = Sites(0, {})
    for number in range(MAX_SESSIONS + 3):
        sites.reset(str(number), 0)
    assert sites.database("2") is None and sites.database(str(MAX_SESSIONS + 2)) is not None


def test_only_loopback_listens(sites):
    assert all(re.fullmatch(r"http://127\.0\.0\.1:\d+", url) for url in sites.urls.values())
