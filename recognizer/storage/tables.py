"""CSV tables that people write by hand: every problem is named with file and line."""

import csv
import difflib
import io
import unicodedata
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from recognizer.config.file import ConfigError
from recognizer.names import nfc

_MAX_BYTES = 64 * 2**20
_MAX_PROBLEMS = 20
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class TableRow:
    """One row of a table: the line it ends on (from 1) and its cells by column name."""

    line: int
    cells: dict[str, str]


class RowError(ValueError):
    """A row that cannot be used; the reader adds file and line."""


def read_table(path: Path, columns: Sequence[str], optional: Sequence[str] = ()) -> list[TableRow]:
    """Read a CSV file with a header; blanks around cells are dropped, empty lines skipped.

    UTF-8 with or without a byte order mark, any line ends, quoted cells, columns in any
    order; other columns are ignored.

    Args:
        path: the file.
        columns: columns that must be there.
        optional: columns that may be there.

    Raises:
        ConfigError: no such file, too large, not UTF-8, columns missing or twice, or rows
            with more or fewer cells than the header; with file and line.

    """
    lines = csv.reader(io.StringIO(_read_text(path), newline=""), strict=True)
    try:
        header = [cell.strip() for cell in next(lines, [])]
        _check_header(path, header, columns, optional)
        rows = []
        for cells in lines:
            if not any(cell.strip() for cell in cells):
                continue
            if len(cells) != len(header):
                raise ConfigError(
                    f"{path}:{lines.line_num}: expected {len(header)} cells as in the header, "
                    f"got {len(cells)}"
                )
            stripped = (cell.strip() for cell in cells)
            rows.append(TableRow(lines.line_num, dict(zip(header, stripped, strict=True))))
    except csv.Error as error:
        raise ConfigError(f"{path}:{lines.line_num}: not a CSV table: {error}") from error
    return rows


def _read_text(path: Path) -> str:
    if not path.is_file():
        raise ConfigError(f"expected a CSV file, found none at {path}")
    if path.stat().st_size > _MAX_BYTES:
        raise ConfigError(f"{path}: expected a CSV file of at most {_MAX_BYTES} bytes")
    data = path.read_bytes()
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise ConfigError(
            f"{path}:{line}: expected UTF-8 text, found the byte 0x{data[error.start]:02x}; "
            "save the table as CSV in UTF-8"
        ) from error


def _check_header(
    path: Path, header: Sequence[str], columns: Sequence[str], optional: Sequence[str]
) -> None:
    missing = [name for name in columns if name not in header]
    if missing:
        raise ConfigError(
            f"{path}:1: expected the columns {','.join(columns)}, with commas between them; "
            f"missing: {', '.join(missing)}; found: {', '.join(header) or 'nothing'}"
        )
    twice = sorted({n for n in (*columns, *optional) if list(header).count(n) > 1})
    if twice:
        raise ConfigError(f"{path}:1: expected every column once, got {', '.join(twice)} twice")


def parse_rows(path: Path, rows: Iterable[TableRow], parse: Callable[[TableRow], T]) -> list[T]:
    """Return what ``parse`` makes of each row.

    Raises:
        ConfigError: the first rows (up to 20) for which ``parse`` raised RowError.

    """
    parsed: list[T] = []
    problems: list[str] = []
    for row in rows:
        if len(problems) == _MAX_PROBLEMS:
            problems.append("... the rows after these have not been looked at")
            break
        try:
            parsed.append(parse(row))
        except RowError as error:
            problems.append(f"{path}:{row.line}: {error}")
    if problems:
        raise ConfigError("\n".join(problems))
    return parsed


def known_as(text: str, names: Collection[str]) -> str | None:
    """Return the name that a text spells, None if there is none."""
    return text if text in names else next((n for n in names if nfc(n) == nfc(text)), None)


class Names:
    """Known video names; a name in a table is only ever looked up here, never opened."""

    def __init__(self, names: Collection[str]) -> None:
        self._names = frozenset(names)
        self._by_normal_form: dict[str, list[str]] = {}
        for name in names:
            self._by_normal_form.setdefault(nfc(name), []).append(name)

    def find(self, text: str) -> str:
        """Return the known name that ``text`` means.

        Raises:
            RowError: there is none; the message suggests a similar one.

        """
        name = self._known(text)
        if name is None:
            similar = self.similar(text)
            hint = "" if similar is None else f"; did you mean {similar!r}?"
            raise RowError(f"unknown video {text!r}{hint}")
        return name

    def _known(self, text: str) -> str | None:
        if text in self._names:
            return text
        same = self._by_normal_form.get(nfc(text), [])
        return same[0] if len(same) == 1 else None

    def knows(self, text: str) -> bool:
        """Return whether ``find`` would find it."""
        return self._known(text) is not None

    def means(self, text: str) -> bool:
        """Return whether it is a known name, or one written with Windows separators."""
        return self.knows(text) or self.knows(text.replace("\\", "/"))

    def similar(self, text: str) -> str | None:
        """Return the known name that an unknown one probably means, None without one."""
        by_path = {nfc(name.replace("\\", "/")): name for name in sorted(self._names)}
        path = nfc(text.replace("\\", "/"))
        last = path.rsplit("/", 1)[-1]
        same_end = [known for known in by_path if last and known.rsplit("/", 1)[-1] == last]
        close = closest(path, same_end or by_path, 0.0 if same_end else 0.9)
        return None if close is None else by_path[close]


def closest(word: str, known: Collection[str], at_least: float = 0.6) -> str | None:
    """Return the most similar known word, None if none is similar enough.

    Hangul is compared by its letters: words of two syllables may differ in one of them.
    """
    by_letters = {_letters(name): name for name in sorted(known, reverse=True)}
    close = difflib.get_close_matches(_letters(word), list(by_letters), n=1, cutoff=at_least)
    return by_letters[close[0]] if close else None


def _letters(word: str) -> str:
    return unicodedata.normalize("NFD", word.casefold())


def did_you_mean(word: str, known: Collection[str], at_least: float = 0.6) -> str:
    """Return '; did you mean ...?' with the most similar known word, or nothing."""
    close = closest(word, known, at_least)
    return "" if close is None else f"; did you mean {close!r}?"
