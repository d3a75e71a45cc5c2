"""Who writes the text: a local transformers model that completes many conversations at once.

Everything the model reads or writes is in its `resized` frame; `view_of` makes that frame's image. Sampling
is at the given temperature; temperature 0 is greedy.
"""

from __future__ import annotations

import collections
import dataclasses
import functools
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vigorl_lib.requirements import compute_dtype

# isort: split
import torch
from PIL import Image
from torch.nn import functional as F
from transformers import AutoConfig, AutoModelForImageTextToText, BitsAndBytesConfig, PretrainedConfig, PreTrainedModel
from transformers.cache_utils import Cache, StaticLayer

from vigorl_lib import grounding, images, prompts, traces, views
from vigorl_lib.attention import see_by_length
from vigorl_lib.fused import fuse
from vigorl_lib.processors import load_processor, not_had, save_processor
from vigorl_lib.prompts import Mode
from vigorl_lib.records import Account, Asked, Example, Prediction, Proposal, Refused, StepRequest
from vigorl_lib.runs import PACKAGE, read_manifest
from vigorl_lib.views import View, Views, Zoom

Messages = list[dict[str, Any]]
NANO_BASE = PACKAGE / "checkpoints/base"
STEP_OPENING = "<think>\n"
ANSWER_OPENING = "\n</think>\n<answer>"
READ_TOGETHER = (
    16  # prompts; on a CPU a prompt takes a third of the time that it takes alone, and no less in larger batches
)
STAGE = 8  # tokens that a batch of read prompts writes before the rows that ended leave it


@dataclasses.dataclass(frozen=True)
class Completion:
    """What the policy wrote: its text, how many tokens, and whether the limit cut it off."""

    text: str
    tokens: int
    truncated: bool


@dataclasses.dataclass(frozen=True)
class Prompt:
    """A prompt that the model has read, and perhaps the beginning of its own message.

    tokens     all token ids, the assistant's opening included
    written    how many of them the assistant wrote
    following  position of the first token after them
    layers     keys and values of all tokens but the last, in parts of (layers, 2, heads, tokens, head size);
               what goes on from a prompt shares its parts
    """

    tokens: list[int]
    written: int
    following: int
    layers: tuple[torch.Tensor, ...]

    def begins(self, message: list[int]) -> bool:
        """Whether a message of these tokens begins with what is written here."""
        return message[: self.written] == self.tokens[len(self.tokens) - self.written :]


class _Room(StaticLayer):
    """A layer's keys and values [rows, heads, room, head size] in memory that is there; `filled` tokens are in it."""

    def __init__(self, keys: torch.Tensor, values: torch.Tensor, filled: int) -> None:
        super().__init__(max_cache_len=keys.shape[2])
        self.keys, self.values, self.dtype, self.device = keys, values, keys.dtype, keys.device
        self.cumulative_length = torch.tensor(filled, device=keys.device)
        self.is_initialized = True


def _cache(stacked: torch.Tensor, rows: int, room: int, filled: int) -> Cache:
    """The first `rows` of (layers, 2, rows, heads, tokens, head size) as a cache with room for so many tokens.

    What is read attends to the whole room, so it is no larger than the next tokens need.
    """
    return Cache(layers=[_Room(keys[:rows, :, :room], values[:rows, :, :room], filled) for keys, values in stacked])


