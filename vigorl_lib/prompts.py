"""System prompts, question texts and the fixed sentences of the protocol, as constants with their source.

The paper's own prompts say in many words what the nano prompts say in a few: both name the same four
ways to answer. `real` texts are ours, written after the description of the released prompt files
(`src/trainer/rl/examples/format_prompt/`); newlines are newlines (the released files hold a backslash
and an n).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from vigorl_lib.records import Example
from vigorl_lib.traces import clean_user_text

Mode = Literal["direct", "vanilla", "grounded", "zoom"]
MODES: tuple[Mode, ...] = ("direct", "vanilla", "grounded", "zoom")

NANO_SYSTEM: dict[str, str] = {
    "direct": "Answer.",
    "vanilla": "Think, then answer.",
    "grounded": "Think with points, then answer.",
    "zoom": "Look closer with search_coordinate, then answer.",
}

REAL_SYSTEM: dict[str, str] = {
    "direct": (
        "You answer a question about an image. Pick the correct choice and write it as <answer> choice </answer>, "
        "nothing else."
    ),
    "vanilla": (
        "You answer a question about an image. First reason step by step inside <think> </think>, then give the "
        "answer inside <answer> </answer>: the exact text of the chosen option, without its letter.\n"
        "Write both parts, the reasoning first. If no option fits perfectly, take the most likely one, and check it "
        "before you answer."
    ),
    "grounded": (
        "You answer a question about an image. Reason step by step and tie every step to one point of the image, "
        "written (x, y) in pixels. Look at several regions, compare them, and check your conclusion.\n"
        "Put all reasoning in one pair of tags, then the answer:\n"
        "<think>\n[step] (x1, y1). [step] (x2, y2). [last check] (x3, y3).\n</think>\n<answer> answer </answer>\n"
        "The answer is the exact text of an option, without its letter."
    ),
    "zoom": (
        "You answer a question about an image in several turns. Each turn holds exactly one <think> </think> about "
        "one region, and then one action. Either look closer at a point:\n"
        '<tool_call>\n{"name": "search_coordinate", "arguments": {"coordinate": [x, y]}}\n</tool_call>\n'
        "or, when you are sure, answer:\n<answer> answer </answer>\n"
        "Points are in pixels. Do not look at the same point twice. Look at more than one region before you answer."
    ),
}

RELATIVE_SYSTEM = {
    mode: text.replace("in pixels", "in thousandths of the image's width and height")
    for mode, text in REAL_SYSTEM.items()
}


@dataclasses.dataclass(frozen=True)
class Dialect:
    """How a model is asked and where its points lie; a model folder's config names its own (`vigorl_dialect`).

    system  mode -> system prompt; None where the model's chat template brings one (released ViGoRL checkpoints)
    points  the frame that it writes: pixels of the picture as it sees it, or 0 to 1000 along both sides (Qwen3-VL)
    """

    name: str
    system: Mapping[str, str] | None
    points: Literal["resized", "relative"] = "resized"


NANO = Dialect("nano", NANO_SYSTEM)
DIALECTS = {
    dialect.name: dialect
    for dialect in (
        NANO,
        Dialect("qwen2_5_vl", REAL_SYSTEM),
        Dialect("qwen3_vl", RELATIVE_SYSTEM, "relative"),
        Dialect("released", None),
    )
}

# A served teacher writes one step a request; after the description of the released search's prompt
# (`scripts/mcts/run_mcts_qwen72b.sh`).
TEACHER_SYSTEM = (
    "You answer a question about an image by looking at its regions one after the other. Write exactly one thing per "
    "reply: either the next step of your reasoning, in <think> </think>, with one point of the image as (x, y) in "
    "pixels, or, once you are sure, the final answer in <answer> </answer>.\n"
    "A step says what is at its point and what that means for the question and for the steps before. Explore different "
    "regions first, even unlikely ones; never use a point twice; check several solutions before you answer. If "
    "something can not be told for certain, take what is most likely."
)
TEACHER_ANSWER_DUE = "No more thoughts are left. Give the final answer now, in the format <answer> ... </answer>."

OBSERVATION = "Here is the crop of the image centered on the coordinate:"  # released builder, dot-free wording
ANSWER_IS_DUE = "This was the last look. Answer now."  # stands in the last allowed observation
BACKTRACK = "Wait, this seems off. Let's try something else."  # released chain builder and paper §A5.5.1


def options_as_text(question: str, options: Sequence[str]) -> str:
    """The user's text in the released SAT and BLINK format: the answer is an option's text.

    Marker-like text is neutralised, so that data cannot open a turn or an image.
    """
    lines = [f"{chr(ord('A') + index)}. {clean_user_text(option)}" for index, option in enumerate(options)]
    head = f"Question: {clean_user_text(question)}"
    return "\n".join([head, "Answer Choices:", *lines, "Answer with the text of the option."])


def options_as_letters(question: str, options: Sequence[str]) -> str:
    """The user's text in V*Bench's format: the answer is an option's letter. Neutralised like the other."""
    lines = [f"({chr(ord('A') + index)}) {clean_user_text(option)}" for index, option in enumerate(options)]
    tail = "Answer with the option's letter from the given choices directly."
    return "\n".join([clean_user_text(question), *lines, tail])


def web_step(objective: str, previous: Sequence[str]) -> str:
    """The user's text at one step of a web agent, as in the released step files; neutralised."""
    lines = [f"{number}. {clean_user_text(action)}" for number, action in enumerate(previous, start=1)]
    before = "\n".join(lines)
    return f"OBJECTIVE: {clean_user_text(objective)}\n\nPREVIOUS ACTIONS: \n{before}\n\nIMAGE:\n"


def conversation(example: Example, image: Any, mode: Mode, *, dialect: Dialect = NANO) -> list[dict[str, Any]]:
    """The prompt of an example as chat messages; `image` is the PIL image at the size that the model sees.

    `example.question` is the whole user text, as its benchmark's loader built it.
    """
    if mode not in MODES:
        raise ValueError(f"unknown prompt mode {mode!r}; known: {', '.join(MODES)}")
    system = [{"role": "system", "content": dialect.system[mode]}] if dialect.system else []
    content = [{"type": "image", "image": image}, {"type": "text", "text": example.question}]
    return [*system, {"role": "user", "content": content}]


def observation(crop: Any, *, last: bool) -> list[dict[str, Any]]:
    """The content blocks that a zoom returns: a sentence, the crop, and on the last look the call to answer."""
    blocks = [{"type": "text", "text": OBSERVATION + "\n"}, {"type": "image", "image": crop}]
    return blocks + [{"type": "text", "text": "\n" + ANSWER_IS_DUE}] if last else blocks
