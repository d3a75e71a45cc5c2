"""Generated tasks, their solutions, episodes and their pages. What drives a browser needs a Chromium."""

from __future__ import annotations

import asyncio
import collections
import dataclasses
import json
import re

import pytest
from PIL import Image

from tests.test_explorer import HOSTILE, Scripts, data_of
from tests.test_web_browser import needs_chromium
from vigorl_lib.images import open_image
from vigorl_lib.nano.drawing import png
from vigorl_lib.web import agent, viewer
from vigorl_lib.web import browser as web
from vigorl_lib.web.actions import Action
from vigorl_lib.web.agent import Episode, Turn, read_trace, run_tasks, success_rate
from vigorl_lib.web.browser import Mark, Observation
from vigorl_lib.web.evaluators import load_tasks
from vigorl_lib.web.pictures import SIZE
from vigorl_lib.web.sites import PLACES, serve
from vigorl_lib.web.tasks import Step, generate, save_tasks, scripted

SEED = 11
VIEWPORT = (1280, 900)
URLS = {site: f"http://127.0.0.1:{port}" for port, site in enumerate(PLACES, start=1)}


@pytest.fixture
def saved(tmp_path):
    solved = generate(SEED)
    save_tasks(tmp_path / "tasks.json", solved)
    return {one.id: one for one in solved}, tmp_path / "tasks.json"


@pytest.mark.parametrize("seed", range(6))
def test_tasks_of_every_seed(seed, tmp_path):
    solved = generate(seed)
    save_tasks(tmp_path / "tasks.json", solved)
    tasks = load_tasks(tmp_path / "tasks.json", URLS)
    assert len(tasks) >= 60 and len({task.id for task in tasks}) == len(tasks)
    assert [task.id for task in tasks] == [one.id for one in solved]
    assert {task.difficulty for task in tasks} == {"easy", "medium", "hard"}
    assert collections.Counter(task.sites for task in tasks).keys() == {(site,) for site in PLACES}
    assert not any("__" in url or "{{" in task.intent for task in tasks for url in task.start_urls)
    assert {kind for task in tasks for kind in task.eval["eval_types"]} == {"string_match", "url_match", "program_html"}
    assert all(one.steps[-1].verb == "stop" for one in solved)
    assert [one.row for one in generate(seed)] == [one.row for one in solved] != [one.row for one in generate(seed + 1)]


def seen(*marks):
    found = tuple(Mark(number, "A", text, label, True, (0, 0, 9, 9)) for number, text, label in marks)
    return Observation(b"", found, "", "", "", (), 0)


def test_a_script_finds_marks_by_text_and_scrolls_for_them():
    policy = scripted([Step("click", "Cart"), Step("type", "Name", " [Blake] [0]"), Step("stop", content="done")])
    assert policy(seen((1, "Home", "")), "", ()) == "scroll [down]"
    assert policy(seen((1, "Home", ""), (2, "Cart", "")), "", ()) == "click [2]"
    assert policy(seen((5, "", "Name")), "", ()) == "type [5] [Blake] [0]"
    assert policy(seen(), "", ()) == "stop [done]" and policy(seen(), "", ()) == "stop []"


def run(tasks, policy_of, folder, sites, **how):
    how = {"sites": sites, "seed": SEED, "viewport": VIEWPORT, "contexts": 4} | how
    return asyncio.run(run_tasks(tasks, policy_of, folder, **how))


@needs_chromium
def test_solutions_solve_and_doing_nothing_does_not(saved, tmp_path):
    solved, path = saved
    with serve(0) as sites:
        tasks = load_tasks(path, sites.urls)
        some = tasks[::11]
        episodes = run(some, lambda task: scripted(solved[task.id].steps), tmp_path / "solved", sites)
        assert [episode.scores for episode in episodes] == [{"official": 1.0, "clean": 1.0}] * len(some)
        assert {episode.end for episode in episodes} == {"stopped"} and len(some) >= 6
        idle = run(some[::2], lambda task: scripted([]), tmp_path / "idle", sites)
        assert success_rate(idle, "official") == success_rate(idle, "clean") == 0

        def forbidden(task):
            raise AssertionError(f"{task.id} is done")

        again = run(some, forbidden, tmp_path / "solved", sites)
        assert again == episodes, "finished episodes are read, not run"
    turns = read_trace(tmp_path / "solved" / some[0].id.replace("/", "_"))
    assert [turn.step for turn in turns] == list(range(episodes[0].steps)) and turns[-1].action.startswith("stop")
    page = viewer.episode_html(episodes[0], tmp_path / "solved" / some[0].id.replace("/", "_"))
    assert len(data_of(page)["turns"]) == len(turns)


