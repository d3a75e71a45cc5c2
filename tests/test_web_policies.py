"""Models behind a server that act, judge and answer about pictures, against a scripted server on loopback."""

from __future__ import annotations

import asyncio
import base64
import io

import pytest
from PIL import Image

from tests.test_served import policy_of, serve  # noqa: F401  (a fixture)
from tests.test_web_browser import needs_chromium
from tests.test_web_evaluators import asks
from vigorl_lib.nano.drawing import png
from vigorl_lib.records import Prediction, Refused
from vigorl_lib.served import Sizes
from vigorl_lib.web import agent, policies, tasks
from vigorl_lib.web.browser import Mark, Observation
from vigorl_lib.web.evaluators import evaluate, load_tasks
from vigorl_lib.web.sites import serve as serve_sites

WINDOW, INPUT = png(Image.new("RGB", (280, 280), "white")), png(Image.new("RGB", (140, 280), "red"))
MARK = Mark(1, "A", "Cart", "", False, (40.0, 40.0, 80.0, 80.0))
SEEN = Observation(WINDOW, (MARK,), "", "", "", (), 0, ("#0000ff",), images=(INPUT,))
SIZES = Sizes(min_pixels=28 * 28, max_pixels=10**6, factor=28)


def picture_in(body):
    (message,) = [message for message in body["messages"] if message["role"] == "user"]
    url = message["content"][0]["image_url"]["url"]
    return Image.open(io.BytesIO(base64.b64decode(url.split(",", 1)[1]))), message["content"][-1]["text"]


def test_a_served_model_sees_marks_and_pictures_and_acts(serve):  # noqa: F811
    server = serve("<think> The cart (60, 60). </think> <answer> click [1] </answer>")
    act = policies.served(policy_of(server, sizes=SIZES), "Act.", seed=3)

    async def acting():
        return await asyncio.gather(*(act(SEEN, "Buy it.", ("go_back",)) for _ in range(3)))

    assert asyncio.run(acting()) == ["<think> The cart (60, 60). </think> <answer> click [1] </answer>"] * 3
    body = server.seen[0]
    picture, text = picture_in(body)
    assert body["messages"][0] == {"role": "system", "content": "Act."} and body["seed"] == 4
    assert "OBJECTIVE: Buy it." in text and "1. go_back" in text
    assert picture.size == (420, 280) and picture.getpixel((350, 100)) == (255, 0, 0), "the input stands on the right"
    assert picture.getpixel((39, 60)) == (0, 0, 255), "the marks are drawn"


def test_pictures_of_the_task_reach_a_local_model(monkeypatch):
    asked = []

    def answer(policy, examples, mode, **sampling):
        asked.extend(examples)
        return [Prediction("step", ("stop []",))]

    monkeypatch.setattr(policies, "answer", answer)
    assert policies.answering(None, "grounded", max_new_tokens=4)(SEEN, "Buy it.", ()) == "stop []"
    assert asked[0].images == (SEEN.screenshot, INPUT)


@needs_chromium
def test_a_served_model_runs_episodes(serve, tmp_path):  # noqa: F811
    server = serve(lambda body, number: "<answer> stop [$1] </answer>" if "go_back" in str(body) else "go_back")
    tasks.save_tasks(tmp_path / "tasks.json", tasks.generate(11)[:3])
    with serve_sites(0) as sites:
        found = load_tasks(tmp_path / "tasks.json", sites.urls)
        act = policies.served(policy_of(server), "Act.")
        run = agent.run_tasks(found, lambda task: act, tmp_path, sites=sites, seed=11, viewport=(640, 480))
        episodes = asyncio.run(run)
    assert [(one.end, one.steps, one.answer) for one in episodes] == [("stopped", 2, "$1")] * 3


@pytest.mark.parametrize(
    ("reply", "score"), [("They agree: yes.", 1.0), ("Yes and no. No", 0.0), ("NO", 0.0), ("Perhaps", None)]
)
def test_a_judge_is_asked_in_an_evaluation(serve, reply, score):  # noqa: F811
    server = serve(reply)
    judge = policies.judge(policy_of(server))
    for asked in (asks(fuzzy_match=["a red lamp"]), asks(fuzzy_match="N/A")):
        run = evaluate(asked, "{a} lamp", None, "clean", judge=judge)
        if score is None:
            with pytest.raises(ValueError, match="neither yes nor no: 'Perhaps'"):
                asyncio.run(run)
        else:
            assert asyncio.run(run) == score
    said = [body["messages"][0]["content"][0]["text"] for body in server.seen]
    assert "Reference: a red lamp\nAnswer: {a} lamp" in said[0] and "It is sold out." in said[-1]


def test_a_served_model_answers_about_each_picture(serve):  # noqa: F811
    server = serve(lambda body, number: str(picture_in(body)[0].size))
    ask = policies.vqa(policy_of(server))
    images = [Image.new("RGB", size) for size in ((30, 20), (40, 50))]
    assert ask(images, "Q: How large? A:") == ["(30, 20)", "(40, 50)"]
    assert picture_in(server.seen[0])[1] == "Q: How large? A:"
    with pytest.raises(Refused):
        policies.vqa(policy_of(serve(400)))(images, "Q: How large? A:")
