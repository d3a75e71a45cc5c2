import errno
import json
import os
import random
import subprocess
import sys

import nbformat
import numpy as np
import pytest

from vigorl_lib import runs


def start(tmp_path, step="03_warm_start", **params):
    return runs.start_run(step, out_dir=str(tmp_path / step), seed=3, params=params)


def finished(tmp_path, step="02_search_traces", content="one\n", **params):
    run = start(tmp_path, step, **params)
    run.path("traces.jsonl").write_text(content)
    run.finish({"accuracy": 0.5}, ["traces.jsonl"])
    return run


def notebook(path, parameters, *cells):
    first = nbformat.v4.new_code_cell(parameters, metadata={"tags": ["parameters"]})
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    book = nbformat.v4.new_notebook(cells=[first, *map(nbformat.v4.new_code_cell, cells)], metadata=kernel)
    nbformat.write(book, path)
    return path


# Folders


def test_outputs_root_is_the_variable_the_project_or_here(tmp_path, monkeypatch):
    monkeypatch.delenv("VIGORL_OUTPUTS", raising=False)
    (tmp_path / "kit/notebooks").mkdir(parents=True)
    (tmp_path / "kit/vigorl_lib").mkdir()
    monkeypatch.chdir(tmp_path / "kit/notebooks")
    assert runs.outputs_root() == tmp_path / "kit/outputs"
    monkeypatch.chdir(tmp_path)
    assert runs.outputs_root() == tmp_path / "outputs"
    monkeypatch.setenv("VIGORL_OUTPUTS", str(tmp_path / "drive"))
    assert runs.outputs_root() == tmp_path / "drive"


def test_an_interactive_run_writes_where_make_does(tmp_path, monkeypatch):
    monkeypatch.setenv("VIGORL_OUTPUTS", str(tmp_path))
    run = runs.start_run("00_tour", out_dir="", seed=2, params={})
    assert run.folder == tmp_path / "nano/vigorl/seed2/00_tour"


def test_start_seeds_the_generators_and_says_where_it_is(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    start(tmp_path)
    first = random.random(), np.random.rand()
    assert "writes to 03_warm_start" in capsys.readouterr().out  # no path of this machine
    start(tmp_path)
    assert (random.random(), np.random.rand()) == first


@pytest.mark.parametrize("seed", ["0", True, -1, 1.0])
def test_a_seed_that_is_no_seed_is_refused(tmp_path, seed):
    with pytest.raises(ValueError, match="seed"):
        runs.start_run("00_tour", out_dir=str(tmp_path), seed=seed, params={})


# Manifests


def test_a_manifest_tells_the_whole_run(tmp_path):
    finished(tmp_path)
    run = start(tmp_path, learning_rate=1e-3)
    run.input("02_search_traces", "traces.jsonl")
    run.path("model/weights.bin").write_bytes(b"12345")
    run.finish({"arm": {"accuracy": np.float32(0.5)}, "undefined": None}, ["model"])
    manifest = runs.read_manifest(run.path("manifest.json"))
    assert set(manifest) == set(runs.MANIFEST_KEYS)
    assert (manifest["step"], manifest["seed"], manifest["resumed"]) == ("03_warm_start", 3, False)
    assert manifest["params"] == {"learning_rate": 1e-3}
    assert manifest["metrics"] == {"arm": {"accuracy": 0.5}, "undefined": None}
    assert manifest["inputs"].keys() == {"02_search_traces/traces.jsonl"}
    assert manifest["outputs"]["model"]["bytes"] == 5 and len(manifest["outputs"]["model"]["sha256"]) == 64
    assert manifest["packages"]["numpy"] == np.__version__ and 0.01 < manifest["peak_memory_gib"] < 100
    assert manifest["machine"].keys() == {"cpus", "platform", "gpu"}  # no host name


@pytest.mark.parametrize("function", ["fsync", "replace"])
def test_a_full_disk_leaves_no_manifest_and_no_draft(tmp_path, monkeypatch, function):
    run = start(tmp_path)
    before = sorted(run.folder.iterdir())

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, function, full)
    with pytest.raises(OSError, match=r"manifest\.json.*No space.*make room") as caught:
        run.finish({"accuracy": 0.5})
    assert caught.value.errno == errno.ENOSPC
    assert sorted(run.folder.iterdir()) == before


def test_a_failed_write_keeps_the_old_content(tmp_path, monkeypatch):
    path = tmp_path / "a.json"
    runs.write_json_atomic(path, {"a": 1})
    with pytest.raises(ValueError):
        runs.write_json_atomic(path, {"a": float("nan")})
    assert json.loads(path.read_text()) == {"a": 1} and list(tmp_path.iterdir()) == [path]


