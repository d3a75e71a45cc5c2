"""A browser as an agent's environment: look at the page with numbered marks, act, look again.

As in VisualWebArena: the screenshot of the window with a coloured box around every element that one can act upon, its
number beside it, ids from 1 anew at every look; the same as text, `[id] [TAG] [text]`; actions by id, tabs, scrolling
by a window's height. The boxes are found by a script in the page and drawn on the screenshot, so that the page itself
stays as it is. Boxes of more than 80 % of the window or less than 8 pixels get no id (officially the latter get one
that nobody sees).

Whatever an agent asks for is either done or a reason why not, as text; only a browser that died raises (`Crashed`).
Pages are hostile, and so are agents: but for `live`, nothing outside the given origins is contacted, whether an address
is typed, linked or embedded, and where one of the origins redirects, nothing outside 127.0.0.1 (of a browser that was
launched for some origins: nothing else at all). A live site needs the net; nothing holds an agent back then.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import dataclasses
import functools
import re
import shutil
import urllib.parse
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

from playwright.async_api import (
    Browser,
    BrowserContext,
    CDPSession,
    Error,
    Frame,
    Page,
    Playwright,
    Request,
    async_playwright,
)

from vigorl_lib.images import open_image
from vigorl_lib.nano.drawing import png
from vigorl_lib.nano.webpages import COLOURS, draw_marks
from vigorl_lib.web.actions import Action

VIEWPORT = (1280, 2048)  # width and height of the window in pixels, as officially
SMALLEST, LARGEST = 8, 0.8  # side of a box in pixels; part of the window's area
MAX_MARKS = 1500  # elements and pieces of text that are looked at
MAX_TEXT = 2000  # characters that one action types
MAX_TABS = 12
SHARED_MEMORY = 2**30  # bytes that are plenty for a few pages
# The first is the part of Chromium that draws pages, without the browser around it.
SYSTEM = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
ARGUMENTS = (
    "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-default-apps", "--no-pings",
)  # fmt: skip
ONLY_LOOPBACK = "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"
# A page notes that it is being left: a click is answered before the request for the next page is on its way.
NOTE_LEAVING = """navigation.addEventListener("navigate", (event) => {
  if (!event.destination.sameDocument && event.downloadRequest === null) window.vigorlLeaving = true; });"""
LEAVING = """() => new Promise((resolve) => setTimeout(() => {
  resolve(window.vigorlLeaving === true); window.vigorlLeaving = false; }, 20))"""
# A blinking caret would make two looks at one page differ.
HIDE_CARET = """const sheet = new CSSStyleSheet(); sheet.replaceSync("* { caret-color: transparent !important }");
document.adoptedStyleSheets.push(sheet);"""
SCRIPT = Path(__file__).with_name("marks.js").read_text(encoding="utf-8")


class Crashed(Exception):
    """The browser, or the page's process, is gone: the episode cannot go on."""


@dataclasses.dataclass(frozen=True)
class Mark:
    """A numbered element.

    id        from 1, in the order of the document
    tag       upper case, as `A`, `INPUT`
    text      what it says (of an image: its alternative text), at most 200 characters
    label     what says what it is for: label, placeholder or title
    editable  whether one can type into it
    box       left, top, right, bottom in pixels of the screenshot, cut to it
    """

    id: int
    tag: str
    text: str
    label: str
    editable: bool
    box: tuple[float, float, float, float]

    @property
    def middle(self) -> tuple[float, float]:
        left, top, right, bottom = self.box
        return (left + right) / 2, (top + bottom) / 2


@dataclasses.dataclass(frozen=True)
class Observation:
    """What an agent sees: the window, the marks, the same as text, where it is, and the titles of all tabs.

    `shot` is the window as a PNG without marks, `colours` are those of the marks; `screenshot` has them. `images` are
    the pictures that belong to the objective, as encoded files.
    """

    shot: bytes
    marks: tuple[Mark, ...]
    text: str
    url: str
    title: str
    tabs: tuple[str, ...]
    tab: int
    colours: tuple[str, ...] = tuple(COLOURS)
    images: tuple[bytes, ...] = ()

    @functools.cached_property
    def screenshot(self) -> bytes:
        """The window with its marks as a PNG, drawn for whoever looks at it: that is a third of a step's work."""
        return marked(self.shot, [mark.box for mark in self.marks], self.colours)


