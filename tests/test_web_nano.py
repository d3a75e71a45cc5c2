"""The nano skin: pages drawn and served alike, errands that are solvable by looking and by nothing else, and rows."""

from __future__ import annotations

import asyncio
import io
import json
import random
import re
from collections import Counter

import numpy as np
import pytest
import torch
from PIL import Image
from playwright.async_api import async_playwright

from tests import text_only
from tests.test_web_agent import an_episode
from tests.test_web_browser import needs_chromium
from vigorl_lib.benchmarks import registry as benchmarks
from vigorl_lib.benchmarks import visualwebarena
from vigorl_lib.images import picture_of
from vigorl_lib.nano import errands, skin, world
from vigorl_lib.nano.drawing import Question
from vigorl_lib.nano.model import EMBEDDING_STD, add_words
from vigorl_lib.nano.skin import SHELF, Article, Page
from vigorl_lib.policy import load_policy
from vigorl_lib.runs import PACKAGE
from vigorl_lib.traces import find_points, parse_turn
from vigorl_lib.web import agent, export, policies, tasks
from vigorl_lib.web import browser as web
from vigorl_lib.web.browser import Mark, Observation
from vigorl_lib.web.evaluators import load_tasks
from vigorl_lib.web.sites import COOKIE, serve
from vigorl_lib.web.world import nano_store

STEPS = 700
WINDOW = {"viewport": (skin.SIDE, skin.SIDE), "colours": skin.MARKS}


@pytest.fixture(scope="module")
def steps():
    return [errands.step(random.Random(f"step {number}"), number) for number in range(STEPS)]


def test_neighbours_on_a_shelf_are_what_the_base_calls_next(steps):
    for step in steps[:100]:
        things = [skin.thing(article, place) for article, place in zip(step.page.articles, range(SHELF), strict=False)]
        scene = world.Scene(0, tuple(things))
        for place, thing in enumerate(things if not step.page.single else ()):
            row, column = divmod(place, skin.COLUMNS)
            for direction, (right, down) in world.DIRECTIONS.items():
                inside = 0 <= row + down < skin.ROWS and 0 <= column + right < skin.COLUMNS
                expected = place + down * skin.COLUMNS + right if inside else -1
                assert world.next_thing(scene, thing.x, thing.y, direction) == expected


def test_a_page_shows_its_things_inside_their_marks(steps):
    for step in steps[:50]:
        boxes = skin.boxes(step.page)
        assert len(boxes) <= 10 and skin.draw(step.page).size == (skin.SIDE, skin.SIDE)
        for article, place in zip(step.page.articles, skin.places(step.page), strict=True):
            left, top, right, bottom = skin.thing(article, place).box
            outer = skin.PLACES[place]
            assert outer[0] < left and outer[1] < top and right < outer[2] and bottom < outer[3]
    words = {skin.place_word(skin.thing(Article("red circle", 1), place)) for place in range(SHELF)}
    assert len(words) == SHELF, "who has no points can still say where"


def test_stores_and_errands():
    for seed in range(40):
        rng = random.Random(seed)
        names = errands.store(rng)
        articles = [Article(name, 1) for name in names]
        assert len(names) == errands.STORE and set(names) <= set(world.NAMES)
        for kind in errands.LEVELS:
            found = errands.errand(rng, articles, "shopping", kind)
            assert names.count(names[found.named]) == 1 and names[found.named] in found.text
            assert found.moves[-1] == "stop" and found.start != found.wanted
            assert (found.wanted != found.named) == bool(found.directions)
            steps = errands.walk(rng, articles, found)
            assert steps[-1].page.single and steps[-1].page.articles[0] == articles[found.wanted]
            assert steps[-1].page.done == ("do" in found.moves)
    assert set(errands.LEVELS.values()) == {"easy", "medium", "hard"}


