"""The library check, on real shared libraries: NumPy's own, in wheels made here."""

import zipfile
from pathlib import Path

import numpy as np
import pytest

from deploy import gpu_libs
from deploy.gpu_libs import Library, installations, look_up, read_wheel, table, verdict
from recognizer.doctor import read_pins

REQUIREMENTS = Path(__file__).resolve().parents[2] / "requirements"
SITE = Path(np.__file__).parents[1]
CORE = "_multiarray_umath"


def wheel(folder, name, files):
    path = folder / f"{name}-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for file in files:
            archive.write(file, file.relative_to(SITE).as_posix())
        archive.writestr("numpy/not_a_library.py", "")
    return path


@pytest.fixture(scope="module")
def numpy_wheels(tmp_path_factory):
    """Return NumPy's core, which links to OpenBLAS, and the libraries that its wheel brings."""
    bundled = sorted((SITE / "numpy.libs").glob("*.so*"))
    if not bundled:
        pytest.skip("this NumPy does not come from a wheel with its own OpenBLAS")
    (core,) = (SITE / "numpy" / "core").glob(f"{CORE}.*.so")
    folder = tmp_path_factory.mktemp("wheels")
    return wheel(folder, "core", [core]), wheel(folder, "bundled", bundled), core.name


def test_what_a_library_needs_is_found_through_other_libraries(numpy_wheels):
    core, bundled, root = numpy_wheels
    rows = look_up([root], [*read_wheel(core), *read_wheel(bundled)], [])
    assert verdict(rows) == gpu_libs.EXIT_PROVEN
    sources = {row.needed: row.source for row in rows}
    assert sources[root] == "core-1.0"
    assert sources["libc.so.6"] == "system"
    deep = {row.library for row in rows} - {"(loaded)", root}
    assert any(name.startswith("libopenblas") for name in deep)  # a library of a library
    assert "bundled-1.0" in sources.values()


def test_a_library_that_no_package_brings_is_missing(numpy_wheels):
    core, _, root = numpy_wheels
    rows = look_up([root], read_wheel(core), [])
    missing = {row.needed.partition("-")[0] for row in rows if row.source == "MISSING"}
    assert missing == {"libopenblas64_p"}
    assert verdict(rows) == gpu_libs.EXIT_MISSING
    assert "MISSING" in table("image", rows)
    assert "libc.so.6" not in table("image", rows)


CUDA = Library("libonnxruntime_providers_cuda.so", "ort", ("libcudart.so.13", "libcuda.so.1"))
REST = [
    Library(name, "p", ())
    for name in ("libcudart.so.13", "libcudnn.so.9", "libcufft.so.12", "libnvrtc.so.13")
]
TENSORRT = Library("libonnxruntime_providers_tensorrt.so", "ort", ("libnvinfer.so.10",))


@pytest.mark.parametrize(
    ("libraries", "absent", "code"),
    [
        ([CUDA, *REST], [], gpu_libs.EXIT_PROVEN),
        ([CUDA, *REST[1:]], [], gpu_libs.EXIT_MISSING),
        ([CUDA, REST[0], *REST[2:]], [], gpu_libs.EXIT_MISSING),  # cuDNN: asked for by name only
        ([*REST], [], gpu_libs.EXIT_MISSING),  # the provider itself
    ],
    ids=["whole", "no-cudart", "no-cudnn", "no-provider"],
)
def test_of_the_cuda_provider(libraries, absent, code):
    assert verdict(look_up([CUDA.name], libraries, absent)) == code


def test_what_could_not_be_fetched_is_unproven_and_excuses_nothing_else():
    unproven = look_up([TENSORRT.name], [TENSORRT], ["tensorrt-cu13-libs"])
    assert verdict(unproven) == gpu_libs.EXIT_UNPROVEN
    assert "not available here: tensorrt-cu13-libs, from NVIDIA's index" in table("x", unproven)
    assert verdict(look_up([TENSORRT.name], [TENSORRT], [])) == gpu_libs.EXIT_MISSING
    newer = Library(TENSORRT.name, "ort", ("libnvinfer.so.11",))
    assert verdict(look_up([newer.name], [newer], ["tensorrt-cu13-libs"])) == gpu_libs.EXIT_MISSING


def test_every_image_is_checked_with_its_own_pins():
    found = {image.name: image for image in installations()}
    assert set(found) == {"gpu", "train", "tensorrt"}
    pins = {f"{name}=={pin}" for name, pin in read_pins(REQUIREMENTS / "gpu.txt").items()}
    assert all(pins <= set(image.requirements) for image in found.values())
    assert any(name.startswith("torch==") for name in found["train"].requirements)
    assert any(
        name.startswith("tensorrt-cu13-libs==10.") for name in found["tensorrt"].requirements
    )


def test_one_cuda_for_all_lists():
    """TensorRT, torch and ONNX Runtime share CUDA 13's packages: no list names another."""
    for path in sorted(REQUIREMENTS.glob("*.txt")):
        wrong = [name for name in read_pins(path) if name.endswith(("-cu11", "-cu12"))]
        assert not wrong, path.name
    assert "-r gpu.txt" in (REQUIREMENTS / "tensorrt.txt").read_text(encoding="utf-8")
