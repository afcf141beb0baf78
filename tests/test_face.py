"""``import recognizer as rz``: every public name, the lines of its docstring, and a light start."""

import ast
import dataclasses
import inspect
import json
import resource
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

import recognizer as rz
from recognizer.installation import SHIPPED_CONFIG
from recognizer.runs.manifest import result_path
from recognizer.runs.stage1 import run_stage1
from tests import networks
from tests.annotation import clips
from tests.loaded import loaded_by

ROOT = Path(__file__).resolve().parents[1]
ASSETS = ROOT.parent / "shared" / "assets"
needs_assets = pytest.mark.skipif(not ASSETS.is_dir(), reason="needs ../shared/assets")
SIZE_WH = (2 * clips.SIZE_WH[0], 2 * clips.SIZE_WH[1])
FRAMES, TOPDOWN = 12, "pp_tinypose_256x192.onnx"


def dot(t):
    return 40 + 2 * t, 50 + t


def picture(t):
    image = np.zeros((SIZE_WH[1], SIZE_WH[0], 3), np.uint8)
    x, y = dot(t)
    image[y - 5 : y + 6, x - 5 : x + 6, 0] = 255
    return image


@pytest.fixture
def place(tmp_path, monkeypatch):
    """Go to a folder with a video of a dot and a network that finds it, named as in the README."""
    networks.rtmo(tmp_path / "rtmo-s.onnx", input_wh=clips.SIZE_WH)
    with rz.VideoWriter(str(tmp_path / "camera.mp4"), SIZE_WH, 20.0, crf=0) as writer:
        for t in range(FRAMES):
            writer.write(picture(t), t / 20)
    monkeypatch.chdir(tmp_path)
    return tmp_path


# --- names ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(set(rz.__all__) - {"__version__"}))
def test_every_public_name_is_there_with_a_docstring_of_its_own(name):
    value = getattr(rz, name)
    assert name in dir(rz)
    assert value.__module__.startswith("recognizer.")
    assert inspect.getdoc(value)
    assert vars(value).get("__doc__") if inspect.isclass(value) else value.__doc__


def test_type_checkers_see_the_same_names():
    tree = ast.parse((ROOT / "recognizer" / "__init__.py").read_text(encoding="utf-8"))
    block, lazy = (node for node in tree.body if isinstance(node, ast.If))
    declared = {
        alias.asname: f"{line.module}.{alias.name}"
        for line in block.body
        if isinstance(line, ast.ImportFrom)
        for alias in line.names
    }
    assert declared == {name: f"recognizer.{home}.{name}" for name, home in rz._HOMES.items()}
    # With it, they would take rz.VideoRaeder for a name as well.
    assert ast.unparse(lazy.test) == "not TYPE_CHECKING"
    assert [node.name for node in lazy.body] == ["__getattr__"]
    assert "__getattr__" not in {getattr(node, "name", "") for node in tree.body}


def test_a_star_import_brings_all_and_another_name_is_an_error():
    names = {}
    exec("from recognizer import *", names)
    assert set(rz.__all__) <= set(names)
    with pytest.raises(AttributeError, match="'recognizer' has no attribute 'VideoRaeder'"):
        _ = rz.VideoRaeder


def test_the_import_is_light():
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", "import recognizer"], cwd=ROOT, check=True, timeout=60)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 0.3
    loaded = loaded_by("import recognizer as rz", "assert 'Tracker' in dir(rz)")
    assert not loaded & {"numpy", "cv2", "av", "onnxruntime", "torch", "mmengine", "pydantic"}


def test_poses_and_tracks_need_no_torch():
    loaded = loaded_by("import recognizer as rz", "rz.open_pose_model, rz.Tracker, rz.Classifier")
    assert not loaded & {"torch", "mmengine", "mmpose", "mmaction", "sklearn", "matplotlib"}


# --- frames, poses, tracks -----------------------------------------------------------


