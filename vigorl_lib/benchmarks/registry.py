"""Load, grade and aggregate by name: `from vigorl_lib.benchmarks import registry as benchmarks`."""

from __future__ import annotations

import contextlib
import dataclasses
import random
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from vigorl_lib import prompts
from vigorl_lib.benchmarks import (
    ai2d,
    blink,
    gqa,
    mathvision,
    own,
    pope,
    realworldqa,
    released,
    robospatial,
    sat2,
    screenspot,
    sources,
    visualwebarena,
    vstar,
    wemath,
)
from vigorl_lib.benchmarks.family import Family, Grade, Protocol, Reply
from vigorl_lib.benchmarks.graders import scores_by_kind
from vigorl_lib.grounding import Frame
from vigorl_lib.images import open_image
from vigorl_lib.prompts import Mode
from vigorl_lib.records import Example
from vigorl_lib.stats import share

_SPATIAL, _GENERAL = (sat2, blink, robospatial, vstar), (pope, gqa, ai2d, realworldqa, mathvision, wemath)
FAMILIES: dict[str, Family] = {
    family.name: family
    for family in (
        *(module.FAMILY for module in _SPATIAL),
        *screenspot.FAMILIES,
        visualwebarena.FAMILY,
        *(module.FAMILY for module in _GENERAL),
    )
}
RESOLUTIONS = (0.25, 4)  # lowest and highest of a twin: from some hundred pixels along a side to thousands
DRAWN = ("twin", "nano")  # sources that are made, not read
LIST_KNOBS = ("radii", "hops", "line")  # knobs of several numbers
TWIN_SPLITS = ("train", "dev", "test")  # they never share a scene: the split is part of every scene's seed


OWN = own.FAMILY
UNDRAWN = {family.name: family for family in (OWN, released.FAMILY)}  # read from files alone: they have no twin


def names() -> tuple[str, ...]:
    """The benchmarks there are."""
    return tuple(FAMILIES)


def family_of(name: str) -> Family:
    """What a benchmark is made of, those without a twin included. Raises ValueError on an unknown one."""
    if name in UNDRAWN:
        return UNDRAWN[name]
    if name not in FAMILIES:
        raise ValueError(f"unknown benchmark {name!r}; known: {', '.join(FAMILIES)}, or the path of a file of your own")
    return FAMILIES[name]


def protocols(name: str) -> tuple[Protocol, ...]:
    """The protocols that grade a benchmark's replies where they are texts. Raises ValueError on an unknown one."""
    family = family_of(name)
    return tuple(protocol for protocol in family.graders if protocol not in family.losses)


