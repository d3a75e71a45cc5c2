"""Memory and time of a run before it starts, part by part.

Nothing is looked up by a model's name: one step of the run is made on torch's `meta` device, where tensors have shapes
and no contents, by the model's own code. So the parameters are exact, and what autograd keeps, what is alive at the
peak and what is done is counted. Two things are as a GPU has them: attention is a fused kernel that keeps no weights,
and the language model's head works in tiles, as in TRL 1.16 (`trl/kernels/chunked_logprob.py`).

Time is the roofline of each operation: its arithmetic at the measured rate of matrix products, its bytes at the
measured bandwidth, or what any operation takes, whichever is longest. So generation comes out bound by bandwidth or,
for few rows, by the operations' own time.

Memory and arithmetic are held against real steps of a nano model on a CPU (tests), and against GRPO of Qwen2.5-VL-3B
on an H200 (tests/bench_gpu.py, outputs/reference/gpu): its peak was up to 2 % above the prediction. Seconds are too
few: an update's passes took 1.02 to 1.24 times as long there, 1.7 times on the CPU; Hugging Face's generation for 16
rollouts 0.8 to 1.7 times, and 3.6 times where torch.compile and the kernels' plans were new. Left out: what the
allocator wastes, the CUDA context, the images' pixels and what the CPU does with them, talk between GPUs.
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import math
import os
import re
import shlex
import time
import weakref
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry
from transformers import AutoConfig, AutoModelForImageTextToText, DynamicCache, PretrainedConfig, PreTrainedModel

from vigorl_lib import lengths
from vigorl_lib.attention import see_by_length
from vigorl_lib.fused import fuse
from vigorl_lib.jobs import GRPOSettings, Settings, SFTSettings
from vigorl_lib.learning import COMPLETIONS, adapter, freeze_vision, share_of
from vigorl_lib.lengths import Sample
from vigorl_lib.policy import LocalPolicy
from vigorl_lib.prompts import Mode
from vigorl_lib.records import Example
from vigorl_lib.requirements import check_four_bits, compute_dtype
from vigorl_lib.views import Zoom

GIB = 2**30
SPARE = 0.08  # of a device's memory: the context, fragments, images
NF4 = 0.5 + 1 / 64 + 4 / (64 * 256)  # bytes a weight: 4 bits, a byte for 64 of them, a float for 256 of those (QLoRA)
TILE = 4096, 32768  # tokens and words of a tile of the head, TRL 1.16
ADAM = 7  # weights, gradients and two moments read, all but gradients written


@dataclasses.dataclass(frozen=True)
class Device:
    """What a device can do.

    memory     bytes that are free for a run
    flops      of a large matrix product, a second; a multiplication and an addition are two
    bandwidth  bytes a second, read or written
    launch     seconds that even the smallest operation takes, Python included
    """

    name: str
    memory: int
    flops: float
    bandwidth: float
    launch: float


def measured_device(dtype: torch.dtype = torch.bfloat16) -> Device:
    """This machine's device, measured in a second or two: the GPU, or the CPU (then give `torch.float32`).

    Of the CPU it is what this process gets while it runs: other programs do not count. A GPU's memory is what it has
    free now: other programs' is not, nor is that of the models that this process holds, as notebooks do.
    """
    on_gpu = torch.cuda.is_available()
    clock = time.perf_counter if on_gpu else time.process_time
    device = torch.device("cuda" if on_gpu else "cpu")
    if on_gpu:
        memory = torch.cuda.mem_get_info()[0] + torch.cuda.memory_reserved() - torch.cuda.memory_allocated()
    else:
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    side = 8192 if on_gpu else 1024
    left, right = (torch.randn(side, side, dtype=dtype, device=device) for _ in range(2))
    small = torch.nn.Linear(8, 8, device=device, dtype=dtype)
    row = torch.zeros(1, 8, device=device, dtype=dtype)

    def seconds(work: Any, times: int) -> float:
        for _ in range(2):
            work()
        if on_gpu:
            torch.cuda.synchronize()
        began = clock()
        for _ in range(times):
            work()
        if on_gpu:
            torch.cuda.synchronize()
        return (clock() - began) / times

    with torch.no_grad():
        product = seconds(lambda: left @ right, 10)
        copy = seconds(lambda: left.copy_(right), 10)
        launch = seconds(lambda: small(row), 500)
    name = torch.cuda.get_device_name() if on_gpu else "CPU"
    return Device(name, memory, 2 * side**3 / product, 2 * left.nbytes / copy, launch)


@dataclasses.dataclass(frozen=True)
class Cost:
    """What one process of a run takes: bytes by part, and the seconds of one update.

    parameters, trained  how many there are, and how many of them learn
    weights      of the policy; `reference`: of the frozen copy that the KL term needs (full fine-tuning)
    gradients    once all are there
    optimiser    AdamW's two moments
    activations  what autograd keeps of one pass over the longest sample
    working      what a pass holds besides at its peak; below zero where an update is one pass, because gradients then
                 come as activations go
    cache        keys and values of all rollouts at full length; 0 for SFT, and where a vLLM server samples
    generating   what generation holds besides at its peak; likewise
    flops        of one update: all passes, and its share of the generation, `generation_flops`
    generation_s, passes_s, optimiser_s  seconds of one update; a server's are not counted
    """

    parameters: int
    trained: int
    weights: int
    reference: int
    gradients: int
    optimiser: int
    activations: int
    working: int
    cache: int
    generating: int
    flops: float
    generation_flops: float
    generation_s: float
    passes_s: float
    optimiser_s: float

    @property
    def memory(self) -> int:
        """Bytes at the peak: what stays, and a pass or the generation (gradients are gone by then)."""
        learning = self.gradients + self.activations + self.working
        return self.weights + self.reference + self.optimiser + max(learning, self.cache + self.generating)

    @property
    def seconds(self) -> float:
        return self.generation_s + self.passes_s + self.optimiser_s

    def fits(self, device: Device) -> bool:
        """Whether a device has the room, with SPARE left."""
        return self.memory <= (1 - SPARE) * device.memory


def predict(
    config: PretrainedConfig | str | Path,
    settings: Settings,
    longest: Sample,
    device: Device,
    *,
    zoom: Zoom | None = None,
    dtype: torch.dtype = torch.bfloat16,
    shards: int = 1,
    padded: bool = True,
) -> Cost:
    """What a run costs on a device.

    `config` is a transformers config, or the folder or hub id of a model. `longest` is the longest sample: for SFT with
    all that is written, for GRPO the prompt (`settings.max_completion_length` and the crops of `zoom` come to it).
    `shards`: so many GPUs share weights, gradients and moments (FSDP2, ZeRO-3); the settings are those of one of them.
    `padded`: rows are of unlike length, as they usually are; then attention takes a mask, and keeps keys and values for
    each head that asks. `dtype` is what is computed in; weights are stored in it where only an adapter learns, else in
    fp32 (`learning.weights_dtype`). Raises ValueError where the run has no such form.
    """
    check_four_bits(settings.load_in_4bit, settings.lora_rank)
    model = build(config, settings, dtype if settings.lora_rank else torch.float32, computed=dtype)
    grpo = isinstance(settings, GRPOSettings)
    passes = settings.passes() if grpo else settings.accumulate
    rows = settings.prompts_per_step * settings.group_size // passes if grpo else settings.batch_size
    whole, written, prompts = longest, longest.text, rows
    if grpo:
        crops = _crops(model.config.vision_config, zoom, settings.max_completion_length)
        written = settings.max_completion_length
        whole = Sample(longest.text + written - sum(crops), (*longest.images, *crops))
        # TRL mixes the rollouts of a batch, so that a pass may hold any of its prompts.
        prompts = min(rows, settings.prompts_per_step * settings.steps_per_generation)
    trained = _trained(model)
    gradients = _bytes(trained)
    once = dtype == torch.bfloat16  # a fused model sees equal pictures once
    seen = [*longest.images] * (prompts if once else rows) + [*whole.images[len(longest.images) :]] * rows
    learning = one_pass(
        model,
        device,
        rows=rows,
        sample=whole,
        seen=seen,
        scored=written,
        several=passes > 1,
        computed=dtype,
        padded=padded,
    )
    forwards, cache, generating, generation = 0, 0, 0, Work()
    sampling = grpo and not settings.vllm_url
    if grpo:
        served = settings.steps_per_generation  # updates on one batch of rollouts
        # Log-probabilities of the old policy (of a server's rollouts always) and of the reference.
        forwards = (served > 1 or not sampling) + (settings.beta > 0)
    if sampling:
        cache, generating, generation = _generation(
            model,
            device,
            rows=rows * passes * served,
            prompts=settings.prompts_per_step * served if once else rows * passes * served,
            prompt=longest,
            new=written,
            turns=1 + len(crops),
            computed=dtype,
        )
        generation = Work(generation.flops / served, generation.seconds / served)
    extra = 0
    if settings.load_in_4bit:  # a layer's weights are unpacked for use
        extra += max(_bytes([module.weight]) for module in model.modules() if isinstance(module, torch.nn.Linear))
    if shards > 1:  # a layer is gathered while the next one comes, and what stands outside of the layers
        layer = _bytes(model.model.language_model.layers[0].parameters())
        extra += 2 * layer + _bytes(model.get_input_embeddings().parameters())
    weights = weight_bytes(model, settings.load_in_4bit)
    needs_copy = grpo and settings.beta > 0 and not settings.lora_rank
    return Cost(
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        trained=sum(parameter.numel() for parameter in trained),
        weights=weights // shards,
        reference=weights // shards if needs_copy else 0,
        gradients=gradients // shards,
        optimiser=(2 * gradients + 4 * len(trained)) // shards,  # and a counter for each tensor
        activations=learning.kept,
        working=learning.peak - learning.kept - gradients + extra,
        cache=cache,
        generating=generating + (extra if sampling else 0),
        flops=passes * (learning.whole.flops + forwards * learning.forward.flops) + generation.flops,
        generation_flops=generation.flops,
        generation_s=generation.seconds,
        passes_s=passes * (learning.whole.seconds + forwards * learning.forward.seconds),
        optimiser_s=ADAM * gradients / shards / device.bandwidth,
    )


def _crops(vision: PretrainedConfig, zoom: Zoom | None, room: int) -> tuple[int, ...]:
    """The image tokens of the crops of one rollout, as many as fit into it."""
    if zoom is None:
        return ()
    tokens = round(zoom.size / (vision.patch_size * vision.spatial_merge_size)) ** 2
    return (tokens,) * min(zoom.looks, room // tokens)


# --- what a person reads -------------------------------------------------------------------------------------


def table(cost: Cost, device: Device) -> str:
    """The cost as a short table: GiB by part, and the seconds of an update."""
    parts = ("weights", "reference", "gradients", "optimiser", "activations", "working", "cache", "generating")
    rows = [(name, vars(cost)[name] / GIB) for name in parts if vars(cost)[name]]
    rows += [("at the peak", cost.memory / GIB), (device.name, device.memory / GIB)]
    share = cost.flops / cost.seconds / device.flops
    return "\n".join(
        [
            f"{cost.parameters:,} parameters, {cost.trained:,} of them learn",
            *(f"  {name:<12} {value:9.2f} GiB" for name, value in rows),
            f"an update: {cost.seconds:.1f} s (generation {cost.generation_s:.1f}, passes {cost.passes_s:.1f}, "
            f"optimiser {cost.optimiser_s:.2f}), {share:.0%} of the device's rate",
        ]
    )


def advice(
    cost: Cost,
    config: PretrainedConfig,
    settings: Settings,
    longest: Sample,
    device: Device,
    *,
    cards: int = 1,
    **how: Any,
) -> str:
    """One sentence on what `predict` said of its own arguments: the run fits, or which settings, each alone, do it.

    Where so many `cards` take alike, the batch that it names is that of all together.
    """
    room = f"{cost.memory / GIB:.1f} of {device.memory / GIB:.1f} GiB"
    if cost.fits(device):
        return f"fits: {room}"
    few = {"completions_per_pass": 1} if isinstance(settings, GRPOSettings) else {"batch_size": 1}
    checkpointing, lora = {"gradient_checkpointing": True}, {"lora_rank": settings.lora_rank or 16}
    rollouts = {"steps_per_generation": 1} if isinstance(settings, GRPOSettings) else {}

    def helps(changes: dict[str, Any]) -> bool:
        changed = dataclasses.replace(settings, **changes)
        return changed != settings and predict(config, changed, longest, device, **how).fits(device)

    found = [changes for changes in (checkpointing, few, rollouts, lora) if helps(changes)]
    pixels = _fitting_pixels(config, settings, longest, device, **how)
    found += [{"max_pixels": pixels}] if pixels else []
    together = (lora | checkpointing, lora | checkpointing | few, lora | checkpointing | few | rollouts)
    found = found or [changes for changes in together if helps(changes)][:1]
    if not found:
        return f"does not fit ({room}), whatever is set: share the model among GPUs, or take a smaller one"
    of_all = lambda name, value: value * cards if name in few else value  # noqa: E731
    said = [
        " with ".join(f"{name}: {of_all(name, value)}".lower() for name, value in changes.items()) for changes in found
    ]
    return f"does not fit ({room}): set {', or '.join(said)}"


def forecast(
    policy: LocalPolicy,
    examples: Sequence[Example],
    mode: Mode,
    settings: Settings,
    turns: Sequence[Sequence[str]] = (),
    *,
    zoom: Zoom | None = None,
    launcher: str = "",
) -> str:
    """What a run costs here: the table for its longest sample, and the advice. As notebooks print it before they train.

    `turns` are what SFT is to learn, a list an example. With a `launcher` this machine's GPUs share the run, all or as
    many as it says, and the weights where it is FSDP or ZeRO. Raises ValueError where they can not share it evenly, and
    MemoryError with the advice where the run is to be on a GPU of this machine and does not fit.
    """
    return forecast_share(
        policy,
        examples,
        mode,
        settings,
        measured_device(compute_dtype(settings.precision)),
        turns,
        zoom=zoom,
        cards=_cards(launcher) if launcher else 1,
        sharded=bool(re.search("fsdp|zero", launcher)),
        must_fit=torch.cuda.is_available() and _here(launcher),
    )


def forecast_share(
    policy: LocalPolicy,
    examples: Sequence[Example],
    mode: Mode,
    settings: Settings,
    device: Device,
    turns: Sequence[Sequence[str]] = (),
    *,
    zoom: Zoom | None = None,
    cards: int = 1,
    sharded: bool = False,
    must_fit: bool = False,
) -> str:
    """What `forecast` says, of one of so many `cards` like `device`, which share the weights too where `sharded`.

    Raises ValueError where they can not share the run evenly and, where it `must_fit` and does not, MemoryError.
    """
    share = _of_one(settings, cards)
    longest = max(lengths.samples(policy, examples, mode, turns, zoom=zoom), key=lambda sample: sample.tokens)
    how = {"zoom": zoom, "dtype": compute_dtype(settings.precision), "shards": cards if sharded else 1}
    what = policy.model.config, share, longest, device
    cost = predict(*what, **how)
    said = advice(cost, *what, cards=cards, **how)
    if must_fit and not cost.fits(device):
        raise MemoryError(f"{device.name}: the run {said}")
    return f"{table(cost, device)}\n{said}"


def _here(launcher: str) -> bool:
    """Whether a launcher starts its processes on this machine, and does not send them to another, as sbatch does."""
    return not launcher or Path(shlex.split(launcher)[0]).name in ("torchrun", "accelerate")


def _cards(launcher: str) -> int:
    """How many of this machine's GPUs a launcher's processes take; 1 on a CPU."""
    there = torch.cuda.device_count()
    said = re.search(r"--(?:nproc[-_]per[-_]node|num[-_]processes)[= ](\d+)", launcher)
    return max(1, min(there, int(said[1]) if said else there))


def _of_one(settings: Settings, cards: int) -> Settings:
    """What one of the cards does of it. A group's completions may lie on several, so they are counted one by one."""
    if isinstance(settings, SFTSettings):
        return dataclasses.replace(settings, batch_size=share_of(settings.batch_size, "batch_size", cards))
    passes = settings.passes()
    rows = share_of(settings.prompts_per_step * settings.group_size // passes, COMPLETIONS, cards)
    return dataclasses.replace(settings, prompts_per_step=rows * passes, group_size=1, completions_per_pass=rows)


def _fitting_pixels(config: PretrainedConfig, settings: Settings, longest: Sample, device: Device, **how: Any) -> int:
    """The largest `max_pixels` of a picture with which the run fits; 0 if none does."""
    vision = config.vision_config
    low, high = 0, max(longest.images, default=0)  # tokens of a picture: fits, does not
    while high - low > max(1, low // 50):
        middle = (low + high) // 2
        shorter = Sample(longest.text, tuple(min(tokens, middle) for tokens in longest.images))
        fits = predict(config, settings, shorter, device, **how).fits(device)
        low, high = (middle, high) if fits else (low, middle)
    return low * (vision.patch_size * vision.spatial_merge_size) ** 2


# --- the model, and the step, on `meta` ----------------------------------------------------------------------


def build(
    config: PretrainedConfig | str | Path,
    settings: Settings,
    dtype: torch.dtype,
    *,
    computed: torch.dtype | None = None,
) -> PreTrainedModel:
    """The model as a run with these settings trains it, without memory: what learns requires gradients.

    `dtype` is that of the weights, `computed` what autocast computes in (empty: the same). `config` is a transformers
    config, or the folder or hub id of a model. Raises OSError where there is none.
    """
    if not isinstance(config, PretrainedConfig):
        config = AutoConfig.from_pretrained(config)
    config = copy.deepcopy(config)
    config._attn_implementation = "sdpa"  # a loaded model's names `attention.BY_LENGTH`, which no constructor knows
    with torch.device("meta"):
        model = AutoModelForImageTextToText.from_config(config, dtype=dtype)
    see_by_length(model)
    if dtype == torch.float16:
        model.model.visual.float()  # as `load_policy` keeps it
    if (computed or dtype) == torch.bfloat16:
        fuse(model, _Gate.apply)
    if settings.freeze_vision:
        freeze_vision(model)
    if settings.lora_rank:
        model.add_adapter(adapter(settings.lora_rank))
        for parameter in _trained(model):  # as PEFT does for a model in 16 bits
            parameter.data = parameter.data.float()
    if settings.gradient_checkpointing:
        # What is computed again is computed outside of the caller's modes.
        again = {"context_fn": lambda: (contextlib.nullcontext(), _LikeGpu(computed or dtype))}
        model.gradient_checkpointing_enable({"use_reentrant": False, **again})
        if settings.lora_rank:
            model.enable_input_require_grads()
    return model.train()


def _trained(model: PreTrainedModel) -> list[torch.nn.Parameter]:
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


def _bytes(tensors: Any) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def _moved(tensor: torch.Tensor) -> int:
    """Bytes that are read or written of a tensor; what is expanded is there once."""
    return min(_bytes([tensor]), tensor.untyped_storage().nbytes())


def weight_bytes(model: PreTrainedModel, load_in_4bit: bool = False) -> int:
    """Bytes of a model's weights; `load_in_4bit`: those of the language model's layers, adapters aside, are NF4."""
    total = _bytes(model.parameters())
    if not load_in_4bit:
        return total
    head = model.get_output_embeddings()
    linear = {name: module for name, module in model.named_modules() if isinstance(module, torch.nn.Linear)}
    plain = ("lora_", "visual")  # see `policy.four_bits`
    weights = [m.weight for name, m in linear.items() if m is not head and not any(word in name for word in plain)]
    return total - _bytes(weights) + math.ceil(NF4 * sum(weight.numel() for weight in weights))


@dataclasses.dataclass(frozen=True)
class Work:
    """Arithmetic operations, and seconds."""

    flops: float = 0.0
    seconds: float = 0.0


class _Meter(TorchDispatchMode):
    """Counts what runs beneath it: bytes alive and at their peak, arithmetic, and seconds by the roofline."""

    def __init__(self, device: Device) -> None:
        super().__init__()
        self.device = device
        self.alive = self.peak = 0
        self.work = Work()
        self._known: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
        for tensor in given:
            self._meet(tensor, counted=False)  # it was there before, as the weights were
        result = func(*args, **(kwargs or {}))
        made = [leaf for leaf in tree_leaves(result) if isinstance(leaf, torch.Tensor)]
        new = [self._meet(tensor) for tensor in made]
        if any(new) or func._schema.is_mutable:  # else it only looks at what is there
            count = flop_registry.get(func._overloadpacket)
            flops = count(*args, **(kwargs or {}), out_val=result) if count else 0
            if func._overloadpacket is torch.ops.aten.embedding:
                given = made  # it reads those rows of the table alone
            moved = sum(map(_moved, [*given, *made]))
            seconds = max(flops / self.device.flops, moved / self.device.bandwidth, self.device.launch)
            self.work = Work(self.work.flops + flops, self.work.seconds + seconds)
        return result

    def since(self, before: Work) -> Work:
        return Work(self.work.flops - before.flops, self.work.seconds - before.seconds)

    def _meet(self, tensor: torch.Tensor, *, counted: bool = True) -> bool:
        """Whether a tensor's memory is new; if it is counted, then until nobody holds it."""
        storage = tensor.untyped_storage()
        place, size = storage._cdata, storage.nbytes() if counted else 0
        if place in self._known:
            return False
        self._known.add(place)
        self.alive += size
        self.peak = max(self.peak, self.alive)
        weakref.finalize(storage, self._leave, place, size)
        return True

    def _leave(self, place: int, size: int) -> None:
        self._known.discard(place)
        self.alive -= size


class _LikeGpu(TorchFunctionMode):
    """Attention by a fused kernel, and 16-bit products as autocast makes them (an adapter is stored in 32 bits)."""

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self.dtype = dtype

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is F.scaled_dot_product_attention:
            return _attention(*map(self._cast, args), **kwargs)
        if func is F.rms_norm:
            return _Norm.apply(args[0], kwargs["weight"])
        if func in (F.linear, F.conv3d):
            args = [*map(self._cast, args)]
        return func(*args, **kwargs)

    def _cast(self, arg: Any) -> Any:
        """As autocast does; on a machine without it, in fp32, nothing."""
        return arg if self.dtype == torch.float32 or not isinstance(arg, torch.Tensor) else arg.to(self.dtype)


def _attention(query: Any, key: Any, value: Any, *, attn_mask: Any = None, scale: float | None = None, **_: Any) -> Any:
    rows, heads, tokens, width = query.shape
    bias = None
    if attn_mask is not None:
        bias = attn_mask.to(query.dtype).expand(-1, heads, -1, -1)
    else:  # the heads that ask of the same keys, one after the other: as much work, and nothing is repeated
        query = query.reshape(rows, key.shape[1], -1, width)
    kernel = torch.ops.aten._scaled_dot_product_efficient_attention
    seen = kernel(query, key, value, bias, torch.is_grad_enabled(), 0.0, False, scale=scale)[0]
    # As a kernel leaves it: in memory a token's heads are neighbours.
    return seen.as_strided((rows, heads, tokens, width), (tokens * heads * width, width, heads * width, 1))


class _Norm(torch.autograd.Function):
    """`F.rms_norm` as one kernel: what it reads and writes."""

    @staticmethod
    def forward(ctx: Any, hidden: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(hidden, weight)
        return hidden.neg()

    @staticmethod
    def backward(ctx: Any, back: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        hidden, weight = ctx.saved_tensors
        return back * hidden, torch.empty_like(weight)


class _Gate(torch.autograd.Function):
    """`fused.gated` as one kernel."""

    @staticmethod
    def forward(ctx: Any, gate: torch.Tensor, up: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(gate, up)
        return gate * up

    @staticmethod
    def backward(ctx: Any, back: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        gate, up = ctx.saved_tensors
        return back * up, back * gate


@contextlib.contextmanager
def _kept(model: PreTrainedModel) -> Iterator[dict[int, int]]:
    """The memory that autograd keeps for the backward pass, place -> bytes, without the model's own weights."""
    kept: dict[int, int] = {}
    weights = {parameter.untyped_storage()._cdata for parameter in model.parameters()}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in weights:
            kept[storage._cdata] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        yield kept


def _seen(model: PreTrainedModel, images: Sequence[int]) -> torch.Tensor:
    """The features (image tokens, hidden) of images with so many tokens each."""
    visual, config = model.model.visual, model.config.vision_config
    merged = config.spatial_merge_size**2
    # Qwen2.5-VL looks through windows in most layers, Qwen3-VL at the whole image in all.
    stored = config.to_dict()
    window = (stored.get("window_size", config.patch_size) // config.patch_size) ** 2
    everywhere = stored.get("fullatt_block_indexes", range(config.depth))
    patches = [max(1, tokens * merged // window) * window for tokens in images]
    size = 3 * config.temporal_patch_size * config.patch_size**2
    hidden = visual.patch_embed(torch.empty(sum(patches), size, device="meta", dtype=model.dtype))
    turns = torch.empty(sum(patches), config.hidden_size // config.num_heads, device="meta")
    for layer, block in enumerate(visual.blocks):
        lengths = patches if layer in everywhere else [window] * (sum(patches) // window)
        ends = torch.tensor([0, *lengths]).cumsum(0)  # on the CPU: the code reads its numbers
        hidden = block(hidden, cu_seqlens=ends, position_embeddings=(turns, turns))
    mergers = [module for module in visual.modules() if type(module) is type(visual.merger)]
    return [merger(hidden) for merger in mergers][0]


def _read(
    model: PreTrainedModel, rows: int, tokens: int, images: Sequence[int], *, padded: bool = True, **cached: Any
) -> Any:
    """The language model's output for `rows` samples of so many tokens; the eyes see `images`."""
    ids = torch.empty(rows, tokens, dtype=torch.long, device="meta")
    embedded = model.get_input_embeddings()(ids)
    if images:
        seen = _seen(model, images)
        where = torch.empty(rows, tokens, 1, dtype=torch.bool, device="meta").expand_as(embedded)
        embedded = embedded.masked_scatter(where, seen.to(embedded.dtype))
    before = cached["past_key_values"].get_seq_length() if "past_key_values" in cached else 0
    mask = torch.empty(rows, 1, tokens, before + tokens, dtype=torch.bool, device="meta") if padded else None
    places = torch.empty(3, rows, tokens, dtype=torch.long, device="meta")
    return model.model.language_model(
        inputs_embeds=embedded, attention_mask=mask, position_ids=places, **{"use_cache": False, **cached}
    )


def _tiles(hidden: torch.Tensor, weight: torch.Tensor) -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    """(logits, hidden states, rows of the head) tile by tile; all logits are written to the same memory."""
    memory = hidden.new_empty(min(len(hidden), TILE[0]), TILE[1])
    for tokens in hidden.split(TILE[0]):
        for words in weight.split(TILE[1]):
            yield torch.mm(tokens, words.t(), out=memory[: len(tokens), : len(words)]), tokens, words


class _Head(torch.autograd.Function):
    """Log-probabilities from hidden states (tokens, hidden), tile by tile; the backward pass makes each tile anew."""

    @staticmethod
    def forward(ctx: Any, hidden: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(hidden, weight)
        for _tile in _tiles(hidden, weight):
            pass
        return hidden.new_empty(len(hidden), dtype=torch.float32)

    @staticmethod
    def backward(ctx: Any, _: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        hidden, weight = ctx.saved_tensors
        to_hidden = torch.zeros_like(hidden, dtype=torch.float32)
        to_weight = torch.zeros_like(weight, dtype=torch.float32) if ctx.needs_input_grad[1] else None
        for tile, tokens, words in _tiles(hidden, weight):
            tile @ words
            if to_weight is not None:
                tile.t() @ tokens
        return to_hidden.to(hidden.dtype), None if to_weight is None else to_weight.to(weight.dtype)


@dataclasses.dataclass(frozen=True)
class Pass:
    """One pass: bytes `kept` by autograd and alive at the `peak`, gradients included; all its work, and `forward`'s."""

    kept: int
    peak: int
    whole: Work
    forward: Work


def one_pass(
    model: PreTrainedModel,
    device: Device,
    *,
    rows: int,
    sample: Sample,
    scored: int,
    seen: Sequence[int] | None = None,
    several: bool = False,
    computed: torch.dtype | None = None,
    padded: bool = True,
) -> Pass:
    """Make a pass over `rows` copies of a sample, the last `scored` tokens of each in the loss.

    `seen` are the tokens of each picture that the eyes look at, if not of all. With `several` the gradients of an
    earlier pass are there already. `computed` is what autocast computes in.
    """
    images = [*sample.images] * rows if seen is None else seen
    with _Meter(device) as meter:
        for _ in range(2 if several else 1):
            before = meter.work
            with _kept(model) as kept, _LikeGpu(computed or model.dtype):
                hidden = _read(model, rows, sample.tokens, images, padded=padded).last_hidden_state
                scores = _Head.apply(hidden[:, -scored:].flatten(0, 1), model.get_output_embeddings().weight)
            forward = meter.since(before)
            torch.autograd.backward(scores, torch.empty_like(scores))
            whole = meter.since(before)
            del hidden, scores
    for parameter in model.parameters():
        parameter.grad = None
    return Pass(sum(kept.values()), meter.peak, whole, forward)


@torch.no_grad()
def _generation(
    model: PreTrainedModel,
    device: Device,
    *,
    rows: int,
    prompts: int,
    prompt: Sample,
    new: int,
    turns: int,
    computed: torch.dtype,
) -> tuple[int, int, Work]:
    """Bytes of the cache at full length, bytes besides at the peak, and the work; `prompts` pictures are seen.

    Every turn reads all before it again, as TRL's loop does; a step of generation is made with half of what is new.
    """
    model.eval()
    with _Meter(device) as reading, _LikeGpu(computed):
        cache = _read(model, rows, prompt.tokens, [*prompt.images] * prompts, use_cache=True).past_key_values
    a_token = _bytes(tensor for layer in cache.layers for tensor in (layer.keys, layer.values)) // prompt.tokens
    longer = DynamicCache()
    for number, layer in enumerate(cache.layers):
        half = layer.keys.new_empty(*layer.keys.shape[:2], prompt.tokens + new // 2, layer.keys.shape[3])
        longer.update(half, half.clone(), number)
    del cache
    with _Meter(device) as writing, _LikeGpu(computed):
        hidden = _read(model, rows, 1, (), past_key_values=longer, use_cache=True).last_hidden_state
        (hidden @ model.get_output_embeddings().weight.t()).float().softmax(-1)
    model.train()
    whole = a_token * (prompt.tokens + new)
    words = 2 * rows * model.get_output_embeddings().weight.shape[0] * 4  # logits and probabilities
    besides = max(reading.peak - whole, 2 * whole // len(longer.layers) + words)  # a layer grows by being copied
    work = Work(
        turns * reading.work.flops + new * writing.work.flops, turns * reading.work.seconds + new * writing.work.seconds
    )
    return whole, besides, work
