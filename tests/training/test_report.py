"""The pictures and pages of the report, drawn for real, also in odd cases."""

import os

import cv2
import numpy as np
import pytest

from recognizer.runs.figures import columns, save_figure
from recognizer.runs.progress import silent
from recognizer.training.classifier import report
from recognizer.training.classifier.error_videos import (
    Misclassified,
    draw_frames,
    video_name,
    write_error_videos,
)
from recognizer.training.classifier.labels import ClipLabel
from recognizer.training.classifier.predictions import Predictions
from recognizer.types import Sample
from recognizer.video.reader import VideoReader
from tests.training.measured import guesses


def made_predictions(labels, rows=None, classes=("NonFight", "Fight"), tracked=None):
    labels = np.asarray(labels)
    return Predictions(
        classes,
        tuple(f"{classes[k]}/{i}.mp4" for i, k in enumerate(labels)),
        labels,
        guesses(labels) if rows is None else np.asarray(rows, float),
        tuple(f"s{i % 5}" for i in range(len(labels))),
        np.ones(len(labels), bool) if tracked is None else np.asarray(tracked),
    )


def drawn(tmp_path, draw):
    path = tmp_path / "figure.png"
    save_figure(path, tmp_path, draw)
    image = cv2.imread(str(path))
    assert image.std() > 5  # something is on it
    return path.read_bytes()


THREE = made_predictions(
    np.arange(30) % 3, np.random.default_rng(0).dirichlet([1, 1, 1], 30), ("No", "Yes", "Fall $x$")
)
CASES = {
    "two": made_predictions(np.arange(40) % 2),
    "one class": made_predictions(np.ones(6, int)),
    "one sample": made_predictions([1]),
    "three classes": THREE,
}


@pytest.mark.parametrize("case", CASES)
def test_every_picture_is_drawn_and_equal_input_gives_equal_bytes(tmp_path, case):
    predictions = CASES[case]
    scores = predictions.scores(50, 0)
    pictures = [
        lambda f: report.draw_confusion(f, scores),
        lambda f: report.draw_roc(f, predictions, scores),
        lambda f: report.draw_precision_recall(f, predictions, scores),
        lambda f: report.draw_calibration(f, predictions, scores),
    ]
    for draw in pictures:
        assert drawn(tmp_path, draw) == drawn(tmp_path, draw)


def test_the_summary_states_the_figures_the_matrix_and_what_was_resampled():
    predictions = CASES["two"]
    scores = predictions.scores(200, 0)
    text = report.summarise("title", {"tracked": scores}, ["a note"])
    accuracy = scores.overall["accuracy"]
    assert f"accuracy            {accuracy.value:.3f} [{accuracy.low:.3f}, " in text
    assert "tracked (40: 20 NonFight, 20 Fight)" in text
    assert "200 resamples of 5 sources" in text
    assert text.splitlines()[-1] == "a note"
    (right, _), _ = scores.confusion
    assert f"  NonFight            {right:>10}" in text


def test_columns_of_the_summary_stand_below_each_other_in_hangul():
    labels = [0, 1] * 10
    texts = [
        report.summarise("t", {"all": made_predictions(labels, classes=classes).scores(0, 0)}, [])
        for classes in (("normal__", "fight___"), ("정상상태", "싸움중임"))  # as wide as each other
    ]
    assert [columns(line) for line in texts[0].splitlines()] == [
        columns(line) for line in texts[1].splitlines()
    ]


def test_the_summary_says_what_is_undefined():
    text = report.summarise("title", {"all": CASES["one class"].scores(0, 0)}, [])
    assert "ROC-AUC             undefined: the labels are of one class only" in text
    assert "No intervals" in text


def test_clips_without_anybody_count_as_normal():
    untracked = {
        "NonFight/x": ClipLabel(0, "s9", "test", 2.0),
        "Fight/y": ClipLabel(1, "s9", "test", 2.0),
    }
    whole = CASES["two"].with_untracked(untracked)
    assert whole.names[-2:] == ("NonFight/x", "Fight/y")
    assert whole.probabilities[-2:].tolist() == [[1, 0], [1, 0]]
    assert whole.tracked.tolist() == [True] * 40 + [False] * 2
    before, after = CASES["two"].scores(0, 0), whole.scores(0, 0)
    assert after.confusion[0][0] == before.confusion[0][0] + 1
    assert after.confusion[1][0] == before.confusion[1][0] + 1


