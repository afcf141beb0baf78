"""What an ONNX file may bring, seen before ONNX Runtime opens it; compared with onnx itself."""

import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import onnx
import pytest
from google.protobuf.message import DecodeError
from onnx import TensorProto, helper, numpy_helper

from recognizer.backends import onnx_files
from recognizer.backends.network import ModelError
from recognizer.backends.onnx import OnnxNetwork
from recognizer.backends.onnx_files import check_file, model_digest, read_metadata
from recognizer.config.types import OnnxRuntimeOptions
from recognizer.storage.artifacts import sha256_file
from tests import networks

ROOT = Path(__file__).resolve().parents[2]
LEAVES = r"external data .*: expected a file in the model's own folder"
MISSING = "its external data .* is not beside it"


def weight(location=None, name="w", **more):
    """Return four numbers, in the file itself or in one that ``location`` names."""
    tensor = numpy_helper.from_array(np.arange(4, dtype=np.float32), name)
    if location is not None:
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        for key, value in {"location": location, "offset": "0", "length": "16", **more}.items():
            tensor.external_data.add(key=key, value=value)
    return tensor


def value(name, kind=TensorProto.FLOAT, shape=(4,)):
    return helper.make_tensor_value_info(name, kind, list(shape))


def save(path, nodes, tensors, functions=(), training=(), inputs=None):
    graph = helper.make_graph(nodes, "g", inputs or [value("x")], [value("y")], list(tensors))
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)]
    model = helper.make_model(graph, opset_imports=opsets, functions=list(functions))
    model.ir_version = 8
    for inner in training:
        model.training_info.add().initialization.CopyFrom(inner)
    path.write_bytes(model.SerializeToString())
    return path


def adding(path, location, **more):
    """Save x + w with w in another file."""
    return save(path, [helper.make_node("Add", ["x", "w"], ["y"])], [weight(location, **more)])


def in_a_branch(path, location):
    inner = helper.make_graph(
        [helper.make_node("Identity", ["w"], ["b"])], "b", [], [value("b")], [weight(location)]
    )
    inputs = [value("x"), value("c", TensorProto.BOOL, ())]
    branch = helper.make_node("If", ["c"], ["y"], then_branch=inner, else_branch=inner)
    return save(path, [branch], [], inputs=inputs)


def in_a_constant(path, location):
    nodes = [
        helper.make_node("Constant", [], ["w"], value=weight(location)),
        helper.make_node("Add", ["x", "w"], ["y"]),
    ]
    return save(path, nodes, [])


def in_a_function(path, location):
    nodes = [
        helper.make_node("Constant", [], ["w"], value=weight(location)),
        helper.make_node("Add", ["a", "w"], ["b"]),
    ]
    function = helper.make_function("own", "F", ["a"], ["b"], nodes, [helper.make_opsetid("", 17)])
    call = helper.make_node("F", ["x"], ["y"], domain="own")
    return save(path, [call], [], functions=[function])


def in_a_training_graph(path, location):
    inner = helper.make_graph([], "t", [], [], [weight(location)])
    return save(path, [helper.make_node("Identity", ["x"], ["y"])], [], training=[inner])


def in_sparse_weights(path, location):
    sparse = onnx.SparseTensorProto(dims=[8])
    sparse.values.CopyFrom(weight(location))
    sparse.indices.CopyFrom(numpy_helper.from_array(np.arange(4), "i"))
    model = onnx.load(str(save(path, [helper.make_node("Identity", ["x"], ["y"])], [])))
    model.graph.sparse_initializer.append(sparse)
    path.write_bytes(model.SerializeToString())
    return path


PLACES = {
    "initializer": adding,
    "branch": in_a_branch,
    "constant": in_a_constant,
    "function": in_a_function,
    "training": in_a_training_graph,
    "sparse": in_sparse_weights,
}


@pytest.fixture
def folder(tmp_path):
    """Return a folder for a network, beside a file that it must not read."""
    (tmp_path / "secret.bin").write_bytes(bytes(16))
    inside = tmp_path / "model"
    inside.mkdir()
    return inside


@pytest.mark.parametrize("place", PLACES)
def test_external_data_that_leaves_the_folder_is_refused_wherever_it_stands(folder, place):
    path = PLACES[place](folder / "m.onnx", "../secret.bin")
    with pytest.raises(ModelError, match=LEAVES):
        OnnxNetwork(path, OnnxRuntimeOptions())


@pytest.mark.parametrize(
    ("location", "reason"),
    [
        ("/etc/hostname", LEAVES),
        ("..", LEAVES),
        ("../secret.bin", LEAVES),
        ("a/../../secret.bin", LEAVES),
        ("a/b/../../../secret.bin", LEAVES),
        # Names of files in the folder, or the folder itself: none of them is a file there.
        ("", MISSING),
        ("a", MISSING),
        ("a\\..\\..\\secret.bin", MISSING),
        ("\\\\host\\share\\x", MISSING),
        ("*/_ORT_MEM_ADDR_/*", MISSING),
        ("w\n.bin", MISSING),
        ("w\0.bin", MISSING),
    ],
)
def test_names_that_lead_out_or_to_no_file_are_refused(folder, location, reason):
    (folder / "a" / "b").mkdir(parents=True)
    path = adding(folder / "m.onnx", location)
    with pytest.raises(ModelError, match=reason):
        check_file(path)
    with pytest.raises(ModelError, match=reason):
        OnnxNetwork(path, OnnxRuntimeOptions())


