"""The search tree as a page: what it says is what the search did, and nothing can break out of it."""

from __future__ import annotations

import base64
import hashlib
import html
import io
import json
import re
from html.parser import HTMLParser

import pytest
from PIL import Image
from playwright.sync_api import sync_playwright

from tests.test_web_browser import needs_chromium
from vigorl_lib import explorer
from vigorl_lib.answers import is_right
from vigorl_lib.grounding import Frame
from vigorl_lib.records import Example, Proposal
from vigorl_lib.search.mcts import SearchSettings, search, select, ucb
from vigorl_lib.search.tree import Node, Rollout, Tree, node_at
from vigorl_lib.web import browser

HOSTILE = [
    "</script><script>alert(1)</script>",
    "<!-- <script> --> ]]> & &lt; \" ' `${alert(1)}`",
    "{{data}} {{policy}} {{title}} \\1 \\g<0> \\u003c",
    "\u2028\u2029 \x00 \ud800 \U0010ffff \u202eevil",
    "$\\frac{1}{2}$ " * 7_000,
]
SEEN = Frame.resized(Frame.original(200, 100), 100, 50)


def a_tree(text: str = "A cup (3, 4).", answer: str = "bowl") -> Tree:
    right = Node(
        "A bowl.",
        ((50, 25), (120, -9)),
        True,
        answer,
        1.0,
        2,
        rollouts=(Rollout(answer=answer, reward=1.0),) * 2,
    )
    wrong = Node(text, ((10, 20),), False, None, 0.0, 1, rollouts=(Rollout((text,), text, 0.0, True, 7),))
    first = Node("First.", (), False, None, 0.5, 4, (right, wrong), (Rollout(),), rejected=1, simulation=1)
    second = Node("Second.", (), False, None, 0.0, 1, rollouts=(Rollout(),), simulation=1)
    root = Node(text, (), False, None, 0.4, 5, (second, first))
    return Tree(text, text, answer, root, 2, 9, 50)


def png(width: int = 200, height: int = 100) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (width, height), "#ddeedd").save(buffer, "PNG")
    return buffer.getvalue()


class Scripts(HTMLParser):
    """The contents of the page's script and style elements, as a browser would cut them out."""

    def __init__(self, page: str):
        super().__init__()
        self.here, self.found, self.tags = None, [], []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag in ("script", "style"):
            self.here = [tag, dict(attributes), ""]
            self.found.append(self.here)

    def handle_endtag(self, tag):
        self.here = None

    def handle_data(self, data):
        if self.here:
            self.here[2] += data


def data_of(page: str) -> dict:
    return json.loads(next(text for _, attributes, text in Scripts(page).found if attributes.get("id") == "data"))


def test_the_page_holds_the_tree():
    tree, settings = a_tree(), SearchSettings(exploration=1.5)
    data = data_of(explorer.tree_html(tree, settings=settings))
    root, second, first, right, _ = data["nodes"]
    assert (data["question"], data["answer"], data["simulations"], data["calls"]) == (
        tree.question,
        "bowl",
        2,
        9,
    )
    assert (data["rejected"], data["unanswered"]) == (1, 2)
    assert root["children"] == [1, 2] and first["parent"] == 0 and root["parent"] is None
    (state,) = data["states"]  # made by hand: no search leads to it, so there is nothing to slide through
    assert (state[2]["visits"], state[2]["value"], first["rejected"]) == (4, 0.5, 1)
    assert (right["terminal"], right["answer"], len(right["rollouts"])) == (True, "bowl", 2)
    assert (second["depth"], second["row"], first["row"]) == (1, 0, 1.5)
    assert data["most_visited"] == 3
    assert data["image"] is None and right["points"] == []


