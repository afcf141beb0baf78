"""A TCP proxy that does to a camera's connection what networks and cameras do."""

import asyncio
import contextlib
import os
import socket
import struct
import threading
from collections.abc import Awaitable, Callable
from enum import Enum
from types import TracebackType
from typing import Self

_CHUNK = 1 << 16
_LOOK_EVERY_S = 0.01
_SLOW_BYTES, _SLOW_EVERY_S = 16, 0.25
_ABORT = struct.pack("ii", 1, 0)  # SO_LINGER: closing sends RST


class Fault(Enum):
    """What the proxy does to the data from the camera.

    NONE, STALL, GARBAGE and SLOW act on open connections and on new ones; ABORT and CLOSE end the
    open ones and each new one; REFUSE also stops listening.
    """

    NONE = "none"
    STALL = "stall"
    GARBAGE = "garbage"
    SLOW = "slow"
    ABORT = "abort"
    CLOSE = "close"
    REFUSE = "refuse"


_ENDING = {Fault.ABORT, Fault.CLOSE, Fault.REFUSE}


class FaultProxy:
    """Listen on 127.0.0.1 and pass on to a port there, until a fault is set."""

    def __init__(self, target_port: int) -> None:
        self._target_port = target_port
        self._fault = Fault.NONE
        self._writers: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.port: int = probe.getsockname()[1]

    def __enter__(self) -> Self:
        self._thread.start()
        self._call(self._listen)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.set(Fault.REFUSE)
        self._call(self._cancel_all)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def set(self, fault: Fault) -> None:
        """Do this from now on; returns when it is done."""
        self._call(lambda: self._set(fault))

    def _call(self, make: Callable[[], Awaitable[None]]) -> None:
        async def run() -> None:
            await make()

        asyncio.run_coroutine_threadsafe(run(), self._loop).result(10)

    async def _cancel_all(self) -> None:
        while tasks := asyncio.all_tasks() - {asyncio.current_task()}:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(
            self._serve, "127.0.0.1", self.port, limit=_CHUNK, reuse_address=True
        )

    async def _set(self, fault: Fault) -> None:
        self._fault = fault
        if fault is Fault.REFUSE and self._server is not None:
            self._server.close()
            self._server = None
        elif fault is not Fault.REFUSE and self._server is None:
            await self._listen()
        if fault in _ENDING:
            for writer in tuple(self._writers):
                self._end(writer)

    def _end(self, writer: asyncio.StreamWriter) -> None:
        self._writers.discard(writer)
        if self._fault is Fault.CLOSE:
            writer.close()
            return
        if not writer.is_closing():
            raw = writer.get_extra_info("socket")
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _ABORT)
        writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.CancelledError):  # only at the end of the proxy
            await self._connect(reader, writer)

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        if self._fault in _ENDING:
            self._end(writer)
            return
        try:
            up_reader, up_writer = await asyncio.open_connection("127.0.0.1", self._target_port)
        except OSError:
            self._end(writer)
            return
        up = asyncio.create_task(self._pump(reader, up_writer, is_camera=False))
        try:
            await self._pump(up_reader, writer, is_camera=True)
        finally:
            up.cancel()
            self._writers.discard(writer)
            up_writer.close()
            writer.close()

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, is_camera: bool
    ) -> None:
        try:
            while data := await reader.read(_CHUNK):
                if is_camera:
                    data = await self._damaged(data, writer)
                writer.write(data)
                await writer.drain()
        except OSError:
            return  # the other side has gone

    async def _damaged(self, data: bytes, writer: asyncio.StreamWriter) -> bytes:
        """Return what is to be sent now, in place of ``data``."""
        while self._fault is Fault.STALL:
            await asyncio.sleep(_LOOK_EVERY_S)
        while self._fault is Fault.SLOW and data:
            writer.write(data[:_SLOW_BYTES])
            data = data[_SLOW_BYTES:]
            await asyncio.sleep(_SLOW_EVERY_S)
        return os.urandom(len(data)) if self._fault is Fault.GARBAGE else data