def find_chromium() -> str | None:
    """The system's Chromium or Chrome; None where there is none (Playwright then takes its own)."""
    return next((path for path in map(shutil.which, SYSTEM) if path), None)


async def launch(playwright: Playwright, *, origins: Sequence[str] = (), live: bool = False) -> Browser:
    """Start a headless Chromium; without `live` it resolves no name and reaches nothing but 127.0.0.1.

    With `origins` on 127.0.0.1 (as `http://127.0.0.1:8000`) it reaches nothing but these, whoever asks. Where the
    system's browser does not start (Ubuntu's is a stub that asks for a snap), Playwright's own does. Raises
    FileNotFoundError where there is no browser.
    """
    hosts = [urllib.parse.urlsplit(origin).netloc for origin in origins]
    only = "--host-resolver-rules=" + ", ".join([*(f"MAP {host} {host}" for host in hosts), "MAP * ~NOTFOUND"])
    arguments = [*ARGUMENTS, *([] if live else [only if origins else ONLY_LOOPBACK])]
    failures = []
    for path in dict.fromkeys((find_chromium(), None)):
        try:
            return await playwright.chromium.launch(
                executable_path=path, args=arguments, ignore_default_args=_needless_arguments()
            )
        except Error as error:
            failures.append(error)
    if "executable doesn't exist" not in failures[-1].message.lower():
        raise failures[-1]
    remedy = "apt-get install chromium-headless-shell (or chromium), or python -m playwright install chromium"
    raise FileNotFoundError(f"no Chromium starts ({_reason(failures[0])}); install one: {remedy}") from failures[0]


def _needless_arguments() -> list[str]:
    """Playwright lets pages share memory in files on the disk, for machines (containers) with little shared memory."""
    shared = Path("/dev/shm")
    large = shared.is_dir() and shutil.disk_usage(shared).free > SHARED_MEMORY
    return ["--disable-dev-shm-usage"] if large else []


@contextlib.asynccontextmanager
async def open_environment(
    browser: Browser,
    start_urls: Sequence[str],
    origins: Sequence[str],
    *,
    cookie: tuple[str, str] | None = None,
    storage_state: str | None = None,
    viewport: tuple[int, int] = VIEWPORT,
    timeout: float = 10.0,
    pause: float = 0.0,
    live: bool = False,
    fenced: bool = False,
    colours: Sequence[str] = COLOURS,
) -> AsyncIterator[Environment]:
    """A fresh browser context with one tab per start address, the first in front.

    `origins` (as `http://127.0.0.1:8000`) are the only ones that may be visited, unless `live`; `fenced` says that the
    browser was launched for them alone, and requests need not be looked at one by one. `cookie` is a name and a value
    for all of them; `storage_state` is a file of Playwright's, such as VisualWebArena's log-ins. `timeout` is in
    seconds, of each step; `pause` is how long to wait after each (officially 2.5: live pages go on changing after they
    have loaded). `colours` are those of the marks, in turn. Raises ValueError for a start address outside the origins,
    Crashed where it does not open.
    """
    width, height = viewport
    try:
        context = await browser.new_context(
            viewport={"width": width, "height": height},
            accept_downloads=False,
            service_workers="block",
            storage_state=storage_state,
        )
    except Error as error:
        raise Crashed(f"no new window: {_reason(error)}") from error
    try:
        environment = Environment(context, tuple(origins), viewport, timeout, pause, live, tuple(colours))
        for script in (NOTE_LEAVING, HIDE_CARET):
            await context.add_init_script(script)
        if not (live or fenced):
            await context.route(_outside(origins), lambda route: route.abort("blockedbyclient"))
        if cookie:
            await context.add_cookies([{"name": cookie[0], "value": cookie[1], "url": url} for url in origins])
        for url in start_urls:
            if reason := await environment.open_tab(url):
                raise Crashed(f"the start page {url}: {reason}")
        await environment.focus(0)
        yield environment
    finally:
        # A browser that is gone has closed its contexts.
        with contextlib.suppress(Error):
            await context.close()


