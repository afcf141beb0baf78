"""The small pose network: its graphs, labels, losses and the composed file."""

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
onnx = pytest.importorskip("onnx")
cv2 = pytest.importorskip("cv2")

from onnx import numpy_helper  # noqa: E402

from annotation.teacher_labels import DOUBT, PERSON, Labels  # noqa: E402
from recognizer.skeleton import FLIP_INDEX  # noqa: E402
from samples.small_pose import compose, mix, split, starts, training  # noqa: E402
from samples.small_pose.augment import Placement, cut, moved, turn, warped  # noqa: E402
from samples.small_pose.crops import CROP, PADDING, STRIDE, crop_placement, targets  # noqa: E402
from samples.small_pose.decode import decoded  # noqa: E402
from samples.small_pose.detector_loss import Cells, grid, simota  # noqa: E402
from samples.small_pose.graph import TrainableGraph  # noqa: E402
from samples.small_pose.optimization import learning_rate_factor  # noqa: E402

ASSETS = Path(__file__).resolve().parents[3] / "shared" / "assets"
WEIGHTS = ASSETS / "weights"
needs_assets = pytest.mark.skipif(not WEIGHTS.is_dir(), reason="needs ../shared/assets")


def detector():
    return starts.detector(WEIGHTS / "yolox_nano.onnx")


def pose():
    return starts.pose(WEIGHTS / "pp_tinypose_256x192.onnx", CROP, CROP)


STARTS = {
    "detector": (detector, starts.DETECTOR_SIDE, 255.0),
    "pose": (pose, CROP, 2.0),
}


def session(model):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    content = model if isinstance(model, bytes) else model.SerializeToString()
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def run_onnx(model, array):
    opened = session(model)
    return opened.run(None, {opened.get_inputs()[0].name: array})


# --- graphs ---------------------------------------------------------------------------


@needs_assets
@pytest.mark.parametrize("name", STARTS)
def test_a_public_file_computes_in_torch_what_it_computes_in_onnx_runtime(name):
    make, side, high = STARTS[name]
    model = make()
    images = np.random.default_rng(0).uniform(0, high, (2, 3, side, side)).astype(np.float32)
    with torch.no_grad():
        ours = TrainableGraph(model)(torch.from_numpy(images)).numpy()
    (theirs,) = run_onnx(model, images)
    np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=2e-4 * np.abs(theirs).max())


@needs_assets
def test_training_changes_weights_alone():
    model = pose()
    network = TrainableGraph(model)
    same = network.trained()
    assert same.SerializeToString() == model.SerializeToString()
    with torch.no_grad():
        for value in network.parameters():
            value.add_(1.0)
    after = network.trained()
    assert after.graph.node == model.graph.node
    weights = {n for node in model.graph.node if node.op_type == "Conv" for n in node.input[1:]}
    for old, new in zip(model.graph.initializer, after.graph.initializer, strict=True):
        change = 1.0 if old.name in weights else 0.0
        expected = numpy_helper.to_array(old) + np.array(change, numpy_helper.to_array(old).dtype)
        np.testing.assert_array_equal(numpy_helper.to_array(new), expected)


def test_an_unknown_operator_is_refused_by_name():
    node = onnx.helper.make_node("Gelu", ["a"], ["b"], name="odd")
    values = [
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1]) for name in "ab"
    ]
    graph = onnx.helper.make_graph([node], "g", values[:1], values[1:])
    with pytest.raises(ValueError, match=r"odd: expected one of .*, got Gelu"):
        TrainableGraph(onnx.helper.make_model(graph))


# --- heatmaps -------------------------------------------------------------------------


