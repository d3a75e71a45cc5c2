"""A training run as data: what is trained on what, with which settings, and the one file that says so.

A run file is flat YAML or JSON: `kind` (sft or grpo), then the fields of `Job`, then those of `SFTSettings` or
`GRPOSettings`. The notebooks write it, `python -m vigorl_lib.training FILE` runs it.
"""

from __future__ import annotations

import dataclasses
import json
import typing
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal

import yaml

from vigorl_lib import rewards
from vigorl_lib.prompts import Mode
from vigorl_lib.runs import parameter_problem, write_text_atomic
from vigorl_lib.views import Zoom


@dataclasses.dataclass(frozen=True)
class SFTSettings:
    """Hyper-parameters of one SFT run, with the paper's values (Tab. A1) as defaults where it has one."""

    max_steps: int
    learning_rate: float
    batch_size: int  # of all processes together
    accumulate: int = 1  # batches per optimiser step
    warmup_steps: int = 0
    weight_decay: float = 0.01  # paper Tab. A1
    schedule: str = "cosine"  # paper Tab. A1
    freeze_vision: bool = True  # paper §A5.4
    save_steps: int = 0  # 0: no checkpoints
    logging_steps: int = 10
    seed: int = 0
    lora_rank: int = 0
    load_in_4bit: bool = False  # the weights that an adapter (lora_rank) stands beside
    precision: str = ""  # "bf16" or "fp16"; empty: what the machine has (`requirements.compute_dtype`)
    gradient_checkpointing: bool = False
    longest_first: bool = False  # the longest row in the first step: what does not fit fails at once


@dataclasses.dataclass(frozen=True)
class GRPOSettings:
    """Hyper-parameters of one GRPO run; defaults are the paper's values (Tab. A2, A3) where it has one."""

    max_steps: int
    learning_rate: float
    prompts_per_step: int  # of one update
    steps_per_generation: int = 4  # updates on one batch of rollouts; Tab. A2: 128 questions in updates of 32
    group_size: int = 5  # Tab. A2; 8 in multi-turn (Tab. A3)
    max_completion_length: int = 2048  # counts the crops' tokens in multi-turn
    temperature: float = 1.0
    top_p: float = 1.0  # released: 0.99
    beta: float = 0.01  # Tab. A2; KL as a loss term
    epsilon: float = 0.2
    epsilon_high: float = 0.28  # Tab. A2 and the released actor; the paper's text says 0.2
    scale_rewards: Literal["group", "none"] = "group"  # released: divide by the group's std; paper's text: centre only
    max_grad_norm: float = 1.0  # Tab. A2; 0.2 in multi-turn (Tab. A3)
    warmup_steps: int = 0
    weight_decay: float = 0.01
    freeze_vision: bool = True
    protocol: rewards.Protocol = "clean"
    diversity_bonus: float = 0.2
    save_steps: int = 0
    seed: int = 0
    lora_rank: int = 0
    load_in_4bit: bool = False
    precision: str = ""
    gradient_checkpointing: bool = False
    completions_per_pass: int = 0  # of one update, that many go at once, over all processes; 0: all
    longest_first: bool = False  # the longest prompt in the first step; then later passes keep the first one's order
    vllm_url: str = ""  # a vLLM server that samples, with weights as they are; empty: the model itself

    def passes(self) -> int:
        """How many passes make up one update. Raises ValueError where they are not all of one size."""
        completions = self.prompts_per_step * self.group_size
        size = self.completions_per_pass or completions
        if completions % size:
            raise ValueError(
                f"completions_per_pass is {size}, which does not divide the {completions} completions of an update; "
                "take a divisor"
            )
        return completions // size


@dataclasses.dataclass(frozen=True)
class Job:
    """What is trained on which questions, and where it goes.

    start        folder or hub id of the policy that training starts from
    out_dir      gets `trainer/` (checkpoints), `model/` and `curve.json`; what an interrupted run left there goes on
    mode         the prompt, and in GRPO the reward
    benchmark, source, split, num_examples, examples_seed   the questions, as `benchmarks.load` takes them
    turns        SFT: the file of what to learn, a line {"id": of a question, "turns": [the policy's messages]}
    max_pixels   most pixels of a picture that the model sees; 0: its own limit
    looks, crop_offset, crop_size   the tool of mode "zoom" (`views.Zoom`)
    """

    start: str
    out_dir: str
    mode: Mode
    benchmark: str
    source: str
    num_examples: int
    split: str = "train"
    examples_seed: int = 0
    turns: str = ""
    max_pixels: int = 0
    looks: int = Zoom.looks
    crop_offset: int = Zoom.offset
    crop_size: int = Zoom.size


Settings = SFTSettings | GRPOSettings
KINDS: dict[str, type[Settings]] = {"sft": SFTSettings, "grpo": GRPOSettings}


def write_turns(path: str | Path, rows: Iterable[tuple[str, Sequence[str]]]) -> str:
    """Write what SFT is to learn, a row (id of a question, messages of the policy); the path, as `Job` takes it."""
    lines = [json.dumps({"id": id, "turns": list(turns)}, ensure_ascii=False) + "\n" for id, turns in rows]
    write_text_atomic(path, "".join(lines))
    return str(path)


def write_run(job: Job, settings: Settings) -> Path:
    """Write job and settings to `run.yaml` in the job's folder, as `read_run` reads them."""
    (kind,) = (name for name, known in KINDS.items() if isinstance(settings, known))
    path = Path(job.out_dir) / "run.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    values = {"kind": kind, **dataclasses.asdict(job), **dataclasses.asdict(settings)}
    write_text_atomic(path, yaml.safe_dump(values, sort_keys=False))
    return path


def read_run(file: str | Path) -> tuple[Job, Settings]:
    """The job and the settings of a run file. Raises ValueError with all that is wrong: file, key and remedy."""
    try:
        values = yaml.safe_load(Path(file).read_text(encoding="utf-8"))  # JSON is YAML, too
    except yaml.YAMLError as error:
        raise ValueError(f"{file}: neither YAML nor JSON ({error}); mend that line") from error
    if not isinstance(values, dict) or values.get("kind") not in KINDS:
        raise ValueError(f"{file}: needs `kind: sft` or `kind: grpo`, then the fields of its job and settings")
    kinds = (Job, KINDS[values.pop("kind")])
    hints = {name: hint for kind in kinds for name, hint in typing.get_type_hints(kind).items()}
    fields = {field.name: field for kind in kinds for field in dataclasses.fields(kind)}
    due = [name for name, field in fields.items() if field.default is dataclasses.MISSING and name not in values]
    problems = [f"{name}: missing; give one" for name in due]
    for name, value in values.items():
        allowed = typing.get_args(hints.get(name))
        if name not in fields:
            problems.append(f"{name}: unknown; it has {', '.join(fields)}")
        elif allowed and value not in allowed:
            problems.append(f"{name}: found {value!r}; use {', '.join(map(repr, allowed))}")
        elif not allowed and (problem := parameter_problem(hints[name].__name__, value)):
            problems.append(f"{name}: {problem}")
    if problems:
        raise ValueError("\n".join(f"{file}: {problem}" for problem in problems))
    of = lambda kind: {f.name: values[f.name] for f in dataclasses.fields(kind) if f.name in values}  # noqa: E731
    return Job(**of(Job)), kinds[1](**of(kinds[1]))
