"""The wheel: what is in it, what it needs, and the console command in an empty folder."""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest

import recognizer
from tests import networks
from tests.annotation import clips

pytest.importorskip("setuptools", minversion="77")
ROOT = Path(__file__).resolve().parents[1]
PROGRAM = "recognizer/program"
MODES = ("annotation", "deploy")
PIP = [sys.executable, "-m", "pip", "--disable-pip-version-check"]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Build the wheel as ``pip install .`` does, without a network, from a copy of the sources."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in ("recognizer", *MODES, "configs", "requirements", "samples/models"):
        if (ROOT / name).is_dir():
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(ROOT / name, source / name, ignore=ignored)
    for name in ("pyproject.toml", "setup.py", "main.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    (source / "samples" / "make.py").write_text("raise RuntimeError('not for the wheel')\n")
    build = ["wheel", "--quiet", "--no-deps", "--no-index", "--no-build-isolation"]
    subprocess.run([*PIP, *build, "-w", str(out), str(source)], check=True, timeout=300)
    (path,) = out.iterdir()
    return path


@pytest.fixture(scope="module")
def names(wheel):
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


@pytest.fixture(scope="module")
def metadata(wheel):
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (one for one in archive.namelist() if one.endswith(".dist-info/METADATA"))
        return Parser().parsestr(archive.read(name).decode())


@pytest.fixture(scope="module")
def site(wheel, tmp_path_factory):
    """Install the wheel into a folder of its own; what it needs is in this environment."""
    folder = tmp_path_factory.mktemp("site")
    install = ["install", "--quiet", "--no-deps", "--no-index", "--target", str(folder)]
    subprocess.run([*PIP, *install, str(wheel)], check=True, timeout=300)
    return folder


def run(site, folder, *arguments):
    """Run the installed console command in a folder; the repository is out of sight."""
    command = [str(site / "bin" / "recognizer"), *map(str, arguments)]
    return subprocess.run(
        command,
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        env={**os.environ, "PYTHONPATH": str(site), "OMP_NUM_THREADS": "1"},
    )


def pins(*lists):
    """Return the lines of requirements files that name a package, without comments."""
    texts = [(ROOT / "requirements" / f"{name}.txt").read_text(encoding="utf-8") for name in lists]
    lines = (line.partition("#")[0].strip() for text in texts for line in text.splitlines())
    return {line for line in lines if line and not line.startswith("-r")}


# --- what is in it -------------------------------------------------------------------


def test_the_wheel_holds_the_library_with_its_data(names):
    kinds = {".py", ".pyi", ".onnx", ".json", ".html", ".css", ".js", ".svg"}
    library = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "recognizer").rglob("*")
        if path.suffix in kinds or path.name == "py.typed"
    }
    assert "recognizer/py.typed" in library
    assert "recognizer/backends/probe.onnx" in library
    assert "recognizer/live/page/templates/base.html" in library
    assert {name for name in names if name.startswith("recognizer/")} - library == {
        name for name in names if name.startswith(f"{PROGRAM}/")
    }
    assert library <= names


def test_the_wheel_holds_the_modes_as_in_the_repository(names):
    expected = {"main.py", "samples/models/fight.onnx", "samples/models/falldown.onnx"}
    for folder in ("configs", *MODES):
        files = (path for path in (ROOT / folder).rglob("*") if "__pycache__" not in path.parts)
        kept = {".py", ".yaml", ".json"}
        expected |= {p.relative_to(ROOT).as_posix() for p in files if p.suffix in kept}
    # For clusters with the container's image.
    expected -= {"deploy/k8s-indexed-job.yaml", "deploy/kuberay.yaml"}
    held = {name.removeprefix(f"{PROGRAM}/") for name in names if name.startswith(PROGRAM)}
    assert expected <= held
    extra = {name for name in held - expected if not name.startswith(("requirements/", "samples/"))}
    assert extra == set()
    assert "samples/make.py" not in held


def test_the_wheel_takes_one_name_in_site_packages(names):
    tops = {name.partition("/")[0] for name in names}
    assert tops == {"recognizer", f"recognizer-{recognizer.__version__}.dist-info"}
    assert any(name.endswith("dist-info/licenses/LICENSE") for name in names)


# --- what it says of itself ----------------------------------------------------------


