"""What a rollout earns: accuracy of its answer, form of its text, points, and a bonus for looking around.

Two protocols. `vigorl` is the released code to the letter (`string_match.py`,
`string_match_grounded_thinking.py`, `string_match_multiturn.py` under
`src/trainer/rl/examples/reward_function/`). `clean` keeps its weights and its idea:

* single turn: .5 accuracy + .5 format × coordinate, in both;
* zoom: .6 accuracy + .4 (format × coordinate + diversity), in both.

Where they differ:

* Accuracy where a place is asked for. Both: the answer's one point lies in the box, borders included, in the frame that
  the model writes in (the released code leaves boxes in `original` pixels, which is wrong for pictures that were made
  smaller). vigorl wants the answer to be `(int, int)` and no more, and takes anything else for malformed.
* Accuracy where an action of a web agent is asked for: half for its verb, half for the rest. vigorl looks for verbs and
  numbers anywhere and never at what is typed or answered; clean reads one whole action.
* Accuracy, single turn. vigorl: the lower-cased prediction equals the gold *as it stands*, so a gold with a
  capital (every letter of V*Bench) is never reached; a letter prefix is dropped unread, so "B. left" is right
  when left is A; an answer over two lines is not found, and then the whole text is compared. clean: what the
  benchmark's grader `clean` says, for any benchmark.
* Accuracy, zoom. vigorl: the first answer, lower-cased, equals the lower-cased gold: "(A)" is wrong for "A".
  clean: as in a single turn.
* Format. vigorl: the outline only: other tags may stand inside, and a line end behind a single turn's answer
  fails. clean: the whole grammar of `traces`.
* Coordinate. vigorl: in `grounded`, one `(x, y)` in the first think, wherever it lies (the docstring of the
  released function asks for two, the paper for valid ones); no demand in `zoom`. clean: in `grounded` at
  least one point; in `grounded` and `zoom` every point and look inside the image.
* Diversity. vigorl: the bonus for every look beyond the first that is at least 10 px from all kept ones,
  right or wrong, without limit. clean: at most four looks count, and only in a right, well-formed rollout.

Why `clean` pays diversity only to right answers: the released bonus gives a wrong rollout .08 for each place
it looks at, whatever that is. Among right answers the bonus still prefers more than one look, which is
what keeps training from collapsing to a single turn (paper, Figure A1).

Five more pay for what one might think is worth paying, and fail (`MUSEUM`; notebook 13 trains with each of them). Their
parts are those of `clean`, only the total differs:

* points_anywhere: half for the format, half for points, up to eight of them, wherever they lie;
* format_only: format and coordinate as in `clean`, whatever the answer;
* substring: as `clean`, but the answer counts as right if the right option stands anywhere in the reply;
* length: half for accuracy, half for words, up to sixty;
* uncapped_bonus: as `vigorl` in `zoom`, but with the bonus for every look beyond the first, wherever it goes.

A single turn in mode `direct` (no think, no points) has a `clean` reward only. Truncated rollouts are not
scored here: training gives them None.
"""

from __future__ import annotations

import dataclasses
import json
import re
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Literal

from vigorl_lib.answers import released_string_match, right_option
from vigorl_lib.benchmarks import registry as benchmarks
from vigorl_lib.benchmarks import visualwebarena
from vigorl_lib.benchmarks.graders import closed_answer
from vigorl_lib.benchmarks.screenspot import released_hit
from vigorl_lib.grounding import Frame
from vigorl_lib.prompts import MODES, Mode
from vigorl_lib.records import Example
from vigorl_lib.traces import END_OF_TURN, Trace, find_points, parse_trace, parse_turn

Protocol = Literal[
    "vigorl", "clean", "points_anywhere", "format_only", "substring", "length", "uncapped_bonus"
]  # fmt: skip
PROTOCOLS: tuple[Protocol, ...] = ("vigorl", "clean")
MUSEUM: tuple[Protocol, ...] = ("points_anywhere", "format_only", "substring", "length", "uncapped_bonus")
ENOUGH_POINTS, ENOUGH_WORDS = 8, 60  # where two of the failing rewards stop paying

DISTINCT_PIXELS = 10  # looks closer than this count as one; in the frame that the model writes
MOST_LOOKS = 4  # that the clean diversity bonus counts; the paper's rollouts allow as many

