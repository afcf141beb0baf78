"""The doctor: a healthy machine is told so, and each thing missing has its remedy."""

import importlib.metadata
import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from recognizer import doctor
from recognizer.config.file import load_config
from recognizer.config.schema import Config
from recognizer.doctor import Finding, examine, read_pins
from tests import networks

ROOT = Path(__file__).resolve().parents[1]
SHIPPED = ROOT / "configs" / "config.yaml"
GPU_PINS = read_pins(ROOT / "requirements" / "gpu.txt")


def one(findings: list[Finding], name: str) -> Finding:
    (finding,) = [f for f in findings if f.name == name]
    return finding


@pytest.fixture
def versions(monkeypatch):
    """Pretend that the pinned versions are installed; a test changes what it wants."""
    pins: dict[str, str] = {}
    for file in ("base", "cpu", "training", "openmmlab", "live", "ray"):
        pins |= read_pins(ROOT / "requirements" / f"{file}.txt")

    def version(name):
        if name not in pins:
            raise importlib.metadata.PackageNotFoundError(name)
        return pins[name]

    monkeypatch.setattr(importlib.metadata, "version", version)
    asks = ["filelock", 'nvidia-cudnn-cu12==9.1; platform_system == "Linux"']  # a torch of CUDA 12
    monkeypatch.setattr(importlib.metadata, "requires", lambda name: asks)
    return pins


@pytest.fixture
def modules(monkeypatch):
    """Import what a test puts in here, or raise it; the rest as ever."""
    replaced: dict[str, object] = {}
    real = doctor.importlib.import_module

    def load(name):
        module = replaced.get(name)
        if isinstance(module, Exception):
            raise module
        return module if module is not None else real(name)

    monkeypatch.setattr(doctor.importlib, "import_module", load)
    return replaced


def test_a_machine_that_has_all_is_reported_so(versions, tmp_path):
    weights = tmp_path / "w"
    weights.mkdir()
    for name in ("small_pose.onnx", "yolox_nano.onnx"):
        (weights / name).write_bytes(b"x" * 1000)
    overrides = [
        f"annotation.output_dir={tmp_path}/new/out",
        f"annotation.input={tmp_path}",
        f"models.weights_dirs=[{weights}]",
    ]
    findings = examine(load_config(SHIPPED, overrides))
    others = [f for f in findings if f.ok is None]  # backends that this config does not use
    assert all(f.name.startswith("backend ") for f in others)
    assert [f for f in findings if f.ok is False] == []
    assert [f for f in findings if f.remedy] == others
    assert len({f.name for f in findings}) == len(findings) >= 16
    assert one(findings, "backend onnx, cpu").ok is True
    model = one(findings, "models.pose_estimation.onnx.model_path")
    assert model.found.startswith(str(weights / "small_pose.onnx"))
    assert not (tmp_path / "new").exists()  # looking makes nothing


def test_without_a_config_nothing_is_reported_about_files(versions):
    names = {f.name for f in examine(None)}
    assert {"Python", "packages", "OpenCV", "video writing", "training set"} <= names
    assert not any(name.startswith(("annotation.", "models.")) for name in names)


def test_of_two_onnxruntimes_the_one_for_the_device_may_be_in_place(versions, modules):
    """What was installed last decides."""
    versions["onnxruntime-gpu"] = "1.31.1"
    providers = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    modules["onnxruntime"] = SimpleNamespace(get_available_providers=lambda: providers)
    finding = one(examine(None), "ONNX Runtime")
    assert (finding.ok, finding.remedy) == (None, "")
    assert finding.found.endswith("the module is that of onnxruntime-gpu")
    providers.remove("CUDAExecutionProvider")
    assert one(examine(None), "ONNX Runtime").ok is False


def test_a_cpu_torch_counts_as_the_pinned_one(versions):
    versions["torch"] += "+cpu"
    assert one(examine(None), "training set").ok is True


