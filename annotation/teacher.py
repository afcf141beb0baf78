"""The teacher: the strong, slow front end whose opinions become labels.

Every picture is looked at by the person detector upright and turned by a quarter to both sides;
every person by the pose network upright and, where that is unsure, turned both ways, then once more
with the mirror image. MoveNet MultiPose, where its file is there, is a second opinion on both. All
opinions are kept; which of them make a label, ``annotation.teacher_labels`` decides.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from annotation.teacher_labels import is_there
from recognizer.backends.network import ModelError, Network
from recognizer.backends.onnx import OnnxNetwork
from recognizer.config.models import PoseEstimationConfig
from recognizer.config.types import OnnxRuntimeOptions
from recognizer.geometry import box_iou, nms
from recognizer.pose.estimator import block_of, build_pose_model
from recognizer.pose.movenet import People, check_multipose, decode_people, input_wh, see
from recognizer.pose.topdown import TopDownPose
from recognizer.pose.turned import SAME_PERSON, TURNS, TurnedImage, turned_back
from recognizer.types import FloatArray, Image

TEACHER_REVISION = 1
"""Raised when the teacher's rules change: labels of two revisions are not mixed."""
Candidates = dict[str, NDArray[Any]]
"""Opinions on a picture's N people, see ``Teacher``."""

_TURNED_BOX = 0.9  # factor of a box found on a turned picture
_UPRIGHT_POSE = 1.1  # an upright pose is kept unless a turned one is this much better
_SURE_POSE = 0.75  # mean keypoint score from which the turned views are not tried
_LEAST_BOX = 0.1
_LEAST_PERSON = 0.1  # MoveNet's own score


def build_teacher(
    settings: PoseEstimationConfig,
    files: Mapping[str, Path],
    second_opinion: Path | None = None,
    *,
    threads: int = 1,
    gpu: int | None = None,
) -> "Teacher":
    """Open the networks of a teacher.

    Args:
        settings: of the pose network and its detector.
        files: the ``pose`` network and the ``detector``, as ``build_pose_model`` takes them.
        second_opinion: MoveNet MultiPose as ONNX; None: the teacher works without.
        threads: CPU threads for each network where the config says ``auto``.
        gpu: device number that replaces the config's.

    Raises:
        ModelError: not a top-down pose network, or another fault of a file.

    """
    detector = settings.topdown.detector.model_copy(update={"score_threshold": _LEAST_BOX})
    topdown = settings.topdown.model_copy(update={"detector": detector, "flip_test": False})
    section = settings.model_copy(update={"topdown": topdown})
    model = build_pose_model(section, files, threads=threads, gpu=gpu)
    if not isinstance(model, TopDownPose):
        raise ModelError(
            f"{files['pose']}: expected a top-down pose network as the teacher, which sees one "
            "person at a time also turned and mirrored, got a one-stage network; set "
            "models.pose_estimation.onnx.model_path to one such as SDPose or PP-TinyPose"
        )
    movenet = None
    if second_opinion is not None:
        movenet = open_movenet(second_opinion, threads, second_device(settings, gpu))
    return Teacher(model, model.with_flip_test(), movenet)


def second_device(settings: PoseEstimationConfig, gpu: int | None = None) -> str:
    """Return the device of the second opinion: that of the teacher's pose network."""
    return block_of(settings).device if gpu is None else f"cuda:{gpu}"


def open_movenet(path: Path, threads: int = 1, device: str = "cpu") -> OnnxNetwork:
    """Open MoveNet MultiPose: (1, H, W, 3) RGB -> (1, N, 56).

    Args:
        path: the ONNX file.
        threads: of ONNX Runtime on the CPU.
        device: ``cpu`` or ``cuda:N``.

    Raises:
        ModelError: another network, or a device that is not there.

    """
    network = OnnxNetwork(path, OnnxRuntimeOptions(device=device), threads)
    try:
        check_multipose(network)
    except ModelError as error:
        raise ModelError(
            f"{path}: {error}; set distill.second_opinion to that file, or to null to work without"
        ) from error
    return network


