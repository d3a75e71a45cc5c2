"""The browser as an environment: marks, actions, reasons, fences, crashes. Needs a Chromium."""

from __future__ import annotations

import asyncio
import contextlib
import io
import shutil
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import pytest
from PIL import Image
from playwright.async_api import async_playwright

from vigorl_lib.web import browser as web
from vigorl_lib.web.actions import parse_action
from vigorl_lib.web.sites import COOKIE, serve

VIEWPORT = (1280, 900)


def chromium_there():
    if web.find_chromium():
        return True
    caches = (Path.home() / ".cache/ms-playwright", Path.home() / "Library/Caches/ms-playwright")
    return any(found for cache in caches for found in cache.glob("chromium*"))


needs_chromium = pytest.mark.skipif(not chromium_there(), reason="no Chromium: apt-get install chromium")
pytestmark = needs_chromium

PAGE = """<!doctype html><title>Test</title><body style="margin: 0">
<p>Some <b>bold</b> text</p>
<a href="/second">Second</a> <a href="/second" target="_blank">Window</a> <a href="http://192.0.2.1/">Outside</a>
<button style="width: 5px; height: 5px; padding: 0; border: 0; overflow: hidden">tiny</button>
<button style="visibility: hidden">hidden</button> <button style="position: absolute; top: 3000px">below</button>
<label for="f">Field</label> <input id="f"> <input type="checkbox" aria-label="Tick">
<select aria-label="Choice"><option>one</option><option>two words</option></select>
<input readonly aria-label="Fixed"> <fieldset disabled><input aria-label="Off"></fieldset>
<button onclick="this.textContent = 'clicked'">Press me</button>
<button onclick="document.title = 'bought'">Buy</button>
<button onclick="alert('hold')">Alert</button> <button onclick="window.close()">Close</button>
<button onclick="while (true);">Hang</button> <button onclick="location = '/slow'">Slow</button>
<a href="/second"><img alt="A picture" src="data:image/gif;base64,R0lGODlhAQABAIAAAAUEBAAAACwAAAAAAQABAAACAkQBADs="
 width="40" height="40"></a>
<div tabindex="0" style="width: 1280px; height: 880px; position: absolute; top: 1000px">large</div>
<img src="http://192.0.2.1/spy.png">
<script>for (const to of ["/leak", "http://192.0.2.1/leak"]) fetch(to).catch(() => {});</script>"""


class Pages(BaseHTTPRequestHandler):
    asked: list[str] = []

    def do_GET(self):
        self.asked.append(self.path)
        if self.path == "/slow":
            time.sleep(8)
        if self.path == "/away":
            self.send_response(302)
            self.send_header("Location", self.server.elsewhere)
            self.end_headers()
            return
        body = (PAGE if self.path == "/" else f"<title>{self.path}</title>page {self.path}").encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        with contextlib.suppress(OSError):
            self.wfile.write(body)

    def log_message(self, *words):
        return


@contextlib.contextmanager
def pages():
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (Pages,), {"asked": []}))
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server, f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def mark(observation, label):
    (found,) = [mark for mark in observation.marks if label in (mark.text, mark.label)]
    return found