def load(
    name: str | Path,
    source: str | Path = "twin",
    *,
    split: str = "test",
    limit: int | None = None,
    seed: int = 0,
    revision: str | None = None,
    circular: bool = False,
    left_out: list[str] | None = None,
    **knobs: Any,
) -> list[Example]:
    """The examples of one split; images stay in their files, and are opened one at a time by whoever needs them.

    `name` is one of `names()`, "released" (`benchmarks/released.py`), or the path of a file in the schema of
    `benchmarks/own.py`, which gives all of its rows ("own" with that path as `source`: those of one split). `source` is
    "twin" (procedural, needs `limit`; about 15 ms an item), "nano" (a twin's other skin, for the nano base: pictures of
    its world in place of words and numbers that must be read; a twin without these has none), "hub", or the path of a
    file or of a folder laid out like the hub's. From hub and path, `limit` draws a sample by `seed`. `seed` also sets
    the twin's scenes and the order of the options. `revision` is the hub's commit. Without it the pinned one is
    read, else the one that was read before with this outputs folder (`sources.download`).

    `circular` asks each question in every rotation of its options (SAT), a group of examples in place of one.

    `knobs` make a twin easier or harder. All twins have `resolution` (times as many pixels along each side; of the
    ScreenSpots a larger screen, with controls of the same size). Besides:

    * `radii` (smallest and largest, of things, in pixels at resolution 1): SAT-2, V*Bench, POPE, GQA, RoboSpatial,
      RealWorldQA, and in BLINK the nine tasks about scenes;
    * `distractors` (so many more things, which no question is about): these but BLINK, which has scenes that are full;
    * `hops` (numbers of moves): SAT-2 and V*Bench;
    * `sizes` (share of the questions that ask which of two things is larger): SAT-2;
    * `line` (least and largest height of a line in pixels, from which all sizes of controls follow) and `windows` (of a
      desktop): the ScreenSpots.

    AI2D, MathVision, We-Math and VisualWebArena have no more: their figures and pages are laid out for just what is in
    them, and what is asked about gets smaller with the resolution. Nano skins have no knobs. A `source` may name knobs
    too, for a parameter file: "twin?radii=13,16&hops=0,1".

    Raises ValueError naming file and row on whatever is not as expected, FileNotFoundError on a missing file
    or download. With a list as `left_out`, every image is opened once, rows that can not be asked are left out instead,
    and the list says which and why: count them beside every figure.
    """
    if isinstance(name, Path) or (name not in FAMILIES | UNDRAWN and Path(name).exists()):
        name, source, split = OWN.name, Path(name), own.ALL
    family = family_of(name)
    if limit is not None and limit < 1:
        raise ValueError(f"limit is {limit}; it must be at least 1, or None for all rows")
    if circular and family.circular is None:
        raise ValueError(f"{name!r} is not asked in circular orders; leave circular out")
    if is_drawn(source):
        source, _, query = str(source).partition("?")
        return list(_twins(family, source, split, limit, seed, circular, {**_knobs(query), **knobs}))
    if knobs:
        raise ValueError(f"{', '.join(knobs)}: only a twin has knobs, not {source!r}")
    folder = sources.download(family.hub, split, revision) if source == "hub" else Path(source)
    counts = family.hub.rows.get(split, ()) if source == "hub" else ()
    rows = sources.rows_of(family, folder, split, limit=limit, seed=seed, counts=counts)
    found: list[Example] = []
    seen: dict[tuple[Any, ...], int] = {}
    opened: set[Any] = set()  # several rows may share an image
    for path, number, row in rows:
        try:
            with _at(f"{path}, row {number}"):
                _once(row, family.key, seen, number)
                examples = _examples(family, row, f"{name}-{split}-{number}", seed, circular)
                for image in () if left_out is None else set(examples[0].images) - opened:
                    open_image(image)
                    opened.add(image)
        except (ValueError, FileNotFoundError) as error:
            if left_out is None:
                raise
            left_out.append(str(error))
        else:
            found += examples
    return found


def is_drawn(source: str | Path) -> bool:
    """Whether a source is a twin in one of its skins, with or without knobs, and not rows to be read."""
    return str(source).partition("?")[0] in DRAWN


def drawn_as(ids: Sequence[str]) -> tuple[str, str, int, int]:
    """What to load for a twin's examples to be among it: benchmark, split, seed and limit, read off their ids.

    An id is <benchmark>-<skin>-<split>-s<seed>-<number>, and may go on (knobs, a benchmark's own mark).
    """
    parts = [id.split("-") for id in ids]
    name, _, split, seed = parts[0][:4]
    return name, split, int(seed.removeprefix("s")), 1 + max(int(part[4]) for part in parts)


def _knobs(query: str) -> dict[str, Any]:
    """The knobs of "radii=13,16&distractors=2". Raises ValueError on what is no number."""
    found: dict[str, Any] = {}
    for name, _, written in (part.partition("=") for part in query.split("&") if part):
        try:
            numbers = [float(number) if "." in number else int(number) for number in written.split(",")]
        except ValueError:
            raise ValueError(f"{name}={written!r} is no knob of a twin; write numbers, as in radii=13,16") from None
        if len(numbers) > 1 and name not in LIST_KNOBS:
            raise ValueError(f"{name}={written!r}: one number; only {', '.join(LIST_KNOBS)} have several")
        found[name] = tuple(numbers) if name in LIST_KNOBS else numbers[0]
    return found


def prompt(example: Example, variant: Mode = "grounded") -> list[dict[str, Any]]:
    """What a policy is asked, as chat messages without the picture: "direct", "vanilla", "grounded" or "zoom".

    These are the nano model's few words; `prompts.conversation` takes others, and the picture.
    """
    return prompts.conversation(example, None, variant)


