"""The config's sections on network files: pose networks, detectors and their backends."""

from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    PositiveFloat,
    model_validator,
)

from recognizer.config.types import (
    ConfigPath,
    Detections,
    Device,
    GpuDevice,
    OnnxRuntimeOptions,
    PoseKind,
    Section,
    SizeWH,
    Triple,
    Unit,
)
from recognizer.imagenet import MEAN_RGB, STD_RGB
from recognizer.installation import PROJECT, SHIPPED_MODELS

Batch = Annotated[int, Field(ge=1, le=256)]


def _ascending(sizes: list[int]) -> list[int]:
    if not sizes or sizes != sorted(set(sizes)):
        raise ValueError("expected one or more batch sizes, each larger than the one before")
    return sizes


AscendingBatches = Annotated[list[Batch], AfterValidator(_ascending)]
# What keypoint_threshold: null means. RTMO and MoveNet MultiPose give 17 keypoints of everybody,
# also those out of the picture; scores of heatmaps are all handed on, for the stages that know why.
KEYPOINT_THRESHOLD: dict[PoseKind, float] = {"rtmo": 0.3, "topdown": 0.0, "movenet": 0.1}
# What onnx.score_threshold: null means; MoveNet's scores are low. A top-down network has none: its
# detector finds the people.
SCORE_THRESHOLD: dict[PoseKind, float] = {"rtmo": 0.3, "topdown": 0.3, "movenet": 0.1}


class OnnxImageOptions(OnnxRuntimeOptions):
    """Options of an ONNX Runtime session for networks that take images in batches."""

    pinned_memory: bool = True
    static_batch: Batch | None = None
    cuda_graph: bool = False

    @model_validator(mode="after")
    def _check_graph(self) -> Self:
        if self.cuda_graph and not self.device.startswith("cuda"):
            raise ValueError(
                f"cuda_graph: expected false with device: {self.device}, got true; set device: "
                "cuda:N"
            )
        if self.cuda_graph and not self.pinned_memory:
            raise ValueError("cuda_graph: expected false with pinned_memory: false, got true")
        return self


class OnnxPoseConfig(OnnxImageOptions):
    """The pose network as an ONNX file."""

    model_path: str = "small_pose.onnx"
    model_input_size: SizeWH | None = None
    score_threshold: Unit | None = None
    nms_threshold: Unit = 0.45
    keypoint_threshold: Unit | None = None
    max_detections: Detections = 100


class TorchPoseConfig(Section):
    """The pose network as an mmpose config and checkpoint."""

    config_file: str = ""
    checkpoint_path: str = ""
    device: Device = "cuda:0"
    input_size: SizeWH | None = None
    score_threshold: Unit = 0.2
    nms_threshold: Unit = 0.65
    keypoint_threshold: Unit | None = None
    max_detections: Detections = 100
    precision: Literal["fp32", "fp16", "bf16"] = "fp32"
    channels_last: bool = False
    uint8_input: bool = False
    static_batch: Batch | AscendingBatches | None = None
    cuda_graph: bool = False

    @property
    def batch_sizes(self) -> tuple[int, ...]:
        """The sizes of ``static_batch``, ascending; empty: any."""
        sizes = self.static_batch or ()
        return (sizes,) if isinstance(sizes, int) else tuple(sizes)


class TensorRTPoseConfig(Section):
    """The pose network as a TensorRT engine."""

    model_path: str = ""
    device: GpuDevice = "cuda:0"
    model_input_size: SizeWH = (640, 640)
    score_threshold: Unit = 0.3
    nms_threshold: Unit = 0.45
    keypoint_threshold: Unit | None = None
    max_detections: Detections = 100
    fp16_mode: bool = False
    min_batch: Batch = 1
    opt_batch: Batch = 8
    max_batch: Batch = 8
    min_input_size: SizeWH | None = None
    max_input_size: SizeWH | None = None
    workspace_gb: PositiveFloat | None = None
    optimization_level: Annotated[int, Field(ge=0, le=5)] = 3
    allow_tf32: bool = True
    engine_dir: ConfigPath | None = None
    timing_cache: ConfigPath | None = None
    trust_model_path: bool = False
    pinned_memory: bool = True
    static_batch: Batch | None = None
    cuda_graph: bool = False

    @model_validator(mode="after")
    def _check(self) -> "TensorRTPoseConfig":
        if not self.min_batch <= self.opt_batch <= self.max_batch:
            raise ValueError(
                "min_batch: expected min_batch <= opt_batch <= max_batch, got "
                f"{self.min_batch}, {self.opt_batch}, {self.max_batch}"
            )
        batch = self.static_batch
        if batch is not None and not self.min_batch <= batch <= self.max_batch:
            raise ValueError(
                f"static_batch: expected min_batch..max_batch ({self.min_batch} to "
                f"{self.max_batch}), got {batch}"
            )
        tuned = self.model_input_size
        small, large = self.min_input_size or tuned, self.max_input_size or tuned
        for side in range(2):
            if not small[side] <= tuned[side] <= large[side]:
                raise ValueError(
                    "min_input_size: expected min_input_size <= model_input_size <= "
                    f"max_input_size, got {list(small)}, {list(tuned)}, {list(large)}"
                )
        return self


