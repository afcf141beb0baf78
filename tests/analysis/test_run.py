"""Mode inference.analysis as a whole: real videos, real network files, real processes."""

import fcntl
import json
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import av
import numpy as np
import pytest

from recognizer.analysis import video as analysis_video
from recognizer.analysis.record import SCHEMA_FILE
from recognizer.config.file import ConfigError
from recognizer.runs.worker_pool import RunError
from tests.analysis.classifiers import place_classifier
from tests.analysis.schema import problems
from tests.analysis.small_runs import (
    contents,
    files,
    make_place,
    out,
    record_of,
    run,
    states,
    summary,
)
from tests.annotation import clips
from tests.loaded import loaded_by

pytestmark = pytest.mark.usefixtures("forked_workers")

ROOT = Path(__file__).resolve().parents[2]
MAIN = [sys.executable, str(ROOT / "main.py"), "--mode", "inference.analysis"]
SCHEMA = json.loads(SCHEMA_FILE.read_bytes())


def test_windows_show_where_the_dot_is(analysed):
    record = record_of(analysed, "Fight/f0.mp4")
    assert record.span_s == (0.0, 2.5)
    assert (record.size_wh, record.frames, record.state) == (clips.SIZE_WH, 50, "done")
    fight = record.services["fight"]
    assert [(w.start_s, w.stop_s) for w in fight.windows] == [
        (0.0, 1.0),
        (0.5, 1.5),
        (1.0, 2.0),
        (1.5, 2.5),
    ]
    for window in fight.windows[:2]:  # in the others the dot leaves and comes back as another
        frames = range(round(window.start_s * clips.FPS), round(window.stop_s * clips.FPS))
        dot = np.mean([clips.dot_place(t, 0)[0] for t in frames])
        assert window.probabilities["Fight"] == pytest.approx(dot / clips.SIZE_WH[0], abs=0.03)
        assert len(window.people) == 1
    falls = record.services["falldown"]
    assert [(w.start_s, w.stop_s) for w in falls.windows] == [(0.0, 1.5), (0.75, 2.25), (1.0, 2.5)]


def test_every_file_is_what_the_schema_says(analysed):
    found = sorted((out(analysed) / "videos").rglob("*.json"))
    assert len(found) == 2
    for path in found:
        assert problems(json.loads(path.read_bytes()), SCHEMA) == []


def test_events_summary_and_report_follow_from_the_windows(place):
    run(place, "inference.fight.threshold=0.45")
    record = record_of(place, "Fight/f0.mp4")
    above = [w for w in record.services["fight"].windows if w.probabilities["Fight"] >= 0.45]
    (event,) = record.services["fight"].events
    assert (event.start_s, event.stop_s) == (above[0].start_s, above[-1].stop_s)
    rows = {(row["video"], row["service"]): row for row in summary(place)}
    assert len(rows) == 4
    row = rows["Fight/f0.mp4", "fight"]
    assert row["events"] == "1"
    assert row["times_s"] == f"{event.start_s:.2f}-{event.stop_s:.2f} Fight"
    assert float(row["peak_probability"]) == pytest.approx(event.peak_probability, abs=1e-4)
    report = json.loads((out(place) / "evaluation" / "fight.json").read_bytes())
    assert report["labels_from"] == "folders"
    assert report["events"]["Fight"]["chosen"]["events"] == 1
    assert not (out(place) / "evaluation" / "falldown.json").exists()  # no folder is named so


def test_the_overlay_has_every_frame_at_its_time(analysed):
    with av.open(str(out(analysed) / "videos" / "Fight" / "f0.mp4.mp4")) as container:
        frames = list(container.decode(video=0))
    assert len(frames) == 50
    np.testing.assert_allclose([float(f.time) for f in frames], np.arange(50) / 20, atol=1e-3)
    first = frames[0].to_ndarray(format="bgr24")
    assert first.shape[0] > 64 * first.shape[1] / 96  # the strip is below the picture


