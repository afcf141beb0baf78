"""deploy.benchmark: a row per backend and batch, in processes of their own."""

import json

import pytest

from deploy.backends import candidates
from deploy.benchmark import benchmark, measure
from recognizer.config.file import ConfigError
from recognizer.config.schema import Config
from recognizer.runs.progress import silent
from tests import networks


def config_of(folder, **deploy):
    return Config.model_validate(
        {
            "deploy": {
                "model": "pose",
                "output_dir": str(folder / "report"),
                "frames": 5,
                **deploy,
            },
            "annotation": {"input": str(folder / "no videos")},
            "models": {
                "pose_estimation": {"kind": "rtmo", "onnx": {"model_path": str(folder / "m.onnx")}}
            },
        }
    )


def test_a_row_for_every_batch_size(tmp_path):
    networks.rtmo(tmp_path / "m.onnx")
    assert benchmark(config_of(tmp_path, batch_sizes=[1, 3]), silent) == 0
    report = json.loads((tmp_path / "report" / "benchmark.json").read_bytes())
    assert [(row["name"], row["batch"]) for row in report["rows"]] == [
        ("onnx cpu fp32", 1),
        ("onnx cpu fp32", 3),
    ]
    for row in report["rows"]:
        assert row["provider"].startswith("CPUExecutionProvider (ONNX Runtime ")
        assert 0 < row["p50_ms"] <= row["p90_ms"] <= row["p99_ms"]
        assert row["frames_per_s"] > 0
        assert row["memory_mb"] > 0
        assert row["calls"] == 20
    assert [one["name"] for one in report["left_out"]] == ["pth", "tensorrt"]
    text = (tmp_path / "report" / "benchmark.md").read_text()
    assert text.count("| onnx cpu fp32 |") == 2


def test_people_are_counted_once_per_frame(tmp_path):
    networks.rtmo(tmp_path / "m.onnx")
    config = config_of(tmp_path)
    (candidate,), _ = candidates(config)
    assert measure(config, candidate, 1).people == 5  # one in each of the five frames
    timing = measure(config_of(tmp_path, warm_up=0), candidate, 5)
    assert (timing.people, timing.batch, timing.gpu_mb) == (5, 5, None)


def test_no_backend_at_all_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="a backend that can run here, got none; pth: not"):
        benchmark(config_of(tmp_path), silent)


def test_a_file_that_is_no_network_stops_it_by_name(tmp_path):
    (tmp_path / "m.onnx").write_bytes(b"no network")
    with pytest.raises(ValueError, match=r"m\.onnx: expected an ONNX network"):
        benchmark(config_of(tmp_path), silent)
