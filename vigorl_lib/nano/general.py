"""Questions about scenes of the nano world, in the form of POPE, GQA, RoboSpatial-Home and RealWorldQA.

Text and answer are drawn first, independently of each other; then scenes are drawn until one makes them true. So the
words of a question say nothing about its answer. Names that a question refers to occur once in its scene. What is
compared differs visibly: sizes by `SIZE_MARGIN`, places by whole boxes. All places are `original` pixels (672 x 672).
"""

from __future__ import annotations

import dataclasses
import itertools
import math
import random
from collections.abc import Mapping, Sequence
from typing import Any

from vigorl_lib.nano import twins, world
from vigorl_lib.nano.drawing import Question, png
from vigorl_lib.nano.twins import SIZE_MARGIN
from vigorl_lib.nano.world import COLOURS, DIRECTIONS, NAMES, OPPOSITE, RADII, SHAPES, SIDE, Scene, Thing

YES_NO = ("yes", "no")
RELATIONS = {"left": "to the left of", "right": "to the right of", "above": "above", "below": "below"}
SMALL = 0.76  # of the largest radius: up to here a thing is small; large ones, by SIZE_MARGIN larger, then still differ


# --- scenes --------------------------------------------------------------------------------------------


def with_names(scene: Scene, names: Mapping[int, str]) -> Scene:
    """The scene with other names for the things of these indices."""
    things = list(scene.things)
    for index, name in names.items():
        colour, shape = name.split()
        things[index] = dataclasses.replace(things[index], colour=colour, shape=shape)
    return dataclasses.replace(scene, things=tuple(things))


def with_sizes(
    rng: random.Random, scene: Scene, large: int, small: Sequence[int], radii: tuple[int, int] = RADII
) -> Scene:
    """The scene with one thing that is visibly larger than some others; its size and theirs are among `radii`."""
    middle = max(radii[0], math.floor(SMALL * radii[1]))
    found = {large: rng.randint(math.ceil(SIZE_MARGIN * middle), radii[1])}
    found |= {index: rng.randint(radii[0], middle) for index in small}
    things = [dataclasses.replace(thing, radius=found.get(k, thing.radius)) for k, thing in enumerate(scene.things)]
    return dataclasses.replace(scene, things=tuple(things))


def truth(scene: Scene, **more: Any) -> dict[str, Any]:
    """Every thing's box (original pixels) and name, and what else there is to say, as JSON values."""
    boxes, names = [list(thing.box) for thing in scene.things], [thing.name for thing in scene.things]
    return {"boxes": boxes, "names": names, **more}


def about(scene: Scene, kind: str, text: str, options: Sequence[str], answer: str, **more: Any) -> Question:
    """A question about one scene."""
    return Question(kind, text, tuple(options), answer, lambda: [world.draw(scene)], truth(scene, **more))


def others(rng: random.Random, count: int, *without: str) -> list[str]:
    """So many names, of which none is in `without`; they may repeat."""
    return rng.choices([name for name in NAMES if name not in without], k=count)


def scene_of(
    rng: random.Random,
    names: Sequence[str],
    *without: str,
    radii: tuple[int, int] = RADII,
    distractors: int = 0,
) -> Scene:
    """These things, of any of the `radii` (original pixels), and so many `distractors` with no name in `without`."""
    return world.make_scene(rng, names=[*names, *others(rng, distractors, *without)], radii=radii)


def lies(thing: Thing, direction: str, other: Thing) -> bool:
    """Whether the whole box of `thing` lies in a direction from the whole box of `other`."""
    along_x, along_y = DIRECTIONS[direction]
    return (thing.x - other.x) * along_x + (thing.y - other.y) * along_y > thing.radius + other.radius


def room(scene: Scene, index: int, direction: str, *, half: int, moved: int | None = None) -> int:
    """How far a strip of 2 * half + 1 pixels goes from a thing's box in a direction, to the next box or the border.

    The thing with the index `moved` is not in the way.
    """
    thing, (along_x, along_y) = scene.things[index], DIRECTIONS[direction]
    ends = [SIDE - 1 - thing.x, thing.x, SIDE - 1 - thing.y, thing.y][list(DIRECTIONS).index(direction)]
    free = [ends - thing.radius]
    for number, other in enumerate(scene.things):
        dx, dy = other.x - thing.x, other.y - thing.y
        along, off = dx * along_x + dy * along_y, abs(dx * along_y) + abs(dy * along_x)
        if number not in (index, moved) and along > 0 and off <= other.radius + half:
            free.append(along - thing.radius - other.radius - 1)
    return min(free)


