"""Training through TRL: the same tokens everywhere, the fence around its traps, and runs that go on."""

import collections
import copy
import dataclasses
import random

import pytest
import torch
from accelerate import PartialState
from accelerate.logging import get_logger
from PIL import Image
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil
from trl import GRPOConfig
from trl.data_utils import prepare_multimodal_messages
from trl.trainer.sft_trainer import DataCollatorForVisionLanguageModeling

from vigorl_lib import policy as policies
from vigorl_lib import prompts, rewards, training
from vigorl_lib.attention import BY_LENGTH
from vigorl_lib.benchmarks import registry as benchmarks
from vigorl_lib.nano import lessons, twins, world
from vigorl_lib.nano import model as nano
from vigorl_lib.policy import LocalPolicy, load_policy, save_policy
from vigorl_lib.processors import kit_template, load_processor
from vigorl_lib.traces import render_answer, render_call, render_single
from vigorl_lib.training import GRPOSettings, SFTSettings
from vigorl_lib.views import View, Views, Zoom

FAMILIES = ("qwen2_5_vl", "qwen3_vl")
both = pytest.mark.parametrize("family", FAMILIES)
END = "<|im_end|>"
ZOOM = Zoom(looks=2)


@pytest.fixture(scope="session")
def tokenizer():
    return nano.train_tokenizer(nano.texts([lessons.lesson(seed) for seed in range(40)]))


@pytest.fixture(scope="session")
def examples():
    return benchmarks.load("vstar", split="train", limit=3, seed=7)


@pytest.fixture
def make(tokenizer):
    """A fresh random policy of a family, small enough to train in a blink."""

    def made(family, seed=0):
        processor = nano.build_processor(family, copy.deepcopy(tokenizer))
        model = nano.build_model(
            family, processor.tokenizer, seed=seed, hidden=64, layers=2, vision_hidden=32, vision_layers=1
        )
        return LocalPolicy(model, processor)

    return made


@pytest.fixture
def saved(make, tmp_path):
    """A fresh policy as loaded from a folder: with beta > 0 TRL loads the reference from there."""

    def made(family, seed=0):
        return load_policy(save_policy(make(family, seed), tmp_path / f"start-{family}"))

    return made


def grpo(**changes):
    """Two questions, two rollouts each: enough to see rows of unlike length side by side."""
    base = GRPOSettings(
        max_steps=1,
        learning_rate=1e-2,
        prompts_per_step=2,
        steps_per_generation=1,
        group_size=2,
        max_completion_length=200,
        beta=0.0,
    )
    return dataclasses.replace(base, **changes)


def encode(policy, text):
    return policy.tokenizer(text, add_special_tokens=False)["input_ids"]


# --- one conversation, one row of tokens -----------------------------------------------------------------

LOOK = render_call("Look: red circle (20, 31).", (20, 31))
AGAIN = render_call("right: blue square (70, 90).", (70, 90))
ANSWER = render_answer("It is striped blue square.", "B")
SCRIPT = ([LOOK, AGAIN, ANSWER], [LOOK, ANSWER], [ANSWER])


class Script:
    """In the place of `model.generate`: writes the turns of the example whose question it reads.

    Keeps, by example and turn, what the model was shown: token ids and pixels.
    """

    def __init__(self, policy, examples, script=SCRIPT):
        self.policy, self.examples, self.script = policy, examples, script
        self.shown = {}

    def __call__(self, input_ids, attention_mask, pixel_values, image_grid_thw, **_):
        patches = iter(pixel_values.split(image_grid_thw.prod(-1).tolist()))
        start = self.policy.tokenizer.convert_tokens_to_ids("<|vision_start|>")
        written = []
        for row, mask in zip(input_ids, attention_mask, strict=True):
            ids = row[mask.bool()].tolist()
            text = self.policy.tokenizer.decode(ids)
            index = next(i for i, e in enumerate(self.examples) if e.question.split("\n")[0] in text)
            turn = text.count("<|im_start|>assistant\n") - 1
            pixels = [next(patches).numpy().tobytes() for _ in range(ids.count(start))]
            before = self.shown.setdefault((index, turn), (ids, pixels))
            assert before == (ids, pixels), "the same conversation was shown in two ways"
            written.append(encode(self.policy, self.script[index][turn] + END))
        width = max(map(len, written))
        pad = self.policy.tokenizer.pad_token_id
        return torch.cat([input_ids, torch.tensor([t + [pad] * (width - len(t)) for t in written])], 1)


