"""Four behaviours in a trace, counted by rules: no model is asked (paper §5.3 asks GPT-4o, text only, as we do here).

    regions        different things that the thoughts name (of those whose names are given)
    sub_goals      sentences that set one: "First find …", "I need to …", "next, we …"
    verifications  sentences that look again: "Check: …", "let me verify …"
    backtracks     sentences that take something back: "Wait, …", "let's try something else"

Points are cut out first, so that a trace with points and one without are read alike. Sentences of one behaviour that
follow each other are one instance: "Wait, this seems off. Let's try something else." is one backtrack.
"""

from __future__ import annotations

import dataclasses
import itertools
import re
from collections.abc import Iterable, Sequence

from vigorl_lib.traces import find_points, parse_turn

_SENTENCE = re.compile(r"[^.!?\n]+")
_SUB_GOAL = re.compile(
    r"\b(?:first,? (?:find|look|locate|identify|we|i|let)|(?:i|we) (?:need|have|want) to|next,? (?:i|we|let)\b|"
    r"(?:my|the|our) (?:plan|goal|task) is|let'?s (?:start|begin|break|focus)|to (?:answer|solve|do) this)",
    re.IGNORECASE,
)
_VERIFICATION = re.compile(
    r"\b(?:double-?check|check(?:ing)?|verif(?:y|ying)|confirm(?:s|ed|ing)?|make sure|to be sure|look(?:ing)? again|"
    r"re-?examin(?:e|ing))\b",
    re.IGNORECASE,
)
_BACKTRACK = re.compile(
    r"\b(?:wait|actually|on second thought|scratch that|(?:this|that) (?:seems|is|was|looks) (?:off|wrong|not right)|"
    r"i was (?:wrong|mistaken)|(?:let'?s|let me) (?:try something else|try again|reconsider|go back))\b",
    re.IGNORECASE,
)


@dataclasses.dataclass(frozen=True)
class Behaviours:
    """How often each behaviour occurs in one trace."""

    regions: int
    sub_goals: int
    verifications: int
    backtracks: int


def count_behaviours(turns: Sequence[str], names: Iterable[str] = ()) -> Behaviours:
    """The behaviours in the thoughts of a reply's turns. `names` are those of the things that can be seen.

    A turn without a think block counts whole. A name counts once however often it is said, whatever its case.
    """
    thoughts = [_without_points(_thought(turn)) for turn in turns]
    sentences = [sentence for thought in thoughts for sentence in _SENTENCE.findall(thought) if sentence.strip()]
    said = " ".join(" ".join(thoughts).casefold().split())
    regions = sum(re.search(rf"\b{re.escape(name.casefold())}\b", said) is not None for name in set(names))
    counts = (_runs(pattern, sentences) for pattern in (_SUB_GOAL, _VERIFICATION, _BACKTRACK))
    return Behaviours(regions, *counts)


def _thought(turn: str) -> str:
    think = parse_turn(turn, zoom=True).think
    return turn if think is None else think


def _without_points(text: str) -> str:
    for mention in reversed(find_points(text)):
        text = text[: mention.start] + text[mention.end :]
    return text


def _runs(pattern: re.Pattern[str], sentences: Sequence[str]) -> int:
    """How many runs of neighbouring sentences match."""
    return sum(found for found, _ in itertools.groupby(bool(pattern.search(sentence)) for sentence in sentences))
