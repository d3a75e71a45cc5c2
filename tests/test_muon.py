"""Two optimisers behind one face: every weight moves, schedules reach both, and a checkpoint restores both."""

from __future__ import annotations

import copy

import pytest
import torch
from transformers import TrainerCallback

from vigorl_lib import training
from vigorl_lib.nano import lessons
from vigorl_lib.nano.model import build_model, build_processor, texts, train_tokenizer
from vigorl_lib.nano.muon import Muon, MuonAdamW


@pytest.fixture(scope="module")
def made():
    tokenizer = train_tokenizer(texts([lessons.lesson(seed) for seed in range(40)]))
    size = {"hidden": 64, "layers": 1, "vision_hidden": 32, "vision_layers": 1}
    return build_model("qwen3_vl", tokenizer, seed=0, **size), build_processor("qwen3_vl", tokenizer)


@pytest.mark.parametrize("shape", [(24, 40), (40, 24), (32, 32)])
def test_muon_moves_as_torch_s_does_up_to_its_bf16(shape):
    torch.manual_seed(0)
    ours = torch.nn.Parameter(torch.randn(shape))
    theirs = torch.nn.Parameter(ours.detach().clone())
    pair = (
        (ours, Muon([ours], lr=0.01)),
        (theirs, torch.optim.Muon([theirs], lr=0.01, weight_decay=0.0, adjust_lr_fn="match_rms_adamw")),
    )
    begin = ours.detach().clone()
    for _ in range(5):
        gradient = torch.randn(shape)
        for weight, optimiser in pair:
            weight.grad = gradient.clone()
            optimiser.step()
    assert (ours - theirs).norm() < 0.02 * (ours - begin).norm()


def test_every_weight_belongs_to_one_of_the_two(made):
    model, _ = made
    muon, adamw = MuonAdamW(model, learning_rate=1e-3).parts
    shared = [{id(value) for group in part.param_groups for value in group["params"]} for part in (muon, adamw)]
    assert shared[0].isdisjoint(shared[1])
    assert shared[0] | shared[1] == {id(value) for value in model.parameters()}
    assert all(value.ndim == 2 for group in muon.param_groups for value in group["params"])
    assert id(model.get_input_embeddings().weight) in shared[1]


def test_a_schedule_reaches_both_even_after_a_state_is_loaded(made):
    optimiser = MuonAdamW(made[0], learning_rate=1e-3)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: 1 / (1 + step))
    optimiser.load_state_dict(copy.deepcopy(optimiser.state_dict()))
    optimiser.step()
    schedule.step()
    assert [part.param_groups[0]["lr"] for part in optimiser.parts] == [5e-4, 5e-4]


class Stop(TrainerCallback):
    def on_step_end(self, args, state, control, **kwargs):
        control.should_training_stop = state.global_step == 2


def trained(made, out_dir, checkpoint=None, callbacks=()):
    model, processor = copy.deepcopy(made[0]), made[1]
    rows = training.lazy_rows(lessons.lesson, range(8))
    settings = training.SFTSettings(max_steps=4, learning_rate=1e-3, batch_size=2, schedule="linear", save_steps=2)
    optimiser = MuonAdamW(model, learning_rate=1e-3)
    trainer = training.sft_trainer(model, processor, rows, settings, out_dir, optimiser=optimiser, callbacks=callbacks)
    trainer.train(resume_from_checkpoint=checkpoint)
    return model.state_dict()


def test_a_trainer_resumes_with_both(made, tmp_path):
    whole = trained(made, tmp_path / "whole")
    trained(made, tmp_path / "broken", callbacks=[Stop()])
    resumed = trained(made, tmp_path / "broken", checkpoint=str(tmp_path / "broken/checkpoint-2"))
    for name, value in whole.items():
        torch.testing.assert_close(resumed[name], value, msg=name)
    assert not torch.equal(whole["lm_head.weight"], made[0].state_dict()["lm_head.weight"])
