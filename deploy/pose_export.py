"""Ship a pose network as ONNX files: written, compared with torch on frames, and only then there.

What is written runs without torch: RTMO in mmdeploy's end2end contract, suppression inside, or a
heatmap network. Every file goes through the very pre- and post-processing that stage 1 uses and
must see what torch sees; the half-precision and 8-bit ones as closely as the config asks.
"""

import logging
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deploy.pose_graph import calibration_batch, write_graph, write_int8
from deploy.pose_parity import Parity, compare, frames_of
from deploy.writing import written
from recognizer.backends.metadata import PoseModelMetadata, Thresholds
from recognizer.backends.network import ModelError, Network, TensorSpec
from recognizer.backends.onnx import OnnxNetwork
from recognizer.backends.torch import (
    TrainedPose,
    check_input_size,
    input_spec,
    load_pose,
    open_graph,
    with_options,
)
from recognizer.command import next_command
from recognizer.config.file import ConfigError
from recognizer.config.models import DetectorConfig, OnnxPoseConfig
from recognizer.config.schema import Config
from recognizer.model_files import find_model_file
from recognizer.openmmlab import find_pose_config
from recognizer.pose.detector import Boxes, LetterboxBatch, YoloxDetector
from recognizer.pose.rtmo import RtmoPose
from recognizer.pose.topdown import TopDownPose
from recognizer.storage.artifacts import sha256_file
from recognizer.types import Image, Poses

logger = logging.getLogger(__name__)

EXIT_DONE = 0
MEDIAN_PX, WORST_PX = 0.01, 0.5
"""How far keypoints of a file in single precision may be from torch's."""
_KEY = "models.pose_estimation.pth"
_SHORT = {"fp16": "_fp16", "int8": "_int8"}
# How near to the threshold somebody may be missed: rounding moves scores so far.
_EDGES = {"fp32": 1e-3, "fp16": 0.02, "int8": 0.1}
_CALIBRATED_ON = 64


@dataclass(frozen=True, slots=True)
class Plan:
    """What is written: the config's part, resolved."""

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
        ModelError: a file that does not see what torch sees; it is not kept.

    """
    plan = resolve(config)
    frames = frames_of(config.deploy.frames_dir, config.deploy.frames)
    shown = config.deploy.frames_dir or "made pictures"
    logger.info("exporting %s, compared on %d frames of %s", plan.checkpoint, len(frames), shown)
    pose = load_pose(plan.config_file, plan.checkpoint)
    asked = config.models.pose_estimation.kind
    if asked not in ("auto", pose.metadata.kind):
        raise ConfigError(
            f"models.pose_estimation.kind: expected {pose.metadata.kind} for "
            f"{plan.config_file.name}, got {asked}; set auto"
        )
    looker = ParityRunner(config, pose.metadata.kind, frames)
    reference = looker.look(reference_network(pose, config))
    for precision in plan.precisions:
        _write(plan, precision, config, looker, reference)
    if pose.metadata.kind == "topdown":
        pass_detector(config, plan.output.parent)
    changes = {"models.pose_estimation.onnx.model_path": plan.output.absolute()}
    logger.info("next: %s", next_command(config, "deploy.verify", changes))
    return EXIT_DONE


def resolve(config: Config) -> Plan:
    """Return what the config asks for; raise ConfigError where that cannot be."""
    section = config.deploy
    given = section.checkpoint if isinstance(section.checkpoint, list) else [section.checkpoint]
    if len(given) > 1:
        raise ConfigError(f"deploy.checkpoint: expected one for a pose network, got {len(given)}")
    checkpoint = (
        given[0]
        if given
        else find_model_file(
            config.models.pose_estimation.pth.checkpoint_path,
            config.models.weights_dirs,
            f"{_KEY}.checkpoint_path",
        )
    )
    if not checkpoint.is_file():
        raise ConfigError(f"deploy.checkpoint: expected a file, found none at {checkpoint}")
    try:
        config_file = find_pose_config(config.models.pose_estimation.pth.config_file)
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
    return Plan(config_file, checkpoint, output, precisions, {"fp32": MEDIAN_PX, **limits})


def _thresholds(config: Config) -> Thresholds:
    own = config.models.pose_estimation.onnx  # the block that will run the file
    return Thresholds(own.score_threshold, own.nms_threshold, own.max_detections)


def facts_of(pose: TrainedPose, config: Config, precision: str) -> PoseModelMetadata:
    """Return what a file of this precision says of itself."""
    layers = "fp32" if precision == "int8" else precision
    facts = with_options(
        pose.metadata, _thresholds(config), precision=layers, uint8=config.deploy.uint8_input
    )
    size = check_input_size(facts, config.models.pose_estimation.pth.input_size)
    return replace(facts, input_size=size)


def reference_network(pose: TrainedPose, config: Config) -> Network:
    """Return the network as torch runs it, in single precision, of the config's input size."""
    facts = facts_of(pose, config, "fp32")
    return open_graph(
        pose, replace(facts, layout="NCHW float32", normalised_inside=facts.kind == "rtmo")
    )


# --- what a network sees -----------------------------------------------------------


