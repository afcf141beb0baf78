"""ByteTrack as its authors run it, in the plainest way: the standard that ids are held to.

One object per track, full 8x8 covariance matrices, frames counted (30 per second), and the
assignment problem solved whole: on the matrix that is extended so that staying alone costs
half the limit on each side. Written from the paper and the behaviour of the authors' tracker;
shares nothing with the package but the definition of a box.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import linear_sum_assignment

from recognizer.types import FloatArray, IntArray, TimeArray

F = np.eye(8) + np.eye(8, k=4)
H = np.eye(4, 8)


class Filter:
    """Constant-velocity Kalman filter over centre x, centre y, aspect, height."""

    def __init__(self, z: TimeArray) -> None:
        h = z[3]
        std = [h / 10, h / 10, 1e-2, h / 10, h / 16, h / 16, 1e-5, h / 16]
        self.mean = np.concatenate([z, np.zeros(4)])
        self.cov = np.diag(np.square(std))

    def predict(self) -> None:
        h = self.mean[3]
        std = [h / 20, h / 20, 1e-2, h / 20, h / 160, h / 160, 1e-5, h / 160]
        self.mean = F @ self.mean
        self.cov = F @ self.cov @ F.T + np.diag(np.square(std))

    def correct(self, z: TimeArray) -> None:
        h = self.mean[3]
        noise = np.diag(np.square([h / 20, h / 20, 1e-1, h / 20]))
        total = H @ self.cov @ H.T + noise
        gain = self.cov @ H.T @ np.linalg.inv(total)
        self.mean = self.mean + gain @ (z - H @ self.mean)
        self.cov = self.cov - gain @ total @ gain.T


class Detection:
    def __init__(self, row: int, box: ArrayLike, score: float) -> None:
        self.row, self.score = row, float(score)
        self.box = np.asarray(box, float)
        x1, y1, x2, y2 = self.box
        self.z = np.array([(x1 + x2) / 2, (y1 + y2) / 2, (x2 - x1) / (y2 - y1), y2 - y1])


class Trace:
    def __init__(self, detection: Detection, track_id: int, frame: int) -> None:
        self.filter = Filter(detection.z)
        self.id, self.first, self.last = track_id, frame, frame
        self.state, self.sure = "tracked", frame == 1
        self.row = detection.row

    @property
    def box(self) -> TimeArray:
        x, y, a, h = self.filter.mean[:4]
        return np.array([x - a * h / 2, y - h / 2, x + a * h / 2, y + h / 2])

    def predict(self) -> None:
        if self.state != "tracked":
            self.filter.mean[7] = 0
        self.filter.predict()

    def see(self, detection: Detection, frame: int) -> None:
        self.filter.correct(detection.z)
        self.state, self.sure, self.last, self.row = "tracked", True, frame, detection.row


def iou(a: TimeArray, b: TimeArray) -> float:
    w = min(a[2], b[2]) - max(a[0], b[0])
    h = min(a[3], b[3]) - max(a[1], b[1])
    if w <= 0 or h <= 0:
        return 0.0
    areas = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1])
    return float(w * h / (areas - w * h))


def cost_matrix(traces: Sequence[Trace], detections: Sequence[Detection], fused: bool) -> TimeArray:
    cost = np.ones((len(traces), len(detections)))
    for i, trace in enumerate(traces):
        box = trace.box
        for j, detection in enumerate(detections):
            weight = detection.score if fused else 1.0
            cost[i, j] = 1 - iou(box, detection.box) * weight
    return cost


def assign(cost: TimeArray, limit: float) -> tuple[list[tuple[int, int]], list[int], list[int]]:
    """Return pairs, rows alone and columns alone."""
    n, m = cost.shape
    whole = np.full((n + m, n + m), limit / 2)
    whole[n:, m:] = 0
    whole[:n, :m] = cost
    pairs = [(i, j) for i, j in zip(*linear_sum_assignment(whole), strict=True) if i < n and j < m]
    rows, columns = {i for i, _ in pairs}, {j for _, j in pairs}
    return (
        pairs,
        [i for i in range(n) if i not in rows],
        [j for j in range(m) if j not in columns],
    )


class OriginalByteTrack:
    """Gives each row of boxes an id or -1."""

    def __init__(
        self,
        high: float = 0.5,
        low: float = 0.1,
        new: float = 0.6,
        match: float = 0.8,
        buffer_frames: int = 30,
    ) -> None:
        self.high, self.low, self.new, self.match = high, low, new, match
        self.buffer_frames = buffer_frames
        self.tracked: list[Trace] = []
        self.lost: list[Trace] = []
        self.removed_ids: set[int] = set()
        self.frame = self.last_id = 0

    def update(
        self, boxes: Sequence[ArrayLike] | FloatArray, scores: Sequence[float] | FloatArray
    ) -> IntArray:
        self.frame += 1
        everyone = [Detection(i, *pair) for i, pair in enumerate(zip(boxes, scores, strict=True))]
        high = [d for d in everyone if d.score > self.high]
        low = [d for d in everyone if self.low < d.score < self.high]
        newcomers = [t for t in self.tracked if not t.sure]
        sure = [t for t in self.tracked if t.sure]

        pool = sure + self.lost
        for trace in pool:
            trace.predict()
        high, alone = self._round(pool, high, self.match, fused=True)
        waiting = [t for t in alone if t.state == "tracked"]
        _, unseen = self._round(waiting, low, 0.5, fused=False)
        for trace in unseen:
            trace.state = "lost"
        high, failed = self._round(newcomers, high, 0.7, fused=True)
        for trace in failed:
            trace.state = "removed"

        started = []
        for detection in high:
            if detection.score >= self.new:
                self.last_id += 1
                started.append(Trace(detection, self.last_id, self.frame))

        late = [t for t in self.lost if self.frame - t.last > self.buffer_frames]
        for trace in late:
            trace.state = "removed"
        found = [t for t in self.lost if t.state == "tracked"]
        self.tracked = [t for t in self.tracked if t.state == "tracked"] + started + found
        # As with the authors, who expires in this frame stays in the pool for the next one.
        candidates = [t for t in self.lost if t not in found] + unseen
        self.lost = [t for t in candidates if t.id not in self.removed_ids]
        self.removed_ids |= {t.id for t in late}
        self._drop_duplicates()
        return self._ids(len(everyone))

    def _ids(self, count: int) -> IntArray:
        ids = np.full(count, -1)
        for trace in self.tracked:
            if trace.sure:
                ids[trace.row] = trace.id
        return ids

    def _round(
        self, traces: list[Trace], detections: list[Detection], limit: float, fused: bool
    ) -> tuple[list[Detection], list[Trace]]:
        """Match and correct; return detections and traces that are left."""
        pairs, alone, free = assign(cost_matrix(traces, detections, fused), limit)
        for i, j in pairs:
            traces[i].see(detections[j], self.frame)
        return [detections[j] for j in free], [traces[i] for i in alone]

    def _drop_duplicates(self) -> None:
        drop = set()
        for a in self.tracked:
            for b in self.lost:
                if 1 - iou(a.box, b.box) < 0.15:
                    drop.add(b.id if a.last - a.first > b.last - b.first else a.id)
        self.tracked = [t for t in self.tracked if t.id not in drop]
        self.lost = [t for t in self.lost if t.id not in drop]