def scripted_step(policy, examples, out_dir, script=SCRIPT):
    """One GRPO step over scripted rollouts: what was shown, what was rolled out, TRL's log-probabilities."""
    settings = grpo(prompts_per_step=len(examples), max_completion_length=400)
    trainer = training.grpo_trainer(policy, examples, "zoom", settings, out_dir, zoom=ZOOM)
    policy.model.generate = shown = Script(policy, examples, script)
    rollouts, scored = [], []
    generate, score = trainer._generate, trainer._get_per_token_logps_and_entropies

    def watched_generate(prompts):
        rollouts.append(generate(prompts))
        return rollouts[-1]

    def watched_score(model, ids, mask, keep, **inputs):
        found = score(model, ids, mask, keep, **inputs)
        scored.append((ids, mask, found[0].detach()))
        return found

    trainer._generate, trainer._get_per_token_logps_and_entropies = watched_generate, watched_score
    trainer.train()
    return shown.shown, rollouts[0], scored[0]


def sft_row(policy, example, turns):
    """The conversation as the SFT trainer reads it, without the untrained line end after the last turn."""
    talk = training.episode(example, policy.view_of(example), turns, ZOOM)
    row = training.Collator(policy.processor)([{"messages": talk}])
    last = row["input_ids"].shape[1] - 1
    assert row["input_ids"][0, last - 1] == policy.tokenizer.eos_token_id
    return {k: v[:, :last] if v.shape[:2] == row["input_ids"].shape else v for k, v in row.items()}


@both
def test_an_sft_row_is_the_rollout_token_for_token(family, make, examples, tmp_path):
    policy = make(family)
    untrained = copy.deepcopy(policy.model)
    _, rollout, (ids, mask, log_probabilities) = scripted_step(policy, examples, tmp_path)
    prompt_ids, completion_ids, tool_mask = rollout[:3]
    # TRL shuffles the rollouts between scoring and the loss.
    forwarded = {
        tuple(row[kept.bool()].tolist()): found for row, kept, found in zip(ids, mask, log_probabilities, strict=True)
    }
    seen = set()
    for prompt, completion, wrote in zip(prompt_ids, completion_ids, tool_mask, strict=True):
        text = policy.tokenizer.decode(prompt)
        index = next(i for i, e in enumerate(examples) if e.question.split("\n")[0] in text)
        row = sft_row(policy, examples[index], SCRIPT[index])
        assert row["input_ids"][0].tolist() == prompt + completion
        trained = (row["labels"][0] != -100).int().tolist()
        assert trained == [0] * len(prompt) + wrote
        assert 0 < sum(trained) < len(trained)
        # The trainer sees the crops where the plain forward pass does: same tokens, images and positions.
        labels = row.pop("labels")
        with torch.no_grad():
            logits = untrained(**row).logits[0, :-1].log_softmax(-1)
        wanted = logits.gather(-1, labels[0, 1:, None].clamp(min=0))[:, 0][-len(completion) :]
        kept = torch.tensor(wrote, dtype=torch.bool)
        found = forwarded[tuple(prompt + completion)][: len(completion)]
        torch.testing.assert_close(found[kept], wanted[kept], atol=2e-5, rtol=0)
        seen.add(index)
    assert seen == {0, 1, 2}


@both
def test_evaluation_shows_the_model_what_trl_shows_it(family, make, examples, tmp_path):
    policy = make(family)
    shown, _, _ = scripted_step(policy, examples, tmp_path)
    policy.model.generate = evaluated = Script(policy, examples)
    predictions = policies.answer(policy, examples, "zoom", max_new_tokens=64, zoom=ZOOM)
    assert evaluated.shown == shown
    assert sorted(shown) == [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (2, 0)]
    assert [list(prediction.turns) for prediction in predictions] == list(SCRIPT)
    assert [len(shown[0, turn][1]) for turn in range(3)] == [1, 2, 3], "one picture more after each look"


@both
def test_a_refused_call_comes_back_as_text(family, make, examples, tmp_path):
    """Without any crop in the batch TRL fails here, unless the image processor returns tensors."""
    policy = make(family)
    bad = LOOK.replace("[20, 31]", '["left", 31]')
    shown, rollout, _ = scripted_step(policy, examples, tmp_path, script=[[bad, ANSWER]] * 3)
    assert [len(pixels) for _, pixels in shown.values()] == [1] * 6
    for ids, wrote in zip(rollout[1], rollout[2], strict=True):
        said = policy.tokenizer.decode([token for token, own in zip(ids, wrote, strict=True) if not own])
        assert "coordinate must be two integers" in said and "<observation>" in said


