"""The kit's runner, with small real processes as its parts: budget, order, ends, second calls."""

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import time
from dataclasses import replace

import pytest

from benchmarks.gpu import _summary, run
from benchmarks.gpu._part import PACK, ROOT
from benchmarks.gpu._processes import claim
from tests.benchmarks.gpu.processes import ended

COMMON = """
import json, os, signal, subprocess, sys, time
from benchmarks.gpu._part import Results, parse
options = parse("A part.", None)
results = Results.open(options, PART)
def wait_for(path):
    while not path.is_file():
        time.sleep(0.02)
"""
DONE = (
    "results.put('calls', results.values.get('calls', 0) + 1)\n"
    "results.put('seconds', options.seconds)\nresults.finish()\n"
)
FAILING = "results.put('a', 1)\nresults.put('b', {'error': 'Boom: x'})\nsys.exit(3)\n"
SLEEPING = "results.put('a', 1)\nprint('measuring', flush=True)\ntime.sleep(600)\n"
STUBBORN = """
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
results.put("child", child.pid)
time.sleep(600)
"""
MEETING = """
(options.out / f"{PART}.here").write_text("")
wait_for(options.out / f"{OTHER}.here")
results.finish()
"""


@pytest.fixture
def kit(tmp_path):
    """Return a call that runs parts of given bodies, and the folder of their results."""
    package, out = tmp_path / "parts", tmp_path / "out"
    package.mkdir()
    out.mkdir()
    (package / "__init__.py").write_text("")
    paths = os.pathsep.join([str(tmp_path), str(ROOT)])
    environment = {**os.environ, "PYTHONPATH": paths}
    settings = run.Settings(out, "cpu", True, tmp_path, "parts", 0.0, grace=0.3)

    def call(seconds=60.0, archive=None, **bodies):
        for part, body in bodies.items():
            other = {"fsd": "small", "small": "fsd"}.get(part, "")
            head = f"PART, OTHER = {part!r}, {other!r}\n"
            (package / f"{part}.py").write_text(head + COMMON + body)
        timed = replace(settings, until=time.monotonic() + seconds)
        run.run_stages(run.stages_of(list(bodies)), timed, environment, archive)
        return {part: _summary.read(out / f"{part}.json") for part in bodies}

    call.out = out
    return call


def test_a_second_call_skips_what_is_complete_and_goes_on_with_the_rest(kit, capsys):
    first = kit(runs=DONE, speed=FAILING)
    assert first["runs"]["calls"] == 1
    assert first["speed"]["a"] == 1
    assert "failed with exit code 3" in capsys.readouterr().out
    second = kit(runs=DONE, speed=DONE)
    assert second["runs"]["calls"] == 1
    assert second["speed"] == {
        **first["speed"],
        "calls": 1,
        "complete": True,
        "seconds": second["speed"]["seconds"],
    }
    assert "runs: complete" in capsys.readouterr().out


def test_time_is_shared_by_value_and_what_is_left_goes_to_those_that_follow(kit):
    found = kit(seconds=700.0, runs=DONE, speed=DONE, fsd=DONE, small=DONE)
    given = {part: values["seconds"] + run.START_S for part, values in found.items()}
    assert 108 < given["runs"] <= 110
    assert given["speed"] > 200
    assert given["fsd"] == given["small"] > given["speed"]
    assert given["fsd"] <= 700


def test_the_two_long_parts_run_at_the_same_time(kit):
    found = kit(fsd=MEETING, small=MEETING)
    assert all(values["complete"] for values in found.values())


def test_a_part_past_its_limit_is_ended_and_what_it_measured_stays(kit, capsys):
    # Its share of the time: enough for a start on a busy machine.
    found = kit(seconds=8.0, speed=SLEEPING)
    assert found["speed"] == {"a": 1}
    output = capsys.readouterr().out
    assert re.search(r"speed: stopped at its limit after \d s\nmeasuring", output)
    _summary.write(kit.out, ["speed"])
    text = (kit.out / _summary.NAME).read_text()
    assert re.search(r"- speed: not complete; stopped at its limit after \d s", text)


