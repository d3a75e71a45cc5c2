"""The contract of a notebook, read from its file alone; no kernel runs here."""

import ast
import re
import shutil
import statistics
import subprocess
import sys
from pathlib import Path

import nbformat
import papermill
import pytest

from vigorl_lib.runs import PARAMETER_TYPES, parameter_problem, read_parameters

ROOT = Path(__file__).parent.parent
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
CLOSING = ("What we found", "Limits", "Try it yourself", "Next", "Sources")


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def path(request):
    return request.param


@pytest.fixture
def book(path):
    return nbformat.read(path, as_version=4)


def code(book):
    """The sources of the code cells, without IPython magics, so that they parse as Python."""
    cells = [cell.source for cell in book.cells if cell.cell_type == "code"]
    return [re.sub(r"^(\s*)[%!].*", r"\1pass", source, flags=re.MULTILINE) for source in cells]


def headings(book):
    prose = "\n".join(cell.source for cell in book.cells if cell.cell_type == "markdown")
    return [line[3:].strip() for line in prose.splitlines() if line.startswith("## ")]


def test_there_are_notebooks_and_they_are_numbered_once():
    assert NOTEBOOKS, "notebooks/ holds no notebook"
    assert all(re.fullmatch(r"\d\d_[a-z0-9]+(_[a-z0-9]+)*", path.stem) for path in NOTEBOOKS)
    assert len({path.stem[:2] for path in NOTEBOOKS}) == len(NOTEBOOKS)


def test_it_is_valid_stripped_and_runs_anywhere(book):
    nbformat.validate(book)
    assert book.metadata.kernelspec.name == "python3"
    assert "papermill" not in book.metadata
    for cell in book.cells:
        assert cell.source.strip(), "an empty cell"
        assert "injected-parameters" not in cell.metadata.get("tags", [])
        if cell.cell_type == "code":
            assert not cell.outputs and cell.execution_count is None, "make lint strips outputs"


def test_parameters_are_annotated_commented_literals(path, book):
    parameters = read_parameters(path)
    assert list(parameters)[0] == "seed" and list(parameters)[-1] == "out_dir"
    assert parameters["out_dir"] == ("str", "")
    for name, (kind, default) in parameters.items():
        assert kind in PARAMETER_TYPES
        assert parameter_problem(kind, default) is None, name
        assert type(default).__name__ == kind, f"{name}: the default of a {kind} is written as one"
    cell = next(cell for cell in book.cells if "parameters" in cell.metadata.get("tags", []))
    lines = [line for line in cell.source.splitlines() if ":" in line.split("#")[0]]
    assert all("  # " in line for line in lines), "each parameter has a comment behind it"


def test_papermill_sees_the_same_parameters(path):
    seen = papermill.inspect_notebook(str(path))
    assert list(seen) == list(read_parameters(path)), "no `=` in a comment: papermill drops such a line"


def test_cells_are_few_and_short(path, book):
    cells = [cell for cell in book.cells if "parameters" not in cell.metadata.get("tags", [])]
    sizes = [len(cell.source.splitlines()) for cell in cells if cell.cell_type == "code"]  # parameters are a table
    assert len(book.cells) <= 60
    assert max(sizes) <= 30
    assert len(read_parameters(path)) <= 40, "who steps through reads them all"
    assert statistics.median(sizes) <= 8
    lines = [line for source in code(book) for line in source.splitlines()]
    assert [line for line in lines if len(line) > 100] == []


def test_ideas_are_inline_and_machinery_is_in_the_library(book):
    for source in code(book):
        for node in ast.walk(ast.parse(source)):
            assert not isinstance(node, ast.ClassDef), f"class {node.name} belongs into vigorl_lib"
            if isinstance(node, ast.FunctionDef):
                assert node.end_lineno - node.lineno < 15, f"{node.name} belongs into vigorl_lib"


