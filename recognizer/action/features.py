"""Features: from keypoints to the action network's input, the same offline and online.

The registered transforms (training, tests) and the classifier (live inference) call these
functions, so training and inference use equal features. The order is: choose frames and people,
normalise, join joints to bones, take differences in time. Choosing first and computing after
gives exactly what mmaction2's PreNormalize2D, GenSkeFeat, UniformSampleFrames, PoseDecode and
FormatGCNInput give, which compute everything and choose last.

NumPy only: neither torch nor mm* is needed to classify a clip.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Self

import numpy as np

from recognizer.action.bodyframe import BODY_FEATS, body_input
from recognizer.action.bodyframe import channels as body_channels
from recognizer.action.frames import SAMPLINGS, TEST_SEED, evaluation_frames, needed_frames
from recognizer.skeleton import LEFT_HIP, LEFT_SHOULDER, NUM_KEYPOINTS, RIGHT_HIP, RIGHT_SHOULDER
from recognizer.types import FloatArray, IntArray, Sample

# Joints, bones and their motions: three channels each, (x, y, score).
FEATS = ("j", "b", "jm", "bm")
MOTIONS = {"jm": "j", "bm": "b"}

# The other end of each keypoint's bone. mmaction2 has two skeletons: its bones join the hips to
# the nose ("mmaction", what published bone checkpoints come from), its graph joins them to the
# shoulders ("skeleton").
_TO_NOSE: IntArray = np.array([0, 0, 0, 1, 2, 0, 0, 5, 6, 7, 8, 0, 0, 11, 12, 13, 14], np.int64)
_TO_SHOULDERS = _TO_NOSE.copy()
_TO_SHOULDERS[[LEFT_HIP, RIGHT_HIP]] = LEFT_SHOULDER, RIGHT_SHOULDER
BONES: Mapping[str, IntArray] = {"mmaction": _TO_NOSE, "skeleton": _TO_SHOULDERS}


@dataclass(frozen=True)
class FeatureSettings:
    """How keypoints become the network's input; stored with a trained model.

    Attributes:
        clip_len: frames of the input.
        num_person: people at most, the first ones of a sample.
        normalize: "image": the image's half width and half height are 1, its centre 0, as
            PreNormalize2D does it. "body": body sizes and seconds, see ``bodyframe``.
        feats: streams, joined along the channels: "j", "b", "jm", "bm", 3 channels each; for
            "body" the names of ``bodyframe.BODY_FEATS``.
        sampling: which frames: "uniform" as mmaction2's UniformSampleFrames in test mode,
            "even" as ``even_frames``.
        bones: the bones' other ends, a name of ``BONES``.
        span_s: seconds that a sample lasts; only "body" asks.

    """

    clip_len: int = 100
    num_person: int = 4
    normalize: str = "image"
    feats: tuple[str, ...] = ("b",)
    sampling: str = "uniform"
    bones: str = "mmaction"
    span_s: float = 2.0

    def __post_init__(self) -> None:
        """Raise ValueError for an unknown value, with the known ones."""
        for name in ("clip_len", "num_person"):
            value = getattr(self, name)
            if type(value) is not int or value < 1:
                raise ValueError(f"features: expected {name} to be a number >= 1, got {value!r}")
        for name, known in (
            ("normalize", tuple(_INPUTS)),
            ("sampling", SAMPLINGS),
            ("bones", tuple(BONES)),
        ):
            _refuse_unknown(name, [getattr(self, name)], known)
        if not isinstance(self.feats, tuple):
            raise ValueError(f"features: expected feats to be a tuple, got {self.feats!r}")
        _refuse_unknown("feats", self.feats, tuple(BODY_FEATS) if self._body else FEATS)
        if not self.feats or len(set(self.feats)) < len(self.feats):
            raise ValueError(f"features: expected feats to name each stream once, got {self.feats}")
        if not isinstance(self.span_s, float) or not 0 < self.span_s < math.inf:
            raise ValueError(f"features: expected span_s to be seconds > 0, got {self.span_s!r}")

    @property
    def channels(self) -> int:
        """Return the number of channels of the input."""
        return body_channels(self.feats) if self._body else 3 * len(self.feats)

    @property
    def _body(self) -> bool:
        return self.normalize == "body"

    def to_json(self) -> dict[str, object]:
        """Return the settings as JSON values."""
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in asdict(self).items()
        }

    @classmethod
    def from_json(cls, value: object) -> Self:
        """Read what ``to_json`` wrote.

        Raises:
            ValueError: not a mapping, an unknown key, or a value that is not known.

        """
        if not isinstance(value, Mapping):
            raise ValueError(f"features: expected a mapping, got {value!r}")
        _refuse_unknown("settings", list(value), tuple(field.name for field in fields(cls)))
        values: dict[str, Any] = {
            key: tuple(v) if isinstance(v, list) else v for key, v in value.items()
        }
        return cls(**values)


def _refuse_unknown(name: str, values: Sequence[object], known: tuple[str, ...]) -> None:
    wrong = [value for value in values if value not in known]
    if wrong:
        names = ", ".join(repr(k) for k in known) or "none"
        raise ValueError(f"features: unknown {name} {wrong[0]!r}; known: {names}")


# --- the whole way -----------------------------------------------------------------


def network_input(sample: Sample, settings: FeatureSettings, part: float = 1.0) -> FloatArray:
    """Return the network's input of a sample's people: (P, clip_len, 17, C) float32.

    P is at most ``num_person``. A person whose input is all zeros is
    left out: to the network, that is an empty slot. In "image" mode a missing point is not
    zeros but (-1, -1) with score 0, as PreNormalize2D makes it; so with joints, a person
    seen only between the chosen frames stays in, and with bones, whose zeros cancel, does
    not: mmaction2's pipeline shows the network the same.

    Args:
        sample: the people.
        settings: what the network takes.
        part: how long the sample lasts, of ``span_s``, as for a view at another speed.

    Raises:
        ValueError: a sample without frames, or of a picture without pixels.

    """
    if sample.keypoints.shape[1] == 0 or min(sample.size_wh) < 1:
        raise ValueError(
            f"{sample.name}: expected a clip of at least one frame, got "
            f"{sample.keypoints.shape[1]}, of a picture of at least one pixel, got {sample.size_wh}"
        )
    lasting = settings if part == 1 else replace(settings, span_s=settings.span_s * part)
    everyone = _INPUTS[settings.normalize](sample, lasting)
    present: FloatArray = everyone[everyone.any(axis=(1, 2, 3))]
    return present


def _image_input(sample: Sample, settings: FeatureSettings) -> FloatArray:
    keypoints, scores = sample.keypoints[: settings.num_person], sample.keypoint_scores
    frames = evaluation_frames(keypoints.shape[1], settings.clip_len, settings.sampling)
    rows, at = needed_frames(
        frames, keypoints.shape[1], motion=bool(MOTIONS.keys() & settings.feats)
    )
    points = normalize_image(keypoints[:, rows], sample.size_wh)
    scores = scores[: settings.num_person, rows]
    return skeleton_features(points, scores, at, settings.feats, BONES[settings.bones])


def _body_input(sample: Sample, settings: FeatureSettings) -> FloatArray:
    return body_input(
        sample.keypoints[: settings.num_person],
        sample.keypoint_scores[: settings.num_person],
        (settings.clip_len, settings.feats, settings.span_s),
        BONES[settings.bones],
    )


# What ``normalize`` may be, and who makes the input then; all people, absent ones too.
_INPUTS: Mapping[str, Callable[[Sample, FeatureSettings], FloatArray]] = {
    "image": _image_input,
    "body": _body_input,
}


# --- normalisation -----------------------------------------------------------------


def normalize_image(keypoints: FloatArray, size_wh: tuple[int, int]) -> FloatArray:
    """Return keypoints (..., 2) in half widths and half heights from the image's centre."""
    out = np.empty_like(keypoints)
    for axis, size in enumerate(size_wh):  # an axis at a time: three times faster than pairs
        half = np.float32(size) / np.float32(2)
        plane = keypoints[..., axis] - half
        np.divide(plane, half, out=out[..., axis])
    return out


