"""Does a model do what its points say? Routes judged by a twin's truth (never a reward), crops that lie, moved points.

`suite` asks it of any policy and any examples: one intervention after the other, and what each one changed.

Points are pixels of the frame that the model writes in (`View.frame`), the truth's boxes are pixels of the original
(`View.original_frame`). Of the view only these two frames are used: the pictures of a twin are all of one size, so
one view serves all of its examples. What needs a truth raises ValueError on an example without one (a photograph).
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import random
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from vigorl_lib.answers import last_answer, letter, named_option
from vigorl_lib.benchmarks import registry as benchmarks
from vigorl_lib.evaluation import predict
from vigorl_lib.grounding import Box, Frame, Point, distance
from vigorl_lib.images import cut_crop, picture_of
from vigorl_lib.nano.drawing import png
from vigorl_lib.policy import LocalPolicy, Prompt, look
from vigorl_lib.prompts import BACKTRACK, Mode
from vigorl_lib.records import Example, Proposal, Refused, StepRequest
from vigorl_lib.runs import slug
from vigorl_lib.stats import average, share
from vigorl_lib.traces import find_points, parse_turn, render_single, split_steps
from vigorl_lib.views import View, Zoom


def things_under(points: Iterable[tuple[int, int]], example: Example, view: View) -> list[int | None]:
    """For each point the number of the thing whose box it lies in (the border counts), or None."""
    boxes = [Box(*box, view.original_frame) for box in _truth(example)["boxes"]]
    places = [Point(x, y, view.frame).to(view.original_frame) for x, y in points]
    return [next((k for k, box in enumerate(boxes) if box.contains(place)), None) for place in places]


def follows_route(said: str | Sequence[str], example: Example, view: View) -> bool:
    """Do the points visit the route's things in order, and nothing else?

    `said` is a text, the turns of a reply or the steps of a chain; every point written in it counts. Several points
    on one thing are one visit, and things of the route may be visited again once its end is reached. What was taken
    back is forgiven: of the points before the last `prompts.BACKTRACK` any number of the latest may be left out.
    """
    route = list(_truth(example)["route"])
    before, _, after = (said if isinstance(said, str) else " ".join(said)).rpartition(BACKTRACK)
    head, tail = (
        things_under([(mention.x, mention.y) for mention in find_points(text)], example, view)
        for text in (before, after)
    )
    for kept in range(len(head) + 1):
        visits = [thing for thing, _ in itertools.groupby(head[:kept] + tail)]
        if visits[: len(route)] == route and set(visits) <= set(route):
            return True
    return False


def route_reached(points: Iterable[tuple[int, int]], example: Example, view: View) -> int:
    """How many things of the route the points visit in its order, from the start on; detours are allowed."""
    route, reached = _truth(example)["route"], 0
    for thing in things_under(points, example, view):
        reached += reached < len(route) and thing == route[reached]
    return reached


def _truth(example: Example) -> Any:
    if example.truth is None:
        raise ValueError(
            f"example {example.id!r} has no boxes and no route: only a twin's examples have (source 'twin')"
        )
    return example.truth


def with_other_crops(policy: LocalPolicy, cut: Cut) -> LocalPolicy:
    """The policy, but a look at a point of an example shows what `cut` returns instead of the place itself.

    Weights and prompts are the same: what its answers lose or gain, they owe to what the crops show.
    """

    def view_of(example: Example) -> View:
        view = policy.view_of(example)
        return _OtherView(view.original, view.image, view.points, cut=functools.partial(cut, example))

    return _seeing(policy, view_of)


def _seeing(policy: LocalPolicy, view_of: Callable[[Example], View]) -> LocalPolicy:
    other = LocalPolicy(policy.model, policy.processor, batch_size=policy.batch_size)
    other.view_of = view_of
    return other


@dataclasses.dataclass(frozen=True, kw_only=True)
class _OtherView(View):
    cut: Callable[[tuple[int, int], Zoom], Image.Image]

    def crop(self, coordinate: tuple[int, int], zoom: Zoom) -> Image.Image:
        return self.cut(coordinate, zoom)


# --- pictures and questions that are changed ----------------------------------------------------------------

WAY_OUT = "cannot tell"
OPTION_FORMS = ("{}. {}", "({}) {}")  # `prompts.options_as_text` and `options_as_letters`


def greyed(example: Example) -> Example:
    """The example with a grey picture of the same size: what is right then was not seen."""
    grey = Image.new("RGB", picture_of(example).size, (128, 128, 128))
    return dataclasses.replace(example, images=(png(grey),))


def with_way_out(example: Example, words: str = WAY_OUT) -> Example:
    """The example with one more option at the end. Raises ValueError where the question does not list its options."""
    last = _last_option(example)
    if last is None:
        raise ValueError(f"example {example.id!r}: its question lists no options such as 'A. …'; none can be added")
    line, form = last
    more = f"{line}\n" + form.format(letter(len(example.options)), words)
    question = more.join(example.question.rsplit(line, 1))
    return dataclasses.replace(example, question=question, options=(*example.options, words))


def _last_option(example: Example) -> tuple[str, str] | None:
    """The line of the question with its last option, and the form of such lines; None where there is none."""
    if not example.options:
        return None
    filled = (
        (f"\n{form.format(letter(len(example.options) - 1), example.options[-1])}", form) for form in OPTION_FORMS
    )
    return next((found for found in filled if found[0] in example.question), None)


# --- crops that lie -----------------------------------------------------------------------------------------

# What a look at a point of an example shows; the point is in the frame that the policy writes in.
Cut = Callable[[Example, tuple[int, int], Zoom], Image.Image]


def blank_crops(example: Example, point: tuple[int, int], zoom: Zoom) -> Image.Image:
    """Nothing: grey."""
    return Image.new("RGB", (zoom.size, zoom.size), (128, 128, 128))


def crops_of_another(policy: LocalPolicy, following: Mapping[str, Example]) -> Cut:
    """The same place of another example's picture; `following`: example id -> that example."""
    return lambda example, point, zoom: policy.view_of(following[example.id]).crop(point, zoom)


