"""What a run will cost: exact where it can be, and held against real steps of a nano model.

Everything here runs on a CPU. What a GPU takes measures bench_gpu.py.
"""

import copy
import dataclasses

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count
from transformers import Qwen2_5_VLConfig, Qwen3VLConfig

from vigorl_lib import prediction, training
from vigorl_lib.benchmarks import registry as benchmarks
from vigorl_lib.lengths import Sample, samples
from vigorl_lib.nano import lessons
from vigorl_lib.nano import model as nano
from vigorl_lib.policy import LocalPolicy, load_policy, save_policy
from vigorl_lib.runs import PACKAGE
from vigorl_lib.training import GRPOSettings, SFTSettings
from vigorl_lib.views import Zoom

FAMILIES = ("qwen2_5_vl", "qwen3_vl")
both = pytest.mark.parametrize("family", FAMILIES)
# A round machine: no figure below depends on it but for seconds.
ROUND = prediction.Device("round", 2**40, 1e12, 1e11, 1e-6)


def qwen2_5_vl(hidden, layers, heads, kv_heads, wide, words, tied):
    """A Qwen2.5-VL config, from `config.json` on the hub (Qwen/Qwen2.5-VL-3B-Instruct, -7B-Instruct)."""
    return Qwen2_5_VLConfig(
        text_config={
            "vocab_size": words,
            "hidden_size": hidden,
            "intermediate_size": wide,
            "num_hidden_layers": layers,
            "num_attention_heads": heads,
            "num_key_value_heads": kv_heads,
            "rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [16, 24, 24]},
        },
        vision_config={
            "depth": 32,
            "hidden_size": 1280,
            "intermediate_size": 3420,
            "num_heads": 16,
            "out_hidden_size": hidden,
            "patch_size": 14,
            "spatial_merge_size": 2,
            "temporal_patch_size": 2,
            "window_size": 112,
            "fullatt_block_indexes": [7, 15, 23, 31],
        },
        tie_word_embeddings=tied,
    )


def qwen3_vl_4b():
    """The config of Qwen/Qwen3-VL-4B-Instruct, from its `config.json` on the hub."""
    return Qwen3VLConfig(
        text_config={
            "vocab_size": 151936,
            "hidden_size": 2560,
            "intermediate_size": 9728,
            "num_hidden_layers": 36,
            "num_attention_heads": 32,
            "num_key_value_heads": 8,
            "head_dim": 128,
            "tie_word_embeddings": True,
            "rope_parameters": {
                "rope_type": "default", "rope_theta": 5e6, "mrope_section": [24, 20, 20], "mrope_interleaved": True,
            },
        },
        vision_config={
            "depth": 24,
            "hidden_size": 1024,
            "intermediate_size": 4096,
            "num_heads": 16,
            "out_hidden_size": 2560,
            "patch_size": 16,
            "num_position_embeddings": 2304,
            "deepstack_visual_indexes": [5, 11, 17],
        },
        tie_word_embeddings=True,
    )  # fmt: skip


QWEN_3B = qwen2_5_vl(2048, 36, 16, 2, 11008, 151936, tied=True)
QWEN_7B = qwen2_5_vl(3584, 28, 28, 4, 18944, 152064, tied=False)


def sft(**changes):
    return dataclasses.replace(SFTSettings(max_steps=2, learning_rate=1e-3, batch_size=4, logging_steps=1), **changes)


def grpo(**changes):
    settings = GRPOSettings(
        max_steps=1, learning_rate=1e-3, prompts_per_step=2, steps_per_generation=2, group_size=2,
        max_completion_length=24, beta=0.0,
    )  # fmt: skip
    return dataclasses.replace(settings, **changes)


@pytest.fixture(scope="module")
def tokenizer():
    return nano.train_tokenizer(nano.texts([lessons.lesson(seed) for seed in range(40)]))


@pytest.fixture
def make(tokenizer):
    def made(family):
        processor = nano.build_processor(family, copy.deepcopy(tokenizer))
        return LocalPolicy(nano.build_model(family, processor.tokenizer, seed=0), processor)

    return made


# --- what is known beforehand -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "published"),
    # The hub's own count of each model's safetensors.
    [(QWEN_3B, 3_754_622_976), (QWEN_7B, 8_292_166_656), (qwen3_vl_4b(), 4_437_815_808)],
    ids=["Qwen2.5-VL-3B", "Qwen2.5-VL-7B", "Qwen3-VL-4B"],
)
def test_a_real_model_has_its_published_number_of_parameters(config, published):
    model = prediction.build(config, sft(), torch.bfloat16)
    assert sum(parameter.numel() for parameter in model.parameters()) == published
    assert prediction.weight_bytes(model) == 2 * published
    if config is QWEN_7B:
        assert sum(parameter.numel() for parameter in prediction._trained(model)) == 7_615_616_512, "without the eyes"


