"""Batches made on the device: the numbers of mmpose's transforms, codec and preprocessor."""

import cv2
import numpy as np
import pytest
import torch

from benchmarks.gpu import fsd_batch, fsd_data, fsd_run
from recognizer.openmmlab import load_mmpose, scope
from recognizer.pose.heatmaps import decode_dark
from recognizer.sdpose.training import load_pose_config
from recognizer.skeleton import FLIP_INDEX

load_mmpose()
from mmengine.dataset import Compose  # noqa: E402
from mmpose.registry import MODELS, TRANSFORMS  # noqa: E402
from mmpose.structures.bbox import get_warp_matrix  # noqa: E402

SIZE = (220, 170)  # height, width of a picture


def person(seed):
    """Return a smooth picture with a person's keypoints, some of them not labelled, and box."""
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 256, (9, 7, 3), dtype=np.uint8)
    picture = cv2.resize(small, SIZE[::-1], interpolation=cv2.INTER_CUBIC)
    keypoints = rng.uniform((30, 20), (140, 200), (17, 2)).astype(np.float32)
    visible = (rng.random(17) < 0.8).astype(np.float32)
    return picture, keypoints * visible[:, None], visible, np.array([25, 15, 145, 205], np.float32)


def by_mmpose(seed, drawn_from):
    """Return image, heatmaps and weights of the training config's own pipeline."""
    picture, keypoints, visible, box = person(seed)
    listed = load_pose_config(fsd_data.CONFIG).train_dataloader.dataset.pipeline[1:-1]
    with scope("mmpose"):
        steps = Compose([TRANSFORMS.build(step) for step in listed])
    info = {
        "img": picture,
        "img_shape": SIZE,
        "bbox": box[None],
        "keypoints": keypoints[None],
        "keypoints_visible": visible[None],
        "flip_indices": FLIP_INDEX.tolist(),
        "upper_body_ids": list(range(11)),
        "lower_body_ids": list(range(11, 17)),
    }
    np.random.seed(drawn_from)  # noqa: NPY002  # mmpose's transforms draw from it
    made = steps(info)
    return made["img"], made["heatmaps"], made["keypoint_weights"][0]


def people(seed, draws):
    """Return the person as ``load`` would, with augmentations (1, 1, 5)."""
    picture, keypoints, visible, _ = person(seed)
    canvas = np.zeros((1, max(SIZE), max(SIZE), 3), np.uint8)
    canvas[0, : SIZE[0], : SIZE[1]] = picture[..., ::-1]
    plain = fsd_batch.warp_matrices(draws[..., 1:3], draws[..., 3], draws[..., 4])
    flips = draws[..., 0] > 0
    mirrored = fsd_batch.mirror(plain, np.full(flips.shape, SIZE[1]))
    matrices = np.where(flips[..., None, None], mirrored, plain)
    return fsd_batch.People(
        torch.from_numpy(canvas).permute(0, 3, 1, 2),
        torch.from_numpy(keypoints)[None],
        torch.from_numpy(visible)[None],
        torch.from_numpy(matrices).float(),
        torch.from_numpy(flips),
        {},
    )


@pytest.mark.parametrize("seed", range(12))
def test_batch_is_that_of_the_training_pipeline(seed):
    _, keypoints, visible, box = person(seed)
    draws = fsd_data.draw([(keypoints, visible, box, SIZE)], seed)[None].astype(np.float64)
    made = people(seed, draws)
    batch = fsd_batch.make(made, torch.tensor([0]), epoch=0)
    image, heatmaps, weights = by_mmpose(seed, seed)
    ours = fsd_batch.warp(made.pictures, made.matrices[0])[0].permute(1, 2, 0).numpy()[..., ::-1]
    difference = np.abs(ours - image)
    assert difference.mean() < 0.6  # of 255: cv2 rounds levels and places of 1/32 pixel
    assert np.quantile(difference, 0.99) < 4
    np.testing.assert_allclose(batch.heatmaps[0].numpy(), heatmaps, atol=1e-4)
    np.testing.assert_array_equal(batch.weights[0].numpy(), weights)