def test_the_last_look_says_that_the_answer_is_due(make, examples):
    policy = make("qwen3_vl")
    talk = training.episode(examples[0], policy.view_of(examples[0]), SCRIPT[0], ZOOM)
    assert [message["role"] for message in talk] == [
        "system",
        "user",
        *["assistant", "tool"] * 2,
        "assistant",
    ]
    due = [prompts.ANSWER_IS_DUE in str(message["content"]) for message in talk if message["role"] == "tool"]
    assert due == [False, True]


@pytest.mark.parametrize("turns", [[ANSWER, ANSWER], [LOOK, AGAIN, LOOK, ANSWER]])
def test_an_episode_that_cannot_be_is_refused(turns, make, examples):
    policy = make("qwen3_vl")
    with pytest.raises(ValueError, match="has no look left or calls none"):
        training.episode(examples[0], policy.view_of(examples[0]), turns, ZOOM)


@both
def test_collator_labels_are_trls(family, make, examples):
    policy = make(family)
    talks = [lessons.lesson(seed) for seed in range(8)]
    talks += [training.episode(e, policy.view_of(e), t, ZOOM) for e, t in zip(examples, SCRIPT, strict=True)]
    ours = training.Collator(policy.processor)([{"messages": talk} for talk in talks])
    collate = DataCollatorForVisionLanguageModeling(policy.processor, assistant_only_loss=True)
    theirs = collate([{"messages": talk, "images": []} for talk in talks])
    assert (ours["labels"] != -100).any(dim=1).all() and (ours["labels"] == -100).any()
    for key in ("input_ids", "attention_mask", "labels", "pixel_values", "image_grid_thw"):
        assert torch.equal(ours[key], theirs[key]), key


def test_single_turn_rows_are_the_prompt_and_the_completion(make, examples):
    policy = make("qwen2_5_vl")
    view = policy.view_of(examples[0])
    written = render_single(["Look: red circle (20, 31)."], "B")
    talk = [
        *prompts.conversation(examples[0], view.image, "grounded"),
        {"role": "assistant", "content": written},
    ]
    row = training.Collator(policy.processor)([{"messages": talk}])
    trained = [token for token in row["labels"][0].tolist() if token != -100]
    assert trained == encode(policy, written + END)


# --- the fence around TRL's traps ------------------------------------------------------------------------


def break_nothing(policy, args, examples):
    return examples


def break_padding(policy, args, examples):
    policy.tokenizer.padding_side = "right"
    return examples


def break_masking(policy, args, examples):
    args.mask_truncated_completions = True
    return examples


def break_tensors(policy, args, examples):
    images = policy.processor.image_processor
    policy.processor.image_processor = Qwen2VLImageProcessorPil.from_dict(images.to_dict())
    return examples


def break_tools(policy, args, examples):
    policy.tokenizer.response_template = None
    return examples


def break_template(policy, args, examples):
    template = policy.processor.chat_template
    for marker in ("{%- generation -%}", "{%- endgeneration -%}"):
        assert marker in template
        template = template.replace(marker, "")
    policy.processor.chat_template = template
    return examples


def break_reference(policy, args, examples):
    args.beta = 0.01
    return examples


def break_images(policy, args, examples):
    return [examples[0], dataclasses.replace(examples[1], images=()), *examples[2:]]


def break_number(policy, args, examples):
    args.generation_batch_size = 8
    return examples


def break_file(policy, args, examples):
    return [examples[0], dataclasses.replace(examples[1], images=("nowhere.png",)), *examples[2:]]


TRAPS = {
    break_padding: "padding_side must be 'left'",
    break_masking: "mask_truncated_completions must be False",
    break_tensors: "must return tensors",
    break_tools: "response_template is not set",
    break_template: "chat template is not the kit's",
    break_reference: "beta > 0 reloads the reference from a folder",
    break_images: r"questions \['vstar-twin-train-s7-1'\] have no image",
    break_number: r"there are 3 questions and one batch of rollouts takes 4 \(prompts_per_step x steps_",
    break_file: "vstar-twin-train-s7-1: no such image file",
}


