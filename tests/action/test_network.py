"""FastSTGCN against mmaction2's STGCN: the same weights, outputs, gradients and statistics."""

import logging
import tempfile
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("mmaction")

from mmaction.models.backbones.stgcn import STGCN  # noqa: E402
from mmaction.registry import MODELS  # noqa: E402
from mmaction.structures import ActionDataSample  # noqa: E402

from recognizer.action.network import FastSTGCN, pooled_features  # noqa: E402
from recognizer.openmmlab import scope  # noqa: E402

COCO = {"layout": "coco", "mode": "spatial"}
PLUS = {"graph_cfg": COCO, "gcn_adaptive": "init", "gcn_with_res": True, "tcn_type": "mstcn"}
GUIDE = {**PLUS, "num_stages": 4, "base_channels": 64, "inflate_stages": [2], "down_stages": [2]}
SMALL = {**GUIDE, "base_channels": 12}

NETWORKS = {
    "guide": GUIDE,
    "deeper": {**PLUS, "num_stages": 6, "inflate_stages": [2, 4], "down_stages": [2, 4]},
    "shallower": {
        **PLUS,
        "num_stages": 3,
        "base_channels": 48,
        "inflate_stages": [],
        "down_stages": [],
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
    "ST-GCN": {
        **SMALL,
        "graph_cfg": {"layout": "coco", "mode": "stgcn_spatial"},
        "gcn_adaptive": "importance",
        "gcn_with_res": False,
        "tcn_type": "unit_tcn",
    },
    "other branches": {**SMALL, "tcn_ms_cfg": [("max", 3), (5, 2), "1x1"]},
    "one slot, one norm": {**SMALL, "data_bn_type": "MVC", "num_person": 4},
    "no data norm": {**SMALL, "data_bn_type": "none"},
    "checkpointed": {**SMALL, "with_cp": True},
}


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
    x = torch.randn(
        len(present), slots, frames, 17, channels, generator=torch.Generator().manual_seed(seed)
    )
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


def test_checkpointing_changes_nothing_and_moves_statistics_once():
    plain, fast = (build(FastSTGCN, {**SMALL, "with_cp": cp}) for cp in (False, True))
    x = skeletons()
    y, expected = gradients(plain, x)
    z, got = gradients(fast, x)
    assert torch.equal(y, z)
    assert all(torch.equal(expected[name], got[name]) for name in expected)
    for name, value in plain.state_dict().items():
        assert torch.equal(fast.state_dict()[name], value), name
    assert int(fast.gcn[0].gcn.bn.num_batches_tracked) == 1


def saved_bytes(net, x):
    """Return how much a training step keeps for backward."""
    sizes = {}

    def keep(tensor):
        sizes[tensor.data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        net.train()(x)
    return sum(sizes.values())


def test_checkpointing_keeps_less():
    plain, fast = (build(FastSTGCN, {**SMALL, "with_cp": cp}) for cp in (False, True))
    x = skeletons(frames=64)
    assert saved_bytes(fast, x) < saved_bytes(plain, x) / 4


@pytest.mark.parametrize("with_cp", [False, True])
def test_bfloat16_is_as_close_as_that_of_mmaction2(with_cp):
    x = skeletons(frames=32)
    exact, expected = gradients(build(STGCN, SMALL), x)
    errors = []
    for net in (build(STGCN, SMALL), build(FastSTGCN, {**SMALL, "with_cp": with_cp})):
        with torch.autocast("cpu", torch.bfloat16):
            y, got = gradients(net, x)
        assert y.dtype == torch.bfloat16
        assert all(grad.dtype == torch.float32 for grad in got.values())
        total = sum((got[name] - grad).square().sum() for name, grad in expected.items())
        scale = sum(grad.square().sum() for grad in expected.values())
        errors.append(((y - exact).square().mean().sqrt().item(), (total / scale).sqrt().item()))
    assert errors[1][0] < 1.2 * errors[0][0]
    assert errors[1][1] < 1.2 * errors[0][1] < 0.5


def test_dropout_between_frames_keeps_every_person():
    net = build(FastSTGCN, {**SMALL, "tcn_dropout": 0.5}).train()
    y = net(skeletons((1, 1)))
    assert not torch.equal(y[0, 2], y[0, 3])  # two absent persons, two masks
    net.eval()
    assert torch.equal(*net(skeletons((1, 1)))[0, 2:])


def test_norms_it_does_not_know_run_as_in_mmaction2():
    settings = {**SMALL, "gcn_norm": {"type": "GN", "num_groups": 2}}
    plain, fast = (build(kind, settings).double() for kind in (STGCN, FastSTGCN))
    assert_equal_steps(plain, fast, skeletons().double())
    fast.with_cp = True
    with pytest.raises(ValueError, match="with_cp expects BatchNorm"):
        fast(skeletons().double())


def test_frozen_norms_run_as_in_mmaction2():
    nets = [build(kind, SMALL).double().train() for kind in (STGCN, FastSTGCN)]
    for net in nets:
        net.gcn[1].tcn.bn.eval()
    y, z = (net(skeletons().double()) for net in nets)
    assert torch.equal(y, z)


def recognizer(kind, head="GCNHead", **settings):
    """Return the guide's model around a backbone, small."""
    torch.manual_seed(0)
    loss = {"type": "CrossEntropyLoss", "class_weight": [1.2, 1.0]}
    head = {"type": head, "num_classes": 2, "in_channels": 24, "dropout": 0.3, "loss_cls": loss}
    with scope("mmaction"):
        net = MODELS.build(
            {
                "type": "RecognizerGCN",
                "cls_head": head,
                "backbone": {"type": kind, **SMALL, **settings},
            }
        )
    net.init_weights()
    return net.train()


def losses(net, steps=6, bf16=False):
    """Train on a few batches and return their losses; dropout draws the same each time."""
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-3)
    found = []
    for step in range(steps):
        torch.manual_seed(step)
        samples = [ActionDataSample().set_gt_labels(i % 2) for i in range(3)]
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            loss = net.loss(skeletons(seed=step)[:, None], samples)["loss_cls"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        found.append(loss.item())
    return found


@pytest.mark.parametrize("settings", [{}, {"with_cp": True}], ids=str)
def test_training_the_guides_model_gives_the_same_losses(settings):
    expected = losses(recognizer("STGCN"))
    assert losses(recognizer("FastSTGCN", **settings)) == pytest.approx(expected, abs=2e-4)
    assert len(set(expected)) == len(expected)


def test_bfloat16_trains_with_our_head_and_not_with_that_of_mmaction2():
    net = recognizer("FastSTGCN")
    with pytest.raises(TypeError, match="BFloat16"):  # when this passes, our head is not needed
        losses(net, bf16=True, steps=1)
    ours = recognizer("FastSTGCN", head="Float32GCNHead")
    assert list(ours.state_dict()) == list(net.state_dict())
    assert losses(ours, bf16=True) == pytest.approx(losses(recognizer("STGCN")), abs=0.02)


class OnePersonPerRow(torch.nn.Module):
    """What is exported: persons in, features out."""

    def __init__(self, backbone):
        super().__init__()
        self.backbone = backbone

    def forward(self, persons):
        return pooled_features(self.backbone, persons)


def trained(settings):
    """Return a backbone whose running statistics are not those it was born with."""
    net = build(FastSTGCN, settings)
    with torch.no_grad():
        net.train()(skeletons())
    return net.eval()


def test_pooled_features_are_those_that_the_head_averages():
    net = trained(SMALL)
    plain = build(STGCN, SMALL).eval()
    plain.load_state_dict(net.state_dict())
    x = skeletons()
    with torch.no_grad():
        features = pooled_features(net, x.flatten(0, 1)).view(3, 4, -1)
        expected = plain(x).mean((3, 4))
        torch.testing.assert_close(features, expected, rtol=1e-4, atol=1e-5)
        features = pooled_features(plain, x.flatten(0, 1)).view(3, 4, -1)
        torch.testing.assert_close(features, expected, rtol=1e-4, atol=1e-5)


def test_pooled_features_say_what_they_need():
    with pytest.raises(ValueError, match="eval mode"):
        pooled_features(build(FastSTGCN, SMALL).train(), skeletons()[0])
    other = build(FastSTGCN, {**SMALL, "gcn_norm": {"type": "GN", "num_groups": 2}}).eval()
    with pytest.raises(ValueError, match="norm"):
        pooled_features(other, skeletons()[0])
    slots = build(FastSTGCN, {**SMALL, "data_bn_type": "MVC", "num_person": 4}).eval()
    with pytest.raises(ValueError, match="slots"):
        pooled_features(slots, skeletons()[0])


@pytest.mark.parametrize("name", ["guide", "ST-GCN", "convolution after"])
def test_onnx_export_is_exact_for_any_number_of_persons(name, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    net = trained(NETWORKS[name])
    x = skeletons(frames=100).flatten(0, 1)
    path = str(tmp_path / "features.onnx")
    module = OnePersonPerRow(net).eval()
    torch.onnx.export(
        module,
        (x[:2],),
        path,
        input_names=["persons"],
        output_names=["features"],
        dynamic_axes={"persons": {0: "P"}, "features": {0: "P"}},
        opset_version=17,
        dynamo=False,
    )
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    for people in (1, 3, 12):
        (got,) = session.run(None, {"persons": x[:people].numpy()})
        with torch.no_grad():
            expected = pooled_features(net, x[:people])
        torch.testing.assert_close(torch.from_numpy(got), expected, rtol=1e-4, atol=1e-5)
