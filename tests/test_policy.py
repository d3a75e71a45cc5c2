"""The local policy on a freshly initialised nano model of either family: mechanics, not skill."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import itertools
import json
import random
import weakref

import pytest
import torch
from PIL import Image
from transformers import AutoConfig

from vigorl_lib import policy as policies
from vigorl_lib import processors, prompts, views
from vigorl_lib.benchmarks import registry as benchmarks
from vigorl_lib.evaluation import load_predictions, predict
from vigorl_lib.nano import exam, lessons, model
from vigorl_lib.nano.drawing import png
from vigorl_lib.policy import Completion, LocalPolicy
from vigorl_lib.processors import processor_class
from vigorl_lib.records import Account, Proposal, StepRequest
from vigorl_lib.runs import PACKAGE, start_run
from vigorl_lib.search.mcts import SearchSettings, search
from vigorl_lib.served import ServedPolicy, Sizes
from vigorl_lib.traces import find_points
from vigorl_lib.views import Zoom

CALL = (
    "<think> Look: red circle (10, 20). </think>\n<tool_call>\n"
    '{"name": "search_coordinate", "arguments": {"coordinate": [10, 20]}}\n</tool_call>'
)


@pytest.fixture(scope="module")
def tokenizer():
    return model.train_tokenizer(model.texts([lessons.lesson(seed) for seed in range(60)]))


@pytest.fixture(scope="module", params=["qwen3_vl", "qwen2_5_vl"])
def policy(request, tokenizer) -> LocalPolicy:
    processor = model.build_processor(request.param, tokenizer)
    network = model.build_model(
        request.param, tokenizer, seed=0, hidden=64, layers=1, vision_hidden=32, vision_layers=1
    )
    return LocalPolicy(network, processor, batch_size=4)


@pytest.fixture(scope="module")
def examples():
    return benchmarks.load("sat2", "twin", split="dev", limit=5, seed=0)


def test_equal_images_are_cut_once_and_each_has_its_patches(policy, monkeypatch):
    images = [Image.new("RGB", (56, 84), colour) for colour in ("red", "blue", "red", "red")]
    images[2] = images[2].resize((84, 56))  # as red, but of another shape
    images = [[images[0]], [images[1], images[2]], [images[3]]]
    stock, counted = processors.Qwen2VLImageProcessorPil._preprocess, []

    def count(self, images, *args, **options):
        counted.append(len(images))
        return stock(self, images, *args, **options)

    monkeypatch.setattr(processors.Qwen2VLImageProcessorPil, "_preprocess", count)
    found = policy.processor.image_processor(images=images)
    alone = [policy.processor.image_processor(images=[image]) for row in images for image in row]
    assert counted == [3, 1, 1, 1, 1]
    for key in ("pixel_values", "image_grid_thw"):
        assert torch.equal(found[key], torch.cat([one[key] for one in alone]))


def talks(policy, examples, mode="grounded"):
    return [prompts.conversation(example, policy.view_of(example).image, mode) for example in examples]


def test_views_are_made_when_asked_for_and_only_the_last_are_kept(policy, examples, monkeypatch):
    made = []
    monkeypatch.setattr(policy, "view_of", lambda example: made.append(example.id) or views.View(None, None))
    found = views.Views(policy.view_of, examples, kept=2)
    assert len(found) == 5 and made == []
    for index in (0, 1, 0, 2, 0, 1):
        assert found[index] is not None
    assert made == [examples[index].id for index in (0, 1, 2, 1)]
    with pytest.raises(IndexError):
        found[5]


def test_places_are_written_in_the_view_s_frame(policy, examples):
    (screen,) = benchmarks.load("screenspot", "twin", split="dev", limit=1)
    assert policy.frame_of(screen) == policy.view_of(screen).frame
    assert policy.frame_of(examples[0]) is None, "no place is asked for"


def test_looks_are_what_a_reply_s_turns_were_shown(policy, examples):
    """The last turn's call was made when no look was left, so nothing came back."""
    view, zoom = policy.view_of(examples[0]), Zoom()
    windows, crops = view.looks((CALL, CALL.replace("20", "30"), CALL.replace("20", "40")), zoom)
    assert windows == [view.window(point, zoom) for point in ((10, 20), (10, 30))]
    assert [crop.tobytes() for crop in crops] == [view.crop(point, zoom).tobytes() for point in ((10, 20), (10, 30))]
    assert view.looks(("<think> a </think>\n<answer> b </answer>",), zoom) == ([], [])