def test_a_part_that_will_not_end_is_killed_with_its_own_processes(kit, capsys):
    found = kit(seconds=8.0, fsd=STUBBORN, small=DONE)
    assert found["small"]["complete"]
    assert "fsd: killed at its limit" in capsys.readouterr().out
    assert ended(found["fsd"]["child"])


def test_nothing_begins_after_the_budget(kit, capsys):
    assert kit(seconds=-1.0, runs=DONE) == {"runs": {}}
    assert "no time left" in capsys.readouterr().out


def test_the_summary_holds_tables_and_names_what_is_missing(kit):
    kit(runs=DONE, speed=FAILING)
    (kit.out / "runs.md").write_text("| a table |\n")
    (kit.out / "card.json").write_text(json.dumps({"name": "Card 7", "driver": "1.2"}))
    _summary.write(kit.out, ["runs", "speed", "fsd"])
    text = (kit.out / _summary.NAME).read_text()
    assert text.startswith("# Card 7\n")
    for line in (
        "| driver | 1.2 |",
        "| a table |",
        "- speed: not complete; failed with exit code 3",
        "- speed, b: Boom: x",
        "- fsd: nothing measured",
    ):
        assert line in text.splitlines()


def test_the_archive_holds_results_and_leaves_out_what_is_too_large(kit, monkeypatch, tmp_path):
    monkeypatch.setattr(run, "FILE_LIMIT", 5000)
    (kit.out / "large.pth").write_bytes(os.urandom(6000))
    target = tmp_path / "home" / "r.tar.gz"
    kit(archive=target, runs=DONE)
    with tarfile.open(target) as packed:
        names = set(packed.getnames())
    assert {"runs.json", "runs.log", _summary.NAME} <= names
    assert "large.pth" not in names


# --- parts and folders that are not as they should be --------------------------------

FLOODING = """
os.write(1, b"\\x00\\xff\\x1b[2J binary\\n" + b"x" * 50_000_000 + b"\\nlast \\x1b[31mwords\\n")
sys.exit(0)
"""
LEAVING = """
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
results.put("child", child.pid)
results.finish()
"""
HALF = "results.path.write_text('{\\n \"a\": 1,\\n')\n"


def test_a_log_of_any_size_and_content_is_reported_by_its_end(kit, capsys):
    found = kit(runs=FLOODING)
    assert found["runs"] == {}
    output = capsys.readouterr().out
    assert "runs: done" in output
    assert output.rstrip().endswith("last ?[31mwords")
    assert "\x1b" not in output
    assert len(output) < 1000
    assert not _summary.is_complete(kit.out, "runs")


def test_what_a_part_leaves_running_ends_with_its_stage(kit):
    found = kit(runs=LEAVING)
    assert ended(found["runs"]["child"])


@pytest.mark.parametrize("text", [b'{"a": 1,', b"\xff\x00", b"[1]", b"", b"3"])
def test_damaged_results_are_set_aside_and_measured_again(kit, text):
    (kit.out / "runs.json").write_bytes(text)
    assert kit(runs=DONE)["runs"]["complete"]
    assert (kit.out / "runs.broken").read_bytes() == text


def test_half_a_file_of_results_and_a_table_of_no_text_end_nothing(kit):
    (kit.out / "runs.md").write_bytes(b"| \xff |\n")
    found = kit(runs=HALF, speed=DONE)
    assert found["speed"]["complete"]
    assert "- runs: nothing measured" in (kit.out / _summary.NAME).read_text()
    assert kit(runs=DONE)["runs"]["complete"]


def test_a_part_that_cannot_start_does_not_leave_the_other_behind(kit, capsys):
    (kit.out / "small.log").mkdir()
    found = kit(fsd=DONE, small=DONE)
    assert found["fsd"]["complete"]
    assert "small: not started: " in capsys.readouterr().out