# --- POPE ----------------------------------------------------------------------------------------------

POPE = ("adversarial", "popular", "random")
POPULAR = tuple(name for name in NAMES if name.split()[1] in ("circle", "square"))
POPULARITY = 3  # how many times as often a popular name occurs


def pope(rng: random.Random, kind: str, *, radii: tuple[int, int] = RADII, distractors: int = 0) -> Question:
    """Is there such a thing? Half of the answers are yes, whatever is asked for.

    As in POPE, `popular` asks for what pictures often hold, and `random` for anything. POPE's `adversarial` asks for
    what often occurs beside the things that are there; here one thing has the colour and one the shape of what is
    asked for, so that a look at either is not enough. POPE asks six questions about each of 500 photographs; here
    every question has a picture of its own. `radii` are original pixels; `distractors` are not what is asked for.
    """
    twins.check_distractors(distractors, fullest=6)
    asked, answer = rng.choice(POPULAR if kind == "popular" else NAMES), rng.choice(YES_NO)
    absent = [name for name in NAMES if name != asked]
    likely = [POPULARITY if name in POPULAR else 1 for name in absent]
    names = rng.choices(absent, likely, k=rng.randint(3, 6) + distractors)
    if kind == "adversarial":
        colour, shape = asked.split()
        names[0] = f"{rng.choice([other for other in COLOURS if other != colour])} {shape}"
        names[1] = f"{colour} {rng.choice([other for other in SHAPES if other != shape])}"
    if answer == "yes":
        names[-1] = asked  # in place of another, so that the number of things says nothing
    scene = world.make_scene(rng, names=names, radii=radii)
    return about(scene, kind, f"Is there a {asked} in the image?", YES_NO, answer, asked=asked)


def pope_row(question: Question) -> dict[str, Any]:
    """The question with the columns of `lmms-lab/POPE`."""
    (image,) = question.draw()
    return {"question": question.text, "answer": question.answer, "image": png(image), "category": question.kind}


# --- GQA -----------------------------------------------------------------------------------------------

GQA = ("choose", "compare", "logical", "query", "verify")


def _neighbour(rng: random.Random, kind: str, **knobs: Any) -> Question:
    """The colour or shape of the nearest thing in a direction: asked openly, out of two, or as a guess to confirm."""
    start, direction = rng.choice(NAMES), rng.choice(list(DIRECTIONS))
    word, values = rng.choice([("color", tuple(COLOURS)), ("shape", SHAPES)])
    value, wrong = rng.sample(values, 2)
    found = f"the nearest object {RELATIONS[direction]} the {start}"
    if kind == "query":
        text, options, answer = f"What {word} is {found}?", values, value
    elif kind == "choose":
        options, answer = tuple(rng.sample((value, wrong), 2)), value
        a, b = (option if word == "color" else f"a {option}" for option in options)
        text = f"Is {found} {a} or {b}?"
    else:
        options, answer = YES_NO, rng.choice(YES_NO)
        said = value if answer == "yes" else wrong
        text = f"Is {found} {said if word == 'color' else f'a {said}'}?"
    place = 0 if word == "color" else 1
    end = rng.choice([name for name in NAMES if name.split()[place] == value and name != start])
    while True:
        scene = scene_of(rng, [start, *others(rng, rng.randint(4, 7), start)], start, **knobs)
        index = world.next_thing(scene, scene.things[0].x, scene.things[0].y, direction)
        if index is not None and index > 0:
            return about(with_names(scene, {index: end}), kind, text, options, answer, route=[0, index])


