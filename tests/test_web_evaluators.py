"""VisualWebArena's evaluators: to the letter, and clean where the letter is wrong."""

from __future__ import annotations

import asyncio
import json
import time

import pytest
from PIL import Image
from playwright.async_api import async_playwright

from tests.test_web_browser import needs_chromium
from vigorl_lib.web import browser as web
from vigorl_lib.web.evaluators import (
    check,
    clean_answer,
    evaluate,
    holds,
    load_tasks,
    similarity,
    string_match,
    task_of,
    url_match,
    words,
)
from vigorl_lib.web.sites import serve

ROW = {
    "sites": ["shopping"],
    "task_id": 7,
    "require_login": True,
    "storage_state": "./.auth/shopping_state.json",
    "start_url": "__SHOPPING__/a |AND| __REDDIT__",
    "geolocation": None,
    "intent_template": "Buy {{thing}}",
    "intent": "Buy a lamp",
    "image": None,
    "instantiation_dict": {"thing": "a lamp"},
    "require_reset": False,
    "eval": {"eval_types": ["string_match"], "reference_answers": {"exact_match": "yes"}},
    "reasoning_difficulty": "easy",
    "visual_difficulty": "easy",
    "overall_difficulty": "medium",
    "comments": "",
    "intent_template_id": 3,
}


def task(**evaluation):
    return task_of(ROW | {"eval": {"eval_types": ["string_match"]} | evaluation})


def asks(**answers):
    return task(reference_answers=answers, string_note="It is sold out.")


def test_official_tasks_load_unchanged(tmp_path):
    path = tmp_path / "test_shopping.raw.json"
    path.write_text(json.dumps([ROW, ROW | {"task_id": 8, "image": "a.png"}, ROW | {"image": ["a.png", "b.png"]}]))
    first, second, third = load_tasks(path, {"shopping": "http://127.0.0.1:7770/", "reddit": "http://127.0.0.1:9999"})
    assert first.start_urls == ("http://127.0.0.1:7770/a", "http://127.0.0.1:9999")
    assert (first.id, first.intent, first.difficulty) == ("shopping/7", "Buy a lamp", "medium")
    assert (first.images, second.images, third.images) == ((), ("a.png",), ("a.png", "b.png"))
    with pytest.raises(ValueError, match=r"test_shopping.*__REDDIT__.*sites\['reddit'\]"):
        load_tasks(path, {"shopping": "http://127.0.0.1:7770"})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not JSON"),
        ("{}", "a list of tasks"),
        ("[3]", "task 0"),
        (json.dumps([{key: value for key, value in ROW.items() if key != "intent"}]), "task 0.*intent"),
        (json.dumps([ROW | {"eval": {"eval_types": ["magic"]}}]), "task 0.*magic.*string_match"),
        (json.dumps([ROW | {"eval": {"eval_types": []}}]), "eval_types"),
    ],
)
def test_a_file_without_tasks_is_named(tmp_path, text, message):
    path = tmp_path / "tasks.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=f"tasks.json.*{message}"):
        load_tasks(path, {"shopping": "s", "reddit": "r"})


def test_answers_are_cleaned_but_not_stripped():
    assert clean_answer("'Yes'") == clean_answer('"YES"') == "yes"
    assert clean_answer(" Yes ") == " yes " and clean_answer("'Yes\"") == "'yes\"" and clean_answer("'") == ""


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("it costs $12.50, not 13.", ["it", "costs", "$", "12.50", ",", "not", "13", "."]),
        ("1,299 (50%)", ["1,299", "(", "50", "%", ")"]),
        ("don't; it's the dogs' all-in-one", ["do", "n't", ";", "it", "'s", "the", "dogs", "'", "all-in-one"]),
        ("see http://a.b/c?d=1", ["see", "http", ":", "//a.b/c", "?", "d=1"]),
        ("wait... no -- at 12:30", ["wait", "...", "no", "--", "at", "12:30"]),
        ("", []),
    ],
)
def test_words(text, found):
    assert words(text) == found


