"""People who stay down, by trunk, legs and box, joined over gaps and new ids.

No fall needs to precede. Lengths are in body sizes and times in seconds, as in
``measures``. A person lies where the box is wide, low against standing people at that place,
or the trunk upside down, and no confident trunk, leg or head is upright.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, fields

import numpy as np

from recognizer.scoring.measures import PersonFrames, collect_observations, middle
from recognizer.skeleton import (
    LEFT_ANKLE,
    LEFT_HIP,
    LEFT_SHOULDER,
    RIGHT_ANKLE,
    RIGHT_HIP,
    RIGHT_SHOULDER,
)
from recognizer.types import BoolArray, Float64Array, IntArray, PoseSequence

NOWHERE = -1  # the zone number outside of all zones
MARGIN_S = 2.5  # half-width of the longest window around a row

_LYING = 0.5  # of ``lying_measure``
_SMOOTH_S = 0.5
_ZONE_S = 2.0  # half-width of the window in which a zone is decided: edges flicker
_MAX_SPEED = 0.5  # body sizes per second up or down: faster is falling or getting up
_SAME_PLACE = 0.5  # body sizes between two spells of one person who lies
_MIN_SEEN = 0.15  # of a lying's time; false detections of an object are fewer
_STANDING_S = 0.5  # of standing, from which a person's own height is known
_EDGE = 0.01  # of the picture's width and height
_HEAD = [0, 1, 2, 3, 4]


@dataclass(frozen=True, eq=False, slots=True)
class PostureRows:
    """Posture of tracked people: one row for each person and frame with a detection.

    All but ids and times are means over the second around a row.

    Attributes:
        track_id: (N,) int64.
        time_s: (N,) on the video's clock.
        duration_s: (N,), how much time a row stands for.
        place: (N, 2) pixels, the middle of the trunk.
        box: (N, 4) pixels.
        size: (N,) pixels, body size.
        speed: (N,) of the trunk up or down, body sizes per second.
        wide: (N,) in [0, 1]: 0 at a width of 0.7 heights, 1 at 1.3.
        whole: (N,) in [0, 1], confidence that the box shows more than a head over a table: 0 at a
            width of 0.6 heights, 1 at 0.8, and 0 where the picture's edge cuts it.
        inverted: (N,) in [0, 1], confidence that the shoulders are below the hips.
        upright: (N,) in [0, 1], confidence that trunk, legs or head are upright.
        standing: (N,) bool, surely standing, feet visible.

    """

    track_id: IntArray
    time_s: Float64Array
    duration_s: Float64Array
    place: Float64Array
    box: Float64Array
    size: Float64Array
    speed: Float64Array
    wide: Float64Array
    whole: Float64Array
    inverted: Float64Array
    upright: Float64Array
    standing: BoolArray

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.time_s)

    def __getitem__(self, rows: BoolArray | IntArray) -> "PostureRows":
        """Return some rows."""
        return PostureRows(*(getattr(self, column.name)[rows] for column in fields(self)))

    @classmethod
    def join(cls, parts: Sequence["PostureRows"]) -> "PostureRows":
        """Return the rows of several parts of a video, by person and time."""
        columns = (np.concatenate([getattr(p, c.name) for p in parts]) for c in fields(cls))
        joined = cls(*columns)
        return joined[np.lexsort((joined.time_s, joined.track_id))]


@dataclass(frozen=True, slots=True)
class Lying:
    """One person lying at one place.

    Attributes:
        start_s: when first seen lying.
        stop_s: when last seen lying, exclusive.
        seen: share of that time with a detection of the person lying, in [0, 1].
        zone: number of the zone, ``NOWHERE`` outside of all.
        rows: of ``PostureRows``, by time.

    """

    start_s: float
    stop_s: float
    seen: float
    zone: int
    rows: IntArray


def posture_rows(sequence: PoseSequence) -> PostureRows:
    """Return the posture of all tracked people of a video or of a part of it."""
    ids, rows = collect_observations(sequence)
    around = rows.window(_SMOOTH_S, _SMOOTH_S)
    wh = np.maximum(rows.boxes[:, 2:] - rows.boxes[:, :2], 1e-6)
    aspect = wh[:, 0] / wh[:, 1]
    upright, inverted, feet = _posture(rows)
    upright = rows.mean(upright, around)
    begin = float(sequence.time_s[0]) if len(sequence) else 0.0
    return PostureRows(
        track_id=ids[rows.person] if len(ids) else rows.person,
        time_s=rows.time_s + begin,
        duration_s=rows.duration_s,
        place=rows.mean(rows.torso, around),
        box=rows.mean(rows.boxes, around),
        size=rows.size,
        speed=np.abs(rows.mean(rows.trunk_velocity()[:, 1], around)) / rows.size,
        wide=rows.mean(np.clip((aspect - 0.7) / 0.6, 0, 1), around),
        whole=rows.mean(np.clip((aspect - 0.6) / 0.2, 0, 1) * ~_cut(rows), around),
        inverted=rows.mean(inverted, around),
        upright=upright,
        standing=(upright > 0.8) & (feet > 0.5) & (aspect < 0.5) & ~_cut(rows),
    )


def _cut(rows: PersonFrames) -> BoolArray:
    """Tell which boxes (N,) reach the picture's edge, where a part may be outside."""
    size = np.asarray(rows.size_wh, np.float64)
    near = (rows.boxes[:, :2] < _EDGE * size) | (rows.boxes[:, 2:] > (1 - _EDGE) * size)
    return np.asarray(near.any(axis=1))


