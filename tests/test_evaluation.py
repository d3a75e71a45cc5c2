"""Saved evaluations: graded again without model or pictures, and refused where they are not whole."""

import dataclasses
import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from PIL import Image

from vigorl_lib import evaluation, prompts
from vigorl_lib.benchmarks import registry as benchmarks
from vigorl_lib.evaluation import CARD, disagreements, main, regrade, save_evaluation
from vigorl_lib.records import Prediction
from vigorl_lib.views import View, Zoom

OWN = Path(__file__).parent / "own/questions.jsonl"


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


def save(path, examples, replies, mode="direct", **more):
    predictions = [Prediction(example.id, (text,)) for example, text in zip(examples, replies, strict=True)]
    save_evaluation(path, Stub(), examples, predictions, mode, **{"source": "twin", "split": "dev"} | more)
    return path


def reply(example):
    """Right where the answer is a text, else the middle of the box in the frame of Stub."""
    if example.box:
        left, top, right, bottom = example.box
        return f"<answer> ({round((left + right) / 4)}, {round((top + bottom) / 4)}) </answer>"
    return f"<answer> {example.answer} </answer>"


@pytest.mark.parametrize("name", benchmarks.names())
def test_grading_again_needs_the_file_alone(name, tmp_path):
    examples = examples_of(name)
    replies = [reply(example) for example in examples]
    figures = regrade(save(tmp_path / "saved.parquet", examples, replies, temperature=0.5))
    assert tuple(figures) == benchmarks.protocols(name)
    grades = [
        benchmarks.grade(name, text, example, frame=Stub().view_of(example).frame if example.size else None)
        for example, text in zip(examples, replies, strict=True)
    ]
    assert figures["clean"] == benchmarks.aggregate(name, grades) | {"without_judge": 0, "left_out": 0}
    assert figures["clean"]["accuracy"]["value"] > 0.5  # some kinds want an answer in another form


def test_likelihoods_are_graded_again_too(tmp_path):
    examples = examples_of("vstar")
    losses = [[0.1 if place == 0 else 0.9 for place in range(len(example.options))] for example in examples]
    figures = regrade(save(tmp_path / "saved.parquet", examples, ["x"] * 9, losses=losses))
    right = [benchmarks.grade("vstar", found, e, "official").score for found, e in zip(losses, examples, strict=True)]
    assert list(figures) == ["official", "vigorl", "clean"]
    assert figures["official"]["accuracy"]["value"] == sum(right) / 9 > figures["clean"]["accuracy"]["value"]
    with pytest.raises(ValueError, match="losses of 2 examples, not of 9"):
        save(tmp_path / "saved.parquet", examples, ["x"] * 9, losses=losses[:2])


def test_a_row_without_a_judge_is_left_out_and_counted(tmp_path):
    examples = benchmarks.load(OWN)
    figures = regrade(save(tmp_path / "saved.parquet", examples, [reply(example) for example in examples]))
    places = sum(bool(example.polygon) for example in examples)
    assert {protocol: found["without_judge"] for protocol, found in figures.items()} == {"vigorl": places, "clean": 0}
    assert places and figures["vigorl"]["accuracy"]["n"] == len(examples) - places
    alone = [example for example in examples if example.polygon]
    assert list(regrade(save(tmp_path / "saved.parquet", alone, ["x"] * places))) == ["clean"]


def test_the_card_says_how_it_was_made(tmp_path, monkeypatch):
    monkeypatch.setenv("VIGORL_OUTPUTS", str(tmp_path))
    (tmp_path / "revisions.json").write_text('{"array/SAT": "1f2e3d"}')
    examples, path = examples_of("sat2"), tmp_path / "saved.parquet"

    def card(**more):
        save(path, examples, ["x"] * 9, "vanilla", temperature=0.5, **more)
        return json.loads(pq.read_table(path).schema.metadata[CARD])

    found = card()
    assert (found["benchmark"], found["mode"], found["decoding"]) == ("sat2", "vanilla", {"temperature": 0.5})
    assert {"code", "packages", "model"} <= found.keys() and (found["source"], found["split"]) == ("twin", "dev")
    hub = card(source="hub", split="val", revision="abc")
    assert (hub["revision"], hub["split"]) == ("abc", "val")
    assert hub["repositories"] == {"array/SAT": "1f2e3d", "array/SAT-v2": None}, "the commits that are read"
    row = pq.read_table(path).to_pylist()[0]
    assert (row["frame_width"], len(row["prompt_sha256"])) == (336, 64)
    assert "truth" not in row and json.loads(row["example"])["truth"] is None


