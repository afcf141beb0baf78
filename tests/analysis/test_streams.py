"""Which stream spoke: in windows and events, in the file and its schema, on the console."""

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from recognizer.action.classifier import Classifier
from recognizer.action.events import merge_to_events
from recognizer.action.windows import WindowPlan, classify_windows
from recognizer.analysis.record import SCHEMA_FILE, read_record, record_bytes, write_record
from recognizer.analysis.summary import (
    VideoSummary,
    event_lines,
    other_rule,
    pose_only_lines,
    summary_rows,
    write_summary,
)
from recognizer.backends.network import ModelError
from recognizer.config.action import ClassifierConfig
from recognizer.config.schema import Config
from recognizer.dataset.samples import build_sample, people_of
from recognizer.runs.manifest import Outcome
from recognizer.storage.artifacts import ArtifactError
from recognizer.types import NUM_MOVEMENTS
from tests.action.moving import FUSION, NUM_PERSON, joined_file
from tests.analysis.classifiers import FEATURES
from tests.analysis.records import CLASSES, RULES, record, result, sliding, window
from tests.analysis.schema import problems
from tests.dataset.tracked import sequence

SCHEMA = json.loads(SCHEMA_FILE.read_bytes())
NOWHERE = Path("not/there.mp4")


@pytest.fixture(scope="module")
def classifier(tmp_path_factory):
    return Classifier(joined_file(tmp_path_factory.mktemp("models")), ClassifierConfig())


def judged(video, classifier):
    plan = WindowPlan("fight", 1.0, 0.5, 4)
    return tuple(classify_windows([video], classifier, plan, Config().scoring))


def moving(video):
    rows = np.random.default_rng(0).gamma(2.0, 0.3, (len(video.poses), NUM_MOVEMENTS))
    return replace(video, poses=video.poses.with_movement(rows.astype(np.float32)))


def test_windows_say_what_each_stream_says(classifier):
    for w in judged(moving(sequence(2.0, 20.0)), classifier):
        assert w.streams.keys() == {"pose", "movement"}
        pose, movement = (np.array([[1 - p, p]]) for p in w.streams.values())
        assert w.probabilities["Fight"] == pytest.approx(FUSION(pose, movement)[0, 1], abs=1e-4)


def test_windows_hold_as_many_people_as_the_samples_to_learn_from(classifier):
    """The pose stream takes fewer; what is measured of four is not what is measured of two."""
    video, scoring = moving(sequence(1.0, 20.0, people=5)), Config().scoring
    (found,) = judged(video, classifier)
    movement = {}
    for people in (FEATURES.num_person, NUM_PERSON):
        ids, _ = people_of(video, "fight", scoring, people)
        sample = build_sample(video, ids, people, "a sample of stage 3", 0)
        movement[people] = classifier.predict(sample).streams["movement"][1]
    assert found.streams["movement"] == pytest.approx(movement[NUM_PERSON], abs=1e-6)
    assert abs(movement[FEATURES.num_person] - movement[NUM_PERSON]) > 1e-3
    assert len(found.people) == NUM_PERSON


def test_windows_without_movement_say_so(classifier):
    video = sequence(2.0, 20.0)
    windows = judged(video, classifier)
    assert [w.streams for w in windows] == [{"pose": w.probabilities["Fight"]} for w in windows]
    late = moving(video)
    late.poses.movement[late.frame_of_row < 20] = np.nan
    streams = [sorted(w.streams) for w in judged(late, classifier)]
    assert streams == [["pose"], ["movement", "pose"], ["movement", "pose"]]


def test_a_stream_of_nan_is_refused_where_it_is_asked(tmp_path):
    path = joined_file(tmp_path)
    model = onnx.load(str(path))
    for constant in model.graph.initializer:
        value = numpy_helper.to_array(constant)
        if constant.name.startswith("movement/") and value.dtype == np.float32:
            constant.CopyFrom(numpy_helper.from_array(value * np.nan, constant.name))
    onnx.save(model, str(path))
    broken = Classifier(path, ClassifierConfig())
    with pytest.raises(ModelError, match="not finite"):
        judged(moving(sequence(2.0, 20.0)), broken)
    assert all(w.state == "judged" for w in judged(sequence(2.0, 20.0), broken))


def test_nobody_and_too_few_frames_have_no_streams(classifier):
    empty = judged(moving(sequence(2.0, 20.0, people=0)), classifier)
    few = judged(moving(sequence(2.0, 3.0)), classifier)
    assert {(w.state, len(w.streams)) for w in (*empty, *few)} == {
        ("nobody", 0),
        ("too_few_frames", 0),
    }


# --- records and events, made by hand ----------------------------------------------

PROBABILITIES = [0.1, 0.55, 0.52, 0.2]


