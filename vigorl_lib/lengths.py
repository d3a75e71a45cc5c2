"""How long a sample is, in tokens of text and of images, from texts and sizes alone: no picture is decoded."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TypeVar

from vigorl_lib import prompts
from vigorl_lib.images import shown_size
from vigorl_lib.policy import LocalPolicy
from vigorl_lib.prompts import Mode
from vigorl_lib.records import Example
from vigorl_lib.views import Zoom

Thing = TypeVar("Thing")


@dataclasses.dataclass(frozen=True)
class Sample:
    """The length of one conversation: its text tokens, and the tokens of each of its images (patches after merging)."""

    text: int
    images: tuple[int, ...] = ()

    @property
    def tokens(self) -> int:
        return self.text + sum(self.images)


def samples(
    policy: LocalPolicy,
    examples: Sequence[Example],
    mode: Mode,
    turns: Sequence[Sequence[str]] = (),
    *,
    zoom: Zoom | None = None,
) -> list[Sample]:
    """The length of each example's prompt (with the assistant's opening, as in GRPO); exact.

    With `turns`, the policy's messages, that of the whole conversation (as in SFT), each turn but the last followed by
    its crop. Of the pictures only the headers are read. Raises what `images.image_size` raises.
    """
    talks, shown = [], []
    for number, example in enumerate(examples):
        talk, sizes = policy.conversation(example, None, mode), [shown_size(example)]
        written = turns[number] if turns else ()
        for place, text in enumerate(written):
            talk.append({"role": "assistant", "content": text})
            if place + 1 < len(written):
                talk.append({"role": "tool", "content": prompts.observation(None, last=place + 1 == zoom.looks)})
                sizes.append((zoom.size, zoom.size))
        talks.append(talk)
        shown.append(tuple(policy.image_tokens(size) for size in sizes))
    texts = policy.processor.apply_chat_template(talks, tokenize=False, add_generation_prompt=not turns)
    counts = [len(ids) for ids in policy.tokenizer(texts, add_special_tokens=False)["input_ids"]]
    # In the text an image is one placeholder.
    return [Sample(count - len(tokens), tokens) for count, tokens in zip(counts, shown, strict=True)]


def longest_first(things: Sequence[Thing], tokens: Sequence[int]) -> list[Thing]:
    """The things with the longest in front; the others keep their order.

    A batch is padded to its longest row, so what does not fit into memory then fails at the first step. (Only the
    length of a rollout is up to the policy.)
    """
    first = max(range(len(things)), key=tokens.__getitem__)
    return [things[first], *things[:first], *things[first + 1 :]]
