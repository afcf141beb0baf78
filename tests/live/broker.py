"""A real MQTT broker (amqtt) on the loopback, in a thread, to be stopped and started again."""

import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from amqtt.broker import Broker
from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion

ANONYMOUS = {"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}}


def free_port() -> int:
    """Return a port that no one listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def broker(
    port: int, plugins: dict[str, Any] | None = None, certificate: Path | None = None
) -> Iterator[None]:
    """Run a broker, with TLS where a file of key and certificate is given."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    listener: dict[str, Any] = {"type": "tcp", "bind": f"127.0.0.1:{port}"}
    if certificate is not None:
        listener |= {"ssl": True, "certfile": certificate, "keyfile": certificate}
    config = {
        "listeners": {"default": listener},
        "plugins": plugins or ANONYMOUS,
    }

    async def start() -> Broker:
        running = Broker(config)
        await running.start()
        return running

    running = asyncio.run_coroutine_threadsafe(start(), loop).result(10)
    try:
        yield
    finally:
        asyncio.run_coroutine_threadsafe(running.shutdown(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()


class Listener:
    """A client that keeps all messages."""

    def __init__(self, port: int, topic: str = "#") -> None:
        self.messages: list[MQTTMessage] = []
        self._changed = threading.Condition()
        self.client = Client(CallbackAPIVersion.VERSION2)
        self.client.on_message = self._keep
        ready = threading.Event()
        self.client.on_subscribe = lambda *_: ready.set()
        self.client.connect("127.0.0.1", port)
        self.client.loop_start()
        self.client.subscribe(topic, 1)
        assert ready.wait(10)

    def _keep(self, _client: Client, _userdata: object, message: MQTTMessage) -> None:
        with self._changed:
            self.messages.append(message)
            self._changed.notify_all()

    def texts(self, topic: str) -> list[str]:
        """Return what arrived at a topic."""
        return [m.payload.decode() for m in self.messages if m.topic == topic]

    def wait(self, topic: str, count: int = 1, timeout_s: float = 10.0) -> list[str]:
        """Return what arrived at a topic, at least ``count`` messages."""
        with self._changed:
            arrived = self._changed.wait_for(
                lambda: len(self.texts(topic)) >= count, timeout=timeout_s
            )
        topics = sorted({m.topic for m in self.messages})
        assert arrived, f"{len(self.texts(topic))} messages at {topic}, others at {topics}"
        return self.texts(topic)

    def close(self) -> None:
        """Disconnect."""
        self.client.disconnect()
        self.client.loop_stop()
