"""Episodes of a web agent: look, ask the policy, act, until it stops; then judge what it did, and keep all of it.

As in VisualWebArena's runner: at most 30 steps; an end after three replies in a row that are no action, or after the
same action five times (in a row, or, of typing, in all). An action that cannot be done is a step with its reason, which
the policy reads among its previous actions. Unlike there, a task that breaks (a browser that dies, an evaluation that
raises) counts as failed, and is counted.
"""

from __future__ import annotations

import asyncio
import collections
import dataclasses
import inspect
import itertools
import json
import secrets
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from playwright.async_api import Browser, async_playwright

from vigorl_lib.nano.webpages import COLOURS
from vigorl_lib.records import append_line, read_lines
from vigorl_lib.web import browser as web
from vigorl_lib.web.actions import Action, reply_action
from vigorl_lib.web.browser import Observation
from vigorl_lib.web.evaluators import Judge, Protocol, Task, Vqa, check, evaluate, fetched
from vigorl_lib.web.helpers import HELPERS, Helper
from vigorl_lib.web.sites import COOKIE, Sites

MAX_STEPS, MAX_UNPARSABLE, MAX_REPEATED = 30, 3, 5
MAX_SAID = 200  # characters of what an action types, visits or presses, as later prompts have it
PROTOCOLS: tuple[Protocol, ...] = ("official", "clean")

# (what is to be seen, the objective, the actions before, oldest first) -> the reply, or what gives it when awaited. It
# is called in threads, by as many episodes at once as run side by side.
Policy = Callable[[Observation, str, Sequence[str]], str | Awaitable[str]]


@dataclasses.dataclass(frozen=True)
class Turn:
    """One step: what was seen, what the policy wrote, which action that is ("" for none), and why it could not be done.

    `screenshot` is the file's name, beside the trace, of the window without marks (`screenshot_of` draws them); `marks`
    are lines `[id] [TAG] [text]`; `said` is what stands for the step among the previous actions afterwards; `places`
    are the marks' tags, texts (or labels) and boxes, `colours` are theirs in turn.
    """

    step: int
    url: str
    title: str
    screenshot: str
    marks: str
    reply: str
    action: str
    reason: str | None
    said: str = ""
    places: Sequence[tuple[str, str, Sequence[float]]] = ()
    colours: Sequence[str] = COLOURS


@dataclasses.dataclass(frozen=True)
class Episode:
    """How a task went.

    scores  by protocol; 0 where the episode broke
    end     `stopped`, `max_steps`, `unparsable`, `repeated` or `error`
    error   why the episode broke, "" where it did not
    """

    id: str
    intent: str
    answer: str
    scores: dict[str, float]
    steps: int
    end: str
    error: str


async def run_episode(
    environment: web.Environment,
    task: Task,
    policy: Policy,
    folder: Path,
    *,
    judge: Judge | None = None,
    vqa: Vqa | None = None,
    helpers: Mapping[str, Helper] = HELPERS,
) -> Episode:
    """One episode in an environment that was opened for the task; its trace grows in `folder/trace.jsonl`.

    The folder is there, without a trace.

    Raises `web.Crashed`, Playwright's errors and ValueError of the evaluation.
    """
    actions: list[Action | None] = []
    previous: list[str] = []
    answer, end = "", "max_steps"
    trace = folder / "trace.jsonl"
    images = tuple([await fetched(source, environment.page) for source in task.images])
    for step in range(MAX_STEPS):
        seen = dataclasses.replace(await environment.observe(), images=images)
        screenshot = f"step{step:02d}.png"
        (folder / screenshot).write_bytes(seen.shot)
        reply = await asyncio.to_thread(policy, seen, task.intent, tuple(previous))
        if inspect.isawaitable(reply):
            reply = await reply
        action, crash = reply_action(reply), None
        try:
            reason = "this is no action" if action is None else await environment.act(action)
        except web.Crashed as error:
            crash, reason = error, str(error)
        actions.append(action)
        said = _described(action, seen) if action else reply.strip()[:100]
        previous.append(said if reason is None else f"{said} ({reason})")
        turn = Turn(
            step, seen.url, seen.title, screenshot, seen.text, reply, str(action or ""), reason, previous[-1],
            tuple((mark.tag, mark.text or mark.label, mark.box) for mark in seen.marks), seen.colours,
        )  # fmt: skip
        append_line(trace, _plain(dataclasses.asdict(turn)))
        if crash:
            raise crash
        if action is not None and action.verb == "stop":
            answer, end = action.content, "stopped"
            break
        if early := _early_end(actions):
            end = early
            break
    how = {"judge": judge, "vqa": vqa, "helpers": helpers, "origins": None if environment.live else environment.origins}
    scores = {
        protocol: await evaluate(task, answer, environment.page, protocol, **how)
        for protocol in reversed(PROTOCOLS)  # clean first: the official one leaves other pages open
    }
    return Episode(task.id, task.intent, answer, scores, len(actions), end, "")


