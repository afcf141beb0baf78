"""What the speed measurements rest on: their clock, their record, their costs, equal pictures."""

import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("mmpose")

from benchmarks.gpu import _speed, speed, speed_pose, speed_training  # noqa: E402
from benchmarks.gpu._part import PACK, ROOT, Options, Results  # noqa: E402
from benchmarks.gpu._speed import Clock, MeasurementLog  # noqa: E402
from recognizer.geometry import Letterbox  # noqa: E402
from recognizer.pose.detector import Boxes, LetterboxBatch  # noqa: E402
from recognizer.video.array_image import ArrayImage  # noqa: E402
from tests.backends.pose_models import picture  # noqa: E402

ONCE = Clock("cpu", 0.0, 1, least=1, warm_ups=0)


def log(out, seconds=60.0, tiny=True):
    options = Options(out, "cpu", seconds, tiny, out, time.monotonic() + seconds)
    return MeasurementLog(options, Results.open(options, "speed"))


def test_a_call_is_timed_as_often_as_time_allows():
    calls = []
    found = Clock("cpu", 60.0, 5, warm_ups=2).latencies(lambda: calls.append(time.sleep(0.002)))
    assert len(calls) == 7
    assert found["calls"] == 5
    assert 2 <= found["p50_ms"] <= found["p90_ms"] <= found["p99_ms"]
    assert Clock("cpu", 0.0, 5, least=2).latencies(lambda: None)["calls"] == 2


def test_what_is_known_is_not_measured_again_and_a_failure_is_reported_once(tmp_path):
    one, calls = log(tmp_path), []

    def fails():
        calls.append("fails")
        raise RuntimeError("no memory")

    assert one.measure("a", lambda: {"p50_ms": 1.0}) == {"p50_ms": 1.0}
    assert one.measure("b", fails) is None
    assert one.measure("b", fails) is None
    assert one.measure("a", fails) == {"p50_ms": 1.0}
    assert calls == ["fails"]
    assert one.has(["a", "b"])
    assert "no memory" in json.loads((tmp_path / "speed.json").read_text())["b"]["error"]
    again = log(tmp_path)  # a second call tries again what failed
    assert again.has(["a"])
    assert not again.has(["a", "b"])
    assert again.measure("b", lambda: {"p50_ms": 2.0}) == {"p50_ms": 2.0}


def test_nothing_begins_late(tmp_path):
    late = log(tmp_path, seconds=0.0)
    assert late.measure("a", lambda: pytest.fail("it began")) is None
    speed_training.run(late, ONCE, speed_training.POSE_WAYS, lambda *_, **__: pytest.fail("built"))
    speed_pose.rtmo(late, ONCE, "rtmo-s")
    assert not late.results.values


def test_what_cannot_be_built_fails_alone(tmp_path):
    one = log(tmp_path)  # no data there: frames cannot be read
    for subject in speed.subjects_of(one.options)[:1]:
        speed.attempt(subject, one)
        speed.attempt(subject, one)
        assert subject.keys
        for key in subject.keys:
            assert "OpenCV reads no frame" in one.results.values[key]["error"]
    assert (tmp_path / "speed.md").is_file()


def test_the_cost_of_layers_is_what_they_multiply_and_move():
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3, padding=1, bias=False), torch.nn.ReLU())
    flops, moved = _speed.cost(net, torch.zeros(2, 3, 10, 12))
    pixels = 2 * 10 * 12
    assert flops == 2 * pixels * 8 * 3 * 9
    assert moved == 4 * (pixels * 3 + 8 * 3 * 9 + pixels * 8 + 2 * pixels * 8)


def test_shares_are_of_the_measured_card():
    card = {"bf16_tflops": 100.0, "copy_tbps": 2.0}
    found = _speed.roofline({"p50_ms": 10.0}, card, "bf16", 5e11, 1e10)
    assert found == pytest.approx(
        {"tflops": 50, "tbps": 1, "of_matmul": 0.5, "of_copy": 0.5, "of_roofline": 0.5}
    )
    assert set(_speed.roofline({"p50_ms": 1.0}, {}, "fp16", 1.0, 1.0)) == {"tflops", "tbps"}


@pytest.mark.parametrize("size", [(1280, 720), (300, 400), (96, 96)])
def test_frames_letterboxed_by_torch_are_those_of_the_cpu(size):
    frames = np.stack([picture(seed, size) for seed in range(2)])
    fit = Letterbox.fit(size, (192, 192))
    found = speed_pose.letterboxed(torch.from_numpy(frames), fit).numpy().astype(int)
    images = [ArrayImage(frame) for frame in frames]
    expected = LetterboxBatch((192, 192), uint8=True).fill(images)[0].astype(int)
    assert np.abs(found - expected).max() <= 1


