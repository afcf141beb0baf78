"""Lies counted over the samples: all of them are real people."""

import re

import pytest

from benchmarks.lying import kind_of, main
from tests.annotation.real_tracks import SAMPLES
from tests.benchmarks.one_line import bad_folders, refusal


@pytest.mark.parametrize(
    ("video", "kind"),
    [("Subject_1/Fall/13.mp4", "Fall"), ("bed_falls/fall/a.mp4", "bed_falls/fall"), ("a.mp4", ".")],
)
def test_the_kind_of_footage_is_its_folder_without_people(video, kind):
    assert kind_of(video) == kind


def test_most_who_fell_lie_and_daily_life_shows_few(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["lying", "--out", str(tmp_path)])
    assert main() == 0
    rows = {line.split()[0]: line.split() for line in capsys.readouterr().out.splitlines()[1:]}
    assert {kind: int(row[1]) for kind, row in rows.items()} == {"ADL": 5, "Fall": 11}
    assert int(rows["ADL"][3]) <= 1
    assert int(rows["Fall"][3]) >= 7


def test_folders_without_tracks_are_refused(tmp_path, monkeypatch, capsys):
    folders = bad_folders(tmp_path)
    folders[SAMPLES / "stage1"] = r"expected the folder of a stage 2 \(tracks\), got one of stage1"
    for folder, message in folders.items():
        assert re.search(message, refusal(monkeypatch, capsys, main, ["--tracked", folder]))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--long-lie-s", "nan"], "--long-lie-s: expected seconds above 0, got 'nan'"),
        (["--long-lie-s=-1"], "--long-lie-s: expected seconds above 0, got '-1'"),
        (["--config", "absent.yaml"], "expected a YAML file, found none at absent.yaml"),
    ],
)
def test_bad_arguments_are_refused_before_anything_is_tracked(
    arguments, message, tmp_path, monkeypatch, capsys
):
    line = refusal(monkeypatch, capsys, main, [*arguments, "--out", tmp_path / "out"])
    assert message in line
    assert not (tmp_path / "out").exists()