def test_marks_and_actions():
    async def run(origin):
        async with async_playwright() as playwright:
            browser = await web.launch(playwright)
            async with web.open_environment(browser, [origin + "/"], [origin], viewport=VIEWPORT, timeout=3.0) as env:

                async def act(text, label=None):
                    seen = await env.observe()
                    return await env.act(parse_action(text.format(mark(seen, label).id if label else None)))

                seen = await env.observe()
                assert Image.open(io.BytesIO(seen.shot)).size == VIEWPORT and "screenshot" not in vars(seen)
                assert Image.open(io.BytesIO(seen.screenshot)).size == VIEWPORT and seen.screenshot != seen.shot
                assert [mark.id for mark in seen.marks] == list(range(1, len(seen.marks) + 1))
                said = {text for mark in seen.marks for text in (mark.text, mark.label)}
                assert {"Second", "Field", "Choice", "one", "A picture", "Press me", "Tick"} <= said
                assert not {"tiny", "hidden", "below", "large"} & said
                assert "[1] [A] [Second]" in seen.text and "[] [StaticText] [bold]" in seen.text
                assert f"[{mark(seen, 'Field').id}] [INPUT] []" in seen.text
                assert mark(seen, "Field").editable and not mark(seen, "Tick").editable

                assert await act("click [{}]", "Press me") is None
                assert mark(await env.observe(), "clicked")
                assert await act("type [{}] [caf\u00e9 \U0001f600 \ud800] [0]", "Field") is None
                field = "() => document.getElementById('f').value"
                assert await env.page.evaluate(field) == "caf\u00e9 \U0001f600 ?"
                assert await act("type [{}] [!] [0]", "Field") is None
                assert (await env.page.evaluate(field)).endswith("?!"), "typing adds to what is there, as officially"
                assert await act("clear [{}]", "Field") is None and await env.page.evaluate(field) == ""
                assert "takes no text" in await act("type [{}] [x]", "Tick")
                assert "takes no text" in await act("clear [{}]", "Second")
                assert "takes no text" in await act("type [{}] [x]", "Fixed")
                assert "takes no text" in await act("type [{}] [x]", "Off")
                assert "characters" in await act("type [{}] [" + "x" * 3000 + "]", "Field")
                assert await act("type [{}] [two words]", "Choice") is None
                assert await env.page.evaluate("() => document.querySelector('select').value") == "two words"
                assert await act("type [{}] [three]", "Choice")
                assert await act("click [{}]", "Alert") is None, "a dialog is dismissed"
                assert "no element [999]" in await act("click [999]")
                assert "no element [0]" in await act("click [0]")
                button = "document.querySelector('[onclick*=bought]')"
                changes = (
                    ("Buy", "textContent = 'Pay'"),
                    ("Pay", "style.marginTop = '300px'"),
                    ("Pay", "hidden = true"),
                )
                for label, change in changes:  # while the model thinks
                    gone = mark(await env.observe(), label).id
                    await env.page.evaluate(f"() => {{ {button}.{change}; }}")
                    assert await env.act(parse_action(f"click [{gone}]")) == f"element [{gone}] is no longer there"
                assert await env.page.title() == "Test", "and what stands there now was not clicked"
                await env.act(parse_action("scroll [down]"))
                assert "numbers are 1 to 0" in await env.act(parse_action("click [1]")), "ids are those of one look"
                assert await env.page.evaluate("() => scrollY") == VIEWPORT[1]
                assert await act("scroll [up]") is None and await env.page.evaluate("() => scrollY") == 0

                assert await act("click [{}]", "A picture") is None and env.page.url == origin + "/second"
                assert await act("go_back") is None and env.page.url == origin + "/"
                assert await act("go_forward") is None and env.page.url == origin + "/second"
                assert "no later page" in await act("go_forward")
                await act("go_back")
                assert "no earlier page" in await act("go_back") and env.page.url == origin + "/"
                assert await act("click [{}]", "Window") is None
                seen = await env.observe()
                assert (seen.tab, seen.tabs, seen.url) == (1, ("Test", "/second"), origin + "/second")
                assert await act("tab_focus [0]") is None and (await env.observe()).tab == 0
                assert "no tab 2" in await act("tab_focus [2]")
                await act("tab_focus [1]")
                assert await act("close_tab") is None and env.page.url == origin + "/"
                assert await act("new_tab") is None and env.page.url == "about:blank"
                assert await act("close_tab") is None and await act("close_tab") is None
                assert (await env.observe()).tabs == ("",), "there is always a tab"
                assert await act(f"goto [{origin}/]") is None
                assert "Unknown key" in await act("press [Hyper+Q]")
                assert await act("press [Tab]") is None
                assert "did not load" in await act("click [{}]", "Slow")
                assert await act(f"goto [{origin}/]") is None, "and the episode goes on"
                assert await act("stop [done]") is None
            await browser.close()

    with pages() as (_, origin):
        asyncio.run(run(origin))