def test_four_bits_leave_embeddings_and_head_as_they_are():
    model = prediction.build(QWEN_3B, sft(lora_rank=16), torch.float16)
    saved = prediction.weight_bytes(model) - prediction.weight_bytes(model, load_in_4bit=True)
    linear = 3_085_938_688 - 151936 * 2048  # all but the eyes and the embeddings, and a few norms and biases
    assert saved == pytest.approx((2 - prediction.NF4) * linear, rel=2e-3)
    with pytest.raises(ValueError, match="four bits can not learn; set lora_rank"):
        prediction.predict(QWEN_3B, sft(load_in_4bit=True), Sample(10), ROUND)


# --- a real step ------------------------------------------------------------------------------------------


def addmm_flop(_sum, left, right, *_, **__):
    return 2 * left[0] * left[1] * right[1]


def attention_flop(query, key, value, *_, **__):
    return sdpa_flop_count(query, key, value)


def attention_backward_flop(gradient, query, key, value, *_, **__):
    return sdpa_backward_flop_count(gradient, query, key, value)


ON_CPU = {  # what torch's counter leaves out on a CPU
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: attention_flop,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: attention_backward_flop,
    torch.ops.aten.addmm_: addmm_flop,
}


def one_real_step(policy, settings, out_dir, seeds=range(4)):
    """What a step of TRL's trainer did: bytes autograd kept, bytes alive at the peak, arithmetic; and the trainer."""
    rows = training.lazy_rows(lessons.lesson, list(seeds) * settings.accumulate * settings.max_steps)
    trainer = training.sft_trainer(policy.model, policy.processor, rows, settings, out_dir)
    compute, found = trainer.compute_loss, {}

    def watched(model, *args, **options):
        with prediction._kept(model) as kept:
            loss = compute(model, *args, **options)
        found["kept"] = sum(kept.values())
        return loss

    step = trainer.training_step

    def metered(*args):
        with prediction._Meter(ROUND) as meter, FlopCounterMode(display=False, custom_mapping=ON_CPU) as counter:
            loss = step(*args)
        found["peak"], found["flops"] = meter.peak, counter.get_total_flops()
        return loss

    trainer.compute_loss, trainer.training_step = watched, metered
    trainer.train()
    return found, trainer


def batch_of(policy, seeds=range(4)):
    """The batch's shape as the prediction takes it: four rows as long as the longest."""
    batch = training.Collator(policy.processor)([{"messages": lessons.lesson(seed)} for seed in seeds])
    images = batch["image_grid_thw"].prod(-1) // nano.MERGE**2
    each = images.sum().item() // len(batch["input_ids"])
    return Sample(batch["input_ids"].shape[1] - each, (each,))


CASES = {
    "full": {},
    "checkpointing": {"gradient_checkpointing": True},
    "lora": {"lora_rank": 8},
    "lora_checkpointing": {"lora_rank": 8, "gradient_checkpointing": True},
    "eyes_learn": {"freeze_vision": False},
}


@both
@pytest.mark.parametrize("case", CASES)
def test_a_real_step_keeps_what_was_predicted(family, case, make, tmp_path):
    policy, settings = make(family), sft(max_steps=1, **CASES[case])
    shape = batch_of(policy)
    cost = prediction.predict(policy.model.config, settings, shape, ROUND, dtype=torch.float32)
    found, trainer = one_real_step(policy, settings, tmp_path)
    trained = [parameter for parameter in trainer.model.parameters() if parameter.requires_grad]
    assert cost.trained == sum(parameter.numel() for parameter in trained)
    assert cost.weights == sum(parameter.nbytes for parameter in trainer.model.parameters())
    assert cost.gradients == sum(parameter.nbytes for parameter in trained)
    moments = [value for state in trainer.optimizer.state.values() for value in state.values()]
    assert cost.optimiser == sum(value.nbytes for value in moments)
    print(f"{family} {case}: kept {cost.activations / found['kept']:.3f}", end=" ")
    peak = cost.gradients + cost.activations + cost.working
    print(f"peak {peak / found['peak']:.3f} flops {cost.flops / found['flops']:.3f}")
    assert cost.activations == pytest.approx(found["kept"], rel=0.12)
    # On a CPU the head's tiles are worked on by several operations, on a GPU by one.
    assert 0.7 < peak / found["peak"] < 1.1
    assert cost.flops == pytest.approx(found["flops"], rel=0.1)


