"""Rows of the hub's schema from parquet files: downloaded, or lying in a folder."""

from __future__ import annotations

import dataclasses
import fnmatch
import hashlib
import json
import warnings
from collections import Counter
from collections.abc import Container, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet

from vigorl_lib.benchmarks.family import Family, Hub, Image, Row
from vigorl_lib.images import ParquetCell, open_parquet
from vigorl_lib.runs import outputs_root, write_json_atomic

REVISIONS = "revisions.json"  # in the outputs folder: dataset id -> the commit that was first read


def digest(text: str) -> int:
    """A number that depends on the text alone: the same in every process and on every machine."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")


def commits(hub: Hub) -> dict[str, str | None]:
    """Dataset id -> the commit that `download` asks for: the pinned one, else the one noted here, else None.

    Raises ValueError where the notes are damaged.
    """
    noted = _noted()
    return {repo: commit or noted.get(repo) for repo, commit in hub.repos.items()}


def _notes() -> Path:
    return outputs_root() / REVISIONS


def _noted() -> dict[str, str]:
    path = _notes()
    if not path.exists():
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path}: not JSON ({error}); mend it, or delete it to start from what the hub has") from error
    if not isinstance(found, dict) or not all(isinstance(commit, str) and commit for commit in found.values()):
        raise ValueError(f"{path}: not dataset ids with a commit each; mend it, or delete it")
    return found


def download(hub: Hub, split: str, revision: str | None = None) -> Path:
    """The folder of the hub's snapshot that holds the split, from the local cache where it is there.

    Tries the dataset ids in order, each at `revision`, else at the commit of `commits`. Where that knows none, the
    newest is read, noted in `revisions.json` of the outputs folder, and asked for from then on: so the runs of one
    outputs folder stay on one version. A warning says which.

    Raises FileNotFoundError where none can be had, ValueError on archives and on damaged notes.
    """
    from huggingface_hub import snapshot_download  # reads HF_HUB_OFFLINE when it is imported

    if not hub.files:
        where = f" of {', '.join(hub.repos)}, unpacked," if hub.repos else ""
        raise ValueError(f"the hub has no such rows one by one; give the path of a file{where} as the source")
    patterns, failures = [_pattern(hub, split), *(hub.images or ())[:1]], []
    for repo, commit in commits(hub).items():
        wanted = revision or commit
        try:
            folder = Path(snapshot_download(repo, repo_type="dataset", revision=wanted, allow_patterns=patterns))
        except OSError as error:  # the base of all that huggingface_hub raises here
            failures.append(f"{repo}{f' at {wanted}' if wanted else ''}: {error}")
            continue
        if wanted is None:
            path = _notes()
            path.parent.mkdir(parents=True, exist_ok=True)
            write_json_atomic(path, _noted() | {repo: folder.name})
            warnings.warn(
                f"{repo} is read as it is now, at {folder.name}: noted in {path}, and read from now on", stacklevel=3
            )
        return folder
    raise FileNotFoundError(
        f"split {split!r} is not to be had{f' at revision {revision!r}' if revision else ''}; set HF_HUB_OFFLINE=0 to "
        "download it, or give the path of its files as the source\n" + "\n".join(failures)
    )


def rows_of(
    family: Family, source: Path, split: str, *, limit: int | None, seed: int, counts: Sequence[int] = ()
) -> Iterator[tuple[Path, int, Row]]:
    """(file, number of the row over all files, row) of a file, or of a folder laid out like the hub's.

    With a `limit`, that many rows drawn by `seed`, in stored order: stored rows may be sorted, so the first ones are
    no sample. A larger limit adds rows to those of a smaller one. `counts` are the numbers of rows that are right, if
    any is known; with them, those of its parts and images are tried too. Images that are stored as paths come with
    their folder.

    Raises FileNotFoundError, or ValueError on a damaged file, missing columns or a wrong number of rows.
    """
    if family.read is None:
        yield from _parquet_rows(family, source, split, limit=limit, seed=seed, counts=counts)
        return
    if family.hub.files:
        _pattern(family.hub, split)
    rows = list(family.read(source, split))
    _expect(len(rows), counts, source)
    chosen = _chosen(len(rows), limit, seed)
    yield from (row for place, row in enumerate(rows) if place in chosen)


def _parquet_rows(
    family: Family, source: Path, split: str, *, limit: int | None, seed: int, counts: Sequence[int]
) -> Iterator[tuple[Path, int, Row]]:
    """The rows of parquet files, joined with their images where those lie in files of their own."""
    hub, pictures = family.hub, {}
    files = parquet_files(source, hub, split)
    if counts and hub.parts:
        _expect_parts(files, *hub.parts)
    if hub.images:
        pattern, key, there = hub.images
        places = parquet_files(source if source.is_dir() else source.parent.parent, hub, split, pattern)
        found = read_rows(places, ("id", "image"), counts=[there] if counts else ())
        pictures = {row["id"]: row["image"] for _, _, row in found}
    columns = tuple(dict.fromkeys((*family.columns, *family.key)))
    for path, number, row in read_rows(files, columns, limit=limit, seed=seed, counts=counts):
        if hub.images:
            if row[key] not in pictures:
                raise ValueError(f"{path}, row {number}: no image {row[key]!r} in {pattern}; download it again")
            row["image"] = pictures[row[key]]
        yield path, number, row


def _located(value: Any, cell: ParquetCell) -> Any:
    """A cell's value; instead of an encoded image where that lies, and an image's path with the file's folder."""
    if isinstance(value, list):
        return [_located(part, dataclasses.replace(cell, place=place)) for place, part in enumerate(value)]
    if isinstance(value, dict) and set(value) == {"bytes", "path"}:
        if not value["bytes"] and value["path"]:
            return {**value, "path": str(Path(cell.path).parent / value["path"])}
        value = value["bytes"]
    return cell if isinstance(value, bytes) and value else value


