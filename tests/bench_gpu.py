"""GRPO at true size on one GPU: Qwen2.5-VL-3B with random weights, measured and as `prediction` has it.

    python -m tests.bench_gpu --out gpu.json            # on an H200 or H100
    python -m tests.bench_gpu --out gpu.json --predict  # then, on any machine: the predictions beside it
    python -m tests.bench_gpu --nano --out nano.json  # every line of it on a CPU, at nano size

Weights are random and made on the GPU; nothing comes from the hub. Pictures are noise, of real size. The trainer is the
kit's (`training.grpo_trainer`), and so is all that it does but sampling: completions are written beforehand, all of one
length, in multi-turn with a look in every turn but the last, so that TRL's own loop calls our tool. Ids come from the
nano's tokenizer, of which the true vocabulary has far more.

step_s     seconds of an update once its completions are there: the reference's pass, forward, backward, optimiser
prepare_s  what an update takes besides, on the CPU: rewards, and pictures made into patches again
tokens     of all sequences, prompts and crops included, a second of `step_s`
mfu        arithmetic of `step_s`, what is computed twice counted once, by the card's measured rate of bf16 products.
           Attention counts as if each token saw all others, as is the custom
peak       of memory while updating, weights and optimiser included; predicted likewise, without the generation's
generated  tokens a second of TRL's own generation by the model, for all rollouts of an update

Every configuration runs on its own: an error is printed, written into the result, and the next one starts.
"""

from __future__ import annotations

import argparse
import copy
import dataclasses
import gc
import io
import json
import os
import statistics
import sys
import tempfile
import time
import traceback
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any
from unittest import mock

os.environ.setdefault("HF_HUB_OFFLINE", "1")

from vigorl_lib import lengths, prediction, training

# isort: split
import numpy as np
import torch
from PIL import Image
from transformers import AutoModelForImageTextToText, PrinterCallback, Qwen2_5_VLConfig, TrainerCallback

from tests.test_prediction import QWEN_3B, qwen2_5_vl
from vigorl_lib.attention import see_by_length
from vigorl_lib.policy import LocalPolicy
from vigorl_lib.processors import ImageProcessor, kit_template, load_processor, processor_class
from vigorl_lib.records import Example
from vigorl_lib.runs import PACKAGE, machine, package_versions, record_measurements, write_json_atomic
from vigorl_lib.traces import render_answer, render_call
from vigorl_lib.training import GRPOSettings
from vigorl_lib.views import Zoom

ROWS = {"lora_single": 8, "full_single": 8, "lora_multi": 4, "full_multi": 4}  # of a pass, on an H200
CONFIGURATIONS = tuple(ROWS)
OPENING, END = "<|im_start|>assistant\n", "<|im_end|>"
ON_GPU = torch.cuda.is_available()
UNITS = {
    "tokens_per_s": "tokens/s",
    "mfu": "share of the measured bf16 rate",
    "peak_gib": "GiB",
    "predicted_gib": "GiB",
    "step_s": "s",
    "predicted_step_s": "s",
}


# --- the model, the questions, what is written ------------------------------------------------------------


def words() -> Any:
    """The nano base's tokenizer: its ids are far fewer than the true vocabulary has."""
    tokenizer = load_processor(PACKAGE / "checkpoints/base").tokenizer
    tokenizer.model_max_length = 32768
    return tokenizer


