"""Engines on disk: what changes the key, what is refused, and with which words."""

import dataclasses
import json

import pytest

from recognizer.backends import engine_cache
from recognizer.backends.engine_cache import Machine
from recognizer.backends.network import ModelError
from recognizer.config.models import TensorRTPoseConfig
from tests import networks

HERE = Machine("11.4.0.106", "NVIDIA H200", "9.0")


def section(**changes):
    return TensorRTPoseConfig.model_validate({"model_input_size": [64, 64], **changes})


@pytest.fixture
def onnx_file(tmp_path):
    return networks.rtmo(tmp_path / "rtmo-s.onnx")


def put_engine(onnx_file, settings, machine=HERE, *, content=b"\0engine" * 50, weights=None):
    """Put bytes where the engine would stand, with the JSON that deploy.tensorrt writes."""
    key = engine_cache.engine_key(onnx_file, settings, machine)
    path = engine_cache.engine_path(onnx_file, key, settings.engine_dir)
    path.write_bytes(content)
    engine_cache.write_sidecar(path, key, weights or {}, {"score_threshold": "0.3"})
    return path


# --- the key -----------------------------------------------------------------------

CHANGES = {
    "min_batch": {"min_batch": 2},
    "opt_batch": {"opt_batch": 4},
    "max_batch": {"max_batch": 16},
    "model_input_size": {"model_input_size": [128, 64]},
    "min_input_size": {"min_input_size": [64, 32]},
    "max_input_size": {"max_input_size": [96, 64]},
    "workspace_gb": {"workspace_gb": 4},
    "optimization_level": {"optimization_level": 5},
    "allow_tf32": {"allow_tf32": False},
}


@pytest.mark.parametrize("changes", CHANGES.values(), ids=CHANGES)
def test_every_setting_of_the_build_changes_the_key(onnx_file, changes):
    plain = engine_cache.engine_key(onnx_file, section(), HERE)
    other = engine_cache.engine_key(onnx_file, section(**changes), HERE)
    assert plain.digest() != other.digest()
    assert len(engine_cache.differences(plain.flat(), other.flat())) >= 1


@pytest.mark.parametrize(
    "change",
    [{"tensorrt": "11.3.0.99"}, {"gpu": "NVIDIA L4"}, {"compute_capability": "8.9"}],
    ids=lambda change: next(iter(change)),
)
def test_every_fact_of_the_machine_changes_the_key(onnx_file, change):
    plain = engine_cache.engine_key(onnx_file, section(), HERE)
    other = engine_cache.engine_key(onnx_file, section(), dataclasses.replace(HERE, **change))
    assert plain.digest() != other.digest()
    (message,) = engine_cache.differences(plain.flat(), other.flat())
    assert message.startswith(f"{next(iter(change))}: expected ")


def test_another_network_of_the_same_name_changes_the_key(tmp_path, onnx_file):
    plain = engine_cache.engine_key(onnx_file, section(), HERE)
    networks.rtmo(onnx_file, score=0.8)
    assert engine_cache.engine_key(onnx_file, section(), HERE).digest() != plain.digest()


def test_precision_changes_the_key_even_of_equal_bytes(tmp_path, onnx_file):
    twin = tmp_path / "rtmo-s_fp16.onnx"
    twin.write_bytes(onnx_file.read_bytes())
    plain, half = (engine_cache.engine_key(path, section(), HERE) for path in (onnx_file, twin))
    assert (plain.precision, half.precision) == ("fp32", "fp16")
    assert plain.digest() != half.digest()


@pytest.mark.parametrize(
    "changes",
    [
        {"score_threshold": 0.1},
        {"nms_threshold": 0.5},
        {"keypoint_threshold": 0.1},
        {"max_detections": 5},
        {"device": "cuda:1"},
        {"trust_model_path": True},
    ],
    ids=lambda change: next(iter(change)),
)
def test_what_is_not_in_the_engine_does_not_change_the_key(onnx_file, changes):
    keys = [engine_cache.engine_key(onnx_file, section(**c), HERE) for c in ({}, changes)]
    assert keys[0].digest() == keys[1].digest()


def test_the_key_outlives_json(onnx_file):
    key = engine_cache.engine_key(onnx_file, section(workspace_gb=0.5), HERE)
    assert engine_cache.differences(key.flat(), json.loads(json.dumps(key.flat()))) == []
    assert key.flat()["workspace_bytes"] == 2**29


def test_the_sizes_left_out_are_those_of_the_tuned_one(onnx_file):
    same = section(min_input_size=[64, 64], max_input_size=[64, 64])
    keys = [engine_cache.engine_key(onnx_file, s, HERE) for s in (section(), same)]
    assert keys[0].digest() == keys[1].digest()


