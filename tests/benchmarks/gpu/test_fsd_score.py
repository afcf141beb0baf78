"""AP as pycocotools counts it, PCK by hand."""

import contextlib
import io

import numpy as np
import pytest

from benchmarks.gpu import fsd_data, fsd_score


def scene(seed, spread):
    """Return found and true keypoints of 24 people in 9 images, some hardly labelled."""
    rng = np.random.default_rng(seed)
    corner = rng.uniform(0, 150, (24, 1, 2))
    true = corner + rng.uniform(0, 100, (24, 17, 2))
    visible = (rng.random((24, 17)) < 0.6).astype(np.uint8)
    visible[:, 0] = 1
    found = true + rng.normal(0, 1, true.shape) * rng.uniform(0, spread, (24, 1, 1))
    scores = rng.random((24, 17))
    return found, scores, true, visible, rng.uniform(2000, 9000, 24), np.arange(24) % 9


def by_pycocotools(found, scores, true, visible, area, image):
    coco_module = pytest.importorskip("pycocotools.coco")
    from pycocotools.cocoeval import COCOeval

    def flat(points, last):
        return np.concatenate([points, last[:, None]], 1).ravel().tolist()

    confidence = fsd_score.person_scores(scores)
    content = {
        "images": [{"id": int(i)} for i in np.unique(image)],
        "categories": [{"id": 1, "name": "person"}],
        "annotations": [
            {"id": i + 1, "image_id": int(image[i]), "category_id": 1, "iscrowd": 0,
             "area": float(area[i]), "bbox": [0, 0, 10, 10],
             "num_keypoints": int(visible[i].sum()), "keypoints": flat(true[i], visible[i])}
            for i in range(len(true))
        ],
    }  # fmt: skip
    rows = [
        {"image_id": int(image[i]), "category_id": 1, "score": float(confidence[i]),
         "keypoints": flat(found[i], scores[i])}
        for i in range(len(true))
    ]  # fmt: skip
    with contextlib.redirect_stdout(io.StringIO()):
        coco = coco_module.COCO()
        coco.dataset = content
        coco.createIndex()
        evaluation = COCOeval(coco, coco.loadRes(rows), "keypoints")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation.stats[0], evaluation.stats[1]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("spread", [2, 15, 40])
def test_average_precision_is_cocos(seed, spread):
    inputs = scene(seed, spread)
    assert fsd_score.average_precision(*inputs) == pytest.approx(by_pycocotools(*inputs), abs=1e-6)


def test_pck_counts_labelled_points_of_people_with_a_torso():
    true = np.zeros((2, 17, 2))
    true[:, 12] = (0, 50)  # the torso is 50: 10 pixels are allowed
    visible = np.zeros((2, 17))
    visible[0, [5, 12, 9]] = 1
    visible[1, 9] = 1  # nobody's torso: not counted
    found = true.copy()
    found[0, 9] = (0, 10.5)
    found[0, 12] = (9.9, 50)
    assert fsd_data.pck(found, true, visible) == pytest.approx(2 / 3)
    assert np.isnan(fsd_data.pck(found[1:], true[1:], visible[1:]))


def test_places_in_crops_return_to_their_images():
    origin = np.array([[10.0, 20.0, 0.5, 0.25]])
    crop = (np.array([[[30.0, 60.0]]]) - origin[:, None, :2] + 0.5) * origin[:, None, 2:] - 0.5
    np.testing.assert_allclose(fsd_score.in_image(crop, origin), [[[30, 60]]])
