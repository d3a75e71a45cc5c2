"""Who acts: a model that sees the screenshot and nothing else, and someone who clicks at random; and who judges.

A model is here (`answering`) or behind a server (`served`). The official evaluators ask GPT-4 whether two answers
agree, and BLIP-2 what is on a picture: any model behind a server stands in for both (`judge`, `vqa`).
"""

from __future__ import annotations

import asyncio
import random
import re
import threading
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any

from PIL import Image

from vigorl_lib import prompts
from vigorl_lib.nano.drawing import png_url
from vigorl_lib.policy import LocalPolicy, answer
from vigorl_lib.prompts import Mode
from vigorl_lib.records import Example
from vigorl_lib.web.actions import Action
from vigorl_lib.web.agent import Policy
from vigorl_lib.web.browser import Observation
from vigorl_lib.web.evaluators import Judge, Vqa

if TYPE_CHECKING:
    from vigorl_lib.served import ServedPolicy

SYSTEM = (
    "You do an errand in a web browser, one action per reply. The picture shows the window; whatever you can act upon "
    "has a frame and a number; pictures right of it belong to the errand. Reason step by step in <think> </think> and "
    "tie every step to one point of the picture, (x, y) in pixels. Then write one action in <answer> </answer>:\n"
    "click [number], hover [number], type [number] [text] (Enter follows; end with [0] for none), clear [number], "
    "press [keys], scroll [down], scroll [up], goto [address], new_tab, tab_focus [tab, from 0], close_tab, go_back, "
    "go_forward, or, when the errand is done, stop [answer], with nothing in the brackets where nothing was asked."
)
JUDGE = {
    "fuzzy_match": (
        "Task: {intent}\nReference: {reference}\nAnswer: {answer}\n"
        "Does the answer say all that the reference says, and nothing against it, in whatever words? "
    ),
    "ua_match": (
        "Task: {intent}\nWhy it can not be done: {reference}\nWhat someone said: {answer}\n"
        "Did they say that it can not be done, for this reason? "
    ),
}
VERDICT = "Explain in a sentence, and end with one word: yes or no."


def example_of(
    id: str,
    screenshot: str | bytes,
    objective: str,
    previous: Sequence[str],
    *,
    images: Sequence[str | bytes] = (),
    action: str = "",
) -> Example:
    """One step as the benchmark `visualwebarena` has it; `action` is the right one where it is known.

    `images` are pictures that belong to the objective; they stand right of the screenshot.
    """
    return Example(
        id=id,
        benchmark="visualwebarena",
        kind=action.split(" ", 1)[0],
        question=prompts.web_step(objective, previous),
        options=(),
        answer=action,
        images=(screenshot, *images),
    )


def answering(
    policy: LocalPolicy, mode: Mode, *, max_new_tokens: int, temperature: float = 0.0, seed: int = 0
) -> Policy:
    """A model as an agent: asked in `mode` about the screenshot, one episode after the other."""
    alone = threading.Lock()  # episodes run side by side, a model does not

    def act(seen: Observation, objective: str, previous: Sequence[str]) -> str:
        asked = example_of("step", seen.screenshot, objective, previous, images=seen.images)
        sampling = {"max_new_tokens": max_new_tokens, "temperature": temperature, "seed": seed + len(previous)}
        with alone:
            (given,) = answer(policy, [asked], mode, **sampling)
        return given.turns[0]

    return act


def served(policy: ServedPolicy, system: str = SYSTEM, *, seed: int = 0) -> Policy:
    """A model behind a server as an agent, as many episodes at once as `policy` has requests in flight."""

    async def said(messages: list[dict[str, Any]], seed: int) -> str:
        text, _ = await policy.say(messages, seed)
        return text

    def act(seen: Observation, objective: str, previous: Sequence[str]) -> Awaitable[str]:
        asked = example_of("step", seen.screenshot, objective, previous, images=seen.images)
        messages = _talk(asked.question, policy.view_of(asked).image)
        return said([{"role": "system", "content": system}, *messages], seed + len(previous))

    return act


def at_random(seed: int | str) -> Policy:
    """Anything that can be done without a text: each mark, scrolling, going back and stopping are equally likely."""
    rng = random.Random(seed)

    def act(seen: Observation, objective: str, previous: Sequence[str]) -> str:
        clicks = [Action("click", mark.id) for mark in seen.marks]
        return str(rng.choice([*clicks, Action("scroll", content="down"), Action("go_back"), Action("stop")]))

    return act


def judge(policy: ServedPolicy) -> Judge:
    """Who says whether an answer is the reference in other words, for `fuzzy_match`, in place of the official GPT-4.

    Raises ValueError where the reply is neither yes nor no, `records.Refused` where the server gives none.
    """
    ask = _waiting(policy)

    def agrees(what: str, reference: str, answer: str, intent: str) -> float:
        text = JUDGE[what].format(intent=intent, reference=reference, answer=answer) + VERDICT
        reply = ask(_talk(text))
        verdicts = re.findall(r"\b(yes|no)\b", reply.lower())
        if not verdicts:
            raise ValueError(f"the judge said neither yes nor no: {reply[:100]!r}; take another model")
        return float(verdicts[-1] == "yes")

    return agrees


def vqa(policy: ServedPolicy) -> Vqa:
    """Who answers questions about pictures, for `page_image_query`, in place of the official BLIP-2."""
    ask = _waiting(policy)
    return lambda images, question: [ask(_talk(question, image)) for image in images]


def _talk(text: str, *pictures: Image.Image) -> list[dict[str, Any]]:
    shown = [{"type": "image_url", "image_url": {"url": png_url(one)}} for one in pictures]
    return [{"role": "user", "content": [*shown, {"type": "text", "text": text}]}]


def _waiting(policy: ServedPolicy) -> Callable[[list[dict[str, Any]]], str]:
    """The policy's replies for an evaluation, which runs in a thread and does not await them; one at a time."""
    alone = threading.Lock()

    def ask(messages: list[dict[str, Any]]) -> str:
        with alone:
            text, _ = asyncio.run(policy.say(messages))
        return text

    return ask
