"""Write what is shipped: whole or not at all, with nothing beside it."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from recognizer.storage.artifacts import SCRATCH_FOLDER, atomic_path


@contextlib.contextmanager
def written(output: Path) -> Iterator[Path]:
    """Give a scratch path; what stands there at the end becomes ``output`` in one step.

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
