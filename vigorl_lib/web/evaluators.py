"""Whether a web task was done: VisualWebArena's tasks, and its evaluators on the last page and the last answer.

A task's score is the product over its `eval_types` and over what each asks for. `official` is the benchmark's own code
to the letter, `clean` what it should do. Where they differ:

1. String answers. Officially compared lower-cased, without one pair of quotes, spaces kept; a reference of one word has
   to be one of the answer's words (as NLTK splits them), a longer one may stand anywhere. `clean` drops outer spaces,
   and wants whole words of the longer ones and of `one_of` too ("12" is not in "112").
2. `required_values`. Officially whole numbers only ("699.99" fails), and `<` and `>` hold for equal values. `clean`
   takes decimals and a dollar sign, and compares strictly. It also checks every kind of content that a task names for a
   page, of which officially only the first counts.
3. Pages that lack the element. Officially an error in a locator gives an empty text, so that `must_exclude` holds.
   `clean` fails the task.
4. Addresses. Officially texts are compared, one `/` at the end apart, `localhost` read as 127.0.0.1; `GOLD in PRED`
   finds `/item/1` in `/item/12`. `clean` ignores the order of the query, and the fragment where the reference has
   none, and wants the piece to end where a part of the address ends.
5. `program_html` of an unachievable or fuzzy kind: officially all alternatives have to fit. `clean`: one of them.
6. A page that is opened for a check is officially left open, and a later check sees it. `clean` uses a tab of its own.

Nothing here calls `eval`: of the Python snippets in official tasks (`func:…`), those that `helpers` names are
understood; `helpers.of_shop` adds those that ask the official shop's administration. A locator is JavaScript, which the
page runs. NLTK's sentence model and its few contractions such as "gonna" are left out: each word's last period counts
as a word, also after an abbreviation.
"""

from __future__ import annotations

import ast
import asyncio
import contextlib
import dataclasses
import json
import math
import re
import urllib.parse
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image
from playwright.async_api import Error, Page
from scipy.ndimage import uniform_filter

from vigorl_lib.images import open_image
from vigorl_lib.web.browser import inside
from vigorl_lib.web.helpers import HELPERS, Helper

Protocol = Literal["official", "clean"]
PLACEHOLDERS = {
    "__CLASSIFIEDS__": "classifieds", "__REDDIT__": "reddit", "__SHOPPING__": "shopping",
    "__WIKIPEDIA__": "wikipedia", "__HOMEPAGE__": "homepage",
}  # fmt: skip
KINDS = ("string_match", "url_match", "program_html", "page_image_query")
WEB = ("http://", "https://")
SSIM = 0.8  # above it, two images are the same

# (what: `fuzzy_match` or `ua_match`, reference, answer, intent) -> 0 to 1. `ua_match`: the reference is why a task
# cannot be done, and the answer should say so.
Judge = Callable[[str, str, str, str], float]
# (images, question) -> one answer per image.
Vqa = Callable[[Sequence[Image.Image], str], Sequence[str]]


@dataclasses.dataclass(frozen=True)
class Task:
    """One task of VisualWebArena's schema, as far as a run needs it.

    id             the site and the number in the file, as `shopping/12`
    sites          which sites it needs
    start_urls     one tab each
    intent         what is to be done
    images         pictures that belong to the intent: paths or addresses
    eval           the evaluation, as in the file
    storage_state  the log-in's file, None where there is none
    difficulty     `overall_difficulty`: easy, medium, hard, or "" where the file does not say
    """

    id: str
    sites: tuple[str, ...]
    start_urls: tuple[str, ...]
    intent: str
    images: tuple[str, ...]
    eval: Mapping[str, Any]
    storage_state: str | None = None
    difficulty: str = ""


