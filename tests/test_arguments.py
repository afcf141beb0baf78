"""Arguments of the public API that are of another type or out of range: one clear error each."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import recognizer as rz
from recognizer.config.action import ClassifierConfig
from recognizer.installation import SHIPPED_CONFIG, SHIPPED_MODELS
from tests.bad_videos import FRAMES, PLAIN, encode

POSES = rz.Poses.empty()
BUILDER = rz.PoseSequenceBuilder()
BUILDER.append(POSES, 0.0)
SEQUENCE = BUILDER.build((64, 48))
IMAGE = np.zeros((48, 64, 3), np.uint8)
HUGE = 10**400
FIGHT = SHIPPED_MODELS / "fight.onnx"

WRONG_TYPES: dict[str, Callable[[], object]] = {
    "sequence: track": lambda: rz.track_people("a"),  # type: ignore[arg-type]
    "settings: track": lambda: rz.track_people(SEQUENCE, 5),  # type: ignore[arg-type]
    "sequence: split": lambda: rz.split_tracks("a"),  # type: ignore[arg-type]
    "poses: update": lambda: rz.Tracker().update("a", 0.0),  # type: ignore[arg-type]
    "time_s: update": lambda: rz.Tracker().update(POSES, "a"),  # type: ignore[arg-type]
    "sequence: slice": lambda: rz.slice_sequence("a", 0, 1),  # type: ignore[arg-type]
    "start_s: slice": lambda: rz.slice_sequence(SEQUENCE, "a", 1),  # type: ignore[arg-type]
    "sequence: sample": lambda: rz.build_sample("a", [1], 2, "n", 0),  # type: ignore[arg-type]
    "classifier: plan": lambda: rz.WindowPlan.for_classifier("a"),  # type: ignore[arg-type]
    "detectors": lambda: list(rz.detect_events(SEQUENCE, ["a"])),  # type: ignore[list-item]
    "classifier: detector": lambda: rz.EventDetector("a"),  # type: ignore[arg-type]
    "poses: draw": lambda: rz.draw_people(IMAGE, "a"),  # type: ignore[arg-type]
    "involvement: draw": lambda: rz.draw_people(IMAGE, POSES, 5),  # type: ignore[arg-type]
    "path: find": lambda: rz.find_model(None),  # type: ignore[arg-type]
    "path: classifier": lambda: rz.open_classifier(5),  # type: ignore[arg-type]
    "path: pose": lambda: rz.open_pose_model(5),  # type: ignore[arg-type]
    "section": lambda: rz.Classifier("a", None, 1),  # type: ignore[arg-type]
    "path: poses": lambda: rz.save_poses(5, SEQUENCE),  # type: ignore[arg-type]
    "metadata": lambda: rz.save_poses("a.npz", SEQUENCE, 5),  # type: ignore[arg-type]
    "samples": lambda: rz.save_samples("a.pkl", 5),  # type: ignore[arg-type]
    "tracking": lambda: rz.PipelineSettings(tracking=5),  # type: ignore[arg-type]
}


@pytest.mark.parametrize("case", WRONG_TYPES)
def test_another_type_is_named(case: str) -> None:
    with pytest.raises(TypeError, match=f"^{case.partition(':')[0]}: expected .*, got "):
        WRONG_TYPES[case]()


def test_a_list_of_other_things_is_not_saved(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="samples: expected Sample, got 'a'"):
        rz.save_samples(tmp_path / "a.pkl", ["a"])  # type: ignore[list-item]
    assert not (tmp_path / "a.pkl").exists()


TOO_LARGE: dict[str, Callable[[], object]] = {
    "time_s": lambda: rz.Tracker().update(POSES, HUGE),
    "start_s": lambda: rz.slice_sequence(SEQUENCE, HUGE, 1),
    "length_s": lambda: rz.plan_windows(SEQUENCE, HUGE),
    "max_gap_s": lambda: rz.fill_gaps(SEQUENCE, HUGE),
    "merge_gap_s": lambda: rz.PipelineSettings(merge_gap_s=HUGE),
    "look_ahead_s": lambda: list(rz.track_stream(SEQUENCE, None, HUGE)),
    "sample_fps": lambda: rz.VideoReader("a.mp4", sample_fps=HUGE),
}


@pytest.mark.parametrize("name", TOO_LARGE)
def test_a_number_too_large_for_a_float_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"^{name}: expected a number below 1.8e308"):
        TOO_LARGE[name]()


@pytest.mark.parametrize("threads", [0, 257, HUGE, True, 1.5, "2"], ids=lambda v: str(v)[:5])
def test_threads_are_checked_alike_everywhere(threads: int) -> None:
    for use in (
        lambda: rz.VideoReader("a.mp4", threads=threads),
        lambda: rz.open_classifier("fight.onnx", threads=threads),
        lambda: rz.PipelineSettings(threads=threads),
    ):
        with pytest.raises(
            ValueError, match=r"^threads: expected a whole number of 1 to 256, got "
        ):
            use()
    with pytest.raises(ValueError, match=r"^batch_size: expected a whole number of 1 to 256, got "):
        rz.PipelineSettings(batch_size=threads)


def test_paths_may_be_text() -> None:
    assert rz.load_config(str(SHIPPED_CONFIG)) == rz.load_config(SHIPPED_CONFIG)
    section = ClassifierConfig(model_path=str(FIGHT))
    assert rz.Classifier(str(FIGHT), section).path == FIGHT


def test_a_detector_goes_on_after_a_wrong_part() -> None:
    detector = rz.EventDetector(rz.open_classifier(FIGHT, threads=1))
    with pytest.raises(TypeError, match="part: expected PoseSequence, got 'a'"):
        detector.update("a")  # type: ignore[arg-type]
    assert detector.update(SEQUENCE) == []
    assert detector.finish() == []


def test_a_plan_is_of_the_classifiers_service() -> None:
    classifier = rz.open_classifier(FIGHT, threads=1)
    with pytest.raises(ValueError, match=r"plan: expected windows of fight, .* got falldown"):
        rz.classify_windows(SEQUENCE, classifier, rz.WindowPlan("falldown", 2.0, 1.0))
    with pytest.raises(ValueError, match="min_frames: expected a whole number of 1 or more"):
        rz.WindowPlan("fight", 2.0, 1.0, min_frames=-1)
    with pytest.raises(ValueError, match="service: expected fight or falldown, got 'dance'"):
        rz.WindowPlan("dance", 2.0, 1.0)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="sample: expected Sample, got 'a'"):
        classifier.predict("a")  # type: ignore[arg-type]


def test_a_reader_is_read_once_and_accounts_for_what_was_read(tmp_path: Path) -> None:
    path = tmp_path / "h264.mp4"
    encode(path, PLAIN["h264.mp4"])
    with rz.VideoReader(path) as reader:
        next(reader)
        assert reader.account == rz.FrameAccount(container_frames=1, decoded=1)
        assert len(list(reader)) == FRAMES - 1
        assert list(reader) == []  # as any iterator, so that islice may take batch after batch
    for use in (iter, next):
        with pytest.raises(ValueError, match="the reader is closed"):
            use(reader)  # type: ignore[operator]


def test_a_writer_says_that_it_is_closed_and_what_is_no_picture(tmp_path: Path) -> None:
    with rz.VideoWriter(tmp_path / "a.mp4", (64, 48), 25) as writer:
        with pytest.raises(ValueError, match=r"image: expected .* pixels, got 'a'"):
            writer.write("a", 0.0)  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="time_s: expected Real, got 'a'"):
            writer.write(IMAGE, "a")  # type: ignore[arg-type]
        writer.write(IMAGE, 0.0)
    with pytest.raises(ValueError, match="the writer is closed"):
        writer.write(IMAGE, 1.0)
    writer.close()


def test_colors_are_three_numbers_and_skeletons_have_17_keypoints() -> None:
    keypoints, scores = np.full((17, 2), 20.0), np.ones(17)
    expected = rz.draw_skeleton(IMAGE, keypoints, scores, (1, 2, 255))
    for color in (np.array([1, 2, 255]), tuple(np.array([1, 2, 255], np.uint8))):
        np.testing.assert_array_equal(rz.draw_skeleton(IMAGE, keypoints, scores, color), expected)
    for wrong in ("red", (1, 2), (0, 0, 256), None):
        with pytest.raises(ValueError, match=r"^color: expected"):
            rz.draw_skeleton(IMAGE, keypoints, scores, wrong)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"keypoints: expected .17, 2. numbers, got .5, 2."):
        rz.draw_skeleton(IMAGE, keypoints[:5], scores, (0, 0, 255))
