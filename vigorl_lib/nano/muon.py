"""An optimiser for a base that learns from nothing: Muon for the matrices of its layers, AdamW for the rest.

Muon (Jordan et al. 2024) makes every direction of a weight matrix's update equally long. A trainer takes one
optimiser, so the two stand behind one face here.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from transformers import PreTrainedModel


class Muon(torch.optim.Optimizer):
    """Muon with Nesterov momentum, without weight decay: as `torch.optim.Muon` (a test compares), but in fp32.

    torch's orthogonalises in bf16, which a processor without bf16 instructions emulates: 1.07 s of a nano base's
    step of 3.2 s on two AVX2 cores.
    """

    def __init__(self, matrices: Iterable[torch.Tensor], *, lr: float, momentum: float = 0.95) -> None:
        super().__init__(matrices, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        """Move every matrix that has a gradient; steps are as long as AdamW's typical ones."""
        for group in self.param_groups:
            for matrix in group["params"]:
                if matrix.grad is None:
                    continue
                state = self.state[matrix]
                if not state:
                    state["momentum_buffer"] = torch.zeros_like(matrix)
                momentum = state["momentum_buffer"].lerp_(matrix.grad, 1 - group["momentum"])
                update = orthogonal(matrix.grad.lerp(momentum, group["momentum"]))
                matrix.add_(update, alpha=-0.2 * math.sqrt(max(matrix.shape)) * group["lr"])


def orthogonal(matrix: torch.Tensor) -> torch.Tensor:
    """About the nearest matrix whose singular values are 1, by five Newton-Schulz steps (Jordan's coefficients)."""
    if matrix.shape[0] > matrix.shape[1]:
        return orthogonal(matrix.T).T
    found = matrix / matrix.norm().clamp(min=1e-7)
    for _ in range(5):
        gram = found @ found.T
        found = 3.4445 * found + (2.0315 * gram @ gram - 4.7750 * gram) @ found
    return found


class MuonAdamW(torch.optim.Optimizer):
    """`Muon` for the matrices of the language model's layers, `torch.optim.AdamW` for all else.

    Muon's steps are scaled to AdamW's typical length, so that both take one learning rate.
    """

    def __init__(self, model: PreTrainedModel, *, learning_rate: float, adam_beta2: float = 0.95) -> None:
        matrices, others = [], []
        for name, value in model.named_parameters():
            (matrices if "language_model.layers" in name and value.ndim == 2 else others).append(value)
        self.parts = (
            Muon(matrices, lr=learning_rate),
            torch.optim.AdamW(others, lr=learning_rate, betas=(0.9, adam_beta2), weight_decay=0.0),
        )
        super().__init__(self._groups(), {})

    def _groups(self) -> list[dict[str, Any]]:
        return [group for part in self.parts for group in part.param_groups]

    def step(self, closure: Any = None) -> None:
        """One step of both."""
        for part in self.parts:
            part.step()

    def state_dict(self) -> dict[str, Any]:
        return {"parts": [part.state_dict() for part in self.parts]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        for part, state in zip(self.parts, state_dict["parts"], strict=True):
            part.load_state_dict(state)
        self.param_groups = self._groups()  # loading makes new ones; schedulers write into these