def test_it_opens_and_closes_like_the_others(path, book):
    opening = book.cells[0]
    assert opening.cell_type == "markdown"
    assert re.match(rf"# {path.stem[:2]} · \S", opening.source)
    assert "By the end of this notebook you will have shown" in opening.source
    assert [heading for heading in headings(book) if heading in CLOSING] == list(CLOSING)


def test_it_starts_and_finishes_one_run_under_its_own_name(path, book):
    text = "\n".join(code(book))
    assert re.findall(r"start_run\(\s*[\"'](\w+)[\"']", text) == [path.stem]
    assert text.count("run.finish(") == 1
    assert text.index("start_run(") < text.index("run.finish(")


def test_who_falls_back_to_shipped_traces_compares_their_frame(book):
    """Their points are pixels of the nano model's picture; another model would learn to point beside everything."""
    cells = [cell.source for cell in book.cells if "02_search_traces" in cell.source and "shipped=" in cell.source]
    for source in cells:
        assert source.index("shipped=") < source.index("check_frame("), "in the cell that takes them, before any work"


# --- the address that Colab installs from -----------------------------------------------------------------


def installing(folder):
    """The install cell of each notebook, by its name."""
    cells = {path.stem: nbformat.read(path, as_version=4).cells for path in sorted(folder.glob("*.ipynb"))}
    return {stem: next(c.source for c in found if "google.colab" in c.source) for stem, found in cells.items()}


def on_colab(source):
    """Run an install cell without its installation, as if on Colab."""
    lines = [line for line in source.splitlines() if not line.lstrip().startswith(("%", "!"))]
    pretend = "import sys, types\nsys.modules['google.colab'] = types.ModuleType('google.colab')\n"
    return subprocess.run([sys.executable, "-c", pretend + "\n".join(lines)], capture_output=True, text=True)


def addresses(cells):
    return {re.search(r'address = "([^"]*)"', source)[1] for source in cells}


def test_colab_installs_all_notebooks_from_one_address():
    cells = installing(ROOT / "notebooks")
    assert len(cells) == len(NOTEBOOKS) and len(addresses(cells.values())) == 1
    assert all(re.search(r'%pip install -q "vigorl-lib\S* @ git\+{address}"', source) for source in cells.values())


def test_make_writes_the_address_into_all_notebooks(tmp_path):
    shutil.copy(ROOT / "Makefile", tmp_path)
    shutil.copytree(ROOT / "notebooks", tmp_path / "notebooks")
    for address in ("https://github.com/ORG/REPO", "https://example.org/you/kit", "https://example.org/they/it"):
        subprocess.run(["make", "-C", tmp_path, "address", f"ADDRESS={address}"], check=True, capture_output=True)
        cells = installing(tmp_path / "notebooks")
        assert addresses(cells.values()) == {address} and len(cells) == len(NOTEBOOKS)
        for path in (tmp_path / "notebooks").glob("*.ipynb"):
            badge = f"/github/{'/'.join(address.split('/')[3:])}/blob/main/notebooks/{path.name})"
            assert badge in nbformat.read(path, as_version=4).cells[0].source.splitlines()[2]
        done = on_colab(cells["00_tour"])
        if "ORG/REPO" in address:
            assert done.stderr.splitlines()[-1] == "ValueError: no address yet: write your copy's in place of ORG/REPO"
        else:
            assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in (tmp_path / "notebooks").iterdir()) == sorted(
        path.name for path in (ROOT / "notebooks").iterdir()
    )
    without = subprocess.run(["make", "-C", tmp_path, "address"], capture_output=True, text=True)
    assert without.returncode and "make address ADDRESS=WHERE" in without.stderr


def test_no_function_is_written_twice():
    places = {}
    for path in NOTEBOOKS:
        for source in code(nbformat.read(path, as_version=4)):
            for node in ast.walk(ast.parse(source)):
                if isinstance(node, ast.FunctionDef):
                    places.setdefault(ast.dump(node), []).append(f"{path.stem}: {node.name}")
    assert [names for names in places.values() if len(names) > 1] == []
