"""Open a network from its file alone, without a config file.

A name without a folder is looked up in the working folder, then where ``models.fetch`` puts files
(``weights/``), then among the classifiers that ship with the program.
"""

import contextlib
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeAlias, TypeVar, overload

import numpy as np
from pydantic import ValidationError

from recognizer.action.classifier import Classifier
from recognizer.backends.engine_cache import SUFFIXES as ENGINES
from recognizer.backends.network import ModelError
from recognizer.backends.pose_kind import read_kind
from recognizer.checks import MAX_THREADS, check_type, check_whole
from recognizer.config.action import ClassifierConfig
from recognizer.config.models import ModelsConfig, PoseEstimationConfig
from recognizer.config.types import PoseKind, Section
from recognizer.installation import cpu_cores
from recognizer.model_files import fetch_hint, find_file, shortened
from recognizer.movement import MovementMeter
from recognizer.openmmlab import find_pose_config
from recognizer.pose.estimator import PoseModel, VideoPose, build_pose_model
from recognizer.pose.stream import check_frames, infer, require_finite, with_movement
from recognizer.types import Frame, Image, ImageArray, PathLike, Poses
from recognizer.video.array_image import ArrayImage

ImageLike: TypeAlias = Frame | Image | ImageArray
_Section = TypeVar("_Section", bound=Section)
DETECTOR = "yolox_nano.onnx"
_ADVICE = "; call reset() before another video"


class PoseEstimator:
    """A pose model for the successive frames of one video, or for single pictures.

    It remembers earlier frames: use one for each video at a time. ``Frame`` objects
    are taken as the next frames of the video; arrays (H, W, 3) uint8 BGR as single pictures.

    Args:
        model: the network.
        kind: of the network; give it to ``Tracker(kind=...)``, whose thresholds depend on it.
        movement: measure the movement inside people's boxes, which classifiers may use.

    """

    def __init__(self, model: PoseModel, kind: PoseKind, *, movement: bool = True) -> None:
        self.kind = kind
        self._model, self._has_movement = model, movement
        self.reset()

    def reset(self) -> None:
        """Start again, as for another video."""
        self._video = self.for_video()
        self._meter = MovementMeter() if self._has_movement else None
        self._size_wh: tuple[int, int] | None = None
        self._time_s = -math.inf

    def for_video(self) -> VideoPose:
        """Return the network alone for one video, as ``PoseModel.for_video``."""
        return self._model.for_video()

    @overload
    def __call__(self, images: ImageLike) -> Poses: ...

    @overload
    def __call__(self, images: Sequence[ImageLike]) -> list[Poses]: ...

    def __call__(self, images: ImageLike | Sequence[ImageLike]) -> Poses | list[Poses]:
        """Return the people of a picture, or of each of several, in pixels.

        Args:
            images: the next frame of the video, or a single picture; or a list of frames, or one
                of pictures.

        Raises:
            ValueError: a frame that was taken before the last one, whose time is not finite or
                whose size is another; an array of another shape or type; frames and pictures in
                one list. The state stays as before the call.
            ModelError: a network that gives NaN.

        """
        if not isinstance(images, Sequence):
            return self._estimate([images])[0]
        return self._estimate(list(images))

    def _estimate(self, pictures: list[ImageLike]) -> list[Poses]:
        frames = [one for one in pictures if isinstance(one, Frame)]
        single = [_image(one) for one in pictures if not isinstance(one, Frame)]
        if not frames:
            return require_finite(self._model(single))
        if single:
            raise ValueError(
                f"images: expected frames of one video or single pictures, got {len(frames)} "
                f"frames among {len(pictures)} images; give them in two calls"
            )
        list(check_frames(frames, self._size_wh, self._time_s, _ADVICE))
        estimated, meter = infer(self._video, frames), self._meter
        self._size_wh, self._time_s = frames[-1].image.size_wh, frames[-1].time_s
        if meter is None:
            return estimated
        pairs = zip(frames, estimated, strict=True)
        return [with_movement(meter, frame, poses) for frame, poses in pairs]


def _image(picture: Image | ImageArray) -> Image:
    return ArrayImage(picture) if isinstance(picture, np.ndarray) else picture


