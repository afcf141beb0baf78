"""docker-compose.yml and .env: one container of four kinds, whose folders the config reads."""

import os
import re
import signal
import subprocess
from pathlib import Path, PurePosixPath

import pytest

from recognizer.config.file import load_config
from tests.deploy.container import (
    COMPOSE,
    COMPOSE_TEXT,
    ENTRYPOINT,
    KINDS,
    ROOT,
    SERVICES,
    STAGES,
    TEXT,
    WORK_DIR,
    settings,
)

EXAMPLE = ROOT / ".env.example"


def test_four_kinds_of_one_container():
    assert set(SERVICES) == {*KINDS, "live", "ray-head", "ray-worker", "folders"}
    for kind in KINDS:
        service = SERVICES[kind]
        assert service["profiles"] == [kind]
        assert service["container_name"] == "mmlabs"  # one name: never two at once
        assert PurePosixPath(service["working_dir"]) == WORK_DIR
        assert service["image"] == f"recognizer:{kind}"
        assert "command" not in service  # the image's own: idle
        assert "scale" not in service
        assert service.get("user") is None


def test_each_is_built_from_a_stage_with_arguments_that_the_dockerfile_knows():
    known = set(re.findall(r"^ARG (\w+)", TEXT, re.MULTILINE))
    expected = {
        "cpu": ("runtime", "cpu"),
        "gpu": ("runtime", "gpu"),
        "tensorrt": ("runtime", "tensorrt"),
        "train": ("training", "gpu"),
    }
    for kind, (target, runtime) in expected.items():
        build = SERVICES[kind]["build"]
        assert (build["target"], build["args"]["RUNTIME"]) == (target, runtime)
        assert target in STAGES
        assert set(build["args"]) <= known
        assert (ROOT / build["context"] / build["dockerfile"]).is_file()


def test_live_detection_runs_beside_the_others():
    live, cpu = SERVICES["live"], SERVICES["cpu"]
    assert live["profiles"] == ["live"]
    assert live["container_name"] == "mmlabs-live"
    assert live["command"][:3] == ["python3", "main.py", "--mode"]
    assert live["command"][3] == "inference.realtime"
    own = [volume for volume in live["volumes"] if volume not in cpu["volumes"]]
    assert live["volumes"] == [*cpu["volumes"], *own]
    assert own[0].endswith(":ro")
    config = WORK_DIR / live["command"][-1]
    assert str(config) in own[0]
    assert load_config(ROOT / live["command"][-1]).live.cameras


def test_gpus_and_shared_memory():
    assert "deploy" not in SERVICES["cpu"]
    for kind in ("gpu", "tensorrt", "train"):
        (device,) = SERVICES[kind]["deploy"]["resources"]["reservations"]["devices"]
        assert device["driver"] == "nvidia"
        assert device["capabilities"] == ["gpu"]
    assert SERVICES["train"]["shm_size"].endswith("gb}")


def mounts(service):
    return dict(text.removesuffix(":ro").rsplit(":", 1)[::-1] for text in service["volumes"])


def test_volumes_are_where_the_config_looks():
    config = load_config(ROOT / "configs" / "config.yaml")
    places = [config.annotation.input, config.models.weights_dirs[0], config.annotation.output_dir]
    inside = {str(WORK_DIR / place.relative_to(ROOT)) for place in places}
    for kind in KINDS:
        assert set(mounts(SERVICES[kind])) == inside | {str(WORK_DIR / "work_dirs")}
        assert [v for v in SERVICES[kind]["volumes"] if v.endswith(":ro")] == [
            "${DATA_DIR:-./data}:/workspace/recognizer/data:ro"
        ]
    assert config.inference.output_dir.is_relative_to(config.annotation.output_dir)


def test_folders_are_handed_over_before_any_kind_starts(tmp_path):
    folders = SERVICES["folders"]
    assert set(folders["profiles"]) == {*KINDS, "live", "ray"}
    assert set(mounts(folders).values()) == set(mounts(SERVICES["cpu"]).values())
    for kind in KINDS:
        assert SERVICES[kind]["depends_on"] == {
            "folders": {"condition": "service_completed_successfully"}
        }
    if os.geteuid() != 0:
        pytest.skip("only root can hand a folder over")
    for name in ("new", "full", "of another"):
        (tmp_path / name).mkdir()
    (tmp_path / "full" / "file").write_text("x")
    os.chown(tmp_path / "of another", 55, 55)
    shell, flag, script = folders["command"]
    command = [shell, flag, script.replace("$$", "$").replace("/mnt", str(tmp_path))]
    subprocess.run(command, env={**os.environ, "OWNER": "1234:4321"}, check=True, timeout=60)
    owners = {p.name: (p.stat().st_uid, p.stat().st_gid) for p in tmp_path.iterdir()}
    assert owners == {"new": (1234, 4321), "full": (0, 0), "of another": (55, 55)}


