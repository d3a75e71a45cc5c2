"""The human study: what is shown, what is kept, who agrees; and the form in a real notebook page."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import time
import urllib.request

import nbformat
import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import sync_playwright

from tests.test_web_browser import needs_chromium
from vigorl_lib import study
from vigorl_lib.images import fit_image
from vigorl_lib.records import Example, Prediction
from vigorl_lib.study import Item, Rating
from vigorl_lib.views import View
from vigorl_lib.web import browser

ITEMS = [Item(f"q{k}/0", f"step {k} {study.SHOWN}.", b"") for k in range(6)]


def view_of(example):
    original = Image.new("RGB", (400, 200), "white")
    return View(original, fit_image(original, min_pixels=1, max_pixels=100 * 50, factor=10))


def example(id):
    return Example(id, "own", "k", "?", (), "a", ())


def test_an_item_is_one_step_with_its_point_as_a_circle():
    text = "<think> The (left) cup (20, 10) is red. No point here. A bowl (90, 40). </think>\n<answer> a </answer>"
    predictions = [Prediction(f"q{k}", (text,)) for k in range(12)] + [Prediction("bare", ("<think> x </think>",))]
    examples = [example(prediction.id) for prediction in predictions]
    items = study.sample_items(predictions, examples, view_of, diameter=40)
    assert len(items) == 12 and not any(item.id.startswith("bare") for item in items)
    texts = {f"The (left) cup {study.SHOWN} is red.", f"No point here. A bowl {study.SHOWN}."}
    assert {item.text for item in items} == texts
    for item in items:
        pixels = np.asarray(Image.open(io.BytesIO(item.picture)))
        ys, xs = np.nonzero((pixels != 255).any(axis=2))
        x, y = (80, 40) if "cup" in item.text else (360, 160)  # 4 original pixels for one that the model sees
        assert abs((xs.min() + xs.max()) / 2 - x) <= 1 and abs((ys.min() + ys.max()) / 2 - y) <= 1
        assert xs.max() - xs.min() == pytest.approx(40, abs=2)
    assert study.sample_items(predictions, examples, view_of, count=3) == study.sample_items(
        predictions, examples, view_of, count=3
    )


def test_a_point_outside_is_known_and_a_reply_without_points_too():
    texts = ("A cup (20, 10).", "A cup (100, 10).", "A cup (20, -1).", "No point, and two (1, 2) (3, 4).")
    predictions = [Prediction(f"q{k}", (f"<think> {text} </think>",)) for k, text in enumerate(texts)]
    items = study.sample_items(predictions, [example(f"q{k}") for k in range(4)], view_of)
    assert {item.id: item.inside for item in items} == {"q0/0": True, "q1/0": False, "q2/0": False}
    assert [len(study.steps_to_rate(prediction)) for prediction in predictions] == [1, 1, 1, 0]


def test_a_rater_never_sees_an_item_twice_and_goes_on_where_they_stopped(tmp_path):
    path = tmp_path / "ratings.jsonl"
    order = [item.id for item in study.left(ITEMS, path, "ada")]
    assert sorted(order) == [item.id for item in ITEMS]
    assert order != [item.id for item in study.left(ITEMS, path, "bob")]
    for id in order[:2]:
        study.rate(path, Rating("ada", id, "yes", 4, 1.5))
    assert [item.id for item in study.left(ITEMS, path, "ada")] == order[2:]
    assert len(study.left(ITEMS, path, "bob")) == 6


def test_a_second_answer_is_kept_and_counted_and_the_first_one_holds(tmp_path):
    path = tmp_path / "ratings.jsonl"
    for item, overlap, helped in (("q0/0", "yes", 4), ("q1/0", "no", 2), ("q0/0", "no", 1), ("q0/0", "unsure", 1)):
        study.rate(path, Rating("ada", item, overlap, helped, 1.0))
    assert len(study.read_ratings(path)) == 4
    found = study.summary(ITEMS, study.read_ratings(path))
    assert (found["ratings"], found["twice"], found["strange"], found["unsure"], found["open"]) == (2, 2, 0, 0, 4)
    assert (found["overlap"]["value"], found["helped"]["value"]) == (0.5, 3)


def test_two_windows_of_a_rater_go_on_together(tmp_path):
    path = tmp_path / "ratings.jsonl"
    windows = [study.form(ITEMS[:3], path, "ada") for _ in range(2)]

    def answered(window, overlap):
        told, body = window.children
        body.children[3].value, body.children[5].value = overlap, 4
        body.children[6].click()
        return told.value, body.children[1].value

    assert "1 of 3" in answered(windows[0], "yes")[0]
    order = [item.id for item in study.left(ITEMS[:3], tmp_path / "none", "ada")]
    told, shown = answered(windows[1], "no")  # it still showed the item that the first window rated
    assert "1 of 3" in told and f"step {order[1][1]} " in shown, "what is left is shown, and nothing twice"
    assert "2 of 3" in answered(windows[1], "yes")[0]
    assert "2 of 3" in answered(windows[0], "no")[0]  # again one that is rated
    assert "Thank you" in answered(windows[0], "yes")[0]
    ratings = study.read_ratings(path)
    assert [rating.item for rating in ratings] == [order[k] for k in (0, 0, 1, 1, 2)]
    found = study.summary(ITEMS[:3], ratings)
    assert (found["twice"], found["overlap"]["value"], found["open"]) == (2, 1, 0)


@pytest.mark.parametrize("change", [{"overlap": "maybe"}, {"helped": 6}, {"rater": " "}])
def test_what_is_no_rating_is_refused(change):
    with pytest.raises(ValueError, match="must be one of"):
        Rating(**({"rater": "ada", "item": "q0/0", "overlap": "yes", "helped": 3, "seconds": 1.0} | change))


def test_a_bad_row_of_the_file_is_named(tmp_path):
    path = tmp_path / "ratings.jsonl"
    study.rate(path, Rating("ada", "q0/0", "yes", 3, 1.0))
    path.write_text(path.read_text() + '{"rater": "bob"}\n')
    with pytest.raises(ValueError, match="ratings.jsonl:2: not a rating"):
        study.read_ratings(path)


def test_the_summary_counts_what_was_said_and_leaves_open_what_was_not(tmp_path):
    path = tmp_path / "ratings.jsonl"
    said = {"ada": ["yes", "yes", "no", "unsure"], "bob": ["yes", "no", "no"], "eve": []}
    for rater, answers in said.items():
        for item, answer in zip(ITEMS, answers, strict=False):
            study.rate(path, Rating(rater, item.id, answer, 4 if answer == "yes" else 2, 1.0))
    study.rate(path, Rating("ada", "another study", "yes", 5, 1.0))
    found = study.summary(ITEMS, study.read_ratings(path))
    assert (found["raters"], found["ratings"], found["unsure"], found["strange"]) == (2, 7, 1, 1)
    assert (found["overlap"]["value"], found["overlap"]["n"]) == (0.5, 6)
    assert found["helped"]["value"] == pytest.approx((4 * 3 + 2 * 4) / 7)
    assert (found["helped_yes"]["value"], found["helped_no"]["value"]) == (4, 2)
    assert (found["helped_yes"]["n"], found["helped_no"]["n"], found["twice"]) == (3, 3, 0)
    assert (found["agreement"]["same"]["value"], found["agreement"]["same"]["n"]) == (pytest.approx(2 / 3), 3)
    assert found["agreement"]["kappa"] == pytest.approx((2 / 3 - 4 / 9) / (1 - 4 / 9))
    assert found["open"] == 2 + 3 and not found["simulated"]
    assert study.summary(ITEMS, [])["overlap"] is None
    study.simulate(ITEMS, path, "robot", lambda item: {"overlap": "yes", "helped": 3})
    assert study.summary(ITEMS, study.read_ratings(path))["simulated"]


# The form, in JupyterLab, driven by a browser

CELL = """
from PIL import Image
from vigorl_lib import study
from vigorl_lib.nano.drawing import png

