"""Chains as a dataset: the trip to disk and back, and a card that counts right."""

from __future__ import annotations

import json
import shutil
from types import SimpleNamespace

import datasets
import pytest
from huggingface_hub.utils import filter_repo_objects

from tests.test_search import SMALL, TINY, grown
from vigorl_lib.search import dataset, linearise


@pytest.fixture(scope="module")
def chains():
    trees = [grown(item, SMALL, seed) for seed in range(6) for item in TINY]
    return [chain for tree in trees for chain in linearise.chains(tree)]


def test_chains_survive_the_trip(chains, tmp_path):
    saved = dataset.save(tmp_path / "chains", chains, {"seed": 3})
    assert dataset.load(tmp_path / "chains") == chains
    assert saved[0]["text"] == linearise.to_single(chains[0])
    assert [tuple(point) for point in saved[0]["points"]] == list(chains[0].points)
    assert sorted(path.name for path in (tmp_path / "chains").iterdir()) == ["README.md", "chains.parquet"]


def test_chains_of_another_run_do_not_come_back(chains, tmp_path):
    for run, some in (("a", chains), ("b", chains[3:]), ("b", chains[5:])):
        dataset.save(tmp_path / run / "chains", some, {})
        assert dataset.load(tmp_path / run / "chains") == some


def test_the_card_counts(chains, tmp_path):
    dataset.save(tmp_path, chains, {"model": "nano", "simulations": 4})
    card = (tmp_path / "README.md").read_text()
    kinds = [chain.kind for chain in chains]
    assert f"{len(chains)} chains with a right answer" in card
    for kind in ("direct", "corrected"):
        (line,) = [line for line in card.splitlines() if line.startswith(f"| {kind} |")]
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        mine = [chain for chain in chains if chain.kind == kind]
        assert int(cells[1]) == kinds.count(kind) > 0
        assert float(cells[2]) == pytest.approx(sum(len(chain.steps) for chain in mine) / len(mine), abs=0.06)
        assert float(cells[3]) == pytest.approx(sum(len(chain.points) for chain in mine) / len(mine), abs=0.06)
        assert int(cells[5]) == max(len(linearise.to_single(chain).split()) for chain in mine)
    assert json.loads(card.split("```json\n")[1].split("```")[0]) == {"model": "nano", "simulations": 4}


class Hub:
    """Keeps what would be uploaded."""

    def __init__(self, place):
        self.place, self.made = place, {}

    def create_repo(self, repo, **how):
        self.made[repo] = how

    def upload_folder(self, *, repo_id, repo_type, folder_path, allow_patterns):
        assert repo_type == "dataset" and self.made[repo_id]["repo_type"] == "dataset"
        for name in filter_repo_objects([path.name for path in folder_path.iterdir()], allow_patterns=allow_patterns):
            shutil.copy(folder_path / name, self.place / name)
        return SimpleNamespace(commit_url=f"hub/{repo_id}")


def test_chains_are_pushed_with_their_card(chains, tmp_path, monkeypatch):
    here, there = tmp_path / "here", tmp_path / "there"
    there.mkdir()
    hub = Hub(there)
    monkeypatch.setattr(dataset, "HfApi", lambda: hub)
    dataset.save(here, chains, {"seed": 3})
    (here / "private.txt").write_text("not for others")
    assert dataset.push(here, "me/chains") == "hub/me/chains" and hub.made["me/chains"]["private"]
    assert sorted(path.name for path in there.iterdir()) == ["README.md", "chains.parquet"]
    assert dataset.load(there) == chains and (there / "README.md").read_text() == (here / "README.md").read_text()
    (here / "README.md").unlink()
    with pytest.raises(FileNotFoundError, match=r"no README\.md; write"):
        dataset.push(here, "me/other")
    assert "me/other" not in hub.made


def test_other_columns_are_named(chains, tmp_path):
    datasets.Dataset.from_list([{"text": "x"}]).to_parquet(str(tmp_path / "chains.parquet"))
    with pytest.raises(ValueError, match=r"columns \['text'\], expected"):
        dataset.load(tmp_path)
    with pytest.raises(ValueError, match="no chain to save"):
        dataset.save(tmp_path, [], {})