def random_crops(policy: LocalPolicy, *, seed: int = 0) -> Cut:
    """A place of the same picture, drawn by chance: as many pixels, but no use of the point."""

    def cut(example: Example, point: tuple[int, int], zoom: Zoom) -> Image.Image:
        rng, view = random.Random(f"{seed}/{example.id}/{point}"), policy.view_of(example)
        return view.crop((rng.randrange(view.image.width), rng.randrange(view.image.height)), zoom)

    return cut


def oracle_crops(policy: LocalPolicy) -> Cut:
    """What is asked about, the end of the truth's route, wherever the model points."""

    def cut(example: Example, point: tuple[int, int], zoom: Zoom) -> Image.Image:
        truth, view = _truth(example), policy.view_of(example)
        target = Box(*truth["boxes"][truth["route"][-1]], view.original_frame)
        return view.crop(target.center().to(view.frame).rounded(), zoom)

    return cut


def recoloured_crops(policy: LocalPolicy) -> Cut:
    """The right place, but the thing that is looked at has its red, green and blue exchanged.

    So its colour is another one than a moment ago in the view. Where no thing is known to be (a photograph, or a look
    at the background), the whole crop is recoloured.
    """

    def cut(example: Example, point: tuple[int, int], zoom: Zoom) -> Image.Image:
        view = policy.view_of(example)
        thing = things_under([point], example, view)[0] if "boxes" in (example.truth or ()) else None
        window = view.window(point, zoom)
        # A truth's box ends with its last pixel, a crop's window after it.
        left, top, right, bottom = window if thing is None else _truth(example)["boxes"][thing]
        place = (left, top, right, bottom) if thing is None else (left, top, right + 1, bottom + 1)
        red, green, blue = view.original.crop(place).split()
        painted = view.original.copy()
        painted.paste(Image.merge("RGB", (green, blue, red)), place[:2])
        return cut_crop(painted, window, (zoom.size, zoom.size))

    return cut