class LocalPolicy:
    """A Qwen VL model and its processor on this machine's best device."""

    def __init__(self, model: PreTrainedModel, processor: Any, *, batch_size: int = 64) -> None:
        self.model = model.eval()
        self.processor = processor
        self.tokenizer = processor.tokenizer
        self.batch_size = batch_size
        self.dialect = dialect_of(model.config)
        self._memory = torch.empty(0)

    def view_of(self, example: Example) -> View:
        """The example's picture as the model sees it. Raises what `images.open_image` raises."""
        return views.view_of(example, self.limits(), self.dialect.points)

    def conversation(self, example: Example, image: Image.Image, mode: Mode) -> Messages:
        """What the model is asked about an example, in its own dialect."""
        return prompts.conversation(example, image, mode, dialect=self.dialect)

    def frame_of(self, example: Example) -> grounding.Frame | None:
        """The frame in which the policy writes the place that an example asks for; None if it asks for none."""
        return views.frame_of(example, self.limits(), self.dialect.points)

    def image_tokens(self, size: tuple[int, int]) -> int:
        """How many tokens a picture of (width, height) pixels becomes; a crop too."""
        limits = self.limits()
        width, height = images.fit_size(*size, **limits)
        return width * height // limits["factor"] ** 2

    def limits(self) -> dict[str, int]:
        """How large a picture the model is shown, as `images.fit_size` and `served.Sizes` take it."""
        return _limits(self.processor)

    @torch.no_grad()
    def complete(
        self,
        conversations: Sequence[Messages] | Sequence[Prompt],
        *,
        max_new_tokens: int,
        temperature: float,
        prefixes: Sequence[str] | None = None,
        stop: str | None = None,
        seed: int | None = None,
    ) -> list[Completion]:
        """The next assistant message of each conversation, in the order given.

        `prefixes` are texts that the message already begins with (not part of the returned text). `stop` ends
        a message at the first token whose text ends so. `seed` seeds the whole call. Conversations that are
        completed more than once can be given as what `read` returns: the same logits, up to rounding, for less work.
        """
        if seed is not None:
            torch.manual_seed(seed)
        prefixes = list(prefixes or [""] * len(conversations))
        done: list[Completion] = []
        for start in range(0, len(conversations), self.batch_size):
            chosen = slice(start, start + self.batch_size)
            done += self._complete_batch(
                list(conversations[chosen]), prefixes[chosen], max_new_tokens, temperature, stop
            )
        return done

    @torch.no_grad()
    def read(self, conversations: Sequence[Messages]) -> list[Prompt]:
        """Read conversations up to the assistant's opening; the results hold as long as the weights do."""
        prompts: list[Prompt] = []
        for start in range(0, len(conversations), READ_TOGETHER):
            some = list(conversations[start : start + READ_TOGETHER])
            inputs = self._processed(some, [""] * len(some))
            read = self.model.model(**inputs, use_cache=True).past_key_values
            layers = torch.stack([torch.stack([layer.keys, layer.values]) for layer in read.layers])
            # An image's tokens share positions (M-RoPE): text after it stands `rope_deltas` away from its index.
            deltas = self.model.model.rope_deltas.flatten().tolist()
            for row, (ids, mask) in enumerate(zip(inputs["input_ids"], inputs["attention_mask"], strict=True)):
                tokens = ids[mask.bool()].tolist()
                part = layers[:, :, row, :, -len(tokens) : -1].clone()  # padding is on the left
                prompts.append(Prompt(tokens, 0, len(tokens) + deltas[row], (part,)))
        return prompts

    @torch.no_grad()
    def read_on(self, prompts: Sequence[Prompt], tokens: Sequence[list[int]]) -> list[Prompt]:
        """The prompts after the assistant wrote these tokens, at least one each."""
        further: list[Prompt] = []
        for start in range(0, len(prompts), self.batch_size):
            before, after = prompts[start : start + self.batch_size], tokens[start : start + self.batch_size]
            inputs, stacked = self._continued(before, [row[:-1] for row in after], 0)
            room, new = inputs["attention_mask"].shape[1], inputs["position_ids"].shape[-1]
            inputs["input_ids"] = inputs["input_ids"][:, -new:]  # the rest is in the cache
            self.model.model(**inputs, past_key_values=_cache(stacked, len(before), room, room - new), use_cache=True)
            for index, (prompt, row) in enumerate(zip(before, after, strict=True)):
                part = stacked[:, :, index, :, room - len(row) : room].clone()
                following = prompt.following + len(row)
                parts = (*prompt.layers, part)
                further.append(Prompt([*prompt.tokens, *row], prompt.written + len(row), following, parts))
        return further

    def _complete_batch(
        self,
        conversations: list[Messages] | list[Prompt],
        prefixes: list[str],
        max_new_tokens: int,
        temperature: float,
        stop: str | None,
    ) -> list[Completion]:
        ends = {self.tokenizer.eos_token_id, *(_tokens_ending(self.tokenizer, stop) if stop else ())}
        # `generate` on its own would draw from the 50 likeliest tokens alone.
        sampling = {"do_sample": True, "temperature": temperature, "top_k": 0, "top_p": 1.0}
        options = {
            "eos_token_id": sorted(ends),
            "suppress_tokens": [self.processor.image_token_id, self.processor.video_token_id],
            **(sampling if temperature > 0 else {"do_sample": False}),
        }
        if isinstance(conversations[0], Prompt):
            begun = self.tokenizer(prefixes, add_special_tokens=False)["input_ids"]
            inputs, stacked = self._continued(conversations, begun, max_new_tokens)
            written = self._in_stages(inputs, stacked, max_new_tokens, options)
        else:
            inputs = self._processed(conversations, prefixes)
            output = self.model.generate(**inputs, max_new_tokens=max_new_tokens, **options)
            written = output[:, inputs["input_ids"].shape[1] :].tolist()
        return [self._read(row, ends) for row in written]

    def _processed(self, conversations: list[Messages], prefixes: list[str]) -> Any:
        texts = self.processor.apply_chat_template(conversations, tokenize=False, add_generation_prompt=True)
        pictures = [
            [block["image"] for message in messages if not isinstance(message["content"], str)
             for block in message["content"] if block["type"] == "image"]
            for messages in conversations
        ]  # fmt: skip
        return self.processor(
            text=[text + prefix for text, prefix in zip(texts, prefixes, strict=True)],
            images=pictures,
            padding=True,
            padding_side="left",
            return_tensors="pt",
        ).to(self.model.device)

    def _continued(
        self, prompts: Sequence[Prompt], begun: Sequence[list[int]], max_new_tokens: int
    ) -> tuple[dict[str, Any], torch.Tensor]:
        """What `generate` needs to go on from prompts that were read: [pad, prompt but one][pad, one, begun].

        Both parts are padded on the left. The prompt's last token is read again, as `generate` needs one. The keys
        and values of the first part come beside (see `_cache`), with room for the second and all that is new.
        """
        tails = [[prompt.tokens[-1], *tail] for prompt, tail in zip(prompts, begun, strict=True)]
        read, new = max(len(prompt.tokens) - 1 for prompt in prompts), max(map(len, tails))
        tokens, mask, positions = [], [], []
        for prompt, tail in zip(prompts, tails, strict=True):
            before, gap = read - len(prompt.tokens) + 1, new - len(tail)
            pad = self.tokenizer.pad_token_id
            tokens.append([pad] * before + prompt.tokens[:-1] + [pad] * gap + tail)
            mask.append([0] * before + [1] * (read - before) + [0] * gap + [1] * len(tail))
            first = prompt.following - 1 - gap
            positions.append(list(range(first, first + new)))
        layers, kinds, heads, _, size = prompts[0].layers[0].shape
        shape = (layers, kinds, len(prompts), heads, read + new + max_new_tokens, size)
        stacked = self._reused(shape, prompts[0].layers[0])
        for row, prompt in enumerate(prompts):
            start = read - len(prompt.tokens) + 1
            for part in prompt.layers:
                stacked[:, :, row, :, start : start + part.shape[3]] = part
                start += part.shape[3]
        device = self.model.device
        inputs = {
            "input_ids": torch.tensor(tokens, device=device),
            "attention_mask": torch.tensor(mask, device=device),
            "position_ids": torch.tensor(positions, device=device).expand(4, -1, -1),  # text, time, height, width
        }
        return inputs, stacked

    def _reused(self, shape: tuple[int, ...], like: torch.Tensor) -> torch.Tensor:
        """Memory for one batch, the same for all: fresh memory took a third of a search's time (page faults).

        It holds what earlier batches left there, finite numbers that the attention mask hides.
        """
        kept, needed = self._memory, math.prod(shape)
        if kept.numel() < needed or (kept.dtype, kept.device) != (like.dtype, like.device):
            self._memory = like.new_zeros(needed)
        return self._memory[:needed].view(shape)

    def _in_stages(
        self, inputs: dict[str, Any], stacked: torch.Tensor, max_new_tokens: int, options: dict[str, Any]
    ) -> list[list[int]]:
        """The new tokens of each row. `generate` stops after each stage, and rows that ended go no further."""
        ends = set(options["eos_token_id"])
        written: list[list[int]] = [[] for _ in inputs["input_ids"]]
        rows = list(range(len(written)))
        filled = inputs["attention_mask"].shape[1] - inputs["position_ids"].shape[-1]
        for start in range(0, max_new_tokens, STAGE):
            new = min(STAGE, max_new_tokens - start)
            read = inputs["attention_mask"].shape[1]
            output = self.model.generate(
                **inputs,
                past_key_values=_cache(stacked, len(rows), read + new, filled),
                disable_compile=True,  # each batch has another shape
                max_new_tokens=new,
                **options,
            )
            said = output[:, read:].tolist()
            for row, tokens in zip(rows, said, strict=True):
                written[row] += tokens
            going = [index for index, tokens in enumerate(said) if ends.isdisjoint(tokens)]
            if not going:
                break
            for row, kept in enumerate(going):
                stacked[:, :, row] = stacked[:, :, kept]
            rows, kept = [rows[index] for index in going], torch.tensor(going, device=output.device)
            filled = read + new - 1  # the last token is not yet in the cache
            inputs = {
                "input_ids": output[kept],
                "attention_mask": F.pad(inputs["attention_mask"][kept], (0, new), value=1),
                "position_ids": inputs["position_ids"][:, kept, -1:] + new,
            }
        return written

    def _read(self, row: list[int], ends: set[int]) -> Completion:
        length = next((index + 1 for index, token in enumerate(row) if token in ends), len(row))
        tokens = row[:length]
        truncated = tokens[-1] not in ends
        if tokens[-1] == self.tokenizer.eos_token_id:
            tokens = tokens[:-1]
        return Completion(self.tokenizer.decode(tokens, skip_special_tokens=False), length, truncated)