def parquet_files(source: Path, hub: Hub, split: str, pattern: str | None = None) -> list[Path]:
    """The parquet file that `source` is, or those of the split (or of a pattern) in the folder that it is."""
    if source.is_file():
        return [source]
    if not source.is_dir():
        raise FileNotFoundError(f"{source}: no such file or folder; give a parquet file or the hub's folder")
    pattern = pattern or _pattern(hub, split)
    files = [
        path
        for path in sorted(source.rglob("*.parquet"))
        if fnmatch.fnmatch(path.relative_to(source).as_posix(), pattern)
    ]
    if not files:
        raise FileNotFoundError(f"{source}: no file {pattern!r} for split {split!r}; download it again")
    return files


def read_rows(
    files: Sequence[Path],
    columns: Sequence[str],
    *,
    limit: int | None = None,
    seed: int = 0,
    counts: Sequence[int] = (),
) -> Iterator[tuple[Path, int, dict[str, Any]]]:
    """The rows of parquet files, one in memory at a time, with where their images lie; see `rows_of`."""
    tables = [_open(path, columns) for path in files]
    total = sum(table.metadata.num_rows for table in tables)
    _expect(total, counts, files[0])
    wanted, number = _chosen(total, limit, seed), 0
    for path, table in zip(files, tables, strict=True):
        for group in range(table.num_row_groups):
            batches = table.iter_batches(1, row_groups=[group], columns=list(columns), use_threads=False)
            for place, batch in enumerate(batches):
                if number in wanted:
                    (row,) = batch.to_pylist()
                    cells = {name: ParquetCell(str(path), group, place, name) for name in row}
                    yield path, number, {name: _located(value, cells[name]) for name, value in row.items()}
                number += 1


def _chosen(total: int, limit: int | None, seed: int) -> Container[int]:
    if limit is None:
        return range(total)
    return set(sorted(range(total), key=lambda number: digest(f"{seed}/{number}"))[:limit])


