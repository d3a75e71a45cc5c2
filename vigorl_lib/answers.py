"""The text of an answer: where a reply says it, and which of the offered options it names.

Rewards and graders both read answers with these functions, so a rollout that earns the accuracy reward
`clean` is one that the grader `clean` counts as right. Pure functions of text, linear in its length.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

from vigorl_lib.records import Example

_OPEN, _CLOSE = "<answer>", "</answer>"
# What the released judge deletes (`judge.py:_remove_punctuation_spaces`): these and blanks, not line ends.
_RELEASED_DELETED = str.maketrans("", "", ".?!,;:'\"()[]{}<>/\\|=+-_*&^%$#@`~ ")
_DELETED = str.maketrans("", "", ",;:!?'\"`*_()[]{}\u2018\u2019\u201c\u201d")
_FULL_STOP = re.compile(r"\.(?!\d)")  # "0.5" keeps its point
_HYPHEN = re.compile(r"(?<=[^\W\d_])[-\u2010-\u2014](?=[^\W\d_])")  # "left-hand", but not "-1" or "3-4"
_MARKS = "\"'`*_ \t\n"
_LONE_LETTER = re.compile(r"\(?\s*([A-Za-z])\s*[).:]?")
_LETTERED = re.compile(r"\(?\s*([A-Za-z])\s*[).:]\s*(.*)", re.DOTALL)


def letter(index: int) -> str:
    """The letter of an option's place: 0 is A."""
    return chr(ord("A") + index)


def right_option(example: Example) -> int:
    """The place of the right option; `example.answer` is its text or, in letter benchmarks, its letter.

    Raises ValueError where it is neither.
    """
    if example.answer in example.options:
        return example.options.index(example.answer)
    letters = [letter(index) for index in range(len(example.options))]
    if example.answer in letters:
        return letters.index(example.answer)
    raise ValueError(
        f"example {example.id!r}: the answer {example.answer!r} is neither one of the options "
        f"{list(example.options)} nor one of their letters; load the row again with benchmarks.registry.load"
    )


def last_answer(text: str) -> str | None:
    """What stands, stripped, in the last `<answer>` that is closed; None where there is none."""
    # An answer that opens behind the last closing tag was cut off: the one before it counts.
    start = text.rfind(_OPEN, 0, max(text.rfind(_CLOSE), 0))
    if start < 0:
        return None
    return text[start + len(_OPEN) : text.find(_CLOSE, start)].strip()


def normalise(text: str) -> str:
    """The text without what does not change an answer: case, punctuation, spaces, forms of one character.

    Signs, decimal points, slashes and comparison signs stay, because they tell options apart.
    """
    text = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    text = _FULL_STOP.sub("", _HYPHEN.sub(" ", text.translate(_DELETED)))
    return " ".join(text.split())


def named_option(text: str, options: Sequence[str]) -> int | None:
    """The place of the one option that an answer's text names, or None.

    Accepted are an option's text, its letter ("B", "(b)", "B."), or letter and text ("B. left", "(B) left").
    The whole answer must be that: an option inside a longer sentence, a letter with another option's
    text, and a text that two different options share after `normalise` name none. An option's text goes
    before a letter, so with the options "B" and "A" the answer "B" means the first.
    """
    text = text.strip()
    if text in options:
        return options.index(text)
    bare = normalise(text)
    if bare:
        same = [index for index, option in enumerate(options) if normalise(option) == bare]
        if len({options[index] for index in same}) > 1:
            return None
        if same:
            return same[0]
    place = lone_letter(text)
    if place is not None:
        return place if place < len(options) else None
    if match := _LETTERED.fullmatch(text.strip(_MARKS)):
        place = ord(match[1].upper()) - ord("A")
        if place < len(options) and normalise(match[2]) == normalise(options[place]):
            return place
    return None


def lone_letter(text: str) -> int | None:
    """The place that an answer means which is a letter and no more, such as "B", "(b)" or "**B.**"."""
    match = _LONE_LETTER.fullmatch(text.strip(_MARKS))
    return ord(match[1].upper()) - ord("A") if match else None


def is_right(example: Example, answer: str) -> bool:
    """Whether an answer's text (no tags) names the right option: the search's judge, for one."""
    named = named_option(answer, example.options)
    # Compared as text: an option that a row lists twice is right in both places.
    return named is not None and example.options[named] == example.options[right_option(example)]


def released_string_match(gold: str, prediction: str) -> bool:
    """The released judge `string_match`: is the gold answer a substring of the prediction?

    Both in lower case, without ASCII punctuation and blanks (line ends inside stay). To the letter, so:
    "left or right" is right for "left", "nothing" for "no", "13" for "3", anything for an empty gold, and
    nearly anything for a gold that is a letter.
    Source: `src/vlmsearch/reward_funcs/judge.py`.
    """
    return _released(gold) in _released(prediction)


def _released(text: str) -> str:
    return text.strip().translate(_RELEASED_DELETED).strip().lower()
