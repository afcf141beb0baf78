"""Label one video by the teacher: pictures, and who is in them."""

import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from annotation.teacher import Teacher
from annotation.teacher_labels import PERSON, Labels, choose
from annotation.teacher_tracks import LEAST_KEYPOINTS, Window, confirmed
from recognizer.config.schema import DistillConfig
from recognizer.runs.worker_pool import OnFrames, StopRunError
from recognizer.storage.artifacts import atomic_path
from recognizer.types import FloatArray, Frame, FrameAccount, Image, ImageArray
from recognizer.video.array_image import ArrayImage
from recognizer.video.reader import VideoReader

IMAGES = "images"
JsonObject = dict[str, Any]

_SCORE, _VISIBLE = 0.3, 0.5  # keypoint scores: known; visible, not only known
_AS_SURE = 0.99  # of a keypoint's score: a lower weight is another opinion's objection
_LEAST_EXTENT = 0.35  # of a box's longer side; keypoints closer together are of no body
_LEAST_SIDE = 2.0  # of a box inside the picture, pixels
_QUALITY = 95
_NAME = 40
_A_SIGN_EVERY = 500  # frames


@dataclass(frozen=True, slots=True)
class Sampled:
    """Which frames of a video are labelled.

    Attributes:
        windows: per picture the indices of its frame and its neighbours, rising.
        centres: the index of each picture's frame.

    """

    windows: tuple[tuple[int, ...], ...]
    centres: tuple[int, ...]

    @property
    def frames(self) -> set[int]:
        """All frames that the teacher looks at."""
        return {index for window in self.windows for index in window}


def sample_frames(time_s: NDArray[np.float64], settings: DistillConfig) -> Sampled:
    """Choose the frames of a video, one every ``every_s`` and its neighbours.

    Args:
        time_s: (T,) time of each frame, T > 0.
        settings: the config's section.

    """
    length = float(time_s[-1] - time_s[0])
    count = max(1, round(length / settings.every_s))
    if settings.max_pictures is not None:
        count = min(count, settings.max_pictures)
    moments = time_s[0] + length * (np.arange(count) + 0.5) / count
    offsets = settings.neighbour_step_s * np.arange(-settings.neighbours, settings.neighbours + 1)
    centres = sorted({_nearest(time_s, moment) for moment in moments.tolist()})
    windows = [
        {_nearest(time_s, moment) for moment in (time_s[c] + offsets).tolist()} | {c}
        for c in centres
    ]
    return Sampled(tuple(tuple(sorted(window)) for window in windows), tuple(centres))


def _nearest(time_s: NDArray[np.float64], moment: float) -> int:
    """Return the index of the time (of rising ones) that is nearest; of two the first."""
    after = int(np.searchsorted(time_s, moment))
    if after == 0:
        return 0
    late = after == len(time_s) or moment - time_s[after - 1] <= time_s[after] - moment
    return after - 1 if late else after


class VideoLabeller:
    """Labels videos and writes their pictures.

    Args:
        teacher: gives the opinions.
        settings: the config's section.
        folder: the data set's.
        threads: of the decoder.

    """

    def __init__(
        self, teacher: Teacher, settings: DistillConfig, folder: Path, threads: int = 1
    ) -> None:
        self._teacher, self._settings = teacher, settings
        self._folder, self._threads = folder, threads

    def __call__(
        self, video: str, path: Path, on_frames: OnFrames
    ) -> tuple[list[JsonObject], FrameAccount]:
        """Return the pictures of a video with their people, and what became of its frames.

        Raises:
            VideoError, OSError: the video cannot be read.
            StopRunError: a picture cannot be written.

        """
        time_s, size_wh = self._times(path, on_frames)
        sampled = sample_frames(time_s, self._settings)
        labels: dict[int, Labels] = {}
        names: dict[int, str] = {}
        with VideoReader(path, threads=self._threads) as reader:
            for index, frame in enumerate(on_time(reader, on_frames)):
                if index not in sampled.frames or frame.corrupt:
                    continue
                image = ArrayImage(frame.image.bgr())
                labels[index] = choose(self._teacher(image))
                if index in sampled.centres:
                    names[index] = self._write(video, frame.time_s, image)
                on_frames(1)
            account = reader.account
        pictures = []
        for centre, frames in zip(sampled.centres, sampled.windows, strict=True):
            if centre not in names:
                continue
            seen = [f for f in frames if f in labels]
            window = Window([labels[f] for f in seen], time_s[seen], seen.index(centre), size_wh)
            people = annotations(confirmed(window, self._settings.agreement), size_wh)
            pictures.append(_picture(names[centre], size_wh, float(time_s[centre]), people))
        return pictures, account

    def _times(
        self, path: Path, on_frames: OnFrames
    ) -> tuple[NDArray[np.float64], tuple[int, int]]:
        """Return the time of every frame, and their size."""
        with VideoReader(path, threads=self._threads) as reader:
            times = [frame.time_s for frame in on_time(reader, on_frames)]
            return np.asarray(times, np.float64), reader.size_wh

    def _write(self, video: str, time_s: float, image: Image) -> str:
        name = f"{picture_prefix(video)}{round(time_s * 1000):09d}.jpg"
        pixels, final = image.bgr(), self._folder / IMAGES / name
        try:
            with atomic_path(final, self._folder) as scratch:
                write_jpeg(scratch, pixels)
        except OSError as error:  # no fault of the video, and no other one can be written either
            raise StopRunError(f"cannot write {final}: {error}") from error
        return name


