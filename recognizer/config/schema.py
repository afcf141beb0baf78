"""The application config: every section typed, with default and unit.

``config.file.load_config`` makes a frozen ``Config`` of a YAML file. Each key's meaning
stands beside its default in configs/config.yaml, and a test keeps the two equal.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, TypeVar

from pydantic import Field, PositiveFloat, PositiveInt, PrivateAttr, model_validator

from recognizer.config.action import (
    AblationConfig,
    ConvertConfig,
    CrossvalConfig,
    DeployConfig,
    InferenceConfig,
    TestConfig,
    TrainConfig,
)
from recognizer.config.models import ModelsConfig
from recognizer.config.realtime import LiveConfig
from recognizer.config.types import (
    ConfigPath,
    NonNegative,
    Place,
    PlainName,
    PoseKind,
    Section,
    ShardText,
    Triple,
    Unit,
)
from recognizer.installation import PROJECT

# What null means: ByteTrack's own values fit RTMO and other strong detectors. The small detector in
# front of a top-down network sees people who fight at 0.2 to 0.4; MoveNet's scores are lower still.
TRACKING_BY_KIND: dict[PoseKind, dict[str, float | bool]] = {
    "rtmo": {"track_high_thresh": 0.5, "new_track_thresh": 0.6, "fuse_score": True},
    "topdown": {"track_high_thresh": 0.25, "new_track_thresh": 0.3, "fuse_score": False},
    "movenet": {"track_high_thresh": 0.12, "new_track_thresh": 0.15, "fuse_score": False},
}


@dataclass(frozen=True, slots=True)
class Given:
    """What the user typed: the config file, None for the shipped one, and ``key=value`` texts."""

    config: Path | None = None
    overrides: tuple[str, ...] = ()


class AnnotationConfig(Section):
    """Where videos are, where results go, how much runs at once."""

    input: Place = PROJECT / "data"
    dataset: PlainName = "dataset"
    output_dir: Place = PROJECT / "output"
    video_suffixes: list[str] = [
        ".mp4",
        ".avi",
        ".mkv",
        ".mov",
        ".ts",
        ".mts",
        ".m2ts",
        ".webm",
        ".m4v",
        ".mpg",
        ".mpeg",
        ".mpe",
        ".m2v",
        ".vob",
        ".flv",
        ".f4v",
        ".wmv",
        ".asf",
        ".3gp",
        ".3g2",
        ".ogv",
        ".mxf",
        ".dv",
        ".divx",
        ".rm",
        ".rmvb",
        ".qt",
        ".dav",
        ".264",
        ".h264",
        ".265",
        ".h265",
        ".hevc",
        ".mjpg",
        ".mjpeg",
        ".ivf",
    ]
    include: list[str] = []
    shard: ShardText | None = None
    sample_fps: PositiveFloat | None = None
    movement: bool = True
    decoder: Literal["cpu", "nvdec"] = "cpu"
    batch_size: Annotated[int, Field(ge=1, le=256)] = 8
    workers: Literal["auto"] | Annotated[int, Field(ge=1, le=256)] = "auto"
    gpus: list[Annotated[int, Field(ge=0)]] = []
    stall_timeout_s: Annotated[float, Field(gt=0, le=86400)] = 120.0
    worker_memory_gb: Annotated[float, Field(gt=0, le=65536)] | None = None
    executor: Literal["local", "ray"] = "local"
    ray_address: Annotated[str, Field(pattern=r"^[^\s/]+:[0-9]{1,5}$")] | None = None
    ray_num_cpus: Annotated[float, Field(gt=0, le=256)] = 1.0
    ray_num_gpus: Annotated[float, Field(ge=0, le=16)] = 0.0
    stage1_dir: Place | None = None
    stage2_dir: Place | None = None


class TrackingConfig(Section):
    """ByteTrack (Zhang et al. 2022), its names, with times in seconds."""

    track_high_thresh: Unit | None = None
    track_low_thresh: Unit = 0.1
    new_track_thresh: Unit | None = None
    match_thresh: Annotated[float, Field(gt=0, le=1)] = 0.8
    fuse_score: bool | None = None
    track_buffer_s: NonNegative = 1.0
    iou_weight: Unit = 0.7
    keypoint_weight: Unit = 0.3
    min_box_area: NonNegative = 100.0
    max_gap_s: NonNegative = 0.5
    track_backward: bool = True
    join_gap_s: NonNegative = 1.0
    merge_s: NonNegative = 1.0

    @model_validator(mode="after")
    def _check(self) -> "TrackingConfig":
        highest, text = self.track_high_thresh, str(self.track_high_thresh)
        if highest is None:  # by kind, which is not known yet
            by_kind = {k: float(own["track_high_thresh"]) for k, own in TRACKING_BY_KIND.items()}
            highest = max(by_kind.values())
            text = ", ".join(f"{value:g} for {kind}" for kind, value in by_kind.items())
        if self.track_low_thresh > highest:
            raise ValueError(
                f"track_low_thresh: expected at most track_high_thresh ({text}), got "
                f"{self.track_low_thresh}"
            )
        if self.iou_weight + self.keypoint_weight <= 0:
            raise ValueError("iou_weight: expected more than 0 here or in keypoint_weight")
        return self

    def for_kind(self, kind: PoseKind) -> "TrackingConfig":
        """Return the section with what is null filled in for this kind of pose network.

        Raises:
            ValueError: an unknown kind, or ``track_low_thresh`` above the ``track_high_thresh`` of
                this kind.

        """
        if kind not in (kinds := list(TRACKING_BY_KIND)):
            named = f"{', '.join(kinds[:-1])} or {kinds[-1]}"
            raise ValueError(f"kind: expected {named}, got {kind!r}")
        own = {k: v for k, v in TRACKING_BY_KIND[kind].items() if getattr(self, k) is None}
        filled = self.model_copy(update=own)
        if filled.track_low_thresh > (filled.track_high_thresh or 0):
            raise ValueError(
                f"tracking.track_low_thresh: expected at most track_high_thresh, which is "
                f"{filled.track_high_thresh} for {kind} pose networks, got {self.track_low_thresh}"
            )
        return filled


class FightConfig(Section):
    """Weights of the parts of a fight score; only their ratios count."""

    movement: NonNegative = 0.35
    interaction: NonNegative = 0.35
    position: NonNegative = 0.1
    temporal: NonNegative = 0.2

    @model_validator(mode="after")
    def _check(self) -> "FightConfig":
        return _some_weight(self)


class FalldownConfig(Section):
    """Weights of the parts of a fall score; only their ratios count."""

    height_change: NonNegative = 0.3
    posture_angle: NonNegative = 0.25
    movement_intensity: NonNegative = 0.2
    persistence: NonNegative = 0.15
    position: NonNegative = 0.1

    @model_validator(mode="after")
    def _check(self) -> "FalldownConfig":
        return _some_weight(self)


S = TypeVar("S", bound=Section)


def _some_weight(section: S) -> S:
    if sum(section.model_dump().values()) <= 0:
        raise ValueError("expected at least one weight above 0")
    return section


class ScoringConfig(Section):
    """Who matters in a clip, for each service."""

    fight: FightConfig = FightConfig()
    falldown: FalldownConfig = FalldownConfig()


class SplitConfig(Section):
    """Which sample goes into train, val and test; never one source into two."""

    by: Literal["auto", "source", "folders"] = "auto"
    ratios: Triple = (0.7, 0.2, 0.1)
    seed: Annotated[int, Field(ge=0, le=2**32 - 1)] = 0
    sources: ConfigPath | None = None
    source_regex: str | None = None

    @model_validator(mode="after")
    def _check(self) -> "SplitConfig":
        if min(self.ratios) < 0 or abs(sum(self.ratios) - 1) > 1e-6:
            raise ValueError(
                f"ratios: expected three numbers >= 0 that sum to 1, got {list(self.ratios)}"
            )
        if self.sources is not None and self.source_regex is not None:
            raise ValueError("sources: expected this or source_regex, got both")
        if self.source_regex is not None:
            try:
                groups = re.compile(self.source_regex).groups
            except re.error as error:
                raise ValueError(
                    f"source_regex: expected a regular expression, got {self.source_regex!r}; "
                    f"{error}"
                ) from error
            if groups != 1:
                raise ValueError(
                    "source_regex: expected one group (...) that names the source, got "
                    f"{groups} in {self.source_regex!r}"
                )
        return self


class DatasetConfig(Section):
    """How tracked people become labelled samples."""

    service: Literal["fight", "falldown"] = "fight"
    classes: dict[PlainName, Annotated[int, Field(ge=0)]] = {"NonFight": 0, "Fight": 1}
    segments: ConfigPath | None = None
    window_s: Annotated[float, Field(ge=0.1)] | None = None
    stride_s: Annotated[float, Field(ge=0.02)] | None = None
    num_person: Annotated[int, Field(ge=1, le=100)] = 4
    min_frames: PositiveInt = 4
    duplicate_distance: Annotated[float, Field(ge=0, le=32)] | None = 8.0
    also: list[ConfigPath] = []
    negatives: list[ConfigPath] = []
    negatives_s: Annotated[float, Field(ge=0.1, le=3600)] = 10.0
    split: SplitConfig = SplitConfig()

    @model_validator(mode="after")
    def _check(self) -> "DatasetConfig":
        labels = sorted(self.classes.values())
        if len(labels) < 2 or labels != list(range(len(labels))):
            raise ValueError(
                f"classes: expected two or more names with labels 0, 1, ... each once, got "
                f"{self.classes}"
            )
        if self.stride_s is not None and self.window_s is None:
            raise ValueError("stride_s: expected window_s beside it, got none")
        if self.stride_s is not None and self.stride_s > (self.window_s or 0):
            raise ValueError(
                f"stride_s: expected at most window_s ({self.window_s}), got {self.stride_s}; "
                "frames between two windows would be lost"
            )
        return self


class DistillConfig(Section):
    """Labels of a strong, slow front end on footage of one's own, to train a small network on."""

    output: ConfigPath | None = None
    every_s: Annotated[float, Field(ge=0.04, le=86400)] = 2.0
    max_pictures: PositiveInt | None = 100
    neighbours: Annotated[int, Field(ge=0, le=5)] = 2
    neighbour_step_s: Annotated[float, Field(ge=0.02, le=1)] = 0.1
    agreement: Annotated[float, Field(gt=0, le=1)] = 0.1
    second_opinion: str | None = None
    val_share: Annotated[float, Field(ge=0, le=0.5)] = 0.1


