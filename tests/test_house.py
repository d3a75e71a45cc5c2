"""The house holds together: dependencies, rooms, the pipeline's rule, the package that pip builds."""

import ast
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from importlib import metadata
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

ROOT = Path(__file__).parent.parent
# Top to bottom: a room imports what stands below it or beside it, never above.
ROOMS = (
    ("claims", "ledger"),
    ("report", "figures", "explorer", "study"),
    ("effects",),
    ("faithfulness",),
    ("training", "evaluation"),
    ("prediction",),
    ("jobs",),
    ("search", "zoom", "web", "behaviours"),
    ("lengths",),
    ("policy", "served", "serving"),
    ("views",),
    ("rewards",),
    ("benchmarks",),
    ("nano",),
    ("prompts", "traces", "answers", "grounding", "stats", "images", "pages", "processors"),
    ("attention", "fused", "learning"),
    ("runs", "records", "requirements"),
)
LEVEL = {room: level for level, rooms in enumerate(ROOMS) for room in rooms}
MODULES = sorted((ROOT / "vigorl_lib").rglob("*.py"))


def read(name):
    return (ROOT / name).read_text(encoding="utf-8")


def dependencies():
    project = tomllib.loads(read("pyproject.toml"))["project"]
    extras = project["optional-dependencies"] | {"4bit": []}  # no part of the reference run, which has no GPU
    return [Requirement(text) for texts in [project["dependencies"], *extras.values()] for text in texts]


def constraints():
    return [line for line in read("constraints.txt").splitlines() if not line.startswith("#")]


# Dependencies


def test_constraints_are_exact_and_portable():
    assert [line for line in constraints() if not re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][A-Za-z0-9.]*", line)] == []


def test_the_reference_run_fits_the_one_dependency_list():
    exact = {re.sub("[-_.]+", "-", name).lower(): version for name, version in (c.split("==") for c in constraints())}
    for requirement in dependencies():
        version = exact[re.sub("[-_.]+", "-", requirement.name).lower()]
        assert requirement.specifier.contains(version), f"{requirement}, but the reference run has {version}"
        assert ">=" in str(requirement.specifier), f"{requirement}: a lower bound"


def test_what_the_library_imports_is_declared():
    declared = {re.sub("[-_.]+", "-", requirement.name).lower() for requirement in dependencies()}
    packages = metadata.packages_distributions()
    for module in MODULES:
        for first in {name.split(".")[0] for name in imports(module)} - {"vigorl_lib"} - sys.stdlib_module_names:
            found = {re.sub("[-_.]+", "-", name).lower() for name in packages[first]}
            assert found & declared, f"{module.name}: {first} is not in pyproject.toml"


def test_torchvision_stays_out():
    names = {requirement.name for requirement in dependencies()} | {line.split("==")[0] for line in constraints()}
    assert "torchvision" not in names and "torch" in names


def test_conda_gets_the_same_packages():
    environment = yaml.safe_load(read("environment.yml"))
    assert environment["dependencies"][-1] == {"pip": ["-c constraints.txt", "-e .[train,serve,web,notebooks,dev]"]}


@pytest.mark.parametrize(
    "name", ["Makefile", "pyproject.toml", "environment.yml", ".ci/run", ".pre-commit-config.yaml"]
)
def test_no_host_is_named(name):
    assert not re.search(r"https?://|\w\.(org|com|io|net)\b", read(name))


def test_ci_can_be_run():
    assert os.access(ROOT / ".ci/run", os.X_OK)


# Rooms


def room(parts):
    """The room of a dotted module inside vigorl_lib; a new one needs a place in ROOMS."""
    assert parts[0] in LEVEL, f"{parts[0]}: give this room a place in ROOMS"
    return parts[0]


def imports(module):
    for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("module", MODULES, ids=lambda path: str(path.relative_to(ROOT / "vigorl_lib")))
def test_a_room_imports_nothing_from_above(module):
    names = list(imports(module))
    if module.name == "__init__.py":
        assert names == [], "a package's __init__ imports nothing"
        return
    here = room(module.relative_to(ROOT / "vigorl_lib").with_suffix("").parts)
    for name in names:
        first, *rest = name.split(".")
        if first == "vigorl_lib":
            assert LEVEL[room(rest)] >= LEVEL[here], f"{here} stands below {rest[0]}"
        assert first != "trl" or here == "training", "only training imports trl"
        assert first != "peft" or here in ("training", "learning"), "only training and learning import peft"
        assert first not in ("torch", "transformers") or here != "search", f"search imports no {first}"


