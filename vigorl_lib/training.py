"""SFT and GRPO with TRL's own trainers, and the checks that keep them honest. The only file that imports trl.

Departures from the paper stand beside the setting that makes them; the traps that `check_setup` guards
are the ones that TRL 1.16 with images in tool results really has.

    python -m vigorl_lib.training RUN.yaml

runs a job as the notebooks do; a launcher (torchrun, accelerate launch) can start the same
line in several processes. What stands in the file says `vigorl_lib.jobs`.
"""

from __future__ import annotations

import argparse
import itertools
import logging
import math
import os
import random
import re
import shlex
import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from vigorl_lib import requirements

# isort: split
import torch
from accelerate import PartialState
from datasets import Dataset
from peft import PeftModel
from PIL import Image
from tqdm.auto import tqdm
from transformers import (
    AutoModelForImageTextToText,
    PreTrainedModel,
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainerState,
    set_seed,
)
from trl import GRPOConfig, GRPOTrainer, SFTConfig, SFTTrainer

from vigorl_lib import lengths, prediction, prompts, rewards
from vigorl_lib.attention import see_by_length
from vigorl_lib.benchmarks import registry as benchmarks
from vigorl_lib.fused import fuse
from vigorl_lib.images import shown_size
from vigorl_lib.jobs import GRPOSettings, Job, Settings, SFTSettings, read_run, write_run
from vigorl_lib.learning import COMPLETIONS, adapter, freeze_vision, share_of, weights_dtype
from vigorl_lib.policy import LocalPolicy, load_policy, save_policy
from vigorl_lib.processors import kit_template
from vigorl_lib.prompts import Mode
from vigorl_lib.records import Example, read_lines
from vigorl_lib.runs import write_json_atomic
from vigorl_lib.traces import TOOL_NAME, parse_turn
from vigorl_lib.views import View, Views, Zoom

Messages = list[dict[str, Any]]

# TRL warns at every start that environments are new; what this kit uses of them is tested.
os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")
# TRL sets it by its old name, and not every version of transformers that this kit accepts has the new one.
warnings.filterwarnings("ignore", "`(is_)?gradient_checkpointing` is deprecated", FutureWarning)
# TRL prints a whole rollout, model text and all, for each one without a reward; here they are counted.
logging.getLogger("trl.trainer.grpo_trainer").addFilter(
    lambda record: "All reward functions returned None" not in record.getMessage()
)


# --- any trainer: progress, curves, resuming --------------------------------------------------------------


class Progress(TrainerCallback):
    """A progress bar with an ETA; a trainer that has one does not print its log as well."""

    def __init__(self, title: str, shown: str = "loss") -> None:
        self.title, self.shown = title, shown

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.bar = tqdm(total=state.max_steps, initial=state.global_step, desc=self.title, unit="step")

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.bar.update(state.global_step - self.bar.n)

    def on_log(self, args: Any, state: Any, control: Any, logs: Mapping[str, Any], **_: Any) -> None:
        if logs.get(self.shown) is not None:
            self.bar.set_postfix({self.shown: f"{float(logs[self.shown]):.2f}"})

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.bar.close()


def _without_printing(trainer: Trainer) -> Trainer:
    if any(isinstance(callback, Progress) for callback in trainer.callback_handler.callbacks):
        trainer.remove_callback(PrinterCallback)
    return trainer


LOGGED = {  # the kit's name of a curve -> the trainer's
    "loss": "loss",
    "reward": "reward",
    "accuracy": "accuracy",
    "format": "format",
    "coordinate": "coordinate",
    "diversity": "diversity",
    "unfinished": "unfinished",
    "even_groups": "frac_reward_zero_std",
    "length": "completions/mean_length",
    "looks": "tools/call_frequency",
    "entropy": "entropy",
    "kl": "kl",
    "gradient_norm": "grad_norm",
    "seconds": "step_time",
}


def curve(trainer: Trainer) -> list[dict[str, float]]:
    """One row a logged step, from the first on even in a resumed run; what is undefined is left out.

    even_groups  share of groups whose rollouts all earned the same: they teach nothing
    length       mean tokens that the policy wrote in a rollout
    looks        tool calls per rollout
    entropy, kl  nats per token; kl is measured against the model that training started from
    """
    rows = []
    for entry in trainer.state.log_history:
        values = {name: entry[key] for name, key in LOGGED.items() if entry.get(key) is not None}
        if "loss" in values:
            finite = {name: float(value) for name, value in values.items() if math.isfinite(value)}
            rows.append({"step": entry["step"], **finite})
    return rows


