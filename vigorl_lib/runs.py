"""Run folders: where a step writes, what it read, and the manifest that says it is done."""

from __future__ import annotations

import argparse
import ast
import dataclasses
import datetime
import hashlib
import json
import math
import os
import platform
import random
import re
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import yaml

PACKAGE = Path(__file__).parent
PACKAGES = (
    "torch", "transformers", "trl", "peft", "accelerate", "datasets", "numpy", "scipy", "pandas", "pillow",
)  # fmt: skip
MANIFEST_KEYS: dict[str, tuple[type, ...]] = {
    "step": (str,),
    "params": (dict,),
    "seed": (int,),
    "code": (dict,),
    "packages": (dict,),
    "inputs": (dict,),
    "outputs": (dict,),
    "metrics": (dict,),
    "seconds": (int, float),
    "resumed": (bool,),
    "peak_memory_gib": (int, float),
    "machine": (dict,),
    "finished": (str,),
}
MEASUREMENT_KEYS = ("value", "unit", "low", "high", "n", "seeds", "command", "commit", "machine")
PARAMETER_TYPES: dict[str, tuple[type, ...]] = {
    "int": (int,),
    "float": (int, float),
    "bool": (bool,),
    "str": (str,),
}


# Files -----------------------------------------------------------------------------------------------


def write_text_atomic(path: str | os.PathLike, text: str) -> None:
    """Write `text` so that `path` holds the old content or the new, never a part.

    Raises OSError (for example a full disk) naming the path; the old file is then untouched.
    """
    path = Path(path)
    draft = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with draft.open("w", encoding="utf-8", newline="\n") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(draft, path)
    except OSError as error:
        message = f"could not write {path}: {error.strerror}; make room or mend that, then run again"
        raise OSError(error.errno, message) from error
    finally:
        draft.unlink(missing_ok=True)


def write_json_atomic(path: str | os.PathLike, value: Any) -> None:
    """`write_text_atomic` of `value` as indented JSON. Raises ValueError on NaN and infinity."""
    write_text_atomic(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def slug(name: str) -> str:
    """A name for people as it stands in file names and metrics: "Best of n, shuffled" → "best_of_n_shuffled"."""
    return "_".join(name.lower().replace(",", "").split())


def hash_path(path: Path) -> tuple[str, int]:
    """SHA-256 (hex) and size in bytes of a file, or of a folder: every file's name and content."""
    if path.is_file():
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest(), path.stat().st_size
    if not path.is_dir():
        raise FileNotFoundError(f"{path}: no such file or folder")
    total, digest = 0, hashlib.sha256()
    for file in sorted(file for file in path.rglob("*") if file.is_file()):
        content, size = hash_path(file)
        digest.update(f"{file.relative_to(path).as_posix()}\0{content}\n".encode())
        total += size
    return digest.hexdigest(), total


def outputs_root() -> Path:
    """The folder of all runs: `$VIGORL_OUTPUTS`, else `outputs` in the project above the current folder,
    else `outputs` in the current folder (the package was installed without the project)."""
    if os.environ.get("VIGORL_OUTPUTS"):
        return Path(os.environ["VIGORL_OUTPUTS"]).expanduser().resolve()
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / "notebooks").is_dir() and (folder / "vigorl_lib").is_dir():
            return folder / "outputs"
    return here / "outputs"


# What ran, and where ----------------------------------------------------------------------------------


def code_version(checkout: Path = PACKAGE.parent) -> dict[str, Any]:
    """`version` of the installed package, and `commit` and `dirty` where it runs from a git checkout.

    `dirty` looks only at what a run depends on, so that a new result does not make the code look changed.
    """
    try:
        version = metadata.version("vigorl-lib")
    except metadata.PackageNotFoundError:
        version = None
    found: dict[str, Any] = {"version": version, "commit": None, "dirty": None}
    # A wheel inside somebody else's repository must not report that repository's commit.
    if not (checkout / ".git").exists() or shutil.which("git") is None:
        return found
    head = _git(checkout, "rev-parse", "--verify", "HEAD")
    if head is not None:
        paths = ("vigorl_lib", "notebooks", "params", "pyproject.toml", "constraints.txt")
        found["commit"] = head
        found["dirty"] = _git(checkout, "status", "--porcelain", "--", *paths) != ""
    return found


