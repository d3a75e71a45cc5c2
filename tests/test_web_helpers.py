"""Helpers of the official evaluations, on pages and replies made like those of the official shop and forum."""

from __future__ import annotations

import asyncio
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from playwright.async_api import async_playwright

from tests.test_web_browser import needs_chromium
from tests.test_web_evaluators import html
from vigorl_lib.web import browser as web
from vigorl_lib.web.evaluators import check, evaluate
from vigorl_lib.web.helpers import HELPERS, of_shop

ORDER = """<table id="my-orders-table">
<tbody><tr><td class="col name"><strong>Bars</strong><dl><dt>Size</dt><dd>12 Count</dd></dl></td>
<td class="col sku"> B00 </td><td class="col price">$24.50</td><td class="col qty">Ordered2</td></tr></tbody>
<tbody><tr><td class="col name">Tea</td><td class="col sku">B01</td><td class="col qty">Ordered11</td></tr></tbody>
</table>"""
PRODUCT = """<div class="product-info-main"><div class="product-info-price"><div class="price-box price-final_price">
<span><span>$24.50</span></span></div></div></div><a id="tab-label-reviews-title">Reviews 12</a>
<div class="rating-result" title="87%"></div><table id="productDetails_detailBullets_sections1"><tbody>
<tr><th>Item Weight</th><td>3 pounds</td></tr><tr><th>Color</th><td>Red</td></tr></tbody></table>"""
POST = """<div id="main"><a class="fg-inherit">ann</a>
<article class="comment"><a class="fg-inherit">bob</a><time datetime="2024-01-02T00:00:00"></time>
<div class="comment__content">first</div>
<article class="comment"><a class="fg-inherit">me</a><time datetime="2024-01-03T00:00:00"></time>
<div class="comment__content">reply</div></article></article>
<article class="comment"><a class="fg-inherit">me</a><time datetime="2024-01-01T00:00:00"></time>
<div class="comment__content">early</div></article></div>"""
SAID = [  # the page, the helper, its arguments, what it finds
    (ORDER, "shopping_get_order_product_name_list", (), "Bars\nSize\n12 Count |OR| Tea"),
    (ORDER, "shopping_get_order_product_quantity", ("B01",), 11),
    (ORDER, "shopping_get_order_product_quantity", ("B09 |OR| B00",), 2),
    (ORDER, "shopping_get_order_product_quantity", ("B0",), 0),
    (ORDER, "shopping_get_order_product_option", ("B00", "Size"), "12 Count"),
    (ORDER, "shopping_get_order_product_option", ("B01", "Size"), ""),
    (PRODUCT, "shopping_get_product_attributes", ("color |OR| weight",), "3 pounds, Red"),
    (PRODUCT, "shopping_get_product_price", (), 24.5),
    (PRODUCT, "shopping_get_num_reviews", (), 12),
    (PRODUCT, "shopping_get_rating_as_percentage", (), 87),
    (POST, "reddit_get_latest_comment_content_by_username", ("me",), "reply"),
    (POST, "reddit_get_parent_comment_username_of_latest_comment_by_username", ("me",), "bob"),
    (POST, "reddit_get_latest_comment_content_by_username", ("nobody",), ""),
]


class Shop(BaseHTTPRequestHandler):
    """A few of Magento's replies, for the administrator whose password is "right"."""

    def do_POST(self):
        said = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.reply(200 if said == {"username": "admin", "password": "right"} else 401, "token")

    def do_GET(self):
        review = {"nickname": "Ann", "title": "Good", "detail": "Fine.", "ratings": [{"percent": 80}]}
        found = {
            "/rest/V1/orders": {"items": [{"increment_id": "000000191"}]},
            "/rest/V1/products/B0%2F1/reviews": [review | {"nickname": "Old"}, review],
            "/rest/V1/products/B2/reviews": [],
            "/rest/V1/products/B2": {"custom_attributes": [{"attribute_code": "url_key", "value": "tea"}]},
        }.get(self.path.partition("?")[0])
        self.reply(200 if found is not None and self.headers["Authorization"] == "Bearer token" else 404, found)

    def reply(self, status, value):
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(json.dumps(value).encode())

    def log_message(self, *words):
        return


@needs_chromium
def test_helpers():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Shop)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}"
    ask = of_shop(url, "admin", "right")

    async def run():
        async with async_playwright() as playwright:
            browser = await web.launch(playwright)
            page = await (await browser.new_context()).new_page()
            for source, name, arguments, found in SAID:
                await page.set_content(source)
                assert await HELPERS[name](page, *arguments) == found, name
                await page.set_content("<p>nothing of the kind</p>")
                assert await HELPERS[name](page, *arguments) in ("", 0), name
            assert await ask["shopping_get_latest_order_url"](page) == f"{url}/sales/order/view/order_id/191/"
            said = {"author": "Ann", "rating": "80", "text": "Fine.", "title": "Good"}
            for what, text in said.items():
                assert await ask[f"shopping_get_sku_latest_review_{what}"](page, "B0/1") == text
                assert await ask[f"shopping_get_sku_latest_review_{what}"](page, "B2") == ""
            assert await ask["shopping_get_sku_product_page_url"](page, "B2") == f"{url}/tea.html"
            with pytest.raises(ValueError, match="products/B9/reviews: 200, 404; check the shop"):
                await ask["shopping_get_sku_latest_review_text"](page, "B9")
            with pytest.raises(ValueError, match="401, 404; check the shop and its log-in"):
                await of_shop(url, "admin", "wrong")["shopping_get_latest_order_url"](page)

            task = html("func:shopping_get_sku_latest_review_rating('B0/1')", required_values=[">= 80"])
            with pytest.raises(ValueError, match="helpers.of_shop"):
                check(task, None, None)
            assert await evaluate(task, "", page, "clean", helpers=ask) == 1
            await page.set_content(ORDER)
            task = html("func:shopping_get_order_product_quantity(__page__, 'B01')", required_values=["== 11"])
            assert await evaluate(task, "", page, "official") == await evaluate(task, "", page, "clean") == 1
            await browser.close()

    try:
        asyncio.run(run())
    finally:
        server.shutdown()
        server.server_close()
