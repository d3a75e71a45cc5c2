"""HTML pages that need neither kernel nor network: a search tree, or what interventions did to replies.

A page (`explorer.html` and `gallery.html` are the templates, `pages.filled` fills them in) holds its data as JSON and
draws them with the one script that may run. All text of the model goes through `textContent`.
"""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib as mpl

from vigorl_lib.answers import last_answer
from vigorl_lib.figures import data_url, most_visited_path, tree_layout
from vigorl_lib.grounding import Frame
from vigorl_lib.images import open_image, picture_of
from vigorl_lib.pages import filled
from vigorl_lib.records import Example
from vigorl_lib.search.mcts import SearchSettings, history, select, ucb
from vigorl_lib.search.tree import Node, Tree, walk

if TYPE_CHECKING:
    from IPython.display import HTML

TEMPLATE, GALLERY = (Path(__file__).with_name(f"{name}.html") for name in ("explorer", "gallery"))
SHOWN = 340  # the longer side of the image in the page, pixels; stored at up to twice as many


def tree_html(
    tree: Tree,
    image: str | Path | bytes | None = None,
    frame: Frame | None = None,
    *,
    settings: SearchSettings | None = None,
) -> str:
    """The tree as a self-contained HTML document; write it to a file, or give it to `show`.

    `image` is a path or the encoded file of the example's image (its pixels are the `original` frame), and
    `frame` is the one that the policy writes its points in. `settings` are those that the tree was grown
    with (default: `SearchSettings()`): the selection scores come from them, and the slider over simulations, which a
    tree that was grown otherwise does not get. The same arguments always give the same text.

    Raises ValueError where there is an image without a frame, or one that does not cover the image.
    """
    settings = settings or SearchSettings()
    places = tree_layout(tree.root)
    numbers = {path: number for number, path in enumerate(places)}
    picture = None if image is None else _picture(tree, image, frame)
    nodes = []
    for path, node in tree.nodes():
        depth, row = places[path]
        family = {
            "parent": numbers[path[:-1]] if path else None,
            "children": [numbers[(*path, index)] for index in range(len(node.children))],
        }
        points = [_place(*point, frame) for point in node.points] if picture else []
        nodes.append({**_facts(node), **family, "depth": depth, "row": row, "points": points})
    roots = _roots(tree, settings)
    states = [dict(walk(root)) for root in roots]
    data = {
        **{key: vars(tree)[key] for key in ("id", "question", "answer", "simulations", "calls", "tokens")},
        "rejected": tree.rejected,
        "unanswered": tree.unanswered,
        "image": picture,
        "shades": [_shade(k / 8) for k in range(9)],
        "formula": _formula(settings),
        "most_visited": numbers[most_visited_path(tree.root)],
        "next": [numbers[select(root, settings)] for root in roots],
        "nodes": nodes,
        "states": [[_state(state[path], settings) if path in state else None for path in numbers] for state in states],
    }
    return filled(TEMPLATE.read_text(encoding="utf-8"), f"Search tree {tree.id}", data)


def suite_html(found: Mapping[str, Mapping[str, Any]], examples: Sequence[Example]) -> str:
    """What `faithfulness.suite` found, as a self-contained HTML document: each reply as it is beside its changed ones.

    `found` maps an intervention to its `turns`, one reply an example or None, the first of them being "as it is".
    Pictures are the examples' own, whatever an intervention showed in their place. Raises ValueError where there is
    nothing to show, or replies are missing.
    """
    if not found or not examples or any(len(row["turns"]) != len(examples) for row in found.values()):
        raise ValueError(
            f"a gallery needs examples, and a reply or None for each of them; got {len(examples)} examples"
        )
    items = []
    for number, example in enumerate(examples):
        given = {name: row["turns"][number] for name, row in found.items()}
        replies = [
            {"name": name, "turns": turns and list(turns), "answer": last_answer(turns[-1]) if turns else None}
            for name, turns in given.items()
        ]
        told = {"id": example.id, "question": example.question, "truth": example.answer}
        items.append({**told, "picture": data_url(picture_of(example), SHOWN), "replies": replies})
    return filled(GALLERY.read_text(encoding="utf-8"), "What an intervention changes", {"items": items})


def show(page: str, height: int = 760) -> HTML:
    """The page in a frame of its own inside a notebook: `height` pixels high, shut off from the notebook."""
    from IPython.display import HTML  # an extra: the library installs without it

    return HTML(
        f'<div><iframe srcdoc="{html.escape(page)}" sandbox="allow-scripts" width="100%" height="{height}" '
        'style="border:1px solid #ddd;background:white" title="search tree"></iframe></div>'
    )


def _roots(tree: Tree, settings: SearchSettings) -> list[Node]:
    """The root after each simulation; only the last one of a tree that was grown with other settings."""
    try:
        return history(tree, settings)
    except ValueError:  # a page of the end is still a page, and it has no slider
        return [tree.root]


def _facts(node: Node) -> dict[str, Any]:
    """What the page says about a node at any time."""
    return {
        "text": node.text,
        "terminal": node.terminal,
        "answer": node.answer,
        "simulation": node.simulation,
        "rejected": node.rejected,
        "rollouts": [vars(rollout) for rollout in node.rollouts],
    }


def _state(node: Node, settings: SearchSettings) -> dict[str, Any]:
    """What the page says about a node after some simulation, with the selection scores of its children."""
    scores = [ucb(node, child, settings) for child in node.children]
    return {
        "value": node.value,
        "visits": node.visit_count,
        "revisits": node.revisits,
        "colour": _shade(node.value),
        "dark": node.value < 0.6,
        "scores": [f"{score:.2f}" if math.isfinite(score) else "∞" for score in scores],
        "chosen": scores.index(max(scores)) if scores else None,
    }


def _picture(tree: Tree, image: str | Path | bytes, frame: Frame | None) -> dict[str, Any]:
    """The image as the page shows it: `width` and `height` are those of the drawing over it."""
    picture = open_image(image, name=f"image of tree {tree.id!r}" if isinstance(image, bytes) else "")
    if frame is None or frame.window != (0, 0, picture.width, picture.height):
        raise ValueError(
            f"tree {tree.id!r}: its image has {picture.width} x {picture.height} pixels, its frame is "
            f"{frame}; give the original image and the frame, of all of it, that the policy writes"
        )
    width, height = (max(1, round(side * SHOWN / max(picture.size))) for side in picture.size)
    note = f"points in pixels of the {frame.name} frame, {frame.width} × {frame.height}"
    return {"source": data_url(picture, 2 * SHOWN), "width": width, "height": height, "note": note}


def _place(x: int, y: int, frame: Frame) -> tuple[float, float, bool]:
    """A point as parts of the image's sides, moved to the border if outside, and whether it is inside."""
    across, down = x / frame.width, y / frame.height
    inside = 0 <= across <= 1 and 0 <= down <= 1
    return round(min(max(across, 0), 1), 5), round(min(max(down, 0), 1), 5), inside


def _shade(value: float) -> str:
    return mpl.colors.to_hex(mpl.colormaps["viridis"](float(value)))


def _formula(settings: SearchSettings) -> str:
    inside = "ln(N + 1) / (n + 1)" if settings.ucb == "released" else "ln N / n"
    return f"value + {settings.exploration:g} · √({inside})"