def lines(rows: Sequence[Mapping[str, float]], *names: str) -> dict[str, list[dict[str, float]]]:
    """The named curves as `figures.learning_curves` takes them, without those that were never logged."""
    chosen = {name: [{"step": row["step"], "value": row[name]} for row in rows if name in row] for name in names}
    return {name: points for name, points in chosen.items() if points}


def resume_point(out_dir: str | Path) -> Path | None:
    """The newest whole checkpoint in a trainer's folder, or None; `trainer_state.json` is written last."""
    states = Path(out_dir).glob("checkpoint-*/trainer_state.json")
    found = sorted((state.parent for state in states), key=lambda folder: int(folder.name.split("-")[1]))
    return found[-1] if found else None


def load_to_train(
    start: str | Path,
    out_dir: str | Path,
    *,
    max_pixels: int | None = None,
    dtype: torch.dtype = torch.float32,
    load_in_4bit: bool = False,
) -> tuple[LocalPolicy, Path | None]:
    """The policy to train, and the checkpoint to go on from (for `train`), if there is one in `out_dir`.

    Without one that is the policy of the folder or hub id `start`. With one, the weights are read here: transformers
    restores nothing into a fully fine-tuned Qwen2.5-VL (its saved names differ) and only warns; an adapter (LoRA) it
    does restore. The policy still calls itself `start`, because TRL loads the reference of the KL term by that name: a
    reference that changed with every interruption would be another objective.

    The model stays on the CPU: the trainer puts it on this process's card, or in pieces on all of them. `dtype` is that
    of its weights (see `learning.weights_dtype`).
    """
    checkpoint = resume_point(out_dir)
    adapter = checkpoint is not None and (checkpoint / "adapter_config.json").exists()
    policy = load_policy(
        start if adapter or checkpoint is None else checkpoint,
        max_pixels=max_pixels,
        dtype=dtype,
        device=f"cuda:{PartialState().local_process_index}" if load_in_4bit else "cpu",
        load_in_4bit=load_in_4bit,
    )
    policy.model.config._name_or_path = str(start)
    if "endgeneration" not in policy.processor.chat_template:
        # A real model's own template does not say which tokens it wrote; ours is Qwen's form, and does.
        policy.processor.chat_template = kit_template()
    return policy, checkpoint


def train(trainer: Trainer, checkpoint: Path | None) -> None:
    """Train to the last step, from `checkpoint` on where there is one (the model holds its weights already).

    Within one pass over the examples a resumed run ends as an unbroken one does; in a later pass TRL's
    sampler begins its shuffling anew. From a checkpoint of the last step transformers would go one too far.
    """
    state = TrainerState.load_from_json(str(checkpoint / "trainer_state.json")) if checkpoint else None
    if state is None:
        trainer.train()
    elif state.global_step < trainer.args.max_steps:
        trainer.train(resume_from_checkpoint=str(checkpoint))
    else:
        trainer.state = state
        if isinstance(trainer.model, PeftModel):
            trainer.model.load_adapter(str(checkpoint), trainer.model.active_adapter)


def save_trained(trainer: Trainer, policy: LocalPolicy, start: str | Path, folder: str | Path) -> None:
    """Save what was trained, once, as a model folder like any other. Every process of a run must call it.

    The pieces of a sharded model (FSDP, ZeRO) are gathered. An adapter (LoRA) is put into the weights of `start` as
    they are stored, on the CPU: those in training may have been of four bits.
    """
    model = trainer.accelerator.unwrap_model(trainer.model)
    if not isinstance(model, PeftModel):
        state = trainer.accelerator.get_state_dict(trainer.model_wrapped)
        if trainer.is_world_process_zero():
            save_policy(policy, folder, state)
    elif trainer.is_world_process_zero():
        adapter = Path(trainer.args.output_dir) / "adapter"
        model.save_pretrained(adapter)
        plain = AutoModelForImageTextToText.from_pretrained(start, dtype="auto", use_safetensors=True)
        merged = PeftModel.from_pretrained(plain, adapter).merge_and_unload()
        save_policy(LocalPolicy(merged, policy.processor), folder)
    trainer.accelerator.wait_for_everyone()


