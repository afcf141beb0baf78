"""Poses of the frames of one video, batch after batch."""

import math
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

import numpy as np

from recognizer.backends.network import ModelError
from recognizer.movement import MovementMeter, unmeasured
from recognizer.pose.estimator import VideoPose
from recognizer.types import Frame, Poses, PoseSequence, PoseSequenceBuilder


def estimate_poses(
    frames: Iterable[Frame],
    model: VideoPose,
    *,
    batch_size: int = 1,
    meter: MovementMeter | None = None,
) -> Iterator[PoseSequence]:
    """Yield the people of each batch of frames, without ids.

    Args:
        frames: of one video, in order of time.
        model: the pose model, fresh for this video: ``PoseModel.for_video()``.
        batch_size: frames that the network sees at once; the last batch may hold fewer.
        meter: measures the movement inside the people's boxes; None: it is not measured. A damaged
            frame is not measured.

    Raises:
        ModelError: a network that gives NaN or infinity.
        ValueError: a batch size below 1, times that fall or are not finite, or another picture
            size than that of the first frame.

    """
    if batch_size < 1:
        raise ValueError(f"batch_size: expected 1 or more, got {batch_size}")
    checked = _checked(frames)
    while batch := list(islice(checked, batch_size)):
        builder = PoseSequenceBuilder()
        for frame, poses in zip(batch, infer(model, batch), strict=True):
            measured = poses if meter is None else with_movement(meter, frame, poses)
            builder.append(measured, frame.time_s, corrupt=frame.corrupt)
        yield builder.build(batch[0].image.size_wh)


def _checked(frames: Iterable[Frame]) -> Iterator[Frame]:
    size_wh, before = None, -math.inf
    for frame in frames:
        if not before <= frame.time_s < math.inf:
            raise ValueError(
                f"frame {frame.index}: expected a time not before the last frame's ({before:g} s), "
                f"got {frame.time_s:g} s"
            )
        size_wh = size_wh or frame.image.size_wh
        if frame.image.size_wh != size_wh:
            raise ValueError(
                f"frame {frame.index}: expected {size_wh[0]}x{size_wh[1]} pixels as in the first "
                f"frame, got {frame.image.size_wh[0]}x{frame.image.size_wh[1]}; scale the frames "
                "to one size"
            )
        before = frame.time_s
        yield frame


def with_movement(meter: MovementMeter, frame: Frame, poses: Poses) -> Poses:
    """Return the poses with their movement; a damaged frame, which moves nobody, has none."""
    if frame.corrupt:
        return poses.with_movement(unmeasured(len(poses)))
    return poses.with_movement(meter.measure(frame.image, frame.time_s, poses.boxes))


def infer(model: VideoPose, batch: Sequence[Frame]) -> list[Poses]:
    """Return the people of each frame.

    Raises:
        ModelError: a network that gives NaN or infinity.

    """
    estimated = model([frame.image for frame in batch], [frame.time_s for frame in batch])
    for poses in estimated:
        arrays = (poses.keypoints, poses.keypoint_scores, poses.boxes, poses.box_scores)
        if not all(np.isfinite(array).all() for array in arrays):
            raise ModelError(
                "the pose network gives numbers that are not finite (NaN); its file is broken or "
                "was exported wrongly"
            )
    return estimated
