"""Which network made the poses: what is in its external data counts, what only speeds it up not."""

import numpy as np
import onnx
from onnx.external_data_helper import set_external_data

from recognizer.backends.onnx import OnnxNetwork
from recognizer.config.schema import Config
from recognizer.config.types import OnnxRuntimeOptions
from recognizer.runs.stage_folders import stage1_dir, stage1_settings
from tests import networks


def config_of(path, **options):
    onnx_block = {"model_path": str(path), **options}
    return Config.model_validate(
        {
            "annotation": {"output_dir": str(path.parent / "out")},
            "models": {"pose_estimation": {"kind": "rtmo", "onnx": onnx_block}},
        }
    )


def outside(path):
    """Save the dot network with the score that it gives in weights.bin beside it."""
    model = onnx.load(str(networks.rtmo(path)))
    (score,) = (weight for weight in model.graph.initializer if weight.name == "score")
    set_external_data(score, "weights.bin")
    onnx.save(model, str(path))
    return path.with_name("weights.bin")


def test_other_weights_beside_the_same_file_are_another_network(tmp_path):
    path = tmp_path / "m.onnx"
    data = outside(path)
    before = stage1_dir(config_of(path))
    assert stage1_dir(config_of(path)) == before
    image = np.random.default_rng(0).uniform(0, 255, (1, 3, 64, 64)).astype(np.float32)
    score = OnnxNetwork(path, OnnxRuntimeOptions()).run({"input": image})["dets"][0, 0, 4]
    assert score == np.float32(0.9)  # it runs, and from that file
    content = bytearray(data.read_bytes())
    at = content.index(np.float32(0.9).tobytes())
    content[at : at + 4] = np.float32(0.8).tobytes()
    data.write_bytes(bytes(content))
    assert stage1_dir(config_of(path)) != before


def test_what_runs_a_network_does_not_name_its_poses_but_fewer_bits_do(tmp_path):
    path = networks.rtmo(tmp_path / "m.onnx")
    plain = stage1_settings(config_of(path))
    same = stage1_settings(config_of(path, provider="openvino", threads=3))
    cached = stage1_settings(
        config_of(path, provider="tensorrt", device="cuda:0", tensorrt_cache_dir=str(tmp_path))
    )
    assert same == cached == plain
    assert "openvino_precision" not in plain["pose"]["onnx"]  # results of before stay valid
    short = stage1_settings(config_of(path, provider="openvino", openvino_precision="bf16"))
    assert short != plain
