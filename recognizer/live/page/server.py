"""The page's web server, in a thread of its own."""

import errno
import socket
import threading
import time

import uvicorn

from recognizer.config.alerts import RulesConfig
from recognizer.config.page import PageConfig
from recognizer.live.drawn_zones import ZoneBook
from recognizer.live.page.app import make_app
from recognizer.live.page.connections import PatientProtocol
from recognizer.live.page.health import Metrics
from recognizer.live.page.site import make_site
from recognizer.live.page.state import LiveState
from recognizer.live.store import Store

_START_S, _STOP_S = 10.0, 2.0
_MAX_REQUESTS, _MAX_HEADERS, _KEEP_ALIVE_S = 256, 32 * 1024, 5


class PageError(RuntimeError):
    """The page cannot be served; the message says why and what to do."""


class PageServer:
    """Serve the page until it is stopped.

    Args:
        config: where it listens and who may see it.
        store: events and reviews.
        live: the running program.
        rules: thresholds, to draw them.
        metrics: figures; None: without lags.
        zones: of the cameras; None: those that are drawn, of no config.

    Attributes:
        url: where the page is.

    Raises:
        PageError: the address is in use or not one of this machine.
        ValueError: no secret where the config says that one is.
        StoreError: the users' database cannot be used.

    """

    def __init__(
        self,
        config: PageConfig,
        store: Store,
        live: LiveState,
        *,
        rules: RulesConfig | None = None,
        metrics: Metrics | None = None,
        zones: ZoneBook | None = None,
    ) -> None:
        self._socket = _listening(config.host, config.port)
        self.url = _url(self._socket)
        try:
            self._site = make_site(
                config,
                store,
                live,
                rules or RulesConfig(),
                metrics or Metrics(live, store.path),
                zones or ZoneBook(store),
            )
        except BaseException:
            self._socket.close()
            raise
        self._server = uvicorn.Server(
            uvicorn.Config(
                make_app(self._site),
                log_config=None,
                access_log=False,
                lifespan="off",
                ws="none",
                http=PatientProtocol,
                loop="asyncio",
                proxy_headers=False,  # a header of the visitor's must not evade the login limit
                server_header=False,
                limit_concurrency=_MAX_REQUESTS,
                h11_max_incomplete_event_size=_MAX_HEADERS,
                timeout_keep_alive=_KEEP_ALIVE_S,
                timeout_graceful_shutdown=1,
            )
        )
        self._thread = threading.Thread(
            target=self._server.run,
            kwargs={"sockets": [self._socket]},
            name="page",
            daemon=True,
        )

    def start(self) -> None:
        """Begin to serve; returns when requests are answered.

        Raises:
            PageError: the server did not start.

        """
        self._thread.start()
        end_s = time.monotonic() + _START_S
        while not self._server.started:
            if not self._thread.is_alive() or time.monotonic() > end_s:
                raise PageError(f"{self.url}: the page did not start; the log says why")
            time.sleep(0.01)

    def stop(self) -> None:
        """End within 2 s, whoever is connected."""
        self._site.changes.close()
        self._server.should_exit = True
        if self._thread.is_alive():
            self._thread.join(_STOP_S)
        self._socket.close()


def _listening(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except OSError as error:
        where = f"page: {host} port {port}"
        if error.errno == errno.EADDRINUSE:
            raise PageError(
                f"{where}: expected a free port, another program listens there; end it or set "
                "another port"
            ) from error
        raise PageError(
            f"{where}: expected an address of this machine: {error.strerror}; set another host"
        ) from error


def _url(listening: socket.socket) -> str:
    host, port = listening.getsockname()[:2]
    return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"
