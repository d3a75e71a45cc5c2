"""The length of samples without a look at their pixels, and the longest in the first step."""

import copy
import dataclasses

import pytest
from PIL import Image, ImageFile

from vigorl_lib import images, lengths, training
from vigorl_lib.benchmarks import registry as benchmarks
from vigorl_lib.nano import lessons
from vigorl_lib.nano import model as nano
from vigorl_lib.policy import LocalPolicy
from vigorl_lib.records import Example
from vigorl_lib.traces import render_answer, render_call
from vigorl_lib.training import GRPOSettings, SFTSettings
from vigorl_lib.views import Zoom

ZOOM = Zoom(looks=2)
LOOK = render_call("Look: red circle (20, 31).", (20, 31))
TURNS = (
    [LOOK, render_call("right: blue square (70, 90).", (70, 90)), "<answer> B </answer>"],
    [render_answer("It is striped.", "B")],
    [LOOK, render_answer("It is.", "B")],
)


@pytest.fixture(scope="module", params=["qwen2_5_vl", "qwen3_vl"])
def policy(request):
    tokenizer = nano.train_tokenizer(nano.texts([lessons.lesson(seed) for seed in range(40)]))
    processor = nano.build_processor(request.param, copy.deepcopy(tokenizer))
    model = nano.build_model(
        request.param, processor.tokenizer, seed=0, hidden=64, layers=2, vision_hidden=32, vision_layers=1
    )
    return LocalPolicy(model, processor)


@pytest.fixture(scope="module")
def examples(tmp_path_factory):
    """A twin's question, and two of one's own with pictures that the processor makes smaller and larger."""
    folder = tmp_path_factory.mktemp("pictures")
    found = list(benchmarks.load("vstar", split="train", limit=1, seed=7))
    for name, sizes, text in (("wide", [(300, 70), (40, 90)], "What is it? " * 9), ("small", [(12, 10)], "Where?")):
        paths = [folder / f"{name}{number}.png" for number in range(len(sizes))]
        for path, size in zip(paths, sizes, strict=True):
            Image.new("RGB", size).save(path)
        found.append(Example(name, "own", "answer", text, (), "B", tuple(map(str, paths))))
    return found


def test_a_prompt_is_as_long_as_the_processor_makes_it(policy, examples):
    pad = policy.processor.image_token_id
    for example, sample in zip(examples, lengths.samples(policy, examples, "zoom"), strict=True):
        talk = policy.conversation(example, policy.view_of(example).image, "zoom")
        ids = policy._processed([talk], [""])["input_ids"][0].tolist()
        assert (sample.tokens, sample.images) == (len(ids), (ids.count(pad),))


def test_a_conversation_is_as_long_as_its_training_row(policy, examples):
    found = lengths.samples(policy, examples, "zoom", TURNS, zoom=ZOOM)
    for example, turns, sample in zip(examples, TURNS, found, strict=True):
        talk = training.episode(example, policy.view_of(example), turns, ZOOM)
        row = training.Collator(policy.processor)([{"messages": talk}])
        grids = row["image_grid_thw"].prod(-1) // nano.MERGE**2
        assert sample.tokens == row["input_ids"].shape[1] and sample.images == tuple(grids.tolist())


def test_no_picture_is_decoded(policy, examples, monkeypatch):
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda image: pytest.fail("decoded"))
    assert len(lengths.samples(policy, examples[1:], "direct")) == 2
    with pytest.raises(FileNotFoundError, match="own gone: no such image"):
        lengths.samples(policy, [dataclasses.replace(examples[1], id="gone", images=("gone.png",))], "direct")


def test_the_size_of_two_frames_is_that_of_the_picture(examples):
    assert images.shown_size(examples[1]) == images.picture_of(examples[1]).size == (340, 90)


def test_the_longest_goes_first_and_the_others_stay():
    assert lengths.longest_first("abcd", [3, 1, 7, 7]) == ["c", "a", "b", "d"]
    assert lengths.longest_first(["a"], [1]) == ["a"]


def test_sft_begins_with_the_longest_row(policy, tmp_path):
    made = []

    def make(seed):
        made.append(seed)
        return lessons.lesson(seed)

    settings = SFTSettings(max_steps=1, learning_rate=1e-3, batch_size=2, longest_first=True)
    rows = training.lazy_rows(make, range(6), tokens=[5, 4, 3, 9, 2, 1])
    training.sft_trainer(policy.model, policy.processor, rows, settings, tmp_path).train()
    assert made[1:3] == [3, 0], "TRL looks at the first row before it begins"
    made.clear()
    unchanged = dataclasses.replace(settings, longest_first=False)
    training.sft_trainer(policy.model, policy.processor, rows, unchanged, tmp_path).train()
    assert made[1:3] == [0, 1]
    with pytest.raises(ValueError, match="needs to know the rows' lengths: give `tokens`"):
        training.sft_trainer(policy.model, policy.processor, training.lazy_rows(make, [1]), settings, tmp_path)


def test_grpo_begins_with_the_longest_prompt(policy, tmp_path):
    examples = benchmarks.load("sat2", split="train", limit=12, seed=0)
    tokens = {example.question: sample.tokens for example, sample in zip(
        examples, lengths.samples(policy, examples, "grounded"), strict=True)}  # fmt: skip
    settings = GRPOSettings(
        max_steps=1, learning_rate=1e-3, prompts_per_step=2, steps_per_generation=1, group_size=2,
        max_completion_length=8, beta=0.0, longest_first=True, seed=3,
    )  # fmt: skip
    orders = {}
    for flag in (True, False):
        changed = dataclasses.replace(settings, longest_first=flag)
        trainer = training.grpo_trainer(policy, examples, "grounded", changed, tmp_path)
        rows = trainer.train_dataset
        orders[flag] = [
            next(question for question in tokens if question == rows[index]["prompt"][-1]["content"])
            for index in list(trainer._get_train_sampler())[:: settings.group_size]
        ]
    longest = max(tokens.values())
    assert tokens[orders[True][0]] == longest
    assert sorted(orders[True]) == sorted(orders[False]) == sorted(tokens) and orders[True] != list(tokens)
    assert tokens[orders[False][0]] < longest, "by chance it would prove nothing"
