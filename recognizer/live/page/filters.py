"""What a visitor asks for in an address: filters, the place in a list, times."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import get_args
from urllib.parse import urlencode

from recognizer.live.events import State
from recognizer.live.store import Verdict
from recognizer.live.store_reads import Cursor, Filter

MAX_TEXT = 200
UNREVIEWED = "none"


@dataclass(frozen=True, slots=True)
class Fields:
    """The fields of the filter as the visitor filled them; empty: all."""

    camera: str = ""
    class_name: str = ""
    state: str = ""
    review: str = ""
    from_: str = ""
    until: str = ""

    @property
    def query(self) -> str:
        """Return them for an address, without those that are empty."""
        names = {"class_name": "class", "from_": "from"}
        values = {name: getattr(self, name) for name in self.__slots__}
        kept = {names.get(name, name): value for name, value in values.items() if value}
        return urlencode(kept, errors="replace")

    def chosen(self) -> Filter:
        """Return the filter.

        Raises:
            ValueError: a state, review or time that there is not.

        """
        if self.state and self.state not in get_args(State):
            raise ValueError(f"state: expected {', '.join(get_args(State))}")
        if self.review and self.review not in {UNREVIEWED, *get_args(Verdict)}:
            raise ValueError(f"review: expected {UNREVIEWED}, {', '.join(get_args(Verdict))}")
        review = "" if self.review == UNREVIEWED else self.review or None
        return Filter(
            camera=self.camera or None,
            class_name=self.class_name or None,
            state=self.state or None,
            review=review,
            from_utc_s=_utc_s(self.from_),
            until_utc_s=_utc_s(self.until),
        )


def fields_of(query: Mapping[str, str]) -> Fields:
    """Return the filter's fields of an address.

    Raises:
        ValueError: a text that is too long or that no store holds.

    """
    values = [query.get(n, "") for n in ("camera", "class", "state", "review", "from", "until")]
    for value in values:
        checked_text(value)
    return Fields(*values)


def checked_text(text: str) -> str:
    """Return a text that SQLite can hold.

    Raises:
        ValueError: too long, or no Unicode.

    """
    if len(text) > MAX_TEXT:
        raise ValueError(f"expected at most {MAX_TEXT} characters, got {len(text)}")
    text.encode("utf-8")
    return text


def _utc_s(text: str) -> float | None:
    """Return a local time such as 2030-01-31T14:00 as seconds since 1970."""
    if not text:
        return None
    try:
        return datetime.fromisoformat(text).timestamp()
    except (OverflowError, OSError) as error:
        raise ValueError("expected a time from 1970 on") from error


def cursor_text(cursor: Cursor | None) -> str:
    """Return a place in the list for an address."""
    return "" if cursor is None else f"{cursor.start_utc_s!r}~{cursor.event_id}"


def cursor_of(text: str) -> Cursor | None:
    """Return the place in the list; None for no text.

    Raises:
        ValueError: no such place.

    """
    if not text:
        return None
    start, _, event_id = checked_text(text).partition("~")
    start_utc_s = float(start)
    if not math.isfinite(start_utc_s) or not event_id:
        raise ValueError("after: expected seconds and an event's id")
    return Cursor(start_utc_s, event_id)
