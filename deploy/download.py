"""Download a file over HTTPS, checked; read one file of an archive."""

import errno
import logging
import lzma
import shutil
import ssl
import threading
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urljoin, urlsplit

import requests
import urllib3

from recognizer.storage.artifacts import ArtifactError, sha256_file

logger = logging.getLogger(__name__)

OnProgress = Callable[[int, int | None], None]
"""Called with the bytes received and those expected in all (None: the server did not say)."""

MAX_BYTES = 2 * 2**30
TIMEOUT_S = 30.0
HEADERS_S = 90.0
"""The longest that is waited for the head of a response, however it comes."""
MIN_BYTES_PER_S, RATE_OVER_S = 1024, 60.0
"""The slowest download that is waited for, and the seconds over which its rate is taken."""
_ATTEMPTS = 3
_CHUNK = 2**16
_UNREADABLE = (RuntimeError, OSError, UnicodeDecodeError)  # of zipfile, for damaged or odd archives
_REDIRECTS = 5
_LOOPBACK = "127.0.0.1"
_BY_HAND = "or bring the file by hand into a folder of models.weights_dirs"


class _BrokeOffError(Exception):
    """The response began, but its body did not arrive whole."""


def download(url: str, path: Path, sha256_start: str | None, on_progress: OnProgress) -> str:
    """Download into ``path``; return the SHA-256 as hex.

    It starts again, up to three times in all, where the body of the response breaks off, stalls
    for ``TIMEOUT_S``, is slower than ``MIN_BYTES_PER_S`` or cannot be decoded.
    The proxy comes from HTTPS_PROXY, the certificates from SSL_CERT_FILE or the system.

    Args:
        url: https, or plain http on 127.0.0.1.
        path: a scratch file: the caller removes it after an error.
        sha256_start: the first digits of the expected SHA-256; None: not known.
        on_progress: called after each chunk.

    Raises:
        ConnectionError: no connection, an error status, or it broke off several times.
        ArtifactError: a web page, a file with another digest, or too large a file.
        OSError: the disk is full or read-only.

    """
    for left in reversed(range(_ATTEMPTS)):
        try:
            _receive(url, path, on_progress)
            break
        except _BrokeOffError as error:
            if not left:
                raise ConnectionError(f"{url}: broke off: {error}; try again") from error
            logger.info("%s: broke off: %s: starting again", url, error)
        except requests.RequestException as error:
            raise ConnectionError(_no_connection(url, error)) from error
    digest = sha256_file(path)
    if not digest.startswith(sha256_start or ""):
        raise ArtifactError(
            f"{url}: expected a file whose SHA-256 begins with {sha256_start}, got {digest}; it "
            "was removed. Try again, or another models.mirror"
        )
    return digest


def _receive(url: str, path: Path, on_progress: OnProgress) -> None:
    with _Session() as session, path.open("wb") as file:
        session.trust_env = urlsplit(url).hostname != _LOOPBACK  # no proxy for a local server
        session.verify = ssl.get_default_verify_paths().cafile or True
        session.headers["Accept-Encoding"] = "identity"
        with _follow(session, url) as response:
            if response.status_code != requests.codes.ok:
                raise ConnectionError(
                    f"{url}: status {response.status_code} {response.reason}, expected 200. "
                    f"Another server: --set models.mirror=https://<host>; {_BY_HAND}"
                )
            for chunk in _chunks(response, path, on_progress):
                try:
                    file.write(chunk)
                    file.flush()
                except OSError as error:
                    raise OSError(error.errno, f"cannot write: {error.strerror}", path) from error


def _chunks(response: requests.Response, path: Path, on_progress: OnProgress) -> Iterator[bytes]:
    """Yield the bytes of a file; refuse web pages and what is too large."""
    url, total, done = response.url, response.raw.length_remaining, 0
    free = shutil.disk_usage(path.parent).free
    if total is not None and total > min(free, MAX_BYTES):
        if total > MAX_BYTES:
            raise ArtifactError(f"{url}: {total} bytes; no official file is that large")
        raise OSError(errno.ENOSPC, f"expected room for {total} bytes, {free} are free", path)
    page = "html" in response.headers.get("Content-Type", "")
    for chunk in _body(response):
        if page or (not done and chunk.lstrip()[:1] == b"<"):
            raise ArtifactError(
                f"{url}: expected a file, got a web page: a proxy or the network's login page "
                "answers in the server's place. Log in, set HTTPS_PROXY, or use another "
                "models.mirror"
            )
        done += len(chunk)
        if done > MAX_BYTES:
            raise ArtifactError(f"{url}: more than {MAX_BYTES} bytes; no official file is")
        yield chunk
        on_progress(done, total)