def load_tasks(path: str | Path, sites: Mapping[str, str]) -> list[Task]:
    """The tasks of an official JSON file (a list), with the sites' addresses (no `/` at the end) put in.

    `sites` maps `classifieds`, `reddit`, `shopping`, `wikipedia`, `homepage`, as far as the file names them, to
    addresses. What a file says of logging in and of the place on earth is left to whoever opens the browser.
    Raises ValueError naming file, task and key for what is missing or no task.
    """
    path = Path(path)
    text = path.read_text(encoding="utf-8")
    for placeholder, site in PLACEHOLDERS.items():
        if placeholder in text:
            if site not in sites:
                raise ValueError(f"{path}: {placeholder} needs an address; give sites['{site}']")
            text = text.replace(placeholder, sites[site].rstrip("/"))
    try:
        rows = json.loads(text)
    except ValueError as error:
        raise ValueError(f"{path}: not JSON ({error}); fetch it again") from error
    if not isinstance(rows, list):
        raise ValueError(f"{path}: expected a list of tasks, found {type(rows).__name__}")
    tasks = []
    for number, row in enumerate(rows):
        try:
            tasks.append(task_of(row))
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(
                f"{path}: task {number}: missing or wrong: {error}; see the schema in {__name__}"
            ) from error
        except ValueError as error:
            raise ValueError(f"{path}: task {number}: {error}") from error
    return tasks


def task_of(row: Mapping[str, Any]) -> Task:
    """The task of one object of the file. Raises KeyError, TypeError, AttributeError or ValueError for what is none."""
    image = row.get("image")
    unknown = set(row["eval"]["eval_types"]) - set(KINDS)
    if unknown or not row["eval"]["eval_types"]:
        raise ValueError(f"eval_types {row['eval']['eval_types']}: use some of {', '.join(KINDS)}")
    return Task(
        id=f"{row['sites'][0]}/{row['task_id']}",
        sites=tuple(row["sites"]),
        start_urls=tuple(row["start_url"].split(" |AND| ")),
        intent=row["intent"],
        images=() if image is None else (image,) if isinstance(image, str) else tuple(image),
        eval=row["eval"],
        storage_state=row.get("storage_state"),
        difficulty=row.get("overall_difficulty") or "",
    )


def check(
    task: Task,
    judge: Judge | None,
    vqa: Vqa | None,
    helpers: Mapping[str, Helper] = HELPERS,
    origins: Sequence[str] | None = (),
) -> None:
    """Raise ValueError, before any work, where the task or its evaluation needs what is not there.

    That is a judge or a model that is not given, a helper that `helpers` lacks, or a picture that is neither a file nor
    below one of the `origins` (None: anywhere).
    """
    text = json.dumps(task.eval)
    for name in re.findall(r'"func:\s*(\w+)', text):
        if name not in helpers:
            remedy = "leave the task out, or give helpers that have it (of the official shop: helpers.of_shop)"
            raise ValueError(f"task {task.id}: helper {name} is not known; {remedy}")
    if '"fuzzy_match"' in text and judge is None:
        raise ValueError(f"task {task.id}: fuzzy_match needs a judge; give one, or leave the task out")
    if any(query.get("eval_vqa") for query in task.eval.get("page_image_query") or []) and vqa is None:
        raise ValueError(f"task {task.id}: page_image_query needs a model that answers questions; give vqa")
    references = [
        source
        for query in task.eval.get("page_image_query") or []
        for source in query.get("eval_fuzzy_image_match", "").split(" |OR| ")
        if source
    ]
    for source in (*task.images, *references):
        if not source.startswith(WEB):
            if not Path(source).is_file():
                raise ValueError(f"task {task.id}: no picture {source}; run where it lies, or leave the task out")
        elif origins is not None and not inside(source, origins):
            known = ", ".join(origins) or "this machine"
            raise ValueError(f"task {task.id}: the picture {source} lies outside {known}; leave the task out")


async def fetched(source: str, page: Page) -> bytes:
    """An encoded picture: a file's, or what the page's browser gets at an address, without following it elsewhere.

    Raises FileNotFoundError or ValueError where there is none. Only `check` looks whether one may ask there.
    """
    if not source.startswith(WEB):
        return Path(source).read_bytes()
    reply = await page.context.request.get(source, max_redirects=0)
    if not reply.ok:
        raise ValueError(f"{source}: the picture can not be had (status {reply.status}); check the address")
    return await reply.body()


