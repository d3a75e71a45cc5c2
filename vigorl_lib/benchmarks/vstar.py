"""V*Bench (`lmms-lab/vstar-bench`): small things in large photographs, answered by a letter.

One split `test` of 191 rows: 115 `direct_attributes` with four options, 76 `relative_position` with two.
Columns: `image`, `text` ("Q? (A) … (B) …", then the request for a letter), `category`, `label` (a letter),
`question_id`. The options keep the row's order, which the makers mixed. (The original repository
`craigwu/vstar_bench` stores the right one first and is not read here.)

`official` (`vstar_bench_eval.py`) is a likelihood: the option with the lowest mean cross-entropy is chosen.
lmms-eval and VLMEvalKit take letters from free text instead; lmms-eval reads "Because …" as B and
"A blue car" as A. `vigorl` compares with the letter (see `graders.released_choice`).
"""

from __future__ import annotations

import random
from typing import Any

from vigorl_lib.answers import letter, right_option
from vigorl_lib.benchmarks.family import Family, Grade, Hub, Reply, Row
from vigorl_lib.benchmarks.graders import clean_choice, losses_of, released_choice, verdict
from vigorl_lib.benchmarks.sources import encoded_image, text_cell
from vigorl_lib.nano import twins
from vigorl_lib.prompts import options_as_letters
from vigorl_lib.records import Example

_REQUEST = "Answer with the option's letter from the given choices directly."


def split_text(text: str) -> tuple[str, tuple[str, ...]]:
    """The question and the options of a row's `text`. Raises ValueError where they cannot be told apart."""
    head, *options = [text.strip().removesuffix(_REQUEST).strip()]
    for place in range(26):
        before, mark, after = (options or [head])[-1].partition(f"({letter(place)})")
        if not mark:
            break
        if options:
            options[-1] = before.strip()
        else:
            head = before.strip()
        options.append(after.strip())
    if not head or len(options) < 2 or not all(options) or "\n" in options[-1]:
        raise ValueError(f"no question with options (A), (B) … in column 'text': {text!r}")
    return head, tuple(options)


def example(row: Row, id: str, seed: int) -> Example:
    """The record of one row; the image stays encoded. `seed` changes nothing: the order is the row's.

    Raises ValueError on a row that cannot be asked.
    """
    question, options = split_text(text_cell(row, "text"))
    letters = [letter(place) for place in range(len(options))]
    label = text_cell(row, "label")
    if label not in letters:
        raise ValueError(f"the label {label!r} is not one of the letters {letters}")
    if set(options) & set(letters):
        raise ValueError(f"the options {options} are themselves letters, so an answer could mean two of them")
    return Example(
        id=id,
        benchmark="vstar",
        kind=text_cell(row, "category"),
        question=options_as_letters(question, options),
        options=options,
        answer=label,
        images=(encoded_image(row["image"]),),
    )


def twin(rng: random.Random, number: int, *, resolution: float = 1.0, **knobs: Any) -> tuple[Row, dict[str, Any]]:
    """A procedural row and its ground truth; `knobs` of `twins.vstar_item`."""
    item = twins.vstar_item(rng, **knobs)
    return twins.vstar_row(item, question_id=number, resolution=resolution), twins.truth(item, resolution)


def official(losses: Reply, example: Example) -> Grade:
    """Right where no option is likelier than the right one.

    `losses` are mean cross-entropies in the order of `example.options`. A tie with the right option counts
    as right, because the official file lists that first and takes the first minimum.
    """
    losses, right = losses_of(losses, example), right_option(example)
    best = min(losses)
    chosen = right if losses[right] == best else losses.index(best)
    return verdict(chosen == right, letter(chosen))


FAMILY = Family(
    name="vstar",
    columns=("image", "text", "category", "label", "question_id"),
    hub=Hub(
        repos={"lmms-lab/vstar-bench": None, "lmms-lab-encoder/vstar-bench": None},
        files={"test": "*test-*.parquet"},
        rows={"test": (191,)},
        parts=("category", {"direct_attributes": 115, "relative_position": 76}),
    ),
    example=example,
    twin=twin,
    knobs=("hops", "radii", "distractors", "resolution"),
    graders={"official": official, "vigorl": released_choice, "clean": clean_choice},
    losses=("official",),
)