@pytest.mark.parametrize("fenced", [False, True])
def test_nothing_but_the_origins_is_contacted(fenced):
    async def run(server, origin, other_server, other):
        server.elsewhere = other + "/stolen" if fenced else "http://192.0.2.1/stolen"
        async with async_playwright() as playwright:
            browser = await web.launch(playwright, origins=[origin] if fenced else ())
            how = {"viewport": VIEWPORT, "fenced": fenced}
            async with web.open_environment(browser, [origin + "/"], [origin], **how) as env:
                outside = ["http://example.org/", "file:///etc/passwd", "javascript:fetch('/x')", "data:text/html,hi"]
                for url in (other + "/", *outside, "view-source:" + origin, origin + ".example.org/", "\ud800"):
                    assert "not one of the sites" in await env.act(parse_action(f"goto [{url}]"))
                seen = await env.observe()
                await env.act(parse_action(f"click [{mark(seen, 'Outside').id}]"))
                await env.observe()
                assert "ERR_NAME_NOT_RESOLVED" in await env.act(parse_action(f"goto [{origin}/away]"))
                await env.observe()
                await env.page.evaluate(f"() => fetch('{other}/fetched').catch(() => 0)")
            with pytest.raises(ValueError, match="lies outside"):
                async with web.open_environment(browser, [other], [origin]):
                    raise AssertionError("opened")
            await browser.close()
            browser = await web.launch(playwright, live=True)
            async with web.open_environment(browser, [origin + "/second"], [origin], live=True) as env:
                assert await env.act(parse_action(f"goto [{other}/live]")) is None, "live means: anywhere"
            await browser.close()
        assert "/leak" in server.RequestHandlerClass.asked
        return other_server.RequestHandlerClass.asked

    with pages() as (server, origin), pages() as (other_server, other):
        asked = asyncio.run(run(server, origin, other_server, other))
    assert [path for path in asked if path != "/favicon.ico"] == ["/live"], "only the given origins, even on loopback"


def test_a_dead_page_or_browser_is_a_crash():
    async def run(origin):
        async with async_playwright() as playwright:
            browser = await web.launch(playwright)
            async with web.open_environment(browser, [origin + "/"], [origin], viewport=VIEWPORT) as env:
                seen = await env.observe()
                env.timeout = 0.6
                assert "more than" in await env.act(parse_action(f"click [{mark(seen, 'Hang').id}]"))
                with pytest.raises(web.Crashed):
                    await env.observe()
            async with web.open_environment(browser, [origin + "/"], [origin], viewport=VIEWPORT) as env:
                await env.observe()
                await browser.close()
                with pytest.raises(web.Crashed, match="gone"):
                    await env.act(parse_action("scroll [down]"))
                with pytest.raises(web.Crashed):
                    await env.observe()
            with pytest.raises(web.Crashed, match="no new window"):
                async with web.open_environment(browser, [origin + "/"], [origin]):
                    raise AssertionError("opened")

    with pages() as (_, origin):
        asyncio.run(run(origin))


def test_contexts_side_by_side_are_strangers():
    async def visit(browser, sites, number):
        sites.reset(f"c{number}", 0)
        start = sites.urls["shopping"] + "/product/3"
        async with web.open_environment(
            browser, [start], tuple(sites.urls.values()), cookie=(COOKIE, f"c{number}"), viewport=VIEWPORT
        ) as env:
            for turn in range(number % 2 + 1):
                if turn:
                    assert await env.act(parse_action(f"goto [{start}]")) is None
                seen = await env.observe()
                assert await env.act(parse_action(f"click [{mark(seen, 'Add to cart').id}]")) is None
            return [mark.text for mark in (await env.observe()).marks if mark.text.startswith("Cart")]

    async def run(sites):
        async with async_playwright() as playwright:
            browser = await web.launch(playwright)
            found = await asyncio.gather(*(visit(browser, sites, number) for number in range(8)))
            await browser.close()
        assert found == [[f"Cart ({number % 2 + 1})"] for number in range(8)]

    with serve(0) as sites:
        asyncio.run(run(sites))


def test_without_a_browser_the_remedy_is_named(monkeypatch):
    async def run():
        async with async_playwright() as playwright:
            await web.launch(playwright)

    monkeypatch.setattr(shutil, "which", lambda name: "/nowhere/chromium")
    monkeypatch.setenv("PLAYWRIGHT_BROWSERS_PATH", "/nowhere")
    with pytest.raises(FileNotFoundError, match="apt-get install chromium"):
        asyncio.run(run())


def test_a_system_browser_that_does_not_start_is_passed_over(monkeypatch):
    class Chromium:
        tried = []

        async def launch(self, *, executable_path, **how):
            self.tried.append(executable_path)
            if executable_path:
                raise web.Error("BrowserType.launch: it needs the snap")
            if how.get("args") is None:
                raise AssertionError("without its arguments")
            return "Playwright's own"

    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    assert asyncio.run(web.launch(SimpleNamespace(chromium=Chromium()))) == "Playwright's own"
    assert Chromium.tried == ["/usr/bin/chromium-headless-shell", None]


@pytest.mark.parametrize(("free", "left_out"), [(2**33, ["--disable-dev-shm-usage"]), (2**26, [])])
def test_pages_share_memory_where_there_is_much(monkeypatch, free, left_out):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=free))
    assert web._needless_arguments() == (left_out if Path("/dev/shm").is_dir() else [])