async def evaluate(
    task: Task,
    answer: str,
    page: Page,
    protocol: Protocol,
    *,
    judge: Judge | None = None,
    vqa: Vqa | None = None,
    helpers: Mapping[str, Helper] = HELPERS,
    origins: Sequence[str] | None = (),
) -> float:
    """The task's score, 0 to 1, for the answer of the last `stop` and the page that was left in front.

    `origins` are the sites that may be asked for pictures to compare with; None: any.

    Raises ValueError for a protocol that does not exist, for an evaluation that this file does not know, and as
    `check`; what judge and model raise; and what Playwright raises where the page is gone.
    """
    if protocol not in ("official", "clean"):
        raise ValueError(f"no protocol {protocol!r}; known: official, clean")
    check(task, judge, vqa, helpers, origins)
    score = 1.0
    for kind in task.eval["eval_types"]:
        if kind == "string_match":
            score *= await asyncio.to_thread(string_match, task, answer, protocol, judge)  # a judge may take its time
        elif kind == "url_match":
            score *= url_match(task.eval, page.url, protocol)
        elif kind == "program_html":
            score *= await _program_html(task, page, protocol, judge, helpers)
        else:
            score *= await _page_image_query(task, page, protocol, vqa, helpers)
    return score


# Texts ------------------------------------------------------------------------------------------------

_QUOTES = ("'", '"')
_WORD = re.compile(
    r"\.{2,}|--|``|''"  # several signs that are one word
    r"|'(?:s|m|d|ll|re|ve)(?![^\W_])|n't(?!\w)"  # endings after an apostrophe
    r"|[;@#$%&?!*()\[\]{}<>\"«»“”‘’„…]|[,:](?!\d)|'(?=\s|$)"
    r"|(?:(?!\.{2,}|--|``|''|n't(?!\w)|'(?:s|m|d|ll|re|ve)(?![^\W_])|'(?:\s|$)|[,:](?!\d))"
    r"[^\s;@#$%&?!*()\[\]{}<>\"«»“”‘’„…])+"
)


def words(text: str) -> list[str]:
    """The text's words as NLTK's `word_tokenize` has them; each word's last period is a word of its own."""
    found = []
    for word in _WORD.findall(text):
        if len(word) > 1 and word.endswith(".") and not word.startswith(".."):
            found += [word[:-1], "."]
        else:
            found.append(word)
    return found


def clean_answer(text: str) -> str:
    """Lower-cased, without one pair of equal quotes around it; nothing is stripped."""
    for quote in _QUOTES:
        if text.startswith(quote) and text.endswith(quote):
            text = text[1:-1]
            break
    return text.lower()


def _tidy(text: str, protocol: Protocol) -> str:
    return clean_answer(" ".join(text.split()) if protocol == "clean" else text)


def includes(reference: str, text: str, protocol: Protocol) -> bool:
    """Whether the text holds the reference: as a word if it is one, else anywhere (`clean`: as whole words)."""
    reference, text = _tidy(reference, protocol), _tidy(text, protocol)
    if len(words(reference)) == 1:
        return reference in words(text)
    return _whole(reference, text) if protocol == "clean" else reference in text


def _whole(piece: str, text: str) -> bool:
    """Whether the piece stands in the text and does not begin or end inside a word or number."""
    before = r"(?<!\w)" if piece[:1].isalnum() else ""
    after = r"(?!\w)(?![.,]\d)" if piece[-1:].isalnum() else ""
    return bool(piece) and re.search(before + re.escape(piece) + after, text) is not None


def number(text: str, protocol: Protocol) -> float | None:
    """The text as a number, commas left out; officially a whole one, else None."""
    text = text.strip().replace(",", "")
    try:
        return float(text.removeprefix("$")) if protocol == "clean" else int(text)
    except ValueError:
        return None


def holds(value: float, condition: str, protocol: Protocol) -> bool:
    """Whether a number fulfils `<= 3`, `>= 3`, `== 3`, `< 3` or `> 3`. Raises ValueError for another condition."""
    tolerance = 1e-8
    found = re.search(r"<=|>=|==|<|>", condition)
    if not found:
        raise ValueError(f"condition {condition!r}: write <=, >=, ==, < or > and a number")
    distance = value - float(condition.partition(found[0])[2])
    if found[0] in ("<", ">") and protocol == "clean":
        return distance < -tolerance if found[0] == "<" else distance > tolerance
    if found[0] == "==":
        return abs(distance) <= tolerance
    # Officially within the tolerance, so that an equal value is also less and more.
    return distance <= tolerance if found[0][0] == "<" else distance >= -tolerance


