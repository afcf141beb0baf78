import contextlib
import json
import os
import resource
from pathlib import Path

import numpy as np
import pytest

from annotation.pipeline import report_overlay
from annotation.visualize import visualize
from recognizer.config.schema import Config
from recognizer.runs.manifest import Manifest, Outcome, read_manifest, result_path, write_manifest
from recognizer.storage.artifacts import sha256_file, write_poses
from recognizer.types import Poses, PoseSequenceBuilder
from recognizer.video.reader import VideoReader
from tests.annotation.clips import FPS, SIZE_WH, contents, dot_place, write_clip

VIDEOS = ("Fight/f0.mp4", "Fight/f1.mp4", "NonFight/n0.mp4")
FRAMES = 20


def poses_at(x, y, track_id):
    """Return somebody of whom one keypoint is seen, on the dot."""
    keypoints, scores = np.zeros((1, 17, 2), np.float32), np.zeros((1, 17), np.float32)
    keypoints[0, 9], scores[0, 9] = (x, y), 0.9
    box = np.array([[x - 8, y - 8, x + 8, y + 8]], np.float32)
    return Poses(keypoints, scores, box, np.full(1, 0.9, np.float32), np.array([track_id]))


def write_result(folder: Path, video: str, seed: int, source: Path, **meta) -> None:
    """Write what a stage would have found in a clip: the dot."""
    builder = PoseSequenceBuilder()
    step = meta.get("step", 1)
    for t in range(0, FRAMES, step):
        builder.append(poses_at(*dot_place(t, seed), 4), t / FPS, corrupt=t == 8)
    metadata = {
        "video": video,
        "source": {"sha256": sha256_file(source)},
        "settings": {"stage1": {"sample_fps": FPS / step if step > 1 else None}},
    }
    path = result_path(folder, video, ".npz")
    write_poses(path, folder, builder.build(SIZE_WH), {**metadata, **meta})


@pytest.fixture
def place(tmp_path):
    """Return a folder with clips and the stage-2 results of them."""
    outcomes = []
    for seed, video in enumerate(VIDEOS):
        source = tmp_path / "data" / video
        write_clip(source, seed, FRAMES)
        write_result(tmp_path / "stage2", video, seed, source)
        outcomes.append(Outcome(video, "done", frames=FRAMES))
    write_manifest(tmp_path / "stage2", Manifest("stage2", {"a": 1}, tuple(outcomes)))
    return tmp_path


def config(place: Path, **visual) -> Config:
    stage = visual.get("stage", "stage2")
    return Config.model_validate(
        {
            "annotation": {
                "input": str(place / "data"),
                "output_dir": str(place / "out"),
                "dataset": "dots",
                f"{stage}_dir": str(place / "stage2"),
            },
            "visualize": visual,
        }
    )


def frames_of(path: Path):
    with VideoReader(path) as reader:
        return [(frame.time_s, frame.image.bgr().copy()) for frame in reader]


def states(folder: Path) -> dict[str, str]:
    return {o.video: o.state for o in read_manifest(folder).outcomes}


def reason(folder: Path, video: str) -> str:
    return next(o.reason for o in read_manifest(folder).outcomes if o.video == video)


def assert_pictures_match(folder, place, video, step=1):
    """Each overlay frame fits the source frame of its time better than any other one."""
    frames = frames_of(result_path(folder, video, ".mp4"))
    sources = [image.astype(int) for _, image in frames_of(place / "data" / video)]
    times = [t / FPS for t in range(0, FRAMES, step)]
    assert [time_s for time_s, _ in frames] == pytest.approx(times, abs=1e-3)
    free = np.ones((SIZE_WH[1], SIZE_WH[0], 1), int)
    free[54:] = 0  # the caption
    for i, (_, image) in enumerate(frames):
        x, y = dot_place(i * step, VIDEOS.index(video))
        assert image[y, x].min() > 120, "the white keypoint lies on the dot"
        distance = [np.abs((image - source) * free)[:, :, 0].sum() for source in sources]
        assert int(np.argmin(distance)) == i * step


@pytest.mark.parametrize("stage", ["stage1", "stage2"])
def test_skeletons_lie_on_their_pictures(place, stage):
    folder = visualize(config(place, stage=stage, crf=5))
    assert folder == place / "out/dots/visualize/stage2"
    assert set(states(folder).values()) == {"done"}
    for video in VIDEOS:
        assert_pictures_match(folder, place, video)


def test_thinned_video_is_matched_by_time(place):
    video = VIDEOS[1]
    write_result(place / "stage2", video, 1, place / "data" / video, step=4)
    assert_pictures_match(visualize(config(place, crf=5)), place, video, step=4)