def _compare(rng: random.Random, **knobs: Any) -> Question:
    """Two shapes that occur once each: which is larger, or have they one colour?"""
    first, second, *rest = rng.sample(SHAPES, 4)
    colours = list(COLOURS)
    names = [f"{rng.choice(colours)} {shape}" for shape in (first, second, *rng.choices(rest, k=rng.randint(2, 5)))]
    scene = scene_of(rng, names, *(name for name in NAMES if name.split()[1] in (first, second)), **knobs)
    if rng.random() < 0.5:
        options = first, second
        answer = rng.choice(options)
        large = options.index(answer)
        scene = with_sizes(rng, scene, large, [1 - large], knobs.get("radii", RADII))
        return about(scene, "compare", f"Which is larger, the {first} or the {second}?", options, answer)
    answer, colour = rng.choice(YES_NO), scene.things[0].colour
    colour = colour if answer == "yes" else rng.choice([other for other in colours if other != colour])
    text = f"Do the {first} and the {second} have the same color?"
    return about(with_names(scene, {1: f"{colour} {second}"}), "compare", text, YES_NO, answer)


def _logical(rng: random.Random, **knobs: Any) -> Question:
    """Are both there, or is either?"""
    first, second = asked = rng.sample(NAMES, 2)
    answer, both = rng.choice(YES_NO), rng.random() < 0.5
    cases = [
        (a, b) for a in (True, False) for b in (True, False) if ((a and b) if both else (a or b)) == (answer == "yes")
    ]
    there = [name for name, is_there in zip(asked, rng.choice(cases), strict=True) if is_there]
    names = there + others(rng, rng.randint(4, 7) - len(there), *asked)
    text = f"Are there both a {first} and a {second}?" if both else f"Is there a {first} or a {second}?"
    return about(scene_of(rng, names, *asked, **knobs), "logical", text, YES_NO, answer, asked=asked)


def gqa(rng: random.Random, kind: str, **knobs: Any) -> Question:
    """A question of one of GQA's structural kinds, answered by one word.

    Kept: the kinds, and answers of which every one is equally likely given the words. Not kept: long chains of
    relations, the vocabulary of photographs, and several questions about one picture. `knobs` are those of `scene_of`.
    """
    twins.check_distractors(knobs.get("distractors", 0), fullest=8)
    twins.check_sizes(knobs.get("radii", RADII))
    if kind == "compare":
        return _compare(rng, **knobs)
    return _logical(rng, **knobs) if kind == "logical" else _neighbour(rng, kind, **knobs)


def gqa_row(question: Question, number: int) -> dict[str, Any]:
    """The question with the columns of `lmms-lab/GQA`, joined with its image."""
    (image,) = question.draw()
    return {
        "imageId": f"twin{number}",
        "question": question.text,
        "answer": question.answer,
        "types": {"structural": question.kind},
        "image": png(image),
    }


# --- RoboSpatial-Home ----------------------------------------------------------------------------------

ROBOSPATIAL = ("compatibility", "configuration", "context")
FITS, TOO_LARGE = 1.3, 0.7  # room that is enough or too little, in widths of the thing
TIGHT = 30  # pixels of a radius: where all are smaller, everything fits everywhere
TRIES = 500  # scenes around a free place, before another place is drawn


def relation(rng: random.Random, kind: str, **knobs: Any) -> Question:
    """Does one thing lie in a direction from another? Where not, it lies in the opposite one."""
    (first, second), direction = rng.sample(NAMES, 2), rng.choice(list(DIRECTIONS))
    answer = rng.choice(YES_NO)
    true = direction if answer == "yes" else OPPOSITE[direction]
    while True:
        names = [first, second, *others(rng, rng.randint(3, 7), first, second)]
        scene = scene_of(rng, names, first, second, **knobs)
        if lies(scene.things[0], true, scene.things[1]):
            return about(
                scene, kind, f"Is the {first} {RELATIONS[direction]} the {second}?", YES_NO, answer, asked=[0, 1]
            )


def _compatibility(rng: random.Random, **knobs: Any) -> Question:
    (first, second), direction = rng.sample(NAMES, 2), rng.choice(list(DIRECTIONS))
    answer = rng.choice(YES_NO)
    text = (
        f"Does the {first} fit directly {RELATIONS[direction]} the {second}, without touching another object or "
        "leaving the image?"
    )
    while True:
        names = [first, second, *others(rng, rng.randint(5, 9), first, second)]
        scene = scene_of(rng, names, first, second, **knobs)
        half = scene.things[0].radius
        share = room(scene, 1, direction, half=half, moved=0) / (2 * half + 1)
        if share >= FITS if answer == "yes" else share <= TOO_LARGE:
            return about(scene, "compatibility", text, YES_NO, answer, asked=[0, 1], room=share)