@pytest.mark.parametrize("settings", [SearchSettings(), SearchSettings(exploration=0.5, ucb="paper")])
def test_scores_are_those_of_the_search(settings):
    tree = a_tree()
    data = data_of(explorer.tree_html(tree, settings=settings))
    root = data["states"][-1][0]
    scores = [ucb(tree.root, child, settings) for child in tree.root.children]
    assert root["scores"] == [f"{score:.2f}" for score in scores]
    assert root["chosen"] == scores.index(max(scores))
    assert data["nodes"][data["next"][-1]]["text"] == node_at(tree.root, select(tree.root, settings)).text
    assert data["formula"].startswith(f"value + {settings.exploration:g} · √(")


def test_an_unvisited_child_has_an_endless_score():
    root = Node("q", value=1.0, visit_count=1, children=(Node("a"),), revisits=1)
    data = data_of(explorer.tree_html(Tree("t", "q", "a", root, 1, 1, 1), settings=SearchSettings(ucb="paper")))
    assert data["states"][-1][0]["scores"] == ["∞"]


def a_search(settings: SearchSettings, said: str = "Step") -> Tree:
    """A tree that was grown, with each step of it said so."""

    def policy(requests):
        return [
            Proposal(f"{said} {r.seed} ({r.seed % 50}, 3).", "cup" if len(r.steps) > 1 else None, 1) for r in requests
        ]

    item = Example("e", "sat2", "kind", f"Which {said}?", ("cup", "bowl"), "cup", ())
    (tree,) = search([item], policy, is_right, settings, seed=0, batch_size=8, trees_in_flight=1)
    return tree


def test_every_simulation_of_a_search_can_be_seen():
    settings = SearchSettings(simulations=4, children=2, rollouts=1, max_depth=3)
    tree = a_search(settings)
    data = data_of(explorer.tree_html(tree, settings=settings))
    assert len(data["states"]) == len(data["next"]) == 5
    for simulation, state in enumerate(data["states"]):
        born = [node["simulation"] for node in data["nodes"]]
        assert [facts is not None for facts in state] == [birth <= simulation for birth in born]
        assert state[data["next"][simulation]] is not None
    assert [state[0]["visits"] for state in data["states"]] == [0, 2, 4, 6, 8]
    assert data["states"][-1][0]["value"] == tree.root.value


def test_points_are_parts_of_the_image():
    data = data_of(explorer.tree_html(a_tree(), png(), SEEN))
    right, wrong = data["nodes"][3:]
    assert right["points"] == [[0.5, 0.5, True], [1, 0, False]], "a point outside goes to the border"
    assert wrong["points"] == [[0.1, 0.4, True]]
    assert (data["image"]["width"], data["image"]["height"]) == (340, 170)
    assert data["image"]["source"].startswith("data:image/png;base64,")
    assert data["image"]["note"] == "points in pixels of the resized frame, 100 × 50"


def test_an_image_needs_its_frame(tmp_path):
    for frame in (None, Frame.original(100, 50)):
        with pytest.raises(ValueError, match="200 x 100 pixels.*give the original image"):
            explorer.tree_html(a_tree(), png(), frame)
    with pytest.raises(ValueError, match="image of tree 'A cup"):
        explorer.tree_html(a_tree(), b"no image", SEEN)
    with pytest.raises(FileNotFoundError, match="gone.png"):
        explorer.tree_html(a_tree(), tmp_path / "gone.png", SEEN)


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_text_stays_data(text):
    page = explorer.tree_html(a_tree(text, answer=text), png(), SEEN)
    clean = explorer.tree_html(a_tree(), png(), SEEN)
    assert [tag for tag, _ in Scripts(page).tags] == [tag for tag, _ in Scripts(clean).tags]
    assert [found[2] for found in Scripts(page).found if "id" not in found[1]] == [
        found[2] for found in Scripts(clean).found if "id" not in found[1]
    ]
    data = data_of(page)
    assert data["question"] == data["nodes"][4]["text"] == data["nodes"][3]["answer"] == text
    assert data["nodes"][4]["rollouts"][0]["steps"] == [text]
    page.encode()
    assert Scripts(html.unescape(srcdoc(explorer.show(page).data))).found == Scripts(page).found


