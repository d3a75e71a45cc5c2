"""The nano model: a tiny config of a real Qwen VL class, with its image processor, tokens and chat format.

Both families build: Qwen2.5-VL (the paper's) and Qwen3-VL. What the shipped base uses, and why, stands in
notebook 01.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

import torch
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
)

from vigorl_lib.nano.world import VIEW_SIDE
from vigorl_lib.processors import ImageProcessor, kit_template, processor_class

Family = Literal["qwen2_5_vl", "qwen3_vl"]
# One image token covers 24 x 24 view pixels, which is one cell of the world's grid: 16 tokens for a view.
PATCH, MERGE = 12, 2
SPECIAL = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|image_pad|>",
    "<|video_pad|>",
)
# As in Qwen's tokenizers these are single tokens but not special ones, so that decoding keeps them.
MARKS = (
    "<think>",
    "</think>",
    "<answer>",
    "</answer>",
    "<tool_call>",
    "</tool_call>",
    "<observation>",
    "</observation>",
)
VOCABULARY = 900
EMBEDDING_STD = 0.3
# The processor's normalisation: the ground of a scene comes out near zero, so that what the vision tower sees
# of an empty patch is its place.
BACKGROUND, CONTRAST = 0.91, 0.25
# Qwen's splitting with three changes: ", " is one piece, so is punctuation with the space before it, and so are two
# digits (no view coordinate has more): a place is then two tokens to read and to write, not four.
PIECES = r", |[ ]?\p{L}+|\p{N}{1,2}|[ ]?[^\s\p{L}\p{N}]+|\s+"


def texts(conversations: list[list[dict[str, Any]]]) -> list[str]:
    """All text of the conversations, for the tokenizer to learn its words from."""
    found = []
    for message in (message for conversation in conversations for message in conversation):
        content = message["content"]
        blocks = [{"type": "text", "text": content}] if isinstance(content, str) else content
        found += [block["text"] for block in blocks if block["type"] == "text"]
    return found


def train_tokenizer(texts: list[str]) -> PreTrainedTokenizerFast:
    """A byte-level BPE of at most VOCABULARY tokens; every number of one or two digits is a token."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PIECES), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    size = VOCABULARY - len(SPECIAL) - len(MARKS)
    numbers = [str(number) for number in range(100)]  # every one, whatever the texts happen to hold
    tokenizer.train_from_iterator(
        [*texts, *numbers], trainers.BpeTrainer(vocab_size=size, initial_alphabet=alphabet, show_progress=False)
    )
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in SPECIAL])
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        padding_side="left",
        model_max_length=4096,
    )
    fast.add_tokens([AddedToken(mark, special=False) for mark in MARKS])
    return fast


def build_processor(family: Family, tokenizer: PreTrainedTokenizerFast) -> Any:
    """The family's processor class with the kit's chat template; images keep their size up to one view."""
    images = ImageProcessor(
        size={"shortest_edge": (PATCH * MERGE) ** 2, "longest_edge": VIEW_SIDE**2},
        patch_size=PATCH,
        temporal_patch_size=2,
        merge_size=MERGE,
        image_mean=[BACKGROUND] * 3,
        image_std=[CONTRAST] * 3,
    )
    return processor_class(family)(image_processor=images, tokenizer=tokenizer, chat_template=kit_template())


