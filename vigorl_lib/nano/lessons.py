"""What the nano base is taught before ViGoRL begins: to see, and to speak the format.

*Skills*: all of a picture at once (list it, name it, walk through it), or several questions about it (point,
name, next thing in a direction, compare two points, count), or a closer look. *Formats*: a twin's question
under each system prompt, answered in the right form by a narration that heeds the question's first thing, each of its
directions and its length at stated rates, and mostly ends early. The base is never shown a chain because it is right,
and few are: to follow the question all the way to its end is left to search and RL. All rates are the constants
below.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

from PIL import Image

from vigorl_lib import prompts
from vigorl_lib.nano import twins, world
from vigorl_lib.nano.world import COLOURS, CROP_OFFSET, DIRECTIONS, NAMES, SIDE, VIEW_SIDE, Scene, Thing
from vigorl_lib.traces import render_answer, render_call, render_single

LISTING_SHARE, QUESTION_SHARE, FORMAT_SHARE = 0.22, 0.36, 0.36  # of the conversations; the rest look at crops
# How far a narration heeds the question: it begins with the thing that is named there, a move takes the direction
# that is given for it, and it goes on for as many moves as are asked; else it begins, moves and ends anywhere, early.
# Where sizes are asked for it moves at least once, measures every thing and compares at every move. A base that saw
# mostly guesses there did not learn to repeat the size that it had said, and one that compared without measuring said a
# size at random, though asked for two points it found the larger.
START_FROM_QUESTION, FOLLOW, FINISH = 0.85, 0.9, 0.2
# How many colours the things of a skill's picture have, with rates. A base that seldom meets two things of one colour
# finds a shape by its colour instead of its place: where it errs, it names the right colour and another thing's shape.
PALETTES = {1: 0.4, 2: 0.3, len(COLOURS): 0.3}
SIZES = 0.5  # of the SAT-2 twin's questions
SCREENS = 0.25  # of the skills' pictures, and of the formats' questions, which then ask for a place
SUB_GOAL, CHECK, WAIT = 0.1, 0.06, 0.06  # rates of these phrases in narrations
MEASURE = 0.5  # of the walks: "Look: red circle (x, y), 40 wide. first below: green circle (x, y), 52 wide, larger."
LOOKS = 2  # most looks of an episode: the last one says that the answer is due
PLACE_WORD = 0.5  # an ungrounded narration says where in words, such as "top left"
MODES: dict[prompts.Mode, float] = {"direct": 0.2, "vanilla": 0.25, "grounded": 0.25, "zoom": 0.3}  # of formats
UNTAUGHT: set[prompts.Mode] = {"grounded", "zoom"}  # of these, what a base may know nothing of

Point = tuple[int, int]  # in view pixels, as everything that the model reads or writes


def spot(thing: Thing, rng: random.Random | None = None) -> Point:
    """The thing's centre in view pixels, or with `rng` a place in its inner half (questions are not exact)."""
    if rng is None:
        return world.to_view(thing.x, thing.y)
    reach = thing.radius // 2
    return world.to_view(thing.x + rng.randint(-reach, reach), thing.y + rng.randint(-reach, reach))


def write(point: Point) -> str:
    """A point (view pixels) as the policy writes it."""
    return f"({point[0]}, {point[1]})"


def pointed(thing: Thing) -> str:
    """A thing as a grounded text mentions it: its name and the place of its centre."""
    return f"{thing.name} {write(spot(thing))}"


