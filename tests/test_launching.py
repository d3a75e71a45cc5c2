"""Run files, launchers, and runs of two processes: the same model as one process makes of the same batches."""

import dataclasses
import json
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import yaml
from accelerate.commands.config.config_args import load_config_from_file
from safetensors.torch import load_file

from vigorl_lib import jobs, learning, prediction, training
from vigorl_lib.benchmarks import registry as benchmarks
from vigorl_lib.jobs import GRPOSettings, Job, SFTSettings
from vigorl_lib.nano import lessons
from vigorl_lib.nano import model as nano
from vigorl_lib.policy import LocalPolicy, load_policy, save_policy
from vigorl_lib.records import read_lines
from vigorl_lib.traces import render_answer, render_call, render_single
from vigorl_lib.views import Zoom

ROOT = Path(__file__).parent.parent
LAUNCH = ROOT / "params/launch"
STEPS = 3


@pytest.fixture(scope="session")
def start(tmp_path_factory):
    """A random nano model in a folder."""
    tokenizer = nano.train_tokenizer(nano.texts([lessons.lesson(seed) for seed in range(40)]))
    processor = nano.build_processor("qwen2_5_vl", tokenizer)
    model = nano.build_model(
        "qwen2_5_vl", processor.tokenizer, seed=0, hidden=64, layers=2, vision_hidden=32, vision_layers=1
    )
    return save_policy(LocalPolicy(model, processor), tmp_path_factory.mktemp("start"))


def sft_job(start, out_dir, turns=None):
    """Eight questions; the replies are of unlike length, so that a mean of means is not the mean."""
    examples = benchmarks.load("sat2", "twin", split="train", limit=8, seed=0)
    out_dir.mkdir()
    texts = [
        render_single([f"Look: red circle ({k}, 31)." for k in range(1 + number % 4)], example.answer)
        for number, example in enumerate(examples)
    ]
    rows = [(example.id, turns or [text]) for example, text in zip(examples, texts, strict=True)]
    file = jobs.write_turns(out_dir / "turns.jsonl", rows)
    return Job(str(start), str(out_dir), "grounded", "sat2", "twin", 8, turns=file)


SFT = SFTSettings(
    max_steps=STEPS,
    learning_rate=1e-3,
    batch_size=4,
    accumulate=2,
    save_steps=STEPS,
    logging_steps=1,
    schedule="linear",
)
GRPO = GRPOSettings(max_steps=2, learning_rate=1e-3, prompts_per_step=2, steps_per_generation=1, group_size=2,
                    max_completion_length=16, beta=0.0)  # fmt: skip


def trained(job):
    """The weights in fp32, as the last checkpoint has them: the saved model rounds them to bf16."""
    return load_file(Path(job.out_dir) / f"trainer/checkpoint-{STEPS}/model.safetensors")


def difference(one, other):
    assert set(one) == set(other)
    return max((one[name] - other[name]).abs().max().item() for name in one)


# --- two processes -----------------------------------------------------------------------------------------


@pytest.fixture
def torchrun(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    return "torchrun --standalone --nproc_per_node 2"


def test_two_processes_train_what_one_does(start, tmp_path, torchrun, monkeypatch, capsys):
    alone, shared, naive = (sft_job(start, tmp_path / name) for name in ("alone", "shared", "naive"))
    training.run(alone, SFT)
    capsys.readouterr()
    training.launch(shared, SFT, torchrun)
    said = capsys.readouterr().out
    worst = difference(trained(alone), trained(shared))
    print(f"largest difference of a parameter: {worst:.2e}")
    assert worst <= 1e-4
    moved = load_policy(Path(alone.out_dir) / "model").model.state_dict()
    assert difference(load_policy(start).model.state_dict(), moved) > 1e-3, "training hardly moves the model"
    assert said.count("SFT:   0%") == 1, "one of the two shows how far they are"
    curves = [json.loads((Path(job.out_dir) / "curve.json").read_text()) for job in (alone, shared)]
    assert [row["loss"] for row in curves[0]] == pytest.approx([row["loss"] for row in curves[1]], rel=1e-5)

    # The control: a mean of the two processes' means, which is what transformers would take, is another training.
    def of_means(trainer, checkpoint, train=training.train):
        trainer.model_accepts_loss_kwargs = False
        train(trainer, checkpoint)

    monkeypatch.setattr(training, "train", of_means)
    training.run(naive, SFT)
    apart = difference(trained(shared), trained(naive))
    print(f"and of one that takes the mean of means: {apart:.2e}")
    assert apart > 1e-3


def test_grpo_in_two_processes_writes_once(start, tmp_path, torchrun, capsys):
    job = Job(str(start), str(tmp_path / "run"), "grounded", "sat2", "twin", 4)
    training.launch(job, dataclasses.replace(GRPO, beta=0.01), torchrun)
    assert [row["step"] for row in json.loads((tmp_path / "run/curve.json").read_text())] == [1, 2]
    assert load_policy(tmp_path / "run/model").model.config.model_type == "qwen2_5_vl"


def test_batches_that_can_not_be_shared_are_refused(monkeypatch):
    monkeypatch.setattr(learning, "PartialState", lambda cpu: SimpleNamespace(num_processes=3))
    assert learning.share_of(6, "batch_size") == 2
    with pytest.raises(
        ValueError, match="batch_size is 8, which 3 processes can not share evenly; take a multiple of 3"
    ):
        learning.share_of(8, "batch_size")


# --- a run that is too large ------------------------------------------------------------------------------


def no_trainer(*args, **options):
    raise AssertionError("a trainer is made")


def started(job, settings):
    """What `python -m vigorl_lib.training run.yaml` does, up to the trainer."""
    training.main([str(jobs.write_run(job, settings))])


@pytest.fixture
def gpu(monkeypatch):
    """A GPU of so many bytes, one of two in the run; the model stays on the CPU."""

    def has(memory):
        card = prediction.Device("T0", memory, 1e12, 1e11, 1e-6)
        monkeypatch.setattr(prediction, "measured_device", lambda dtype: card)
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        state = SimpleNamespace(num_processes=2, is_main_process=True)
        monkeypatch.setattr(training, "PartialState", lambda cpu=False: state)
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: False)
        return state

    monkeypatch.setattr(training, "sft_trainer", no_trainer)
    monkeypatch.setattr(training, "grpo_trainer", no_trainer)
    return has