def test_finish_refuses_what_is_not_there_or_not_a_number(tmp_path):
    run = start(tmp_path)
    with pytest.raises(FileNotFoundError, match="figure.png"):
        run.finish({}, ["figure.png"])
    with pytest.raises(ValueError, match=r"metrics\.arm\.accuracy is nan"):
        run.finish({"arm": {"accuracy": float("nan")}})
    with pytest.raises(TypeError, match=r"metrics\.curve is a set"):
        run.finish({"curve": {1}})
    assert not run.path("manifest.json").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "not JSON"),
        ("[]", "JSON object"),
        ('{"step": "a"}', "no key params"),
        ('{"step": 1}', "step is a int, not str"),
    ],
)
def test_a_broken_manifest_names_file_and_key(tmp_path, content, message):
    (tmp_path / "manifest.json").write_text(content)
    with pytest.raises(ValueError, match=f"manifest.json.*{message}.*run the step again"):
        runs.read_manifest(tmp_path / "manifest.json")


def test_a_missing_manifest_names_the_step(tmp_path):
    with pytest.raises(FileNotFoundError, match="run the step 02_search first"):
        runs.read_manifest(tmp_path / "02_search/manifest.json")


def test_the_hash_of_a_folder_sees_names_and_contents(tmp_path):
    (tmp_path / "a").write_text("x")
    first = runs.hash_path(tmp_path)
    (tmp_path / "a").rename(tmp_path / "b")
    renamed = runs.hash_path(tmp_path)
    (tmp_path / "b").write_text("y")
    assert len({first, renamed, runs.hash_path(tmp_path)}) == 3


# Inputs and resume


def test_input_takes_what_was_made_here_then_what_ships(tmp_path, capsys):
    run = start(tmp_path)
    shipped = run.input("02_search_traces", "traces.jsonl", shipped="records.py")
    assert shipped == runs.PACKAGE / "records.py" and "ships with the package" in capsys.readouterr().out
    finished(tmp_path)
    made = run.input("02_search_traces", "traces.jsonl", shipped="records.py")
    assert made == tmp_path / "02_search_traces/traces.jsonl" and "made here" in capsys.readouterr().out


def test_the_base_is_the_nano_one_or_the_model_that_is_named(tmp_path):
    run = start(tmp_path)
    assert run.base("").name == "base" and "01_nano_world/model" in run.inputs
    assert run.base("Qwen/Qwen2.5-VL-3B-Instruct") == "Qwen/Qwen2.5-VL-3B-Instruct"
    assert run.inputs["model"] == "hub: Qwen/Qwen2.5-VL-3B-Instruct"
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/config.json").write_text("{}")
    assert run.base(str(tmp_path / "mine")) == tmp_path / "mine"
    assert run.inputs["model"] == runs.hash_path(tmp_path / "mine")[0]


def test_input_without_either_says_what_to_run(tmp_path):
    with pytest.raises(FileNotFoundError, match="run 02_search_traces first"):
        start(tmp_path).input("02_search_traces", "traces.jsonl")


def test_an_unfinished_step_is_no_input(tmp_path):
    start(tmp_path, "02_search_traces").path("traces.jsonl").write_text("half")
    with pytest.raises(FileNotFoundError):
        start(tmp_path).input("02_search_traces", "traces.jsonl")


def test_an_input_that_changed_after_its_run_is_refused(tmp_path):
    finished(tmp_path).path("traces.jsonl").write_text("edited")
    run = start(tmp_path)
    with pytest.raises(ValueError, match=r"traces\.jsonl: changed.*run 02_search_traces again"):
        run.input("02_search_traces", "traces.jsonl")
    with pytest.raises(ValueError, match=r"no output model; it has traces\.jsonl"):
        run.input("02_search_traces", "model")


def test_the_same_run_goes_on_and_another_one_starts_afresh(tmp_path):
    start(tmp_path, steps=5).path("items.jsonl").write_text("done")
    again = start(tmp_path, steps=5)
    assert again.resumed and again.path("items.jsonl").exists()
    other = start(tmp_path, steps=6)
    assert not other.resumed and not other.path("items.jsonl").exists()
    assert (tmp_path / "03_warm_start.old1/items.jsonl").read_text() == "done"
    start(tmp_path, steps=7)
    assert (tmp_path / "03_warm_start.old2").exists()