def last_picture(overlay):
    """Return an overlay's last picture without the strip."""
    with av.open(str(overlay)) as container:
        *_, last = container.decode(video=0)
    picture = last.to_ndarray(format="bgr24")
    return picture[: picture.shape[1] * clips.SIZE_WH[1] // clips.SIZE_WH[0]].astype(int)


def blue_pixels(picture):
    return int(np.sum(picture[..., 0] - picture[..., 1:].max(axis=-1) > 100))


def test_skeletons_on_black_take_the_place_of_overlays_on_pictures(analysed):
    folder = out(analysed) / "videos/Fight"
    on_pictures, record = folder / "f0.mp4.mp4", folder / "f0.mp4.json"
    written, dot = record.stat().st_mtime_ns, blue_pixels(last_picture(on_pictures))
    run(analysed, "visualize.skeleton_only=true")
    assert not on_pictures.exists()
    assert blue_pixels(last_picture(folder / "f0.mp4.skeleton.mp4")) < dot / 4
    run(analysed)
    assert on_pictures.exists()
    assert not files(out(analysed), "*.skeleton.mp4")
    assert record.stat().st_mtime_ns == written


def test_without_overlays_none_are_written_or_spoken_of(place, caplog):
    caplog.set_level("INFO", "recognizer.analysis.run")
    run(place, "inference.overlay=false")
    assert "next: see summary.csv" in caplog.text
    assert not any(word in caplog.text for word in ("overlays:", "see the overlay"))
    assert not files(out(place), "*.mp4")
    assert len(files(out(place) / "videos", "*.json")) == 2


def test_nobody_at_all(tmp_path):
    place = make_place(tmp_path, score=0.1)
    assert run(place) == 0
    record = record_of(place, "Fight/f0.mp4")
    windows = [w for result in record.services.values() for w in result.windows]
    assert {w.state for w in windows} == {"nobody"}
    assert (
        problems(json.loads((out(place) / "videos/Fight/f0.mp4.json").read_bytes()), SCHEMA) == []
    )


# --- bad input -------------------------------------------------------------------------


def test_a_refused_video_is_accounted_for_and_forgotten(analysed):
    bad = analysed.parent / "data" / "Fight" / "f0.mp4"
    bad.write_bytes(bad.read_bytes()[:300])
    assert run(analysed) == 3
    assert states(analysed) == {"Fight/f0.mp4": "refused", "NonFight/n0.mp4": "done"}
    assert {p.as_posix() for p in files(out(analysed) / "videos", "*.*")} == {
        "NonFight/n0.mp4.json",
        "NonFight/n0.mp4.mp4",
    }
    rows = [row for row in summary(analysed) if row["video"] == "Fight/f0.mp4"]
    assert [row["state"] for row in rows] == ["refused"] * 2
    assert rows[0]["reason"].startswith("stage 1: Fight/f0.mp4: ")
    assert str(analysed.parent) not in (out(analysed) / "manifest.json").read_text()


def test_frames_that_all_carry_one_time_take_theirs_from_the_frame_rate(analysed):
    video = analysed.parent / "data" / "Fight" / "f0.mp4"
    with av.open(str(video), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 160, 96, "yuv420p"
        stream.codec_context.max_b_frames = 0
        packets = []
        for i in range(12):
            frame = av.VideoFrame.from_ndarray(np.full((96, 160, 3), 20 * i, np.uint8), "bgr24")
            frame.pts = i
            packets += stream.encode(frame)
        for packet in [*packets, *stream.encode()]:
            packet.pts = packet.dts = 0
            container.mux(packet)
    assert run(analysed) == 0
    assert states(analysed)["Fight/f0.mp4"] == "damaged"
    rows = [row for row in summary(analysed) if row["video"] == "Fight/f0.mp4"]
    assert "taken from the frame rate" in rows[0]["reason"]


def test_a_damaged_result_is_made_again(analysed):
    before = contents(analysed)
    path = out(analysed) / "videos" / "Fight" / "f0.mp4.json"
    path.write_bytes(path.read_bytes()[:200])
    run(analysed)
    assert contents(analysed) == before


def test_windows_too_short_to_score_are_reported(place):
    assert run(place, "annotation.sample_fps=2", "dataset.min_frames=3") == 0
    assert set(states(place).values()) == {"damaged"}
    assert "fewer than dataset.min_frames" in summary(place)[0]["reason"]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["inference.fight.model_path=no.onnx"],
            r"(?s)no\.onnx.*samples/models.*inference\."
            r"services wants fight, falldown.*train\.fight.*deploy\.export",
        ),
        (["inference.fight.model_path=falldown.onnx"], "one for falldown"),
        (["inference.services=[]"], "expected fight, falldown or both"),
        (["inference.services=[fight, fight]"], "each once"),
        (["inference.stride_s=1.2"], "at most the window of fight, 1 s, got 1.2"),
        (["inference.output_dir={here}/data"], "does not hold inference.input"),
        (["inference.output_dir={here}"], "does not hold inference.input"),
        (["inference.labels={here}/config.yaml"], "expected the columns"),
    ],
)
def test_bad_settings_stop_before_any_work(place, overrides, message):
    here = str(place.parent)
    with pytest.raises(ConfigError, match=message):
        run(place, *(o.replace("{here}", here) for o in overrides))
    assert not (out(place) / "work").exists()


