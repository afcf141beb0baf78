"""A POST to an HTTP server for every notice, signed."""

import hashlib
import hmac
import time
from collections.abc import Callable

from recognizer.config.alerts import WebhookSink
from recognizer.live.sinks.http import HttpClient
from recognizer.live.sinks.sink import notice_bytes
from recognizer.live.store import Notice

TIMESTAMP, SIGNATURE, IDEMPOTENCY = (
    "X-Recognizer-Timestamp",
    "X-Recognizer-Signature",
    "Idempotency-Key",
)


def signature(secret: str, timestamp: str, body: bytes) -> str:
    """Return ``sha256=`` and the HMAC-SHA256 of timestamp, a dot, and body."""
    text = timestamp.encode() + b"." + body
    return "sha256=" + hmac.new(secret.encode(), text, hashlib.sha256).hexdigest()


class Webhook:
    """Posts notices as JSON.

    The header ``Idempotency-Key`` is the same for every try of a notice: a server that takes each
    key once has each notice once.

    Args:
        config: address, secret, time limit.
        now_utc_s: the wall clock, for the signature.

    Raises:
        ValueError: the secret cannot be read.

    """

    def __init__(self, config: WebhookSink, now_utc_s: Callable[[], float] = time.time) -> None:
        self._url, self._now_utc_s = config.url, now_utc_s
        self._secret = config.secret.read() if config.secret else None
        self._client = HttpClient(config.timeout_s, {})

    def send(self, notice: Notice) -> None:
        """Post a notice.

        Raises:
            SinkError: no answer, or a status other than 2xx.

        """
        body = notice_bytes(notice)
        headers = {IDEMPOTENCY: notice.key}
        if self._secret is not None:
            timestamp = str(int(self._now_utc_s()))
            headers |= {TIMESTAMP: timestamp, SIGNATURE: signature(self._secret, timestamp, body)}
        self._client.send("POST", self._url, body, headers)

    def close(self) -> None:
        """Close the connections."""
        self._client.close()
