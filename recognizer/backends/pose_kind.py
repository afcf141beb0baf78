"""What a network file is, read from its inputs, outputs and the names of its weights.

``rtmo`` gives people (outputs ``dets`` and ``keypoints``, as mmdeploy's end2end files have them),
and so does ``movenet`` (MoveNet MultiPose: one output, (B, people, 56)). ``topdown`` gives one
heatmap, or two SimCC vectors, per keypoint of one person, or the places of its keypoints (MoveNet
single pose). Other files are person detectors. So that ``kind: auto`` needs no setting, and a
``kind`` that is set and does not fit, or a detector in place of a pose network, is refused before
any work.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recognizer.backends.network import ModelError, TensorSpec
from recognizer.backends.onnx_files import read_outputs, read_signature
from recognizer.config.models import DetectorConfig, PoseEstimationConfig
from recognizer.config.types import PoseKind
from recognizer.openmmlab import read_pose_config
from recognizer.skeleton import NUM_KEYPOINTS

_SECTION = "models.pose_estimation"
_KEY = f"{_SECTION}.kind"
_DETECTOR_KEY = f"{_SECTION}.topdown.detector.model_path"
_PERSON_ROW = 3 * NUM_KEYPOINTS + 5  # of MoveNet MultiPose: keypoints, box, score
# Of the last layers of mmdet's heads, which keep their names in an ONNX file.
_RTMDET_WEIGHTS, _YOLOX_WEIGHTS = "rtm_cls", "multi_level_conv"


@dataclass(frozen=True, slots=True)
class NetworkForm:
    """What a network is.

    Attributes:
        kind: of a pose network; None for others.
        detector: whether it is a person detector.
        text: the same for a person, such as ``a top-down network (SimCC, 192x256)``.

    """

    kind: PoseKind | None
    detector: bool
    text: str


def identify(
    inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec], weights: Sequence[str] = ()
) -> NetworkForm:
    """Return what a network with these inputs, outputs and names of weights is."""
    names, size = {spec.name for spec in outputs}, _size(inputs)
    if {"dets", "keypoints"} <= names:
        return NetworkForm("rtmo", False, f"a one-stage network of RTMO's form ({size})")
    if is_multipose(outputs):
        return NetworkForm("movenet", False, f"MoveNet MultiPose ({size})")
    if (given := _topdown_output(outputs)) is not None:
        return NetworkForm("topdown", False, f"a top-down network ({given}, {size})")
    if {"dets", "labels"} <= names:
        model = {True: "RTMDet, ", False: "YOLOX, ", None: ""}[_is_rtmdet(weights)]
        return NetworkForm(None, True, f"a person detector ({model}end2end, {size})")
    if len(outputs) == 1 and len(outputs[0].shape) == 3 and outputs[0].shape[2] == 85:
        return NetworkForm(None, True, f"a person detector (YOLOX without NMS, {size})")
    return NetworkForm(None, False, f"a network with outputs {', '.join(map(str, outputs))}")


def _topdown_output(outputs: Sequence[TensorSpec]) -> str | None:
    """Return how a top-down network gives keypoints; None for other networks."""
    if is_simcc(outputs):
        return "SimCC"
    if is_single_pose(outputs):
        return "MoveNet single pose"
    return "heatmaps" if len(outputs) == 1 and _are_heatmaps(outputs[0].shape) else None


def _size(inputs: Sequence[TensorSpec]) -> str:
    """Return ``192x256`` (width, height) of the first input's pixels, or ``any size``."""
    shape = inputs[0].shape if inputs else ()
    if len(shape) != 4:
        return "any size"
    height, width = shape[1:3] if shape[3] == 3 and shape[1] != 3 else shape[2:]
    return "any size" if None in (width, height) else f"{width}x{height}"


