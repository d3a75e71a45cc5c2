"""What learns of a model, in which precision, and what each process takes of a batch.

Training sets it so, and the prediction of a run counts it so.
"""

from __future__ import annotations

from vigorl_lib import requirements

# isort: split
import torch
from accelerate import PartialState
from peft import LoraConfig
from transformers import PreTrainedModel

COMPLETIONS = "the number of completions that go at once"


def freeze_vision(model: PreTrainedModel) -> None:
    """Stop gradients into the vision tower and projector, as the paper's runs do (§A5.4, released yaml)."""
    model.model.visual.requires_grad_(False)


def adapter(rank: int) -> LoraConfig | None:
    """LoRA of a rank on every linear layer of the language model, none on the vision tower; None for rank 0.

    The paper and its scripts fine-tune all weights; this is for smaller cards. alpha is twice the rank.
    """
    if not rank:
        return None
    return LoraConfig(r=rank, lora_alpha=2 * rank, target_modules="all-linear", exclude_modules=r".*(visual|lm_head).*")


def weights_dtype(lora_rank: int, precision: str) -> torch.dtype:
    """What the weights of a model in training are loaded in.

    All of them learn: fp32, though computed in `precision`. Near 0.02 the next bf16 number is 1.2e-4 away, so that
    steps of 1e-6 (paper Tab. A1, A2) would be rounded to nothing. Only an adapter learns: `precision`.
    """
    return requirements.compute_dtype(precision) if lora_rank else torch.float32


def share_of(count: int, name: str, processes: int = 0) -> int:
    """What each of `processes` (0: this run's) takes of `count` rows. Raises ValueError where not all take alike."""
    processes = processes or PartialState(cpu=not torch.cuda.is_available()).num_processes
    if count % processes:
        raise ValueError(
            f"{name} is {count}, which {processes} processes can not share evenly; take a multiple of {processes}"
        )
    return count // processes