def setup(policy, examples, out_dir, spoil):
    args = GRPOConfig(str(out_dir), num_generations=2, per_device_train_batch_size=2, bf16=False, beta=0.0)
    args.mask_truncated_completions = False
    return args, spoil(policy, args, examples)


@pytest.mark.parametrize("spoil", TRAPS, ids=lambda spoil: spoil.__name__)
def test_check_setup_refuses_every_trap(spoil, make, examples, tmp_path):
    policy = make("qwen2_5_vl")
    args, spoiled = setup(policy, examples, tmp_path, spoil)
    with pytest.raises((ValueError, FileNotFoundError), match=TRAPS[spoil]):
        training.check_setup(policy, args, spoiled)


@both
def test_check_setup_passes_what_is_right(family, make, examples, tmp_path):
    policy = make(family)
    training.check_setup(policy, *setup(policy, examples, tmp_path, break_nothing))


def test_the_trainer_checks_before_it_builds(make, examples, tmp_path):
    policy = make("qwen2_5_vl")
    with pytest.raises(ValueError, match="beta > 0 reloads the reference"):
        training.grpo_trainer(policy, examples, "grounded", grpo(beta=0.01), tmp_path)


def test_grpo_opens_the_pictures_of_one_batch(saved, examples, tmp_path, monkeypatch):
    """All pictures of a training set do not fit into memory."""
    policy, opened = saved("qwen3_vl"), []
    view_of = policy.view_of
    monkeypatch.setattr(policy, "view_of", lambda example: opened.append(example.id) or view_of(example))
    trainer = training.grpo_trainer(policy, examples, "grounded", grpo(max_completion_length=16), tmp_path)
    assert not opened, "nothing is opened before a batch is made"
    row = trainer.train_dataset[2]
    assert opened == [examples[2].id]
    shown = view_of(examples[2]).image
    assert [image.tobytes() for image in row["images"]] == [shown.tobytes()] and row["index"] == 2
    talk = prepare_multimodal_messages(row["prompt"], images=row["images"])
    text, wanted = (
        policy.processor.apply_chat_template(t, tokenize=False)
        for t in (talk, policy.conversation(examples[2], shown, "grounded"))
    )
    assert text == wanted
    opened.clear()
    next(iter(trainer.get_train_dataloader()))
    a_batch = trainer.args.generation_batch_size / trainer.num_generations
    assert 0 < len(opened) <= 2 * a_batch, "and the next one, as loaders do"


def test_rows_are_not_hashed_with_the_model_behind_them(make, examples, monkeypatch):
    """`datasets` pickles a transform to hash it: of a large model that would be all of its weights."""
    policy, pickled = make("qwen3_vl"), []
    monkeypatch.setattr(type(policy.model), "__reduce_ex__", lambda model, _: pickled.append(model) or (str, ()))
    views = Views(policy.view_of, examples)
    rows = [training.grpo_rows(examples, views, "grounded"), training.lazy_rows(lambda k: [views[k].points], range(3))]
    assert [len(copy.deepcopy(made)[:2]["images"]) for made in rows] == [2, 2] and not pickled
    rows[0].with_format(None).with_transform(lambda batch: [views[k] for k in batch["index"]])
    assert pickled, "or nobody would have to keep it out"


# --- the zoom environment and the reward -----------------------------------------------------------------


@pytest.fixture
def environment(make, examples):
    policy = make("qwen3_vl")
    views = [policy.view_of(example) for example in examples]
    made = training.zoom_environment(views, ZOOM)()
    made.reset(index=1, prompt=[], images=[])
    return made, views[1]


def test_the_environment_returns_the_crop_and_counts_looks(environment):
    zoom, view = environment
    first, second = zoom.search_coordinate([20, 31]), zoom.search_coordinate([70, 90])
    assert [block["type"] for block in first] == ["text", "image"]
    assert [block["type"] for block in second] == ["text", "image", "text"]
    assert first[1]["image"].tobytes() == view.crop((20, 31), ZOOM).tobytes()
    assert prompts.ANSWER_IS_DUE in second[2]["text"]
    with pytest.raises(ValueError, match="no looks are left"):
        zoom.search_coordinate([1, 1])
    zoom.reset(index=0)
    assert len(zoom.search_coordinate([20, 31])) == 2, "reset starts a new count"