# --- points that are moved, thoughts that are cut ---------------------------------------------------------

# Step requests in, proposals out (`policy.step_policy`).
StepPolicy = Callable[[Sequence[StepRequest]], Sequence[Proposal | Refused]]
# Where a point of an example goes; both points are in the frame that the policy writes in.
Place = Callable[[Example, tuple[int, int], View], tuple[int, int] | None]


def points_told(turns: Sequence[str], names: Iterable[str]) -> list[tuple[str | None, tuple[int, int]]]:
    """Every point of the thoughts, with the last name before it in its step; None where its step names nothing."""
    known, found = set(names), []
    for step in itertools.chain(*(split_steps(parse_turn(turn, zoom=True).think or "") for turn in turns)):
        start = 0
        for mention in find_points(step.text):
            where = {name: step.text.rfind(name, start, mention.start) for name in known}
            last = max(where, key=where.__getitem__, default=None)
            found.append((None if last is None or where[last] < 0 else last, (mention.x, mention.y)))
            start = mention.end
    return found


def named_points(turns: Sequence[str], names: Iterable[str]) -> list[tuple[str, tuple[int, int]]]:
    """Those of `points_told` that have a name."""
    return [(name, point) for name, point in points_told(turns, names) if name is not None]


def judge_points(
    told: Sequence[tuple[str | None, tuple[int, int]]], example: Example, view: View
) -> list[dict[str, float | int | str | bool | None]]:
    """One row a point of `points_told` or `named_points`: is it where its name is?

    step      number of the point in its trace, from 1
    kind      of the question
    inside    whether it lies in the picture
    hit       1 where it lies in the picture and in the box of a thing of its name, else 0; None where it has no name
    distance  to the middle of the nearest thing of its name, in pixels of the frame that the model writes in; None
              where there is no such thing
    """
    truth = _truth(example)
    boxes = [Box(*box, view.original_frame) for box in truth["boxes"]]
    rows = []
    for step, (name, point) in enumerate(told, start=1):
        place = Point(*point, view.frame)
        inside = view.frame.holds(*point)
        own = [box for box, known in zip(boxes, truth["names"], strict=True) if known == name]
        hit = None if name is None else float(inside and any(box.contains(place) for box in own))
        nearest = min((distance(place, box.center()) for box in own), default=None)
        rows.append({"step": step, "kind": example.kind, "inside": inside, "hit": hit, "distance": nearest})
    return rows


def hit_rate(named: Sequence[tuple[str, tuple[int, int]]], example: Example, view: View) -> float | None:
    """The share of points that lie in the box of a thing of their name; None where there are none."""
    hits = [row["hit"] for row in judge_points(named, example, view)]
    return sum(hits) / len(hits) if hits else None


