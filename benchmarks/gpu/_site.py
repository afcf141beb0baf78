"""The packages that travel: one archive, unpacked where they are missing. Standard library only."""

import compileall
import hashlib
import importlib.util
import os
import sys
import tarfile
from pathlib import Path

from benchmarks.gpu._part import PACK, ROOT

ARCHIVE = PACK / "site.tar.xz"
SITE = ROOT / "output" / "gpu_site"
"""Where the archive is unpacked; not below ``.gpu``, so that it does not travel twice."""
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
    mark = folder / "archive.sha256"
    if not (mark.is_file() and mark.read_text() == digest):
        folder.mkdir(parents=True, exist_ok=True)
        with tarfile.open(archive) as packed:
            packed.extractall(folder, filter="data")
        compileall.compile_dir(str(folder), quiet=2, workers=0)  # by all cores, not by each part
        mark.write_text(digest)
    return folder
