"""Workers on Ray: the same end states, files and bytes as here, whatever dies."""

import os
import pickle
import shutil
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import pytest

from recognizer.config.file import ConfigError, load_config
from recognizer.runs.cluster import probe, schedule, session
from recognizer.runs.cluster.attempts import Attempts
from recognizer.runs.cluster.membership import Membership
from recognizer.runs.cluster.nodes import pickled_task
from recognizer.runs.cluster.schedule import run_on_cluster
from recognizer.runs.cluster.session import marker_in, ray_session
from recognizer.runs.cluster.settings import Cluster
from recognizer.runs.stage1 import run_stage1
from recognizer.runs.stage2 import run_stage2
from recognizer.runs.worker_pool import Job, RunError, WorkerPool
from tests.annotation import clips
from tests.annotation.handlers import Handler

pytestmark = pytest.mark.skipif(find_spec("ray") is None, reason="needs requirements/ray.txt")
ROOT = Path(__file__).resolve().parents[2]
ON_RAY = "annotation.executor=ray"


@pytest.fixture(scope="module")
def ray():
    """One Ray for all tests of the file; each run finds it and leaves it as it is."""
    import ray

    with ray_session(None):
        yield ray


@pytest.fixture
def marker(tmp_path):
    with marker_in(tmp_path) as written:
        yield written


def cluster(folder, **changes):
    return Cluster(
        **{
            "address": None,
            "num_cpus": 1.0,
            "num_gpus": 0.0,
            "max_workers": 2,
            "folder": folder / "results",
            **changes,
        }
    )


def run(folder, orders, *, stall=4.0, memory_gb=None, start=Handler):
    jobs = [Job(f"{i}", f"{order} m{i}") for i, order in enumerate(orders)]
    pool = WorkerPool(start, [(str(folder),)], stall, memory_gb)
    events = list(run_on_cluster(jobs, pool, cluster(folder)))
    done = {e.job.name: e.result for e in events if e.result}
    lost = {e.job.name: e.lost for e in events if e.lost}
    assert len(done) + len(lost) == len(jobs), "every job ends once"
    assert len([e for e in events if e.result or e.lost]) == len(jobs)
    return done, lost, events


# --- the same bytes as here -----------------------------------------------------------


def test_both_stages_write_the_bytes_of_a_local_run(ray, tmp_path):
    here = clips.make_dataset(tmp_path / "here")
    (tmp_path / "here" / "data" / "Fight" / "text.mp4").write_text("no video")
    shutil.copytree(tmp_path / "here", tmp_path / "there")
    for folder, sets in (("here", []), ("there", [ON_RAY])):
        config = load_config(tmp_path / folder / here.name, sets)
        run_stage1(config)
        run_stage2(config)
    local = clips.contents(tmp_path / "here" / "out")
    assert any(name.endswith("text.mp4.npz") for name in local) is False
    assert sum(name.endswith(".npz") for name in local) == 12
    assert clips.contents(tmp_path / "there" / "out") == local


def test_every_job_ends_once_and_reports_its_frames(ray, tmp_path):
    done, lost, events = run(tmp_path, ["work"] * 7)
    assert sorted(done) == [str(i) for i in range(7)]
    assert not lost
    assert sum(e.frames for e in events) == 21


def test_frames_are_reported_while_a_job_runs(ray, tmp_path):
    _, _, events = run(tmp_path, ["long"])
    assert sum(e.frames for e in events) == 33
    assert [e.frames > 0 for e in events if not e.result].count(True) >= 2


def test_no_jobs_start_no_ray(tmp_path):
    assert list(run_on_cluster([], WorkerPool(Handler, []), cluster(tmp_path))) == []


# --- what dies ------------------------------------------------------------------------


def test_a_job_that_kills_three_workers_is_named_and_the_others_are_done(ray, tmp_path):
    orders = ["work", "kill", "memory", "raise", "kill-once", "work", "stop-once"]
    done, lost, _ = run(tmp_path, orders, memory_gb=4.0)
    assert sorted(done) == ["0", "4", "5", "6"]
    assert lost["1"] == (
        "killed its worker 3 times; last: SIGKILL: killed from outside or by the memory guard"
    )
    assert lost["2"] == "killed its worker 3 times; last: out of memory"
    assert "KeyError: 'lost key'" in lost["3"]


def test_a_killed_actor_costs_its_job_one_try_and_the_next_job_none(ray, tmp_path, caplog):
    done, lost, _ = run(tmp_path, ["kill-host-once", *["work"] * 5])
    assert sorted(done) == [str(i) for i in range(6)]
    assert not lost
    assert caplog.text.count("its worker died") == 1


