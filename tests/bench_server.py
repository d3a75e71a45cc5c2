"""How much faster is the search with a server that answers many at once? One call at a time beside it, in this run.

    python -m tests.bench_server            # about a minute

A scripted server on loopback, in a process of its own, takes 200 ms for every reply and up to 64 at once. The same
search asks it twice: one request at a time, one tree at a time, as the released code does; and with many trees in
flight. Compared are the seconds of one call. Writes `search.speedup_server` to the ledger of measurements.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import random
import time
from pathlib import Path

from vigorl_lib.benchmarks import registry as benchmarks
from vigorl_lib.runs import PACKAGE, record_measurements
from vigorl_lib.search.mcts import SearchSettings
from vigorl_lib.search.served import in_thread, search_served
from vigorl_lib.served import ServedPolicy

LEDGER = PACKAGE.parent / "outputs/reference/measurements.json"
LATENCY, SEATS = 0.2, 64


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, seats: asyncio.Semaphore) -> None:
    """Serve one connection: a step at random places, or an answer, for each request."""
    while head := await reader.readuntil(b"\r\n\r\n"):
        lines = head.decode().lower().split("\r\n")
        length = next(int(line.split(":")[1]) for line in lines if line.startswith("content-length:"))
        body = json.loads(await reader.readexactly(length))
        rng = random.Random(body["seed"])
        due = len(body["messages"][1]["content"]) == 3
        text = f"<think> Here ({rng.randrange(96)}, {rng.randrange(96)}). </think>"
        text = "<answer> larger </answer>" if due or rng.random() < 0.3 else text
        async with seats:
            await asyncio.sleep(LATENCY)
        message = {"role": "assistant", "content": text}
        choice = {"index": 0, "finish_reason": "stop", "message": message}
        usage = {"prompt_tokens": 9, "completion_tokens": 9, "total_tokens": 18}
        reply = {"id": "x", "object": "chat.completion", "created": 0, "model": "m", "choices": [choice]}
        content = json.dumps(reply | {"usage": usage}).encode()
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n")
        writer.write(b"Content-Length: %d\r\n\r\n" % len(content) + content)
        await writer.drain()


def serve(port: multiprocessing.Queue) -> None:
    async def run() -> None:
        seats = asyncio.Semaphore(SEATS)

        async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                await answer(reader, writer, seats)
            except (asyncio.IncompleteReadError, ConnectionError):
                writer.close()  # the client has hung up

        server = await asyncio.start_server(connected, "127.0.0.1", 0)
        port.put(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    asyncio.run(run())


def measure(name: str, url: str, examples: list, settings: SearchSettings, flight: int, seats: int) -> float:
    """Seconds of one call."""
    policy, began = ServedPolicy("m", url, concurrency=seats), time.perf_counter()
    judge = lambda example, said: float(benchmarks.right(example, said))  # noqa: E731
    trees = list(
        in_thread(lambda: search_served(examples, policy.ask, judge, settings, seed=0, trees_in_flight=flight))
    )
    seconds, calls = time.perf_counter() - began, policy.account.answered
    print(
        f"{name:20} {len(trees)} trees, {calls} calls, {seconds:.1f} s, {calls / seconds:.1f} calls a second",
        flush=True,
    )
    return seconds / calls


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trees", type=int, default=192)
    parser.add_argument("--simulations", type=int, default=4)
    parser.add_argument("--ledger", type=Path, default=LEDGER)
    chosen = parser.parse_args()
    port: multiprocessing.Queue = multiprocessing.Queue()
    server = multiprocessing.Process(target=serve, args=(port,), daemon=True)
    server.start()
    url = f"http://127.0.0.1:{port.get()}/v1"
    settings = SearchSettings(simulations=chosen.simulations)
    examples = benchmarks.load("sat2", "twin", split="train", limit=chosen.trees, seed=0)
    one = measure("one call at a time", url, examples[:2], settings, flight=1, seats=1)
    many = measure("many trees", url, examples, settings, flight=chosen.trees, seats=SEATS)
    server.terminate()
    print(f"{one / many:.1f} times as many calls a second")
    entry = {
        "value": one / many,
        "unit": "times",
        "n": chosen.trees,
        "seeds": [0],
        "command": "python -m tests.bench_server",
    }
    record_measurements(chosen.ledger, {"search.speedup_server": entry})


if __name__ == "__main__":
    main()
