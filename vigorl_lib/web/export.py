"""Training rows from episodes that succeeded: which action was taken, and where on the page is what.

The traces of `tasks.generate`'s scripted solutions become records like those of the released `web_action` and
`web_grounding` files. Saved, they are a source of `benchmarks.load`, and so of a training run's `Job`.
"""

from __future__ import annotations

import collections
import dataclasses
import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet

from vigorl_lib.images import image_size
from vigorl_lib.records import Example
from vigorl_lib.runs import write_text_atomic
from vigorl_lib.traces import clean_user_text
from vigorl_lib.web import tasks, world
from vigorl_lib.web.actions import Action, parse_action
from vigorl_lib.web.agent import Episode, Turn, folder_of, read_trace, run_tasks, screenshot_of
from vigorl_lib.web.evaluators import load_tasks
from vigorl_lib.web.policies import example_of
from vigorl_lib.web.sites import Sites

OFFLINE = ("click", "type", "scroll", "go_back", "stop")  # what the released step files know
SITES = {"shopping": "shop", "reddit": "forum"}  # as ScreenSpot calls them; what is neither is a tool


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


async def scripted_actions(
    folder: str | Path, worlds: Iterable[int], sites: Sites, skin: world.Skin = "plain", **how: Any
) -> Path:
    """Let scripts do all tasks of these worlds in a browser, and save each step: the file of `save_actions`.

    `how` goes to `run_tasks`; tasks that are done already are not done again.
    """
    folder, examples = Path(folder), []
    for number in worlds:
        solved, place = {one.id: one for one in tasks.generate(number, skin)}, folder / f"world{number}"
        place.mkdir(parents=True, exist_ok=True)
        tasks.save_tasks(place / "tasks.json", list(solved.values()))
        found = load_tasks(place / "tasks.json", sites.urls)
        scripts = {id: tasks.scripted(one.steps) for id, one in solved.items()}
        episodes = await run_tasks(found, lambda task, of=scripts: of[task.id], place, sites=sites, seed=number, **how)
        steps = action_examples(episodes, place)
        examples += [dataclasses.replace(one, id=f"world{number}/{one.id}") for one in steps]
    return save_actions(folder / "steps.jsonl", examples)


def save_actions(path: str | Path, examples: Iterable[Example]) -> Path:
    """Write `action_examples` as a .jsonl file that `benchmarks.load("visualwebarena", path)` reads.

    Their pictures go into a folder of the file's name beside it.
    """
    path, lines = Path(path), []
    for one in examples:
        talk = [{"from": "human", "value": f"<image>{one.question}"}, {"from": "gpt", "value": one.answer}]
        row = {"id": one.id, "image": _saved(path, one), "conversations": talk}
        lines.append(json.dumps(row, ensure_ascii=False) + "\n")
    write_text_atomic(path, "".join(lines))
    return path


def save_grounding(path: str | Path, examples: Iterable[Example]) -> Path:
    """Write `grounding_examples` as a parquet file that `benchmarks.load("screenspot", path)` reads.

    Their pictures go into a folder of the file's name beside it.
    """
    path, rows = Path(path), []
    for one in examples:
        rows.append({
            "image": {"bytes": None, "path": _saved(path, one)},
            "bbox": [side / whole for side, whole in zip(one.box, one.size * 2, strict=True)],
            "instruction": one.question,
            "data_type": one.kind.removeprefix("web/"),
            "data_source": SITES.get(one.id.split("/")[0], "tool"),
        })  # fmt: skip
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    return path


def _saved(path: Path, example: Example) -> str:
    """Where the example's screenshot is, from the file's folder; equal ones are written once."""
    (shot,) = example.images
    name = f"{path.stem}/{hashlib.blake2b(shot, digest_size=8).hexdigest()}.png"
    (path.parent / path.stem).mkdir(parents=True, exist_ok=True)
    (path.parent / name).write_bytes(shot)
    return name


def _succeeded(episodes: Sequence[Episode], folder: str | Path) -> Iterator[tuple[Episode, Path, list[Turn]]]:
    for episode in episodes:
        if episode.scores["clean"] == 1:
            place = folder_of(folder, episode.id)
            yield episode, place, read_trace(place)


def _written(action: Action) -> str:
    """As in the step files, which leave out that Enter follows."""
    return f"type [{action.element}] [{action.content}]" if action.verb == "type" else str(action)
