"""The mode as it is typed: cameras in, events, notices and clips out."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import av
import pytest
import requests

from recognizer.live.store_reads import Filter, list_events

ROOT = Path(__file__).resolve().parents[2]
CLIP = ROOT.parent / "shared" / "assets" / "fight_surv" / "Fight" / "fi010.mp4"
needs_assets = pytest.mark.skipif(not CLIP.is_file(), reason="needs ../shared/assets")
PASSWORD = "hunter2secret"


def write_config(folder: Path, cameras: list[dict[str, object]], **live: object) -> Path:
    section = {
        "cameras": cameras,
        "alerts": {
            "rules": {"windows_needed": 1, "min_s": 0.0, "enter": 0.5, "windows_of": 1},
            "store": {"path": str(folder / "events.sqlite3")},
            "sinks": [{"name": "log", "kind": "jsonl", "path": str(folder / "notices.jsonl")}],
        },
        "clips_dir": str(folder / "clips"),
        "page": {"port": 0},
        "status_s": 1.0,
        **live,
    }
    path = folder / "live.yaml"
    path.write_text(json.dumps({"live": section}), encoding="utf-8")
    return path


def start(config: Path, code: str = "") -> subprocess.Popen[str]:
    """Start the mode, by ``main.py`` or other code."""
    program = ["-c", code] if code else ["main.py"]
    command = [sys.executable, *program, "--mode", "inference.realtime", "--config", str(config)]
    return subprocess.Popen(
        command,
        cwd=ROOT,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


@needs_assets
@pytest.mark.parametrize("clips", ["skeletons", "pixels"])
def test_a_fight_becomes_an_event_a_notice_and_a_clip(tmp_path, clips):
    config = write_config(
        tmp_path, [{"name": "yard", "path": str(CLIP), "speed": "fastest"}], clips=clips
    )
    process = start(config)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 0, output
    assert "yard: Fight new" in output
    page = list_events(tmp_path / "events.sqlite3", Filter())
    fights = [event for event in page.events if event.class_name == "Fight"]
    assert [event.state for event in fights] == ["end"]
    notices = [json.loads(line) for line in (tmp_path / "notices.jsonl").read_text().splitlines()]
    mine = [n["event"]["state"] for n in notices if n["event"]["event_id"] == fights[0].event_id]
    assert (mine[0], mine[-1]) == ("new", "end")
    clip = tmp_path / "clips" / "yard" / f"{fights[0].event_id}.mp4"
    with av.open(str(clip)) as container:
        frames = [frame.to_ndarray(format="bgr24") for frame in container.decode(video=0)]
    assert len(frames) >= 10
    black = (frames[len(frames) // 2].max(2) < 16).mean()
    assert black > 0.8 if clips == "skeletons" else black < 0.5


def test_a_camera_that_is_away_is_retried_and_named_and_its_password_is_not(tmp_path):
    url = f"rtsp://admin:{PASSWORD}@127.0.0.1:9/stream"
    process = start(write_config(tmp_path, [{"name": "door", "url": url}]))
    deadline = time.monotonic() + 90
    lines: list[str] = []
    assert process.stdout is not None
    while time.monotonic() < deadline and not any("door: waiting" in line for line in lines):
        lines.append(process.stdout.readline())
    process.send_signal(signal.SIGTERM)
    before = time.monotonic()
    output, _ = process.communicate(timeout=30)
    text = "".join(lines) + output
    assert time.monotonic() - before < 10
    assert process.returncode == 3, text
    assert "away at the end: door" in text
    assert PASSWORD not in text
    assert PASSWORD.encode() not in (tmp_path / "events.sqlite3").read_bytes()


@needs_assets
def test_the_page_shows_the_camera_and_its_event(tmp_path):
    camera = {"name": "yard", "path": str(CLIP), "speed": "real"}
    process = start(write_config(tmp_path, [camera]))
    assert process.stdout is not None
    url, lines = "", []
    for line in process.stdout:
        lines.append(line)
        if "the page is at" in line:
            url = line.split()[-1]
        if "yard: Fight new" in line:
            break
    try:
        assert url, lines
        pages = {
            path: requests.get(url + path, timeout=10)
            for path in ("", "events", "healthz", "readyz", "metrics")
        }
    finally:
        process.send_signal(signal.SIGTERM)
        output, _ = process.communicate(timeout=30)
    assert {path: one.status_code for path, one in pages.items()} == dict.fromkeys(pages, 200)
    assert "yard" in pages[""].text
    assert "Fight" in pages["events"].text
    assert 'recognizer_lag_seconds_count{stage="score"}' in pages["metrics"].text
    assert "Traceback" not in output


def test_no_cameras_is_a_clear_error(tmp_path):
    process = start(write_config(tmp_path, []))
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 2
    assert "live.cameras: expected one camera or more, got none" in output
    assert "Traceback" not in output


def test_a_secret_that_is_not_there_is_a_clear_error(tmp_path):
    sink = {
        "name": "hook",
        "kind": "webhook",
        "url": "https://127.0.0.1/x",
        "secret": {"env": "NO"},
    }
    alerts = {"store": {"path": str(tmp_path / "e.sqlite3")}, "sinks": [sink]}
    cameras = [{"name": "door", "url": "rtsp://127.0.0.1:9/x"}]
    process = start(write_config(tmp_path, cameras, alerts=alerts))
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 2, output
    assert "environment variable NO" in output
    assert "Traceback" not in output
