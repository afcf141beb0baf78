"""Download one file over HTTP into a ``.part`` file: checked, and resumed where it broke off.

A ``.part`` is gone on with only when the server says that it still has the same file (If-Range
with the ETag or date of the first try, RFC 9110 section 13.1.5), or when a digest will tell at
the end. Whatever can be neither resumed nor trusted is removed.
"""

import contextlib
import errno
import fcntl
import hashlib
import http.client
import logging
import os
import re
import shutil
import ssl
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

from recognizer.artifacts import ArtifactError

logger = logging.getLogger(__name__)

Hear = Callable[[int, int | None], None]
"""Called with the bytes that are there and those wanted in all (None: the server did not say)."""

LOOPBACK = "127.0.0.1"
MAX_BYTES = 2 * 2**30
TIMEOUT_S = 30.0
_ATTEMPTS = 5
_CHUNK = 2**16
_BROKEN = (http.client.HTTPException, ConnectionError, TimeoutError, ssl.SSLError)
_ANSWERS = {
    401: "the server wants a password",
    403: "the server or a proxy on the way refuses",
    404: "the server has no such file",
    407: "the proxy wants a password",
    429: "the server was asked too often; wait",
}


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is downloaded: its address, the start of its SHA-256 if known, and who hears of it."""

    url: str
    sha256_start: str | None
    hear: Hear


@contextlib.contextmanager
def downloaded(wanted: Wanted, part: Path) -> Iterator[str]:
    """Download into ``part``, give the SHA-256 as hex; afterwards remove what was not moved away.

    Raises:
        ConnectionError: no way to the server, a refusal, a download that broke off. What can be
            resumed stays in ``part``: the same call goes on with it.
        ArtifactError: what came is not the file: a page, another digest, too large.
        BlockingIOError: another process downloads the same file.
        OSError: it cannot be written; ``part`` is removed, so that a full disk is less so.

    """
    with _locked(part) as file:
        keep = False
        try:
            digest = _with_patience(wanted, file, part)
            yield digest
        except (ConnectionError, KeyboardInterrupt):
            keep = bool(wanted.sha256_start or _tag_path(part).exists()) and _size(file) > 0
            raise
        finally:
            if not keep:
                _remove(file, part)


def _with_patience(wanted: Wanted, file: IO[bytes], part: Path) -> str:
    """Go on at once after a break, as long as every try gets further."""
    for tries_left in reversed(range(_ATTEMPTS)):
        before = _size(file)
        try:
            return _attempt(wanted, file, part)
        except ConnectionError as error:
            if tries_left == 0 or not before < _size(file):
                raise
            logger.info("%s: going on", error)
    raise RuntimeError("unreachable: the last try returns or raises")


def _attempt(wanted: Wanted, file: IO[bytes], part: Path) -> str:
    """Download what is missing; return the SHA-256 of the whole."""
    if not (wanted.sha256_start or _tag_path(part).exists()):
        file.truncate(0)
    sha256 = _hash_of(file)
    offset = file.tell()
    start = wanted.sha256_start or ""
    if not (offset and start and sha256.hexdigest().startswith(start)):  # else: killed at the end
        sha256 = _receive(wanted, file, part, sha256)
    found: str = sha256.hexdigest()
    if found.startswith(start):
        return found
    _begin_again(file, part)
    if offset:  # the two pieces may be of different files
        logger.info("%s: what was there before does not fit: downloading all of it", wanted.url)
        return _attempt(wanted, file, part)
    raise ArtifactError(
        f"{wanted.url}: expected a file whose SHA-256 begins with {start}, got {found}; it was "
        "removed. Try again, or another models.mirror"
    )


def _receive(wanted: Wanted, file: IO[bytes], part: Path, sha256: Any) -> Any:
    """Ask for what is missing and write it; return the hash of the whole."""
    offset = file.tell()
    with _opened(wanted.url, offset, _tag_path(part)) as answer:
        if answer is not None:
            _refuse_pages(answer, wanted.url)
        if offset and (answer is None or not _continues(answer, offset)):
            sha256, offset = _begin_again(file, part), 0
        if answer is None:
            return _receive(wanted, file, part, sha256)
        if answer.status != (206 if offset else 200):
            raise ConnectionError(f"{wanted.url}: expected the file, got status {answer.status}")
        if not offset:
            _keep_tag(answer, part)
        _copy(answer, wanted, file, sha256, part)
    return sha256


# --- asking ------------------------------------------------------------------------


@contextlib.contextmanager
def _opened(url: str, offset: int, tag: Path) -> Iterator[Any]:
    """Give the server's answer; None where it says that it has nothing from ``offset`` on."""
    headers = {"User-Agent": "recognizer", "Accept-Encoding": "identity"}
    if offset:
        headers["Range"] = f"bytes={offset}-"
        if tag.exists():
            headers["If-Range"] = tag.read_text(encoding="latin-1")
    opener = urllib.request.build_opener(_HttpsOnly(url), *_proxies(url))
    try:
        answer = opener.open(urllib.request.Request(url, headers=headers), timeout=TIMEOUT_S)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code != 416 or not offset:
            raise ConnectionError(_refusal(url, error.code)) from error
        answer = None
    except urllib.error.URLError as error:
        raise ConnectionError(_no_way(url, error.reason)) from error
    except _BROKEN as error:
        raise ConnectionError(f"{url}: no answer: {_reason(error)}; try again") from error
    with contextlib.closing(answer) if answer else contextlib.nullcontext():
        yield answer


