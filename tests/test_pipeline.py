"""From frames to events without a file: real clips, real networks, and the analysis beside it."""

import math
import weakref
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from recognizer.action.classifier import Classifier
from recognizer.action.events import merge_to_events
from recognizer.action.windows import classify_windows
from recognizer.analysis.record import read_record
from recognizer.analysis.run import classifier_path, describe_classifier, event_rules
from recognizer.analysis.services import open_classifier
from recognizer.analysis.video import AnalysisPlan, Input, VideoWorker, record_path
from recognizer.backends.network import ModelError
from recognizer.config.action import ClassifierConfig
from recognizer.config.file import load_config
from recognizer.config.schema import Config
from recognizer.pipeline import (
    EventDetector,
    PipelineSettings,
    detect_events,
    estimate_poses,
    find_events,
    track_stream,
)
from recognizer.pose.estimator import build_pose_model
from recognizer.runs.inputs import Video
from recognizer.runs.manifest import Outcome, result_path
from recognizer.sequences import join_sequences, slice_frames
from recognizer.storage.artifacts import read_poses, write_poses
from recognizer.tracking.offline import track_people
from recognizer.types import Frame, Poses, PoseSequence
from recognizer.video.array_image import ArrayImage
from recognizer.video.reader import VideoError, VideoReader
from tests.analysis import small_runs
from tests.analysis.classifiers import place_classifier

ROOT = Path(__file__).resolve().parents[1]
SAMPLES = ROOT / "samples"
TRACKING = Config().tracking.for_kind("topdown")
CLIPS = {
    "fight": SAMPLES / "stage1/Fight/fi005.mp4.npz",
    "fall": SAMPLES / "falls_stage1/Subject_3/Fall/16.mp4.npz",
}
SERVICES = ("fight", "falldown")


@cache
def poses_of(clip):
    return read_poses(CLIPS[clip])[0]


@cache
def classifier_of(service):
    return Classifier(SAMPLES / "models" / f"{service}.onnx", ClassifierConfig())


def parts_of(video, size=8):
    stops = range(size, len(video) + size, size)
    return [slice_frames(video, n - size, min(n, len(video))) for n in stops]


def later(video, seconds):
    return replace(video, time_s=video.time_s + seconds)


def events_of(clip, look_ahead_s=1.5, **settings):
    """Return events and windows, by service, of a stream of stored poses."""
    windows = {service: [] for service in SERVICES}
    detectors = [
        EventDetector(classifier_of(s), PipelineSettings(**settings), windows[s].append)
        for s in SERVICES
    ]
    tracked = track_stream(parts_of(poses_of(clip)), TRACKING, look_ahead_s)
    return list(detect_events(tracked, detectors)), windows


@cache
def analysed(clip):
    """Return what mode inference.analysis makes of the same poses."""
    config = load_config(ROOT / "configs" / "config.yaml", ["inference.overlay=false"])
    files = {service: classifier_path(config, service) for service in SERVICES}
    opened = {service: open_classifier(config, service, path) for service, path in files.items()}
    return (
        config,
        files,
        {
            service: (describe_classifier(config, one), event_rules(config, one))
            for service, one in opened.items()
        },
    )


def record_of(clip, folder, report=lambda frames: None):
    config, files, metadata = analysed(clip)
    tracks, name = folder / "tracks", "clip.mp4"
    video = track_people(poses_of(clip), TRACKING)
    source = {"sha256": "0" * 64, "size_bytes": 1}
    write_poses(result_path(tracks, name, ".npz"), tracks, video, {"source": source}, {})
    plan = AnalysisPlan(
        config,
        folder,
        folder,
        tracks,
        {"poses": "p", "tracks": "t"},
        files,
        {service: one for service, (one, _) in metadata.items()},
        {service: rules for service, (_, rules) in metadata.items()},
    )
    before = Outcome(name, "done", frames=len(video))
    VideoWorker(plan)(Input(before, Video(name, folder)), report)
    return read_record(record_path(folder, name))


