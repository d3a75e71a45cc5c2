"""A fused model computes what the model computes, and sees equal pictures once."""

import copy

import pytest
import torch
from torch._dynamo.testing import CompileCounter

from vigorl_lib.attention import see_by_length
from vigorl_lib.benchmarks import registry as benchmarks
from vigorl_lib.fused import fuse, gated, see_once
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
