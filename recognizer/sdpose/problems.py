"""Problems of a data set: grouped by kind, counted, and the first of each kind named."""

from collections.abc import Mapping
from pathlib import Path

_NAMED = 5  # of the problems of a kind, how many a message names
_LONGEST = 160  # characters of a wrong value
_MANY, _FEW = 0.05, 5  # a share of all; so few are never many unless they are most of all


def are_many(found: int, total: int) -> bool:
    """Return whether so many of all have a problem that a conversion must have caused it."""
    return found > max(_MANY * total, min(_FEW, total / 2))


Problem = tuple[str, object]
"""The kind of a problem, and what came instead of what was expected."""


class DatasetProblems:
    """Collects problems; each kind is reported once, with what came and where.

    A kind is a sentence that says what was expected and what to do, with ``{got}`` where what
    came instead is put in.
    """

    def __init__(self) -> None:
        self._found: dict[str, list[tuple[str, str]]] = {}
        self._counts: dict[str, int] = {}

    def add(self, kind: str, where: str, got: object = "") -> None:
        """Add a problem of a kind."""
        self._counts[kind] = self._counts.get(kind, 0) + 1
        if self._counts[kind] <= _NAMED:
            text = got if isinstance(got, str) else repr(got)
            self._found.setdefault(kind, []).append((where[:_LONGEST], text[:_LONGEST]))

    def merge(self, others: "DatasetProblems") -> None:
        """Add the problems of others; counts of a kind add up."""
        for kind, count in others._counts.items():
            named = self._found.get(kind, []) + others._found[kind]
            self._found[kind] = named[:_NAMED]
            self._counts[kind] = self._counts.get(kind, 0) + count

    def __len__(self) -> int:
        return sum(self._counts.values())

    @property
    def counts(self) -> Mapping[str, int]:
        """How many there are of each kind."""
        return self._counts

    def lines(self) -> list[str]:
        """Return one text per kind: the first problem in full, then the places of the others."""
        texts = []
        for kind, found in self._found.items():
            where, got = found[0]
            text = f"{where}: {kind.replace('{got}', got)}"
            if count := self._counts[kind] - 1:
                others = ", ".join(place for place, _ in found[1:])
                dots = ", ..." if count >= _NAMED else ""
                text += f" ({self._counts[kind]} in all; also {others}{dots})"
            texts.append(text)
        return texts

    def message(self, path: Path) -> str:
        """Return what is wrong with the file."""
        lines = self.lines()
        if len(lines) == 1:
            return f"{path}: {lines[0]}"
        return f"{path}: {len(self)} faults of {len(lines)} kinds\n- " + "\n- ".join(lines)

    def refuse(self, path: Path) -> None:
        """Raise if there is any.

        Raises:
            ValueError: all problems, by kind.

        """
        if self._counts:
            raise ValueError(self.message(path))