def test_an_actor_out_of_reach_is_fed_no_more_and_its_jobs_are_done_elsewhere(
    ray, tmp_path, caplog, monkeypatch
):
    monkeypatch.setattr(schedule, "_UNREACHABLE_S", 3.0)
    monkeypatch.setattr(schedule, "_QUARANTINE_S", 1.0)
    sent = []
    send = schedule.Actors.send

    def recorded(self, actor, number, job):
        sent.append((actor, time.monotonic()))
        send(self, actor, number, job)

    dropped = {}
    drop = schedule.Actors.drop

    def noted(self, actor):
        dropped.setdefault(actor, time.monotonic())
        drop(self, actor)

    monkeypatch.setattr(schedule.Actors, "send", recorded)
    monkeypatch.setattr(schedule.Actors, "drop", noted)
    done, lost, _ = run(tmp_path, ["stop-host-once", *["work"] * 5], stall=60.0)
    assert sorted(done) == [str(i) for i in range(6)]
    assert not lost
    assert "out of reach (no answer for 3 s)" in caplog.text
    assert "its worker died" not in caplog.text, "it is no attempt"
    assert all(when <= dropped.get(actor, when) for actor, when in sent)


def test_a_full_disk_stops_the_run_with_its_reason(ray, tmp_path):
    with pytest.raises(RunError, match="disk full"):
        run(tmp_path, ["work", "disk", "work"])


def broken_start(folder):
    raise ValueError("the model does not load")


def dying_start(folder):
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize(
    ("start", "text"),
    [(broken_start, "the model does not load"), (dying_start, "die while they start")],
)
def test_workers_that_cannot_start_stop_the_run(ray, tmp_path, start, text):
    with pytest.raises(RunError, match=text):
        run(tmp_path, ["work"], start=start, stall=60.0)


def test_attempts_count_workers_and_nodes_apart():
    attempts = Attempts()
    assert [attempts.lost_node(1) for _ in range(9)] == [""] * 9
    assert [attempts.killed_worker(1, "x") for _ in range(2)] == [""] * 2
    assert attempts.killed_worker(1, "y") == "killed its worker 3 times; last: y"
    assert "10 nodes" in attempts.lost_node(1)
    attempts.forget(1)
    assert attempts.killed_worker(1, "x") == ""


# --- room -----------------------------------------------------------------------------


def test_a_cluster_without_room_for_one_worker_is_named_before_work(ray, tmp_path):
    pool = WorkerPool(Handler, [(str(tmp_path),)])
    with pytest.raises(RunError, match=r"room for a worker of 1 CPU, 1 GPU, found 1 node .*0 GPUs"):
        list(run_on_cluster([Job("a", "work a")], pool, cluster(tmp_path, num_gpus=1.0)))


def test_what_there_is_and_what_it_takes_is_the_first_message(ray, tmp_path, caplog):
    with caplog.at_level("INFO"):
        run(tmp_path, ["work"])
    text = caplog.messages[0]
    assert text.startswith(f"Ray {ray.__version__} on this machine: 1 node (")
    assert text.endswith("1 inputs for 1 worker of 1 CPU, 0 GPUs")


def test_gpus_are_chosen_by_ray(tmp_path):
    config = load_config(clips.make_dataset(tmp_path, clips=1), [ON_RAY, "annotation.gpus=[0]"])
    with pytest.raises(ConfigError, match=r"set annotation\.ray_num_gpus"):
        run_stage1(config)


def joined(members, done):
    """Follow the cluster until ``done``; every node in it counts as one that just joined."""
    deadline = time.monotonic() + 60
    while not done():
        assert time.monotonic() < deadline
        members.look(time.monotonic(), idle=False)
        time.sleep(0.1)


def test_a_node_that_joins_is_checked_and_gets_the_files_that_it_lacks(ray, tmp_path, marker):
    model = tmp_path / "m.onnx"
    model.write_bytes(b"of a node that joins")
    with model.open("rb") as file:
        path = Path(f"/proc/self/fd/{file.fileno()}")
        members = Membership(cluster(tmp_path, files=(path,)), marker)
        joined(members, lambda: members.fit)
    (fit,) = members.fit
    assert 1 <= fit.slots <= ray.cluster_resources()["CPU"], "as many as are free"
    assert fit.moved[path].read_bytes() == b"of a node that joins"
    shutil.rmtree(fit.moved[path].parent)


def test_a_node_that_joins_and_lacks_something_is_set_aside_by_name(ray, tmp_path, caplog, marker):
    unseen = cluster(tmp_path, reads=(Path("/nowhere/videos"),))
    members = Membership(unseen, marker)
    joined(members, lambda: "set aside" in caplog.text)
    assert "expected to see /nowhere/videos" in caplog.text
    assert members.fit == []


# --- nodes that lack something --------------------------------------------------------


def test_a_folder_that_a_worker_does_not_see_is_found_before_work(ray, tmp_path):
    pool = WorkerPool(Handler, [(str(tmp_path),)])
    unseen = cluster(tmp_path, reads=(Path("/nowhere/videos"),))
    with pytest.raises(RunError, match="expected to see /nowhere/videos, found nothing there"):
        list(run_on_cluster([Job("a", "work a")], pool, unseen))
    assert not (tmp_path / "a").exists()


