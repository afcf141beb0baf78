"""The kind of pose network in a file, read from its outputs.

``rtmo`` gives people (outputs ``dets`` and ``keypoints``, as mmdeploy's end2end files have them),
``topdown`` gives one heatmap per keypoint of one person. So that ``kind: auto`` needs no setting,
and a ``kind`` that is set and does not fit is refused before any work.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from recognizer.backends.network import ModelError, TensorSpec
from recognizer.backends.onnx_files import read_outputs
from recognizer.config.models import PoseEstimationConfig
from recognizer.config.types import PoseKind
from recognizer.openmmlab import read_pose_config
from recognizer.skeleton import NUM_KEYPOINTS

_KEY = "models.pose_estimation.kind"


def read_kind(settings: PoseEstimationConfig, files: Mapping[str, Path]) -> PoseKind:
    """Return the kind of the network that the config names, without running it.

    Args:
        settings: the config's section; a kind that is set must be that of the file.
        files: where the ``pose`` network and, for ``pth``, mmpose's ``config`` are.

    Raises:
        ModelError: a file of neither kind, or of another kind than the one that is set.
        ValueError, ImportError: as ``read_pose_config``.

    """
    file = files["pose"]
    if settings.inference_mode == "pth":
        file = files["config"]
        return check_kind(settings.kind, _kind_of_config(read_pose_config(file)), file)
    if file.suffix == ".onnx":
        return kind_of_outputs(settings.kind, read_outputs(file), file)
    if settings.kind != "auto":  # an engine is opened once, for its first run
        return settings.kind
    from recognizer.backends.tensorrt import TensorRTNetwork

    section = settings.tensorrt
    network = TensorRTNetwork(file, section.device, section=section)
    return kind_of_outputs(settings.kind, network.outputs, file)


def kind_of_outputs(asked: str, outputs: Sequence[TensorSpec], file: Path) -> PoseKind:
    """Return the kind of a network with these outputs. Raises as ``read_kind``."""
    found: PoseKind | None = None
    if {"dets", "keypoints"} <= {spec.name for spec in outputs}:
        found = "rtmo"
    elif len(outputs) == 1 and _are_heatmaps(outputs[0].shape):
        found = "topdown"
    if found is None:
        raise ModelError(
            f"{file}: expected a pose network, RTMO (outputs dets, keypoints) or top-down (one "
            f"output, heatmaps (B,{NUM_KEYPOINTS},h,w)), got outputs "
            f"{', '.join(map(str, outputs))}; name another file"
        )
    return check_kind(asked, found, file)


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
    if _name(model.get("type")) == "TopdownPoseEstimator":
        return "topdown"
    raise ModelError(
        f"{config.filename}: expected an RTMO or a top-down heatmap network, got "
        f"{_name(model.get('type'))} with {head or 'no head'}"
    )


def _name(kind: Any) -> str:
    """Return the name of a registered class, "" for None: ``mmpose.RTMOHead`` is RTMOHead."""
    return "" if kind is None else getattr(kind, "__name__", str(kind)).rpartition(".")[2]