@pytest.mark.parametrize("coordinate", [[1], [1, 2, 3], ["1", 2], [1.0, 2], [True, 2], [None, 1], []])
def test_the_environment_refuses_what_is_no_point(coordinate, environment):
    zoom, _ = environment
    with pytest.raises(ValueError, match="two integers"):
        zoom.search_coordinate(coordinate)
    assert len(zoom.search_coordinate([20, 31])) == 2, "a refused call is no look"


@pytest.mark.parametrize("coordinate", [[-5, 40], [10**30, -(10**30)], [95, 95]])
def test_a_look_outside_shows_the_nearest_place_inside(coordinate, environment):
    zoom, _ = environment
    assert zoom.search_coordinate(coordinate)[1]["image"].size == (ZOOM.size, ZOOM.size)


def test_only_the_tool_is_public(environment):
    zoom, _ = environment
    assert [name for name in dir(zoom) if not name.startswith("_")] == ["reset", "search_coordinate"]


def test_turns_written_leaves_out_what_the_environment_said():
    crop = "\n<|im_start|>user\n<observation>\nHere\n</observation><|im_end|>\n<|im_start|>assistant\n"
    assert training.turns_written("one" + END) == ["one"]
    assert training.turns_written("one" + END + crop + "two" + END) == ["one", "two"]
    assert training.turns_written("cut off") == ["cut off"]
    assert training.turns_written("one" + END + crop) == ["one", ""]


def reward_of(policy, examples, mode, texts):
    """The reward function's values and logged parts for completions of the first example."""
    views = [policy.view_of(example) for example in examples]
    logged = collections.defaultdict(list)
    found = training.reward_function(policy, examples, views, mode, grpo())(
        completion_ids=[encode(policy, text) for text in texts],
        index=[0] * len(texts),
        log_metric=lambda name, value: logged[name].append(value),
        prompts=[],
    )
    return found, {name: sum(values) / len(values) for name, values in logged.items()}  # as TRL takes their mean


def test_a_truncated_zoom_rollout_counts_for_nothing(make, examples):
    right = render_answer("It is striped blue square.", examples[0].answer)
    found, parts = reward_of(make("qwen3_vl"), examples, "zoom", [right + END, right, "<think> It is"])
    assert found[0] > 0.5 and found[1:] == [None, None]
    assert parts["unfinished"] == pytest.approx(2 / 3) and parts["accuracy"] == 1.0


def test_of_all_truncated_nothing_else_is_logged(make, examples):
    found, parts = reward_of(make("qwen3_vl"), examples, "zoom", ["<think> It"])
    assert found == [None] and parts == {"unfinished": 1.0}


def test_a_truncated_single_turn_is_scored_as_it_stands(make, examples):
    whole = render_single(["Look: red circle (20, 31)."], examples[0].answer)
    found, parts = reward_of(make("qwen3_vl"), examples, "grounded", [whole + END, whole, whole[:-12]])
    assert found == [1.0, 1.0, 0.0] and parts["unfinished"] == 0.0


# --- real steps ------------------------------------------------------------------------------------------


def weights(policy):
    return {name: value.detach().clone() for name, value in policy.model.named_parameters()}


def changed(before, policy):
    return {name for name, value in policy.model.named_parameters() if not torch.equal(value, before[name])}


@pytest.fixture
def lengths_as_reward(monkeypatch):
    """Random rollouts all earn nothing, so nothing would be learnt: pay for their length instead."""

    def score(turns, example, **_):
        return rewards.Reward(len("".join(turns)) % 7 / 7, 0.0, 0.0, 0.0, 0.0, ())

    monkeypatch.setattr(training.rewards, "score", score)


@both
def test_two_steps_of_sft_leave_the_eyes_alone(family, make, tmp_path):
    policy = make(family)
    before = weights(policy)
    rows = training.lazy_rows(lessons.lesson, range(4))
    settings = SFTSettings(max_steps=2, learning_rate=1e-3, batch_size=2, logging_steps=1)
    trainer = training.sft_trainer(policy.model, policy.processor, rows, settings, tmp_path)
    trainer.train()
    assert [row["step"] for row in training.curve(trainer)] == [1, 2]
    touched = changed(before, policy)
    assert any("language_model" in name for name in touched)
    assert not any("visual" in name for name in touched)


