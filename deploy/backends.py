"""Find the backends that can run the configured pose network here, with equal thresholds.

Score and suppression thresholds are made equal in every backend's block and the keypoint threshold
is 0, whatever the config says in each, so that results differ by the backend alone.
"""

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from deploy.pose_parity import frames_of
from recognizer.backends.metadata import PoseModelMetadata, Thresholds
from recognizer.backends.onnx_files import read_metadata
from recognizer.backends.pose_kind import read_kind
from recognizer.config.file import ConfigError
from recognizer.config.models import OnnxPoseConfig, PoseEstimationConfig
from recognizer.config.schema import Config
from recognizer.model_files import find_model_file
from recognizer.openmmlab import find_pose_config
from recognizer.pose.estimator import PoseModel, build_pose_model
from recognizer.runs.stage_folders import local_place
from recognizer.types import Image

_KEY = "models.pose_estimation"
_SHORTER = ("_fp16", "_int8")
_RULES = ("score_threshold", "nms_threshold", "max_detections", "keypoint_threshold")
_SIZES = ("input_size", "model_input_size")
_MISSING = (ConfigError, FileNotFoundError, ImportError)
CANNOT_OPEN = (ValueError, OSError, ImportError, RuntimeError)
"""What opening a backend raises that cannot run here; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A backend whose files are here.

    Attributes:
        name: for a table, such as ``onnx cpu fp16``.
        settings: the config's section, changed to run this backend.
        files: by role, as ``build_pose_model`` takes them.
        precision: fp32, fp16, bf16 or int8.

    """

    name: str
    settings: PoseEstimationConfig
    files: Mapping[str, Path]
    precision: str

    def open(self, threads: int) -> PoseModel:
        """Return the model; raise one of ``CANNOT_OPEN`` where it cannot run here."""
        return build_pose_model(self.settings, self.files, threads=threads)

    def changes(self, config: Config) -> dict[str, object]:
        """Return the config keys that make stage 1 run this backend, with their values.

        Thresholds stay the user's: they are equal in all candidates.
        """
        mode = self.settings.inference_mode
        configured, block = (
            getattr(section, mode) for section in (config.models.pose_estimation, self.settings)
        )
        changes: dict[str, object] = {f"{_KEY}.inference_mode": mode}
        for name in type(block).model_fields:
            value = getattr(block, name)
            if name not in _RULES and value != getattr(configured, name):
                changes[f"{_KEY}.{mode}.{name}"] = list(value) if name in _SIZES else value
        return changes


@dataclass(frozen=True, slots=True)
class Skipped:
    """A backend that is left out, and why; ``broken``: it runs, but gives NaN or infinity."""

    name: str
    reason: str
    broken: bool = False


def candidates(config: Config) -> tuple[list[Candidate], list[Skipped]]:
    """Return the backends whose files are here, the most exact first, and the others.

    Raises:
        ModelError: an ONNX file with damaged metadata.

    """
    available: list[Candidate] = []
    skipped: list[Skipped] = []
    pose = _with_equal_rules(config)
    for name, find in (("pth", _torch), ("onnx", _onnx), ("tensorrt", _tensorrt)):
        try:
            available += find(config, pose)
        except _MISSING as error:
            skipped.append(Skipped(name, str(error)))
    return available, skipped


def frames(config: Config) -> tuple[list[Image], str]:
    """Return ``deploy.frames`` frames, and where they come from.

    They are those of ``deploy.frames_dir``, else of ``annotation.input`` if it has videos, else
    made pictures.
    """
    count, folder, videos = config.deploy.frames, config.deploy.frames_dir, config.annotation.input
    if folder is None and isinstance(videos, Path) and videos.is_dir():
        with contextlib.suppress(FileNotFoundError):  # a folder without videos
            return frames_of(videos, count), str(videos)
    return frames_of(folder, count), "made pictures" if folder is None else str(folder)


def report_dir(config: Config) -> Path:
    """Return the folder of the reports."""
    return (
        config.deploy.output_dir
        or local_place(config.annotation.output_dir, "annotation.output_dir") / "deploy"
    )


# --- one backend after the other ---------------------------------------------------


