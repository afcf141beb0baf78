"""The MQTT topics of a camera and class, and how Home Assistant finds them.

Below ``MqttSink.topic``: ``status`` is ``online`` or ``offline``; ``<camera>/<class>/state`` is
``ON`` during an event, else ``OFF``, with ``<camera>/<class>/attributes`` as JSON, all retained;
``<camera>/<class>/event`` has every notice, not retained.
"""

import json
import re
from dataclasses import dataclass

from recognizer import __version__
from recognizer.storage.artifacts import short_digest

ON, OFF = "ON", "OFF"
ONLINE, OFFLINE = "online", "offline"
_NOT_IN_TOPICS = re.compile(r"[+#/$\s\x00-\x1f]")
_NOT_IN_IDS = re.compile(r"[^A-Za-z0-9_-]")


@dataclass(frozen=True, slots=True)
class Entity:
    """A class of events at a camera."""

    camera: str
    class_name: str

    def topic(self, root: str, leaf: str) -> str:
        """Return ``<root>/<camera>/<class>/<leaf>``."""
        return "/".join((root, _level(self.camera), _level(self.class_name), leaf))

    @property
    def object_id(self) -> str:
        """An id of letters, digits, _ and -, different for different entities."""
        plain = f"{self.camera}_{self.class_name}"
        kept = _NOT_IN_IDS.sub("_", plain)
        # What was replaced could make two ids equal, and so could the place of the line between.
        return f"{kept}_{short_digest([self.camera, self.class_name])}"

    def discovery(self, root: str, prefix: str) -> tuple[str, str]:
        """Return topic and JSON by which Home Assistant makes a binary sensor of the entity."""
        node = "recognizer_" + _NOT_IN_IDS.sub("_", root)
        unique = f"{node}_{self.object_id}"
        value = {
            "name": self.class_name,
            "unique_id": unique,
            "device_class": "safety",
            "state_topic": self.topic(root, "state"),
            "payload_on": ON,
            "payload_off": OFF,
            "json_attributes_topic": self.topic(root, "attributes"),
            "availability_topic": f"{root}/status",
            "payload_available": ONLINE,
            "payload_not_available": OFFLINE,
            "qos": 1,
            "device": {
                "identifiers": [f"{node}_{short_digest(self.camera)}"],
                "name": self.camera,
                "manufacturer": "recognizer",
                "model": "camera",
            },
            "origin": {"name": "recognizer", "sw_version": __version__},
        }
        return f"{prefix}/binary_sensor/{node}/{self.object_id}/config", json.dumps(value)


def _level(name: str) -> str:
    """Return a name as one level of a topic."""
    kept = _NOT_IN_TOPICS.sub("_", name)
    return kept if kept == name else f"{kept}_{short_digest(name)}"