def place_word(thing: Thing) -> str:
    """Where in the picture a thing is, in words, on a three by three grid."""
    row = ("top", "middle", "bottom")[min(thing.y * 3 // SIDE, 2)]
    column = ("left", "middle", "right")[min(thing.x * 3 // SIDE, 2)]
    return "middle" if row == column == "middle" else " ".join(word for word in (row, column) if word != "middle")


# --- narration: the steps that search later recombines --------------------------------------------------


def narrate(
    rng: random.Random,
    scene: Scene,
    *,
    grounded: bool,
    first: int,
    hops: int,
    asked: tuple[str, ...] = (),
    sizes: bool = False,
    where: Callable[[Thing], str] = place_word,
) -> tuple[list[str], list[int], int]:
    """A random walk in words from thing `first`: its steps, the thing each step names, and where it ends.

    Each move takes the direction that is `asked` for it at the rate FOLLOW, any other at random. With `sizes` each step
    says how wide its thing is, and each move which of its two things is larger. `where` says where a thing is to who
    has no points.
    """
    plain = _mentions(rng, scene, grounded, where)

    def mention(index: int) -> str:
        return plain(index) + (f", {world.width(scene.things[index].radius)} wide" if sizes else "")

    steps, seen = [_opening(rng, mention(first))], [first]
    for hop in range(hops):
        here = scene.things[seen[-1]]
        found = {d: world.next_thing(scene, here.x, here.y, d) for d in DIRECTIONS}
        moves = {d: there for d, there in found.items() if there is not None and there >= 0}
        if not moves:
            break
        direction = asked[hop] if hop < len(asked) and rng.random() < FOLLOW else None
        direction = direction if direction in moves else rng.choice(list(moves))
        there = moves[direction]
        size = (", larger" if scene.things[there].radius > here.radius else ", smaller") if sizes else ""
        steps.append(f"{twins.ORDINALS[hop]} {direction}: {mention(there)}{size}.")
        seen.append(there)
    end = seen[-1]
    if rng.random() < CHECK:
        steps.append(f"Check: {mention(end)}.")
        seen.append(end)
    elif rng.random() < WAIT:
        again = rng.randrange(len(scene.things))
        steps += [prompts.BACKTRACK, _opening(rng, mention(again))]
        seen += [end, again]
        end = again
    return steps, seen, end


def survey(
    rng: random.Random,
    scene: Scene,
    *,
    grounded: bool,
    places: Sequence[int],
    where: Callable[[Thing], str] = place_word,
) -> list[str]:
    """The things at `places` named one after the other; `where` as in `narrate`."""
    mention = _mentions(rng, scene, grounded, where)
    return [_opening(rng, mention(index)) for index in places]


def _mentions(rng: random.Random, scene: Scene, grounded: bool, where: Callable[[Thing], str]) -> Callable[[int], str]:
    """How one narration mentions a thing: with its point, or by its name, or with a place in words."""
    if grounded:
        return lambda index: pointed(scene.things[index])
    if rng.random() < PLACE_WORD:
        return lambda index: f"{scene.things[index].name}, {where(scene.things[index])}"
    return lambda index: scene.things[index].name


def _opening(rng: random.Random, mentioned: str) -> str:
    return ("First find " if rng.random() < SUB_GOAL else "Look: ") + mentioned + "."


def _sizes_differ(a: Thing, b: Thing) -> bool:
    return max(a.radius, b.radius) >= twins.SIZE_MARGIN * min(a.radius, b.radius)


def concluded(rng: random.Random, item: twins.Item, steps: list[str], end: int) -> str:
    """The option that a narration ends on or the size it said last, else a random one: the base repeats, and no more.

    On a screen, the place where it ends.
    """
    if not item.options:
        return write(spot(item.scene.things[end]))
    sizes = (word for step in reversed(steps) for word in twins.SIZE_OPTIONS if step.endswith(f", {word}."))
    for said in (item.scene.things[end].name, next(sizes, "")):
        if said in item.options:
            return said
    return rng.choice(item.options)


# --- skills --------------------------------------------------------------------------------------------
#
# A lesson names each thing once: whatever was named before could be copied from the text instead of seen.

Asked = tuple[str, str, set[int]]  # question, answer, and the things that it gives away


def _point(rng: random.Random, scene: Scene, fresh: list[int]) -> Asked:
    index = rng.choice(fresh)
    thing = scene.things[index]
    return f"Point to the {thing.name}.", f"{write(spot(thing))}.", {index}


def _name(rng: random.Random, scene: Scene, fresh: list[int]) -> Asked:
    index = rng.choice(fresh)
    thing = scene.things[index]
    return f"What is at {write(spot(thing, rng))}?", f"{thing.name}.", {index}


def _width(rng: random.Random, scene: Scene, fresh: list[int]) -> Asked:
    index = rng.choice(fresh)
    thing = scene.things[index]
    return f"How wide is what is at {write(spot(thing, rng))}?", f"{world.width(thing.radius)}.", {index}


def _next(rng: random.Random, scene: Scene, fresh: list[int]) -> Asked | None:
    start, direction = rng.choice(fresh), rng.choice(list(DIRECTIONS))
    here = scene.things[start]
    there = world.next_thing(scene, here.x, here.y, direction)
    question = f"Go {direction} from {write(spot(here, rng))}."
    if there == -1 and rng.random() < 0.3:
        return question, "nothing.", {start}
    if there is None or there not in fresh:
        return None
    return question, f"{pointed(scene.things[there])}.", {start, there}


def _further_left(rng: random.Random, scene: Scene, fresh: list[int]) -> Asked | None:
    if len(fresh) < 2:
        return None
    pair = rng.sample(fresh, 2)
    a, b = (spot(scene.things[index], rng) for index in pair)
    if abs(a[0] - b[0]) < 6:
        return None
    return f"Which is further left, {write(a)} or {write(b)}?", f"{write(min(a, b))}.", set(pair)


def _larger(rng: random.Random, scene: Scene, fresh: list[int]) -> Asked | None:
    if len(fresh) < 2:
        return None
    pair = rng.sample(fresh, 2)
    first, second = (scene.things[index] for index in pair)
    if not _sizes_differ(first, second):
        return None
    a, b = spot(first, rng), spot(second, rng)
    larger = a if first.radius > second.radius else b
    return f"Which is larger, {write(a)} or {write(b)}?", f"{write(larger)}.", set(pair)


def _list(rng: random.Random, scene: Scene, fresh: list[int]) -> Asked:
    things = rng.sample(scene.things, len(scene.things))
    return "List what you see.", " ".join(f"{pointed(thing)}." for thing in things), set(fresh)


def _list_places(rng: random.Random, scene: Scene, fresh: list[int]) -> Asked:
    things = rng.sample(scene.things, len(scene.things))
    return "List by place.", " ".join(f"{write(spot(thing))}: {thing.name}." for thing in things), set(fresh)


def _sizes(rng: random.Random, scene: Scene, fresh: list[int]) -> Asked:
    things = rng.sample(scene.things, len(scene.things))
    places = " ".join(write(spot(thing, rng)) for thing in things)
    widths = " ".join(f"{world.width(thing.radius)}." for thing in things)
    return f"How wide is what is at {places}?", widths, set(fresh)


def _around(rng: random.Random, scene: Scene, fresh: list[int]) -> Asked:
    """What lies in each direction of a point; a direction with two readings is left out."""
    here = scene.things[rng.choice(fresh)]
    found = [(direction, world.next_thing(scene, here.x, here.y, direction)) for direction in DIRECTIONS]
    answer = " ".join(
        f"{direction}: {'nothing' if there == -1 else pointed(scene.things[there])}."
        for direction, there in rng.sample(found, len(found))
        if there is not None
    )
    return f"Look around {write(spot(here, rng))}.", answer or "nothing.", set(fresh)


def _name_all(rng: random.Random, scene: Scene, fresh: list[int]) -> Asked:
    things = rng.sample(scene.things, len(scene.things))
    places = " ".join(write(spot(thing, rng)) for thing in things)
    return f"Name what is at {places}.", " ".join(f"{thing.name}." for thing in things), set(fresh)


def _point_all(rng: random.Random, scene: Scene, fresh: list[int]) -> Asked:
    things = rng.sample(scene.things, len(scene.things))
    names = ", ".join(thing.name for thing in things)
    return f"Point to each: {names}.", " ".join(f"{write(spot(thing))}." for thing in things), set(fresh)


def _count(rng: random.Random, scene: Scene, fresh: list[int]) -> Asked:
    return "How many things?", f"{len(scene.things)}.", set()


def _recall(rng: random.Random, scene: Scene, fresh: list[int]) -> Asked:
    """Reading, not seeing: which move is the first, which the second …, asked for in any order."""
    moves = twins.numbered(rng.choices(list(DIRECTIONS), k=rng.randint(2, 3)))
    answer = " ".join(f"{move}." for move in rng.sample(moves, len(moves)))
    return f"Go {', '.join(moves)}. In any order?", answer, set()


def _walk(rng: random.Random, scene: Scene, fresh: list[int]) -> Asked:
    first = rng.choice(fresh)
    sizes = rng.random() < MEASURE
    steps, _, _ = narrate(rng, scene, grounded=True, first=first, hops=rng.randint(2, 4), sizes=sizes)
    return f"Walk from the {scene.things[first].name}.", " ".join(steps), set(fresh)


Skill = Callable[[random.Random, Scene, list[int]], Asked | None]
# Skills with their weights. A listing takes in the whole picture, which teaches most for a pass through the model.
LISTINGS: dict[Skill, float] = {
    _list: 0.1,
    _list_places: 0.05,
    _name_all: 0.1,
    _point_all: 0.05,
    _sizes: 0.3,
    _around: 0.2,
    _walk: 0.2,
}
QUESTIONS: dict[Skill, float] = {
    _point: 0.15,
    _name: 0.08,
    _width: 0.08,
    _next: 0.33,
    _further_left: 0.03,
    _larger: 0.23,
    _count: 0.02,
    _recall: 0.08,
}


def skill_scene(
    rng: random.Random, most: int, *, colours: int = len(COLOURS), radii: tuple[int, int] = world.RADII
) -> Scene:
    """One to `most` things of at most `colours` colours; their few names repeat, and full pictures are likelier."""
    count = max(rng.randint(1, most), rng.randint(1, most))
    palette = rng.sample(list(COLOURS), colours)
    offered = [name for name in NAMES if name.split()[0] in palette]
    names = rng.sample(offered, min(rng.randint(max(1, count - 3), count), len(offered)))
    ground = "screen" if rng.random() < SCREENS else "plain"
    repeated = (rng.choice(names) for _ in range(count - len(names)))
    return world.make_scene(rng, names=[*names, *repeated], ground=ground, radii=radii)


def skill_conversation(
    rng: random.Random, most: int, skills: dict[Skill, float], *, radii: tuple[int, int] = world.RADII
) -> list[dict[str, Any]]:
    """Questions from `skills` about one picture, as chat messages, until every thing is named."""
    (colours,) = rng.choices(list(PALETTES), list(PALETTES.values()))
    scene = skill_scene(rng, most, colours=colours, radii=radii)
    fresh = list(range(len(scene.things)))
    messages: list[dict[str, Any]] = []
    while fresh:
        (skill,) = rng.choices(list(skills), list(skills.values()))
        tries = (skill(rng, scene, fresh) for _ in range(12))  # so that hard-to-place questions keep their share
        asked = next((found for found in tries if found), None)
        if asked is None:
            continue
        question, answer, given_away = asked
        blocks = [{"type": "text", "text": question}]
        if not messages:
            blocks.insert(0, {"type": "image", "image": view(scene)})
        messages += [{"role": "user", "content": blocks}, {"role": "assistant", "content": answer}]
        fresh = [index for index in fresh if index not in given_away]
    return messages


# --- crops and formats ---------------------------------------------------------------------------------


def view(scene: Scene) -> Image.Image:
    """The scene as the model sees it, VIEW_SIDE pixels square (the image processor then changes nothing)."""
    return world.draw(scene).resize((VIEW_SIDE, VIEW_SIDE), Image.Resampling.BICUBIC)


def window(point: Point) -> tuple[int, int, int, int]:
    """What a zoom at a view point cuts out, in original pixels: moved inside the picture at its borders."""
    low, high = CROP_OFFSET, SIDE - CROP_OFFSET
    x, y = (min(max(value * world.SCALE, low), high) for value in point)
    return x - CROP_OFFSET, y - CROP_OFFSET, x + CROP_OFFSET, y + CROP_OFFSET


def crop(picture: Image.Image, point: Point) -> Image.Image:
    """What a zoom at a view point shows: that window of the original at VIEW_SIDE pixels."""
    return picture.crop(window(point)).resize((VIEW_SIDE, VIEW_SIDE), Image.Resampling.BICUBIC)


def crop_conversation(rng: random.Random, most: int, *, radii: tuple[int, int] = world.RADII) -> list[dict[str, Any]]:
    """What is in a crop: several crops by themselves, or one asked for by a tool call."""
    several = rng.random() < 0.6
    scene = skill_scene(rng, 7 if several else most, radii=radii)
    picture = world.draw(scene)
    messages: list[dict[str, Any]] = []
    if several:
        for thing in rng.sample(scene.things, min(5, len(scene.things))):
            ask = [
                {"type": "image", "image": crop(picture, spot(thing, rng))},
                {"type": "text", "text": "What is in this crop?"},
            ]
            messages += [{"role": "user", "content": ask}, {"role": "assistant", "content": describe(thing)}]
        return messages
    thing = rng.choice(scene.things)
    point = spot(thing, rng)
    small = picture.resize((VIEW_SIDE, VIEW_SIDE), Image.Resampling.BICUBIC)
    ask = [{"type": "image", "image": small}, {"type": "text", "text": f"Look closer at {write(point)}."}]
    messages = [
        {"role": "user", "content": ask},
        {"role": "assistant", "content": render_call(f"Look: {thing.name} {write(point)}.", point)},
        {"role": "tool", "content": prompts.observation(crop(picture, point), last=False)},
        {"role": "assistant", "content": describe(thing)},
    ]
    return messages


def describe(thing: Thing) -> str:
    """What a crop shows, pattern included."""
    return f"{thing.pattern} {thing.name}."


def question_for(item: twins.Item) -> str:
    """The user's text for an item, as its benchmark's loader builds it."""
    if not item.options:
        return item.question
    ask = prompts.options_as_letters if item.benchmark == "vstar" else prompts.options_as_text
    return ask(item.question, item.options)


def _format_item(rng: random.Random, mode: prompts.Mode) -> twins.Item:
    closer = rng.random() < (0.6 if mode == "zoom" else 0.3)  # a question that only a zoom can answer
    if rng.random() < SCREENS:
        return twins.screen_item(rng, kind="pattern" if closer else "route")
    if closer:
        return twins.vstar_item(rng)
    return twins.sat2_item(rng, kind="action_consequence" if rng.random() < SIZES else "goal_aim")


def format_conversation(
    rng: random.Random, mode: prompts.Mode, item: twins.Item | None = None, *, taught: bool = True
) -> tuple[twins.Item, list[dict[str, Any]]]:
    """A twin's question, or `item`, under the system prompt of `mode`, answered in form but not by reasoning.

    Where it is not `taught` to write points, the prompts that ask for them are answered in steps without any.

    An option is named by its text even where the question wants its letter, which `clean` accepts as well: in 3,000
    steps of lessons with letters a model of this size named the pattern it saw, and then any letter.
    """
    item = item or _format_item(rng, mode)
    picture = world.draw(item.scene)
    small = picture.resize((VIEW_SIDE, VIEW_SIDE), Image.Resampling.BICUBIC)
    text = question_for(item)
    messages: list[dict[str, Any]] = [
        {"role": "system", "content": prompts.NANO_SYSTEM[mode]},
        {"role": "user", "content": [{"type": "image", "image": small}, {"type": "text", "text": text}]},
    ]
    if not taught and mode in UNTAUGHT:
        mode = "vanilla"
    if mode == "direct":
        guess = rng.choice(item.options or [write(spot(thing)) for thing in item.scene.things])
        return item, [*messages, {"role": "assistant", "content": f"<answer> {guess} </answer>"}]
    steps, seen, end = _narrated(rng, item, grounded=mode != "vanilla")
    answer = concluded(rng, item, steps, end)
    if mode != "zoom":
        return item, [*messages, {"role": "assistant", "content": render_single(steps, answer)}]

    looks = rng.sample(range(len(steps)), min(rng.choice((1, 1, LOOKS)), len(steps)))
    last = item.scene.things[seen[max(looks)]]
    pending: list[str] = []
    for index, step in enumerate(steps[: max(looks) + 1]):
        pending.append(step)
        if index in looks:
            point = spot(item.scene.things[seen[index]])
            due = index == max(looks) and len(looks) == LOOKS
            messages += [
                {"role": "assistant", "content": render_call(" ".join(pending), point)},
                {"role": "tool", "content": prompts.observation(crop(picture, point), last=due)},
            ]
            pending = []
    if not item.options:
        answer = write(spot(last))
    elif item.benchmark == "vstar":
        answer = last.pattern
    elif last.name in item.options:
        answer = last.name
    final = render_answer(f"It is {last.pattern} {last.name}.", answer)
    return item, [*messages, {"role": "assistant", "content": final}]


def _narrated(rng: random.Random, item: twins.Item, *, grounded: bool) -> tuple[list[str], list[int], int]:
    """A narration for an item, see `narrate`: of one of several alike, a survey of one or two of them."""
    things = range(len(item.scene.things))
    if item.kind == "pattern":
        named = item.scene.things[item.route[0]].name
        alike = [index for index in things if item.scene.things[index].name == named]
        asked = rng.random() < START_FROM_QUESTION
        seen = rng.sample(alike if asked else things, rng.choice((1, 2, 2)))
        return survey(rng, item.scene, grounded=grounded, places=seen), seen, seen[-1]
    first = 0 if rng.random() < START_FROM_QUESTION else rng.choice(things)
    sizes = item.kind == "action_consequence"
    early = 1 if sizes else rng.choice((0, 1, 1))
    hops = len(item.directions) if rng.random() < FINISH else early
    return narrate(rng, item.scene, grounded=grounded, first=first, hops=hops, asked=item.directions, sizes=sizes)


def lesson(seed: int, *, most: int = 7, kind: float | None = None, taught: bool = True) -> list[dict[str, Any]]:
    """The lesson of one seed: chat messages with their images (view pixels) in place.

    `kind` (0 … 1) decides what sort of lesson it is; by default it is drawn from the seed as well. `taught` as in
    `format_conversation`.
    """
    rng = random.Random(seed)
    kind = rng.random() if kind is None else kind
    sorts: list[tuple[float, Callable[[], list[dict[str, Any]]]]] = [
        (LISTING_SHARE, lambda: skill_conversation(rng, most, LISTINGS)),
        (QUESTION_SHARE, lambda: skill_conversation(rng, most, QUESTIONS)),
        *(
            (FORMAT_SHARE * share, lambda mode=mode: format_conversation(rng, mode, taught=taught)[1])
            for mode, share in MODES.items()
        ),
    ]
    for share, make in sorts:
        if kind < share:
            return make()
        kind -= share
    return crop_conversation(rng, most)


def curriculum(
    index: int, *, seed: int = 0, listings: int = 16_000, ramp: int = 10_000, group: int = 16
) -> list[dict[str, Any]]:
    """Lesson `index` of a course: the first `listings` are of that sort alone, and pictures grow fuller.

    Listings teach to find what is named and to name what is found; amid all other lessons that takes several times
    as long. Pictures hold up to three things at first, one more every `ramp` lessons, at most seven. `group`
    neighbours are of one kind, so that a batch of them is of like length and wastes no padding.
    """
    kind = random.Random(f"{seed} {index // group}").random()
    kind = kind * LISTING_SHARE if index < listings else kind
    return lesson(seed * 1_000_000_000 + index, most=min(3 + index // ramp, 7), kind=kind)


# --- details: a course for a base that has had the other one ----------------------------------------------

DETAIL_SHARE = 0.8  # of that course's lessons; the others are the usual ones, so that nothing is forgotten
# The smallest things of a picture have one of these radii, in original pixels, the largest so many more. A thing of
# radius 16 is a twentieth of the picture wide.
DETAIL_RADII, DETAIL_SPREAD = (13, 13, 16, 22), (3, 8)
# Without widths: their numbers are for things of the usual sizes.
DETAIL_LISTINGS: dict[Skill, float] = {_list: 0.3, _list_places: 0.1, _name_all: 0.3, _point_all: 0.2, _around: 0.1}
DETAIL_QUESTIONS: dict[Skill, float] = {_point: 0.3, _name: 0.25, _next: 0.35, _larger: 0.1}
DETAIL_MODES: dict[prompts.Mode, float] = {"direct": 0.1, "vanilla": 0.1, "grounded": 0.2, "zoom": 0.6}


def details(index: int, *, seed: int = 0, group: int = 16) -> list[dict[str, Any]]:
    """Lesson `index` of a course about small things; `group` as in `curriculum`."""
    kind = random.Random(f"{seed} details {index // group}").random()
    if kind >= DETAIL_SHARE:
        return lesson(seed * 1_000_000_000 + index, kind=(kind - DETAIL_SHARE) / (1 - DETAIL_SHARE))
    rng = random.Random(f"{seed} detail {index}")
    least = rng.choice(DETAIL_RADII)
    radii = least, least + rng.choice(DETAIL_SPREAD)
    makers: list[Callable[[], list[dict[str, Any]]]] = [
        lambda: skill_conversation(rng, 7, DETAIL_LISTINGS, radii=radii),
        lambda: skill_conversation(rng, 7, DETAIL_QUESTIONS, radii=radii),
        lambda: crop_conversation(rng, 7, radii=radii),
        lambda: crop_conversation(rng, 7, radii=radii),  # twice: a stripe of so small a thing is the last to be read
        lambda: format_conversation(rng, *_detail_format(rng, radii))[1],
    ]
    return makers[int(len(makers) * kind / DETAIL_SHARE)]()


def _detail_format(rng: random.Random, radii: tuple[int, int]) -> tuple[prompts.Mode, twins.Item]:
    (mode,) = rng.choices(list(DETAIL_MODES), list(DETAIL_MODES.values()))
    return mode, twins.vstar_item(rng, radii=radii)


# --- untaught: a course that takes the format back --------------------------------------------------------


def untaught(index: int, *, seed: int = 0, group: int = 16) -> list[dict[str, Any]]:
    """Lesson `index` of a course after which no prompt makes the base write points or call a tool; `group` as there.

    As in the paper's ablation of the warm start, whose base never wrote the format of its own accord. All else stays
    what the other lessons teach.
    """
    kind = random.Random(f"{seed} untaught {index // group}").random()
    return lesson(seed * 1_000_000_000 + index, kind=kind, taught=False)


COURSES: dict[str, Callable[..., list[dict[str, Any]]]] = {"details": details, "untaught": untaught}
