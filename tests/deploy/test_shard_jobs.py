"""The Slurm script and the Kubernetes Job: which shard each task runs, and how it ends."""

import os
import subprocess
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
SLURM = ROOT / "deploy" / "slurm.sbatch"
JOB = yaml.safe_load((ROOT / "deploy" / "k8s-indexed-job.yaml").read_text(encoding="utf-8"))
(CONTAINER,) = JOB["spec"]["template"]["spec"]["containers"]
VARIABLES = {entry["name"]: entry["value"] for entry in CONTAINER["env"]}


@pytest.fixture
def python(tmp_path):
    """Return a command that notes its arguments and ends with the code in the file ``code``."""
    path = tmp_path / "python3"
    path.write_text(f'#!/bin/sh\necho "$*" >> {tmp_path}/calls\nexit "$(cat {tmp_path}/code)"\n')
    path.chmod(0o755)
    (tmp_path / "code").write_text("0")
    return path


def on_slurm(python, **more):
    environment = {"PATH": os.environ["PATH"], "PYTHON": str(python), **more}
    return subprocess.run(["bash", SLURM], env=environment, capture_output=True, text=True)


def on_kubernetes(python, index):
    path = f"{python.parent}:{os.environ['PATH']}"
    environment = {"PATH": path, "JOB_COMPLETION_INDEX": str(index), **VARIABLES}
    return subprocess.run(CONTAINER["command"], env=environment, capture_output=True, text=True)


def calls(python):
    return (python.parent / "calls").read_text().splitlines()


def test_a_slurm_task_runs_its_shard(python):
    more = {"SLURM_ARRAY_TASK_ID": "64", "SHARDS": "64", "RECOGNIZER_ARGS": "--config my.yaml"}
    assert on_slurm(python, **more).returncode == 0
    assert calls(python) == [
        f"main.py --mode annotation.stage{n} --shard 64/64 --config my.yaml" for n in (1, 2)
    ]


def test_slurm_counts_the_shards_that_the_array_names(python):
    (line,) = [x for x in SLURM.read_text().splitlines() if x.startswith("#SBATCH --array=")]
    on_slurm(python, SLURM_ARRAY_TASK_ID="3", SLURM_ARRAY_TASK_COUNT="2")
    assert calls(python)[0].endswith(f"--shard 3/{line.removeprefix('#SBATCH --array=1-')}")


def test_without_an_array_slurm_says_how_to_start(python):
    done = on_slurm(python)
    assert done.returncode != 0
    assert "start this by sbatch --array=1-16" in done.stderr


@pytest.mark.parametrize(("index", "shard"), [(0, "1/16"), (15, "16/16")])
def test_a_kubernetes_index_from_0_is_a_shard_from_1(python, index, shard):
    assert on_kubernetes(python, index).returncode == 0
    assert calls(python) == [f"main.py --mode annotation.stage{n} --shard {shard}" for n in (1, 2)]


def test_the_job_has_one_completion_a_shard():
    assert JOB["spec"]["completions"] == int(VARIABLES["SHARDS"])
    assert JOB["spec"]["completionMode"] == "Indexed"


@pytest.mark.parametrize("run", [on_kubernetes, lambda p, i: on_slurm(p, SLURM_ARRAY_TASK_ID="1")])
@pytest.mark.parametrize(("code", "ends", "count"), [("3", 0, 2), ("1", 1, 1), ("2", 2, 1)])
def test_refused_videos_do_not_end_a_task_and_errors_do(python, run, code, ends, count):
    (python.parent / "code").write_text(code)
    assert run(python, 0).returncode == ends
    assert len(calls(python)) == count
