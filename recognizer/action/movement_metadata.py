"""Metadata of the movement stream in a classifier file: its measures, fusion and training."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from recognizer.action.fusion import Fusion
from recognizer.action.measures import measure_names

SCHEMA, SCHEMA_VERSION = "recognizer.movement", 1
INPUT, OUTPUT, POSE_OUTPUT = "measures", "movement_probabilities", "pose_probabilities"
_MAX_TEXT = 2**20
_MAX_PEOPLE = 100  # as many as dataset.num_person may be


@dataclass(frozen=True, slots=True)
class MovementMetadata:
    """Metadata of the movement stream in a classifier file.

    Attributes:
        measures: names of the stream's inputs, in order.
        fusion: how both streams are joined; the graph holds the same weights.
        training: how the stream and the fusion were fitted.
        num_person: people at most in its training samples; the measures depend on it. None, in
            files without it: as many as the pose stream takes.

    """

    measures: tuple[str, ...]
    fusion: Fusion
    training: Mapping[str, Any]
    num_person: int | None = None

    def to_json(self) -> dict[str, object]:
        """Return plain values."""
        return {
            "measures": list(self.measures),
            "fusion": self.fusion.to_json(),
            "training": dict(self.training),
            **({} if self.num_person is None else {"num_person": self.num_person}),
        }

    @classmethod
    def from_json(cls, value: object, service: str, classes: int) -> "MovementMetadata":
        """Read the output of ``to_json`` from an untrusted file.

        Raises:
            ValueError: not these keys, fusion weights that are none, a wrong number of people, or
                measures that this version does not make.

        """
        if not isinstance(value, Mapping) or not isinstance(value.get("training"), dict):
            raise ValueError(f"movement: expected measures, fusion and training, got {value!r:.60}")
        expected = measure_names(service)
        if value.get("measures") != list(expected):
            given = value.get("measures")
            count = len(given) if isinstance(given, list) else 0
            raise ValueError(
                f"movement: expected the {len(expected)} measures of this version for {service}, "
                f"got {count} others; fit the stream again (--mode train.movement) and export"
            )
        people = value.get("num_person")
        if people is not None and (type(people) is not int or not 1 <= people <= _MAX_PEOPLE):
            raise ValueError(
                f"movement: num_person: expected 1 to {_MAX_PEOPLE}, got {people!r:.60}; fit the "
                "stream again (--mode train.movement) and export"
            )
        fusion = Fusion.from_json(value.get("fusion"), classes)
        return cls(expected, fusion, value["training"], people)


def movement_text(metadata: MovementMetadata, service: str, classes: tuple[str, ...]) -> str:
    """Return the metadata of a file of the movement stream alone."""
    header = {"schema": SCHEMA, "version": SCHEMA_VERSION, "service": service}
    return json.dumps(
        {**header, "classes": list(classes), **metadata.to_json()}, sort_keys=True, allow_nan=False
    )


def read_movement_text(text: str) -> tuple[MovementMetadata, str, tuple[str, ...]]:
    """Return metadata, service and classes from the output of ``movement_text``.

    Raises:
        ValueError: of another schema, or a value that cannot be; named.

    """
    try:
        value = json.loads(text) if 0 < len(text) <= _MAX_TEXT else None
    except (ValueError, RecursionError) as error:
        raise ValueError(f"expected JSON: {str(error)[:100]}") from error
    if not isinstance(value, dict) or (value.get("schema"), value.get("version")) != (
        SCHEMA,
        SCHEMA_VERSION,
    ):
        raise ValueError(
            f"expected schema {SCHEMA} version {SCHEMA_VERSION}; --mode train.movement makes it"
        )
    service, classes = value.get("service"), value.get("classes")
    if not isinstance(service, str) or not isinstance(classes, list):
        raise ValueError(f"expected service and classes, got {service!r:.60} and {classes!r:.60}")
    if len(classes) < 2 or not all(isinstance(name, str) for name in classes):
        raise ValueError(f"classes: expected two or more names, got {classes!r:.60}")
    return MovementMetadata.from_json(value, service, len(classes)), service, tuple(classes)