def _posture(rows: PersonFrames) -> tuple[Float64Array, Float64Array, Float64Array]:
    """Return how upright and how inverted people are, and the ankles' confidence; (N,) each.

    Upright is the largest of ``confidence * cos^2`` of the angle to the vertical of three lines:
    the trunk; hips to ankles (level for a person lying with bent knees, not for one bending
    down); and, as far as the trunk's confidence is low, shoulders to head: behind a table only
    these are visible.
    """
    head, sure_head = middle(rows, _HEAD)
    shoulders, sure_shoulders = middle(rows, [LEFT_SHOULDER, RIGHT_SHOULDER])
    hips, sure_hips = middle(rows, [LEFT_HIP, RIGHT_HIP])
    ankles, sure_ankles = middle(rows, [LEFT_ANKLE, RIGHT_ANKLE])
    sure_trunk = np.minimum(sure_shoulders, sure_hips)
    trunk, legs, neck = _down(shoulders, hips), _down(hips, ankles), _down(head, shoulders)
    upright = np.maximum(
        sure_trunk * np.square(np.maximum(trunk, 0)),
        np.minimum(sure_hips, sure_ankles) * np.square(np.maximum(legs, 0)),
    )
    sure_neck = np.minimum(sure_head, sure_shoulders) * (1 - sure_trunk)
    upright = np.maximum(upright, sure_neck * np.square(np.maximum(neck, 0)))
    return upright, sure_trunk * np.maximum(-trunk, 0), sure_ankles


def _down(above: Float64Array, below: Float64Array) -> Float64Array:
    """Return the cosine (N,) between the way from one point to another and straight down."""
    way = below - above
    return np.asarray(way[:, 1] / np.maximum(np.hypot(*way.T), 1e-9))


def lying_measure(posture: PostureRows) -> Float64Array:
    """Return how likely people lie, (N,) in [0, 1].

    The largest of wide, inverted and low (0 at 0.6 of the standing height, 1 at 0.4, times whole),
    times 1 - upright and 1 - high (0 at 0.9 of the standing height, 1 at 1.2): a box around a
    whole bed is no lying person. Where no person stands in the video, low and high are 0.
    """
    share = (posture.box[:, 3] - posture.box[:, 1]) / standing_height(posture)
    low = np.nan_to_num(np.clip((0.6 - share) / 0.2, 0, 1)) * posture.whole
    high = np.nan_to_num(np.clip((share - 0.9) / 0.3, 0, 1))
    shape = np.maximum.reduce([posture.wide, posture.inverted, low])
    return np.asarray(shape * (1 - high) * (1 - posture.upright))


def standing_height(posture: PostureRows) -> Float64Array:
    """Return the height (N,), pixels, of each person's box if the person stood at that place.

    People who stand higher up in the picture are smaller: a straight line is fitted to the heights
    of all standing people, over their feet. A person seen standing for long enough keeps their
    own ratio to that line. NaN where no person stands.
    """
    stands = posture[posture.standing]
    if not len(stands):
        return np.full(len(posture), np.nan)
    height, foot = stands.box[:, 3] - stands.box[:, 1], stands.box[:, 3]
    mean_height, mean_foot = float(np.median(height)), float(np.median(foot))
    spread = foot - mean_foot
    # Feet within a tenth of the height do not determine the slope: it then stays near 0.
    slope = float((spread * (height - mean_height)).mean()) / float(
        np.square(spread).mean() + (0.1 * mean_height) ** 2
    )

    def line(y: Float64Array) -> Float64Array:
        expected = mean_height + max(slope, 0.0) * (y - mean_foot)
        return np.clip(expected, 0.3 * mean_height, 3 * mean_height)

    ids, person = np.unique(posture.track_id, return_inverse=True)
    scale = np.ones(len(ids))
    ratio, who = height / line(foot), np.searchsorted(ids, stands.track_id)
    order = np.argsort(who, kind="stable")
    for rows in np.split(order, np.flatnonzero(np.diff(who[order])) + 1):
        if stands.duration_s[rows].sum() >= _STANDING_S:
            scale[who[rows[0]]] = np.median(ratio[rows])
    return np.asarray(line(posture.box[:, 3]) * scale[person])


