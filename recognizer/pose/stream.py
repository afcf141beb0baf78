"""Poses of the frames of one video, batch after batch."""

import math
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

import numpy as np

from recognizer.backends.network import ModelError
from recognizer.checks import MAX_BATCH_SIZE, check_whole
from recognizer.movement import MovementMeter, unmeasured
from recognizer.pose.estimator import PoseSource, VideoPose
from recognizer.types import Frame, Poses, PoseSequence, PoseSequenceBuilder


def estimate_poses(
    frames: Iterable[Frame], model: PoseSource, *, batch_size: int = 1, movement: bool = True
) -> Iterator[PoseSequence]:
    """Yield the people of each batch of frames, without ids.

    Args:
        frames: of one video, in order of time.
        model: an opened pose model; its ``for_video()`` is called once.
        batch_size: frames that the network sees at once; the last batch may hold fewer.
        movement: measure the movement inside the people's boxes, but for damaged frames.

    Raises:
        ModelError: a network that gives NaN or infinity.
        ValueError: a batch size that is not 1 to 256, times that fall or are not finite, or another
            picture size than that of the first frame.

    """
    check_whole("batch_size", batch_size, 1, MAX_BATCH_SIZE)
    checked, video = check_frames(frames), model.for_video()
    meter = MovementMeter() if movement else None
    while batch := list(islice(checked, batch_size)):
        builder = PoseSequenceBuilder()
        for frame, poses in zip(batch, infer(video, batch), strict=True):
            measured = poses if meter is None else with_movement(meter, frame, poses)
            builder.append(measured, frame.time_s, corrupt=frame.corrupt)
        yield builder.build(batch[0].image.size_wh)


def check_frames(
    frames: Iterable[Frame],
    size_wh: tuple[int, int] | None = None,
    before_s: float = -math.inf,
    advice: str = "",
) -> Iterator[Frame]:
    """Yield frames, each checked against the one before it.

    Args:
        frames: of one video, in order of time.
        size_wh: width and height of the frames before, pixels; None: there are none.
        before_s: time of the last frame before.
        advice: what to do, for the end of a message.

    Raises:
        ValueError: times that fall or are not finite, or another picture size than that of
            the frames before.

    """
    for frame in frames:
        if not before_s <= frame.time_s < math.inf:
            raise ValueError(
                f"frame {frame.index}: expected a time not before the last frame's ({before_s:g} "
                f"s), got {frame.time_s:g} s{advice}"
            )
        size_wh = size_wh or frame.image.size_wh
        if frame.image.size_wh != size_wh:
            raise ValueError(
                f"frame {frame.index}: expected {size_wh[0]}x{size_wh[1]} pixels as in the first "
                f"frame, got {frame.image.size_wh[0]}x{frame.image.size_wh[1]}; scale the frames "
                f"to one size{advice}"
            )
        before_s = frame.time_s
        yield frame


def with_movement(meter: MovementMeter, frame: Frame, poses: Poses) -> Poses:
    """Return the poses with their movement; none of a damaged frame."""
    if frame.corrupt:
        return poses.with_movement(unmeasured(len(poses)))
    return poses.with_movement(meter.measure(frame.image, frame.time_s, poses.boxes))


def infer(model: VideoPose, batch: Sequence[Frame]) -> list[Poses]:
    """Return the people of each frame.

    Raises:
        ModelError: a network that gives NaN or infinity.

    """
    return require_finite(model([one.image for one in batch], [one.time_s for one in batch]))


def require_finite(estimated: list[Poses]) -> list[Poses]:
    """Return poses as they are; raise ModelError where a number is NaN or infinity."""
    for poses in estimated:
        arrays = (poses.keypoints, poses.keypoint_scores, poses.boxes, poses.box_scores)
        if not all(np.isfinite(array).all() for array in arrays):
            raise ModelError(
                "the pose network gives numbers that are not finite (NaN); its file is broken or "
                "was exported wrongly"
            )
    return estimated
