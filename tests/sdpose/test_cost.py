"""The two ways of counting: every figure of the published table, and mmcv's own counter."""

import json

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("mmpose")

from mmcv.cnn import get_model_complexity_info  # noqa: E402
from torch import nn  # noqa: E402

from recognizer.sdpose.cost import describe, network_cost  # noqa: E402

from .golden import GOLDEN, VARIANTS, B, build, needs_golden, variant  # noqa: E402

SMALL = {"depth": 2, "embed_dims": 48, "num_heads": 4}


@needs_golden
@pytest.mark.parametrize("name", VARIANTS)
def test_every_figure_of_the_published_table(name):
    table = json.loads((GOLDEN / "params_flops.json").read_text())[f"sdpose_{name}"]
    model = variant(name)
    rows = [key for key in table if key.startswith("cycles=")]
    assert rows == ["cycles=1", f"cycles={VARIANTS[name]['cycles']}"]
    for key in rows:
        cost, row = network_cost(model, cycles=int(key[7:])), table[key]
        assert cost.parameters == row["mmcv_params"] == table["params"]["trainable"]
        assert cost.parameters_with_table == table["params"]["all"]
        assert round(cost.macs_with_attention / 1e9, 4) == row["GMACs_with_attention"]
        attention = cost.macs_with_attention - cost.macs_without_attention
        assert round(attention / 1e9, 4) == row["GMACs_by_op"]["aten.bmm"]
        assert round(cost.published_gflops, 4) == row["mmcv_GFLOPs"]
    parts = {
        "stemnet": model.backbone,
        "transformer": model.head.transformer.blocks,
        "mlp_head": model.head.heatmap_head,
        "patch_embed": model.head.transformer.patch_embedding,
    }
    for part, module in parts.items():
        assert sum(each.numel() for each in module.parameters()) == table["params"][part]
    buffers = sum(
        each.numel()
        for key, each in model.state_dict().items()
        if "running" in key or key.endswith("tracked")
    )
    assert buffers == table["params"]["buffers_bn"]


def test_b_has_the_published_gflops():
    cost = network_cost(build(**B))
    assert f"{cost.published_gflops:.1f}" == "5.2"


@pytest.mark.parametrize("settings", [SMALL, {**SMALL, **B}], ids=["stem", "HRNet"])
def test_the_published_way_is_mmcvs(settings):
    model = build(**settings)
    cost = network_cost(model, cycles=2)

    class TwoCycles(nn.Module):
        def __init__(self):
            super().__init__()
            self.model = model

        def forward(self, x):
            return self.model.head.run_cycles(self.model.extract_feat(x), 2)[-1].heatmaps

    flops, parameters = get_model_complexity_info(
        TwoCycles(), (3, 256, 192), print_per_layer_stat=False, as_strings=False
    )
    bias = 16 * 16 * 48  # of the patch embedding: a Linear, and so not counted, where published
    assert round(cost.published_gflops * 1e9) == flops - bias
    assert cost.parameters == parameters


def test_inference_costs_less_than_a_whole_cycle():
    cost = network_cost(variant("s_v1"))
    assert 0.95 < cost.macs_inference / cost.macs_with_attention < 0.97
    assert cost.macs_inference == network_cost(variant("s_v1"), cycles=2).macs_inference


def test_the_network_is_left_as_it_was():
    model = build(**SMALL)
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    model.backbone.conv1.weight.requires_grad = False
    cost = network_cost(model)
    assert model.training
    assert all(torch.equal(tensor, before[key]) for key, tensor in model.state_dict().items())
    assert not any(module._forward_hooks for module in model.modules())
    everything = sum(each.numel() for each in model.parameters())
    assert cost.parameters == everything - model.backbone.conv1.weight.numel()


def test_other_sizes():
    model = build(**SMALL, feature_size=(24, 32))
    assert network_cost(model, (96, 128)).macs_with_attention > 0
    with pytest.raises(ValueError, match="feature map"):
        network_cost(model)
    with pytest.raises(ValueError, match="cycles >= 1, got 0"):
        network_cost(model, cycles=0)


def test_description_gives_both_ways():
    text = describe(network_cost(variant("s_v1")))
    for figure in ("6,620,736", "6,669,888", "2.726 with attention, 2.383 without", "2.404"):
        assert figure in text
    assert "1 cycle:" in text
