"""What a person reads on the console beside the log: the doctor's findings."""

import sys

from annotation.progress import Watch
from recognizer.config import Config
from recognizer.doctor import examine

_SIGNS = {True: "ok      ", False: "MEND    ", None: "optional"}


def doctor(config: Config, watch: Watch) -> int:
    """Show what is here, what is missing and what mends it; 1 if anything must be mended."""
    findings = examine(config)
    for finding in findings:  # plain lines: a remedy that a table cuts short helps nobody
        sys.stdout.write(f"{_SIGNS[finding.ok]}  {finding.name}: {finding.found}\n")
        if finding.remedy:
            sys.stdout.write(f"          -> {finding.remedy}\n")
    return int(any(finding.ok is False for finding in findings))
