"""SDPoseHead: cycles run, losses taken, keypoints found, precision, export, compilation."""

import warnings
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("mmpose")

from recognizer.openmmlab import load_mmpose  # noqa: E402

load_mmpose()
from mmpose.evaluation.functional import pose_pck_accuracy  # noqa: E402
from mmpose.models.heads import HeatmapHead  # noqa: E402
from mmpose.models.losses import KeypointMSELoss  # noqa: E402
from mmpose.registry import MODELS  # noqa: E402
from torch import nn  # noqa: E402

from recognizer.sdpose.head import SDPoseHead, pose_accuracy  # noqa: E402

from .golden import FLIP, VARIANTS, B, batch, build, variant  # noqa: E402

CODEC = {
    "type": "MSRAHeatmap",
    "input_size": (192, 256),
    "heatmap_size": (48, 64),
    "sigma": 2,
    "unbiased": True,
    "blur_kernel_size": 11,
}
FLIP_TEST = {"flip_test": True, "flip_mode": "heatmap", "shift_heatmap": True}


@MODELS.register_module(name="SDPoseTestRecorder")
class Recorder(nn.Module):
    """A distillation loss that remembers what it was called with."""

    def __init__(self, weight=1.0):
        super().__init__()
        self.weight, self.calls = weight, []

    def forward(self, student, teacher, *, heatmaps, grid, visible):
        self.calls.append((student, teacher, heatmaps, grid, visible))
        return self.weight * (student - teacher.detach()).square().mean()


RECORDER = {"type": "SDPoseTestRecorder"}
SMALL = {"depth": 2, "embed_dims": 48, "num_heads": 4}
DISTILLED = {**SMALL, "loss_vis_token_dist": RECORDER, "loss_kpt_token_dist": RECORDER}


def block_calls(model):
    """Count the calls of every block from now on."""
    calls = Counter()
    for index, block in enumerate(model.head.transformer.blocks):
        block.register_forward_hook(lambda *_, index=index: calls.update([index]))
    return calls


@pytest.mark.parametrize("name", VARIANTS)
def test_training_runs_all_cycles_and_inference_one(name):
    model = variant(name, test_cfg=FLIP_TEST, decoder=CODEC)
    images, samples = batch(1)
    depth, cycles = VARIANTS[name]["depth"], VARIANTS[name]["cycles"]
    calls = block_calls(model)
    with torch.no_grad():
        model(images, samples, mode="loss")
        assert calls == {index: cycles for index in range(depth)}
        calls.clear()
        model.eval()
        model(images, None, mode="tensor")
        assert calls == {index: 1 for index in range(depth)}
        calls.clear()
        model(images, samples, mode="predict")
        assert calls == {index: 2 for index in range(depth)}, "images and flipped images"


@pytest.mark.parametrize("cycles", [1, 2, 3])
def test_heatmap_loss_is_the_sum_over_cycles(cycles):
    model = build(**SMALL, cycles=cycles)
    images, samples = batch(2)
    losses = model(images, samples, mode="loss")
    assert set(losses) == {"heatmap_loss", "acc_pose"}
    target = torch.stack([sample.gt_fields.heatmaps for sample in samples])
    weights = torch.cat([sample.gt_instance_labels.keypoint_weights for sample in samples])
    mse = KeypointMSELoss(use_target_weight=True)
    outputs = model.head.run_cycles(model.extract_feat(images), cycles)
    expected = sum(mse(output.heatmaps, target, weights) for output in outputs)
    torch.testing.assert_close(losses["heatmap_loss"], expected)
    mine = ((outputs[0].heatmaps - target).square() * weights[..., None, None]).mean()
    torch.testing.assert_close(mse(outputs[0].heatmaps, target, weights), mine)


@pytest.mark.parametrize("cycles", [2, 3])
def test_every_cycle_learns_from_the_next(cycles):
    model = build(**DISTILLED, cycles=cycles)
    head = model.head
    images, samples = batch(2)
    losses = model(images, samples, mode="loss")
    assert set(losses) == {"heatmap_loss", "vis_dist_loss", "kpt_dist_loss", "acc_pose"}
    weights = torch.cat([sample.gt_instance_labels.keypoint_weights for sample in samples])
    outputs = head.run_cycles(model.extract_feat(images), cycles)
    for part, loss, grid in (
        ("visual_tokens", head.loss_vis_token_dist, (16, 16)),
        ("keypoint_tokens", head.loss_kpt_token_dist, None),
    ):
        assert len(loss.calls) == cycles - 1
        for index, (student, teacher, heatmaps, given_grid, visible) in enumerate(loss.calls):
            torch.testing.assert_close(student, getattr(outputs[index], part))
            torch.testing.assert_close(teacher, getattr(outputs[index + 1], part))
            torch.testing.assert_close(heatmaps, outputs[index + 1].heatmaps)
            assert given_grid == grid
            assert torch.equal(visible, weights)
    vis = [(a.visual_tokens - b.visual_tokens).square().mean() for a, b in pairwise(outputs)]
    torch.testing.assert_close(losses["vis_dist_loss"], sum(vis))