def _learn_in_fp32(trainer: Trainer) -> None:
    """Undo what TRL does to the adapter of a 4-bit model: in bf16 small steps vanish, and a T4 can not scale it."""
    if isinstance(trainer.model, PeftModel):
        for weight in trainer.model.parameters():
            if weight.requires_grad:
                weight.data = weight.data.float()


# --- SFT --------------------------------------------------------------------------------------------------


class _Making:
    """What makes a batch of rows. To hash it, `datasets` pickles it, and would write out the model behind the views."""

    def __init__(self, make: Callable[[dict[str, list[int]]], dict[str, list[Any]]]) -> None:
        self.make = make

    def __call__(self, batch: dict[str, list[int]]) -> dict[str, list[Any]]:
        return self.make(batch)

    def __reduce__(self) -> tuple[Any, ...]:
        return _Making, (id(self.make),)

    def __deepcopy__(self, memo: Any) -> _Making:
        return self  # as a function does


def lazy_rows(make: Callable[[int], Messages], seeds: Sequence[int], tokens: Sequence[int] = ()) -> Dataset:
    """A dataset whose row i is the conversation `make(seeds[i])`, made when the trainer asks for it.

    Images stand inside their content blocks, in turns of any role, and the `images` column is empty: TRL fills
    placeholders from that column but skips the tool role. `tokens` are the rows' lengths (`lengths.samples`), which
    the setting `longest_first` asks for.
    """

    def fill(batch: dict[str, list[int]]) -> dict[str, list[Any]]:
        return {"messages": [make(seed) for seed in batch["seed"]], "images": [[] for _ in batch["seed"]]}

    lengths_of_rows = {"tokens": list(tokens)} if tokens else {}
    return Dataset.from_dict({"seed": list(seeds), **lengths_of_rows}).with_transform(_Making(fill))


def _longest_first(rows: Dataset) -> Dataset:
    if "tokens" not in rows.column_names:
        raise ValueError("longest_first needs to know the rows' lengths: give `tokens` to training.lazy_rows")
    return rows.select(lengths.longest_first(range(len(rows)), list(rows.with_format(None)["tokens"])))


class Collator:
    """Batches conversations as TRL's vision collator does with `assistant_only_loss`, several times faster.

    TRL marks the assistant's tokens character by character in Python, which takes longer here than a nano
    model's forward pass. The kit's template writes every assistant turn between two fixed token sequences,
    so the same labels follow from the token ids alone (a test compares both).
    """

    def __init__(self, processor: Any) -> None:
        tokenizer = processor.tokenizer
        self.processor = processor
        self.opening = tokenizer("<|im_start|>assistant\n", add_special_tokens=False)["input_ids"]
        self.closing = tokenizer.convert_tokens_to_ids("<|im_end|>")

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        batch = self.processor.apply_chat_template(
            [row["messages"] for row in rows],
            tokenize=True,
            return_dict=True,
            return_tensors="pt",
            processor_kwargs={"padding": True, "padding_side": "right"},
        )
        ids = batch["input_ids"]
        opened = ids.new_zeros(ids.shape, dtype=torch.bool)
        width = len(self.opening)
        found = (ids.unfold(1, width, 1) == ids.new_tensor(self.opening)).all(-1)
        opened[:, width:] = found[:, :-1]  # the first token after an opening
        closed = torch.zeros_like(opened)
        closed[:, 1:] = ids[:, :-1] == self.closing  # the first token after a closing
        written = (opened.int() - (closed & _inside(opened, closed)).int()).cumsum(1).bool()
        batch["labels"] = ids.masked_fill(~written, -100)
        return dict(batch)


def _inside(opened: torch.Tensor, closed: torch.Tensor) -> torch.Tensor:
    """True at a closing whose nearest marker before it is an opening (user turns close without one)."""
    position = torch.arange(opened.shape[1]).expand_as(opened)
    last_opened = torch.where(opened, position, -1).cummax(1).values
    last_closed = torch.where(closed, position, -1).cummax(1).values.roll(1, 1)
    last_closed[:, 0] = -1
    return last_opened > last_closed


