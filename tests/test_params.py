"""Parameter files fit the notebooks that they are for; papermill itself would only warn."""

import re
from pathlib import Path

import nbformat
import pytest
import yaml

from vigorl_lib.runs import check_params, read_parameters

ROOT = Path(__file__).parent.parent
NOTEBOOKS = {path.stem for path in (ROOT / "notebooks").glob("*.ipynb")}
FILES = sorted((ROOT / "params").glob("*/*.yaml")) + sorted((ROOT / "params/arms").glob("*/*.yaml"))
FILES = [path for path in FILES if path.parent.name != "launch"]  # accelerate's own, see test_launching.py
REAL = ("t4", "one_gpu", "paper_3b", "paper_7b")
# The base ships; retraining it is the reader's choice, outside `make reproduce`.
NOT_IN_NANO = {"01_nano_world"}


def stems(profile):
    return {path.stem for path in (ROOT / "params" / profile).glob("*.yaml")}


@pytest.mark.parametrize("file", FILES, ids=lambda path: str(path.relative_to(ROOT / "params")))
def test_a_file_fits_its_notebook(file):
    assert file.stem in NOTEBOOKS, f"no notebook {file.stem}"
    check_params(ROOT / "notebooks" / f"{file.stem}.ipynb", [file])
    for name, value in (yaml.safe_load(file.read_text()) or {}).items():
        assert name not in ("seed", "out_dir"), "make sets these"
        assert isinstance(value, bool | int | float | str), f"{name}: parameters are flat"
        assert not (isinstance(value, str) and looks_like_a_number(value)), f"{name}: a number as text"


def looks_like_a_number(text):
    try:
        float(text)
    except ValueError:
        return False
    return True


def test_arms_are_folders_of_overlays():
    loose = [path.name for path in (ROOT / "params/arms").glob("*") if path.is_file()]
    assert loose == [], "params/arms/<arm>/<notebook>.yaml"


def test_smoke_runs_every_notebook():
    assert stems("smoke") == NOTEBOOKS != set()


def test_reproduce_leaves_out_no_notebook_by_accident():
    assert NOTEBOOKS - stems("nano") <= NOT_IN_NANO


@pytest.mark.parametrize("profile", REAL)
def test_a_real_profile_says_where_each_value_is_from(profile):
    assert stems(profile) == {"02_search_traces", "03_warm_start", "04_grounded_grpo", "05_zoom_grpo", "12_report"}
    for path in (ROOT / "params" / profile).glob("0*.yaml"):
        lines = [line for line in path.read_text().splitlines() if line and not line.startswith("#")]
        sourced = [line for line in lines if re.search(r"# .*([Pp]aper|[Ss]cript|[Rr]eleased|As in|as )", line)]
        assert len(sourced) > 0.6 * len(lines), [line for line in lines if line not in sourced]


@pytest.mark.parametrize("profile", REAL)
def test_a_real_profile_s_steps_fit_together(profile):
    """Points mean the same pixels, and questions have the same ids, from the search to RL; batches can be cut up."""
    search, sft, grpo, zoom = (
        yaml.safe_load((ROOT / "params" / profile / f"{step}.yaml").read_text())
        for step in ("02_search_traces", "03_warm_start", "04_grounded_grpo", "05_zoom_grpo")
    )
    assert search["max_pixels"] == sft["max_pixels"] == grpo["max_pixels"] == zoom["max_pixels"]
    assert search["model"] == sft["model"] == zoom["model"] == grpo["model"]
    assert search.get("source") == sft.get("source") == grpo.get("source")
    assert search.get("zoom_source", "twin") == zoom.get("source", "twin")
    assert search["num_examples"] == sft["num_examples"]
    assert search["precision"] == sft["precision"] == grpo["precision"] == zoom["precision"] != ""
    cards = 8 if "launcher" in grpo else 1
    assert sft["batch_size"] % cards == zoom["sft_batch_size"] % cards == 0
    for values in (grpo, zoom):
        completions = values["prompts_per_step"] * values["group_size"]
        assert completions % values["completions_per_pass"] == 0 == values["completions_per_pass"] % cards
        assert values["load_in_4bit"] <= (values["lora_rank"] > 0)


@pytest.mark.parametrize("file", [f for f in FILES if f.stem[:2] in ("04", "05")], ids=lambda path: path.parent.name)
def test_there_are_questions_for_a_batch_of_rollouts(file):
    """Of fewer TRL makes no batch at all, and trains nothing."""
    defaults = {k: value for k, (_, value) in read_parameters(ROOT / f"notebooks/{file.stem}.ipynb").items()}
    own = ROOT / "params" / ("nano" if file.parent.parent.name == "arms" else file.parent.name) / file.name
    values = defaults | (yaml.safe_load(own.read_text()) or {}) | (yaml.safe_load(file.read_text()) or {})
    assert values["num_examples"] >= values["prompts_per_step"] * values["steps_per_generation"]


def test_the_teacher_is_served_by_one_command():
    """The notebook on search and the profiles that need a served teacher tell the same line."""
    places = [ROOT / f"params/{profile}/02_search_traces.yaml" for profile in ("paper_3b", "paper_7b")]
    book = nbformat.read(ROOT / "notebooks/02_search_traces.ipynb", as_version=4)
    texts = [path.read_text().replace("\n#", "\n") for path in places] + [cell.source for cell in book.cells]
    told = [re.search(r"vllm serve[^}]*}'", text) for text in texts]
    assert len({" ".join(found[0].replace("\\\n", " ").split()) for found in told if found}) == 1
    assert sum(found is not None for found in told) == 3


@pytest.mark.parametrize(("stem", "runs"), [("03_warm_start", 1), ("04_grounded_grpo", 1), ("05_zoom_grpo", 2)])
def test_a_real_model_sees_its_longest_sample_first(stem, runs):
    """Not the nano models: what they learned from, and so what ships, is in the order that it was."""
    cells = nbformat.read(ROOT / "notebooks" / f"{stem}.ipynb", as_version=4).cells
    made = [cell.source for cell in cells if re.search(r"training\.(SFT|GRPO)Settings\(", cell.source)]
    assert len(made) == runs and all("longest_first=bool(model)," in source for source in made)
    for profile in REAL:
        assert yaml.safe_load((ROOT / "params" / profile / f"{stem}.yaml").read_text())["model"]
