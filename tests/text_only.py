"""How each general twin asks, without a picture, and a reader who tries to answer from the text alone (naive Bayes)."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence

from vigorl_lib.nano import blink, diagrams, general, problems
from vigorl_lib.nano.drawing import Question

# The question number so and so.
ASK: dict[str, Callable[[random.Random, int], Question]] = {
    "pope": lambda rng, k: general.pope(rng, general.POPE[k % 3]),
    "gqa": lambda rng, k: general.gqa(rng, general.GQA[k % 5]),
    "robospatial": lambda rng, k: general.robospatial(rng, general.ROBOSPATIAL[k % 2]),  # context: bench_twins
    "realworldqa": lambda rng, k: general.realworldqa(rng, general.REALWORLDQA[k % 2]),
    "blink": lambda rng, k: list(blink.TASKS.values())[k % 14](rng),
    "ai2d": lambda rng, k: diagrams.ai2d(rng, diagrams.AI2D[k % 3]),
    "mathvision": lambda rng, k: problems.mathvision(rng, k % len(problems.MATHVISION)),
    "wemath": lambda rng, k: problems.wemath(rng, k % problems.WEMATH_ROWS),
}


def _features(question: Question, place: int) -> Iterator[tuple[str, str | int]]:
    """What the reader sees of an option: its text, words and place, alone and beside each word of the question."""
    option = question.options[place]
    words = {"", question.kind, *question.text.lower().replace("?", " ").replace(".", " ").split()}
    return ((word, part) for word in words for part in {option, *option.split(), place})


def answered(learn: Sequence[Question], test: Sequence[Question]) -> float:
    """Share of `test` that the words alone answer, for someone who has learnt from `learn`."""
    right, wrong = Counter(), Counter()
    for question in learn:
        for place in range(len(question.options)):
            (right if place == question.place else wrong).update(_features(question, place))
    hits = 0
    for question in test:
        prior = 1 / (len(question.options) - 1)
        scores = [
            sum(math.log((right[f] + prior) / (wrong[f] + 1)) for f in _features(question, place))
            for place in range(len(question.options))
        ]
        hits += scores.index(max(scores)) == question.place
    return hits / len(test)


def chance(questions: Sequence[Question]) -> float:
    """The share that guessing gets right."""
    return sum(1 / len(question.options) for question in questions) / len(questions)


def majority(learn: Sequence[Question], test: Sequence[Question]) -> float:
    """What guessing, always the usual place, or always the usual answer gets right, whichever is most."""
    place, answer = (
        Counter(questions).most_common(1)[0][0]
        for questions in ([question.place for question in learn], [question.answer for question in learn])
    )
    same = (sum(question.place == place for question in test), sum(question.answer == answer for question in test))
    return max(chance(test), *(count / len(test) for count in same))


def margin(questions: Sequence[Question]) -> float:
    """Three standard deviations of what guessing gets right."""
    variances = [(1 - 1 / len(question.options)) / len(question.options) for question in questions]
    return 3 * math.sqrt(sum(variances)) / len(questions)