@pytest.mark.parametrize(
    ("missing", "items"),
    [
        ("loss_vis_token_dist", {"heatmap_loss", "kpt_dist_loss"}),
        ("loss_kpt_token_dist", {"heatmap_loss", "vis_dist_loss"}),
    ],
)
def test_a_loss_that_is_not_configured_is_not_there(missing, items):
    model = build(**{**DISTILLED, missing: None})
    model.train_cfg = {"compute_acc": False}
    losses = model(*batch(1), mode="loss")
    assert set(losses) == items
    total, logged = model.parse_losses(losses)
    torch.testing.assert_close(total, sum(losses.values()))
    assert {*items, "loss"} == set(logged)


@pytest.mark.parametrize(
    "settings",
    [
        pytest.param(SMALL, id="heatmaps only"),
        pytest.param(DISTILLED, id="distilled"),
        pytest.param({**SMALL, "patch_size": (2, 2), "cycles": 3}, id="small patches"),
        pytest.param({**SMALL, **B}, id="HRNet"),
    ],
)
def test_every_parameter_learns(settings):
    model = build(**settings)
    losses = model(*batch(2), mode="loss")
    sum(value for key, value in losses.items() if "loss" in key).backward()
    without = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert not without


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_mixed_precision_stays_finite_and_near(dtype):
    model = build(**{**DISTILLED, "depth": 1})
    images, samples = batch(1)
    exact = model(images, samples, mode="loss")
    with torch.autocast("cpu", dtype):
        losses = model(images, samples, mode="loss")
    for name in ("heatmap_loss", "vis_dist_loss", "kpt_dist_loss"):
        assert losses[name].dtype == torch.float32
        torch.testing.assert_close(losses[name], exact[name], rtol=0.02, atol=0)
    sum(value for key, value in losses.items() if "loss" in key).backward()
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())


@pytest.mark.parametrize("flip", [False, True])
def test_keypoints_are_those_of_mmposes_heatmap_head(flip):
    model = build(**SMALL, test_cfg={**FLIP_TEST, "flip_test": flip}, decoder=CODEC).eval()

    class Reference(HeatmapHead):
        def forward(self, feats):
            return model.head(feats)

    images, samples = batch(2)
    reference = Reference(256, 17, decoder=CODEC)
    with torch.no_grad():
        feats = model.extract_feat(images)
        feats = [feats, model.extract_feat(images.flip(-1))] if flip else feats
        cfg = {**model.test_cfg, "output_heatmaps": True}
        expected, expected_fields = reference.predict(feats, samples, cfg)
        found, fields = model.head.predict(feats, samples, cfg)
        whole = model(images, samples, mode="predict")
    for mine, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(mine.keypoints, theirs.keypoints, atol=1e-4)
        np.testing.assert_allclose(mine.keypoint_scores, theirs.keypoint_scores, atol=1e-6)
    for mine, theirs in zip(fields, expected_fields, strict=True):
        torch.testing.assert_close(mine.heatmaps, theirs.heatmaps)
    for sample, theirs in zip(whole, expected, strict=True):
        np.testing.assert_allclose(
            sample.pred_instances.keypoints, theirs.keypoints, atol=1e-3
        )  # the boxes of these samples are the input itself


def test_prediction_under_autocast():
    model = build(**SMALL, test_cfg=FLIP_TEST, decoder=CODEC).eval()
    images, samples = batch(1)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        (sample,) = model(images, samples, mode="predict")
    assert np.isfinite(sample.pred_instances.keypoints).all()


