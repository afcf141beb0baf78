"""``make check-gpu``: what is run, what a step that fails looks like, and all of it on a CPU."""

import json
import sys
from pathlib import Path

import pytest

from benchmarks.gpu import check, check_programs, check_steps
from benchmarks.gpu._processes import claim
from benchmarks.gpu.check import Outcome, Step
from benchmarks.gpu.check_needs import NO_DRIVER, NOT_HERE, Given, missing
from recognizer.backends.cuda import driver_version
from tests.benchmarks.gpu.processes import ended

no_driver = pytest.mark.skipif(bool(driver_version()), reason="there is an NVIDIA driver")


@no_driver
def test_without_a_gpu_it_says_at_once_what_is_missing(tmp_path, capsys):
    assert check.main(["--out", str(tmp_path / "out")]) == NOT_HERE
    output = capsys.readouterr().out
    assert NO_DRIVER in output
    assert "make setup-train RUNTIME=tensorrt && make check-gpu" in output
    assert not (tmp_path / "out").exists()


@no_driver
def test_everything_missing_has_a_command():
    (cause, remedy), *others = missing()
    assert cause == NO_DRIVER
    assert remedy
    assert [one for one in others if not all(one)] == []


def test_a_video_that_is_not_there_is_refused(tmp_path, capsys):
    with pytest.raises(SystemExit) as left:
        check.main(["--video", str(tmp_path / "none.mp4")])
    assert left.value.code == 2
    assert "--video: expected files, found none at" in capsys.readouterr().err


def test_the_plan_holds_what_the_issue_asks_for(tmp_path):
    steps = check.plan(tmp_path, [Path("a.mp4")], tiny=False, minutes=3)
    names = [step.name for step in steps]
    assert names[-1] == "kit"
    for name in ("onnx_cuda", "onnx_tensorrt", "engine", "tests tensorrt", "tests torch", "nvdec"):
        assert name in names
    assert [name for name in names if name.startswith("streams ")] == [
        "streams 1",
        "streams 4",
        "streams 16",
        "streams 64",
    ]
    results = [step.result for step in steps]
    assert len(set(results)) == len(results)
    for step in steps:
        assert step.command[3] in check_steps.STEPS
        assert "--tiny" not in step.command
    assert steps[-1].command[-2:] == ("--argument", "3")
    assert "--tiny" in check.plan(tmp_path, [], tiny=True, minutes=3)[-1].command


@pytest.mark.parametrize(
    ("code", "state", "output"),
    [
        ("print('last words'); raise SystemExit(3)", "failed", "exit code 3: last words"),
        ("import os; os.kill(os.getpid(), 11)", "failed", "signal 11: it printed nothing"),
        ("import time; time.sleep(60)", "failed", "no end in 2 s"),
        ("pass", "failed", "exit code 0: it printed nothing"),
    ],
)
def test_a_step_that_does_not_answer(tmp_path, code, state, output):
    result = tmp_path / "x.step.json"
    result.write_text("{}", encoding="utf-8")  # of an earlier call: not taken for this one's
    outcome = check.run(Step("x", (sys.executable, "-c", code), result), 2)
    assert (outcome.state, outcome.cause) == (state, output)
    assert str(result.with_suffix(".log")) in outcome.remedy


@pytest.mark.parametrize(
    ("error", "code", "expected"),
    [
        (None, 0, {"state": "ok", "figures": {"calls": 1}}),
        (
            check_steps.NotHereError("no card", "buy one"),
            NOT_HERE,
            {"state": "not here", "cause": "no card", "remedy": "buy one"},
        ),
        (
            check_steps.ModelError("bad file", remedy="make another"),
            1,
            {"state": "failed", "cause": "bad file", "remedy": "make another"},
        ),
        (RuntimeError(), 1, {"state": "failed", "cause": "RuntimeError", "remedy": ""}),
    ],
)
def test_a_step_tells_what_became_of_it(tmp_path, monkeypatch, error, code, expected):
    def step(given):
        assert given == Given(tmp_path, (Path("a.mp4"),), True, "8")
        if error is not None:
            raise error
        return {"calls": 1}

    monkeypatch.setitem(check_steps.STEPS, "decode", step)
    result = tmp_path / "r.json"
    requested = [
        "decode",
        "--out",
        str(tmp_path),
        "--result",
        str(result),
        "--video",
        "a.mp4",
        "--argument",
        "8",
        "--tiny",
    ]
    assert check_steps.main(requested) == code
    assert json.loads(result.read_text(encoding="utf-8")) == expected


def test_the_table_is_markdown_with_units(tmp_path):
    (tmp_path / "summary.md").write_text("| kit |\n", encoding="utf-8")
    machine = {"card": "H100", "driver": "580.1"}
    outcomes = [
        Outcome("machine", "ok", {"facts": machine, "doctor": ["mend: x: y -> z"]}, "", "", 1.0),
        Outcome("onnx_cuda", "ok", {"rtmo": {"p50_ms": 1.234, "frames_per_s": 810.4}}, "", "", 2.0),
        Outcome("engine", "not here", {}, "a | b", "make it", 0.1),
        Outcome("nvdec", "failed", {}, "no", "make it", 0.1),
    ]
    rows = check.table(outcomes, tmp_path).splitlines()
    assert "| machine | ok | H100; 1 to mend, below |" in rows
    assert "| onnx_cuda: rtmo | ok | p50 1.23 ms, 810 frames/s |" in rows
    assert r"| engine | not here | a \| b -> make it |" in rows
    assert "| nvdec | failed | no -> as above |" in rows
    assert any("real_time_streams: how many" in row for row in rows)
    assert "- driver: 580.1" in rows
    assert rows[-1] == "| kit |"


