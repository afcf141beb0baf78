"""TensorRT's network: what is refused before TensorRT is asked. No engine runs here.

What a GPU is needed for stands in tests/deploy/test_tensorrt.py and is skipped without one.
"""

import importlib
import importlib.util
from pathlib import Path

import pytest

from recognizer.backends import engine_cache
from recognizer.backends.cuda import use_device
from recognizer.backends.engine_cache import Machine
from recognizer.backends.network import ModelError
from recognizer.backends.tensorrt import TensorRTNetwork, imported
from recognizer.config.file import ConfigError, load_config
from recognizer.config.models import TensorRTPoseConfig
from tests import networks
from tests.backends.gpu import has_gpu

ROOT = Path(__file__).resolve().parents[2]


def importable(module):
    try:
        importlib.import_module(module)
    except ImportError:
        return False
    return True


@pytest.fixture
def built(tmp_path):
    """Put plain bytes where an engine of another machine would stand."""
    source = networks.rtmo(tmp_path / "rtmo.onnx")
    settings = TensorRTPoseConfig(model_input_size=(64, 64))
    key = engine_cache.engine_key(source, settings, Machine("1.0", "no such GPU", "0.0"))
    path = engine_cache.engine_path(source, key, None)
    path.write_bytes(b"no engine")
    engine_cache.write_sidecar(path, key, {}, {})
    return path


@pytest.mark.skipif(importable("tensorrt"), reason="TensorRT is installed")
@pytest.mark.parametrize("name", ["rtmo.onnx", "engine"])
def test_without_the_package_the_message_has_the_command(built, name):
    path = built if name == "engine" else built.parent / name
    with pytest.raises(ModelError, match=r"the package tensorrt, .*requirements/tensorrt\.txt"):
        TensorRTNetwork(path, "cuda:0")


@pytest.mark.skipif(
    not importable("tensorrt") or not importable("cuda.bindings.runtime") or has_gpu(),
    reason="needs both packages and no GPU",
)
def test_without_a_driver_tensorrt_is_not_asked(built):
    with pytest.raises(ModelError, match="expected an NVIDIA GPU and its driver, CUDA reports"):
        TensorRTNetwork(built, "cuda:0")


@pytest.mark.skipif(not has_gpu() or not importable("tensorrt"), reason="needs a GPU and TensorRT")
def test_an_engine_of_another_machine_is_not_opened(built):
    with pytest.raises(ModelError, match=r"gpu: expected .*, got no such GPU"):
        TensorRTNetwork(built, "cuda:0")


@pytest.mark.skipif(not importable("cuda.bindings.runtime"), reason="cuda-bindings not installed")
@pytest.mark.skipif(has_gpu(), reason="there is a GPU")
def test_no_driver_is_reported_in_plain_words():
    with pytest.raises(ModelError, match=r"device cuda:0: expected an NVIDIA GPU .*nvidia-smi"):
        use_device("cuda:0")


# --- faults of the file come first, whatever is installed --------------------------


def test_a_damaged_engine_is_refused_before_any_package_is_needed(built):
    built.write_bytes(b"no engin")
    with pytest.raises(ModelError, match="expected 9 bytes, got 8"):
        TensorRTNetwork(built, "cuda:0")


@pytest.mark.parametrize("name", ["none.engine", "none.trt", "none.onnx"])
def test_a_missing_file_is_refused_with_the_command(tmp_path, name):
    with pytest.raises(ModelError, match=r"found none; .*python main\.py --mode deploy\."):
        TensorRTNetwork(tmp_path / name, "cuda:0")


def test_a_foreign_engine_needs_trust(tmp_path):
    path = tmp_path / "rtmo.trt"
    path.write_bytes(b"\0" * 100)
    with pytest.raises(ModelError, match="trust_model_path: true"):
        TensorRTNetwork(path, "cuda:0")


def test_fp16_without_its_file(built):
    section = TensorRTPoseConfig(model_input_size=(64, 64), fp16_mode=True)
    with pytest.raises(ModelError, match="expected the half-precision network"):
        TensorRTNetwork(built.parent / "rtmo.onnx", "cuda:0", section=section)
    with pytest.raises(ModelError, match="expected an engine of an fp16 network, got fp32"):
        TensorRTNetwork(built, "cuda:0", section=section)


# --- packages ----------------------------------------------------------------------


def test_a_missing_library_is_distinguished_from_a_missing_package(tmp_path, monkeypatch):
    text = "raise ImportError('libnvinfer.so.10: cannot open shared object file')\n"
    (tmp_path / "half_installed.py").write_text(text, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModelError, match=r"a library of it is not: libnvinfer\.so\.10.*again"):
        imported("half_installed", "tensorrt")
    with pytest.raises(ModelError, match="expected the package tensorrt, it is not installed"):
        imported("nowhere_to_be_found", "tensorrt")


def test_our_files_do_not_hide_the_package(monkeypatch):
    monkeypatch.syspath_prepend(ROOT)
    found = importlib.util.find_spec("tensorrt")
    assert found is None or ROOT not in Path(found.origin).parents


# --- the config --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("min_batch: 0", "min_batch"),
        ("max_batch: 257", "max_batch"),
        ("opt_batch: 16", "expected min_batch <= opt_batch <= max_batch, got 1, 16, 8"),
        ("min_batch: 9", "got 9, 8, 8"),
        ("min_input_size: [641, 640]", "got [641, 640], [640, 640], [640, 640]"),
        ("max_input_size: [640, 384]", "expected min_input_size <= model_input_size <= max_in"),
        ("workspace_gb: 0", "workspace_gb"),
        ("optimization_level: 6", "optimization_level"),
        ("device: cpu", "expected cuda:N"),
        ("trust_model_path: 1", "trust_model_path"),
        ("static_batch: 9", "expected min_batch..max_batch (1 to 8), got 9"),
        ("max_bach: 4", "did you mean 'max_batch'"),
    ],
)
def test_settings_that_make_no_sense_are_refused_by_name(tmp_path, text, message):
    path = tmp_path / "config.yaml"
    path.write_text(f"models: {{pose_estimation: {{tensorrt: {{{text}}}}}}}\n", encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    assert message in str(caught.value)