def find_lying(
    posture: PostureRows, zones: IntArray, *, long_lie_s: float, gap_s: float
) -> tuple[Lying, ...]:
    """Return the people who stay down for long enough, by time.

    Rows of one person that follow each other make a spell; spells at the same place and in the
    same zone that are at most ``gap_s`` apart are one lying, whatever the ids: a person who is
    lost and found again gets a new one.

    Args:
        posture: in the whole video, by person and time.
        zones: (N,) number of the zone in which each row is, ``NOWHERE`` outside.
        long_lie_s: shortest time lying, seconds.
        gap_s: longest time without a detection, seconds.

    """
    down = (lying_measure(posture) >= _LYING) & (posture.speed <= _MAX_SPEED)
    zones = _settled(posture, zones)
    chains: list[_Chain] = []
    recent: list[_Chain] = []
    for spell in _spells(posture, down, zones, gap_s):
        recent = [c for c in recent if posture.time_s[spell[0]] - c.stop_s <= gap_s]
        near = [c for c in recent if _continues(posture, zones, c.last, int(spell[0]))]
        if near:
            max(near, key=lambda c: c.stop_s).add(posture, spell)
        else:
            chains.append(_Chain(int(spell[0])))
            chains[-1].add(posture, spell)
            recent.append(chains[-1])
    found = [_lying(posture, zones, chain) for chain in chains]
    return tuple(
        x for x in found if x.stop_s - x.start_s >= long_lie_s - 1e-6 and x.seen >= _MIN_SEEN
    )


@dataclass(slots=True)
class _Chain:
    """Spells of one lying; its last row, and when that ends."""

    last: int
    stop_s: float = -np.inf
    spells: list[IntArray] = field(default_factory=list)

    def add(self, posture: PostureRows, spell: IntArray) -> None:
        self.spells.append(spell)
        stop_s = float(posture.time_s[spell[-1]] + posture.duration_s[spell[-1]])
        if stop_s > self.stop_s:
            self.last, self.stop_s = int(spell[-1]), stop_s


def _settled(posture: PostureRows, zones: IntArray) -> IntArray:
    """Return for each row the zone in which its person is most of the time around it."""
    if not len(posture) or (zones == zones[0]).all():
        return zones
    stride = float(np.ptp(posture.time_s)) + 4 * _ZONE_S
    person = np.unique(posture.track_id, return_inverse=True)[1]
    key = person * stride + posture.time_s - posture.time_s.min()
    first = np.searchsorted(key, key - _ZONE_S)
    last = np.searchsorted(key, key + _ZONE_S, side="right")
    numbers = np.unique(zones)
    counts = []
    for number in numbers.tolist():
        running = np.concatenate([[0], np.cumsum(zones == number)])
        counts.append(running[last] - running[first])
    settled: IntArray = numbers[np.argmax(counts, axis=0)]
    return settled


def _spells(posture: PostureRows, down: BoolArray, zones: IntArray, gap_s: float) -> list[IntArray]:
    """Return the rows of every spell, by the time at which it starts."""
    rows = np.flatnonzero(down)
    if not len(rows):
        return []
    new = np.diff(posture.track_id[rows]) != 0
    new |= (np.diff(rows) > 1) | (np.diff(posture.time_s[rows]) > gap_s)
    new |= np.diff(zones[rows]) != 0
    spells = np.split(rows, np.flatnonzero(new) + 1)
    return sorted(spells, key=lambda spell: float(posture.time_s[spell[0]]))


def _continues(posture: PostureRows, zones: IntArray, last: int, first: int) -> bool:
    """Tell whether a spell starts at the place and in the zone where a chain ends."""
    centres = (posture.box[[last, first], :2] + posture.box[[last, first], 2:]) / 2
    near = np.hypot(*(centres[1] - centres[0])) <= _SAME_PLACE * posture.size[[last, first]].max()
    return bool(near and zones[last] == zones[first])


def _lying(posture: PostureRows, zones: IntArray, chain: _Chain) -> Lying:
    rows = np.sort(np.concatenate(chain.spells))
    rows = rows[np.argsort(posture.time_s[rows], kind="stable")]
    times, firsts = np.unique(posture.time_s[rows], return_index=True)
    start_s, stop_s = float(times[0]), chain.stop_s
    seen_s = float(posture.duration_s[rows[firsts]].sum())
    share = min(seen_s / max(stop_s - start_s, 1e-9), 1.0)
    return Lying(start_s, stop_s, share, int(zones[rows[0]]), rows.astype(np.int64))
