"""Stage 3 with a table of segments: one sample for each, or windows over them."""

import pytest

from annotation import stage3
from annotation.stage3 import run_stage3
from recognizer.config.file import ConfigError
from recognizer.runs.manifest import read_manifest
from recognizer.runs.stage_folders import stage3_dir
from recognizer.storage.artifacts import short_digest
from tests.annotation.datasets import config, quick_pictures, read_metadata
from tests.dataset.tracked import sequence

__all__ = ["quick_pictures"]
pytestmark = pytest.mark.usefixtures("quick_pictures")


def with_segments(tmp_path, rows, seconds=4.0, **more):
    videos = {f"cam{i}/x.mp4": sequence(seconds) for i in range(4)}
    table = tmp_path / "segments.csv"
    table.write_text("video,start_s,stop_s,class\n" + "\n".join(rows))
    return config(
        tmp_path,
        videos,
        segments=str(table),
        classes={"Normal": 0, "Falldown": 1},
        service="falldown",
        **more,
    )


ROWS = [
    row
    for i in range(3)
    for row in (
        f"cam{i}/x.mp4,0,2,Normal",
        f"cam{i}/x.mp4,2,4.3,Falldown",
    )
]


def test_one_sample_per_segment(tmp_path):
    metadata = read_metadata(run_stage3(with_segments(tmp_path, ROWS)))
    assert sorted(metadata["samples"]) == sorted(
        name
        for i in range(3)
        for name in (
            f"cam{i}/x.mp4@0.000-2.000",
            f"cam{i}/x.mp4@2.000-4.000",
        )
    )
    assert metadata["failures"] == {
        "cam3/x.mp4": "label: no row in the table of dataset.segments names it"
    }
    assert all(s["frames"] == 20 for s in metadata["samples"].values())


def test_settings_are_the_folders_though_a_table_changes_during_the_run(tmp_path, monkeypatch):
    settings = with_segments(tmp_path, ROWS)
    find = stage3.near_duplicates

    def edit(*args):
        with (tmp_path / "segments.csv").open("a") as table:
            table.write("\ncam3/x.mp4,0,2,Normal")
        return find(*args)

    monkeypatch.setattr(stage3, "near_duplicates", edit)
    folder = run_stage3(settings)
    assert stage3_dir(settings) != folder
    assert folder.name.endswith(short_digest(read_metadata(folder)["settings"]))


def test_segment_beyond_the_end_is_left_out_and_reported(tmp_path):
    folder = run_stage3(with_segments(tmp_path, [*ROWS, "cam0/x.mp4,5,9,Falldown"]))
    metadata = read_metadata(folder)
    assert metadata["totals"]["samples"] == 6
    assert metadata["totals"]["parts_left_out"] == 1
    assert "left out: segment 5-9 s (line 8)" in metadata["failures"]["cam0/x.mp4"]
    states = {o.video: o.state for o in read_manifest(folder).outcomes}
    assert states["cam0/x.mp4"] == "damaged"


def test_windows_over_segments_take_the_class_that_covers_half(tmp_path):
    rows = [r.replace(",0,2,Normal", ",0,1.4,Normal") for r in ROWS]
    metadata = read_metadata(run_stage3(with_segments(tmp_path, rows, window_s=1.0, stride_s=0.5)))
    of_first = {
        s["start_s"]: s["class"] for n, s in metadata["samples"].items() if n.startswith("cam0")
    }
    assert of_first == {
        0.0: "Normal",
        0.5: "Normal",
        1.5: "Falldown",
        2.0: "Falldown",
        2.5: "Falldown",
        3.0: "Falldown",
    }
    assert metadata["totals"]["windows_without_class"] == 3


def test_windows_without_people_are_counted_and_no_damage(tmp_path):
    videos = {
        f"{n}/{i}.mp4": sequence(6.0, present=lambda i, t: t < 2)
        for n in ("Fight", "NonFight")
        for i in range(3)
    }
    videos["Fight/nobody.mp4"] = sequence(3.0, people=0)
    metadata = read_metadata(run_stage3(config(tmp_path, videos, window_s=1.0, stride_s=1.0)))
    assert metadata["totals"]["samples"] == 6 * 2
    assert metadata["totals"]["windows_without_people"] == 6 * 4 + 3
    assert metadata["failures"] == {"Fight/nobody.mp4": "windows in which nobody was tracked: 3"}


def test_many_parts_left_out_for_one_reason_are_one_sentence(tmp_path):
    rows = [f"cam0/x.mp4,{i / 10},{i / 10 + 0.1},Normal" for i in range(5)]
    rows += [row for row in ROWS if not row.startswith("cam0")]
    folder = run_stage3(with_segments(tmp_path, [*rows, "cam0/x.mp4,2,4,Falldown"]))
    assert read_metadata(folder)["failures"]["cam0/x.mp4"] == (
        "left out: 0.00-0.10 s, 0.10-0.20 s, 0.20-0.30 s and 2 more: "
        "fewer than dataset.min_frames = 4 frames"
    )


def test_a_bad_table_stops_before_any_work(tmp_path):
    settings = with_segments(tmp_path, [*ROWS, "../cam0/x.mp4,0,1,Normal"])
    with pytest.raises(ConfigError, match=r"segments\.csv:8: unknown video"):
        run_stage3(settings)
    assert not list(stage3_dir(settings).glob("*.pkl"))
