"""Letterbox and crops there and back, overlaps against plain loops and pycocotools."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from recognizer.geometry import (
    Letterbox,
    box_area,
    box_iou,
    crop_affine,
    crop_to_image,
    in_polygon,
    nms,
    oks,
)
from recognizer.skeleton import EDGES, FLIP_INDEX, KEYPOINT_NAMES, OKS_SIGMAS

sizes = st.tuples(st.integers(1, 8000), st.integers(1, 8000))
coordinates = st.floats(-2000, 2000, width=32)


def boxes(n: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    corner = rng.uniform(0, 100, (n, 2))
    return np.concatenate([corner, corner + rng.uniform(1, 60, (n, 2))], axis=1)


# --- letterbox ---------------------------------------------------------------------


@settings(max_examples=1000)
@given(sizes, sizes, hnp.arrays(np.float64, (5, 2), elements=st.floats(0, 1)))
def test_letterbox_there_and_back(image_wh, input_wh, fractions):
    box = Letterbox.fit(image_wh, input_wh)
    points = fractions * image_wh
    back = box.to_image(box.to_input(points))
    assert back.dtype == np.float32
    assert np.abs(back - points).max() <= 1e-5 * max(image_wh)


@settings(max_examples=1000)
@given(sizes, sizes)
def test_letterbox_fits_and_fills_one_side(image_wh, input_wh):
    box = Letterbox.fit(image_wh, input_wh)
    assert all(1 <= inner <= outer for inner, outer in zip(box.inner_wh, input_wh, strict=True))
    corner = box.to_input(np.array(image_wh, float))
    assert np.all(corner <= np.array(input_wh) * (1 + 1e-6))
    assert np.isclose(corner, input_wh, rtol=1e-6).any()


@pytest.mark.parametrize(
    ("image_wh", "input_wh", "inner_wh", "scale"),
    [
        ((1280, 720), (640, 640), (640, 360), 0.5),
        ((720, 1280), (640, 640), (360, 640), 0.5),
        ((640, 640), (640, 640), (640, 640), 1.0),
        ((320, 240), (640, 640), (640, 480), 2.0),
        ((5000, 1), (640, 640), (640, 1), 0.128),
    ],
    ids=["landscape", "portrait", "same", "enlarged", "a-line"],
)
def test_letterbox_examples(image_wh, input_wh, inner_wh, scale):
    box = Letterbox.fit(image_wh, input_wh)
    assert (box.inner_wh, box.scale, box.input_wh) == (inner_wh, scale, input_wh)


@pytest.mark.parametrize("image_wh", [(0, 10), (10, 0), (-1, 5)])
def test_letterbox_of_nothing_is_refused(image_wh):
    with pytest.raises(ValueError, match="expected sizes >= 1 px"):
        Letterbox.fit(image_wh, (640, 640))


# --- boxes -------------------------------------------------------------------------


def iou_of_two(a, b) -> float:
    """Return the overlap of two boxes by counting in one dimension after the other."""
    wide = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    high = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - wide * high
    return wide * high / union


def test_iou_is_that_of_a_plain_loop():
    a, b = boxes(7), boxes(5, seed=1)
    expected = [[iou_of_two(x, y) for y in b] for x in a]
    assert np.allclose(box_iou(a, b), expected)
    assert np.allclose(box_iou(a, b), box_iou(b, a).T)


@pytest.mark.parametrize(("n", "m"), [(0, 0), (0, 3), (3, 0)])
def test_iou_of_nobody(n, m):
    assert box_iou(boxes(n), boxes(m)).shape == (n, m)


def test_iou_of_a_box_with_itself_is_one_and_of_an_empty_box_nought():
    assert np.allclose(np.diag(box_iou(boxes(4), boxes(4))), 1)
    point, inside_out = np.array([[5.0, 5, 5, 5]]), np.array([[9.0, 9, 1, 1]])
    whole = np.array([[0.0, 0, 10, 10]])
    for empty in (point, inside_out):
        assert box_area(empty) == 0
        assert box_iou(empty, whole) == box_iou(whole, empty) == box_iou(empty, empty) == 0


@settings(max_examples=200)
@given(hnp.arrays(np.float32, (3, 4), elements=coordinates))
def test_iou_is_between_0_and_1_for_any_numbers(any_boxes):
    iou = box_iou(any_boxes, any_boxes)
    assert np.isfinite(iou).all()
    assert iou.min() >= 0
    assert iou.max() <= 1 + 1e-4


# --- OKS ---------------------------------------------------------------------------


def test_oks_is_that_of_pycocotools():
    coco = pytest.importorskip("pycocotools.coco")
    cocoeval = pytest.importorskip("pycocotools.cocoeval")
    rng = np.random.default_rng(0)
    truth = rng.uniform(0, 200, (4, 17, 2))
    found = truth[rng.permutation(4)] + rng.normal(0, 6, (4, 17, 2))
    visible = rng.random((4, 17)) < 0.7
    visible[:, 0] = True
    areas = rng.uniform(500, 9000, 4)
    gts = [
        {
            "id": i + 1,
            "image_id": 1,
            "category_id": 1,
            "iscrowd": 0,
            "area": areas[i],
            "bbox": [0, 0, 200, 200],
            "num_keypoints": int(visible[i].sum()),
            "keypoints": np.c_[truth[i], visible[i] * 2].ravel().tolist(),
        }
        for i in range(4)
    ]
    dts = [
        {
            "id": i + 1,
            "image_id": 1,
            "category_id": 1,
            "score": 1 - i / 10,
            "area": 1.0,
            "bbox": [0, 0, 1, 1],
            "keypoints": np.c_[found[i], np.ones(17)].ravel().tolist(),
        }
        for i in range(4)
    ]
    evaluation = cocoeval.COCOeval(iouType="keypoints")
    evaluation.cocoGt = evaluation.cocoDt = coco.COCO()
    evaluation.params.imgIds, evaluation.params.catIds = [1], [1]
    evaluation._gts[1, 1], evaluation._dts[1, 1] = gts, dts
    expected = evaluation.computeOks(1, 1)  # (found, truth)
    ours = oks(found, truth, np.broadcast_to(visible, (4, 4, 17)), np.broadcast_to(areas, (4, 4)))
    assert np.allclose(ours, expected, atol=1e-6)


def test_oks_limits():
    points = np.random.default_rng(0).uniform(0, 100, (2, 17, 2))
    all_seen, areas = np.ones((2, 2, 17), bool), np.full((2, 2), 1000.0)
    assert np.allclose(np.diag(oks(points, points, all_seen, areas)), 1)
    assert np.all(oks(points, points + 1e4, all_seen, areas) < 1e-9)
    assert np.all(oks(points, points, np.zeros((2, 2, 17), bool), areas) == 0)
    assert np.isfinite(oks(points, points, all_seen, np.zeros((2, 2)))).all()
    assert oks(points[:0], points, all_seen[:0], areas[:0]).shape == (0, 2)


# --- NMS ---------------------------------------------------------------------------


def greedy(given_boxes, scores, threshold) -> list[int]:
    """Return what survives, by the definition: take the best, drop what overlaps, repeat."""
    left, kept = sorted(range(len(scores)), key=lambda i: -scores[i]), []
    while left:
        best = left.pop(0)
        kept.append(best)
        left = [i for i in left if iou_of_two(given_boxes[best], given_boxes[i]) <= threshold]
    return kept


@pytest.mark.parametrize("threshold", [0.0, 0.3, 0.45, 0.7, 1.0])
def test_nms_is_the_definition(threshold):
    for seed in range(20):
        many = boxes(30, seed)
        scores = np.random.default_rng(seed).permutation(30) / 30
        assert nms(many, scores, threshold).tolist() == greedy(many, scores, threshold)


def test_nms_of_nobody_and_of_equals():
    assert nms(np.zeros((0, 4)), np.zeros(0), 0.5).shape == (0,)
    same = np.repeat(boxes(1), 3, axis=0)
    assert nms(same, np.array([0.5, 0.5, 0.5]), 0.5).tolist() == [0]  # the first of equals


# --- crops -------------------------------------------------------------------------


@settings(max_examples=300)
@given(
    hnp.arrays(np.float64, (3, 2), elements=st.floats(-500, 2500)),
    hnp.arrays(np.float64, (3, 2), elements=st.floats(1, 900)),
    st.sampled_from([(192, 256), (256, 192), (128, 128)]),
    st.floats(1, 2),
)
def test_a_crop_shows_the_padded_box_in_its_own_shape(corner, wh, output_wh, padding):
    people = np.concatenate([corner, corner + wh], axis=1)
    matrices, centres, extents = crop_affine(people, output_wh, padding)
    assert np.allclose(extents[:, 0] / extents[:, 1], output_wh[0] / output_wh[1])
    assert np.all(extents >= wh * padding * (1 - 1e-9))
    assert np.isclose(extents, wh * padding).any(axis=1).all()  # no larger than it must be
    for i in range(3):
        inverse = cv2.invertAffineTransform(matrices[i])
        middle = matrices[i] @ [*centres[i], 1]
        assert np.allclose(middle, np.array(output_wh) / 2)
        far = inverse @ [*output_wh, 1]
        assert np.allclose(far, centres[i] + extents[i] / 2)


def test_a_crop_of_an_image_is_where_it_should_be():
    image = np.zeros((100, 100), np.uint8)
    image[40:60, 30:40] = 255  # as wide as high is 1:2
    matrices, _, _ = crop_affine(np.array([[30.0, 40, 40, 60]]), (20, 40), 1.0)
    crop = cv2.warpAffine(image, matrices[0], (20, 40), flags=cv2.INTER_NEAREST)
    assert crop[2:-2, 2:-2].min() == 255
    assert np.allclose(matrices[0], [[2, 0, -60], [0, 2, -80]])


def test_a_crop_of_a_point_is_finite():
    matrices, _, extents = crop_affine(np.array([[5.0, 5, 5, 5]]), (192, 256), 1.25)
    assert np.isfinite(matrices).all()
    assert (extents > 0).all()
    assert crop_affine(np.zeros((0, 4)), (192, 256), 1.25)[0].shape == (0, 2, 3)


# --- skeleton ----------------------------------------------------------------------


def test_the_skeleton_is_coherent():
    assert (
        len(KEYPOINT_NAMES) == len(set(KEYPOINT_NAMES)) == len(FLIP_INDEX) == len(OKS_SIGMAS) == 17
    )
    assert np.array_equal(FLIP_INDEX[FLIP_INDEX], np.arange(17))
    for name, flipped in zip(KEYPOINT_NAMES, FLIP_INDEX, strict=True):
        swap = {"left": "right", "right": "left"}
        side, _, part = name.partition("_")
        assert KEYPOINT_NAMES[flipped] == (f"{swap[side]}_{part}" if part else name)
    mirrored = {frozenset(FLIP_INDEX[list(edge)].tolist()) for edge in EDGES}
    assert mirrored == {frozenset(edge) for edge in EDGES}
    assert len(EDGES) == len(mirrored) == 19
    flipped_sigmas = OKS_SIGMAS[FLIP_INDEX]
    assert np.array_equal(flipped_sigmas, OKS_SIGMAS)


def test_the_sigmas_are_those_of_coco():
    cocoeval = pytest.importorskip("pycocotools.cocoeval")
    assert np.allclose(cocoeval.Params(iouType="keypoints").kpt_oks_sigmas, OKS_SIGMAS)


@pytest.mark.parametrize("turn", [-1, 0, 1, 2])
def test_the_crop_of_a_turn_is_that_of_the_turned_image_and_its_points_come_back(turn):
    rng = np.random.default_rng(0)
    width, height = 70, 50
    box = np.array([[12.0, 8, 52, 30]])
    turns = np.array([turn])
    matrices, centres, sizes = crop_affine(box, (30, 40), 1.25, turns)
    # The corner of the crop lies where it lies in the crop of the image that np.rot90 makes.
    x1, y1, x2, y2 = box[0]
    turned = {
        -1: [height - y2, x1, height - y1, x2],
        0: [x1, y1, x2, y2],
        1: [y1, width - x2, y2, width - x1],
        2: [width - x2, height - y2, width - x1, height - y1],
    }[turn]
    upright, _, upright_sizes = crop_affine(np.array([turned]), (30, 40), 1.25)
    np.testing.assert_allclose(sizes, upright_sizes)
    points = rng.uniform(0, 50, (9, 2))
    places = {
        -1: np.stack([height - points[:, 1], points[:, 0]], 1),
        0: points,
        1: np.stack([points[:, 1], width - points[:, 0]], 1),
        2: [width, height] - points,
    }[turn]
    crop = points @ matrices[0, :, :2].T + matrices[0, :, 2]
    np.testing.assert_allclose(crop, places @ upright[0, :, :2].T + upright[0, :, 2], atol=1e-9)
    back = crop_to_image((crop / [30, 40])[None], centres, sizes, turns)
    np.testing.assert_allclose(back[0], points, atol=1e-4)


# --- polygons ----------------------------------------------------------------------


@settings(max_examples=300)
@given(
    hnp.arrays(np.float64, (40, 2), elements=st.floats(-20, 120)),
    st.integers(3, 12),
    st.integers(0, 10_000),
)
def test_points_in_polygons_are_those_of_opencv(points, corners, seed):
    rng = np.random.default_rng(seed)
    angles = np.sort(rng.uniform(0, 2 * np.pi, corners))
    radii = rng.uniform(5, 50, corners)
    polygon = 50 + radii[:, None] * np.column_stack([np.cos(angles), np.sin(angles)])
    contour = polygon.astype(np.float32)[:, None]
    away = np.array([cv2.pointPolygonTest(contour, p, measureDist=True) for p in points.tolist()])
    clear = np.abs(away) > 1e-3  # on the line itself the two may differ
    for own in (polygon, polygon[::-1]):
        assert (in_polygon(points, own) == (away > 0))[clear].all()


def test_a_dent_of_a_polygon_and_what_is_not_finite_are_outside():
    polygon = np.array([[0, 0], [10, 0], [10, 10], [5, 2], [0, 10]], float)
    points = np.array([[5, 1], [5, 8], [1, 5], [np.nan, 1], [np.inf, 1]])
    assert in_polygon(points, polygon).tolist() == [True, False, True, False, False]
    assert in_polygon(np.zeros((0, 2)), polygon).shape == (0,)