@pytest.mark.parametrize("clip", CLIPS)
def test_with_an_endless_look_ahead_the_analysis_finds_the_same(clip, tmp_path):
    reports = []
    record = record_of(clip, tmp_path, reports.append)
    windows_of_all = sum(len(record.services[service].windows) for service in SERVICES)
    # One report a window keeps the stall timeout from ending a long video; then the frames.
    assert reports == [0] * windows_of_all + [record.frames]
    events, windows = events_of(clip, math.inf)
    expected = [e for s in SERVICES for e in record.services[s].events if e.grade != "lying"]
    assert sorted(events, key=str) == sorted(expected, key=str)
    assert events
    for service in SERVICES:
        assert tuple(windows[service]) == record.services[service].windows


@pytest.mark.parametrize("clip", CLIPS)
def test_with_a_short_look_ahead_only_tracks_differ_a_little(clip):
    events, windows = events_of(clip)
    offline = track_people(poses_of(clip), TRACKING)
    names = set()
    for service in SERVICES:
        expected = list(classify_windows([offline], classifier_of(service)))
        rules = {"threshold": classifier_of(service).threshold, "merge_gap_s": 1.0}
        found = merge_to_events(expected, classifier_of(service).classes, rules)
        names |= {event.class_name for event in found}
        spans = [(w.start_s, w.stop_s, w.frames) for w in windows[service]]
        assert spans == [(w.start_s, w.stop_s, w.frames) for w in expected]
        ours = [w.probabilities[classifier_of(service).classes[1]] for w in windows[service]]
        theirs = [w.probabilities[classifier_of(service).classes[1]] for w in expected]
        apart = np.abs(np.subtract(ours, theirs))
        assert np.median(apart) < 0.02
        assert apart.max() < 0.05
    assert {e.class_name for e in events} == names
    assert ("Fight" if clip == "fight" else "Falldown") in names


def test_an_event_comes_long_before_the_end():
    """Half a minute without anybody follows; the fight is known a few seconds after its end."""
    video = poses_of("fight")
    quiet = PoseSequence(
        Poses.empty(),
        np.zeros(601, np.int64),
        np.arange(600) / 20,
        np.zeros(600, np.bool_),
        video.size_wh,
    )
    taken = []

    def stream():
        for part in [*parts_of(video), *parts_of(later(quiet, video.duration_s))]:
            taken.append(part.time_s[-1])
            yield part

    found = detect_events(track_stream(stream(), TRACKING), [EventDetector(classifier_of("fight"))])
    event = next(found)
    assert event.class_name == "Fight"
    # Look-ahead, merge gap, and the window after that, each once.
    assert taken[-1] - event.stop_s <= 1.5 + 0.5 + 1.0 + 2 * classifier_of("fight").window_s
    assert list(found) == []
    assert taken[-1] > 30


def test_an_open_event_is_an_early_alarm():
    detector, first = EventDetector(classifier_of("fight")), None
    for part in track_stream(parts_of(poses_of("fight")), TRACKING):
        assert detector.update(part) == []
        if first is None and detector.open_events:
            first = detector.open_events[0]
    (settled,) = detector.finish()
    assert first.start_s == settled.start_s
    assert first.stop_s < settled.stop_s
    assert detector.open_events == []


def test_a_detector_starts_anew_after_reset():
    tracked = track_people(poses_of("fight"), TRACKING)
    detector = EventDetector(classifier_of("fight"))
    expected = [*detector.update(tracked), *detector.finish()]
    detector.update(later(tracked, 100.0))
    detector.reset()
    assert [*detector.update(tracked), *detector.finish()] == expected
    assert [*detector.update(tracked), *detector.finish()] == expected  # finish resets, too


def watched(parts, alive):
    """Yield copies of parts; ``alive`` gets how many of them are in memory with each."""
    here = set()
    for number, part in enumerate(parts):
        times = part.time_s.copy()
        here.add(number)
        weakref.finalize(times, here.discard, number)
        alive.append(len(here))
        yield replace(part, time_s=times)