def episode(
    example: Example,
    view: View,
    turns: Sequence[str],
    zoom: Zoom,
    dialect: prompts.Dialect = prompts.NANO,
    *,
    mode: Mode = "zoom",
) -> Messages:
    """A finished rollout as a conversation: in mode "zoom" after each turn that calls the tool comes its crop.

    `turns` are the policy's messages; what each look shows, and that the last one says so, is as in
    `policy.answer` and in TRL's rollout. Raises ValueError where another turn follows one without a call, or
    there are more looks than allowed.
    """
    talk = prompts.conversation(example, view.image, mode, dialect=dialect)
    for index, text in enumerate(turns):
        talk.append({"role": "assistant", "content": text})
        if index + 1 == len(turns):
            break
        call = parse_turn(text, zoom=True).call if mode == "zoom" else None
        if call is None or index == zoom.looks:
            raise ValueError(
                f"example {example.id!r}: turn {index + 1} of {len(turns)} has no look left or calls none; "
                f"give turns that call the tool, at most {zoom.looks}, and one that answers"
            )
        look = prompts.observation(view.crop(call, zoom), last=index + 1 == zoom.looks)
        talk.append({"role": "tool", "content": look})
    return talk


def sft_trainer(
    model: PreTrainedModel,
    processor: Any,
    rows: Dataset,
    settings: SFTSettings,
    out_dir: str | Path,
    *,
    callbacks: Sequence[TrainerCallback] = (),
    workers: int = 0,
    optimiser: torch.optim.Optimizer | None = None,
) -> SFTTrainer:
    """TRL's SFTTrainer over conversations, with the loss on the tokens that the policy writes.

    `optimiser` takes the place of AdamW as the settings have it; their schedule applies to it too.
    """
    if settings.longest_first:
        rows = _longest_first(rows)
    if settings.freeze_vision:
        freeze_vision(model)
    on_gpu, dtype = torch.cuda.is_available(), requirements.compute_dtype(settings.precision)
    args = SFTConfig(
        str(out_dir),
        max_steps=settings.max_steps,
        learning_rate=settings.learning_rate,
        per_device_train_batch_size=share_of(settings.batch_size, "batch_size"),
        gradient_accumulation_steps=settings.accumulate,
        warmup_steps=settings.warmup_steps,
        weight_decay=settings.weight_decay,
        lr_scheduler_type=settings.schedule,
        seed=settings.seed,
        train_sampling_strategy="sequential",  # in the order given: whoever makes the rows shuffles them
        max_length=None,  # a limit would cut images apart
        assistant_only_loss=True,  # otherwise image padding is trained too
        remove_unused_columns=False,
        save_strategy="steps" if settings.save_steps else "no",
        save_steps=settings.save_steps or 500,
        save_total_limit=1,
        logging_steps=settings.logging_steps,
        report_to="none",
        bf16=dtype == torch.bfloat16,
        fp16=dtype == torch.float16,
        use_cpu=not on_gpu,
        gradient_checkpointing=settings.gradient_checkpointing,
        dataloader_num_workers=workers,
        disable_tqdm=True,
    )
    if dtype == torch.bfloat16:
        fuse(model)
    trainer = SFTTrainer(
        model=model,
        processing_class=processor,
        args=args,
        train_dataset=rows,
        data_collator=Collator(processor),
        callbacks=list(callbacks),
        optimizers=(optimiser, None),
        peft_config=adapter(settings.lora_rank),
    )
    # The mean over the tokens of a whole batch, into however many passes and processes it is cut. transformers thinks
    # that a Qwen VL's loss can not have that, and takes a mean of means; but the loss is TRL's, which can.
    trainer.model_accepts_loss_kwargs = True
    _learn_in_fp32(trainer)
    return _without_printing(trainer)


# --- GRPO ------------------------------------------------------------------------------------------------


def tokens_written(rows: Sequence[Mapping[str, float]], settings: GRPOSettings) -> int:
    """About how many tokens the policy wrote in a GRPO run whose `curve` is `rows`.

    TRL logs the mean length once for each batch of completions, which serves `steps_per_generation` steps.
    """
    completions = settings.prompts_per_step * settings.group_size * settings.steps_per_generation
    return round(sum(row["length"] for row in rows if "length" in row) * completions)


