"""Lists as pickles, the form of mmaction2's data sets.

They are written item by item and read without running code: the unpickler knows NumPy arrays and
plain builtins only (``safe_pickle``).
"""

import pickle
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from recognizer.storage import safe_pickle
from recognizer.storage.artifacts import ArtifactError, atomic_path


class _StreamedList:
    """Pickles as a genuine list while its items are made one after another."""

    def __init__(self, items: Iterable[object]) -> None:
        self._items = items

    def __reduce__(self) -> tuple[type, tuple[()], None, Iterator[object]]:
        return (list, (), None, iter(self._items))


def write_pickle_list(final: Path, root: Path, items: Iterable[object]) -> None:
    """Pickle a list without ever holding all of its items."""
    with atomic_path(final, root) as scratch, scratch.open("wb") as file:
        pickler = pickle.Pickler(file, protocol=4)
        pickler.fast = True  # no memo: it would keep every item alive until the end
        pickler.dump(_StreamedList(items))


def read_pickle(path: Path) -> Any:
    """Load a pickle that holds only NumPy arrays and plain builtins; nothing is executed.

    Raises:
        FileNotFoundError: no such file.
        ArtifactError: damaged, or naming anything that could run code.

    """
    if not path.is_file():
        raise FileNotFoundError(f"expected a pickle at {path}, found none")
    try:
        return safe_pickle.loads(path.read_bytes())
    except safe_pickle.UnsafePickleError as error:
        raise ArtifactError(f"{path}: {error}") from error
    except Exception as error:  # a damaged pickle can raise nearly anything
        reason = str(error) or type(error).__name__
        raise ArtifactError(f"{path}: not a readable pickle: {reason}") from error
