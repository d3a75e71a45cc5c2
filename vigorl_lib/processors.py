"""Processors of the Qwen VL families that work with and without torchvision, and save what both can load.

transformers' own `AutoProcessor` needs torchvision for these families, if only because the video half
imports it. Where torchvision is absent the classes below leave that half out.
"""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path
from typing import Any

import vigorl_lib.requirements  # noqa: F401  # what is installed fits, or this says why not

# isort: split
import torch
import transformers
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil
from transformers.processing_utils import ProcessorMixin

BASES = {"qwen2_5_vl": transformers.Qwen2_5_VLProcessor, "qwen3_vl": transformers.Qwen3VLProcessor}
VIDEO_TYPES = {"qwen2_5_vl": "Qwen2VLVideoProcessor", "qwen3_vl": "Qwen3VLVideoProcessor"}

# What TRL's rollout parses: a tool call is JSON between the tags, all other text stays the content.
RESPONSE_TEMPLATE = {
    "defaults": {"role": "assistant"},
    "start_anchor": "<|im_start|>assistant\n",
    "fields": {
        "tool_calls": {
            "open": "<tool_call>",
            "close_pattern": r"</tool_call>\s*",
            "repeats": True,
            "content": "json",
            "transform": {"type": "function", "function": "{content}"},
        },
        "content": {"close_pattern": r"<\|im_end\|>\s*", "content": "text"},
    },
}


class ImageProcessor(Qwen2VLImageProcessorPil):
    """The Pillow image processor, always returning tensors, and cutting equal images into patches once.

    Without torchvision the stock one returns NumPy arrays when no type is asked for, and TRL's tool loop
    then fails on the first tool result that is text only. TRL gives each rollout of a group its own copy of their
    image; sixteen of 1,008 x 1,008 pixels took a second of an update (`prepare_s` in outputs/reference/gpu/h200.json).
    """

    def _preprocess(self, images: list[Any], *args: Any, **options: Any) -> Any:
        options["return_tensors"] = options.get("return_tensors") or "pt"
        different: dict[tuple[Any, bytes], int] = {}
        places = [different.setdefault((image.shape, image.tobytes()), len(different)) for image in images]
        if options["return_tensors"] != "pt" or len(different) == len(images):
            return super()._preprocess(images, *args, **options)
        found = super()._preprocess([images[places.index(k)] for k in range(len(different))], *args, **options)
        parts = found["pixel_values"].split(found["image_grid_thw"].prod(-1).tolist())
        found["pixel_values"] = torch.cat([parts[place] for place in places])
        found["image_grid_thw"] = found["image_grid_thw"][places]
        return found


ImageProcessor.__name__ = ImageProcessor.__qualname__ = Qwen2VLImageProcessorPil.__name__  # what a saved config says


def kit_template() -> str:
    """The kit's chat template: Qwen's form, with marks around what the assistant writes."""
    return resources.files("vigorl_lib").joinpath("chat_template.jinja").read_text(encoding="utf-8")


def processor_class(family: str) -> type[ProcessorMixin]:
    """The family's processor without its video half.

    transformers reads a processor's parts off the signature of `__init__`: leaving `video_processor` out of it
    is all that this takes. The class keeps the stock name, so that what it saves is the stock format.
    """
    if family not in BASES:
        raise ValueError(f"unknown model family {family!r}; known: {', '.join(BASES)}")
    base = BASES[family]

    class ImageOnly(base):
        def __init__(self, image_processor=None, tokenizer=None, chat_template=None, **_: Any) -> None:
            for kind in ("image", "video"):
                token = f"<|{kind}_pad|>"
                setattr(self, f"{kind}_token", token)
                setattr(self, f"{kind}_token_id", tokenizer.convert_tokens_to_ids(token))
            for side in ("start", "end"):
                token = f"<|vision_{side}|>"
                setattr(self, f"vision_{side}_token", token)
                setattr(self, f"vision_{side}_token_id", tokenizer.convert_tokens_to_ids(token))
            if isinstance(image_processor, Qwen2VLImageProcessorPil):  # as loaded from a folder: the stock class
                image_processor = ImageProcessor.from_dict(image_processor.to_dict())
            ProcessorMixin.__init__(self, image_processor, tokenizer, chat_template=chat_template)
            tokenizer.padding_side = "left"  # TRL's VLM path is silently wrong with right padding
            tokenizer.response_template = RESPONSE_TEMPLATE

    ImageOnly.__name__ = ImageOnly.__qualname__ = base.__name__
    return ImageOnly


def save_processor(processor: Any, folder: str | Path, family: str) -> None:
    """Save so that the stock `AutoProcessor` (with torchvision) loads it too: add the video block it expects."""
    folder = Path(folder)
    processor.save_pretrained(folder)
    path = folder / "processor_config.json"
    config = json.loads(path.read_text())
    images = processor.image_processor
    config["video_processor"] = {
        "video_processor_type": VIDEO_TYPES[family],
        "patch_size": images.patch_size,
        "temporal_patch_size": images.temporal_patch_size,
        "merge_size": images.merge_size,
    }
    path.write_text(json.dumps(config, indent=2) + "\n")


def load_processor(name: str | Path) -> Any:
    """The processor of a local model folder, or of a hub id such as "Qwen/Qwen2.5-VL-3B-Instruct".

    Raises FileNotFoundError where the folder has no processor or the hub no such model for us, ValueError where its
    family is not known.
    """
    folder = Path(name)
    if not folder.is_dir():
        return _from_hub(str(name))
    for part in ("config.json", "processor_config.json", "tokenizer.json"):
        if not (folder / part).is_file():
            raise FileNotFoundError(
                f"{folder} has no {part}: save model and processor to the same folder, then load it again"
            )
    family = json.loads((folder / "config.json").read_text())["model_type"]
    return processor_class(family).from_pretrained(folder)


def _from_hub(name: str) -> Any:
    try:
        family = transformers.AutoConfig.from_pretrained(name).model_type
    except (OSError, ValueError) as error:
        raise not_had(name, error) from error
    try:
        return processor_class(family).from_pretrained(name)
    except OSError as error:
        raise not_had(name, error) from error


def not_had(name: str | Path, error: Exception) -> FileNotFoundError:
    """What to raise where the hub gave nothing for a name, in one sentence with the remedies."""
    return FileNotFoundError(
        f"{name}: no such folder, and no such model on the hub for us ({str(error).splitlines()[0]}); check the name "
        "and the network, log in where it is gated (hf auth login), and set HF_HUB_OFFLINE=0"
    )