@both
@pytest.mark.parametrize("mode", ["grounded", "zoom"])
def test_two_steps_of_grpo_leave_the_eyes_alone(family, mode, saved, examples, tmp_path, capsys, lengths_as_reward):
    policy = saved(family)
    before = weights(policy)
    settings = grpo(max_steps=2, learning_rate=1e-3, max_completion_length=24, beta=0.01)
    progress = training.Progress("GRPO", "reward")
    out = tmp_path / "trainer"
    trainer = training.grpo_trainer(policy, examples, mode, settings, out, zoom=ZOOM, callbacks=[progress])
    trainer.train()
    curve = training.curve(trainer)
    assert [row["step"] for row in curve] == [1, 2]
    assert {"entropy", "kl", "length", "even_groups", "unfinished", "seconds"} <= set(curve[0])
    assert ("looks" in curve[0]) == (mode == "zoom")
    assert all(isinstance(value, int | float) and value == value for row in curve for value in row.values())
    if mode == "grounded":  # in zoom every one of these rollouts is cut off and counts for nothing
        assert any("language_model" in name for name in changed(before, policy))
    assert not any("visual" in name for name in changed(before, policy))
    printed = capsys.readouterr()
    assert "{'loss'" not in printed.out and "2/2" in printed.err


@both
def test_the_reference_sees_as_the_policy_does(family, saved, examples, tmp_path):
    """TRL loads it itself, and transformers takes another attention for the vision tower, with other rounding."""
    policy = saved(family)
    trainer = training.grpo_trainer(policy, examples, "grounded", grpo(beta=0.01, max_completion_length=16), tmp_path)
    towers = [model.model.visual.config._attn_implementation for model in (policy.model, trainer.ref_model)]
    assert towers == [BY_LENGTH, BY_LENGTH]
    row = training.Collator(policy.processor)([{"messages": lessons.lesson(0)}])
    with torch.no_grad():
        assert torch.equal(trainer.ref_model(**row).logits, policy.model.eval()(**row).logits)


# --- adapters, and updates in several passes --------------------------------------------------------------


@both
def test_lora_leaves_plain_weights_behind_that_load_again(family, make, tmp_path):
    start = save_policy(make(family), tmp_path / "start")
    policy, checkpoint = training.load_to_train(start, tmp_path / "trainer")
    before, names = weights(policy), set(policy.model.state_dict())
    settings = SFTSettings(max_steps=2, learning_rate=1e-2, batch_size=2, lora_rank=4, gradient_checkpointing=True)
    rows = training.lazy_rows(lessons.lesson, range(4))
    trainer = training.sft_trainer(policy.model, policy.processor, rows, settings, tmp_path / "trainer")
    trained = [name for name, value in trainer.model.named_parameters() if value.requires_grad]
    assert trained and all("lora_" in name and "visual" not in name for name in trained)
    training.train(trainer, checkpoint)
    training.save_trained(trainer, policy, start, tmp_path / "saved")
    saved = load_policy(tmp_path / "saved")
    assert set(saved.model.state_dict()) == names, "the adapter is part of the weights"
    touched = changed(before, saved)
    assert touched and all("language_model" in name for name in touched)
    row = training.Collator(policy.processor)([{"messages": lessons.lesson(0)}])
    with torch.no_grad():
        found, wanted, untrained = (
            model(**row).logits for model in (saved.model, trainer.model, load_policy(start).model)
        )
    assert (found - wanted).abs().max() < 0.1 < (untrained - wanted).abs().max(), "bf16 is all that was lost"


@both
def test_lora_grpo_goes_on_after_an_interruption(family, make, examples, tmp_path, lengths_as_reward):
    start = save_policy(make(family), tmp_path / "start")

    def run(out_dir, steps):
        policy, checkpoint = training.load_to_train(start, out_dir)
        settings = grpo(
            max_steps=steps, learning_rate=1e-2, max_completion_length=16, beta=0.05, save_steps=1, lora_rank=4
        )
        trainer = training.grpo_trainer(policy, examples * 2, "grounded", settings, out_dir)
        training.train(trainer, checkpoint)
        training.save_trained(trainer, policy, start, out_dir / "model")
        return load_policy(out_dir / "model")

    whole = run(tmp_path / "whole", 2)
    run(tmp_path / "torn", 1)
    resumed = run(tmp_path / "torn", 2)
    assert changed(weights(load_policy(start)), whole)
    for name, value in whole.model.state_dict().items():
        torch.testing.assert_close(resumed.model.state_dict()[name], value, msg=name)
    finished = run(tmp_path / "torn", 2)  # nothing is left to train: the adapter is only put in
    for name, value in whole.model.state_dict().items():
        torch.testing.assert_close(finished.model.state_dict()[name], value, msg=name)


