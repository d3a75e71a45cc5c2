"""The language of traces: one grammar, one parser, one renderer.

* Single turn: `<think>\\n{steps}\\n</think>\\n<answer> {answer} </answer>`
* Zoom: every turn is one `<think>` and one action, which is an `<answer>` or
  `<tool_call>\\n{"name": "search_coordinate", "arguments": {"coordinate": [x, y]}}\\n</tool_call>`

Tags are lower case, exact and never nested; an `<observation>` is written by the environment, never by the
policy. Points are written `(x, y)`, integers, in the frame that the model writes (see `grounding`). Source:
paper §4.2, §4.3.1 and §A5.5.1; `build_reasoning_chains_from_mcts{,_multiturn}.py` of the released code.

Parsing never raises on text that a model wrote and takes time linear in its length.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterable, Sequence

TOOL_NAME = "search_coordinate"
END_OF_TURN = "<|im_end|>"
MAX_COORDINATE = 10**6

# Possessive quantifiers (`++`, `*+`) never backtrack, which keeps every pattern here linear.
_POINT = re.compile(r"\([ \t]*+(-?[0-9]{1,6}+)[ \t]*+,[ \t]*+(-?[0-9]{1,6}+)[ \t]*+\)")
_POINT_OF_ANY_LENGTH = re.compile(r"\([ \t]*+-?[0-9]++[ \t]*+,[ \t]*+-?[0-9]++[ \t]*+\)")
_SENTENCE_END = re.compile(r"[.!?](?:\s++|\Z)|\n\s*+")
_TAG = re.compile(r"<(/?)(think|tool_call|answer|observation|tool_response)>")
_SPECIAL_TOKEN = re.compile(r"<[|\uff5c][^<>|\uff5c]{1,64}+[|\uff5c]>")
_USER_TAG = re.compile(
    r"<(\s*+/?\s*+(?:think|tool_call|answer|observation|tool_response|tools|image|video)\s*+/?)>",
    re.IGNORECASE,
)


@dataclasses.dataclass(frozen=True)
class Mention:
    """A point `(x, y)` as written at `text[start:end]`."""

    x: int
    y: int
    start: int
    end: int


@dataclasses.dataclass(frozen=True)
class Step:
    """One step of reasoning: its text as written, white space included, and the points in it."""

    text: str
    points: tuple[tuple[int, int], ...]


@dataclasses.dataclass(frozen=True)
class Turn:
    """What one message of the policy says.

    `think` and `answer` are stripped of outer white space (an `<answer></answer>` is `""`, no answer is
    None). `call` is the coordinate to zoom at, in the frame the model writes. `problems` names, in
    snake_case, every way in which the text breaks the grammar.
    """

    think: str | None
    call: tuple[int, int] | None
    answer: str | None
    problems: tuple[str, ...]

    @property
    def well_formed(self) -> bool:
        return not self.problems


@dataclasses.dataclass(frozen=True)
class Trace:
    """The policy's messages of one rollout, in order."""

    turns: tuple[Turn, ...]

    @property
    def answer(self) -> str | None:
        """The last turn's answer."""
        return self.turns[-1].answer if self.turns else None

    @property
    def points(self) -> tuple[tuple[int, int], ...]:
        """Every point mentioned in a think, in order, repeats included."""
        return tuple((m.x, m.y) for turn in self.turns for m in find_points(turn.think or ""))

    @property
    def calls(self) -> tuple[tuple[int, int], ...]:
        return tuple(turn.call for turn in self.turns if turn.call is not None)

    @property
    def problems(self) -> tuple[str, ...]:
        """The turns' problems, each once, and those of their order: the answer ends the trace."""
        found = [problem for turn in self.turns for problem in turn.problems]
        if any(turn.answer is not None for turn in self.turns[:-1]):
            found.append("turn_after_answer")
        if self.answer is None:
            found.append("no_answer")
        return tuple(dict.fromkeys(found))

    @property
    def well_formed(self) -> bool:
        return not self.problems