async def look(url: str, *, viewport: tuple[int, int] = VIEWPORT, colours: Sequence[str] = COLOURS) -> Observation:
    """What an agent sees at an address on 127.0.0.1. Raises as `launch` and `open_environment`."""
    parts = urllib.parse.urlsplit(url)
    origins = [f"{parts.scheme}://{parts.netloc}"]
    async with async_playwright() as playwright:
        browser = await launch(playwright, origins=origins)
        async with open_environment(
            browser, [url], origins, viewport=viewport, colours=colours, fenced=True
        ) as environment:
            seen = await environment.observe()
        await browser.close()
    return seen


class Environment:
    """One browser context in use. `page` is the tab in front."""

    page: Page

    def __init__(
        self,
        context: BrowserContext,
        origins: tuple[str, ...],
        viewport: tuple[int, int],
        timeout: float,
        pause: float,
        live: bool,
        colours: tuple[str, ...],
    ) -> None:
        self.context, self.origins, self.viewport, self.colours = context, origins, viewport, colours
        self.timeout, self.pause, self.live = timeout, pause, live
        self._marks: dict[int, Mark] = {}
        self._loading: set[Request] = set()
        self._begun = self._arrived = 0  # pages asked for; pages that came, or failed to
        self._sessions: dict[Page, CDPSession] = {}
        self._known: set[Page] = set()
        self._dead: set[Page] = set()
        context.set_default_timeout(timeout * 1000)
        context.on("request", self._begins)
        context.on("requestfinished", self._ends)
        context.on("requestfailed", self._fails)
        context.on("page", self._new_page)

    # Looking

    async def observe(self) -> Observation:
        """What is to be seen now; the ids of the next action are the ones of this look. Raises Crashed."""
        for attempt in range(3):
            try:
                async with asyncio.timeout(3 * self.timeout):
                    await self._follow()
                    found = await self.page.evaluate(SCRIPT, MAX_MARKS)
                    shot = await self._screenshot()
                    tabs = tuple([(await page.title())[:80] for page in self.context.pages])
                    break
            except (Error, TimeoutError) as error:
                # A page that changed meanwhile gets another look.
                if attempt == 2 or isinstance(error, TimeoutError) or self.page in self._dead:
                    raise Crashed(f"the page cannot be looked at: {_reason(error)}") from error
                await asyncio.sleep(0.2)
        marks, lines = self._numbered(found)
        self._marks = {mark.id: mark for mark in marks}
        tab = self.context.pages.index(self.page)
        return Observation(shot, marks, "\n".join(lines), self.page.url, tabs[tab], tabs, tab, self.colours)

    async def _screenshot(self) -> bytes:
        """The window as a PNG. Chromium compresses as little as it can: otherwise that is a third of a step's work."""
        if self.page not in self._sessions:
            self._sessions[self.page] = await self.context.new_cdp_session(self.page)
        said = {"format": "png", "optimizeForSpeed": True}
        return base64.b64decode((await self._sessions[self.page].send("Page.captureScreenshot", said))["data"])

    def _numbered(self, found: list[dict[str, Any]]) -> tuple[tuple[Mark, ...], list[str]]:
        width, height = self.viewport
        marks: list[Mark] = []
        lines: list[str] = []
        for item in found:
            left, top, right, bottom = item["box"]
            if not item["act"]:
                lines.append(f"[] [StaticText] [{item['text']}]")
                continue
            area = (right - left) * (bottom - top)
            if min(right - left, bottom - top) < SMALLEST or area > LARGEST * width * height:
                continue
            box = (max(left, 0), max(top, 0), min(right, width), min(bottom, height))
            mark = Mark(len(marks) + 1, item["tag"], item["text"], item["label"], item["editable"], box)
            marks.append(mark)
            lines.append(f"[{mark.id}] [{mark.tag}] [{mark.text}]")
        return tuple(marks), list(dict.fromkeys(lines))

    # Acting

    async def act(self, action: Action) -> str | None:
        """Carry it out and wait for what it loads. The reason where it could not be done, else None. Raises Crashed."""
        before = self._begun, self._arrived
        try:
            async with asyncio.timeout(3 * self.timeout):
                reason = await self._do(action)
                reason = await self._settled(*before) or reason
                await self._follow()
        except TimeoutError:
            reason = f"it took more than {3 * self.timeout:g} seconds"
        except Error as error:
            reason = _reason(error)
        self._marks = {}
        if not self.context.browser or not self.context.browser.is_connected():
            raise Crashed("the browser is gone")
        if self.page in self._dead:
            raise Crashed("the page's process is gone")
        return reason

    async def _do(self, action: Action) -> str | None:
        match action.verb:
            case "click" | "hover" | "type" | "clear":
                return await self._on_element(action)
            case "press":
                await self.page.keyboard.press(_plain(action.content))
            case "scroll":
                sign = -1 if action.content == "up" else 1
                await self.page.evaluate("(sign) => scrollBy({top: sign * innerHeight, behavior: 'instant'})", sign)
            case "goto":
                return await self._goto(action.content)
            case "new_tab":
                if len(self.context.pages) >= MAX_TABS:
                    return f"there are {MAX_TABS} tabs already: close one"
                await self.context.new_page()
            case "close_tab":
                await self.page.close()
            case "tab_focus":
                if action.element is None or action.element >= len(self.context.pages):
                    return f"there is no tab {action.element}: they are 0 to {len(self.context.pages) - 1}"
                await self.focus(action.element)
            case "go_back" | "go_forward":
                return await self._travel(action.verb)
            case "stop":
                return None
            case _:
                return f"there is no action {action.verb!r}"
        return None

    async def _on_element(self, action: Action) -> str | None:
        mark = self._marks.get(action.element or 0)
        if mark is None:
            return f"there is no element [{action.element}]: the numbers are 1 to {len(self._marks)}"
        if not await self._there(mark):
            return f"element [{mark.id}] is no longer there"
        x, y = mark.middle
        if action.verb == "hover":
            await self.page.mouse.move(x, y)
        elif action.verb == "click":
            await self.page.mouse.click(x, y)
        elif action.verb == "type" and mark.tag == "SELECT":
            element = (
                await self.page.evaluate_handle("([x, y]) => document.elementFromPoint(x, y)", [x, y])
            ).as_element()
            if element is None:
                return f"element [{mark.id}] is covered by another"
            await element.select_option(label=_plain(action.content), timeout=1000)
        elif not mark.editable:
            return f"element [{mark.id}] ({mark.tag}) takes no text"
        elif len(action.content) > MAX_TEXT:
            return f"the text has {len(action.content)} characters, more than {MAX_TEXT}"
        else:
            await self.page.mouse.click(x, y)
            if action.verb == "clear":
                await self.page.keyboard.press("ControlOrMeta+A")
                await self.page.keyboard.press("Backspace")
            else:  # after what is there already, as officially
                await self.page.keyboard.press("ControlOrMeta+A")
                await self.page.keyboard.press("ArrowRight")
                await self.page.keyboard.insert_text(_plain(action.content))
                if action.enter:
                    await self.page.keyboard.press("Enter")
        return None

    async def _there(self, mark: Mark) -> bool:
        """Whether the same is still to be seen at the mark's middle: the page may have changed since the look."""
        now, _ = self._numbered(await self.page.evaluate(SCRIPT, MAX_MARKS))
        x, y = mark.middle
        return any(
            (one.tag, one.text, one.label) == (mark.tag, mark.text, mark.label)
            and one.box[0] <= x <= one.box[2]
            and one.box[1] <= y <= one.box[3]
            for one in now
        )

    async def _goto(self, url: str) -> str | None:
        if not self.live and not inside(url, self.origins):
            return f"{_plain(url)[:100]!r} is not one of the sites: {', '.join(self.origins)}"
        await self.page.goto(_plain(url), wait_until="load")
        return None

    async def _travel(self, verb: str) -> str | None:
        forth = verb == "go_forward"
        before = self.page.url
        await (self.page.go_forward() if forth else self.page.go_back())
        if self.page.url == "about:blank" and before != "about:blank":
            await self.page.go_forward()
        return f"there is no {'later' if forth else 'earlier'} page" if self.page.url == before else None

    async def open_tab(self, url: str) -> str | None:
        """Open a tab, in front, at an address; the reason where that fails."""
        if not self.live and not inside(url, self.origins):
            raise ValueError(
                f"the start address {url!r} lies outside {', '.join(self.origins)}; give its site's origin"
            )
        try:
            self.page = await self.context.new_page()
            await self.page.goto(url, wait_until="load")
        except Error as error:
            return _reason(error)
        return None

    async def focus(self, tab: int) -> None:
        """Bring a tab (from 0) to the front."""
        self.page, self._known = self.context.pages[tab], set(self.context.pages)
        await self.page.bring_to_front()

    async def _settled(self, begun: int, arrived: int) -> str | None:
        """Wait until what the action set off has loaded; the reason where that takes too long.

        `begun` and `arrived` are the counts before the action. A request may be over before its page is there, and a
        redirect is two requests, so that waiting for requests alone would end too early.
        """
        if self.page.is_closed():
            return None
        until = asyncio.get_running_loop().time() + self.timeout
        leaving = await self._leaving(begun)
        while self._loading or (leaving and self._arrived == arrived):
            if self.page.is_closed():
                return None
            if asyncio.get_running_loop().time() > until:
                return await self._stop_loading()
            await asyncio.sleep(0.01)
        await self.page.wait_for_load_state("load")
        if self.pause:
            await asyncio.sleep(self.pause)
        return None

    async def _leaving(self, begun: int) -> bool:
        """Whether the page is on its way to another. It says so itself, but not once it is."""
        says = asyncio.ensure_future(self.page.evaluate(LEAVING))
        while self._begun == begun and not says.done():
            await asyncio.wait([says], timeout=0.01)
        if self._begun > begun:
            says.cancel()
            await asyncio.wait([says])
            return True
        try:
            return says.result()
        except Error:
            return not self.page.is_closed()  # it was left while it was asked

    async def _stop_loading(self) -> str:
        session = await self.context.new_cdp_session(self.page)
        await session.send("Page.stopLoading")
        await session.detach()
        self._loading.clear()
        return f"the page did not load within {self.timeout:g} seconds"

    async def _follow(self) -> None:
        """A tab that opened comes to the front; without any there is an empty one."""
        for page in self.context.pages[MAX_TABS:]:
            await page.close()
        if not self.context.pages:
            await self.context.new_page()
        if self.page.is_closed() or set(self.context.pages) - self._known:
            await self.focus(len(self.context.pages) - 1)
        self._known = set(self.context.pages)

    def _begins(self, request: Request) -> None:
        if request.is_navigation_request():
            self._begun += 1
            self._loading.add(request)

    def _ends(self, request: Request) -> None:
        self._loading.discard(request)

    def _fails(self, request: Request) -> None:
        self._arrived += request.is_navigation_request()
        self._loading.discard(request)

    def _arrives(self, frame: Frame) -> None:
        self._arrived += 1

    def _died(self, page: Page) -> None:
        self._dead.add(page)

    def _new_page(self, page: Page) -> None:
        page.on("crash", self._died)
        page.on("framenavigated", self._arrives)
        self._arrived += 1


