"""Export a pose network as ONNX files, compared with torch on frames before they are kept.

The files run without torch: RTMO with suppression inside, as mmdeploy's end2end, or a heatmap
network. They are compared through the pre- and post-processing of stage 1; half precision and 8
bits must agree as closely as the config says.
"""

import logging
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import numpy as np

from deploy.outputs import written
from deploy.pose_graph import write_graph, write_int8
from deploy.pose_parity import Parity, compare, frames_of
from deploy.quantize import NetworkInput, calibration_batch
from recognizer.backends.metadata import PoseModelMetadata, Thresholds
from recognizer.backends.network import FLOAT, Feeds, ModelError, Network, Results, TensorSpec
from recognizer.backends.onnx import OnnxNetwork
from recognizer.backends.torch import (
    TrainedPose,
    check_input_size,
    input_spec,
    load_pose,
    open_graph,
    with_options,
)
from recognizer.command import EXIT_DONE, next_command
from recognizer.config.file import ConfigError
from recognizer.config.models import SCORE_THRESHOLD, DetectorConfig, OnnxPoseConfig
from recognizer.config.schema import Config
from recognizer.model_files import find_model_file
from recognizer.openmmlab import find_pose_config
from recognizer.pose.detector import Boxes, LetterboxBatch
from recognizer.pose.end2end import build_detector
from recognizer.pose.rtmo import RtmoPose
from recognizer.pose.topdown import TopDownPose
from recognizer.storage.artifacts import sha256_file
from recognizer.types import Image, Poses

logger = logging.getLogger(__name__)

MEDIAN_PX, WORST_PX = 0.01, 0.5
"""Limits of the distance of keypoints from torch's, single precision."""
_KEY = "models.pose_estimation.pth"
_SHORT = {"fp16": "_fp16", "int8": "_int8"}
# How far above the threshold a person may be missed: rounding moves scores by so much.
_EDGES = {"fp32": 1e-3, "fp16": 0.02, "int8": 0.1}
_CALIBRATED_ON = 64
_LOOSER = {  # how to keep or to do without a file of less precision that differs
    "fp16": " (deploy.fp16_tolerance_px; deploy.precision=fp32 makes none)",
    "int8": " (deploy.int8_tolerance_px; deploy.int8=false makes none)",
}


@dataclass(frozen=True, slots=True)
class ExportPlan:
    """Files to read and write, and how closely they must agree; from the config."""

    config_file: Path
    checkpoint: Path
    output: Path
    precisions: tuple[str, ...]
    limits_px: dict[str, float]


def export_pose(config: Config) -> int:
    """Write the pose network of the config as ONNX; return the exit code.

    Raises:
        ConfigError: no network named, or options that contradict each other.
        FileNotFoundError, CheckpointError, ValueError: as ``backends.torch.load_pose``.
        ModelError: a file that differs from torch; it is not kept.

    """
    plan = resolve(config)
    frames = frames_of(config.deploy.frames_dir, config.deploy.frames)
    source = config.deploy.frames_dir or "made pictures"
    logger.info("exporting %s, compared on %d frames of %s", plan.checkpoint, len(frames), source)
    pose = load_pose(plan.config_file, plan.checkpoint)
    kind = config.models.pose_estimation.kind
    if kind not in ("auto", pose.metadata.kind):
        raise ConfigError(
            f"models.pose_estimation.kind: expected {pose.metadata.kind} for "
            f"{plan.config_file.name}, got {kind}; set auto"
        )
    runner = ParityRunner(config, pose.metadata.kind, frames)
    reference = runner.run(reference_network(pose, config))
    for precision in plan.precisions:
        _write(plan, precision, config, runner, reference)
    if pose.metadata.kind == "topdown":
        copy_detector(config, plan.output.parent)
    changes = {"models.pose_estimation.onnx.model_path": plan.output.absolute()}
    logger.info("next: %s", next_command(config, "deploy.verify", changes))
    return EXIT_DONE