def grpo_rows(
    examples: Sequence[Example], views: Sequence[View], mode: Mode, dialect: prompts.Dialect = prompts.NANO
) -> Dataset:
    """One row per example, in the order given: prompt, its one image in the model's frame, and its index.

    A row is made when the trainer asks for it: only the pictures of a batch, and what `views` keeps, are in memory.
    """

    def fill(batch: dict[str, list[int]]) -> dict[str, list[Any]]:
        asked, shown = [], []
        for index in batch["index"]:
            image = views[index].image
            *system, user = prompts.conversation(examples[index], image, mode, dialect=dialect)
            # TRL puts the image of the `images` column in front of a text-only user turn, as our prompts have it.
            text = next(block["text"] for block in user["content"] if block["type"] == "text")
            asked.append([*system, {"role": "user", "content": text}])
            shown.append([image])
        return {"prompt": asked, "images": shown, "index": batch["index"]}

    return Dataset.from_dict({"index": range(len(examples))}).with_transform(_Making(fill))


def zoom_environment(views: Sequence[View], zoom: Zoom) -> type:
    """The class that TRL makes one instance of per rollout; its public method is the tool."""

    class ZoomEnvironment:
        def reset(self, index: int, **row: Any) -> None:
            self._view, self._looks = views[index], 0

        def search_coordinate(self, coordinate: list[int]) -> list:
            """Look closer at a point of the image.

            Args:
                coordinate: The point [x, y] in pixels of the image.

            Returns:
                The crop around the point.
            """
            if self._looks >= zoom.looks:
                raise ValueError("no looks are left: answer now")
            if len(coordinate) != 2 or any(type(value) is not int for value in coordinate):
                raise ValueError("coordinate must be two integers [x, y]")
            self._looks += 1
            crop = self._view.crop((coordinate[0], coordinate[1]), zoom)
            return prompts.observation(crop, last=self._looks == zoom.looks)

    assert TOOL_NAME in vars(ZoomEnvironment)
    return ZoomEnvironment


def turns_written(completion: str) -> list[str]:
    """The policy's own messages in a decoded rollout: what stands between an opening and an end of turn."""
    return [piece.split("<|im_end|>")[0] for piece in completion.split("<|im_start|>assistant\n")]


def reward_function(
    policy: LocalPolicy,
    examples: Sequence[Example],
    views: Sequence[View],
    mode: Mode,
    settings: GRPOSettings,
) -> Callable[..., list[float | None]]:
    """The kit's reward in TRL's signature; its parts are logged beside the total.

    In multi-turn a rollout without a finished last turn counts for nothing (None), as in the paper (§A5.3);
    in single-turn it is scored as it stands, as in the released code. TRL's own masking of truncated rows is
    not used: with crops in the rollout it corrupts other rows.
    """
    end = policy.tokenizer.eos_token_id

    def reward(completion_ids: list[list[int]], index: list[int], log_metric: Any, **_: Any) -> list[float | None]:
        scores, totals = [], []
        for ids, row in zip(completion_ids, index, strict=True):
            if mode == "zoom" and ids[-1] != end:
                totals.append(None)
                continue
            score = rewards.score(
                turns_written(policy.tokenizer.decode(ids, skip_special_tokens=False)),
                examples[row],
                mode=mode,
                protocol=settings.protocol,
                frame=views[row].frame,
                diversity_bonus=settings.diversity_bonus,
            )
            scores.append(score)
            totals.append(score.total)
        # One by one: TRL takes the mean over all processes, which may have scored unlike numbers of them.
        for part in ("accuracy", "format", "coordinate", "diversity"):
            for score in scores:
                log_metric(part, float(vars(score)[part]))
        for total in totals:
            log_metric("unfinished", float(total is None))
        return totals

    return reward