@pytest.mark.parametrize("place", [(20.3, 11.9), (0.5, 24.0), (47.5, 47.5), (24.0, 1.2)])
def test_the_place_of_a_gaussian_is_exact(place):
    labels = person(keypoints=np.tile(np.array([*place, 1.0], np.float32), (17, 1)))
    labels.keypoints[..., :2] *= STRIDE
    heatmaps, weights = targets(labels)
    seen = decoded(torch.from_numpy(heatmaps)[None])[0].numpy()
    assert heatmaps.shape == (17, CROP // STRIDE, CROP // STRIDE)
    np.testing.assert_allclose(seen[:, :2], np.tile(place, (17, 1)), atol=2e-3)
    assert (weights == 1).all()


@pytest.mark.parametrize(("place", "cell"), [((24.2, 0.8), 0.5), ((24.2, 47.3), 47.5)])
def test_in_a_border_cell_the_place_is_its_middle(place, cell):
    labels = person(keypoints=np.tile(np.array([*place, 1.0], np.float32), (17, 1)))
    labels.keypoints[..., :2] *= STRIDE
    seen = decoded(torch.from_numpy(targets(labels)[0])[None])[0].numpy()
    np.testing.assert_allclose(seen[:, :2], np.tile((place[0], cell), (17, 1)), atol=2e-3)


def test_a_flat_heatmap_gives_a_finite_place_and_no_score():
    seen = decoded(torch.zeros(1, 17, 48, 48)).numpy()
    assert np.isfinite(seen).all()
    assert (seen[..., 2] == 0).all()


def test_targets_teach_what_the_teacher_knows():
    labels = person()
    labels.scores[0, :3] = (-1, 0.1, 0.9)  # no word, unsure, sure
    heatmaps, weights = targets(labels)
    np.testing.assert_allclose(weights[:3], (0, 0.3, 1))
    assert heatmaps[0].max() == 0
    assert heatmaps[2].max() == pytest.approx(0.9, abs=0.1)


# --- geometry -------------------------------------------------------------------------


def person(keypoints=None, box=(40.0, 30.0, 120.0, 150.0)):
    if keypoints is None:
        keypoints = np.random.default_rng(1).uniform(50, 110, (17, 3)).astype(np.float32)
        keypoints[:, 2] = 1
    return Labels(
        np.array([box], np.float32),
        keypoints[None].astype(np.float32),
        np.full((1, 17), 0.9, np.float32),
        np.array([PERSON], np.uint8),
        np.array([9600], np.float32),
    )


@pytest.mark.parametrize("mirror", [False, True])
@pytest.mark.parametrize(("degrees", "scale"), [(0, 1.0), (37, 1.3), (-90, 0.5), (180, 0.8)])
def test_keypoints_follow_the_pixels(degrees, scale, mirror):
    linear = turn(degrees, scale, mirror)
    placement = Placement(linear, 96 - linear @ [80.0, 90.0])
    picture = np.full((200, 180, 3), 20, np.uint8)
    picture[68:73, 98:103] = 250  # middle of the dot: x 100.5, y 70.5
    labels = person()
    labels.keypoints[0, :, :2] = (100.5, 70.5)
    image = warped(picture, placement, 192).astype(float)[..., 0]
    image = np.where(image > 130, image, 0)
    y, x = np.mgrid[:192, :192] + 0.5
    found = np.array([(image * x).sum(), (image * y).sum()]) / image.sum()
    there = moved(labels, placement)
    np.testing.assert_allclose(there.keypoints[0, 0, :2], found, atol=0.4)
    assert there.areas[0] == pytest.approx(9600 * scale**2, rel=1e-4)


def test_a_mirror_exchanges_left_and_right():
    labels = person()
    there = moved(labels, Placement(turn(0, 1.0, True), np.array([200.0, 0.0])))
    expected = labels.keypoints[0, FLIP_INDEX, 0]
    np.testing.assert_allclose(there.keypoints[0, :, 0], 200 - expected, rtol=1e-5)


def test_who_leaves_the_picture_becomes_a_doubt_then_nothing():
    for shift, kinds in ((0, [PERSON]), (-100, [DOUBT]), (-200, [])):
        there = moved(person(), Placement(np.eye(2), np.array([shift, 0.0])))
        seen = cut(there, (192, 192))
        assert seen.kinds.tolist() == kinds
        assert (seen.boxes >= 0).all()
        outside = (there.keypoints[..., 0] < 0)[: len(kinds)]
        assert (seen.keypoints[..., 2][outside] == 0).all()
        assert (seen.scores[outside] == 0).all()


def test_a_crop_holds_the_padded_person_in_its_middle():
    labels = person()
    there = moved(labels, crop_placement(labels, turn(0, 1.0, False))).boxes[0]
    sides = there[2:] - there[:2]
    assert sides.max() == pytest.approx(CROP / PADDING, rel=1e-5)
    np.testing.assert_allclose((there[:2] + there[2:]) / 2, CROP / 2, rtol=1e-5)


# --- losses and steps -----------------------------------------------------------------


def test_simota_assigns_the_cell_at_a_person_and_ignores_those_on_a_doubt():
    side = 64
    corners, strides = grid((side, side), torch.device("cpu"))
    middle = (corners + 0.5) * strides
    boxes = torch.cat([middle - 2, middle + 2], 1)[None].clone()
    aim = int(((middle - 20).abs().sum(1) + 100 * (strides[:, 0] != 8)).argmin())
    boxes[0, aim] = torch.tensor([10.0, 10.0, 30.0, 30.0])
    people = torch.tensor([[[10.0, 10.0, 30.0, 30.0], [40.0, 40.0, 60.0, 60.0], [0, 0, 0, 0]]])
    kinds = torch.tensor([[PERSON, DOUBT, 0]])
    cells = Cells(boxes, torch.full((1, len(corners)), 0.5))
    image, cell, row, overlap, ignored = simota(cells, people, kinds, side)
    assert (image.tolist(), cell.tolist(), row.tolist()) == ([0], [aim], [0])
    assert overlap.item() == pytest.approx(1)
    inside = ((middle > 42) & (middle < 58)).all(1)
    assert ignored[0][inside].all()
    assert not ignored[0][(middle < 36).any(1)].any()


def test_the_learning_rate_rises_and_falls():
    assert learning_rate_factor(0, 0.0) == pytest.approx(0.01)
    assert learning_rate_factor(500, 0.0) == pytest.approx(1)
    assert learning_rate_factor(500, 1.0) == pytest.approx(0.02)


@pytest.mark.parametrize("workers", [0, 2])
def test_every_worker_draws_from_a_seed_of_its_own(workers):
    def make(seed):
        rng = np.random.default_rng(seed)
        return lambda: (torch.from_numpy(rng.random(3)),)

    # OpenCV's threads exist before the fork, as after a measurement.
    cv2.setNumThreads(4)
    cv2.warpAffine(np.zeros((1500, 1500, 3), np.uint8), np.eye(2, 3), (1500, 1500))
    drawn = training.batches(make, 5, workers)
    first = [next(drawn)[0].tolist() for _ in range(4)]
    assert first[0] == np.random.default_rng(5).random(3).tolist()
    assert len({tuple(one) for one in first}) == 4


# --- the composed file ----------------------------------------------------------------


@pytest.fixture(scope="module")
def composed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("composed")
    for name, (make, *_) in STARTS.items():
        onnx.save(make(), str(folder / f"{name}.onnx"))
    compose.write(folder / "detector.onnx", folder / "pose.onnx", folder / "small.onnx")
    return (folder / "small.onnx").read_bytes()


def street():
    """Return a frame of a street, letterboxed: (1, 3, 640, 640)."""
    read, frame = cv2.VideoCapture(str(ASSETS / "videos" / "street_5_frames.mp4")).read()
    assert read
    height, width = frame.shape[:2]
    scale = 640 / max(height, width)
    size = (round(width * scale), round(height * scale))
    whole = np.full((640, 640, 3), 114, np.uint8)
    whole[: size[1], : size[0]] = cv2.resize(frame, size, interpolation=cv2.INTER_AREA)
    return np.ascontiguousarray(whole.transpose(2, 0, 1)[None], np.float32)


@needs_assets
def test_the_composed_file_sees_what_the_torch_module_sees(composed):
    image = street()
    network = compose.SmallPose(TrainableGraph(detector()), TrainableGraph(pose())).eval()
    with torch.no_grad():
        boxes, keypoints = (part.numpy() for part in network(torch.from_numpy(image)))
    file_boxes, file_keypoints = run_onnx(composed, image)
    people = boxes[0, :, 4] > 0.5
    assert people.sum() >= 2
    for box, points in zip(boxes[0][people], keypoints[0][people], strict=True):
        near = np.abs(file_boxes[0, :, :4] - box[:4]).max(1)
        twin = int(near.argmin())
        size = (box[2:4] - box[:2]).max()
        assert near[twin] < 0.05 * size
        assert file_boxes[0, twin, 4] == pytest.approx(box[4], abs=0.03)
        seen = points[:, 2] > 0.6
        away = np.abs(file_keypoints[0, twin, :, :2] - points[:, :2])[seen]
        assert np.median(away) < 0.02 * size if seen.any() else True


@needs_assets
def test_a_picture_without_people_gives_none(composed):
    boxes, keypoints = run_onnx(composed, np.full((2, 3, 640, 640), 114, np.float32))
    assert (boxes[..., 4] == 0).all()
    assert keypoints.shape == (*boxes.shape[:2], 17, 3)
    # In a batch without people the first place of each picture is posed, a crop of plain grey.
    assert (keypoints[:, 1:] == 0).all()
    assert keypoints[..., 2].max() < 0.3
    assert np.isfinite(keypoints).all()


def test_halved_weights_stay_within_the_rounding_of_float16():
    rng = np.random.default_rng(0)
    large, few = rng.normal(0, 1, (8, 16)).astype(np.float32), np.ones(3, np.float32) / 3
    nodes = [
        onnx.helper.make_node("MatMul", ["x", "large"], ["y"]),
        onnx.helper.make_node("Mul", ["y", "few"], ["z"]),
    ]
    values = [
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape)
        for name, shape in (("x", [2, 8]), ("z", [2, 16]))
    ]
    weights = [numpy_helper.from_array(large, "large"), numpy_helper.from_array(few[:1], "few")]
    graph = onnx.helper.make_graph(nodes, "g", values[:1], values[1:], weights)
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)])
    model.ir_version = 8
    x = rng.normal(0, 1, (2, 8)).astype(np.float32)
    (before,) = run_onnx(model, x)
    compose.halve_weights(model)
    onnx.checker.check_model(model)
    kinds = {value.name: value.data_type for value in model.graph.initializer}
    assert kinds == {"large_half": onnx.TensorProto.FLOAT16, "few": onnx.TensorProto.FLOAT}
    (after,) = run_onnx(model, x)
    np.testing.assert_allclose(after, before, atol=5e-3)


