"""Chains as a `datasets` dataset with a card: a folder that `datasets.load_dataset` reads, here and on the hub.

A row knows where it comes from: the tree's id, the path of the node whose rollouts it is made of, and its kind.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

import datasets
from huggingface_hub import HfApi

from vigorl_lib.runs import write_text_atomic
from vigorl_lib.search.linearise import Chain, to_single

FEATURES = datasets.Features(
    {
        "tree_id": datasets.Value("string"),
        "node_path": datasets.List(datasets.Value("int32")),
        "kind": datasets.Value("string"),
        "steps": datasets.List(datasets.Value("string")),
        "answer": datasets.Value("string"),
        "points": datasets.List(datasets.List(datasets.Value("int32"))),
        "text": datasets.Value("string"),
    }
)
FILES = ("README.md", "chains.parquet")
CARD = """---
pretty_name: Grounded reasoning chains
configs:
- config_name: default
  data_files:
  - split: train
    path: chains.parquet
---

# Grounded reasoning chains

{count} chains with a right answer from {trees} search trees. Points are (x, y) in the pixels of the picture as the
policy saw it; `text` is the chain as one completion.

| kind | chains | steps | points | words | longest |
|---|---|---|---|---|---|
{table}

*direct*: one rollout. *corrected*: a wrong rollout, the backtracking sentence, then a right one of the same node
(`node_path`, child by child from the root). *answer*: no step. Steps, points and words are means; *longest* is in
words.

## How they were made

```json
{made}
```
"""


def save(folder: str | Path, chains: Sequence[Chain], made: Mapping[str, Any]) -> datasets.Dataset:
    """Write `chains.parquet` and the card `README.md` into a folder. `made` says how, as JSON values, on the card.

    Raises ValueError where there is no chain.
    """
    if not chains:
        raise ValueError(f"{folder}: no chain to save; grow more trees first")
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    rows = [{**vars(chain), "points": chain.points, "text": to_single(chain)} for chain in chains]
    found = datasets.Dataset.from_list(rows, features=FEATURES)
    draft = folder / ".chains.parquet.tmp"
    found.to_parquet(str(draft))
    draft.replace(folder / "chains.parquet")
    card = CARD.format(
        count=len(chains),
        trees=len({chain.tree_id for chain in chains}),
        table="\n".join(_line(kind, [row for row in rows if row["kind"] == kind]) for kind in _kinds(chains)),
        made=json.dumps(made, indent=2, sort_keys=True),
    )
    write_text_atomic(folder / "README.md", card)
    return found


def load(name: str | Path) -> list[Chain]:
    """The chains of a folder that `save` wrote, or of such a dataset on the hub.

    Raises ValueError where its columns are others.
    """
    # The usual cache knows a folder by its last name alone: the `chains` of another run would come back.
    with tempfile.TemporaryDirectory() as cache:
        found = datasets.load_dataset(str(name), split="train", cache_dir=cache)
        if set(found.features) != set(FEATURES):
            raise ValueError(f"{name}: columns {sorted(found.features)}, expected {sorted(FEATURES)}")
        return [
            Chain(row["tree_id"], tuple(row["node_path"]), row["kind"], tuple(row["steps"]), row["answer"])
            for row in found
        ]


def push(folder: str | Path, repo: str, *, private: bool = True) -> str:
    """Upload a folder that `save` wrote, card included, to the hub's dataset `repo`; the address of the commit.

    A dataset that is not there is made, `private` or not. Needs a token that may write (`hf auth login`). Raises
    FileNotFoundError where the folder lacks the chains or the card.
    """
    if missing := [name for name in FILES if not (Path(folder) / name).exists()]:
        raise FileNotFoundError(f"{folder}: no {' and no '.join(missing)}; write them with `dataset.save`")
    hub = HfApi()
    hub.create_repo(repo, repo_type="dataset", private=private, exist_ok=True)
    done = hub.upload_folder(repo_id=repo, repo_type="dataset", folder_path=folder, allow_patterns=list(FILES))
    return done.commit_url


def _kinds(chains: Sequence[Chain]) -> list[str]:
    return sorted({chain.kind for chain in chains})


def _line(kind: str, rows: Sequence[Mapping[str, Any]]) -> str:
    words = [len(row["text"].split()) for row in rows]
    means = (mean(len(row[key]) for row in rows) for key in ("steps", "points"))
    return f"| {kind} | {len(rows)} | " + " | ".join(f"{x:.1f}" for x in (*means, mean(words))) + f" | {max(words)} |"
