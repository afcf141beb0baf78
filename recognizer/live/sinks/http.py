"""Requests to HTTP servers: time limits as a whole, short answers, no redirects."""

import time
from collections.abc import Mapping
from urllib.parse import urlsplit

import requests
import urllib3

from recognizer.live.sinks.sink import SinkError

MAX_ANSWER = 64 * 1024
# Whatever the number of tries, a server that answers this to a notice answers it again.
_FINAL = {400, 405, 406, 410, 411, 413, 414, 415, 422, 431, 501}


def server_of(url: str) -> str:
    """Return what of an address may be shown: neither user nor path nor query."""
    parts = urlsplit(url)
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    return f"{parts.scheme}://{host}" + (f":{parts.port}" if parts.port else "")


class _Session(requests.Session):
    """A session that takes a redirect for an answer: requests would read its body, of any size."""

    def get_redirect_target(self, resp: requests.Response) -> None:
        """Return no target, so that requests neither follows nor reads it."""


class HttpClient:
    """Sends requests to one server over connections that stay open.

    Args:
        timeout_s: for connecting, for each wait, and for the answer's body as a whole.
        headers: sent with every request.

    """

    def __init__(self, timeout_s: float, headers: Mapping[str, str]) -> None:
        self._timeout_s = timeout_s
        self._session = _Session()
        self._session.trust_env = False  # neither proxies nor passwords from outside the config
        self._session.headers.update({"User-Agent": "recognizer", **headers})

    def close(self) -> None:
        """Close the connections."""
        self._session.close()

    def send(self, method: str, url: str, body: bytes, headers: Mapping[str, str]) -> bytes:
        """Return the answer to a request.

        Raises:
            SinkError: no answer in time, a status other than 2xx, or too long an answer.

        """
        server = server_of(url)
        until_s = time.monotonic() + self._timeout_s
        try:
            with self._session.request(
                method,
                url,
                data=body,
                headers={"Content-Type": "application/json", **headers},
                timeout=self._timeout_s,
                allow_redirects=False,
                stream=True,
            ) as response:
                self._check(server, response.status_code)
                return self._read(server, response, until_s)
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError) as error:
            # Its text may show the address, and what that holds.
            raise SinkError(f"{server}: no answer: {type(error).__name__}") from None

    @staticmethod
    def _check(server: str, status: int) -> None:
        if 200 <= status < 300:
            return
        if 300 <= status < 400:
            raise SinkError(
                f"{server}: expected status 2xx, got {status}, a redirect, which is not followed; "
                "set the address that it leads to"
            )
        raise SinkError(
            f"{server}: expected status 2xx, got {status}", final=status in _FINAL
        ) from None

    @staticmethod
    def _read(server: str, response: requests.Response, until_s: float) -> bytes:
        data = bytearray()
        # Not iter_content: it waits until a chunk is full.
        while chunk := response.raw.read1(4096, decode_content=True):
            data += chunk
            if len(data) > MAX_ANSWER:
                raise SinkError(f"{server}: expected an answer of at most {MAX_ANSWER} bytes")
            if time.monotonic() > until_s:
                raise SinkError(f"{server}: the answer was not over in time")
        return bytes(data)
