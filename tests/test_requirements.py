"""What a machine or its packages can not do is said in one sentence, with the remedy, before any work starts."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers.quantizers.quantizers_utils import should_convert_module

from vigorl_lib import learning, requirements, training
from vigorl_lib.jobs import GRPOSettings, Job, SFTSettings
from vigorl_lib.policy import four_bits

ROOT = Path(__file__).parent.parent


@pytest.fixture
def card(monkeypatch):
    """A GPU of a kind, as torch reports it."""

    def made(name):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: name is not None)
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda: name)
        # Like torch's own: with emulation, a T4 has bf16 as well.
        has = lambda including_emulation=True: name != "Tesla T4" or including_emulation  # noqa: E731
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", has)

    return made


@pytest.mark.parametrize(
    ("name", "precision", "dtype"),
    [
        (None, "", torch.float32),
        (None, "fp32", torch.float32),
        ("Tesla T4", "", torch.float16),
        ("Tesla T4", "fp16", torch.float16),
        ("NVIDIA A100", "", torch.bfloat16),
        ("NVIDIA A100", "fp16", torch.float16),
    ],
)
def test_the_machine_s_best_precision_is_taken(name, precision, dtype, card):
    card(name)
    assert requirements.compute_dtype(precision) == dtype


@pytest.mark.parametrize(
    ("name", "asked", "said"),
    [
        (None, {"precision": "bf16"}, "precision bf16 needs a GPU and torch sees none: take the nano profile"),
        ("Tesla T4", {"precision": "bf16"}, "Tesla T4 has no bf16 .*; use fp16"),
        ("Tesla T4", {"precision": "half"}, "precision is 'half'; use fp32, bf16, fp16"),
        (None, {"load_in_4bit": True, "lora_rank": 16}, "load_in_4bit needs a GPU .* Change runtime type"),
        ("Tesla T4", {"load_in_4bit": True}, "weights of four bits can not learn; set lora_rank"),
        ("Tesla T4", {"load_in_4bit": True, "lora_rank": 16}, r'pip install "vigorl-lib\[4bit\]"'),
        (None, {"vllm_url": "http://vllm:8000"}, "the trainer needs vllm beside TRL"),
    ],
)
def test_what_can_not_be_is_refused(name, asked, said, card):
    card(name)
    with pytest.raises(ValueError, match=said) as caught:
        requirements.check(**asked)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("engine", ["FSDP", "DEEPSPEED"])
def test_an_adapter_on_a_sharded_model_is_refused(engine, monkeypatch):
    requirements.check(lora_rank=8)
    monkeypatch.setenv(f"ACCELERATE_USE_{engine}", "true")
    requirements.check()
    with pytest.raises(ValueError, match="launch with torchrun, not with FSDP or ZeRO"):
        requirements.check(lora_rank=8)


@pytest.mark.parametrize(
    "settings",
    [
        SFTSettings(1, 1e-3, 2, precision="bf16"),
        GRPOSettings(1, 1e-3, 2, precision="bf16"),
        SFTSettings(1, 1e-3, 2, load_in_4bit=True),
        GRPOSettings(1, 1e-3, 2, vllm_url="http://vllm:8000"),
    ],
)
def test_a_run_is_refused_before_anything_is_loaded(settings, card, tmp_path):
    card(None)
    job = Job("there is no such model", str(tmp_path / "run"), "grounded", "sat2", "twin", 2)
    with pytest.raises(ValueError, match="^(precision|load_in_4bit|vllm_url)"):
        training.run(job, settings)
    assert not (tmp_path / "run").exists()


def test_weights_that_learn_are_fp32(card):
    card("NVIDIA A100")
    assert learning.weights_dtype(lora_rank=0, precision="bf16") == torch.float32
    assert learning.weights_dtype(lora_rank=8, precision="bf16") == torch.bfloat16
    weight = torch.tensor(0.02)
    assert weight.bfloat16() - 1e-6 == weight.bfloat16(), "in bf16 the paper's step would be none"
    assert weight - 1e-6 != weight


@pytest.mark.parametrize(
    ("module", "quantised"),
    [
        ("model.language_model.layers.0.self_attn.q_proj", True),
        ("model.language_model.layers.0.mlp.down_proj", True),
        ("model.visual.blocks.0.attn.qkv", False),
        ("model.visual.merger.mlp.0", False),
        ("lm_head", False),
    ],
)
def test_four_bits_are_for_the_language_model(module, quantised):
    assert should_convert_module(module, four_bits(torch.float16).llm_int8_skip_modules) == quantised


# --- packages ----------------------------------------------------------------------------------------------


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Pretend that a package is installed: its metadata, and code that fails as a misfit does."""

    def installed(name, version, requires=()):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise RuntimeError('operator torchvision::nms does not exist')")
        folder = tmp_path / f"{name}-{version}.dist-info"
        folder.mkdir()
        lines = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}"]
        (folder / "METADATA").write_text("\n".join(lines + [f"Requires-Dist: {text}" for text in requires]) + "\n")
        monkeypatch.syspath_prepend(str(tmp_path))
        return tmp_path

    return installed


@pytest.mark.parametrize(
    ("version", "wants", "said"),
    [
        ("0.27.0+cpu", "torch==1.13.0", "wants torch==1.13.0"),
        ("0.28.0+cu999", "torch>=2", r"wants torch\+cu999"),
    ],
)
@pytest.mark.parametrize("module", ["policy", "processors", "training", "evaluation"])
def test_a_torchvision_for_another_torch_is_named_before_transformers_fails(module, version, wants, said, install):
    path = install("torchvision", version, [wants])
    environment = {**os.environ, "PYTHONPATH": f"{path}{os.pathsep}{ROOT}"}
    line = [sys.executable, "-c", f"import vigorl_lib.{module}"]
    done = subprocess.run(line, env=environment, capture_output=True, text=True)
    last = done.stderr.strip().splitlines()[-1]
    assert done.returncode == 1 and re.search(f"torchvision .* was built for another torch .*{said}", last), done.stderr
    assert "uninstall torchvision" in last


def test_a_vllm_for_other_versions_is_named(install):
    install("vllm", "0.31.0", ["transformers<5.18", "torch>=2.6", "ray; extra == 'ray'", "numpy"])
    with pytest.raises(ValueError, match=r"vllm 0.31.0 wants transformers<5.18 \(here 5[\d.]+\); install those"):
        requirements.check(vllm_url="http://vllm:8000")


def test_a_vllm_that_fits_is_taken(install):
    install("vllm", "9.9.0", ["transformers>=5", "torch>=2.6"])
    requirements.check(vllm_url="http://vllm:8000")


def test_a_torchao_that_is_too_old_for_adapters_is_named(install):
    install("torchao", "0.10.0")
    requirements.check()
    with pytest.raises(ValueError, match=r"torchao 0.10.0, .* \(pip uninstall -y torchao\)"):
        requirements.check(lora_rank=8)