def test_links_that_lead_out_are_refused_even_through_folders(folder):
    (folder / "w.bin").symlink_to(folder.parent / "secret.bin")
    (folder / "sub").symlink_to(folder.parent)
    for location in ("w.bin", "sub/secret.bin"):
        with pytest.raises(ModelError, match=LEAVES):
            check_file(adding(folder / "m.onnx", location))


def test_it_is_refused_before_onnx_runtime_sees_it(folder, monkeypatch):
    import onnxruntime

    opened = []
    monkeypatch.setattr(onnxruntime, "InferenceSession", lambda *a, **k: opened.append(a))
    with pytest.raises(ModelError, match=LEAVES):
        OnnxNetwork(adding(folder / "m.onnx", "../secret.bin"), OnnxRuntimeOptions())
    assert opened == []


def test_external_data_in_the_folder_runs_and_counts_in_the_digest(folder):
    data = folder / "weights" / "w.bin"
    data.parent.mkdir()
    data.write_bytes(np.array([1, 2, 3, 4], np.float32).tobytes())
    path = adding(folder / "m.onnx", "weights/w.bin")
    assert check_file(path) == (data,)
    network = OnnxNetwork(path, OnnxRuntimeOptions())
    (given,) = network.run({"x": np.ones(4, np.float32)}).values()
    assert given.tolist() == [2, 3, 4, 5]
    before = model_digest(path)
    assert before != sha256_file(path)
    data.write_bytes(np.array([1, 2, 3, 5], np.float32).tobytes())
    assert model_digest(path) != before


def test_the_digest_of_a_file_of_one_piece_is_its_own(tmp_path):
    path = networks.rtmo(tmp_path / "m.onnx")
    assert model_digest(path) == sha256_file(path)
    other = tmp_path / "weights.pth"
    other.write_bytes(b"x")
    assert model_digest(other) == sha256_file(other)


def test_external_data_that_is_missing_or_cut_off_is_named(folder):
    path = adding(folder / "m.onnx", "w.bin")
    with pytest.raises(ModelError, match=r"'w\.bin' is not beside it"):
        check_file(path)
    (folder / "w.bin").write_bytes(bytes(12))
    with pytest.raises(ModelError, match=r"m\.onnx: ONNX Runtime cannot load this file"):
        OnnxNetwork(path, OnnxRuntimeOptions())


@pytest.mark.parametrize("more", [{"length": "-1"}, {"offset": "1e9"}, {"length": "9" * 30}])
def test_sizes_that_are_no_numbers_are_refused(folder, more):
    (folder / "w.bin").write_bytes(bytes(16))
    with pytest.raises(ModelError, match="cannot load"):
        OnnxNetwork(adding(folder / "m.onnx", "w.bin", **more), OnnxRuntimeOptions())


def test_two_locations_for_one_weight_are_refused(folder):
    (folder / "w.bin").write_bytes(bytes(16))
    tensor = weight("w.bin")
    tensor.external_data.add(key="location", value="../secret.bin")
    path = save(folder / "m.onnx", [helper.make_node("Add", ["x", "w"], ["y"])], [tensor])
    with pytest.raises(ModelError, match=LEAVES):
        check_file(path)


def test_a_reference_to_a_compiled_network_is_refused(folder):
    node = helper.make_node(
        "EPContext", ["x"], ["y"], domain="com.microsoft", embed_mode=0, ep_cache_context="e.bin"
    )
    with pytest.raises(ModelError, match="EPContext"):
        check_file(save(folder / "m.onnx", [node], []))


def test_metadata_is_what_onnx_runtime_reads(tmp_path):
    path = networks.rtmo(tmp_path / "m.onnx")
    assert read_metadata(path) == {}
    model = onnx.load(str(path))
    metadata = {"recognizer": '{"a": 1}', "names": "{0: 'Mensch \u2603'}", "empty": ""}
    helper.set_model_props(model, metadata)
    onnx.save(model, str(path))
    assert read_metadata(path) == metadata == OnnxNetwork(path, OnnxRuntimeOptions()).metadata
    path.write_bytes(b"x")
    with pytest.raises(ModelError, match="expected an ONNX network"):
        read_metadata(path)


def test_files_that_are_no_network(tmp_path):
    for content in (b"", b"not a network", b"\x08\x08" + bytes(100), b"ORTM" * 30, b"PK\3\4" * 40):
        path = tmp_path / "m.onnx"
        path.write_bytes(content)
        with pytest.raises(ModelError, match=r"m\.onnx: expected an ONNX network"):
            check_file(path)
    with pytest.raises(ModelError, match="there is none"):
        check_file(tmp_path / "gone.onnx")
    with pytest.raises(ModelError, match="there is none"):
        check_file(tmp_path)