def on_time(frames: Iterable[Frame], on_frames: OnFrames) -> Iterator[Frame]:
    """Yield the frames and show now and then that work goes on."""
    for index, frame in enumerate(frames):
        if index % _A_SIGN_EVERY == 0:
            on_frames(0)
        yield frame


def write_jpeg(path: Path, picture: ImageArray) -> None:
    """Write a picture; raise OSError where that fails, which OpenCV does not."""
    path.write_bytes(cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])[1].data)


def picture_prefix(video: str) -> str:
    """Return how the names of a video's pictures begin: its name and a digest of its path."""
    digest = hashlib.sha256(video.encode("utf-8", "surrogateescape")).hexdigest()[:8]
    stem = re.sub(r"[^\w.-]", "_", Path(video).stem)[:_NAME]
    return f"{stem}-{digest}-"


def _picture(
    name: str, size_wh: tuple[int, int], time_s: float, people: list[JsonObject]
) -> JsonObject:
    width, height = size_wh
    return {
        "file_name": name,
        "width": width,
        "height": height,
        "time_s": round(time_s, 3),
        "annotations": people,
    }


def annotations(labels: Labels, size_wh: tuple[int, int]) -> list[JsonObject]:
    """Return COCO's annotations of a picture, without ids.

    People keep the keypoints that are known and inside the picture; people without any have
    ``num_keypoints`` 0, which is a box alone. Everything uncertain is a crowd (``iscrowd`` 1): an
    ignore region. The segmentation is the box as a polygon, because mmpose masks no other.
    """
    return list(_annotations(labels, np.asarray(size_wh, np.float32)))


def _annotations(labels: Labels, size_wh: FloatArray) -> Iterator[JsonObject]:
    for row, kind in enumerate(labels.kinds.tolist()):
        corners = np.clip(labels.boxes[row].reshape(2, 2), 0, size_wh)
        if (corners[1] - corners[0]).min() < _LEAST_SIDE:
            continue
        keypoints = _visible_keypoints(labels, row, size_wh)
        known = int((keypoints[:, 2] > 0).sum())
        person = kind == PERSON and (known == 0 or _is_plausible(keypoints, corners))
        if not person:
            keypoints, known = np.zeros((17, 3)), 0
        box = _plain([*corners[0], *(corners[1] - corners[0])])
        yield {
            "bbox": box,
            "area": round(float(labels.areas[row]) if person else box[2] * box[3], 2),
            "keypoints": [v for x, y, seen in keypoints for v in (*_plain([x, y]), int(seen))],
            "num_keypoints": known,
            "iscrowd": 0 if person else 1,
            "segmentation": [_polygon(box)],
        }


def _is_plausible(keypoints: NDArray[np.float64], corners: FloatArray) -> bool:
    """Return whether keypoints (17, 3) are enough and as far apart as their box is large."""
    known = keypoints[keypoints[:, 2] > 0, :2]
    if len(known) < LEAST_KEYPOINTS:
        return False
    return bool(np.ptp(known, axis=0).max() >= _LEAST_EXTENT * (corners[1] - corners[0]).max())


def _visible_keypoints(labels: Labels, row: int, size_wh: FloatArray) -> NDArray[np.float64]:
    """Return keypoints (17, 3) with COCO's visibility: 2, 1 where less sure, 0 unknown."""
    places, weights = labels.keypoints[row, :, :2], labels.keypoints[row, :, 2]
    scores = labels.scores[row]
    known = (weights >= _SCORE) & (weights >= _AS_SURE * scores)
    known &= ((places >= 0) & (places < size_wh)).all(1)
    visibility = np.where(known, np.where(scores >= _VISIBLE, 2, 1), 0)
    rows = [places * known[:, None], visibility[:, None]]
    return np.concatenate(rows, 1, dtype=np.float64)


def _plain(values: Sequence[Any] | NDArray[Any]) -> list[float]:
    return [round(float(value), 2) for value in values]


def _polygon(box: Sequence[float]) -> list[float]:
    x, y, width, height = box
    corners = (x, y, x + width, y, x + width, y + height, x, y + height)
    return [round(value, 2) for value in corners]