def test_work_on_an_input_that_changed_is_set_aside(tmp_path):
    finished(tmp_path, content="one\n")
    run = start(tmp_path)
    run.input("02_search_traces", "traces.jsonl")
    run.path("items.jsonl").write_text("from one")
    assert start(tmp_path).resumed
    finished(tmp_path, content="two\n")
    run = start(tmp_path)
    run.input("02_search_traces", "traces.jsonl")
    assert not run.resumed and not run.path("items.jsonl").exists()
    assert (tmp_path / "03_warm_start.old1/items.jsonl").read_text() == "from one"
    assert start(tmp_path).resumed


# Code version


def test_the_commit_is_the_checkouts_own(tmp_path):
    (tmp_path / "vigorl_lib").mkdir()
    assert runs.code_version(tmp_path)["commit"] is None

    def git(*words):
        who = ("-c", "user.name=a", "-c", "user.email=a@b")
        subprocess.run(["git", "-C", tmp_path, *who, *words], check=True, capture_output=True)

    git("init")
    assert runs.code_version(tmp_path)["commit"] is None  # no commit yet
    (tmp_path / "vigorl_lib/a.py").write_text("a = 1\n")
    git("add", ".")
    git("commit", "-m", "first")
    (tmp_path / "result.json").write_text("{}")
    version = runs.code_version(tmp_path)
    assert len(version["commit"]) == 40 and version["dirty"] is False
    (tmp_path / "vigorl_lib/a.py").write_text("a = 2\n")
    assert runs.code_version(tmp_path)["dirty"] is True
    assert runs.code_version(tmp_path / "vigorl_lib")["commit"] is None  # a wheel inside another repository


# Parameters

CELL = """\
seed: int = 0  # random seed
learning_rate: float = 1.0e-3  # peak (a = b in a comment is fine)
grounded: bool = True  # write points?
model: str = ""  # empty: the shipped one
out_dir: str = ""  # empty: the default folder
"""


def check(tmp_path, text):
    path = tmp_path / "03.yaml"
    path.write_text(text)
    runs.check_params(notebook(tmp_path / "03.ipynb", CELL), [path])


def test_parameters_are_read_with_types_and_defaults(tmp_path):
    parameters = runs.read_parameters(notebook(tmp_path / "03.ipynb", CELL))
    assert parameters["learning_rate"] == ("float", 1e-3) and list(parameters)[-1] == "out_dir"


@pytest.mark.parametrize(
    "text", ["", "{}", "learning_rate: 1", "seed: 1\nlearning_rate: 1.0e-6\ngrounded: false\nmodel: a"]
)
def test_files_that_fit_pass(tmp_path, text):
    check(tmp_path, text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("lerning_rate: 0.1", r"03\.yaml: lerning_rate: unknown to .*03\.ipynb; it has seed, learning_rate"),
        ("learning_rate: 1e-6", r"03\.yaml: learning_rate: must be float, found str '1e-6'; .* as 1\.0e-6"),
        ("learning_rate: .nan", "learning_rate: must be float, found float nan"),
        ("learning_rate: true", "learning_rate: must be float, found bool True"),
        ("seed: 1.5", "seed: must be int, found float 1.5; write a int"),
        ("seed: yes", "seed: must be int, found bool"),
        ("grounded: 'false'", "grounded: must be bool, found str 'false'; write true or false, without"),
        ("model: 3", "model: must be str, found int 3; put it in quotes"),
        ("model: {a: 1}", "model: must be str, found dict"),
        ("- 1", r"03\.yaml: expected .name: value. lines, found list"),
        ("a: [", r"03\.yaml: not YAML"),
    ],
)
def test_files_that_do_not_fit_name_file_key_and_remedy(tmp_path, text, message):
    with pytest.raises(ValueError, match=message):
        check(tmp_path, text)


def test_all_problems_are_listed_at_once(tmp_path):
    with pytest.raises(ValueError, match="a: unknown.*\n.*b: unknown"):
        check(tmp_path, "a: 1\nb: 2")


@pytest.mark.parametrize("cell", ["seed = 0", "seed: int", "a: int = 0\nb: int = a * 2", "import os"])
def test_a_parameters_cell_holds_annotated_literals_only(tmp_path, cell):
    with pytest.raises(ValueError, match="name: type = literal"):
        runs.read_parameters(notebook(tmp_path / "03.ipynb", cell))