def _body(response: requests.Response) -> Iterator[bytes]:
    """Yield the body as it comes.

    Raises:
        _BrokeOffError: it breaks off, stalls, is damaged, or comes too slowly.

    """
    start, received = time.monotonic(), 0
    try:
        while chunk := response.raw.read1(_CHUNK, decode_content=True):
            yield chunk
            received += len(chunk)
            seconds = time.monotonic() - start
            if seconds >= RATE_OVER_S:
                if received < MIN_BYTES_PER_S * seconds:
                    raise _BrokeOffError(f"only {received} bytes in {seconds:.0f} s")
                start, received = time.monotonic(), 0
    except urllib3.exceptions.HTTPError as error:  # also a read timeout and a wrong gzip
        raise _BrokeOffError(str(error)) from error


class _Session(requests.Session):
    """A session that leaves redirects to ``_follow``: requests reads their bodies, of any size."""

    def get_redirect_target(self, resp: requests.Response) -> None:
        """Return no target, so that requests neither follows nor parses it."""


def _follow(session: requests.Session, url: str) -> requests.Response:
    """Return the response behind at most five redirects, whose bodies are not read."""
    for _ in range(_REDIRECTS + 1):
        response = _get(session, url)
        if not response.is_redirect:
            return response
        response.close()
        url = _target(response.url, response.headers["Location"])
    raise ConnectionError(f"{url}: more than {_REDIRECTS} redirects; {_BY_HAND}")


def _get(session: requests.Session, url: str) -> requests.Response:
    """Return the head of a response within ``HEADERS_S``.

    The timeout of a socket begins anew with every byte, so the request has a thread of its own,
    which is left behind where a server never ends the head.
    """
    results: list[requests.Response | Exception] = []

    def request() -> None:
        try:
            results.append(session.get(url, stream=True, timeout=TIMEOUT_S, allow_redirects=False))
        except (requests.RequestException, OSError, ValueError) as error:
            results.append(error)

    thread = threading.Thread(target=request, daemon=True)
    thread.start()
    thread.join(HEADERS_S)
    if not results:
        raise _BrokeOffError(f"no complete answer in {HEADERS_S:g} s")
    (result,) = results
    if isinstance(result, Exception):
        raise result
    return result


def _target(url: str, location: str) -> str:
    """Return where a redirect leads; plain http only on the local server that was asked for."""
    try:
        target = urljoin(url, location)
        old, new = urlsplit(url), urlsplit(target)
    except ValueError as error:
        raise ConnectionError(f"{url}: redirected to {location!r:.200}: {error}") from error
    if new.scheme != "https" and (old.scheme, old.netloc) != (new.scheme, new.netloc):
        raise ConnectionError(
            f"{url}: redirected to {target}; expected https. A login page of the "
            "network, or a wrong models.mirror?"
        )
    return target


def _no_connection(url: str, error: Exception) -> str:
    advice = "behind a firewall: --set models.mirror=https://<host>, HTTPS_PROXY for a proxy"
    if isinstance(error, requests.exceptions.SSLError):
        advice = "where a proxy decrypts, SSL_CERT_FILE names its certificate"
    return f"{url}: no connection to the server: {error}; {advice}, {_BY_HAND}"


def read_member(archive: Path, member: str) -> bytes:
    """Return the content of the one member of that base name; no path of the archive is used.

    Raises:
        ArtifactError: no archive, a damaged one, or not exactly one such member.

    """
    try:
        with zipfile.ZipFile(archive) as opened:
            infos = [i for i in opened.infolist() if i.filename.rpartition("/")[2] == member]
            if len(infos) != 1:
                raise ArtifactError(f"expected one {member} in the archive, found {len(infos)}")
            if infos[0].file_size > MAX_BYTES:
                raise ArtifactError(f"{member} would unpack to {infos[0].file_size} bytes")
            return opened.read(infos[0])
    except (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, *_UNREADABLE) as error:
        raise ArtifactError(f"not a readable archive: {error or type(error).__name__}") from error