@pytest.mark.parametrize(
    ("answers", "said", "official", "clean"),
    [
        ({"exact_match": "Yes"}, "yes", 1, 1),
        ({"exact_match": "Yes"}, " yes", 0, 1),
        ({"exact_match": "Yes"}, "'Yes'", 1, 1),
        ({"exact_match": "Yes"}, "yes.", 0, 0),
        ({"must_include": ["12"]}, "it is 12.", 1, 1),
        ({"must_include": ["12"]}, "it is 112", 0, 0),
        ({"must_include": ["red lamp"]}, "a red lampshade", 1, 0),
        ({"must_include": ["red lamp"]}, "a RED lamp!", 1, 1),
        ({"must_include": ["$12.50"]}, "$12.505", 1, 0),
        ({"must_include": ["lamp |OR| vase", "blue"]}, "a blue vase", 1, 1),
        ({"must_include": ["lamp |OR| vase", "blue"]}, "a red vase", 0, 0),
        ({"must_exclude": ["no"]}, "nothing", 1, 1),
        ({"must_exclude": ["no"]}, "oh no", 0, 0),
        ({"one_of": ["cat", "dog"]}, "concatenate", 1, 0),
        ({"one_of": ["cat", "dog"]}, "My dog", 1, 1),
        ({"one_of": ["cat", "dog"]}, "bird", 0, 0),
        ({"required_values": ["<= 700"]}, "699", 1, 1),
        ({"required_values": ["<= 700"]}, "699.99", 0, 1),
        ({"required_values": ["<= 700"]}, "$699.99", 0, 1),
        ({"required_values": [">= 1000"]}, "1,299", 1, 1),
        ({"required_values": ["< 700"]}, "700", 1, 0),
        ({"required_values": ["> 700"]}, "700", 1, 0),
        ({"required_values": ["== 3 |OR| == 5", ">= 4"]}, "5", 1, 1),
        ({"required_values": ["== 3 |OR| == 5", ">= 4"]}, "3", 0, 0),
        ({"required_values": ["== 3"]}, "three", 0, 0),
        ({"must_include": ["a"], "exact_match": "b"}, "a", 0, 0),
    ],
)
def test_string_match(answers, said, official, clean):
    assert string_match(asks(**answers), said, "official") == official
    assert string_match(asks(**answers), said, "clean") == clean


def test_fuzzy_match_needs_a_judge():
    asked = []

    def judge(*question):
        asked.append(question)
        return 0.5

    assert string_match(asks(fuzzy_match=["a", "b"]), "C", "official", judge) == 0.25
    assert asked == [("fuzzy_match", "a", "c", "Buy a lamp"), ("fuzzy_match", "b", "c", "Buy a lamp")]
    assert string_match(asks(fuzzy_match="N/A"), "n/a", "official", judge) == 1 and len(asked) == 2
    assert string_match(asks(fuzzy_match="N/A"), "Sold out", "official", judge) == 0.5
    assert asked[-1] == ("ua_match", "It is sold out.", "sold out", "Buy a lamp")
    both = asks(exact_match="x", fuzzy_match="N/A")
    assert string_match(both, "n/a", "official", judge) == 0.5, "officially the judge is asked whatever came before"
    assert string_match(both, "n/a", "clean", judge) == 0
    for protocol in ("official", "clean"):
        with pytest.raises(ValueError, match="shopping/7: fuzzy_match needs a judge"):
            string_match(asks(fuzzy_match=["a"]), "c", protocol)
    with pytest.raises(ValueError, match="needs a judge"):
        check(asks(fuzzy_match=["a"]), None, None)
    with pytest.raises(ValueError, match="shopping/7: helper shopping_get_latest_order_url is not known"):
        check(html("", url="func:shopping_get_latest_order_url()", must_include=["B09"]), None, None)
    with pytest.raises(ValueError, match="magic is not known"):
        string_match(asks(magic="a"), "c", "official")


def test_a_condition_is_read():
    assert holds(3, ">=3", "official") and holds(3, "== 3.0", "clean") and not holds(3, "> 3", "clean")
    with pytest.raises(ValueError, match="condition 'about 3'"):
        holds(3, "about 3", "official")