def marked(shot: str | bytes, boxes: Sequence[Sequence[float]], colours: Sequence[str]) -> bytes:
    """A picture (a path, or encoded) with a frame and a number, from 1, at each box, as a PNG.

    A box is left, top, right, bottom in its pixels. Raises what `images.open_image` raises.
    """
    image = open_image(shot)
    draw_marks(image, boxes, colours)
    return png(image)


def _outside(origins: Sequence[str]) -> re.Pattern[str]:
    """Matches each address that is neither one of the origins nor below it."""
    known = "|".join(re.escape(origin) for origin in origins)
    return re.compile(rf"^(?!(?:{known})(?:[/?#]|$))(?!data:|blob:)")


def inside(url: str, origins: Sequence[str]) -> bool:
    """Whether an address is one of the origins or below it."""
    return any(url == origin or url.startswith((f"{origin}/", f"{origin}?", f"{origin}#")) for origin in origins)


def _plain(text: str) -> str:
    """Without halves of characters, which cannot be sent."""
    return text.encode("utf-8", "replace").decode()


def _reason(error: BaseException) -> str:
    """The first line of a message of Playwright's, without the call that it names."""
    first = (str(error) or type(error).__name__).splitlines()[0]
    return re.sub(r"^\w+\.\w+: ", "", first)[:300]