@both
def test_the_cache_holds_what_a_real_cache_holds(family, make):
    policy = make(family)
    (example,) = benchmarks.load("sat2", split="dev", limit=1, seed=0)
    (prompt,) = samples(policy, [example], "grounded")
    settings = grpo()
    cost = prediction.predict(policy.model.config, settings, prompt, ROUND, dtype=torch.float32)
    (read,) = policy.read([policy.conversation(example, policy.view_of(example).image, "grounded")])
    a_token = sum(part.nbytes for part in read.layers) / (len(read.tokens) - 1)
    rollouts = settings.prompts_per_step * settings.group_size * settings.steps_per_generation
    assert cost.cache == rollouts * a_token * (prompt.tokens + settings.max_completion_length)


def test_grpo_pays_for_a_reference_only_where_there_is_one(make, tmp_path):
    config = make("qwen3_vl").model.config
    found = {
        (beta, rank): prediction.predict(config, grpo(beta=beta, lora_rank=rank), Sample(30, (16,)), ROUND)
        for beta in (0.0, 0.01)
        for rank in (0, 4)
    }
    assert found[0.01, 0].reference == found[0.01, 0].weights
    assert {found[0.0, 0].reference, found[0.0, 4].reference, found[0.01, 4].reference} == {0}
    assert found[0.01, 0].flops > found[0.0, 0].flops, "one more forward pass"


def test_a_server_that_samples_takes_neither_memory_nor_time_here(make):
    config, sample = make("qwen2_5_vl").model.config, Sample(60, (16,))
    settings = grpo(steps_per_generation=1, group_size=16, completions_per_pass=1, max_completion_length=400)
    here = prediction.predict(config, settings, sample, ROUND)
    served = prediction.predict(config, dataclasses.replace(settings, vllm_url="http://vllm:8000"), sample, ROUND)
    assert served.cache == served.generating == served.generation_s == 0 < here.generation_s
    assert served.memory < here.memory
    assert served.passes_s > here.passes_s, "the trainer scores what the server wrote once more"


def test_eyes_that_stay_in_fp32_are_counted_so(make):
    model = make("qwen2_5_vl").model
    cost = prediction.predict(model.config, sft(lora_rank=4), Sample(30, (16,)), ROUND, dtype=torch.float16)
    eyes = sum(parameter.numel() for parameter in model.model.visual.parameters())
    others = cost.parameters - cost.trained - eyes
    assert cost.weights == 4 * eyes + 4 * cost.trained + 2 * others


def test_a_picture_is_seen_once_for_its_group(make):
    config, shape = make("qwen2_5_vl").model.config, Sample(30, (64,))

    def flops(group, **how):
        return prediction.predict(config, grpo(group_size=group, steps_per_generation=1), shape, ROUND, **how).flops

    # Two rollouts more of the same two prompts: in bf16, where models are fused, without the eyes' work.
    eyes = flops(3, dtype=torch.float32) - flops(2, dtype=torch.float32) - (flops(3) - flops(2))
    assert flops(2) < flops(2, dtype=torch.float32) and eyes > 0.2 * (flops(3) - flops(2))


def test_what_makes_a_run_larger_makes_the_prediction_larger(make):
    config, sample = make("qwen2_5_vl").model.config, Sample(60, (16,))

    def cost(settings, shape=sample, **how):
        return prediction.predict(config, settings, shape, ROUND, dtype=torch.float32, **how)

    base = cost(grpo())
    assert cost(grpo(), Sample(60, (64,))).memory > base.memory
    assert cost(grpo(max_completion_length=48)).memory > base.memory
    assert cost(grpo(group_size=4)).cache == 2 * base.cache
    half = cost(grpo(completions_per_pass=2))
    assert half.activations == pytest.approx(base.activations / 2, rel=0.1)
    looked = cost(grpo(), zoom=Zoom(size=96, looks=1))
    assert looked.generation_s > base.generation_s and looked.cache == base.cache
    assert cost(grpo(), shards=2).weights == base.weights // 2
    no_generation = cost(sft())
    assert no_generation.generation_s == no_generation.cache == 0


def test_several_passes_take_the_memory_of_one(make, tmp_path):
    policy, settings = make("qwen2_5_vl"), sft(max_steps=1, accumulate=2)
    shape = batch_of(policy)
    cost = prediction.predict(policy.model.config, settings, shape, ROUND, dtype=torch.float32)
    once = prediction.predict(policy.model.config, sft(), shape, ROUND, dtype=torch.float32)
    found, _ = one_real_step(policy, settings, tmp_path)
    assert cost.activations == once.activations and cost.flops == pytest.approx(2 * once.flops)
    # The second pass is metered alone: what the first left, the gradients, was alive before.
    assert cost.activations + cost.working == pytest.approx(found["peak"], rel=0.3)