def test_bad_inputs_and_models_name_themselves(place):
    with pytest.raises(
        FileNotFoundError, match=r"input: expected a video or a folder of videos, found nothing"
    ):
        run(place, f"inference.input={place.parent / 'nowhere'}")
    (place.parent / "empty").mkdir()
    with pytest.raises(ValueError, match=r"inference\.input: expected videos"):
        run(place, f"inference.input={place.parent / 'empty'}")
    with pytest.raises(ValueError, match=re.escape("a pose model belongs to")):
        run(place, "inference.fight.model_path=dot.onnx")
    assert not (out(place) / "work").exists()


def test_a_classifier_that_gives_no_numbers_stops_the_run(analysed):
    place_classifier(analysed.parent / "fight.onnx", "fight", slope=float("nan"))
    with pytest.raises(RunError, match=r"fight\.onnx: .*not finite"):
        run(analysed)


def test_results_inside_the_input_folder_are_no_input(place):
    inside = f"inference.output_dir={place.parent / 'data' / 'found'}"
    for _ in range(2):
        assert run(place, inside) == 0
    manifest = json.loads((place.parent / "data" / "found" / "manifest.json").read_bytes())
    assert set(manifest["inputs"]) == {"Fight/f0.mp4", "NonFight/n0.mp4"}


# --- one video, one service ------------------------------------------------------------


def test_a_single_video_is_enough(place):
    video = place.parent / "data" / "Fight" / "f0.mp4"
    (place.parent / "data" / "NonFight" / "n0.mp4").unlink()
    assert run(place, f"inference.input={video}", "inference.services=[fight]") == 0
    assert states(place) == {"f0.mp4": "done"}
    assert set(record_of(place, "f0.mp4").services) == {"fight"}
    assert (out(place) / "videos" / "f0.mp4.mp4").is_file()


# --- nothing twice ---------------------------------------------------------------------


def test_a_finished_analysis_is_left_as_it_is(analysed):
    before = files(out(analysed) / "videos", "*.*"), contents(analysed)
    run(analysed)
    assert (files(out(analysed) / "videos", "*.*"), contents(analysed)) == before


def test_a_new_threshold_asks_no_network(analysed):
    work = files(out(analysed) / "work", "*.npz")
    windows = record_of(analysed, "Fight/f0.mp4").services["fight"].windows
    # The file's content and name are part of what decides the windows; the network is gone.
    run(analysed, "inference.fight.threshold=0.9", "inference.merge_gap_s=0")
    fight = record_of(analysed, "Fight/f0.mp4").services["fight"]
    assert fight.windows == windows
    assert fight.events == ()
    assert fight.rules == {"threshold": 0.9, "merge_gap_s": 0.0, "min_event_s": 0.0}
    assert files(out(analysed) / "work", "*.npz") == work


