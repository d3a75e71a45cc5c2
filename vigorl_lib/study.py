"""The paper's human study (§A7): people see one step of a trace and its point as a circle, and answer two questions.

*Does the circle overlap the region that the text describes?* Yes, no, or unsure. *It helped me understand*: 1 to 5.
Answers are JSON lines, one each, appended as they are given. A rater is not shown what they have rated, whenever they
come back; each has an order of their own. What a rater left open stays open: it is counted and never filled in. Of two
answers to one item (two windows, say) the first counts; the second is kept in the file, and counted as such.

The paper's sentences were chosen by GPT-4o (those that make sense alone) and rated by 20 people on 80 samples. Here all
steps with a point are candidates.
"""

from __future__ import annotations

import dataclasses
import html
import random
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import ImageDraw

from vigorl_lib import stats
from vigorl_lib.grounding import Point
from vigorl_lib.nano.drawing import png
from vigorl_lib.records import Example, Prediction, append_line, read_lines
from vigorl_lib.traces import Step, find_points, parse_turn, split_steps
from vigorl_lib.views import View

if TYPE_CHECKING:
    import ipywidgets

CIRCLE = "#00BFFF"  # the released marker's colour
SHOWN = "[shown with blue circle]"
OVERLAP, HELPED = ("yes", "no", "unsure"), (1, 2, 3, 4, 5)


@dataclasses.dataclass(frozen=True)
class Item:
    """One step to be rated: its text without the point, and the picture (PNG) with the circle.

    `inside` is whether its point lies in the picture; one outside is shown at the border.
    """

    id: str
    text: str
    picture: bytes
    inside: bool = True


@dataclasses.dataclass(frozen=True)
class Rating:
    """What one rater said of one item. `simulated` where no person did."""

    rater: str
    item: str
    overlap: str
    helped: int
    seconds: float
    simulated: bool = False

    def __post_init__(self) -> None:
        if self.overlap not in OVERLAP or self.helped not in HELPED or not self.rater.strip():
            raise ValueError(
                f"rating of {self.item!r} by {self.rater!r}: overlap {self.overlap!r} must be one of "
                f"{', '.join(OVERLAP)}, helped {self.helped!r} one of 1 to 5, and the rater must have a name"
            )


def steps_to_rate(prediction: Prediction) -> list[Step]:
    """The steps of a reply's thoughts with exactly one point."""
    thoughts = (parse_turn(turn, zoom=True).think or "" for turn in prediction.turns)
    return [step for thought in thoughts for step in split_steps(thought) if len(step.points) == 1]


def sample_items(
    predictions: Sequence[Prediction],
    examples: Sequence[Example],
    view_of: Callable[[Example], View],
    *,
    count: int = 80,
    diameter: int = 100,
    seed: int = 0,
) -> list[Item]:
    """At most one step with a point of each of `count` replies, drawn at random; `diameter` in original pixels.

    A reply without `steps_to_rate` has no item. An item's id is that of its reply and its step's number among these.
    """
    by_id, rng, found = {example.id: example for example in examples}, random.Random(f"study {seed}"), []
    for prediction in rng.sample(predictions, len(predictions)):
        steps = steps_to_rate(prediction)
        if not steps:
            continue
        number = rng.randrange(len(steps))
        view, (point,) = view_of(by_id[prediction.id]), steps[number].points
        text = steps[number].text
        (mention,) = find_points(text)
        text = f"{text[: mention.start]}{SHOWN}{text[mention.end :]}".strip()
        found.append(Item(f"{prediction.id}/{number}", text, _circled(view, point, diameter), view.frame.holds(*point)))
        if len(found) == count:
            break
    return found


