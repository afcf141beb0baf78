"""What every sink offers, and how it says that a notice did not arrive."""

import json
from typing import Protocol

from recognizer.live.store import Notice


class SinkError(RuntimeError):
    """A notice did not arrive.

    The message is kept in the database and shown: it never holds a secret, an address's path, or
    what a server answered.

    Attributes:
        final: this notice will never be taken, whatever the number of tries.

    """

    def __init__(self, message: str, *, final: bool = False) -> None:
        super().__init__(message)
        self.final = final


class Sink(Protocol):
    """Takes notices one after another, from one thread."""

    def send(self, notice: Notice) -> None:
        """Return once the notice has arrived.

        Raises:
            SinkError: it did not, or may not have.

        """

    def close(self) -> None:
        """Give up what is under way and let go of everything; from any thread."""


def notice_body(notice: Notice) -> dict[str, object]:
    """Return what sinks send: the notice's key, and the event."""
    return {"key": notice.key, "event": notice.event.as_dict()}


def notice_bytes(notice: Notice) -> bytes:
    """Return the same as one line of JSON in ASCII, without a line break."""
    return json.dumps(notice_body(notice), allow_nan=False, separators=(",", ":")).encode()