@pytest.mark.parametrize("seed", range(4))
def test_accuracy_is_mmposes(seed):
    torch.manual_seed(seed)
    target = torch.stack([sample.gt_fields.heatmaps for sample in batch(4, seed=seed)[1]])
    heatmaps = target.roll(seed, -1) + 0.4 * torch.randn(target.shape)
    heatmaps[0, :3] = -1  # no peak above 0
    target[1, :2] = 0
    present = torch.rand(4, 17) > 0.5
    present[:, 5] = False
    _, expected, _ = pose_pck_accuracy(heatmaps.numpy(), target.numpy(), present.numpy())
    assert pose_accuracy(heatmaps, target, present).item() == pytest.approx(expected, abs=1e-6)
    assert pose_accuracy(heatmaps, target, torch.zeros_like(present)) == 0


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"patch_size": (5, 3)}, "64 rows x 48 columns in patches of 5 x 3"),
        ({"patch_size": (4, 5)}, "64 rows x 48 columns in patches of 4 x 5"),
        ({"embed_dims": 100}, "divisible by num_heads, got 100 and 8"),
        ({"embed_dims": 6, "num_heads": 2}, "divisible by 4, got 6"),
        ({"cycles": 0}, "cycles >= 1 .*, got 0"),
        ({"cycles": 1, "loss_vis_token_dist": RECORDER}, "cycles >= 2 .*, got 1"),
        ({"depth": 0}, "depth >= 1, got 0"),
    ],
)
def test_settings_that_do_not_fit_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        SDPoseHead(**settings)


def test_input_of_another_size_is_refused():
    model = build(**SMALL)
    with pytest.raises(ValueError, match=r"map \(256, 64, 48\) .*, got \(256, 96, 72\)"):
        model(torch.zeros(1, 3, 384, 288), None, mode="tensor")
    with pytest.raises(ValueError, match=r"got \(32, 64, 48\)"):
        model.head([torch.zeros(1, 32, 64, 48)])
    images, samples = batch(1, keypoints=16)
    with pytest.raises(ValueError, match=r"\(17, 64, 48\) .*got \(16, 64, 48\)"):
        model(images, samples, mode="loss")
    with pytest.raises(ValueError, match=r"flip_test expects .*, got tuple of 1"):
        model.head.predict((torch.zeros(1, 256, 64, 48),), batch(1)[1], {"flip_test": True})


def test_other_numbers_of_keypoints_and_grids_work():
    model = build(**SMALL, patch_size=(8, 4), num_keypoints=5, feature_size=(24, 32))
    assert model.head.grid == (4, 6)
    assert model(torch.zeros(2, 3, 128, 96), None, mode="tensor").shape == (2, 5, 64, 48)


class Network(nn.Module):
    """What an export holds: images -> heatmaps."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, images):
        return self.model(images, None, mode="tensor")


@pytest.mark.parametrize("dynamo", [False, True], ids=["torchscript", "dynamo"])
def test_export_to_onnx_with_any_batch(tmp_path, dynamo):
    onnxruntime = pytest.importorskip("onnxruntime")
    if dynamo:
        pytest.importorskip("onnxscript")
    network = Network(variant("t")).eval()
    for parameter in network.parameters():  # the values of a start are nearly zero in the stem
        nn.init.normal_(parameter, std=0.1)
    path, images = tmp_path / "sdpose_t.onnx", batch(3)[0]
    free = (
        {"dynamic_shapes": ({0: torch.export.Dim("batch")},)}
        if dynamo
        else {"dynamic_axes": {"images": {0: "batch"}, "heatmaps": {0: "batch"}}}
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network,
            (images[:2],),
            str(path),
            input_names=["images"],
            output_names=["heatmaps"],
            dynamo=dynamo,
            **free,
        )
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    for number in (1, 3):
        with torch.no_grad():
            expected = network(images[:number]).numpy()
        (heatmaps,) = session.run(None, {"images": images[:number].numpy()})
        assert np.abs(expected).max() > 0.1
        np.testing.assert_allclose(heatmaps, expected, atol=1e-4)


@pytest.mark.slow
def test_compiled_training_gives_the_same_losses():
    plain, compiled = build(**DISTILLED), build(**DISTILLED)
    images, samples = batch(2)
    expected = plain(images, samples, mode="loss")
    run = torch.compile(compiled)
    losses = run(images, samples, mode="loss")
    assert set(losses) == set(expected)
    for name, value in expected.items():
        torch.testing.assert_close(losses[name], value, rtol=1e-4, atol=1e-6)
    for items in (expected, losses):
        sum(value for key, value in items.items() if "loss" in key).backward()
    for (name, a), b in zip(plain.named_parameters(), compiled.parameters(), strict=True):
        apart = (a.grad - b.grad).norm() / a.grad.norm()
        # Batch norms make the stem's gradients ill-conditioned: eager float32 is up to 2 % off
        # double precision there.
        assert apart < (1e-4 if name.startswith("head") else 0.05), name


def test_flip_pairs_are_those_of_coco():
    """Guards the batches above: a wrong table would make the flip test meaningless."""
    assert sorted(FLIP) == list(range(17))
    assert [FLIP[FLIP[i]] for i in range(17)] == list(range(17))
