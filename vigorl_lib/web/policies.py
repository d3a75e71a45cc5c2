"""Who acts: a model that sees the screenshot and nothing else, and someone who clicks at random."""

from __future__ import annotations

import random
import threading
from collections.abc import Sequence

from vigorl_lib import prompts
from vigorl_lib.policy import LocalPolicy, answer
from vigorl_lib.prompts import Mode
from vigorl_lib.records import Example
from vigorl_lib.web.actions import Action
from vigorl_lib.web.agent import Policy
from vigorl_lib.web.browser import Observation


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


def at_random(seed: int | str) -> Policy:
    """Anything that can be done without a text: each mark, scrolling, going back and stopping are equally likely."""
    rng = random.Random(seed)

    def act(seen: Observation, objective: str, previous: Sequence[str]) -> str:
        clicks = [Action("click", mark.id) for mark in seen.marks]
        return str(rng.choice([*clicks, Action("scroll", content="down"), Action("go_back"), Action("stop")]))

    return act