async def run_tasks(
    tasks: Sequence[Task],
    policy_of: Callable[[Task], Policy],
    folder: str | Path,
    *,
    sites: Sites | None = None,
    origins: Sequence[str] = (),
    seed: int = 0,
    contexts: int = 8,
    viewport: tuple[int, int] = web.VIEWPORT,
    colours: Sequence[str] = COLOURS,
    timeout: float = 10.0,
    pause: float = 0.0,
    live: bool = False,
    judge: Judge | None = None,
    vqa: Vqa | None = None,
    helpers: Mapping[str, Helper] = HELPERS,
) -> list[Episode]:
    """One episode per task, `contexts` at a time in one browser; the episodes in the tasks' order.

    With `sites` each episode has the world of `seed` for itself, and nothing else is contacted; without, give the
    `origins` that may be visited, or `live`. What is finished is kept in `folder/episodes.jsonl` and not done again
    (delete a line to do it again); each episode's trace lies in its `folder_of`. `viewport` is the window's size,
    `colours` are those of the marks. Whatever an episode raises, the policy's errors too, is its `error`, and its
    scores are 0.

    `live` runs of the official tasks: `load_tasks` with the addresses of the sites, their log-ins where `storage_state`
    says, `pause=2.5`, a `judge`, `vqa`, and for the shop `helpers.of_shop`; without these, leave out the tasks that are
    `refused`, and count them.

    Raises ValueError before any work for what `evaluators.check` refuses, or where two tasks have one id, and
    FileNotFoundError without a log-in's file or a Chromium.
    """
    folder = Path(folder)
    if twice := [id for id, count in collections.Counter(task.id for task in tasks).items() if count > 1]:
        raise ValueError(f"task {twice[0]}: there are several of this id; run their files in folders of their own")
    allowed = tuple(sites.urls.values()) if sites else tuple(origins)
    for task in tasks:
        check(task, judge, vqa, helpers, None if live else allowed)
        if task.storage_state is not None and not Path(task.storage_state).is_file():
            remedy = "make it as VisualWebArena's prepare.sh does, and run in the folder that .auth lies in"
            raise FileNotFoundError(f"task {task.id}: no log-in {task.storage_state}; {remedy}")
    folder.mkdir(parents=True, exist_ok=True)
    done = {line["id"]: Episode(**line) for line in read_lines(folder / "episodes.jsonl")}
    left = collections.deque(task for task in tasks if task.id not in done)

    async with async_playwright() as playwright:
        starting = asyncio.Lock()
        running: list[Browser] = []

        async def browser() -> Browser:
            """The browser that is shared; another one after it died."""
            async with starting:
                if not running or not running[-1].is_connected():
                    running.append(await web.launch(playwright, origins=allowed if sites else (), live=live))
                return running[-1]

        async def one(task: Task) -> Episode:
            place, cookie = folder_of(folder, task.id), None
            place.mkdir(parents=True, exist_ok=True)
            (place / "trace.jsonl").unlink(missing_ok=True)  # of an episode that is done again
            if sites:
                cookie = COOKIE, secrets.token_hex(16)
                sites.reset(cookie[1], seed)
            async with web.open_environment(
                await browser(), task.start_urls, allowed, cookie=cookie, storage_state=task.storage_state,
                viewport=viewport, colours=colours, timeout=timeout, pause=pause, live=live, fenced=sites is not None,
            ) as environment:  # fmt: skip
                return await run_episode(
                    environment, task, policy_of(task), place, judge=judge, vqa=vqa, helpers=helpers
                )

        async def work() -> None:
            while left:
                task = left.popleft()
                (found,) = await asyncio.gather(one(task), return_exceptions=True)
                if isinstance(found, BaseException) and not isinstance(found, Exception):
                    raise found
                if isinstance(found, Exception):
                    found = _broken(task, found, len(list(read_lines(folder_of(folder, task.id) / "trace.jsonl"))))
                done[task.id] = found
                append_line(folder / "episodes.jsonl", _plain(dataclasses.asdict(done[task.id])))

        if left:
            await browser()  # that there is none is no task's failure
        await asyncio.gather(*(work() for _ in range(contexts)))
        if running:
            await running[-1].close()
    return [done[task.id] for task in tasks]