def _circled(view: View, point: tuple[int, int], diameter: int) -> bytes:
    image, half = view.original.convert("RGB"), diameter / 2
    place = Point(*point, view.frame).to(view.original_frame)
    x, y = (min(max(float(value), 0), side - 1) for value, side in zip((place.x, place.y), image.size, strict=True))
    box = (x - half, y - half, x + half, y + half)
    ImageDraw.Draw(image).ellipse(box, outline=CIRCLE, width=max(diameter // 16, 2))
    return png(image)


def read_ratings(path: str | Path) -> list[Rating]:
    """The ratings of a file, second ones of an item too. Raises ValueError naming file and row where one is none."""
    found = []
    for row, line in enumerate(read_lines(path), start=1):
        try:
            found.append(Rating(**line))
        except (TypeError, ValueError) as error:
            raise ValueError(f"{path}:{row}: not a rating ({error}); delete that line") from error
    return found


def rate(path: str | Path, rating: Rating) -> None:
    """Append a rating, also where this rater has rated this item before (`summary` counts it)."""
    append_line(path, dataclasses.asdict(rating))


def left(items: Sequence[Item], path: str | Path, rater: str) -> list[Item]:
    """The items that a rater has not rated yet, in the rater's own order."""
    done = {rating.item for rating in read_ratings(path) if rating.rater == rater}
    order = random.Random(f"order of {rater}").sample(items, len(items))
    return [item for item in order if item.id not in done]


def summary(items: Sequence[Item], ratings: Sequence[Rating]) -> dict[str, Any]:
    """What the raters say, and how much they agree.

    overlap     share of yes among yes and no (95 % Wilson; unsure is left out, as in the paper), and `unsure` beside it
    helped      mean of 1 to 5 over all ratings (95 % t interval); helped_yes and helped_no where overlap is so
    agreement   pairs of raters on the same item: share that says the same, and Cohen's kappa of each pair's mean
    open        items that a rater has not rated, over all raters; ratings of items that are not these are `strange`
    twice       ratings of an item by who has rated it before: none of the figures above reads them
    simulated   whether any rating was not a person's
    """
    known = {item.id for item in items}
    ours = [rating for rating in ratings if rating.item in known]
    mine = list({(rating.rater, rating.item): rating for rating in reversed(ours)}.values())  # the first of each
    raters = sorted({rating.rater for rating in mine})
    decided = [rating.overlap == "yes" for rating in mine if rating.overlap != "unsure"]
    by_rater = {name: {r.item: r for r in mine if r.rater == name} for name in raters}
    same, kappas = [], []
    for place, one in enumerate(raters):
        for other in raters[place + 1 :]:
            shared = sorted(by_rater[one].keys() & by_rater[other].keys())
            pair = [(by_rater[one][id].overlap, by_rater[other][id].overlap) for id in shared]
            same += [a == b for a, b in pair]
            kappas += [stats.cohen_kappa(*zip(*pair, strict=True))] if pair else []
    return {
        "raters": len(raters),
        "ratings": len(mine),
        "overlap": stats.share(decided) if decided else None,
        "unsure": Counter(rating.overlap for rating in mine)["unsure"],
        "helped": _mean_helped(mine),
        "helped_yes": _mean_helped([rating for rating in mine if rating.overlap == "yes"]),
        "helped_no": _mean_helped([rating for rating in mine if rating.overlap == "no"]),
        "agreement": {
            "same": stats.share(same) if same else None,
            "kappa": sum(kappas) / len(kappas) if kappas else None,
        },
        "open": sum(len(known) - len(found) for found in by_rater.values()),
        "strange": len(ratings) - len(ours),
        "twice": len(ours) - len(mine),
        "simulated": any(rating.simulated for rating in ratings),
    }


def _mean_helped(ratings: Sequence[Rating]) -> dict[str, float] | None:
    return stats.average([rating.helped for rating in ratings]) if len(ratings) > 1 else None


def form(items: Sequence[Item], path: str | Path, rater: str) -> ipywidgets.Widget:
    """The study as a form in a notebook: one item at a time, from where this rater stopped."""
    import ipywidgets

    waiting: list[Item] = []
    began = time.monotonic()
    words = {"yes": "Yes", "no": "No", "unsure": "Unsure"}
    overlap = ipywidgets.ToggleButtons(options=[(words[key], key) for key in OVERLAP], value=None)
    helped = ipywidgets.ToggleButtons(options=list(HELPED), value=None)
    picture, text, told = ipywidgets.Image(format="png", width=420), ipywidgets.HTML(), ipywidgets.HTML()
    following = ipywidgets.Button(description="Next", button_style="primary")
    body = ipywidgets.VBox(
        [
            picture,
            text,
            ipywidgets.HTML("Does the circle overlap the region that the text describes?"),
            overlap,
            ipywidgets.HTML("It helped me understand (1: not at all, 5: very much)"),
            helped,
            following,
        ]
    )

    def show() -> None:
        nonlocal waiting, began
        waiting = left(items, path, rater)  # another window may have rated some meanwhile
        done = len(items) - len(waiting)
        told.value = f"<b>{done} of {len(items)}</b> rated by {html.escape(rater)}"
        if not waiting:
            body.layout.display, told.value = "none", told.value + ". Thank you: that was the last one."
            return
        picture.value, text.value = waiting[0].picture, f"<p>“{html.escape(waiting[0].text)}”</p>"
        overlap.value = helped.value = None
        began = time.monotonic()

    def go_on(_: object) -> None:
        if overlap.value is None or helped.value is None:
            told.value = "<b>Please answer both questions.</b>"
            return
        seconds = round(time.monotonic() - began, 2)
        rate(path, Rating(rater, waiting[0].id, overlap.value, helped.value, seconds))
        show()

    following.on_click(go_on)
    show()
    return ipywidgets.VBox([told, body])


def simulate(items: Sequence[Item], path: str | Path, rater: str, says: Callable[[Item], Mapping[str, Any]]) -> None:
    """Let a function rate what a rater has left; every rating is marked as simulated."""
    for item in left(items, path, rater):
        said = says(item)
        rate(path, Rating(rater, item.id, said["overlap"], said["helped"], 0.0, simulated=True))
