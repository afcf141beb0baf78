"""Windows judged by a real network file: as in training, in seconds, whoever is there."""

import numpy as np
import pytest

from annotation.clips import ClipFinder
from recognizer.action.classifier import Classifier
from recognizer.action.windows import WindowPlan, classify_windows
from recognizer.config.action import ClassifierConfig
from recognizer.config.schema import Config
from recognizer.dataset.windows import slice_sequence
from recognizer.runs.manifest import Outcome
from tests.analysis.classifiers import place_classifier
from tests.dataset.tracked import SIZE_WH, sequence, write_stage2

SCORING = Config().scoring


@pytest.fixture(scope="module")
def classifier(tmp_path_factory):
    path = place_classifier(tmp_path_factory.mktemp("models") / "fight.onnx")
    return Classifier(path, ClassifierConfig())


def judged(video, classifier, **options):
    plan = {"service": "fight", "length_s": 1.0, "stride_s": 0.5, "min_frames": 4, **options}
    return tuple(classify_windows([video], classifier, WindowPlan(**plan), SCORING))


def test_a_window_tells_where_its_people_are(classifier):
    video = sequence(seconds=3.0, fps=20.0, people=1)
    windows = judged(video, classifier)
    assert [(w.start_s, w.stop_s) for w in windows] == [(k / 2, k / 2 + 1) for k in range(5)]
    for window in windows:
        cut = slice_sequence(video, window.start_s, window.stop_s)
        place = cut.poses.keypoints[..., 0].mean() / SIZE_WH[0]
        assert window.probabilities["Fight"] == pytest.approx(place, abs=1e-4)
        assert sum(window.probabilities.values()) == pytest.approx(1, abs=2e-6)
        (who,) = window.people
        assert who.box[0] == pytest.approx(cut.poses.boxes[:, 0].min(), abs=0.06)
        assert who.box[2] == pytest.approx(cut.poses.boxes[:, 2].max(), abs=0.06)
        assert (who.first_s, who.last_s) == (cut.time_s[0], cut.time_s[-1])


def test_nobody_is_normal_by_definition(classifier):
    video = sequence(seconds=3.0, fps=20.0, people=1, present=lambda i, t: t < 1.2)
    windows = judged(video, classifier)
    assert [w.state for w in windows] == ["judged"] * 3 + ["nobody"] * 2
    assert windows[-1].probabilities == {"NonFight": 1.0, "Fight": 0.0}
    assert windows[-1].people == ()


def test_somebody_who_only_fills_a_gap_is_nobody(classifier):
    video = sequence(seconds=2.0, fps=20.0, people=1, filled=lambda i, t: t >= 1.0)
    assert [w.state for w in judged(video, classifier)] == ["judged", "judged", "nobody"]


def test_too_few_frames_are_not_judged(classifier):
    video = sequence(seconds=4.0, fps=3.0, people=1)
    assert {w.state for w in judged(video, classifier)} == {"too_few_frames"}
    assert judged(video, classifier)[0].probabilities == {}
    assert {w.state for w in judged(video, classifier, min_frames=3)} == {"judged"}


def test_a_short_video_is_one_window_and_an_empty_one_none(classifier):
    (window,) = judged(sequence(seconds=0.6, fps=20.0), classifier)
    assert (window.start_s, window.stop_s) == (0.0, pytest.approx(0.6))
    assert judged(sequence(seconds=0.0), classifier) == ()


def restless(people, busy):
    """Return a video whose most restless person is another one every second."""
    video = sequence(seconds=4.0, fps=20.0, people=people)
    frame = video.frame_of_row
    shake = (busy(video.time_s[frame]) == video.poses.track_ids) & (frame % 2 == 0)
    video.poses.keypoints[shake, :, 1] += 30
    return video


@pytest.mark.parametrize("service", ["fight", "falldown"])
def test_training_and_analysis_choose_the_same_people(tmp_path, service):
    path = place_classifier(tmp_path / f"{service}.onnx", service)
    classifier = Classifier(path, ClassifierConfig())
    video = restless(6, lambda t: (t.astype(int) * 2) % 6)
    write_stage2(tmp_path, {"Fight/a.mp4": video})
    base = Config()
    dataset = base.dataset.model_copy(
        update={"window_s": 1.0, "stride_s": 0.5, "num_person": 2, "service": service}
    )
    finder = ClipFinder(base.model_copy(update={"dataset": dataset}), tmp_path, None)
    trained_on = finder.find(Outcome("Fight/a.mp4", "done", frames=len(video))).clips
    windows = judged(video, classifier, service=service)
    assert len(windows) == len(trained_on) == 7
    for window, clip in zip(windows, trained_on, strict=True):
        assert (window.start_s, window.stop_s) == (clip.start_s, clip.stop_s)
        assert tuple(p.track_id for p in window.people) == clip.track_ids
    if service == "fight":  # the order follows the window, not the video
        assert len({w.people[0].track_id for w in windows}) > 1


def test_the_network_sees_the_sample_of_training(tmp_path, classifier):
    video = restless(6, lambda t: (t.astype(int) * 2) % 6)
    write_stage2(tmp_path, {"Fight/a.mp4": video})
    base = Config()
    dataset = base.dataset.model_copy(update={"window_s": 1.0, "stride_s": 0.5, "num_person": 2})
    finder = ClipFinder(base.model_copy(update={"dataset": dataset}), tmp_path, None)
    clips = finder.find(Outcome("Fight/a.mp4", "done", frames=len(video))).clips
    samples = list(finder.samples("Fight/a.mp4", clips))
    offline = [classifier.probabilities(sample)[1] for sample in samples]
    online = [window.probabilities["Fight"] for window in judged(video, classifier)]
    np.testing.assert_allclose(online, offline, atol=1e-6)
    assert np.ptp(offline) > 0.01
