"""Windows over a video in seconds, so that their meaning does not change with its fps.

A window is half-open: it holds the frames with ``start_s <= time_s < stop_s``. The video
spans from its first frame's time to one frame period after its last frame's.
"""

import numpy as np

from recognizer.types import PoseSequence

# Times come from integer ticks divided by a clock rate and windows from sums of seconds;
# both round. A microsecond is far below any frame period and far above the rounding.
_ROUNDING_S = 1e-6


def plan_windows(
    sequence: PoseSequence, length_s: float, stride_s: float | None = None
) -> list[tuple[float, float]]:
    """Return the windows (start_s, stop_s) that cover every frame of a video.

    Where frames remain, a last window is moved back so that it ends with the video. A video
    that is not longer than one window gives one window with everything, a video with no
    frames none; a window that falls into a hole of the recording is left out.

    Args:
        sequence: the video.
        length_s: length of a window, seconds.
        stride_s: from one start to the next, seconds; the length if None, so that only the
            last two windows may overlap.

    Raises:
        ValueError: a length or stride that is not above 0, or a stride longer than the
            window, which would leave frames out.

    """
    stride_s = length_s if stride_s is None else stride_s
    if not 0 < stride_s <= length_s:
        raise ValueError(
            "windows: expected 0 < stride_s <= window_s, so that no frame is left out, got "
            f"stride_s {stride_s:g} and window_s {length_s:g}"
        )
    if len(sequence) == 0:
        return []
    begin = float(sequence.time_s[0])
    end = begin + sequence.duration_s
    if sequence.duration_s <= length_s + _ROUNDING_S:
        return [(begin, end)]
    whole = int((sequence.duration_s - length_s + _ROUNDING_S) / stride_s)
    # Only windows near a frame: a hole of weeks in the clock must not make millions of them.
    near = np.unique(((sequence.time_s - begin) / stride_s + _ROUNDING_S).astype(np.int64))
    before = np.arange(int(np.ceil(length_s / stride_s)) + 1)
    numbers = np.unique(near[:, None] - before)
    numbers = numbers[(numbers >= 0) & (numbers <= whole)]
    starts = [begin + float(k) * stride_s for k in numbers]
    if frame_range(sequence, begin + whole * stride_s + length_s, end)[0] < len(sequence):
        starts.append(end - length_s)
    windows = [(start, start + length_s) for start in starts]
    return [w for w in windows if np.diff(frame_range(sequence, *w))[0] > 0]


def frame_range(sequence: PoseSequence, start_s: float, stop_s: float) -> tuple[int, int]:
    """Return the frames ``first <= t < stop`` whose time is in ``[start_s, stop_s)``."""
    edges = np.array([start_s, stop_s], np.float64) - _ROUNDING_S
    first, stop = np.searchsorted(sequence.time_s, edges, side="left")
    return int(first), max(int(first), int(stop))


def slice_sequence(sequence: PoseSequence, start_s: float, stop_s: float) -> PoseSequence:
    """Return the frames with ``start_s <= time_s < stop_s``; times stay those of the video.

    The arrays of people are views of the whole video's, not copies.
    """
    first, stop = frame_range(sequence, start_s, stop_s)
    offsets = sequence.frame_offsets[first : stop + 1]
    return PoseSequence(
        sequence.poses[int(offsets[0]) : int(offsets[-1])],
        offsets - offsets[0],
        sequence.time_s[first:stop],
        sequence.corrupt[first:stop],
        sequence.size_wh,
    )
