"""Processes that tests have started."""

from pathlib import Path


def is_ended(pid):
    """Return whether a process is gone, or only waits to be taken off the list."""
    status = Path(f"/proc/{pid}/stat")
    try:
        return status.read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True