def _git(checkout: Path, *words: str) -> str | None:
    done = subprocess.run(["git", "-C", str(checkout), *words], capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else None


def package_versions() -> dict[str, str]:
    """Versions of Python and of those of `PACKAGES` that are installed."""
    versions = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue  # trl and peft are an extra
    return versions


def machine() -> dict[str, Any]:
    """Kind of machine, without its name: CPU count, platform, GPU (where torch is loaded and has one)."""
    torch = sys.modules.get("torch")
    gpu = torch.cuda.get_device_name(0) if torch is not None and torch.cuda.is_available() else None
    return {"cpus": os.cpu_count(), "platform": f"{platform.system()} {platform.machine()}", "gpu": gpu}


def peak_memory_gib() -> float:
    """Peak resident memory of this process plus that of its largest child, in GiB."""
    unit = 1 if sys.platform == "darwin" else 1024  # ru_maxrss: bytes on macOS, KiB on Linux
    kinds = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    return sum(resource.getrusage(kind).ru_maxrss for kind in kinds) * unit / 2**30


# Parameters -------------------------------------------------------------------------------------------


def read_parameters(notebook: str | os.PathLike) -> dict[str, tuple[str, Any]]:
    """Name -> (type name, default) of a notebook's cell tagged `parameters`.

    Papermill's own reader guesses from text and drops a line whose comment holds an `=`; this one parses.
    Raises ValueError naming notebook and line where the cell is not annotated literals.
    """
    cells = json.loads(Path(notebook).read_text(encoding="utf-8"))["cells"]
    tagged = [cell for cell in cells if "parameters" in cell["metadata"].get("tags", [])]
    if len(tagged) != 1:
        raise ValueError(f"{notebook}: {len(tagged)} cells tagged `parameters`; tag exactly one")
    found = {}
    for node in ast.parse("".join(tagged[0]["source"])).body:
        form = f"{notebook}: parameters, line {node.lineno}: write `name: type = literal  # what it is`"
        if not isinstance(node, ast.AnnAssign) or not isinstance(node.target, ast.Name) or node.value is None:
            raise ValueError(form)
        try:
            found[node.target.id] = (ast.unparse(node.annotation), ast.literal_eval(node.value))
        except ValueError as error:
            raise ValueError(form) from error
    return found


def parameter_problem(kind: str, value: Any) -> str | None:
    """What is wrong with a parameter's value, and the remedy; None where it fits."""
    if kind not in PARAMETER_TYPES:
        return f"has the type {kind}; use one of {', '.join(PARAMETER_TYPES)}"
    fits = isinstance(value, PARAMETER_TYPES[kind]) and (kind == "bool" or not isinstance(value, bool))
    if fits and (not isinstance(value, float) or math.isfinite(value)):
        return None
    remedy = f"write a {kind}"
    if kind == "float" and isinstance(value, str):
        remedy = "write it with a decimal point and a signed exponent, as 1.0e-6 (YAML reads 1e-6 as text)"
    elif kind == "bool":
        remedy = "write true or false, without quotes"
    elif kind == "str":
        remedy = "put it in quotes"
    return f"must be {kind}, found {type(value).__name__} {value!r}; {remedy}"


def check_params(notebook: str | os.PathLike, files: Iterable[str | os.PathLike]) -> None:
    """Raise ValueError, before any work, where a YAML file does not fit the notebook that it is for.

    Papermill only warns about an unknown key and passes a value of the wrong type on. All problems are
    listed at once, each with file, key and remedy.
    """
    declared = read_parameters(notebook)
    problems = []
    for file in files:
        try:
            values = yaml.safe_load(Path(file).read_text(encoding="utf-8")) or {}
        except yaml.YAMLError as error:
            raise ValueError(f"{file}: not YAML ({error}); mend that line") from error
        if not isinstance(values, dict):
            raise ValueError(f"{file}: expected `name: value` lines, found {type(values).__name__}")
        for name, value in values.items():
            if name not in declared:
                problems.append(f"{file}: {name}: unknown to {notebook}; it has {', '.join(declared)}")
            elif problem := parameter_problem(declared[name][0], value):
                problems.append(f"{file}: {name}: {problem}")
    if problems:
        raise ValueError("\n".join(problems))


def notebook_params(namespace: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters of the running notebook: `notebook_params(globals())`, right after the first cells.

    They are the annotated names, which only the parameters cell has at that point; `seed` and `out_dir`
    are left out. Raises ValueError on a value of the wrong type and on a name that papermill injected but
    the notebook does not declare, so that a plain papermill line is as safe as `make`.
    """
    declared = namespace["__annotations__"]
    problems = []
    for cell in namespace.get("In", ()):
        if cell.startswith("# Parameters\n"):  # the cell that papermill injects
            assigned = [node for node in ast.parse(cell).body if isinstance(node, ast.Assign)]
            names = [ast.unparse(target) for node in assigned for target in node.targets]
            problems += [f"{name}: unknown parameter; use {', '.join(declared)}"
                         for name in names if name not in declared]  # fmt: skip
    for name, kind in declared.items():
        if problem := parameter_problem(kind if isinstance(kind, str) else kind.__name__, namespace[name]):
            problems.append(f"{name}: {problem}")
    if problems:
        raise ValueError("\n".join(problems))
    return {name: namespace[name] for name in declared if name not in ("seed", "out_dir")}


# Runs -------------------------------------------------------------------------------------------------


@dataclasses.dataclass
class Run:
    """One execution of one step. `resumed` says that its folder held unfinished work of the same run."""

    step: str
    folder: Path
    seed: int
    params: dict[str, Any]
    resumed: bool
    inputs: dict[str, str] = dataclasses.field(default_factory=dict)
    began: float = dataclasses.field(default_factory=time.monotonic)

    def path(self, name: str) -> Path:
        """Where this step keeps `name`, a file or folder; folders above it are made."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def input(self, step: str, name: str, shipped: str | None = None, *, arm: str | None = None) -> Path:
        """An artefact of an earlier step: the one made beside this run, else the one in the package.

        `shipped` is a path inside the package, such as `checkpoints/base`. `arm` looks in another arm of the
        same profile and seed. Ask for inputs before writing
        anything: where an input changed since an interrupted run, what that run left is set aside.
        Raises FileNotFoundError where there is neither, ValueError where the artefact is not the one that
        its manifest describes.
        """
        seed = self.folder.parent
        made = (seed.parent.parent / arm / seed.name if arm else seed) / step
        if (made / "manifest.json").exists():
            path = made / name
            listed = read_manifest(made / "manifest.json")["outputs"]
            if name not in listed:
                raise ValueError(f"{made}/manifest.json: no output {name}; it has {', '.join(listed)}")
            digest, expected = hash_path(path)[0], listed[name]["sha256"]
            if digest != expected:
                remedy = f"delete {made} and run {step} again"
                raise ValueError(f"{path}: changed after its run finished; {remedy}")
            print(f"input: {name} of {step}, made here ({_shown(made)})")
        elif shipped is not None:
            path = PACKAGE / shipped
            digest = hash_path(path)[0]
            print(f"input: {shipped} that ships with the package ({step} has not run here)")
        else:
            raise FileNotFoundError(f"{made / name}: missing, and none ships with the package; run {step} first")
        self._take(f"{arm}/{step}/{name}" if arm else f"{step}/{name}", digest)
        return path

    def base(self, model: str) -> str | Path:
        """The model that everything starts from: a folder or a hub id, or the nano base where that is empty.

        Rules and errors of `input`; a hub id is remembered as it is.
        """
        if not model:
            return self.input("01_nano_world", "model", shipped="checkpoints/base")
        local = Path(model).is_dir()
        self._take("model", hash_path(Path(model))[0] if local else f"hub: {model}")
        return Path(model) if local else model

    def _take(self, label: str, digest: str) -> None:
        """Remember an input; where it is another one than before an interruption, set aside what that run left."""
        if self.resumed and _started(self.folder)["inputs"].get(label, digest) != digest:
            _set_aside(self.folder, f"{label} changed")
            self.resumed = False
        self.inputs[label] = digest
        self._remember()

    def _remember(self) -> None:
        started = {"step": self.step, "seed": self.seed, "params": self.params}
        known = _started(self.folder)["inputs"] if self.resumed else {}
        write_json_atomic(self.folder / "started.json", {**started, "inputs": {**known, **self.inputs}})

    def finish(self, metrics: Mapping[str, Any], outputs: Sequence[str] = ()) -> None:
        """Write `manifest.json`, last and atomically: from now on the step counts as done.

        `metrics` are numbers, texts and None (undefined), nested at will; `outputs` name files and folders
        of this run. Raises FileNotFoundError for an output that is not there, ValueError for a metric that
        is not finite, OSError where it can not be written; then there is no manifest.
        """
        hashed = {name: hash_path(self.folder / name) for name in outputs}
        manifest = {
            "step": self.step,
            "params": self.params,
            "seed": self.seed,
            "code": code_version(),
            "packages": package_versions(),
            "inputs": self.inputs,
            "outputs": {name: {"sha256": digest, "bytes": size} for name, (digest, size) in hashed.items()},
            "metrics": _plain(metrics, "metrics"),
            "seconds": round(time.monotonic() - self.began, 3),
            "resumed": self.resumed,
            "peak_memory_gib": round(peak_memory_gib(), 3),
            "machine": machine(),
            "finished": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        }
        path = self.folder / "manifest.json"
        write_json_atomic(path, manifest)
        print(f"done in {manifest['seconds']:.1f} s, peak {manifest['peak_memory_gib']:.2f} GiB: {_shown(path)}")


def start_run(step: str, *, out_dir: str | None, seed: int, params: Mapping[str, Any]) -> Run:
    """Make the run folder, seed the random generators, print where this runs, start the clock.

    An empty `out_dir` means `outputs/nano/vigorl/seed<k>/<step>`, where `make reproduce` writes too. What an
    interrupted run with the same parameters left in the folder is kept, so that the step can go on from
    there; what a run with other parameters left is set aside in a folder beside it.
    """
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**32:
        raise ValueError(f"seed must be an integer from 0 to 2**32 - 1, found {seed!r}")
    folder = Path(out_dir).resolve() if out_dir else outputs_root() / "nano" / "vigorl" / f"seed{seed}" / step
    folder.mkdir(parents=True, exist_ok=True)
    run = Run(step=step, folder=folder, seed=seed, params=_plain(params, "params"), resumed=False)
    if (folder / "started.json").exists():
        before = _started(folder)
        if (before["step"], before["seed"], before["params"]) == (step, seed, run.params):
            run.resumed = True
        else:
            _set_aside(folder, "parameters changed")
    run._remember()

    random.seed(seed)
    np.random.seed(seed)
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.manual_seed(seed)

    here, code, versions = machine(), code_version(), package_versions()
    commit = f", commit {code['commit'][:10]}{' with changes' if code['dirty'] else ''}" if code["commit"] else ""
    print(f"{step}, seed {seed}, on {here['gpu'] or 'CPU'} ({here['cpus']} cores, {here['platform']})")
    print(f"vigorl-lib {code['version']}{commit}; " + ", ".join(f"{k} {v}" for k, v in versions.items()))
    print(f"{'goes on in' if run.resumed else 'writes to'} {_shown(folder)}")
    return run


def _shown(path: Path) -> str:
    """`path` as a notebook prints it: from the current folder where it lies inside, as in `make`."""
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)


def _started(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "started.json").read_text(encoding="utf-8"))


