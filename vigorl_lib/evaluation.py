"""Predictions of a policy on a benchmark: saved as they finish, resumed by id, graded by anyone at any time.

`python -m vigorl_lib.evaluation regrade FILE.parquet …` prints what every protocol makes of saved evaluations.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from tqdm.auto import tqdm

from vigorl_lib.benchmarks import registry as benchmarks
from vigorl_lib.grounding import Frame
from vigorl_lib.policy import LocalPolicy, answer
from vigorl_lib.prompts import Mode
from vigorl_lib.records import Example, Prediction, append_line, read_lines, to_json
from vigorl_lib.runs import code_version, package_versions
from vigorl_lib.views import Zoom

CARD = b"protocol_card"  # the key of the card among a parquet file's metadata
NOTABLE = 0.01  # protocols whose figures differ by more are named


def load_predictions(path: str | Path) -> dict[str, Prediction]:
    """The saved predictions by example id. Raises ValueError naming file and row where one is not a prediction."""
    found: dict[str, Prediction] = {}
    for row, line in enumerate(read_lines(path), start=1):
        try:
            points = tuple((int(x), int(y)) for x, y in line["points"])
            found[line["id"]] = Prediction(line["id"], tuple(line["turns"]), points, line["tokens"], line["truncated"])
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path}:{row}: not a prediction ({error!r}); delete that line or the file") from error
    return found


def predict(
    policy: LocalPolicy,
    examples: Sequence[Example],
    mode: Mode,
    path: str | Path,
    *,
    max_new_tokens: int,
    temperature: float = 0.0,
    seed: int = 0,
    zoom: Zoom | None = None,
    chunk: int = 128,
    title: str = "",
) -> list[Prediction]:
    """One prediction per example, in their order; each finished chunk is on disk before the next begins.

    Examples whose id is in the file already are not asked again. A chunk is what a crash can cost; sampling is
    seeded per chunk, so a resumed run draws what an unbroken one would have drawn.
    """
    done = load_predictions(path)
    for start in tqdm(range(0, len(examples), chunk), desc=title or mode, unit="chunk", leave=False):
        waiting = [example for example in examples[start : start + chunk] if example.id not in done]
        if not waiting:
            continue
        for prediction in answer(
            policy,
            waiting,
            mode,
            max_new_tokens=max_new_tokens,
            temperature=temperature,
            seed=seed + start,
            zoom=zoom,
        ):
            append_line(path, to_json(prediction))
            done[prediction.id] = prediction
    return [done[example.id] for example in examples]


def texts(examples: Sequence[Example], predictions: Sequence[Prediction]) -> list[Any]:
    """Each example's turns in the examples' order, None where a prediction is missing (graded as wrong)."""
    by_id = {prediction.id: prediction.turns for prediction in predictions}
    return [by_id.get(example.id) for example in examples]


def save_evaluation(
    path: str | Path,
    policy: LocalPolicy,
    examples: Sequence[Example],
    predictions: Sequence[Prediction],
    mode: Mode,
    **decoding: Any,
) -> None:
    """Everything that grading needs, in one parquet file, with a protocol card in its metadata.

    A row holds the example without its pictures and its truth, what the policy wrote, the frame of its points (pixels
    that the model saw) and the SHA-256 of the prompt's text. `decoding` (temperature, seed, max_new_tokens …) goes on
    the card as it is. Raises ValueError where the predictions are not those of the examples.
    """
    if [example.id for example in examples] != [prediction.id for prediction in predictions] or not examples:
        raise ValueError(f"{path}: {len(predictions)} predictions are not those of the {len(examples)} examples")
    rows = []
    for example, prediction in zip(examples, predictions, strict=True):
        frame = policy.view_of(example).frame
        *system, user = policy.conversation(example, None, mode)
        prompt = "\n".join([*(message["content"] for message in system), user["content"][1]["text"]])
        bare = dataclasses.replace(example, images=(), truth=None)
        rows.append(
            {
                "id": example.id,
                "kind": example.kind,
                "question": example.question,
                "answer": example.answer,
                "turns": list(prediction.turns),
                "tokens": prediction.tokens,
                "truncated": prediction.truncated,
                "frame_width": frame.width,
                "frame_height": frame.height,
                "prompt_sha256": hashlib.sha256(prompt.encode()).hexdigest(),
                "example": json.dumps(to_json(bare)),
            }
        )
    card = {
        "benchmark": examples[0].benchmark,
        "mode": mode,
        "decoding": decoding,
        "model": policy.model.config._name_or_path,
        "code": code_version(),
        "packages": package_versions(),
    }
    table = pa.Table.from_pylist(rows)
    table = table.replace_schema_metadata({CARD: json.dumps(card)})
    draft = Path(path).with_name(f".{Path(path).name}.tmp")
    pq.write_table(table, draft)
    draft.replace(path)


def regrade(path: str | Path) -> dict[str, dict[str, Any]]:
    """Protocol -> the benchmark's figures, from a file of `save_evaluation` and nothing else.

    Raises ValueError naming the file where it is none.
    """
    try:
        table = pq.read_table(path)
        benchmark = json.loads(table.schema.metadata[CARD])["benchmark"]
        rows = table.to_pylist()
        examples = [_example(json.loads(row["example"])) for row in rows]
    except (pa.ArrowInvalid, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: not an evaluation that this kit saved ({error!r})") from error
    figures = {}
    for protocol in benchmarks.protocols(benchmark):
        grades = [
            benchmarks.grade(benchmark, row["turns"], example, protocol, frame=_frame(example, row))
            for example, row in zip(examples, rows, strict=True)
        ]
        figures[protocol] = benchmarks.aggregate(benchmark, grades)
    return figures


def disagreements(figures: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The pairs of protocols whose accuracies differ by more than a point, in words."""
    values = {protocol: found["accuracy"]["value"] for protocol, found in figures.items()}
    return [
        f"{one} {values[one]:.3f}, {other} {values[other]:.3f}"
        for place, one in enumerate(values)
        for other in list(values)[place + 1 :]
        if abs(values[one] - values[other]) > NOTABLE
    ]


def _example(value: dict[str, Any]) -> Example:
    """The record that `to_json` wrote: lists become tuples again."""
    tuples = {key: tuple(found) for key in ("options", "images", "box", "size") if (found := value[key]) is not None}
    polygon = tuple(tuple(corner) for corner in value["polygon"])
    return Example(**(value | tuples | {"polygon": polygon}))


def _frame(example: Example, row: Mapping[str, Any]) -> Frame | None:
    if example.size is None:
        return None
    return Frame.resized(Frame.original(*example.size), row["frame_width"], row["frame_height"])


def main(words: Sequence[str] | None = None) -> int:
    """See the module's text; 2 and the reason where it can not be done."""
    parser = argparse.ArgumentParser(prog="python -m vigorl_lib.evaluation")
    parser.add_argument("do", choices=("regrade",))
    parser.add_argument("files", nargs="+", type=Path)
    chosen = parser.parse_args(words)
    for path in chosen.files:
        try:
            figures = regrade(path)
        except (ValueError, OSError) as error:
            print(error, file=sys.stderr)
            return 2
        for protocol, found in figures.items():
            print(f"{path}: {protocol} " + "{value:.3f} [{low:.3f}, {high:.3f}], n = {n}".format(**found["accuracy"]))
        for pair in disagreements(figures):
            print(f"{path}: more than a point apart: {pair}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
