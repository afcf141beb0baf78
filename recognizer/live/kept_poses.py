"""The tracked poses of an event, kept in a file beside its clip to learn from later.

``annotation.from_reviews`` reads them. The file is one of stage 2's form (``storage.artifacts``):
poses, ids and, where a classifier needs it, movement, as live detection saw them.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import get_args

from recognizer.action.classifier import Classifier
from recognizer.config.live import EvidenceConfig
from recognizer.config.schema import Config
from recognizer.live.clips import POSES, Write, span_around
from recognizer.live.events import LiveEvent
from recognizer.live.evidence import EvidenceError
from recognizer.live.pose_ring import PoseRing
from recognizer.pose.settings import tracking_settings
from recognizer.runs.manifest import Settings
from recognizer.runs.stage_folders import stage1_settings
from recognizer.scoring.ranking import Service
from recognizer.sequences import join_sequences
from recognizer.storage.artifacts import ArtifactError, read_poses, write_poses
from recognizer.types import PoseSequence

_EVENT = "event"  # key of the metadata


@dataclass(frozen=True, slots=True)
class PoseOrigin:
    """What made the poses of a run.

    Attributes:
        services: the service of each class of events; classes of two services are left out.
        settings: of pose network, tracker and look-ahead.

    """

    services: Mapping[str, Service]
    settings: Settings


@dataclass(frozen=True, eq=False, slots=True)
class KeptPoses:
    """The poses of an event.

    Attributes:
        event_id: the event.
        service: whose event it is.
        settings: as ``kept_settings`` gives.
        sequence: tracked people; times as those of the event (``start_s``).

    """

    event_id: str
    service: Service
    settings: Settings
    sequence: PoseSequence


def kept_settings(config: Config, *, movement: bool) -> Settings:
    """Return all that decides the poses and tracks of live detection, as JSON holds it.

    Args:
        config: the whole config.
        movement: whether the movement of people is measured.

    Raises:
        ConfigError: no network file, or one of another kind.

    """
    stage1 = stage1_settings(config)
    stage1["sample_fps"] = None  # each camera has its own
    stage1.pop("movement", None)
    if movement:
        stage1["movement"] = True
    settings: Settings = {
        "stage1": stage1,
        "tracking": tracking_settings(config, stage1).model_dump(mode="json"),
        "look_ahead_s": config.live.look_ahead_s,
    }
    value: Settings = json.loads(json.dumps(settings))
    return value


def origin_of(config: Config, classifiers: Sequence[Classifier]) -> PoseOrigin:
    """Return what makes the poses of a run with these classifiers.

    Raises:
        ConfigError: as ``kept_settings``.

    """
    movement = any(one.metadata.movement is not None for one in classifiers)
    named = [(name, one.service) for one in classifiers for name in one.classes[1:]]
    counts = Counter(name for name, _ in named)
    services = {name: service for name, service in named if counts[name] == 1}
    return PoseOrigin(services, kept_settings(config, movement=movement))


class KeptPosesSource:
    """The tracked people as a ``ClipSource`` of files of poses.

    Args:
        ring: keeps them.
        config: seconds around an event, and the longest duration.
        origin: what made them.

    """

    suffix = POSES

    def __init__(self, ring: PoseRing, config: EvidenceConfig, origin: PoseOrigin) -> None:
        self._ring, self._config, self._origin = ring, config, origin

    def cut(self, event: LiveEvent, end_s: float) -> Write:
        """Return what writes the poses around an event; the frames are taken now."""
        parts = self._ring.between(*span_around(event.start_s, end_s, self._config))
        return partial(_write, event, self._origin, parts)

    def restart(self) -> None:
        """Forget the frames before."""
        self._ring.restart()


def _write(
    event: LiveEvent, origin: PoseOrigin, parts: Sequence[PoseSequence], path: Path, root: Path
) -> None:
    if not parts:
        raise EvidenceError(f"expected poses from {event.start_s:.1f} s on, found none")
    service = origin.services.get(event.class_name)
    if service is None:
        raise EvidenceError(
            f"expected a class of one service, got {event.class_name}; rename the class of one"
        )
    sequence = join_sequences(parts)
    meta = {
        "video": f"{event.camera}/{event.event_id}",
        "frames": len(sequence),
        "settings": origin.settings,
        _EVENT: {
            "id": event.event_id,
            "service": service,
            "class": event.class_name,
        },
    }
    write_poses(path, root, sequence, meta)


def read_kept_poses(path: Path) -> KeptPoses:
    """Read the poses of an event.

    Raises:
        FileNotFoundError: no such file.
        ArtifactError: damaged, hostile, or not the poses of an event.

    """
    sequence, _, meta = read_poses(path)
    try:
        event_id, service = meta[_EVENT]["id"], meta[_EVENT]["service"]
        settings = dict(meta["settings"])
    except (KeyError, TypeError, ValueError) as error:
        raise ArtifactError(f"{path}: expected the poses of an event, found others") from error
    if service not in get_args(Service) or not isinstance(event_id, str):
        raise ArtifactError(
            f"{path}: expected the poses of an event of {' or '.join(get_args(Service))}, got "
            f"{service!r:.60}"
        )
    return KeptPoses(event_id, service, settings, sequence)