def _values(found: str | float, conditions: Sequence[str], protocol: Protocol) -> bool:
    value = number(found, protocol) if isinstance(found, str) else found
    return value is not None and all(
        any(holds(value, part, protocol) for part in condition.split(" |OR| ")) for condition in conditions
    )


def _all_included(references: Sequence[str], text: str, protocol: Protocol) -> bool:
    return all(any(includes(part, text, protocol) for part in one.split(" |OR| ")) for one in references)


def string_match(task: Task, answer: str, protocol: Protocol, judge: Judge | None = None) -> float:
    """The score of an answer against `reference_answers`, all of which have to fit."""
    said, score = _tidy(answer, protocol), 1.0
    for kind, wanted in task.eval["reference_answers"].items():
        if kind == "exact_match":
            # Officially both are cleaned once more, which may take a second pair of quotes.
            score *= clean_answer(said) == _tidy(wanted, protocol)
        elif kind == "required_values":
            score *= _values(said, wanted, protocol)
        elif kind == "must_include":
            score *= _all_included(wanted, said, protocol)
        elif kind == "must_exclude":
            score *= not any(includes(one, said, protocol) for one in wanted)
        elif kind == "one_of":
            tidy = [_tidy(one, protocol) for one in wanted]
            score *= any(_whole(one, said) if protocol == "clean" else one in said for one in tidy)
        elif kind == "fuzzy_match":
            score = _fuzzy(task, wanted, said, score, protocol, judge)
        else:
            raise ValueError(f"task {task.id}: reference_answers: {kind} is not known")
    return float(score)


def _fuzzy(task: Task, wanted: Any, said: str, score: float, protocol: Protocol, judge: Judge | None) -> float:
    if judge is None:
        raise ValueError(f"task {task.id}: fuzzy_match needs a judge; give one, or leave the task out")
    if wanted != "N/A":
        for reference in [wanted] if isinstance(wanted, str) else wanted:
            score *= judge("fuzzy_match", reference, said, task.intent)
        return score
    exact = clean_answer(said) == "n/a"
    if protocol == "clean":
        return score * (1.0 if exact else judge("ua_match", task.eval["string_note"], said, task.intent))
    # Officially the judge's word replaces what came before.
    score *= exact
    return score if score == 1 else judge("ua_match", task.eval["string_note"], said, task.intent)


# Addresses --------------------------------------------------------------------------------------------


def url_match(evaluation: Mapping[str, Any], url: str, protocol: Protocol) -> float:
    """1 where the address is one of `reference_url`, or, by `GOLD in PRED`, holds one of them."""
    rule = evaluation.get("url_note") or "EXACT"
    references = evaluation["reference_url"].split(" |OR| ")
    if rule not in ("EXACT", "GOLD in PRED"):
        raise ValueError(f"url_note {rule!r}: write EXACT or GOLD in PRED")
    if protocol == "official":
        url, *references = (one.replace("localhost", "127.0.0.1").removesuffix("/") for one in (url, *references))
        return float(url in references if rule == "EXACT" else any(one in url for one in references))
    if rule == "EXACT":
        return float(any(_same(url, one) for one in references))
    here = url.replace("localhost", "127.0.0.1")
    pieces = [re.escape(one.replace("localhost", "127.0.0.1").removesuffix("/")) for one in references]
    return float(any(re.search(rf"{piece}(?![\w%-])", here) for piece in pieces))


def _same(url: str, reference: str) -> bool:
    """Whether host, path and query are those of the reference, and the fragment, if it has one."""
    here, there = (urllib.parse.urlsplit(one.replace("localhost", "127.0.0.1")) for one in (url, reference))
    queries = [sorted(urllib.parse.parse_qsl(one.query, keep_blank_values=True)) for one in (here, there)]
    return (
        here.netloc.lower() == there.netloc.lower()
        and here.path.rstrip("/") == there.path.rstrip("/")
        and queries[0] == queries[1]
        and there.fragment in ("", here.fragment)
    )


