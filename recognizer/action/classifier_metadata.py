"""Metadata of a classifier file: classes, window, features, training.

JSON in the ONNX metadata under the key ``recognizer``, validated as untrusted input.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from recognizer.action.features import FeatureSettings
from recognizer.action.movement_metadata import MovementMetadata
from recognizer.scoring.ranking import SERVICES, Service

__all__ = ["SCHEMA", "SCHEMA_VERSION", "ClassifierMetadata"]

SCHEMA = "recognizer.classifier"
SCHEMA_VERSION = 1
_MAX_TEXT = 2**20
# Far above any trained model; larger values would only fill the memory.
_MAX_MEMBERS, _MAX_CLASSES, _MAX_CLIP_LEN, _MAX_PEOPLE = 32, 1000, 10_000, 100
_MIN_WINDOW_S, _MAX_WINDOW_S = 0.02, 3600.0


@dataclass(frozen=True, slots=True)
class ClassifierMetadata:
    """Metadata of a classifier file.

    Attributes:
        service: "fight" or "falldown".
        classes: names in the order of their labels; label 0 is the normal class.
        window_s: length of the windows it was trained on, seconds.
        threshold: probability from which a window counts as an event.
        features: one per member of the ensemble whose probabilities are averaged; equal settings
            share one input.
        training: digests and names of what it was trained from; figures that measured it.
        created_by: version that wrote the file.
        movement: the movement stream beside the network; None: poses alone.

    """

    service: Service
    classes: tuple[str, ...]
    window_s: float
    threshold: float
    features: tuple[FeatureSettings, ...]
    training: Mapping[str, object]
    created_by: str
    movement: MovementMetadata | None = None

    @property
    def inputs(self) -> dict[str, FeatureSettings]:
        """Return the network's inputs: ``persons``, or ``persons_0``, ... if they differ."""
        distinct = list(dict.fromkeys(self.features))
        if len(distinct) == 1:
            return {"persons": distinct[0]}
        return {f"persons_{i}": settings for i, settings in enumerate(distinct)}

    @property
    def num_person(self) -> int:
        """Return how many people at most the network takes."""
        return self.features[0].num_person

    @property
    def sample_people(self) -> int:
        """Return how many people at most a sample holds, for either stream.

        The network takes the first ``num_person`` of them, the movement stream all.
        """
        movement = None if self.movement is None else self.movement.num_person
        return max(self.num_person, movement or 0)

    def to_text(self) -> str:
        """Return the JSON text for the file."""
        movement = {} if self.movement is None else {"movement": self.movement.to_json()}
        return json.dumps(
            {
                "schema": SCHEMA,
                "version": SCHEMA_VERSION,
                "service": self.service,
                "classes": list(self.classes),
                "window_s": self.window_s,
                "threshold": self.threshold,
                "num_person": self.num_person,
                "features": [settings.to_json() for settings in self.features],
                "training": dict(self.training),
                "created_by": self.created_by,
                **movement,
            },
            sort_keys=True,
            allow_nan=False,
        )

    @classmethod
    def from_text(cls, text: str) -> "ClassifierMetadata":
        """Read the output of ``to_text`` from an untrusted file.

        Raises:
            ValueError: not this schema and version, or a value that cannot be; named.

        """
        value = _json_object(text)
        if value.get("schema") != SCHEMA or value.get("version") != SCHEMA_VERSION:
            raise ValueError(
                f"expected schema {SCHEMA} version {SCHEMA_VERSION}, got "
                f"{_short(value.get('schema'))} version {_short(value.get('version'))}; export "
                "the checkpoint again (--mode deploy.export) with this version"
            )
        if value.get("service") not in SERVICES:
            raise ValueError(
                f"service: expected one of {SERVICES}, got {_short_of(value, 'service')}"
            )
        if not isinstance(value.get("training"), dict):
            raise ValueError(f"training: expected an object, got {_short_of(value, 'training')}")
        if not isinstance(value.get("created_by"), str):
            raise ValueError(f"created_by: expected a text, got {_short_of(value, 'created_by')}")
        service: Service = value["service"]
        classes = _classes(value.get("classes"))
        metadata = cls(
            service=service,
            classes=classes,
            window_s=_number(value, "window_s", _MIN_WINDOW_S, _MAX_WINDOW_S),
            threshold=_number(value, "threshold", 0.0, 1.0),
            features=_features(value.get("features")),
            training=value["training"],
            created_by=value["created_by"],
            movement=_movement(value.get("movement"), service, len(classes)),
        )
        if metadata.window_s == 0 or value.get("num_person") != metadata.num_person:
            raise ValueError(
                f"expected window_s above 0 and num_person {metadata.num_person}, got "
                f"{metadata.window_s:g} and {_short_of(value, 'num_person')}"
            )
        return metadata


# --- checks ------------------------------------------------------------------------


def _json_object(text: str) -> dict[str, Any]:
    if len(text) > _MAX_TEXT:
        raise ValueError(f"expected at most {_MAX_TEXT} characters, got {len(text)}")
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"expected JSON: {str(error)[:100]}") from error
    if not isinstance(value, dict):
        raise ValueError(f"expected a JSON object, got {_short(value)}")
    return value


def _classes(value: object) -> tuple[str, ...]:
    names = value if isinstance(value, list) else []
    # Names go to the console, and control characters would steer it.
    right = all(isinstance(n, str) and n.strip() and n.isprintable() for n in names)
    if not (right and 2 <= len(names) <= _MAX_CLASSES and len(set(names)) == len(names)):
        raise ValueError(f"classes: expected two or more different names, got {_short(value)}")
    return tuple(names)


def _number(value: Mapping[str, object], key: str, low: float, high: float) -> float:
    number: Any = value.get(key)
    # NaN is not between anything either.
    if type(number) not in (int, float) or not low <= number <= high:
        raise ValueError(f"{key}: expected {low:g} to {high:g}, got {_short(number)}")
    return float(number)


def _features(value: object) -> tuple[FeatureSettings, ...]:
    if not isinstance(value, list) or not 1 <= len(value) <= _MAX_MEMBERS:
        raise ValueError(f"features: expected 1 to {_MAX_MEMBERS} members, got {_short(value)}")
    try:
        members = tuple(FeatureSettings.from_json(item) for item in value)
        people = {settings.num_person for settings in members}
    except TypeError as error:  # a list where a name belongs
        raise ValueError(f"features: {error}") from error
    if len(people) > 1 or max(people) > _MAX_PEOPLE:
        raise ValueError(
            f"features: expected one num_person, at most {_MAX_PEOPLE}, got {sorted(people)}"
        )
    if max(settings.clip_len for settings in members) > _MAX_CLIP_LEN:
        raise ValueError(f"features: expected clip_len at most {_MAX_CLIP_LEN}")
    return members


def _movement(value: object, service: str, classes: int) -> MovementMetadata | None:
    return None if value is None else MovementMetadata.from_json(value, service, classes)


def _short_of(value: Mapping[str, object], key: str) -> str:
    return _short(value.get(key))


def _short(value: object) -> str:
    return repr(value)[:60]