def resolve(config: Config) -> ExportPlan:
    """Return the plan of a config; raise ConfigError for options that contradict each other."""
    section, pth = config.deploy, config.models.pose_estimation.pth
    given = section.checkpoint if isinstance(section.checkpoint, list) else [section.checkpoint]
    if len(given) > 1:
        raise ConfigError(f"deploy.checkpoint: expected one for a pose network, got {len(given)}")
    name, folders = pth.checkpoint_path, config.models.folders()
    key = f"{_KEY}.checkpoint_path"
    checkpoint = given[0] if given else find_model_file(name, folders, key)
    if not checkpoint.is_file():
        raise ConfigError(f"deploy.checkpoint: expected a file, found none at {checkpoint}")
    try:
        config_file = find_pose_config(pth.config_file)
    except FileNotFoundError as error:
        raise ConfigError(str(error)) from error
    output = section.output or checkpoint.with_suffix(".onnx")
    if output.suffix != ".onnx" or output.stem.endswith(tuple(_SHORT.values())):
        raise ConfigError(
            "deploy.output: expected the name of the fp32 file, ending in .onnx and not in "
            f"_fp16.onnx or _int8.onnx, which are made of it, got {output}"
        )
    precisions = {"both": ("fp32", "fp16")}.get(section.precision, (section.precision,))
    if section.int8:
        if "fp32" not in precisions:
            raise ConfigError("deploy.int8: expected precision: fp32 or both, which it is made of")
        if section.frames_dir is None:
            raise ConfigError("deploy.int8: expected deploy.frames_dir to calibrate on, got none")
        precisions = (*precisions, "int8")
    limits = {"fp16": section.fp16_tolerance_px, "int8": section.int8_tolerance_px}
    return ExportPlan(config_file, checkpoint, output, precisions, {"fp32": MEDIAN_PX, **limits})


def _thresholds(config: Config) -> Thresholds:
    onnx = config.models.pose_estimation.onnx  # the block that will run the file
    score = SCORE_THRESHOLD["rtmo"] if onnx.score_threshold is None else onnx.score_threshold
    return Thresholds(score, onnx.nms_threshold, onnx.max_detections)


def metadata_of(pose: TrainedPose, config: Config, precision: str) -> PoseModelMetadata:
    """Return the metadata of a file of this precision."""
    layers = "fp32" if precision == "int8" else precision
    metadata = with_options(
        pose.metadata, _thresholds(config), precision=layers, uint8=config.deploy.uint8_input
    )
    size = check_input_size(metadata, config.models.pose_estimation.pth.input_size)
    return replace(metadata, input_size=size)


def reference_network(pose: TrainedPose, config: Config) -> Network:
    """Return the network as torch runs it, in single precision, of the config's input size."""
    metadata = metadata_of(pose, config, "fp32")
    return open_graph(
        pose, replace(metadata, layout="NCHW float32", normalised_inside=metadata.kind == "rtmo")
    )


# --- running a network -----------------------------------------------------------


class ParityRunner:
    """Runs networks on the same frames, through the pre- and post-processing of stage 1."""

    def __init__(self, config: Config, kind: str, frames: Sequence[Image]) -> None:
        self._pose, self.kind, self.frames = config.models.pose_estimation, kind, frames
        # Keypoints of low score count, too: all 17 of each person are compared.
        self._section = self._pose.onnx.model_copy(update={"keypoint_threshold": 0.0})

    def run(self, network: Network, size: tuple[int, int] | None = None) -> list[Poses]:
        """Return the people of each frame; top-down: in two fixed boxes per frame."""
        if self.kind == "rtmo":
            return RtmoPose(network, self._section, size)(self.frames)
        model = TopDownPose(lambda _: [], network, self._pose.topdown)
        return model.with_boxes(self.frames, [_boxes(frame) for frame in self.frames])

    def inputs(self, metadata: PoseModelMetadata, batch: int | None) -> Iterator[NetworkInput]:
        """Yield the network's inputs for the frames, to calibrate on."""
        if self.kind == "rtmo":
            letterboxes = LetterboxBatch(metadata.input_size, uint8=metadata.layout == "NHWC uint8")
            for frame in self.frames[:_CALIBRATED_ON]:
                yield calibration_batch(letterboxes.fill([frame])[0].copy(), batch)
            return
        recorder = InputRecorder(metadata)
        model = TopDownPose(lambda _: [], recorder, self._pose.topdown)
        for frame in self.frames[:_CALIBRATED_ON]:
            model.with_boxes([frame], [_boxes(frame)])
            for crop in recorder.take():
                yield calibration_batch(crop, batch)


def _boxes(frame: Image) -> Boxes:
    """Return a tall box in the middle of a frame and one to its left."""
    width, height = frame.size_wh
    boxes = np.array([[0.35, 0.1, 0.65, 0.95], [0.02, 0.3, 0.3, 0.98]])
    xyxy = boxes * np.array([width, height, width, height])
    return Boxes(xyxy.astype(np.float32), np.ones(2, np.float32))