def probe_points(
    policy: LocalPolicy,
    examples: Sequence[Example],
    texts: Sequence[str],
    *,
    max_new_tokens: int,
    temperature: float,
    seed: int,
) -> list[dict[str, float | None]]:
    """Are the points of single-turn grounded replies right, and does the answer need them? One row an example.

    hits, hits_shuffled, hits_random
        the share of points on a thing of the name that their step says; the same with the reply's points handed round
        among its steps (None where there is one alone), and with points drawn at random
    changed_moved, changed_placebo, changed_resampled
        1 where the answer is another one after the first point was moved to a thing of another name, moved within its
        own thing, or kept, and the rest was drawn anew; None where the first point lies on nothing
    """
    limits = {"max_new_tokens": max_new_tokens, "temperature": temperature, "seed": seed}
    rows: list[dict[str, float | None]] = []
    view = policy.view_of(examples[0])
    for example, text in zip(examples, texts, strict=True):
        rng = random.Random(f"{seed}/{example.id}")
        named = named_points([text], _truth(example)["names"])
        names, points = [name for name, _ in named], [point for _, point in named]
        anywhere = [(rng.randrange(view.frame.width), rng.randrange(view.frame.height)) for _ in named]
        rotated = list(zip(names, points[1:] + points[:1], strict=True)) if len(named) > 1 else []
        rows.append(
            {
                "hits": hit_rate(named, example, view),
                "hits_shuffled": hit_rate(rotated, example, view),
                "hits_random": hit_rate(list(zip(names, anywhere, strict=True)), example, view),
            }
        )
    for name, place in (("moved", another_thing), ("placebo", same_thing), ("resampled", same_place)):
        pairs = zip(examples, texts, strict=True)
        beginnings = [up_to_first_point(example, text, view, place) for example, text in pairs]
        retold = tell_from(policy, examples, beginnings, "grounded", **limits)
        for row, before, after in zip(rows, texts, retold, strict=True):
            row[f"changed_{name}"] = None if after is None else float(last_answer(after) != last_answer(before))
    return rows


def tell_from(
    policy: LocalPolicy,
    examples: Sequence[Example],
    beginnings: Sequence[str | None],
    mode: Mode,
    *,
    max_new_tokens: int,
    temperature: float,
    seed: int,
    earlier: Sequence[Sequence[str]] | None = None,
    zoom: Zoom | None = None,
    prompts: Mapping[str, Prompt] | None = None,
) -> list[str | None]:
    """Turns that begin as given and that the policy goes on with; None stays None.

    `earlier` are the turns before each, all of which look closer, as `zoom` says; left out, there are none. `prompts`
    as in `policy.answer`, where there are none.
    """
    rows = [row for row, beginning in enumerate(beginnings) if beginning is not None]
    before = earlier or [()] * len(examples)
    talks = [
        prompts[examples[row].id]
        if prompts
        else _conversation(policy, examples[row], before[row], mode, zoom or Zoom())
        for row in rows
    ]
    prefixes = [beginnings[row] for row in rows]
    written = policy.complete(
        talks, prefixes=prefixes, max_new_tokens=max_new_tokens, temperature=temperature, seed=seed
    )
    told: list[str | None] = [None] * len(beginnings)
    for row, prefix, completion in zip(rows, prefixes, written, strict=True):
        told[row] = prefix + completion.text
    return told


def _conversation(
    policy: LocalPolicy, example: Example, turns: Sequence[str], mode: Mode, zoom: Zoom
) -> list[dict[str, Any]]:
    """What a policy has before it after its turns, which all look closer (as in `policy.answer`)."""
    view = policy.view_of(example)
    talk = policy.conversation(example, view.image, mode)
    for number, turn in enumerate(turns, start=1):
        talk += look(view, turn, parse_turn(turn, zoom=True).call, zoom, number)
    return talk


def up_to_first_point(example: Example, text: str, view: View, place: Place) -> str | None:
    """A turn up to its first point, which goes to `place`; None without a point, or where `place` gives none."""
    first = next(iter(find_points(text.partition("</think>")[0])), None)
    moved = place(example, (first.x, first.y), view) if first else None
    if moved is None:
        return None
    # With its full stop, since ")." may be one token, which the policy could not write any more.
    stop = "." if text.startswith(".", first.end) else ""
    return f"{text[: first.start]}({moved[0]}, {moved[1]}){stop}"


def up_to_answer(text: str, keep: Callable[[list[str]], list[str]]) -> str | None:
    """A turn with only the steps that `keep` returns, in its order, up to the tag of the answer.

    None where it thinks fewer than two steps.
    """
    think = parse_turn(text, zoom=False).think or ""
    steps = [step.text.strip() for step in split_steps(think)]
    if len(steps) < 2:
        return None
    before, _, after = text.partition(think)
    space = after[: after.index("</think>")]  # a line end in one turn, a blank in several
    return f"{before}{' '.join(keep(steps))}{space}</think>\n<answer>"


