"""Several cameras and a top-down network, which remembers the people of each."""

import threading
from pathlib import Path

import pytest

from recognizer.backends.onnx import OnnxNetwork
from recognizer.config.alerts import RulesConfig
from recognizer.config.live import CameraConfig
from recognizer.config.models import DetectorConfig, TopDownConfig
from recognizer.config.types import OnnxRuntimeOptions
from recognizer.live.analysis import SharedPose, analyses_of
from recognizer.live.engine import CameraState, Engine
from recognizer.live.errors import Reason
from recognizer.live.gather import Gatherer
from recognizer.live.rules import CameraRules, Scene
from recognizer.live.slot import FrameSlot
from recognizer.live.values import Gap, LiveFrame
from recognizer.models import open_classifier
from recognizer.pose.detector import YoloxDetector
from recognizer.pose.topdown import TopDownPose
from recognizer.video.reader import VideoReader
from tests.live.test_engine import CLIP, SETTINGS, Kept, offline, run

WEIGHTS = Path(__file__).resolve().parents[3] / "shared" / "assets" / "weights"
pytestmark = pytest.mark.skipif(not WEIGHTS.is_dir(), reason="needs ../shared/assets")
FPS = 8.0
CLIPS = {"door": CLIP, "yard": CLIP.with_name("fi006.mp4")}


@pytest.fixture(scope="module")
def networks():
    detector, pose = (
        OnnxNetwork(WEIGHTS / name, OnnxRuntimeOptions(threads=1))
        for name in ("yolox_nano.onnx", "pp_tinypose_256x192.onnx")
    )
    model = TopDownPose(
        YoloxDetector(detector, DetectorConfig()), pose, TopDownConfig(turned=False)
    )
    return model, [open_classifier("fight.onnx", threads=1)]


def windows_of(kept, camera):
    return [one.window for one in kept.windows if one.camera == camera]


def test_two_cameras_give_the_windows_of_the_pipeline(networks):
    cameras = [
        CameraConfig(name=name, path=path, speed="fastest", fps=FPS) for name, path in CLIPS.items()
    ]
    kept = run(networks, cameras)
    for name, clip in CLIPS.items():
        expected = offline(networks, clip, FPS)["fight"]
        assert windows_of(kept, name) == expected
        assert any(one.people for one in expected)


def fed(networks, items):
    """Return what the engine keeps of frames and gaps, by camera."""
    model, classifiers = networks
    ready = threading.Condition()
    slots = [FrameSlot(1000, ready) for _ in items]
    for slot, (camera, parts) in zip(slots, items.items(), strict=True):
        for part in parts:
            gap = isinstance(part, Gap)
            slot.put(part if gap else LiveFrame(camera, part, part.time_s, 1))
        slot.close()
    analyses = analyses_of(list(items), classifiers, SETTINGS, "topdown")
    states = {
        name: CameraState(
            analyses[name],
            {
                one.service: CameraRules(Scene(name), one.service, one.classes, RulesConfig())
                for one in classifiers
            },
            0.0,
        )
        for name in items
    }
    kept = Kept()
    Engine(Gatherer(slots, ready), SharedPose(model), states, kept).run(threading.Event())
    return kept


def test_a_gap_of_one_camera_makes_only_that_one_forget(networks):
    frames = {}
    for name, clip in CLIPS.items():
        with VideoReader(clip, sample_fps=FPS) as reader:
            frames[name] = list(reader)[:40]
    door, first_s = frames["door"], frames["door"][10].time_s
    gap = Gap("door", door[7].time_s, first_s, Reason.ENDED)
    kept = fed(networks, {"door": [*door[:8], gap, *door[10:]], "yard": frames["yard"]})
    alone = fed(networks, {"yard": frames["yard"]})
    after = fed(networks, {"door": door[10:]})
    assert windows_of(kept, "yard") == windows_of(alone, "yard")
    mine = [one for one in windows_of(kept, "door") if one.start_s >= first_s]
    assert mine == windows_of(after, "door")
    assert mine
    assert kept.gaps == [gap]
