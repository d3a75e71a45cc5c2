"""SFT and GRPO with TRL's own trainers, and the checks that keep them honest. The only file that imports trl.

Departures from the paper stand beside the setting that makes them; the traps that `check_setup` guards
are the ones that TRL 1.16 with images in tool results really has.
"""

from __future__ import annotations

import dataclasses
import logging
import math
import os
import random
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from datasets import Dataset, Features, Json, List, Value
from datasets import Image as ImageFeature
from peft import LoraConfig, PeftModel
from PIL import Image
from tqdm.auto import tqdm
from transformers import PreTrainedModel, PrinterCallback, Trainer, TrainerCallback, TrainerState
from trl import GRPOConfig, GRPOTrainer, SFTConfig, SFTTrainer

from vigorl_lib import lengths, prompts, rewards
from vigorl_lib.policy import LocalPolicy, load_policy
from vigorl_lib.processors import kit_template
from vigorl_lib.prompts import Mode
from vigorl_lib.records import Example
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
    start: str | Path, out_dir: str | Path, *, max_pixels: int | None = None
) -> tuple[LocalPolicy, Path | None]:
    """The policy to train, and the checkpoint to go on from (for `train`), if there is one in `out_dir`.

    Without one that is the policy of the folder or hub id `start`. With one, the weights are read here: transformers
    restores nothing into a fully fine-tuned Qwen2.5-VL (its saved names differ) and only warns; an adapter (LoRA) it
    does restore. The policy still calls itself `start`, because TRL loads the reference of the KL term by that name: a
    reference that changed with every interruption would be another objective.
    """
    checkpoint = resume_point(out_dir)
    adapter = checkpoint is not None and (checkpoint / "adapter_config.json").exists()
    policy = load_policy(start if adapter or checkpoint is None else checkpoint, max_pixels=max_pixels)
    policy.model.config._name_or_path = str(start)
    if "endgeneration" not in policy.processor.chat_template:
        # A real model's own template does not say which tokens it wrote; ours is Qwen's form, and does.
        policy.processor.chat_template = kit_template()
    return policy, checkpoint


def train(trainer: Trainer, checkpoint: Path | None) -> None:
    """Train to the last step, from `checkpoint` on where there is one (the model holds its weights already).

    Within one pass over the examples a resumed run ends as an unbroken one does; in a later pass TRL's
    sampler begins its shuffling anew. From a checkpoint of the last step transformers would go one too far. An adapter
    (LoRA) becomes part of the weights at the end, so that what is saved is a model like any other.
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
    if isinstance(trainer.model, PeftModel):
        trainer.model.merge_and_unload()  # in place: the policy's model is plain again


# --- SFT --------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class SFTSettings:
    """Hyper-parameters of one SFT run, with the paper's values (Tab. A1) as defaults where it has one."""

    max_steps: int
    learning_rate: float
    batch_size: int
    accumulate: int = 1  # batches per optimiser step
    warmup_steps: int = 0
    weight_decay: float = 0.01  # paper Tab. A1
    schedule: str = "cosine"  # paper Tab. A1
    freeze_vision: bool = True  # paper §A5.4
    save_steps: int = 0  # 0: no checkpoints
    logging_steps: int = 10
    seed: int = 0
    lora_rank: int = 0
    gradient_checkpointing: bool = False
    longest_first: bool = False  # the longest row in the first step: what does not fit fails at once


def lazy_rows(make: Callable[[int], Messages], seeds: Sequence[int], tokens: Sequence[int] = ()) -> Dataset:
    """A dataset whose row i is the conversation `make(seeds[i])`, made when the trainer asks for it.

    Images stand inside their content blocks, in turns of any role, and the `images` column is empty: TRL fills
    placeholders from that column but skips the tool role. `tokens` are the rows' lengths (`lengths.samples`), which
    the setting `longest_first` asks for.
    """

    def fill(batch: dict[str, list[int]]) -> dict[str, list[Any]]:
        return {"messages": [make(seed) for seed in batch["seed"]], "images": [[] for _ in batch["seed"]]}

    lengths_of_rows = {"tokens": list(tokens)} if tokens else {}
    return Dataset.from_dict({"seed": list(seeds), **lengths_of_rows}).with_transform(fill)


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
    example: Example, view: View, turns: Sequence[str], zoom: Zoom, dialect: prompts.Dialect = prompts.NANO
) -> Messages:
    """A finished multi-turn rollout as a conversation: after each turn that calls the tool comes its crop.

    `turns` are the policy's messages; what each look shows, and that the last one says so, is as in
    `policy.answer` and in TRL's rollout. Raises ValueError where another turn follows one without a call, or
    there are more looks than allowed.
    """
    talk = prompts.conversation(example, view.image, "zoom", dialect=dialect)
    for index, text in enumerate(turns):
        talk.append({"role": "assistant", "content": text})
        if index + 1 == len(turns):
            break
        call = parse_turn(text, zoom=True).call
        if call is None or index == zoom.looks:
            raise ValueError(
                f"example {example.id!r}: turn {index + 1} of {len(turns)} has no look left or calls none; "
                f"give turns that call the tool, at most {zoom.looks}, and one that answers"
            )
        look = prompts.observation(view.crop(call, zoom), last=index + 1 == zoom.looks)
        talk.append({"role": "tool", "content": look})
    return talk


