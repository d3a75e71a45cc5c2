"""The policy behind any OpenAI-compatible server: vLLM, SGLang, `transformers serve`.

A server can not be made to go on with its own message, so each step is asked for anew, with the former thoughts in the
user's text, as the released teacher is asked. Retries with back-off and jitter, time-outs and connection pools are the
`openai` client's; this module adds how many requests may be in flight, and the account.
"""

from __future__ import annotations

import asyncio
import base64
import dataclasses
import itertools
from typing import Any

import httpx
import openai
from openai.types.chat import ChatCompletion

from vigorl_lib import prompts, traces, views
from vigorl_lib.grounding import Frame
from vigorl_lib.nano.drawing import png
from vigorl_lib.records import Example, Proposal, Refused, StepRequest
from vigorl_lib.views import View

PICTURES_KEPT = 256  # encoded; more trees than that are seldom in flight
POOL = 8  # connections


@dataclasses.dataclass
class Account:
    """What a server was asked and what it cost: requests that were answered, calls over the wire (retries included),
    refusals, replies without a usable step, and tokens as the server counts them."""

    answered: int = 0
    calls: int = 0
    refused: int = 0
    unusable: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0


@dataclasses.dataclass(frozen=True)
class Sizes:
    """How the server's model sees a picture: it comes fitted already, so that points are pixels of what was sent.

    The defaults are those of Qwen2.5-VL: sides are multiples of 28 pixels, at most 1,280 visual tokens.
    """

    min_pixels: int = 4 * 28 * 28
    max_pixels: int = 1280 * 28 * 28
    factor: int = 28


QWEN2_5_VL = Sizes()


class ServedPolicy:
    """A model behind a server, as the search asks it: `await policy.ask(request)`.

    `system` is the system prompt. `concurrency` bounds the requests in flight. A request that still fails after
    `retries`, or that the server refuses, raises `Refused` with the reason.
    """

    def __init__(
        self,
        model: str,
        base_url: str,
        *,
        api_key: str = "none",
        system: str = prompts.TEACHER_SYSTEM,
        temperature: float = 1.0,
        max_new_tokens: int = 512,
        concurrency: int = 64,
        retries: int = 5,
        timeout: float = 60.0,
        sizes: Sizes = QWEN2_5_VL,
    ) -> None:
        self.model, self.system, self.sizes, self.account = model, system, sizes, Account()
        self._sampling = {"temperature": temperature, "max_tokens": max_new_tokens}
        self._concurrency = concurrency
        self._server = {"base_url": base_url, "api_key": api_key, "max_retries": retries, "timeout": timeout}
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
        self.account.calls += 1

    def view_of(self, example: Example) -> View:
        """The example's picture as it is sent. Raises what `images.open_image` raises."""
        return views.view_of(example, dataclasses.asdict(self.sizes))

    def frame_of(self, example: Example) -> Frame | None:
        """The frame in which the model writes the place that an example asks for; None if it asks for none."""
        return views.frame_of(example, dataclasses.asdict(self.sizes))

    async def ask(self, request: StepRequest) -> Proposal:
        """The next step of a chain, or its answer; a reply that is neither is a proposal of nothing."""
        try:
            messages = self.messages(request)
        except (OSError, ValueError) as error:  # a picture that is none
            self.account.refused += 1
            raise Refused(f"{type(error).__name__}: {error}"[:500]) from error
        text, tokens = await self.say(messages, request.seed)
        proposal = read_step(text, tokens, must_answer=request.must_answer)
        self.account.unusable += not proposal.text and proposal.answer is None
        return proposal

    async def say(self, messages: list[dict[str, Any]], seed: int = 0) -> tuple[str, int]:
        """The reply to any conversation, and its tokens. Raises Refused with what the server said."""
        client, seats = self._connected()
        body = {"model": self.model, "messages": messages, "seed": seed} | self._sampling
        async with seats:
            try:
                # Not `chat.completions.create`: it walks through every message for types, a quarter of a call's time.
                reply = await client.post("/chat/completions", cast_to=ChatCompletion, body=body)
                text = (reply.choices[0].message.content or "").strip()
                used = reply.usage
                read, written = (int(used.prompt_tokens), int(used.completion_tokens)) if used else (0, 0)
            # The last three: a 200 that is no completion, such as a proxy's page.
            except (openai.OpenAIError, OSError, ValueError, AttributeError, IndexError, TypeError) as error:
                self.account.refused += 1
                told = error.response.text if isinstance(error, openai.APIStatusError) else str(error)
                raise Refused(f"{type(error).__name__}: {told}"[:500]) from error
        self.account.answered += 1
        self.account.completion_tokens += written
        self.account.prompt_tokens += read
        return text, written

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
            self._pictures[example.id] = base64.b64encode(png(self.view_of(example).image)).decode()
        return f"data:image/png;base64,{self._pictures[example.id]}"


def read_step(text: str, tokens: int, *, must_answer: bool) -> Proposal:
    """A server's reply as a proposal: one thought, or an answer with or without one.

    Of a reply with two thoughts, with an answer inside a thought, or without either, nothing is taken.
    """
    turn = traces.parse_turn(text, zoom=False)
    nothing = Proposal("", None, tokens)
    answered_in_thought = "<answer>" in text.partition("</think>")[0] and "</think>" in text
    if text.count("<think>") > 1 or text.count("<answer>") > 1 or answered_in_thought:
        return nothing
    if turn.answer is not None:
        return Proposal("" if must_answer else (turn.think or ""), turn.answer, tokens)
    if must_answer or turn.think is None or "<answer>" in text:
        return nothing
    return Proposal(turn.think, None, tokens)
