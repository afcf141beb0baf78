"""Mode deploy.tensorrt: what is checked before a build; with a GPU, builds and runs.

The last part needs an NVIDIA GPU and requirements/tensorrt.txt and is skipped without them.
"""

import logging
import os
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from deploy.tensorrt import build, check_precision, onnx_file, read_onnx
from recognizer.backends.engine_cache import sidecar_path
from recognizer.backends.engine_shapes import profile
from recognizer.backends.network import ModelError
from recognizer.backends.onnx import OnnxNetwork
from recognizer.backends.tensorrt import TensorRTNetwork, machine
from recognizer.config.action import DeployConfig
from recognizer.config.file import ConfigError
from recognizer.config.models import TensorRTPoseConfig
from recognizer.config.schema import Config
from recognizer.config.types import OnnxRuntimeOptions
from recognizer.runs.progress import silent
from tests import networks

ROOT = Path(__file__).resolve().parents[2]
WEIGHTS = ROOT.parent / "shared" / "assets" / "weights"


def settings(model_path, *, model="pose", weights_dirs=(), **tensorrt):
    section = {"model_path": str(model_path), "model_input_size": [64, 64], **tensorrt}
    models = {
        "weights_dirs": [str(folder) for folder in weights_dirs],
        "pose_estimation": {"inference_mode": "tensorrt", "tensorrt": section},
    }
    deploy = DeployConfig().model_copy(update={"model": model})
    return Config.model_validate({"models": models}).model_copy(update={"deploy": deploy})


def missing_here():
    """Return why no engine can be built here, None where one can."""
    try:
        machine("cuda:0")
    except ModelError as error:
        return str(error)
    return None


MISSING = missing_here()
needs_gpu = pytest.mark.skipif(MISSING is not None, reason=f"cannot build here: {MISSING}")


# --- which file --------------------------------------------------------------------


def test_the_file_is_searched_in_weights_dirs(tmp_path):
    path = networks.rtmo(tmp_path / "rtmo.onnx")
    assert onnx_file(settings("rtmo.onnx", weights_dirs=[tmp_path])) == path
    assert onnx_file(settings(path)) == path


@pytest.mark.parametrize("service", ["fight", "falldown"])
def test_the_classifiers_are_found_where_inference_finds_them(service):
    assert onnx_file(settings("", model=service)).name == f"{service}.onnx"


@pytest.mark.parametrize(
    ("name", "model", "message"),
    [
        ("", "pose", "is not set: expected the .onnx file to build from"),
        ("rtmo.trt", "pose", "got 'rtmo.trt'; --set models.pose_estimation.tensorrt.model_path="),
        ("none.onnx", "pose", "expected a model file 'none.onnx', found none at "),
        ("rtmo.onnx", "horse", "expected pose, fight or falldown to build an engine of, got horse"),
    ],
)
def test_a_config_without_a_file_is_refused(tmp_path, name, model, message):
    with pytest.raises(ConfigError) as caught:
        onnx_file(settings(name, model=model, weights_dirs=[tmp_path]))
    assert message in str(caught.value)


# --- what the file says ------------------------------------------------------------


def weighed(path, dtype=np.float32, *, constant=False, batch="B"):
    """Save ``y = x * weight`` with one weight of 8 numbers, as initializer or as constant."""
    weight = numpy_helper.from_array(np.arange(8).astype(dtype), "weight")
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    nodes = [helper.make_node("Constant", [], ["weight"], value=weight)] if constant else []
    nodes.append(helper.make_node("Mul", ["x", "weight"], ["y"]))
    values = [helper.make_tensor_value_info(name, kind, [batch, 8]) for name in "xy"]
    graph = helper.make_graph(nodes, "test", values[:1], values[1:], [] if constant else [weight])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    helper.set_model_props(model, {"recognizer": "facts"})
    onnx.save(model, str(path))
    return path


@pytest.mark.parametrize("constant", [False, True])
@pytest.mark.parametrize(("dtype", "name"), [(np.float32, "FLOAT"), (np.float16, "FLOAT16")])
def test_inputs_metadata_and_precision_are_read(tmp_path, dtype, name, constant):
    graph = read_onnx(weighed(tmp_path / "m.onnx", dtype, constant=constant))
    (spec,) = graph.inputs
    assert (spec.name, spec.shape) == ("x", (None, 8))
    assert spec.dtype == {"FLOAT": "tensor(float)", "FLOAT16": "tensor(float16)"}[name]
    assert graph.element_types == {name}
    assert graph.metadata == {"recognizer": "facts"}
    assert graph.weights == {}


@pytest.mark.parametrize("name", ["rtmo", "heatmap"])
def test_inputs_are_those_that_onnx_runtime_sees(tmp_path, name):
    path = getattr(networks, name)(tmp_path / "m.onnx")
    assert read_onnx(path).inputs == OnnxNetwork(path, OnnxRuntimeOptions()).inputs


