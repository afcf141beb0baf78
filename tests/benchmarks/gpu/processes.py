"""Processes that a test has killed."""

import time
from pathlib import Path


def ended(pid: int) -> bool:
    """Tell whether a killed process is gone, or only waits to be taken off the list."""
    status = Path(f"/proc/{pid}/stat")
    for _ in range(50):
        if not status.exists() or status.read_text().rpartition(")")[2].split()[0] == "Z":
            return True
        time.sleep(0.1)
    return False
