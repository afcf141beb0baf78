"""The packages that a command loads in a fresh interpreter."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def loaded_by(*command: str) -> set[str]:
    """Return the packages that a fresh interpreter has loaded at the end of a command."""
    report = (
        "import atexit, sys\n"
        "atexit.register(lambda: sys.stderr.write('LOADED ' + ' '.join(sys.modules)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", report + "\n".join(command)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    return {name.partition(".")[0] for name in done.stderr.partition("LOADED ")[2].split()}