def is_simcc(outputs: Sequence[TensorSpec]) -> bool:
    """Return whether the outputs are SimCC vectors: ``simcc_x`` and ``simcc_y``, (B, K, cells)."""
    return {spec.name for spec in outputs} == {"simcc_x", "simcc_y"} and all(
        len(spec.shape) == 3 and spec.shape[1] in (NUM_KEYPOINTS, None) for spec in outputs
    )


def is_multipose(outputs: Sequence[TensorSpec]) -> bool:
    """Return whether the output is that of MoveNet MultiPose: people (B, N, 56)."""
    return len(outputs) == 1 and len(outputs[0].shape) == 3 and outputs[0].shape[2] == _PERSON_ROW


def is_single_pose(outputs: Sequence[TensorSpec]) -> bool:
    """Return whether the output is that of MoveNet Thunder or Lightning: (B, 1, 17, 3)."""
    shape = outputs[0].shape if len(outputs) == 1 else ()
    return len(shape) == 4 and shape[1] in (1, None) and shape[2:] == (NUM_KEYPOINTS, 3)


def read_form(file: Path) -> NetworkForm:
    """Return what an ONNX file is; raise ModelError for a damaged one."""
    return identify(*read_signature(file))


def is_normalised(asked: str, file: Path) -> bool:
    """Return whether an end2end detector takes pixels as RTMDet does.

    Args:
        asked: ``topdown.detector.normalisation``.
        file: the ONNX file.

    Raises:
        ModelError: ``auto``, and the names of the weights do not tell.

    """
    if asked != "auto":
        return asked == "rtmdet"
    found = _is_rtmdet(read_signature(file).weights)
    if found is None:
        raise ModelError(
            f"{file}: expected a person detector whose weights have the names of RTMDet or YOLOX, "
            f"got others; set {_SECTION}.topdown.detector.normalisation: rtmdet, or none if it "
            "takes pixels as they are"
        )
    return found


def _is_rtmdet(weights: Sequence[str]) -> bool | None:
    if any(_RTMDET_WEIGHTS in name for name in weights):
        return True
    return False if any(_YOLOX_WEIGHTS in name for name in weights) else None


def read_kind(settings: PoseEstimationConfig, files: Mapping[str, Path]) -> PoseKind:
    """Return the kind of the network that the config names, without running it.

    Args:
        settings: the config's section; a kind that is set must be that of the file.
        files: where the ``pose`` network and, for ``pth``, mmpose's ``config`` are; with
            ``detector`` the pair is checked.

    Raises:
        ModelError: a file of no kind, or of another kind than the one that is set; a detector in
            place of a pose network, or the other way round.
        ValueError, ImportError: as ``read_pose_config``.

    """
    file = files["pose"]
    if settings.inference_mode == "pth":
        file = files["config"]
        return check_kind(settings.kind, _kind_of_config(read_pose_config(file)), file)
    if file.suffix == ".onnx":
        check_pair(files)
        kind = kind_of_outputs(settings.kind, read_outputs(file), file)
        check_backend(kind, settings.inference_mode, file)
        return kind
    if settings.kind != "auto":  # an engine is opened once, for its first run
        check_backend(settings.kind, settings.inference_mode, file)
        return settings.kind
    from recognizer.backends.tensorrt import TensorRTNetwork

    section = settings.tensorrt
    network = TensorRTNetwork(file, section.device, section=section)
    return kind_of_outputs(settings.kind, network.outputs, file)


def check_backend(kind: PoseKind, mode: str, file: Path) -> None:
    """Refuse MoveNet MultiPose, whose input is none of TensorRT's profiles, outside ONNX Runtime.

    Raises:
        ModelError: another backend than ``onnx``.

    """
    if kind == "movenet" and mode != "onnx":
        raise ModelError(
            f"{_SECTION}.inference_mode: expected onnx with {file}, MoveNet MultiPose, got {mode}; "
            f"set {_SECTION}.inference_mode: onnx and onnx.model_path to that file"
        )