class VisualizeConfig(Section):
    """Overlay videos."""

    stage: Literal["stage1", "stage2"] = "stage2"
    skeleton_only: bool = False
    limit: PositiveInt | None = None
    crf: Annotated[int, Field(ge=0, le=51)] = 23


class Config(Section):
    """The whole application config."""

    annotation: AnnotationConfig = AnnotationConfig()
    models: ModelsConfig = ModelsConfig()
    tracking: TrackingConfig = TrackingConfig()
    scoring: ScoringConfig = ScoringConfig()
    dataset: DatasetConfig = DatasetConfig()
    distill: DistillConfig = DistillConfig()
    visualize: VisualizeConfig = VisualizeConfig()
    train: TrainConfig = TrainConfig()
    test: TestConfig = TestConfig()
    crossval: CrossvalConfig = CrossvalConfig()
    ablation: AblationConfig = AblationConfig()
    convert: ConvertConfig = ConvertConfig()
    inference: InferenceConfig = InferenceConfig()
    live: LiveConfig = LiveConfig()
    deploy: DeployConfig = DeployConfig()
    _given: Given = PrivateAttr(default=Given())

    @property
    def given(self) -> Given:
        """Return what the user typed to get this config; it decides nothing."""
        return self._given

    def with_given(self, given: Given) -> "Config":
        """Return the config with what the user typed kept in it."""
        config = self.model_copy()
        config._given = given
        return config