@needs_chromium
def test_what_an_agent_gets_wrong_is_a_step_and_what_breaks_is_a_failure(saved, tmp_path, monkeypatch):
    _, path = saved
    heard = []

    def policy_of(task):
        kind = int(task.id.split("/")[1])

        def policy(observation, objective, previous):
            heard.append(previous)
            if kind == 0:
                return "I do not know \ud800."
            if kind == 1:
                return "click [9999]"
            if kind == 2:
                field = next(mark.id for mark in observation.marks if mark.editable)
                return f"type [{field}] [x] [{len(previous) % 2}]"
            if kind == 3:
                raise KeyError("the policy is broken")
            return "stop [no]" if kind == 4 else ("go_back", "scroll [down]", "scroll [up]")[len(previous) % 3]

        return policy

    monkeypatch.setattr(agent, "MAX_STEPS", 11)
    with serve(0) as sites:
        tasks = [task for task in load_tasks(path, sites.urls) if task.id.startswith("reddit/")][:6]
        episodes = run(tasks, policy_of, tmp_path / "run", sites, contexts=3)
    assert [episode.end for episode in episodes] == [
        "unparsable", "repeated", "repeated", "error", "stopped", "max_steps"
    ]  # fmt: skip
    assert [episode.steps for episode in episodes] == [3, 5, 9, 0, 1, 11]
    assert "the policy is broken" in episodes[3].error and episodes[4].answer == "no"
    assert success_rate(episodes, "official") == 0
    assert any("there is no element [9999]" in one for previous in heard for one in previous)
    assert any("this is no action" in one for previous in heard for one in previous)


@needs_chromium
def test_a_browser_that_dies_costs_its_episodes_and_the_run_goes_on(saved, tmp_path, monkeypatch):
    solved, path = saved
    launched = []
    launch = web.launch

    async def noted(playwright, **how):
        launched.append(await launch(playwright, **how))
        return launched[-1]

    monkeypatch.setattr(web, "launch", noted)
    observe = web.Environment.observe

    async def deadly(self):
        if len(launched) == 1:
            await launched[0].close()
        return await observe(self)

    monkeypatch.setattr(web.Environment, "observe", deadly)
    with serve(0) as sites:
        tasks = load_tasks(path, sites.urls)[:3]
        episodes = run(tasks, lambda task: scripted(solved[task.id].steps), tmp_path / "run", sites, contexts=1)
    assert [episode.end for episode in episodes] == ["error", "stopped", "stopped"] and len(launched) == 2
    assert "Crashed" in episodes[0].error and episodes[0].scores == {"official": 0, "clean": 0}
    assert success_rate(episodes, "clean") == pytest.approx(2 / 3), "the broken one counts"
    assert "turns" in data_of(viewer.episode_html(episodes[0], tmp_path / "run" / "classifieds_0"))


@needs_chromium
def test_a_crash_in_mid_episode_is_its_last_step_with_its_reason(saved, tmp_path, monkeypatch):
    solved, path = saved
    act = web.Environment.act

    async def deadly(self, action):
        if action.verb == "stop":
            await self.context.browser.close()
        return await act(self, action)

    monkeypatch.setattr(web.Environment, "act", deadly)
    with serve(0) as sites:
        (task,) = load_tasks(path, sites.urls)[:1]
        (episode,) = run([task], lambda task: scripted(solved[task.id].steps), tmp_path / "run", sites)
        turns = read_trace(tmp_path / "run" / "classifieds_0")
        assert (episode.end, episode.steps) == ("error", len(turns)) and "the browser is gone" in episode.error
        assert [turn.reason for turn in turns] == [None, "the browser is gone"] and turns[-1].action.startswith("stop")

        (tmp_path / "run/episodes.jsonl").unlink()
        nowhere = dataclasses.replace(task, start_urls=("http://127.0.0.1:9/",))
        (episode,) = run([nowhere], lambda task: scripted([]), tmp_path / "run", sites, origins=["http://127.0.0.1:9"])
        assert (episode.end, episode.steps) == ("error", 0), "the trace of the time before is not this one's"


@needs_chromium
def test_long_texts_do_not_fill_the_next_prompts(saved, tmp_path):
    _, path = saved
    heard = []
    replies = iter(["goto [" + "x" * 5000 + "]", "press [" + "y" * 5000 + "]", "type [{}] [" + "z" * 1900 + "] [0]"])

    def policy(seen, objective, previous):
        heard.append(previous)
        field = next(mark.id for mark in seen.marks if mark.editable)
        return next(replies, "stop []").replace("{}", str(field))

    with serve(0) as sites:
        run(load_tasks(path, sites.urls)[:1], lambda task: policy, tmp_path / "run", sites)
    assert [one[0] for one in heard[-1]] == ["g", "p", "t"] and max(map(len, heard[-1])) < 700
    assert heard[-1][2].startswith("type [INPUT] [Search listings] [zzz") and heard[-1][2].count("z") == agent.MAX_SAID


@needs_chromium
def test_pictures_of_a_task_are_seen(saved, tmp_path):
    _, path = saved
    picture, seen = png(Image.new("RGB", (30, 20), "red")), []

    def policy(observation, objective, previous):
        seen.append(observation.images)
        return "stop []"

    with serve(0) as sites:
        (tmp_path / "a.png").write_bytes(picture)
        address = sites.urls["reddit"] + "/picture/lamp/red/1.png"
        (task,) = load_tasks(path, sites.urls)[:1]
        run(
            [dataclasses.replace(task, images=(str(tmp_path / "a.png"), address))], lambda task: policy, tmp_path, sites
        )
        ((local, fetched),) = seen
        assert local == picture and open_image(fetched).size == SIZE
        for wrong, message in (("b.png", "no picture b.png"), ("http://192.0.2.1/a.png", "lies outside http://127")):
            with pytest.raises(ValueError, match=message):
                run([dataclasses.replace(task, images=(wrong,))], lambda task: policy, tmp_path / "wrong", sites)