@pytest.mark.parametrize("module", MODULES, ids=lambda path: str(path.relative_to(ROOT / "vigorl_lib")))
def test_no_shortcut_that_hides_an_error(module):
    for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id not in ("eval", "exec", "hasattr", "getattr"), f"line {node.lineno}"
        if isinstance(node, ast.ExceptHandler):
            broad = node.type is None or ast.unparse(node.type) in ("Exception", "BaseException")
            assert not broad or isinstance(node.body[-1], ast.Raise), f"line {node.lineno}: catches everything"
            assert not isinstance(node.body[0], ast.Pass), f"line {node.lineno}: a silent except"


def test_ruff_is_content():
    done = subprocess.run([sys.executable, "-m", "ruff", "check", "."], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


# The package


def test_a_wheel_works_from_anywhere_with_its_data(tmp_path):
    source = tmp_path / "source"
    shutil.copytree(ROOT / "vigorl_lib", source / "vigorl_lib", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    line = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "-w", tmp_path, source]
    done = subprocess.run(line, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    packed = zipfile.ZipFile(wheel).namelist()
    unwanted = ("__pycache__", "__init__.pyc")
    for path in (ROOT / "vigorl_lib").rglob("*"):
        if path.is_file() and not any(word in str(path) for word in unwanted):
            assert str(path.relative_to(ROOT)) in packed
    assert all(name.startswith(("vigorl_lib/", "vigorl_lib-")) for name in packed)
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    code = "import vigorl_lib.runs as r; print(r.PACKAGE, r.code_version())"
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "site")}
    line = [sys.executable, "-c", code]
    found = subprocess.run(line, cwd="/", env=environment, capture_output=True, text=True, check=True).stdout
    assert str(tmp_path / "site") in found and "'commit': None" in found


# The pipeline: the real Makefile, with a stand-in for Python that notes each call and writes manifests.

STAND_IN = """\
#!/bin/sh
case "$2" in
  papermill)
    echo "$*" >> calls
    case "$*" in *"$(cat broken 2>/dev/null || echo none)"*) exit 1;; esac
    case "$*" in *"$(cat forgetful 2>/dev/null || echo none)"*) exit 0;; esac
    echo '{}' > "$(dirname "$4")/manifest.json" ;;
  vigorl_lib.runs) echo "$*" >> checks ;;
  *) echo "$*" >> setup ;;
esac
"""
STEPS = ("00_tour", "02_search_traces", "03_warm_start", "04_grounded_grpo", "05_zoom_grpo", "12_report")


@pytest.fixture
def kit(tmp_path):
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)
    for folder in ("notebooks", "params/nano", "params/smoke", "params/arms/vanilla", "venv/bin"):
        (tmp_path / folder).mkdir(parents=True)
    for step in STEPS:
        for name in (f"notebooks/{step}.ipynb", f"params/nano/{step}.yaml", f"params/smoke/{step}.yaml"):
            (tmp_path / name).touch()
    (tmp_path / "notebooks/01_nano_world.ipynb").touch()
    (tmp_path / "params/arms/vanilla/04_grounded_grpo.yaml").touch()
    for name in ("python", "pip"):
        (tmp_path / "venv/bin" / name).write_text(STAND_IN)
        (tmp_path / "venv/bin" / name).chmod(0o755)
    age(tmp_path, 1000)
    return tmp_path


def age(kit, seconds):
    """Make every file older, so that what is touched afterwards is newer."""
    for path in kit.rglob("*"):
        stamp = path.stat().st_mtime - seconds
        os.utime(path, (stamp, stamp))


def make(kit, *words, ok=True):
    """Run make; the steps that papermill was called for, in order, and what make said."""
    (kit / "calls").unlink(missing_ok=True)
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "VIGORL"))}
    line = ["make", "VENV=venv", f"PYTHON={sys.executable}", *words]
    done = subprocess.run(line, cwd=kit, env=environment, capture_output=True, text=True)
    assert (done.returncode == 0) == ok, done.stdout + done.stderr
    calls = (kit / "calls").read_text().splitlines() if (kit / "calls").exists() else []
    return [call.split()[3].removesuffix(".ipynb").rpartition("/")[2] for call in calls], done.stdout + done.stderr


def test_plain_make_lists_the_targets(kit):
    steps, said = make(kit)
    assert steps == [] and not (kit / "setup").exists()
    for target in ("setup", "reproduce", "smoke", "test", "lab", "lint"):
        assert re.search(rf"make {target} +\w", said)


def test_setup_takes_torch_first_and_alone_and_once(kit):
    make(kit, "setup", "TORCH_INDEX=somewhere")
    first, second = (kit / "setup").read_text().splitlines()
    assert re.fullmatch(r"-m pip install --index-url somewhere torch==[\d.]+", first)
    assert second == "-m pip install -c constraints.txt -e .[train,serve,web,notebooks,dev]"
    make(kit, "setup")
    assert len((kit / "setup").read_text().splitlines()) == 2