@pytest.mark.parametrize("settings", [SFT, GRPO], ids=["sft", "grpo"])
def test_a_run_that_does_not_fit_its_gpu_ends_before_a_trainer_is_made(settings, start, tmp_path, gpu, capsys):
    job, settings = sft_job(start, tmp_path / "job"), dataclasses.replace(settings, precision="fp32")
    gpu(2**20)
    with pytest.raises(MemoryError, match=r"^T0: the run does not fit \(.* of 0.0 GiB\)[:,] .*"):
        started(job, settings)
    gpu(2**40)
    with pytest.raises(AssertionError, match="a trainer is made"):
        started(job, settings)
    assert "\nfits: " in capsys.readouterr().out
    gpu(2**20).is_main_process = False
    with pytest.raises(AssertionError, match="a trainer is made"):
        started(job, settings)
    assert capsys.readouterr().out == "", "one of them says it"


def test_nothing_is_predicted_on_a_cpu_nor_twice_in_a_notebook(start, tmp_path, gpu, monkeypatch):
    job, settings = sft_job(start, tmp_path / "job"), dataclasses.replace(SFT, precision="fp32")
    monkeypatch.setattr(prediction, "forecast_share", lambda *args, **options: pytest.fail("it predicts"))
    with pytest.raises(AssertionError, match="a trainer is made"):
        started(job, settings)
    gpu(2**20)
    with pytest.raises(AssertionError, match="a trainer is made"):
        training.launch(job, settings)


@pytest.mark.parametrize("engine", ["", "FSDP", "DEEPSPEED"])
def test_the_cards_of_a_run_share_its_rows_and_with_fsdp_its_weights(engine, start, tmp_path, gpu, monkeypatch, capsys):
    if engine:
        monkeypatch.setenv(f"ACCELERATE_USE_{engine}", "true")
    job, settings = sft_job(start, tmp_path / "job"), dataclasses.replace(SFT, precision="fp32")
    gpu(2**40)
    with pytest.raises(AssertionError, match="a trainer is made"):
        started(job, settings)
    examples = benchmarks.load("sat2", "twin", split="train", limit=8, seed=0)
    turns = [line["turns"] for line in read_lines(job.turns)]
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    launcher = f"accelerate launch --config_file {engine.lower().replace('deepspeed', 'zero3')}.yaml"
    policy = load_policy(start, device="cpu")
    assert capsys.readouterr().out == (
        prediction.forecast(policy, examples, "grounded", settings, turns, launcher=launcher) + "\n"
    )


# --- a job's rows ------------------------------------------------------------------------------------------


def test_each_pass_shows_every_row_in_another_order(start, tmp_path):
    job = sft_job(start, tmp_path / "job")
    policy, examples = load_policy(start), benchmarks.load("sat2", "twin", split="train", limit=8, seed=0)
    rows = training._rows_to_learn(job, SFT, policy, examples, Zoom())
    assert len(rows) == 24 == SFT.max_steps * SFT.batch_size * SFT.accumulate
    asked = [row["messages"][-1]["content"] + str(row["messages"][1]["content"][1]) for row in rows]
    first, second = asked[:8], asked[8:16]
    assert sorted(first) == sorted(second) and first != second and len(set(first)) == 8


