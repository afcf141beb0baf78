"""What the counts of falls and fights refuse before a window is judged."""

import re

import pytest

import benchmarks.cross_confusion as cross_confusion
from recognizer.installation import SHIPPED_MODELS
from tests.action.moving import LOGISTIC
from tests.annotation.real_tracks import FALLS, SAMPLES, tracks
from tests.benchmarks.one_line import bad_folders, refusal

FIGHT, FALL = (str(SHIPPED_MODELS / f"{name}.onnx") for name in ("fight", "falldown"))
EVENTS = f"video,start_s,stop_s,class\n{FALLS[0]},0.4,4,Falldown\n"


@pytest.fixture(scope="module")
def falls(tmp_path_factory):
    return tracks(tmp_path_factory.mktemp("falls"), "falls_stage1", FALLS)


@pytest.fixture
def refused(tmp_path, monkeypatch, capsys):
    """Return a function: the line with which the benchmark ends, nothing judged."""

    def line_of(*arguments):
        table = tmp_path / "events.csv"
        if not table.exists():
            table.write_text(EVENTS)
        given = ["--events", table, "--out", tmp_path / "out", *arguments]
        return refusal(monkeypatch, capsys, cross_confusion.main, given)

    monkeypatch.setattr(cross_confusion, "classify_windows", lambda *_: pytest.fail("judged"))
    return line_of


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--leave-out", "x", "--few", "2"], "--few: has no effect with --leave-out"),
        (["--leave-out", "x", "--fights", "x"], "--fights: has no effect with --leave-out"),
        (["--leave-out", "x", "--fight-model", FIGHT], "--fight-model: has no effect with"),
        (["--setting", LOGISTIC], "--setting: has no effect without --leave-out"),
        (
            ["--fight-model", f"Subject_1={FIGHT}", "--fights", "x"],
            "--fights: has no effect with --fight-model GROUP=FILE",
        ),
        (
            ["--fight-model", f"Subject_1={FIGHT}", "--fight-model", f"Subject_1={FALL}"],
            f"expected one file for Subject_1, got {FIGHT} and {FALL}",
        ),
        (["--fight-model", FIGHT, "--fight-model", FIGHT], "expected one file for all groups"),
        (["--fight-model", FALL], f"expected a classifier for fight, {FALL} is one for falldown"),
        (["--fall-model", FIGHT], f"expected a classifier for falldown, {FIGHT} is one for fight"),
        (["--fight-model", "absent.onnx"], "absent.onnx: expected an ONNX file, there is none"),
        (["--fall-model", f"Subject_1={FALL}"], "expected an ONNX file, there is none"),
        (["--few", "0"], "--few: expected a whole number of at least 1"),
        (["--config", "absent.yaml"], "expected a YAML file, found none at absent.yaml"),
    ],
)
def test_arguments_are_checked_first(arguments, message, refused, tmp_path):
    assert message in refused(*arguments)
    assert not list(tmp_path.glob("out/*"))


@pytest.mark.parametrize(
    "groups", [["Subject_1", "Subject_2"], ["Subject_1", "Subject_2", "Subject_3", "Subject_4"]]
)
def test_classifiers_are_one_for_each_group(groups, falls, refused):
    given = [text for group in groups for text in ("--fight-model", f"{group}={FIGHT}")]
    line = refused("--falls", falls, *given)
    assert f"(Subject_1, Subject_2, Subject_3), got {', '.join(groups)}" in line


def test_one_classifier_for_all_does_not_stand_beside_those_of_groups(falls, refused):
    line = refused("--falls", falls, "--fight-model", FIGHT, "--fight-model", f"Subject_1={FIGHT}")
    assert line.endswith("got one for all, Subject_1")


def test_folders_without_tracks_are_refused(falls, refused, tmp_path):
    folders = bad_folders(tmp_path)
    folders[SAMPLES / "falls_stage1"] = r"expected the folder of a stage 2 \(tracks\), got one of s"
    for folder, message in folders.items():
        assert re.search(message, refused("--falls", folder))
        assert re.search(message, refused("--falls", falls, "--fights", folder))


def test_clips_of_neither_class_are_refused(falls, refused):
    line = refused("--falls", falls, "--fights", falls)
    assert "--fights: expected videos in folders named Fight or NonFight" in line


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (
            EVENTS.replace("Subject_1", "falls/Subject_1"),
            r"events\.csv:2: .*falls/Subject_1/Fall/13",
        ),
        (EVENTS.replace("0.4", "soon"), r"events\.csv:2: start_s: .*'soon'"),
        (EVENTS.replace("start_s", "from"), r"events\.csv:1: .*missing: start_s"),
        (EVENTS.replace("Falldown", "Normal"), "expected events of the class Falldown, found none"),
    ],
)
def test_tables_of_events_that_are_not_about_the_folder_are_refused(
    table, message, falls, refused, tmp_path
):
    (tmp_path / "events.csv").write_text(table)
    assert re.search(message, refused("--falls", falls))


def test_a_folder_without_a_data_set_is_refused(falls, refused, tmp_path):
    line = refused("--falls", falls, "--leave-out", tmp_path)
    assert "expected metadata.json of a finished stage 3" in line
