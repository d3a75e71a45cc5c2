"""Training rows from episodes that succeeded: which action was taken, and where on the page is what.

Run the scripted solutions of `tasks.generate`, and their traces become records like those of the released `web_action`
and `web_grounding` files. The pictures stay where the traces are.
"""

from __future__ import annotations

import collections
from collections.abc import Iterator, Sequence
from pathlib import Path

from vigorl_lib.images import image_size
from vigorl_lib.records import Example
from vigorl_lib.traces import clean_user_text
from vigorl_lib.web.actions import Action, parse_action
from vigorl_lib.web.agent import Episode, Turn, folder_of, read_trace, screenshot_of
from vigorl_lib.web.policies import example_of

OFFLINE = ("click", "type", "scroll", "go_back", "stop")  # what the released step files know


def action_examples(episodes: Sequence[Episode], folder: str | Path) -> Iterator[Example]:
    """Each step of the episodes that scored 1 by `clean`, as an example of the benchmark `visualwebarena`.

    `folder` is the one of `agent.run_tasks`. Steps that could not be done, and those of other verbs than `OFFLINE`, are
    left out. Raises FileNotFoundError without a trace.
    """
    for episode, place, turns in _succeeded(episodes, folder):
        said = [turn.said for turn in turns]
        for turn in turns:
            action = parse_action(turn.action)
            if turn.reason is None and action is not None and action.verb in OFFLINE:
                id, shot = f"{episode.id}-{turn.step}", screenshot_of(turn, place)
                yield example_of(id, shot, episode.intent, said[: turn.step], action=_written(action))


def grounding_examples(episodes: Sequence[Episode], folder: str | Path) -> Iterator[Example]:
    """Each mark that says what it is, once per address and text, as an example of the benchmark `screenspot`.

    A text that several marks of a page have is left out. Boxes are pixels of the screenshot, marks and all.
    """
    seen: set[tuple[str, str]] = set()
    for episode, place, turns in _succeeded(episodes, folder):
        for turn in turns:
            count = collections.Counter(text for _, text, _ in turn.places)
            shot = screenshot_of(turn, place)
            for tag, text, box in turn.places:
                if text and count[text] == 1 and (turn.url, text) not in seen:
                    seen.add((turn.url, text))
                    yield Example(
                        id=f"{episode.id}-{turn.step}-{len(seen)}",
                        benchmark="screenspot",
                        kind=f"web/{'icon' if tag == 'IMG' else 'text'}",
                        question=clean_user_text(text),
                        options=(),
                        answer="",
                        images=(shot,),
                        box=tuple(box),
                        size=image_size(shot),
                    )


def _succeeded(episodes: Sequence[Episode], folder: str | Path) -> Iterator[tuple[Episode, Path, list[Turn]]]:
    for episode in episodes:
        if episode.scores["clean"] == 1:
            place = folder_of(folder, episode.id)
            yield episode, place, read_trace(place)


def _written(action: Action) -> str:
    """As in the step files, which leave out that Enter follows."""
    return f"type [{action.element}] [{action.content}]" if action.verb == "type" else str(action)
