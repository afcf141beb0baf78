"""The JSON file of one analysed video, as values and as text.

``schema.json`` beside this file describes it (JSON Schema, draft 2020-12). It holds no
times of day and no machine, so that equal work gives equal bytes. One window and one
event stand on one line each: a day of video stays readable and small.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from recognizer.action.results import PROBABILITY_DIGITS, Event, Person, Window
from recognizer.analysis.zones import Zone
from recognizer.storage.artifacts import ArtifactError, atomic_path

SCHEMA = "recognizer.analysis"
SCHEMA_VERSION = 1
SCHEMA_FILE = Path(__file__).with_name("schema.json")


def probability_text(value: float, threshold: float, form: str = ".2f") -> str:
    """Return a probability as text that lies on the same side of the threshold as the number.

    Args:
        value: the probability, with at most ``PROBABILITY_DIGITS`` digits.
        threshold: of the events; a value that equals it counts.
        form: how it is written; digits are added where rounding would cross the threshold.

    """
    text, digits = format(value, form), 3
    while (float(text) >= threshold) != (value >= threshold) and digits <= PROBABILITY_DIGITS:
        text, digits = f"{value:.{digits}f}", digits + 1
    return text


@dataclass(frozen=True, slots=True)
class ServiceResult:
    """The windows and events of one classifier in a video.

    Attributes:
        classifier: all that decides the windows: file, sha256, classes, window_s, ...
        rules: how windows become events: threshold, merge_gap_s, min_event_s.
        windows: in order of time.
        events: in order of time.
        suppressed: events in rest zones.
        lying: rules of lying events: long_lie_s, gap_s; empty where disabled.

    """

    classifier: dict[str, Any]
    rules: dict[str, float]
    windows: tuple[Window, ...]
    events: tuple[Event, ...]
    suppressed: tuple[Event, ...] = ()
    lying: dict[str, float] = field(default_factory=dict)

    def probabilities(self, class_name: str) -> NDArray[np.float64]:
        """Return the probability of a class for every window, NaN where not classified."""
        values = [w.probabilities.get(class_name, np.nan) for w in self.windows]
        return np.array(values, np.float64)

    def spans(self) -> NDArray[np.float64]:
        """Return start and stop of every window, (N, 2)."""
        return np.array([(w.start_s, w.stop_s) for w in self.windows]).reshape(-1, 2)


@dataclass(frozen=True, slots=True)
class Record:
    """The analysis of one video.

    Attributes:
        video: its path inside the input folder.
        source: sha256 and size_bytes of the file.
        state: ``done`` or ``damaged``.
        damage: what is missing or doubtful; empty when done.
        size_wh: width and height, pixels.
        frames: number of analysed frames.
        span_s: start and stop.
        made_from: folders of the poses and tracks, whose names change with their settings.
        services: by service.
        zones: of its camera.

    """

    video: str
    source: dict[str, Any]
    state: Literal["done", "damaged"]
    damage: str
    size_wh: tuple[int, int]
    frames: int
    span_s: tuple[float, float]
    made_from: dict[str, str]
    services: dict[str, ServiceResult] = field(default_factory=dict)
    zones: tuple[Zone, ...] = ()


def to_json(record: Record) -> dict[str, Any]:
    """Return the record as the schema describes it."""
    value = asdict(record)
    start_s, stop_s = value.pop("span_s")
    _drop_empty(value, "zones")
    for name, result in record.services.items():
        values = value["services"][name]
        values["events"] = tuple(event.as_dict() for event in result.events)
        values["suppressed"] = tuple(event.as_dict() for event in result.suppressed)
        _drop_empty(values, "suppressed", "lying")
    return {
        "schema": SCHEMA,
        "schema_version": SCHEMA_VERSION,
        **value,
        "start_s": start_s,
        "stop_s": stop_s,
    }


def _drop_empty(value: dict[str, Any], *keys: str) -> None:
    """Remove empty values of optional keys."""
    for key in keys:
        if value[key] in (None, (), {}):
            del value[key]


def record_bytes(record: Record) -> bytes:
    """Return the JSON text, UTF-8; undecodable file names are escaped."""
    return (_text(to_json(record)) + "\n").encode("utf-8", "backslashreplace")


def _text(value: object, indent: str = "") -> str:
    """Return JSON with a line for every key, and for every object in a list."""
    inner = indent + "  "
    if isinstance(value, Mapping) and value:
        rows = [f"{inner}{_line(key)}: {_text(value[key], inner)}" for key in sorted(value)]
        return "{\n" + ",\n".join(rows) + f"\n{indent}}}"
    if isinstance(value, list | tuple) and value and isinstance(value[0], Mapping):
        return "[\n" + ",\n".join(f"{inner}{_line(item)}" for item in value) + f"\n{indent}]"
    return _line(value)


def _line(value: object) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=False, allow_nan=False)


def write_record(final: Path, root: Path, record: Record) -> None:
    """Write the file atomically."""
    with atomic_path(final, root) as scratch:
        scratch.write_bytes(record_bytes(record))


def read_record(path: Path) -> Record:
    """Read a file that ``write_record`` made.

    Raises:
        FileNotFoundError: no such file.
        ArtifactError: damaged, or of another schema or version.

    """
    try:
        value = json.loads(path.read_bytes())
        if (value["schema"], value["schema_version"]) != (SCHEMA, SCHEMA_VERSION):
            raise ArtifactError(
                f"{path}: expected schema '{SCHEMA}' version {SCHEMA_VERSION}, found "
                f"{value['schema']!r} version {value['schema_version']!r}"
            )
        del value["schema"], value["schema_version"]
        services = {name: _service(result) for name, result in value.pop("services").items()}
        size_wh = tuple(value.pop("size_wh"))
        span_s = (value.pop("start_s"), value.pop("stop_s"))
        zones = tuple(_zone(zone) for zone in value.pop("zones", ()))
        record = Record(**value, size_wh=size_wh, span_s=span_s, services=services, zones=zones)
        _check(record)
        return record
    except ArtifactError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ArtifactError(f"{path}: not a readable analysis: {error}") from error


def _check(record: Record) -> None:
    """Raise ValueError for invalid numbers, as in a file that was edited by hand."""
    begin, end = record.span_s
    if not 0 <= float(end) - float(begin) < np.inf or len(record.size_wh) != 2:
        raise ValueError(f"expected start_s, stop_s and size_wh, got {begin!r}, {end!r}")
    for name, result in record.services.items():
        classes = result.classifier["classes"]
        for w in result.windows:
            if not w.start_s < w.stop_s or (
                w.probabilities and set(w.probabilities) != set(classes)
            ):
                raise ValueError(f"{name}: not a window: {w.start_s!r} to {w.stop_s!r}")
            values = [*w.probabilities.values(), *w.streams.values()]
            if not all(0 <= float(p) <= 1 and not isinstance(p, str) for p in values):
                raise ValueError(f"{name}: expected probabilities at {w.start_s!r}")


def _service(value: dict[str, Any]) -> ServiceResult:
    windows = tuple(Window(**{**w, "people": _people(w)}) for w in value.pop("windows"))
    events = tuple(_event(event) for event in value.pop("events"))
    suppressed = tuple(_event(event) for event in value.pop("suppressed", ()))
    return ServiceResult(**value, windows=windows, events=events, suppressed=suppressed)


def _zone(value: dict[str, Any]) -> Zone:
    return Zone(**{**value, "polygon": tuple((float(x), float(y)) for x, y in value["polygon"])})


def _event(value: dict[str, Any]) -> Event:
    fields = {**value, "people": _people(value)}
    return Event(class_name=fields.pop("class"), **fields)


def _people(value: dict[str, Any]) -> tuple[Person, ...]:
    return tuple(Person(**{**p, "box": tuple(p["box"])}) for p in value["people"])
