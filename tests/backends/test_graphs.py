"""The graphs that torch runs and export writes, against what mmpose itself makes of the weights."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("mmpose")

from mmengine.structures import InstanceData  # noqa: E402
from mmpose.structures import PoseDataSample  # noqa: E402

from recognizer.backends import graphs  # noqa: E402
from recognizer.backends.graphs import RtmoGraph, Suppression, TopDownGraph  # noqa: E402
from recognizer.backends.network import ModelError  # noqa: E402
from recognizer.openmmlab import shipped_config  # noqa: E402
from tests.backends import pose_models  # noqa: E402


@pytest.fixture(scope="module")
def rtmo():
    config = shipped_config("mmpose", pose_models.RTMO_T)
    return pose_models.calibrate_rtmo(pose_models.random_model(config))


@pytest.fixture(scope="module")
def sdpose():
    return pose_models.random_model(pose_models.SDPOSE_T)


def stack(count, size_wh, seed=0):
    shown = np.stack([pose_models.picture(seed + i, size_wh) for i in range(count)])
    return torch.from_numpy(shown), torch.from_numpy(shown.transpose(0, 3, 1, 2).copy()).float()


def theirs(model, pixels, rule):
    """Return what mmpose's own head predicts, in network pixels, best first."""
    height, width = pixels.shape[2:]
    samples = []
    for _ in pixels:
        sample = PoseDataSample(gt_instances=InstanceData())
        sample.set_metainfo(
            {
                "input_size": (width, height),
                "img_shape": (height, width),
                "input_center": np.array([width / 2, height / 2]),
                "input_scale": np.array([width, height], float),
            }
        )
        samples.append(sample)
    expected = {"score_thr": rule.score_threshold, "nms_thr": rule.nms_threshold}
    with torch.inference_mode():
        found = model.head.predict(model.extract_feat(pixels), samples, expected)
    everybody = []
    for one in found:
        order = np.argsort(-one.bbox_scores, kind="stable")[: rule.max_detections]
        dets = np.concatenate([one.bboxes, one.bbox_scores[:, None]], 1)[order]
        points = np.concatenate([one.keypoints, one.keypoint_scores[..., None]], 2)[order]
        everybody.append((dets, points))
    return everybody


def run(graph, pixels):
    with torch.inference_mode():
        dets, keypoints = graph(pixels)
    kept = [row[:, 4] > 0 for row in dets]
    return [(d[k].numpy(), p[k].numpy()) for d, p, k in zip(dets, keypoints, kept, strict=True)]


def assert_same(ours, others):
    for (dets, points), (their_dets, their_points) in zip(ours, others, strict=True):
        assert len(dets) == len(their_dets)
        np.testing.assert_allclose(dets, their_dets, atol=0.02)
        np.testing.assert_allclose(points[..., 2], their_points[..., 2], atol=1e-4)
        apart = np.abs(points[..., :2] - their_points[..., :2])
        assert apart.max(initial=0) < 0.5


@pytest.mark.parametrize("size", [(416, 416), (320, 192), (192, 352)])
def test_rtmo_says_what_mmpose_says(rtmo, size):
    _, pixels = stack(2, size)
    rule = Suppression(0.5, 0.45, 1000)
    ours = run(RtmoGraph(rtmo, rule), pixels)
    assert sum(len(dets) for dets, _ in ours) > 2
    assert_same(ours, theirs(rtmo, pixels, rule))


def test_thresholds_do_what_they_say(rtmo):
    _, pixels = stack(3, (416, 416))
    reference = run(RtmoGraph(rtmo, Suppression(0.4, 0.65, 1000)), pixels)
    scores = np.concatenate([dets[:, 4] for dets, _ in reference])
    assert (scores > 0.4).all()
    alone = float(np.sort(scores)[-2:].mean())  # between the best and the second
    ours = run(RtmoGraph(rtmo, Suppression(alone, 0.65, 1000)), pixels)
    assert sorted(len(dets) for dets, _ in ours) == [0, 0, 1]
    assert [len(d) for d, _ in run(RtmoGraph(rtmo, Suppression(1.0, 0.65, 1000)), pixels)] == [
        0
    ] * 3
    strict = run(RtmoGraph(rtmo, Suppression(0.4, 0.2, 1000)), pixels)
    assert sum(len(d) for d, _ in strict) < len(scores)
    few = run(RtmoGraph(rtmo, Suppression(0.4, 0.65, 2)), pixels)
    for (dets, points), (all_dets, all_points) in zip(few, reference, strict=True):
        np.testing.assert_allclose(dets, all_dets[:2], atol=1e-4)
        np.testing.assert_allclose(points, all_points[:2], atol=0.1)


def test_an_image_says_the_same_alone_and_in_a_batch(rtmo):
    _, pixels = stack(3, (320, 256))
    graph = RtmoGraph(rtmo, Suppression(0.5, 0.45, 100))
    together = run(graph, pixels)
    for i in range(3):
        assert_same(run(graph, pixels[i : i + 1]), together[i : i + 1])


def test_fixed_shapes_say_the_same_or_that_they_cannot(rtmo, monkeypatch):
    _, pixels = stack(3, (320, 256))
    graph = RtmoGraph(rtmo, Suppression(0.4, 0.45, 100))
    expected = run(graph, pixels)
    most = max(len(dets) for dets, _ in expected)
    assert 1 < most <= graphs.STATIC_PEOPLE
    with torch.inference_mode():
        *_, fits = graph.static(pixels)
        assert fits
        assert_same(run(lambda x: graph.static(x)[:2], pixels), expected)
        for name, small in (("PEOPLE", most - 1), ("CANDIDATES", most - 1), ("ROUNDS", 1)):
            with monkeypatch.context() as patch:
                patch.setattr(graphs, f"STATIC_{name}", small)
                assert not graph.static(pixels)[2], name
        few = RtmoGraph(rtmo, Suppression(0.4, 0.45, most - 1))
        monkeypatch.setattr(graphs, "STATIC_PEOPLE", most)
        dets, keypoints, fits = few.static(pixels)
    assert fits
    assert dets.shape == (3, most - 1, 5)
    assert keypoints.shape == (3, most - 1, 17, 3)


def test_8_bit_pictures_say_the_same(rtmo, sdpose):
    bytes_, pixels = stack(2, (320, 256))
    rule = Suppression(0.5, 0.45, 100)
    assert_same(run(RtmoGraph(rtmo, rule, uint8=True), bytes_), run(RtmoGraph(rtmo, rule), pixels))
    bytes_, _ = stack(2, (192, 256))
    own = sdpose.data_preprocessor({"inputs": list(bytes_.permute(0, 3, 1, 2)), "data_samples": []})
    with torch.inference_mode():
        reference = sdpose(own["inputs"], None, mode="tensor")
        inside = TopDownGraph(sdpose, uint8=True)(bytes_)
        outside = TopDownGraph(sdpose)(own["inputs"])
    assert reference.shape == (2, 17, 64, 48)
    torch.testing.assert_close(outside, reference, rtol=0, atol=0)
    torch.testing.assert_close(inside, reference, rtol=1e-4, atol=1e-5)


def test_another_network_is_no_rtmo(sdpose):
    with pytest.raises(ModelError, match="RTMO of 17"):
        RtmoGraph(sdpose, Suppression(0.5, 0.5, 10))
