"""Which backends can run the configured pose network here, all told to do the same.

One threshold for people, one for suppression and none for keypoints stand in every block,
whatever the config says in each of them, so that what differs is the backend alone.
"""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deploy.pose_parity import frames_of
from recognizer.backends.metadata import PoseModelMetadata
from recognizer.backends.onnx_files import read_metadata
from recognizer.backends.pose_kind import read_kind
from recognizer.config.models import PoseEstimationConfig
from recognizer.config.schema import Config
from recognizer.model_files import fetch_hint, find_file
from recognizer.openmmlab import find_pose_config
from recognizer.pose.estimator import PoseModel, build_pose_model
from recognizer.types import Image

_KEY = "models.pose_estimation"
_SHORTER = ("_fp16", "_int8")
_RULES = ("score_threshold", "nms_threshold", "max_detections", "keypoint_threshold")
_SIZES = ("input_size", "model_input_size")
CANNOT_OPEN = (ValueError, OSError, ImportError, RuntimeError)
"""What opening a backend that is not there raises; the message says what mends it."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A backend that the config knows the files of.

    Attributes:
        name: for a table, such as ``onnx cpu fp16``.
        settings: the config's section, made to run this one.
        files: by role, as ``build_pose_model`` wants them.
        precision: fp32, fp16, bf16 or int8.

    """

    name: str
    settings: PoseEstimationConfig
    files: Mapping[str, Path]
    precision: str

    def open(self, threads: int) -> PoseModel:
        """Return the model; raise one of ``CANNOT_OPEN`` where it cannot run here."""
        return build_pose_model(self.settings, self.files, threads=threads)

    def changes(self, config: Config) -> dict[str, Any]:
        """Return the config keys that make stage 1 run this backend, with their values.

        The rules for people stay the user's: they are alike in all candidates.
        """
        mode = self.settings.inference_mode
        own, block = (getattr(s, mode) for s in (config.models.pose_estimation, self.settings))
        changes: dict[str, Any] = {f"{_KEY}.inference_mode": mode}
        for name in type(block).model_fields:
            value = getattr(block, name)
            if name not in _RULES and value != getattr(own, name):
                changes[f"{_KEY}.{mode}.{name}"] = list(value) if name in _SIZES else value
        return changes


@dataclass(frozen=True, slots=True)
class Skipped:
    """A backend that does not take part, and why; ``broken``: it runs and gives no numbers."""

    name: str
    reason: str
    broken: bool = False


