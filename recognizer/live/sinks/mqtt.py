"""Notices to an MQTT broker: the state of every camera and class, and every event."""

import json
import threading
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from recognizer.config.alerts import MqttSink
from recognizer.installation import pip_command
from recognizer.live.events import LiveEvent
from recognizer.live.sinks.mqtt_topics import OFF, OFFLINE, ON, ONLINE, Entity
from recognizer.live.sinks.sink import SinkError, notice_bytes
from recognizer.live.store import Notice

if TYPE_CHECKING:
    from paho.mqtt.client import Client, ConnectFlags, DisconnectFlags, MQTTMessage
    from paho.mqtt.properties import Properties
    from paho.mqtt.reasoncodes import ReasonCode

_QOS = 1
_CLOSE_S = 1.0


class Mqtt:
    """Keeps a connection to a broker, and publishes with quality of service 1.

    After each connection, and after the birth message of Home Assistant, availability, discovery
    and all states are published again. A notice whose confirmation is missing is not published
    twice within a process: the client sends it again itself.

    Args:
        config: host, login, topics.
        entities: cameras and classes that are announced.

    Raises:
        ValueError: the password cannot be read.
        ImportError: paho-mqtt is missing.

    """

    def __init__(self, config: MqttSink, entities: Sequence[Entity]) -> None:
        self._config, self._entities = config, tuple(entities)
        self._place = f"mqtt://{config.host}:{config.port}"
        # The client calls on_publish under a lock that its publish() takes too: nothing is
        # published under _changed. _publishing keeps states in order and is not for on_publish.
        self._changed, self._publishing = threading.Condition(), threading.Lock()
        self._connected, self._why = False, "no answer yet"
        self._states: dict[Entity, tuple[str, str]] = {}
        self._awaited: set[int] = set()
        self._confirmed: set[int] = set()
        self._under_way: str | None = None
        self._client = _client(config)
        self._client.on_connect = self._on_connect
        self._client.on_connect_fail = self._on_connect_fail
        self._client.on_disconnect = self._on_disconnect
        self._client.on_message = self._on_message
        self._client.on_publish = self._on_publish
        self._client.will_set(f"{config.topic}/status", OFFLINE, qos=_QOS, retain=True)
        self._client.connect_async(config.host, config.port, keepalive=30)
        self._client.loop_start()

    def send(self, notice: Notice) -> None:
        """Publish a notice, and wait until the broker confirms it.

        Raises:
            SinkError: no connection, or no confirmation in time.

        """
        until_s = time.monotonic() + self._config.timeout_s
        if not self._wait(lambda: self._connected, until_s):
            raise SinkError(f"{self._place}: no connection: {self._why}")
        if self._under_way != notice.key:
            self._publish_notice(notice)
        if not self._wait(lambda: self._awaited <= self._confirmed, until_s):
            raise SinkError(f"{self._place}: expected a confirmation in time, got none")
        self._under_way = None

    def close(self) -> None:
        """Say that this end is offline, and disconnect."""
        if self._connected:
            info = self._client.publish(f"{self._config.topic}/status", OFFLINE, _QOS, retain=True)
            self._wait(lambda: info.mid in self._confirmed, time.monotonic() + _CLOSE_S)
        self._client.disconnect()
        self._client.loop_stop()

    def _wait(self, done: Callable[[], bool], until_s: float) -> bool:
        with self._changed:
            return self._changed.wait_for(done, max(0.0, until_s - time.monotonic()))

    def _publish_notice(self, notice: Notice) -> None:
        event, root = notice.event, self._config.topic
        entity = Entity(event.camera, event.class_name)
        state, attributes = OFF if event.state == "end" else ON, _attributes(event)
        with self._publishing:
            self._states[entity] = (state, attributes)
            self._confirmed.clear()
            self._awaited = {
                self._client.publish(topic, payload, _QOS, retain=retain).mid
                for topic, payload, retain in (
                    (entity.topic(root, "attributes"), attributes, True),
                    (entity.topic(root, "state"), state, True),
                    (entity.topic(root, "event"), notice_bytes(notice).decode(), False),
                )
            }
            self._under_way = notice.key

    def _announce(self) -> None:
        """Publish availability, discovery and states."""
        config = self._config
        with self._publishing:
            messages = [(f"{config.topic}/status", ONLINE)]
            for entity in dict.fromkeys((*self._entities, *self._states)):
                if config.discovery:
                    messages.append(entity.discovery(config.topic, config.discovery_topic))
                state, attributes = self._states.get(entity, (OFF, "{}"))
                messages.append((entity.topic(config.topic, "attributes"), attributes))
                messages.append((entity.topic(config.topic, "state"), state))
            for topic, payload in messages:
                self._client.publish(topic, payload, _QOS, retain=True)

    # --- called by the client, from its thread -----------------------------------------

    def _on_connect(
        self,
        client: "Client",
        _userdata: object,
        _flags: "ConnectFlags",
        reason: "ReasonCode",
        _properties: "Properties | None",
    ) -> None:
        if reason.is_failure:
            self._why = str(reason)
            return
        if self._config.discovery:
            client.subscribe(f"{self._config.discovery_topic}/status", _QOS)
        self._announce()
        with self._changed:
            self._connected = True
            self._changed.notify_all()

    def _on_connect_fail(self, _client: "Client", _userdata: object) -> None:
        self._why = "refused, not reached, or its certificate is not accepted"

    def _on_disconnect(
        self,
        _client: "Client",
        _userdata: object,
        _flags: "DisconnectFlags",
        reason: "ReasonCode",
        _properties: "Properties | None",
    ) -> None:
        with self._changed:
            if self._connected:
                self._why = str(reason)
            self._connected = False
            self._changed.notify_all()

    def _on_message(self, _client: "Client", _userdata: object, message: "MQTTMessage") -> None:
        if message.payload == ONLINE.encode() and not message.retain:
            self._announce()

    def _on_publish(
        self,
        _client: "Client",
        _userdata: object,
        mid: int,
        _reason: "ReasonCode",
        _properties: "Properties",
    ) -> None:
        with self._changed:
            self._confirmed.add(mid)
            self._changed.notify_all()


def _client(config: MqttSink) -> "Client":
    try:
        from paho.mqtt.client import Client
        from paho.mqtt.enums import CallbackAPIVersion
    except ImportError as error:
        raise ImportError(
            f"sink {config.name}: MQTT needs paho-mqtt; {pip_command('live.txt')}"
        ) from error
    client = Client(CallbackAPIVersion.VERSION2)
    client.connect_timeout = config.timeout_s
    client.reconnect_delay_set(1, 60)
    if config.user is not None:
        client.username_pw_set(config.user, config.password.read() if config.password else None)
    if config.tls:
        client.tls_set(ca_certs=str(config.ca_file) if config.ca_file else None)
    return client


def _attributes(event: LiveEvent) -> str:
    value: dict[str, Any] = {
        "event_id": event.event_id,
        "state": event.state,
        "zone": event.zone,
        "start_utc_s": event.start_utc_s,
        "end_utc_s": event.end_utc_s,
        "peak_probability": event.peak_probability,
        "people": [person.track_id for person in event.people],
        "stream": event.stream,
    }
    return json.dumps(value)
