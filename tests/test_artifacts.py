"""Files on disk: whole or absent, damaged files never load wrong, hostile ones never run."""

import csv
import io
import json
import os
import resource
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from recognizer.storage.artifacts import (
    POSE_SCHEMA,
    SCRATCH_FOLDER,
    ArtifactError,
    json_bytes,
    read_npz,
    read_npz_meta,
    read_poses,
    sha256_file,
    short_digest,
    write_csv,
    write_json,
    write_npz,
    write_poses,
)
from recognizer.storage.pickles import read_pickle
from recognizer.storage.tables import read_table
from tests.records import damaged_copies, flat, outcome, sequence

ROOT = Path(__file__).resolve().parents[1]
META = {"schema": "test", "schema_version": 1}


# --- round trips -----------------------------------------------------------------------


def test_poses_come_back_bit_for_bit(tmp_path):
    final, seq = tmp_path / "a" / "b" / "p.npz", sequence()
    write_poses(final, tmp_path, seq, {"source": "x"}, {"involvement": np.arange(3.0)})
    came, extra, meta = read_poses(final)
    assert flat((came, extra, meta)) == flat((seq, {"involvement": np.arange(3.0)}, meta))
    assert (meta["source"], meta["schema"], meta["size_wh"]) == ("x", POSE_SCHEMA, [640, 360])
    assert list((tmp_path / SCRATCH_FOLDER).iterdir()) == []


@pytest.mark.parametrize("frames", [0, 1], ids=["no-frame", "nobody"])
def test_a_video_without_people_comes_back(tmp_path, frames):
    write_poses(tmp_path / "p.npz", tmp_path, sequence(frames), {})
    came, _, _ = read_poses(tmp_path / "p.npz")
    assert (len(came), len(came.poses)) == (frames, 0)


def test_equal_input_gives_equal_bytes(tmp_path, monkeypatch):
    for name in ("a.npz", "b.npz"):
        write_poses(tmp_path / name, tmp_path, sequence(), {"b": 1, "a": 2})
        monkeypatch.setattr(time, "time", lambda: 1.0)
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    assert sha256_file(tmp_path / "a.npz") == sha256_file(tmp_path / "b.npz")
    write_poses(tmp_path / "c.npz", tmp_path, sequence(seed=1), {"b": 1, "a": 2})
    assert sha256_file(tmp_path / "a.npz") != sha256_file(tmp_path / "c.npz")


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    hnp.arrays(
        st.sampled_from([np.float32, np.float64, np.int64, np.bool_, np.uint8, np.dtype("U7")]),
        hnp.array_shapes(min_dims=1, max_dims=4, min_side=0, max_side=4),
    )
)
def test_any_plain_array_comes_back(tmp_path, array):
    write_npz(tmp_path / "x.npz", tmp_path, {"x": array}, META)
    came = read_npz(tmp_path / "x.npz", "test")[0]["x"]
    assert (came.dtype, came.shape, came.tobytes()) == (array.dtype, array.shape, array.tobytes())
    assert came.flags.writeable


def test_objects_are_not_written(tmp_path):
    with pytest.raises(ValueError, match=r"[Oo]bject arrays"):
        write_npz(tmp_path / "x.npz", tmp_path, {"x": np.array([{}])}, META)
    assert not (tmp_path / "x.npz").exists()
    assert list((tmp_path / SCRATCH_FOLDER).iterdir()) == []


def test_json_keeps_names_that_are_not_utf8(tmp_path):
    name = os.fsdecode(b"caf\xe9/\xff.mp4")
    write_json(tmp_path / "m.json", tmp_path, {name: "한국어"})
    text = (tmp_path / "m.json").read_bytes().decode("utf-8")  # valid UTF-8, Korean readable
    assert "한국어" in text
    assert json.loads(text) == {name: "한국어"}
    assert os.fsencode(next(iter(json.loads(text)))) == b"caf\xe9/\xff.mp4"


@given(st.dictionaries(st.text(st.characters(categories=["L", "N", "Cs", "Cc", "P"])), st.text()))
def test_any_text_goes_through_json(value):
    assert json.loads(json_bytes(value)) == value


def test_json_has_no_nan():
    with pytest.raises(ValueError, match="JSON compliant"):
        json_bytes({"a": float("nan")})


@pytest.mark.parametrize("change", [{"a": 2}, {"b": {"c": 3.5}}, {"new": None}])
def test_short_digest_changes_with_any_part(change):
    base = {"a": 1, "b": {"c": 3.0}}
    assert short_digest(base) == short_digest({"b": {"c": 3.0}, "a": 1})
    assert short_digest(base) != short_digest(base | change)