def test_some_draw_mirrors_turns_and_takes_half_a_body():
    rows = np.stack([fsd_data.draw([(*person(seed)[1:], SIZE)], seed)[0] for seed in range(12)])
    assert 0 < rows[:, 0].sum() < 12
    assert (rows[:, 4] != 0).any()
    assert (rows[:, 3] < 100).any()  # a whole body is at least 0.65 x 178 wide


@pytest.mark.parametrize("degrees", [0, 33.5, -80])
def test_matrices_are_those_of_mmpose(degrees):
    ours = fsd_batch.warp_matrices(np.array([80.5, 90.25]), 120.0, degrees)
    theirs = get_warp_matrix(np.array([80.5, 90.25]), np.array([120, 160]), degrees, (192, 256))
    np.testing.assert_allclose(ours, theirs, atol=2e-4)


@pytest.mark.parametrize("place", [(96, 128), (-26, 50), (-29, 50), (215, 100), (217, 279), (3, 3)])
def test_targets_are_those_of_the_codec(place):
    with scope("mmpose"):
        from mmpose.registry import KEYPOINT_CODECS

        codec = KEYPOINT_CODECS.build(load_pose_config(fsd_data.CONFIG).model.head.decoder)
    keypoints = np.tile(np.array(place, np.float32) + 0.3, (1, 17, 1))
    visible = np.ones((1, 17), np.float32)
    visible[0, 3] = 0
    expected = codec.encode(keypoints, visible)
    heatmaps, weights = fsd_batch.targets(torch.from_numpy(keypoints), torch.from_numpy(visible))
    np.testing.assert_allclose(heatmaps[0].numpy(), expected["heatmaps"], atol=1e-5)
    np.testing.assert_array_equal(weights.numpy(), expected["keypoint_weights"])


def test_normalised_as_the_preprocessor_does():
    cfg = load_pose_config(fsd_data.CONFIG).model.data_preprocessor
    with scope("mmpose"):
        preprocessor = MODELS.build(cfg)
    bgr = torch.randint(0, 256, (1, 3, 8, 8), dtype=torch.uint8)
    samples = fsd_run.samples_of(fsd_batch.Batch(None, torch.zeros(1, 1, 1, 1), torch.ones(1, 1)))
    expected = preprocessor({"inputs": list(bgr), "data_samples": samples})["inputs"]
    assert torch.allclose(fsd_batch.normalise(bgr.flip(1).float()), expected, atol=1e-5)


def test_decodes_as_the_pose_stage_does():
    rng = np.random.default_rng(0)
    places = torch.from_numpy(rng.uniform((-4, -4), (200, 260), (6, 17, 2)).astype(np.float32))
    heatmaps, _ = fsd_batch.targets(places, torch.ones(6, 17))
    heatmaps += torch.from_numpy(rng.normal(0, 0.02, heatmaps.shape).astype(np.float32))
    points, scores = fsd_batch.decode(heatmaps)
    expected, expected_scores = decode_dark(heatmaps.numpy())
    np.testing.assert_allclose(points.numpy(), expected * 4, atol=2e-3)
    np.testing.assert_array_equal(scores.numpy(), expected_scores)


def test_order_follows_from_the_seed_and_each_epoch_takes_everybody_once():
    people = fsd_batch.People(
        torch.arange(10, dtype=torch.uint8).view(10, 1, 1, 1).expand(10, 3, 4, 4).contiguous(),
        torch.zeros(10, 17, 2),
        torch.ones(10, 17),
        torch.eye(2, 3).expand(1, 10, 2, 3),
        torch.zeros(1, 10, dtype=torch.bool),
        {},
    )

    def levels(seed):
        stream = fsd_batch.batches(people, 5, seed)
        level = [next(stream)[1].images[:, 0, 0, 0] for _ in range(4)]
        return torch.cat(level)

    assert torch.equal(levels(1), levels(1))
    assert not torch.equal(levels(1), levels(2))
    assert len(levels(1)[:10].unique()) == len(levels(1)[10:].unique()) == 10
    with pytest.raises(ValueError, match="at least 11"):
        next(fsd_batch.batches(people, 11, 0))
