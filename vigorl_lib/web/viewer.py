"""An episode as one HTML page that needs neither kernel nor network: what the agent saw, wrote and did at each step."""

from __future__ import annotations

import base64
import dataclasses
import io
from pathlib import Path

from vigorl_lib.images import open_image
from vigorl_lib.pages import filled
from vigorl_lib.web.agent import Episode, read_trace, screenshot_of

TEMPLATE = Path(__file__).with_name("viewer.html")
WIDTH = 900  # pixels of a screenshot in the page


def episode_html(episode: Episode, folder: str | Path) -> str:
    """The episode whose trace and screenshots lie in `folder`, as a self-contained document.

    An episode that broke before its first step gives a page without steps. Raises FileNotFoundError where a screenshot
    of the trace is missing, ValueError where one is damaged.
    """
    folder = Path(folder)
    turns = read_trace(folder) if (folder / "trace.jsonl").exists() else []
    steps = [dataclasses.asdict(turn) | {"picture": _picture(screenshot_of(turn, folder))} for turn in turns]
    data = {**dataclasses.asdict(episode), "turns": steps}
    return filled(TEMPLATE.read_text(encoding="utf-8"), f"Episode {episode.id}", data)


def _picture(shot: bytes) -> str:
    image = open_image(shot)
    image.thumbnail((WIDTH, 4 * WIDTH))
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", quality=72, method=2)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode()