class ParityRunner:
    """Asks networks what they see in the same frames, by the code that stage 1 uses."""

    def __init__(self, config: Config, kind: str, frames: Sequence[Image]) -> None:
        self._pose, self.kind, self.frames = config.models.pose_estimation, kind, frames
        # Low keypoints count, too: all 17 of everybody are compared.
        self._section = self._pose.onnx.model_copy(update={"keypoint_threshold": 0.0})

    def look(self, network: Network, size: tuple[int, int] | None = None) -> list[Poses]:
        """Return the people of each frame; top-down: in boxes of its own, two per frame."""
        if self.kind == "rtmo":
            return RtmoPose(network, self._section, size)(self.frames)
        model = TopDownPose(lambda _: [], network, self._pose.topdown)
        return model.with_boxes(self.frames, [_boxes(frame) for frame in self.frames])

    def inputs(self, facts: PoseModelMetadata, batch: int | None) -> Iterator[NDArray[Any]]:
        """Yield what the network is given for each frame."""
        if self.kind == "rtmo":
            letterboxes = LetterboxBatch(facts.input_size, uint8=facts.layout == "NHWC uint8")
            for frame in self.frames[:_CALIBRATED_ON]:
                yield calibration_batch(letterboxes.fill([frame])[0].copy(), batch)
            return
        heard = InputRecorder(facts)
        model = TopDownPose(lambda _: [], heard, self._pose.topdown)
        for frame in self.frames[:_CALIBRATED_ON]:
            model.with_boxes([frame], [_boxes(frame)])
            for crop in heard.take():
                yield calibration_batch(crop, batch)


def _boxes(frame: Image) -> Boxes:
    """Return a tall box in the middle of a frame and one to its left."""
    width, height = frame.size_wh
    boxes = np.array([[0.35, 0.1, 0.65, 0.95], [0.02, 0.3, 0.3, 0.98]])
    xyxy = boxes * np.array([width, height, width, height])
    return Boxes(xyxy.astype(np.float32), np.ones(2, np.float32))


class InputRecorder:
    """A network that keeps what it is given."""

    def __init__(self, facts: PoseModelMetadata) -> None:
        self.inputs = (input_spec(facts, None, any_size=False),)
        self.outputs = (TensorSpec("heatmaps", (None, 17, 4, 4), "tensor(float)"),)
        self._kept: list[NDArray[Any]] = []

    def run(self, feeds: Any) -> dict[str, NDArray[Any]]:
        """Keep the input; give heatmaps of nothing."""
        (array,) = feeds.values()
        self._kept += [np.array(array[i : i + 1]) for i in range(len(array))]
        return {"heatmaps": np.zeros((len(array), 17, 4, 4), np.float32)}

    def take(self) -> list[NDArray[Any]]:
        """Return what was kept, and forget it."""
        kept, self._kept = self._kept, []
        return kept


# --- one file ----------------------------------------------------------------------


def _write(
    plan: Plan, precision: str, config: Config, looker: ParityRunner, reference: Sequence[Poses]
) -> None:
    section = config.deploy
    output = plan.output.with_name(f"{plan.output.stem}{_SHORT.get(precision, '')}.onnx")
    # A graph in half precision uses its model up, so each file is built anew.
    pose = load_pose(plan.config_file, plan.checkpoint)
    facts = facts_of(pose, config, precision)
    with written(output) as scratch:
        if precision == "int8":
            inputs = looker.inputs(facts, section.static_batch)
            count = write_int8(scratch, plan.output, facts, inputs)
            logger.info("%s: %d convolutions in 8 bits", output.name, count)
        else:
            any_size = section.dynamic_size and facts.kind == "rtmo"
            write_graph(scratch, pose, facts, batch=section.static_batch, any_size=any_size)
        found = looker.look(OnnxNetwork(scratch, OnnxPoseConfig()), facts.input_size)
        parity = compare(
            reference,
            found,
            edge=_EDGES[precision],
            threshold=0.0 if facts.thresholds is None else facts.thresholds.score_threshold,
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
    """Raise ModelError where a file is further from torch than it may be.

    Args:
        output: the file.
        precision: of the file.
        parity: what was found.
        limit_px: most of the median distance of a keypoint.
        missed: most people whom one alone sees, as a share of all; nobody in single precision.

    """
    if parity.people == 0:
        raise ModelError(
            f"{output}: not written: nobody was seen in {parity.frames} frames, so nothing could "
            "be compared; --set deploy.frames_dir=<folder of videos that show people>"
        )
    allowed = 0 if precision == "fp32" else int(missed * parity.people)
    worst = WORST_PX if precision == "fp32" else float("inf")
    # Written so that a NaN fails.
    if not (
        parity.median_px <= limit_px and parity.worst_px <= worst and parity.only_one <= allowed
    ):
        key = "" if precision == "fp32" else f" (deploy.{precision}_tolerance_px)"
        raise ModelError(
            f"{output}: not written: against torch {parity}; expected at most {limit_px} px in the "
            f"median{key}, {worst} px at worst, {allowed} seen by one only"
        )


def pass_detector(config: Config, folder: Path) -> None:
    """Check the person detector that a top-down network needs and copy it beside, as it is.

    Raises:
        ModelError: a file that is no YOLOX without NMS.

    """
    section: DetectorConfig = config.models.pose_estimation.topdown.detector
    key = "models.pose_estimation.topdown.detector.model_path"
    try:
        source = find_model_file(section.model_path, config.models.weights_dirs, key)
    except ConfigError as error:
        logger.warning("the detector was not copied: %s", error)
        return
    YoloxDetector(OnnxNetwork(source, DetectorConfig()), section)
    target = folder / source.name
    if not (target.exists() and target.samefile(source)):
        with written(target) as scratch:
            shutil.copyfile(source, scratch)
    logger.info("%s: the detector, SHA-256 %s", target, sha256_file(target))
