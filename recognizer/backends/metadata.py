"""Metadata of a pose network that this program wrote: ONNX metadata, key ``recognizer``.

``deploy.export`` writes it, an engine hands it on, and a network that torch runs has the same. So
every backend knows what is fixed inside the network, and a config that asks for something else is
refused, not half obeyed. Files that others made have no such text and are taken as they are.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Annotated, ClassVar

from pydantic import ConfigDict, Field, FiniteFloat, TypeAdapter, ValidationError

from recognizer.backends.network import ModelError
from recognizer.config.models import (
    OnnxPoseConfig,
    PoseEstimationConfig,
    TensorRTPoseConfig,
    TorchPoseConfig,
)
from recognizer.config.problems import first_problem, json_kind
from recognizer.config.types import Detections, PoseKind, Side, Unit
from recognizer.installation import COMMAND
from recognizer.storage.artifacts import METADATA_KEY

SCHEMA, SCHEMA_VERSION = "recognizer.pose", 1
PoseConfig = OnnxPoseConfig | TorchPoseConfig | TensorRTPoseConfig
_MAX_TEXT = 2**16
_EXPORT = f"{COMMAND} --mode deploy.export --set deploy.model=pose"
_SAME = 1e-6
Rgb = tuple[FiniteFloat, FiniteFloat, FiniteFloat]


@dataclass(frozen=True, slots=True)
class Thresholds:
    """What non-maximum suppression inside an RTMO file does; as in the config's blocks."""

    score_threshold: Unit
    nms_threshold: Unit
    max_detections: Detections


@dataclass(frozen=True, slots=True)
class PoseModelMetadata:
    """Metadata in a pose network's file.

    Attributes:
        kind: ``rtmo`` (images in, people out) or ``topdown`` (crops in, heatmaps out).
        input_size: width and height, pixels; of an RTMO file of free size, the trained ones.
        layout: ``NCHW float32`` or ``NHWC uint8``.
        normalised_inside: whether pixels go in as they are, BGR 0-255, and not normalised RGB.
        mean_rgb, std_rgb: what the network's training subtracted and divided by.
        thresholds: fixed inside; None for top-down networks.
        precision: fp32, fp16, bf16 or int8, of the layers.
        opset: of ONNX; None where torch runs it.
        config: name of mmpose's config.
        checkpoint: name of the weights' file.
        checkpoint_sha256: its digest.
        created_by: version that made it.
        follows_picture: whether the input is as small as the picture allows, sides multiples of
            32; ``input_size`` is then the largest.

    """

    __pydantic_config__: ClassVar = ConfigDict(extra="forbid")

    kind: PoseKind
    input_size: tuple[Side, Side]
    layout: str
    normalised_inside: bool
    mean_rgb: Rgb
    std_rgb: Rgb
    thresholds: Thresholds | None
    precision: Annotated[str, Field(pattern="^(fp32|fp16|bf16|int8)$")]
    opset: int | None
    config: str
    checkpoint: str
    checkpoint_sha256: str
    created_by: str
    follows_picture: bool = False

    def to_text(self) -> str:
        """Return the text that is put into metadata; equal metadata give equal texts."""
        values = {"schema": SCHEMA, "schema_version": SCHEMA_VERSION, **asdict(self)}
        return json.dumps(values, sort_keys=True)

    @classmethod
    def of(cls, metadata: Mapping[str, str]) -> "PoseModelMetadata | None":
        """Read a network's metadata; None for a file that this program did not write.

        Raises:
            ModelError: a text that is damaged, of a later version, or of another kind of network.

        """
        text = metadata.get(METADATA_KEY)
        if text is None:
            return None
        try:
            if len(text) > _MAX_TEXT:
                raise ValueError("too long")
            values = json.loads(text)
            if not isinstance(values, dict):
                raise ValueError(f"expected an object, got {json_kind(values)}")
            # Classifiers keep other metadata under the same key.
            schema = (values.pop("schema", None), values.pop("schema_version", None))
            if schema != (SCHEMA, SCHEMA_VERSION):
                raise ValueError(f"got {_shown(schema[0])} {_shown(schema[1])}")
            found = _ADAPTER.validate_python(values)
            if (found.thresholds is None) == (found.kind == "rtmo"):
                raise ValueError(
                    "thresholds: expected an object for kind rtmo, null for the others, got "
                    f"{json_kind(values['thresholds'])} for kind {found.kind}"
                )
        except (ValueError, RecursionError) as error:
            raise ModelError(
                f"metadata '{METADATA_KEY}': expected the metadata of a pose network ({SCHEMA} "
                f"{SCHEMA_VERSION}): {reason_of(error)}; write the file again with `{_EXPORT}`"
            ) from error
        return found


_ADAPTER = TypeAdapter(PoseModelMetadata)


def reason_of(error: Exception) -> str:
    """Return the reason of an error in one line; of pydantic's the first one, with its key."""
    if isinstance(error, ValidationError):
        return first_problem(error)
    return "nested too deep" if isinstance(error, RecursionError) else str(error)


def _shown(value: object) -> str:
    return "no schema" if value is None else f"{value!r:.80}"


def check(metadata: PoseModelMetadata | None, settings: PoseEstimationConfig) -> None:
    """Refuse a config that asks for what the network cannot do any more.

    Args:
        metadata: of the network that the config names; None: unknown, nothing is refused.
        settings: the config's section.

    Raises:
        ModelError: another kind of network, thresholds that the ones inside have cut off already,
            or another normalisation.

    """
    if metadata is None:
        return
    if metadata.kind != settings.kind:
        raise ModelError(
            f"models.pose_estimation.kind: it says {settings.kind}, the network is one for "
            f"{metadata.kind}; --set models.pose_estimation.kind={metadata.kind}"
        )
    if metadata.thresholds is not None:
        mode = settings.inference_mode
        section = getattr(settings.for_kind(metadata.kind), mode)
        _check_thresholds(metadata.thresholds, section, mode)
    if not metadata.normalised_inside:
        for name in ("mean_rgb", "std_rgb"):
            asked, trained = getattr(settings.topdown, name), getattr(metadata, name)
            if max(abs(a - b) for a, b in zip(asked, trained, strict=True)) > _SAME * 255:
                raise ModelError(
                    f"models.pose_estimation.topdown.{name}: the network was trained with "
                    f"{list(trained)}, the config says {list(asked)}"
                )


def _check_thresholds(inside: Thresholds, section: PoseConfig, mode: str) -> None:
    key = f"models.pose_estimation.{mode}"
    asked = {name: getattr(section, name) for name in ("score_threshold", "nms_threshold")}
    wrong = None
    if abs(asked["nms_threshold"] - inside.nms_threshold) > _SAME:
        wrong = "nms_threshold", asked["nms_threshold"], f"{inside.nms_threshold:g}"
    elif asked["score_threshold"] < inside.score_threshold - _SAME:
        wrong = "score_threshold", asked["score_threshold"], f"{inside.score_threshold:g} or more"
    elif section.max_detections > inside.max_detections:
        wrong = "max_detections", section.max_detections, f"{inside.max_detections} or less"
    if wrong is not None:
        name, value, fits = wrong
        raise ModelError(
            f"{key}.{name}: suppression is inside this file, and with {value:g} it would have to "
            f"be another: set {name}: {fits}, or write the file again with `{_EXPORT} --set "
            f"models.pose_estimation.onnx.{name}={value:g}`"
        )
