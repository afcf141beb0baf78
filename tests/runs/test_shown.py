"""What a player shows of a video is what the stages see, and what they say about it."""

from fractions import Fraction

import numpy as np
import pytest

from annotation.visualize import visualize
from recognizer.config.file import load_config
from recognizer.runs.manifest import read_manifest, result_path
from recognizer.runs.stage1 import run_stage1
from recognizer.runs.stage2 import run_stage2
from recognizer.storage.artifacts import read_poses, write_poses
from recognizer.video.reader import VideoReader
from tests.annotation import clips
from tests.bad_videos import Recipe, encode
from tests.video.odd_display import encode_pictures, numbered, put_beside

pytestmark = pytest.mark.usefixtures("forked_workers")

HOLE_S = 7 * 3600


@pytest.fixture
def dataset(tmp_path):
    return clips.make_dataset(tmp_path, clips=1)


def notes(folder, video):
    return next(o.notes for o in read_manifest(folder).outcomes if o.video == video)


def with_hole(index):
    return Fraction(index, 10) + (HOLE_S if index >= 5 else 0)


def test_the_overlay_survives_a_hole_of_hours_and_every_record_says_so(dataset):
    path = dataset.parent / "data/Fight/hole.mkv"
    encode(path, Recipe(size_wh=(96, 64)), range(10), with_hole, Fraction(1, 1000))
    config = load_config(dataset)
    folders = [run_stage1(config), run_stage2(config), visualize(config)]
    for folder in folders:
        messages = notes(folder, "Fight/hole.mkv")
        assert len(messages) == 1
        assert messages[0].startswith(f"1 holes of more than 60 s, {HOLE_S} s in all")
        assert notes(folder, "Fight/f0.mp4") == ()
    with VideoReader(result_path(folders[-1], "Fight/hole.mkv", ".mp4")) as reader:
        times = [frame.time_s for frame in reader]
    expected = [0, 0.1, 0.2, 0.3, 0.4, 60.4, 60.5, 60.6, 60.7, 60.8]
    np.testing.assert_allclose(times, expected, atol=1e-3)
    sequence = read_poses(result_path(folders[1], "Fight/hole.mkv", ".npz"))[0]
    assert sequence.time_s[5] == pytest.approx(HOLE_S + 0.5)


def test_streams_that_are_not_read_stand_in_the_manifests(dataset, tmp_path):
    still = encode_pictures(tmp_path / "s.mp4", numbered(1, (320, 240)), codec="mjpeg")
    clips.write_clip(tmp_path / "v.mp4", 3)
    put_beside(dataset.parent / "data/Fight/cam.mp4", still, tmp_path / "v.mp4")
    config = load_config(dataset)
    for folder in (run_stage1(config), run_stage2(config), run_stage1(config)):
        outcome = next(o for o in read_manifest(folder).outcomes if o.video == "Fight/cam.mp4")
        assert (outcome.state, outcome.frames) == ("done", 24)
        assert outcome.notes == ("video stream 0 not read: mjpeg 320x240, still pictures",)


def test_a_result_of_pictures_as_stored_is_made_again(dataset):
    config = load_config(dataset)
    folder = run_stage1(config)
    good = clips.contents(folder)
    path = result_path(folder, "Fight/f0.mp4", ".npz")
    sequence, _, meta = read_poses(path)
    old = {k: v for k, v in meta["video_info"].items() if k != "pixel_aspect"}
    write_poses(path, folder, sequence, {**meta, "video_info": old})
    run_stage1(config)
    assert clips.contents(folder) == good
