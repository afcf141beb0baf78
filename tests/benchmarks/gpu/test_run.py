"""The kit's runner, with small real processes as its parts: budget, order, ends, second calls."""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tarfile
import time
from dataclasses import replace

import pytest

from benchmarks.gpu import _summary, run
from benchmarks.gpu._part import PACK, ROOT
from tests.benchmarks.gpu.processes import is_ended

COMMON = """
import json, os, signal, subprocess, sys, time
from benchmarks.gpu._part import Results, parse
options = parse("A part.", None)
results = Results.open(options, PART)
def wait_for(path):
    while not path.is_file():
        time.sleep(0.02)
"""
DONE = "results.put('calls', results.values.get('calls', 0) + 1)\n" \
       "results.put('seconds', options.seconds)\nresults.finish()\n"  # fmt: skip
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
    assert second["speed"] == {**first["speed"], "calls": 1, "complete": True,
                               "seconds": second["speed"]["seconds"]}  # fmt: skip
    assert "runs: complete" in capsys.readouterr().out


def test_time_is_shared_by_value_and_what_is_left_goes_to_those_that_follow(kit):
    found = kit(seconds=580.0, runs=DONE, speed=DONE, fsd=DONE, small=DONE)
    given = {part: values["seconds"] + run.START_S for part, values in found.items()}
    assert 38 < given["runs"] <= 40
    assert given["speed"] > 120
    assert given["fsd"] == given["small"] > given["speed"]
    assert given["fsd"] <= 580


def test_the_two_long_parts_run_at_the_same_time(kit):
    found = kit(fsd=MEETING, small=MEETING)
    assert all(values["complete"] for values in found.values())


def test_parts_past_their_limit_are_ended_and_what_they_measured_stays(kit, capsys):
    # Time enough for a start on a busy machine.
    found = kit(seconds=8.0, fsd=STUBBORN, small=SLEEPING)
    assert found["small"] == {"a": 1}
    printed = capsys.readouterr().out
    assert "small: stopped at its limit\nmeasuring" in printed
    assert "fsd: killed at its limit" in printed
    assert is_ended(found["fsd"]["child"])  # with the processes that it started


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
    for line in ("| driver | 1.2 |", "| a table |", "- speed: not complete",
                 "- speed, b: Boom: x", "- fsd: nothing measured"):  # fmt: skip
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
        command("--out", tmp_path, "--parts", "runs"), cwd=ROOT, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert seen.returncode == 2
    assert "cuda:0: torch" in seen.stderr
    assert "--dry-run" in seen.stderr


def test_results_of_different_kinds_are_not_mixed(tmp_path, capsys):
    pytest.importorskip("torch")
    from benchmarks.gpu import _card

    (tmp_path / "card.json").write_text(json.dumps({"device": "cuda:0", "tiny": False}))
    assert _card.main(["--device", "cpu", "--tiny", "--out", str(tmp_path)]) == 1
    assert "made with device 'cuda:0', now 'cpu'" in capsys.readouterr().err


@pytest.mark.slow
def test_the_whole_dry_run_measures_everything(tmp_path):
    need_training_set()
    if not (PACK / "data").is_dir():
        pytest.skip("needs .gpu: python -m benchmarks.gpu.pack (network, ../shared)")
    seen = subprocess.run(
        command("--dry-run", "--minutes", 30, "--out", tmp_path / "out"), cwd=ROOT,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert seen.returncode == 0, seen.stdout + seen.stderr
    text = (tmp_path / "out" / _summary.NAME).read_text()
    assert text.rstrip().endswith("Nothing.")
