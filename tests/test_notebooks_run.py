"""Every notebook at smoke size by the plain papermill line that README shows; then make has nothing to do."""

import base64
import io
import json
import os
import random
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml
from PIL import Image

from tests.test_served import Server
from vigorl_lib.benchmarks import registry as benchmarks
from vigorl_lib.evaluation import CARD, regrade
from vigorl_lib.faithfulness import follows_route
from vigorl_lib.policy import load_policy
from vigorl_lib.records import read_lines
from vigorl_lib.runs import PACKAGE, read_manifest
from vigorl_lib.search import dataset

ROOT = Path(__file__).parent.parent
STEPS = sorted(path.stem for path in (ROOT / "notebooks").glob("*.ipynb"))
VANILLA = sorted(path.stem for path in (ROOT / "params/arms/vanilla").glob("*.yaml"))  # part of the plain pipeline
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def outputs(tmp_path_factory):
    return tmp_path_factory.mktemp("outputs")


def run_notebook(step, folder, *more):
    """Its manifest, from a smoke run with more words for papermill."""
    folder.mkdir(parents=True)
    line = [sys.executable, "-m", "papermill", f"notebooks/{step}.ipynb", folder / f"{step}.ipynb"]
    line += ["-f", f"params/smoke/{step}.yaml", "-p", "seed", "0", "-p", "out_dir", folder, *more]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(line, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-4000:]
    assert "unknown parameter" not in done.stderr
    return read_manifest(folder / "manifest.json")


@pytest.mark.parametrize(
    "arm, step",
    [
        *(("vigorl", step) for step in STEPS),
        *(("vanilla", step) for step in VANILLA),
        ("own", "10_eval_general"),
    ],
)
def test_a_notebook_runs_headless(arm, step, outputs):
    overlay = ["-f", f"params/arms/{arm}/{step}.yaml"] if arm != "vigorl" else []
    manifest = run_notebook(step, outputs / "smoke" / arm / "seed0" / step, *overlay)
    assert manifest["step"] == step and manifest["metrics"] and manifest["outputs"]
    assert manifest["seconds"] < 60


def test_the_search_asks_a_server_for_its_steps(tmp_path):
    """A scripted teacher: it is shown the student's pictures, and every request is accounted for."""
    sizes = set()

    def script(body, number):
        picture = body["messages"][1]["content"][0]["image_url"]["url"].partition(",")[2]
        sizes.add(Image.open(io.BytesIO(base64.b64decode(picture))).size)
        draw = random.Random(body["seed"])
        thought = f"<think> Here ({draw.randrange(40)}, {draw.randrange(40)}). </think>"
        return draw.choice([thought, thought, thought + thought, "<answer> left </answer>", f"{thought} <answer> A"])

    server = Server(script)
    more = {"server_url": server.url, "server_model": "m", "concurrency": "4", "max_pixels": "2304"}
    manifest = run_notebook("02_search_traces", tmp_path / "run", *(x for pair in more.items() for x in ("-p", *pair)))
    server.shutdown()
    student = load_policy(PACKAGE / "checkpoints/base", max_pixels=2304)
    examples = [benchmarks.load(name, limit=1, split="train")[0] for name in ("sat2", "vstar")]
    assert sizes == {student.view_of(example).image.size for example in examples}
    account = manifest["metrics"]["account"]
    lines = list(read_lines(tmp_path / "run/requests.jsonl"))
    assert len(lines) == len(server.seen) == account["answered"] == account["calls"] and server.most <= 4
    assert account["unusable"]["two_thoughts"] > 0 and account["unusable"]["cut"] > 0
    assert manifest["metrics"]["judges"]["trees"]["unanswered"] > 0
    assert "requests.jsonl" in manifest["outputs"]


def test_behaviours_are_coded_by_a_server_and_the_suite_asks_any_model(tmp_path):
    """A judge that counts, talks, says nothing or refuses: what it did not count is counted, and no number made up."""

    def script(body, number):
        thought = body["messages"][-1]["content"].split("'''")[1]
        replies = (f"<count>{thought.count('First find')}</count>", "I see several.", "", "<count>1</count>", 400)
        return replies[len(thought) % len(replies)]

    server = Server(script)
    more = {"server_url": server.url, "server_model": "m", "num_labelled": "20", "model": PACKAGE / "checkpoints/zoom"}
    more |= {"mode": "zoom", "benchmark": "vstar", "num_suite": "3"}
    manifest = run_notebook("11_behaviours", tmp_path / "run", *(x for pair in more.items() for x in ("-p", *pair)))
    server.shutdown()
    metrics, codes = manifest["metrics"], list(read_lines(tmp_path / "run/codes.jsonl"))
    assert len(codes) == 4 * 20 and "codes.jsonl" in manifest["outputs"]
    bare = [code for code in codes if code["count"] is None]
    assert bare and all(code["reason"] for code in bare)
    coder = metrics["coder"]
    assert sum(coder["not_counted"].values()) == len(bare) == len(codes) - sum(coder["n"].values())
    assert {coder[told]["n"] for told in ("precision", "recall")} == {20}
    assert {"grey", "tool_off", "blank_looks", "first_point_moved"} <= metrics["own"].keys()
    for row in (*metrics["tool"]["vigorl"].values(), metrics["tool_gain"]["zoom_model"]):
        assert row["low"] <= row["value"] <= row["high"]
    assert (tmp_path / "run/gallery_own.html").exists() and (tmp_path / "run/gallery_vigorl.html").exists()


