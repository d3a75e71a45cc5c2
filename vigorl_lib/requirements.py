"""What a run needs of the machine and of the packages, said in one sentence before any work starts.

Importing this module checks torchvision, so whoever imports transformers imports it first: beside a torchvision of
another build transformers itself fails, with a message about an operator that nobody has heard of.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator, Mapping, Sequence
from importlib import metadata

import torch
from packaging.requirements import Requirement
from packaging.version import Version

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def compute_dtype(precision: str = "") -> torch.dtype:
    """What is computed in: `precision` ("fp32", "bf16", "fp16"), or if empty the best that this machine has.

    That is fp32 on a CPU, bf16 on a GPU that has it, else fp16 (a T4). Raises ValueError on a precision that is not
    known or that the machine lacks.
    """
    on_gpu = torch.cuda.is_available()
    # torch also says yes to a GPU that would only emulate bf16, many times slower.
    has_bf16 = on_gpu and torch.cuda.is_bf16_supported(including_emulation=False)
    if not precision:
        return (torch.bfloat16 if has_bf16 else torch.float16) if on_gpu else torch.float32
    if precision not in PRECISIONS:
        raise ValueError(f"precision is {precision!r}; use {', '.join(PRECISIONS)}, or leave it empty")
    if precision != "fp32" and not on_gpu:
        raise ValueError(
            f"precision {precision} needs a GPU and torch sees none: take the nano profile, or install a torch that "
            "was built for your GPU's driver"
        )
    if precision == "bf16" and not has_bf16:
        raise ValueError(
            f"precision bf16: {torch.cuda.get_device_name()} has no bf16 (cards before Ampere, as the T4); use fp16"
        )
    return PRECISIONS[precision]


def check(*, precision: str = "", lora_rank: int = 0, load_in_4bit: bool = False, vllm_url: str = "") -> None:
    """Refuse what this machine, its packages or its launcher can not do. Raises ValueError with the remedy."""
    compute_dtype(precision)
    check_four_bits(load_in_4bit, lora_rank)
    if lora_rank and sharded():
        raise ValueError(
            "lora_rank: an adapter learns beside the whole model on each card; launch with torchrun, not with FSDP or "
            "ZeRO, or set lora_rank to 0"
        )
    if lora_rank:
        check_torchao()
    if load_in_4bit and not torch.cuda.is_available():
        raise ValueError(
            "load_in_4bit needs a GPU and torch sees none: take one (in Colab: Runtime, Change runtime type, T4), or "
            "the nano profile"
        )
    if load_in_4bit and importlib.util.find_spec("bitsandbytes") is None:
        raise ValueError('load_in_4bit needs bitsandbytes: pip install "vigorl-lib[4bit]"')
    if vllm_url:
        check_vllm()


def sharded() -> bool:
    """Whether this run's cards share the weights too (FSDP, ZeRO). accelerate launch sets it for its processes."""
    return any(os.environ.get(f"ACCELERATE_USE_{engine}") == "true" for engine in ("FSDP", "DEEPSPEED"))


def check_four_bits(load_in_4bit: bool, lora_rank: int) -> None:
    """Refuse to train weights of four bits, which no machine can. Raises ValueError."""
    if load_in_4bit and not lora_rank:
        raise ValueError("load_in_4bit: weights of four bits can not learn; set lora_rank, for example to 16")


def check_torchao() -> None:
    """Refuse a torchao that PEFT 0.21 does not bear beside it, as Colab's. Raises ValueError."""
    found = _installed(["torchao"]).get("torchao")
    if found and Version(found) < Version("0.16"):
        raise ValueError(
            f"lora_rank: peft makes no adapter beside torchao {found}, which is older than 0.16; uninstall it, which "
            "the kit does not need (pip uninstall -y torchao), and start Python anew"
        )


def check_vllm() -> None:
    """Refuse a vLLM that is missing or was made for other versions of what is installed here.

    The trainer talks to the server through vLLM's own code, so it must be installed beside TRL too. Raises ValueError.
    """
    if "vllm" not in _installed(["vllm"]):
        raise ValueError(
            "vllm_url: the trainer needs vllm beside TRL; install it in an environment of its own for training with a "
            "server (its pins differ from the kit's), or leave vllm_url empty"
        )
    wrong = list(misfits("vllm", ["transformers", "torch", "torchvision"]))
    if wrong:
        raise ValueError(
            f"vllm_url: vllm {metadata.version('vllm')} wants {' and '.join(wrong)}; install those versions, or the "
            "vllm that was made for yours"
        )


def check_packages() -> None:
    """Refuse a torchvision that was built for another torch. Raises ImportError.

    The kit does without torchvision, but transformers imports it where it is there.
    """
    found = _installed(["torch", "torchvision"])
    if "torchvision" not in found:
        return
    wrong = list(misfits("torchvision", ["torch"]))
    builds = {name: Version(version).local for name, version in found.items()}
    if not wrong and builds["torch"] != builds["torchvision"]:
        wrong = [f"torch{'+' + builds['torchvision'] if builds['torchvision'] else ' from the same package index'}"]
    if wrong:
        raise ImportError(
            f"torchvision {found['torchvision']} was built for another torch than {found['torch']}, and transformers "
            f"can not be imported beside it: it wants {wrong[0]}; uninstall torchvision, which the kit does not need, "
            "or install both from one index"
        )


def misfits(package: str, others: Sequence[str]) -> Iterator[str]:
    """What an installed package wants of these others and does not find: "transformers<5.18 (here 5.23.0)"."""
    found = _installed(others)
    for text in metadata.requires(package) or ():
        wanted = Requirement(text)
        if wanted.name not in others or (wanted.marker and not wanted.marker.evaluate({"extra": ""})):
            continue
        version = found.get(wanted.name)
        if version is None or not wanted.specifier.contains(version, prereleases=True):
            yield f"{wanted.name}{wanted.specifier} (here {version or 'none'})"


def _installed(names: Sequence[str]) -> Mapping[str, str]:
    """The versions of those packages that are installed."""
    versions = {}
    for name in names:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue  # an optional one
    return versions


check_packages()