def _context(rng: random.Random, *, radii: tuple[int, int] = RADII, distractors: int = 0) -> Question:
    """A free place of a thing's own size beside it.

    The place is drawn first, with room for the thing on all four sides: the direction does not tell where it is.
    """
    (name, pattern), direction = (rng.choice(NAMES), rng.choice(world.PATTERNS)), rng.choice(list(DIRECTIONS))
    (colour, shape), (along_x, along_y) = name.split(), DIRECTIONS[direction]
    for attempt in itertools.count():
        if attempt % TRIES == 0:
            radius = rng.randint(*radii)
            away = 2 * radius + 1
            x, y = (rng.randint(away + radius, SIDE - 1 - away - radius) for _ in range(2))
            thing = Thing(colour, shape, pattern, x - away * along_x, y - away * along_y, radius)
        more = others(rng, rng.randint(3, 6), name)
        scene = scene_of(rng, more, name, radii=radii, distractors=distractors)
        scene = dataclasses.replace(scene, things=(thing, *scene.things))
        apart = all(
            max(abs(other.x - thing.x), abs(other.y - thing.y)) > other.radius + radius for other in scene.things[1:]
        )
        if apart and room(scene, 0, direction, half=radius) >= away:
            break
    left, top, right, bottom = x - radius, y - radius, x + radius, y + radius
    corners = [(left, top), (right, top), (right, bottom), (left, bottom)]
    answer = "[" + ", ".join(f"({x / SIDE:.4f}, {y / SIDE:.4f})" for x, y in corners) + "]"
    text = (
        f"Point to the empty space directly {RELATIONS[direction]} the {name}, "
        f"{'level' if direction in ('left', 'right') else 'in line'} with it and no further away than it is large."
    )
    return about(scene, "context", text, (answer,), answer, asked=[0], free=[left, top, right, bottom])


def robospatial(rng: random.Random, kind: str, **knobs: Any) -> Question:
    """Where does it stand (configuration), does it fit (compatibility), where is room (context)?

    All is decided in the picture's plane by boxes. RoboSpatial-Home has rooms with depth, and asks from the viewer's
    and from an object's own point of view; here there is only the viewer's. A free place is a rectangle of which all
    is right; there it is any polygon. `knobs` are those of `scene_of`.
    """
    twins.check_distractors(knobs.get("distractors", 0), fullest=11)
    if (radii := knobs.get("radii", RADII))[1] < TIGHT:
        raise ValueError(f"radii {radii}: what is below {TIGHT} pixels fits everywhere, so nothing is to be asked")
    if kind == "context":
        return _context(rng, **knobs)
    return _compatibility(rng, **knobs) if kind == "compatibility" else relation(rng, "configuration", **knobs)


def robospatial_row(question: Question) -> dict[str, Any]:
    """The question with the columns of `chanhee-luke/RoboSpatial-Home`."""
    (image,) = question.draw()
    place = question.kind == "context"
    return {
        "category": question.kind,
        "question": question.text if place else f"{question.text} Answer yes or no.",
        "answer": question.answer if place else question.answer.capitalize(),
        "img": png(image),
    }


# --- RealWorldQA ---------------------------------------------------------------------------------------

REALWORLDQA = ("choice", "open")
SIDES = {"right": "to the right", "left": "to the left", "below": "below it", "above": "above it"}
BY_LETTER = "Please answer directly with only the letter of the correct option and nothing else."
BY_WORD = "Please answer directly with a single word or number."
APART = 60  # pixels by which one thing is nearer to an edge


def _where(rng: random.Random, **knobs: Any) -> Question:
    (first, second), direction = rng.sample(NAMES, 2), rng.choice(list(DIRECTIONS))
    options = tuple(rng.sample(list(SIDES.values()), len(SIDES)))
    while True:
        names = [first, second, *others(rng, rng.randint(3, 6), first, second)]
        scene = scene_of(rng, names, first, second, **knobs)
        a, b = scene.things[:2]
        off, along = sorted((abs(a.x - b.x), abs(a.y - b.y)))
        if lies(a, direction, b) and off <= 0.5 * along:  # not on the diagonal
            text = f"Where is the {first}, seen from the {second}?"
            return about(scene, "choice", text, options, SIDES[direction], asked=[0, 1])