def test_rows_that_were_left_out_are_counted_beside_every_figure(tmp_path):
    examples, path = examples_of("pope"), tmp_path / "saved.parquet"
    figures = regrade(save(path, examples, ["yes"] * 9, left_out=["row 3: no image", "row 5: no image"]))
    assert {found["left_out"] for found in figures.values()} == {2} and figures["clean"]["accuracy"]["n"] == 9
    assert json.loads(pq.read_table(path).schema.metadata[CARD])["left_out"][0] == "row 3: no image"


def test_an_evaluation_is_asked_once_and_graded_from_its_file(tmp_path, monkeypatch):
    examples, path, asked = examples_of("screenspot"), tmp_path / "saved.jsonl", []

    def answer(policy, waiting, mode, **options):
        asked.append((len(waiting), options["zoom"]))
        return [Prediction(example.id, (reply(example),)) for example in waiting]

    monkeypatch.setattr(evaluation, "answer", answer)
    options = {"source": "twin", "split": "dev", "zoom": Zoom(looks=3), "max_new_tokens": 5, "seed": 2}
    predictions, figures = evaluation.evaluate(Stub(), examples, "zoom", path, **options)
    assert figures == regrade(path.with_suffix(".parquet")) and figures["clean"]["accuracy"]["value"] == 1
    assert evaluation.evaluate(Stub(), examples, "zoom", path, **options) == (predictions, figures)
    assert asked == [(9, Zoom(looks=3))]
    decoding = json.loads(pq.read_table(path.with_suffix(".parquet")).schema.metadata[CARD])["decoding"]
    assert (decoding["zoom"]["looks"], decoding["max_new_tokens"], decoding["seed"]) == (3, 5, 2)


def test_no_picture_is_opened_again_where_the_prediction_tells_its_frame(tmp_path, monkeypatch):
    (example,) = examples_of("sat2")[:1]
    prediction = Prediction(example.id, ("x",), frame=(96, 48))
    monkeypatch.setattr(Stub, "view_of", lambda *_: pytest.fail("opened"))
    save_evaluation(tmp_path / "a.parquet", Stub(), [example], [prediction], "direct", source="twin", split="dev")
    (row,) = pq.read_table(tmp_path / "a.parquet").to_pylist()
    assert (row["frame_width"], row["frame_height"]) == (96, 48)


def test_predictions_of_other_examples_are_refused(tmp_path):
    examples = examples_of("sat2")
    others = [Prediction(f"other-{k}", ("x",)) for k in range(len(examples))]
    with pytest.raises(ValueError, match="are not those of the 9 examples"):
        save_evaluation(tmp_path / "a.parquet", Stub(), examples, others, "direct", source="twin", split="dev")
    assert not list(tmp_path.iterdir())


def test_whatever_protocols_disagree_in_is_named():
    figures = {name: {"accuracy": {"value": value}} for name, value in [("a", 0.5), ("b", 0.505), ("c", 0.6)]}
    assert disagreements(figures) == ["accuracy: a 0.500, c 0.600", "accuracy: b 0.505, c 0.600"]
    same, counts = {"value": 0.5, "n": 9}, {"missing": 0, "reasons": {"right": 3}}
    one = {"accuracy": same, **counts, "mean_of_categories": {"f1": 0.8, "recall": None}}
    other = {"accuracy": same | {"n": 4}, "missing": 4, "mean_of_categories": {"f1": 0.6, "recall": 0.1}}
    assert disagreements({"a": one, "b": other}) == ["mean_of_categories.f1: a 0.800, b 0.600"]


def test_the_command_prints_every_figure_and_names_a_file_that_is_none(tmp_path, capsys):
    examples = examples_of("pope")
    path = save(tmp_path / "saved.parquet", examples, [f"<answer> {e.answer} </answer>" for e in examples])
    assert main(["regrade", str(path)]) == 0
    told = json.loads(capsys.readouterr().out)[str(path)]
    assert told.pop("more_than_a_point_apart") == disagreements(told) and told == regrade(path)
    (tmp_path / "other.parquet").write_bytes(b"not parquet")
    assert main(["regrade", str(path), str(tmp_path / "other.parquet")]) == 2
    assert "other.parquet: not an evaluation" in capsys.readouterr().err


def test_a_record_survives_its_journey():
    example = dataclasses.replace(examples_of("robospatial")[2], images=(), truth=None)
    assert evaluation._example(json.loads(json.dumps(evaluation.to_json(example)))) == example