def move_points(text: str, rng: random.Random, frame: Frame) -> str:
    """The text with every point at a random place of `frame`."""
    for mention in reversed(find_points(text)):
        x, y = rng.randrange(frame.width), rng.randrange(frame.height)
        text = f"{text[: mention.start]}({x}, {y}){text[mention.end :]}"
    return text


def with_random_points(propose: StepPolicy, frame: Frame) -> StepPolicy:
    """The step policy, but it does not get to say where it looks: its points go to random places of `frame`."""

    def astray(requests: Sequence[StepRequest]) -> list[Proposal | Refused]:
        moved: list[Proposal | Refused] = []
        for request, proposal in zip(requests, propose(requests), strict=True):
            if isinstance(proposal, Proposal):
                text = move_points(proposal.text, random.Random(request.seed), frame)
                proposal = dataclasses.replace(proposal, text=text)
            moved.append(proposal)
        return moved

    return astray


def step_by_step(propose: StepPolicy, examples: Sequence[Example], *, max_steps: int, seed: int) -> list[str]:
    """Single-turn replies written one step at a time, those of all examples together; the last allowed step answers.

    Raises `Refused` where the policy will not go on with an example.
    """
    chains: list[tuple[str, ...]] = [()] * len(examples)
    answers: list[str | None] = [None] * len(examples)
    rng, going = random.Random(seed), list(range(len(examples)))
    for last in [False] * (max_steps - 1) + [True]:
        requests = [StepRequest(examples[k], chains[k], last, rng.getrandbits(32)) for k in going]
        for k, proposal in zip(tuple(going), propose(requests), strict=True):
            if isinstance(proposal, Refused):
                raise proposal
            answers[k] = proposal.answer
            if proposal.text:
                chains[k] += (proposal.text,)
            if not proposal.text or proposal.answer is not None:
                going.remove(k)
    return [render_single(steps, answer or "") for steps, answer in zip(chains, answers, strict=True)]


def same_place(example: Example, point: tuple[int, int], view: View) -> tuple[int, int] | None:
    """Nothing moves, if the point is on a thing: what changes then is the luck of sampling."""
    return None if things_under([point], example, view) == [None] else point


def same_thing(example: Example, point: tuple[int, int], view: View) -> tuple[int, int] | None:
    """Another pixel of the thing under the point, a quarter of its box away from the middle: the placebo."""
    (thing,) = things_under([point], example, view)
    if thing is None:
        return None
    box = Box(*_truth(example)["boxes"][thing], view.original_frame)
    rng = random.Random(f"{example.id}/{point}")
    dx, dy = rng.choice([(1, 0), (-1, 0), (0, 1), (0, -1)])
    middle = box.center()
    side = (box.right - box.left) // 4
    moved = Point(middle.x + dx * side, middle.y + dy * side, view.original_frame).to(view.frame).rounded()
    return moved if moved != point else middle.to(view.frame).rounded()


def another_thing(example: Example, point: tuple[int, int], view: View) -> tuple[int, int] | None:
    """The middle of a thing of another name than the one under the point."""
    (thing,) = things_under([point], example, view)
    truth = _truth(example)
    others = [k for k, name in enumerate(truth["names"]) if thing is not None and name != truth["names"][thing]]
    if not others:
        return None
    chosen = random.Random(f"{example.id}/{point}").choice(others)
    return Box(*truth["boxes"][chosen], view.original_frame).center().to(view.frame).rounded()