def _at_the_edge(rng: random.Random, **knobs: Any) -> Question:
    options, direction = rng.sample(NAMES, 3), rng.choice(list(DIRECTIONS))
    answer, edge = rng.choice(options), {"above": "top", "below": "bottom"}.get(direction, direction)
    along_x, along_y = DIRECTIONS[direction]
    while True:
        scene = scene_of(rng, [*options, *others(rng, rng.randint(2, 4), *options)], *options, **knobs)
        far = [thing.x * along_x + thing.y * along_y for thing in scene.things[:3]]
        chosen = options.index(answer)
        if all(far[chosen] - APART >= other for k, other in enumerate(far) if k != chosen):
            text = f"Which of these objects is nearest to the {edge} edge of the image?"
            return about(scene, "choice", text, options, answer)


def _largest(rng: random.Random, **knobs: Any) -> Question:
    options = rng.sample(NAMES, rng.choice([2, 3]))
    answer = rng.choice(options)
    scene = scene_of(rng, [*options, *others(rng, rng.randint(2, 4), *options)], *options, **knobs)
    large = options.index(answer)
    small = [k for k in range(len(options)) if k != large]
    scene = with_sizes(rng, scene, large, small, knobs.get("radii", RADII))
    return about(scene, "choice", "Which of these objects is the largest?", options, answer)


def _count(rng: random.Random, **knobs: Any) -> Question:
    (word, values), numbers = rng.choice([("objects", tuple(COLOURS)), ("", SHAPES)]), ("1", "2", "3", "4", "5")
    asked, answer = rng.choice(values), rng.choice(numbers)
    fits = [name for name in NAMES if asked in name.split()]
    names = rng.choices(fits, k=int(answer)) + others(rng, rng.randint(2, 7), *fits)
    things = f"{asked} {word}" if word else {"cross": "crosses"}.get(asked, f"{asked}s")
    scene = scene_of(rng, names, *fits, **knobs)
    return about(scene, "open", f"How many {things} are there?", numbers, answer, asked=asked)


def _what_is_largest(rng: random.Random, **knobs: Any) -> Question:
    word, values = rng.choice([("color", tuple(COLOURS)), ("shape", SHAPES)])
    answer = rng.choice(values)
    names = others(rng, rng.randint(3, 6))
    names[0] = rng.choice([name for name in NAMES if answer in name.split()])
    scene = scene_of(rng, names, **knobs)
    scene = with_sizes(rng, scene, 0, range(1, len(scene.things)), knobs.get("radii", RADII))
    return about(scene, "open", f"What is the {word} of the largest object?", values, answer)


def realworldqa(rng: random.Random, kind: str, **knobs: Any) -> Question:
    """A question with two to four options, or one that a word or a number answers.

    Kept: the two ways of asking, places, counts and sizes. Not kept: photographs from cars, text to be read, traffic.
    `knobs` are those of `scene_of`.
    """
    twins.check_distractors(knobs.get("distractors", 0), fullest=12)
    twins.check_sizes(knobs.get("radii", RADII))
    makers = {"choice": (_where, _at_the_edge, _largest), "open": (_count, _what_is_largest)}[kind]
    return rng.choice(makers)(rng, **knobs)


def realworldqa_row(question: Question) -> dict[str, Any]:
    """The question with the columns of `lmms-lab/RealWorldQA`: options and request are part of its text."""
    (image,) = question.draw()
    if question.kind == "open":
        return {"question": f"{question.text} {BY_WORD}", "answer": question.answer, "image": png(image)}
    letters = [chr(ord("A") + place) for place in range(len(question.options))]
    lines = [f"{mark}. {option.capitalize()}" for mark, option in zip(letters, question.options, strict=True)]
    text = "\n".join([question.text + "\n", *lines, BY_LETTER])
    return {"question": text, "answer": letters[question.place], "image": png(image)}