def check_pair(files: Mapping[str, Path]) -> None:
    """Refuse a pair of ONNX files that is no pose network with a person detector.

    Args:
        files: ``pose`` and ``detector``; without the second, or with RTMO, nothing is checked.
            The default detector is not used by MoveNet MultiPose, another one is refused.

    Raises:
        ModelError: the message names both files and what each is.

    """
    pose, detector = files["pose"], files.get("detector")
    if detector is None or detector.suffix != ".onnx":
        return
    first = read_form(pose)
    if first.kind == "movenet" and detector.name != DetectorConfig().model_path:
        raise ModelError(
            f"{_SECTION}: expected no detector of your own with {pose}, {first.text}, which finds "
            f"people itself, got ({_DETECTOR_KEY.removeprefix(_SECTION + '.')}) {detector}, "
            f"{read_form(detector).text}; leave out that key, or name a top-down network"
        )
    if first.kind not in ("topdown", None):
        return
    second = read_form(detector)
    if first.kind == "topdown" and second.detector:
        return
    swapped = first.detector and second.kind == "topdown"
    remedy = "swap the two" if swapped else "name a file that fits"
    raise ModelError(
        f"{_SECTION}: expected a pose network and a person detector, got {pose}, {first.text}, and "
        f"(topdown.detector.model_path) {detector}, {second.text}; {remedy}"
    )


def describe_files(files: Mapping[str, Path]) -> str:
    """Return what the config's ONNX files are, in one line; "" without any.

    Args:
        files: ``pose`` and, of a top-down network, ``detector``.

    Raises:
        ModelError: a damaged file.

    """
    parts = [
        f"{files[role].name} is {read_form(files[role]).text}"
        for role in ("pose", "detector")
        if role in files and files[role].suffix == ".onnx"
    ]
    return ", ".join(parts)


def kind_of_outputs(asked: str, outputs: Sequence[TensorSpec], file: Path) -> PoseKind:
    """Return the kind of a network with these outputs. Raises as ``read_kind``."""
    found = identify((), outputs)
    if found.kind is None:
        what = "a person detector, " if found.detector else ""
        raise ModelError(
            f"{file}: expected a pose network, RTMO (outputs dets, keypoints), MoveNet MultiPose "
            f"(B,people,{_PERSON_ROW}) or top-down (one output, heatmaps (B,{NUM_KEYPOINTS},h,w) "
            f"or MoveNet single pose (B,1,{NUM_KEYPOINTS},3), or SimCC simcc_x, simcc_y), got "
            f"{what}outputs {', '.join(map(str, outputs))}; name another file"
        )
    return check_kind(asked, found.kind, file)


def _are_heatmaps(shape: tuple[int | None, ...]) -> bool:
    return len(shape) == 4 and shape[1] in (NUM_KEYPOINTS, None)


def check_kind(asked: str, found: PoseKind, file: Path) -> PoseKind:
    """Return what was found; raise ModelError where the config asks for another kind."""
    if asked not in ("auto", found):
        raise ModelError(
            f"{_KEY}: it says {asked}, {file} is a network of kind: {found}; set {_KEY}: auto, or "
            f"name a file of kind {asked}"
        )
    return found


def _kind_of_config(config: Any) -> PoseKind:
    model = config.model
    head = _name((model.get("head") or {}).get("type"))
    if head == "RTMOHead":
        return "rtmo"
    if _name(model.get("type")) == "TopdownPoseEstimator" and head != "RTMCCHead":
        return "topdown"
    raise ModelError(
        f"{config.filename}: expected an RTMO or a top-down heatmap network, got "
        f"{_name(model.get('type'))} with {head or 'no head'}"
        + ("; RTMPose runs from its ONNX file (models.fetch)" if head == "RTMCCHead" else "")
    )


def _name(kind: Any) -> str:
    """Return the name of a registered class, "" for None: ``mmpose.RTMOHead`` is RTMOHead."""
    return "" if kind is None else getattr(kind, "__name__", str(kind)).rpartition(".")[2]