def streamed(probabilities=PROBABILITIES, movement=True):
    windows = [
        replace(w, streams={"pose": 0.25, **({"movement": p} if movement else {})})
        for w, p in zip(sliding(probabilities, people=(3, 1)), probabilities, strict=True)
    ]
    metadata = result(windows)
    return replace(metadata, events=merge_to_events(windows, CLASSES["fight"], RULES))


def test_an_event_has_the_streams_of_its_peak():
    (event,) = streamed().events
    assert event.streams == {"pose": 0.25, "movement": 0.55}
    (event,) = result(sliding(PROBABILITIES)).events
    assert event.streams == {}


def test_the_file_holds_them_and_the_schema_knows_them(tmp_path):
    value = record({"fight": streamed()})
    assert problems(json.loads(record_bytes(value)), SCHEMA) == []
    write_record(tmp_path / "a.json", tmp_path, value)
    assert read_record(tmp_path / "a.json") == value
    for streams in ({"pose": 1.5}, {"sound": 0.5}):
        wrong = json.loads(record_bytes(value))
        wrong["services"]["fight"]["windows"][0]["streams"] = streams
        assert problems(wrong, SCHEMA)


def test_a_file_of_before_is_read(tmp_path):
    value = json.loads(record_bytes(record({"fight": streamed()})))
    for part in ("windows", "events"):
        for one in value["services"]["fight"][part]:
            del one["streams"]
    (tmp_path / "a.json").write_text(json.dumps(value))
    assert problems(value, SCHEMA) == []
    assert {len(w.streams) for w in read_record(tmp_path / "a.json").services["fight"].windows} == {
        0
    }


@pytest.mark.parametrize("wrong", [1.5, float("nan"), "0.5"])
def test_streams_that_are_no_probabilities_are_refused(tmp_path, wrong):
    value = json.loads(record_bytes(record({"fight": streamed()})))
    value["services"]["fight"]["windows"][0]["streams"]["pose"] = wrong
    (tmp_path / "a.json").write_text(json.dumps(value))
    with pytest.raises(ArtifactError, match="expected probabilities"):
        read_record(tmp_path / "a.json")


# --- what a person is told ---------------------------------------------------------


def found(service):
    return VideoSummary.of(record({"fight": service}), NOWHERE)


def lines(service):
    return event_lines([found(service)], {"fight": RULES})


def test_an_event_near_the_threshold_is_explained():
    assert lines(streamed())[1] == (
        "  Fight/a.mp4  1.00-4.00 s  Fight 0.55 (pose 0.25, movement 0.55; near the threshold 0.5, "
        "pose is against)  people (track ids): 1, 3"
    )
    assert "(pose 0.25, movement 0.95)  people" in lines(streamed([0.1, 0.95]))[1]
    assert "(pose 0.25, no movement measured" in lines(streamed(movement=False))[1]


def test_a_stream_just_under_the_threshold_is_not_rounded_to_it():
    service = streamed()
    (event,) = service.events
    near = replace(event, streams={"pose": 0.499, "movement": 0.55})
    message = lines(replace(service, events=(near,)))[1]
    assert "(pose 0.499, movement 0.55; near the threshold 0.5, pose is against)" in message


def test_a_near_miss_is_explained():
    text, changes = other_rule([found(streamed([0.1, 0.45]))], {"fight": RULES})
    assert text == (
        "fight is most probable in Fight/a.mp4, 0.45 (pose 0.25, movement 0.45; people (track "
        "ids): 3, 1)"
    )
    assert changes == {"inference.fight.threshold": 0.45}


def test_where_the_movement_stream_was_silent_is_reported():
    both = [found(streamed(movement=False)), found(streamed())]
    assert pose_only_lines(both) == [
        "fight: in 4 windows no movement was measured: the pose stream alone decided; "
        "make the poses again with annotation.movement: true if all of them are such"
    ]
    assert pose_only_lines([found(streamed()), found(result(sliding(PROBABILITIES)))]) == []


def test_the_table_tells_streams_and_people_of_the_peak(tmp_path):
    values = record({"fight": streamed()})
    rows = summary_rows(Outcome("Fight/a.mp4", "done"), values, ["fight"])
    rows += summary_rows(Outcome("b.mp4", "refused", "broken"), None, ["fight"])
    with write_summary(tmp_path, rows).open(newline="", encoding="utf-8-sig") as file:
        whole, refused = csv.DictReader(file)
    assert (whole["peak_streams"], whole["peak_people"]) == ("pose 0.25, movement 0.55", "3, 1")
    assert (refused["reason"], refused["peak_streams"]) == ("broken", "")
    (row,) = summary_rows(
        Outcome("a.mp4", "done"), record({"fight": result([window(0.0, 0.3)])}), ["fight"]
    )
    assert row[-2:] == ["", ""]
