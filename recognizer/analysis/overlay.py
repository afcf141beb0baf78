"""The overlay video of an analysis: people, those of events marked, and the timeline."""

import math
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from recognizer.action.results import Event, Window
from recognizer.analysis.grades import LYING
from recognizer.analysis.record import Record, ServiceResult
from recognizer.analysis.timeline import LANE_COLORS, Lane, Timeline
from recognizer.analysis.zones import Zone
from recognizer.draw import caption_height, draw_caption, draw_people
from recognizer.text import Color, Tag, TextStyle, readable_on
from recognizer.types import ImageArray, Poses, PoseSequence

_MIN_WIDTH_PX = 480  # narrower pictures are enlarged, so that letters can be read
_MAX_ENLARGEMENT = 4
# How many of a window's people an event marks: two fight, one falls.
_ABOUT = {"fight": 2, "falldown": 1}
_ZONE_COLORS: dict[str, Color] = {"rest": (120, 200, 120), "ignore": (150, 150, 150)}
_ZONE_TEXTS = {"rest": "rest: {}", "ignore": "ignored: {}"}
_DARK = 0.5  # of the brightness, left in ignored zones


@dataclass(frozen=True, eq=False, slots=True)
class _EventLane:
    """A lane of the timeline, its windows or events, and how many people an event marks."""

    lane: Lane
    windows: Sequence[Window]
    people: int
    events: Sequence[Event] = ()

    def people_at(self, time_s: float) -> set[int]:
        """Return the most involved people of the most probable window around a time.

        The set is empty without an event, or without a window at or above the threshold.
        """
        lane = self.lane
        if not lane.is_event(time_s):
            return set()
        if lane.threshold is None:
            now = [e for e in self.events if e.start_s <= time_s < e.stop_s]
            return {person.track_id for event in now for person in event.people}
        inside = (lane.windows[:, 0] <= time_s) & (time_s < lane.windows[:, 1])
        chosen = np.flatnonzero(inside & (lane.probabilities >= lane.threshold))
        if not len(chosen):
            return set()
        best = int(chosen[np.argmax(lane.probabilities[chosen])])
        return {person.track_id for person in self.windows[best].people[: self.people]}


def overlay_frames(
    record: Record, sequence: PoseSequence, pictures: Iterator[ImageArray]
) -> Generator[tuple[ImageArray, float]]:
    """Yield every frame of a video, drawn, with its time in seconds.

    People have boxes and ids. During an event the two most involved people of a fight, or the one
    of a fall, have a thick frame with its class and current probability, and the others are grey.
    A lying person is framed with the time since the start. Zones are outlined with their names,
    ignored ones darkened. The timeline is below the picture.

    Args:
        record: of the video.
        sequence: its tracks.
        pictures: the frames of the video, (H, W, 3) uint8 BGR, one per frame of the tracks.

    """
    width, height = sequence.size_wh
    factor = min(_MAX_ENLARGEMENT, max(1, math.ceil(_MIN_WIDTH_PX / width)))
    event_lanes = _event_lanes(record)
    lanes = [e.lane for e in event_lanes]
    timeline = Timeline(lanes, record.span_s, factor * width, factor * height)
    for t, picture in enumerate(pictures):
        time_s = float(sequence.time_s[t])
        image, poses = _with_zones(picture, record.zones), sequence.frame(t)
        if factor > 1:
            image = np.asarray(cv2.resize(image, None, fx=factor, fy=factor), np.uint8)
            poses = _enlarged(poses, factor)
        about = [(e.lane, e.people_at(time_s)) for e in event_lanes if e.lane.is_event(time_s)]
        marked = frozenset[int]().union(*(ids for _, ids in about))
        image = draw_people(image, poses, {}, marked or None)
        _alarm(image, poses, about, time_s)
        caption = f"{record.video}  {time_s:.2f} s"
        if sequence.corrupt[t]:  # first: where the picture is narrow, the name is shortened
            caption = f"damaged frame  {caption}"
        image = draw_caption(image, caption)
        yield np.concatenate([image, timeline.draw(time_s)]), time_s


def _event_lanes(record: Record) -> list[_EventLane]:
    lanes: list[_EventLane] = []
    for service, result in record.services.items():
        for name in [*result.classifier["classes"][1:], *([LYING] if result.lying else [])]:
            color = LANE_COLORS[len(lanes) % len(LANE_COLORS)]
            lanes.append(_event_lane(result, name, color, _ABOUT[service]))
    return lanes


def _event_lane(result: ServiceResult, name: str, color: Color, people: int) -> _EventLane:
    lying = name == LYING
    lane = Lane(
        name=name,
        color=color,
        windows=np.zeros((0, 2)) if lying else result.spans(),
        probabilities=np.zeros(0) if lying else result.probabilities(name),
        threshold=None if lying else result.rules["threshold"],
        events=_spans(result.events, name),
        suppressed=_spans(result.suppressed, name),
    )
    events = [event for event in result.events if event.class_name == name]
    return _EventLane(lane, result.windows, people, events)


