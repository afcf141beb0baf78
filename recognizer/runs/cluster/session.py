"""Ray for the time of a batch: one of this machine, or the cluster at an address.

Ray's own console output, telemetry and dashboard are off. One on this machine listens on 127.0.0.1
alone and ends with this process, however that ends.
"""

import contextlib
import logging
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from recognizer.installation import cpu_cores, pip_command
from recognizer.runs.worker_pool import RunError
from recognizer.storage.artifacts import SCRATCH_FOLDER
from recognizer.storage.objects import StoreError, delete_object, put_object

logger = logging.getLogger(__name__)

_CONNECT_S = 5.0
_ANSWER_S = 20.0
_OBJECT_STORE = 100 * 2**20  # only a network file for a node without it is larger than a report
_MAX_TEMP = 40  # characters: a path of a Unix socket has 107


@dataclass(frozen=True, slots=True)
class Node:
    """A living node: Ray's id of it, a name for messages, what Ray may use there, what is free."""

    id: str
    name: str
    cpus: float
    gpus: float
    free_cpus: float
    free_gpus: float

    @property
    def is_free(self) -> bool:
        """Whether nothing of it is taken."""
        return (self.free_cpus, self.free_gpus) == (self.cpus, self.gpus)


@contextlib.contextmanager
def ray_session(address: str | None) -> Iterator[None]:
    """Connect to the Ray at ``address``, or start one on this machine; leave or stop it at the end.

    A Ray that this process is connected to already is used and left as it is.

    Raises:
        RunError: no package ray, no Ray at the address, or another version of Ray or Python there.

    """
    ray = _import_ray(local=address is None)
    if ray.is_initialized():
        yield
        return
    with contextlib.ExitStack() as stack:
        if address is None:
            _start(ray, stack)
        else:
            _check_address(address)
            _connect(ray, address)
        stack.callback(ray.shutdown)
        yield


def living_nodes() -> list[Node]:
    """Return the nodes that are alive now, in a fixed order."""
    import ray
    from ray._private.state import available_resources_per_node  # ray's own is a sum over nodes

    found = []
    free = available_resources_per_node()
    for one in ray.nodes():
        if one["Alive"]:
            name = f"{one['NodeManagerHostname']} ({one['NodeManagerAddress']})"
            there = one["Resources"], free.get(one["NodeID"], {})  # a full one has no key
            amounts = [float(each.get(key, 0)) for each in there for key in ("CPU", "GPU")]
            found.append(Node(one["NodeID"], name, *amounts))
    return sorted(found, key=lambda node: node.id)


def _import_ray(*, local: bool) -> ModuleType:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    if local:
        os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"  # its name for: 127.0.0.1 alone
        if not os.environ.keys() & {"RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"}:
            os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)  # none into the home folder
        logging.getLogger("ray._private.authentication").setLevel(logging.ERROR)
    try:
        import ray
        from ray._private import worker
    except ModuleNotFoundError as error:
        raise RunError(
            f"annotation.executor: ray: expected the package ray, found no {error.name}; "
            f"{pip_command('ray.txt')}"
        ) from error
    logging.getLogger("ray").setLevel(logging.WARNING)
    # What raylets report of processes that died goes to the log, not between progress bars.
    worker.print_to_stdstream = _log
    module: ModuleType = ray
    return module


def _log(data: dict[str, object], *_: object, **__: object) -> None:
    logger.debug("ray: %s", data.get("lines"))


def _start(ray: ModuleType, stack: contextlib.ExitStack) -> None:
    base = tempfile.gettempdir()
    folder = tempfile.mkdtemp(prefix="ray-", dir=base if len(base) < _MAX_TEMP else "/tmp")
    stack.callback(shutil.rmtree, folder, ignore_errors=True)
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, sys.path))  # its workers': as here
    try:
        ray.init(
            address="local",
            num_cpus=cpu_cores(),
            object_store_memory=_OBJECT_STORE,
            include_dashboard=False,
            log_to_driver=False,
            configure_logging=False,
            _temp_dir=folder,
        )
    except (RuntimeError, OSError, ValueError) as error:
        raise RunError(f"Ray does not start on this machine: {error}") from error
    finally:
        del os.environ["PYTHONPATH"]
        if before is not None:
            os.environ["PYTHONPATH"] = before


def _check_address(address: str) -> None:
    """Refuse what is no Ray's head in seconds; Ray itself tries for minutes, then ends the process.

    Raises:
        RunError: no ``host:port``, none that answers, none of this version.

    """
    key = f"annotation.ray_address: expected the host:port of a Ray's head, got {address!r}"
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=_CONNECT_S).close()
    except (OSError, OverflowError, UnicodeError) as error:
        raise RunError(f"{key}, which does not answer ({error}); is it running?") from error
    command = [sys.executable, "-m", "ray.scripts.scripts", "health-check", "--address", address]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=_ANSWER_S
        )
    except subprocess.TimeoutExpired as error:
        raise RunError(
            f"{key}, which is open but did not answer as Ray does in {_ANSWER_S:g} s"
        ) from error
    if done.returncode:
        lines = (done.stderr or done.stdout).strip().splitlines() or ["no reason given"]
        raise RunError(f"{key}, which Ray refuses: {lines[-1]}")


def _connect(ray: ModuleType, address: str) -> None:
    try:
        ray.init(address=address, log_to_driver=False, configure_logging=False)
    except (RuntimeError, OSError, ValueError) as error:  # version mismatches are RuntimeErrors
        raise RunError(
            f"annotation.ray_address: {address} answers, but this process cannot join: {error}\n"
            "This machine must be a node of that cluster (ray start --address="
            f"{address} --num-cpus=0 makes it one without work), with the same Ray and Python"
        ) from error


@contextlib.contextmanager
def marker_in(folder: Path | str) -> Iterator[tuple[str, str]]:
    """Write a file that every node must see into the output folder, or an object at its address.

    Yields:
        Its path or address, and its content. It is removed at the end.

    """
    content = secrets.token_hex(16)
    name = f"ray-{content[:8]}"
    if isinstance(folder, str):
        key = f"{SCRATCH_FOLDER}/{name}"
        put_object(folder, key, content.encode())
        try:
            yield f"{folder}/{key}", content
        finally:
            with contextlib.suppress(StoreError):  # what ended the run says so already
                delete_object(folder, key)
        return
    scratch = folder / SCRATCH_FOLDER
    scratch.mkdir(parents=True, exist_ok=True)
    path = scratch / name
    path.write_text(content, encoding="utf-8")
    try:
        yield str(path), content
    finally:
        path.unlink(missing_ok=True)
