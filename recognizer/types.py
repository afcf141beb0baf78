"""The pipeline's values, each frozen and shape-checked when made.

``Frame`` (video) -> ``Poses`` (pose, tracking) -> ``PoseSequence`` (a whole video)
-> ``Track`` (one person) -> ``Sample`` (one training or inference item).

Conventions: pixels are (x, y); sizes are (width, height); time is in seconds from
the stream's own timestamps. A missing keypoint has score 0.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, Self, TypeAlias

import numpy as np
from numpy.typing import NDArray

from recognizer.arrays import require_array, require_rising, require_rows
from recognizer.skeleton import NUM_KEYPOINTS

FloatArray = NDArray[np.float32]
Float64Array = NDArray[np.float64]
TimeArray = Float64Array
IntArray = NDArray[np.int64]
ImageArray = NDArray[np.uint8]
BoolArray = NDArray[np.bool_]
AnyFloat = NDArray[np.floating[Any]]
PathLike: TypeAlias = str | os.PathLike[str]

UNTRACKED = -1
MOVEMENT_NAMES = ("mean", "p90", "entropy", "translation", "limbs", "difference")
NUM_MOVEMENTS = len(MOVEMENT_NAMES)
_FRAMES_PER_CHUNK = 4096


class Image(Protocol):
    """A picture that is converted to BGR on demand."""

    @property
    def size_wh(self) -> tuple[int, int]:
        """Width and height in pixels, after rotation."""
        ...

    def bgr(self, size_wh: tuple[int, int] | None = None) -> ImageArray:
        """Return BGR pixels (H, W, 3), scaled to ``size_wh`` if given."""
        ...


@dataclass(frozen=True, eq=False, slots=True)
class Frame:
    """One decoded frame: its picture, its number in presentation order and its time."""

    image: Image
    index: int
    time_s: float
    corrupt: bool = False


@dataclass(frozen=True, slots=True)
class FrameAccount:
    """How many of a container's frames were decoded, and why others were not.

    ``decoded + damaged + sum(skipped.values()) == container_frames``: every
    frame is accounted for.

    Attributes:
        container_frames: pictures that the container's index lists or, without a full index,
            that its packets hold; None when nothing could be read.
        decoded: frames that were handed on, corrupt ones included.
        corrupt: those of ``decoded`` that the decoder flagged as damaged pictures.
        damaged: pictures that could not be decoded or are not in the file.
        skipped: frames left out on purpose, by reason, such as ``sample_fps``.
        ended_early: the container announced more than was there.
        notes: sentences about damage for the report, such as a hole or a clock that restarts.
        facts: sentences about anything else, such as streams that are not read.

    """

    container_frames: int | None = None
    decoded: int = 0
    corrupt: int = 0
    damaged: int = 0
    skipped: Mapping[str, int] = field(default_factory=dict)
    ended_early: bool = False
    notes: tuple[str, ...] = ()
    facts: tuple[str, ...] = ()

    @property
    def intact(self) -> bool:
        """Tell whether every frame of the container came out undamaged."""
        return not (self.corrupt or self.damaged or self.ended_early or self.notes)


@dataclass(frozen=True, eq=False, repr=False, slots=True)
class Poses:
    """The people of one frame (or, inside a ``PoseSequence``, of all frames).

    Attributes:
        keypoints: (N, 17, 2) float32, pixels.
        keypoint_scores: (N, 17) float32, network confidence; 0 means missing.
        boxes: (N, 4) float32, x1 y1 x2 y2 pixels, not clipped to the image.
        box_scores: (N,) float32; 0 marks a row interpolated across a gap.
        track_ids: (N,) int64; -1 means not tracked.
        movement: (N, 6) float32 as ``recognizer.movement`` measures it, rows of NaN where it was
            not measured; None where it was measured for none.

    """

    keypoints: FloatArray
    keypoint_scores: FloatArray
    boxes: FloatArray
    box_scores: FloatArray
    track_ids: IntArray
    movement: FloatArray | None = None

    def __post_init__(self) -> None:
        """Check every shape and type; raise ValueError naming the wrong array."""
        n = len(self.keypoints)
        require_array("keypoints", self.keypoints, np.float32, (n, NUM_KEYPOINTS, 2))
        require_array("keypoint_scores", self.keypoint_scores, np.float32, (n, NUM_KEYPOINTS))
        require_array("boxes", self.boxes, np.float32, (n, 4))
        require_array("box_scores", self.box_scores, np.float32, (n,))
        require_array("track_ids", self.track_ids, np.int64, (n,))
        if self.movement is not None:
            require_array("movement", self.movement, np.float32, (n, NUM_MOVEMENTS))

    @classmethod
    def empty(cls) -> Self:
        """Return the poses of a frame without people."""
        return cls.untracked(
            np.zeros((0, NUM_KEYPOINTS, 2), np.float32),
            np.zeros((0, NUM_KEYPOINTS), np.float32),
            np.zeros((0, 4), np.float32),
            np.zeros(0, np.float32),
        )

    @classmethod
    def untracked(
        cls,
        keypoints: FloatArray,
        keypoint_scores: FloatArray,
        boxes: FloatArray,
        box_scores: FloatArray,
    ) -> Self:
        """Return poses whose people have no id yet."""
        ids = np.full(len(keypoints), UNTRACKED, np.int64)
        return cls(keypoints, keypoint_scores, boxes, box_scores, ids)

    @classmethod
    def concatenate(cls, parts: Sequence["Poses"]) -> Self:
        """Join the rows of several poses, in order; rows without movement get NaN beside others."""
        parts = parts or [cls.empty()]
        measured = any(p.movement is not None for p in parts)
        return cls(
            np.concatenate([p.keypoints for p in parts]),
            np.concatenate([p.keypoint_scores for p in parts]),
            np.concatenate([p.boxes for p in parts]),
            np.concatenate([p.box_scores for p in parts]),
            np.concatenate([p.track_ids for p in parts]),
            np.concatenate([p._movement_rows() for p in parts]) if measured else None,
        )

    def _movement_rows(self) -> FloatArray:
        if self.movement is None:
            return np.full((len(self), NUM_MOVEMENTS), np.nan, np.float32)
        return self.movement

    def __len__(self) -> int:
        """Return the number of people."""
        return len(self.keypoints)

    def __getitem__(self, rows: slice | BoolArray | IntArray) -> "Poses":
        """Return the rows that a slice, mask or index array selects."""
        return Poses(
            self.keypoints[rows],
            self.keypoint_scores[rows],
            self.boxes[rows],
            self.box_scores[rows],
            self.track_ids[rows],
            None if self.movement is None else self.movement[rows],
        )

    def with_ids(self, track_ids: IntArray) -> "Poses":
        """Return the same people in the same order with other ids."""
        return Poses(
            self.keypoints,
            self.keypoint_scores,
            self.boxes,
            self.box_scores,
            track_ids,
            self.movement,
        )

    def with_movement(self, movement: FloatArray) -> "Poses":
        """Return the same people in the same order with their movement, (N, 6) float32."""
        return replace(self, movement=movement)

    def __repr__(self) -> str:
        """Return a short text: how many people, how many of them tracked."""
        return f"Poses({len(self)} people, {int((self.track_ids >= 0).sum())} tracked)"


@dataclass(frozen=True, eq=False, repr=False, slots=True)
class PoseSequence:
    """The poses of a whole video as flat arrays.

    Attributes:
        poses: all people of all frames, frame after frame.
        frame_offsets: (T + 1,) int64; frame t holds rows ``offsets[t]:offsets[t + 1]``.
        time_s: (T,) float64, presentation time of each frame.
        corrupt: (T,) bool, frames the decoder flagged as damaged.
        size_wh: width and height of the frames in pixels.

    """

    poses: Poses
    frame_offsets: IntArray
    time_s: TimeArray
    corrupt: NDArray[np.bool_]
    size_wh: tuple[int, int]

    def __post_init__(self) -> None:
        """Check shapes and that the offsets cover the rows exactly once, in order."""
        frames = len(self.time_s)
        require_array("frame_offsets", self.frame_offsets, np.int64, (frames + 1,))
        require_array("time_s", self.time_s, np.float64, (frames,))
        require_array("corrupt", self.corrupt, np.bool_, (frames,))
        offsets = self.frame_offsets
        if offsets[0] != 0 or offsets[-1] != len(self.poses) or np.any(np.diff(offsets) < 0):
            raise ValueError(
                f"frame_offsets: expected a rise from 0 to {len(self.poses)}, got "
                f"{offsets[0]} to {offsets[-1]}"
            )
        require_rising("time_s", self.time_s)

    def __len__(self) -> int:
        """Return the number of frames."""
        return len(self.time_s)

    def frame(self, t: int) -> Poses:
        """Return the people of frame ``t`` (views, no copies)."""
        return self.poses[int(self.frame_offsets[t]) : int(self.frame_offsets[t + 1])]

    def frames(self) -> Iterator[Poses]:
        """Yield the people of each frame in turn."""
        return (self.frame(t) for t in range(len(self)))

    @property
    def frame_of_row(self) -> IntArray:
        """Frame number of every row of ``poses``, (N,) int64."""
        return np.repeat(np.arange(len(self), dtype=np.int64), np.diff(self.frame_offsets))

    @property
    def frame_period_s(self) -> float:
        """Median time between frames; 1/30 s with fewer than two frames."""
        return float(np.median(np.diff(self.time_s))) if len(self) > 1 else 1 / 30

    @property
    def duration_s(self) -> float:
        """Time from the start of the first frame to the end of the last."""
        return float(self.time_s[-1] - self.time_s[0]) + self.frame_period_s if len(self) else 0.0

    def __repr__(self) -> str:
        """Return a short text: frames, seconds, people rows."""
        return f"PoseSequence({len(self)} frames, {self.duration_s:.2f} s, {len(self.poses)} rows)"


class PoseSequenceBuilder:
    """Collect frames into a ``PoseSequence``; small frames are packed as they come."""

    def __init__(self) -> None:
        self._packed: list[Poses] = []
        self._recent: list[Poses] = []
        self._counts: list[int] = []
        self._time_s: list[float] = []
        self._corrupt: list[bool] = []

    def append(self, poses: Poses, time_s: float, *, corrupt: bool = False) -> None:
        """Add the people of the next frame."""
        self._recent.append(poses)
        self._counts.append(len(poses))
        self._time_s.append(time_s)
        self._corrupt.append(corrupt)
        if len(self._recent) >= _FRAMES_PER_CHUNK:
            self._pack()

    def extend(self, part: PoseSequence) -> None:
        """Add the frames of a part of the video."""
        rows = zip(part.frames(), part.time_s.tolist(), part.corrupt.tolist(), strict=True)
        for poses, time_s, corrupt in rows:
            self.append(poses, time_s, corrupt=corrupt)

    def _pack(self) -> None:
        self._packed.append(Poses.concatenate(self._recent))
        self._recent = []

    def build(self, size_wh: tuple[int, int]) -> PoseSequence:
        """Return everything appended so far."""
        self._pack()
        return PoseSequence(
            Poses.concatenate(self._packed),
            np.concatenate([[0], np.cumsum(self._counts, dtype=np.int64)]).astype(np.int64),
            np.asarray(self._time_s, np.float64),
            np.asarray(self._corrupt, np.bool_),
            size_wh,
        )


@dataclass(frozen=True, eq=False, repr=False, slots=True)
class Track:
    """One person through a video, only in the frames where the person is.

    Attributes:
        track_id: the id, unique inside its video.
        frame_indices: (L,) int64, rising.
        poses: L rows, one per frame of ``frame_indices``.

    """

    track_id: int
    frame_indices: IntArray
    poses: Poses

    def __post_init__(self) -> None:
        """Check that there is exactly one row per frame."""
        require_array("frame_indices", self.frame_indices, np.int64, (len(self.poses),))
        if np.any(np.diff(self.frame_indices) <= 0):
            raise ValueError(f"track {self.track_id}: expected one row per frame, in order")

    def __len__(self) -> int:
        """Return the number of frames in which the person is."""
        return len(self.frame_indices)

    def __repr__(self) -> str:
        """Return a short text: id and length."""
        return f"Track({self.track_id}, {len(self)} frames)"


@dataclass(frozen=True, eq=False, repr=False, slots=True)
class Sample:
    """Input of the action network, in training and inference: M people over T frames.

    Attributes:
        name: unique name (mmaction2's ``frame_dir``).
        label: class index.
        keypoints: (M, T, 17, 2) float32 pixels; slot m is one person throughout.
        keypoint_scores: (M, T, 17) float32; 0 where the person was not seen.
        size_wh: width and height of the video in pixels.
        track_ids: (M,) int64, the person in each slot, most involved first.
        boxes: (M, T, 4) float32 pixels, rows of NaN where the person is absent; None: unknown.
        movement: (M, T, 6) float32 as ``Poses.movement``, rows of NaN where it was not measured;
            None: it never was.
        time_s: (T,) float64, seconds from the first frame; None: unknown.

    """

    name: str
    label: int
    keypoints: FloatArray
    keypoint_scores: FloatArray
    size_wh: tuple[int, int]
    track_ids: IntArray
    boxes: FloatArray | None = None
    movement: FloatArray | None = None
    time_s: TimeArray | None = None

    def __post_init__(self) -> None:
        """Check shapes and that every number is finite, or NaN where that is allowed."""
        m, t = self.keypoints.shape[:2]
        require_array("keypoints", self.keypoints, np.float32, (m, t, NUM_KEYPOINTS, 2))
        require_array("keypoint_scores", self.keypoint_scores, np.float32, (m, t, NUM_KEYPOINTS))
        require_array("track_ids", self.track_ids, np.int64, (m,))
        if not (np.isfinite(self.keypoints).all() and np.isfinite(self.keypoint_scores).all()):
            raise ValueError(f"{self.name}: expected finite keypoints and scores, got NaN or inf")
        if self.boxes is not None:
            require_rows(f"{self.name}: boxes", self.boxes, (m, t, 4))
        if self.movement is not None:
            require_rows(f"{self.name}: movement", self.movement, (m, t, NUM_MOVEMENTS))
        if self.time_s is not None:
            require_array("time_s", self.time_s, np.float64, (t,))
            require_rising(f"{self.name}: time_s", self.time_s)

    def __repr__(self) -> str:
        """Return a short text: name, label, people, frames."""
        m, t = self.keypoints.shape[:2]
        return f"Sample({self.name!r}, label {self.label}, {m} people, {t} frames)"