red = png(Image.new("RGB", (60, 40), "red"))
items = [study.Item(f"q{k}/0", f"step <b>{k}</b> {study.SHOWN}.", red) for k in range(3)]
study.form(items, "ratings.jsonl", "ada")
"""


@pytest.fixture
def lab(tmp_path):
    """A notebook with the form, and the address of a JupyterLab that serves it."""
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(CELL)], metadata=kernel)
    nbformat.write(book, tmp_path / "form.ipynb")
    words = [
        "--no-browser",
        "--allow-root",
        "--ServerApp.port=0",
        "--IdentityProvider.token=t",
        "--ServerApp.ip=127.0.0.1",
    ]
    environment = os.environ | {"JUPYTER_RUNTIME_DIR": str(tmp_path / "runtime"), "OMP_NUM_THREADS": "1"}
    environment |= {"PYTHONPATH": os.getcwd(), "JUPYTER_CONFIG_DIR": str(tmp_path / "config")}
    with (tmp_path / "log.txt").open("w") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "jupyterlab", *words], cwd=tmp_path, env=environment, stdout=log, stderr=log
        )
    try:
        end = time.monotonic() + 60
        while not (found := list((tmp_path / "runtime").glob("jpserver-*.json"))):
            assert server.poll() is None and time.monotonic() < end, (tmp_path / "log.txt").read_text()
            time.sleep(0.3)
        url = json.loads(found[0].read_text())["url"]
        urllib.request.urlopen(f"{url}api?token=t").close()
        yield tmp_path, f"{url}lab/tree/form.ipynb?token=t"
    finally:
        server.terminate()
        server.wait()


def run_the_cell(page):
    page.locator(".jp-Spinner").first.wait_for(state="hidden")
    # What is run before the kernel is there is lost.
    page.get_by_text("Python 3 (ipykernel) | Idle").wait_for()
    page.locator(".jp-CodeCell .cm-content").first.click()
    page.keyboard.press("Shift+Enter")


def rate_as_right(page, done):
    shown = page.locator(".jp-OutputArea-output")
    shown.get_by_role("button", name="Yes").click()
    shown.get_by_role("button", name="4", exact=True).click()
    shown.get_by_role("button", name="Next").click()
    shown.get_by_text(f"{done} of 3 rated by ada").wait_for()


@needs_chromium
def test_the_form_is_filled_in_by_clicking(lab):
    folder, url = lab
    with sync_playwright() as playwright:
        path, words = browser.find_chromium(), browser.ARGUMENTS
        page = playwright.chromium.launch(executable_path=path, args=words).new_page()
        page.set_default_timeout(60_000)
        page.goto(url)
        run_the_cell(page)
        shown = page.locator(".jp-OutputArea-output")
        shown.get_by_text("0 of 3 rated by ada").wait_for()
        shown.get_by_text("step <b>").wait_for()  # the text's own tags are shown, not obeyed
        shown.get_by_role("button", name="Next").click()
        shown.get_by_text("Please answer both questions.").wait_for()
        rate_as_right(page, 1)
        rate_as_right(page, 2)
        page.reload()
        run_the_cell(page)
        shown.get_by_text("2 of 3 rated by ada").wait_for()  # it goes on where the rater stopped
        rate_as_right(page, 3)
        shown.get_by_text("Thank you").wait_for()
    ratings = study.read_ratings(folder / "ratings.jsonl")
    assert [(rating.overlap, rating.helped, rating.simulated) for rating in ratings] == [("yes", 4, False)] * 3
    assert len({rating.item for rating in ratings}) == 3 and all(0 < rating.seconds < 60 for rating in ratings)