def test_the_metadata_are_those_of_the_project(metadata):
    assert (metadata["Name"], metadata["Version"]) == ("recognizer", recognizer.__version__)
    assert metadata["License-Expression"] == "Apache-2.0"
    assert "Apache License" in (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert metadata["Requires-Python"] == "<3.12,>=3.11"
    assert metadata["Description-Content-Type"] == "text/markdown"
    assert "Project-URL" not in metadata


def test_the_requirements_follow_the_lists_that_make_setup_installs(metadata):
    """Ranges for the library, pins for the runtimes, of which an environment has one."""
    required: dict[str, set[str]] = {}
    for line in metadata.get_all("Requires-Dist"):
        name, _, marker = line.partition(";")
        required.setdefault(marker.partition('"')[2].strip('"'), set()).add(name.strip())
    base = pins("base")
    extras = {
        "train": pins("training") - base,
        "live": pins("live"),
        "ray": pins("ray"),
        "object-store": pins("objectstore"),
        "cpu": pins("cpu"),
        "gpu": pins("gpu"),
        "tensorrt": pins("gpu", "tensorrt"),
        "openvino": pins("openvino"),
    }
    assert {extra: required[extra] for extra in extras} == extras
    assert set(required) - {""} == set(extras) == set(metadata.get_all("Provides-Extra"))
    assert not any("onnxruntime" in line for line in required[""])
    assert {"numpy<2,>=1.26.4", "requests<3,>=2.34.2"} <= required[""]
    names = {line.partition("==")[0] for line in base}
    direct = {line.partition("<")[0] for line in required[""]}
    assert direct <= names
    assert not direct & {"tzdata", "idna", "certifi"}


def test_no_pin_stands_beside_the_lists():
    texts = [(ROOT / name).read_text(encoding="utf-8") for name in ("pyproject.toml", "setup.py")]
    assert not any(re.search(r"==\s*\d", text) for text in texts)


# --- the console command -------------------------------------------------------------


def test_the_doctor_finds_all_in_an_empty_folder(site, tmp_path):
    done = run(site, tmp_path, "--mode", "doctor")
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"annotation.input: no folder at {tmp_path / 'data'}" in done.stdout
    assert f"annotation.output_dir: {tmp_path / 'output'}" in done.stdout
    assert "nothing to mend; next: recognizer --mode annotation.pipeline" in done.stdout
    assert "main.py" not in done.stdout
    assert "make setup" not in done.stdout
    assert "demo" not in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_videos_are_analysed_in_an_empty_folder(site, tmp_path):
    """Worker processes find the modes, the classifiers are the wheel's, results lie here."""
    before = {path for path in site.rglob("*") if "__pycache__" not in path.parts}
    clips.write_clip(tmp_path / "data" / "camera.mp4", 1)
    (tmp_path / "weights").mkdir()
    networks.rtmo(tmp_path / "weights" / "dot.onnx", input_wh=clips.SIZE_WH)
    done = run(
        site,
        tmp_path,
        "--mode",
        "inference.analysis",
        "--set",
        "models.pose_estimation.onnx.model_path=dot.onnx",
        "--set",
        "tracking.min_box_area=1",
        "--set",
        "inference.overlay=false",
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "output" / "analysis" / "videos" / "camera.mp4.json").is_file()
    assert "1 inputs: 1 done" in done.stderr
    assert "main.py" not in done.stderr
    after = {path for path in site.rglob("*") if "__pycache__" not in path.parts}
    assert after == before


def test_help_calls_the_command_by_its_name(site, tmp_path):
    done = run(site, tmp_path, "--help")
    assert done.stdout.startswith("usage: recognizer --mode MODE")
    assert "main.py" not in done.stdout
    assert "demo" not in done.stdout, "its samples are not in the wheel"
    assert run(site, tmp_path, "--version").stdout.startswith(
        f"recognizer {recognizer.__version__}"
    )
    stage1 = run(site, tmp_path, "annotation.stage1")
    assert "modes are named by --mode: recognizer --mode annotation.stage1" in stage1.stderr
    assert run(site, tmp_path, "--mode", "demo").returncode == 2
    done = run(site, tmp_path, "--mode", "annotation.stage9")
    assert (done.returncode, "usage: recognizer" in done.stderr) == (2, True)


def test_a_checkout_runs_the_same_modes():
    listed = [
        subprocess.run(
            [sys.executable, *call, "--list-modes"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        ).stdout
        for call in (["main.py"], ["-m", "recognizer"])
    ]
    assert listed[0] == listed[1]
    assert importlib.util.find_spec("recognizer.program") is None
