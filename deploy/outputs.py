"""Write models and reports, whole or not at all."""

import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from recognizer.storage.artifacts import SCRATCH_FOLDER, atomic_path, write_json, write_text

logger = logging.getLogger(__name__)


@contextlib.contextmanager
def written(output: Path) -> Iterator[Path]:
    """Yield a scratch path; the file there becomes ``output`` in one step at the end.

    Raises:
        OSError: it cannot be written there.

    """
    try:
        with atomic_path(output, output.parent) as scratch:
            yield scratch
    except OSError as error:
        raise OSError(
            f"deploy.output: expected a file that can be written, got {output}: "
            f"{error.strerror or error}"
        ) from error
    finally:
        tidy(output.parent)


def tidy(folder: Path) -> None:
    """Remove the folder of unfinished files, unless another process has one in it."""
    with contextlib.suppress(OSError):
        (folder / SCRATCH_FOLDER).rmdir()


def write_report(path: Path, value: dict[str, Any], table: str) -> None:
    """Log a table; write it and its values as ``<path>.md`` and ``<path>.json``."""
    for line in table.splitlines():
        logger.info("%s", line)
    write_json(path.with_suffix(".json"), path.parent, value)
    write_text(path.with_suffix(".md"), path.parent, f"{table}\n")
    logger.info("the report is in %s", path.with_suffix(".md"))