@pytest.mark.parametrize(
    ("note", "gold", "url", "official", "clean"),
    [
        ("EXACT", "http://localhost:1/a/", "http://127.0.0.1:1/a", 1, 1),
        ("EXACT", "http://127.0.0.1:1/a", "http://127.0.0.1:1/a//", 0, 1),
        ("EXACT", "http://127.0.0.1:1/a?x=1&y=2", "http://127.0.0.1:1/a?y=2&x=1", 0, 1),
        ("EXACT", "http://127.0.0.1:1/a", "http://127.0.0.1:1/a#top", 0, 1),
        ("EXACT", "http://127.0.0.1:1/a/#pay", "http://127.0.0.1:1/a/#pay", 1, 1),
        ("EXACT", "http://127.0.0.1:1/a/#pay", "http://127.0.0.1:1/a/", 0, 0),
        ("EXACT", "http://127.0.0.1:1/a", "http://127.0.0.1:1/A", 0, 0),
        ("EXACT", "http://127.0.0.1:1/a |OR| http://127.0.0.1:1/b", "http://127.0.0.1:1/b", 1, 1),
        ("GOLD in PRED", "http://127.0.0.1:1/item/1", "http://127.0.0.1:1/item/12", 1, 0),
        ("GOLD in PRED", "http://127.0.0.1:1/item/1", "http://127.0.0.1:1/item/1/photos?x=2", 1, 1),
        ("GOLD in PRED", "/item/1 |OR| /item/3", "http://127.0.0.1:1/item/2", 0, 0),
    ],
)
def test_url_match(note, gold, url, official, clean):
    evaluation = {"reference_url": gold, "url_note": note}
    assert url_match(evaluation, url, "official") == official
    assert url_match(evaluation, url, "clean") == clean


def test_an_unknown_rule_for_addresses():
    with pytest.raises(ValueError, match="ROUGHLY"):
        url_match({"reference_url": "a", "url_note": "ROUGHLY"}, "a", "official")


def html(locator, *, url="last", **required):
    return task(
        eval_types=["program_html"], program_html=[{"url": url, "locator": locator, "required_contents": required}]
    )


@needs_chromium
def test_pages():
    title = "document.querySelector('#title').outerText"

    async def run(sites):
        urls = sites.urls
        async with async_playwright() as playwright:
            browser = await web.launch(playwright)
            start = [urls["shopping"] + "/product/3"]
            async with web.open_environment(browser, start, tuple(urls.values()), viewport=(800, 600)) as env:
                page = env.page
                name = await page.evaluate(f"() => {title}")

                async def score(task, protocol="official", **tools):
                    return await evaluate(task, "", page, protocol, **tools)

                for protocol in ("official", "clean"):
                    assert await score(html(title, exact_match=name), protocol) == 1
                    assert await score(html(title, exact_match=name + "s"), protocol) == 0
                    assert await score(html("", must_include=[name, "In Stock"]), protocol) == 1
                    assert await score(html("lambda:() => 699.5", required_values=["< 700"]), protocol) == 1
                    assert await score(html("lambda:() => 0", must_exclude=["x"]), protocol) == 0
                    found = html("func:get_query_text(__page__, '#title')", exact_match=name)
                    assert await score(found, protocol) == 1
                    with pytest.raises(ValueError, match="helper open is not known"):
                        await score(html("func:open('/etc/passwd')", exact_match=""), protocol)
                    with pytest.raises(ValueError, match="not known; use one of get_query_text"):
                        await score(html("func:get_query_text(__page__, open('x'))", exact_match=""), protocol)
                    with pytest.raises(ValueError, match="begin it with document"):
                        await score(html("window.x", exact_match=""), protocol)
                    with pytest.raises(ValueError, match="magic"):
                        await score(html(title, magic=""), protocol)
                    with pytest.raises(ValueError, match="needs a judge"):
                        await score(html(title, fuzzy_match="a"), protocol)
                nowhere = html("document.querySelector('#nowhere').outerText", must_exclude=["x"])
                assert (await score(nowhere), await score(nowhere, "clean")) == (1, 0), "an error hides the page"
                several = html(title, must_include=[name], must_exclude=[name])
                assert (await score(several), await score(several, "clean")) == (1, 0)

                def judge(what, reference, answer, intent):
                    return float(reference == "a")

                fuzzy = html(title, fuzzy_match="a |OR| b")
                assert (await score(fuzzy, judge=judge), await score(fuzzy, "clean", judge=judge)) == (0, 1)

                both = task(
                    eval_types=["program_html", "url_match"],
                    reference_url=urls["shopping"] + "/product/3",
                    url_note="EXACT",
                    program_html=html(title, url=urls["shopping"] + "/product/4", must_exclude=[name]).eval[
                        "program_html"
                    ],
                )
                assert await score(both, "clean") == 1 and page.url.endswith("/3") and len(env.context.pages) == 1
                assert await score(both) == 0 and page.url.endswith("/4"), "officially the check leaves its page open"

                query = {
                    "eval_image_url": "last",
                    "eval_image_class": ".detail",
                    "eval_vqa": [{"question": "A mug?", "answer": "yes"}],
                }
                seen = task(eval_types=["page_image_query"], page_image_query=[query])
                with pytest.raises(ValueError, match="page_image_query needs a model"):
                    await score(seen)
                assert await score(seen, vqa=lambda images, question: ["Yes!" for image in images]) == 1
                assert await score(seen, vqa=lambda images, question: ["no"]) == 0
                nothing = task(
                    eval_types=["page_image_query"], page_image_query=[query | {"eval_image_class": ".none"}]
                )
                assert await score(nothing, vqa=lambda images, question: ["yes"]) == 0

                await page.goto(start[0])
                source = await page.evaluate("() => document.querySelector('.detail img').src")
                other = source.replace(urls["shopping"], urls["reddit"])  # of another site, as in official files
                unlike = urls["reddit"] + "/picture/tent/pink/1.png"
                for protocol in ("official", "clean"):
                    for wanted, right in ((source, 1), (f"{unlike} |OR| {other}", 1), (unlike, 0)):
                        alike = {
                            "eval_image_url": "last",
                            "eval_image_class": ".detail",
                            "eval_fuzzy_image_match": wanted,
                            "ssim_threshold": 0.99,
                        }
                        compared = task(eval_types=["page_image_query"], page_image_query=[alike])
                        assert await score(compared, protocol, origins=env.origins) == right, (protocol, wanted)
                        with pytest.raises(ValueError, match="lies outside this machine"):
                            await score(compared, protocol)
                    missing = alike | {"eval_fuzzy_image_match": urls["reddit"] + "/nothing.png"}
                    with pytest.raises(ValueError, match="status 404"):
                        lost = task(eval_types=["page_image_query"], page_image_query=[missing])
                        await score(lost, protocol, origins=env.origins)
            await browser.close()

    with serve(0) as sites:
        asyncio.run(run(sites))


