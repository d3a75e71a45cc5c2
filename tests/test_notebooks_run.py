"""Every notebook at smoke size by the plain papermill line that README shows; then make has nothing to do."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from vigorl_lib.runs import read_manifest

ROOT = Path(__file__).parent.parent
STEPS = sorted(path.stem for path in (ROOT / "notebooks").glob("*.ipynb"))
VANILLA = sorted(path.stem for path in (ROOT / "params/arms/vanilla").glob("*.yaml"))  # part of the plain pipeline
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def outputs(tmp_path_factory):
    return tmp_path_factory.mktemp("outputs")


@pytest.mark.parametrize(
    "arm, step",
    [
        *(("vigorl", step) for step in STEPS),
        *(("vanilla", step) for step in VANILLA),
        ("own", "10_eval_general"),
    ],
)
def test_a_notebook_runs_headless(arm, step, outputs):
    folder = outputs / "smoke" / arm / "seed0" / step
    folder.mkdir(parents=True)
    line = [sys.executable, "-m", "papermill", f"notebooks/{step}.ipynb", folder / f"{step}.ipynb"]
    line += ["-f", f"params/smoke/{step}.yaml", "-p", "seed", "0", "-p", "out_dir", folder]
    line += ["-f", f"params/arms/{arm}/{step}.yaml"] if arm != "vigorl" else []
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(line, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-4000:]
    assert "unknown parameter" not in done.stderr
    manifest = read_manifest(folder / "manifest.json")
    assert manifest["step"] == step and manifest["metrics"] and manifest["outputs"]
    assert manifest["seconds"] < 60


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