def grpo_trainer(
    policy: LocalPolicy,
    examples: Sequence[Example],
    mode: Mode,
    settings: GRPOSettings,
    out_dir: str | Path,
    *,
    zoom: Zoom | None = None,
    callbacks: Sequence[TrainerCallback] = (),
) -> GRPOTrainer:
    """TRL's GRPOTrainer on our examples; in mode "zoom" it runs TRL's own multi-turn loop over the tool."""
    if settings.freeze_vision:
        freeze_vision(policy.model)
    on_gpu, dtype = torch.cuda.is_available(), requirements.compute_dtype(settings.precision)
    completions = settings.prompts_per_step * settings.group_size // settings.passes()
    zoom = zoom or Zoom()
    args = GRPOConfig(
        str(out_dir),
        max_steps=settings.max_steps,
        learning_rate=settings.learning_rate,
        lr_scheduler_type="constant_with_warmup",  # released: constant after warm-up
        warmup_steps=settings.warmup_steps,
        weight_decay=settings.weight_decay,
        per_device_train_batch_size=share_of(completions, COMPLETIONS),
        gradient_accumulation_steps=settings.passes(),
        num_generations=settings.group_size,
        steps_per_generation=settings.steps_per_generation * settings.passes(),  # TRL counts passes
        max_completion_length=settings.max_completion_length,
        max_tool_calling_iterations=zoom.looks if mode == "zoom" else None,
        temperature=settings.temperature,
        top_p=settings.top_p,
        top_k=0,
        # A growing cache is copied whole for every token; a GPU does that fast, and would compile for a static one.
        cache_implementation=None if on_gpu else "static",
        beta=settings.beta,
        epsilon=settings.epsilon,
        epsilon_high=settings.epsilon_high,
        loss_type="dapo",  # token-level mean, as the paper describes
        scale_rewards=settings.scale_rewards,
        max_grad_norm=settings.max_grad_norm,
        mask_truncated_completions=False,
        shuffle_dataset=not settings.longest_first,
        seed=settings.seed,
        save_strategy="steps" if settings.save_steps else "no",
        save_steps=settings.save_steps or 500,
        save_total_limit=1,
        logging_steps=1,
        report_to="none",
        bf16=dtype == torch.bfloat16,
        fp16=dtype == torch.float16,
        use_vllm=bool(settings.vllm_url),
        vllm_mode="server",  # colocated, vLLM expands the image tokens a second time (trl#6294)
        vllm_server_base_url=settings.vllm_url or None,
        # vLLM may sample an image token, and TRL then drops the pictures of the whole batch.
        generation_kwargs={"logit_bias": {policy.processor.image_token_id: -100}} if settings.vllm_url else None,
        use_cpu=not on_gpu,
        gradient_checkpointing=settings.gradient_checkpointing,
        disable_tqdm=True,
    )
    check_setup(policy, args, examples)
    if settings.longest_first:  # shuffled here, because TRL's shuffle would move it
        tokens = [sample.tokens for sample in lengths.samples(policy, examples, mode)]
        order = random.Random(settings.seed).sample(range(len(examples)), len(examples))
        examples = [examples[i] for i in lengths.longest_first(order, [tokens[i] for i in order])]
    views = Views(policy.view_of, examples)
    if dtype == torch.bfloat16:
        fuse(policy.model)
    trainer = GRPOTrainer(
        model=policy.model,
        processing_class=policy.processor,
        reward_funcs=[reward_function(policy, examples, views, mode, settings)],
        args=args,
        train_dataset=grpo_rows(examples, views, mode, policy.dialect),
        environment_factory=zoom_environment(views, zoom) if mode == "zoom" else None,
        callbacks=list(callbacks),
        peft_config=adapter(settings.lora_rank),
    )
    if trainer.ref_model is not None:  # TRL has loaded it itself, and holds its log-probabilities against the policy's
        reference = trainer.accelerator.unwrap_model(trainer.ref_model)
        see_by_length(reference)
        if dtype == torch.bfloat16:
            fuse(reference)
    _learn_in_fp32(trainer)
    return _without_printing(trainer)