def test_the_lines_of_the_docstring_run(place):
    """The dot is where it is in every frame, and keeps its id."""
    lines = textwrap.dedent(rz.__doc__.partition("\n\n")[2].rpartition("\n\n")[0])
    assert "rz.Tracker(kind=pose.kind)" in lines
    tracked, line = [], "people = tracker.update(pose(frame), frame.time_s)\n"
    assert line in lines
    assert "rz.find_events(" in lines
    exec(lines.replace(line, f"{line}        tracked.append(people)\n"), {"tracked": tracked})
    assert [len(people) for people in tracked] == [1] * FRAMES
    assert {int(people.track_ids[0]) for people in tracked} == {1}
    dots = np.array([people.keypoints[0, 0] for people in tracked])
    assert np.abs(dots - [dot(t) for t in range(FRAMES)]).max() <= 12


def test_events_are_the_same_from_files_and_from_opened_networks(place):
    settings = rz.PipelineSettings(threshold=0.0)
    pose, classifier = rz.open_pose_model("rtmo-s.onnx"), rz.open_classifier("fight.onnx")
    (event,) = rz.find_events("camera.mp4", classifier, pose=pose, settings=settings)
    assert (event.class_name, event.start_s) == ("Fight", 0.0)
    assert [event] == list(
        rz.find_events("camera.mp4", "fight.onnx", pose="rtmo-s.onnx", settings=settings)
    )


@needs_assets
@pytest.mark.parametrize("video", ["videos/street_5_frames.mp4"])
def test_real_people_are_those_of_stage1(tmp_path, video):
    weights, clip = ASSETS / "weights", ASSETS / video
    (tmp_path / clip.name).symlink_to(clip)
    pair = f"models.weights_dirs=['{weights}']", f"models.pose_estimation.onnx.model_path={TOPDOWN}"
    own = f"annotation.input={tmp_path}", f"annotation.output_dir={tmp_path}/out"
    folder = run_stage1(rz.load_config(SHIPPED_CONFIG, [*pair, *own]))
    expected = rz.load_poses(result_path(folder, clip.name, ".npz"))

    pose = rz.open_pose_model(weights / TOPDOWN, detector=weights / "yolox_nano.onnx")
    tracker, builder, ids = rz.Tracker(kind=pose.kind), rz.PoseSequenceBuilder(), set()
    with rz.VideoReader(str(clip)) as frames:
        for frame in frames:
            poses = pose(frame)
            builder.append(poses, frame.time_s, corrupt=frame.corrupt)
            ids |= set(tracker.update(poses, frame.time_s).track_ids.tolist())
        sequence = builder.build(frames.size_wh)
    assert pose.kind == "topdown"
    assert len(sequence.poses) > 5
    for name in ("keypoints", "keypoint_scores", "boxes", "box_scores", "movement"):
        one, other = getattr(sequence.poses, name), getattr(expected.poses, name)
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-3, err_msg=name)
    assert len(ids - {-1}) > 2


def test_pictures_come_alone_or_together(place):
    pose = rz.open_pose_model(place / "rtmo-s.onnx", threads=1)
    alone = pose(picture(3))
    assert isinstance(alone, rz.Poses)
    assert alone.movement is None, "a picture alone does not move"
    together = pose([picture(3), rz.ArrayImage(picture(5))])
    assert [len(poses) for poses in together] == [1, 1]
    np.testing.assert_array_equal(together[0].keypoints, alone.keypoints)
    assert (together[1].keypoints > alone.keypoints).all()
    assert pose([]) == []
    with pytest.raises(ValueError, match=r"image: expected \(H, W, 3\) uint8"):
        pose(np.zeros((4, 4), np.uint8))


def test_a_batch_gives_what_its_frames_give(place):
    with rz.VideoReader("camera.mp4") as reader:
        frames = list(reader)
    pose = rz.open_pose_model("rtmo-s.onnx")
    one_by_one = [pose(frame) for frame in frames]
    with pytest.raises(ValueError, match=r"frame 0: expected a time not before .* call reset\(\)"):
        pose(frames[0])
    pose.reset()
    for one, other in zip(one_by_one, pose(frames), strict=True):
        np.testing.assert_array_equal(one.keypoints, other.keypoints)
        np.testing.assert_array_equal(one.movement, other.movement)
    assert rz.open_pose_model("rtmo-s.onnx", movement=False)(frames[0]).movement is None