def find_points(text: str) -> list[Mention]:
    """Every `(x, y)` with integers of at most six digits, an optional minus sign and spaces."""
    return [Mention(int(match[1]), int(match[2]), match.start(), match.end()) for match in _POINT.finditer(text)]


def split_steps(think: str) -> list[Step]:
    """The text cut into steps: each ends with the sentence (`.`, `!`, `?`, or a line end) that holds a point.

    Points in one sentence share a step; what follows the last such sentence is a step without points. White
    space belongs to the step before it, so `"".join(step.text for step in split_steps(text)) == text`; strip
    the texts before giving them to `render_single`. Source: `build_reasoning_chains_from_mcts_multiturn.py`,
    which drops the text after the last point; here nothing is lost.
    """
    steps: list[Step] = []
    start, end, points = 0, 0, []
    for point in _POINT.finditer(think):
        if points and point.start() >= end:
            steps.append(Step(think[start:end], tuple(points)))
            start, points = end, []
        if not points:
            sentence_end = _SENTENCE_END.search(think, point.end())
            end = sentence_end.end() if sentence_end else len(think)
        points.append((int(point[1]), int(point[2])))
    if points:
        steps.append(Step(think[start:end], tuple(points)))
    if end < len(think):
        steps.append(Step(think[end:], ()))
    return steps


def parse_turn(text: str, *, zoom: bool) -> Turn:
    """Read one message of the policy; one final `<|im_end|>` is allowed.

    `zoom=False` wants exactly one think, then one answer, and nothing else but white space around them;
    `zoom=True` wants one think, then one answer or one tool call. Whatever breaks that is named in
    `problems`. Even then `think`, `answer` and `call` hold the first block of their kind that opens and
    closes without another tag inside, so that a reward can still judge the answer.
    """
    text = text.rstrip().removesuffix(END_OF_TURN)
    blocks, problems = _blocks(text)
    thinks, calls, answers = (
        [content for name, content in blocks if name == kind] for kind in ("think", "tool_call", "answer")
    )
    if _SPECIAL_TOKEN.search(text):
        problems.append("special_token")
    if not thinks:
        problems.append("no_think")
    elif blocks[0][0] != "think":
        problems.append("action_before_think")
    for several, problem in ((thinks, "two_thinks"), (calls, "two_calls"), (answers, "two_answers")):
        if len(several) > 1:
            problems.append(problem)
    if calls and not zoom:
        problems.append("call_without_zoom")
    elif calls and answers:
        problems.append("call_and_answer")
    if not answers and not (zoom and calls):
        problems.append("no_action" if zoom else "no_answer")
    if answers and not answers[0]:
        problems.append("empty_answer")
    if thinks and any(not _POINT.fullmatch(m[0]) for m in _POINT_OF_ANY_LENGTH.finditer(thinks[0])):
        problems.append("bad_point")
    call, problem = _parse_call(calls[0]) if calls else (None, None)
    if problem is not None:
        problems.append(problem)
    return Turn(
        think=thinks[0] if thinks else None,
        call=call,
        answer=answers[0] if answers else None,
        problems=tuple(dict.fromkeys(problems)),
    )


def step_problem(text: str, *, must_answer: bool) -> str:
    """Why a reply is neither one thought nor an answer, in a word; "" where it is.

    The words are empty, two_thoughts, two_answers, answer_in_thought, cut (a tag that is never closed), no_answer
    (which was due) and no_step (no tags).
    """
    thought, closed, _ = text.partition("</think>")
    if text.count("<think>") > 1:
        return "two_thoughts"
    if text.count("<answer>") > 1:
        return "two_answers"
    if closed and "<answer>" in thought:
        return "answer_in_thought"
    turn = parse_turn(text, zoom=False)
    if turn.answer is not None or (turn.think and not must_answer and "<answer>" not in text):
        return ""
    if "unclosed_tag" in turn.problems:
        return "cut"
    if not (turn.think or _TAG.sub("", text).strip()):
        return "empty"
    return "no_answer" if must_answer else "no_step"