_THINK_THEN_ANSWER = re.compile(r"</think>\s*+<answer>")
_CHOICE_PREFIX = re.compile(r"[A-Za-z][.)]\s*(.*)")
_RELEASED_POINT = re.compile(r"\(\d+\s*,\s*\d+\)")
_TAG = re.compile(r"</?(?:tool_call|observation|think|answer)>", re.IGNORECASE)
_ANSWER, _ANSWER_END = re.compile("<answer>", re.IGNORECASE), re.compile("</answer>", re.IGNORECASE)
_CALL_START = re.compile(r"<tool_call>\s*+(\{)?")
_CALL_END = re.compile(r"\}\s*+</tool_call>")
# Which tag may follow which, in one rollout from its first think to the end of its answer.
_NEXT_TAG = {
    None: ("<think>",),
    "<think>": ("</think>",),
    "</think>": ("<tool_call>", "<answer>"),
    "<tool_call>": ("</tool_call>",),
    "</tool_call>": ("<observation>",),
    "<observation>": ("</observation>",),
    "</observation>": ("<think>",),
    "<answer>": ("</answer>",),
    "</answer>": (),
}


@dataclasses.dataclass(frozen=True)
class Reward:
    """A rollout's reward and its parts, before weighting.

    accuracy    1 for a right answer, else 0; a web action may be half right
    format      1 for a well-formed rollout, else 0
    coordinate  1 where the points are as the mode wants them (or it wants none), else 0
    diversity   what was added to the format for looking at several places
    problems    what was wrong with the form, in snake_case
    """

    total: float
    accuracy: float
    format: float
    coordinate: float
    diversity: float
    problems: tuple[str, ...]


def score(
    turns: Sequence[str],
    example: Example,
    *,
    mode: Mode,
    protocol: Protocol,
    frame: Frame,
    diversity_bonus: float = 0.2,
) -> Reward:
    """The reward of one rollout.

    `turns` are the policy's own messages in order: one, or several in the mode `zoom`. `frame` is the
    one that the model writes points in (`policy.View.frame`). `diversity_bonus` is the bonus a look, 0 for the
    arm without it.

    Raises ValueError on an unknown mode or protocol, on a number of turns that the mode cannot have, and on
    `direct` with `vigorl`: the released code has no reward for it.
    """
    if mode not in MODES:
        raise ValueError(f"unknown prompt mode {mode!r}; known: {', '.join(MODES)}")
    if protocol not in (*PROTOCOLS, *MUSEUM):
        raise ValueError(f"unknown reward protocol {protocol!r}; known: {', '.join((*PROTOCOLS, *MUSEUM))}")
    if not turns or (mode != "zoom" and len(turns) > 1):
        raise ValueError(f"a rollout in mode {mode!r} cannot have {len(turns)} turns (example {example.id!r})")
    example = benchmarks.in_frame(example, frame)
    if protocol == "clean":
        return _clean(turns, example, mode, frame, diversity_bonus)
    if mode == "direct":
        raise ValueError(f"there is no reward {protocol!r} for the mode 'direct'; use the protocol 'clean'")
    if protocol in MUSEUM:
        return _failing(protocol, turns, example, _clean(turns, example, mode, frame, diversity_bonus))
    if mode == "zoom":
        return _released_zoom(turns, example, diversity_bonus)
    return _released_single(turns[0].removesuffix(END_OF_TURN), example, grounded=mode == "grounded")


def count_distinct(points: Iterable[tuple[int, int]], at_least: int = DISTINCT_PIXELS) -> int:
    """How many points remain when each is dropped that is nearer than `at_least` to one kept before it.

    Euclidean, in order, so not always the largest such set. Linear, because few kept points fit into one
    square cell of side `at_least`. Source: `string_match_multiturn.py`.
    """
    kept: defaultdict[tuple[int, int], list[tuple[int, int]]] = defaultdict(list)
    for x, y in points:
        column, row = x // at_least, y // at_least
        near = (
            point
            for i in (column - 1, column, column + 1)
            for j in (row - 1, row, row + 1)
            for point in kept.get((i, j), ())
        )
        if all((x - a) ** 2 + (y - b) ** 2 >= at_least**2 for a, b in near):
            kept[column, row].append((x, y))
    return sum(map(len, kept.values()))


def _single_turn(accuracy: float, form: float, coordinate: float, problems: Iterable[str]) -> Reward:
    total = 0.5 * accuracy + 0.5 * form * coordinate
    return Reward(total, accuracy, form, coordinate, 0.0, tuple(problems))


