"""Compare two pose models on the same frames: people, boxes, and keypoints in pixels.

People of a frame are paired by boxes, keypoints and scores. A person that only one model detects
counts, unless the score is so near to the threshold that rounding decides.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from recognizer.types import Image, Poses
from recognizer.video.array_image import ArrayImage
from recognizer.video.reader import VideoReader

VIDEO_SUFFIXES = {".mp4", ".avi", ".mkv", ".mov", ".webm", ".m4v", ".mpg", ".mpeg", ".ts"}
_SAME_BOX = 0.5  # largest distance of corners, in sides of the box
_MADE_SEED = 7


@dataclass(frozen=True, slots=True)
class Parity:
    """Differences of two pose models.

    Attributes:
        frames: compared frames.
        people: pairs that both models detect.
        only_one: people that only one model detects, without those near the threshold.
        median_px, worst_px: distance of a keypoint, image pixels; 0 without pairs.
        worst_score: largest difference of a score of a box or keypoint.
        worst_box_px: largest difference of a box's corner.
        p99_px: 99th percentile of the distance of keypoints.

    """

    frames: int
    people: int
    only_one: int
    median_px: float
    worst_px: float
    worst_score: float
    worst_box_px: float
    p99_px: float = 0.0

    def __str__(self) -> str:
        """Return the figures in one line."""
        return (
            f"{self.people} people in {self.frames} frames, {self.only_one} seen by one only; "
            f"keypoints {self.median_px:.4f} px apart in the median, {self.worst_px:.3f} px at "
            f"worst; boxes {self.worst_box_px:.3f} px, scores {self.worst_score:.1e} at worst"
        )


def compare(
    ours: Sequence[Poses], others: Sequence[Poses], *, threshold: float = 0.0, edge: float = 1e-3
) -> Parity:
    """Compare the people that two models detect in the same frames.

    Args:
        ours: of one model, by frame.
        others: of the other.
        threshold: lowest score of a person.
        edge: a person scored at most this above the threshold may be missing on one side.

    """
    distances, scores, boxes = [np.zeros(0)], [0.0], [0.0]
    people = only_one = 0
    for a, b in zip(ours, others, strict=True):
        pairs = list(_pairs(a, b))
        people += len(pairs)
        for poses, paired in ((a, {i for i, _ in pairs}), (b, {j for _, j in pairs})):
            alone = [i for i in range(len(poses)) if i not in paired]
            only_one += sum(float(poses.box_scores[i]) > threshold + edge for i in alone)
        for i, j in pairs:
            apart = np.hypot(*(a.keypoints[i] - b.keypoints[j]).T)  # (17,)
            # A keypoint on the edge of keypoint_threshold is missing on one side.
            both = (a.keypoint_scores[i] > 0) & (b.keypoint_scores[j] > 0)
            distances.append(apart[both].astype(np.float64))
            gaps = np.abs(a.keypoint_scores[i] - b.keypoint_scores[j])[both]
            scores += [float(gaps.max(initial=0.0)), abs(float(a.box_scores[i] - b.box_scores[j]))]
            boxes.append(float(np.abs(a.boxes[i] - b.boxes[j]).max()))
    flat = np.concatenate(distances)
    return Parity(
        len(ours),
        people,
        only_one,
        float(np.median(flat)) if flat.size else 0.0,
        float(np.max(flat, initial=0.0)),  # not max(): a NaN must not be lost
        float(np.max(scores)),
        float(np.max(boxes)),
        float(np.quantile(flat, 0.99)) if flat.size else 0.0,
    )


def _pairs(a: Poses, b: Poses) -> Iterator[tuple[int, int]]:
    """Yield the rows of the same person, the most alike first, each row once.

    Overlap alone would not do: boxes cut off at the picture's edge can be alike, or of no area.
    """
    if not len(a) or not len(b):
        return
    boxes = np.abs(a.boxes[:, None] - b.boxes[None]).max(-1)  # (A, B)
    sides = np.abs(a.boxes[:, 2:] - a.boxes[:, :2]).max(-1)[:, None] + 1
    points = np.hypot(*np.moveaxis(a.keypoints[:, None] - b.keypoints[None], -1, 0))  # (A, B, 17)
    scores = np.abs(a.box_scores[:, None] - b.box_scores[None])
    apart = (boxes + np.median(points, -1)) / sides + scores
    apart[boxes > _SAME_BOX * sides] = np.inf
    while np.isfinite(apart).any():
        i, j = np.unravel_index(int(apart.argmin()), apart.shape)
        yield int(i), int(j)
        apart[i, :] = apart[:, j] = np.inf


# --- frames to compare on ----------------------------------------------------------


def frames_of(folder: Path | None, count: int) -> list[Image]:
    """Return frames of the videos below a folder, equally many of each; without one, made pictures.

    Raises:
        FileNotFoundError: a folder without videos.
        VideoError: one that cannot be read.

    """
    if folder is None:
        return [ArrayImage(made_picture(seed)) for seed in range(min(count, 16))]
    videos = sorted(p for p in folder.rglob("*") if p.suffix.lower() in VIDEO_SUFFIXES)
    if not videos:
        raise FileNotFoundError(f"deploy.frames_dir: expected videos below {folder}, found none")
    chosen = videos[:: max(1, len(videos) // count)][:count]
    each = -(-count // len(chosen))
    frames: list[Image] = []
    for path in chosen:
        with VideoReader(path, sample_fps=2.0) as reader:
            # Copied: a decoder's frame holds its whole buffer.
            frames += [ArrayImage(frame.image.bgr()) for frame in islice(reader, each)]
    return frames[:count]


def made_picture(seed: int, size_wh: tuple[int, int] = (320, 240)) -> NDArray[np.uint8]:
    """Return a picture of soft blots on noise, (H, W, 3) BGR; the same for the same seed."""
    random = np.random.default_rng((_MADE_SEED, seed))
    width, height = size_wh
    image = random.uniform(60, 120, (height, width, 3)).astype(np.float32)
    for _ in range(8):
        centre = (int(random.integers(width)), int(random.integers(height)))
        axes = (int(random.integers(5, 40)), int(random.integers(10, 80)))
        colour = tuple(float(level) for level in random.integers(0, 255, 3))
        cv2.ellipse(image, centre, axes, float(random.uniform(0, 180)), 0, 360, colour, -1)
    return np.asarray(cv2.GaussianBlur(image, (5, 5), 0).clip(0, 255), np.uint8)
