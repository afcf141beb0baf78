"""The config's sections on classifiers: training, measuring, shipping, reading new video."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, PositiveFloat

from recognizer.config.types import (
    ConfigPath,
    NonNegative,
    OnnxRuntimeOptions,
    Place,
    Section,
    Unit,
)
from recognizer.config.zones import ZonesConfig
from recognizer.installation import PROJECT

Seed = Annotated[int, Field(ge=0, le=2**32 - 1)]


def as_list(value: Path | list[Path]) -> list[Path]:
    """Return the paths of a config key that takes one or several."""
    return value if isinstance(value, list) else [value]


ConfigPaths = Annotated[list[ConfigPath] | ConfigPath, AfterValidator(as_list)]


# The last checkpoint (true, auto), or the one that is named.
Resume = Annotated[
    bool | ConfigPath, BeforeValidator(lambda value: True if value == "auto" else value)
]


def _each_once(views: list[str]) -> list[str]:
    if len(set(views)) != len(views):  # one named twice would count double in the mean
        raise ValueError("expected each view once")
    return views


Views = Annotated[list[Literal["mirror", "speed_0.8", "speed_1.25"]], AfterValidator(_each_once)]


class TrainConfig(Section):
    """Training; what the network is stands in a config of mmaction2 or mmpose."""

    config_file: ConfigPaths = []
    dataset_dir: ConfigPath | None = None
    data_root: ConfigPath | None = None
    work_dir: ConfigPath | None = None
    seed: Seed = 0
    resume: Resume = False
    cfg_options: list[str] = []
    check_iterations: Annotated[int, Field(ge=1, le=100_000)] = 10


class TestConfig(Section):
    """Measuring trained classifiers."""

    __test__ = False  # not a test, whatever pytest thinks of the name

    checkpoint: ConfigPaths = []
    ann_file: ConfigPath | None = None
    output_dir: ConfigPath | None = None
    bootstrap: Annotated[int, Field(ge=0, le=1_000_000)] = 2000
    worst: Annotated[int, Field(ge=0, le=1000)] = 10
    views: Views = []


class CrossvalConfig(Section):
    """K-fold cross-validation grouped by source."""

    config_files: ConfigPaths = []
    folds: Annotated[int, Field(ge=2, le=1000)] = 5
    seeds: list[Seed] = [0, 1, 2]
    movement: Literal["auto"] | bool = "auto"
    inner_folds: Annotated[int, Field(ge=2, le=20)] = 3
    output_dir: ConfigPath | None = None


class AblationConfig(Section):
    """Several configs of a pose network, trained alike and compared."""

    seeds: Annotated[list[Seed], Field(min_length=1)] = [0]
    output_dir: ConfigPath | None = None


class ConvertConfig(Section):
    """A published SDPose checkpoint made one of ours."""

    source: ConfigPath | None = None
    out: ConfigPath | None = None


class ClassifierConfig(OnnxRuntimeOptions):
    """One trained classifier as an ONNX file."""

    model_path: str = ""
    threshold: Unit | None = None


# Types of their own, so that a config that sets another key alone keeps the file's name.
class FightClassifierConfig(ClassifierConfig):
    """The classifier of fights."""

    model_path: str = "fight.onnx"


class FalldownClassifierConfig(ClassifierConfig):
    """The classifier of falls."""

    model_path: str = "falldown.onnx"
    long_lie_s: Annotated[float, Field(ge=0.5)] | None = 10.0
    lying_gap_s: NonNegative = 5.0


class InferenceConfig(Section):
    """From new video to windows, probabilities and events."""

    input: Place = PROJECT / "data"
    output_dir: ConfigPath = PROJECT / "output" / "analysis"
    services: list[Literal["fight", "falldown"]] = ["fight", "falldown"]
    fight: FightClassifierConfig = FightClassifierConfig()
    falldown: FalldownClassifierConfig = FalldownClassifierConfig()
    stride_s: Annotated[float, Field(ge=0.02)] | None = None
    merge_gap_s: NonNegative = 1.0
    min_event_s: NonNegative = 0.0
    labels: ConfigPath | None = None
    tolerance_s: NonNegative = 0.0
    zones: ZonesConfig = ZonesConfig()
    overlay: bool = True
    views: Views = []


class DeployConfig(Section):
    """Shipping a trained model as a file."""

    model: Literal["fight", "falldown", "pose"] = "fight"
    checkpoint: ConfigPaths = []
    movement: ConfigPath | None = None
    output: ConfigPath | None = None
    precision: Literal["both", "fp32", "fp16"] = "both"
    int8: bool = False
    uint8_input: bool = False
    dynamic_size: bool = True
    static_batch: Annotated[int, Field(ge=1, le=256)] | None = None
    frames_dir: ConfigPath | None = None
    frames: Annotated[int, Field(ge=1, le=10_000)] = 100
    fp16_tolerance_px: PositiveFloat = 0.5
    int8_tolerance_px: PositiveFloat = 5.0
    tolerance_missed: Unit = 0.05
    tolerance_px: PositiveFloat = 0.01
    worst_px: PositiveFloat = 0.5
    rectangle_tolerance_px: PositiveFloat = 1.0
    output_dir: ConfigPath | None = None
    batch_sizes: Annotated[list[Annotated[int, Field(ge=1, le=256)]], Field(min_length=1)] = [1, 8]
    warm_up: Annotated[int, Field(ge=0, le=1000)] = 3
