"""The buffer that pictures are letterboxed into, and networks that take it as 8-bit numbers."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from recognizer.backends.network import ModelError
from recognizer.backends.onnx import OnnxNetwork
from recognizer.config.models import OnnxPoseConfig
from recognizer.config.types import OnnxRuntimeOptions
from recognizer.geometry import LETTERBOX_GREY
from recognizer.pose.detector import LetterboxBatch
from recognizer.pose.rtmo import RtmoPose
from recognizer.video.array_image import ArrayImage
from tests import networks

SIZES = [(64, 36), (36, 64), (64, 64), (200, 100), (17, 90), (1, 1)]


def picture(size_wh, seed=0):
    random = np.random.default_rng((seed, *size_wh))
    return ArrayImage(random.integers(0, 256, (size_wh[1], size_wh[0], 3)).astype(np.uint8))


def expected(image, input_wh):
    """Return the letterbox as it is defined: grey, and the scaled picture at the top left."""
    scale = min(input_wh[0] / image.size_wh[0], input_wh[1] / image.size_wh[1])
    inner = tuple(max(1, int(side * scale)) for side in image.size_wh)
    whole = np.full((input_wh[1], input_wh[0], 3), LETTERBOX_GREY, np.uint8)
    whole[: inner[1], : inner[0]] = image.bgr(inner)
    return whole


@pytest.mark.parametrize("uint8", [False, True])
@pytest.mark.parametrize("input_wh", [(64, 64), (64, 32), (32, 96)])
def test_a_reused_buffer_never_keeps_an_earlier_picture(uint8, input_wh):
    letterboxes = LetterboxBatch(input_wh, uint8=uint8)
    for turn, sizes in enumerate([SIZES, SIZES[::-1], SIZES[2:4], SIZES]):
        images = [picture(size, turn) for size in sizes]
        given, fits = letterboxes.fill(images)
        assert len(given) == len(fits) == len(images)
        for image, one in zip(images, given, strict=True):
            reference = expected(image, input_wh)
            if uint8:
                assert one.dtype == np.uint8
                assert np.array_equal(one, reference)
            else:
                assert one.dtype == np.float32
                assert np.array_equal(one, reference.transpose(2, 0, 1))


def of_bytes(source, target):
    """Save a network that takes (B, H, W, 3) uint8 in place of (B, 3, H, W) float32."""
    model = onnx.load(str(source))
    dims = model.graph.input[0].type.tensor_type.shape.dim
    batch, _, height, width = (dim.dim_param or dim.dim_value for dim in dims)
    for node in model.graph.node:
        node.input[:] = ["planes" if name == "input" else name for name in node.input]
    before = [
        helper.make_node("Cast", ["input"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["floats"], ["planes"], perm=[0, 3, 1, 2]),
    ]
    nodes = [*before, *model.graph.node]
    del model.graph.node[:], model.graph.input[:]
    model.graph.node.extend(nodes)
    model.graph.input.append(
        helper.make_tensor_value_info("input", TensorProto.UINT8, [batch, height, width, 3])
    )
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, str(target))
    return target


def opened(path, size=None):
    return RtmoPose(OnnxNetwork(path, OnnxRuntimeOptions()), OnnxPoseConfig(), size)


def test_a_network_of_8_bit_pixels_sees_what_the_other_sees(tmp_path):
    floats = networks.rtmo(tmp_path / "m.onnx", input_wh=(64, 32))
    bytes_ = of_bytes(floats, tmp_path / "u8.onnx")
    images = [picture(size) for size in SIZES[:4]]
    for a, b in zip(opened(floats)(images), opened(bytes_)(images), strict=True):
        assert len(a) == 1
        assert np.array_equal(a.keypoints, b.keypoints)
        assert np.array_equal(a.boxes, b.boxes)


def test_a_size_that_the_file_does_not_take_is_named(tmp_path):
    path = of_bytes(networks.rtmo(tmp_path / "m.onnx", input_wh=(64, 32)), tmp_path / "u8.onnx")
    with pytest.raises(
        ModelError, match=r"model_input_size is \[64, 64\], the file takes \[64, 32\]"
    ):
        opened(path, (64, 64))


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (None, "takes any input size; set model_input_size"),
        ((64, 40), r"expected multiples of 32, got \[64, 40\]"),
        ((96_000, 96_000), "at most 8192 pixels a side"),
        ((64, 32), None),
    ],
)
def test_a_file_of_free_size_wants_one_and_a_fitting_one(tmp_path, size, text):
    path = networks.rtmo(tmp_path / "m.onnx", input_wh=(64, 32))
    model = onnx.load(str(path))
    shape = model.graph.input[0].type.tensor_type.shape
    shape.dim[2].dim_param, shape.dim[3].dim_param = "height", "width"
    onnx.save(model, str(path))
    if text is None:
        assert len(opened(path, size)([picture((64, 36))])[0]) == 1
        return
    with pytest.raises(ModelError, match=text):
        opened(path, size)