def _expect(total: int, counts: Sequence[int], where: Path) -> None:
    if counts and total not in counts:
        raise ValueError(
            f"{where}: {total} rows, expected {' or '.join(map(str, counts))}; the data set has changed or the "
            "download is not whole: pin a revision, or download it again"
        )


def _expect_parts(files: Sequence[Path], column: str, wanted: Mapping[str, int]) -> None:
    """Raises ValueError where a value that the column has is in other than the wanted number of rows."""
    found: Counter[str] = Counter()
    for path in files:
        found.update(_open(path, [column]).read([column]).column(0).to_pylist())
    other = {value: count for value, count in found.items() if count != wanted.get(value)}
    if other:
        right = {value: wanted.get(value, 0) for value in other}
        raise ValueError(
            f"{files[0]}: rows by {column!r} {other}, expected {right}; the data set has changed or the download is "
            "not whole: pin a revision, or download it again"
        )


def json_rows(path: Path) -> Iterator[tuple[int, Row]]:
    """(number, row) of a .jsonl file, or of a .json file that is one list. Raises ValueError naming file and row."""
    with path.open(encoding="utf-8") as lines:
        numbered = enumerate(lines) if path.suffix == ".jsonl" else [(0, lines.read())]
        for number, line in numbered:
            try:
                found = json.loads(line)
            except ValueError as error:
                raise ValueError(f"{path}, row {number}: not a JSON line ({error}); correct it") from error
            rows = [(number, found)]
            if path.suffix != ".jsonl":
                if not isinstance(found, list):
                    raise ValueError(f"{path}: not a list of rows but {type(found).__name__}; give the released file")
                rows = list(enumerate(found))
            for place, row in rows:
                if not isinstance(row, dict):
                    raise ValueError(f"{path}, row {place}: not a JSON object but {type(row).__name__}; correct it")
                yield place, row


def encoded_image(value: Any) -> Image:
    """An image cell as an encoded file's bytes or where they lie: those, a path, or `{bytes, path}`."""
    if isinstance(value, Mapping):
        value = value.get("bytes") or value.get("path")
    if isinstance(value, Image) and value:
        return value
    raise ValueError(
        f"an image cell holds {type(value).__name__}, not encoded bytes or a path; store the encoded file "
        "(in datasets: cast the column with Image(decode=False))"
    )


def text_cell(row: Row, column: str) -> str:
    """The stripped text of a cell. Raises ValueError naming the column where there is none."""
    value = row[column]
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"column {column!r} must hold text, not {value!r}")
    return value.strip()


def text_list(row: Row, column: str) -> tuple[str, ...]:
    """The stripped texts of a list cell, at least two. Raises ValueError naming the column where it is none."""
    value = row[column]
    if not isinstance(value, list) or len(value) < 2 or not all(isinstance(text, str) for text in value):
        raise ValueError(f"column {column!r} must be a list of two or more texts, not {value!r}")
    return tuple(text.strip() for text in value)


def checked(row: Row, columns: Sequence[str]) -> Row:
    """The row, if it has all columns; raises ValueError that says which differ."""
    missing, others = sorted(set(columns) - set(row)), sorted(set(row) - set(columns))
    if missing:
        raise ValueError(f"columns {missing} are missing; there are also {others}; expected {list(columns)}")
    return row


def _pattern(hub: Hub, split: str) -> str:
    if split not in hub.files:
        raise ValueError(f"unknown split {split!r} of {next(iter(hub.repos))}; known: {', '.join(hub.files)}")
    return hub.files[split]


def _open(path: Path, columns: Sequence[str]) -> pyarrow.parquet.ParquetFile:
    try:
        table = open_parquet(path)
    except pyarrow.ArrowException as error:
        raise ValueError(f"{path}: not a whole parquet file ({error}); download it again") from error
    try:
        checked(dict.fromkeys(table.schema_arrow.names), columns)
    except ValueError as error:
        raise ValueError(f"{path}: {error}; pin the revision that this loader was written for") from error
    return table
