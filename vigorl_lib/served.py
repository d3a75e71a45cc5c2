"""The policy behind any OpenAI-compatible server: vLLM, SGLang, `transformers serve`.

A server can not be made to go on with its own message, so each step is asked for anew, with the former thoughts in the
user's text, as the released teacher is asked. Retries with back-off and jitter, time-outs and connection pools are the
`openai` client's; this module adds how many requests may be in flight, and the account of them.
"""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import itertools
import json
import os
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import openai
from openai.types.chat import ChatCompletion

from vigorl_lib import prompts, traces, views
from vigorl_lib.grounding import Frame
from vigorl_lib.nano.drawing import png_url
from vigorl_lib.records import Account, Asked, Example, Proposal, Refused, StepRequest
from vigorl_lib.views import View

PICTURES_KEPT = 256  # encoded; more trees than that are seldom in flight
POOL = 8  # connections


@dataclasses.dataclass(frozen=True)
class Sizes:
    """How the server's model sees a picture: it comes fitted already, so that points are pixels of what was sent.

    The defaults are those of Qwen2.5-VL: sides are multiples of 28 pixels, at most 1,280 visual tokens. Where a student
    learns from what it writes, they are the student's (`LocalPolicy.limits`), or points would mean other places.
    """

    min_pixels: int = 4 * 28 * 28
    max_pixels: int = 1280 * 28 * 28
    factor: int = 28


QWEN2_5_VL = Sizes()