def far_away(example: Example, point: tuple[int, int], view: View) -> tuple[int, int]:
    """Half the frame on along both sides, and round its border: the move where no thing is known to be."""
    sides = view.frame.width, view.frame.height
    x, y = ((value + side // 2) % side for value, side in zip(point, sides, strict=True))
    return x, y


def close_by(example: Example, point: tuple[int, int], view: View) -> tuple[int, int]:
    """Three pixels of the frame towards its middle along both sides: the placebo where no thing is known to be."""
    sides = view.frame.width, view.frame.height
    x, y = (value + 3 if value < side // 2 else value - 3 for value, side in zip(point, sides, strict=True))
    return x, y


# --- all of it, for any policy --------------------------------------------------------------------------------


def suite(
    policy: LocalPolicy,
    examples: Sequence[Example],
    mode: Mode,
    folder: str | Path,
    *,
    max_new_tokens: int,
    temperature: float,
    seed: int,
    zoom: Zoom | None = None,
) -> dict[str, dict[str, Any]]:
    """Intervention -> what it did to a policy's replies; "as it is" and "drawn again" are the controls.

    turns        the replies, one an example; None where the intervention does not apply to it
    accuracy     share of right answers
    effect       accuracy minus that of "as it is", item by item, with a 95 % interval; None for "as it is" itself
    changed      share of answers that are other ones than as it is; so much does "drawn again" by luck alone
    rethought    the same of the last thought
    points       share of replies with a point
    cannot_tell  share of replies that take the way out

    The picture grey or another one, one more option "cannot tell" (where the question lists its options), the tool
    given or taken. Of the last turn the first step alone, the steps in another order, and its first point moved: to
    another thing or within its own, and without a truth half a frame away or by less than 5 pixels. In mode "zoom" also
    looks that show nothing, another picture, or the thing in other colours. Whole replies lie in `folder` as they come,
    and are not made twice.
    """
    Path(folder).mkdir(parents=True, exist_ok=True)
    sampling = {"max_new_tokens": max_new_tokens, "temperature": temperature, "zoom": zoom}
    following = {one.id: other for one, other in zip(examples, [*examples[1:], *examples[:1]], strict=True)}
    offered = all(_last_option(example) for example in examples)
    found: dict[str, tuple[list[Example], list[Sequence[str] | None]]] = defaultdict(lambda: ([], []))
    for start in range(0, len(examples), policy.batch_size):
        some = examples[start : start + policy.batch_size]
        parts = _intervened(policy, some, mode, folder, following, offered, sampling | {"seed": seed + start})
        for name, (items, turns) in parts.items():
            found[name][0].extend(items)
            found[name][1].extend(turns)
    own = found["as it is"][1]
    return {name: _figures(items, turns, own, policy) for name, (items, turns) in found.items()}


def _intervened(
    original: LocalPolicy,
    examples: Sequence[Example],
    mode: Mode,
    folder: str | Path,
    following: Mapping[str, Example],
    offered: bool,
    sampling: dict[str, Any],
) -> dict[str, tuple[Sequence[Example], list[Sequence[str] | None]]]:
    """Intervention -> what was asked, and the turns. `following`: example id -> another example."""
    opened = {example.images: original.view_of(example) for example in examples}  # else once for each intervention
    policy = _seeing(original, lambda example: opened.get(example.images) or original.view_of(example))

    def read(items: Sequence[Example], how: Mode) -> dict[str, Prompt]:
        talks = [policy.conversation(example, policy.view_of(example).image, how) for example in items]
        return {example.id: prompt for example, prompt in zip(items, policy.read(talks), strict=True)}

    def ask(
        name: str,
        items: Sequence[Example],
        who: LocalPolicy = policy,
        how: Mode = mode,
        prompts: dict[str, Prompt] | None = None,
        **more: Any,
    ) -> tuple[Sequence[Example], list[Sequence[str] | None]]:
        path, drawn = Path(folder) / f"{slug(name)}.jsonl", sampling | more | {"chunk": policy.batch_size}
        replies = predict(who, items, how, path, title=name, prompts=prompts or read(items, how), **drawn)
        return items, [reply.turns for reply in replies]

    # A reply begins alike as it is, drawn again and with a changed thought: its prompt is read once for all of them.
    prompts = read(examples, mode)
    found = {
        "as it is": ask("as it is", examples, prompts=prompts),
        "drawn again": ask("drawn again", examples, prompts=prompts, seed=sampling["seed"] + 1),
    }
    grey = [greyed(example) for example in examples]
    changed = {
        "grey": grey,
        "another picture": [dataclasses.replace(one, images=following[one.id].images) for one in examples],
    }
    if offered:
        changed["way out offered"] = [with_way_out(example) for example in examples]
        changed["grey, way out offered"] = [with_way_out(example) for example in grey]
    found |= {name: ask(name, items) for name, items in changed.items()}
    if mode == "zoom":
        found["tool off"] = ask("tool off", examples, how="grounded")
        cuts = {
            "blank": blank_crops,
            "another": crops_of_another(policy, following),
            "recoloured": recoloured_crops(policy),
        }
        for name, cut in cuts.items():
            found[f"{name} looks"] = ask(f"{name} looks", examples, with_other_crops(policy, cut), prompts=prompts)
    else:
        found["tool on"] = ask("tool on", examples, how="zoom")
    own = found["as it is"][1]
    earlier = [turns[:-1] for turns in own]
    for name, begun in _beginnings(policy, examples, [turns[-1] for turns in own], sampling["seed"]).items():
        single = None if mode == "zoom" else prompts
        told = tell_from(policy, examples, begun, mode, earlier=earlier, prompts=single, **sampling)
        pairs = zip(earlier, told, strict=True)
        found[name] = examples, [None if text is None else (*before, text) for before, text in pairs]
    return found


def _beginnings(
    policy: LocalPolicy, examples: Sequence[Example], texts: Sequence[str], seed: int
) -> dict[str, list[str | None]]:
    """Intervention -> the beginnings of changed turns, to be told to their end."""

    def mixed(steps: list[str]) -> list[str]:
        return random.Random(f"{seed}/{steps}").sample(steps, len(steps))

    cuts = {"first step alone": lambda steps: steps[:1], "steps in another order": mixed}
    begun = {name: [up_to_answer(text, keep) for text in texts] for name, keep in cuts.items()}
    known = all("names" in (example.truth or ()) for example in examples)
    move, placebo = (another_thing, same_thing) if known else (far_away, close_by)
    for name, place in (("first point moved", move), ("placebo move", placebo)):
        begun[name] = [
            up_to_first_point(example, text, policy.view_of(example), place)
            for example, text in zip(examples, texts, strict=True)
        ]
    return begun


def _figures(
    examples: Sequence[Example],
    given: Sequence[Sequence[str] | None],
    own: Sequence[Sequence[str]],
    policy: LocalPolicy,
) -> dict[str, Any]:
    rows = []
    for example, turns, before in zip(examples, given, own, strict=True):
        if turns is None:
            continue
        right, said, thought = _outcome(example, turns, policy)
        right_before, said_before, thought_before = _outcome(example, before, policy)
        points = any(find_points(turn) for turn in turns)
        place = named_option(said or "", example.options)
        out = place is not None and example.options[place] == WAY_OUT
        rows.append((right, right - right_before, said != said_before, thought != thought_before, points, out))
    if len(rows) < 2:  # too few for an interval
        names = ("accuracy", "effect", "changed", "rethought", "points", "cannot_tell")
        return {"turns": list(given), **dict.fromkeys(names)}
    right, gained, *others = zip(*rows, strict=True)
    shares = dict(zip(("changed", "rethought", "points", "cannot_tell"), map(share, others), strict=True))
    effect = None if given is own else average(gained)
    return {"turns": list(given), "accuracy": share(right), "effect": effect, **shares}


def _outcome(example: Example, turns: Sequence[str], policy: LocalPolicy) -> tuple[float, str | None, str | None]:
    """Right or not, the answer, and the last thought."""
    grade = benchmarks.grade(example.benchmark, turns, example, frame=policy.frame_of(example))
    return grade.score, last_answer(turns[-1]), parse_turn(turns[-1], zoom=True).think
