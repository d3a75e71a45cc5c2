"""A fused model computes what the model computes, and sees equal pictures once."""

import copy

import pytest
import torch
from torch._dynamo.testing import CompileCounter

from vigorl_lib import fused
from vigorl_lib.attention import see_by_length
from vigorl_lib.benchmarks import registry as benchmarks
from vigorl_lib.fused import fuse, gated, see_once
from vigorl_lib.learning import adapter, freeze_vision
from vigorl_lib.nano import lessons
from vigorl_lib.nano import model as nano
from vigorl_lib.policy import LocalPolicy

both = pytest.mark.parametrize("family", ("qwen2_5_vl", "qwen3_vl"))


@pytest.fixture(scope="module")
def tokenizer():
    return nano.train_tokenizer(nano.texts([lessons.lesson(seed) for seed in range(40)]))


@pytest.fixture
def policy(family, tokenizer):
    processor = nano.build_processor(family, copy.deepcopy(tokenizer))
    policy = LocalPolicy(nano.build_model(family, processor.tokenizer, seed=0), processor)
    see_by_length(policy.model)
    return policy


def batch_of(policy, count=2, each=3):
    """`each` equal rows about each of `count` pictures, in turns."""
    examples = benchmarks.load("sat2", split="dev", limit=count, seed=0) * each
    talks = [policy.conversation(e, policy.view_of(e).image, "grounded") for e in examples]
    return policy.processor.apply_chat_template(
        talks, tokenize=True, return_dict=True, return_tensors="pt", processor_kwargs={"padding": True}
    )


def gradients(policy, batch):
    """The logits, and of each parameter the gradient of their sum of squares."""
    policy.model.zero_grad()
    logits = policy.model(**batch).logits.float()
    logits.square().mean().backward()
    return logits.detach(), {n: p.grad.float() for n, p in policy.model.named_parameters() if p.grad is not None}


@both
def test_a_fused_model_is_the_same_function(policy):
    batch = batch_of(policy)
    logits, pull = gradients(policy, batch)
    fuse(policy.model, gated)
    fused, fused_pull = gradients(policy, batch)
    torch.testing.assert_close(fused, logits, atol=1e-4, rtol=1e-4)
    assert fused_pull.keys() == pull.keys()
    for name, gradient in pull.items():
        torch.testing.assert_close(fused_pull[name], gradient, atol=1e-5, rtol=1e-3, msg=name)


@both
def test_the_stream_is_bf16_where_weights_in_fp32_learn(policy):
    batch, layers = batch_of(policy), policy.model.model.language_model.layers
    exact, _ = gradients(policy, batch)
    fuse(policy.model, gated)
    seen = []
    layers[-1].register_forward_hook(lambda module, given, out: seen.append(out.dtype))
    with torch.autocast("cpu", torch.bfloat16):
        logits, pull = gradients(policy, batch)
    assert seen == [torch.bfloat16]
    assert {p.dtype for p in policy.model.parameters()} == {torch.float32} and pull
    assert (logits - exact).norm() < 0.03 * exact.norm()


def test_norms_stand_outside_of_autocast(tokenizer, monkeypatch):
    """From torch 2.12 on a GPU's autocast would compute them, and keep what they get, in fp32."""
    processor = nano.build_processor("qwen3_vl", copy.deepcopy(tokenizer))
    model, seen = nano.build_model("qwen3_vl", processor.tokenizer, seed=0), set()
    fuse(model, gated)

    def watched(hidden, *rest, norm=torch.nn.functional.rms_norm):
        seen.add((hidden.dtype, rest[1].dtype, torch.is_autocast_enabled("cpu")))
        return norm(hidden, *rest)

    monkeypatch.setattr(fused.F, "rms_norm", watched)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        model(input_ids=torch.tensor([[5, 6, 7]]))
    assert seen == {(torch.bfloat16, torch.bfloat16, False)}


@both
def test_an_adapter_learns_alike_where_activations_are_made_again(family, tokenizer):
    """PEFT wraps what was fused, and checkpointing runs the compiled kernel a second time."""

    def learned(change):
        processor = nano.build_processor(family, copy.deepcopy(tokenizer))
        policy = LocalPolicy(nano.build_model(family, processor.tokenizer, seed=0), processor)
        see_by_length(policy.model)
        freeze_vision(policy.model)
        change(policy.model)
        policy.model.add_adapter(adapter(4))
        policy.model.gradient_checkpointing_enable({"use_reentrant": False})
        policy.model.enable_input_require_grads()
        policy.model.train()
        for name, weight in policy.model.named_parameters():
            if "lora_" in name:
                torch.nn.init.constant_(weight, 0.02)
        return gradients(policy, batch_of(policy))

    compiled = torch.compile(gated, dynamic=True, backend="aot_eager")
    logits, pull = learned(lambda model: None)
    again, fused_pull = learned(lambda model: fuse(model, compiled))
    torch.testing.assert_close(again, logits, atol=1e-4, rtol=1e-4)
    assert fused_pull.keys() == pull.keys() and pull
    for name, gradient in pull.items():
        torch.testing.assert_close(fused_pull[name], gradient, atol=1e-5, rtol=1e-3, msg=name)


@both
def test_equal_pictures_are_seen_once(policy):
    batch, tower = batch_of(policy, count=2, each=3), policy.model.model.visual
    counted = []
    tower.patch_embed.register_forward_hook(lambda module, given, out: counted.append(len(given[0])))
    with torch.no_grad():
        each = policy.model(**batch).logits
        see_once(policy.model)
        once = policy.model(**batch).logits
    assert counted[0] == 3 * counted[1]
    torch.testing.assert_close(once, each, atol=1e-4, rtol=1e-4)


def test_a_model_is_fused_once(tokenizer):
    processor = nano.build_processor("qwen3_vl", copy.deepcopy(tokenizer))
    model = nano.build_model("qwen3_vl", processor.tokenizer, seed=0)
    fuse(model, gated)
    forward = model.model.visual.forward
    fuse(model, gated)
    assert model.model.visual.forward is forward and len(model.get_input_embeddings()._forward_hooks) == 1


@both
def test_few_kernels_do_for_all_shapes(policy):
    """Training and reading, several rows and one, a prompt and a token: torch gives up after eight."""
    counter = CompileCounter()
    fuse(policy.model, torch.compile(gated, dynamic=True, backend=counter))
    for count, each in ((2, 3), (1, 1), (3, 1)):
        batch = batch_of(policy, count, each)
        gradients(policy, batch)
        with torch.no_grad():
            policy.model.generate(**batch, max_new_tokens=3, do_sample=False)
    assert 1 <= counter.frame_count <= 6


@pytest.mark.parametrize("lacks", ["triton", "compiler", "headers"])
def test_without_what_compiles_the_unit_is_computed_as_it_stands(lacks, monkeypatch, tmp_path):
    (tmp_path / "Python.h").touch()
    monkeypatch.setattr(fused.importlib.util, "find_spec", lambda name: None if lacks == "triton" else name)
    monkeypatch.setattr(fused.shutil, "which", lambda name: None if lacks == "compiler" else name)
    place = tmp_path / "none" if lacks == "headers" else tmp_path
    monkeypatch.setattr(fused.sysconfig, "get_path", lambda name: str(place))
    monkeypatch.delenv("CC", raising=False)
    with pytest.warns(UserWarning, match="torch.compile needs triton, a C compiler and Python's headers"):
        assert fused._gate() is gated
    monkeypatch.undo()
    monkeypatch.setattr(fused, "can_compile", lambda: True)
    assert fused._gate() is fused.compiled
