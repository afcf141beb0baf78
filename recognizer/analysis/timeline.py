"""The strip below an overlay: probability over time, threshold, events, and the current time."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

from recognizer.analysis.record import probability_text
from recognizer.text import Color, TextStyle, draw_text, fit_text, text_width
from recognizer.types import ImageArray

LANE_COLORS: tuple[Color, ...] = ((70, 90, 255), (40, 180, 255), (255, 170, 60), (190, 110, 240))
_GROUND: Color = (28, 26, 24)
_LANE_GROUND: Color = (46, 42, 40)
_AXIS: Color = (150, 146, 142)
_TEXT: Color = (225, 222, 220)
# The meaning of the boxes above, which the picture does not show otherwise.
LEGEND = "thick: people of an event   grey: others, or not tracked   dashed: interpolated"
LEGEND_RESTING = (
    "thick: of an event   grey: others   dashed: interpolated   grey bar: in a rest zone"
)
_STEPS_S = (0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 43200, 86400)


@dataclass(frozen=True, eq=False, slots=True)
class Lane:
    """One class of one service over the time of a video.

    Attributes:
        name: the text at the left.
        color: of curve and events.
        windows: (N, 2) start and stop, seconds.
        probabilities: (N,), NaN where not classified.
        threshold: of the events; None for events without windows.
        events: (E, 2) start and stop.
        suppressed: (S, 2) start and stop of events in rest zones.

    """

    name: str
    color: Color
    windows: NDArray[np.float64]
    probabilities: NDArray[np.float64]
    threshold: float | None
    events: NDArray[np.float64]
    suppressed: NDArray[np.float64] = field(default_factory=lambda: np.zeros((0, 2)))

    def at(self, time_s: float) -> float | None:
        """Return the highest probability of the windows around a time, None without one."""
        inside = (self.windows[:, 0] <= time_s) & (time_s < self.windows[:, 1])
        values = self.probabilities[inside]
        values = values[~np.isnan(values)]
        return float(values.max()) if len(values) else None

    def value_text(self, time_s: float) -> str:
        """Return the probability at a time, or the time since the start of an event."""
        if self.threshold is None:
            begun = self.events[(self.events[:, 0] <= time_s) & (time_s < self.events[:, 1])]
            return f"{time_s - begun[:, 0].min():.0f} s" if len(begun) else ""
        value = self.at(time_s)
        return "" if value is None else probability_text(value, self.threshold)

    def widest_value(self) -> str:
        """Return a text as wide as the widest probability of the lane, in zeros."""
        if self.threshold is None:
            return "0000"
        judged = np.unique(self.probabilities[~np.isnan(self.probabilities)]).tolist()
        return "0" * max((len(probability_text(p, self.threshold)) for p in judged), default=4)

    def is_event(self, time_s: float) -> bool:
        """Tell whether a time is inside an event."""
        return bool(((self.events[:, 0] <= time_s) & (time_s < self.events[:, 1])).any())


class Timeline:
    """Draws the strip: the still part once, the moving part for each frame.

    Where windows overlap, the curve is the highest of them: it is at or above the
    threshold just where a window that counts is.

    Args:
        lanes: from top to bottom.
        span_s: start and stop of the video.
        width: of the strip, pixels.
        picture_height: of the picture above it; sizes follow it.

    """

    def __init__(
        self, lanes: Sequence[Lane], span_s: tuple[float, float], width: int, picture_height: int
    ) -> None:
        self._lanes = lanes
        resting = any(len(lane.suppressed) for lane in lanes)
        self._meaning = LEGEND_RESTING if resting else LEGEND
        self._begin, end = span_s
        self._seconds = max(end - self._begin, 1e-3)
        size_px = max(12, round(min(picture_height / 36, width / 40)))
        self._text = TextStyle(size_px, _TEXT)
        self._small = TextStyle(max(11, round(0.85 * size_px)), _AXIS)
        self._pad = max(4, round(0.35 * size_px))
        room = max(width // 4, 40)  # names leave most of the width to the curves
        self._names = [fit_text(lane.name, self._text, room) for lane in lanes]
        widest = [text_width(text, self._text) for text in self._names]
        values = [text_width(lane.widest_value(), self._value_style(_TEXT)) for lane in lanes]
        self._left = 2 * self._pad + max([*widest, *values])
        self._columns = max(width - self._left - 2 * self._pad, 8)
        self._lane_height = max(round(0.085 * picture_height), round(2.6 * self._text.height))
        below = 2 * self._small.height + 2 * self._pad  # the axis and the legend
        height = len(lanes) * (self._lane_height + self._pad) + self._pad + below
        self._still = np.full((height + height % 2, width, 3), _GROUND, np.uint8)
        for number, lane in enumerate(lanes):
            self._lane(lane, self._names[number], self._top(number))
        self._axis(self._top(len(lanes)))
        self._legend(self._top(len(lanes)) + self._small.height + self._pad // 2)

    @property
    def height(self) -> int:
        """Height of the strip, pixels."""
        return int(self._still.shape[0])

    def draw(self, time_s: float) -> ImageArray:
        """Return the strip (height, width, 3) at a time of the video."""
        strip = self._still.copy()
        x = self._x(time_s)
        bottom = self._top(len(self._lanes)) - self._pad
        cv2.line(strip, (x, self._pad // 2), (x, bottom + self._pad // 2), (255, 255, 255), 1)
        for number, lane in enumerate(self._lanes):
            self._value(strip, lane, self._top(number), time_s)
        return strip

    def _top(self, number: int) -> int:
        return self._pad + number * (self._lane_height + self._pad)

    def _x(self, time_s: float) -> int:
        share = min(max((time_s - self._begin) / self._seconds, 0.0), 1.0)
        return self._left + round(share * (self._columns - 1))

    def _lane(self, lane: Lane, name: str, top: int) -> None:
        still, height = self._still, self._lane_height
        right, bottom = self._left + self._columns, top + height
        cv2.rectangle(still, (self._left, top), (right - 1, bottom - 1), _LANE_GROUND, -1)
        for start, stop in lane.events.tolist():
            area = still[top:bottom, self._x(start) : self._x(stop) + 1]
            area[:] = (0.78 * area + 0.22 * np.array(lane.color)).astype(np.uint8)
        self._curve(lane, top)
        if lane.threshold is not None:
            y = round(bottom - 1 - lane.threshold * (height - 1))
            for x in range(self._left, right, 8):
                cv2.line(still, (x, y), (min(x + 3, right - 1), y), _TEXT, 1)
        thick = max(2, height // 14)
        for start, stop in lane.suppressed.tolist():
            ends = (self._x(start), top), (self._x(stop), top + thick)
            cv2.rectangle(still, *ends, _AXIS, -1)
        for start, stop in lane.events.tolist():  # a solid bar on top, also where it is narrow
            ends = (self._x(start), top), (self._x(stop), top + thick)
            cv2.rectangle(still, *ends, lane.color, -1)
        draw_text(still, name, (self._pad, top), self._text)

    def _curve(self, lane: Lane, top: int) -> None:
        """Draw the highest probability of each column, filled below."""
        columns = np.full(self._columns, np.nan)
        for (start, stop), value in zip(lane.windows.tolist(), lane.probabilities, strict=True):
            first, last = self._x(start) - self._left, self._x(stop) - self._left
            part = columns[first : max(last, first + 1)]
            np.fmax(part, value, out=part)
        bottom = top + self._lane_height - 1
        known = ~np.isnan(columns)
        levels = np.round(bottom - np.nan_to_num(columns) * (self._lane_height - 1)).astype(int)
        fill = _mixed(lane.color, _LANE_GROUND, 0.5)
        edge = _mixed(lane.color, (255, 255, 255), 0.6)
        for x in np.flatnonzero(known).tolist():
            cv2.line(self._still, (self._left + x, bottom), (self._left + x, levels[x]), fill, 1)
            near = levels[x - 1] if x and known[x - 1] else levels[x]
            ends = (self._left + x, near), (self._left + x, levels[x])
            cv2.line(self._still, *ends, edge, 2 if self._lane_height > 60 else 1)

    def _axis(self, top: int) -> None:
        widest = text_width(_clock(self._begin + self._seconds), self._small)
        room = self._columns / (1.8 * widest)
        step = next((s for s in _STEPS_S if self._seconds / s <= room), _STEPS_S[-1])
        first = math.ceil(self._begin / step - 1e-9)
        for number in range(first, math.floor((self._begin + self._seconds) / step + 1e-9) + 1):
            x, text = self._x(number * step), _clock(number * step)
            cv2.line(self._still, (x, top - self._pad), (x, top - self._pad + 3), _AXIS, 1)
            width = text_width(text, self._small)
            left = min(max(x - width // 2, 0), self._still.shape[1] - width - 1)
            draw_text(self._still, text, (left, top), self._small)

    def _legend(self, top: int) -> None:
        room = self._still.shape[1] - 2 * self._pad
        text = fit_text(self._meaning, self._small, room)
        draw_text(self._still, text, (self._pad, top), self._small)

    def _value_style(self, color: Color, *, bold: bool = False) -> TextStyle:
        return TextStyle(round(1.25 * self._text.size_px), color, bold)

    def _value(self, strip: ImageArray, lane: Lane, top: int, time_s: float) -> None:
        text = lane.value_text(time_s) or "-"
        event = lane.is_event(time_s)
        style = self._value_style(lane.color if event else _TEXT, bold=event)
        draw_text(strip, text, (self._pad, top + self._lane_height - style.height), style)


def _mixed(one: Color, other: Color, share: float) -> Color:
    """Return a colour between two, ``share`` of it the first."""
    blue, green, red = (round(share * a + (1 - share) * b) for a, b in zip(one, other, strict=True))
    return blue, green, red


def _clock(time_s: float) -> str:
    """Return such as ``7``, ``7.5``, ``1:05`` or ``2:03:20``."""
    if abs(time_s - round(time_s)) > 1e-6:
        return f"{time_s:.1f}"
    minutes, seconds = divmod(round(time_s), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}:{minutes:02}:{seconds:02}"
    return f"{minutes}:{seconds:02}" if minutes else f"{seconds}"