def _zoom(accuracy: float, form: float, coordinate: float, diversity: float, problems: Iterable[str]) -> Reward:
    total = 0.6 * accuracy + 0.4 * (form * coordinate + diversity)
    return Reward(total, accuracy, form, coordinate, diversity, tuple(problems))


# --- clean ----------------------------------------------------------------------------------------------


def _clean(turns: Sequence[str], example: Example, mode: Mode, frame: Frame, diversity_bonus: float) -> Reward:
    accuracy = _clean_accuracy(turns, example)
    if mode == "direct":
        problems = _direct_problems(turns[0])
        return _single_turn(accuracy, float(not problems), 1.0, problems)
    trace = parse_trace(turns, zoom=mode == "zoom")
    form = float(trace.well_formed)
    point_problems = () if mode == "vanilla" else _point_problems(trace, frame, wanted=mode == "grounded")
    coordinate = float(not point_problems)
    problems = trace.problems + point_problems
    if mode != "zoom":
        return _single_turn(accuracy, form, coordinate, problems)
    looks = min(count_distinct(trace.calls), MOST_LOOKS)
    diversity = diversity_bonus * max(looks - 1, 0) * accuracy * form * coordinate
    return _zoom(accuracy, form, coordinate, diversity, problems)


def _clean_accuracy(turns: Sequence[str], example: Example) -> float:
    if example.benchmark != visualwebarena.FAMILY.name:
        return benchmarks.grade(example.benchmark, turns, example, "clean").score
    answer = closed_answer(turns)
    return 0.0 if answer is None else visualwebarena.credit(answer, example.answer)


def _direct_problems(text: str) -> tuple[str, ...]:
    """What keeps a text from being exactly `<answer> … </answer>`."""
    turn = parse_turn(text, zoom=False)
    extra = ("think_in_direct",) if turn.think is not None else ()
    return tuple(problem for problem in turn.problems if problem != "no_think") + extra


def _point_problems(trace: Trace, frame: Frame, *, wanted: bool) -> tuple[str, ...]:
    points = trace.points
    if wanted and not points:
        return ("no_point",)
    inside = all(frame.holds(*point) for point in (*points, *trace.calls))
    return () if inside else ("point_outside_image",)


# --- rewards that fail ------------------------------------------------------------------------------------


def _failing(protocol: Protocol, turns: Sequence[str], example: Example, clean: Reward) -> Reward:
    """The rollout's `clean` parts with the total of a reward of the museum."""
    form, text = clean.format * clean.coordinate, "\n".join(turns)
    if protocol == "points_anywhere":
        total = 0.5 * clean.format + 0.5 * min(len(find_points(text)), ENOUGH_POINTS) / ENOUGH_POINTS
    elif protocol == "format_only":
        total = form
    elif protocol == "substring":
        gold = example.options[right_option(example)] if example.options else example.answer
        total = 0.5 * released_string_match(gold, text) + 0.5 * form
    elif protocol == "length":
        total = 0.5 * clean.accuracy + 0.5 * min(len(text.split()), ENOUGH_WORDS) / ENOUGH_WORDS
    else:
        looks = len(parse_trace(turns, zoom=True).calls)
        total = 0.6 * clean.accuracy + 0.4 * clean.format * (1 + 0.2 * max(looks - 1, 0))
    return dataclasses.replace(clean, total=total)


# --- vigorl: the released code ----------------------------------------------------------------------------
# Its regular expressions take quadratic time on hostile text; here the same is found in linear time.


def _released_single(text: str, example: Example, *, grounded: bool) -> Reward:
    problems = []
    if not _is_think_then_answer(text):
        problems.append("not_think_then_answer")
    elif not (answer := (_between(text, "<answer>", "</answer>") or "").strip()):
        problems.append("empty_answer")
    elif example.box and _released_hit(answer, example) is None:
        problems.append("not_a_point")
    form = float(not problems)
    coordinate = 1.0
    if grounded and not _RELEASED_POINT.search(_between(text, "<think>", "</think>") or ""):
        coordinate = 0.0
        problems.append("no_point")
    # Their expression for the answer does not cross a line end.
    inline = (_between(line, "<answer>", "</answer>") for line in text.split("\n"))
    prediction = next((content for content in inline if content is not None), text).strip()
    if example.benchmark == visualwebarena.FAMILY.name:
        return _single_turn(visualwebarena.released_credit(prediction, example.answer), form, coordinate, problems)
    if prefix := _CHOICE_PREFIX.match(prediction):
        prediction = prefix[1].strip()
    same = _released_hit(prediction, example) if example.box else prediction.lower() == example.answer.strip()
    accuracy = float(bool(same))
    return _single_turn(accuracy, form, coordinate, problems)


