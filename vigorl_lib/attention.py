"""A vision tower's attention within its windows and pictures, in one call for all of a length.

transformers 5.23 calls the attention once for each window where no flash-attn package is installed: with eight pictures
of 1,008 pixels about 18,000 calls a forward pass of Qwen2.5-VL, which a GPU waits for (tests/bench_gpu.py).
"""

from __future__ import annotations

from typing import Any

import torch
from torch.nn import functional as F
from transformers import AttentionInterface, PreTrainedModel

# "flash" in the name is how transformers knows an implementation that takes all windows at once.
BY_LENGTH = "flash_by_length"


def by_length(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: None,
    *,
    scaling: float,
    cu_seq_lens_q: torch.Tensor,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """Each window's tokens attend to one another: query, key, value [1, heads, tokens, d] -> [1, tokens, heads, d].

    `cu_seq_lens_q` are the windows' borders, from 0 to the number of tokens.
    """
    starts, lengths = cu_seq_lens_q[:-1], cu_seq_lens_q.diff()
    places, parts = [], []
    for length in lengths[lengths > 0].unique().tolist():
        inside = starts[lengths == length, None] + torch.arange(length, device=starts.device)  # [windows, length]
        rows = (tensor[0][:, inside].transpose(0, 1) for tensor in (query, key, value))  # [windows, heads, length, d]
        parts.append(F.scaled_dot_product_attention(*rows, scale=scaling).transpose(1, 2).flatten(0, 1))
        places.append(inside.flatten())
    return torch.cat(parts)[torch.cat(places).argsort()][None], None


AttentionInterface.register(BY_LENGTH, by_length)


def see_by_length(model: PreTrainedModel) -> None:
    """Let the vision tower of a Qwen VL model take its windows so."""
    model.model.visual.config._attn_implementation = BY_LENGTH
