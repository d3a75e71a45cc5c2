"""Self-contained HTML pages: a template, its data as JSON, and a policy that lets nothing else run or load.

The data stand in a script element that no browser runs; the template's one script and one style are named by their
hashes in the content security policy, and images come from inside the page. What a model wrote stays data: the
templates put it on the page as `textContent`.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
from typing import Any

HEAD = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{{policy}}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{title}}</title>
"""


def filled(template: str, title: str, data: dict[str, Any]) -> str:
    """HEAD and the template, which begins with its style, with policy, title and `{{data}}` filled in.

    Raises ValueError on NaN and infinity.
    """
    parts = {"policy": _policy(template), "title": html.escape(title), "data": _embed(data)}
    # One pass: what was filled in is not looked at again.
    page = re.sub(r"\{\{(policy|title|data)\}\}", lambda match: parts[match[1]], HEAD + template)
    return page.encode("utf-8", "replace").decode()


def _policy(template: str) -> str:
    """The content security policy: only the template's own script and style, only images inside the page."""
    script, style = (
        base64.b64encode(hashlib.sha256(re.search(pattern, template, re.DOTALL)[1].encode()).digest()).decode()
        for pattern in (r"<script>(.*?)</script>", r"<style>(.*?)</style>")
    )
    return (
        f"default-src 'none'; script-src 'sha256-{script}'; style-src 'sha256-{style}'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


def _embed(data: dict[str, Any]) -> str:
    """JSON that can not end the script element that it stands in: `</script>` and `<!--` have no `<` left."""
    text = json.dumps(data, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