def test_an_archive_that_cannot_be_written_ends_nothing(kit, capsys, tmp_path):
    (tmp_path / "file").write_text("")
    found = kit(runs=DONE, speed=DONE, archive=tmp_path / "file" / "r.tar.gz")
    assert found["speed"]["complete"]
    assert "archive: not written" in capsys.readouterr().out


@pytest.mark.parametrize("minutes", ["0", "-1", "nan", "inf", "soon", ""])
def test_a_budget_that_is_no_time_is_refused(minutes, capsys):
    with pytest.raises(SystemExit) as caught:
        run.main([f"--minutes={minutes}"])
    assert caught.value.code == 2
    assert f"--minutes: expected a number above 0, got {minutes!r}" in capsys.readouterr().err


def test_an_archive_that_is_a_folder_is_refused_before_any_work(tmp_path, capsys):
    with pytest.raises(SystemExit):
        run.main(["--archive", str(tmp_path), "--out", str(tmp_path / "out")])
    assert "--archive: expected a file, got the folder" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_two_runs_do_not_share_a_folder(tmp_path, capsys):
    with claim(tmp_path):
        assert run.main(["--dry-run", "--out", str(tmp_path)]) == 2
    assert "another run writes into" in capsys.readouterr().err
    claim(tmp_path).close()
    (tmp_path / "file").write_text("")
    assert run.main(["--dry-run", "--out", str(tmp_path / "file")]) == 2
    assert "--out: expected a folder that can be written" in capsys.readouterr().err


def test_a_card_that_does_not_answer_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(run, "CARD_S", 0.01)
    settings = run.Settings(tmp_path, "cpu", True, tmp_path, "parts", 0.0)
    with pytest.raises(RuntimeError, match=r"cpu: no answer in 0\.01 s; .*nvidia-smi"):
        run.look_at_card(settings, dict(os.environ))


@pytest.mark.parametrize("text", ["", "{", "[1, 2]"])
def test_a_damaged_card_file_is_measured_again(tmp_path, text):
    pytest.importorskip("torch")
    from benchmarks.gpu import _card

    (tmp_path / "card.json").write_text(text)
    assert _card.main(["--device", "cpu", "--out", str(tmp_path), "--tiny"]) == 0
    assert _summary.read(tmp_path / "card.json")["device"] == "cpu"


def command(*arguments):
    return [sys.executable, "-m", "benchmarks.gpu.run", *map(str, arguments)]


def need_training_set():
    """Skip the test where the set is missing; importing it would take far longer than the test."""
    if importlib.util.find_spec("mmpose") is None:
        pytest.skip("needs the training set")


def test_without_a_gpu_it_says_what_to_do(tmp_path):
    need_training_set()
    if shutil.which("nvidia-smi"):
        pytest.skip("a GPU is here")
    seen = subprocess.run(
        command("--out", tmp_path, "--parts", "runs"),
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert seen.returncode == 2
    assert "cuda:0: torch" in seen.stderr
    assert "--dry-run" in seen.stderr


def test_results_of_different_kinds_are_not_mixed(tmp_path):
    need_training_set()
    (tmp_path / "card.json").write_text(json.dumps({"device": "cuda:0", "tiny": False}))
    seen = subprocess.run(
        command("--dry-run", "--out", tmp_path, "--parts", "runs"),
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert seen.returncode == 2
    assert "choose another --out" in seen.stderr


@pytest.mark.slow
def test_the_whole_dry_run_measures_everything(tmp_path):
    need_training_set()
    if not (PACK / "data").is_dir():
        pytest.skip("needs .gpu: python -m benchmarks.gpu.pack (network, ../shared)")
    seen = subprocess.run(
        command("--dry-run", "--minutes", 30, "--out", tmp_path / "out"),
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert seen.returncode == 0, seen.stdout + seen.stderr
    text = (tmp_path / "out" / _summary.NAME).read_text()
    assert text.rstrip().endswith("Nothing.")