class DetectorConfig(OnnxImageOptions):
    """The person detector in front of a top-down pose network (YOLOX or RTMDet)."""

    model_path: str = "yolox_nano.onnx"
    score_threshold: Unit = 0.1
    nms_threshold: Unit = 0.65
    max_detections: Detections = 30
    normalisation: Literal["auto", "none", "rtmdet"] = "auto"
    network_input_size: SizeWH | None = None
    tiles: bool = False


class TopDownConfig(Section):
    """How a top-down network sees one person and how its heatmaps are read."""

    detector: DetectorConfig = DetectorConfig()
    box_padding: Annotated[float, Field(ge=1, le=3)] = 1.25
    decoding: Literal["dark", "quarter_offset"] = "dark"
    dark_blur_kernel: Annotated[int, Field(ge=1, le=51)] = 11
    flip_test: bool = False
    selective: bool = True
    sure_score: Unit = 0.25
    turned: bool = True
    turned_period_s: Annotated[float, Field(gt=0, le=10)] = 0.4
    turned_min_keypoint_score: Unit = 0.5
    mean_rgb: Triple = MEAN_RGB
    std_rgb: Triple = STD_RGB

    @model_validator(mode="after")
    def _check(self) -> "TopDownConfig":
        if self.dark_blur_kernel % 2 == 0:
            raise ValueError(
                "dark_blur_kernel: expected an odd number of heatmap pixels, got "
                f"{self.dark_blur_kernel}"
            )
        if min(self.std_rgb) <= 0:
            raise ValueError(f"std_rgb: expected three numbers above 0, got {self.std_rgb}")
        return self


class PoseEstimationConfig(Section):
    """Which network sees people, and what runs it."""

    kind: Literal["auto", "rtmo", "topdown", "movenet"] = "auto"
    inference_mode: Literal["pth", "onnx", "tensorrt"] = "onnx"
    pth: TorchPoseConfig = TorchPoseConfig()
    onnx: OnnxPoseConfig = OnnxPoseConfig()
    tensorrt: TensorRTPoseConfig = TensorRTPoseConfig()
    topdown: TopDownConfig = TopDownConfig()

    def for_kind(self, kind: PoseKind) -> Self:
        """Return the section for a network of this kind: no ``auto`` and no null by kind left."""
        update: dict[str, Any] = {"kind": kind}
        by_kind = {
            "keypoint_threshold": KEYPOINT_THRESHOLD[kind],
            "score_threshold": SCORE_THRESHOLD[kind],
        }
        for mode in ("pth", "onnx", "tensorrt"):
            block = getattr(self, mode)
            own = {name: value for name, value in by_kind.items() if getattr(block, name) is None}
            if own:
                update[mode] = block.model_copy(update=own)
        return self.model_copy(update=update)


def _as_list(value: object) -> object:
    if value is None:  # --set models.fetch=
        return []
    return [value] if isinstance(value, str) else value


def _address(value: str) -> str:
    parts = urlsplit(value)
    plain = parts.scheme == "http" and parts.hostname == "127.0.0.1"
    if not (plain or parts.scheme == "https") or not parts.hostname:
        raise ValueError("expected https://<host>; plain http is for 127.0.0.1 only")
    if {"@", "?", "#"} & set(value) or not value.isprintable() or " " in value:
        raise ValueError("expected https://<host>/<folder>, without a password, ? or #")
    return value.rstrip("/")


Names = Annotated[list[str], BeforeValidator(_as_list)]
Mirror = Annotated[str, AfterValidator(_address)]


class ModelsConfig(Section):
    """Network files."""

    weights_dirs: list[ConfigPath] = [PROJECT / "weights"]
    fetch: Names = []
    mirror: Mirror | None = None
    pose_estimation: PoseEstimationConfig = PoseEstimationConfig()

    def folders(self) -> list[Path]:
        """Return where model files named without a folder are looked up, the shipped ones last."""
        return [*self.weights_dirs, SHIPPED_MODELS]
