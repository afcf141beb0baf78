"""The stems and the transformer: published results, sizes, starting values, attention."""

import math

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("mmpose")

from recognizer.openmmlab import load_mmpose  # noqa: E402

load_mmpose()
from mmpose.models.backbones.hrnet import HRNet  # noqa: E402
from torch import nn  # noqa: E402

from recognizer.sdpose.convert import convert_state_dict  # noqa: E402
from recognizer.sdpose.stem import HRNetStem, SDPoseStem  # noqa: E402
from recognizer.sdpose.transformer import Attention, Block, sine_table  # noqa: E402

from .golden import (  # noqa: E402
    GOLDEN,
    VARIANTS,
    B,
    batch,
    build,
    golden_input,
    needs_golden,
    published_weights,
    silence,
    variant,
)


def near(value, reference):
    value, reference = np.asarray(value, np.float64), np.asarray(reference, np.float64)
    return np.abs(value - reference).max() <= 1e-5 * np.abs(reference).max()


@needs_golden
@pytest.mark.parametrize("name", VARIANTS)
def test_every_cycle_gives_what_the_published_network_gives(name):
    model = variant(name).eval()
    model.load_state_dict(convert_state_dict(published_weights(name)), strict=True)
    golden = np.load(GOLDEN / f"sdpose_{name}_keyed_small.npz")
    with torch.no_grad():
        features = model.extract_feat(golden_input())
        outputs = model.head.run_cycles(features, VARIANTS[name]["cycles"])
        inference = model.head(features)
    for cycle, output in enumerate(outputs, 1):
        parts = {
            "heatmap": output.heatmaps,
            "vis_token": output.visual_tokens,
            "kpt_token": output.keypoint_tokens,
        }
        for part, tensor in parts.items():
            key, values = f"cycle{cycle}_{part}", tensor.double().flatten().numpy()
            assert near(values[golden[f"{key}_idx"]], golden[key])
            stat = [values.mean(), values.std(), np.linalg.norm(values)]
            assert near(stat, golden[f"{key}_stat"])
    for i in range(1, len(outputs)):
        student, teacher = outputs[i - 1], outputs[i]
        for part, at in (("vis", 2), ("kpt", 1)):
            mse = (student[at].double() - teacher[at].double()).square().mean()
            assert near(mse, golden[f"mse_{part}_{i}_{i + 1}"])
    assert near(inference, outputs[0].heatmaps)


@pytest.mark.parametrize(("name", "mse"), [("t", 12.5), ("s_v1", 60.6), ("s_v2", 60.4)])
def test_cycles_start_as_far_apart_as_the_published_ones(name, mse):
    """The size of what distillation starts from, which the losses' weights are made for."""
    model = variant(name)
    with torch.no_grad():
        outputs = model.head.run_cycles(model.extract_feat(batch(1)[0]), 2)
    apart = (outputs[0].visual_tokens - outputs[1].visual_tokens).square().mean().item()
    assert apart == pytest.approx(mse, rel=0.01)


def test_the_stem_is_the_published_size_and_starts_as_published():
    with silence():
        torch.manual_seed(0)
        stem = SDPoseStem()
        stem.init_weights()
    assert sum(each.numel() for each in stem.parameters()) == 325_056
    (features,) = stem(torch.zeros(1, 3, 64, 96))
    assert features.shape == (1, 256, 16, 24)
    convolutions = [each for each in stem.modules() if isinstance(each, nn.Conv2d)]
    norms = [each for each in stem.modules() if isinstance(each, nn.BatchNorm2d)]
    assert (len(convolutions), len(norms)) == (15, 15)
    assert all(each.bias is None for each in convolutions)
    weights = torch.cat([each.weight.flatten() for each in convolutions])
    assert weights.std().item() == pytest.approx(0.001, rel=0.01)
    assert all((each.weight == 1).all() and (each.bias == 0).all() for each in norms)