def open_pose_model(
    path: PathLike,
    *,
    detector: PathLike = DETECTOR,
    config: PathLike | None = None,
    device: str | None = None,
    threads: int | None = None,
    movement: bool = True,
) -> PoseEstimator:
    """Open a pose network; its file determines kind and backend.

    Args:
        path: RTMO, MoveNet MultiPose or a top-down network: ``.onnx`` (ONNX Runtime), an engine
            (TensorRT) or, with ``config``, ``.pth`` (torch).
        detector: the person detector of a top-down network (YOLOX, RTMDet, or one in mmdeploy's
            end2end form), also looked up beside it; not used by the others.
        config: the mmpose config of a ``.pth``.
        device: ``cpu`` or ``cuda:N``; None: ``cpu``, for an engine ``cuda:0``.
        threads: CPU threads, 1 to 256; None: one for each core of this process.
        movement: as of ``PoseEstimator``.

    Raises:
        FileNotFoundError: no such file; the message lists the places.
        ModelError: a file of another kind, a damaged one, or a device that is not here.
        ValueError: a device that is neither ``cpu`` nor ``cuda:N``, or threads out of range.
        TypeError: no path.

    """
    check_type("path", path, str, os.PathLike)
    given = Path(path)
    mode = _mode(given, "onnx")
    device = device or ("cuda:0" if mode == "tensorrt" else "cpu")
    options = {"device": device}
    detector_options = {"model_path": str(detector), **(options if mode != "pth" else {})}
    if mode == "pth" and config is not None:
        options["config_file"] = str(config)
    values = {"inference_mode": mode, mode: options, "topdown": {"detector": detector_options}}
    settings = _validated(PoseEstimationConfig, values)
    return open_with_settings(path, settings, threads=threads, movement=movement)


def open_with_settings(
    path: PathLike,
    settings: PoseEstimationConfig,
    *,
    threads: int | None = None,
    movement: bool = True,
) -> PoseEstimator:
    """Open a pose network as ``open_pose_model``, with a config's section.

    Args:
        path: as of ``open_pose_model``.
        settings: the section; the files that it names are the detector's and, for a ``.pth``, the
            config's. An engine always runs in TensorRT and a ``.pth`` in torch.
        threads: as of ``open_pose_model``; used where the section says ``auto``.
        movement: as of ``PoseEstimator``.

    Raises:
        FileNotFoundError, ModelError: as ``open_pose_model``.

    """
    file = find_model(path, "pose: expected a pose network")
    settings = settings.model_copy(update={"inference_mode": _mode(file, settings.inference_mode)})
    files = {"pose": file}
    if settings.inference_mode == "pth":
        if not settings.pth.config_file:
            raise ModelError(
                f"{file}: a checkpoint runs by its mmpose config, got none; give config=<file>, or "
                "an ONNX file that --mode deploy.export makes of it"
            )
        files["config"] = find_pose_config(settings.pth.config_file)
    name, folders = settings.topdown.detector.model_path, [file.parent, *model_folders()]
    with contextlib.suppress(FileNotFoundError):  # one-stage networks need none
        files["detector"] = find_file(name, folders)
    kind = read_kind(settings, files)
    if kind == "topdown":
        files["detector"] = _find(name, folders, "detector: expected a person detector")
    model = build_pose_model(settings, files, threads=_threads(threads))
    return PoseEstimator(model, kind, movement=movement)


def _mode(file: Path, otherwise: str) -> str:
    """Return the inference mode of a file by its suffix; of an ONNX file ``otherwise``."""
    if file.suffix in ENGINES:
        return "tensorrt"
    if file.suffix == ".pth":
        return "pth"
    return "onnx" if otherwise == "pth" else otherwise


def _validated(section: type[_Section], values: Mapping[str, object]) -> _Section:
    try:
        return section.model_validate(values)
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        key, text = problem["loc"][-1], problem["msg"].removeprefix("Value error, ")
        raise ValueError(f"{key}: {text}, got {problem['input']!r}") from None


def open_classifier(
    path: PathLike,
    *,
    threshold: float | None = None,
    device: str = "cpu",
    threads: int | None = None,
) -> Classifier:
    """Open a classifier of fights or falls, such as ``fight.onnx``, which ships with the program.

    Args:
        path: an ONNX file that ``deploy.export`` made.
        threshold: probability from which a window counts; None: the one in the file.
        device: ``cpu`` or ``cuda:N``.
        threads: as of ``open_pose_model``.

    Raises:
        FileNotFoundError, ModelError, ValueError: as ``open_pose_model``.

    """
    check_type("path", path, str, os.PathLike)
    values = {"model_path": str(path), "threshold": threshold, "device": device}
    section = _validated(ClassifierConfig, values)
    file = find_model(path, "expected a classifier file")
    return Classifier(file, section, _threads(threads))


def model_folders() -> list[Path]:
    """Return the folders in which names are looked up after the working folder."""
    return ModelsConfig().folders()


def find_model(path: PathLike, expected: str = "expected a network") -> Path:
    """Return the file of a network.

    Args:
        path: the file, or its name.
        expected: start of the error message.

    Raises:
        FileNotFoundError: there is none; the message lists the places.
        TypeError: no path.

    """
    check_type("path", path, str, os.PathLike)
    return _find(str(path), model_folders(), expected)


def _find(name: str, folders: Sequence[Path], expected: str) -> Path:
    try:
        return find_file(name, folders)
    except FileNotFoundError as error:
        hint = fetch_hint(name, "models.pose_estimation.onnx.model_path")
        raise FileNotFoundError(
            f"{expected} {shortened(name)!r}, found none at {error}{hint}"
        ) from error


def _threads(threads: int | None) -> int:
    if threads is None:
        return min(cpu_cores(), MAX_THREADS)
    check_whole("threads", threads, 1, MAX_THREADS)
    return int(threads)