def test_skeleton_only_needs_no_video_and_shows_nothing_of_it(place):
    for video in VIDEOS:
        (place / "data" / video).unlink()
    folder = visualize(config(place, skeleton_only=True, crf=5))
    assert folder.name == "stage2-skeleton"
    assert set(states(folder).values()) == {"done"}
    looked_at = 0
    for t, (_, image) in enumerate(frames_of(result_path(folder, VIDEOS[0], ".mp4"))):
        x, y = dot_place(t, 0)
        assert image[y, x].min() > 120
        below = image[y + 14 : 42]  # between the person, whose label is above, and the caption
        assert below.max(initial=0) < 40
        looked_at += below.size
    assert looked_at > 1000


def test_damaged_frame_is_marked(place):
    folder = visualize(config(place, skeleton_only=True, crf=5))
    frames = frames_of(result_path(folder, VIDEOS[0], ".mp4"))
    ink = [(image[54:] > 100).sum() for _, image in frames]
    assert ink[8] > 1.2 * ink[7] or abs(ink[8] - ink[7]) > 50


def test_missing_video_is_recorded_and_the_others_are_drawn(place):
    (place / "data" / VIDEOS[0]).unlink()
    folder = visualize(config(place))
    assert states(folder) == {VIDEOS[0]: "refused", VIDEOS[1]: "done", VIDEOS[2]: "done"}
    assert "skeleton_only" in reason(folder, VIDEOS[0])
    assert str(place) not in (folder / "manifest.json").read_text()


def _other_content(place):
    write_clip(place / "data" / VIDEOS[0], 9, FRAMES)


def _no_video_at_all(place):
    source = place / "data" / VIDEOS[0]
    source.write_text("not a video")
    write_result(place / "stage2", VIDEOS[0], 0, source)


def _too_short(place):
    source = place / "data" / VIDEOS[0]
    write_clip(source, 0, FRAMES - 6)
    write_result(place / "stage2", VIDEOS[0], 0, source)


def _damaged_result(place):
    path = result_path(place / "stage2", VIDEOS[0], ".npz")
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(data)


def _no_result(place):
    result_path(place / "stage2", VIDEOS[0], ".npz").unlink()


def _refused_before(place):
    before = read_manifest(place / "stage2")
    outcomes = (Outcome(VIDEOS[0], "refused", "audio only"), *before.outcomes[1:])
    write_manifest(place / "stage2", Manifest("stage2", before.settings, outcomes))


def _empty_result(place):
    source = place / "data" / VIDEOS[0]
    path = result_path(place / "stage2", VIDEOS[0], ".npz")
    sequence = PoseSequenceBuilder().build(SIZE_WH)
    write_poses(path, place / "stage2", sequence, {"source": {"sha256": sha256_file(source)}})


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (_other_content, "not the one that stage 1 read"),
        (_no_video_at_all, "Fight/f0.mp4"),
        (_too_short, "expected a frame at"),
        (_damaged_result, "not a readable result file"),
        (_no_result, "expected a result file"),
        (_refused_before, "audio only"),
        (_empty_result, "no frame to draw"),
    ],
)
def test_each_fault_is_recorded_with_its_reason(place, spoil, words):
    spoil(place)
    folder = visualize(config(place))
    assert states(folder) == {VIDEOS[0]: "refused", VIDEOS[1]: "done", VIDEOS[2]: "done"}
    assert words in reason(folder, VIDEOS[0])
    assert not result_path(folder, VIDEOS[0], ".mp4").exists()
    assert str(place) not in (folder / "manifest.json").read_text()
    assert not list(folder.rglob(".scratch/*"))


def test_second_run_keeps_everything(place):
    folder = visualize(config(place))
    before = {p: p.stat().st_mtime_ns for p in folder.rglob("*.mp4")}
    first = contents(folder)
    reported = []
    visualize(config(place), lambda outcome, frames: reported.append((outcome, frames)))
    assert {p: p.stat().st_mtime_ns for p in folder.rglob("*.mp4")} == before
    assert contents(folder) == first
    assert sum(frames for _, frames in reported) == 0


def test_other_settings_or_newer_results_are_drawn_again(place):
    folder = visualize(config(place))
    first = contents(folder)
    visualize(config(place, crf=40))
    again = contents(folder)
    assert all(len(again[f"{v}.mp4"]) < len(first[f"{v}.mp4"]) for v in VIDEOS)
    write_result(place / "stage2", VIDEOS[0], 3, place / "data" / VIDEOS[0])
    overlay = result_path(folder, VIDEOS[0], ".mp4")
    os.utime(overlay, ns=(1, 1))
    visualize(config(place, crf=40))
    last = contents(folder)
    assert [v for v in VIDEOS if last[f"{v}.mp4"] != again[f"{v}.mp4"]] == [VIDEOS[0]]


