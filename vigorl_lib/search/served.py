"""The search on a policy that answers one request at a time and takes its time: a server, which batches by itself.

Each tree is a task of its own. It asks for a batch, waits until all of it is there, and goes on; meanwhile other trees
ask. A tree is the one that `mcts.search` grows with the same settings and answers: the speed changes nothing but time.
"""

from __future__ import annotations

import asyncio
import itertools
import queue
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait

from vigorl_lib.records import Example, Proposal, Refused, StepRequest
from vigorl_lib.search.mcts import Judge, SearchSettings, grow
from vigorl_lib.search.tree import Quarantined, Tree

Ask = Callable[[StepRequest], Awaitable[Proposal]]
UNREAD = 64  # finished trees that wait to be read


async def grow_served(
    example: Example, ask: Ask, judge: Judge, settings: SearchSettings, seed: int
) -> Tree | Quarantined:
    """One tree; its requests go out together. Whatever else than `Refused` goes wrong is raised."""
    asking, proposals, tokens = grow(example, judge, settings, seed), None, 0

    async def counted(request: StepRequest) -> Proposal:
        nonlocal tokens
        proposal = await ask(request)
        tokens += proposal.tokens
        return proposal

    while True:
        try:
            requests = asking.send(proposals)
        except StopIteration as end:
            return end.value
        tasks = [asyncio.ensure_future(counted(request)) for request in requests]
        try:
            proposals = await asyncio.gather(*tasks)
        except Refused as refusal:
            return Quarantined(example.id, str(refusal), tokens)
        finally:
            for task in tasks:
                task.cancel()


async def search_served(
    examples: Iterable[Example],
    ask: Ask,
    judge: Judge,
    settings: SearchSettings,
    *,
    seed: int,
    trees_in_flight: int,
) -> AsyncIterator[Tree | Quarantined]:
    """Search many examples, so many at a time, and yield each tree, or why there is none, as it is finished."""
    waiting = iter(examples)
    growing: set[asyncio.Task[Tree | Quarantined]] = set()
    try:
        while True:
            for example in itertools.islice(waiting, trees_in_flight - len(growing)):
                growing.add(asyncio.ensure_future(grow_served(example, ask, judge, settings, seed)))
            if not growing:
                return
            done, growing = await asyncio.wait(growing, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                yield task.result()
    finally:
        for task in growing:
            task.cancel()


def in_thread(results: Callable[[], AsyncIterator[Tree | Quarantined]]) -> Iterator[Tree | Quarantined]:
    """What an asynchronous search yields, for code that is not: a notebook has a running loop of its own.

    The search waits for who reads slowly. Closing the iterator ends it after the tree that comes next. An error of the
    search is raised here.
    """
    found: queue.Queue = queue.Queue(UNREAD)
    end, stop = object(), threading.Event()

    async def pump() -> None:
        try:
            async for result in results():
                await asyncio.to_thread(found.put, result)  # requests in flight go on
                if stop.is_set():
                    return
        finally:
            await asyncio.to_thread(found.put, end)

    with ThreadPoolExecutor(max_workers=1) as pool:
        running = pool.submit(asyncio.run, pump())
        try:
            while (result := found.get()) is not end:
                yield result
            running.result()  # raises what ended the search, if anything did
        finally:
            stop.set()
            while not running.done():  # it may wait for room
                while not found.empty():
                    found.get()
                wait([running], timeout=0.05)