def dialect_of(config: PretrainedConfig) -> prompts.Dialect:
    """How a model is asked: as its config says (`vigorl_dialect`), else as its family is.

    Released ViGoRL checkpoints are known by their names. Raises ValueError on a family or dialect that is not known.
    """
    stored = config.to_dict().get("vigorl_dialect")
    released = Path(config._name_or_path).name.startswith("ViGoRL")
    name = stored or ("released" if released else config.model_type)
    if name not in prompts.DIALECTS:
        raise ValueError(f"{config._name_or_path}: unknown dialect {name!r}; known: {', '.join(prompts.DIALECTS)}")
    return prompts.DIALECTS[name]


def load_policy(
    name: str | Path,
    *,
    batch_size: int = 64,
    dtype: torch.dtype | None = None,
    max_pixels: int | None = None,
    device: str | None = None,
    load_in_4bit: bool = False,
) -> LocalPolicy:
    """The policy of a local folder or of a hub id (safetensors only), on the GPU where there is one.

    On a CPU weights are computed in fp32 whatever they are stored in: bf16 is slower there. `max_pixels` bounds what
    the model sees of a picture, where the processor's own limit is too much. `load_in_4bit` keeps the language model's
    weights in four bits (NF4) and computes in `dtype`; it needs a GPU. Raises FileNotFoundError where a folder
    lacks a model or processor file, or the hub has no such model for us.
    """
    processor = _processor(name, max_pixels)
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    dtype = dtype or (torch.float32 if device == "cpu" else compute_dtype())
    # A quantised model is made where it stays; any other can be moved.
    quantised = {"quantization_config": four_bits(dtype), "device_map": {"": device}} if load_in_4bit else {}
    try:
        model = AutoModelForImageTextToText.from_pretrained(name, dtype=dtype, use_safetensors=True, **quantised)
    except OSError as error:
        if Path(name).is_dir():
            raise
        raise not_had(name, error) from error
    see_by_length(model)
    if dtype == torch.float16:
        _see_in_fp32(model, device)
    elif device.startswith("cuda") and dtype == torch.bfloat16:
        fuse(model)
    return LocalPolicy(model if load_in_4bit else model.to(device), processor, batch_size=batch_size)


