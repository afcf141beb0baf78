"""FastSTGCN against mmaction2's STGCN: the same weights, outputs, gradients and statistics."""

import logging
import tempfile
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("mmaction")

from mmaction.models.backbones.stgcn import STGCN  # noqa: E402
from mmaction.registry import MODELS  # noqa: E402

from recognizer.action.network import FastSTGCN  # noqa: E402

COCO = {"layout": "coco", "mode": "spatial"}
PLUS = {"graph_cfg": COCO, "gcn_adaptive": "init", "gcn_with_res": True, "tcn_type": "mstcn"}
GUIDE = {**PLUS, "num_stages": 4, "base_channels": 64, "inflate_stages": [2], "down_stages": [2]}
SMALL = {**GUIDE, "base_channels": 12}

NETWORKS = {
    "guide": GUIDE,
    "deeper": {**PLUS, "num_stages": 6, "inflate_stages": [2, 4], "down_stages": [2, 4]},
    "shallower": {
        **PLUS, "num_stages": 3, "base_channels": 48, "inflate_stages": [], "down_stages": [],
    },
    "wider": {**GUIDE, "base_channels": 96},
    "lighter": {**GUIDE, "base_channels": 32},
    "pair features": {**SMALL, "in_channels": 7},
    "in = base channels": {**SMALL, "in_channels": 12},
    "no adaptation": {**SMALL, "gcn_adaptive": None},
    "offset": {**SMALL, "gcn_adaptive": "offset"},
    "importance": {**SMALL, "gcn_adaptive": "importance"},
    "convolution after": {**SMALL, "gcn_conv_pos": "post"},
    "no residual": {**SMALL, "gcn_with_res": False},
    "ST-GCN": {**SMALL, "graph_cfg": {"layout": "coco", "mode": "stgcn_spatial"},
               "gcn_adaptive": "importance", "gcn_with_res": False, "tcn_type": "unit_tcn"},
    "other branches": {**SMALL, "tcn_ms_cfg": [("max", 3), (5, 2), "1x1"]},
    "one slot, one norm": {**SMALL, "data_bn_type": "MVC", "num_person": 4},
    "no data norm": {**SMALL, "data_bn_type": "none"},
    "checkpointed": {**SMALL, "with_cp": True},
}  # fmt: skip


@pytest.fixture(autouse=True)
def _silence():
    logging.disable(logging.CRITICAL)  # init_weights logs every parameter
    yield
    logging.disable(logging.NOTSET)


def build(kind, settings, seed=0):
    torch.manual_seed(seed)
    if kind is STGCN:
        settings = {k: v for k, v in settings.items() if k != "with_cp"}
    net = kind(**settings)
    net.init_weights()
    return net


def skeletons(present=(3, 1, 4), slots=4, frames=16, channels=3, seed=0):
    """Return (N, M, T, V, C); clip i holds ``present[i]`` people in its first slots."""
    x = torch.randn(len(present), slots, frames, 17, channels,
                    generator=torch.Generator().manual_seed(seed))  # fmt: skip
    for clip, people in zip(x, present, strict=True):
        clip[people:] = 0
    return x


def gradients(net, x):
    """Run one training step and return output and gradients.

    The output weighs in with random numbers, so that every element of it matters.
    """
    y = net.train()(x)
    weights = torch.randn(y.shape, generator=torch.Generator().manual_seed(7)).to(y.dtype)
    (y * weights).sum().backward()
    return y.detach(), {name: p.grad for name, p in net.named_parameters()}


def assert_equal_steps(plain, fast, x):
    """Compare in float64, where only a wrong formula makes a difference."""
    y, expected = gradients(plain, x)
    z, got = gradients(fast, x)
    torch.testing.assert_close(z, y, rtol=0, atol=1e-10 * y.abs().max().item())
    # A bias in front of a batch norm has no gradient but rounding: hence one scale for all.
    scale = max(grad.abs().max().item() for grad in expected.values())
    for name, grad in expected.items():
        torch.testing.assert_close(got[name], grad, rtol=0, atol=1e-10 * scale, msg=name)
    states = plain.state_dict(), fast.state_dict()
    for name, value in states[0].items():
        torch.testing.assert_close(states[1][name], value, rtol=0, atol=1e-10, msg=name)


@pytest.mark.parametrize("name", NETWORKS)
def test_training_is_that_of_mmaction2(name):
    plain, fast = (build(kind, NETWORKS[name]).double() for kind in (STGCN, FastSTGCN))
    # A slot that is empty in most clips puts values at ReLU's kink, where rounding decides and
    # mmaction2 does not agree with itself on an input moved by 1e-13.
    present = (4, 4, 4) if "data_bn_type" in NETWORKS[name] else (3, 1, 4)
    x = skeletons(present, channels=NETWORKS[name].get("in_channels", 3)).double()
    assert_equal_steps(plain, fast, x)
    with torch.no_grad():
        torch.testing.assert_close(fast.eval()(x), plain.eval()(x), rtol=0, atol=1e-11)


@pytest.mark.parametrize("present", [(4, 4), (4, 3), (0, 0), (0, 2), (1,), (0,)], ids=str)
def test_however_many_are_present(present):
    plain, fast = (build(kind, SMALL).double() for kind in (STGCN, FastSTGCN))
    assert_equal_steps(plain, fast, skeletons(present).double())


def test_a_checkpoint_moves_both_ways():
    kinds = (STGCN, FastSTGCN)
    for first, second in (kinds, kinds[::-1]):
        source, target = build(first, GUIDE, seed=1), build(second, GUIDE, seed=2)
        source.train()(skeletons())  # running statistics are part of it
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "weights.pth")
            torch.save(source.state_dict(), path)
            target.load_state_dict(torch.load(path, weights_only=True), strict=True)
        x = skeletons(seed=3)
        with torch.no_grad():
            torch.testing.assert_close(target.eval()(x), source.eval()(x), rtol=1e-4, atol=1e-5)


def test_the_same_seed_gives_the_same_weights():
    plain, fast = build(STGCN, GUIDE).state_dict(), build(FastSTGCN, GUIDE).state_dict()
    assert list(plain) == list(fast)
    assert all(torch.equal(plain[name], fast[name]) for name in plain)


def test_configs_name_it():
    net = MODELS.build({"type": "FastSTGCN", **SMALL})
    assert isinstance(net, FastSTGCN)
    with pytest.raises(AssertionError, match="Invalid arguments"):
        MODELS.build({"type": "FastSTGCN", **SMALL, "no_such": 1})