def test_the_head_starts_as_published():
    head = build(depth=2).head
    linears = [each for each in head.modules() if isinstance(each, nn.Linear)]
    weights = [each.weight for each in (*linears, head.transformer.patch_embedding)]
    for weight in (*weights, head.transformer.keypoint_tokens):
        assert weight.std().item() == pytest.approx(0.02, rel=0.05)
    assert all((each.bias == 0).all() for each in linears if each.bias is not None)
    assert (head.transformer.patch_embedding.bias == 0).all()
    norms = [each for each in head.modules() if isinstance(each, nn.LayerNorm)]
    assert len(norms) == 2 * 2 + 2
    assert all((each.weight == 1).all() and (each.bias == 0).all() for each in norms)


def test_hrnet_stem_is_hrnet_without_what_nobody_reads():
    widths = (32, 64, 128, 256)
    stages = {
        f"stage{i}": {
            "num_modules": modules,
            "num_branches": i,
            "num_blocks": (4,) * i,
            "block": "BASIC" if i > 1 else "BOTTLENECK",
            "num_channels": widths[:i],
        }
        for i, modules in enumerate((1, 1, 4, 3), 1)
    }
    whole, stem = HRNet(stages), HRNetStem()
    whole.eval()  # of an mmpose backbone it returns None
    stem.eval()
    taken = stem.state_dict()
    left = whole.load_state_dict(taken, strict=False)
    assert not left.unexpected_keys
    assert all(
        key.startswith(("transition3", "stage4", "stage3.3.fuse_layers"))
        for key in left.missing_keys
    )
    seen = {}
    whole.stage3.register_forward_hook(lambda *call: seen.update(stage3=call[2][0]))
    image = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        whole(image)
        (features,) = stem(image)
    assert features.shape == (1, 32, 16, 24)
    torch.testing.assert_close(features, seen["stage3"])


def test_b_has_the_published_size():
    model = build(**B)
    parameters = sum(each.numel() for each in model.parameters())
    assert parameters == 13_145_984
    assert f"{parameters / 1e6:.2f}" == "13.15"


@pytest.mark.parametrize(("stem", "side"), [(SDPoseStem, 66), (HRNetStem, 72)])
def test_sides_that_do_not_fit_are_refused(stem, side):
    with pytest.raises(ValueError, match=rf"divisible by \d+, got \(1, 3, 64, {side}\)"):
        stem()(torch.zeros(1, 3, 64, side))


def test_sine_table_is_the_formula():
    rows, columns, dims = 3, 5, 12
    table = sine_table(rows, columns, dims)
    assert table.shape == (1, 15, 12)
    for row in range(rows):
        for column in range(columns):
            y = 2 * math.pi * (row + 1) / (rows + 1e-6)
            x = 2 * math.pi * (column + 1) / (columns + 1e-6)
            expected = [
                (math.cos if k % 2 else math.sin)(angle / 10000 ** (2 * (k // 2) / 6))
                for angle in (y, x)
                for k in range(6)
            ]
            np.testing.assert_allclose(table[0, row * columns + column], expected, atol=1e-6)
    with pytest.raises(ValueError, match="divisible by 4, got 10"):
        sine_table(2, 2, 10)


def test_attention_is_softmax_attention():
    torch.manual_seed(0)
    attention = Attention(24, 3)
    x = torch.randn(2, 7, 24)
    query, key, value = (
        part.view(2, 7, 3, 8).transpose(1, 2) for part in attention.qkv(x).split(24, -1)
    )
    weights = (query @ key.transpose(-1, -2) * 8**-0.5).softmax(-1)  # (2, 3, 7, 7)
    expected = attention.projection((weights @ value).transpose(1, 2).reshape(2, 7, 24))
    torch.testing.assert_close(attention(x), expected)


@pytest.mark.parametrize("first", [1, 3, 7])
def test_the_first_tokens_alone_are_those_of_all(first):
    torch.manual_seed(0)
    block = Block(24, 3, 72)
    x = torch.randn(2, 7, 24)
    some = block(x, first)
    assert some.shape == (2, first, 24)
    torch.testing.assert_close(some, block(x)[:, :first])


def test_position_is_fixed_and_not_in_the_checkpoint():
    transformer = build(depth=1).head.transformer
    assert not transformer.table.requires_grad
    assert not any("table" in key for key in transformer.state_dict())
    assert (transformer.table[:, :17] == 0).all()
    torch.testing.assert_close(transformer.table[:, 17:], sine_table(16, 16, 192))