class Spoilt:
    """A pose model that sees one person whose score is NaN."""

    def __call__(self, images, times_s=()):
        points = np.zeros((1, 17, 2), np.float32)
        scores, one = np.full((1, 17), np.nan, np.float32), np.ones(1, np.float32)
        box = np.array([[0, 0, 9, 9]], np.float32)
        return [rz.Poses(points, scores, box, one, np.array([-1])) for _ in images]

    def for_video(self):
        return self


@pytest.mark.parametrize("shown", [picture(0), rz.Frame(rz.ArrayImage(picture(0)), 0, 0.0)])
def test_numbers_that_are_not_finite_are_refused(shown):
    with pytest.raises(rz.ModelError, match="not finite"):
        rz.PoseEstimator(Spoilt(), "rtmo")(shown)


def frame(t, time_s, image=None):
    return rz.Frame(rz.ArrayImage(picture(t) if image is None else image), t, time_s)


@pytest.mark.parametrize(
    ("refused", "text"),
    [
        ([frame(1, 0.2), frame(2, 0.1)], r"frame 2: expected a time not before .* call reset\(\)"),
        ([frame(1, 0.9), picture(2)], "got 1 frames among 2 images"),
        ([frame(1, 0.9), frame(2, np.nan)], "frame 2: expected a time"),
        (
            [frame(1, 0.9), frame(2, 1.0, np.zeros((8, 8, 3), np.uint8))],
            "frame 2: expected .*pixels",
        ),
        (frame(1, 0.9, np.zeros((8, 8, 3), np.uint8)), r"got 8x8.*call reset\(\)"),
    ],
    ids=["back in time", "a picture among frames", "no time", "another size", "another size alone"],
)
def test_frames_that_are_refused_leave_no_trace(place, refused, text):
    pose, expected = rz.open_pose_model("rtmo-s.onnx"), rz.open_pose_model("rtmo-s.onnx")
    pose(frame(0, 0.0)), expected(frame(0, 0.0))
    with pytest.raises(ValueError, match=text):
        pose(refused)
    one, other = pose(frame(1, 0.1)), expected(frame(1, 0.1))
    np.testing.assert_array_equal(one.keypoints, other.keypoints)
    np.testing.assert_array_equal(one.movement, other.movement)


def test_a_damaged_frame_is_not_measured(place):
    pose, image = rz.open_pose_model("rtmo-s.onnx"), rz.ArrayImage(picture(0))
    pose(rz.Frame(image, 0, 0.0))
    damaged = pose(rz.Frame(rz.ArrayImage(picture(4)), 1, 0.1, corrupt=True))
    assert np.isnan(damaged.movement).all()


def test_people_are_drawn(place):
    poses = rz.open_pose_model("rtmo-s.onnx")(picture(0))
    drawn = rz.draw_people(picture(0), rz.Tracker().update(poses, 0.0))
    assert drawn.shape == picture(0).shape
    assert (drawn != picture(0)).any()


# --- network files -------------------------------------------------------------------


def test_a_file_that_is_not_there_is_looked_for_in_all_places(place):
    with pytest.raises(FileNotFoundError) as caught:
        rz.open_pose_model("rtmo-l.onnx")
    for part in (str(place / "rtmo-l.onnx"), "weights/rtmo-l.onnx", "models.fetch=rtmo-l-onnx"):
        assert part in str(caught.value)
    with pytest.raises(FileNotFoundError, match=r"none at /nowhere/x\.onnx$"):
        rz.find_model("/nowhere/x.onnx")