def _processor(name: str | Path, max_pixels: int | None) -> Any:
    """The processor of a folder or hub id, in its own limits or with fewer pixels."""
    processor = load_processor(name)
    if max_pixels is not None:
        limits = processor.image_processor.size
        processor.image_processor.size = limits | {"longest_edge": max(max_pixels, limits["shortest_edge"])}
    return processor


def _limits(processor: Any) -> dict[str, int]:
    settings = processor.image_processor
    return {
        "min_pixels": settings.size.shortest_edge,
        "max_pixels": settings.size.longest_edge,
        "factor": settings.patch_size * settings.merge_size,
    }


def check_frame(found: Path, name: str | Path, *, max_pixels: int | None = None) -> None:
    """Refuse trees or chains whose points lie in another frame than the one that a model writes in.

    `found` is the file that `Run.input` gave. What notebook 02 made was seen as the manifest beside it says (`model`,
    `max_pixels`, and the student's limits for a server's model too); what ships, as the nano base sees. No weights are
    loaded. Raises ValueError naming the file, what differs and the remedy.
    """
    manifest = found.parent / "manifest.json"
    searched = read_manifest(manifest)["params"] if manifest.exists() else {}
    wrote = _frame_of(searched.get("model") or NANO_BASE, searched.get("max_pixels") or None)
    if searched.get("server_url"):
        wrote |= {"points": "resized"}  # as `served.ServedPolicy` asks
    writes = _frame_of(name, max_pixels)
    differ = [key for key in writes if wrote[key] != writes[key]]
    if writes["points"] == wrote["points"] == "relative":
        differ = []  # thousandths of any picture
    if differ:
        said = ", ".join(f"{key} {wrote[key]} against {writes[key]}" for key in differ)
        served = searched.get("server_url") and differ == ["points"]
        how = "without server_url" if served else "with this model and max_pixels"
        raise ValueError(
            f"{found}: its points are not in the frame of {name} ({said}); run 02_search_traces {how} first"
        )