def parse_trace(turns: Sequence[str], *, zoom: bool) -> Trace:
    """Read the policy's messages of one rollout, in order (see `parse_turn`)."""
    return Trace(tuple(parse_turn(turn, zoom=zoom) for turn in turns))


def render_single(steps: Iterable[str], answer: str) -> str:
    """A single-turn completion."""
    return f"<think>\n{' '.join(steps)}\n</think>\n<answer> {answer} </answer>"


def render_call(think: str, point: tuple[int, int]) -> str:
    """A turn that zooms at `point`, in the frame the model writes."""
    call = json.dumps({"name": TOOL_NAME, "arguments": {"coordinate": [point[0], point[1]]}})
    return f"<think> {think} </think>\n<tool_call>\n{call}\n</tool_call>"


def render_answer(think: str, answer: str) -> str:
    """The last turn of a trace with zoom."""
    return f"<think> {think} </think>\n<answer> {answer} </answer>"


def clean_user_text(text: str) -> str:
    """Text from a dataset, unable to inject structure: `<think>` becomes `[think]`, `<|x|>` becomes `[|x|]`.

    Every other `<` stays. Cleaning twice changes nothing more.
    """
    text = _SPECIAL_TOKEN.sub(lambda match: f"[{match[0][1:-1]}]", _USER_TAG.sub(r"[\1]", text))
    # Half a special token is no harm alone, but might meet its other half where texts are joined.
    return text.replace("<|", "[|").replace("<\uff5c", "[\uff5c")


def _blocks(text: str) -> tuple[list[tuple[str, str]], list[str]]:
    """Every block without a tag inside, as (name, stripped content), and what is wrong with the tags."""
    tags = list(_TAG.finditer(text))
    last_closing = {tag[2]: position for position, tag in enumerate(tags) if tag[1]}
    blocks: list[tuple[str, str]] = []
    problems: list[str] = []
    outside: list[str] = []
    position = cursor = 0
    while position < len(tags):
        tag = tags[position]
        closing = tags[position + 1] if position + 1 < len(tags) else None
        if tag[2] in ("observation", "tool_response"):
            problems.append("observation_in_output")
        elif tag[1]:
            problems.append("unopened_tag")
        elif closing is not None and closing[1] and closing[2] == tag[2]:
            blocks.append((tag[2], text[tag.end() : closing.start()].strip()))
            outside.append(text[cursor : tag.start()])
            cursor = closing.end()
            position += 1
        elif last_closing.get(tag[2], -1) > position:
            problems.append("nested_tag")
        else:
            problems.append("unclosed_tag")
        position += 1
    outside.append(text[cursor:])
    # Where tags are broken, what is outside cannot be said.
    if not problems and any(part.strip() for part in outside):
        problems.append("text_outside")
    return blocks, problems


def _parse_call(content: str) -> tuple[tuple[int, int] | None, str | None]:
    """The coordinate of a tool call, or None and the problem."""
    try:
        call = json.loads(content)
    except (ValueError, RecursionError):  # also numbers beyond Python's digit limit, and deep nesting
        return None, "bad_call_json"
    if not isinstance(call, dict) or set(call) != {"name", "arguments"}:
        return None, "bad_call_json"
    if call["name"] != TOOL_NAME:
        return None, "bad_tool_name"
    arguments = call["arguments"]
    if not isinstance(arguments, dict) or set(arguments) != {"coordinate"}:
        return None, "bad_coordinate"
    coordinate = arguments["coordinate"]
    # bool is a subclass of int, hence `type`.
    if (
        not isinstance(coordinate, list)
        or len(coordinate) != 2
        or any(type(number) is not int or abs(number) > MAX_COORDINATE for number in coordinate)
    ):
        return None, "bad_coordinate"
    return (coordinate[0], coordinate[1]), None
