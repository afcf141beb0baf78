"""Sheets lie on the video's own pictures, or on grey and say why."""

import contextlib
import json
import logging

import cv2
import numpy as np
import pytest

from annotation.clips import Clip
from annotation.contact_sheet import ContactSheets
from annotation.stage3 import run_stage3
from recognizer.config.schema import Config
from recognizer.dataset.samples import build_sample
from recognizer.runs.stills import Stills, sample_fps_of, stills_of
from recognizer.runs.strips import CELL_WH, draw_plan, plan_strip
from recognizer.video.writer import VideoWriter
from tests.annotation.datasets import clips, config, digests, read_metadata
from tests.dataset.tracked import sequence

pytestmark = pytest.mark.usefixtures("forked_workers")

SIZE_WH = (320, 240)
FRAMES = 20


def level(time_s):
    """Return the brightness of a video at a time: far enough apart to survive H.264."""
    return round(20 + 100 * time_s)


def write(path, frames=FRAMES, size_wh=SIZE_WH, fps=10.0):
    path.parent.mkdir(parents=True, exist_ok=True)
    with VideoWriter(path, size_wh, fps, crf=10) as writer:
        for t in range(frames):
            writer.write(np.full((size_wh[1], size_wh[0], 3), level(t / fps), np.uint8), t / fps)
    return path


def app_config(folder, **visualize):
    return Config.model_validate({"annotation": {"input": folder}, "visualize": visualize})


def sample_of(seconds=2.0, size_wh=SIZE_WH):
    video = sequence(seconds, people=1)
    assert video.size_wh == size_wh
    return build_sample(video, [0], 1, "a", 0)


def grounds(tmp_path, start_s=0.0, stop_s=2.0, sample=None, **options):
    plan = plan_strip(sample or sample_of(stop_s - start_s), stop_s - start_s)
    found = Stills(app_config(tmp_path), options.get("sample_fps")).read(
        {"a": plan.moments("F/a.mp4", start_s, stop_s)}
    )
    return plan, found


def brightness(picture):
    return float(np.median(picture)) / 0.75  # cells are drawn darker


@pytest.mark.parametrize(("start_s", "stop_s"), [(0.0, 2.0), (0.5, 1.5), (1.0, 1.3)])
def test_each_skeleton_lies_on_its_own_frame(tmp_path, start_s, stop_s):
    write(tmp_path / "F/a.mp4")
    plan, found = grounds(tmp_path, start_s, stop_s)
    expected = [level(start_s + pick / 10) for pick in plan.picks]
    assert [brightness(cell) for cell in found["a"]] == pytest.approx(expected, abs=3)
    strip = draw_plan(plan, found["a"])
    grey = draw_plan(plan)
    assert strip.image.shape == grey.image.shape
    assert strip.image.mean() > grey.image.mean()


def test_thinned_videos_give_the_frames_that_stage_1_saw(tmp_path):
    write(tmp_path / "F/a.mp4", frames=2 * FRAMES, fps=20.0)
    plan, found = grounds(tmp_path, sample_fps=10.0)
    expected = [level(pick / 10) for pick in plan.picks]
    assert [brightness(cell) for cell in found["a"]] == pytest.approx(expected, abs=3)


def test_cells_show_the_part_of_the_picture_around_the_people(tmp_path):
    """A bright right half is bright where the view says it is."""
    path = tmp_path / "F/a.mp4"
    path.parent.mkdir()
    picture = np.zeros((SIZE_WH[1], SIZE_WH[0], 3), np.uint8)
    picture[:, 160:] = 200
    with VideoWriter(path, SIZE_WH, 10.0, crf=10) as writer:
        for t in range(FRAMES):
            writer.write(picture, t / 10)
    plan, found = grounds(tmp_path)
    edge = round((160 - plan.corner[0]) * plan.scale)
    cell = found["a"][0]
    assert cell.shape == (CELL_WH[1], CELL_WH[0], 3)
    row = cell[CELL_WH[1] // 2, :, 0]
    if 4 < edge < CELL_WH[0] - 4:
        assert row[edge - 4] < 40 < row[edge + 4]
    assert (row[: max(edge - 4, 0)] < 40).all()


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda path: None, "found nothing"),
        (lambda path: write(path, frames=7), "expected 20 frames .* got 7: not the same video"),
        (lambda path: (path.parent.mkdir(), path.write_bytes(b"x" * 99)), "the video"),
    ],
    ids=["missing", "another video", "no video"],
)
def test_without_the_video_it_is_grey_and_reported(tmp_path, caplog, make, reason):
    make(tmp_path / "F/a.mp4")
    with caplog.at_level(logging.WARNING):
        _, found = grounds(tmp_path)
    assert found == {}
    assert (
        "1 samples are drawn without their video's pictures, such as one of F/a.mp4" in caplog.text
    )
    assert pytest.importorskip("re").search(reason, caplog.text)
    assert str(tmp_path) not in caplog.text