def test_a_row_of_several_turns_is_an_episode(start, tmp_path):
    turns = [render_call("Look: red circle (20, 31).", (20, 31)), render_answer("It is striped.", "B")]
    job = dataclasses.replace(sft_job(start, tmp_path / "job", turns), mode="zoom")
    policy, examples = load_policy(start), benchmarks.load("sat2", "twin", split="train", limit=8, seed=0)
    roles = [message["role"] for message in training._rows_to_learn(job, SFT, policy, examples, Zoom())[0]["messages"]]
    assert roles == ["system", "user", "assistant", "tool", "assistant"]


def test_turns_about_unknown_questions_are_refused(start, tmp_path):
    job = dataclasses.replace(sft_job(start, tmp_path / "job"), examples_seed=1)
    with pytest.raises(ValueError, match="no question 'sat2-twin-train-s0-.*examples_seed"):
        training.run(job, SFT)
    with pytest.raises(ValueError, match="no turns"):
        training.run(dataclasses.replace(job, turns=str(tmp_path / "none.jsonl")), SFT)


# --- run files ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("settings", [SFT, GRPO], ids=["sft", "grpo"])
def test_a_run_file_comes_back_as_it_went(settings, tmp_path):
    job = Job("base", str(tmp_path), "zoom", "vstar", "twin", 5, looks=3)
    file = jobs.write_run(job, settings)
    assert jobs.read_run(file) == (job, settings)
    file.write_text(json.dumps(yaml.safe_load(file.read_text())))
    assert jobs.read_run(file) == (job, settings), "JSON will do"


def test_a_run_file_s_problems_are_named_all_at_once(tmp_path):
    values = yaml.safe_load(jobs.write_run(Job("base", str(tmp_path), "zoom", "vstar", "twin", 5), GRPO).read_text())
    del values["benchmark"]
    values |= {"mode": "zooom", "learning_rate": "1e-6", "colour": 1, "save_steps": True}
    file = tmp_path / "bad.yaml"
    file.write_text(yaml.safe_dump(values))
    with pytest.raises(ValueError) as caught:
        training.main([str(file)])
    said = str(caught.value)
    for problem in (
        "benchmark: missing", "mode: found 'zooom'; use 'direct'", "learning_rate: must be float", "write it with a",
        "colour: unknown; it has start,", "save_steps: must be int",
    ):  # fmt: skip
        assert f"bad.yaml: {problem}" in said or problem in said
    for text, problem in (("a: [", "neither YAML nor JSON"), ("kind: rl", "needs `kind: sft` or `kind: grpo`")):
        file.write_text(text)
        with pytest.raises(ValueError, match=problem):
            jobs.read_run(file)


# --- launchers ---------------------------------------------------------------------------------------------


def test_a_launcher_gets_the_line_that_a_cluster_s_user_would_type(tmp_path, capsys):
    script = tmp_path / "launcher"
    script.write_text('#!/bin/sh\necho "$@"\n')
    script.chmod(0o755)
    job = Job("base", str(tmp_path / "run dir"), "zoom", "vstar", "twin", 5)
    training.launch(job, SFT, f"{script} --nodes 2")
    assert capsys.readouterr().out == f"--nodes 2 -m vigorl_lib.training {tmp_path}/run dir/run.yaml\n"


def test_a_launcher_that_is_missing_or_fails_is_named(tmp_path):
    job = Job("base", str(tmp_path), "zoom", "vstar", "twin", 5)
    with pytest.raises(FileNotFoundError, match="launcher: there is no command 'torchrn'"):
        training.launch(job, SFT, "torchrn --nproc_per_node 2")
    with pytest.raises(RuntimeError, match="false -m vigorl_lib.training .* ended with 1"):
        training.launch(job, SFT, "false")


@pytest.mark.parametrize("path", sorted(LAUNCH.glob("*.yaml")), ids=lambda path: path.stem)
def test_accelerate_takes_our_configs(path):
    """Unknown keys it refuses itself."""
    config = load_config_from_file(str(path))
    assert config.mixed_precision == "bf16" and config.num_processes == 8
    engine = {"fsdp2": "FSDP", "zero3": "DEEPSPEED", "ddp": "MULTI_GPU"}[path.stem]
    assert config.distributed_type.value == engine


def test_the_slurm_example_is_shell():
    assert sorted(path.name for path in LAUNCH.iterdir()) == ["ddp.yaml", "fsdp2.yaml", "slurm.sh", "zero3.yaml"]
    subprocess.run(["bash", "-n", str(LAUNCH / "slurm.sh")], check=True)