def _frame_of(name: str | Path, max_pixels: int | None) -> dict[str, Any]:
    """All that decides where a model's points lie in a picture."""
    limits = _limits(_processor(name, max_pixels))
    return {"points": dialect_of(AutoConfig.from_pretrained(name)).points, **limits}


def four_bits(dtype: torch.dtype) -> BitsAndBytesConfig:
    """NF4 with double quantisation (QLoRA, arXiv 2305.14314) for the language model alone, computed in `dtype`."""
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
        llm_int8_skip_modules=["model.visual", "lm_head"],  # what sees, and what shares its weights with the input
    )


def _see_in_fp32(model: PreTrainedModel, device: str) -> None:
    """Keep the vision tower out of fp16: Qwen2.5-VL-3B's overflows on some pictures (vllm#13817, llama.cpp#17534)."""
    visual = model.model.visual.float()
    visual.forward = torch.autocast(device.split(":")[0], enabled=False)(visual.forward)


def save_policy(policy: LocalPolicy, folder: str | Path, state: Mapping[str, torch.Tensor] | None = None) -> Path:
    """Save model (bf16 safetensors) and processor to one folder that `load_policy` and the stock classes read.

    `state` are the weights where the model itself holds but a part of them (training on several cards).
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    whole = policy.model.state_dict() if state is None else state
    policy.model.config.vigorl_dialect = policy.dialect.name
    policy.model.save_pretrained(folder, state_dict={name: value.to(torch.bfloat16) for name, value in whole.items()})
    save_processor(policy.processor, folder, policy.model.config.model_type)
    return folder


@functools.lru_cache(maxsize=8)
def _tokens_ending(tokenizer: Any, stop: str) -> tuple[int, ...]:
    return tuple(token for token in range(len(tokenizer)) if tokenizer.decode([token]).endswith(stop))


# --- answering: one turn, or several with a zoom ---------------------------------------------------------


def look(view: View, text: str, point: tuple[int, int], zoom: Zoom, number: int) -> Messages:
    """A turn that looks closer at `point` (pixels of the view's frame), the `number`-th from 1, and what it gets."""
    seen = prompts.observation(view.crop(point, zoom), last=number == zoom.looks)
    return [{"role": "assistant", "content": text}, {"role": "tool", "content": seen}]


def answer(
    policy: LocalPolicy,
    examples: Sequence[Example],
    mode: Mode,
    *,
    max_new_tokens: int,
    temperature: float = 0.0,
    seed: int = 0,
    zoom: Zoom | None = None,
    prompts: Mapping[str, Prompt] | None = None,
) -> list[Prediction]:
    """The policy's prediction for each example under one prompt.

    In mode "zoom" a turn that calls the tool gets the crop and another turn, until it answers, breaks the
    grammar, or has used its looks; every other mode is one turn. `max_new_tokens` is the limit of one turn.
    The conversation is the one that TRL's rollout builds, token for token (tested). Only the pictures of one batch of
    the policy are open at a time, as all may not fit into memory; the next turn opens them again.

    `prompts`, by example id, are what `read` returned for the conversations, up to the first turn: who asks several
    times reads once.
    """
    views = Views(policy.view_of, examples, kept=policy.batch_size)
    further: list[Messages] = [[] for _ in examples]  # what was said after the question
    turns: list[list[str]] = [[] for _ in examples]
    tokens, truncated = [0] * len(examples), [False] * len(examples)
    frames: dict[int, tuple[int, int]] = {}
    zoom = zoom or Zoom()
    active = list(range(len(examples)))
    for turn in range(1 + (zoom.looks if mode == "zoom" else 0)):
        going = []
        for start in range(0, len(active), policy.batch_size):
            batch = active[start : start + policy.batch_size]
            asked = (
                [prompts[examples[i].id] for i in batch]
                if prompts and turn == 0
                else [[*policy.conversation(examples[i], views[i].image, mode), *further[i]] for i in batch]
            )
            written = policy.complete(
                asked,
                max_new_tokens=max_new_tokens,
                temperature=temperature,
                seed=None if start else seed + turn,  # one stream of random numbers for all of a turn
            )
            for i, completion in zip(batch, written, strict=True):
                frames[i] = views[i].frame.width, views[i].frame.height
                turns[i].append(completion.text)
                tokens[i] += completion.tokens
                truncated[i] = completion.truncated
                call = traces.parse_turn(completion.text, zoom=True).call if mode == "zoom" else None
                if call is None or completion.truncated or turn == zoom.looks:
                    continue
                further[i] += look(views[i], completion.text, call, zoom, turn + 1)
                going.append(i)
        active = going
    return [
        Prediction(
            id=example.id,
            turns=tuple(turns[i]),
            points=traces.parse_trace(turns[i], zoom=mode == "zoom").points,
            tokens=tokens[i],
            truncated=truncated[i],
            frame=frames[i],
        )
        for i, example in enumerate(examples)
    ]


@torch.no_grad()
def option_losses(policy: LocalPolicy, examples: Sequence[Example], mode: Mode) -> list[tuple[float, ...]]:
    """For each example the mean cross-entropy (nats a token) of every option, written as a whole answer.

    This is what V*Bench's own scorer compares: nothing is sampled, and the option with the lowest loss is the answer.
    Only the pictures of one batch of the policy are open at a time.
    """
    asked = [(i, f"<answer> {option} </answer>") for i, example in enumerate(examples) for option in example.options]
    views, losses = Views(policy.view_of, examples, kept=1), []  # the options of one picture stand side by side
    for start in range(0, len(asked), policy.batch_size):
        batch, written = zip(*asked[start : start + policy.batch_size], strict=True)
        inputs = policy._processed(
            [policy.conversation(examples[i], views[i].image, mode) for i in batch], list(written)
        )
        logits = policy.model(**inputs).logits
        for ids, row, text in zip(inputs["input_ids"], logits, written, strict=True):
            length = len(policy.tokenizer(text, add_special_tokens=False)["input_ids"])  # at the end: padding is left
            losses.append(F.cross_entropy(row[-length - 1 : -1], ids[-length:]).item())
    found = iter(losses)
    return [tuple(next(found) for _ in example.options) for example in examples]


# --- searching: one step at a time ------------------------------------------------------------------------


def step_policy(
    policy: LocalPolicy,
    mode: Mode,
    *,
    temperature: float = 1.0,
    max_new_tokens: int = 48,
    stop: str = ".",
    remembered_bytes: int = 2**29,
    account: Account | None = None,
) -> Any:
    """The policy as the search sees it: a batch of step requests in, a batch of proposals out.

    The model continues its own message `<think>\\n{steps so far}` up to the end of one step, or goes on to the
    answer. (The released teacher is asked anew each time, with former thoughts in the user's text: a served
    model needs that, a local one does not.) `stop` ends a step: a step of the nano policy is a sentence.
    An example's prompt and each chain of steps are read once and remembered, for the last used examples that fit
    into `remembered_bytes`: make a new step policy after training. Requests about a picture that can not be opened are
    `Refused`, with the reason. The `account` counts all requests.
    """
    account = account or Account()
    known: collections.OrderedDict[str, dict[tuple[str, ...], Prompt]] = collections.OrderedDict()
    held = 0  # bytes of all that is known

    def remember(name: str, steps: tuple[str, ...], prompt: Prompt) -> None:
        nonlocal held
        known.setdefault(name, {})[steps] = prompt
        held += prompt.layers[-1].nbytes  # its other parts are those of the chain it goes on from

    def meet(example: Example) -> Refused | None:
        """Read an example's prompt, unless it is known; or say why its picture can not be shown."""
        if example.id not in known:
            try:
                image = policy.view_of(example).image
            except (ValueError, OSError) as error:
                return Refused(str(error))
            remember(example.id, (), *policy.read([policy.conversation(example, image, mode)]))
        known.move_to_end(example.id)
        return None

    def recall(requests: Sequence[StepRequest]) -> list[Prompt]:
        nonlocal held
        new = {(request.example.id, request.steps): None for request in requests}
        new = [(name, steps) for name, steps in new if steps not in known[name]]
        texts = [STEP_OPENING + " ".join(steps) for _, steps in new]
        messages = policy.tokenizer(texts, add_special_tokens=False)["input_ids"] if new else []
        nearest = [_nearest(known[name], steps, tokens) for (name, steps), tokens in zip(new, messages, strict=True)]
        rests = [tokens[before.written :] for before, tokens in zip(nearest, messages, strict=True)]
        for (name, steps), prompt in zip(new, policy.read_on(nearest, rests), strict=True):
            remember(name, steps, prompt)
        found = [known[request.example.id][request.steps] for request in requests]
        while len(known) > 1 and held > remembered_bytes:
            _, forgotten = known.popitem(last=False)
            held -= sum(prompt.layers[-1].nbytes for prompt in forgotten.values())
        return found

    def propose(asked: Sequence[StepRequest]) -> list[Proposal | Refused]:
        met = {request.example.id: meet(request.example) for request in asked}
        requests = [request for request in asked if met[request.example.id] is None]
        # One seed for the batch: transformers draws for all rows at once.
        seed = sum(request.seed for request in requests) % 2**32
        written = policy.complete(
            recall(requests),
            prefixes=[
                ("" if request.steps else STEP_OPENING) + (ANSWER_OPENING if request.must_answer else "")
                for request in requests
            ],
            max_new_tokens=max_new_tokens,
            temperature=temperature,
            stop=stop,
            seed=seed,
        )
        said, made = iter(written), []
        for request in asked:
            id = request.example.id
            found, outcome = (met[id], "refused") if met[id] else _proposal(request, next(said))
            tokens, reason = (0, str(found)) if met[id] else (found.tokens, "")
            account.add(Asked(id, request.seed, 0, 0.0, 0, tokens, outcome, reason))
            made.append(found)
        return made

    return propose


def _nearest(known: dict[tuple[str, ...], Prompt], steps: tuple[str, ...], message: list[int]) -> Prompt:
    """The longest known beginning of a chain, if a tokenizer that saw it all would have cut it up alike."""
    for end in range(len(steps) - 1, 0, -1):
        before = known.get(steps[:end])
        if before and before.written < len(message) and before.begins(message):
            return before
    return known[()]


def _proposal(request: StepRequest, completion: Completion) -> tuple[Proposal, str]:
    """What a completion proposes, and "used", or why nothing could be taken of it."""
    text = STEP_OPENING + (ANSWER_OPENING if request.must_answer else "") + completion.text
    turn, step, tokens = traces.parse_turn(text, zoom=False), completion.text.strip(), completion.tokens
    if turn.answer:
        return Proposal("" if request.must_answer else (turn.think or ""), turn.answer, tokens), "used"
    if step and not request.must_answer and "<" not in step:
        return Proposal(step, None, tokens), "used"
    whole = text if "</think>" in text else f"{text}</think>"  # a step is stopped before it
    return Proposal("", None, tokens), traces.step_problem(whole, must_answer=request.must_answer) or "no_step"