def test_what_a_file_is_decides_what_it_needs(place):
    networks.heatmap(place / "one_person.onnx")
    with pytest.raises(FileNotFoundError, match=r"detector: expected .*no_detector\.onnx"):
        rz.open_pose_model("one_person.onnx", detector="no_detector.onnx")
    networks.constant_yolox(place / "detector.onnx", {})
    pose = rz.open_pose_model("one_person.onnx", detector="detector.onnx")
    assert (pose.kind, len(pose(picture(0)))) == ("topdown", 0)
    with pytest.raises(rz.ModelError, match="expected a pose network"):
        rz.open_pose_model("detector.onnx")
    (place / "trained.pth").write_bytes(b"weights")
    with pytest.raises(rz.ModelError, match="got none; give config=<file>"):
        rz.open_pose_model("trained.pth")
    for refused in (rz.open_pose_model, rz.open_classifier):
        with pytest.raises(ValueError, match=r"^device: expected cpu or cuda:N.*, got 'gpu'$"):
            refused("rtmo-s.onnx", device="gpu")


@pytest.mark.parametrize(("kind", "people"), [("rtmo", 0), ("topdown", 1)])
def test_every_way_of_tracking_takes_the_thresholds_of_the_network(kind, people):
    """A score of 0.4 is a person for a top-down network, too little for a newcomer of RTMO."""
    one, score = np.ones((1, 17, 2), np.float32), np.full(1, 0.4, np.float32)
    builder, box = rz.PoseSequenceBuilder(), np.array([[10, 10, 50, 90]], np.float32)
    for t in range(10):
        poses = rz.Poses(40 * one, 0.4 * one[..., 0], box, score, np.array([-1]))
        builder.append(poses, t / 10)
    sequence = builder.build(SIZE_WH)
    (streamed,) = rz.track_stream(sequence, kind=kind)
    (configured,) = rz.track_stream([sequence], rz.TrackingConfig(), kind=kind)
    for tracked in (streamed, configured, rz.track_people(sequence, kind=kind)):
        assert len(set(tracked.poses.track_ids.tolist()) - {-1}) == people


def test_the_stages_are_chained_by_public_names(place):
    """Windows by hand are those that find_events judges, and its settings take public values."""
    pose, classifier = rz.open_pose_model("rtmo-s.onnx"), rz.open_classifier("fight.onnx")
    with rz.VideoReader("camera.mp4") as frames:
        parts = rz.estimate_poses(frames, pose, batch_size=5)
        tracked = list(rz.track_stream(parts, rz.TrackingConfig(), kind=pose.kind))
    windows = list(rz.classify_windows(tracked, classifier, scoring=rz.ScoringConfig()))
    assert windows[0].state == "judged"
    (part,) = tracked
    assert list(rz.classify_windows(part, classifier)) == windows
    settings = rz.PipelineSettings(
        pose=rz.PoseEstimationConfig(),
        tracking=rz.TrackingConfig(),
        scoring=rz.ScoringConfig(),
        threshold=0.0,
    )
    (event,) = rz.find_events("camera.mp4", [classifier], pose=pose, settings=settings)
    assert event.peak_probability == max(window.probabilities["Fight"] for window in windows)
    (again,) = rz.detect_events(part, [rz.EventDetector(classifier, settings)])
    assert again == event


def test_the_trackers_thresholds_fit_the_network():
    assert rz.Tracker()._high_thresh == 0.5
    assert rz.Tracker(kind="topdown")._high_thresh == 0.25


def test_the_shipped_classifiers_open_by_name(place):
    classifier = rz.open_classifier("fight.onnx")
    assert (classifier.service, classifier.classes) == ("fight", ("NonFight", "Fight"))
    assert rz.open_classifier("falldown.onnx", threshold=0.25).threshold == 0.25
    assert classifier.threshold == 0.5
    with pytest.raises(rz.ModelError, match="expected a classifier"):
        rz.open_classifier("rtmo-s.onnx")


# --- files ---------------------------------------------------------------------------


