"""Object storage by obstore: listing what lies below an address, reading and writing one object.

An address is ``s3://bucket/prefix``, ``gs://...`` or ``az://container/prefix``. Endpoint, region
and credentials come from the environment variables that the stores' own tools read
(``AWS_ENDPOINT_URL``, ``AWS_ACCESS_KEY_ID``, ...); no message repeats a request's address.
"""

import asyncio
import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from recognizer.config.file import ConfigError
from recognizer.installation import pip_command
from recognizer.storage.store_reasons import CHANGED, environment_problem, reason_of

if TYPE_CHECKING:
    from obstore import GetOptions, ListStream, ObjectMeta, PutMode
    from obstore.store import ClientConfig, ObjectStore, RetryConfig

OBJECT_STORE_LIST = "objectstore.txt"
_PAGE = 1000
_PAGE_S = 300.0
_PART = 16 * 2**20
_TRIES = 3
_REQUEST_TIMEOUT = timedelta(seconds=60)  # for one part
_RETRIES: "RetryConfig" = {"max_retries": 6, "retry_timeout": timedelta(seconds=60)}
_ENDLESS = (
    "the store lists the same objects again and again: it repeats its continuation token; look for "
    "another version of its server, or a proxy before it that caches"
)
_NO_PAGE = (
    "the store lists no object for minutes: it does not answer, or repeats its continuation token; "
    "look at its server, or a proxy before it"
)
OnBytes = Callable[[int], None]
"""Called with the number of bytes since the last call."""


class StoreError(OSError):
    """A store that cannot be used at all: no bucket, credentials refused, not reached."""

    def __init__(self, address: str, reason: str) -> None:
        super().__init__(f"{address}: {reason}")
        self.reason = reason


class ObjectError(OSError):
    """An object that cannot be read, while the store can: gone, changed, not permitted."""


class ConflictError(OSError):
    """An object that is not the one to be replaced: another process wrote or removed it."""


@dataclass(frozen=True, slots=True)
class StoredObject:
    """An object below an address.

    Attributes:
        address: of the bucket and prefix.
        key: below the prefix, with /; "" is the object at the address itself.
        size: bytes.
        tag: its ETag; "" where the store has none.
        modified_s: seconds since 1970.

    """

    address: str
    key: str
    size: int
    tag: str
    modified_s: float

    @property
    def stamp(self) -> str:
        """Text that changes with the content."""
        return f"{self.size} {self.tag or self.modified_s}"


@dataclass(frozen=True, slots=True)
class Version:
    """A version of an object: its ETag, and its number in stores that have one."""

    tag: str
    number: str | None


def list_objects(address: str) -> Iterator[StoredObject]:
    """Yield the objects below an address, page by page, in the store's order.

    Where the address is that of one object, it alone is yielded, with the key "".

    Raises:
        ConfigError: obstore is not installed, or the address is none of a store.
        StoreError: the store cannot be used, or holds a key that its client cannot address.

    """
    found = False
    for stored in list_below(address):
        found = True
        yield stored
    bucket, prefix = split_address(address)
    if prefix and not found:
        with _translated(address) as obstore:
            try:
                stored = _stored(address, "", obstore.head(_open(bucket), prefix))
            except FileNotFoundError:
                return
        yield stored


def list_below(address: str, after: str = "") -> Iterator[StoredObject]:
    """Yield the objects below an address alone, those with keys greater than ``after``.

    Raises as ``list_objects``.
    """
    bucket, prefix = split_address(address)
    offset = "/".join(filter(None, (prefix, after))) if after else None
    with _translated(address) as obstore:
        # Brent's algorithm: an earlier key, renewed ever later. A folder's marker, which the client
        # names without its /, may repeat an object's key once.
        earlier, again, count, power = "", 0, 0, 1
        listing = obstore.list(_open(bucket), prefix or None, offset=offset, chunk_size=_PAGE)
        for page in _pages(listing, address):
            for meta in page:
                again += meta["path"] == earlier
                if again > 1:
                    raise StoreError(address, _ENDLESS)
                count += 1
                if count == power:
                    earlier, again, count, power = meta["path"], 0, 0, 2 * power
                key = meta["path"].removeprefix(prefix).removeprefix("/")
                if key:  # not the marker of a folder at the prefix itself
                    yield _stored(address, key, meta)


def _pages(
    listing: "ListStream[Sequence[ObjectMeta]]", address: str
) -> Iterator[Sequence["ObjectMeta"]]:
    """Yield the pages of a list; StoreError for one that takes minutes: all its pages are empty."""

    async def following() -> "Sequence[ObjectMeta] | None":
        return await asyncio.wait_for(anext(listing, None), _PAGE_S)

    with asyncio.Runner() as runner:
        while True:
            try:
                page = runner.run(following())
            except TimeoutError:
                raise StoreError(address, _NO_PAGE) from None
            if page is None:
                return
            yield page


def _stored(address: str, key: str, meta: "ObjectMeta") -> StoredObject:
    modified_s = meta["last_modified"].timestamp()
    return StoredObject(address, key, meta["size"], meta["e_tag"] or "", modified_s)


