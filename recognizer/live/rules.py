"""From the windows of a camera to events: thresholds, durations, merging, near misses, cooldown.

Pure: time comes with the windows. Gaps between windows count from the end of one to the start of
the next, as in ``recognizer.action.events``.
"""

import math
import uuid
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from recognizer.action.results import Window
from recognizer.config.alerts import RuleConfig, RulesConfig
from recognizer.live.event_state import OpenEvent, Seen
from recognizer.live.events import PROBABILITY_DIGITS, CloseCause, NearMiss, Outcome, Rule
from recognizer.live.schedule import Schedule
from recognizer.live.zones import CameraZones, Counted, count_people
from recognizer.scoring.ranking import Service

_ROUNDING_S = 2e-6  # as in recognizer.action.events
# Of the rules that windows in a row did not meet, the near miss names the last.
_ORDER: tuple[Rule, ...] = ("enter", "windows", "zone", "min_s", "schedule", "gap")


@dataclass(frozen=True, slots=True)
class Scene:
    """What is particular to a camera.

    Attributes:
        camera: its name.
        zones: parts of its picture, as they are at each window.
        schedules: events count where any of them counts; none: always.

    """

    camera: str
    zones: CameraZones = field(default_factory=CameraZones)
    schedules: tuple[Schedule, ...] = ()

    def counts_at(self, utc_s: float) -> bool:
        """Return whether events count at a time, seconds since 1970 in UTC."""
        return not self.schedules or any(s.counts_at(utc_s) for s in self.schedules)


class CameraRules:
    """The rules of one camera and one classifier, fed with its windows as they come.

    Args:
        scene: the camera.
        service: the classifier's; rest zones count for ``falldown``.
        classes: names in the order of labels; the first is the normal one.
        config: the rules of all cameras.
        make_id: returns a new event's id.

    """

    def __init__(
        self,
        scene: Scene,
        service: Service,
        classes: Sequence[str],
        config: RulesConfig,
        make_id: Callable[[], str] = lambda: uuid.uuid4().hex,
    ) -> None:
        self._zones, self._rest = scene.zones, service == "falldown"
        self._classes = [
            _ClassRules(scene, name, config.rules_for(scene.camera, name), make_id)
            for name in classes[1:]
        ]
        self._last = (-math.inf, -math.inf)

    def update(self, window: Window, utc_s: float, size_wh: tuple[int, int]) -> list[Outcome]:
        """Take the next window; return what became of events and near misses.

        Args:
            window: times on the monotonic clock.
            utc_s: its end as seconds since 1970 in UTC.
            size_wh: width and height in pixels of the picture that its boxes are in.

        Raises:
            ValueError: a window without length, or one that starts or ends before the last.

        """
        self._check_order(window)
        counted = count_people(window.people, self._zones.now, size_wh, rest=self._rest)
        return [o for c in self._classes for o in c.update(window, utc_s, counted)]

    def remember_notice(self, class_name: str, zone: str, ago_s: float, now_s: float) -> None:
        """Take a notice of an earlier run into account.

        Args:
            class_name: of its event.
            zone: of its event.
            ago_s: how long ago it was; below 0 where the clock was set back meanwhile.
            now_s: the present on the monotonic clock.

        """
        for one in self._classes:
            if one.name == class_name:
                left_s = one.rules.cooldown_s - max(ago_s, 0.0)
                one.muted_until_s[zone] = now_s + left_s

    def interrupt(self, cause: CloseCause) -> list[Outcome]:
        """End all open events and start anew: after a gap, or at the end of the camera."""
        self._last = (-math.inf, -math.inf)
        return [outcome for c in self._classes for outcome in c.interrupt(cause)]

    def _check_order(self, window: Window) -> None:
        start, stop = self._last
        if not window.start_s < window.stop_s < math.inf:
            raise ValueError(
                f"window: expected an end after its start, got {window.start_s:g} to "
                f"{window.stop_s:g} s"
            )
        if window.start_s < start or window.stop_s < stop:
            raise ValueError(
                f"window: expected one not before the last ({start:g} to {stop:g} s), got "
                f"{window.start_s:g} to {window.stop_s:g} s; interrupt() where a clock starts anew"
            )
        self._last = (window.start_s, window.stop_s)