def test_parts_are_let_go_while_the_stream_goes_on():
    video = poses_of("fall")
    laps = (part for k in range(8) for part in parts_of(later(video, k * video.duration_s)))
    posed, tracked = [], []
    stream = watched(track_stream(watched(laps, posed), TRACKING), tracked)
    list(detect_events(stream, [EventDetector(classifier_of(s)) for s in SERVICES]))
    assert (len(posed) > 80, max(posed) <= 30) == (True, True)
    assert (len(tracked) > 40, max(tracked) <= 12) == (True, True)


# --- from pictures on --------------------------------------------------------------


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Return the config of small videos in which a dot moves, beside networks that find it."""
    return small_runs.make_place(tmp_path_factory.mktemp("dots"), count=1, frames=80)


def whole(place, video):
    """Return the events of a video file by the ways of the analysis: the whole video at a time."""
    config, folder = load_config(place, []), place.parent
    model = build_pose_model(config.models.pose_estimation, {"pose": folder / "dot.onnx"})
    with VideoReader(video) as reader:
        poses = join_sequences(list(estimate_poses(reader, model, batch_size=8)))
    tracked = track_people(poses, config.tracking.for_kind("rtmo"))
    classifier = Classifier(folder / "fight.onnx", ClassifierConfig())
    windows = list(classify_windows([tracked], classifier))
    return merge_to_events(windows, classifier.classes, {"threshold": 0.45, "merge_gap_s": 1.0})


def settings_of(place, **changes):
    config = load_config(place, [])
    changes = {"look_ahead_s": math.inf, "threshold": 0.45, **changes}
    return replace(PipelineSettings.from_config(config), **changes)


@pytest.mark.parametrize("threads", [1, 2])
def test_a_video_file_gives_the_events_of_its_analysis(place, threads):
    folder = place.parent
    settings = settings_of(place, threads=threads)
    for video in ("Fight/f0.mp4", "NonFight/n0.mp4"):
        found = find_events(
            str(folder / "data" / video),
            folder / "fight.onnx",
            pose=folder / "dot.onnx",
            settings=settings,
        )
        expected = whole(place, folder / "data" / video)
        assert sorted(found, key=str) == sorted(expected, key=str)
        assert expected


@pytest.mark.parametrize("batch_size", [1, 3, 100])
def test_frames_of_a_camera_are_a_video(place, batch_size):
    folder, settings = place.parent, settings_of(place, batch_size=batch_size)
    classifiers = [Classifier(folder / f"{s}.onnx", ClassifierConfig()) for s in SERVICES]
    with VideoReader(folder / "data/Fight/f0.mp4") as frames:
        found = list(find_events(frames, *classifiers, pose=folder / "dot.onnx", settings=settings))
    again = find_events(
        folder / "data/Fight/f0.mp4", *classifiers, pose=folder / "dot.onnx", settings=settings
    )
    assert found == list(again)
    assert {e.grade for e in found} <= {None, "fall"}
    assert found


def frames(times, size_wh=(96, 64)):
    pixels = np.zeros((size_wh[1], size_wh[0], 3), np.uint8)
    return [Frame(ArrayImage(pixels), index, time_s) for index, time_s in enumerate(times)]


def found_in(place, video, **changes):
    folder, settings = place.parent, settings_of(place, look_ahead_s=0.5, **changes)
    return list(
        find_events(video, folder / "fight.onnx", pose=folder / "dot.onnx", settings=settings)
    )


def test_no_frames_are_no_events(place):
    assert found_in(place, []) == []
    assert found_in(place, frames([0.0])) == []


@pytest.mark.parametrize(
    ("video", "text"),
    [
        (frames([0.0, 0.1, 0.05]), "frame 2: expected a time not before the last frame's"),
        (frames([0.0, math.nan]), "frame 1: expected a time not before"),
        (frames([0.0, math.inf]), "frame 1: expected a time not before"),
        (
            [*frames([0.0]), Frame(frames([0.0], (32, 16))[0].image, 1, 0.1)],
            "frame 1: expected 96x64 pixels as in the first frame, got 32x16",
        ),
    ],
    ids=["back in time", "no time", "endless time", "another size"],
)
@pytest.mark.parametrize("batch_size", [1, 8])
def test_frames_that_do_not_follow_each_other_are_refused(place, video, text, batch_size):
    with pytest.raises(ValueError, match=text):
        found_in(place, video, batch_size=batch_size)


def test_what_cannot_be_opened_is_refused_before_the_video(place, tmp_path):
    folder = place.parent
    pose, fight = folder / "dot.onnx", folder / "fight.onnx"
    with pytest.raises(ValueError, match="classifiers: expected one or more"):
        find_events("absent.mp4", pose=pose)
    for absent in ("absent.onnx", [fight, "absent.onnx"]):
        with pytest.raises(FileNotFoundError, match=r"expected a classifier file 'absent\.onnx'"):
            find_events("absent.mp4", absent, pose=pose)
    with pytest.raises(ValueError, match="classifiers: expected one or more"):
        find_events("absent.mp4", [], pose=pose)
    with pytest.raises(FileNotFoundError, match="pose: expected a pose network"):
        find_events("absent.mp4", fight, pose=tmp_path / "absent.onnx")
    with pytest.raises(ModelError, match="expected a pose network"):
        find_events("absent.mp4", fight, pose=fight)
    with pytest.raises(ModelError, match="expected a classifier with metadata"):
        find_events("absent.mp4", pose, pose=pose)
    with pytest.raises(ValueError, match=r"pose: expected a model whose kind .*, got None of obj"):
        find_events("absent.mp4", fight, pose=object())
    with pytest.raises(ValueError, match="stride_s: expected at most the window of fight, 1 s"):
        find_events("absent.mp4", fight, pose=pose, settings=settings_of(place, stride_s=1.5))
    with pytest.raises((VideoError, FileNotFoundError), match="absent"):
        next(find_events(folder / "absent.mp4", fight, pose=pose))


@pytest.mark.parametrize(
    "change",
    [
        {"batch_size": 0},
        {"look_ahead_s": -1},
        {"look_ahead_s": math.nan},
        {"threshold": 1.5},
        {"threads": 0},
        {"min_frames": 0},
        {"merge_gap_s": -0.1},
        {"stride_s": 0.0},
        {"sample_fps": -1},
        {"sample_fps": 0},
        {"sample_fps": math.inf},
        {"batch_size": 2.5},
        {"batch_size": None},
        {"threads": 1.5},
        {"threads": "2"},
        {"threads": True},
        {"merge_gap_s": False},
        {"threshold": np.True_},
        {"views": ("nope",)},
        {"look_ahead_s": None},
    ],
)
def test_settings_out_of_range_are_refused(change):
    (name,) = change
    with pytest.raises(ValueError, match=f"{name}: expected"):
        PipelineSettings(**change)


def test_default_settings_are_those_of_the_config():
    config = load_config(ROOT / "configs" / "config.yaml", [])
    assert PipelineSettings.from_config(config) == PipelineSettings()


def test_a_stride_of_another_classifier_is_refused(tmp_path):
    path = place_classifier(tmp_path / "fight.onnx", window_s=1.0)
    with pytest.raises(ValueError, match="stride_s: expected at most the window of fight, 1 s"):
        EventDetector(Classifier(path, ClassifierConfig()), PipelineSettings(stride_s=2.0))


def test_parts_of_another_camera_are_refused():
    video = poses_of("fight")
    detector = EventDetector(classifier_of("fight"))
    detector.update(slice_frames(video, 0, 10))
    with pytest.raises(ValueError, match="size_wh: expected"):
        detector.update(replace(slice_frames(video, 10, 20), size_wh=(8, 8)))
    with pytest.raises(ValueError, match="time_s: expected a time not before"):
        detector.update(slice_frames(video, 0, 5))
