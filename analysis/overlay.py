"""The overlay video of an analysis: people, whom an event is about, and the timeline."""

import math
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from analysis.record import Record, Window
from analysis.timeline import LANE_COLORS, Lane, Timeline
from recognizer.draw import caption_height, draw_caption, draw_people
from recognizer.text import Tag, TextStyle, readable_on
from recognizer.types import ImageArray, Poses, PoseSequence

_MIN_WIDTH_PX = 480  # narrower pictures are enlarged, so that letters can be read
_MAX_ENLARGEMENT = 4
# Of the people whom a window's network saw, how many an event is about: two fight, one falls.
_ABOUT = {"fight": 2, "falldown": 1}


@dataclass(frozen=True, eq=False, slots=True)
class _Watched:
    """A lane of the timeline, the windows behind it, and how many people an event is about."""

    lane: Lane
    windows: Sequence[Window]
    people: int

    def people_at(self, time_s: float) -> set[int]:
        """Return the most involved people of the most probable window around a time.

        Nobody where there is no event, or no window around that counts.
        """
        lane = self.lane
        if not lane.is_event(time_s):
            return set()
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

    People have boxes and ids. During an event those whom it is about, the two most involved
    of a fight or the one of a fall, have a thick frame with its class and current probability,
    and the others are grey. The timeline stands below the picture and hides nothing.

    Args:
        record: what was found.
        sequence: the tracks that it was found in.
        pictures: the frames of the video, (H, W, 3) uint8 BGR, one per frame of the tracks.

    """
    width, height = sequence.size_wh
    factor = min(_MAX_ENLARGEMENT, max(1, math.ceil(_MIN_WIDTH_PX / width)))
    watched = _watch(record)
    lanes = [w.lane for w in watched]
    timeline = Timeline(lanes, record.span_s, factor * width, factor * height)
    for t, picture in enumerate(pictures):
        time_s = float(sequence.time_s[t])
        image, poses = picture, sequence.frame(t)
        if factor > 1:
            image = np.asarray(cv2.resize(picture, None, fx=factor, fy=factor), np.uint8)
            poses = _enlarged(poses, factor)
        about = [(w.lane, w.people_at(time_s)) for w in watched if w.lane.is_event(time_s)]
        marked = frozenset[int]().union(*(ids for _, ids in about))
        image = draw_people(image, poses, {}, marked or None)
        _alarm(image, poses, about, time_s)
        caption = f"{record.video}  {time_s:.2f} s"
        if sequence.corrupt[t]:  # first: where the picture is narrow, the name is shortened
            caption = f"damaged frame  {caption}"
        image = draw_caption(image, caption)
        yield np.concatenate([image, timeline.draw(time_s)]), time_s


def _watch(record: Record) -> list[_Watched]:
    watched: list[_Watched] = []
    for service, result in record.services.items():
        for name in result.classifier["classes"][1:]:
            events = [(e.start_s, e.stop_s) for e in result.events if e.class_name == name]
            lane = Lane(
                name=name,
                color=LANE_COLORS[len(watched) % len(LANE_COLORS)],
                windows=result.spans(),
                probabilities=result.probabilities(name),
                threshold=result.rules["threshold"],
                events=np.array(events, np.float64).reshape(-1, 2),
            )
            watched.append(_Watched(lane, result.windows, _ABOUT[service]))
    return watched


def _enlarged(poses: Poses, factor: int) -> Poses:
    by = np.float32(factor)
    return replace(poses, keypoints=poses.keypoints * by, boxes=poses.boxes * by)


def _alarm(
    canvas: ImageArray, poses: Poses, about: Sequence[tuple[Lane, set[int]]], time_s: float
) -> None:
    """Draw into ``canvas`` thick frames around everybody whom an event is about now.

    Somebody in events of two classes gets two frames, one inside the other.
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
    """Yield what happens below a frame, or inside it where the picture or its caption is."""
    size_px = max(12, round(height / 38))
    line = TextStyle(size_px).height
    (left, _), (_, bottom) = corners
    top = min(bottom, height - caption_height(height) - len(lanes) * line)
    for number, lane in enumerate(lanes):
        value = lane.at(time_s)
        text = lane.name if value is None else f"{lane.name} {value:.2f}"
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