def test_checked_chains_walk_the_true_route(tmp_path):
    run_notebook("03_warm_start", tmp_path / "run", "-p", "checked_steps", "True")
    chains = dataset.load(tmp_path / "run/chains")
    numbers = [int(chain.tree_id.split("-")[4]) for chain in chains]
    by_id = {x.id: x for x in benchmarks.load("sat2", limit=max(numbers) + 1, split="train")}
    view = load_policy(PACKAGE / "checkpoints/base").view_of(next(iter(by_id.values())))
    assert chains and all(follows_route(chain.steps, by_id[chain.tree_id], view) for chain in chains)


@pytest.mark.parametrize(
    ("step", "said"),
    [
        ("03_warm_start", "trees.jsonl: its points are not in the frame of {model} .*run 02_search_traces"),
        ("04_grounded_grpo", "none ships with the package; run 03_warm_start first"),
        ("05_zoom_grpo", "zoom_chains.jsonl: its points are not in the frame of {model} .*run 02_search_traces"),
    ],
)
def test_another_model_does_not_learn_from_what_ships(step, said, tmp_path):
    model = shutil.copytree(PACKAGE / "checkpoints/base", tmp_path / "model")
    settings = json.loads((model / "processor_config.json").read_text())
    settings["image_processor"]["size"]["longest_edge"] *= 4
    (model / "processor_config.json").write_text(json.dumps(settings))
    with pytest.raises(AssertionError, match=re.compile(said.format(model=model), re.DOTALL)):
        run_notebook(step, tmp_path / "run", "-p", "model", model)
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == [f"{step}.ipynb", "started.json"]


@pytest.mark.parametrize(("step", "name"), [("07_eval_visual_search", "benchmark"), ("10_eval_general", "sets")])
def test_an_evaluation_goes_on_without_bad_rows_when_asked(step, name, tmp_path):
    """What was left out is on the card, and counted in the manifest and by regrade."""
    row = {"image": str(ROOT / "tests/own/scene0.png"), "question": "Which?", "options": ["a", "b"], "answer": "b"}
    rows = [{**row, "id": f"q{k}", "split": "test"} for k in range(3)]
    rows[1]["answer"] = ""
    source = tmp_path / "rows.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    more = ["-p", name, "own", "-p", "source", source, "-p", "skip_bad_rows", "True"]
    metrics = run_notebook(step, tmp_path / "run", "-p", "model", PACKAGE / "checkpoints/base", *more)["metrics"]
    assert (metrics["left_out"]["own"] if name == "sets" else metrics["model"]["clean"]["left_out"]) == 1
    (saved,) = (path for path in (tmp_path / "run").rglob("*.parquet") if "own" in path.parts or path.stem == "model")
    (said,) = json.loads(pq.read_table(saved).schema.metadata[CARD])["left_out"]
    assert "row 1" in said and {found["left_out"] for found in regrade(saved).values()} == {1}


def test_the_report_shows_every_benchmark_that_was_asked(outputs):
    lacking = read_manifest(outputs / "smoke/vigorl/seed0/12_report/manifest.json")["metrics"]["benchmarks_lacking"]
    asked = yaml.safe_load((ROOT / "params/smoke/10_eval_general.yaml").read_text())["sets"]
    assert lacking == ", ".join(name for name in ("gqa", "ai2d", "realworldqa", "mathvision") if name not in asked)


def test_a_second_run_does_nothing(outputs):
    assert len(list(outputs.glob("smoke/vigorl/seed0/*/manifest.json"))) == len(STEPS) > 0
    ready = Path(sys.prefix) / ".ready"
    line = ["make", "-n", "-o", ready, "smoke", f"VENV={sys.prefix}", f"VIGORL_OUTPUTS={outputs}"]
    plan = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert "papermill" not in plan