def test_the_check_command_explains_without_a_traceback(tmp_path, capsys):
    book = notebook(tmp_path / "03.ipynb", CELL)
    assert runs.main(["check", str(book)]) == 0
    (tmp_path / "03.yaml").write_text("seeed: 1")
    assert runs.main(["check", str(book), str(tmp_path / "03.yaml")]) == 2
    assert runs.main(["check", str(book), str(tmp_path / "none.yaml")]) == 2
    errors = capsys.readouterr().err
    assert "seeed: unknown" in errors and "none.yaml" in errors and "Traceback" not in errors


def test_the_running_notebook_gives_its_parameters():
    types = {"seed": int, "rate": float, "out_dir": str}
    space = {"__annotations__": types, "seed": 1, "rate": 0.5, "out_dir": "", "x": 1}
    assert runs.notebook_params(space) == {"rate": 0.5}
    with pytest.raises(ValueError, match="rate: must be float, found str '1e-6'"):
        runs.notebook_params({**space, "rate": "1e-6"})
    with pytest.raises(ValueError, match="rtae: unknown parameter; use seed, rate, out_dir"):
        runs.notebook_params({**space, "In": ["", "import os", "# Parameters\nseed = 1\nrtae = 0.1\n"]})


def test_a_plain_papermill_line(tmp_path, project):
    book = notebook(
        tmp_path / "03_toy.ipynb",
        CELL,
        "from vigorl_lib.runs import notebook_params, start_run\n"
        "run = start_run('03_toy', out_dir=out_dir, seed=seed, params=notebook_params(globals()))",
        "run.path('a.txt').write_text(str(learning_rate))",
        "run.finish({'rate': learning_rate}, ['a.txt'])",
    )
    folder = tmp_path / "03_toy"
    folder.mkdir()

    def papermill(*words):
        line = [sys.executable, "-m", "papermill", book, folder / book.name, "-p", "out_dir", folder, *words]
        environment = {**os.environ, "PYTHONPATH": str(project)}
        return subprocess.run(line, cwd=tmp_path, env=environment, capture_output=True, text=True)

    failed = papermill("-p", "learning_rte", "0.5")
    assert failed.returncode != 0 and "learning_rte: unknown parameter" in failed.stderr
    assert not (folder / "manifest.json").exists()
    done = papermill("-p", "learning_rate", "0.5")
    assert done.returncode == 0, done.stderr
    assert runs.read_manifest(folder / "manifest.json")["params"]["learning_rate"] == 0.5
    done = papermill("-p", "learning_rate", "0.25")  # the folder is set aside while papermill writes into it
    assert done.returncode == 0, done.stderr
    assert runs.read_manifest(folder / "manifest.json")["metrics"] == {"rate": 0.25}
    assert (folder / "03_toy.ipynb").exists() and (tmp_path / "03_toy.old1/manifest.json").exists()


# The ledger


def test_measurements_merge_and_are_complete(tmp_path):
    path = tmp_path / "reference/measurements.json"
    runs.record_measurements(path, {"search.speedup_batched": {"value": 11.0, "unit": "x", "command": "a"}})
    entry = {"value": np.int64(900), "unit": "s", "command": "b", "seeds": [0]}
    runs.record_measurements(path, {"reproduce.seconds": entry})
    ledger = json.loads(path.read_text())
    assert list(ledger) == ["reproduce.seconds", "search.speedup_batched"]
    assert all(tuple(entry) == runs.MEASUREMENT_KEYS for entry in ledger.values())
    assert ledger["reproduce.seconds"]["value"] == 900 and ledger["reproduce.seconds"]["seeds"] == [0]


@pytest.mark.parametrize(
    ("name", "entry", "message"),
    [
        ("Search.speed", {}, "lower case"),
        ("search..speed", {}, "lower case"),
        ("a.b", {"value": 1, "unit": "s", "command": "x", "mean": 1}, r"a\.b: unknown keys \['mean'\]"),
        ("a.b", {"value": 1}, r"a\.b: \['command', 'unit'\] missing"),
        ("a.b", {"value": 1, "unit": "s", "command": "x", "seeds": 1}, r"a\.b: seeds is 1; list them"),
        ("a.b", {"value": float("inf"), "unit": "s", "command": "x"}, r"a\.b\.value is inf"),
    ],
)
def test_a_bad_measurement_is_named_and_nothing_is_written(tmp_path, name, entry, message):
    with pytest.raises(ValueError, match=message):
        runs.record_measurements(tmp_path / "m.json", {name: entry})
    assert not (tmp_path / "m.json").exists()


def test_the_room_loads_without_torch(project):
    code = "import sys, vigorl_lib.runs, vigorl_lib.records; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=project).returncode == 0
