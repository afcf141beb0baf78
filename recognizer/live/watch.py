"""What a run of live detection does now and then: the log, the database's upkeep, the memory's."""

import ctypes
import logging
import threading
import time

from recognizer.config.realtime import LiveConfig
from recognizer.live.clips import files_by_event
from recognizer.live.fleet import CameraFleet
from recognizer.live.recording import StoreRecorder
from recognizer.live.store import Store
from recognizer.live.store_schema import StoreError
from recognizer.live.values import CameraState as State

logger = logging.getLogger(__name__)

SEEN = (State.STREAMING, State.ENDED)
"""States of a camera that is not away."""

_DAY_S = 24 * 3600.0
_CLEAN_EVERY_S = 3600.0
_TRIM_EVERY_S = 60.0
_MIB = 1 << 20
_TICK_S = 1.0


class Watch:
    """Log the cameras' state, clean the store, and return free memory.

    Args:
        section: the config of live detection.
        fleet: the cameras.
        recorder: has the store, and the lags.

    """

    def __init__(self, section: LiveConfig, fleet: CameraFleet, recorder: StoreRecorder) -> None:
        self._section, self._fleet, self._recorder = section, fleet, recorder

    def run(self, stop: threading.Event) -> None:
        """Watch until stopped."""
        cleaned_s = trimmed_s = float("-inf")
        logged_s = time.monotonic()
        states: dict[str, State] = {}
        trouble = ""
        while not stop.wait(_TICK_S):
            now_s, store = time.monotonic(), self._recorder.store
            trouble = _checked(store, trouble)
            _log_changes(self._fleet, states)
            if now_s - logged_s >= self._section.status_s:
                logged_s = now_s
                _log_status(self._fleet, self._recorder)
            if now_s - trimmed_s >= _TRIM_EVERY_S:
                trimmed_s = now_s
                return_free_memory()
            if now_s - cleaned_s >= _CLEAN_EVERY_S:
                cleaned_s = now_s
                try:
                    clean(self._section, store)
                except (StoreError, OSError) as error:
                    logger.warning("events are not cleaned: %s", error)


def return_free_memory() -> None:
    """Give freed memory back to the system, where the C library is glibc.

    It keeps what pictures of many threads leave free between small blocks that live longer, and so
    the process would grow for days.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def clean(section: LiveConfig, store: Store) -> None:
    """Remove what is too old or above the quota, with its clips."""
    keep = section.alerts.store
    files = files_by_event(section.clips_dir)
    removed = store.clean(
        time.time(),
        keep.retention_days * _DAY_S,
        keep.quota_mib * _MIB,
        {event_id: sum(size for _, size in own) for event_id, own in files.items()},
    )
    for event_id in removed.events:
        for path, _ in files.get(event_id, ()):
            path.unlink(missing_ok=True)
    if removed.over_quota_bytes > 0:
        logger.warning(
            "%s and clips: %.0f MiB above live.alerts.store.quota_mib, none of it reviewed "
            "and sent; review events, or set a larger quota",
            store.path,
            removed.over_quota_bytes / _MIB,
        )


def _log_changes(fleet: CameraFleet, states: dict[str, State]) -> None:
    """Log which cameras were lost or came back since the last call."""
    for one in fleet.status():
        before = states.get(one.name)
        lost = one.state in (State.WAITING, State.FAILED)
        if lost and before not in (State.WAITING, State.FAILED):
            logger.warning("%s: away: %s", one.name, one.last_error)
            states[one.name] = one.state
        elif one.state in SEEN and before != one.state:
            logger.info("%s: %s", one.name, one.state)
            states[one.name] = one.state


def _checked(store: Store, trouble: str) -> str:
    """Look after the database; log what is wrong with it where that changes, and return it."""
    try:
        store.check()
    except StoreError as error:
        if str(error) != trouble:
            logger.error("%s", error)
        return str(error)
    if trouble:
        logger.info("%s: can be used again", store.path)
    return ""


def _log_status(fleet: CameraFleet, recorder: StoreRecorder) -> None:
    for one in fleet.status():
        text = f", {one.last_error}" if one.last_error and one.state != State.STREAMING else ""
        logger.info(
            "%s: %s, %.1f frames/s, %d dropped%s", one.name, one.state, one.fps, one.dropped, text
        )
    lag = recorder.lag_quantile("score", 0.95)
    if lag is not None:
        logger.info("95 %% of the windows were classified within %.2f s of their last frame", lag)
