"""Parameter files fit the notebooks that they are for; papermill itself would only warn."""

from pathlib import Path

import pytest
import yaml

from vigorl_lib.runs import check_params

ROOT = Path(__file__).parent.parent
NOTEBOOKS = {path.stem for path in (ROOT / "notebooks").glob("*.ipynb")}
FILES = sorted((ROOT / "params").glob("*/*.yaml")) + sorted((ROOT / "params/arms").glob("*/*.yaml"))
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
