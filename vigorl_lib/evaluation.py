"""Predictions of a policy on a benchmark: saved as they finish, resumed by id, graded by anyone at any time.

`python -m vigorl_lib.evaluation regrade FILE.parquet …` prints what every protocol makes of saved evaluations, as JSON.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import itertools
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from tqdm.auto import tqdm

from vigorl_lib.benchmarks import registry as benchmarks
from vigorl_lib.benchmarks import sources
from vigorl_lib.grounding import Frame
from vigorl_lib.policy import LocalPolicy, Prompt, answer
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
            frame = tuple(line["frame"]) if line.get("frame") else None  # older lines have none
            found[line["id"]] = Prediction(
                line["id"], tuple(line["turns"]), points, line["tokens"], line["truncated"], frame
            )
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
    prompts: Mapping[str, Prompt] | None = None,
) -> list[Prediction]:
    """One prediction per example, in their order; each finished chunk is on disk before the next begins.

    Examples whose id is in the file already are not asked again. A chunk is what a crash can cost; sampling is
    seeded per chunk, so a resumed run draws what an unbroken one would have drawn. `prompts` as in `policy.answer`.
    """
    done = load_predictions(path)
    bar = {"desc": title or mode, "unit": "chunk", "leave": False, "disable": len(examples) <= chunk}
    for start in tqdm(range(0, len(examples), chunk), **bar):
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
            prompts=prompts,
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
    *,
    source: str | Path,
    split: str,
    revision: str | None = None,
    left_out: Sequence[str] | None = None,
    losses: Sequence[Sequence[float]] | None = None,
    **decoding: Any,
) -> None:
    """Everything that grading needs, in one parquet file, with a protocol card in its metadata.

    A row holds the example without its pictures and its truth, what the policy wrote, the frame of its points (pixels
    that the model saw) and the SHA-256 of the prompt's text; with `losses` (`policy.option_losses`) also what a scorer
    by likelihood reads. On the card are `source`, `split`, `revision` and `left_out`, as `load` was given them (and
    wrote what it left out), of the hub's rows the commits that are read without a `revision`, and `decoding`
    (temperature, seed, max_new_tokens …). Raises ValueError where predictions or losses are not those of the examples.
    """
    if [example.id for example in examples] != [prediction.id for prediction in predictions] or not examples:
        raise ValueError(f"{path}: {len(predictions)} predictions are not those of the {len(examples)} examples")
    if losses is not None and len(losses) != len(examples):
        raise ValueError(f"{path}: losses of {len(losses)} examples, not of {len(examples)}; give one list for each")
    rows = []
    for example, prediction in zip(examples, predictions, strict=True):
        sides = prediction.frame
        if sides is None:
            frame = policy.view_of(example).frame
            sides = frame.width, frame.height
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
                "frame_width": sides[0],
                "frame_height": sides[1],
                "prompt_sha256": hashlib.sha256(prompt.encode()).hexdigest(),
                "example": json.dumps(to_json(bare)),
            }
        )
    for row, found in zip(rows, losses or (), strict=False):
        row["losses"] = list(found)
    benchmark = examples[0].benchmark
    commits = sources.commits(benchmarks.family_of(benchmark).hub) if source == "hub" else {}
    hub = {"repositories": commits, "revision": revision} if source == "hub" else {}
    card = {
        "benchmark": benchmark,
        "source": str(source),
        "split": split,
        **hub,
        "left_out": list(left_out or ()),
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

    A protocol grades the rows that it can, `without_judge` counts the others: the released code has no judge for
    polygons, and a protocol that compares likelihoods needs the losses. `left_out` counts the rows that were never
    asked because they are damaged: no figure holds them. Raises ValueError naming the file where it is
    none.
    """
    try:
        table = pq.read_table(path)
        card = json.loads(table.schema.metadata[CARD])
        benchmark, left_out = card["benchmark"], len(card.get("left_out", ()))  # older cards have none
        rows = table.to_pylist()
        examples = [_example(json.loads(row["example"])) for row in rows]
    except (pa.ArrowInvalid, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: not an evaluation that this kit saved ({error!r})") from error
    family, figures = benchmarks.family_of(benchmark), {}
    for protocol in family.graders:
        replies = "losses" if protocol in family.losses else "turns"
        grades = [
            benchmarks.grade(benchmark, row[replies], example, protocol, frame=_frame(example, row))
            for example, row in zip(examples, rows, strict=True)
            if replies in row and not (protocol == "vigorl" and example.polygon)
        ]
        if grades:
            counts = {"without_judge": len(rows) - len(grades), "left_out": left_out}
            figures[protocol] = benchmarks.aggregate(benchmark, grades) | counts
    return figures


def evaluate(
    policy: LocalPolicy,
    examples: Sequence[Example],
    mode: Mode,
    path: str | Path,
    *,
    source: str | Path,
    split: str,
    revision: str | None = None,
    left_out: Sequence[str] | None = None,
    losses: Sequence[Sequence[float]] | None = None,
    zoom: Zoom | None = None,
    title: str = "",
    **sampling: Any,
) -> tuple[list[Prediction], dict[str, dict[str, Any]]]:
    """`predict` into the JSON lines `path`, `save_evaluation` beside them as parquet, and what `regrade` makes of that.

    `sampling` is that of `predict`: max_new_tokens, temperature, seed.
    """
    predictions = predict(policy, examples, mode, path, zoom=zoom, title=title, **sampling)
    saved = Path(path).with_suffix(".parquet")
    decoding = sampling | ({"zoom": dataclasses.asdict(zoom or Zoom())} if mode == "zoom" else {})
    data = {"source": source, "split": split, "revision": revision, "left_out": left_out}
    save_evaluation(saved, policy, examples, predictions, mode, **data, losses=losses, **decoding)
    return predictions, regrade(saved)


def disagreements(figures: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The figures that two protocols put more than a point apart, in words."""
    shares = {protocol: dict(_shares(found)) for protocol, found in figures.items()}
    return [
        f"{name}: {one} {value:.3f}, {other} {shares[other][name]:.3f}"
        for one, other in itertools.combinations(shares, 2)
        for name, value in shares[one].items()
        if name in shares[other] and abs(value - shares[other][name]) > NOTABLE
    ]


def _shares(figures: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, float]]:
    """Dotted name and value of every figure that is no count; what is undefined is left out."""
    for key, found in figures.items():
        value = found.get("value", found) if isinstance(found, Mapping) else found
        if isinstance(value, Mapping):
            yield from _shares(value, f"{above}{key}.")
        elif isinstance(value, float):
            yield f"{above}{key}", value


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
    try:
        figures = {str(path): regrade(path) for path in chosen.files}
    except (ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    told = {path: found | {"more_than_a_point_apart": disagreements(found)} for path, found in figures.items()}
    print(json.dumps(told, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
