"""Connections of the page: none may wait for long without a request, and there is a limit.

uvicorn gives a connection that sends nothing, or the head of a request letter by letter, as long as
it likes. Many of them would take the program's file descriptors, which the cameras need too.
"""

import asyncio

from uvicorn.protocols.http.h11_impl import H11Protocol

MAX_CONNECTIONS = 200
REQUEST_S = 10.0


class PatientProtocol(H11Protocol):
    """HTTP/1.1 on a connection that is closed where the head of a request takes longer than 10 s.

    ``visit`` limits the time of its body.

    Where all connections are taken, the one that has waited longest makes room for a new one; where
    all are being answered, the new one is closed.
    """

    _waiting: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take a connection."""
        super().connection_made(transport)
        if len(self.connections) > MAX_CONNECTIONS:
            self._make_room()
        if not transport.is_closing():
            self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget a connection."""
        self._wait_no_more()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take a part of a request."""
        super().data_received(data)
        if self._is_answering():
            self._wait_no_more()
        elif self._waiting is None and not self.transport.is_closing():
            self._wait()

    @property
    def waits_since_s(self) -> float | None:
        """Since when a request is waited for, on the loop's clock; None: one is answered."""
        if self._is_answering():
            return None
        return 0.0 if self._waiting is None else self._waiting.when() - REQUEST_S

    def abort(self) -> None:
        """Close the connection at once; what was not sent is lost."""
        self.connections.discard(self)  # now: the loop comes to it later
        self.transport.abort()

    def _is_answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _wait(self) -> None:
        self._waiting = self.loop.call_later(REQUEST_S, self.abort)

    def _wait_no_more(self) -> None:
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None

    def _make_room(self) -> None:
        others = [
            (one.waits_since_s, number, one)
            for number, one in enumerate(self.connections)
            if isinstance(one, PatientProtocol) and one is not self
        ]
        waiting = [(since, n, one) for since, n, one in others if since is not None]
        (min(waiting)[2] if waiting else self).abort()