@pytest.mark.parametrize("frames_before", [1, FRAMES + 3, 3 * FRAMES - 1])
def test_interrupted_run_leaves_nothing_half_and_ends_the_same(place, tmp_path, frames_before):
    whole = visualize(config(place))
    interrupted = config(place).model_copy(
        update={
            "annotation": config(place).annotation.model_copy(
                update={"output_dir": tmp_path / "out2"}
            )
        }
    )
    count = 0

    def interrupt(outcome, frames):
        nonlocal count
        count += frames
        if count >= frames_before:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        visualize(interrupted, interrupt)
    folder = tmp_path / "out2/dots/visualize/stage2"
    assert len(list(folder.rglob("*.mp4"))) == frames_before // FRAMES
    assert not (folder / "manifest.json").exists()
    assert visualize(interrupted) == folder
    before, after = contents(whole), contents(folder)
    assert before.keys() == after.keys()
    assert before["manifest.json"] == after["manifest.json"]
    for video in VIDEOS:  # not by bytes: x264 is not quite the same from run to run
        a, b = (frames_of(result_path(f, video, ".mp4")) for f in (whole, folder))
        assert len(a) == len(b) == FRAMES
        assert np.abs(a[-1][1].astype(int) - b[-1][1]).mean() < 2


def test_full_disk_names_the_overlay_and_leaves_no_file(place):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    folder = place / "out/dots/visualize/stage2"
    resource.setrlimit(resource.RLIMIT_FSIZE, (3000, limits[1]))
    try:
        with pytest.raises(OSError, match=r"f0\.mp4\.mp4") as caught:
            visualize(config(place))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert caught.value.filename == str(result_path(folder, VIDEOS[0], ".mp4"))
    assert not list(folder.rglob("*.mp4"))
    assert set(states(visualize(config(place))).values()) == {"done"}


def test_limit_takes_videos_of_all_classes(place):
    folder = visualize(config(place, limit=2))
    assert list(states(folder)) == ["Fight/f0.mp4", "NonFight/n0.mp4"]
    assert len(states(visualize(config(place, limit=100)))) == 3


def test_progress_hears_of_every_frame_and_every_video(place):
    reported = []
    visualize(config(place), lambda outcome, frames: reported.append((outcome, frames)))
    assert sum(frames for _, frames in reported) == 3 * FRAMES
    assert [o.video for o, _ in reported if o is not None] == list(VIDEOS)


@pytest.mark.parametrize(
    "name", ["-rf.mp4", "싸움 é.mp4", "a b;$(x).mp4", "x" * 251 + ".mp4", "clip.tar.mp4"]
)
def test_odd_names(place, name):
    source = place / "data" / name
    write_clip(source, 0, FRAMES)
    write_result(place / "stage2", name, 0, source)
    write_manifest(place / "stage2", Manifest("stage2", {}, (Outcome(name, "done"),)))
    folder = visualize(config(place))
    assert states(folder) == {name: "done"}
    assert len(frames_of(result_path(folder, name, ".mp4"))) == FRAMES


@pytest.mark.parametrize(
    "name", ["../out.mp4", "/tmp/out.mp4", "a/../../out.mp4", "a//b.mp4", ".."]
)
def test_names_that_leave_the_folder_are_refused(place, name):
    path = place / "stage2/manifest.json"
    value = json.loads(path.read_text())
    value["inputs"] = {name: {"state": "done", "reason": "", "frames": 1}}
    path.write_text(json.dumps(value))
    with pytest.raises(ValueError, match="inside the input folder"):
        visualize(config(place))
    assert not list(place.rglob("out.mp4*"))


def test_stage_that_has_not_run(tmp_path):
    with pytest.raises(FileNotFoundError, match="run the stage before"):
        visualize(config(tmp_path))


@pytest.mark.parametrize("limit", [None, 2, 3, 9])
def test_as_many_videos_are_reported_as_were_announced(place, limit):
    """Those that the stage refused are heard of, and counted, as well."""
    stage = read_manifest(place / "stage2")
    refused = Outcome(VIDEOS[1], "refused", "no video")
    outcomes = (stage.outcomes[0], refused, stage.outcomes[2])
    write_manifest(place / "stage2", Manifest("stage2", {"a": 1}, outcomes))
    totals, reported = [], []

    @contextlib.contextmanager
    def watch(title, total):
        totals.append(total)
        yield lambda outcome, frames: reported.append(outcome) if outcome else None

    report_overlay(config(place, limit=limit), watch)
    assert totals == [len(reported)] == [min(3, limit or 3)]