def _torch(config: Config, pose: PoseEstimationConfig) -> Iterator[Candidate]:
    named = config.deploy.checkpoint if config.deploy.model == "pose" else None
    checkpoint = (named[0] if isinstance(named, list) and named else named) or (
        pose.pth.checkpoint_path
    )
    if not checkpoint or not pose.pth.config_file:
        raise FileNotFoundError(
            f"not configured: set {_KEY}.pth.config_file and {_KEY}.pth.checkpoint_path"
        )
    files = {
        "config": find_pose_config(pose.pth.config_file),
        "pose": _file(config, str(checkpoint), "pth.checkpoint_path"),
        **_detector(config, pose),
    }
    for precision in dict.fromkeys(("fp32", pose.pth.precision)):
        update = {"precision": precision, "checkpoint_path": str(checkpoint)}
        pth = pose.pth.model_copy(update=update)
        settings = pose.model_copy(update={"inference_mode": "pth", "pth": pth})
        yield Candidate(f"pth {pth.device} {precision}", settings, files, precision)


def _onnx(config: Config, pose: PoseEstimationConfig) -> Iterator[Candidate]:
    configured = pose.onnx
    if not configured.model_path:
        raise FileNotFoundError(f"not configured: set {_KEY}.onnx.model_path")
    path = _file(config, configured.model_path, "onnx.model_path")
    detector = _detector(config, pose)
    plain = {"device": "cpu", "provider": "native", "openvino_precision": "f32"}
    plain_cpu = configured.model_copy(update={**plain, "cuda_graph": False})
    by_name: dict[str, Candidate] = {}
    variants = [path.with_name(f"{path.stem}{ending}.onnx") for ending in _SHORTER]
    for file in (path, *(variant for variant in variants if variant.is_file())):
        for section in (plain_cpu, configured):
            precision = _precision(file, section.openvino_precision)
            provider = "" if section.provider == "native" else f"{section.provider} "
            name = f"onnx {provider}{section.device} {precision}"
            model_path = str(Path(configured.model_path).with_name(file.name))
            onnx = section.model_copy(update={"model_path": model_path})
            settings = pose.model_copy(update={"inference_mode": "onnx", "onnx": onnx})
            candidate = Candidate(name, settings, {"pose": file, **detector}, precision)
            by_name.setdefault(name, candidate)
    yield from by_name.values()


def _precision(file: Path, openvino: str) -> str:
    metadata = PoseModelMetadata.of(read_metadata(file))
    if metadata is not None:
        precision = metadata.precision
    else:
        endings = (e.removeprefix("_") for e in _SHORTER if file.stem.endswith(e))
        precision = next(endings, "fp32")
    shorter = {"bf16": "bf16", "f16": "fp16"}
    return precision if precision == "int8" else shorter.get(openvino, precision)


def _tensorrt(config: Config, pose: PoseEstimationConfig) -> Iterator[Candidate]:
    section = pose.tensorrt
    if not section.model_path:
        raise FileNotFoundError(f"not configured: set {_KEY}.tensorrt.model_path")
    path = _file(config, section.model_path, "tensorrt.model_path")
    files = {"pose": path, **_detector(config, pose)}
    precision = "fp16" if section.fp16_mode else "fp32"
    settings = pose.model_copy(update={"inference_mode": "tensorrt"})
    yield Candidate(f"tensorrt {section.device} {precision}", settings, files, precision)


def _detector(config: Config, pose: PoseEstimationConfig) -> dict[str, Path]:
    if pose.kind != "topdown":
        return {}
    name = pose.topdown.detector.model_path
    return {"detector": _file(config, name, "topdown.detector.model_path")}


def _file(config: Config, name: str, key: str) -> Path:
    return find_model_file(name, config.models.folders(), f"{_KEY}.{key}")


def _with_kind(config: Config) -> PoseEstimationConfig:
    """Return the config's section for the kind of the first of its networks that is here."""
    pose = config.models.pose_estimation
    for mode, name in (
        ("onnx", pose.onnx.model_path),
        ("pth", pose.pth.checkpoint_path),
        ("tensorrt", pose.tensorrt.model_path),
    ):
        section = pose.model_copy(update={"inference_mode": mode})
        with contextlib.suppress(*_MISSING):
            files = {"pose": _file(config, name, mode)}
            if mode == "pth":
                files["config"] = find_pose_config(pose.pth.config_file)
            return pose.for_kind(read_kind(section, files))
    return pose


def _with_equal_rules(config: Config) -> PoseEstimationConfig:
    """Return the config's section with the same thresholds and input size in every block."""
    pose = _with_kind(config)
    rules: OnnxPoseConfig | Thresholds = pose.onnx
    with contextlib.suppress(ConfigError):
        path = _file(config, pose.onnx.model_path, "onnx.model_path")
        metadata = PoseModelMetadata.of(read_metadata(path))
        if metadata is not None and metadata.thresholds is not None:
            rules = metadata.thresholds  # fixed inside the file
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