def test_going_back_gives_the_same_bytes(analysed):
    before = contents(analysed)
    run(analysed, "inference.fight.threshold=0.9", "inference.stride_s=0.25")
    assert contents(analysed)[0] != before[0]
    run(analysed)
    assert contents(analysed) == before


def test_a_new_classifier_asks_only_itself(analysed):
    work, before = files(out(analysed) / "work", "*.npz"), record_of(analysed, "Fight/f0.mp4")
    overlay = out(analysed) / "videos" / "Fight" / "f0.mp4.mp4"
    drawn = overlay.stat().st_mtime_ns
    place_classifier(analysed.parent / "fight.onnx", "fight", slope=-0.5)
    run(analysed)
    after = record_of(analysed, "Fight/f0.mp4")
    for one, other in zip(
        before.services["fight"].windows, after.services["fight"].windows, strict=True
    ):
        assert one.probabilities["Fight"] == pytest.approx(
            other.probabilities["NonFight"], abs=2e-6
        )
    assert after.services["falldown"] == before.services["falldown"]
    assert files(out(analysed) / "work", "*.npz") == work
    assert overlay.stat().st_mtime_ns > drawn


def test_a_lost_overlay_is_drawn_again(analysed):
    overlay = out(analysed) / "videos" / "Fight" / "f0.mp4.mp4"
    overlay.unlink()
    record = overlay.with_name("f0.mp4.json").stat().st_mtime_ns
    run(analysed)
    assert overlay.is_file()
    assert overlay.with_name("f0.mp4.json").stat().st_mtime_ns == record


def test_a_restart_knows_from_the_journal_what_is_finished(analysed, monkeypatch):
    run(analysed)  # files of a copy have other times than the journal

    def opened(path, *_):
        raise AssertionError(f"{path} was opened")

    before = contents(analysed)
    monkeypatch.setattr(analysis_video, "read_npz_meta", opened)
    monkeypatch.setattr(analysis_video, "read_record", opened)
    run(analysed)
    assert contents(analysed) == before
    monkeypatch.undo()
    overlay = out(analysed) / "videos" / "Fight" / "f0.mp4.mp4"
    overlay.unlink()
    run(analysed)
    assert overlay.is_file()


def test_two_runs_at_once_are_refused(place):
    out(place).mkdir()
    with (out(place) / ".lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(BlockingIOError, match="another run"):
            run(place)


def test_workers_and_the_mode_load_no_training_library():
    assert not loaded_by("import recognizer.analysis.video") & {
        "torch",
        "mmengine",
        "matplotlib",
        "sklearn",
    }
    assert not loaded_by("import recognizer.analysis.run") & {"torch", "mmengine", "matplotlib"}


def main(config):
    return subprocess.run(
        [*MAIN, "--config", str(config)], capture_output=True, text=True, check=False, timeout=300
    )


@pytest.mark.slow
@pytest.mark.parametrize("kills", [3, 25])
def test_killed_at_any_moment_the_end_is_the_same(tmp_path, kills):
    calm = make_place(tmp_path / "a", count=2)
    shutil.copytree(tmp_path / "a", tmp_path / "b")  # copied: x264 writes other bytes each time
    disturbed = tmp_path / "b" / calm.name
    assert main(calm).returncode == 0
    rng = random.Random(kills)
    for _ in range(kills):
        process = subprocess.Popen(
            [*MAIN, "--config", str(disturbed)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        time.sleep(rng.uniform(0.5, 6.0))
        process.send_signal(signal.SIGKILL)
        process.wait()
    deadline = time.monotonic() + 120
    while (done := main(disturbed)).returncode != 0:  # an orphan may hold on for a second
        assert time.monotonic() < deadline, done.stderr
        time.sleep(0.5)
    assert contents(disturbed) == contents(calm)