def cores() -> int:
    """Return how many CPU cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def candidates(config: Config) -> tuple[list[Candidate], list[Skipped]]:
    """Return the backends whose files are here, the most exact first, and the others.

    Raises:
        ModelError: an ONNX file whose own facts are damaged.

    """
    found: list[Candidate] = []
    skipped: list[Skipped] = []
    alike = _alike(config)
    for name, look in (("pth", _torch), ("onnx", _onnx), ("tensorrt", _tensorrt)):
        try:
            found += look(config, alike)
        except (FileNotFoundError, ImportError) as error:
            skipped.append(Skipped(name, str(error)))
    return found, skipped


def frames(config: Config) -> tuple[list[Image], str]:
    """Return ``deploy.frames`` frames, and where they come from.

    Those of ``deploy.frames_dir``, else of ``annotation.input`` where it has videos, else made.
    """
    section = config.deploy
    folder = section.frames_dir
    if folder is None and config.annotation.input.is_dir():
        try:
            own = frames_of(config.annotation.input, section.frames)
        except FileNotFoundError:
            own = []
        if own:
            return own, str(config.annotation.input)
    return frames_of(folder, section.frames), "made pictures" if folder is None else str(folder)


def report_dir(config: Config) -> Path:
    """Return where reports go."""
    return config.deploy.output_dir or config.annotation.output_dir / "deploy"


# --- one backend after the other ---------------------------------------------------


def _torch(config: Config, alike: PoseEstimationConfig) -> Iterator[Candidate]:
    named = config.deploy.checkpoint
    checkpoint: Any = named if config.deploy.model == "pose" and named else None
    if isinstance(checkpoint, list):
        checkpoint = checkpoint[0]
    checkpoint = checkpoint or alike.pth.checkpoint_path
    if not checkpoint or not alike.pth.config_file:
        raise FileNotFoundError(
            f"not configured: set {_KEY}.pth.config_file and {_KEY}.pth.checkpoint_path"
        )
    files = {
        "config": find_pose_config(alike.pth.config_file),
        "pose": _file(config, str(checkpoint), "pth.checkpoint_path"),
        **_detector(config, alike),
    }
    wanted = alike.pth.precision
    for precision in dict.fromkeys(("fp32", wanted)):
        update = {"precision": precision, "checkpoint_path": str(checkpoint)}
        pth = alike.pth.model_copy(update=update)
        settings = alike.model_copy(update={"inference_mode": "pth", "pth": pth})
        yield Candidate(f"pth {pth.device} {precision}", settings, files, precision)


def _onnx(config: Config, alike: PoseEstimationConfig) -> Iterator[Candidate]:
    own = alike.onnx
    if not own.model_path:
        raise FileNotFoundError(f"not configured: set {_KEY}.onnx.model_path")
    path = _file(config, own.model_path, "onnx.model_path")
    detector = _detector(config, alike)
    plain = {
        "device": "cpu",
        "provider": "native",
        "openvino_precision": "f32",
        "cuda_graph": False,
    }
    sections = [own.model_copy(update=plain), own]
    twins = [path.with_name(f"{path.stem}{ending}.onnx") for ending in _SHORTER]
    seen = set()
    for file in (path, *(twin for twin in twins if twin.is_file())):
        for section in sections:
            precision = _precision(file, section.openvino_precision)
            where = (
                section.device
                if section.provider == "native"
                else (f"{section.provider} {section.device}")
            )
            name = f"onnx {where} {precision}"
            if name in seen:
                continue
            seen.add(name)
            named = str(Path(own.model_path).with_name(file.name))  # a twin stands beside it
            onnx = section.model_copy(update={"model_path": named})
            settings = alike.model_copy(update={"inference_mode": "onnx", "onnx": onnx})
            yield Candidate(name, settings, {"pose": file, **detector}, precision)


def _precision(file: Path, openvino: str) -> str:
    facts = PoseModelMetadata.of(read_metadata(file))
    if facts is not None:
        own = facts.precision
    else:
        own = next((e.removeprefix("_") for e in _SHORTER if file.stem.endswith(e)), "fp32")
    shorter = {"bf16": "bf16", "f16": "fp16"}
    return own if own == "int8" else shorter.get(openvino, own)


def _tensorrt(config: Config, alike: PoseEstimationConfig) -> Iterator[Candidate]:
    own = alike.tensorrt
    if not own.model_path:
        raise FileNotFoundError(f"not configured: set {_KEY}.tensorrt.model_path")
    files = {
        "pose": _file(config, own.model_path, "tensorrt.model_path"),
        **_detector(config, alike),
    }
    precision = "fp16" if own.fp16_mode else "fp32"
    settings = alike.model_copy(update={"inference_mode": "tensorrt"})
    yield Candidate(f"tensorrt {own.device} {precision}", settings, files, precision)


def _detector(config: Config, alike: PoseEstimationConfig) -> dict[str, Path]:
    if alike.kind != "topdown":
        return {}
    name = alike.topdown.detector.model_path
    return {"detector": _file(config, name, "topdown.detector.model_path")}


def _file(config: Config, name: str, key: str) -> Path:
    """Return a file by the rules of stage 1; raise FileNotFoundError."""
    key = f"{_KEY}.{key}"
    try:
        return find_file(name, config.models.weights_dirs)
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"{key}: expected a file '{name}', found none at {error}{fetch_hint(name, key)}"
        ) from error


def _with_kind(config: Config) -> PoseEstimationConfig:
    """Return the config's section for the kind of the first of its networks that is here."""
    pose = config.models.pose_estimation
    for mode, name in (
        ("onnx", pose.onnx.model_path),
        ("pth", pose.pth.checkpoint_path),
        ("tensorrt", pose.tensorrt.model_path),
    ):
        section = pose.model_copy(update={"inference_mode": mode})
        try:
            files = {"pose": _file(config, name, mode)}
            if mode == "pth":
                files["config"] = find_pose_config(pose.pth.config_file)
            return pose.for_kind(read_kind(section, files))
        except (FileNotFoundError, ImportError):
            continue
    return pose


def _alike(config: Config) -> PoseEstimationConfig:
    """Return the config's section with the same rules and input size in every block."""
    pose = _with_kind(config)
    rules: Any = pose.onnx
    try:
        path = _file(config, pose.onnx.model_path, "onnx.model_path")
        facts = PoseModelMetadata.of(read_metadata(path))
    except FileNotFoundError:
        facts = None
    if facts is not None and facts.thresholds is not None:
        rules = facts.thresholds  # they stand inside the file: nobody can change them
    update = {name: getattr(rules, name) for name in _RULES[:3]} | {"keypoint_threshold": 0.0}
    size = pose.onnx.model_input_size
    sizes = {} if size is None or pose.kind != "rtmo" else {"input_size": size}
    return pose.model_copy(
        update={
            "pth": pose.pth.model_copy(update=update | sizes),
            "onnx": pose.onnx.model_copy(update=update),
            "tensorrt": pose.tensorrt.model_copy(update=update),
        }
    )