# --- names -------------------------------------------------------------------------


def test_the_file_name_says_network_and_gpu(tmp_path, onnx_file):
    key = engine_cache.engine_key(onnx_file, section(), HERE)
    path = engine_cache.engine_path(onnx_file, key, None)
    assert path == tmp_path / f"rtmo-s.nvidia-h200.{key.digest()}.engine"
    elsewhere = tmp_path / "engines"
    assert engine_cache.engine_path(onnx_file, key, elsewhere).parent == elsewhere


@pytest.mark.parametrize("gpu", ["../../etc/x", "a/b", "", "GPU " * 100, "\0"])
def test_a_gpus_name_cannot_leave_the_folder(tmp_path, onnx_file, gpu):
    key = engine_cache.engine_key(onnx_file, section(), dataclasses.replace(HERE, gpu=gpu))
    path = engine_cache.engine_path(onnx_file, key, None)
    assert path.parent == tmp_path
    assert len(path.name) < 100


def test_timings_are_kept_apart_by_machine(tmp_path, onnx_file):
    def place(machine, **changes):
        return engine_cache.timing_cache_path(onnx_file, section(**changes), machine)

    assert place(HERE).parent == tmp_path
    assert place(HERE) != place(dataclasses.replace(HERE, gpu="NVIDIA L4"))
    assert place(HERE, engine_dir=str(tmp_path / "e")).parent == tmp_path / "e"
    assert place(HERE, timing_cache=str(tmp_path / "t.bin")) == tmp_path / "t.bin"


# --- from an ONNX file to its engine -----------------------------------------------


def test_the_engine_of_an_onnx_file_is_found(onnx_file):
    path = put_engine(onnx_file, section())
    assert engine_cache.cached_engine(onnx_file, section(), HERE) == path
    content, sidecar = engine_cache.read_engine(path, trusted=False)
    assert content == path.read_bytes()
    assert sidecar.metadata == {"score_threshold": "0.3"}


def test_without_an_engine_the_message_has_the_command(onnx_file):
    with pytest.raises(ModelError, match=r"found none; build it with `python main"):
        engine_cache.cached_engine(onnx_file, section(), HERE)


@pytest.mark.parametrize(
    ("settings", "machine", "message"),
    [
        ({"max_batch": 16}, HERE, r"batch: expected \[1, 8, 16\], got \[1, 8, 8\]"),
        ({}, dataclasses.replace(HERE, tensorrt="12.0"), "tensorrt: expected 12.0, got 11.4.0.106"),
        ({"allow_tf32": False}, HERE, "allow_tf32: expected False, got True"),
    ],
    ids=["shapes", "version", "options"],
)
def test_an_engine_for_something_else_is_named_with_the_difference(
    onnx_file, settings, machine, message
):
    put_engine(onnx_file, section())
    with pytest.raises(ModelError, match=f"nearest there differs in: {message}"):
        engine_cache.cached_engine(onnx_file, section(**settings), machine)


def test_engines_of_other_networks_are_not_near(tmp_path, onnx_file):
    put_engine(networks.rtmo(tmp_path / "rtmo.onnx"), section())
    with pytest.raises(ModelError, match="found none; build"):
        engine_cache.cached_engine(onnx_file, section(), HERE)


def test_changed_external_weights_make_the_engine_old(tmp_path, onnx_file):
    weights = tmp_path / "rtmo-s.data"
    weights.write_bytes(b"weights")
    digest = engine_cache.sha256_file(weights)
    put_engine(onnx_file, section(), weights={"rtmo-s.data": digest})
    engine_cache.cached_engine(onnx_file, section(), HERE)
    weights.write_bytes(b"changed")
    with pytest.raises(ModelError, match="its external weights"):
        engine_cache.cached_engine(onnx_file, section(), HERE)
    weights.unlink()
    with pytest.raises(ModelError, match="its external weights"):
        engine_cache.cached_engine(onnx_file, section(), HERE)


def test_fp16_chooses_the_half_precision_file(tmp_path, onnx_file):
    twin = networks.rtmo(tmp_path / "rtmo-s_fp16.onnx", score=0.7)
    assert engine_cache.source_file(onnx_file, fp16=False) == onnx_file
    assert engine_cache.source_file(onnx_file, fp16=True) == twin
    assert engine_cache.source_file(twin, fp16=True) == twin
    path = put_engine(twin, section(fp16_mode=True))
    assert engine_cache.cached_engine(onnx_file, section(fp16_mode=True), HERE) == path
    with pytest.raises(ModelError, match="expected its engine"):
        engine_cache.cached_engine(onnx_file, section(), HERE)