def adapter(rank: int) -> LoraConfig | None:
    """LoRA of a rank on every linear layer of the language model, none on the vision tower; None for rank 0.

    The paper and its scripts fine-tune all weights; this is for smaller cards. alpha is twice the rank.
    """
    if not rank:
        return None
    return LoraConfig(r=rank, lora_alpha=2 * rank, target_modules="all-linear", exclude_modules=r".*(visual|lm_head).*")


def freeze_vision(model: PreTrainedModel) -> None:
    """Stop gradients into the vision tower and projector, as the paper's runs do (§A5.4, released yaml)."""
    model.model.visual.requires_grad_(False)


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
    on_gpu = torch.cuda.is_available()
    args = SFTConfig(
        str(out_dir),
        max_steps=settings.max_steps,
        learning_rate=settings.learning_rate,
        per_device_train_batch_size=settings.batch_size,
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
        bf16=on_gpu and torch.cuda.is_bf16_supported() and model.dtype == torch.bfloat16,
        use_cpu=not on_gpu,
        gradient_checkpointing=settings.gradient_checkpointing,
        dataloader_num_workers=workers,
        disable_tqdm=True,
    )
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
    return _without_printing(trainer)


# --- GRPO ------------------------------------------------------------------------------------------------


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
    gradient_checkpointing: bool = False
    completions_per_pass: int = 0  # of one update, that many go through the model at once; 0: all
    longest_first: bool = False  # the longest prompt in the first step; then later passes keep the first one's order

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


def tokens_written(rows: Sequence[Mapping[str, float]], settings: GRPOSettings) -> int:
    """About how many tokens the policy wrote in a GRPO run whose `curve` is `rows`.

    TRL logs the mean length once for each batch of completions, which serves `steps_per_generation` steps.
    """
    completions = settings.prompts_per_step * settings.group_size * settings.steps_per_generation
    return round(sum(row["length"] for row in rows if "length" in row) * completions)


def grpo_rows(
    examples: Sequence[Example], views: Sequence[View], mode: Mode, dialect: prompts.Dialect = prompts.NANO
) -> Dataset:
    """One row per example, in the order given: prompt, its one image in the model's frame, and its index."""
    rows = []
    for index, (example, view) in enumerate(zip(examples, views, strict=True)):
        *system, user = prompts.conversation(example, view.image, mode, dialect=dialect)
        # TRL puts the image of the `images` column in front of a text-only user turn, as our prompts have it.
        text = next(block["text"] for block in user["content"] if block["type"] == "text")
        rows.append({"prompt": [*system, {"role": "user", "content": text}], "images": [view.image], "index": index})
    features = Features({"prompt": List(Json()), "images": List(ImageFeature()), "index": Value("int64")})
    return Dataset.from_list(rows, features=features)


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
        for part in ("accuracy", "format", "coordinate", "diversity"):
            values = [float(vars(score)[part]) for score in scores]
            log_metric(part, sum(values) / len(values) if values else math.nan)
        log_metric("unfinished", totals.count(None) / len(totals))
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
    if settings.longest_first:  # shuffled here, because TRL's shuffle would move it
        examples = random.Random(settings.seed).sample(examples, len(examples))
        tokens = [sample.tokens for sample in lengths.samples(policy, examples, mode)]
        examples = lengths.longest_first(examples, tokens)
    views = Views(policy.view_of, examples)
    on_gpu = torch.cuda.is_available()
    zoom = zoom or Zoom()
    args = GRPOConfig(
        str(out_dir),
        max_steps=settings.max_steps,
        learning_rate=settings.learning_rate,
        lr_scheduler_type="constant_with_warmup",  # released: constant after warm-up
        warmup_steps=settings.warmup_steps,
        weight_decay=settings.weight_decay,
        per_device_train_batch_size=settings.prompts_per_step * settings.group_size // settings.passes(),
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
        bf16=on_gpu and policy.model.dtype == torch.bfloat16,
        use_cpu=not on_gpu,
        gradient_checkpointing=settings.gradient_checkpointing,
        disable_tqdm=True,
    )
    rows = grpo_rows(examples, views, mode, policy.dialect)
    check_setup(policy, args, rows)
    trainer = GRPOTrainer(
        model=policy.model,
        processing_class=policy.processor,
        reward_funcs=[reward_function(policy, examples, views, mode, settings)],
        args=args,
        train_dataset=rows,
        environment_factory=zoom_environment(views, zoom) if mode == "zoom" else None,
        callbacks=list(callbacks),
        peft_config=adapter(settings.lora_rank),
    )
    return _without_printing(trainer)


def check_setup(policy: LocalPolicy, args: GRPOConfig, rows: Dataset) -> None:
    """Refuse to start inside one of TRL's traps; two of them would corrupt the training silently.

    Raises ValueError naming the setting and the remedy.
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
    pictures = rows.with_format("arrow")["images"]  # as Arrow: nothing is decoded to be counted
    empty = [row for row, found in enumerate(pictures) if not (found.is_valid and len(found))]
    if empty:
        raise ValueError(
            f"rows {empty[:5]} have no image: TRL fails on batches that mix rows with and without; leave them out"
        )