def test_what_is_late_in_a_long_video_is_not_waited_for(tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        _, found = grounds(tmp_path, 4000.0, 4002.0, sample_of())
    assert found == {}
    assert "later in the video than 60 s" in caplog.text


def test_privacy_mode_shows_no_picture(tmp_path):
    assert stills_of(app_config(tmp_path, skeleton_only=True), None) is None
    assert stills_of(app_config(tmp_path), 5.0) == Stills(app_config(tmp_path), 5.0)


@pytest.mark.parametrize(
    ("settings", "rate"),
    [
        ({}, None),
        ({"sample_fps": 5}, 5.0),
        ({"stage1": {"sample_fps": 4.0}}, 4.0),
        ({"stage1": {}}, None),
    ],
)
def test_the_rate_of_a_manifest(settings, rate):
    assert sample_fps_of(settings) == rate


def made_on_videos(folder):
    """Return the config of a data set whose videos are at hand."""
    app = config(folder, clips(3))
    videos = folder / "videos"
    for name in clips(3):
        write(videos / name, frames=10)
    return app.model_copy(
        update={"annotation": app.annotation.model_copy(update={"input": videos})}
    )


def private(app, *, skeleton_only):
    section = app.visualize.model_copy(update={"skeleton_only": skeleton_only})
    return app.model_copy(update={"visualize": section})


def shows_video(folder):
    sheet = cv2.imread(str(folder / "report" / "skeletons_Fight.png"))
    greys = ((sheet > 40) & (sheet < 120)).all(axis=2) & (np.ptp(sheet, axis=2) < 4)
    return greys.mean() > 0.1


def test_privacy_may_change_after_stage_3_is_done(tmp_path):
    """The sheets become those of a run of that kind; pickles and folder stay as they are."""
    app = made_on_videos(tmp_path / "a")
    hidden = private(app, skeleton_only=True)
    folder = run_stage3(app)
    before = digests(folder)
    assert shows_video(folder)
    assert read_metadata(folder)["report_shows_video"] is True
    pickles = {p: p.stat().st_mtime_ns for p in folder.glob("*.pkl")}

    assert run_stage3(hidden) == folder
    assert not shows_video(folder)
    assert read_metadata(folder)["report_shows_video"] is False
    fresh = run_stage3(private(made_on_videos(tmp_path / "b"), skeleton_only=True))
    assert digests(fresh) == digests(folder)

    metadata = read_metadata(folder)
    del metadata["report_shows_video"]  # as in folders of older versions
    (folder / "metadata.json").write_text(json.dumps(metadata))
    run_stage3(app)
    assert digests(folder) == before
    assert {p: p.stat().st_mtime_ns for p in folder.glob("*.pkl")} == pickles


def test_every_video_that_is_read_is_reported(tmp_path):
    reported = []

    @contextlib.contextmanager
    def watch(title, total):
        reported.append((title, total))
        yield lambda outcome, frames: reported.append((outcome and outcome.video, frames))

    write(tmp_path / "F/a.mp4")
    moments = plan_strip(sample_of(), 2.0).moments
    expected = {
        "one": moments("F/a.mp4", 0.0, 2.0),
        "two": moments("F/gone.mp4", 0.0, 2.0),
        "late": moments("F/a.mp4", 100.0, 102.0),
    }
    assert list(Stills(app_config(tmp_path), None).read(expected, watch)) == ["one"]
    assert reported[0][1] == 2
    assert [name for name, _ in reported[1:] if name] == ["F/a.mp4", "F/gone.mp4"]
    assert sum(frames for _, frames in reported[1:]) == FRAMES


def test_one_file_as_input_is_its_own_folder(tmp_path):
    path = write(tmp_path / "a.mp4")
    plan = plan_strip(sample_of(), 2.0)
    clip = Clip("a", "a.mp4", 0.0, 2.0, "F", (0,), FRAMES)
    sheets = ContactSheets([clip], Stills(app_config(path), None))
    assert list(sheets.collect([sample_of()]))
    ((strip,),) = sheets.by_class().values()
    assert (strip.image != draw_plan(plan).image).mean() > 0.5