def test_a_run_is_checked_before_it_begins(saved, tmp_path):
    _, path = saved
    tasks = load_tasks(path, URLS)
    with pytest.raises(ValueError, match="classifieds/0: there are several"):
        asyncio.run(run_tasks([tasks[0], tasks[0]], scripted, tmp_path))
    rows = json.loads(path.read_text())
    rows[3]["eval"] = {"eval_types": ["string_match"], "reference_answers": {"fuzzy_match": ["x"]}}
    path.write_text(json.dumps(rows))
    with pytest.raises(ValueError, match="classifieds/3: fuzzy_match needs a judge"):
        asyncio.run(run_tasks(load_tasks(path, URLS), scripted, tmp_path))
    (left_out,) = agent.refused(load_tasks(path, URLS))
    assert (left_out.id, left_out.end, left_out.steps) == ("classifieds/3", "error", 0)
    assert "needs a judge" in left_out.error and set(left_out.scores.values()) == {0}
    assert agent.refused(load_tasks(path, URLS), judge=lambda *question: 1.0) == []
    logged_in = dataclasses.replace(tasks[2], storage_state="./.auth/nobody_state.json")
    with pytest.raises(FileNotFoundError, match=r"classifieds/2: no log-in ./.auth/nobody_state.json; make it"):
        asyncio.run(run_tasks([*tasks[:2], logged_in], scripted, tmp_path, live=True))
    with pytest.raises(ValueError, match="no episodes"):
        success_rate([], "clean")
    with pytest.raises(FileNotFoundError, match="no trace; run the task"):
        read_trace(tmp_path)


@pytest.mark.parametrize(
    ("actions", "end"),
    [
        ([None, None], None),
        ([None] * 3, "unparsable"),
        ([Action("click", 1)] * 4, None),
        ([Action("click", 1)] * 5, "repeated"),
        ([Action("click", 1)] * 4 + [None, Action("click", 1)], None),
        ([Action("type", 1, "a"), Action("click", 2)] * 4 + [Action("type", 1, "a")], "repeated"),
        ([Action("type", 1, "a")] * 4 + [Action("type", 1, "b")], None),
    ],
)
def test_early_ends(actions, end):
    assert agent._early_end(actions) == end


def test_a_trace_keeps_the_window_bare_and_draws_its_marks(tmp_path):
    episode = an_episode(tmp_path, "tame")
    (turn,) = read_trace(tmp_path)
    shown = dataclasses.replace(turn, places=[["A", "one", [10, 20, 30, 40]]], colours=["#ff0000"])
    bare, drawn = (open_image(agent.screenshot_of(one, tmp_path)) for one in (turn, shown))
    assert bare.getpixel((9, 30)) == (255, 255, 255) and drawn.getpixel((9, 30)) == (255, 0, 0)
    before = data_of(viewer.episode_html(episode, tmp_path))["turns"][0]["picture"]
    (tmp_path / "trace.jsonl").write_text(json.dumps(vars(shown)) + "\n")
    assert data_of(viewer.episode_html(episode, tmp_path))["turns"][0]["picture"] != before


def an_episode(folder, text):
    folder.mkdir(exist_ok=True)
    (folder / "step00.png").write_bytes(png(Image.new("RGB", (40, 60), "white")))
    turn = Turn(0, text, text, "step00.png", text, text, text, text)
    (folder / "trace.jsonl").write_text(json.dumps(vars(turn)) + "\n")
    return Episode("shopping/1", text, text, {"official": 1.0, "clean": 0.0}, 1, "stopped", text)


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_text_stays_data(text, tmp_path):
    page, clean = (viewer.episode_html(an_episode(tmp_path, one), tmp_path) for one in (text, "tame"))
    assert [tag for tag, _ in Scripts(page).tags] == [tag for tag, _ in Scripts(clean).tags]
    data = data_of(page)
    assert data["intent"] == data["turns"][0]["reply"] == data["turns"][0]["marks"] == text
    page.encode()


def test_the_page_needs_nothing_else(tmp_path):
    page = viewer.episode_html(an_episode(tmp_path, "tame"), tmp_path)
    assert "http:" not in page and "https:" not in page and "{{" not in page
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', page)[1]
    assert policy.startswith("default-src 'none'; ") and "unsafe" not in policy
    script = next(text for tag, attributes, text in Scripts(page).found if tag == "script" and not attributes)
    assert not re.search(r"innerHTML|outerHTML|insertAdjacent|document\.write|\beval\b|new Function|fetch\(", script)
    with pytest.raises(FileNotFoundError, match="step00.png"):
        (tmp_path / "step00.png").unlink()
        viewer.episode_html(Episode("a", "", "", {}, 1, "stopped", ""), tmp_path)
