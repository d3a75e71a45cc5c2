"""What evaluations of the official sites ask for by name (`func:…`): what a page says, and the shop's records.

Written after VisualWebArena's `evaluation_harness/helper_functions.py`, for Magento's and Postmill's pages as those
sites have them. As there, a page that lacks what is looked for gives "" or 0. Some ask the shop's administration (its
latest order, an article's reviews): `of_shop` makes those, for whoever knows its log-in. They have been tried on pages
and replies made like the official ones, never on the official shop itself.
"""

from __future__ import annotations

import re
import urllib.parse
from collections.abc import Awaitable, Callable
from typing import Any

from playwright.async_api import Page

# (the page, the arguments in the task's file but the page) -> what is compared.
Helper = Callable[..., Awaitable[str | float]]

ORDERED = """() => [...document.querySelectorAll("#my-orders-table tbody")].map((row) => {
  const text = (name) => row.querySelector(`td.${name}`)?.outerText ?? "";
  const options = [...row.querySelectorAll("td.name dl > dt")]
    .map((term) => [term.outerText, term.nextElementSibling?.outerText ?? ""]);
  return {name: text("name"), sku: text("sku").trim(), quantity: text("qty"), options: Object.fromEntries(options)};
})"""
ATTRIBUTES = """(terms) => [...document.querySelectorAll("#productDetails_detailBullets_sections1 > tbody > tr")]
  .filter((row) => terms.some((term) => row.children[0]?.outerText.toLowerCase().includes(term)))
  .map((row) => row.children[1]?.outerText ?? "").join(", ")"""
PRICE = """() => parseFloat(document.querySelector(
  ".product-info-main .product-info-price .price-box.price-final_price span > span")?.outerText.slice(1)) || 0"""
REVIEWS = """() => parseInt(document.querySelector("#tab-label-reviews-title")?.outerText.split(" ")[1]) || 0"""
RATING = """() => parseFloat(document.querySelector(".rating-result")?.title.replace("%", "")) || 0"""
COMMENTS = """() => [...document.querySelectorAll(".comment")].map((one) => {
  const mine = (name) => [...one.querySelectorAll(name)].find((part) => part.closest(".comment") === one);
  const above = one.parentElement.closest(".comment") ?? document.querySelector("#main");
  return {author: mine(".fg-inherit")?.outerText ?? "", text: mine(".comment__content")?.outerText ?? "",
    time: mine("time")?.dateTime ?? "", parent: above?.querySelector(".fg-inherit")?.outerText ?? ""};
})"""


async def _text(page: Page, selector: str) -> str:
    return await page.evaluate("(selector) => document.querySelector(selector)?.textContent ?? ''", selector)


async def _text_lowercase(page: Page, selector: str) -> str:
    return (await _text(page, selector)).lower()


async def _post_url(page: Page, url: str) -> str:
    """The forum post that an address belongs to; the address itself where it belongs to none."""
    found = urllib.parse.urlsplit(url)
    parts = found.path.split("/")
    if len(parts) < 4 or parts[1] != "f":
        return url
    return f"{found.scheme}://{found.netloc}/f/{parts[2]}/{parts[3]}/"


async def _latest(page: Page, author: str) -> dict[str, str]:
    """Someone's latest comment on the page, with the author of what it replies to."""
    mine = [comment for comment in await page.evaluate(COMMENTS) if comment["author"] == author]
    return max(mine, key=lambda comment: comment["time"], default={"text": "", "parent": ""})


async def _latest_comment(page: Page, author: str) -> str:
    return (await _latest(page, author))["text"]


async def _replied_to(page: Page, author: str) -> str:
    return (await _latest(page, author))["parent"]


async def _ordered_names(page: Page) -> str:
    return " |OR| ".join(line["name"] for line in await page.evaluate(ORDERED))


async def _ordered_quantity(page: Page, sku: str) -> float:
    for line in await page.evaluate(ORDERED):
        if line["sku"] in sku.split(" |OR| "):
            count = re.search(r"\d+", line["quantity"])
            return int(count[0]) if count else 0
    return 0


async def _ordered_option(page: Page, sku: str, option: str) -> str:
    chosen = [line["options"] for line in await page.evaluate(ORDERED) if line["sku"] == sku]
    return chosen[0].get(option, "") if chosen else ""


async def _attributes(page: Page, attribute: str) -> str:
    return await page.evaluate(ATTRIBUTES, attribute.lower().split(" |or| "))


def _number(script: str) -> Helper:
    async def found(page: Page) -> float:
        return await page.evaluate(script)

    return found


HELPERS: dict[str, Helper] = {
    "get_query_text": _text,
    "get_query_text_lowercase": _text_lowercase,
    "reddit_get_post_url": _post_url,
    "reddit_get_latest_comment_content_by_username": _latest_comment,
    "reddit_get_parent_comment_username_of_latest_comment_by_username": _replied_to,
    "shopping_get_order_product_name_list": _ordered_names,
    "shopping_get_order_product_quantity": _ordered_quantity,
    "shopping_get_order_product_option": _ordered_option,
    "shopping_get_product_attributes": _attributes,
    "shopping_get_product_price": _number(PRICE),
    "shopping_get_num_reviews": _number(REVIEWS),
    "shopping_get_rating_as_percentage": _number(RATING),
}


def of_shop(url: str, user: str, password: str) -> dict[str, Helper]:
    """All helpers, those among them that ask the administration of the shop at `url` (no `/` at the end).

    Such a helper raises ValueError, naming the request, where the shop does not answer it.
    """

    async def records(page: Page, path: str, **query: str) -> Any:
        request = page.context.request
        log_in = {"username": user, "password": password}
        token = await request.post(f"{url}/rest/default/V1/integration/admin/token", data=log_in)
        head = {"Authorization": f"Bearer {await token.json()}"} if token.ok else {}
        reply = await request.get(f"{url}/rest/V1/{path}", params=query, headers=head)
        if not (token.ok and reply.ok):
            raise ValueError(f"{url}/rest/V1/{path}: {token.status}, {reply.status}; check the shop and its log-in")
        return await reply.json()

    async def latest_order(page: Page) -> str:
        order = {"searchCriteria[sortOrders][0][field]": "created_at", "searchCriteria[pageSize]": "1",
                 "searchCriteria[sortOrders][0][direction]": "DESC"}  # fmt: skip
        found = (await records(page, "orders", **order))["items"]
        if not found:
            raise ValueError(f"{url}: no order was ever placed")
        return f"{url}/sales/order/view/order_id/{int(found[0]['increment_id'])}/"

    def latest_review(read: Callable[[Any], str]) -> Helper:
        async def found(page: Page, sku: str) -> str:
            reviews = await records(page, f"products/{urllib.parse.quote(sku, safe='')}/reviews")
            return read(reviews[-1]) if reviews else ""

        return found

    async def product_page(page: Page, sku: str) -> str:
        product = await records(page, f"products/{urllib.parse.quote(sku, safe='')}")
        keys = [one["value"] for one in product.get("custom_attributes", ()) if one["attribute_code"] == "url_key"]
        return f"{url}/{keys[0]}.html" if keys else ""

    return HELPERS | {
        "shopping_get_latest_order_url": latest_order,
        "shopping_get_sku_latest_review_author": latest_review(lambda review: review["nickname"]),
        "shopping_get_sku_latest_review_rating": latest_review(lambda review: str(review["ratings"][0]["percent"])),
        "shopping_get_sku_latest_review_text": latest_review(lambda review: review["detail"]),
        "shopping_get_sku_latest_review_title": latest_review(lambda review: review["title"]),
        "shopping_get_sku_product_page_url": product_page,
    }