def test_every_move_is_asked_for(steps):
    verbs = Counter(errands.action(step.move).split()[0] for step in steps)
    assert set(verbs) == {"click", "scroll", "go_back", "stop"} and verbs["click"] > STEPS // 2
    opened = Counter(errands.action(step.move) for step in steps if step.move.startswith("open"))
    assert len(opened) == SHELF and min(opened.values()) > sum(opened.values()) / SHELF / 2


def test_the_text_alone_chooses_no_article(steps):
    options = tuple(f"click [{place + 3}]" for place in range(SHELF))
    asked = [
        Question(step.errand.kind, step.text, options, errands.action(step.move), list, {})
        for step in steps
        if step.move.startswith("open")
    ]
    learn, test = asked[: len(asked) * 2 // 3], asked[len(asked) * 2 // 3 :]
    assert text_only.answered(learn, test) < text_only.chance(test) + text_only.margin(test)


def test_narrations_are_well_formed_and_not_always_right(steps):
    for grounded in (True, False):
        right = 0
        for number, step in enumerate(steps):
            text = errands.narrated(random.Random(number), step, grounded=grounded)
            turn = parse_turn(text, zoom=False)
            assert turn.well_formed and visualwebarena.parse_action(turn.answer)
            points = find_points(turn.think)
            assert bool(points) == grounded
            assert all(0 <= point.x < world.VIEW_SIDE and 0 <= point.y < world.VIEW_SIDE for point in points)
            right += turn.answer == errands.action(step.move)
        assert 0.6 < right / STEPS < 0.95


def test_rows_are_examples_that_the_oracle_answers():
    found = benchmarks.load("visualwebarena", "nano", split="dev", limit=14)
    assert [item.id for item in found] == [
        item.id for item in benchmarks.load("visualwebarena", "nano", split="dev", limit=14)
    ]
    for item in found:
        assert item.answer == item.truth["action"] and item.question.startswith("OBJECTIVE: ")
        for reply, score in ((item.answer, 1.0), ("click [9]", 0.0)):
            assert benchmarks.grade("visualwebarena", f"<answer>{reply}</answer>", item).score == score


@pytest.mark.parametrize(
    ("answer", "gold", "clean", "released"),
    [
        ("click [5]", "click [5]", 1.0, 1.0),
        ("click [4]", "click [5]", 0.5, 0.5),
        ("click [15]", "click [5]", 0.5, 0.5),
        ("scroll [down]", "click [5]", 0.0, 0.0),
        ("scroll [up]", "scroll [down]", 0.5, 0.0),
        ("type [3] [lamp]", "type [3] [mug]", 0.5, 1.0),
        ("type [3] [mug]", "type [4] [mug]", 0.5, 0.5),
        ("stop [no]", "stop [yes]", 0.5, 1.0),
        ("go_back", "go_back", 1.0, 1.0),
        ("I click [5] and stop", "click [5]", 0.0, 0.0),
        ("please click [5]", "click [5]", 0.0, 1.0),
        ("", "click [5]", 0.0, 0.0),
        ("nothing", "click [5]", 0.0, 0.0),
    ],
)
def test_what_an_action_earns(answer, gold, clean, released):
    assert visualwebarena.credit(answer, gold) == clean
    assert visualwebarena.released_credit(answer, gold) == released


def test_new_words_become_tokens_and_the_old_ones_stay():
    policy, again = (load_policy(PACKAGE / "checkpoints/base") for _ in range(2))
    old = policy.model.get_input_embeddings().weight.clone()
    text = "OBJECTIVE: Buy it.\nclick [3]"
    spelt = len(policy.tokenizer(text)["input_ids"])
    for one in (policy, again):
        add_words(one.model, one.tokenizer, errands.WORDS, seed=1)
    ids = policy.tokenizer(text)["input_ids"]
    assert len(ids) < spelt / 2 and policy.tokenizer.decode(ids) == text
    new, known = policy.model.get_input_embeddings().weight, len(old)
    assert len(new) == len(policy.tokenizer) > known and torch.equal(new[:known], old)
    assert 0.8 < new[known:].std() / EMBEDDING_STD < 1.2
    assert torch.equal(new, again.model.get_input_embeddings().weight), "the seed decides"
    add_words(policy.model, policy.tokenizer, errands.WORDS, seed=2)
    assert torch.equal(policy.model.get_input_embeddings().weight, new), "they have them already"


def observation(*marks):
    found = tuple(Mark(number, "A", "", "", False, (0, 0, 9, 9)) for number in marks)
    shot = io.BytesIO()
    skin.draw(Page(tuple(Article(name, 1) for name in world.NAMES[:SHELF]))).save(shot, "PNG")
    return Observation(shot.getvalue(), found, "", "", "", (), 0)


def test_a_model_and_chance_act_in_the_grammar():
    policy = load_policy(PACKAGE / "checkpoints/base")
    act = policies.answering(policy, "grounded", max_new_tokens=12)
    said = act(observation(1, 2), "Open the red circle.", ("scroll [down]",))
    assert said and said == act(observation(1, 2), "Open the red circle.", ("scroll [down]",))
    chance = policies.at_random("x")
    done = Counter(chance(observation(1, 2), "", ()) for _ in range(200))
    assert set(done) == {"click [1]", "click [2]", "scroll [down]", "go_back", "stop []"} and min(done.values()) > 20


def test_traces_become_examples(tmp_path):
    episode = an_episode(tmp_path / "shopping_1", "text")
    trace = tmp_path / "shopping_1/trace.jsonl"
    line = json.loads(trace.read_text())
    assert list(export.action_examples([episode], tmp_path)) == [], "it did not succeed"
    won = agent.Episode(**(vars(episode) | {"scores": {"official": 1.0, "clean": 1.0}, "intent": "Buy it."}))
    assert list(export.action_examples([won], tmp_path)) == [], "the text is no action"
    places = [["IMG", "A mug", [1, 2, 30, 40]], ["A", "Two", [0, 0, 9, 9]], ["A", "Two", [9, 9, 20, 20]]]
    typed = {"action": "type [3] [mug] [1]", "reason": None, "said": "type [INPUT] [Search] [mug]", "places": places}
    stopped = {"step": 1, "action": "stop []", "reason": None, "said": "stop []", "places": places}
    trace.write_text("".join(json.dumps(line | step) + "\n" for step in (typed, stopped)))
    one, two = export.action_examples([won], tmp_path)
    assert (one.answer, two.answer, one.kind) == ("type [3] [mug]", "stop []", "type")
    assert "PREVIOUS ACTIONS: \n1. type [INPUT] [Search] [mug]\n" in two.question and "1." not in one.question
    (mark,) = export.grounding_examples([won], tmp_path)
    assert (mark.question, mark.box, mark.size, mark.kind) == ("A mug", (1, 2, 30, 40), (40, 60), "web/icon")
    assert benchmarks.grade("screenspot", "<answer> (5, 5) </answer>", mark).score == 1

    read = benchmarks.load("visualwebarena", export.save_actions(tmp_path / "steps.jsonl", [one, two]), split="train")
    assert [(row.question, row.answer, row.kind, row.group) for row in read] == [
        (row.question.strip(), row.answer, row.kind, row.id) for row in (one, two)
    ]
    (found,) = benchmarks.load("screenspot", export.save_grounding(tmp_path / "places.parquet", [mark]))
    assert (found.question, found.box, found.size, found.kind) == (mark.question, mark.box, mark.size, mark.kind)
    for row, kept in ((read[0], one), (found, mark)):
        assert np.array_equal(np.array(picture_of(row)), np.array(picture_of(kept)))
    assert len(list((tmp_path / "steps").iterdir())) == 1, "equal pictures are kept once"


async def screenshot(browser, sites, url, *actions):
    """What is to be seen after some clicks on marks, by their labels."""
    origins = tuple(sites.urls.values())
    sites.reset("shots", 3)
    async with web.open_environment(browser, [url], origins, cookie=(COOKIE, "shots"), **WINDOW) as environment:
        for label in actions:
            seen = await environment.observe()
            mark = next((mark.id for mark in seen.marks if label in (mark.text, mark.label)), 0)
            assert await environment.act(web.Action("click", mark) if mark else web.Action("scroll")) is None
        return await environment.observe()


@needs_chromium
def test_the_browser_shows_what_is_drawn():
    async def run():
        async with async_playwright() as playwright:
            browser = await web.launch(playwright)
            with serve(0, "nano") as sites:
                for site, verb in errands.VERBS.items():
                    articles = [Article(name, id) for id, name in nano_store(site, 3)]
                    one, label, home = articles[1], f"no. {articles[1].number}", sites.urls[site] + "/"
                    ways = {
                        (): Page(tuple(articles[:SHELF])),
                        ("down",): Page(tuple(articles[SHELF : 2 * SHELF])),
                        ("Next",): Page(tuple(articles[2 * SHELF :])),
                        ("Next", "Next"): Page(tuple(articles[:SHELF])),
                        (label,): Page((one,)),
                        (label, "Home"): Page(tuple(articles[:SHELF])),
                        (label, verb): Page((one,), done=True),
                    }
                    for actions, page in ways.items():
                        seen = await screenshot(browser, sites, home, *actions)
                        drawn, shown = skin.draw(page), Image.open(io.BytesIO(seen.screenshot))
                        assert [mark.box for mark in seen.marks][: len(skin.boxes(page))] == skin.boxes(page)
                        assert np.array_equal(np.array(drawn), np.array(shown)), (site, actions)

    asyncio.run(run())


@needs_chromium
def test_a_look_at_a_page_is_what_an_agent_sees():
    with serve(0, "nano") as sites:
        seen = asyncio.run(web.look(sites.urls["shopping"] + "/", **WINDOW))
    articles = tuple(Article(name, id) for id, name in nano_store("shopping", 0)[:SHELF])
    assert np.array_equal(np.array(skin.draw(Page(articles))), np.array(Image.open(io.BytesIO(seen.screenshot))))
    assert [mark.id for mark in seen.marks] == list(range(1, SHELF + 3))


@needs_chromium
def test_scripts_run_every_errand_and_nobody_who_stops_does(tmp_path):
    solved = {one.id: one for one in tasks.generate(5, "nano")}
    tasks.save_tasks(tmp_path / "tasks.json", list(solved.values()))
    assert len(solved) == len(errands.VERBS) * len(errands.LEVELS)
    with serve(0, "nano") as sites:
        found = load_tasks(tmp_path / "tasks.json", sites.urls)
        how = {"sites": sites, "seed": 5, "contexts": 2, **WINDOW}
        run = agent.run_tasks(found, lambda task: tasks.scripted(solved[task.id].steps), tmp_path / "s", **how)
        episodes = asyncio.run(run)
        assert [episode.scores for episode in episodes] == [{"official": 1.0, "clean": 1.0}] * len(found)
        idle = asyncio.run(agent.run_tasks(found, lambda task: tasks.scripted([]), tmp_path / "i", **how))
        assert agent.success_rate(idle, "official") == agent.success_rate(idle, "clean") == 0
        how |= {"contexts": 2}
        how.pop("seed")
        path = asyncio.run(export.scripted_actions(tmp_path / "e", [5], skin="nano", **how))
    rows = list(export.action_examples(episodes, tmp_path / "s"))
    assert len(rows) == sum(episode.steps for episode in episodes)
    assert {row.kind for row in rows} == {"click", "scroll", "stop"}
    exported = benchmarks.load("visualwebarena", path, split="train")
    assert [row.group for row in exported] == [f"world5/{row.id}" for row in rows]
    drawn = benchmarks.load("visualwebarena", "nano", split="train", limit=200)
    names = re.compile("|".join(world.NAMES))
    said, known = (
        {names.sub("it", line.lstrip("0123456789")) for row in found for line in row.question.splitlines()[3:]}
        for found in (exported, drawn)
    )
    assert said <= known, "what was done before reads as in the drawn steps"
