"""What a benchmark needs beside the dev set: peers to compare with, and footage.

Where something is missing the benchmark ends with ``SKIPPED`` and says which command mends it, so
that ``python -m benchmarks`` goes on with the next one.
"""

import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path

SKIPPED = 77  # the exit code that automake and meson take for it, too
INSTALL = "make setup-benchmark"


def need(peers: Sequence[str] = (), files: Sequence[Path] = ()) -> None:
    """End the program with ``SKIPPED`` where a package or a file is missing."""
    lacking = [name for name in peers if importlib.util.find_spec(name) is None]
    if lacking:
        sys.stderr.write(f"skipped: {', '.join(lacking)} is not installed; run `{INSTALL}`\n")
    absent = [str(path) for path in files if not path.exists()]
    if absent:
        sys.stderr.write(
            f"skipped: needs {', '.join(absent)}, which is not here; --help says how to name "
            "another place, where there is a choice\n"
        )
    if lacking or absent:
        sys.exit(SKIPPED)