def _released_hit(answer: str, example: Example) -> bool | None:
    """Whether an answer that is `(int, int)` and no more lies in the box; None if it is something else."""
    return released_hit(answer, example.box) if answer.startswith("(") else None


def _is_think_then_answer(text: str) -> bool:
    """Whether `<think>.*?</think>\\s*<answer>.*?</answer>` matches the whole text, line ends included."""
    middle = _THINK_THEN_ANSWER.search(text, len("<think>"))
    return (
        text.startswith("<think>")
        and text.endswith("</answer>")
        and middle is not None
        and middle.end() <= len(text) - len("</answer>")
    )


def _between(text: str, opening: str, closing: str) -> str | None:
    """The text from the first `opening` to the first `closing` behind it; None where they are not there."""
    start = text.find(opening)
    end = text.find(closing, start + len(opening)) if start >= 0 else -1
    return text[start + len(opening) : end] if end >= 0 else None


def _released_zoom(turns: Sequence[str], example: Example, diversity_bonus: float) -> Reward:
    # The released code scores the whole conversation, in which an observation stands between two turns.
    text = "\n<observation>\n</observation>\n".join(turn.strip().removesuffix(END_OF_TURN) for turn in turns)
    text = text.strip()
    looks, problem = _released_looks(text)
    if problem is None and example.box and _released_hit(_between_any_case(text).strip(), example) is None:
        looks, problem = [], "not_a_point"
    form = float(problem is None)
    diversity = diversity_bonus * max(count_distinct(looks) - 1, 0)
    answer = _between_any_case(text)
    prediction = (text if answer is None else answer).strip().lower()
    same = _released_hit(prediction, example) if example.box else prediction == example.answer.strip().lower()
    accuracy = float(bool(same))
    return _zoom(accuracy, form, 1.0, diversity, () if problem is None else (problem,))


def _released_looks(text: str) -> tuple[list[tuple[int, int]], str | None]:
    """The coordinates of the tool calls and no problem, or no coordinates and the problem."""
    if not text.endswith("</answer>"):
        return [], "no_answer_at_end"
    last = None
    for tag in _TAG.finditer(text):
        if tag[0].lower() not in _NEXT_TAG[last]:
            return [], "tags_out_of_order"
        last = tag[0].lower()
    if last != "</answer>":
        return [], "tags_out_of_order"
    looks = []
    for call in _released_calls(text):
        look = _released_coordinate(call)
        if look is None:
            return [], "bad_call"
        looks.append(look)
    if not (_between(text, "<answer>", "</answer>") or "").strip():
        return [], "empty_answer"
    return looks, None


def _released_calls(text: str) -> list[str]:
    """What `<tool_call>\\s*({.*?})\\s*</tool_call>` finds: a call not beginning with `{` goes unseen."""
    ends = [(match.start(), match.end()) for match in _CALL_END.finditer(text)]
    calls, position = [], 0
    while match := _CALL_START.search(text, position):
        position = match.end()
        if match[1] is None:
            continue
        place = bisect_left(ends, (match.end(), 0))
        if place == len(ends):
            break
        brace, position = ends[place]
        calls.append(text[match.start(1) : brace + 1])
    return calls


def _released_coordinate(call: str) -> tuple[int, int] | None:
    """The two integers of `arguments.coordinate`; the tool's name and other keys are not looked at."""
    try:
        arguments = json.loads(call).get("arguments", {})
    except (ValueError, RecursionError):  # also numbers beyond Python's digit limit, and deep nesting
        return None
    coordinate = arguments.get("coordinate") if isinstance(arguments, dict) else None
    if not isinstance(coordinate, list) or len(coordinate) != 2:
        return None
    if not all(isinstance(number, int) for number in coordinate):  # True and False pass, as they did
        return None
    return coordinate[0], coordinate[1]


def _between_any_case(text: str) -> str | None:
    """The first answer, whatever the case of its tags."""
    start = _ANSWER.search(text)
    end = _ANSWER_END.search(text, start.end()) if start else None
    return text[start.end() : end.start()] if start and end else None