def test_a_node_is_asked_for_the_version_the_folder_and_the_files(tmp_path, marker):
    model = tmp_path / "m.onnx"
    model.write_bytes(b"m")
    ok, lacking = probe.examine_node("0", marker, [str(tmp_path)], {str(model): "0" * 64})
    assert lacking == [str(model)], "another content is as good as none"
    assert [fault.partition(",")[0] for fault in ok] == ["expected Recognizer 0"]


def test_an_output_folder_of_the_same_name_on_another_disk_is_not_the_drivers(marker, monkeypatch):
    monkeypatch.setattr(probe, "_APPEAR_S", 0.0)
    (fault,) = probe.examine_node(session_version(), (marker[0], "another"), [], {})[0]
    assert "mount the folder on every node" in fault


def session_version():
    import recognizer

    return recognizer.__version__


@dataclass(frozen=True)
class Plan:
    files: dict[str, Path]


class Reader:
    def __init__(self, plan):
        self.path = plan.files["pose"]

    def __call__(self, payload, on_frames):
        return str(self.path), self.path.read_bytes()


def test_a_node_without_the_network_file_gets_it_once_by_its_digest(ray, tmp_path, monkeypatch):
    model = tmp_path / "m.onnx"
    model.write_bytes(b"network")
    with model.open("rb") as file:  # a path that this process alone can open
        path = Path(f"/proc/self/fd/{file.fileno()}")
        pool = WorkerPool(Reader, [(Plan({"pose": path}),)])
        events = list(run_on_cluster([Job("a", None)], pool, cluster(tmp_path, files=(path,))))
    where, content = events[-1].result
    assert content == b"network"
    assert Path(where).parent.parent.name == "recognizer"
    before = Path(where).stat().st_mtime_ns
    digest = Path(where).parent.name
    (again,) = probe.keep_files([(digest, Path(where).name)], b"network")
    assert (again, Path(where).stat().st_mtime_ns) == (where, before)
    shutil.rmtree(Path(where).parent)


def test_a_plan_without_files_goes_as_it_is():
    assert pickle.loads(pickled_task(Reader, ("x",), {Path("a"): Path("b")})) == (Reader, ("x",))


# --- no Ray, or another ---------------------------------------------------------------


def test_without_the_package_its_command_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    config = load_config(clips.make_dataset(tmp_path, clips=1), [ON_RAY])
    with pytest.raises(RunError, match=r"pip install -r requirements/ray\.txt"):
        run_stage1(config)


def test_an_address_without_a_ray_fails_in_seconds(monkeypatch):
    monkeypatch.setattr(session, "_ANSWER_S", 4.0)
    with socket.create_server(("127.0.0.1", 0)) as mute:
        port = mute.getsockname()[1]
        with pytest.raises(RunError, match="did not answer as Ray does in 4 s"):
            session._check_address(f"127.0.0.1:{port}")
    with pytest.raises(RunError, match="which does not answer"):
        session._check_address(f"127.0.0.1:{port}")


@pytest.mark.slow
def test_a_killed_node_changes_no_byte():
    command = [sys.executable, "-m", "benchmarks.ray_executor", "kills", "--kills", "2"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    assert "2 kills" in done.stdout
    assert ": 0 runs differ" in done.stdout


# --- what is left behind --------------------------------------------------------------


@pytest.mark.parametrize(
    "sent", [signal.SIGINT, pytest.param(signal.SIGKILL, marks=pytest.mark.slow)]
)
def test_nothing_of_it_is_left_when_the_run_is_stopped(tmp_path, sent):
    dataset = clips.make_dataset(tmp_path, clips=20, frames=200)
    command = [sys.executable, str(ROOT / "main.py"), "--mode", "annotation.stage1"]
    # Tests that a shell runs by & inherit that SIGINT is ignored, and so would the process.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        process = subprocess.Popen(
            [*command, "--config", str(dataset), "--set", ON_RAY],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "TMPDIR": str(tmp_path)},
        )
    finally:
        signal.signal(signal.SIGINT, before)
    deadline = time.monotonic() + 90
    while not list((tmp_path / "out").rglob("*.npz")):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    members = [pid for pid in _descendants(process.pid) if _alive(pid)]
    assert len(members) > 5
    process.send_signal(sent)
    out, err = process.communicate(timeout=60)
    assert process.returncode == (130 if sent == signal.SIGINT else -signal.SIGKILL)
    assert out == ""
    assert "raylet" not in err
    while any(_alive(pid) for pid in members):
        assert time.monotonic() < deadline + 60
        time.sleep(0.2)


def _descendants(pid):
    import psutil

    return [one.pid for one in psutil.Process(pid).children(recursive=True)]


def _alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
