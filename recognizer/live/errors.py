"""Why a camera cannot be read: typed reasons, and addresses without their passwords."""

import re
import socket
from enum import StrEnum
from urllib.parse import urlsplit

import av

from recognizer.video.container import reason_of

_HIDDEN = "***"
_SECRET_KEY = (
    r"pass\w*|pwd|psw|user\w*|login|token|auth\w*|secret|key|api_?key|sig\w*|credential\w*"
)
_SECRET = re.compile(rf"(?i)([?&;](?:{_SECRET_KEY})=)[^&;#\s]*")
_CREDENTIALS = re.compile(r"(?i)([a-z][a-z0-9+.-]*://)[^\s'\"?#]*@")
_TLS_SCHEMES = {"https", "rtsps"}
_NO_ROUTE = {101, 113, 100, 99}  # ENETUNREACH, EHOSTUNREACH, ENETDOWN, EADDRNOTAVAIL
_EIO = 5


class Reason(StrEnum):
    """Why frames of a camera stopped, or never came."""

    CREDENTIALS = "credentials"
    NOT_FOUND = "not_found"
    REFUSED = "refused"
    UNREACHABLE = "unreachable"
    TIMEOUT = "timeout"
    TLS = "tls"
    CODEC = "codec"
    BAD_DATA = "bad_data"
    REJECTED = "rejected"
    RESET = "reset"
    ENDED = "ended"
    STALLED = "stalled"
    CHANGED = "changed"
    OVERLOAD = "overload"
    PERMISSION = "permission"
    OTHER = "other"


_HIDE_TIMEOUTS = frozenset({Reason.BAD_DATA, Reason.TLS, Reason.UNREACHABLE, Reason.OTHER})

ADVICE: dict[Reason, str] = {
    Reason.CREDENTIALS: "check user and password in the camera's address",
    Reason.NOT_FOUND: "check the stream's name in the address, the device number or the path",
    Reason.REFUSED: "check the port, and that the camera's server runs",
    Reason.UNREACHABLE: "check the host name and the network",
    Reason.TIMEOUT: "check the network and that the camera answers",
    Reason.TLS: "check the port, that the camera speaks TLS, and its certificate",
    Reason.CODEC: "set the camera to H.264",
    Reason.BAD_DATA: "check that the camera is up, and that its address or file gives video",
    Reason.REJECTED: "check the camera's own log; it may have too many clients",
    Reason.PERMISSION: "permit this user to read it",
}

# The first class that fits decides: the special ones come before OSError's.
_BY_CLASS: tuple[tuple[type[Exception], Reason], ...] = (
    (av.error.HTTPUnauthorizedError, Reason.CREDENTIALS),
    (av.error.HTTPForbiddenError, Reason.CREDENTIALS),
    (av.error.HTTPNotFoundError, Reason.NOT_FOUND),
    (av.error.HTTPError, Reason.REJECTED),
    (av.error.HTTPClientError, Reason.REJECTED),
    (av.error.ExitError, Reason.TIMEOUT),
    (TimeoutError, Reason.TIMEOUT),
    (FileNotFoundError, Reason.NOT_FOUND),
    (ConnectionRefusedError, Reason.REFUSED),
    (ConnectionError, Reason.RESET),
    (PermissionError, Reason.PERMISSION),
    (av.error.EOFError, Reason.ENDED),
    (av.error.DecoderNotFoundError, Reason.CODEC),
    (av.error.PatchWelcomeError, Reason.CODEC),
    (av.error.InvalidDataError, Reason.BAD_DATA),
    (av.error.DemuxerNotFoundError, Reason.BAD_DATA),
)


class SourceError(Exception):
    """A camera that cannot be opened or read on.

    Attributes:
        reason: what kind of failure it is.

    """

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason = reason


def redacted(url: str) -> str:
    """Return an address without user, password and secret query values.

    Everything up to the last ``@`` before the query is hidden, as passwords may hold any
    character.
    """
    return _SECRET.sub(rf"\g<1>{_HIDDEN}", _CREDENTIALS.sub(rf"\g<1>{_HIDDEN}@", url))


def failure(reason: Reason, address: str, came: str) -> SourceError:
    """Return the error for a camera, its address redacted.

    Args:
        reason: what kind of failure it is.
        address: URL, device or path, with credentials or without.
        came: what came in place of video.

    """
    advice = ADVICE.get(reason)
    tail = f"; {advice}" if advice else ""
    return SourceError(reason, f"{redacted(address)}: expected video, got {redacted(came)}{tail}")


def failure_of(error: Exception, address: str, *, timed_out: bool = False) -> SourceError:
    """Return the typed error for an exception of PyAV or the system.

    Args:
        error: what was raised.
        address: URL, device or path, with credentials or without.
        timed_out: the time limit had passed by then. FFmpeg's RTSP and TLS make other errors of
            an interrupted wait.

    """
    reason = reason_for(error, address)
    if reason is Reason.TIMEOUT or (timed_out and reason in _HIDE_TIMEOUTS):
        return failure(Reason.TIMEOUT, address, "nothing within the time limit")
    return failure(reason, address, reason_of(error))


def reason_for(error: Exception, address: str) -> Reason:
    """Return what kind of failure an exception of PyAV or the system is."""
    for kind, reason in _BY_CLASS:
        if isinstance(error, kind):
            return reason
    number = getattr(error, "errno", None)
    if number in _NO_ROUTE:
        return Reason.UNREACHABLE
    if number == _EIO and "://" in address:
        return _reason_of_io_error(address)
    return Reason.OTHER


def _reason_of_io_error(address: str) -> Reason:
    """Tell apart what FFmpeg only calls an input/output error."""
    parts = urlsplit(address)
    try:
        socket.getaddrinfo(parts.hostname, None)
    except OSError:
        return Reason.UNREACHABLE
    return Reason.TLS if parts.scheme in _TLS_SCHEMES else Reason.BAD_DATA
