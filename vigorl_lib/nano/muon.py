"""An optimiser for a base that learns from nothing: Muon for the matrices of its layers, AdamW for the rest.

Muon (Jordan et al. 2024) makes every direction of a weight matrix's update equally long. torch has it, for matrices
alone; a trainer takes one optimiser, so the two stand behind one face here.
"""

from __future__ import annotations

from typing import Any

import torch
from transformers import PreTrainedModel


class MuonAdamW(torch.optim.Optimizer):
    """`torch.optim.Muon` for the matrices of the language model's layers, `torch.optim.AdamW` for all else.

    Muon's steps are scaled to AdamW's typical length, so that both take one learning rate.
    """

    def __init__(self, model: PreTrainedModel, *, learning_rate: float, adam_beta2: float = 0.95) -> None:
        matrices, others = [], []
        for name, value in model.named_parameters():
            (matrices if "language_model.layers" in name and value.ndim == 2 else others).append(value)
        self.parts = (
            torch.optim.Muon(matrices, lr=learning_rate, weight_decay=0.0, adjust_lr_fn="match_rms_adamw"),
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