class _HttpsOnly(urllib.request.HTTPRedirectHandler):
    """Follow redirects to https only; plain http stays on the one local server that began it."""

    def __init__(self, url: str) -> None:
        self._origin = urlsplit(url)

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str,
        headers: http.client.HTTPMessage, newurl: str,
    ) -> urllib.request.Request | None:  # fmt: skip
        """Refuse what is neither https nor the local server asked for."""
        goal = urlsplit(newurl)
        same = (goal.scheme, goal.netloc) == (self._origin.scheme, self._origin.netloc)
        if goal.scheme != "https" and not same:
            raise ConnectionError(
                f"{req.full_url}: redirected to {newurl}; expected https. A login page of the "
                "network, or a models.mirror that is none?"
            )
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _proxies(url: str) -> list[urllib.request.BaseHandler]:
    local = urlsplit(url).hostname == LOOPBACK
    return [urllib.request.ProxyHandler({})] if local else []  # else: as the environment says


def _refusal(url: str, code: int) -> str:
    trouble = "the server is in trouble; try later" if code >= 500 else "unexpected"
    return (
        f"{url}: status {code}: {_ANSWERS.get(code, trouble)}. Another server: --set models.mirror="
        "https://<host>; or bring the file by hand into a folder of models.weights_dirs"
    )


def _no_way(url: str, reason: object) -> str:
    advice = "behind a firewall: --set models.mirror=https://<host>, HTTPS_PROXY for a proxy"
    if isinstance(reason, ssl.SSLCertVerificationError):
        advice = "where a proxy reads along, SSL_CERT_FILE names its certificate"
    return f"{url}: no way to the server: {reason}; {advice}, or bring the file by hand"


def _reason(error: BaseException) -> str:
    return str(error) or type(error).__name__


# --- judging the answer ------------------------------------------------------------


def _refuse_pages(answer: Any, url: str) -> None:
    kind = answer.headers.get_content_type()
    if kind in {"text/html", "application/xhtml+xml"}:
        raise ArtifactError(_page(answer.geturl(), url))
    packed = answer.headers.get("Content-Encoding", "identity")
    if packed != "identity":
        raise ArtifactError(f"{url}: expected the file as it is, got it packed as {packed}")


def _page(place: str, url: str) -> str:
    return (
        f"{url}: expected a file, got a web page from {urlsplit(place).hostname}: a proxy or the "
        "network's login page answers in the server's place. Log in, set HTTPS_PROXY, or use "
        "another models.mirror"
    )


def _continues(answer: Any, offset: int) -> bool:
    match = re.match(r"bytes (\d+)-\d+/", answer.headers.get("Content-Range", ""))
    if answer.status != 206:
        return False
    if match is None or int(match[1]) != offset:
        raise ConnectionError(
            f"{answer.geturl()}: asked for the bytes from {offset} on, got "
            f"{answer.headers.get('Content-Range')!r}; delete the .part file and try again"
        )
    return True


