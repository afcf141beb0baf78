"""Parts of sequences: evenly spaced items, some of the frames, several parts as one."""

from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar

import numpy as np

from recognizer.checks import check_type
from recognizer.types import Poses, PoseSequence

T = TypeVar("T")


def evenly_spaced(items: Sequence[T], count: int | None) -> list[T]:
    """Return at most ``count`` items, evenly spaced and in order; all of them without a count."""
    if count is None or len(items) <= count:
        return list(items)
    return [items[(2 * i + 1) * len(items) // (2 * count)] for i in range(count)]


def parts_of(video: PoseSequence | Iterable[PoseSequence]) -> Iterator[PoseSequence]:
    """Return the parts of a video; one that is whole is its only part.

    Raises:
        TypeError: neither a pose sequence nor an iterable of them; of a part when it is reached.

    """
    if isinstance(video, PoseSequence):
        return iter([video])
    check_type("parts", video, PoseSequence, Iterable)
    return map(_part, video)


def _part(part: PoseSequence) -> PoseSequence:
    check_type("parts", part, PoseSequence)
    return part


def slice_frames(sequence: PoseSequence, first: int, stop: int) -> PoseSequence:
    """Return the frames ``first <= t < stop``; the arrays of people are views, not copies."""
    offsets = sequence.frame_offsets[first : stop + 1]
    return PoseSequence(
        sequence.poses[int(offsets[0]) : int(offsets[-1])],
        offsets - offsets[0],
        sequence.time_s[first:stop],
        sequence.corrupt[first:stop],
        sequence.size_wh,
    )


def join_sequences(parts: Sequence[PoseSequence]) -> PoseSequence:
    """Return parts of one video that follow each other as one; a single part as it is.

    Args:
        parts: one or more, in order of time.

    Raises:
        ValueError: no parts, parts of different picture sizes, or times that fall.

    """
    if not parts:
        raise ValueError("parts: expected one or more pose sequences, got none")
    for part in parts[1:]:
        require_follows(part, parts[0].size_wh, None)
    if len(parts) == 1:
        return parts[0]
    counts = np.concatenate([np.diff(part.frame_offsets) for part in parts])
    return PoseSequence(
        Poses.concatenate([part.poses for part in parts]),
        np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        np.concatenate([part.time_s for part in parts]),
        np.concatenate([part.corrupt for part in parts]),
        parts[0].size_wh,
    )


def require_follows(
    part: PoseSequence, size_wh: tuple[int, int] | None, time_s: float | None
) -> None:
    """Raise ValueError unless a part continues a video.

    Args:
        part: the next frames.
        size_wh: width and height of the frames before, pixels; None: there are none.
        time_s: time of the last frame before; None: there is none.

    """
    if size_wh is not None and part.size_wh != size_wh:
        raise ValueError(
            f"size_wh: expected {size_wh[0]}x{size_wh[1]} as in the frames before, got "
            f"{part.size_wh[0]}x{part.size_wh[1]}; scale the frames to one size, or reset() "
            "before another video"
        )
    if time_s is not None and len(part) and part.time_s[0] < time_s:
        raise ValueError(
            f"time_s: expected a time not before the last frame's ({time_s:g}), got "
            f"{float(part.time_s[0]):g}; reset() before another video"
        )