def test_reproduce_runs_the_profile_in_order_and_only_once(kit):
    steps, said = make(kit, "reproduce")
    assert steps == list(STEPS) and "outputs/nano/vigorl/seed0/12_report" in said
    assert make(kit, "reproduce")[0] == []
    assert make(kit, "reproduce", "SEED=1")[0] == list(STEPS)
    assert (kit / "outputs/nano/vigorl/seed1/12_report/manifest.json").exists()


def test_a_step_gets_its_parameters_seed_and_folder(kit):
    make(kit, "reproduce", "SEED=2")
    call = (kit / "calls").read_text().splitlines()[0]
    folder = "outputs/nano/vigorl/seed2/00_tour"
    files = f"notebooks/00_tour.ipynb {folder}/00_tour.ipynb -f params/nano/00_tour.yaml"
    assert f"{files} -p seed 2 -p out_dir {folder}" in call
    assert "check notebooks/00_tour.ipynb params/nano/00_tour.yaml" in (kit / "checks").read_text()


def test_smoke_and_outputs_elsewhere(kit):
    steps, said = make(kit, "smoke", f"VIGORL_OUTPUTS={kit}/else")
    assert steps == list(STEPS) and (kit / "else/smoke/vigorl/seed0/00_tour/manifest.json").exists()
    assert "papermill" not in make(kit, "-n", "smoke", f"VIGORL_OUTPUTS={kit}/else")[1]


def test_a_changed_file_repeats_its_step_and_those_that_read_it(kit):
    make(kit, "reproduce")
    age(kit, 100)
    (kit / "params/nano/05_zoom_grpo.yaml").touch()
    assert make(kit, "reproduce")[0] == ["05_zoom_grpo", "12_report"]
    age(kit, 100)
    (kit / "notebooks/02_search_traces.ipynb").touch()
    assert make(kit, "reproduce")[0] == [
        "02_search_traces",
        "03_warm_start",
        "04_grounded_grpo",
        "05_zoom_grpo",
        "12_report",
    ]


def test_an_interrupted_pipeline_goes_on_at_the_step_that_failed(kit):
    (kit / "broken").write_text("03_warm")
    assert make(kit, "reproduce", ok=False)[0] == list(STEPS[:3])
    (kit / "broken").unlink()
    assert make(kit, "reproduce")[0] == list(STEPS[2:])


def test_a_notebook_that_does_not_finish_its_run_is_an_error(kit):
    (kit / "forgetful").write_text("03_warm")
    assert "ended without run.finish" in make(kit, "reproduce", ok=False)[1]


def test_an_arm_overlays_one_step_and_may_run_fewer(kit):
    make(kit, "reproduce", "ARM=vanilla", "STEPS=04_grounded_grpo 12_report")
    first, second = (kit / "calls").read_text().splitlines()
    files = "-f params/nano/04_grounded_grpo.yaml -f params/arms/vanilla/04_grounded_grpo.yaml -p seed"
    assert files in first and "arms" not in second
    assert (kit / "outputs/nano/vanilla/seed0/04_grounded_grpo/manifest.json").exists()


def test_what_is_run_later_is_recorded(kit):
    for step in ("09_eval_web_agents", "11_behaviours", "13_reward_museum"):
        for name in (f"notebooks/{step}.ipynb", f"params/nano/{step}.yaml"):
            (kit / name).touch()
    record = "-m vigorl_lib.report record outputs/nano/vigorl/seed0 --step"
    assert make(kit, "evaluate")[0] == ["09_eval_web_agents", "11_behaviours"]
    said = (kit / "setup").read_text()
    assert f"{record} 09_eval_web_agents\n{record} 11_behaviours\n" in said and "13_reward" not in said
    folder = kit / "outputs/nano/vigorl/seed0/13_reward_museum"
    folder.mkdir()
    for name in ("curves.json", "exhibits.jsonl"):
        (folder / name).write_text(name)
    assert make(kit, "museum")[0] == ["13_reward_museum"]
    assert f"{record} 13_reward_museum\n" in (kit / "setup").read_text()
    kept = {path.name: path.read_text() for path in (kit / "outputs/reference/museum").iterdir()}
    assert kept == {name: name for name in ("curves.json", "exhibits.jsonl")}


@pytest.mark.parametrize("words", ["ARM=vanila", "PROFILE=nan"])
def test_a_misspelt_name_stops_make(kit, words):
    steps, said = make(kit, "reproduce", words, ok=False)
    assert steps == [] and words in said