def srcdoc(snippet: str) -> str:
    return re.search(r'srcdoc="([^"]*)"', snippet)[1]


def test_the_policy_names_exactly_the_pages_own_script_and_style():
    page = explorer.tree_html(a_tree(), png(), SEEN)
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', page)[1]
    assert policy.startswith("default-src 'none'; ") and "unsafe" not in policy and "img-src data:;" in policy
    for tag, attributes, text in Scripts(page).found:
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert (f"{tag}-src 'sha256-{digest}'" in policy) == (attributes.get("type") != "application/json")
    assert page.index("Content-Security-Policy") < page.index("<style>") < page.index("<script")


def test_the_page_needs_nothing_else():
    page = explorer.tree_html(a_tree(), png(), SEEN)
    assert "http:" not in page and "https:" not in page and "{{" not in page
    assert not re.search(r"@import|url\(|\bfetch\(|XMLHttpRequest|import\(", page)
    for tag, attributes in Scripts(page).tags:
        assert not {"src", "href", "style"} & set(attributes), tag
        assert not [name for name in attributes if name.startswith("on")]
    script = next(text for tag, attributes, text in Scripts(page).found if tag == "script" and not attributes)
    assert not re.search(r"innerHTML|outerHTML|insertAdjacent|document\.write|\beval\b|new Function", script)


def test_the_same_tree_gives_the_same_page():
    assert explorer.tree_html(a_tree(), png(), SEEN) == explorer.tree_html(a_tree(), png(), SEEN)


def test_a_tree_of_one_node_is_a_page():
    data = data_of(explorer.tree_html(Tree("t", "q", "a", Node("q"), 1, 0, 0)))
    assert len(data["nodes"]) == 1 and data["most_visited"] == data["next"][-1] == 0


def test_show_is_a_closed_frame():
    page = explorer.tree_html(a_tree())
    snippet = explorer.show(page, 500).data
    assert 'sandbox="allow-scripts"' in snippet and 'height="500"' in snippet
    assert html.unescape(srcdoc(snippet)) == page


@pytest.fixture(scope="module")
def chromium():
    with sync_playwright() as playwright:
        browser_ = playwright.chromium.launch(executable_path=browser.find_chromium(), args=browser.ARGUMENTS)
        yield browser_
        browser_.close()


@needs_chromium
@pytest.mark.parametrize("said", ["Step", *HOSTILE[:4]], ids=range(5))
def test_one_walks_through_the_tree_by_key_and_slider(chromium, tmp_path, said):
    """In a browser: arrows move, the slider goes back in time, text stays text, and nothing else is asked for."""
    settings = SearchSettings(simulations=4, children=2, rollouts=1, max_depth=3)
    tree = a_search(settings, said)
    (tmp_path / "tree.html").write_bytes(explorer.tree_html(tree, png(), SEEN, settings=settings).encode())
    page, asked, wrong = chromium.new_page(), [], []
    page.on("request", lambda request: asked.append(request.url.partition(":")[0]))
    page.on("dialog", lambda dialog: wrong.append(dialog.message) or dialog.dismiss())
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.goto((tmp_path / "tree.html").as_uri())
    here, visible = page.locator("#tree .here"), page.locator("#tree g:visible")
    path = page.locator("#path li")
    assert visible.count() == len(list(tree.nodes()))

    ids = {place: f"node-{number}" for number, (place, _) in enumerate(tree.nodes())}
    (index, *_) = select(tree.root, settings)
    keys = {"Home": (), "ArrowRight": (index,), "ArrowUp" if index else "ArrowDown": (1 - index,)}
    for key, place in keys.items():
        page.keyboard.press(key)
        assert here.get_attribute("id") == ids[place] and path.count() == 1 + len(place)
    assert f"({node_at(tree.root, (1 - index,)).points[0][0]}, 3)" in path.last.inner_text()
    assert page.locator("#overlay g.now").count() == 1
    page.keyboard.press("ArrowLeft")
    assert here.get_attribute("id") == ids[()]
    table = page.locator("#node table").inner_text()
    assert all(f"{ucb(tree.root, child, settings):.2f}" in table for child in tree.root.children)

    page.locator("#simulation").fill("1")
    assert visible.count() == 1 + settings.children
    page.locator("#forest").focus()
    page.keyboard.press("[")
    assert visible.count() == 1 and page.locator("#now").inner_text() == "0 of 4"
    page.keyboard.press("]")
    assert visible.count() == 1 + settings.children
    assert page.locator("#question").text_content() == re.sub("\u202e", "\ufffd", tree.question)
    assert wrong == [] and set(asked) <= {"file", "data"} and asked.count("file") == 1
    page.close()