def test_poses_and_samples_are_written_and_read(place):
    builder, pose = rz.PoseSequenceBuilder(), rz.open_pose_model("rtmo-s.onnx")
    tracker = rz.Tracker()
    with rz.VideoReader("camera.mp4") as frames:
        for frame in frames:
            builder.append(tracker.update(pose(frame), frame.time_s), frame.time_s)
    sequence = builder.build(SIZE_WH)
    rz.save_poses("new/camera.npz", sequence, {"camera": "door"})
    again = rz.load_poses(Path("new/camera.npz"))
    np.testing.assert_array_equal(again.poses.keypoints, sequence.poses.keypoints)
    np.testing.assert_array_equal(again.time_s, sequence.time_s)

    sample = rz.build_sample(rz.slice_sequence(sequence, 0.0, 0.5), [1], 2, "camera", 1)
    assert rz.save_samples("new/train.pkl", [sample]) == 1
    (read,) = rz.load_samples("new/train.pkl")
    np.testing.assert_array_equal(read.keypoints, sample.keypoints)
    assert read.label == 1
    assert sorted(path.name for path in Path("new").iterdir()) == ["camera.npz", "train.pkl"]
    Path("new/camera.npz").write_bytes(Path("new/camera.npz").read_bytes()[:500])
    with pytest.raises(rz.ArtifactError):
        rz.load_poses("new/camera.npz")


# --- wrong arguments -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda: rz.Tracker(kind="x"), ValueError, "expected rtmo, topdown or movenet, got 'x'"),
        (lambda: rz.Tracker(kind=["rtmo"]), ValueError, "expected rtmo, topdown or movenet, got"),
        (lambda: rz.Tracker("config.yaml"), TypeError, "config: expected TrackingConfig or None"),
        (lambda: rz.find_model("a" * 5000), FileNotFoundError, "expected a network 'aaa"),
        (lambda: rz.find_model("no\0ne.onnx"), FileNotFoundError, "expected a network"),
        (lambda: rz.open_classifier("fight.onnx", threads=0), ValueError, "threads: expected a"),
        (lambda: rz.open_classifier("fight.onnx", threads=True), ValueError, "threads: expected"),
        (lambda: rz.classify_windows([], "fight.onnx"), TypeError, "classifier: expected Classif"),
        (lambda: list(rz.track_stream("camera.npz")), TypeError, "parts: expected PoseSequence"),
        (lambda: list(rz.track_stream(3)), TypeError, "parts: expected PoseSequence or Iterable"),
    ],
)
def test_a_wrong_argument_is_named_with_what_was_expected(call, error, text):
    with pytest.raises(error, match=text) as caught:
        call()
    assert len(str(caught.value)) < 3000


def test_wrong_arguments_beside_an_opened_classifier():
    classifier = rz.open_classifier("fight.onnx", threads=1)
    for arguments, text in (
        ((["part"], classifier), "parts: expected PoseSequence, got 'part'"),
        (([], classifier, 2.0), "plan: expected WindowPlan or None, got 2.0"),
        (([], classifier, None, {}), "scoring: expected ScoringConfig or None, got {}"),
    ):
        with pytest.raises(TypeError, match=text):
            list(rz.classify_windows(*arguments))


def test_a_pose_network_does_not_run_on_no_threads(place):
    with pytest.raises(ValueError, match="threads: expected a whole number of 1 to 256"):
        rz.open_pose_model("rtmo-s.onnx", threads=0)


def test_an_event_is_plain_values_for_json(place):
    settings = rz.PipelineSettings(threshold=0.0)
    (event,) = rz.find_events("camera.mp4", "fight.onnx", pose="rtmo-s.onnx", settings=settings)
    value = json.loads(json.dumps(event.as_dict()))
    assert value["class"] == event.class_name
    assert (value["start_s"], value["stop_s"]) == (event.start_s, event.stop_s)
    assert [person["track_id"] for person in value["people"]] == [1]
    assert not {"class_name", "grade", "follows_fall_s", "zone"} & set(value)
    fall = dataclasses.replace(event, grade="fall", zone="bed")
    assert (fall.as_dict()["grade"], fall.as_dict()["zone"]) == ("fall", "bed")
