"""``make check-gpu``: what is run, what a step that fails looks like, and all of it on a CPU."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.gpu import check, check_programs, check_steps
from benchmarks.gpu.check import Outcome, Step
from benchmarks.gpu.check_needs import NO_DRIVER, NOT_HERE, Given, missing
from recognizer.backends.cuda import driver_version
from tests.benchmarks.gpu.processes import is_ended

no_driver = pytest.mark.skipif(bool(driver_version()), reason="there is an NVIDIA driver")


@no_driver
def test_without_a_gpu_it_says_at_once_what_is_missing(tmp_path, capsys):
    assert check.main(["--out", str(tmp_path / "out")]) == NOT_HERE
    said = capsys.readouterr().out
    assert NO_DRIVER in said
    assert "make setup-train RUNTIME=tensorrt && make check-gpu" in said
    assert not (tmp_path / "out").exists()


@no_driver
def test_everything_missing_has_a_command():
    assert all(cause and remedy for cause, remedy in missing())
    assert missing()[0][0] == NO_DRIVER


def test_a_video_that_is_not_there_is_refused(tmp_path, capsys):
    with pytest.raises(SystemExit) as ended:
        check.main(["--video", str(tmp_path / "none.mp4")])
    assert ended.value.code == 2
    assert "--video: expected files, found none at" in capsys.readouterr().err


def test_the_plan_holds_what_the_issue_asks_for(tmp_path):
    steps = check.plan(tmp_path, [Path("a.mp4")], tiny=False, minutes=3)
    names = [step.name for step in steps]
    assert names[-1] == "kit"
    for name in ("onnx_cuda", "onnx_tensorrt", "engine", "tests tensorrt", "tests torch", "nvdec"):
        assert name in names
    assert [name for name in names if name.startswith("streams ")] == [
        "streams 1", "streams 4", "streams 16", "streams 64",
    ]  # fmt: skip
    results = [step.result for step in steps]
    assert len(set(results)) == len(results)
    for step in steps:
        assert step.command[3] in check_steps.STEPS
        assert "--tiny" not in step.command
    assert steps[-1].command[-2:] == ("--argument", "3")
    assert "--tiny" in check.plan(tmp_path, [], tiny=True, minutes=3)[-1].command


@pytest.mark.parametrize(
    ("code", "state", "said"),
    [
        ("print('last words'); raise SystemExit(3)", "failed", "exit code 3: last words"),
        ("import os; os.kill(os.getpid(), 11)", "failed", "signal 11: no output"),
        ("import time; time.sleep(600)", "failed", "no end in 1 s"),
        ("pass", "failed", "exit code 0: no output"),
    ],
)
def test_a_step_that_does_not_answer(tmp_path, code, state, said):
    result = tmp_path / "x.step.json"
    result.write_text("{}", encoding="utf-8")  # of an earlier call: not taken for this one's
    limit_s = 1 if "no end" in said else 120
    outcome = check.run(Step("x", (sys.executable, "-c", code), result), limit_s)
    assert (outcome.state, outcome.cause) == (state, said)
    assert str(result.with_suffix(".log")) in outcome.remedy


def test_a_step_is_ended_with_the_processes_that_it_started():
    child = "import time; time.sleep(600)"
    code = (f"import subprocess, sys, time\n"
            f"print(subprocess.Popen([sys.executable, '-c', {child!r}]).pid, flush=True)\n"
            "time.sleep(600)")  # fmt: skip
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, process_group=0
    )
    with process:
        pid = int(process.stdout.readline())
        assert not is_ended(pid)
        check.end_group(process)
    assert is_ended(pid)


@pytest.mark.parametrize(
    ("error", "code", "expected"),
    [
        (None, 0, {"state": "ok", "figures": {"calls": 1}}),
        (check_steps.NotHereError("no card", "buy one"), NOT_HERE,
         {"state": "not here", "cause": "no card", "remedy": "buy one"}),
        (check_steps.ModelError("bad file", remedy="make another"), 1,
         {"state": "failed", "cause": "bad file", "remedy": "make another"}),
        (RuntimeError(), 1, {"state": "failed", "cause": "RuntimeError", "remedy": ""}),
    ],
)  # fmt: skip
def test_a_step_tells_what_became_of_it(tmp_path, monkeypatch, error, code, expected):
    def step(given):
        assert given == Given(tmp_path, (Path("a.mp4"),), True, "8")
        if error is not None:
            raise error
        return {"calls": 1}

    monkeypatch.setitem(check_steps.STEPS, "decode", step)
    result = tmp_path / "r.json"
    asked = ["decode", "--out", str(tmp_path), "--result", str(result), "--video", "a.mp4",
             "--argument", "8", "--tiny"]  # fmt: skip
    assert check_steps.main(asked) == code
    assert json.loads(result.read_text(encoding="utf-8")) == expected


def test_the_table_is_markdown_with_units(tmp_path):
    (tmp_path / "summary.md").write_text("| kit |\n", encoding="utf-8")
    facts = {"card": "H100", "driver": "580.1"}
    outcomes = [
        Outcome("machine", "ok", {"facts": facts, "doctor": ["mend: x: y -> z"]}, "", "", 1.0),
        Outcome(
            "onnx_cuda", "ok", {"topdown": {"p50_ms": 1.234, "frames_per_s": 810.4}}, "", "", 2.0
        ),
        Outcome("engine", "not here", {}, "a | b", "make it", 0.1),
        Outcome("nvdec", "failed", {}, "no", "make it", 0.1),
    ]
    rows = check.table(outcomes, tmp_path).splitlines()
    assert "| machine | ok | H100; 1 to mend, below |" in rows
    assert "| onnx_cuda: topdown | ok | p50 1.23 ms, 810 frames/s |" in rows
    assert r"| engine | not here | a \| b -> make it |" in rows
    assert "| nvdec | failed | no -> as above |" in rows
    assert "- driver: 580.1" in rows
    assert rows[-1] == "| kit |"


def test_the_kit_without_its_data_says_how_to_get_them(tmp_path, monkeypatch):
    monkeypatch.setattr(check_programs, "PACK", tmp_path / "none")
    monkeypatch.setattr(check_programs, "ASSETS", tmp_path / "none")
    with pytest.raises(check_steps.NotHereError, match="neither in") as caught:
        check_programs.kit(Given(tmp_path, (), True, "1"))
    assert "python -m benchmarks.gpu.pack --only shared" in caught.value.remedy


@pytest.mark.slow
def test_a_dry_run_does_all_that_a_cpu_can(tmp_path):
    clip = check.made_clip(tmp_path / "clip.mp4", frames=12)
    code = check.main(["--dry-run", "--out", str(tmp_path / "out"), "--video", str(clip)])
    said = (tmp_path / "out" / "check.md").read_text(encoding="utf-8")
    assert code == 0, said
    for name in ("networks", "onnx_cpu: rtmo", "onnx_cpu: rtmo_uint8", "tests onnx",
                 "decode: one CPU thread", "streams 4: rtmo"):  # fmt: skip
        assert f"| {name} | ok |" in said
    assert "| failed |" not in said
    if not driver_version():
        assert "| onnx_cuda | not here |" in said
