"""Live detection on a file gives what the pipeline gives, and events by the rules."""

import threading
from pathlib import Path

import pytest

from recognizer.action.classifier import Classifier
from recognizer.config.alerts import RulesConfig
from recognizer.config.live import CameraConfig, SourceConfig
from recognizer.live.analysis import SharedPose, analyses_of
from recognizer.live.engine import CameraState, Engine
from recognizer.live.events import LiveEvent
from recognizer.live.fleet import CameraFleet
from recognizer.live.rules import CameraRules, Scene
from recognizer.models import open_classifier, open_pose_model
from recognizer.pipeline import EventDetector, PipelineSettings, detect_events
from recognizer.pose.stream import estimate_poses
from recognizer.tracking.online import track_stream
from recognizer.video.reader import VideoReader

ROOT = Path(__file__).resolve().parents[2]
SMALL = ROOT / "samples" / "models" / "small_pose.onnx"
CLIP = ROOT.parent / "shared" / "assets" / "fight_surv" / "Fight" / "fi005.mp4"
pytestmark = pytest.mark.skipif(not CLIP.is_file(), reason="needs ../shared/assets")
SETTINGS = PipelineSettings(stride_s=0.5, look_ahead_s=0.0, threads=1)


class Kept:
    """A recorder that keeps everything."""

    def __init__(self):
        self.found, self.gaps, self.windows, self.lags = [], [], [], {}

    def outcomes(self, found):
        self.found += found

    def gap(self, gap, start_utc_s, end_utc_s):
        self.gaps.append(gap)

    def window(self, window):
        self.windows.append(window)

    def lag(self, stage, seconds):
        self.lags.setdefault(stage, []).append(seconds)


@pytest.fixture(scope="module")
def networks() -> tuple[object, list[Classifier]]:
    pose = open_pose_model(SMALL, threads=1)
    return pose, [open_classifier(f"{name}.onnx", threads=1) for name in ("fight", "falldown")]


def run(networks, cameras, rules=None):
    pose, classifiers = networks
    fleet = CameraFleet(cameras, SourceConfig())
    shared, kept = SharedPose(pose), Kept()
    names = [camera.name for camera in cameras]
    analyses = analyses_of(names, classifiers, SETTINGS, shared.kind)
    states = {
        name: CameraState(
            analyses[name],
            {
                one.service: CameraRules(
                    Scene(name), one.service, one.classes, rules or RulesConfig()
                )
                for one in classifiers
            },
        )
        for name in names
    }
    fleet.start()
    try:
        Engine(fleet.gatherer, shared, states, kept).run(threading.Event())
    finally:
        fleet.stop()
    return kept


def offline(networks, clip):
    """Return the windows of each service by the pipeline."""
    pose, classifiers = networks
    windows = {one.service: [] for one in classifiers}
    detectors = [EventDetector(one, SETTINGS, windows[one.service].append) for one in classifiers]
    with VideoReader(clip) as reader:
        poses = estimate_poses(reader, pose, movement=True)
        list(detect_events(track_stream(poses, look_ahead_s=0.0, kind=pose.kind), detectors))
    return windows


def test_two_files_give_the_windows_of_the_pipeline(networks):
    other = CLIP.with_name("fi006.mp4")
    cameras = [
        CameraConfig(name=name, path=path, speed="fastest", fps=60)
        for name, path in (("door", CLIP), ("yard", other))
    ]
    kept = run(networks, cameras)
    for name, clip in (("door", CLIP), ("yard", other)):
        for service, expected in offline(networks, clip).items():
            mine = [w.window for w in kept.windows if (w.camera, w.service) == (name, service)]
            assert mine == expected
            assert expected


def test_a_fight_is_an_event_once_from_new_to_end(networks):
    rules = RulesConfig(windows_needed=1, windows_of=1, min_s=0.5, enter=0.5)
    kept = run(networks, [CameraConfig(name="door", path=CLIP, speed="fastest", fps=60)], rules)
    events = [one for one in kept.found if isinstance(one, LiveEvent)]
    fights = [one for one in events if one.class_name == "Fight"]
    states = [one.state for one in fights]
    assert states[0] == "new"
    assert states[-1] == "end"
    assert len({one.event_id for one in fights}) == 1
    assert set(kept.lags) == {"decode", "pose", "score"}
