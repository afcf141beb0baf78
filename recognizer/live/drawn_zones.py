"""Zones that administrators draw on the page: kept in the store, in force at once.

Every change is kept, with who made it and when; the last one of a zone counts.
"""

import json
import threading
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from recognizer.config.alerts import LiveZoneConfig
from recognizer.live.store import Store
from recognizer.live.store_schema import StoreDamagedError, reading
from recognizer.live.zones import CameraZone, CameraZones, zones_of_camera

MAX_DRAWN = 50  # zones of a camera; each is looked at for every window


class ZoneLimitError(ValueError):
    """A camera that has as many drawn zones as it may."""


@dataclass(frozen=True, slots=True)
class DrawnZone:
    """A zone that was drawn.

    Attributes:
        zone_id: the same for all its states.
        camera: whose picture it is a part of.
        zone: kind, name and corners.
        author: who drew or changed it last.
        utc_s: when, seconds since 1970.

    """

    zone_id: str
    camera: str
    zone: CameraZone
    author: str
    utc_s: float


class ZoneBook:
    """The zones of all cameras: those of the config, and those that were drawn.

    Any thread may ask and change. A change is in the store before it counts.

    Args:
        store: keeps what is drawn.
        configured: the config's zones; they come first and do not change.

    Raises:
        StoreError: what was drawn cannot be read.

    """

    def __init__(self, store: Store, configured: Sequence[LiveZoneConfig] = ()) -> None:
        self._store, self._configured = store, tuple(configured)
        self._lock = threading.Lock()
        self._drawn = list_drawn(store.path)
        self._current: dict[str, CameraZones] = {}

    def current(self, camera: str) -> CameraZones:
        """Return the zones of a camera that its rules read, and that changes swap."""
        with self._lock:
            if camera not in self._current:
                self._current[camera] = CameraZones(self._zones_of(camera))
            return self._current[camera]

    def configured(self, camera: str) -> tuple[CameraZone, ...]:
        """Return the config's zones of a camera."""
        return zones_of_camera(self._configured, camera)

    def drawn(self, camera: str) -> tuple[DrawnZone, ...]:
        """Return the drawn zones of a camera, the earliest first."""
        with self._lock:
            return tuple(one for one in self._drawn if one.camera == camera)

    def add(self, camera: str, zone: CameraZone, author: str, utc_s: float) -> DrawnZone:
        """Add a zone to a camera's.

        Raises:
            ZoneLimitError: the camera has 50 already.
            StoreError: of any kind; the zones are as before.

        """
        with self._lock:
            if sum(one.camera == camera for one in self._drawn) >= MAX_DRAWN:
                raise ZoneLimitError(f"expected at most {MAX_DRAWN} zones of {camera}; remove one")
            made = DrawnZone(uuid.uuid4().hex, camera, zone, author, utc_s)
            self._write(made, is_removed=False)
            return made

    def change(
        self, zone_id: str, camera: str, zone: CameraZone, author: str, utc_s: float
    ) -> DrawnZone:
        """Give a drawn zone of a camera another kind, name or corners.

        Raises:
            KeyError: there is none.
            StoreError: of any kind; the zones are as before.

        """
        with self._lock:
            made = replace(self._known(zone_id, camera), zone=zone, author=author, utc_s=utc_s)
            self._write(made, is_removed=False)
            return made

    def remove(self, zone_id: str, camera: str, author: str, utc_s: float) -> None:
        """Remove a drawn zone of a camera. Raises as ``change``."""
        with self._lock:
            gone = replace(self._known(zone_id, camera), author=author, utc_s=utc_s)
            self._write(gone, is_removed=True)

    def _known(self, zone_id: str, camera: str) -> DrawnZone:
        for one in self._drawn:
            if (one.zone_id, one.camera) == (zone_id, camera):
                return one
        raise KeyError(f"expected the id of a drawn zone of {camera}, got {zone_id!r}")

    def _write(self, zone: DrawnZone, *, is_removed: bool) -> None:
        with self._store.writing() as db:
            db.execute(
                "INSERT INTO zones (id, camera, kind, name, polygon, is_removed, author, utc_s) "
                "VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    *(zone.zone_id, zone.camera, zone.zone.kind, zone.zone.name),
                    json.dumps(zone.zone.polygon, allow_nan=False),
                    *(is_removed, zone.author, zone.utc_s),
                ),
            )
        kept = {one.zone_id: one for one in self._drawn} | {zone.zone_id: zone}
        if is_removed:
            del kept[zone.zone_id]
        self._drawn = tuple(kept.values())
        if zone.camera in self._current:
            self._current[zone.camera].swap(self._zones_of(zone.camera))

    def _zones_of(self, camera: str) -> list[CameraZone]:
        drawn = [one.zone for one in self._drawn if one.camera == camera]
        return [*self.configured(camera), *drawn]


def list_drawn(path: Path) -> tuple[DrawnZone, ...]:
    """Return the drawn zones of all cameras, those drawn first before others.

    Raises:
        StoreError: of any kind.

    """
    with reading(path) as db:
        rows = db.execute(
            "SELECT id, camera, kind, name, polygon, author, utc_s FROM zones z "
            "WHERE is_removed = 0 AND seq = (SELECT max(seq) FROM zones WHERE id = z.id) "
            "ORDER BY (SELECT min(seq) FROM zones WHERE id = z.id)"
        ).fetchall()
    try:
        return tuple(
            DrawnZone(
                row["id"],
                row["camera"],
                checked_zone(row["name"], row["kind"], row["polygon"]),
                row["author"],
                row["utc_s"],
            )
            for row in rows
        )
    except ValueError as error:
        raise StoreDamagedError(
            f"{path}: expected a zone in each row of zones, got: {error}. Restore a copy"
        ) from error


def checked_zone(name: str, kind: str, polygon: str) -> CameraZone:
    """Return a zone, checked as those of the config.

    Args:
        name: shown in events.
        kind: ``include``, ``ignore`` or ``rest``.
        polygon: corners as JSON, ``[[x, y], ...]``, in [0, 1] of the picture's width and height.

    Raises:
        ValidationError: of pydantic, a ``ValueError``; it says which of the three is wrong.

    """
    try:
        corners = json.loads(polygon)
    except (ValueError, RecursionError):
        corners = None  # refused below, as what it is: no corners
    zone = LiveZoneConfig.model_validate({"name": name, "kind": kind, "polygon": corners})
    return CameraZone(zone.kind, zone.name, tuple(zone.polygon))