# Pages ------------------------------------------------------------------------------------------------


async def _helper(call: str, page: Page, helpers: Mapping[str, Helper]) -> str | float:
    """What `name('text', …)` gives, for a known name; `__page__` among the arguments is the page.

    Raises ValueError for anything else.
    """
    unknown = ValueError(f"func:{call[:100]}: not known; use one of {', '.join(helpers)}")
    try:
        parsed = ast.parse(call.strip().replace("__last_url__", page.url), mode="eval").body
        if not isinstance(parsed, ast.Call) or ast.unparse(parsed.func) not in helpers:
            raise unknown
        given = [ast.literal_eval(one) for one in parsed.args if ast.unparse(one) != "__page__"]
    except (SyntaxError, ValueError) as error:
        raise unknown from error
    return await helpers[ast.unparse(parsed.func)](page, *given)


@contextlib.asynccontextmanager
async def _spare(page: Page, protocol: Protocol, urls: Iterable[str]) -> AsyncIterator[Page]:
    """Where checks open these pages: officially the page that was left, in `clean` a tab of their own if need be."""
    if protocol == "official" or all(url == "last" for url in urls):
        yield page
        return
    tab = await page.context.new_page()
    try:
        yield tab
    finally:
        await tab.close()


async def _opened(url: str, page: Page, tab: Page, helpers: Mapping[str, Helper]) -> Page:
    """The page that a check looks at: `last` is the one that was left; what a tab of their own shows it keeps."""
    if url.startswith("func:"):
        url = str(await _helper(url.removeprefix("func:"), page, helpers))
    if url == "last":
        return page
    if tab is page or tab.url != url:
        await tab.goto(url)
    return tab


async def _program_html(
    task: Task, page: Page, protocol: Protocol, judge: Judge | None, helpers: Mapping[str, Helper]
) -> float:
    score = 1.0
    async with _spare(page, protocol, (target["url"] for target in task.eval["program_html"])) as tab:
        for target in task.eval["program_html"]:
            shown = await _opened(target["url"], page, tab, helpers)
            found = await _selected(target, shown, protocol, helpers)
            if found is None:
                return 0.0
            score *= await asyncio.to_thread(_contents, task, target["required_contents"], found, protocol, judge)
            if target.get("prep_actions") and shown is not page:
                await tab.goto("about:blank")  # they changed what it shows
    return score


async def _selected(
    target: Mapping[str, Any], page: Page, protocol: Protocol, helpers: Mapping[str, Helper]
) -> str | float | None:
    """What a locator finds: the whole page's source without one. None where the page is wrong."""
    locator = target["locator"]
    if not locator.strip():
        return await page.content()
    if locator.startswith(("document.", "[...document.")):
        missing = "" if protocol == "official" else None
        try:
            for action in target.get("prep_actions", ()):
                await page.evaluate(f"() => {action}")
        except Error as error:
            print(f"prep_actions: {error.message.splitlines()[0]}")  # officially passed over
        try:
            found = await page.evaluate(f"() => {locator}")
        except Error:
            return missing
        # Officially a missing value is the text that Python makes of it.
        return missing if found is None and protocol == "clean" else str(found)
    if locator.startswith("lambda:"):
        # Officially all of these letters go from the front, those of the program too.
        program = locator.lstrip("lambd:") if protocol == "official" else locator.removeprefix("lambda:")
        try:
            found = await page.evaluate(program)
        except Error:
            return None
        return found if isinstance(found, int | float) and found else str(found) if found else None
    if locator.startswith("func:"):
        return await _helper(locator.removeprefix("func:"), page, helpers)
    raise ValueError(f"locator {locator[:80]!r}: begin it with document., lambda: or func:, or leave it empty")