def _set_aside(folder: Path, reason: str) -> None:
    """Move the folder's content to the first free `<folder>.old<k>`: hours of work are never deleted."""
    k = 1
    while (aside := folder.with_name(f"{folder.name}.old{k}")).exists():
        k += 1
    folder.rename(aside)
    folder.mkdir()
    print(f"{reason}: what an earlier run left is now in {_shown(aside)}")


def _plain(value: Any, name: str) -> Any:
    """`value` as plain JSON values; errors name the place by its dotted name."""
    if isinstance(value, Mapping):
        return {str(key): _plain(part, f"{name}.{key}") for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part, f"{name}.{k}") for k, part in enumerate(value)]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{name} is {value}; give None where a number is undefined")
    if value is not None and not isinstance(value, bool | int | float | str):
        raise TypeError(f"{name} is a {type(value).__name__}; give a number, a text or None")
    return value


def read_manifest(path: str | os.PathLike) -> dict[str, Any]:
    """A step's manifest. Raises FileNotFoundError or ValueError naming file, key and remedy."""
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"{path}: missing; run the step {path.parent.name} first")
    remedy = "delete it and run the step again"
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path}: not JSON ({error}); {remedy}") from error
    if not isinstance(manifest, dict):
        raise ValueError(f"{path}: expected a JSON object, found {type(manifest).__name__}; {remedy}")
    for key, kinds in MANIFEST_KEYS.items():
        if key not in manifest:
            raise ValueError(f"{path}: no key {key}; {remedy}")
        if not isinstance(manifest[key], kinds):
            raise ValueError(f"{path}: {key} is a {type(manifest[key]).__name__}, not {kinds[-1].__name__}; {remedy}")
    return manifest


