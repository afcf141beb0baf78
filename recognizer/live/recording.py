"""What the engine finds goes to the store, the clips and the counters."""

import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from recognizer.live.analysis import CameraWindow
from recognizer.live.clips import CameraClips
from recognizer.live.engine import Stage
from recognizer.live.events import LiveEvent, NearMiss, Outcome
from recognizer.live.store import Store
from recognizer.live.store_schema import StoreError
from recognizer.live.values import Gap

logger = logging.getLogger(__name__)

_LAGS = 2000  # of each stage, for the quantiles of the log
_AGAIN_S = 5.0  # until a store that failed is tried again
_MOST_WAITING = 10_000  # changes kept in memory meanwhile


class StoreRecorder:
    """A ``Recorder``: events, near misses and gaps into the store, clips of events.

    Args:
        store: takes what is found.
        clips: of each camera, by name; cameras without clips are left out.
        on_event: called with each state of each event.
        on_lag: called with each lag.
        utc: the wall clock, seconds since 1970.

    Attributes:
        store: takes what is found.

    """

    def __init__(
        self,
        store: Store,
        clips: Mapping[str, CameraClips],
        on_event: Callable[[LiveEvent], None] = lambda event: None,
        on_lag: Callable[[Stage, float], None] = lambda stage, seconds: None,
        utc: Callable[[], float] = time.time,
    ) -> None:
        self.store, self._clips, self._utc = store, clips, utc
        self._on_event, self._on_lag = on_event, on_lag
        self._waiting: deque[Callable[[], None]] = deque()
        self._again_s = -math.inf
        self._events = self._near_misses = 0
        self._lock = threading.Lock()
        self._lags: dict[Stage, deque[float]] = {}

    def outcomes(self, found: Sequence[Outcome]) -> None:
        """Write events as they change, and near misses."""
        self._write(partial(self.store.put, tuple(found), self._utc()))
        for one in found:
            if isinstance(one, NearMiss):
                self._near_misses += 1
            else:
                self._events += one.state == "new"
                if (clips := self._clips.get(one.camera)) is not None:
                    clips.event(one)
                self._on_event(one)

    @property
    def counts(self) -> tuple[int, int]:
        """Numbers of events and of near misses since the start."""
        return self._events, self._near_misses

    def gap(self, gap: Gap, start_utc_s: float, end_utc_s: float | None) -> None:
        """Write a time without video; clips that wait for later frames get none."""
        put = partial(self.store.put_gap, gap.camera, start_utc_s, end_utc_s, gap.reason)
        self._write(put)
        if (clips := self._clips.get(gap.camera)) is not None:
            clips.restart()

    def window(self, window: CameraWindow) -> None:
        """Write what waits, and the clips whose last second has come."""
        self._write_waiting()
        if (clips := self._clips.get(window.camera)) is not None:
            clips.at(window.window.stop_s)

    def lag(self, stage: Stage, seconds: float) -> None:
        """Keep how long after its capture a frame passed a stage."""
        self._on_lag(stage, seconds)
        with self._lock:
            self._lags.setdefault(stage, deque(maxlen=_LAGS)).append(seconds)

    def lag_quantile(self, stage: Stage, share: float) -> float | None:
        """Return a quantile of the last lags of a stage, seconds; None: there are none."""
        with self._lock:
            lags = sorted(self._lags.get(stage, ()))
        return lags[min(int(share * len(lags)), len(lags) - 1)] if lags else None

    def close(self) -> None:
        """Write the clips that wait, and what the store did not take before."""
        for clips in self._clips.values():
            clips.flush()
        self._again_s = -math.inf
        self._write_waiting()
        if self._waiting:
            logger.error("%d changes of events were not written: see above", len(self._waiting))

    def _write(self, change: Callable[[], None]) -> None:
        """Write a change, after those that wait; detection goes on where the store cannot."""
        if len(self._waiting) == _MOST_WAITING:
            logger.error("the oldest change of events is dropped: %d wait", _MOST_WAITING)
            self._waiting.popleft()
        self._waiting.append(change)
        self._write_waiting()

    def _write_waiting(self) -> None:
        if not self._waiting or time.monotonic() < self._again_s:
            return
        try:
            while self._waiting:
                self._waiting[0]()
                self._waiting.popleft()
        except StoreError as error:
            self._again_s = time.monotonic() + _AGAIN_S
            logger.error("%s; %d changes wait, tried again", error, len(self._waiting))
