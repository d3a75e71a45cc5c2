"""GQA (`lmms-lab/GQA`): compositional questions about photographs, answered by a word or two.

Split `testdev`: 12,578 balanced questions and 398 images in two configs, joined by `imageId` = `id`. Columns read:
`imageId`, `question`, `answer`, `types` (its `structural` is the kind). Not in the paper.

`official` is string equality, as in GQA's `eval.py`, after what LLaVA's converter does to a reply: the last full stops
go, and capitals. lmms-eval lowers and deletes all punctuation, and does not strip. `clean` ignores case, punctuation,
outer blanks and a leading article.
"""

from __future__ import annotations

import random
from typing import Any

from vigorl_lib.benchmarks.family import Family, Grade, Hub, Reply, Row
from vigorl_lib.benchmarks.graders import answer_span, clean_text, released_choice, verdict
from vigorl_lib.benchmarks.sources import encoded_image, text_cell
from vigorl_lib.nano import general
from vigorl_lib.prompts import clean_user_text
from vigorl_lib.records import Example

REQUEST = "Answer the question using a single word or phrase."
KINDS = ("choose", "compare", "logical", "query", "verify")


def example(row: Row, id: str, seed: int) -> Example:
    """The record of one joined row; the image stays encoded. Raises ValueError on a row that cannot be asked."""
    types = row["types"]
    kind = types.get("structural") if isinstance(types, dict) else None
    if kind not in KINDS:
        raise ValueError(f"column 'types' must name one of {', '.join(KINDS)} as 'structural', not {types!r}")
    return Example(
        id=id,
        benchmark="gqa",
        kind=kind,
        question=f"{clean_user_text(text_cell(row, 'question'))}\n{REQUEST}",
        options=(),
        answer=text_cell(row, "answer"),
        images=(encoded_image(row["image"]),),
    )


def twin(rng: random.Random, number: int, *, resolution: float = 1.0, **knobs: Any) -> tuple[Row, dict[str, Any]]:
    """A procedural row and its ground truth; `knobs` of `general.scene_of`."""
    kind = general.GQA[number % len(general.GQA)]
    question = general.gqa(rng, kind, **knobs).scaled(resolution)
    return general.gqa_row(question, number), question.truth


def official(reply: Reply, example: Example) -> Grade:
    """String equality after LLaVA's conversion; see the module's text."""
    said = (answer_span(reply) or "").rstrip(".").lower()
    return verdict(said == example.answer, said)


FAMILY = Family(
    name="gqa",
    columns=("imageId", "question", "answer", "types"),
    hub=Hub(
        # The first id leads to the second by now.
        repos=dict.fromkeys(("lmms-lab/GQA", "lmms-lab-encoder/GQA"), "a6e72d6e1b912da88af8b2f9eba05d5ea8ec2dd8"),
        files={"testdev": "testdev_balanced_instructions/testdev-*.parquet"},
        rows={"testdev": (12578,)},
        images=("testdev_balanced_images/testdev-*.parquet", "imageId", 398),
    ),
    example=example,
    twin=twin,
    knobs=("radii", "distractors", "resolution"),
    graders={"official": official, "vigorl": released_choice, "clean": clean_text},
)
