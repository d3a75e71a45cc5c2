"""The served policy against a scripted server on loopback, and the search that waits for it."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tests.test_search import SMALL, TINY, judge, reply, scripted
from vigorl_lib.benchmarks import registry as benchmarks
from vigorl_lib.records import Proposal, Refused, StepRequest, read_lines
from vigorl_lib.search import mcts
from vigorl_lib.search.served import UNREAD, in_thread, search_served
from vigorl_lib.search.tree import Quarantined, Tree
from vigorl_lib.served import ServedPolicy, read_step
from vigorl_lib.traces import step_problem

ITEM = benchmarks.load("sat2", "twin", split="dev", limit=1, seed=0)[0]
REQUEST = StepRequest(ITEM, ("A step (1, 2).",), False, 7)
THOUGHT = "<think> The red circle (30, 40). </think>"


# A 200 that holds no completion, and what is found wrong with it.
NO_REPLIES = {
    "cut": (b'{"id": "x", "object": "chat.com', "JSONDecodeError"),
    "short": (b'{"id": "x"', "APIConnectionError"),  # of what Content-Length announces
    "html": (b"<html>the proxy is busy</html>", "AttributeError"),
    "nothing": (b"", "JSONDecodeError"),
    "plain": (b"", "AttributeError"),
    "null": (b"null", "AttributeError"),
    "a list": (b"[]", "AttributeError"),
    "no choice": (b'{"choices": []}', "IndexError"),
    "empty choice": (b'{"choices": [{}]}', "AttributeError"),
    "no message": (b'{"choices": [{"message": null}]}', "AttributeError"),
    "parts": (b'{"choices": [{"message": {"content": ["a"]}}]}', "AttributeError"),
    "uncounted": (b'{"choices": [{"message": {"content": "a"}}], "usage": {"prompt_tokens": 3}}', "TypeError"),
}  # fmt: skip


class Server(ThreadingHTTPServer):
    """Answers chat requests with what `script` says: a text (perhaps with the seconds until then), a status, or one of
    NO_REPLIES."""

    daemon_threads = True

    def __init__(self, script):
        self.script, self.seen, self.busy, self.most = script, [], 0, 0
        self.lock = threading.Lock()
        super().__init__(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}/v1"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.server.lock:
            said = self.server.script(body, len(self.server.seen))
            self.server.seen.append(body | {"key": self.headers["Authorization"]})
            self.server.busy += 1
            self.server.most = max(self.server.most, self.server.busy)
        if isinstance(said, tuple):
            said, seconds = said
            time.sleep(seconds)
        status = said if isinstance(said, int) else 200
        choices = [{"index": 0, "finish_reason": "stop", "message": _message(said)}]
        usage = {"prompt_tokens": 11, "completion_tokens": 5, "total_tokens": 16}
        answer = json.dumps({"id": "x", "object": "chat.completion", "created": 0, "model": "m", "choices": choices,
                             "usage": usage}).encode()  # fmt: skip
        answer = NO_REPLIES[said][0] if said in NO_REPLIES else answer
        with self.server.lock:
            self.server.busy -= 1
        self.send_response(status)
        self.send_header("Content-Type", f"text/{said}" if said in ("html", "plain") else "application/json")
        self.send_header("Content-Length", str(len(answer) + 99 * (said == "short")))
        self.end_headers()
        self.wfile.write(answer)
        self.close_connection = said == "short"


def _message(said):
    return {"role": "assistant", "content": said if isinstance(said, str) else None}


@pytest.fixture
def serve():
    servers = []

    def start(script):
        servers.append(Server(script if callable(script) else lambda body, number: script))
        return servers[-1]

    yield start
    for server in servers:
        server.shutdown()


def policy_of(server, **more):
    return ServedPolicy("m", server.url, **{"retries": 2, "timeout": 2.0, **more})


def asked(policy, request=REQUEST):
    return asyncio.run(policy.ask(request))


def test_a_request_holds_picture_question_thoughts_and_seed(serve):
    server = serve(THOUGHT)
    policy = policy_of(server)
    assert asked(policy) == Proposal("The red circle (30, 40).", None, 5)
    (body,) = server.seen
    system, user = body["messages"]
    picture, text = user["content"]
    assert system["role"] == "system" and body["seed"] == 7 and body["max_tokens"] == 512
    assert picture["image_url"]["url"].startswith("data:image/png;base64,")
    assert text["text"] == f"{ITEM.question}\n\nPrevious thought 1: A step (1, 2)."
    assert vars(policy.account) == {
        "answered": 1, "calls": 1, "refused": 0, "unusable": {}, "prompt_tokens": 11, "completion_tokens": 5,
    }  # fmt: skip


def test_the_last_request_says_that_the_answer_is_due(serve):
    server = serve("<think> Enough. </think> <answer> left </answer>")
    found = asked(policy_of(server), StepRequest(ITEM, (), True, 1))
    assert found == Proposal("", "left", 5)
    assert "final answer now" in server.seen[0]["messages"][1]["content"][-1]["text"]


def test_the_key_is_read_from_the_environment(serve, monkeypatch):
    server = serve(THOUGHT)
    for key in ("", "a key"):
        monkeypatch.setenv("OPENAI_API_KEY", key)
        asked(policy_of(server))
    assert [body["key"] for body in server.seen] == ["Bearer none", "Bearer a key"]


@pytest.mark.parametrize("trouble", [429, 500, "short"])
def test_trouble_that_passes_is_tried_again(serve, trouble):
    server = serve(lambda body, number: trouble if number == 0 else THOUGHT)
    policy = policy_of(server)
    assert asked(policy).text and policy.account.calls == 2 and policy.account.refused == 0


@pytest.mark.parametrize("trouble", NO_REPLIES)
def test_a_reply_that_is_none_gives_up_its_tree_alone(serve, trouble):
    """The server said that it is well, so it is not asked again, unless the connection broke off."""
    bad = "not this one"

    def script(body, number):
        return trouble if bad in body["messages"][1]["content"][1]["text"] else THOUGHT

    policy = policy_of(serve(script), retries=1)
    items = [ITEM, dataclasses.replace(ITEM, id="bad", question=bad)]
    search = lambda: search_served(items, policy.ask, judge, SMALL, seed=1, trees_in_flight=2)  # noqa: E731
    found = {result.id: result for result in in_thread(search)}
    assert isinstance(found[ITEM.id], Tree)
    assert isinstance(found["bad"], Quarantined) and NO_REPLIES[trouble][1] in found["bad"].reason
    assert policy.account.refused >= 1


@pytest.mark.parametrize(
    ("trouble", "reason"), [(400, "BadRequest"), (500, "InternalServer"), ((THOUGHT, 1.0), "Timeout")]
)
def test_trouble_that_stays_is_a_refusal_with_its_reason(serve, trouble, reason):
    policy = policy_of(serve(trouble), retries=1, timeout=0.3)
    with pytest.raises(Refused, match=reason):
        asked(policy)
    assert policy.account.refused == 1 and policy.account.answered == 0
    assert policy.account.calls == (1 if trouble == 400 else 2)


def test_a_server_that_is_not_there_is_a_refusal():
    with pytest.raises(Refused, match="Connection"):
        asked(ServedPolicy("m", "http://127.0.0.1:9/v1", retries=0, timeout=1.0))


@pytest.mark.parametrize(
    ("text", "must_answer", "expected", "problem"),
    [
        (THOUGHT, False, ("The red circle (30, 40).", None), ""),
        ("<think> So (1, 2). </think>\n<answer> left </answer>", False, ("So (1, 2).", "left"), ""),
        ("<answer> left </answer>", False, ("", "left"), ""),
        ("<answer> left </answer>", True, ("", "left"), ""),
        (THOUGHT, True, ("", None), "no_answer"),
        (THOUGHT + THOUGHT, False, ("", None), "two_thoughts"),
        ("<think> It is <answer> left </answer> </think>", False, ("", None), "answer_in_thought"),
        ("<answer> left </answer> <answer> right </answer>", False, ("", None), "two_answers"),
        ("<think> cut off in the mid", False, ("", None), "cut"),
        (f"{THOUGHT} <answer> le", False, ("", None), "cut"),
        ("no tags at all", False, ("", None), "no_step"),
        ("<think> </think>", False, ("", None), "empty"),
        ("", False, ("", None), "empty"),
    ],
)
def test_what_a_reply_says(text, must_answer, expected, problem):
    found = read_step(text, 3, must_answer=must_answer)
    assert (found.text, found.answer, found.tokens) == (*expected, 3)
    assert step_problem(text, must_answer=must_answer) == problem


def test_a_reply_without_a_step_is_drawn_again_once_and_counted_by_its_reason(serve):
    said = [THOUGHT + THOUGHT, THOUGHT, "", "<think> cut"]
    server = serve(lambda body, number: said[number])
    policy = policy_of(server)
    assert asked(policy) == Proposal("The red circle (30, 40).", None, 10)  # the tokens of both
    assert asked(policy) == Proposal("", None, 10)
    assert policy.account.unusable == {"two_thoughts": 1, "empty": 1, "cut": 1} and policy.account.answered == 4
    seeds = [body["seed"] for body in server.seen]
    assert seeds[:2] == seeds[2:] and seeds[0] == REQUEST.seed != seeds[1], "the same ones whenever it is asked"


def test_each_request_leaves_a_line(serve, tmp_path):
    said = [500, THOUGHT, "no tags", THOUGHT, 400]
    policy = policy_of(serve(lambda body, number: said[number]), log=tmp_path / "requests.jsonl")
    asked(policy)
    asked(policy)
    with pytest.raises(Refused):
        asked(policy)
    lines = list(read_lines(tmp_path / "requests.jsonl"))
    assert [line["outcome"] for line in lines] == ["used", "no_step", "used", "refused"]
    assert [line["attempts"] for line in lines] == [2, 1, 1, 1]
    assert [line["completion_tokens"] for line in lines] == [5, 5, 5, 0]
    assert {line["id"] for line in lines} == {ITEM.id} and all(0 < line["seconds"] < 10 for line in lines)
    assert "BadRequest" in lines[3]["reason"] and lines[0]["seed"] == REQUEST.seed
    assert policy.account.calls == 5 and policy.account.answered == 3 and policy.account.refused == 1


def test_no_more_requests_are_in_flight_than_allowed(serve):
    server = serve((THOUGHT, 0.05))
    policy = policy_of(server, concurrency=3)

    async def many():
        return await asyncio.gather(*(policy.ask(REQUEST) for _ in range(12)))

    assert len(asyncio.run(many())) == 12 and server.most == 3


# The search that waits


async def slow(request):
    """The scripted policy, some of whose answers take longer than others."""
    await asyncio.sleep((request.seed % 5) / 2000)
    return reply(request)


def served(items, ask=slow, trees_in_flight=3, seed=3):
    return list(in_thread(lambda: search_served(items, ask, judge, SMALL, seed=seed, trees_in_flight=trees_in_flight)))


@pytest.mark.parametrize("trees_in_flight", [1, 2, 5])
def test_a_served_tree_is_the_tree_of_the_sequential_search(trees_in_flight):
    items = list(TINY)
    alone = {t.id: t for t in mcts.search(items, scripted, judge, SMALL, seed=3, batch_size=1, trees_in_flight=1)}
    found = {tree.id: tree for tree in served(items, trees_in_flight=trees_in_flight)}
    assert found == alone


def test_a_refused_tree_is_set_aside_and_the_others_go_on():
    async def ask(request):
        if request.example.id == TINY[0].id:
            raise Refused("too large a picture")
        return await slow(request)

    found = served(list(TINY), ask)
    refused = [one for one in found if isinstance(one, Quarantined)]
    assert refused == [Quarantined(TINY[0].id, "too large a picture")] and len(found) == len(TINY)


def test_what_a_refused_tree_has_cost_is_told():
    async def ask(request):
        if request.steps:
            raise Refused("too long")
        return Proposal("A step.", None, 7)

    assert set(served([ITEM], ask)) == {Quarantined(ITEM.id, "too long", 7 * SMALL.children)}


def test_an_error_of_the_policy_is_not_swallowed():
    async def ask(request):
        raise ZeroDivisionError("a mistake in the policy")

    with pytest.raises(ZeroDivisionError, match="mistake"):
        served(list(TINY), ask)


def test_a_search_that_nobody_reads_on_ends():
    asked_for = Counter()

    async def ask(request):
        asked_for[request.example.id] += 1
        return await slow(request)

    search = in_thread(lambda: search_served(iter(TINY), ask, judge, SMALL, seed=0, trees_in_flight=1))
    next(search)
    search.close()
    time.sleep(0.3)
    before = sum(asked_for.values())
    time.sleep(0.2)
    assert sum(asked_for.values()) == before


def test_the_search_waits_for_who_reads_slowly():
    made = []

    async def numbers():
        for number in range(UNREAD + 50):
            made.append(number)
            yield number

    reading = in_thread(numbers)
    assert next(reading) == 0
    time.sleep(0.5)
    assert UNREAD <= len(made) <= UNREAD + 2
    assert list(reading) == made[1:] and len(made) == UNREAD + 50
    reading = in_thread(numbers)
    next(reading)
    time.sleep(0.5)
    reading.close()  # while the search waits for room
    assert len(made) <= 2 * UNREAD + 55


def test_trees_over_http_equal_scripted_ones(serve):
    """The whole way: requests over the wire, and a server that answers as the script would."""
    by_steps = {}

    def script(body, number):
        text = body["messages"][1]["content"][1]["text"]
        steps = tuple(line.split(": ", 1)[1] for line in text.split("\n\n")[1:])
        due = len(body["messages"][1]["content"]) == 3
        found = reply(StepRequest(by_steps[text.split("\n\n")[0]], steps, due, body["seed"]))
        answer = "" if found.answer is None else f"<answer> {found.answer} </answer>"
        return (f"<think> {found.text} </think>" if found.text else "") + answer

    again = []

    def twice(requests):
        made = []
        for request in requests:
            made.append(reply(request))
            if made[-1].answer is None and (request.must_answer or not made[-1].text):
                again.append(request)
                made[-1] = reply(dataclasses.replace(request, seed=2**32 - 1 - request.seed))
        return made

    items = [ITEM]
    by_steps[ITEM.question] = ITEM
    policy = policy_of(serve(script))
    (tree,) = in_thread(lambda: search_served(items, policy.ask, judge, SMALL, seed=1, trees_in_flight=2))
    (expected,) = mcts.search(items, twice, judge, SMALL, seed=1, batch_size=8, trees_in_flight=1)
    assert [n.text for _, n in tree.nodes()] == [n.text for _, n in expected.nodes()]
    assert policy.account.calls == policy.account.answered == tree.calls + len(again) > tree.calls