@pytest.mark.skipif(not WEIGHTS.is_dir(), reason="no ../shared/assets/weights")
@pytest.mark.parametrize(
    ("name", "size", "shape"),
    [
        ("pp_tinypose_256x192.onnx", [192, 256], (1, 3, 256, 192)),
        ("yolox_nano.onnx", [416, 416], (1, 3, 416, 416)),
    ],
)
def test_published_files_get_a_profile_of_their_own_size(name, size, shape):
    graph = read_onnx(WEIGHTS / name)
    (span,) = profile(graph.inputs, TensorRTPoseConfig.model_validate({"model_input_size": size}))
    assert span.smallest == span.tuned == span.largest == shape
    with pytest.raises(ModelError, match="model_input_size"):
        profile(graph.inputs, TensorRTPoseConfig())


def test_our_classifiers_get_a_profile():
    graph = read_onnx(onnx_file(settings("", model="fight")))
    people, measures = profile(graph.inputs, TensorRTPoseConfig())
    assert (people.smallest[0], people.largest[0]) == (1, 8)
    assert measures.smallest == measures.largest  # one clip's numbers


def test_a_file_named_fp16_must_hold_half_precision(tmp_path):
    single, half = tmp_path / "single_fp16.onnx", tmp_path / "half_fp16.onnx"
    check_precision(half, read_onnx(weighed(half, np.float16)))
    with pytest.raises(ModelError, match=r"expected float16 weights .*, got FLOAT; .*export"):
        check_precision(single, read_onnx(weighed(single)))


# --- bad files ---------------------------------------------------------------------


@pytest.mark.parametrize("content", [b"", b"not a network", b"\x08\x08" + bytes(100)])
def test_a_file_that_is_no_network_is_refused_by_name(tmp_path, content):
    (tmp_path / "broken.onnx").write_bytes(content)
    with pytest.raises(ModelError, match=r"broken\.onnx: expected an ONNX network"):
        build(settings(tmp_path / "broken.onnx"), silent)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_a_cut_off_network_is_refused(tmp_path, share):
    path = networks.rtmo(tmp_path / "m.onnx")
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(ModelError, match=r"m\.onnx: expected an ONNX network"):
        read_onnx(path)


def test_changed_bytes_are_refused_in_words_or_harmless(tmp_path):
    good = networks.rtmo(tmp_path / "good.onnx").read_bytes()
    random = np.random.default_rng(1)
    expected = TensorRTPoseConfig(model_input_size=(64, 64))
    refused = 0
    for _ in range(300):
        content = bytearray(good)
        content[random.integers(len(good))] = random.integers(256)
        (tmp_path / "m.onnx").write_bytes(content)
        try:
            profile(read_onnx(tmp_path / "m.onnx").inputs, expected)
        except ModelError:
            refused += 1
    assert 100 < refused < 300


def test_a_weight_of_no_known_type_is_refused(tmp_path):
    model = onnx.load(str(weighed(tmp_path / "m.onnx")))
    model.graph.initializer[0].data_type = 82
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(ModelError, match=r"m\.onnx: expected an ONNX network"):
        read_onnx(tmp_path / "m.onnx")


def external(path, location):
    """Save a network whose weight stands in another file."""
    model = onnx.load(str(weighed(path)))
    (weight,) = model.graph.initializer
    content = weight.raw_data
    weight.ClearField("raw_data")
    weight.data_location = TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", "0"), ("length", str(len(content)))):
        entry = weight.external_data.add()
        entry.key, entry.value = key, value
    path.write_bytes(model.SerializeToString())
    return content


def test_external_weights_are_part_of_what_the_engine_was_made_from(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    content = external(folder / "m.onnx", "m.data")
    with pytest.raises(ModelError, match="expected an ONNX network"):
        read_onnx(folder / "m.onnx")  # the data is missing
    (folder / "m.data").write_bytes(content)
    before = read_onnx(folder / "m.onnx").weights
    assert list(before) == ["m.data"]
    (folder / "m.data").write_bytes(content[::-1])
    assert read_onnx(folder / "m.onnx").weights != before


@pytest.mark.parametrize("kind", ["up", "absolute", "link"])
def test_external_weights_outside_of_the_folder_are_refused(tmp_path, kind):
    folder = tmp_path / "in"
    folder.mkdir()
    outside = tmp_path / "m.data"
    location = {"up": "../m.data", "absolute": str(outside), "link": "link.data"}[kind]
    outside.write_bytes(external(folder / "m.onnx", location))
    if kind == "link":
        os.symlink(outside, folder / "link.data")  # noqa: PTH211
    with pytest.raises(ModelError, match=r"m\.onnx: expected an ONNX network"):
        read_onnx(folder / "m.onnx")


@pytest.mark.skipif(MISSING is None, reason="a build is possible here")
def test_where_nothing_can_be_built_the_remedy_is_reported_and_nothing_is_left(tmp_path):
    path = networks.rtmo(tmp_path / "rtmo.onnx")
    with pytest.raises(ModelError, match=r"requirements/tensorrt\.txt|expected an NVIDIA GPU"):
        build(settings(path), silent)
    assert [file.name for file in tmp_path.iterdir()] == ["rtmo.onnx"]


def test_shapes_are_checked_before_a_gpu_is_needed(tmp_path):
    path = networks.rtmo(tmp_path / "rtmo.onnx", batch=16)
    with pytest.raises(ModelError, match="got a file exported for 16"):
        build(settings(path), silent)


# --- with a GPU and TensorRT -------------------------------------------------------


def data_dependent(path):
    """Save a network whose output is as long as there are numbers above 0."""
    nodes = [
        helper.make_node("Greater", ["x", "zero"], ["above"]),
        helper.make_node("NonZero", ["above"], ["places"]),
        helper.make_node("Add", ["x", "zero"], ["same"]),
    ]
    graph = helper.make_graph(
        nodes,
        "test",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["B", 8])],
        [
            helper.make_tensor_value_info("places", TensorProto.INT64, [2, None]),
            helper.make_tensor_value_info("same", TensorProto.FLOAT, ["B", 8]),
        ],
        [numpy_helper.from_array(np.zeros(1, np.float32), "zero")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, str(path))
    return path