def test_the_example_names_every_setting_with_its_default():
    used = dict(re.findall(r"\$\{(\w+):-([^}]*)\}", COMPOSE_TEXT))
    assert len(re.findall(r"(?<!\$)\$\{?\w", COMPOSE_TEXT)) == len(
        re.findall(r"\$\{\w+:-[^}]+\}", COMPOSE_TEXT)
    ), "a variable without a default"
    example = settings(EXAMPLE)
    assert example.pop("COMPOSE_PROFILES") == "cpu"
    assert example == used
    assert "# PIP_INDEX_URL=" in EXAMPLE.read_text(encoding="utf-8")


def test_without_a_change_the_container_without_a_gpu_starts():
    assert settings(ROOT / ".env") == {"COMPOSE_PROFILES": "cpu"}
    tracked = subprocess.run(
        ["git", "check-ignore", "-q", ".env"], cwd=ROOT, capture_output=True, check=False
    )
    assert tracked.returncode != 0  # ignored, it would not be there after a clone


def test_no_key_that_compose_no_longer_reads():
    assert "version" not in COMPOSE
    assert {key for key in COMPOSE if not key.startswith("x-")} == {"name", "services"}


# --- how it starts -----------------------------------------------------------------


def start(folder, *arguments):
    return subprocess.Popen(
        [str(ENTRYPOINT), *arguments],
        cwd=folder,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        # Where the tests run in a shell's background, INT is ignored, and a shell cannot trap that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


@pytest.fixture
def folder(tmp_path):
    for name in ("output", "weights", "work_dirs"):
        (tmp_path / name).mkdir()
    return tmp_path


def test_a_command_takes_its_place(folder):
    process = start(folder, "sh", "-c", 'echo "$$ $1"; exit 7', "sh", "two words")
    out, err = process.communicate(timeout=30)
    assert (out, err) == (f"{process.pid} two words\n", "")  # the same process: it hears signals
    assert process.returncode == 7


def test_flags_are_for_main(folder):
    (folder / "main.py").write_text("import sys; print(sys.argv)")
    out, _ = start(folder, "--mode", "doctor").communicate(timeout=30)
    assert out == "['main.py', '--mode', 'doctor']\n"


@pytest.mark.parametrize("arguments", [(), ("idle",)])
@pytest.mark.parametrize("number", [15, 2])
def test_idle_stays_until_it_is_stopped(folder, arguments, number):
    process = start(folder, *arguments)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    for _ in range(500):
        if children.read_text().split():
            break
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.02)
    (sleeper,) = children.read_text().split()
    process.send_signal(number)
    assert process.wait(timeout=30) == 0
    assert not Path(f"/proc/{sleeper}").exists()


def ray_that(folder, *lines):
    """Write a program named ray, and return the PATH that finds it."""
    program = folder / "bin" / "ray"
    program.parent.mkdir()
    program.write_text("\n".join(["#!/bin/sh", *lines]))
    program.chmod(0o755)
    return f"{program.parent}:{os.environ['PATH']}"


@pytest.mark.parametrize("number", [15, 2])
def test_a_ray_node_that_is_told_to_end_drains_and_ends_with_0(folder, monkeypatch, number):
    lines = ("trap 'echo drained; exit 1' TERM", 'echo "$@"', "while :; do sleep 0.1; done")
    monkeypatch.setenv("PATH", ray_that(folder, *lines))
    process = start(folder, "ray", "start", "--block")
    assert process.stdout.readline() == "start --block\n"
    process.send_signal(number)
    out, _ = process.communicate(timeout=30)
    assert (out, process.returncode) == ("drained\n", 0)


def test_a_ray_node_that_fails_ends_as_it_did(folder, monkeypatch):
    monkeypatch.setenv("PATH", ray_that(folder, "exit 3"))
    process = start(folder, "ray", "start", "--block")
    process.communicate(timeout=30)
    assert process.returncode == 3


def test_a_folder_that_cannot_be_written_to_is_reported(folder):
    (folder / "output").rmdir()
    _, err = start(folder, "true").communicate(timeout=30)
    assert f"{folder}/output: not writable" in err
    assert "USER_ID" in err
    assert "weights" not in err