@pytest.mark.parametrize(
    ("change", "name", "ok", "found", "remedy"),
    [
        pytest.param(
            {"numpy": "2.0.0"},
            "packages",
            False,
            "numpy 2.0.0 (expected 1.26.4)",
            "make setup",
            id="another-version",
        ),
        pytest.param(
            {"rich": None},
            "packages",
            False,
            "rich missing (expected",
            "make setup",
            id="missing",
        ),
        pytest.param(
            {"onnxruntime": None},
            "ONNX Runtime",
            False,
            "missing",
            "make setup RUNTIME=gpu",
            id="no-onnxruntime",
        ),
        pytest.param(
            {"onnxruntime-gpu": "1.31.1"},
            "ONNX Runtime",
            False,
            "overwrite each other",
            "pip uninstall onnxruntime onnxruntime-gpu",
            id="both-onnxruntimes",
        ),
        pytest.param(
            {"onnxruntime": None, **GPU_PINS},
            "ONNX Runtime",
            True,
            "onnxruntime-gpu 1.31.1",
            "",
            id="gpu-onnxruntime",
        ),
        pytest.param(
            {"onnxruntime": None, **GPU_PINS, "nvidia-cublas": None, "nvidia-cufft": "11.0"},
            "ONNX Runtime",
            None,
            "nvidia-cublas missing (expected 13.1.1.3), nvidia-cufft 11.0 (",
            "make setup RUNTIME=gpu",
            id="gpu-onnxruntime-without-a-library",
        ),
        pytest.param(
            {"onnxruntime": None, **GPU_PINS, "tensorrt-cu13": "11.4.0.106"},
            "ONNX Runtime",
            None,
            "tensorrt-cu13 11.4.0.106 (expected 10.14.1",
            "make setup RUNTIME=tensorrt",
            id="tensorrt-that-onnx-runtime-does-not-load",
        ),
        pytest.param(
            {"onnxruntime": None, **GPU_PINS, "torch": "2.13.0"},
            "CUDA of torch",
            False,
            "torch 2.13.0 brings CUDA 12, onnxruntime-gpu uses CUDA 13",
            "make setup-train",
            id="torch-of-another-cuda",
        ),
        pytest.param(
            {"onnxruntime": "1.0"},
            "ONNX Runtime",
            False,
            "onnxruntime 1.0 (expected",
            "make setup",
            id="old-onnxruntime",
        ),
        pytest.param(
            {"onnxruntime": None, "onnxruntime-openvino": "1.0"},
            "ONNX Runtime",
            False,
            "onnxruntime-openvino 1.0 (expected",
            "make setup RUNTIME=openvino",
            id="old-openvino",
        ),
        pytest.param(
            {"torch": None, "mmpose": None},
            "training set",
            None,
            "2 of",
            "pip install --no-deps -r requirements/openmmlab.txt",
            id="no-training-set",
        ),
        pytest.param(
            {"mmaction2": "1.2.0"},
            "training set",
            None,
            "mmaction2 1.2.0 (expected 1.1.0)",
            "make setup-dev",
            id="mmaction2-that-does-not-import",
        ),
        pytest.param(
            {"torch": "2.13.0+cpu", "torchvision": "0.28.0"},
            "torchvision",
            None,
            "torchvision 0.28.0 beside torch 2.13.0+cpu",
            "pip uninstall torchvision",
            id="torchvision-beside-cpu-torch",
        ),
    ],
)
def test_packages(versions, change, name, ok, found, remedy):
    for package, version in change.items():
        versions.pop(package, None)
        if version:
            versions[package] = version
    finding = one(examine(None), name)
    assert finding.ok is ok
    assert found in finding.found
    assert remedy in finding.remedy
    assert bool(finding.remedy) is (ok is not True)


def test_another_python(versions, monkeypatch):
    monkeypatch.setattr(doctor.sys, "version_info", (3, 12, 1, "final", 0))
    assert one(examine(None), "Python") == Finding(
        "Python", False, "3.12.1", "make clean-venv && make PYTHON=python3.11 setup"
    )


def test_opencv_without_libgl(versions, modules):
    modules["cv2"] = ImportError("libGL.so.1: cannot open shared object file")
    finding = one(examine(None), "OpenCV")
    assert (finding.ok, finding.remedy) == (False, "apt-get install libgl1 libglib2.0-0")
    assert "libGL.so.1" in finding.found


def test_nothing_installed_at_all(versions, modules):
    for name in ("cv2", "av.codec", "onnxruntime"):
        modules[name] = ModuleNotFoundError(f"No module named '{name}'")
    findings = examine(Config())
    for name in ("OpenCV", "video", "backend onnx"):
        finding = one(findings, name)
        assert (finding.ok, finding.remedy) == (False, "make setup")


def test_a_pyav_without_codecs(versions, modules):
    class Codec:
        def __init__(self, name, mode):
            if name in {"av1", "libx264"}:
                raise ValueError(name)

    modules["av.codec"] = type("module", (), {"Codec": Codec})
    findings = examine(None)
    assert one(findings, "video reading").found == "h264, hevc; no av1"
    for name in ("video reading", "video writing"):
        assert one(findings, name).ok is False
        assert "pip install --force-reinstall av==" in one(findings, name).remedy


def test_looking_at_torch_does_not_import_it():
    code = (
        "import sys\n"
        "from recognizer.config.schema import Config\n"
        "from recognizer.doctor import examine\n"
        "assert any(f.name == 'backend pth' for f in examine(Config()))\n"
        "print(sorted({'torch', 'tensorrt', 'mmengine', 'mmpose', 'openvino'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ},
    )
    assert done.stdout == "[]\n"


def test_model_files_that_are_not_there(versions, tmp_path):
    name = "models.pose_estimation.onnx.model_path=none.onnx"
    config = load_config(SHIPPED, [f"models.weights_dirs=[{tmp_path}]", name])
    for key in ("onnx.model_path", "topdown.detector.model_path"):
        finding = one(examine(config), f"models.pose_estimation.{key}")
        assert finding.ok is None
        assert str(tmp_path) in finding.remedy