@dataclass(slots=True)
class _Episode:
    """Windows in a row that came near an event."""

    first: Seen
    last: Seen
    peak: float = 0.0
    zone: str = ""
    rule: Rule = "enter"

    def add(self, seen: Seen, rule: Rule) -> None:
        self.last = seen
        value = max(seen.smoothed, seen.refused)
        if value >= self.peak:
            self.peak, self.zone = value, seen.zone
        self.rule = max(self.rule, rule, key=_ORDER.index)


@dataclass(slots=True)
class _ClassRules:
    """One class at one camera: at most one event is open."""

    scene: Scene
    name: str
    rules: RuleConfig
    make_id: Callable[[], str]
    votes: deque[Seen] = field(init=False)
    run: list[Seen] = field(default_factory=list)
    smoothed: float | None = None
    last_stop_s: float = -math.inf
    event: OpenEvent | None = None
    episode: _Episode | None = None
    stray: _Episode | None = None
    muted_until_s: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.votes = deque(maxlen=self.rules.windows_of)

    def update(self, window: Window, utc_s: float, counted: Counted) -> list[Outcome]:
        seen = self._seen(window, utc_s, counted)
        outcomes: list[Outcome] = []
        if self.event is not None and self._is_over(self.event, window, seen):
            outcomes.append(self._close(self.event, "quiet"))
        if seen is None:
            return outcomes + self._end_episode(window.start_s)
        if self.event is not None:
            return outcomes + self._go_on(self.event, seen)
        return outcomes + self._consider(seen)

    def interrupt(self, cause: CloseCause) -> list[Outcome]:
        outcomes: list[Outcome] = []
        if self.event is not None:
            outcomes.append(self._close(self.event, cause))
        if self.episode is not None and self.episode.rule in {"windows", "min_s"}:
            self.episode.rule = "gap"  # it might have become an event
        outcomes += self._end_episode(math.inf)
        self.smoothed, self.last_stop_s = None, -math.inf
        self._forget()
        return outcomes

    def _seen(self, window: Window, utc_s: float, counted: Counted) -> Seen | None:
        """Return the window as this class sees it; None where it has no probability."""
        probability = window.probabilities.get(self.name, math.nan)
        if not math.isfinite(probability):
            return None
        refused = probability if counted.refused else 0.0
        counts = probability - refused
        if self.smoothed is None or not self.rules.smoothing_s:
            self.smoothed = counts
        else:
            passed_s = window.stop_s - self.last_stop_s
            self.smoothed += (counts - self.smoothed) * -math.expm1(
                -passed_s / self.rules.smoothing_s
            )
        self.last_stop_s = window.stop_s
        people = () if counted.refused else counted.people
        return Seen(
            window.start_s,
            window.stop_s,
            utc_s,
            self.smoothed,
            refused,
            counted.zone,
            people,
            window.streams,
        )

    # --- an open event ---------------------------------------------------------------

    def _is_over(self, event: OpenEvent, window: Window, seen: Seen | None) -> bool:
        quiet_s = window.start_s - event.end_s
        again = seen is not None and seen.smoothed >= self.rules.enter
        return quiet_s > (self.rules.merge_s if again else self.rules.quiet_s) + _ROUNDING_S

    def _go_on(self, event: OpenEvent, seen: Seen) -> list[Outcome]:
        level = self.rules.leave if event.active else self.rules.enter
        active = seen.smoothed >= level
        if active and seen.stop_s - event.start_s > self.rules.max_s + _ROUNDING_S:
            end = self._close(event, "max_s")
            following = self._open([seen])
            following.start_s = max(seen.start_s, event.end_s)
            following.continues = event.event_id
            return [end, following.state("new")]
        event.add(seen, active=active)
        if event.active and event.end_s - event.reported_s >= self.rules.update_s - _ROUNDING_S:
            return [event.state("update")]
        return []

    def _close(self, event: OpenEvent, cause: CloseCause) -> Outcome:
        self.event = None
        self._forget()
        return event.state("end", cause)

    def _open(self, run: Sequence[Seen]) -> OpenEvent:
        now_s, zone = run[-1].stop_s, run[-1].zone
        muted = now_s < self.muted_until_s.get(zone, -math.inf)
        if not muted:  # its notice is sent now
            self.muted_until_s[zone] = now_s + self.rules.cooldown_s
        event = OpenEvent(self.make_id(), self.scene.camera, self.name, zone, run, muted)
        self.event = event
        self.episode = self.stray = None
        self._forget()
        return event

    def _forget(self) -> None:
        self.votes.clear()
        self.run = []

    # --- what is no event yet ----------------------------------------------------------

    def _consider(self, seen: Seen) -> list[Outcome]:
        outcomes = self._end_episode(seen.start_s)
        before = self.run or list(self.votes)[:1]
        self.votes.append(seen)
        rule = self._unmet(seen)
        self._leave_behind(before)
        if rule is None:
            left = self._near_miss(self.stray)
            return [*outcomes, *left, self._open(self.run).state("new")]
        if seen.smoothed >= self.rules.leave or seen.refused >= self.rules.enter:
            self.episode = self.episode or _Episode(seen, seen)
            self.episode.add(seen, rule)
        return outcomes

    def _leave_behind(self, before: Sequence[Seen]) -> None:
        """Note the high windows that no event can begin with any more."""
        first = self.run[0] if self.run else self.votes[0]
        for old in before:
            if old.stop_s < first.stop_s and old.smoothed >= self.rules.enter:
                self.stray = self.stray or _Episode(old, old)
                self.stray.add(old, "windows")

    def _unmet(self, seen: Seen) -> Rule | None:
        """Return the first rule that the windows do not meet; None: they are an event."""
        high = [vote.smoothed >= self.rules.enter for vote in self.votes]
        if sum(high) < self.rules.windows_needed:
            self.run = []
            if seen.refused >= self.rules.enter:
                return "zone"
            return "windows" if any(high) else "enter"
        first = list(self.votes)[high.index(True) :]
        self.run = [*self.run, seen] if self.run else first
        shortest_s = self.rules.shortest_s(self.name)
        if not high[-1] or seen.stop_s - self.run[0].stop_s < shortest_s - _ROUNDING_S:
            return "min_s"
        if not self.scene.counts_at(seen.utc_s):
            self.run = first
            return "schedule"
        return None

    def _end_episode(self, now_s: float) -> list[Outcome]:
        """Return the near miss that windows from now on cannot be a part of."""
        episode = self.episode
        if episode is None:
            return []
        if now_s - episode.last.stop_s <= self.rules.merge_s + _ROUNDING_S:
            return []
        near_miss = self._near_miss(episode)
        self.episode = self.stray = None
        return near_miss

    def _near_miss(self, windows: _Episode | None) -> list[Outcome]:
        if windows is None:
            return []
        first, last = windows.first, windows.last
        start_utc_s = first.utc_s - (first.stop_s - first.start_s)
        return [
            NearMiss(
                camera=self.scene.camera,
                class_name=self.name,
                zone=windows.zone,
                start_s=first.start_s,
                end_s=last.stop_s,
                start_utc_s=start_utc_s,
                end_utc_s=start_utc_s + last.stop_s - first.start_s,
                peak_probability=round(windows.peak, PROBABILITY_DIGITS),
                rule=self.episode.rule if self.episode else windows.rule,
            )
        ]