@needs_gpu
def test_an_engine_says_what_onnx_runtime_says(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    path = networks.rtmo(tmp_path / "rtmo.onnx")
    config = settings(path, allow_tf32=False)
    assert build(config, silent) == 0
    assert build(config, silent) == 0
    assert "nothing to build" in caplog.text
    section = config.models.pose_estimation.tensorrt
    network = TensorRTNetwork(path, "cuda:0", max_batch=8, section=section)
    reference = OnnxNetwork(path, OnnxRuntimeOptions())
    random = np.random.default_rng(0)
    for batch in (1, 8, 3, 8):  # buffers grow and are used again
        feeds = {"input": random.random((batch, 3, 64, 64), np.float32)}
        for name, values in reference.run(feeds).items():
            np.testing.assert_allclose(network.run(feeds)[name], values, atol=1e-4)
    with pytest.raises(ModelError, match=r"got \(9,3,64,64\)"):
        network.run({"input": np.zeros((9, 3, 64, 64), np.float32)})


@needs_gpu
def test_an_engine_as_a_cuda_graph_says_the_same(tmp_path):
    path = networks.rtmo(tmp_path / "rtmo.onnx")
    config = settings(path, allow_tf32=False, static_batch=4, cuda_graph=True)
    build(config, silent)
    section = config.models.pose_estimation.tensorrt
    network = TensorRTNetwork(path, "cuda:0", section=section)
    assert network.inputs[0].shape[0] == 4
    reference = OnnxNetwork(path, OnnxRuntimeOptions())
    for seed in range(3):
        feeds = {"input": np.random.default_rng(seed).random((4, 3, 64, 64), np.float32)}
        for name, values in reference.run(feeds).items():
            np.testing.assert_allclose(network.run(feeds)[name], values, atol=1e-4)
    with pytest.raises(ModelError, match="expected 4 items"):
        network.run({"input": np.zeros((3, 3, 64, 64), np.float32)})


@needs_gpu
def test_outputs_that_only_the_data_sizes(tmp_path):
    path = data_dependent(tmp_path / "m.onnx")
    config = settings(path)
    build(config, silent)
    section = config.models.pose_estimation.tensorrt
    network = TensorRTNetwork(path, "cuda:0", section=section)
    reference = OnnxNetwork(path, OnnxRuntimeOptions())
    random = np.random.default_rng(0)
    for batch in (1, 8, 2):
        for shift in (0, 10, -10):  # some, all, none
            feeds = {"x": (random.normal(size=(batch, 8)) + shift).astype(np.float32)}
            for name, values in reference.run(feeds).items():
                np.testing.assert_array_equal(network.run(feeds)[name], values)


@needs_gpu
def test_a_changed_setting_builds_again_and_a_damaged_engine_is_refused(tmp_path):
    path = networks.rtmo(tmp_path / "rtmo.onnx")
    build(settings(path, opt_batch=1), silent)
    build(settings(path, opt_batch=2), silent)
    engines = sorted(tmp_path.glob("*.engine"))
    assert len(engines) == 2
    assert len(list(tmp_path.glob("*.timing"))) == 1
    content = engines[0].read_bytes()
    engines[0].write_bytes(content[:-100])
    with pytest.raises(ModelError, match="the file was cut off"):
        TensorRTNetwork(engines[0], "cuda:0")
    sidecar_path(engines[0]).unlink()
    trusting = TensorRTPoseConfig(trust_model_path=True)
    with pytest.raises(ModelError, match="expected an engine that TensorRT"):
        TensorRTNetwork(engines[0], "cuda:0", section=trusting)