class Teacher:
    """Image -> candidates: everybody who may be there, and every opinion on them.

    The arrays that a call returns, in pixels of the image:
        ``boxes`` (N, 4); ``scores`` (N, 3): detector upright, detector's best view, MoveNet;
        ``keypoints`` (N, 17, 3): x, y, score; ``movenet`` (N, 17, 3), zeros where it found no
        person; ``pose`` (N, 4): quarter turn that is kept, mean keypoint score upright and in both
        turns without mirror (0: not tried).

    Args:
        plain: the pose network with its detector.
        mirrored: the same with the mirror image (``flip_test``).
        movenet: MoveNet MultiPose, None without a second opinion.

    """

    def __init__(self, plain: TopDownPose, mirrored: TopDownPose, movenet: Network | None) -> None:
        self._plain, self._mirrored, self._movenet = plain, mirrored, movenet

    def __call__(self, image: Image) -> Candidates:
        """Return the candidates of a picture."""
        boxes, scores = self._boxes(image)
        people = self._second_people(image)
        pairs = _pairs(boxes, people.boxes)
        rest = [row for row in range(len(people.scores)) if row not in pairs.values()]
        movenet = np.zeros((len(boxes) + len(rest), 17, 3), np.float32)
        second = np.zeros(len(movenet), np.float32)
        for row, person in (*pairs.items(), *enumerate(rest, start=len(boxes))):
            movenet[row], second[row] = people.keypoints[person], people.scores[person]
        boxes = np.concatenate([boxes, people.boxes[rest]]).astype(np.float32)
        ranks = np.concatenate([scores, np.zeros((len(rest), 2), np.float32)])
        scores = np.concatenate([ranks, second[:, None]], axis=1)
        keypoints = np.zeros((len(boxes), 17, 3), np.float32)
        pose = np.zeros((len(boxes), 4), np.float32)
        worth = is_there(scores)  # the others stay doubts, whatever their pose
        if worth.any():
            keypoints[worth], pose[worth] = self._poses(image, boxes[worth])
        return {
            "boxes": boxes,
            "scores": scores,
            "keypoints": keypoints,
            "movenet": movenet,
            "pose": pose,
        }

    def _boxes(self, image: Image) -> tuple[FloatArray, FloatArray]:
        """Return the detector's boxes (N, 4) and scores (N, 2): upright view, best of all."""
        views = [image, *(TurnedImage(image, turn) for turn in TURNS)]
        upright, *turned = self._plain.detector(views)
        back = [
            turned_back(found.xyxy, turn, image.size_wh)
            for found, turn in zip(turned, TURNS, strict=True)
        ]
        boxes = np.concatenate([upright.xyxy, *back]).astype(np.float32)
        ranked = np.concatenate([upright.scores, *(f.scores * _TURNED_BOX for f in turned)])
        kept = nms(boxes, ranked.astype(np.float32), SAME_PERSON)
        first = np.zeros(len(boxes), np.float32)
        if len(upright.scores) and len(boxes):
            overlap = box_iou(boxes, upright.xyxy)
            best = overlap.argmax(1)
            first = np.where(overlap.max(1) > SAME_PERSON, upright.scores[best], 0)
        return boxes[kept], np.stack([first, ranked], axis=1)[kept].astype(np.float32)

    def _second_people(self, image: Image) -> People:
        """Return MoveNet's people."""
        if self._movenet is None:
            return decode_people(np.zeros((0, 56), np.float32), image.size_wh, _LEAST_PERSON)
        small = cv2.resize(image.bgr(), input_wh(image.size_wh), interpolation=cv2.INTER_AREA)
        return see(self._movenet, np.asarray(small, np.uint8), image.size_wh, _LEAST_PERSON)

    def _poses(self, image: Image, boxes: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return keypoints (N, 17, 3) of the best turn with its mirror image, and ``pose``."""
        owners = np.zeros(len(boxes), np.int64)
        means = np.zeros((len(boxes), 1 + len(TURNS)), np.float32)
        means[:, 0] = self._plain.keypoints_of([image], owners, boxes)[1].mean(1)
        unsure = np.flatnonzero(means[:, 0] < _SURE_POSE)
        for column, turn in enumerate(TURNS if len(unsure) else (), start=1):
            turns = np.full(len(unsure), turn, np.int64)
            seen = self._plain.keypoints_of([image], owners[unsure], boxes[unsure], turns)
            means[unsure, column] = seen[1].mean(1)
        best = (means * [_UPRIGHT_POSE, 1, 1]).argmax(1)
        kept = np.array([0, *TURNS], np.int64)[best]
        points, scores = self._mirrored.keypoints_of([image], owners, boxes, kept)
        keypoints = np.concatenate([points, scores[..., None]], -1, dtype=np.float32)
        return keypoints, np.concatenate([kept[:, None], means], axis=1, dtype=np.float32)


def _pairs(boxes: FloatArray, others: FloatArray) -> dict[int, int]:
    """Return row of ``others`` by row of ``boxes`` where both are one person; best first."""
    if not len(boxes) or not len(others):
        return {}
    overlap = box_iou(boxes, others)
    pairs: dict[int, int] = {}
    for row, other in sorted(
        np.argwhere(overlap > SAME_PERSON).tolist(), key=lambda p: -overlap[p[0], p[1]]
    ):
        if row not in pairs and other not in pairs.values():
            pairs[row] = other
    return pairs