@needs_assets
def test_a_composed_file_comes_apart_again(composed):
    model = onnx.load_from_string(composed)
    for name, (make, *_) in STARTS.items():
        before, after = (floats(one) for one in (make(), split.part(model, name, make())))
        assert before.keys() == after.keys()
        for key, array in before.items():
            np.testing.assert_allclose(after[key], array, rtol=1e-3, atol=1e-6, err_msg=key)
    with pytest.raises(ValueError, match=r"pose\.weights\.w0: expected shape"):
        split.part(make(), name, make())


def floats(model):
    arrays = {value.name: numpy_helper.to_array(value) for value in model.graph.initializer}
    return {name: array for name, array in arrays.items() if array.dtype == np.float32}


@needs_assets
def test_mixed_networks_lie_between_their_two():
    start, trained = detector(), detector()
    for value in trained.graph.initializer:
        array = numpy_helper.to_array(value)
        if array.dtype == np.float32 and array.size:
            value.CopyFrom(numpy_helper.from_array(array + 1, value.name))
    for share in (0.0, 0.25, 1.0):
        between = floats(mix.mixed(start, trained, share))
        for name, array in floats(start).items():
            np.testing.assert_allclose(between[name], array + share, atol=1e-3)
    with pytest.raises(ValueError, match=r"expected .* in both networks"):
        mix.mixed(pose(), trained, 0.5)
    with pytest.raises(ValueError, match="share: expected 0 to 1, got 7"):
        mix.mixed(start, trained, 7)
