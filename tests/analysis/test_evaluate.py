"""The report where the truth is known: from tables, from folders, and what is left out."""

import json
from dataclasses import replace

import pytest

from recognizer.analysis.evaluate import (
    Evaluation,
    GroundTruth,
    read_ground_truth,
    remove_evaluations,
    summarise,
    write_evaluation,
)
from recognizer.config.file import ConfigError
from recognizer.config.schema import Config
from recognizer.dataset.labels import Segment
from tests.analysis.records import CLASSES, RULES, record, result, sliding, window


def config(**inference):
    base = Config()
    return base.model_copy(
        update={
            "inference": base.inference.model_copy(update=inference),
            "test": base.test.model_copy(update={"bootstrap": 20}),
        }
    )


def evaluated(truth, *records, rules=RULES):
    evaluation = Evaluation(CLASSES["fight"], truth, rules)
    for one in records:
        evaluation.add(one, "fight")
    return evaluation


def test_windows_get_the_class_that_fills_half_of_them():
    truth = GroundTruth("table", {"Fight/a.mp4": (Segment(2.0, 5.0, "Fight"),)})
    one = record({"fight": result(sliding([0.1] * 9))})
    evaluation = evaluated(truth, one)
    # Windows [1, 3) and [4, 6): half event, half normal: nobody can say.
    assert evaluation.labels == [0, 1, 1, 0, 0, 0, 0]
    assert evaluation.ambiguous == 2


def test_what_cannot_count_is_left_out_and_counted():
    truth = GroundTruth(
        "table", {"Fight/a.mp4": (Segment(0.0, 4.0, "Fight"), Segment(30, 40, "Fight"))}
    )
    windows = [window(0.0, 0.9), window(2.0, 0.0, state="too_few_frames"), window(4.0, 0.2)]
    unlabelled = record({"fight": result([window(0.0, 0.9)])}, video="other.mp4")
    evaluation = evaluated(truth, record({"fight": result(windows)}), unlabelled)
    assert (evaluation.labels, evaluation.not_judged) == ([1, 0], 1)
    assert evaluation.groups == ["Fight/a.mp4"] * 2
    assert len(evaluation.footage["Fight"]) == 1
    (problem,) = evaluation.problems
    assert "Fight/a.mp4" in problem
    assert "beyond the video's end" in problem


def test_the_report_counts_events_and_false_alarms(tmp_path):
    truth = GroundTruth(
        "folders", {"Fight/a.mp4": "Fight", "NonFight/b.mp4": "NonFight", "c.mp4": "Fight"}
    )
    fight = record({"fight": result(sliding([0.1, 0.9, 0.9, 0.1]))})
    calm = record(
        {"fight": result(sliding([0.1, 0.1, 0.1, 0.8, 0.1]))}, video="NonFight/b.mp4", stop_s=36.0
    )
    evaluation = evaluated(truth, fight, calm)
    analysed = ["Fight/a.mp4", "NonFight/b.mp4", "d.mp4"]
    report = write_evaluation(config(), tmp_path, "fight", evaluation, analysed)
    assert report == json.loads((tmp_path / "evaluation" / "fight.json").read_bytes())
    assert (tmp_path / "evaluation" / "fight.png").read_bytes().startswith(b"\x89PNG")
    assert (report["videos"], report["unlabelled"], report["not_analysed"]) == (
        2,
        ["d.mp4"],
        ["c.mp4"],
    )
    chosen = report["events"]["Fight"]["chosen"]
    assert (chosen["events"], chosen["found"]) == (1, 1)
    assert (chosen["alarms"], chosen["false_alarms"]) == (2, 1)
    assert chosen["false_alarms_per_hour"] == pytest.approx(100)
    assert report["windows"]["at_threshold"]["rows_are_truth"] == [[4, 1], [2, 2]]
    curve = report["events"]["Fight"]["curve"]
    strict = next(s for s in curve if s["threshold"] == 0.85)
    assert (strict["found"], strict["false_alarms"]) == (1, 0)
    (line,) = summarise("fight", report)
    assert line.startswith("fight: Fight at 0.5, in 2 of 3 videos, the labelled ones: ")
    assert "1 of 1 events found, 1 of 2 alarms false" in line
    assert "100.0 false alarms per hour, in 36 s of normal video" in line
    remove_evaluations(tmp_path)
    assert not (tmp_path / "evaluation").exists()


def test_what_others_put_beside_the_reports_stays(tmp_path):
    note = tmp_path / "evaluation" / "note.txt"
    note.parent.mkdir()
    note.touch()
    remove_evaluations(tmp_path)
    assert note.exists()


def test_the_tolerance_of_the_config_counts(tmp_path):
    truth = GroundTruth("table", {"Fight/a.mp4": (Segment(6.5, 8.0, "Fight"),)})
    one = record({"fight": result(sliding([0.1, 0.1, 0.1, 0.9, 0.1, 0.1, 0.1, 0.1]))})
    found = {}
    for tolerance_s in (0.0, 2.0):
        report = write_evaluation(
            config(tolerance_s=tolerance_s),
            tmp_path,
            "fight",
            evaluated(truth, one),
            ["Fight/a.mp4"],
        )
        found[tolerance_s] = report["events"]["Fight"]["chosen"]["found"]
    assert found == {0.0: 0, 2.0: 1}