def _total(answer: Any, offset: int, wanted: Wanted) -> int | None:
    text = answer.headers.get("Content-Length")
    if text is None:
        return None
    if not text.isdecimal():
        raise ConnectionError(f"{wanted.url}: expected Content-Length as a number, got {text!r}")
    if offset + int(text) > MAX_BYTES:
        raise ArtifactError(f"{wanted.url}: {text} bytes; no official file is that large")
    return offset + int(text)


# --- writing -----------------------------------------------------------------------


def _copy(answer: Any, wanted: Wanted, file: IO[bytes], sha256: Any, part: Path) -> None:
    start = file.tell()
    total = _total(answer, start, wanted)
    free = shutil.disk_usage(part.parent).free
    if total is not None and total - start > free:
        raise OSError(errno.ENOSPC, f"{total - start} bytes are wanted, {free} are free", str(part))
    while chunk := _read(answer, file, total, wanted.url):
        if file.tell() == 0 and chunk.lstrip()[:1] == b"<":
            raise ArtifactError(_page(answer.geturl(), wanted.url))
        if file.tell() + len(chunk) > MAX_BYTES:
            raise ArtifactError(f"{wanted.url}: more than {MAX_BYTES} bytes; no official file is")
        try:
            file.write(chunk)
            file.flush()
        except OSError as error:
            raise OSError(error.errno, f"cannot write: {error.strerror}", str(part)) from error
        sha256.update(chunk)
        wanted.hear(file.tell(), total)
    # A header that was cut short reads like one that ends: then no byte follows.
    if file.tell() != total if total is not None else not file.tell() > start:
        raise ConnectionError(_broke_off(wanted.url, file.tell(), total))


def _read(answer: Any, file: IO[bytes], total: int | None, url: str) -> bytes:
    try:
        return bytes(answer.read(_CHUNK))
    except _BROKEN as error:
        reason = _reason(error)
        raise ConnectionError(_broke_off(url, file.tell(), total, f": {reason}")) from error


def _broke_off(url: str, there: int, total: int | None, reason: str = "") -> str:
    wanted = f"{total} bytes" if total is not None else "an unknown number of bytes"
    return f"{url}: broke off after {there} of {wanted}{reason}; the same command goes on"


def _hash_of(file: IO[bytes]) -> Any:
    sha256 = hashlib.sha256()
    file.seek(0)
    while chunk := file.read(2**20):
        sha256.update(chunk)
    return sha256


def _size(file: IO[bytes]) -> int:
    return os.fstat(file.fileno()).st_size


def _begin_again(file: IO[bytes], part: Path) -> Any:
    file.seek(0)
    file.truncate(0)
    _tag_path(part).unlink(missing_ok=True)
    return hashlib.sha256()


def _tag_path(part: Path) -> Path:
    return part.with_name(f"{part.name}.tag")


def _keep_tag(answer: Any, part: Path) -> None:
    """Keep what tells the server which file the part is of: a strong ETag, else the date."""
    tag = answer.headers.get("ETag", "")
    if not tag.startswith('"'):
        tag = answer.headers.get("Last-Modified", "")
    if tag and tag.isprintable():
        _tag_path(part).write_text(tag, encoding="latin-1")


@contextlib.contextmanager
def _locked(part: Path) -> Iterator[IO[bytes]]:
    """Open ``part`` for this process alone; a link is not followed."""
    handle = os.open(part, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
    with os.fdopen(handle, "r+b") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise BlockingIOError(error.errno, "another process downloads it", str(part)) from error
        if not _is(file, part):  # it was finished and renamed between opening and locking
            raise BlockingIOError(errno.EAGAIN, "another process just finished it", str(part))
        yield file


def _is(file: IO[bytes], part: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), part.lstat())
    except FileNotFoundError:
        return False


def _remove(file: IO[bytes], part: Path) -> None:
    _tag_path(part).unlink(missing_ok=True)
    if _is(file, part):
        part.unlink()