def config_of(tokenizer: Any, nano: bool) -> Qwen2_5_VLConfig:
    """The config of Qwen2.5-VL-3B with that tokenizer's tokens; or a tiny one."""
    config = qwen2_5_vl(512, 2, 4, 2, 1024, 2048, tied=True) if nano else copy.deepcopy(QWEN_3B)
    if nano:
        tiny = {"depth": 2, "hidden_size": 64, "intermediate_size": 128, "num_heads": 2, "fullatt_block_indexes": [1]}
        config.vision_config.update(tiny)
    token = tokenizer.convert_tokens_to_ids
    ends = {"bos_token_id": None, "eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
    config.text_config.update(ends)
    config.image_token_id, config.video_token_id = token("<|image_pad|>"), token("<|video_pad|>")
    config.vision_start_token_id, config.vision_end_token_id = token("<|vision_start|>"), token("<|vision_end|>")
    return config


def random_policy(chosen: argparse.Namespace, dtype: torch.dtype) -> LocalPolicy:
    """The model with random weights, on the GPU where there is one."""
    tokenizer = words()
    config = config_of(tokenizer, chosen.nano)
    images = ImageProcessor(
        size={"shortest_edge": 56**2, "longest_edge": 2_850_000}, patch_size=14, temporal_patch_size=2, merge_size=2
    )
    processor = processor_class("qwen2_5_vl")(image_processor=images, tokenizer=tokenizer, chat_template=kit_template())
    torch.manual_seed(0)
    with torch.device("cuda" if ON_GPU else "cpu"):
        model = AutoModelForImageTextToText.from_config(config, dtype=dtype)
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    model.config._name_or_path = "random/weights"  # the kit's check of the reference; with LoRA nothing is loaded
    if not chosen.window_by_window:
        see_by_length(model)
    return LocalPolicy(model, processor)


def questions(count: int, side: int, padded: bool) -> list[Example]:
    """So many questions about pictures of noise; all of one length, unless `padded`."""
    rng = np.random.default_rng(0)
    found = []
    for number in range(count):
        file = io.BytesIO()
        Image.fromarray(rng.integers(0, 256, (side, side, 3), dtype=np.uint8)).save(file, "BMP")
        more = " of them" * (32 if padded and number % 2 else 0)
        text = f"Question: which{more} is it?\nAnswer Choices:\nA. red circle\nB. blue square"
        options = ("red circle", "blue square")
        found.append(Example(str(number), "sat2", "noise", text, options, options[0], (file.getvalue(),)))
    return found


def turns(policy: LocalPolicy, mode: str, row: int, side: int, looks: int, length: int) -> list[list[int]]:
    """The ids of one rollout's turns, each of `length` tokens, the end of turn included; every second row is right."""

    def of_length(write: Callable[[str], str]) -> list[int]:
        def ids(filler: int) -> list[int]:
            return policy.tokenizer(write("red" + " red" * filler) + END, add_special_tokens=False)["input_ids"]

        found = ids(length - len(ids(0)))
        if len(found) != length:
            raise ValueError(f"a turn came out with {len(found)} tokens, not {length}; ask for more tokens a turn")
        return found

    places = [((row * 37 + k * 53) % side, (row * 11 + k * 29) % side) for k in range(looks)]
    answer = ("red circle", "blue square")[row % 2]
    if mode != "zoom":
        return [of_length(lambda filler: render_answer(f"Look: {filler} ({places[0][0]}, {places[0][1]}).", answer))]
    calls = [of_length(lambda filler, p=p: render_call(f"Look: {filler} ({p[0]}, {p[1]}).", p)) for p in places]
    return [*calls, of_length(lambda filler: render_answer(f"It is {filler}.", answer))]


# --- what an update does ----------------------------------------------------------------------------------


def now() -> float:
    """Seconds, once the GPU has done all that it was given."""
    if ON_GPU:
        torch.cuda.synchronize()
    return time.perf_counter()


class Watch(TrainerCallback):
    """Writes the completions in the place of sampling, and takes the time of an update's parts."""

    def __init__(self, trainer: Any, written: Sequence[list[list[int]]], profile: Path | None, last: int) -> None:
        self.updates: list[dict[str, float]] = []
        self.parts: dict[str, float] = defaultdict(float)
        self.written, self.profile, self.last = written, profile, last
        self.tokenizer = trainer.processing_class.tokenizer
        self.prompt: tuple[Any, ...] = ()
        self.rollout: set[tuple[int, int]] = set()
        self.first: float | None = None  # when the update's completions were there
        self.began: float | None = None
        self.ended = 0.0
        self.sample = trainer._generate_single_turn
        trainer._generate_single_turn = self.write
        generate, score = trainer._generate, trainer._get_per_token_logps_and_entropies

        def generated(prompts: Any) -> Any:
            result = generate(prompts)
            self.rollout = {(len(p), len(c)) for p, c in zip(result[0], result[1], strict=True)}
            self.began = now()
            return result

        def scored(*args: Any, **options: Any) -> Any:
            if torch.is_grad_enabled():
                return score(*args, **options)
            with self.timed("reference_s"):
                return score(*args, **options)

        def prepared(batch: Any, prepare: Any = trainer._prepare_inputs) -> Any:
            self.began = None
            result = prepare(batch)
            if self.began is not None:  # else it only took the next part of what is there
                self.parts["whole_prepare_s"] += now() - self.began
                self.first = self.began
            return result

        def stepped(*args: Any, step: Any = trainer.training_step) -> Any:
            result = step(*args)
            self.ended = now()
            return result

        trainer._generate, trainer._get_per_token_logps_and_entropies = generated, scored
        trainer._prepare_inputs, trainer.training_step = prepared, stepped

    def write(self, prompt_ids: Any, images: Any, fields: Any, num_generations: int, **options: Any) -> Any:
        """TRL's `_generate_single_turn`: the next turn of each row."""
        texts = self.tokenizer.batch_decode(prompt_ids)
        turn = texts[0].count(OPENING) - 1
        if turn == 0:
            self.prompt = (prompt_ids, images, fields, num_generations)
        return [list(self.written[row][turn]) for row in range(len(prompt_ids))], None

    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        began = now()
        yield
        self.parts[name] += now() - began

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.parts.clear()
        self.first = None
        if ON_GPU and state.global_step == 1:  # the optimiser's moments are there by now
            torch.cuda.reset_peak_memory_stats()
        self.profiler = nullcontext()
        if self.profile and state.global_step + 1 == self.last:
            kinds = [torch.profiler.ProfilerActivity.CPU] + [torch.profiler.ProfilerActivity.CUDA] * ON_GPU
            self.profiler = torch.profiler.profile(activities=kinds)
        self.profiler.__enter__()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        parts, ended = self.parts, now()
        parts["update_s"] = ended - self.first
        parts["optimiser_s"] = ended - self.ended
        parts["prepare_s"] = parts.pop("whole_prepare_s") - parts["reference_s"]
        parts["step_s"] = parts["update_s"] - parts["prepare_s"]
        parts["passes_s"] = parts["step_s"] - parts["reference_s"] - parts["optimiser_s"]
        self.updates.append(dict(parts))
        self.profiler.__exit__(None, None, None)
        if not isinstance(self.profiler, nullcontext):
            order = "self_device_time_total" if ON_GPU else "self_cpu_time_total"
            table = self.profiler.key_averages().table(sort_by=order, row_limit=25, max_name_column_width=90)
            self.profile.write_text(table)
            self.updates.pop()


# --- one configuration ------------------------------------------------------------------------------------


def settings_of(name: str, chosen: argparse.Namespace, rollout: int) -> GRPOSettings:
    """The settings of a configuration, all completions in one pass yet."""
    lora = name.startswith("lora")
    return GRPOSettings(
        max_steps=1 + chosen.updates + chosen.profile,
        learning_rate=1e-6,
        prompts_per_step=chosen.prompts,
        steps_per_generation=1,
        group_size=chosen.group,
        max_completion_length=rollout,
        beta=chosen.beta if lora else 0.0,  # for full fine-tuning TRL would load the reference from a folder
        lora_rank=chosen.lora_rank if lora else 0,
        gradient_checkpointing=chosen.checkpointing,
    )


def compared(result: dict[str, Any], config: Any, device: prediction.Device, padded: bool) -> dict[str, Any]:
    """A configuration's result with its prediction, made from the settings and the device alone.

    Of the arithmetic counts what is of use: not what checkpointing computes again, nor the head's backward pass.
    """
    settings, said = GRPOSettings(**result["settings"]), result["sequence"]["prompt"]
    how = {
        "longest": lengths.Sample(said["text"], tuple(said["images"])),
        "device": device,
        "zoom": Zoom(**result["zoom"]) if result["zoom"] else None,
        "dtype": getattr(torch, result["computed"]),
        "padded": padded,
    }
    cost = once = prediction.predict(config, settings, **how)
    if settings.gradient_checkpointing:
        once = prediction.predict(config, dataclasses.replace(settings, gradient_checkpointing=False), **how)
    if "generation_s" in result:
        weights = how["dtype"] if settings.lora_rank else torch.float32
        model = prediction.build(config, settings, weights, computed=how["dtype"])
        rows = settings.prompts_per_step * settings.group_size
        _, _, work = prediction._generation(
            model,
            device,
            rows=rows,
            prompts=settings.prompts_per_step,
            prompt=how["longest"],
            new=result["new"],
            turns=1,
            computed=how["dtype"],
        )
        result = result | {"predicted_generation_s": work.seconds}
    scored = settings.prompts_per_step * settings.group_size * settings.max_completion_length
    head = config.text_config.hidden_size * config.text_config.vocab_size
    flops = once.flops - once.generation_flops - 2 * scored * head
    return result | {
        "predicted": dataclasses.asdict(cost),
        "predicted_gib": dataclasses.replace(cost, cache=0, generating=0).memory / prediction.GIB,
        "predicted_step_s": cost.passes_s + cost.optimiser_s,
        "flops": flops,
        "mfu": flops / result["step_s"] / device.flops,
        "mfu_update": flops / result["median"]["update_s"] / device.flops,
    }


def measure(name: str, chosen: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """All numbers of one configuration. Raises RuntimeError where the rollouts are not what was to be measured."""
    compute = torch.bfloat16 if ON_GPU else torch.float32
    multi, lora = name.endswith("multi"), name.startswith("lora")
    mode = "zoom" if multi else "grounded"
    zoom = Zoom(offset=chosen.side // 6, size=chosen.crop, looks=chosen.looks) if multi else None
    began = now()
    policy = random_policy(chosen, compute if lora else torch.float32)
    print(f"{name}: the model is there after {now() - began:.1f} s", flush=True)

    examples = questions(chosen.prompts, chosen.side, chosen.padded)
    length = chosen.turn_tokens if multi else chosen.completion_tokens
    count = chosen.prompts * chosen.group
    written = [turns(policy, mode, row, chosen.side, chosen.looks, length) for row in range(count)]
    prompt = max(lengths.samples(policy, examples, mode), key=lambda sample: sample.tokens)
    texts = [policy.tokenizer.decode(ids).removesuffix(END) for ids in written[0]]
    shown = zoom or Zoom()
    whole = lengths.samples(policy, examples[:1], mode, [texts], zoom=shown)[0]
    first = lengths.samples(policy, examples[:1], mode)[0]
    rollout = whole.tokens - first.tokens - 1  # without the line end after the last turn
    whole = lengths.Sample(prompt.text + rollout - sum(whole.images[1:]), whole.images)

    settings = dataclasses.replace(settings_of(name, chosen, rollout), completions_per_pass=chosen.rows or ROWS[name])
    print(f"{name}: {count} rollouts of {whole.tokens} tokens, {settings.passes()} passes", flush=True)

    with mock.patch.object(training, "fuse") if chosen.unfused else nullcontext():
        trainer = training.grpo_trainer(policy, examples, mode, settings, folder / name, zoom=zoom)
    profile = folder / f"{name}.profile.txt" if chosen.profile else None
    watch = Watch(trainer, written, profile, settings.max_steps)
    trainer.add_callback(watch)
    trainer.remove_callback(PrinterCallback)
    try:
        trainer.train()
        memory = (torch.cuda.max_memory_allocated(), torch.cuda.max_memory_reserved()) if ON_GPU else (0, 0)
        if not chosen.padded and watch.rollout != {(prompt.tokens, rollout)}:
            raise RuntimeError(f"rollouts have (prompt, completion) {watch.rollout}, not {(prompt.tokens, rollout)}")
        result = {
            "settings": dataclasses.asdict(settings),
            "mode": mode,
            "zoom": dataclasses.asdict(zoom) if zoom else None,
            "sequence": {"prompt": dataclasses.asdict(prompt), "whole": dataclasses.asdict(whole), "rollout": rollout},
            "updates": watch.updates,
            "median": {part: statistics.median(u[part] for u in watch.updates[1:]) for part in watch.updates[1]},
            "computed": str(compute).removeprefix("torch."),
            "peak_gib": memory[0] / prediction.GIB,
            "reserved_gib": memory[1] / prediction.GIB,
            "attention": policy.model.config._attn_implementation,
        }
        step = result["median"]["step_s"]
        result |= {
            "step_s": step,
            "tokens_per_s": count * whole.tokens / step,
            "written_per_s": sum(map(len, written[0])) * count / step,
        }
        if chosen.new:
            result |= generation(trainer, watch, chosen.new)
        return result
    finally:
        trainer.accelerator.free_memory()


def generation(trainer: Any, watch: Watch, new: int) -> dict[str, float]:
    """TRL's own sampling of `new` tokens for every rollout's prompt."""
    if ON_GPU:
        torch.cuda.reset_peak_memory_stats()
    config = trainer.generation_config
    config.max_new_tokens = config.min_new_tokens = new
    config.max_length = None
    began = now()
    said, _ = watch.sample(*watch.prompt)
    seconds = now() - began
    tokens = sum(map(len, said))
    if tokens != new * len(said):
        raise RuntimeError(f"{len(said)} rows wrote {tokens} tokens, not {new} each")
    return {
        "new": new,
        "generation_s": seconds,
        "generated_per_s": tokens / seconds,
        "generation_peak_gib": torch.cuda.max_memory_allocated() / prediction.GIB if ON_GPU else 0.0,
    }


# --- all of them ------------------------------------------------------------------------------------------

COLUMNS = (
    "step_s",
    "predicted_step_s",
    "mfu",
    "tokens_per_s",
    "written_per_s",
    "peak_gib",
    "reserved_gib",
    "predicted_gib",
    "generated_per_s",
    "generation_s",
    "predicted_generation_s",
)
PARTS = ("reference_s", "passes_s", "optimiser_s", "prepare_s", "update_s")


def table(results: dict[str, dict[str, Any]]) -> str:
    """A row a number, a column a configuration."""
    rows = [f"{'':24}" + "".join(f"{name:>14}" for name in results)]
    for key in (*COLUMNS, *PARTS):
        values = [(found | found.get("median", {})).get(key) for found in results.values()]
        shown = ["error" if "error" in found else "-" for found in results.values()]
        cells = [text if value is None else f"{value:,.3f}" for value, text in zip(values, shown, strict=True)]
        rows.append(f"{key:24}" + "".join(f"{cell:>14}" for cell in cells))
    return "\n".join(rows)


def main() -> int:
    """Measure the configurations that are asked for, or predict what was measured; 1 where one of them failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("configurations", nargs="*", default=CONFIGURATIONS, metavar="NAME", help=f"{CONFIGURATIONS}")
    parser.add_argument("--out", type=Path, required=True, help="a JSON file for all numbers")
    parser.add_argument("--predict", action="store_true", help="measure nothing: add the predictions to --out")
    parser.add_argument("--ledger", type=Path, help="where the numbers are written, from an H200 or H100")
    parser.add_argument("--before", type=Path, nargs="*", default=(), help="--out of runs with --unfused")
    parser.add_argument("--nano", action="store_true", help="a tiny model and pictures, to try it all on a CPU")
    parser.add_argument("--prompts", type=int, default=2, help="of an update")
    parser.add_argument("--group", type=int, default=8, help="rollouts of a prompt")
    parser.add_argument("--side", type=int, default=1008, help="of a picture; divisible by 112")
    parser.add_argument("--crop", type=int, default=672, help="side of a crop; divisible by 112")
    parser.add_argument("--looks", type=int, default=3, help="of a multi-turn rollout")
    parser.add_argument("--completion-tokens", type=int, default=256, help="single-turn")
    parser.add_argument("--turn-tokens", type=int, default=128, help="multi-turn, a turn")
    parser.add_argument("--rows", type=int, help="rollouts of a pass; else about what an H200 has room for")
    parser.add_argument("--updates", type=int, default=3, help="measured, after one to warm up")
    parser.add_argument("--beta", type=float, default=0.01, help="of LoRA; 0 for full fine-tuning")
    parser.add_argument("--lora-rank", type=int, default=32)
    parser.add_argument("--checkpointing", action="store_true", help="compute activations again")
    parser.add_argument("--new", type=int, default=128, help="tokens to generate for real; 0: none")
    parser.add_argument("--padded", action="store_true", help="prompts of two lengths, so that rows are padded")
    parser.add_argument("--unfused", action="store_true", help="without what `vigorl_lib.fused` does")
    parser.add_argument("--window-by-window", action="store_true", help="as transformers calls the vision attention")
    parser.add_argument("--profile", action="store_true", help="one more update, its operations to a text file")
    chosen = parser.parse_args()
    if unknown := set(chosen.configurations) - set(CONFIGURATIONS):
        parser.error(f"unknown {sorted(unknown)}; known: {', '.join(CONFIGURATIONS)}")
    if chosen.nano:
        chosen.side, chosen.crop, chosen.completion_tokens, chosen.turn_tokens = 224, 112, 48, 64
        chosen.group, chosen.looks, chosen.rows, chosen.new = 4, 2, 4, 8
    elif not (ON_GPU or chosen.predict):
        parser.error("torch sees no GPU; --nano tries everything on a CPU")
    whole = with_predictions(json.loads(chosen.out.read_text())) if chosen.predict else measured(chosen)
    write_json_atomic(chosen.out, whole)
    print(table(whole["results"]))
    if chosen.predict and chosen.ledger:
        record(chosen.ledger, whole, [json.loads(path.read_text()) for path in chosen.before])
    return int(any("error" in found for found in whole["results"].values()))


def measured(chosen: argparse.Namespace) -> dict[str, Any]:
    """The measurements; they are written to `chosen.out` after every configuration too."""
    chosen.out.parent.mkdir(parents=True, exist_ok=True)
    device = prediction.measured_device(torch.bfloat16 if ON_GPU else torch.float32)
    print(device, flush=True)
    whole = {
        "device": dataclasses.asdict(device),
        "machine": machine(),
        "packages": package_versions(),
        "torch": {"version": torch.__version__, "cuda": torch.version.cuda},
        "command": "python -m tests.bench_gpu " + " ".join(sys.argv[1:]),
        "options": {key: value for key, value in vars(chosen).items() if not isinstance(value, Path)},
        "results": {},
    }
    for name in chosen.configurations:
        with tempfile.TemporaryDirectory() as scratch:
            folder = chosen.out.parent if chosen.profile else Path(scratch)
            try:
                whole["results"][name] = measure(name, chosen, folder)
            except Exception:  # an error belongs to the result; the other configurations are measured all the same
                whole["results"][name] = {"error": traceback.format_exc()}
                print(whole["results"][name]["error"], flush=True)
        gc.collect()
        if ON_GPU:
            torch.cuda.empty_cache()
        write_json_atomic(chosen.out, whole)
    return whole


def with_predictions(whole: dict[str, Any]) -> dict[str, Any]:
    """The measurements with a prediction beside each. It needs no GPU, and would cost one about a minute each."""
    known = {field.name: whole["device"][field.name] for field in dataclasses.fields(prediction.Device)}
    how = config_of(words(), whole["options"]["nano"]), prediction.Device(**known), whole["options"]["padded"]
    results = whole["results"].items()
    return whole | {"results": {name: r if "error" in r else compared(r, *how) for name, r in results}}


def record(ledger: Path, whole: dict[str, Any], before: Sequence[dict[str, Any]]) -> None:
    """Write the numbers of a known card, and the speed-up from runs `before`. Raises ValueError on any other."""
    card = next((card for card in ("H200", "H100") if card in whole["device"]["name"]), None)
    if card is None:
        raise ValueError(f"--ledger is for what an H200 or H100 measured, not {whole['device']['name']}")
    results = {name: found for name, found in whole["results"].items() if "error" not in found}
    entries = {
        f"gpu.{card.lower()}.qwen25vl_3b.{name}.{key}": {
            "value": found[key], "unit": unit, "n": len(found["updates"]) - 1, "seeds": [0],
            "command": whole["command"], "machine": whole["machine"],
        }
        for name, found in results.items() for key, unit in UNITS.items()
    }  # fmt: skip
    for other in before:
        entries |= {
            f"training.speedup.fused.{name}": {
                "value": found["step_s"] / results[name]["step_s"], "unit": "times", "n": len(found["updates"]) - 1,
                "seeds": [0], "command": other["command"], "machine": other["machine"],
            }
            for name, found in other["results"].items()
        }  # fmt: skip
    record_measurements(ledger, entries)


if __name__ == "__main__":
    sys.exit(main())
