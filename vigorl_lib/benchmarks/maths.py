"""Are two mathematical answers the same? Decided by math-verify (SymPy), in a process of its own with a time limit.

Model text can be an expression that takes forever or all memory ("9^9^9^9"), and neither can be stopped inside a
process: a big power is one uninterruptible operation. So the work is done elsewhere, and what takes too long is killed.
"""

from __future__ import annotations

import atexit
import multiprocessing
import threading
from multiprocessing.connection import Connection
from typing import Literal

SECONDS = 5.0  # for one comparison; the first one starts the process, which takes about one more
LONGEST = 2_000  # characters of an answer: nobody's is longer
_MEMORY = 4 * 2**30  # bytes that the process may map

Way = Literal["verify", "hundredths"]
_lock = threading.Lock()
_worker: tuple[multiprocessing.Process, Connection] | None = None


def equal(gold: str, said: str, *, way: Way = "verify", seconds: float = SECONDS) -> bool | None:
    """Whether two answers in LaTeX or plain notation are the same number or expression; None: not within the time.

    `way` "verify" is math-verify's; "hundredths" compares values rounded to two decimals, as MathVision's script does,
    and everything that has none is different.
    """
    if max(len(gold), len(said)) > LONGEST:
        return False
    with _lock:
        _, pipe = _start()
        pipe.send((way, gold, said))
        try:
            same = pipe.recv() if pipe.poll(seconds) else None
        except EOFError:  # it ran out of memory
            same = None
        if same is None:
            _stop()
        return same


def _start() -> tuple[multiprocessing.Process, Connection]:
    global _worker
    if _worker is None or not _worker[0].is_alive():
        context = multiprocessing.get_context("spawn")
        pipe, end = context.Pipe()
        process = context.Process(target=_serve, args=(end,), daemon=True)
        process.start()
        end.close()
        _worker = process, pipe
        if not pipe.poll(60):
            _stop()
            raise TimeoutError("the process that compares answers did not start within a minute; is memory short?")
        pipe.recv()
    return _worker


@atexit.register
def _stop() -> None:
    global _worker
    if _worker is not None:
        _worker[0].kill()
        _worker[0].join()
        _worker[1].close()
        _worker = None


def _serve(pipe: Connection) -> None:
    import logging
    import resource

    import math_verify
    from latex2sympy2_extended import latex2sympy

    logging.getLogger("math_verify").setLevel(logging.CRITICAL)  # it reports every text that is no mathematics
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))

    def verify(gold: str, said: str) -> bool:
        parsed = [math_verify.parse(f"${text}$", parsing_timeout=None) for text in (gold, said)]
        return all(parsed) and math_verify.verify(*parsed, timeout_seconds=None)

    def hundredths(gold: str, said: str) -> bool:
        return len({round(float(latex2sympy(text).evalf()), 2) for text in (gold, said)}) == 1

    ways = {"verify": verify, "hundredths": hundredths}

    def same(way: Way, gold: str, said: str) -> bool:
        try:
            return bool(ways[way](gold, said))
        except Exception as error:  # the parsers raise all kinds on what is no mathematics
            raise ValueError(f"not mathematics: {gold!r} or {said!r}") from error

    pipe.send("ready")
    while True:
        try:
            way, gold, said = pipe.recv()
        except EOFError:  # who asked is gone
            return
        try:
            pipe.send(same(way, gold, said))
        except ValueError:  # such an answer equals nothing
            pipe.send(False)