def check_setup(policy: LocalPolicy, args: GRPOConfig, examples: Sequence[Example]) -> None:
    """Refuse to start inside one of TRL's traps; two of them would corrupt the training silently.

    Raises ValueError naming the setting and the remedy. Pictures are opened one batch at a time, so here the header of
    each is read: raises what `images.image_size` raises.
    """
    processor, tokenizer = policy.processor, policy.tokenizer
    if tokenizer.padding_side != "left":
        raise ValueError("tokenizer.padding_side must be 'left': with 'right' TRL shifts image types between rows")
    if args.mask_truncated_completions:
        raise ValueError(
            "mask_truncated_completions must be False: it hands one row's crops to the next; let rewards return None"
        )
    pixels = processor.image_processor(images=[Image.new("RGB", (64, 64))])["pixel_values"]
    if not isinstance(pixels, torch.Tensor):
        raise ValueError(
            "the image processor must return tensors (vigorl_lib.processors.ImageProcessor): "
            "tool results of text alone would fail"
        )
    if not tokenizer.response_template:
        raise ValueError(
            "tokenizer.response_template is not set: tool calls would never be run; load with processors.load_processor"
        )
    if "endgeneration" not in processor.chat_template:
        raise ValueError("the chat template is not the kit's: load the processor with processors.load_processor")
    name = policy.model.config._name_or_path
    if args.beta > 0 and not (name and (Path(name).is_dir() or re.fullmatch(r"[\w.-]+/[\w.-]+", name))):
        raise ValueError(
            "beta > 0 reloads the reference from a folder (or the hub): save the model, load it with policy.load_policy"
        )
    needed = args.generation_batch_size // args.num_generations
    if len(examples) < needed:
        raise ValueError(
            f"there are {len(examples)} questions and one batch of rollouts takes {needed} (prompts_per_step x "
            "steps_per_generation): TRL would train no step at all; raise num_examples or lower one of the two"
        )
    empty = [example.id for example in examples if not example.images]
    if empty:
        raise ValueError(
            f"questions {empty[:5]} have no image: TRL fails on batches that mix rows with and without; leave them out"
        )
    for example in examples:
        shown_size(example)


# --- one job, in this process or in several ---------------------------------------------------------------


def run(job: Job, settings: Settings, *, forecast: bool = False) -> None:
    """Train, and leave model and curve in `job.out_dir`. In a run of several processes each of them calls it.

    Batches are those of all processes together, so that their number changes nothing but the time. Raises ValueError
    on what the machine can not do and on what the settings can not mean, before a model is loaded. With `forecast`, on
    a GPU, the main process prints what a card is to take, as notebooks do themselves, and raises MemoryError with the
    remedy where the card has not the room, before a trainer is made.
    """
    requirements.check(
        precision=settings.precision,
        lora_rank=settings.lora_rank,
        load_in_4bit=settings.load_in_4bit,
        vllm_url=settings.vllm_url if isinstance(settings, GRPOSettings) else "",
    )
    folder = Path(job.out_dir)
    on_gpu = torch.cuda.is_available()
    chief = PartialState(cpu=not on_gpu).is_main_process
    # Measured before the model is loaded: one of four bits lies on the card from then on.
    dtype = requirements.compute_dtype(settings.precision)
    device = prediction.measured_device(dtype) if forecast and chief and on_gpu else None
    examples = benchmarks.load(
        job.benchmark, job.source, split=job.split, limit=job.num_examples or None, seed=job.examples_seed
    )
    policy, checkpoint = load_to_train(
        job.start,
        folder / "trainer",
        max_pixels=job.max_pixels or None,
        dtype=weights_dtype(settings.lora_rank, settings.precision),
        load_in_4bit=settings.load_in_4bit,
    )
    zoom = Zoom(offset=job.crop_offset, size=job.crop_size, looks=job.looks)
    if device:
        print(_forecast(job, settings, policy, examples, zoom, device))
    set_seed(settings.seed)  # an adapter begins with random numbers, the same everywhere
    if isinstance(settings, SFTSettings):
        rows = _rows_to_learn(job, settings, policy, examples, zoom)
        bar = [Progress("SFT")] if chief else []
        trainer = sft_trainer(policy.model, policy.processor, rows, settings, folder / "trainer", callbacks=bar)
    else:
        bar = [Progress("GRPO", shown="reward")] if chief else []
        trainer = grpo_trainer(policy, examples, job.mode, settings, folder / "trainer", zoom=zoom, callbacks=bar)
    train(trainer, checkpoint)
    save_trained(trainer, policy, job.start, folder / "model")
    if chief:
        write_json_atomic(folder / "curve.json", curve(trainer))
    trainer.accelerator.free_memory()


