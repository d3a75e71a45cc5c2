"""The eye first: the vision tower learns what each image token shows, before a word is taught.

A VLM never starts from an untrained vision tower. Here every image token is asked for what stands at its place:
the ground truth of a drawn scene is dense, and one picture teaches sixteen things. Each question has a linear map
that is thrown away afterwards; behind it stand the language model's own word embeddings. So the tower learns to say
what it sees in words that the language model, whose attention heads are linear maps too, only has to pass on.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset
from transformers import PreTrainedModel, PreTrainedTokenizerBase, get_cosine_schedule_with_warmup

from vigorl_lib.nano import lessons, world
from vigorl_lib.nano.model import MERGE, PATCH
from vigorl_lib.nano.world import COLOURS, NAMES, PATTERNS, RADII, SHAPES, SIDE, VIEW_SIDE, Scene

GRID = VIEW_SIDE // (PATCH * MERGE)  # image tokens along a side of a picture
IGNORED = -100
SIZE_STEP = 3  # original pixels of radius in one class of size
# What a token is asked for, and how many answers there are. The place is that of the thing's centre in view
# pixels, which the policy will have to write.
ASKED = {
    "present": 2,
    "colour": len(COLOURS),
    "shape": len(SHAPES),
    "x": VIEW_SIDE,
    "y": VIEW_SIDE,
    "size": (RADII[1] - RADII[0]) // SIZE_STEP + 1,
    "pattern": len(PATTERNS),
}
# The answers that are words, as they stand in a trace; the rest has no word.
WORDS = {
    "colour": [f" {colour}" for colour in COLOURS],
    "shape": [f" {shape}" for shape in SHAPES],
    "x": [str(x) for x in range(VIEW_SIDE)],
    "y": [str(y) for y in range(VIEW_SIDE)],
    "pattern": list(PATTERNS),
}
CROP_SHARE = 0.4  # of the pictures


def token_labels(scene: Scene, window: tuple[int, int, int, int]) -> torch.Tensor:
    """Class indices [GRID * GRID, len(ASKED)] of a picture that shows `window` (original pixels).

    A token stands for the thing whose box holds its middle. The place is asked of whole views only, the
    pattern of crops only: a view does not show it.
    """
    left, top, right, bottom = window
    whole = right - left == SIDE
    rows = []
    for token in range(GRID * GRID):
        row, column = divmod(token, GRID)
        middle = left + (column + 0.5) * (right - left) / GRID, top + (row + 0.5) * (bottom - top) / GRID
        thing = world.thing_at(scene, *middle)
        if thing is None:
            rows.append([0] + [IGNORED] * (len(ASKED) - 1))
            continue
        x, y = world.to_view(thing.x, thing.y)
        place = [x, y] if whole else [IGNORED] * 2
        rows.append(
            [
                1,
                list(COLOURS).index(thing.colour),
                SHAPES.index(thing.shape),
                *place,
                (thing.radius - RADII[0]) // SIZE_STEP,
                IGNORED if whole else PATTERNS.index(thing.pattern),
            ]
        )
    return torch.tensor(rows)


class Pictures(Dataset):
    """Picture `index` of a course as (patches [n, patch values], labels of `token_labels`)."""

    def __init__(self, image_processor: Any, count: int, seed: int) -> None:
        self.image_processor, self.count, self.seed = image_processor, count, seed

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        rng = random.Random(f"eye {self.seed} {index}")
        names = rng.choices(NAMES, k=rng.randint(1, 12))
        scene = world.make_scene(rng, names=names)
        if rng.random() < CROP_SHARE:
            thing = rng.choice(scene.things)
            picture = world.draw(scene)
            point = lessons.spot(thing, rng)
            image, window = lessons.crop(picture, point), lessons.window(point)
        else:
            image, window = lessons.view(scene), (0, 0, SIDE, SIDE)
        return self.image_processor(images=[image])["pixel_values"], token_labels(scene, window)


class Maps(torch.nn.Module):
    """One linear map for each question; `forward` gives the logits of its answers by question."""

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
        super().__init__()
        hidden = model.config.text_config.hidden_size
        self.words = {name: [_token(tokenizer, word) for word in words] for name, words in WORDS.items()}
        self.maps = torch.nn.ModuleDict(
            {name: torch.nn.Linear(hidden, hidden if name in WORDS else count) for name, count in ASKED.items()}
        )

    def forward(self, seen: torch.Tensor, embeddings: torch.Tensor) -> dict[str, torch.Tensor]:
        said = {name: linear(seen) for name, linear in self.maps.items()}
        return {n: said[n] @ embeddings[self.words[n]].T if n in WORDS else said[n] for n in ASKED}


def _token(tokenizer: PreTrainedTokenizerBase, word: str) -> int:
    ids = tokenizer(word, add_special_tokens=False)["input_ids"]
    if len(ids) != 1:
        raise ValueError(
            f"the tokenizer splits {word!r} into {len(ids)} tokens; train it on lessons that hold the word"
        )
    return ids[0]


def train_eye(
    model: PreTrainedModel,
    processor: Any,
    *,
    steps: int,
    learning_rate: float,
    batch_size: int = 64,
    warmup_steps: int = 30,
    seed: int = 0,
    workers: int = 1,
) -> Iterator[dict[str, float]]:
    """Train `model`'s vision tower, projector and word embeddings in place.

    Yields each step's loss (nats) and share right by question. The pictures of one seed are always the same, and
    no lesson or exam has theirs. The layers of the language model are not touched, and the maps are not kept.
    """
    torch.manual_seed(seed)
    maps, embeddings = Maps(model, processor.tokenizer), model.get_input_embeddings().weight
    weights = [*model.model.visual.parameters(), embeddings, *maps.parameters()]
    optimiser = torch.optim.AdamW(weights, lr=learning_rate, betas=(0.9, 0.95), weight_decay=0.01)
    schedule = get_cosine_schedule_with_warmup(optimiser, warmup_steps, steps)
    pictures = Pictures(processor.image_processor, steps * batch_size, seed)
    model.train()
    for patches, labels in DataLoader(pictures, batch_size, num_workers=workers):
        losses, right = judge(maps(image_tokens(model, patches), embeddings), labels)
        loss = torch.stack(list(losses.values())).mean()
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimiser.step()
        schedule.step()
        yield {"loss": loss.item(), **right}


def image_tokens(model: PreTrainedModel, patches: torch.Tensor) -> torch.Tensor:
    """What the language model gets to see: [pictures, GRID * GRID, hidden] of patches [pictures, n, values]."""
    grid = torch.tensor([[1, GRID * MERGE, GRID * MERGE]] * len(patches))  # in patches
    found = model.model.get_image_features(patches.flatten(0, 1), image_grid_thw=grid)
    return torch.stack(list(found.pooler_output))


def judge(logits: dict[str, torch.Tensor], labels: torch.Tensor) -> tuple[dict[str, torch.Tensor], dict[str, float]]:
    """Cross-entropy (nats) and share right for every question of ASKED, over the tokens that it is asked of."""
    losses, right = {}, {}
    for index, (name, part) in enumerate(logits.items()):
        asked = labels[..., index] != IGNORED
        if asked.any():
            losses[name] = torch.nn.functional.cross_entropy(part[asked], labels[..., index][asked])
            right[name] = (part[asked].argmax(-1) == labels[..., index][asked]).float().mean().item()
    return losses, right