def fetch(stored: StoredObject, target: Path, on_bytes: OnBytes) -> None:
    """Write an object to a file: in parts, all of the version that was listed.

    Raises:
        ObjectError: the object is gone, has changed since it was listed, or may not be read.
        StoreError: the store cannot be used: no other object could be read either.
        OSError: the file cannot be written.

    """
    bucket, path = _locate(stored.address, stored.key)
    options: GetOptions = {"if_match": stored.tag} if stored.tag else {}
    with target.open("wb") as file:
        for start in range(0, stored.size, _PART):
            stop = min(start + _PART, stored.size)
            try:
                with _translated(stored.address) as obstore:
                    options["range"] = (start, stop)
                    result = obstore.get(_open(bucket), path, options=options)
                    size, data = result.meta["size"], result.bytes()
                    tag = result.meta["e_tag"] or ""
            except StoreError as error:
                _probe(stored.address)
                raise ObjectError(f"object storage: {error.reason}") from None
            other = "" not in (tag, stored.tag) and _plain_tag(tag) != _plain_tag(stored.tag)
            # Not every store heeds If-Match.
            if other or size != stored.size or len(data) != stop - start:
                raise ObjectError(f"object storage: {CHANGED}")
            file.write(data)
            on_bytes(len(data))


def read_object(address: str, key: str) -> tuple[bytes, Version] | None:
    """Return the content and version of the object of a key below an address, None without one.

    Raises:
        ConfigError, StoreError: as of ``list_objects``.

    """
    bucket, path = _locate(address, key)
    with _translated(address) as obstore:
        try:
            result = obstore.get(_open(bucket), path)
        except FileNotFoundError as error:
            if _is_bucket_missing(error):
                raise
            return None
        return bytes(result.bytes()), Version(result.meta["e_tag"] or "", result.meta["version"])


def put_object(address: str, key: str, data: bytes, replaced: Version | None = None) -> Version:
    """Write an object whole and return its version.

    Where the store has written it, and the answer was lost, the client asks again and is refused:
    an object of the same content counts as written.

    Args:
        address: of the bucket and prefix.
        key: below the prefix.
        data: its content.
        replaced: the version that must be there; None: there must be no such object.

    Raises:
        ConflictError: another is there, or none.
        ConfigError, StoreError: as of ``list_objects``.

    """
    bucket, path = _locate(address, key)
    mode: PutMode = "create"
    if replaced is not None:
        mode = {"e_tag": replaced.tag}
        if replaced.number is not None:
            mode["version"] = replaced.number
    for _ in range(_TRIES):
        with _translated(address) as obstore:
            taken = obstore.exceptions.AlreadyExistsError, obstore.exceptions.PreconditionError
            try:
                done = obstore.put(_open(bucket), path, data, mode=mode)
            except taken:
                _probe(address)  # the client takes a missing bucket for a missing object
            else:
                return Version(done["e_tag"] or "", done["version"])
        found = read_object(address, key)
        if found is not None and found[0] == data:  # put by this call, whose answer was lost
            return found[1]
        if found is not None or replaced is not None:
            break  # else S3 refused one of two puts at the same time, and neither is there
    raise ConflictError(f"{address}/{key}: another process wrote or removed it meanwhile")


def save_object(address: str, key: str, data: bytes) -> Version:
    """Write an object, also over one that is there, whoever wrote it.

    A write of another process at the same time is noticed, and this one tried again after it.

    Raises as ``put_object``.
    """
    replaced = None
    for _ in range(_TRIES):
        try:
            return put_object(address, key, data, replaced)
        except ConflictError:
            replaced = _version(address, key)
    raise ConflictError(f"{address}/{key}: other processes write it at the same time; stop them")


def _version(address: str, key: str) -> Version | None:
    bucket, path = _locate(address, key)
    with _translated(address) as obstore:
        try:
            meta = obstore.head(_open(bucket), path)
        except FileNotFoundError:
            return None
        return Version(meta["e_tag"] or "", meta["version"])


def delete_object(address: str, key: str) -> None:
    """Remove an object if it is there.

    Raises:
        ConfigError, StoreError: as of ``list_objects``.

    """
    bucket, path = _locate(address, key)
    with _translated(address) as obstore:
        try:
            obstore.delete(_open(bucket), path)
        except FileNotFoundError as error:
            if _is_bucket_missing(error):
                raise


def _locate(address: str, key: str) -> tuple[str, str]:
    bucket, prefix = split_address(address)
    return bucket, "/".join(filter(None, (prefix, key)))


def _is_bucket_missing(error: Exception) -> bool:
    return "NoSuchBucket" in str(error)


def _plain_tag(tag: str) -> str:
    """Return an ETag without quotes, which some stores leave out in their lists."""
    return tag.removeprefix("W/").strip('"')


def _probe(address: str) -> None:
    """Raise StoreError unless the store itself can be used."""
    bucket, prefix = split_address(address)
    with _translated(address) as obstore:
        next(iter(obstore.list(_open(bucket), prefix or None, chunk_size=1)), None)


def split_address(address: str) -> tuple[str, str]:
    """Return the address of the bucket, such as ``s3://bucket``, and the prefix without /."""
    scheme, _, rest = address.partition("://")
    bucket, _, prefix = rest.partition("/")
    return f"{scheme}://{bucket}", prefix.strip("/")


@lru_cache(maxsize=8)
def _open(bucket: str) -> "ObjectStore":
    from obstore.store import from_url

    if bucket.startswith("s3:") and (problem := environment_problem()):
        raise StoreError(bucket, problem)
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL", "")
    options: ClientConfig = {"timeout": _REQUEST_TIMEOUT}
    if endpoint.startswith("http://"):  # typed so: a store on the own network
        options["allow_http"] = True
    return from_url(bucket, client_options=options, retry_config=_RETRIES)


@contextlib.contextmanager
def _translated(address: str) -> Iterator[ModuleType]:
    """Give obstore; raise its errors as ``StoreError`` without addresses and bodies."""
    try:
        import obstore
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"{address}: object storage needs obstore; {pip_command(OBJECT_STORE_LIST)}"
        ) from error
    try:
        yield obstore
    except (obstore.exceptions.BaseError, FileNotFoundError, PermissionError, ValueError) as error:
        raise StoreError(address, reason_of(error)) from None
