"""Saved evaluations: graded again without model or pictures, and refused where they are not whole."""

import dataclasses
import json

import pyarrow.parquet as pq
import pytest
from PIL import Image

from vigorl_lib import evaluation, prompts
from vigorl_lib.benchmarks import registry as benchmarks
from vigorl_lib.evaluation import CARD, disagreements, main, regrade, save_evaluation
from vigorl_lib.records import Prediction
from vigorl_lib.views import View


class Stub:
    """Knows the one thing of a policy that saving asks for: what it would see of an example."""

    class model:
        class config:
            _name_or_path = "stub"

    def conversation(self, example, image, mode):
        return prompts.conversation(example, image, mode)

    def view_of(self, example):
        width, height = example.size or (672, 672)
        return View(Image.new("RGB", (width, height)), Image.new("RGB", (width // 2, height // 2)))


def examples_of(name):
    return benchmarks.load(name, "twin", split="dev", limit=9, seed=1)


def reply(example):
    """Right where the answer is a text, else the middle of the box in the frame of Stub."""
    if example.box:
        left, top, right, bottom = example.box
        return f"<answer> ({round((left + right) / 4)}, {round((top + bottom) / 4)}) </answer>"
    return f"<answer> {example.answer} </answer>"


@pytest.mark.parametrize("name", benchmarks.names())
def test_grading_again_needs_the_file_alone(name, tmp_path):
    examples, path = examples_of(name), tmp_path / "saved.parquet"
    predictions = [Prediction(example.id, (reply(example),)) for example in examples]
    save_evaluation(path, Stub(), examples, predictions, "direct", temperature=0.5)
    figures = regrade(path)
    assert tuple(figures) == benchmarks.protocols(name)
    grades = [
        benchmarks.grade(name, found.turns, example, frame=Stub().view_of(example).frame if example.size else None)
        for example, found in zip(examples, predictions, strict=True)
    ]
    assert figures["clean"] == benchmarks.aggregate(name, grades)
    assert figures["clean"]["accuracy"]["value"] > 0.5  # some kinds want an answer in another form


def test_the_card_says_how_it_was_made(tmp_path):
    examples, path = examples_of("sat2"), tmp_path / "saved.parquet"
    save_evaluation(path, Stub(), examples, [Prediction(e.id, ("x",)) for e in examples], "vanilla", temperature=0.5)
    table = pq.read_table(path)
    card = json.loads(table.schema.metadata[CARD])
    assert (card["benchmark"], card["mode"], card["decoding"]) == ("sat2", "vanilla", {"temperature": 0.5})
    assert {"code", "packages", "model"} <= card.keys()
    row = table.to_pylist()[0]
    assert (row["frame_width"], len(row["prompt_sha256"])) == (336, 64)
    assert "truth" not in row and json.loads(row["example"])["truth"] is None


def test_predictions_of_other_examples_are_refused(tmp_path):
    examples = examples_of("sat2")
    others = [Prediction(f"other-{k}", ("x",)) for k in range(len(examples))]
    with pytest.raises(ValueError, match="are not those of the 9 examples"):
        save_evaluation(tmp_path / "saved.parquet", Stub(), examples, others, "direct")
    assert not list(tmp_path.iterdir())


def test_protocols_that_disagree_are_named():
    figures = {name: {"accuracy": {"value": value}} for name, value in [("a", 0.5), ("b", 0.505), ("c", 0.6)]}
    assert disagreements(figures) == ["a 0.500, c 0.600", "b 0.505, c 0.600"]


def test_the_command_names_a_file_that_is_none(tmp_path, capsys):
    examples, path = examples_of("pope"), tmp_path / "saved.parquet"
    predictions = [Prediction(e.id, (f"<answer> {e.answer} </answer>",)) for e in examples]
    save_evaluation(path, Stub(), examples, predictions, "direct")
    assert main(["regrade", str(path)]) == 0
    assert "clean 1.000" in capsys.readouterr().out
    (tmp_path / "other.parquet").write_bytes(b"not parquet")
    assert main(["regrade", str(tmp_path / "other.parquet")]) == 2
    assert "other.parquet: not an evaluation" in capsys.readouterr().err


def test_a_record_survives_its_journey():
    example = dataclasses.replace(examples_of("robospatial")[2], images=(), truth=None)
    assert evaluation._example(json.loads(json.dumps(evaluation.to_json(example)))) == example