class ServedPolicy:
    """A model behind a server, as the search asks it: `await policy.ask(request)`.

    `system` is the system prompt; a key is read from the environment variable OPENAI_API_KEY. `concurrency` bounds the
    requests in flight. A request that still fails after `retries`, or that the server refuses, raises `Refused` with
    the reason. `account` has the sums of all requests, and the file `log`, if there is one, a JSON line
    (`records.Asked`) of each.
    """

    def __init__(
        self,
        model: str,
        base_url: str,
        *,
        system: str = prompts.TEACHER_SYSTEM,
        temperature: float = 1.0,
        max_new_tokens: int = 512,
        concurrency: int = 64,
        retries: int = 5,
        timeout: float = 60.0,
        sizes: Sizes = QWEN2_5_VL,
        log: str | Path | None = None,
    ) -> None:
        self.model, self.system, self.sizes, self.account = model, system, sizes, Account()
        self._log, self._attempts = log, Counter()
        self._sampling = {"temperature": temperature, "max_tokens": max_new_tokens}
        self._concurrency = concurrency
        key = os.environ.get("OPENAI_API_KEY") or "none"  # a server of one's own wants none
        self._server = {"base_url": base_url, "api_key": key, "max_retries": retries, "timeout": timeout}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._pictures: dict[str, str] = {}

    def _connected(self) -> tuple[openai.AsyncOpenAI, asyncio.Semaphore]:
        """A client and the seats of the loop that runs: connections do not outlive theirs.

        The connections are kept in pools of a few each, which take turns: for every call httpx looks at all of a pool.
        """
        if self._loop is not (running := asyncio.get_running_loop()):
            pools = range(-(-self._concurrency // POOL))
            self._clients = itertools.cycle([self._client() for _ in pools])
            self._seats, self._loop = asyncio.Semaphore(self._concurrency), running
        return next(self._clients), self._seats

    def _client(self) -> openai.AsyncOpenAI:
        counting = httpx.AsyncClient(event_hooks={"request": [self._count]}, timeout=self._server["timeout"])
        return openai.AsyncOpenAI(**self._server, http_client=counting)

    async def _count(self, request: Any) -> None:
        self._attempts[asyncio.current_task()] += 1

    def view_of(self, example: Example) -> View:
        """The example's picture as it is sent. Raises what `images.open_image` raises."""
        return views.view_of(example, dataclasses.asdict(self.sizes))

    def frame_of(self, example: Example) -> Frame | None:
        """The frame in which the model writes the place that an example asks for; None if it asks for none."""
        return views.frame_of(example, dataclasses.asdict(self.sizes))

    async def ask(self, request: StepRequest) -> Proposal:
        """The next step of a chain, or its answer. Where the reply is neither, another one is drawn, once; if that is
        none either, a proposal of nothing. Its tokens are those of both."""
        try:
            messages = self.messages(request)
        except (OSError, ValueError) as error:  # a picture that is none
            reason = f"{type(error).__name__}: {error}"[:500]
            self._note(Asked(request.example.id, request.seed, 0, 0.0, 0, 0, "refused", reason))
            raise Refused(reason) from error
        problem, tokens = functools.partial(traces.step_problem, must_answer=request.must_answer), 0
        for seed in (request.seed, 2**32 - 1 - request.seed):
            text, written = await self.say(messages, seed, id=request.example.id, problem=problem)
            tokens += written
            if not problem(text):
                break
        return read_step(text, tokens, must_answer=request.must_answer)

    async def say(
        self,
        messages: list[dict[str, Any]],
        seed: int = 0,
        *,
        id: str = "",
        problem: Callable[[str], str] = lambda text: "",
    ) -> tuple[str, int]:
        """The reply to any conversation, and its tokens. Raises Refused with what the server said.

        `id`, and what `problem` finds wrong with the text, are for the account.
        """
        client, seats = self._connected()
        body = {"model": self.model, "messages": messages, "seed": seed} | self._sampling
        async with seats:
            began, read, written, outcome, reason = time.monotonic(), 0, 0, "refused", "given up meanwhile"
            try:
                # Not `chat.completions.create`: it walks through every message for types, a quarter of a call's time.
                reply = await client.post("/chat/completions", cast_to=ChatCompletion, body=body)
                text = (reply.choices[0].message.content or "").strip()
                used = reply.usage
                read, written = (int(used.prompt_tokens), int(used.completion_tokens)) if used else (0, 0)
                outcome, reason = problem(text) or "used", ""
            # The last three: a 200 that is no completion, such as a proxy's page.
            except (openai.OpenAIError, OSError, ValueError, AttributeError, IndexError, TypeError) as error:
                told = error.response.text if isinstance(error, openai.APIStatusError) else str(error)
                reason = f"{type(error).__name__}: {told}"[:500]
                raise Refused(reason) from error
            finally:
                seconds, attempts = time.monotonic() - began, self._attempts.pop(asyncio.current_task(), 0)
                self._note(Asked(id, seed, attempts, seconds, read, written, outcome, reason))
        return text, written

    def _note(self, asked: Asked) -> None:
        self.account.add(asked)
        if self._log:
            with open(self._log, "a", encoding="utf-8") as file:  # not forced to disk, which takes longer than all this
                file.write(json.dumps(vars(asked), ensure_ascii=False) + "\n")

    def messages(self, request: StepRequest) -> list[dict[str, Any]]:
        """The conversation of one request: the picture, the question, the former thoughts, and perhaps the call to
        answer."""
        thoughts = [f"Previous thought {k}: {step}" for k, step in enumerate(request.steps, start=1)]
        text = "\n\n".join([request.example.question, *thoughts])
        content = [
            {"type": "image_url", "image_url": {"url": self._data_url(request.example)}},
            {"type": "text", "text": text},
        ]
        messages: list[dict[str, Any]] = [
            {"role": "system", "content": self.system},
            {"role": "user", "content": content},
        ]
        if request.must_answer:
            content.append({"type": "text", "text": prompts.TEACHER_ANSWER_DUE})
        return messages

    def _data_url(self, example: Example) -> str:
        if example.id not in self._pictures:
            if len(self._pictures) >= PICTURES_KEPT:
                self._pictures.pop(next(iter(self._pictures)))
            self._pictures[example.id] = png_url(self.view_of(example).image)
        return self._pictures[example.id]


def read_step(text: str, tokens: int, *, must_answer: bool) -> Proposal:
    """A server's reply as a proposal: one thought, or an answer with or without one.

    Nothing is taken of a reply with a `traces.step_problem`: two thoughts, an answer inside a thought, or neither.
    """
    if traces.step_problem(text, must_answer=must_answer):
        return Proposal("", None, tokens)
    turn = traces.parse_turn(text, zoom=False)
    return Proposal("" if must_answer else (turn.think or ""), turn.answer, tokens)