def _spans(events: Sequence[Event], name: str) -> NDArray[np.float64]:
    spans = [(event.start_s, event.stop_s) for event in events if event.class_name == name]
    return np.array(spans, np.float64).reshape(-1, 2)


def _with_zones(picture: ImageArray, zones: Sequence[Zone]) -> ImageArray:
    """Return the picture with every zone: its outline and name, what is ignored darkened."""
    if not zones:
        return picture
    canvas = picture.copy()
    height, width = canvas.shape[:2]
    corners = [np.round(zone.corners_px((width, height))).astype(np.int32) for zone in zones]
    for zone, polygon in zip(zones, corners, strict=True):
        if zone.kind == "ignore":
            dark = np.asarray(canvas * _DARK, np.uint8)
            mask = np.zeros((height, width), np.uint8)
            cv2.fillPoly(mask, [polygon], (1.0,))
            canvas[mask > 0] = dark[mask > 0]
    thick = max(1, round(height / 300))
    size_px = max(12, round(height / 38))
    for zone, polygon in zip(zones, corners, strict=True):
        color = _ZONE_COLORS[zone.kind]
        cv2.polylines(canvas, [polygon], isClosed=True, color=color, thickness=thick)
        left, top = polygon[np.lexsort((polygon[:, 0], polygon[:, 1]))[0]].tolist()
        text = _ZONE_TEXTS[zone.kind].format(zone.name)
        style = TextStyle(size_px, readable_on(color))
        Tag(text, left, top - style.height, style, color).draw(canvas)  # above people inside
    return canvas


def _enlarged(poses: Poses, factor: int) -> Poses:
    by = np.float32(factor)
    return replace(poses, keypoints=poses.keypoints * by, boxes=poses.boxes * by)


def _alarm(
    canvas: ImageArray, poses: Poses, about: Sequence[tuple[Lane, set[int]]], time_s: float
) -> None:
    """Draw into ``canvas`` thick frames around the people of present events.

    A person in events of two classes gets two frames, one inside the other.
    """
    thick = max(2, round(canvas.shape[0] / 160))
    tagged = []
    for box, track_id in zip(poses.boxes, poses.track_ids.tolist(), strict=True):
        lanes = [lane for lane, ids in about if track_id in ids]
        for number, lane in enumerate(lanes):
            corners = _inside(canvas, box, number * (thick + 1), thick)
            if corners is not None:
                cv2.rectangle(canvas, *corners, lane.color, thick)
        corners = _inside(canvas, box, 0, thick)
        if lanes and corners is not None:
            tagged.append((corners, lanes))
    taken: list[tuple[int, int, int, int]] = []
    for corners, lanes in tagged:  # on top of all frames
        for tag in _tags(canvas.shape[0], corners, lanes, time_s):
            free = _free(tag, taken, (canvas.shape[1], canvas.shape[0]))
            free.draw(canvas)


def _inside(
    canvas: ImageArray, box: NDArray[np.float32], inset: int, thick: int
) -> tuple[tuple[int, int], tuple[int, int]] | None:
    """Return the corners of a box cut to the picture, None where too little of it is inside."""
    if not np.isfinite(box).all():
        return None
    height, width = canvas.shape[:2]
    x1, y1, x2, y2 = np.clip(box, 0, (width - 1, height - 1, width - 1, height - 1)).tolist()
    if min(x2 - x1, y2 - y1) < 2 * (inset + thick):
        return None
    return (round(x1) + inset, round(y1) + inset), (round(x2) - inset, round(y2) - inset)


def _tags(
    height: int,
    corners: tuple[tuple[int, int], tuple[int, int]],
    lanes: Sequence[Lane],
    time_s: float,
) -> Iterator[Tag]:
    """Yield the tags below a frame, or inside it at the picture's edge or caption."""
    size_px = max(12, round(height / 38))
    line = TextStyle(size_px).height
    (left, _), (_, bottom) = corners
    top = min(bottom, height - caption_height(height) - len(lanes) * line)
    for number, lane in enumerate(lanes):
        text = f"{lane.name} {lane.value_text(time_s)}".rstrip()
        style = TextStyle(size_px, readable_on(lane.color), bold=True)
        yield Tag(text, left, top + number * line, style, lane.color)


def _free(tag: Tag, taken: list[tuple[int, int, int, int]], size_wh: tuple[int, int]) -> Tag:
    """Return the tag moved below those that it would cover, and note its place."""
    for left, top, right, bottom in sorted(taken, key=lambda box: box[1]):
        x1, y1, x2, y2 = tag.box(size_wh)
        if x1 < right and left < x2 and y1 < bottom and top < y2:
            tag = replace(tag, top=bottom)
    taken.append(tag.box(size_wh))
    return tag