class InputRecorder:
    """A network that records its inputs."""

    def __init__(self, metadata: PoseModelMetadata) -> None:
        self.inputs = (input_spec(metadata, None, any_size=False),)
        self.outputs = (TensorSpec("heatmaps", (None, 17, 4, 4), FLOAT),)
        self._kept: list[NetworkInput] = []

    def run(self, feeds: Feeds) -> Results:
        """Record the input; return empty heatmaps."""
        (array,) = feeds.values()
        self._kept += [cast("NetworkInput", np.array(array[i : i + 1])) for i in range(len(array))]
        return {"heatmaps": np.zeros((len(array), 17, 4, 4), np.float32)}

    def take(self) -> list[NetworkInput]:
        """Return the recorded inputs, and forget them."""
        kept, self._kept = self._kept, []
        return kept


# --- one file ----------------------------------------------------------------------


def _write(
    plan: ExportPlan,
    precision: str,
    config: Config,
    runner: ParityRunner,
    reference: Sequence[Poses],
) -> None:
    section = config.deploy
    output = plan.output.with_name(f"{plan.output.stem}{_SHORT.get(precision, '')}.onnx")
    # Half precision converts the network in place, so each file starts from a new one.
    pose = load_pose(plan.config_file, plan.checkpoint)
    metadata = metadata_of(pose, config, precision)
    with written(output) as scratch:
        if precision == "int8":
            inputs = runner.inputs(metadata, section.static_batch)
            count = write_int8(scratch, plan.output, metadata, inputs)
            logger.info("%s: %d convolutions in 8 bits", output.name, count)
        else:
            any_size = section.dynamic_size and metadata.kind == "rtmo"
            write_graph(scratch, pose, metadata, batch=section.static_batch, any_size=any_size)
        exported = runner.run(OnnxNetwork(scratch, OnnxPoseConfig()), metadata.input_size)
        parity = compare(
            reference,
            exported,
            edge=_EDGES[precision],
            threshold=0.0 if metadata.thresholds is None else metadata.thresholds.score_threshold,
        )
        check_parity(output, precision, parity, plan.limits_px[precision], section.tolerance_missed)
    logger.info(
        "%s: %.1f MB, SHA-256 %s; against torch: %s",
        output,
        output.stat().st_size / 1e6,
        sha256_file(output),
        parity,
    )


def check_parity(
    output: Path, precision: str, parity: Parity, limit_px: float, missed: float = 0.0
) -> None:
    """Raise ModelError where a file differs from torch by more than the limits.

    Args:
        output: the file.
        precision: of the file.
        parity: the differences.
        limit_px: of the median distance of keypoints, image pixels.
        missed: limit of the people that only one of the two detects, as a share of all; 0 in single
            precision.

    """
    if parity.people == 0:
        raise ModelError(
            f"{output}: not written: nobody was seen in {parity.frames} frames, so nothing could "
            "be compared; --set deploy.frames_dir=<folder of videos that show people>"
        )
    allowed = 0 if precision == "fp32" else int(missed * parity.people)
    worst = WORST_PX if precision == "fp32" else float("inf")
    # A NaN fails.
    if not (
        parity.median_px <= limit_px and parity.worst_px <= worst and parity.only_one <= allowed
    ):
        rest = f", {worst} px at worst" if precision == "fp32" else _LOOSER[precision]
        raise ModelError(
            f"{output}: not written: against torch {parity}; expected at most {limit_px} px in the "
            f"median{rest}, {allowed} seen by one only"
        )


def copy_detector(config: Config, folder: Path) -> None:
    """Check the person detector of a top-down network and copy it beside the network.

    Raises:
        ModelError: a file that is no person detector.

    """
    section: DetectorConfig = config.models.pose_estimation.topdown.detector
    key = "models.pose_estimation.topdown.detector.model_path"
    try:
        source = find_model_file(section.model_path, config.models.folders(), key)
    except ConfigError as error:
        logger.warning("the detector was not copied: %s", error)
        return
    build_detector(OnnxNetwork(source, DetectorConfig()), section, source)
    target = folder / source.name
    if not (target.exists() and target.samefile(source)):
        with written(target) as scratch:
            shutil.copyfile(source, scratch)
    logger.info("%s: the detector, SHA-256 %s", target, sha256_file(target))