def test_several_passes_make_the_same_update(saved, examples, tmp_path, lengths_as_reward):
    found = []
    for size in (0, 2):
        policy = saved("qwen3_vl")
        settings = grpo(learning_rate=1e-3, max_completion_length=16, beta=0.0, completions_per_pass=size)
        trainer = training.grpo_trainer(policy, examples, "grounded", settings, tmp_path / f"passes-{size}")
        assert trainer.args.gradient_accumulation_steps == settings.passes() == (1, 2)[size > 0]
        assert trainer.args.generation_batch_size == 4
        trainer.train()
        found.append(policy.model.state_dict())
    worst = max((found[0][name] - found[1][name]).abs().max().item() for name in found[0])
    assert worst < 1e-4, "Adam's first step is as large as the learning rate whatever the gradient's size"
    with pytest.raises(ValueError, match="completions_per_pass is 3, which does not divide the 4 completions"):
        grpo(completions_per_pass=3).passes()


def test_a_real_model_s_template_gives_way_to_the_kit_s_for_training(make, tmp_path):
    policy = make("qwen2_5_vl")
    policy.processor.chat_template = "{% for m in messages %}{{ m.role }}{% endfor %}"
    folder = save_policy(policy, tmp_path / "real")
    trained, _ = training.load_to_train(folder, tmp_path / "trainer")
    assert trained.processor.chat_template == kit_template()


def test_the_mean_is_over_tokens_however_a_batch_is_cut(make, tmp_path):
    losses = []
    for size, accumulate in ((4, 1), (1, 4)):
        policy = make("qwen2_5_vl")
        settings = SFTSettings(
            max_steps=1, learning_rate=1e-3, batch_size=size, accumulate=accumulate, logging_steps=1, save_steps=0
        )
        rows = training.lazy_rows(lessons.lesson, range(4))
        trainer = training.sft_trainer(policy.model, policy.processor, rows, settings, tmp_path / f"cut-{size}")
        trainer.train()
        losses.append(training.curve(trainer)[0])
    assert losses[0]["loss"] == pytest.approx(losses[1]["loss"], rel=1e-5)
    assert losses[0]["gradient_norm"] == pytest.approx(losses[1]["gradient_norm"], rel=1e-4)


def test_the_eyes_learn_where_they_are_not_frozen(make, tmp_path):
    policy = make("qwen3_vl")
    before = weights(policy)
    settings = SFTSettings(max_steps=1, learning_rate=1e-3, batch_size=2, freeze_vision=False)
    rows = training.lazy_rows(lessons.lesson, range(2))
    training.sft_trainer(policy.model, policy.processor, rows, settings, tmp_path).train()
    assert any("visual" in name for name in changed(before, policy))


# --- going on after an interruption ----------------------------------------------------------------------


def run_grpo(start, examples, out_dir, steps):
    """At most one pass over the examples: a resumed sampler shuffles as in the first pass again."""
    policy, checkpoint = training.load_to_train(start, out_dir)
    settings = grpo(max_steps=steps, learning_rate=1e-3, max_completion_length=16, beta=0.05, save_steps=1)
    trainer = training.grpo_trainer(policy, examples * 2, "grounded", settings, out_dir)
    training.train(trainer, checkpoint)
    return policy, trainer


@both
def test_an_interrupted_run_ends_like_an_unbroken_one(family, make, examples, tmp_path, lengths_as_reward):
    start = save_policy(make(family), tmp_path / "start")
    unbroken, whole = run_grpo(start, examples, tmp_path / "unbroken", 2)
    run_grpo(start, examples, tmp_path / "broken", 1)
    resumed, trainer = run_grpo(start, examples, tmp_path / "broken", 2)
    assert trainer.state.global_step == 2
    for (name, a), (_, b) in zip(unbroken.model.named_parameters(), resumed.model.named_parameters(), strict=True):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=0, msg=name)
    # The reference of the KL term is still the model that everything started from.
    for (name, a), b in zip(load_policy(start).model.named_parameters(), trainer.ref_model.parameters(), strict=True):
        assert torch.equal(a, b), name
    steps = [(row["step"], row["reward"], row["kl"]) for row in training.curve(trainer)]
    assert steps == [(row["step"], row["reward"], row["kl"]) for row in training.curve(whole)]


