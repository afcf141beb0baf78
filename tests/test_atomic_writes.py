"""A file under its final name is whole or absent, whatever happens while it is written."""

import itertools
import os
import random
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from recognizer.storage.artifacts import (
    SCRATCH_FOLDER,
    atomic_path,
    read_npz,
    remove_stale_scratch,
    write_json,
    write_text,
)
from recognizer.storage.pickles import read_pickle

ROOT = Path(__file__).resolve().parents[1]
META = {"schema": "test", "schema_version": 1}


WRITER = textwrap.dedent(
    """
    import sys
    from pathlib import Path
    import numpy as np
    from recognizer.storage.artifacts import write_npz
    from recognizer.storage.pickles import write_pickle_list
    folder = Path(sys.argv[1])
    noise = np.random.default_rng(0).random(60_000)
    print("ready", flush=True)
    i = 0
    while True:
        content = np.concatenate([[i], noise])
        meta = {"schema": "test", "schema_version": 1, "i": i}
        write_npz(folder / "sub" / "a.npz", folder, {"x": content}, meta)
        write_pickle_list(folder / "b.pkl", folder, iter([{"i": i, "x": content}]))
        i += 1
    """
)


def kill_writers(folder: Path, kills: int) -> int:
    """Kill a writing process again and again; return how many kills met a finished file."""
    chance = random.Random(5)
    found = 0
    for _ in range(kills):
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(folder)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"ready\n"
        time.sleep(chance.uniform(0, 0.3))
        writer.send_signal(signal.SIGKILL)
        writer.wait(timeout=30)
        writer.stdout.close()
        if (folder / "sub" / "a.npz").exists():
            arrays, meta = read_npz(folder / "sub" / "a.npz", "test")
            assert arrays["x"][0] == meta["i"]
            assert len(arrays["x"]) == 60_001
            found += 1
        if (folder / "b.pkl").exists():
            (item,) = read_pickle(folder / "b.pkl")
            assert item["x"][0] == item["i"]
    return found


def test_kill_9_leaves_no_partial_file(tmp_path):
    assert kill_writers(tmp_path, 10) > 2
    names = {p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*") if p.is_file()}
    scratch = {name for name in names if name.startswith(SCRATCH_FOLDER)}
    assert names - scratch == {"sub/a.npz", "b.pkl"}
    remove_stale_scratch(tmp_path)
    assert not (tmp_path / SCRATCH_FOLDER).exists()
    assert (tmp_path / "b.pkl").exists()
    remove_stale_scratch(tmp_path)  # nothing to remove is no error


@pytest.mark.slow
def test_100_kills_leave_no_partial_file(tmp_path):
    assert kill_writers(tmp_path, 100) > 50


FULL_DISK = textwrap.dedent(
    """
    import os, resource, signal, sys
    from pathlib import Path
    import numpy as np
    from recognizer.storage.artifacts import write_json, write_npz
    from recognizer.storage.pickles import write_pickle_list
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    folder, kind = Path(sys.argv[1]), sys.argv[2]
    big = np.random.default_rng(0).random(300_000)
    resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, 500_000))
    meta = {"schema": "test", "schema_version": 1}
    try:
        if kind == "npz":
            write_npz(folder / "a", folder, {"x": big}, meta)
        elif kind == "pickle":
            write_pickle_list(folder / "a", folder, ({"x": big} for _ in range(3)))
        else:
            write_json(folder / "a", folder, big.tolist())
    except OSError as error:
        print("OSError", error.errno, error)
    """
)


@pytest.mark.parametrize("kind", ["npz", "pickle", "json"])
@pytest.mark.parametrize("before", [False, True], ids=["new", "replacing"])
def test_a_full_disk_is_an_error_and_leaves_nothing(tmp_path, kind, before):
    if before:
        (tmp_path / "a").write_text("old")
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(tmp_path), kind],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.stdout.startswith("OSError 27")
    assert list((tmp_path / SCRATCH_FOLDER).iterdir()) == []
    assert [p.name for p in tmp_path.iterdir() if p.is_file()] == (["a"] if before else [])
    assert not before or (tmp_path / "a").read_text() == "old"


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, OSError])
def test_an_error_while_writing_leaves_the_old_file(tmp_path, error):
    final = tmp_path / "a.bin"
    final.write_text("old")

    def write_half() -> None:
        with atomic_path(final, tmp_path) as scratch:
            scratch.write_text("half")
            raise error

    with pytest.raises(error):
        write_half()
    assert final.read_text() == "old"
    assert list((tmp_path / SCRATCH_FOLDER).iterdir()) == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_folder_is_an_error(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(PermissionError):
        write_json(tmp_path / "a.json", tmp_path, {})
    tmp_path.chmod(0o700)


def test_a_final_name_that_is_a_folder_is_an_error(tmp_path):
    (tmp_path / "a.json").mkdir()
    with pytest.raises(OSError, match=r"a\.json"):
        write_json(tmp_path / "a.json", tmp_path, {})
    assert list((tmp_path / SCRATCH_FOLDER).iterdir()) == []


def test_every_step_may_fail(tmp_path, monkeypatch):
    """Each system call of a write fails once: error, no new file, no scratch file left."""
    for fail_at in itertools.count():
        counter = itertools.count()

        def failing(call, counter=counter, fail_at=fail_at):
            def wrapped(*args, **kwargs):
                if next(counter) == fail_at:
                    raise OSError(28, "No space left on device")
                return call(*args, **kwargs)

            return wrapped

        final = tmp_path / f"{fail_at}" / "a.bin"
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", failing(os.fsync))
            patch.setattr(os, "open", failing(os.open))
            patch.setattr(Path, "replace", failing(Path.replace))
            patch.setattr(Path, "mkdir", failing(Path.mkdir))
            try:
                write_text(final, tmp_path, "x")
            except OSError:
                pass
            else:
                break
        assert not (tmp_path / SCRATCH_FOLDER).exists() or (
            list((tmp_path / SCRATCH_FOLDER).iterdir()) == []
        )
        assert not final.exists() or final.read_bytes() == b"x"
    assert fail_at >= 5
