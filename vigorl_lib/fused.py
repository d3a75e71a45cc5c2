"""A Qwen VL model in fewer and larger steps, as a GPU wants them; what it computes stays the same function.

norms     one kernel each instead of six (`torch.nn.functional.rms_norm`)
units     the gate's silu and its product in one kernel, made by `torch.compile`
stream    what goes from layer to layer is bf16 where weights in fp32 learn, as in the released run's FSDP; autocast
          alone leaves it in fp32
pictures  equal ones of a batch, as of a group's rollouts, are seen once

What each is worth measures tests/bench_gpu.py (`--unfused` is without).
"""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import os
import shutil
import sysconfig
import warnings
from collections.abc import Callable
from pathlib import Path
from types import MethodType
from typing import Any

import torch
from torch.nn import functional as F
from transformers import PreTrainedModel

Gate = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def gated(gate: torch.Tensor, up: torch.Tensor) -> torch.Tensor:
    """The middle of a gated unit, elementwise."""
    return F.silu(gate) * up


compiled = torch.compile(gated, dynamic=True)  # at its first call


def can_compile() -> bool:
    """Whether there is what `torch.compile` needs on a GPU: Triton, and a C compiler and Python's headers for it."""
    compiler = os.environ.get("CC") or shutil.which("gcc") or shutil.which("clang")
    headers = Path(sysconfig.get_path("include"), "Python.h").is_file()
    return bool(importlib.util.find_spec("triton") and compiler and headers)


def _gate() -> Gate:
    if can_compile():
        return compiled
    warnings.warn(
        "gated units are computed in two kernels: torch.compile needs triton, a C compiler and Python's headers "
        "(on Debian: apt install gcc python3-dev)",
        stacklevel=3,
    )
    return gated


def fuse(model: PreTrainedModel, gate: Gate | None = None) -> None:
    """Change a Qwen VL model that computes in bf16, in place, once. `gate` takes the place of the compiled `gated`."""
    if "forward" in vars(model.model.visual):
        return
    gate = gate or _gate()
    for module in model.modules():
        if type(module).__name__.endswith("RMSNorm"):
            module.forward = MethodType(_norm, module)
        elif "gate_proj" in dict(module.named_children()):
            module.forward = MethodType(functools.partial(_unit, gate), module)
    model.get_input_embeddings().register_forward_hook(_into_stream)
    see_once(model)


def _into_stream(module: Any, ids: Any, embedded: torch.Tensor) -> torch.Tensor:
    place = embedded.device.type
    # `meta` knows no autocast; what is computed there is the prediction of a run with it.
    return embedded.bfloat16() if place == "meta" or torch.is_autocast_enabled(place) else embedded


def _norm(self: Any, hidden: torch.Tensor) -> torch.Tensor:
    weight = self.weight.to(hidden.dtype)
    with _without_autocast(hidden.device.type):
        return F.rms_norm(hidden, (hidden.shape[-1],), weight, self.variance_epsilon)


def _without_autocast(place: str) -> contextlib.AbstractContextManager[None]:
    """From torch 2.12 on autocast makes a norm's input fp32, and twice as much is kept of it (pytorch#188955)."""
    if place == "meta" or not torch.is_autocast_enabled(place):
        return contextlib.nullcontext()
    return torch.autocast(place, enabled=False)


def _unit(gate: Gate, self: Any, hidden: torch.Tensor) -> torch.Tensor:
    opened, up = self.gate_proj(hidden), self.up_proj(hidden)
    # Always two-dimensional: torch.compile makes a kernel anew where a dimension is one, and gives up after eight.
    return self.down_proj(gate(opened.flatten(0, -2), up.flatten(0, -2)).view_as(opened))


def see_once(model: PreTrainedModel) -> None:
    """Let the vision tower of a Qwen VL model see each of a batch's different pictures once."""
    tower = model.model.visual
    see = tower.forward

    @functools.wraps(see)
    def forward(hidden_states: torch.Tensor, grid_thw: torch.Tensor, **options: Any) -> Any:
        sizes = grid_thw.prod(-1).tolist()
        pictures, first, places = hidden_states.split(sizes), [], []
        for number, picture in enumerate(pictures):
            same = (k for k, n in enumerate(first) if sizes[n] == sizes[number] and torch.equal(pictures[n], picture))
            places.append(next(same, len(first)))
            if places[-1] == len(first):
                first.append(number)
        found = see(torch.cat([pictures[n] for n in first]), grid_thw=grid_thw[first], **options)
        merged = [sizes[n] // tower.spatial_merge_size**2 for n in first]

        def again(features: torch.Tensor) -> torch.Tensor:
            parts = features.split(merged)
            return torch.cat([parts[place] for place in places])

        found.pooler_output = again(found.pooler_output)
        if "deepstack_features" in found:
            found.deepstack_features = [again(features) for features in found.deepstack_features]
        return found

    tower.forward = forward