def test_numbers_and_marks_are_single_tokens(tokenizer):
    assert len(tokenizer) <= 1000
    assert tokenizer.tokenize("(12, 345).") == ["(", "12", ",Ġ", "34", "5", ")."]
    assert all(len(tokenizer.tokenize(str(number))) == 1 for number in range(100))
    for mark in (*model.SPECIAL, *model.MARKS):
        assert len(tokenizer(mark)["input_ids"]) == 1
    assert tokenizer.decode(tokenizer("<think>\nLook: é <answer>")["input_ids"]) == "<think>\nLook: é <answer>"


def test_greedy_completion_does_not_depend_on_the_batch(policy, examples):
    together = policy.complete(talks(policy, examples), max_new_tokens=8, temperature=0)
    alone = [policy.complete([talk], max_new_tokens=8, temperature=0)[0] for talk in talks(policy, examples)]
    assert together == alone


def test_sampling_follows_the_seed(policy, examples):
    def sample(seed):
        return policy.complete(talks(policy, examples), max_new_tokens=8, temperature=1.0, seed=seed)

    assert sample(1) == sample(1) != sample(2)


def test_sampling_draws_from_the_whole_vocabulary(policy, examples):
    """`generate` on its own keeps to the 50 likeliest tokens."""
    prompts = policy.read(talks(policy, examples[:1])) * 400
    drawn = policy.complete(prompts, max_new_tokens=1, temperature=1e6, seed=0)
    assert len({completion.text for completion in drawn}) > 100


def test_image_tokens_are_never_written(policy, examples):
    pads = {policy.processor.image_token_id, policy.processor.video_token_id}
    with torch.no_grad():
        head = policy.model.lm_head.weight
        saved = head[list(pads)].clone()
        head[list(pads)] = 1e3 * torch.sign(head[list(pads)])
        written = policy.complete(talks(policy, examples), max_new_tokens=8, temperature=1.0, seed=0)
        head[list(pads)] = saved
    assert not any("pad|>" in completion.text for completion in written)


def test_a_prefix_continues_the_message(policy, examples):
    """The prompt with a prefix is the conversation with that message begun, token for token."""
    seen = {}

    def look(**inputs):
        seen["ids"] = inputs["input_ids"][0].tolist()
        return torch.cat([inputs["input_ids"], torch.full((1, 1), policy.tokenizer.eos_token_id)], 1)

    original, policy.model.generate = policy.model.generate, look
    try:
        (done,) = policy.complete(
            talks(policy, examples[:1]), prefixes=["<think>\nLook"], max_new_tokens=4, temperature=0
        )
    finally:
        policy.model.generate = original
    assert done == Completion("", 1, False)
    text = policy.tokenizer.decode(seen["ids"])
    assert text.endswith("<|im_start|>assistant\n<think>\nLook") and text.count("<|im_start|>") == 3


PREFIXES = ["", "<think>\nLook: red circle (10, 20).", "<think>\nLook", "", "<think>\nA (1, 2). B"]


def log_probabilities(policy, monkeypatch):
    """Where every `generate` from now on leaves the log-probabilities of its tokens, one tensor per batch."""
    seen, generate = [], policy.model.generate

    def look(**inputs):
        output = generate(**inputs, output_logits=True, return_dict_in_generate=True)
        seen.append(torch.stack(output.logits, 1).log_softmax(-1))
        return output.sequences

    monkeypatch.setattr(policy.model, "generate", look)
    return seen