def from_row(name: str, row: Mapping[str, Any], *, id: str = "row", seed: int = 0) -> Example:
    """One raw row of the hub's schema as a record. Raises ValueError saying what differs."""
    with _at(f"{name}, {id}"):
        (example,) = _examples(family_of(name), row, id, seed, circular=False)
    return example


def grade(
    name: str, reply: Reply | None, example: Example, protocol: Protocol = "clean", *, frame: Frame | None = None
) -> Grade:
    """One reply, graded by one protocol of the benchmark.

    `reply` is a text, the turns of a rollout in order, or, where the official metric is a likelihood
    (V*Bench), one loss per option in the order of `example.options`. None, a reply that never came, is
    wrong ("missing"). `frame` is the one that points in the reply are written in (`policy.View.frame`); without it
    they are `original` pixels.

    Raises ValueError on a benchmark or protocol that does not exist, on an example of another benchmark, and
    on a reply of the wrong kind; never on what a model wrote.
    """
    family = family_of(name)
    if example.benchmark != name:
        raise ValueError(f"example {example.id!r} belongs to {example.benchmark!r}, not to {name!r}")
    if protocol not in family.graders:
        raise ValueError(f"{name!r} has no protocol {protocol!r}; known: {', '.join(family.graders)}")
    if reply is None:
        found = Grade(0.0, None, "missing")
    else:
        found = family.graders[protocol](reply, in_frame(example, frame) if frame else example)
    return Grade(
        found.score, found.extracted, found.why, example.id, example.kind, example.group, example.answer, protocol
    )


def aggregate(name: str, grades: Sequence[Grade], protocol: Protocol | None = None) -> dict[str, Any]:
    """The benchmark's figures, as plain JSON values; one grade per example, all by one protocol (`protocol`, if given).

    * `accuracy` over all examples (micro) and `kinds` -> the same per kind: `value`, the 95 % Wilson
      interval `low` … `high`, `n`;
    * `missing`: replies that never came, `malformed`: those in which no offered answer could be read (both
      count as wrong); `reasons`: how often each `why` occurs;
    * what the benchmark reports besides (`figures` in its file).

    Raises ValueError on no grades, repeated ids, or grades by another protocol.
    """
    family = family_of(name)
    repeated = [id for id, count in Counter(graded.id for graded in grades).items() if count > 1]
    protocols = {graded.protocol for graded in grades}
    if not grades or repeated or len(protocols | ({protocol} if protocol else set())) > 1:
        raise ValueError(
            f"{name!r}: {len(grades)} grades by {sorted(map(str, protocols))}, repeated ids {repeated[:3]}; give every "
            f"example one grade by {protocol or 'one protocol'}, that of None where a reply is missing"
        )
    reasons = Counter(graded.why for graded in grades)
    return {
        "protocol": grades[0].protocol,
        "accuracy": share(graded.score for graded in grades),
        "kinds": {kind: share(of_kind) for kind, of_kind in scores_by_kind(grades).items()},
        "missing": reasons["missing"],
        "malformed": len(grades) - sum(reasons[why] for why in ("right", "wrong", "missing")),
        "reasons": dict(sorted(reasons.items())),
        **(family.figures(grades) if family.figures else {}),
    }


def right(example: Example, answer: str, protocol: Protocol = "clean", *, frame: Frame | None = None) -> bool:
    """Whether an answer's text alone is right, as a search's judge asks; the rest as in `grade`."""
    if any(tag in answer for tag in ("<answer>", "</answer>")):
        return False
    return grade(example.benchmark, f"<answer> {answer} </answer>", example, protocol, frame=frame).score == 1


def chance(example: Example) -> float:
    """How often a blind guess is right: an option of those offered, or a point anywhere in the picture.

    0 where the answer is a word of one's own: nobody guesses that.
    """
    if example.options:
        return 1 / len(example.options)
    if not example.box and not example.polygon:
        return 0.0
    left, top, right, bottom = example.box or (0, 0, 0, 0)
    corners = example.polygon or ((left, top), (right, top), (right, bottom), (left, bottom))
    pairs = zip(corners, (*corners[1:], *corners[:1]), strict=True)
    area = abs(sum(x1 * y2 - x2 * y1 for (x1, y1), (x2, y2) in pairs)) / 2
    return area / (example.size[0] * example.size[1])