def test_the_worst_are_the_mistakes_with_the_least_probability_of_the_truth():
    rows = [[0.9, 0.1], [0.1, 0.9], [0.4, 0.6], [0.8, 0.2], [0.3, 0.7]]
    predictions = made_predictions([0, 0, 0, 1, 1], rows)
    assert predictions.worst(10) == [1, 3, 2]
    assert predictions.worst(1) == [1]


# --- skeleton videos ---------------------------------------------------------------


def sample(name="Fight/a b.mp4", size_wh=(320, 240), people=3, frames=12):
    random = np.random.default_rng(1)
    keypoints = random.uniform(20, 200, (people, frames, 17, 2)).astype(np.float32)
    scores = np.ones((people, frames, 17), np.float32)
    scores[:, 5] = 0  # a frame in which nobody is seen
    return Sample(name, 1, keypoints, scores, size_wh, np.arange(people))


MISCLASSIFIED = Misclassified(1, "Fight", "NonFight", {"NonFight": 0.93, "Fight": 0.07}, 0.6)


@pytest.mark.parametrize("size_wh", [(320, 240), (1920, 1080), (64, 200), (4000, 300)])
def test_frames_are_readable_whatever_the_size_of_the_video(size_wh):
    frames = list(draw_frames(sample(size_wh=size_wh), MISCLASSIFIED))
    assert len(frames) == 12
    assert len({frame.shape for frame in frames}) == 1
    height, width, _ = frames[0].shape
    assert width >= 360
    assert height >= 64 + 64
    seen, empty = (np.unique(f[64:].reshape(-1, 3), axis=0) for f in (frames[4], frames[5]))
    assert len(seen) > len(empty)


def test_the_worst_mistakes_become_videos_that_play_as_long_as_the_sample(tmp_path):
    rows = [[0.9, 0.1], [0.9, 0.1], [0.1, 0.9], [1.0, 0.0]]
    names = ["Fight/a b.mp4", "Fight/../c.mp4", "NonFight/d.mp4", "Fight/nobody.mp4"]
    predictions = Predictions(
        ("NonFight", "Fight"),
        tuple(names),
        np.array([1, 1, 0, 1]),
        np.array(rows),
        None,
        np.array([True, True, True, False]),
    )
    samples = {name: sample(name) for name in names[:3]}
    stale = tmp_path / "mistakes" / "07_old.mp4"
    stale.parent.mkdir()
    stale.touch()
    known = {names[0]: ClipLabel(1, "s", "test", 0.6)}
    write_error_videos(tmp_path, (predictions, samples), known, 2, silent)
    found = sorted(p.name for p in (tmp_path / "mistakes").iterdir())
    assert found == ["01_Fight_.._c.mp4", "02_Fight_a_b.mp4"]
    with VideoReader(tmp_path / "mistakes" / "02_Fight_a_b.mp4") as reader:
        times = [frame.time_s for frame in reader]
    assert len(times) == 12
    assert times[-1] == pytest.approx(11 * 0.05, abs=1e-3)  # 12 frames in 0.6 s
    assert cv2.imread(str(tmp_path / "mistakes.png")).std() > 5


def test_no_mistake_is_a_page_that_says_so(tmp_path):
    predictions = made_predictions([0, 1], [[0.9, 0.1], [0.1, 0.9]])
    write_error_videos(tmp_path, (predictions, {}), {}, 5, silent)
    assert (tmp_path / "mistakes.png").is_file()
    assert not list(tmp_path.glob("mistakes/*"))


def test_names_of_videos_stay_inside_their_folder():
    assert video_name(3, "../../etc/passwd") == "03_etc_passwd.mp4"
    assert video_name(1, "싸움/복도 1.mp4") == "01_싸움_복도_1.mp4"
    assert len(os.fsencode(video_name(1, "𠀀" * 500))) <= 255
    assert "/" not in video_name(1, "a/b\0c\n/d.mp4@0.000-2.000")
    assert len(video_name(12, "x" * 500)) < 100
