"""README and notebooks quote our results from the ledger, and the literature's from params/published.yaml.

A quoted result is written `<!-- m:sat2_twin.base.accuracy -->0.31<!-- /m -->` (see `report.refresh`);
`python -m vigorl_lib.report quote README.md` renews it.
"""

import json
import re
from pathlib import Path

import nbformat
import pytest
import yaml

from vigorl_lib.benchmarks import registry as benchmarks
from vigorl_lib.report import LEDGER, PUBLISHED, QUOTE, refresh

ROOT = Path(__file__).parent.parent
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
# What is no result of a run: code, formulas, addresses, comments; and the usual level of an interval.
NO_PROSE = re.compile(r"```.*?```|`[^`]*`|\$+[^$]*\$+|\]\([^)]*\)|<!--.*?-->|95[ \u00a0]?%", re.DOTALL)
RESULT = re.compile(r"(?<![\w.,])0\.[1-9]\d+|\d[ \u00a0]?(?:%|percent\b)")


def prose(path):
    if path.suffix == ".md":
        return path.read_text(encoding="utf-8")
    cells = nbformat.read(path, as_version=4).cells
    return "\n\n".join(cell.source for cell in cells if cell.cell_type == "markdown")


def ledger():
    return json.loads((ROOT / LEDGER).read_text(encoding="utf-8")) if (ROOT / LEDGER).exists() else {}


def unquoted(text):
    """Numbers that look like results and are no quotes."""
    return RESULT.findall(NO_PROSE.sub(" ", QUOTE.sub(" ", text)))


TEXTS = pytest.mark.parametrize("path", [ROOT / "README.md", *NOTEBOOKS], ids=lambda path: path.stem)


@TEXTS
def test_quoted_results_are_those_of_the_ledger(path):
    text = prose(path)
    assert refresh(text, ledger()) == text, f"python -m vigorl_lib.report quote {path.name}"
    assert len(QUOTE.findall(text)) == text.count("<!-- m:"), "a quote is `<!-- m:NAME -->0.31<!-- /m -->`"


@TEXTS
def test_results_are_quoted_not_typed(path):
    assert unquoted(prose(path)) == [], "print it from the run, or quote the ledger"


@pytest.mark.parametrize("text", ["we reach 0.63 here", "12 % better", "in 7 percent", "(0.250)"])
def test_a_typed_result_is_found(text):
    assert unquoted(text)


@pytest.mark.parametrize(
    "text",
    ["`0.63`", "$p < 0.05$", "a 95 % interval", "[x](a/0.12)", "weights 0.5 and 0.5", "decay 0.01", "torch 2.10.01"],
)
def test_what_is_no_result_may_stand(text):
    assert not unquoted(text)


def test_a_wrong_quote_is_found():
    known = {"a.b": {"value": 0.31}}
    right, wrong = (f"<!-- m:a.b -->{shown}<!-- /m -->" for shown in ("0.31", "0.32"))
    assert refresh(right, known) == right and refresh(wrong, known) != wrong
    assert not unquoted(right)


def test_published_figures_are_fractions_with_a_source():
    published = yaml.safe_load((ROOT / PUBLISHED).read_text(encoding="utf-8"))
    for name, row in published.items():
        assert re.fullmatch(r"(paper|literature)\.[a-z0-9_]+\.[a-z0-9_]+", name)
        assert name.split(".")[1] in benchmarks.names()
        assert (
            {"model", "value", "half_width", "source"} <= set(row) <= {"model", "value", "half_width", "source", "note"}
        )
        assert row["source"] and 0 < row["value"] < 1
        assert row["half_width"] is None and "note" in row or 0 < row["half_width"] < 0.1


def test_no_text_types_a_published_figure():
    published = yaml.safe_load((ROOT / PUBLISHED).read_text(encoding="utf-8"))
    printed = {f"{100 * row['value']:.1f}" for row in published.values()}
    for path in (ROOT / "README.md", *NOTEBOOKS):
        found = set(re.findall(r"(?<![\d.])\d\d\.\d(?![\d.])", NO_PROSE.sub(" ", prose(path))))
        assert not found & printed, f"{path.name}: print it from {PUBLISHED}"