@needs_chromium
def test_clean_checks_share_a_tab_and_load_an_address_once():
    async def run(sites):
        loads, url = [], sites.urls["shopping"] + "/product/3"
        async with async_playwright() as playwright:
            browser = await web.launch(playwright)
            async with web.open_environment(browser, [url], tuple(sites.urls.values()), viewport=(800, 600)) as env:
                env.context.on("request", lambda request: loads.append(request.url) if request.url == url else None)
                env.context.on("page", lambda page: loads.append("a tab"))
                once = html("document.querySelector('#title').outerText", url=url, must_exclude=["x"]).eval[
                    "program_html"
                ]
                (changing,) = html("document.title", url=url, exact_match="changed").eval["program_html"]
                changing |= {"prep_actions": ["document.title = 'changed'"]}
                (after,) = html("document.title", url=url, must_exclude=["changed"]).eval["program_html"]
                checks = task(eval_types=["program_html"], program_html=[*once, *once, changing, after])
                assert await evaluate(checks, "", env.page, "clean") == 1 and len(env.context.pages) == 1
                assert loads == ["a tab", url, url], "again only after it was changed"
            await browser.close()

    with serve(0) as sites:
        asyncio.run(run(sites))


def test_similarity_is_that_of_like_images():
    one = Image.effect_noise((64, 48), 60).convert("RGB")
    assert similarity(one, one) == pytest.approx(1)
    assert similarity(one, one.resize((128, 96))) > 0.5 > similarity(one, Image.effect_noise((64, 48), 60))


def test_an_unknown_protocol():
    with pytest.raises(ValueError, match="no protocol 'vigorl'"):
        asyncio.run(evaluate(asks(exact_match="x"), "x", None, "vigorl"))


@pytest.mark.parametrize("piece", ["'", "n't", "a.", "...", "- ", "a"])
def test_a_long_answer_is_judged_at_once(piece):
    text, began = piece * (300_000 // len(piece)), time.process_time()
    for protocol in ("official", "clean"):
        string_match(asks(must_include=["lamp", "red lamp"], one_of=["x y"], must_exclude=["z"]), text, protocol)
    assert time.process_time() - began < 3