def _contents(
    task: Task, required: Mapping[str, Any], found: str | float, protocol: Protocol, judge: Judge | None
) -> float:
    """Whether what was found is as required: officially only the first kind in this order counts."""
    order = ("exact_match", "must_include", "must_exclude", "required_values", "fuzzy_match")
    kinds = [kind for kind in order if kind in required]
    if not kinds or set(required) - set(order):
        raise ValueError(f"task {task.id}: required_contents {sorted(required)}: use some of {', '.join(order)}")
    score, text = 1.0, str(found)
    for kind in kinds[:1] if protocol == "official" else kinds:
        wanted = required[kind]
        if kind == "exact_match":
            score *= _tidy(text, protocol) == _tidy(wanted, protocol)
        elif kind == "must_include":
            score *= _all_included(wanted, text, protocol)
        elif kind == "must_exclude":
            score *= not any(includes(one, text, protocol) for one in wanted)
        elif kind == "required_values":
            score *= _values(found, wanted, protocol)
        elif judge is None:
            raise ValueError(f"task {task.id}: fuzzy_match needs a judge; give one, or leave the task out")
        else:
            scores = [judge("fuzzy_match", one, text, "NOT USED") for one in wanted.split(" |OR| ")]
            score *= math.prod(scores) if protocol == "official" else max(scores)
    return float(score)


# Images -----------------------------------------------------------------------------------------------


async def _page_image_query(
    task: Task, page: Page, protocol: Protocol, vqa: Vqa | None, helpers: Mapping[str, Helper]
) -> float:
    score = 1.0
    async with _spare(page, protocol, (query["eval_image_url"] for query in task.eval["page_image_query"])) as tab:
        for query in task.eval["page_image_query"]:
            if not query.get("eval_vqa") and "eval_fuzzy_image_match" not in query:
                raise ValueError(f"task {task.id}: page_image_query without eval_vqa and eval_fuzzy_image_match")
            shown = await _opened(query["eval_image_url"], page, tab, helpers)
            images = await _images(shown, query["eval_image_class"])
            if not images:
                return 0.0
            for pair in query.get("eval_vqa") or ():
                if vqa is None:
                    raise ValueError(f"task {task.id}: page_image_query needs a model that answers questions; give vqa")
                replies = await asyncio.to_thread(vqa, images, f"Q: {pair['question']} A:")
                score *= any(pair["answer"].lower() in reply.lower() for reply in replies)
            if "eval_fuzzy_image_match" in query:
                least = query.get("ssim_threshold", SSIM)
                sources = query["eval_fuzzy_image_match"].split(" |OR| ")
                wanted = [open_image(await fetched(source, page), name=source) for source in sources]
                score *= any(similarity(image, other) > least for other in wanted for image in images)
    return float(score)


async def _images(page: Page, locator: str) -> list[Image.Image]:
    """The page's images at or below a class (`.name`), all of them without one; those of the page's own site."""
    if locator.strip() and not locator.startswith("."):
        raise ValueError(f"eval_image_class {locator[:80]!r}: begin it with a dot, or leave it empty")
    selector = f"img:is({locator}, {locator} *)" if locator.strip() else "img"
    urls = await page.evaluate("(selector) => [...document.querySelectorAll(selector)].map((one) => one.src)", selector)
    origin = urllib.parse.urlsplit(page.url)[:2]
    images = []
    for url in urls:
        if urllib.parse.urlsplit(url)[:2] == origin:
            reply = await page.context.request.get(url, max_redirects=0)
            images += [open_image(await reply.body())] if reply.ok else []
    return images


def similarity(one: Image.Image, other: Image.Image) -> float:
    """The structural similarity (SSIM, -1 to 1) of two images in grey, both scaled to the larger sides of the two.

    Windows of 7 x 7 pixels, all weighed alike, sample covariance: scikit-image's defaults.
    """
    size = max(one.width, other.width), max(one.height, other.height)
    x, y = (np.asarray(image.resize(size, Image.Resampling.LANCZOS).convert("L"), float) for image in (one, other))
    window, sample = 7, 49 / 48
    mean_x, mean_y = uniform_filter(x, window), uniform_filter(y, window)
    spread_x = sample * (uniform_filter(x * x, window) - mean_x**2)
    spread_y = sample * (uniform_filter(y * y, window) - mean_y**2)
    together = sample * (uniform_filter(x * y, window) - mean_x * mean_y)
    small, little = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    values = ((2 * mean_x * mean_y + small) * (2 * together + little)) / (
        (mean_x**2 + mean_y**2 + small) * (spread_x + spread_y + little)
    )
    return float(values[3:-3, 3:-3].mean())