def build_model(
    family: Family,
    tokenizer: PreTrainedTokenizerFast,
    *,
    seed: int,
    hidden: int = 128,
    layers: int = 4,
    vision_hidden: int = 96,
    vision_layers: int = 3,
) -> PreTrainedModel:
    """A freshly initialised nano model (fp32).

    Weights start at standard deviation 1/sqrt(fan-in) and embeddings at 0.3: with the library's default of
    0.02 a model this narrow learns nothing visual for hundreds of steps.
    """
    heads = hidden // 32
    half = 16  # half of the head's 32 dimensions, shared among time, height and width
    token = tokenizer.convert_tokens_to_ids
    ids = {
        "image_token_id": token("<|image_pad|>"),
        "video_token_id": token("<|video_pad|>"),
        "vision_start_token_id": token("<|vision_start|>"),
        "vision_end_token_id": token("<|vision_end|>"),
    }
    text = {
        "vocab_size": len(tokenizer),
        "hidden_size": hidden,
        "intermediate_size": 3 * hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": heads,
        "max_position_embeddings": 4096,
        "bos_token_id": None,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    vision = {
        "depth": vision_layers,
        "hidden_size": vision_hidden,
        "intermediate_size": 3 * vision_hidden,
        "num_heads": vision_hidden // 32,
        "out_hidden_size": hidden,
        "patch_size": PATCH,
        "spatial_merge_size": MERGE,
        "temporal_patch_size": 2,
    }
    # A high base leaves most of a short head untouched by distance: what is asked late still finds the image.
    rope = {"rope_type": "default", "rope_theta": 5_000_000.0}
    torch.manual_seed(seed)
    if family == "qwen2_5_vl":
        config = Qwen2_5_VLConfig(
            text_config={**text, "rope_parameters": {**rope, "mrope_section": [4, 6, half - 10]}},
            vision_config={
                **vision,
                "window_size": VIEW_SIDE,
                "fullatt_block_indexes": list(range(vision_layers)),
            },
            tie_word_embeddings=True,
            **ids,
        )
        model = Qwen2_5_VLForConditionalGeneration(config)
    elif family == "qwen3_vl":
        config = Qwen3VLConfig(
            text_config={
                **text,
                # Heads may be wider than the model in all: twice as many find "what is named, and where" sooner.
                "num_attention_heads": 2 * heads,
                "num_key_value_heads": 2 * heads,
                "head_dim": 2 * half,
                "tie_word_embeddings": True,
                "rope_parameters": {**rope, "mrope_section": [6, 5, 5], "mrope_interleaved": True},
            },
            vision_config={
                **vision,
                "num_position_embeddings": (VIEW_SIDE // PATCH) ** 2,
                "deepstack_visual_indexes": [0],
            },
            tie_word_embeddings=True,
            **ids,
        )
        model = Qwen3VLForConditionalGeneration(config)
    else:
        raise ValueError(f"unknown family {family!r}; known: qwen2_5_vl, qwen3_vl")
    for name, parameter in model.named_parameters():
        if parameter.dim() == 5:  # the patch embedding
            _start_as_cosines(parameter)
        elif "pos_embed" in name:
            torch.nn.init.normal_(parameter, std=1.0)  # as loud as what is drawn: a point must be read off it
        elif "embed" in name and "patch" not in name:
            torch.nn.init.normal_(parameter, std=EMBEDDING_STD)
        elif parameter.dim() >= 2:
            torch.nn.init.normal_(parameter, std=1 / math.sqrt(parameter[0].numel()))
    numbers = tokenizer.convert_tokens_to_ids([str(number) for number in range(VIEW_SIDE)])
    _start_as_a_line(model.get_input_embeddings().weight, numbers)
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    model.config.vigorl_dialect = "nano"
    return model


def add_words(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, words: Sequence[str], *, seed: int = 0
) -> None:
    """Give the words tokens of their own, in place, where they have none; what these mean is still to be learnt.

    A nano tokenizer knows the words of the base's lessons and spells all others out. Tokens that it never wrote have
    drifted into one direction, away from all that it says, and their mean, from which transformers would start, lies
    there too: after 80 steps of SFT no word that started there was ever written. These start as all tokens did.
    """
    tokenizer.add_tokens([AddedToken(word, special=False, normalized=False) for word in words])
    known = model.get_input_embeddings().num_embeddings
    if len(tokenizer) > known:
        model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
        with torch.no_grad():
            rng = torch.Generator().manual_seed(seed)
            model.get_input_embeddings().weight[known:].normal_(std=EMBEDDING_STD, generator=rng)


def _start_as_cosines(weight: torch.Tensor) -> None:
    """Fill a patch embedding [out, colours, frames, side, side] with the lowest waves of a cosine transform.

    Each output sees one wave in a random mix of colours, louder the finer it is, because pictures hold less of
    it. From white noise the tower stays blind to fine stripes: what they add to a filter's response has mean
    zero, and no gradient points to them.
    """
    out, colours, frames, side, _ = weight.shape
    steps = torch.arange(side)
    waves = torch.cos(math.pi * steps[:, None] * (steps + 0.5) / side)
    waves = waves / waves.norm(dim=1, keepdim=True)
    order = sorted(((down, across) for down in steps.tolist() for across in steps.tolist()), key=lambda p: (sum(p), p))
    with torch.no_grad():
        for index in range(out):
            down, across = order[index % len(order)]
            mix = torch.randn(colours) / math.sqrt(colours * frames)
            loudness = 0.4 * (0.3 + down + across)
            weight[index] = loudness * mix[:, None, None, None] * torch.outer(waves[down], waves[across])


def _start_as_a_line(embeddings: torch.Tensor, numbers: list[int]) -> None:
    """Give the numbers' tokens embeddings in which neighbours are alike: waves of eight lengths, one point each.

    Large language models come to hold numbers so by themselves (arXiv 2502.00873; as tokens of their own, arXiv
    2502.09741). With unrelated embeddings a nano model has to learn each of 96 places by itself.
    """
    hidden = embeddings.shape[1]
    lengths = 2 * len(numbers) / torch.arange(1, 9)
    angles = 2 * math.pi * torch.arange(len(numbers))[:, None] / lengths
    code = torch.cat([angles.cos(), angles.sin()], dim=1)  # of variance 1/2 in each dimension
    mix = torch.randn(code.shape[1], hidden) / math.sqrt(code.shape[1] / 2)
    with torch.no_grad():
        embeddings[numbers] = 0.3 * code @ mix
