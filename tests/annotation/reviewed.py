"""Live events with kept poses and decisions, without cameras and networks."""

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

from recognizer.config.live import EvidenceConfig
from recognizer.config.schema import Config
from recognizer.live.clips import POSES, event_file
from recognizer.live.events import LiveEvent
from recognizer.live.kept_poses import KeptPosesSource, PoseOrigin, kept_settings
from recognizer.live.pose_ring import PoseRing
from recognizer.live.store import Store, Verdict
from recognizer.runs.manifest import Settings
from recognizer.scoring.ranking import Service
from recognizer.types import PoseSequence
from tests.dataset.tracked import sequence
from tests.live.events import OPEN

NOON = datetime(2026, 11, 28, 12).astimezone().timestamp()
CLOCK_S = 5000.0  # the monotonic clock at noon
SERVICES: dict[str, Service] = {"Fight": "fight", "Falldown": "falldown"}


def config(folder: Path, **sections: Any) -> Config:
    """Return the config of live detection and of what is learnt from it, below a folder."""
    live = {
        "alerts": {"store": {"path": str(folder / "events.sqlite3")}},
        "clips_dir": str(folder / "clips"),
    }
    annotation = {"output_dir": str(folder / "out"), **sections.pop("annotation", {})}
    return Config.model_validate({"live": live, "annotation": annotation, **sections})


def event(
    number: int,
    camera: str = "door",
    *,
    after_s: float = 0.0,
    lasts_s: float = 2.0,
    class_name: str = "Fight",
    continues: str | None = None,
) -> LiveEvent:
    """Return an event that has ended, ``after_s`` after noon."""
    return replace(
        OPEN,
        event_id=f"{number:032x}",
        revision=1,
        state="end",
        camera=camera,
        class_name=class_name,
        start_s=CLOCK_S + after_s,
        end_s=CLOCK_S + after_s + lasts_s,
        start_utc_s=NOON + after_s,
        end_utc_s=NOON + after_s + lasts_s,
        continues=continues,
    )


@cache
def _settings(track_high_thresh: float | None) -> Settings:
    tracking = {"track_high_thresh": track_high_thresh}
    return kept_settings(Config.model_validate({"tracking": tracking}), movement=False)


def keep(settings: Config, one: LiveEvent, poses: PoseSequence | None = None) -> Path:
    """Keep poses around an event, as live detection does: from 1 s before to 1 s after it."""
    lasts_s = one.end_s - one.start_s
    poses = sequence(lasts_s + 2.0) if poses is None else poses
    ring = PoseRing(600.0)
    ring.add(replace(poses, time_s=poses.time_s + one.start_s - 1.0))
    origin = PoseOrigin(SERVICES, _settings(settings.tracking.track_high_thresh))
    source = KeptPosesSource(ring, EvidenceConfig(), origin)
    path = event_file(settings.live.clips_dir, one.camera, one.event_id, POSES)
    source.cut(one, one.end_s)(path, settings.live.clips_dir)
    return path


def decide(settings: Config, decided: Iterable[tuple[LiveEvent, Verdict | None]]) -> None:
    """Write events and decisions into the store."""
    store = Store(settings.live.alerts.store.path)
    for one, verdict in decided:
        store.put([one], one.end_utc_s)
        if verdict is not None:
            store.review(one.event_id, verdict, "me", one.end_utc_s)
    store.close()