def test_fp16_without_the_file_says_what_writes_it(onnx_file):
    with pytest.raises(ModelError, match=r"rtmo-s_fp16\.onnx, found none; .*--mode deploy\.export"):
        engine_cache.source_file(onnx_file, fp16=True)


# --- an engine by its name ---------------------------------------------------------


def test_an_engine_without_its_json_is_refused(tmp_path):
    path = tmp_path / "rtmo.trt"
    path.write_bytes(b"of another tool")
    with pytest.raises(ModelError, match=r"expected rtmo\.trt\.json beside it.*trust_model_path"):
        engine_cache.read_engine(path, trusted=False)
    assert engine_cache.read_engine(path, trusted=True) == (b"of another tool", None)


@pytest.mark.parametrize("trusted", [False, True])
def test_a_cut_off_engine_is_refused(onnx_file, trusted):
    path = put_engine(onnx_file, section())
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ModelError, match="expected 350 bytes, got 100"):
        engine_cache.read_engine(path, trusted=trusted)


@pytest.mark.parametrize("trusted", [False, True])
def test_a_changed_engine_is_refused(onnx_file, trusted):
    path = put_engine(onnx_file, section())
    content = bytearray(path.read_bytes())
    content[7] ^= 1
    path.write_bytes(content)
    with pytest.raises(ModelError, match="expected SHA-256 "):
        engine_cache.read_engine(path, trusted=trusted)


@pytest.mark.parametrize("name", ["model.pth", "model.bin", "model"])
def test_a_file_of_another_kind_is_refused(tmp_path, name):
    (tmp_path / name).write_bytes(b"x")
    with pytest.raises(ModelError, match="expected an engine"):
        engine_cache.read_engine(tmp_path / name, trusted=True)


def test_a_missing_and_an_empty_engine_are_refused(tmp_path):
    with pytest.raises(ModelError, match=r"found none; build it with .*deploy\.tensorrt"):
        engine_cache.read_engine(tmp_path / "m.engine", trusted=True)
    (tmp_path / "m.engine").touch()
    with pytest.raises(ModelError, match="got an empty file"):
        engine_cache.read_engine(tmp_path / "m.engine", trusted=True)


@pytest.mark.parametrize(
    "change",
    [{"tensorrt": "11.5.0.1"}, {"gpu": "NVIDIA L4"}, {"compute_capability": "8.9"}],
    ids=lambda change: next(iter(change)),
)
def test_an_engine_of_another_machine_is_refused(onnx_file, change):
    path = put_engine(onnx_file, section())
    _, sidecar = engine_cache.read_engine(path, trusted=False)
    engine_cache.check_machine(path, sidecar, HERE)
    ((name, here),) = change.items()
    with pytest.raises(ModelError, match=f"{name}: expected {here}, got {getattr(HERE, name)}"):
        engine_cache.check_machine(path, sidecar, dataclasses.replace(HERE, **change))


def test_fp16_asked_of_a_single_precision_engine(onnx_file):
    path = put_engine(onnx_file, section())
    _, sidecar = engine_cache.read_engine(path, trusted=False)
    engine_cache.check_asked(path, sidecar, section())
    with pytest.raises(ModelError, match="expected an engine of an fp16 network, got fp32"):
        engine_cache.check_asked(path, sidecar, section(fp16_mode=True))


DAMAGE = {
    "empty": lambda text: "",
    "cut": lambda text: text[: len(text) // 2],
    "list": lambda text: "[]",
    "number": lambda text: "3",
    "schema": lambda text: text.replace("recognizer.engine", "recognizer.poses"),
    "version": lambda text: text.replace('"schema_version": 1', '"schema_version": 2'),
    "no key": lambda text: text.replace('"key"', '"kay"'),
    "key is text": lambda text: json.dumps({**json.loads(text), "key": "x"}),
    "metadata of numbers": lambda text: json.dumps({**json.loads(text), "metadata": {"a": 1}}),
    "weights is text": lambda text: json.dumps({**json.loads(text), "weights": "abc"}),
    "more": lambda text: json.dumps({**json.loads(text), "run": "me"}),
    "deep": lambda text: "[" * 100_000,
    "huge": lambda text: text + " " * 2**20,
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_json_is_refused(onnx_file, damage):
    path = put_engine(onnx_file, section())
    beside = engine_cache.sidecar_path(path)
    beside.write_text(damage(beside.read_text(encoding="utf-8")), encoding="utf-8")
    with pytest.raises(ModelError, match=rf"{beside.name}: expected what deploy\.tensorrt writes"):
        engine_cache.read_engine(path, trusted=True)