# --- streams -----------------------------------------------------------------------


def skeleton_features(
    points: FloatArray,
    scores: FloatArray,
    at: IntArray,
    feats: Sequence[str],
    parents: IntArray,
    slots: int = 0,
) -> FloatArray:
    """Return the streams at the chosen frames, (max(P, slots), L, 17, 3 * len(feats)) float32.

    Args:
        points: (P, N, 17, 2) normalised keypoints of the needed frames.
        scores: (P, N, 17).
        at: (L,) the chosen frames' rows in N; see ``needed_frames``.
        feats: names of ``FEATS``.
        parents: (17,) the bones' other ends, from ``BONES``.
        slots: people at least; zeros where there are fewer.

    """
    people, rows = points.shape[:2]
    if len(at) < rows and not MOTIONS.keys() & feats:  # no other frame is needed
        points, scores, rows = points.take(at, axis=1), scores.take(at, axis=1), len(at)
        at = np.arange(rows, dtype=np.int64)
    # One plane per channel: NumPy is slow on rows of two or three numbers.
    joints = np.stack([points[..., 0], points[..., 1], scores])
    streams = {"j": joints}
    streams["b"] = bones(joints, parents) if {"b", "bm"} & set(feats) else joints
    full = np.empty((people, rows, NUM_KEYPOINTS, 3 * len(feats)), np.float32)
    for i, feat in enumerate(feats):
        stream = motion(streams[MOTIONS[feat]]) if feat in MOTIONS else streams[feat]
        for c, plane in enumerate(stream):
            full[..., 3 * i + c] = plane
    out = np.empty((max(people, slots), len(at), *full.shape[2:]), np.float32)
    np.take(full, at, axis=1, out=out[:people], mode="clip")  # "raise" would copy once more
    out[people:] = 0
    return out