def test_the_kit_without_its_data_says_how_to_get_them(tmp_path, monkeypatch):
    monkeypatch.setattr(check_programs, "PACK", tmp_path / "none")
    monkeypatch.setattr(check_programs, "ASSETS", tmp_path / "none")
    with pytest.raises(check_steps.NotHereError, match="neither in") as caught:
        check_programs.kit(Given(tmp_path, (), True, "1"))
    assert "python -m benchmarks.gpu.pack --only shared" in caught.value.remedy


def test_a_step_past_its_limit_ends_with_all_that_it_has_started(tmp_path, monkeypatch):
    monkeypatch.setattr(check, "_GRACE_S", 0.5)
    code = """
import pathlib, signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
pathlib.Path(sys.argv[1]).write_text(str(child.pid))
time.sleep(600)
"""
    note = tmp_path / "pid"
    step = Step("x", (sys.executable, "-c", code, str(note)), tmp_path / "x.step.json")
    assert check.run(step, 2).cause == "no end in 2 s"
    assert ended(int(note.read_text()))


@pytest.mark.parametrize("answer", ["", "{", '{"state": "odd"}', "[]", "3"])
def test_an_answer_that_is_none_is_a_crash(tmp_path, answer):
    result = tmp_path / "x.step.json"
    code = f"import pathlib; pathlib.Path({str(result)!r}).write_text({answer!r}); print('so far')"
    outcome = check.run(Step("x", (sys.executable, "-c", code), result), 20)
    assert (outcome.state, outcome.cause) == ("failed", "exit code 0: so far")


def test_a_log_without_end_is_reported_by_its_last_line(tmp_path):
    code = "import os; os.write(1, b'x' * 50_000_000 + b'\\n\\xff\\x00'); raise SystemExit(3)"
    outcome = check.run(Step("x", (sys.executable, "-c", code), tmp_path / "x.step.json"), 20)
    assert outcome.cause == "exit code 3: \ufffd?"


@pytest.mark.parametrize("name", ["empty.mp4", "글자 만.mp4", "a: b #1.mp4"])
def test_a_file_that_is_no_video_is_refused_at_once(tmp_path, capsys, name):
    path = tmp_path / name
    path.write_text("" if name.startswith("empty") else "no pictures", encoding="utf-8")
    with pytest.raises(SystemExit) as left:
        check.main(["--dry-run", "--video", str(path), "--out", str(tmp_path / "out")])
    assert left.value.code == 2
    assert f"--video: {path}: expected a video file" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_video_of_any_name_is_taken(tmp_path, monkeypatch):
    video = check.made_clip(tmp_path / "현관 카메라: 1 #2.mp4", frames=3)
    monkeypatch.setattr(check, "plan", lambda *arguments, **options: [])
    assert check.main(["--dry-run", "--video", str(video), "--out", str(tmp_path / "o")]) == 0


@pytest.mark.parametrize("minutes", ["0", "-3", "nan", "inf"])
def test_minutes_that_are_none_are_refused_at_once(minutes, capsys):
    with pytest.raises(SystemExit):
        check.main([f"--minutes={minutes}", "--dry-run"])
    assert "--minutes: expected a number above 0" in capsys.readouterr().err


def test_results_of_an_earlier_check_do_not_pass_for_those_of_this_one(tmp_path, monkeypatch):
    kit = tmp_path / "kit"
    kit.mkdir()
    old = [
        tmp_path / "reference_pair.pkl",
        kit / "summary.md",
        kit / "card.json",
        kit / "runs.json",
        kit / "speed_tiny.json",
    ]
    for path in (*old, kit / "mine.txt"):
        path.write_text("old", encoding="utf-8")
    monkeypatch.setattr(check, "plan", lambda *arguments, **options: [])
    monkeypatch.setattr(check, "footage", lambda *arguments, **options: [])
    assert check.main(["--dry-run", "--out", str(tmp_path)]) == 0
    assert not any(path.exists() for path in old)
    assert (kit / "mine.txt").exists()


def test_two_checks_do_not_share_a_folder(tmp_path, capsys):
    with claim(tmp_path):
        assert check.main(["--dry-run", "--out", str(tmp_path)]) == 2
    assert "another run writes into" in capsys.readouterr().err


@pytest.mark.slow
def test_a_dry_run_does_all_that_a_cpu_can(tmp_path):
    clip = check.made_clip(tmp_path / "clip.mp4", frames=12)
    code = check.main(["--dry-run", "--out", str(tmp_path / "out"), "--video", str(clip)])
    output = (tmp_path / "out" / "check.md").read_text(encoding="utf-8")
    assert code == 0, output
    for name in (
        "networks",
        "onnx_cpu: rtmo",
        "onnx_cpu: rtmo_uint8",
        "tests onnx",
        "decode: one CPU thread",
        "streams 4: rtmo",
    ):
        assert f"| {name} | ok |" in output
    assert "| failed |" not in output
    if not driver_version():
        assert "| onnx_cuda | not here |" in output
