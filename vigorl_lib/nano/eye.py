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
from vigorl_lib.nano.world import COLOURS, DIRECTIONS, NAMES, PATTERNS, RADII, SHAPES, SIDE, VIEW_SIDE, Scene, Thing

GRID = VIEW_SIDE // (PATCH * MERGE)  # image tokens along a side of a picture
IGNORED = -100
PLACES = [str(value) for value in range(VIEW_SIDE)]
NEXT = {f"{direction} {axis}": [*PLACES, " nothing"] for direction in DIRECTIONS for axis in "xy"}
# What a token is asked for besides whether something stands there, with the answers as they are written in a trace.
# Places are those of centres in view pixels: the thing's own, and those of the next thing in each direction.
WORDS = {
    "colour": [f" {colour}" for colour in COLOURS],
    "shape": [f" {shape}" for shape in SHAPES],
    "pattern": list(PATTERNS),
    "x": PLACES,
    "y": PLACES,
    "width": [str(world.width(radius)) for radius in range(RADII[0], RADII[1] + 1)],
    **NEXT,
}
ASKED = ("present", *WORDS)
CROP_SHARE = 0.4  # of the pictures


def token_labels(scene: Scene, window: tuple[int, int, int, int]) -> torch.Tensor:
    """Class indices [GRID * GRID, len(ASKED)] of a picture that shows `window` (original pixels).

    A token stands for the thing whose box holds its middle. Place and width are asked of whole views only, the
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
        seen = [1, list(COLOURS).index(thing.colour), SHAPES.index(thing.shape)]
        if whole:
            width = thing.radius - RADII[0]
            places = [place for direction in DIRECTIONS for place in _next_place(scene, thing, direction)]
            rows.append([*seen, IGNORED, *world.to_view(thing.x, thing.y), width, *places])
        else:
            rows.append([*seen, PATTERNS.index(thing.pattern), *[IGNORED] * (3 + len(NEXT))])
    return torch.tensor(rows)


def _next_place(scene: Scene, thing: Thing, direction: str) -> tuple[int, int]:
    there = world.next_thing(scene, thing.x, thing.y, direction)
    if there is None:
        return IGNORED, IGNORED
    return (VIEW_SIDE, VIEW_SIDE) if there == -1 else world.to_view(scene.things[there].x, scene.things[there].y)


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
            {name: torch.nn.Linear(hidden, hidden if name in WORDS else 2) for name in ASKED}
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