# The ledger of numbers --------------------------------------------------------------------------------


def record_measurements(path: str | os.PathLike, measurements: Mapping[str, Mapping[str, Any]]) -> None:
    """Merge `measurements` (dotted name -> keys of `MEASUREMENT_KEYS`) into the ledger at `path`, atomically.

    `value`, `unit` and `command` are due; `commit` and `machine` are filled in; what else is missing is None.
    Raises ValueError naming the measurement, and then nothing is written.
    """
    path = Path(path)
    ledger = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    for name, entry in measurements.items():
        if not re.fullmatch(r"[a-z0-9_]+(\.[a-z0-9_]+)*", name):
            raise ValueError(f"{name!r}: a measurement is named in lower case, as search.speedup_batched")
        if unknown := set(entry) - set(MEASUREMENT_KEYS):
            raise ValueError(f"{name}: unknown keys {sorted(unknown)}; use {', '.join(MEASUREMENT_KEYS)}")
        if missing := {"value", "unit", "command"} - set(entry):
            raise ValueError(f"{name}: {sorted(missing)} missing")
        if not isinstance(entry.get("seeds", []), list):
            raise ValueError(f"{name}: seeds is {entry['seeds']!r}; list them, as [0]")
        filled = {"commit": code_version()["commit"], "machine": machine(), **entry}
        ledger[name] = _plain({key: filled.get(key) for key in MEASUREMENT_KEYS}, name)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json_atomic(path, dict(sorted(ledger.items())))


def main(words: Sequence[str] | None = None) -> int:
    """`python -m vigorl_lib.runs check NOTEBOOK YAML…`: 0 where they fit, else 2 and the reasons."""
    parser = argparse.ArgumentParser(prog="python -m vigorl_lib.runs")
    check = parser.add_subparsers(required=True).add_parser("check", help="do the parameter files fit?")
    check.add_argument("notebook", type=Path)
    check.add_argument("files", nargs="*", type=Path)
    chosen = parser.parse_args(words)
    try:
        check_params(chosen.notebook, chosen.files)
    except (ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
