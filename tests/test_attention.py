"""A vision tower whose windows are attended in one call sees what it sees window by window."""

import pytest
import torch
from torch.nn import functional as F
from transformers import Qwen2_5_VLConfig, Qwen3VLConfig
from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import Qwen2_5_VisionTransformerPretrainedModel as TowerOf25
from transformers.models.qwen3_vl.modeling_qwen3_vl import Qwen3VLVisionModel as TowerOf3

from vigorl_lib.attention import BY_LENGTH, by_length

SHAPE = {
    "depth": 3,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_heads": 4,
    "out_hidden_size": 32,
    "patch_size": 14,
}
TOWERS = {
    "qwen2_5_vl": (TowerOf25, Qwen2_5_VLConfig, {"patch_size": 14, "window_size": 112, "fullatt_block_indexes": [2]}),
    "qwen3_vl": (
        TowerOf3,
        Qwen3VLConfig,
        {"patch_size": 14, "num_position_embeddings": 64, "deepstack_visual_indexes": [0]},
    ),
}


@pytest.mark.parametrize("family", TOWERS)
def test_a_tower_sees_the_same(family, monkeypatch):
    made, config, more = TOWERS[family]
    torch.manual_seed(0)
    tower = made._from_config(config(vision_config=SHAPE | more).vision_config, attn_implementation="sdpa").eval()
    # Pictures of unlike sizes, two of them alike; the first does not fill its last windows.
    grids = torch.tensor([[1, 18, 10], [1, 8, 8], [1, 18, 10], [1, 4, 22]])
    pixels = torch.randn(int(grids.prod(-1).sum()), 3 * 2 * 14 * 14)
    with torch.no_grad():
        one_by_one = tower(pixels, grid_thw=grids).pooler_output
        tower.config._attn_implementation = BY_LENGTH
        calls, sdpa = [], F.scaled_dot_product_attention

        def counted(query, *more, **options):
            calls.append(len(query))
            return sdpa(query, *more, **options)

        monkeypatch.setattr(F, "scaled_dot_product_attention", counted)
        at_once = tower(pixels, grid_thw=grids).pooler_output
    for seen, as_before in zip(at_once, one_by_one, strict=True):
        torch.testing.assert_close(seen, as_before, atol=1e-5, rtol=1e-5)
    pictures = 3  # lengths of whole pictures
    assert len(calls) <= {"qwen2_5_vl": 2 * 8 + pictures, "qwen3_vl": 3 * pictures}[family]
    assert max(calls) >= 2


def test_windows_do_not_see_each_other():
    torch.manual_seed(0)
    query, key, value = torch.randn(3, 1, 2, 10, 4)
    borders = torch.tensor([0, 3, 3, 7, 10])  # an empty window among them
    before, _ = by_length(None, query, key, value, None, scaling=0.5, cu_seq_lens_q=borders)
    assert before.shape == (1, 10, 2, 4)
    value = value.clone()
    value[:, :, 3:7] += 1
    after, _ = by_length(None, query, key, value, None, scaling=0.5, cu_seq_lens_q=borders)
    changed = (after - before).abs().amax((0, 2, 3)) > 0.5
    assert changed.tolist() == [3 <= place < 7 for place in range(10)]
