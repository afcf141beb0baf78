"""Workers that die, stop, run out of memory or raise: nobody waits, nothing else is lost."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from recognizer.runs.worker_pool import Job, RunError, WorkerPool, run_jobs
from tests.annotation.handlers import Handler

ROOT = Path(__file__).resolve().parents[2]


def run(tmp_path, orders, *, workers=2, stall=2.0, memory_gb=None):
    jobs = [Job(f"{i}", f"{order} m{i}") for i, order in enumerate(orders)]
    force = WorkerPool(Handler, [(str(tmp_path),)] * workers, stall, memory_gb)
    events = list(run_jobs(jobs, force))
    done = {e.job.name: e.result for e in events if e.result}
    lost = {e.job.name: e.lost for e in events if e.lost}
    assert not set(done) & set(lost)
    return done, lost, events


def test_every_job_ends_once_and_reports_its_frames(tmp_path):
    done, lost, events = run(tmp_path, ["work"] * 7)
    assert sorted(done) == [str(i) for i in range(7)]
    assert not lost
    assert sum(e.frames for e in events) == 21


def test_no_jobs_start_no_worker(tmp_path):
    assert run(tmp_path, []) == ({}, {}, [])


@pytest.mark.parametrize("fault", ["kill", "stop", "memory"])
def test_a_job_that_kills_its_worker_twice_is_named_and_the_others_are_done(tmp_path, fault):
    done, lost, _ = run(tmp_path, ["work", fault, "work", "work", "work"], memory_gb=4.0)
    assert sorted(done) == ["0", "2", "3", "4"]
    assert list(lost) == ["1"]
    assert "killed its worker 2 times" in lost["1"]


@pytest.mark.parametrize("fault", ["kill-once", "stop-once"])
def test_a_worker_that_dies_costs_its_job_one_retry(tmp_path, fault):
    done, lost, _ = run(tmp_path, ["work", fault, fault, "work"])
    assert sorted(done) == ["0", "1", "2", "3"]
    assert not lost


def test_the_job_of_a_dead_worker_goes_to_an_idle_one_at_once(tmp_path):
    started = time.monotonic()
    done, lost, _ = run(tmp_path, ["work", "late-kill-once"], stall=60.0)
    assert sorted(done) == ["0", "1"]
    assert not lost
    assert time.monotonic() - started < 30  # not the 60 s after which an idle worker is silent


def test_a_worker_without_a_job_is_not_silent(tmp_path, caplog):
    done, lost, _ = run(tmp_path, ["work", "long"], stall=3.0)
    assert sorted(done) == ["0", "1"]
    assert not lost
    assert "died" not in caplog.text


def test_silence_is_named_with_the_key_that_sets_its_limit(tmp_path):
    _, lost, _ = run(tmp_path, ["stop"])
    assert "silent for 2 s (annotation.stall_timeout_s" in lost["0"]


def test_many_deaths_in_a_row(tmp_path):
    done, lost, _ = run(tmp_path, ["kill", "work"] * 5)
    assert len(done) == 5
    assert len(lost) == 5


def test_an_unforeseen_error_loses_only_its_job_and_says_where(tmp_path):
    done, lost, _ = run(tmp_path, ["raise", "work"])
    assert list(done) == ["1"]
    assert "handlers.py" in lost["0"]
    assert "KeyError: 'lost key'" in lost["0"]


def test_a_full_disk_stops_the_run_with_its_reason(tmp_path):
    with pytest.raises(RunError, match="disk full"):
        run(tmp_path, ["work", "disk", "work"])


def broken_start(folder):
    raise ValueError("the model does not load")


def dying_start(folder):
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize(
    ("start", "text"),
    [(broken_start, "the model does not load"), (dying_start, "while they start")],
)
def test_workers_that_cannot_start_stop_the_run(tmp_path, start, text):
    with pytest.raises(RunError, match=text):
        list(run_jobs([Job("a", "work a")], WorkerPool(start, [(str(tmp_path),)], 30.0)))


def test_workers_end_with_a_parent_that_is_killed(tmp_path):
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from recognizer.runs.worker_pool import *\n"
        "from tests.annotation.handlers import Handler\n"
        "if __name__ == '__main__':\n"
        "    f = WorkerPool(Handler, [(sys.argv[2],)] * 2, 60.0)\n"
        "    list(run_jobs([Job('a', 'sleep a'), Job('b', 'sleep b')], f))\n"
    )
    script = tmp_path / "script.py"
    script.write_text(code)
    parent = subprocess.Popen([sys.executable, str(script), str(ROOT), str(tmp_path)])
    deadline = time.monotonic() + 30
    while not ((tmp_path / "a").exists() and (tmp_path / "b").exists()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    children = _children(parent.pid)
    assert len(children) >= 2
    parent.kill()
    parent.wait()
    while any(_alive(pid) for pid in children):
        assert time.monotonic() < deadline
        time.sleep(0.1)


def _children(parent):
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == parent:
            found.append(int(stat.parent.name))
    return found


def _alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