@pytest.mark.parametrize("stage", [8, 3])
def test_a_prompt_read_before_changes_nothing(policy, examples, monkeypatch, stage):
    """Prompts and prefixes of different lengths in one batch, and the same prompt twice."""
    monkeypatch.setattr(policies, "STAGE", stage)
    examples, prefixes = [*examples[:3], examples[0]], PREFIXES[:4]
    read = policy.read(talks(policy, examples))
    assert len({len(prompt.tokens) for prompt in read}) > 1
    seen, options = log_probabilities(policy, monkeypatch), {"max_new_tokens": 8, "temperature": 0}
    anew = policy.complete(talks(policy, examples), prefixes=prefixes, **options)
    (expected,) = seen
    for _ in range(2):  # completing leaves what was read as it was
        seen.clear()
        assert policy.complete(read, prefixes=prefixes, **options) == anew
        torch.testing.assert_close(torch.cat(seen, 1), expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("stage", [1, 3])
def test_rows_that_end_leave_the_batch(policy, examples, monkeypatch, stage):
    monkeypatch.setattr(policies, "STAGE", stage)
    lively = LocalPolicy(copy.deepcopy(policy.model), policy.processor)
    with torch.no_grad():  # an untrained model repeats itself
        for parameter in lively.model.parameters():
            parameter.mul_(3)
    options = {"prefixes": PREFIXES, "max_new_tokens": 12, "temperature": 0}
    for stop in "entrlaiou":  # one at which the rows end at more than two lengths, whatever the tokenizer learnt
        whole = lively.complete(talks(lively, examples), stop=stop, **options)
        if len({completion.tokens for completion in whole}) > 2:
            break
    else:
        pytest.fail("no letter makes the rows end at different lengths")
    read = lively.read(talks(lively, examples))
    assert lively.complete(read, stop=stop, **options) == whole


def test_the_search_reads_a_prompt_once(policy, examples, monkeypatch):
    """… as long as there is room: then the least recently used is forgotten."""
    seen, read = [], policy.read

    def look(conversations):
        seen.extend(talk[-1]["content"][-1]["text"] for talk in conversations)
        return read(conversations)

    monkeypatch.setattr(policy, "read", look)

    def reads(order, room):
        seen.clear()
        propose = policies.step_policy(policy, "grounded", max_new_tokens=1, remembered_bytes=room)
        for index in order:
            propose([StepRequest(examples[index], (), False, 0)] * 2)
        return seen[:]

    question = [example.question for example in examples]
    size = max(prompt.layers[0].nbytes for prompt in read(talks(policy, examples)))
    assert reads([0, 1, 0, 1, 2, 0], 3 * size) == question[:3]
    assert reads([0, 1, 0, 2, 0, 1], 2 * size) == [question[index] for index in (0, 1, 2, 1)]
    assert reads([0, 0, 1, 0], 1) == [question[index] for index in (0, 1, 0)]


def test_the_search_reads_a_step_once_and_writes_the_same(policy, examples, monkeypatch):
    """Whether a chain is known step by step or read at once; answers that are due and chains of two examples too."""
    steps = ("Look: red circle (12, 40).", "first right: blue square (50, 42).", "second below: red circle (9, 71).")
    new, read_on = [], policy.read_on

    def look(prompts, tokens):
        new.extend(len(row) for row in tokens)
        return read_on(prompts, tokens)

    monkeypatch.setattr(policy, "read_on", look)

    def requests(length):
        return [StepRequest(example, steps[:length], due, 0) for example in examples[:2] for due in (False, True)]

    growing = policies.step_policy(policy, "grounded", temperature=0, max_new_tokens=6)
    grown = [growing(requests(length)) for length in range(4)]
    each = [len(policy.tokenizer.tokenize(text)) for text in ("<think>\n" + steps[0], " " + steps[1], " " + steps[2])]
    assert new == [each[0]] * 2 + [each[1]] * 2 + [each[2]] * 2
    new.clear()
    assert policies.step_policy(policy, "grounded", temperature=0, max_new_tokens=6)(requests(3)) == grown[3]
    assert new == [sum(each)] * 2


def test_a_message_that_goes_on_is_as_if_read_at_once(policy, examples, monkeypatch):
    talk, options = talks(policy, examples[:1]), {"max_new_tokens": 6, "temperature": 0}
    parts = ["<think>\nLook: red circle (12, 40).", " right: blue square (50, 42)."]
    seen = log_probabilities(policy, monkeypatch)
    policy.complete(talk, prefixes=["".join(parts)], **options)
    (prompt,) = policy.read(talk[:1])
    for part in parts:
        (prompt,) = policy.read_on([prompt], [policy.tokenizer(part, add_special_tokens=False)["input_ids"]])
    policy.complete([prompt], prefixes=[""], **options)
    torch.testing.assert_close(seen[1], seen[0], rtol=0, atol=1e-4)


def test_saved_policies_write_the_same(policy, examples, tmp_path):
    folder = policies.save_policy(policy, tmp_path / "model")
    loaded = policies.load_policy(folder, batch_size=4)
    assert loaded.model.dtype == torch.float32 and type(loaded.model) is type(policy.model)
    with torch.no_grad():  # both at the stored precision
        for parameter in policy.model.parameters():
            parameter.copy_(parameter.to(torch.bfloat16).float())
    prompt = talks(policy, examples)
    assert loaded.complete(prompt, max_new_tokens=8, temperature=0) == policy.complete(
        prompt, max_new_tokens=8, temperature=0
    )


def scripted(policy, monkeypatch, replies):
    """The policy with its next messages written beforehand, one list per turn."""
    script, seen = iter(replies), []

    def complete(conversations, **_):
        seen.append([list(talk) for talk in conversations])
        return [Completion(text, 5, False) for text in next(script)]

    monkeypatch.setattr(policy, "complete", complete)
    return seen


def test_a_zoom_gets_its_crop_and_another_turn(policy, examples, monkeypatch):
    answer = "<think> It is plain. </think>\n<answer> A </answer>"
    seen = scripted(policy, monkeypatch, [[CALL, answer], [CALL], [answer]])
    first, second = policies.answer(policy, examples[:2], "zoom", max_new_tokens=9, zoom=Zoom(looks=2))
    assert first.turns == (CALL, CALL, answer) and second.turns == (answer,)
    assert first.tokens == 15 and first.points == ((10, 20), (10, 20))
    observation = seen[1][0][-1]
    assert observation["role"] == "tool"
    crop = next(block["image"] for block in observation["content"] if block["type"] == "image")
    assert crop.tobytes() == policy.view_of(examples[0]).crop((10, 20), Zoom()).tobytes()
    due = [
        any(prompts.ANSWER_IS_DUE in block.get("text", "") for block in talk[-1]["content"])
        for turn in seen[1:]
        for talk in turn
    ]
    assert due == [False, True]


def test_an_answer_can_begin_with_a_prompt_read_before(policy, examples, monkeypatch):
    own = policies.answer(policy, examples, "grounded", max_new_tokens=12)
    read = policy.read(talks(policy, examples))
    prompts = {example.id: prompt for example, prompt in zip(examples, read, strict=True)}
    monkeypatch.setattr(policy, "conversation", None)
    assert policies.answer(policy, examples, "grounded", max_new_tokens=12, prompts=prompts) == own


def test_the_looks_are_limited(policy, examples, monkeypatch):
    scripted(policy, monkeypatch, [[CALL], [CALL], [CALL]])
    (only,) = policies.answer(policy, examples[:1], "zoom", max_new_tokens=9, zoom=Zoom(looks=2))
    assert only.turns == (CALL, CALL, CALL)


@pytest.mark.parametrize("mode", ["direct", "zoom"])
def test_only_one_batch_of_pictures_is_open(policy, examples, monkeypatch, mode):
    opened, found, view_of = [], [], policy.view_of

    def counted(example):
        view = view_of(example)
        opened.extend((weakref.ref(view.original), weakref.ref(view.image)))
        return view

    def asked(conversations, **_):
        found.append(sum(picture() is not None for picture in opened))
        return [Completion(CALL, 5, False)] * len(conversations)

    monkeypatch.setattr(policy, "batch_size", 2)
    monkeypatch.setattr(policy, "view_of", counted)
    monkeypatch.setattr(policy, "complete", asked)
    policies.answer(policy, examples, mode, max_new_tokens=2, zoom=Zoom(looks=1))
    assert found == [4, 4, 4] * (2 if mode == "zoom" else 1), "two pictures, each in two sizes"


def test_batches_of_pictures_change_no_sample(policy, examples, monkeypatch):
    monkeypatch.setattr(policy, "batch_size", 2)
    sampling = {"max_new_tokens": 8, "temperature": 1.0, "seed": 3}
    replies = policies.answer(policy, examples, "grounded", **sampling)
    assert [reply.turns[0] for reply in replies] == [
        completion.text for completion in policy.complete(talks(policy, examples), **sampling)
    ]


def test_predictions_resume_by_id(policy, examples, tmp_path):
    path = tmp_path / "predictions.jsonl"
    half = predict(policy, examples[:2], "direct", path, max_new_tokens=4, chunk=2)
    size = path.stat().st_size
    everything = predict(policy, examples, "direct", path, max_new_tokens=4, chunk=2)
    assert everything[:2] == half and path.read_bytes()[:size].count(b"\n") == 2
    assert list(load_predictions(path)) == [example.id for example in examples]
    assert {reply.frame for reply in load_predictions(path).values()} == {(96, 96)}
    written = path.read_bytes()
    assert predict(policy, examples, "direct", path, max_new_tokens=4) == everything and path.read_bytes() == written


def test_a_bad_prediction_row_is_named(tmp_path):
    path = tmp_path / "predictions.jsonl"
    path.write_text('{"id": "a", "turns": ["x"], "points": [], "tokens": 1, "truncated": false}\n{"id": "b"}\n')
    with pytest.raises(ValueError, match=r"predictions\.jsonl:2: .*turns|points"):
        load_predictions(path)


@pytest.mark.parametrize(
    "written, due, text, answer, outcome",
    [
        ("Look: red circle (12, 40).", False, "Look: red circle (12, 40).", None, "used"),
        (" right: blue square (50, 42).", False, "right: blue square (50, 42).", None, "used"),
        ("\n</think>\n<answer> blue square </answer>", False, "", "blue square", "used"),
        (" red </answer>", True, "", "red", "used"),
        (" red", True, "", None, "cut"),
        ("</tool_call>", False, "", None, "empty"),
        ("", False, "", None, "empty"),
        ("Look. <think> Look", False, "", None, "two_thoughts"),
        ("It is <answer> red", False, "", None, "answer_in_thought"),
        ("1 < 2", False, "", None, "no_step"),
    ],
)
def test_what_is_written_becomes_a_proposal(examples, written, due, text, answer, outcome):
    request = StepRequest(examples[0], (), due, 0)
    assert policies._proposal(request, Completion(written, 3, False)) == (Proposal(text, answer, 3), outcome)


def test_search_runs_on_a_real_policy(policy, examples):
    account = Account()
    propose = policies.step_policy(policy, "grounded", max_new_tokens=6, account=account)
    settings = SearchSettings(simulations=2, rollout_steps=2, max_depth=3)
    trees = list(
        search(
            examples[:2],
            propose,
            lambda example, text: 0.0,
            settings,
            seed=random.Random(0).getrandbits(8),
            batch_size=8,
            trees_in_flight=2,
        )
    )
    assert sorted(tree.id for tree in trees) == sorted(example.id for example in examples[:2])
    assert all(tree.calls > 0 and tree.tokens > 0 for tree in trees)
    assert account.answered == sum(tree.calls for tree in trees) and account.calls == account.refused == 0
    assert account.completion_tokens == sum(tree.tokens for tree in trees)
    assert sum(account.unusable.values()) >= sum(tree.unanswered for tree in trees) > 0  # six tokens are few


def test_a_picture_that_can_not_be_opened_gives_up_its_tree_alone(policy, examples, tmp_path):
    (tmp_path / "torn.png").write_bytes(b"\x89PNG\r\n")
    broken = dataclasses.replace(examples[0], id="torn", images=(str(tmp_path / "torn.png"),))
    account = Account()
    propose = policies.step_policy(policy, "grounded", max_new_tokens=6, account=account)
    settings = SearchSettings(simulations=1, children=2, rollouts=1, rollout_steps=1)
    sizes = {"seed": 0, "batch_size": 4, "trees_in_flight": 2}
    judge = lambda example, answer: 0.0  # noqa: E731
    found = {result.id: result for result in search([broken, examples[1]], propose, judge, settings, **sizes)}
    refused = found.pop("torn")
    assert "torn.png" in refused.reason and list(found) == [examples[1].id]
    assert account.refused == 2 and account.answered == found[examples[1].id].calls
    (alone,) = search([broken], propose, judge, settings, **sizes)
    assert alone == refused


def test_an_options_loss_is_the_models_own_whatever_shares_its_batch(policy, examples):
    for example, found in zip(examples, policies.option_losses(policy, examples, "direct"), strict=True):
        (talk,) = talks(policy, [example], "direct")
        for option, loss in zip(example.options, found, strict=True):
            text = f"<answer> {option} </answer>"
            inputs = policy._processed([talk], [text])
            labels = inputs["input_ids"].clone()
            labels[:, : -len(policy.tokenizer(text)["input_ids"])] = -100
            assert loss == pytest.approx(policy.model(**inputs, labels=labels).loss.item(), abs=1e-4)


def test_the_options_of_one_batch_keep_their_pictures_open(policy, examples, monkeypatch):
    opened, found, view_of, processed = [], [], policy.view_of, policy._processed

    def counted(example):
        view = view_of(example)
        opened.append(weakref.ref(view.image))
        return view

    def watched(*asked):
        found.append(sum(picture() is not None for picture in opened))
        return processed(*asked)

    monkeypatch.setattr(policy, "view_of", counted)
    monkeypatch.setattr(policy, "_processed", watched)
    policies.option_losses(policy, examples, "direct")
    assert policy.batch_size == 4 and min(len(example.options) for example in examples) == 2
    assert max(found) <= 3 < len(examples) == len(opened), "four options are of three pictures at most"


# Dialects: how a model is asked, and in which frame it answers


def as_real(policy, tmp_path, name="model"):
    """The policy as a folder that says nothing of a dialect, like the real models."""
    folder = policies.save_policy(policy, tmp_path / name)
    config = json.loads((folder / "config.json").read_text())
    assert config.pop("vigorl_dialect") == "nano"
    (folder / "config.json").write_text(json.dumps(config))
    return policies.load_policy(folder, batch_size=4)


def test_in_fp16_the_eyes_stay_in_fp32(policy, examples, tmp_path):
    """As Qwen2.5-VL-3B's do, these go beyond fp16's 65,504 on the way, and come back."""
    loud = LocalPolicy(copy.deepcopy(policy.model), policy.processor)
    up, down = [part for part in loud.model.model.visual.merger.modules() if isinstance(part, torch.nn.Linear)]
    with torch.no_grad():
        up.weight.mul_(up.weight.new_tensor(60_000) / up.weight.abs().max())
        down.weight.mul_(1e-4)
    loaded = policies.load_policy(policies.save_policy(loud, tmp_path), dtype=torch.float16)
    inputs = loaded._processed(talks(loaded, examples[:1]), [""])

    @torch.no_grad()
    def finite():
        with torch.autocast("cpu", torch.float16):
            return bool(loaded.model(**inputs).logits.isfinite().all())

    eyes = loaded.model.model.visual
    assert next(eyes.parameters()).dtype == torch.float32
    assert next(loaded.model.model.language_model.parameters()).dtype == torch.float16
    assert finite()
    del eyes.forward  # the control: the same eyes in fp16
    eyes.half()
    assert not finite()


def test_a_real_model_is_asked_in_its_family_s_dialect(policy, examples, tmp_path):
    real = as_real(policy, tmp_path)
    family = policy.model.config.model_type
    system, user = real.conversation(examples[0], None, "grounded")
    assert (policy.dialect.name, real.dialect.name) == ("nano", family)
    assert system["content"] == prompts.DIALECTS[family].system["grounded"] != prompts.NANO_SYSTEM["grounded"]
    assert ("thousandths" in system["content"]) == (family == "qwen3_vl")
    assert user["content"][1]["text"] == examples[0].question
    again = policies.load_policy(policies.save_policy(real, tmp_path / "again"))
    assert again.dialect == real.dialect, "what is trained from it keeps its dialect"


def searched(folder, **params):
    """A file of trees as notebook 02 leaves it."""
    run = start_run("02_search_traces", out_dir=str(folder), seed=0, params=params)
    run.path("trees.jsonl").write_text("")
    run.finish({}, outputs=["trees.jsonl"])
    return run.path("trees.jsonl")


@pytest.mark.parametrize("name", ["trees.jsonl", "zoom_chains.jsonl"])
def test_what_ships_is_refused_for_another_frame(policy, tmp_path, name):
    file = PACKAGE / "checkpoints" / name
    for nano in ("base", "sft"):
        policies.check_frame(file, PACKAGE / "checkpoints" / nano)
    told = rf"{name}: its points are not in the frame of .*; run 02_search_traces with this model and max_pixels first"
    with pytest.raises(ValueError, match=told) as caught:
        policies.check_frame(file, PACKAGE / "checkpoints/base", max_pixels=4608)
    assert "(max_pixels 9216 against 4608)" in str(caught.value)
    real = as_real(policy, tmp_path)
    wider = real.processor.image_processor.size | {"longest_edge": 200704}
    real.processor.image_processor.size = wider
    folder = policies.save_policy(real, tmp_path / "wider")
    with pytest.raises(ValueError, match="max_pixels 9216 against 200704"):
        policies.check_frame(file, folder)


def test_trees_of_one_s_own_are_compared_with_how_they_were_searched(policy, tmp_path):
    model = policies.save_policy(policy, tmp_path / "model")
    file = searched(tmp_path / "02", model=str(model), max_pixels=4608, server_url="")
    policies.check_frame(file, model, max_pixels=4608)
    with pytest.raises(ValueError, match="max_pixels 4608 against 9216"):
        policies.check_frame(file, model)
    policies.check_frame(searched(tmp_path / "nano", model="", max_pixels=0), model)


def test_thousandths_are_the_same_in_every_size_but_a_server_writes_pixels(policy, tmp_path):
    model = as_real(policy, tmp_path).model.config._name_or_path
    relative = policy.model.config.model_type == "qwen3_vl"
    file = searched(tmp_path / "02", model=model, max_pixels=4608, server_url="")
    served = searched(tmp_path / "served", model=model, max_pixels=0, server_url="http://127.0.0.1:8000/v1")
    with contextlib.nullcontext() if relative else pytest.raises(ValueError, match="max_pixels"):
        policies.check_frame(file, model)
    with (
        pytest.raises(ValueError, match="resized against relative.*without server_url")
        if relative
        else contextlib.nullcontext()
    ):
        policies.check_frame(served, model)


def test_points_of_qwen3_are_thousandths_and_others_pixels_of_the_view(policy, tmp_path):
    real = as_real(policy, tmp_path)
    (screen,) = benchmarks.load("screenspot", "nano", split="dev", limit=1, seed=0)
    view = real.view_of(screen)
    relative = policy.model.config.model_type == "qwen3_vl"
    side = 1000 if relative else view.image.width
    assert (view.frame.width, view.frame.name) == (side, "relative" if relative else "resized")
    assert real.frame_of(screen) == view.frame
    middle = views.grounding.Box(*screen.box, view.original_frame).center()
    x, y = middle.to(view.frame).rounded()
    assert benchmarks.grade("screenspot", f"<answer> ({x}, {y}) </answer>", screen, frame=view.frame).score == 1
    left, top, right, bottom = view.window((x, y), Zoom(offset=84, size=96))
    assert left <= middle.x <= right and top <= middle.y <= bottom and right - left == 168
    assert view.window((10**6, 10**6), Zoom())[2:] == (672, 672)


def test_a_released_checkpoint_brings_its_own_system_prompt(policy, examples, tmp_path):
    released = as_real(policy, tmp_path, "ViGoRL-3b-Spatial")
    assert [message["role"] for message in released.conversation(examples[0], None, "grounded")] == ["user"]
    (reply,) = policies.answer(released, examples[:1], "grounded", max_new_tokens=4)
    assert reply.tokens == 4


def test_a_name_that_is_nowhere_is_refused_in_one_sentence():
    with pytest.raises(
        FileNotFoundError, match=r"Qwen/None: no such folder, and no such model on the hub.*HF_HUB_OFFLINE"
    ):
        policies.load_policy("Qwen/None")


GATED = "You are trying to access a gated repo.\nMake sure to have access to it at the hub."
LOST = "We couldn't connect to the hub, and couldn't find the files in the cache.\nCheck your connection."


@pytest.mark.parametrize("said", [GATED, LOST], ids=["gated", "no network"])
@pytest.mark.parametrize("part", ["config", "processor", "weights"])
def test_what_the_hub_refuses_is_one_sentence(policy, tmp_path, monkeypatch, part, said):
    """Whichever of its files is asked for when the hub says no."""
    folder = as_real(policy, tmp_path).model.config._name_or_path
    asked = []

    def refuse(name, *_, **__):
        asked.append(name)
        raise OSError(said)

    config, made = AutoConfig.from_pretrained, processor_class(policy.model.config.model_type).from_pretrained
    there = {"config": lambda *_, **__: config(folder), "processor": lambda *_, **__: made(folder)}
    there = {name: refuse if name == part else found for name, found in there.items()}
    monkeypatch.setattr(AutoConfig, "from_pretrained", there["config"])
    family = type("Family", (), {"from_pretrained": staticmethod(there["processor"])})
    monkeypatch.setattr(processors, "processor_class", lambda _: family)
    monkeypatch.setattr(policies.AutoModelForImageTextToText, "from_pretrained", refuse)
    with pytest.raises(
        FileNotFoundError, match=r"^Qwen/Some: .*\(.*\); check the name and the network, log in"
    ) as caught:
        policies.load_policy("Qwen/Some")
    assert asked == ["Qwen/Some"] and "\n" not in str(caught.value) and said.splitlines()[0] in str(caught.value)


def test_the_pixels_that_a_model_sees_can_be_bounded(policy, examples, tmp_path):
    folder = policies.save_policy(policy, tmp_path / "model")
    small = policies.load_policy(folder, max_pixels=48 * 48)
    assert small.view_of(examples[0]).image.size == (48, 48)
    assert policies.load_policy(folder).view_of(examples[0]).image.size == (96, 96)


@pytest.mark.parametrize("max_pixels", [None, 48 * 72])
def test_a_teacher_is_shown_what_its_student_sees(policy, examples, tmp_path, max_pixels):
    student = policies.load_policy(policies.save_policy(policy, tmp_path / "model"), max_pixels=max_pixels)
    teacher = ServedPolicy("m", "http://127.0.0.1:9/v1", sizes=Sizes(**student.limits()))
    for example in (examples[0], dataclasses.replace(examples[0], images=(png(Image.new("RGB", (900, 300))),))):
        assert teacher.view_of(example).frame == student.view_of(example).frame
        assert teacher.view_of(example).image.size == student.view_of(example).image.size


def test_the_base_of_details_sees_what_the_other_one_does_not():
    """Things of a twentieth of the picture's side and less (radii 13 to 16 of 672 pixels)."""
    items = exam.exam("point", 60, seed=5, radii=(13, 16))
    right = {}
    for name in ("base", "base_details"):
        policy = policies.load_policy(PACKAGE / "checkpoints" / name)
        said = policy.complete([item.messages for item in items], max_new_tokens=12, temperature=0)
        right[name] = sum(item.right(reply.text) for item, reply in zip(items, said, strict=True)) / len(items)
    assert right["base"] < 0.5 and right["base_details"] > 0.75


def test_the_untaught_base_sees_and_writes_no_points():
    asked = benchmarks.load("sat2", split="dev", limit=30, seed=5)
    items = exam.exam("point", 30, seed=5)
    pointing = {}
    for name, mode in itertools.product(("base", "base_untaught"), ("grounded", "zoom")):
        policy = policies.load_policy(PACKAGE / "checkpoints" / name)
        talks = [policy.conversation(example, policy.view_of(example).image, mode) for example in asked]
        said = policy.complete(talks, max_new_tokens=80, temperature=1, seed=1)
        thoughts = [reply.text.split("<answer>")[0] for reply in said]
        pointing[name, mode] = sum("tool_call" in text or bool(find_points(text)) for text in thoughts)
    said = policy.complete([item.messages for item in items], max_new_tokens=12, temperature=0)
    assert min(pointing["base", mode] for mode in ("grounded", "zoom")) > 25
    assert pointing["base_untaught", "grounded"] == pointing["base_untaught", "zoom"] == 0
    assert sum(item.right(reply.text) for item, reply in zip(items, said, strict=True)) > 25