def test_a_file_cut_off_anywhere_is_refused_here_or_has_nothing_left_out(tmp_path):
    whole = networks.rtmo(tmp_path / "m.onnx").read_bytes()
    cut = tmp_path / "cut.onnx"
    refused = 0
    for length in range(0, len(whole), 7):
        cut.write_bytes(whole[:length])
        try:
            check_file(cut)
        except ModelError:
            refused += 1
        else:  # cut between two fields: what is left is a message, but no network any more
            with pytest.raises(ModelError):
                OnnxNetwork(cut, OnnxRuntimeOptions())
    assert refused >= len(range(0, len(whole), 7)) - 2


def test_damaged_files_raise_nothing_else(tmp_path):
    random = np.random.default_rng(0)
    whole = np.frombuffer(networks.rtmo(tmp_path / "m.onnx").read_bytes(), np.uint8)
    path = tmp_path / "damaged.onnx"
    outcomes = set()
    for _ in range(400):
        damaged = whole.copy()
        at = random.integers(0, len(whole), random.integers(1, 6))
        damaged[at] = random.integers(0, 256, len(at))
        path.write_bytes(damaged.tobytes())
        try:
            check_file(path)
            outcomes.add("passed")
        except ModelError:
            outcomes.add("refused")
    assert outcomes == {"passed", "refused"}


def test_weights_are_not_read_into_memory(folder):
    large = numpy_helper.from_array(np.ones(2**24, np.float32), "w")  # 64 MB
    large.doc_string = "stays"
    save(folder / "m.onnx", [helper.make_node("Identity", ["x"], ["y"])], [large])
    program = """
        import sys
        from pathlib import Path
        from recognizer.backends.onnx_files import check_file, read_outputs

        def peak_mb():
            (line,) = (li for li in open("/proc/self/status") if li.startswith("VmHWM"))
            return int(line.split()[1]) / 1024

        before = peak_mb()
        assert check_file(Path(sys.argv[1])) == ()
        assert [value.name for value in read_outputs(Path(sys.argv[1]))] == ["y"]
        print(peak_mb() - before)
        """
    command = [sys.executable, "-c", textwrap.dedent(program), folder / "m.onnx"]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < 32


def test_leaving_weights_out_changes_nothing_else_of_a_damaged_file(tmp_path):
    random, model = np.random.default_rng(1), onnx_files._model_class()
    whole = np.frombuffer(networks.rtmo(tmp_path / "m.onnx").read_bytes(), np.uint8)
    outcomes = set()
    for number in range(400):
        damaged = whole[: random.integers(1, len(whole)) if number % 4 == 0 else None].copy()
        at = random.integers(0, len(damaged), random.integers(1, 6))
        damaged[at] = random.integers(0, 256, len(at))
        content = damaged.tobytes()
        light = onnx_files._without(memoryview(content), (7, 5, 9))
        expected, given = parsed(model, content), parsed(model, light)
        assert given == expected
        outcomes.add(expected is None)
    assert outcomes == {True, False}


def parsed(model, content):
    """Return the fields of a message that are known, None for a damaged one."""
    message = model()
    try:
        message.ParseFromString(content)
    except DecodeError:
        return None
    message.DiscardUnknownFields()
    return message.SerializeToString(deterministic=True)


def test_a_field_number_that_narrow_readers_would_cut_is_refused(tmp_path):
    whole = networks.rtmo(tmp_path / "m.onnx").read_bytes()
    tag = (2**32 + (7 << 3) + 2).to_bytes(5, "little")  # field 7 for who reads 32 bits only
    wide = bytes(
        (int.from_bytes(tag, "little") >> 7 * i & 0x7F) | (0x80 if i < 4 else 0) for i in range(5)
    )
    path = tmp_path / "wide.onnx"
    path.write_bytes(whole + wide + b"\x00")
    with pytest.raises(ModelError, match="expected an ONNX network"):
        check_file(path)


def test_graphs_without_end_are_refused(tmp_path):
    inner = b""
    for _ in range(120):  # graph -> node -> attribute -> graph ...
        attribute = b"\x32" + _sized(inner)
        inner = b"\x0a" + _sized(b"\x2a" + _sized(attribute))
    path = tmp_path / "m.onnx"
    path.write_bytes(b"\x08\x08\x42\x02\x10\x11\x3a" + _sized(inner))
    with pytest.raises(ModelError, match=r"expected an ONNX network.*[Dd]epth"):
        check_file(path)


def _sized(content):
    size, out = len(content), b""
    while True:
        out += bytes([size & 0x7F | (0x80 if size > 0x7F else 0)])
        size >>= 7
        if not size:
            return out + content


def test_a_file_of_two_gibibytes_is_refused_unread(tmp_path):
    path = tmp_path / "large.onnx"
    with path.open("wb") as file:
        file.truncate(2**31)  # a hole: no disk is used
    with pytest.raises(ModelError, match=r"below 2 GiB.*2147483648 bytes"):
        check_file(path)