@both
def test_a_finished_run_trains_no_further(family, make, examples, tmp_path):
    start = save_policy(make(family), tmp_path / "start")
    first, _ = run_grpo(start, examples, tmp_path / "out", 1)
    again, trainer = run_grpo(start, examples, tmp_path / "out", 1)
    assert trainer.state.global_step == 1 and not changed(weights(first), again)
    assert [row["step"] for row in training.curve(trainer)] == [1]


def test_a_rollout_without_a_reward_is_not_printed(caplog):
    PartialState()
    logger = get_logger("trl.trainer.grpo_trainer")  # TRL's own, which puts the rank before every message
    logger.warning("All reward functions returned None for the following kwargs:\nmodel text")
    logger.warning("something else")
    assert [record.getMessage() for record in caplog.records] == ["[RANK 0] something else"]


def test_lines_leave_out_what_was_not_logged():
    rows = [{"step": 1, "reward": 0.5}, {"step": 2, "reward": 0.75, "kl": 0.1}]
    assert training.lines(rows, "reward", "kl", "looks") == {
        "reward": [{"step": 1, "value": 0.5}, {"step": 2, "value": 0.75}],
        "kl": [{"step": 2, "value": 0.1}],
    }


def test_resume_point_is_the_newest_whole_checkpoint(tmp_path):
    assert training.resume_point(tmp_path / "none") is None
    for step, whole in ((9, True), (10, True), (11, False)):
        folder = tmp_path / f"checkpoint-{step}"
        folder.mkdir()
        if whole:
            (folder / "trainer_state.json").write_text("{}")
    assert training.resume_point(tmp_path).name == "checkpoint-10"


# --- model folders ---------------------------------------------------------------------------------------


@both
def test_what_is_saved_loads_again(family, make, examples, tmp_path):
    policy = make(family)
    loaded = load_policy(save_policy(policy, tmp_path))
    assert loaded.tokenizer.padding_side == "left" and loaded.tokenizer.response_template
    talk = training.episode(examples[0], policy.view_of(examples[0]), SCRIPT[0], ZOOM)
    for key, value in training.Collator(policy.processor)([{"messages": talk}]).items():
        assert torch.equal(value, training.Collator(loaded.processor)([{"messages": talk}])[key]), key
    for (name, a), b in zip(policy.model.named_parameters(), loaded.model.parameters(), strict=True):
        assert torch.equal(a.to(torch.bfloat16), b.to(torch.bfloat16)), name


@both
def test_the_stock_auto_processor_loads_it(family, make, tmp_path):
    pytest.importorskip("torchvision", reason="transformers' AutoProcessor needs torchvision for these families")
    from transformers import AutoProcessor

    policy = make(family)
    stock = AutoProcessor.from_pretrained(save_policy(policy, tmp_path))
    image = Image.new("RGB", (96, 96), "red")
    talk = [{"role": "user", "content": [{"type": "image", "image": image}, {"type": "text", "text": "Look."}]}]
    options = dict(tokenize=True, return_dict=True, return_tensors="pt", add_generation_prompt=True)
    assert torch.equal(
        stock.apply_chat_template(talk, **options)["input_ids"],
        policy.processor.apply_chat_template(talk, **options)["input_ids"],
    )


@pytest.mark.parametrize("missing", ["config.json", "processor_config.json", "tokenizer.json"])
def test_a_folder_without_a_part_is_named(missing, make, tmp_path):
    save_policy(make("qwen3_vl"), tmp_path)
    (tmp_path / missing).unlink()
    for load in (load_processor, load_policy):
        with pytest.raises(FileNotFoundError, match=rf"has no {missing}: save model and processor"):
            load(tmp_path)


def test_a_model_folder_without_a_processor_is_named(make, tmp_path):
    make("qwen3_vl").model.save_pretrained(tmp_path)
    with pytest.raises(FileNotFoundError, match="processor_config.json"):
        load_policy(tmp_path)


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        load_policy(tmp_path / "nowhere")


@pytest.mark.parametrize("point", [(0, 0), (48, 20), (13, 50), (95, 95)])
def test_a_look_shows_what_the_base_learnt_to_read(point):
    picture = world.draw(twins.vstar_item(random.Random(5)).scene)
    view = View(picture, picture.resize((world.VIEW_SIDE, world.VIEW_SIDE)))
    assert view.crop(point, Zoom()).tobytes() == lessons.crop(picture, point).tobytes()
