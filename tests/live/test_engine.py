"""Live detection on a file gives what the pipeline gives, and events by the rules."""

import threading
from pathlib import Path

import pytest

from recognizer.action.classifier import Classifier
from recognizer.backends.network import ModelError
from recognizer.config.alerts import RulesConfig
from recognizer.config.live import CameraConfig, SourceConfig
from recognizer.live.analysis import SharedPose, analyses_of
from recognizer.live.engine import CameraState, Engine
from recognizer.live.errors import Reason
from recognizer.live.events import LiveEvent
from recognizer.live.fleet import CameraFleet
from recognizer.live.gather import Gatherer
from recognizer.live.rules import CameraRules, Scene
from recognizer.live.slot import FrameSlot
from recognizer.live.values import Gap
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


def offline(networks, clip, fps=None):
    """Return the windows of each service by the pipeline."""
    pose, classifiers = networks
    windows = {one.service: [] for one in classifiers}
    detectors = [EventDetector(one, SETTINGS, windows[one.service].append) for one in classifiers]
    with VideoReader(clip, sample_fps=fps) as reader:
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


class Failing:
    """An analysis whose end fails, and that notes that it was ended."""

    def __init__(self, name, ended):
        self.name, self.ended = name, ended

    def finish(self):
        self.ended.append(self.name)
        raise ModelError(f"{self.name}: NaN")


def test_every_camera_is_closed_where_one_fails(networks):
    ended = []
    states = {name: CameraState(Failing(name, ended), {}) for name in ("a", "b", "c")}
    stop = threading.Event()
    stop.set()
    with pytest.raises(ModelError):
        Engine(Gatherer([], threading.Condition()), SharedPose(networks[0]), states, Kept()).run(
            stop
        )
    assert sorted(ended) == ["a", "b", "c"]


@pytest.mark.parametrize(("begun_utc_s", "expected"), [(None, 5000 - 3.0), (700.0, 797.0)])
def test_times_of_day_are_those_of_the_clock_as_it_is_set_now(networks, begun_utc_s, expected):
    """A gap at 97 s, noticed at 100 s on the monotonic clock: the wall clock was set meanwhile."""
    seen = []
    kept = Kept()
    kept.gap = lambda gap, start_utc_s, end_utc_s: seen.append(start_utc_s)
    state = CameraState(analyses_of(["a"], [], SETTINGS, "rtmo")["a"], {}, begun_utc_s)
    slot = FrameSlot(2, ready := threading.Condition())
    slot.put(Gap("a", 97.0, None, Reason.TIMEOUT))
    slot.close()
    engine = Engine(
        Gatherer([slot], ready),
        SharedPose(networks[0]),
        {"a": state},
        kept,
        utc=lambda: 5000.0,
        clock=lambda: 100.0,
    )
    engine.run(threading.Event())
    assert seen == [expected]