def bones(joints: FloatArray, parents: IntArray) -> FloatArray:
    """Return each joint's vector from its parent and the mean of both scores.

    (3, ..., 17) -> the same shape: planes of x, y and score.
    """
    other = joints.take(parents, axis=-1)
    out: FloatArray = joints - other
    out[2] = _means(joints[2], other[2])
    return out


def motion(stream: FloatArray) -> FloatArray:
    """Return the step from each frame to the next and the mean of both scores.

    (3, P, N, 17) -> the same shape; zeros at the last frame, from which there is no step.
    """
    out = np.zeros_like(stream)
    np.subtract(stream[:, :, 1:], stream[:, :, :-1], out=out[:, :, :-1])
    out[2, :, :-1] = _means(stream[2, :, :-1], stream[2, :, 1:])
    return out


def _means(a: FloatArray, b: FloatArray) -> FloatArray:
    total: FloatArray = a + b
    total /= 2
    return total


# --- settings from a config --------------------------------------------------------

# A test pipeline of mmaction2's steps: what each may set, with the value it must have, or the
# name of the setting that it is. Steps in this order only: another one means another input.
_PLAIN: Mapping[str, Mapping[str, object]] = {
    "PreNormalize2D": {"*": None},  # its argument is for samples without a size
    "GenSkeFeat": {"dataset": ("coco",), "feats": "feats", "axis": (-1,)},
    "UniformSampleFrames": {
        "clip_len": "clip_len",
        "num_clips": (1,),
        "test_mode": (True,),
        "seed": (TEST_SEED,),
    },
    "PoseDecode": {},
    "FormatGCNInput": {"num_person": "num_person", "mode": ("zero",)},
    "PackActionInputs": {"meta_keys": None},
}
# The same of ours, which choose first.
_SAMPLED: Mapping[str, Mapping[str, object]] = {
    "SampleSkeleton": {
        "clip_len": "clip_len",
        "num_person": "num_person",
        "num_clips": (1,),
        "sampling": "sampling",
        "test_mode": (True,),
    },
    "SkeletonInput": {"feats": "feats", "normalize": "normalize", "bones": "bones"},
    "PackActionInputs": {"meta_keys": None},
}
# One step for everything.
_BODY: Mapping[str, Mapping[str, object]] = {
    "BodyInput": {
        "clip_len": "clip_len",
        "num_person": "num_person",
        "feats": "feats",
        "span_s": "span_s",
        "bones": "bones",
    },
    "PackActionInputs": {"meta_keys": None},
}
# Defaults of mmaction2's arguments that differ from ``FeatureSettings``' or must be changed.
_DEFAULTS: Mapping[str, object] = {
    "GenSkeFeat.feats": ("j",),
    "GenSkeFeat.dataset": "nturgb+d",
    "FormatGCNInput.num_person": 2,
    "BodyInput.num_person": 2,
    "UniformSampleFrames.test_mode": False,
    "SampleSkeleton.test_mode": False,
}


def from_pipeline(steps: Sequence[Mapping[str, Any]]) -> FeatureSettings:
    """Read a config's test pipeline, of mmaction2's steps or of ours.

    Raises:
        ValueError: an unknown step, steps in another order, or an argument that inference
            does not reproduce; named.

    """
    names = [str(step.get("type")).removeprefix("mmaction.") for step in steps]
    layout = _PLAIN
    settings: dict[str, Any] = {}
    if "SampleSkeleton" in names:
        layout = _SAMPLED
    elif "BodyInput" in names:
        layout = _BODY
        settings = {"normalize": "body", "sampling": "even"}
    for name in names:
        if name not in layout:
            raise ValueError(
                f"test pipeline: inference does not know the step {name!r}; known, in this "
                f"order: {', '.join(layout)}"
            )
    if names != list(layout):
        raise ValueError(f"test pipeline: expected {', '.join(layout)}; got {', '.join(names)}")
    for name, step in zip(names, steps, strict=True):
        settings.update(_read_step(name, step, layout[name]))
    return FeatureSettings(**settings)


def _read_step(
    name: str, step: Mapping[str, object], known: Mapping[str, object]
) -> dict[str, object]:
    given = {key: value for key, value in step.items() if key != "type"}
    for key in known:
        if f"{name}.{key}" in _DEFAULTS:
            given.setdefault(key, _DEFAULTS[f"{name}.{key}"])
    settings = {}
    for key, value in given.items():
        if key not in known and "*" not in known:
            raise ValueError(f"test pipeline: inference does not know {key!r} of {name}")
        target = known.get(key)
        if isinstance(target, tuple) and value not in target:
            raise ValueError(
                f"test pipeline: expected {key}={target[0]!r} in {name}, got {value!r}; "
                "inference does it so only"
            )
        if isinstance(target, str):
            settings[target] = tuple(value) if isinstance(value, list | tuple) else value
    return settings