def refused(
    tasks: Sequence[Task],
    *,
    judge: Judge | None = None,
    vqa: Vqa | None = None,
    helpers: Mapping[str, Helper] = HELPERS,
    origins: Sequence[str] | None = None,
) -> list[Episode]:
    """The tasks that `evaluators.check` refuses, as broken episodes of no steps: not to be run, but to be counted."""
    found = []
    for task in tasks:
        try:
            check(task, judge, vqa, helpers, origins)
        except ValueError as error:
            found.append(_broken(task, error, 0))
    return found


def _broken(task: Task, error: Exception, steps: int) -> Episode:
    message = f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:300]}"
    return Episode(task.id, task.intent, "", dict.fromkeys(PROTOCOLS, 0.0), steps, "error", message)


def success_rate(episodes: Sequence[Episode], protocol: Protocol) -> float:
    """The mean score over all episodes, broken ones among them. Raises ValueError without any."""
    if not episodes:
        raise ValueError("no episodes: run some tasks first")
    return sum(episode.scores[protocol] for episode in episodes) / len(episodes)


def folder_of(folder: str | Path, id: str) -> Path:
    """Where `run_tasks` keeps a task's trace and screenshots."""
    return Path(folder) / id.replace("/", "_")


def read_trace(folder: str | Path) -> list[Turn]:
    """The turns of an episode's folder. Raises FileNotFoundError without a trace."""
    path = Path(folder) / "trace.jsonl"
    if not path.exists():
        raise FileNotFoundError(f"{path}: no trace; run the task first")
    return [Turn(**line) for line in read_lines(path)]


def screenshot_of(turn: Turn, folder: str | Path) -> bytes:
    """What the agent saw at a turn of the episode in `folder`: the window with its marks, as a PNG.

    Raises FileNotFoundError without the screenshot, ValueError where it is damaged.
    """
    return web.marked(str(Path(folder) / turn.screenshot), [box for _, _, box in turn.places], turn.colours)


def _early_end(actions: Sequence[Action | None]) -> str | None:
    """Why an episode ends before its time, as in the official runner."""
    last = actions[-1]
    if len(actions) >= MAX_UNPARSABLE and all(action is None for action in actions[-MAX_UNPARSABLE:]):
        return "unparsable"
    if last is None:
        return None
    row = len(list(itertools.takewhile(lambda action: action == last, reversed(actions))))
    return "repeated" if (actions.count(last) if last.verb == "type" else row) >= MAX_REPEATED else None


def _described(action: Action, seen: Observation) -> str:
    """The action as ViGoRL's prompts list it: `click [A] [] [Home]`, the element by its tag and text; cut if long."""
    action = dataclasses.replace(action, content=action.content[:MAX_SAID])
    mark = next((mark for mark in seen.marks if mark.id == action.element), None)
    if mark is None or action.verb == "tab_focus":
        return str(action)
    content = f" [{action.content}]" if action.verb == "type" else ""
    return f"{action.verb} [{mark.tag}] [{mark.text or mark.label}]{content}"


def _plain(value: dict[str, Any]) -> dict[str, Any]:
    """Without halves of characters, which no file takes."""
    return json.loads(json.dumps(value, ensure_ascii=False).encode("utf-8", "replace"))