def test_a_report_without_a_window_or_normal_footage(tmp_path):
    truth = GroundTruth("folders", {"Fight/a.mp4": "Fight"})
    empty = evaluated(truth)
    report = write_evaluation(config(), tmp_path, "fight", empty, [])
    assert (report["windows"]["count"], report["events"]) == (0, {})
    report = write_evaluation(config(), tmp_path, "fight", empty, ["b.mp4"])
    (line,) = summarise("fight", report)
    assert line == "fight: nothing is measured: no labelled video was analysed"
    only = evaluated(truth, record({"fight": result(sliding([0.9] * 9))}))
    report = write_evaluation(config(), tmp_path, "fight", only, ["Fight/a.mp4"])
    assert report["events"]["Fight"]["chosen"]["false_alarms_per_hour"] is None
    (line,) = summarise("fight", report)
    assert line.startswith("fight: Fight at 0.5: 1 of 1 events found")
    assert "no normal footage" in line


# --- where the truth comes from --------------------------------------------------------


def table(tmp_path, *rows):
    path = tmp_path / "labels.csv"
    path.write_text("\n".join(["video,start_s,stop_s,class", *rows]) + "\n")
    return path


def test_a_table_speaks_of_both_services(tmp_path):
    path = table(
        tmp_path, "a.mp4,0,9,NonFight", "a.mp4,3,5,Falldown", "b.mp4,1,2,Fight", "a.mp4,5,9,Normal"
    )
    truth = read_ground_truth(config(labels=path, input=tmp_path), CLASSES, ["a.mp4", "b.mp4"])
    assert set(truth["fight"].segments) == {"a.mp4", "b.mp4"}
    assert [s.class_name for s in truth["falldown"].segments["a.mp4"]] == ["Falldown", "Normal"]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("a.mp4,1,2,Fihgt", "^inference.labels: .*:2: unknown class .* did you mean 'Fight'"),
        ("x.mp4,1,2,Fight", "such as 'a.mp4', found none"),
    ],
)
def test_a_table_with_a_slip_is_refused(tmp_path, row, message):
    with pytest.raises(ConfigError, match=message):
        read_ground_truth(config(labels=table(tmp_path, row), input=tmp_path), CLASSES, ["a.mp4"])


def test_no_table_is_refused_with_its_key(tmp_path):
    gone = tmp_path / "gone.csv"
    with pytest.raises(ConfigError, match=r"^inference.labels: expected a CSV file, .*gone\.csv$"):
        read_ground_truth(config(labels=gone), CLASSES, ["a.mp4"])


def test_a_table_may_name_other_videos_and_says_so(tmp_path, caplog):
    path = table(tmp_path, "a.mp4,1,2,Fight", "x.mp4,1,2,Fight")
    truth = read_ground_truth(config(labels=path), CLASSES, ["a.mp4"])
    assert set(truth) == {"fight"}
    assert set(truth["fight"].segments) == {"a.mp4"}
    assert "1 of 2 videos in it are not in inference.input, such as 'x.mp4'" in caplog.text


def test_folders_are_the_truth_without_a_table():
    videos = ["Fight/a.mp4", "x/NonFight/b.mp4", "c.mp4"]
    truth = read_ground_truth(config(), CLASSES, videos)
    assert truth == {
        "fight": GroundTruth("folders", {"Fight/a.mp4": "Fight", "x/NonFight/b.mp4": "NonFight"})
    }


def test_folders_that_are_no_classes_are_named(caplog):
    assert read_ground_truth(config(), CLASSES, ["싸움/a.mp4", "정상/b.mp4", "c.mp4"]) == {}
    (logged,) = caplog.messages
    assert "expected folders NonFight, Fight (fight) or Normal, Falldown (falldown)" in logged
    assert "found 싸움, 정상; " in logged
    assert "nothing is measured" in logged
    assert "rename them, or name a table in inference.labels" in logged


def test_videos_in_no_folder_need_no_warning(caplog):
    assert read_ground_truth(config(), CLASSES, ["c.mp4"]) == {}
    assert caplog.messages == []


def test_of_many_folders_the_first_are_named(caplog):
    read_ground_truth(config(), CLASSES, [f"camera {i:02}/a.mp4" for i in range(50)])
    assert "camera 09, ...;" in caplog.text


def test_what_a_rest_zone_suppresses_is_no_false_alarm():
    truth = GroundTruth("folders", {"NonFight/b.mp4": "NonFight"})
    calm = result(sliding([0.1, 0.9, 0.8, 0.1, 0.1, 0.1, 0.9, 0.1]))
    first, second = calm.events
    both = evaluated(truth, record({"fight": calm}, video="NonFight/b.mp4"))
    one = replace(calm, events=(second,), suppressed=(replace(first, zone="bed"),))
    rest = evaluated(truth, record({"fight": one}, video="NonFight/b.mp4"))
    (all_windows,), (others,) = both.footage["Fight"], rest.footage["Fight"]
    assert all_windows.probabilities.tolist() == [0.1, 0.9, 0.8, 0.1, 0.1, 0.1, 0.9, 0.1]
    assert others.probabilities.tolist() == [0.1, 0.0, 0.0, 0.1, 0.1, 0.1, 0.9, 0.1]
    assert rest.probabilities == both.probabilities  # what the classifier says stays what it is