def in_frame(example: Example, frame: Frame) -> Example:
    """The example with its place, if it asks for one, and its size in pixels of `frame` instead of `original` ones."""
    if not example.box and not example.polygon:
        return example
    width, height = example.size
    if frame.window != (0, 0, width, height):
        raise ValueError(f"example {example.id!r}: the frame {frame.name!r} does not show its whole picture")
    # Exact where the result is a whole number, so that a point on a border stays on it.
    polygon = tuple((x * frame.width / width, y * frame.height / height) for x, y in example.polygon)
    box = example.box and tuple(
        side * length / whole
        for side, length, whole in zip(example.box, (frame.width, frame.height) * 2, (width, height) * 2, strict=True)
    )
    return dataclasses.replace(example, polygon=polygon, box=box, size=(frame.width, frame.height))


def _twins(
    family: Family,
    source: str,
    split: str,
    limit: int | None,
    seed: int,
    circular: bool,
    knobs: Mapping[str, Any],
) -> Iterator[Example]:
    make = family.nano if source == "nano" else family.twin
    if make is None and family.twin:
        raise ValueError(
            f'{family.name!r} has no nano skin: no words are to be read in its twin, so take source "twin"'
        )
    if make is None:
        raise ValueError(f"{family.name!r} has no {source}: give the path of its rows as the source")
    if split not in TWIN_SPLITS:
        raise ValueError(f"a twin has the splits {', '.join(TWIN_SPLITS)}, not {split!r}")
    if limit is None:
        raise ValueError(f"the twin of {family.name!r} has no end: give a limit")
    if unknown := set(knobs) - set(family.knobs if source == "twin" else ()):
        known = ", ".join(family.knobs) if source == "twin" and family.knobs else "none"
        raise ValueError(f"the {source} of {family.name!r} has no knob {', '.join(sorted(unknown))}; known: {known}")
    resolution = knobs.get("resolution", 1)
    if not RESOLUTIONS[0] <= resolution <= RESOLUTIONS[1]:
        raise ValueError(f"resolution is {resolution}; a twin is drawn at {RESOLUTIONS[0]} to {RESOLUTIONS[1]} times")
    turned = "".join(f"-{name}{value}" for name, value in sorted(knobs.items())).replace(" ", "")
    for number in range(limit):
        rng = random.Random(sources.digest(f"{family.name}/{split}/{seed}/{number // family.block}"))
        row, truth = make(rng, number, **knobs)
        id = f"{family.name}-{source}-{split}-s{seed}-{number}{turned}"
        with _at(id):
            examples = _examples(family, row, id, seed, circular)
        for example in examples:
            yield dataclasses.replace(example, truth=truth)


def _examples(family: Family, row: Mapping[str, Any], id: str, seed: int, circular: bool) -> list[Example]:
    row = sources.checked(row, family.columns)
    return family.circular(row, id) if circular else [family.example(row, id, seed)]


def _once(row: Mapping[str, Any], key: Sequence[str], seen: dict[tuple[Any, ...], int], number: int) -> None:
    """Raises ValueError where a row before had the same key; adds it to those that were `seen`."""
    if not key:
        return
    row = sources.checked(row, key)
    values = tuple(row[column] for column in key)
    if seen.setdefault(values, number) != number:
        told = f"{' and '.join(key)} {' and '.join(map(repr, values))}"
        raise ValueError(f"the {told} is also that of row {seen[values]}")


@contextlib.contextmanager
def _at(where: str) -> Iterator[None]:
    """Says where the row is that something is wrong with."""
    try:
        yield
    except (ValueError, FileNotFoundError) as error:
        kind = FileNotFoundError if isinstance(error, FileNotFoundError) else ValueError
        raise kind(f"{where}: {error}; leave the row out, or correct it") from error