def _forecast(
    job: Job,
    settings: Settings,
    policy: LocalPolicy,
    examples: Sequence[Example],
    zoom: Zoom,
    device: prediction.Device,
) -> str:
    """What each card of this run is to take. Raises MemoryError where `device` has not the room."""
    turns = []
    if isinstance(settings, SFTSettings):
        places, turns = _written(job, examples)
        examples = [examples[place] for place in places]
    return prediction.forecast_share(
        policy,
        examples,
        job.mode,
        settings,
        device,
        turns,
        zoom=zoom if job.mode == "zoom" else None,
        cards=PartialState().num_processes,
        sharded=requirements.sharded(),
        must_fit=True,
    )


def _written(job: Job, examples: Sequence[Example]) -> tuple[list[int], list[list[str]]]:
    """The turns that SFT is to learn, and the place of each one's question. Raises ValueError on unknown questions."""
    written = list(read_lines(job.turns))
    place = {example.id: index for index, example in enumerate(examples)}
    unknown = [line["id"] for line in written if line["id"] not in place]
    if unknown or not written:
        raise ValueError(
            f"{job.turns}: {f'no question {unknown[0]!r} among the {len(place)} loaded' if unknown else 'no turns'}; "
            "write it for this benchmark, source, split, num_examples and examples_seed"
        )
    return [place[line["id"]] for line in written], [line["turns"] for line in written]


def _rows_to_learn(
    job: Job, settings: SFTSettings, policy: LocalPolicy, examples: Sequence[Example], zoom: Zoom
) -> Dataset:
    """The job's conversations, pass after pass, each in an order of its own. Raises ValueError on unknown questions."""
    places, turns = _written(job, examples)
    views = Views(policy.view_of, examples, kept=256)  # each is seen many times: 14 ms a time at nano size

    def conversation(row: int) -> Messages:
        index = places[row]
        return episode(examples[index], views[index], turns[row], zoom, policy.dialect, mode=job.mode)

    needed, rng = settings.max_steps * settings.batch_size * settings.accumulate, random.Random(settings.seed)
    passes = (rng.sample(range(len(turns)), len(turns)) for _ in itertools.count())
    order, tokens = list(itertools.islice(itertools.chain.from_iterable(passes), needed)), []
    if settings.longest_first:
        asked = [examples[place] for place in places]
        counted = lengths.samples(policy, asked, job.mode, turns, zoom=zoom)
        tokens = [counted[row].tokens for row in order]
    return lazy_rows(conversation, order, tokens)


def launch(job: Job, settings: Settings, launcher: str = "") -> None:
    """Run a job here, or hand its file to a command that starts `-m vigorl_lib.training FILE` in processes of its own.

    `launcher` is that command's beginning, such as "torchrun --nproc_per_node 8" or "accelerate launch --config_file
    params/launch/fsdp2.yaml"; of this environment where it has such a command. What it prints is printed here. Raises
    FileNotFoundError where there is no such command, RuntimeError where it fails.
    """
    file = write_run(job, settings)
    if not launcher:
        return run(job, settings)
    first, *words = shlex.split(launcher)
    found = shutil.which(first, path=os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]))
    if found is None:
        raise FileNotFoundError(f"launcher: there is no command {first!r}; install it, or leave launcher empty")
    command = [found, *words, "-m", "vigorl_lib.training", str(file)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        try:
            for line in process.stdout:
                print(line, end="")
        finally:
            process.terminate()  # of a run that has ended, nothing; else the notebook was interrupted
    if process.returncode:
        raise RuntimeError(f"{shlex.join(command)} ended with {process.returncode}; what it said stands above")


def main(words: Sequence[str] | None = None) -> None:
    """`python -m vigorl_lib.training RUN.yaml`."""
    parser = argparse.ArgumentParser(prog="python -m vigorl_lib.training", description="Run an SFT or GRPO job.")
    parser.add_argument("file", type=Path, help="flat YAML or JSON: kind, and the fields of a Job and its settings")
    run(*read_run(parser.parse_args(words).file), forecast=True)
    PartialState().destroy_process_group()


if __name__ == "__main__":
    main()