# --- damaged records -------------------------------------------------------------------


def check_damaged(folder: Path, count: int) -> tuple[int, int]:
    final = folder / "p.npz"
    write_poses(final, folder, sequence(), {"source": "x"}, {"involvement": np.arange(3.0)})
    whole, data = flat(read_poses(final)), final.read_bytes()
    refused = harmless = 0
    for copy in damaged_copies(data, count):
        final.write_bytes(copy)
        start = time.process_time()
        came = outcome(final)
        assert came in ("refused", whole), "loaded as something else"
        refused, harmless = refused + (came == "refused"), harmless + (came == whole)
        assert time.process_time() - start < 1
    return refused, harmless


def test_of_400_damaged_records_none_loads_wrong(tmp_path):
    refused, harmless = check_damaged(tmp_path, 400)
    assert (refused + harmless, refused > 300) == (400, True)


@pytest.mark.slow
def test_of_10000_damaged_records_none_loads_wrong(tmp_path):
    assert sum(check_damaged(tmp_path, 10_000)) == 10_000


def npy(descr: str, shape: str, content: bytes = b"", fortran: bool = False) -> bytes:
    header = f"{{'descr': {descr}, 'fortran_order': {fortran}, 'shape': {shape}, }}".encode()
    header += b" " * (-(len(header) + 11) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + content


def archive(path: Path, *members: tuple[str, bytes], deflate: bool = False) -> Path:
    kind = zipfile.ZIP_DEFLATED if deflate else zipfile.ZIP_STORED
    with zipfile.ZipFile(path, "w", kind) as file:
        file.writestr("meta.json", json.dumps(META))
        for name, content in members:
            file.writestr(name, content)
    return path


class Touches:
    """Makes a file when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> Any:
        return Path.touch, (self.marker,)


def object_array(marker: Path) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.array([Touches(marker)]), allow_pickle=True)
    return buffer.getvalue()


@pytest.mark.parametrize(
    "member",
    [
        pytest.param(npy("'<f8'", "(4000000000000,)"), id="32-terabytes-announced"),
        pytest.param(npy("'<f8'", "(2000000000,)"), id="16-gigabytes-announced"),
        pytest.param(npy("'<f8'", "(9223372036854775807, 9)"), id="overflowing-shape"),
        pytest.param(npy("'<f8'", "(-1, -1)", b"\0" * 8), id="negative-shape"),
        pytest.param(npy("'<f8'", "(1,)", b"\0" * 16), id="more-than-announced"),
        pytest.param(npy("'<f8'", "(2,)", b"\0" * 8), id="less-than-announced"),
        pytest.param(npy("'|V2147483647'", "(9,)"), id="huge-items"),
        pytest.param(npy("'|O'", "(1,)", b"\0" * 8), id="objects-as-bytes"),
        pytest.param(npy("[('a', '|O')]", "(1,)", b"\0" * 8), id="objects-in-a-record"),
        pytest.param(npy("'<f8'", "(1,)", b"\0" * 8, fortran=True), id="fortran"),
        pytest.param(npy("'<f8'", "[" * 5000), id="deep-header"),
        pytest.param(npy("__import__('os').system('false')", "(1,)"), id="code-in-header"),
        pytest.param(b"\x93NUMPY\x02\x00\xff\xff\xff\x7f", id="two-gigabyte-header"),
        pytest.param(b"not an array", id="text"),
        pytest.param(b"", id="nothing"),
    ],
)
def test_hostile_arrays_are_refused_without_memory(tmp_path, member):
    path = archive(tmp_path / "x.npz", ("x.npy", member))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.process_time()
    with pytest.raises(ArtifactError, match=r"x\.npz"):
        read_npz(path, "test")
    assert time.process_time() - start < 1
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000  # kB


def test_an_array_of_objects_does_not_run(tmp_path):
    marker = tmp_path / "ran"
    with pytest.raises(ArtifactError):
        read_npz(archive(tmp_path / "x.npz", ("x.npy", object_array(marker))), "test")
    assert not marker.exists()


def test_a_zip_bomb_is_refused_without_memory(tmp_path):
    content = npy("'|u1'", f"({2**28},)", bytes(2**28))
    path = archive(tmp_path / "x.npz", ("x.npy", content), deflate=True)
    del content
    assert path.stat().st_size < 2**20
    code = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_AS, (2**30, 2**30))\n"
        "from pathlib import Path\n"
        "from recognizer.storage.artifacts import ArtifactError, read_npz\n"
        "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "before = peak()\n"
        "try: read_npz(Path(sys.argv[1]), 'test')\n"
        "except ArtifactError as error: print(peak() - before, error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
    )
    assert "would unpack to" in done.stdout
    assert int(done.stdout.split()[0]) < 20_000  # kB


@pytest.mark.parametrize(
    ("members", "message"),
    [
        pytest.param([("x.npy", npy("'<f8'", "()")), ("x.npy", b"")], "two members", id="twice"),
        pytest.param([("x.txt", b"")], "not as we write it", id="foreign"),
        pytest.param([("../x.npy", b"")], "is no array", id="climbs"),
    ],
)
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_foreign_members_are_refused(tmp_path, members, message):
    with pytest.raises(ArtifactError, match=message):
        read_npz(archive(tmp_path / "x.npz", *members), "test")
    assert sorted(tmp_path.iterdir()) == [tmp_path / "x.npz"]


@pytest.mark.parametrize("kind", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_other_compressions_are_refused(tmp_path, kind):
    with zipfile.ZipFile(tmp_path / "x.npz", "w", kind) as file:
        file.writestr("meta.json", json.dumps(META))
    with pytest.raises(ArtifactError, match="not as we write it"):
        read_npz_meta(tmp_path / "x.npz", "test")


@pytest.mark.parametrize(
    ("meta", "message"),
    [
        (b'{"schema": "other", "schema_version": 1}', "expected schema 'test', found 'other'"),
        (b'{"schema": "test", "schema_version": 99}', "expected schema version 1, found 99"),
        (b"[1]", "expected schema 'test', found None"),
        (b"{", "not a readable result file"),
        (b"\xff", "not a readable result file"),
        (b"[" * 100_000, "not a readable result file"),
    ],
    ids=["other", "newer", "list", "cut", "latin1", "deep"],
)
def test_other_metas_are_refused(tmp_path, meta, message):
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as file:
        file.writestr("meta.json", meta)
    with pytest.raises(ArtifactError, match=message):
        read_npz(tmp_path / "x.npz", "test")


@pytest.mark.parametrize("leave_out", ["keypoints", "track_ids", "frame_offsets", "time_s"])
def test_a_record_without_a_part_is_refused(tmp_path, leave_out):
    write_poses(tmp_path / "p.npz", tmp_path, sequence(), {})
    arrays, meta = read_npz(tmp_path / "p.npz", POSE_SCHEMA)
    del arrays[leave_out]
    write_npz(tmp_path / "p.npz", tmp_path, arrays, meta)
    with pytest.raises(ArtifactError, match=f"not a pose record: '{leave_out}'"):
        read_poses(tmp_path / "p.npz")


def test_no_file_and_no_permission_are_distinguished_from_damage(tmp_path):
    for read in (lambda p: read_poses(p), lambda p: read_npz_meta(p, "test"), read_pickle):
        with pytest.raises(FileNotFoundError, match="found none"):
            read(tmp_path / "gone")
        with pytest.raises(FileNotFoundError):
            read(tmp_path)  # a folder


def test_a_table_is_read_by_excel_and_by_us(tmp_path):
    """Excel on Korean Windows takes a file without a byte order mark for its own code page."""
    rows = [["video", "class"], ["싸움/1.mp4", "Fight"], ["a\nb, c", 'say "x"']]
    path = tmp_path / "t.csv"
    write_csv(path, tmp_path, rows)
    assert path.read_bytes().startswith(b"\xef\xbb\xbfvideo,class\n")
    with path.open(newline="", encoding="utf-8-sig") as file:
        assert list(csv.reader(file)) == rows
    table = read_table(path, ["video"])
    assert [row.cells["video"] for row in table] == ["싸움/1.mp4", "a\nb, c"]
    write_csv(path, tmp_path, rows, byte_order_mark=False)
    assert path.read_bytes().startswith(b"video,class\n")
    assert read_table(path, ["video"]) == table


def test_a_full_disk_is_named_with_the_file(tmp_path):
    code = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))\n"
        "from pathlib import Path\n"
        "from recognizer.storage.artifacts import write_json\n"
        "folder = Path(sys.argv[1])\n"
        "try: write_json(folder / 'a.json', folder, [1])\n"
        "except OSError as error: sys.exit(str(error))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], cwd=ROOT, capture_output=True, check=False
    )
    assert done.stderr.decode().strip() == f"[Errno 27] File too large: '{tmp_path / 'a.json'}'"
    assert [p.name for p in tmp_path.rglob("*") if p.is_file()] == []