@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_so_many_people_are_shown_as_asked_for(count):
    boxes = [Boxes(np.zeros((n, 4), np.float32), np.ones(n, np.float32)) for n in (2, 1)]
    images, found = speed_pose.first_people(SimpleNamespace(images=["a", "b"], boxes=boxes), count)
    assert sum(len(one.scores) for one in found) == count
    assert len(images) == len(found)


def test_our_steps_and_those_of_the_peers_begin_alike():
    steps = speed_training.ActionSteps("cpu", tiny=True)
    losses = {}
    for way in speed_training.ACTION_WAYS:
        if way.dtype in {"fp32", "tf32"}:
            step = steps.step(way, 2)
            torch.manual_seed(1)
            losses[way.name] = [float(step()) for _ in range(2)]
    first = losses.pop("stgcnpp ours fp32")
    assert first[0] != first[1]  # it learns
    for name, one in losses.items():
        assert one == pytest.approx(first, abs=2e-3), name


def test_every_mode_has_a_name_and_a_section_of_its_own():
    for modes in (speed_pose.RTMO_MODES, speed_pose.SDPOSE_MODES, speed_pose.CPU_MODES):
        assert len({mode.name for mode in modes}) == len(modes)
        for mode in modes:
            section = mode.section("cuda:0", (1, 8))
            assert section.precision == mode.dtype
            assert section.batch_sizes == (1, 8)
    assert len({way.name for way in speed_training.POSE_WAYS}) == len(speed_training.POSE_WAYS)


def test_tables_are_written_of_whatever_there_is(tmp_path):
    one = log(tmp_path)
    one.results.put("card", {"name": "card X", "bf16_tflops": 700.0, "copy_tbps": 3.0})
    one.results.put("pose|rtmo-s|fp16|8", {"error": "RuntimeError: no memory"})
    speed.write(one.options, one.results)
    assert "card X" in (tmp_path / "speed.md").read_text()
    pose = {
        "network": "rtmo-s",
        "mode": "fp16",
        "batch": 8,
        "p50_ms": 4.0,
        "p90_ms": 5.0,
        "p99_ms": 6.0,
        "per_s": 2000.0,
        "network_ms": 2.0,
        "tflops": 90.0,
        "peak_mib": 512.0,
        "deviation": {"found": 7, "people": 8, "median_px": 0.25, "worst_px": None},
    }
    stages = {"network": "rtmo-s", "mode": "fp16", "batch": 8, "ms": {"upload": 1.5}}
    one.results.put("pose|rtmo-s|fp32|8", pose)
    one.results.put("stages|rtmo-s|fp16", stages)
    step = {
        "network": "stgcnpp",
        "way": "stgcnpp ours bf16",
        "dtype": "bf16",
        "batch": 64,
        "peer": False,
        "compiled": False,
        "first_loss": 0.7,
        "per_s": 100.0,
        "p50_ms": 640.0,
        "p90_ms": 650.0,
        "peak_mib": 1024.0,
    }
    peer = {**step, "way": "stgcnpp mm* fp16", "peer": True, "per_s": 50.0}
    one.results.put("step|a|64", step)
    one.results.put("step|b|64", peer)
    speed.write(one.options, one.results)
    text = (tmp_path / "speed.md").read_text()
    assert "| stgcnpp ours bf16 | 64 | 640 | 650 | 100 | 2.00 x | 1 |" in text
    assert (
        "| rtmo-s | fp16 | 8 | 4 | 5 | 6 | 2,000 | 2 | 90 | - | - | 512 | 7 of 8, 0.25 / - px |"
    ) in text
    assert "| rtmo-s | fp16 | 8 | 1.5 |" in text


@pytest.mark.slow
@pytest.mark.skipif(not (PACK / "data" / "coco").is_dir(), reason="no packed data in .gpu")
def test_the_dry_run_measures_everything(tmp_path):
    command = [
        sys.executable,
        "-m",
        "benchmarks.gpu.speed",
        "--tiny",
        "--device",
        "cpu",
        "--seconds",
        "500",
        "--out",
        str(tmp_path),
    ]
    subprocess.run(command, cwd=ROOT, check=True, timeout=560, env={**os.environ})
    found = json.loads((tmp_path / "speed.json").read_text())
    assert found["complete"] is True
    options = replace(log(tmp_path).options)
    for subject in speed.subjects_of(options):
        assert all("error" not in found[key] for key in subject.keys)