# --- what a person reads ----------------------------------------------------------------------------------


def test_the_table_adds_up_and_the_advice_is_true(make):
    config, sample = make("qwen2_5_vl").model.config, Sample(100, (1024,))
    settings = sft(batch_size=2)
    cost = prediction.predict(config, settings, sample, ROUND, dtype=torch.float32)
    assert cost.memory == sum(
        vars(cost)[part] for part in ("weights", "gradients", "optimiser", "activations", "working")
    )
    text = prediction.table(cost, ROUND)
    assert f"{cost.parameters:,} parameters" in text and f"{cost.memory / 2**30:9.2f} GiB" in text
    assert prediction.advice(cost, config, settings, sample, ROUND, dtype=torch.float32).startswith("fits: ")

    small = dataclasses.replace(ROUND, memory=round(0.7 * cost.memory))
    said = prediction.advice(cost, config, settings, sample, small, dtype=torch.float32)
    assert said.startswith("does not fit (") and "gradient_checkpointing: true" in said
    pixels = int(said.rpartition("max_pixels: ")[2])
    side = nano.PATCH * nano.MERGE
    for tokens, fits in ((pixels // side**2, True), (1.1 * pixels // side**2, False)):
        shorter = Sample(100, (int(tokens),))
        assert prediction.predict(config, settings, shorter, small, dtype=torch.float32).fits(small) is fits

    tiny = dataclasses.replace(ROUND, memory=cost.weights)
    said = prediction.advice(cost, config, settings, sample, tiny, dtype=torch.float32)
    assert "whatever is set: share the model" in said


def test_a_real_model_is_predicted_without_its_weights():
    """The paper's 3B run on an 80 GB card, and on a T4 with four bits. Figures of a GPU are not measured."""
    card = prediction.Device("80 GB", 80 * 10**9, 700e12, 2.5e12, 1e-5)
    settings = GRPOSettings(
        max_steps=500, learning_rate=1e-6, prompts_per_step=2, group_size=5, completions_per_pass=2,
        steps_per_generation=1, gradient_checkpointing=True,
    )  # fmt: skip
    cost = prediction.predict(QWEN_3B, settings, Sample(460, (3636,)), card)  # the prompt of 4,096 tokens (Tab. A2)
    learns = 3_754_622_976 - 668_684_288  # the vision tower is frozen
    assert cost.trained == learns and cost.gradients == 4 * learns, "what learns is fp32"
    assert cost.weights == cost.reference == 4 * 3_754_622_976
    # Keys and values: 36 layers, 2 heads of 128, 2 bytes each.
    assert cost.cache == 10 * (4096 + 2048) * 36 * 2 * 2 * 128 * 2
    assert cost.flops > 10 * 6144 * 8 * learns, "forward, again for checkpointing, backward"
    assert cost.generation_s > 2048 * 2 * learns / card.bandwidth, "every step reads all weights"


def test_this_machine_can_be_measured():
    device = prediction.measured_device(torch.float32)
    assert device.memory > 2**30 and device.flops > 1e9 and device.bandwidth > 1e8 and 0 < device.launch < 1e-2


def test_a_folder_will_do(make, tmp_path):
    folder = save_policy(make("qwen3_vl"), tmp_path)
    known = load_policy(folder).model
    cost = prediction.predict(folder, sft(), Sample(50, (16,)), ROUND, dtype=torch.float32)
    assert cost.parameters == sum(parameter.numel() for parameter in known.parameters())
    with pytest.raises(OSError):
        prediction.predict(tmp_path / "none", sft(), Sample(50), ROUND)


def test_a_notebook_is_told_before_it_trains(monkeypatch):
    policy = load_policy(PACKAGE / "checkpoints/base")  # its config names an attention that no constructor knows
    examples = benchmarks.load("sat2", split="dev", limit=3, seed=0)
    replies = [["Look: red circle (20, 31)."], ["Look. " * 50], ["Look."]]
    said = prediction.forecast(policy, examples, "grounded", sft(freeze_vision=True), replies)
    longest = max(samples(policy, examples, "grounded", replies), key=lambda sample: sample.tokens)
    settings, how = sft(freeze_vision=True), {"dtype": torch.float32}
    cost = prediction.predict(policy.model.config, settings, longest, ROUND, **how)
    assert f"at the peak  {cost.memory / prediction.GIB:9.2f} GiB" in said
    assert said.splitlines()[-1].startswith("fits: ")
    # Two cards: each has half of the rows, and with FSDP half of the weights.
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    whole = prediction.predict(policy.model.config, dataclasses.replace(settings, batch_size=2), longest, ROUND, **how)
    for launcher, weights in (("torchrun", whole.weights), ("accelerate --config_file fsdp2.yaml", whole.weights // 2)):
        shared = prediction.forecast(policy, examples, "grounded", settings, replies, launcher=launcher)
        assert f"weights      {weights / prediction.GIB:9.2f} GiB" in shared
        assert f"activations  {whole.activations / prediction.GIB:9.2f} GiB" in shared
    shared = prediction._of_one(grpo(prompts_per_step=4, completions_per_pass=4), 2)
    assert (shared.prompts_per_step * shared.group_size, shared.completions_per_pass, shared.passes()) == (4, 2, 2)


def test_more_cards_than_questions_share_the_completions(monkeypatch):
    """As TRL does: a question's group may lie on several cards."""
    policy = load_policy(PACKAGE / "checkpoints/base")
    examples = benchmarks.load("sat2", split="dev", limit=2, seed=0)
    settings, cards = grpo(prompts_per_step=2, group_size=6, freeze_vision=True), 4
    monkeypatch.setattr(torch.cuda, "device_count", lambda: cards)
    longest = max(samples(policy, examples, "grounded"), key=lambda sample: sample.tokens)
    one = dataclasses.replace(settings, prompts_per_step=3, group_size=1)
    cost = prediction.predict(policy.model.config, one, longest, ROUND, dtype=torch.float32)

    def said(launcher, settings=settings):
        return prediction.forecast(policy, examples, "grounded", settings, launcher=launcher)

    for launcher in ("torchrun --nproc_per_node 4", "accelerate launch --num_processes=4", "torchrun"):
        assert f"activations  {cost.activations / prediction.GIB:9.2f} GiB" in said(launcher)
    cards = 8
    with pytest.raises(
        ValueError, match="completions that go at once is 12, which 8 processes .* take a multiple of 8"
    ):
        said("torchrun --nproc_per_node 8")
    assert f"activations  {cost.activations / prediction.GIB:9.2f} GiB" in said("torchrun --nproc-per-node 4"), (
        "four idle"
    )


def test_the_advice_is_about_the_batch_of_all_cards(make):
    config, sample = make("qwen2_5_vl").model.config, Sample(100, (256,))
    settings, how = sft(batch_size=8), {"dtype": torch.float32}
    cost = prediction.predict(config, settings, sample, ROUND, **how)
    small = dataclasses.replace(ROUND, memory=round(0.7 * cost.memory))
    said = prediction.advice(cost, config, settings, sample, small, cards=4, **how)
    assert "batch_size: 4" in said, "one row for each"


@pytest.fixture
def small_card(monkeypatch):
    """A GPU of one MiB; what does not ask for it stays on the CPU."""
    monkeypatch.setattr(prediction, "measured_device", lambda dtype: prediction.Device("T0", 2**20, 1e12, 1e11, 1e-6))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: False)


def test_a_run_that_does_not_fit_a_gpu_ends_before_it_begins(make, small_card, monkeypatch):
    policy, examples = make("qwen3_vl"), benchmarks.load("sat2", split="dev", limit=2, seed=0)

    def said(launcher=""):
        return prediction.forecast(policy, examples, "grounded", grpo(precision="fp32"), launcher=launcher)

    for launcher in ("", "torchrun --nproc_per_node 1", "/opt/bin/accelerate launch --num_processes 1"):
        with pytest.raises(MemoryError, match=r"^T0: the run does not fit \(.* of 0.0 GiB\)[:,] .*") as caught:
            said(launcher)
        assert "\n" not in str(caught.value)
    assert "does not fit" in said("sbatch --wait params/launch/slurm.sh"), "other machines' cards may be larger"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert "does not fit" in said(), "a CPU has a disk to swap to"


def test_fewer_rollouts_at_a_time_are_advised_where_they_help(make):
    config, sample = make("qwen2_5_vl").model.config, Sample(60, (16,))
    settings = grpo(steps_per_generation=8, completions_per_pass=1, max_completion_length=400, lora_rank=4)
    how = {"dtype": torch.float32}
    cost = prediction.predict(config, settings, sample, ROUND, **how)
    assert cost.cache + cost.generating > cost.gradients + cost.activations + cost.working
    small = dataclasses.replace(ROUND, memory=round(0.9 * cost.memory))
    assert "steps_per_generation: 1" in prediction.advice(cost, config, settings, sample, small, **how)
