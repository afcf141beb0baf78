"""Frame sampling: the frames of a clip in the action network's input, in order.

Every choice leaves frames between the chosen ones out, so motion, the step to the next frame
of the clip, needs the frames after the chosen ones too: ``needed_frames``.
"""

from functools import lru_cache

import numpy as np

from recognizer.types import IntArray

SAMPLINGS = ("uniform", "even")
TEST_SEED = 255  # UniformSampleFrames' own, in test mode


@lru_cache(maxsize=4096)
def evaluation_frames(
    total: int, clip_len: int, sampling: str = "uniform", num_clips: int = 1
) -> IntArray:
    """Return the frames (num_clips * clip_len,) for testing on a clip of ``total``; read-only.

    "uniform" draws what UniformSampleFrames draws in test mode, from a generator of its own.
    "even" takes the frames of ``even_frames``, the same for each of ``num_clips``.

    Raises:
        ValueError: no frames, or an unknown way of sampling.

    """
    if sampling not in SAMPLINGS:
        raise ValueError(f"unknown sampling {sampling!r}; known: {', '.join(SAMPLINGS)}")
    random = np.random.RandomState(TEST_SEED)
    clips = []
    for i in range(num_clips):
        start = i if total < num_clips else i * total // num_clips
        if sampling == "even":
            clips.append(even_frames(total, clip_len))
        else:
            clips.append(uniform_frames(total, clip_len, random, start))
    frames = np.concatenate(clips)
    frames.setflags(write=False)
    return frames


def uniform_frames(
    total: int, clip_len: int, random: np.random.RandomState, start: int | None = None
) -> IntArray:
    """Return one frame at random from each of ``clip_len`` equal parts of a clip.

    A clip of fewer than ``clip_len`` frames is repeated from a start, drawn if not given. Draws
    the same numbers in the same order as mmaction2's UniformSampleFrames, so equal states of
    the generator give equal frames.

    Raises:
        ValueError: no frames.

    """
    _require_frames(total)
    if total < clip_len:
        first = int(random.randint(0, total)) if start is None else start
        return np.arange(first, first + clip_len, dtype=np.int64) % total
    if total < 2 * clip_len:
        skipped = random.choice(clip_len + 1, total - clip_len, replace=False)
        step = np.zeros(clip_len + 1, np.int64)
        step[skipped] = 1
        return np.arange(clip_len, dtype=np.int64) + np.cumsum(step)[:-1]
    edges = np.arange(clip_len + 1, dtype=np.int64) * total // clip_len
    return edges[:-1] + random.randint(np.diff(edges))


def even_frames(total: int, clip_len: int, random: np.random.RandomState | None = None) -> IntArray:
    """Return one frame from each of ``clip_len`` equal parts: the middle one, or a random one.

    The clip is never repeated: where it is short, its frames are.

    Raises:
        ValueError: no frames.

    """
    _require_frames(total)
    inside = 0.5 if random is None else random.random_sample(clip_len)
    frames = (np.arange(clip_len) + inside) * total / clip_len
    return np.minimum(frames.astype(np.int64), total - 1)


def _require_frames(total: int) -> None:
    if total < 1:
        raise ValueError(f"expected a clip of at least one frame, got {total}")


def needed_frames(frames: IntArray, total: int, *, motion: bool) -> tuple[IntArray, IntArray]:
    """Return the frames that the features need, and the chosen ones' places among them.

    Motion at a frame is the step to the next frame of the clip, not to the next chosen one.

    Args:
        frames: (L,) the chosen frames.
        total: frames of the clip.
        motion: the frames after the chosen ones are needed too.

    Returns:
        The frames to keep (N,), rising and each once if ``motion``; and (L,) rows of them.

    """
    if not motion:
        return frames, np.arange(len(frames), dtype=np.int64)
    needed = np.zeros(total + 1, np.bool_)
    needed[frames] = True
    needed[frames + 1] = True
    needed[total] = False
    rows = np.flatnonzero(needed)
    return rows, np.searchsorted(rows, frames)
