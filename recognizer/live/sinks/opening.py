"""Sinks as the config names them."""

from collections.abc import Sequence

from recognizer.config.alerts import (
    AnySink,
    CommandSink,
    FrigateSink,
    JsonLinesSink,
    WebhookSink,
)
from recognizer.live.sinks.command import Command
from recognizer.live.sinks.deliver import BackOff, Delivery
from recognizer.live.sinks.frigate import Frigate
from recognizer.live.sinks.jsonl import JsonLines
from recognizer.live.sinks.mqtt import Mqtt
from recognizer.live.sinks.mqtt_topics import Entity
from recognizer.live.sinks.sink import Sink
from recognizer.live.sinks.webhook import Webhook
from recognizer.live.store import Store


def open_sink(config: AnySink, store: Store, entities: Sequence[Entity]) -> Sink:
    """Return the sink of a config.

    Args:
        config: the sink's settings.
        store: where a sink keeps the ids of its server.
        entities: cameras and classes, announced to Home Assistant.

    Raises:
        ValueError: a secret cannot be read.
        ImportError: a package is missing.

    """
    match config:
        case JsonLinesSink():
            return JsonLines(config.path)
        case WebhookSink():
            return Webhook(config)
        case FrigateSink():
            return Frigate(config.name, config, store)
        case CommandSink():
            return Command(config.argv, config.timeout_s)
        case _:
            return Mqtt(config, [e for e in entities if config.takes(e.camera, e.class_name)])


def open_deliveries(
    sinks: Sequence[AnySink], store: Store, entities: Sequence[Entity]
) -> list[Delivery]:
    """Return a delivery for each sink, not started yet. Raises as ``open_sink``."""
    return [
        Delivery(
            store,
            config.name,
            open_sink(config, store, entities),
            BackOff(give_up_s=config.give_up_h * 3600),
        )
        for config in sinks
    ]
