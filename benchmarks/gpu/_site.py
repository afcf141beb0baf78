"""The packages that travel: one archive, unpacked where they are missing. Standard library only."""

import compileall
import hashlib
import importlib.util
import lzma
import os
import shutil
import sys
import tarfile
from pathlib import Path

from benchmarks.gpu._part import PACK, ROOT

ARCHIVE = PACK / "site.tar.xz"
SITE = ROOT / "output" / "gpu_site"
"""Where the archive is unpacked; not below ``.gpu``, so that it does not travel twice."""
MARK = "archive.sha256"
PYTHON = (3, 12)
"""What the archive's compiled packages are built for."""


def environment(archive: Path = ARCHIVE, folder: Path = SITE) -> dict[str, str]:
    """Return the environment of a part's process: the archive's packages where there are none.

    Raises:
        RuntimeError: mmpose is not installed and the archive cannot serve, with what to do.

    """
    found = dict(os.environ)
    paths = [str(ROOT)]
    if importlib.util.find_spec("mmpose") is None:
        paths.append(str(unpack(archive, folder)))
    old = found.get("PYTHONPATH")
    found["PYTHONPATH"] = os.pathsep.join(paths + ([old] if old else []))
    return found


def unpack(archive: Path = ARCHIVE, folder: Path = SITE) -> Path:
    """Unpack the archive unless that very archive is unpacked there. Raises as ``environment``."""
    if not archive.is_file():
        raise RuntimeError(
            f"expected the training set's packages, or {archive}; where there is a network, run "
            "`make setup-dev`, or `python -m benchmarks.gpu.pack` and bring the folder .gpu here"
        )
    if sys.version_info[:2] != PYTHON:
        raise RuntimeError(
            f"{archive} holds packages built for Python {PYTHON[0]}.{PYTHON[1]}, this is "
            f"{sys.version_info[0]}.{sys.version_info[1]}; run `make setup-dev`"
        )
    digest = hashlib.sha256(archive.read_bytes()).hexdigest()
    mark = folder / MARK
    if mark.is_file() and mark.read_bytes() == digest.encode():
        return folder
    scratch = folder.with_name(f"{folder.name}.{os.getpid()}")
    try:
        _extract(archive, scratch, folder)
        (scratch / MARK).write_text(digest)
        shutil.rmtree(folder, ignore_errors=True)  # what an older archive brought
        scratch.rename(folder)
    except (OSError, EOFError, tarfile.TarError, lzma.LZMAError) as error:
        raise RuntimeError(
            f"{archive}: expected an archive that can be unpacked into {folder}: {error}; free "
            "room there, or make it again with `python -m benchmarks.gpu.pack --only site`"
        ) from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return folder


def _extract(archive: Path, scratch: Path, folder: Path) -> None:
    """Unpack and compile into ``scratch`` what will lie in ``folder``."""
    with tarfile.open(archive, "r:xz") as packed:
        packed.extractall(scratch, filter="data")
    # By all cores, not by each part. Tracebacks name the files where they will be.
    compileall.compile_dir(
        str(scratch), quiet=2, workers=0, stripdir=str(scratch), prependdir=str(folder)
    )
