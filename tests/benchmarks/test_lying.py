"""Lies counted over the samples: all of them are real people."""

import pytest

from benchmarks.lying import kind_of, main


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
