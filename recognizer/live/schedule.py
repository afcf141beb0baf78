"""When events of a camera count."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from recognizer.config.alerts import DAYS, HoursConfig, ScheduleConfig

_DAY = 24 * 60


@dataclass(frozen=True, slots=True)
class Schedule:
    """Hours of a week in a time zone.

    Attributes:
        hours: each first and last minute of a day, exclusive, the last beyond 24 h where it goes
            on into the next day; by day of the week, Monday first.
        timezone: whose clock it follows, through its changes of summer time.

    """

    hours: tuple[tuple[tuple[int, int], ...], ...]
    timezone: ZoneInfo

    def counts_at(self, utc_s: float) -> bool:
        """Return whether events count at a time, seconds since 1970 in UTC."""
        local = datetime.fromtimestamp(utc_s, self.timezone)
        minute = local.hour * 60 + local.minute
        today, before = local.weekday(), (local - timedelta(days=1)).weekday()
        return any(start <= minute < end for start, end in self.hours[today]) or any(
            minute + _DAY < end for _, end in self.hours[before]
        )


def schedules_of_camera(section: Sequence[ScheduleConfig], camera: str) -> tuple[Schedule, ...]:
    """Return the schedules of a camera; none: always."""
    return tuple(
        Schedule(tuple(_of_day(schedule.hours, day) for day in DAYS), ZoneInfo(schedule.timezone))
        for schedule in section
        if schedule.hours and schedule.fits(camera)
    )


def _of_day(hours: Sequence[HoursConfig], day: str) -> tuple[tuple[int, int], ...]:
    spans = [(_minutes(h.start), _minutes(h.end)) for h in hours if day in h.days]
    return tuple((start, end if end > start else end + _DAY) for start, end in spans)


def _minutes(text: str) -> int:
    hours, _, minutes = text.partition(":")
    return int(hours) * 60 + int(minutes)