# The gallery of interventions


def a_gallery(text="a cup"):
    examples = [Example(f"{text}{k}", "own", "k", text, ("a", "b"), text, (png(),)) for k in range(2)]
    own = {"turns": [(f"<think> {text} </think>", f"<answer> {text} </answer>"), ("<answer> b </answer>",)]}
    moved = {"turns": [("<answer> b </answer>",), None]}
    return explorer.suite_html({"as it is": own, text: moved}, examples)


def test_a_gallery_holds_each_reply_beside_what_became_of_it():
    first, second = data_of(a_gallery())["items"]
    assert [reply["name"] for reply in first["replies"]] == ["as it is", "a cup"]
    assert [reply["answer"] for reply in first["replies"]] == ["a cup", "b"]
    assert first["replies"][0]["turns"] == ["<think> a cup </think>", "<answer> a cup </answer>"]
    assert second["replies"][1] == {"name": "a cup", "turns": None, "answer": None}
    assert (second["id"], second["truth"]) == ("a cup1", "a cup")
    assert first["picture"].startswith("data:image/png;base64,")


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_text_stays_data_in_a_gallery(text):
    page, clean = Scripts(a_gallery(text)), Scripts(a_gallery())
    assert [tag for tag, _ in page.tags] == [tag for tag, _ in clean.tags]
    assert [found[2] for found in page.found if "id" not in found[1]] == [
        found[2] for found in clean.found if "id" not in found[1]
    ]
    data = data_of(a_gallery(text))["items"][0]
    assert data["question"] == data["truth"] == data["replies"][1]["name"] == text


def test_a_gallery_runs_its_own_script_alone():
    page = a_gallery()
    assert "http:" not in page and "https:" not in page and "{{" not in page
    script = next(text for tag, attributes, text in Scripts(page).found if tag == "script" and not attributes)
    assert not re.search(r"innerHTML|outerHTML|insertAdjacent|document\.write|\beval\b|new Function|fetch", script)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in page and "unsafe" not in page


def test_a_gallery_of_nothing_is_refused():
    example = Example("e", "own", "k", "?", (), "a", (png(),))
    for found, examples in (
        ({}, [example]),
        ({"as it is": {"turns": []}}, []),
        ({"as it is": {"turns": []}}, [example]),
    ):
        with pytest.raises(ValueError, match="a gallery needs examples"):
            explorer.suite_html(found, examples)


@needs_chromium
def test_a_gallery_is_walked_through_by_clicking(chromium, tmp_path):
    (tmp_path / "gallery.html").write_text(a_gallery("<b>cup</b>"), encoding="utf-8")
    page = chromium.new_page()
    page.goto((tmp_path / "gallery.html").as_uri())
    assert page.locator("#place").inner_text() == "1 of 2"
    assert "<b>cup</b>" in page.locator("#own").inner_text()
    assert page.locator("#others section.other").count() == 1
    page.get_by_role("button", name="the next question").click()
    assert "does not apply" in page.locator("#others").inner_text()
    assert page.locator("section.other").count() == 0