def test_classifiers_are_opened_and_their_classes_shown(versions):
    findings = examine(load_config(SHIPPED, []))
    for service, classes in (("fight", "NonFight, Fight"), ("falldown", "Normal, Falldown")):
        found = one(findings, f"inference.{service}.model_path")
        assert found.ok
        assert f"{service}.onnx (classes: {classes};" in found.found
    only = examine(load_config(SHIPPED, ["inference.services=[falldown]"]))
    assert [f.name for f in only if f.name.startswith("inference.")] == [
        "inference.falldown.model_path"
    ]


def test_a_classifier_that_is_none_or_missing_is_named(versions, tmp_path):
    (tmp_path / "damaged.onnx").write_bytes(b"no network")
    networks.heatmap(tmp_path / "pose.onnx")
    shipped = examine(load_config(SHIPPED, []))
    other = one(shipped, "inference.falldown.model_path").found.partition(" (")[0]
    for name, ok, text in (
        ("none.onnx", None, "none.onnx"),
        (tmp_path / "damaged.onnx", False, "damaged.onnx"),
        (tmp_path / "pose.onnx", False, "expected a classifier"),
        (other, False, "is a classifier of falldown"),
    ):
        config = load_config(SHIPPED, [f"inference.fight.model_path={name}"])
        found = one(examine(config), "inference.fight.model_path")
        assert found.ok is ok
        assert text in found.found
        assert "inference.services=[falldown]" in found.remedy


def test_it_finds_the_model_files_that_stage_1_finds(versions, tmp_path, monkeypatch):
    from recognizer.runs.stage_folders import pose_model_files

    first, second = tmp_path / "a", tmp_path / "b"
    for folder, names in ((first, ["pose.onnx"]), (second, ["pose.onnx", "det.onnx"])):
        folder.mkdir()
        for name in names:
            (folder / name).write_bytes(b"x")
    networks.heatmap(first / "pose.onnx")  # stage 1 asks what it is, and what the detector is
    monkeypatch.chdir(tmp_path)
    networks.constant_yolox(tmp_path / "det.onnx", {})
    config = load_config(
        SHIPPED,
        [
            f"models.weights_dirs=[{first}, {second}]",
            "models.pose_estimation.onnx.model_path=pose.onnx",
            "models.pose_estimation.topdown.detector.model_path=det.onnx",
        ],
    )
    found = [f.found.partition(" (")[0] for f in examine(config) if f.name.startswith("models.")]
    files = pose_model_files(config)
    assert found == [str(files["pose"]), str(files["detector"])]


def test_an_output_folder_that_cannot_be(versions, tmp_path):
    (tmp_path / "file").write_text("")
    config = load_config(SHIPPED, [f"annotation.output_dir={tmp_path}/file/out"])
    finding = one(examine(config), "annotation.output_dir")
    assert (finding.ok, finding.found) == (False, f"{tmp_path / 'file'} cannot be written to")


def test_a_full_disk(versions, tmp_path, monkeypatch):
    usage = type("usage", (), {"free": 10})
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda path: usage)
    assert one(examine(load_config(SHIPPED)), "annotation.output_dir").ok is False


def test_pins_are_read(tmp_path):
    (tmp_path / "r.txt").write_text("# x==1\n-r base.txt\nNumPy==1.26.4  # why\nav==18.1.0\nfree\n")
    assert read_pins(tmp_path / "r.txt") == {"NumPy": "1.26.4", "av": "18.1.0"}
    assert read_pins(tmp_path / "gone.txt") == {}


def test_every_requirement_is_pinned():
    for path in sorted((ROOT / "requirements").glob("*.txt")):
        lines = [line.partition("#")[0].strip() for line in path.read_text().splitlines()]
        expected = [line for line in lines if line and not line.startswith("-r ")]
        assert [line.partition("==")[0] for line in expected] == list(read_pins(path)), path.name
        assert not re.search(r"https?:|index-url|find-links", path.read_text()), path.name
    runtime = read_pins(ROOT / "requirements" / "base.txt")
    assert not {"torch", "mmengine", "mmpose", "mmaction2", "mmcv-lite"} & set(runtime)


def test_importing_the_doctor_is_light():
    code = (
        "import recognizer.doctor, sys\n"
        "heavy = {'torch', 'cv2', 'av', 'onnxruntime', 'mmengine', 'matplotlib', 'rich'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ},
    )
    assert done.stdout == "[]\n"


@pytest.mark.parametrize(("package", "file"), [("starlette", "live"), ("ray", "ray")])
def test_what_an_extra_needs_is_named_with_its_command(versions, package, file):
    del versions[package]
    found = one(examine(None), {"live": "live page and MQTT", "ray": "Ray executor"}[file])
    assert (found.ok, found.found[:4]) == (None, "1 of")
    assert found.remedy == f"pip install -r requirements/{file}.txt"
