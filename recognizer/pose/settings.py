"""Settings that depend on the kind of pose network: its own, and the tracker's."""

from collections.abc import Mapping
from pathlib import Path
from typing import get_args

from recognizer.backends.network import ModelError
from recognizer.backends.pose_kind import read_kind
from recognizer.config.file import ConfigError
from recognizer.config.models import PoseEstimationConfig
from recognizer.config.schema import Config, TrackingConfig
from recognizer.config.types import PoseKind
from recognizer.pose.selection import NEW_PERSON_MARGIN

_ROUNDING = 1e-6


def pose_settings(config: Config, files: Mapping[str, Path]) -> PoseEstimationConfig:
    """Return ``models.pose_estimation`` for the kind of network that its file holds.

    Args:
        config: the whole config.
        files: where the ``pose`` network and, for ``pth``, mmpose's ``config`` are.

    Raises:
        ConfigError: a file of neither kind, or of another kind than ``kind`` says; a ``sure_score``
            that leaves out people whom the tracker would use.

    """
    pose = config.models.pose_estimation
    try:
        kind = read_kind(pose, files)
    except ModelError as error:
        raise ConfigError(str(error)) from error
    if kind == "topdown":
        tracking = tracking_settings(config, {"pose": {"kind": kind}})
        if wrong := people_left_out(pose.topdown.model_dump(), tracking):
            raise ConfigError(
                f"models.pose_estimation.topdown.{wrong}; set it lower, or selective to false"
            )
    return pose.for_kind(kind)


def people_left_out(topdown: object, tracking: TrackingConfig) -> str:
    """Return the fault where people usable for the tracker get no pose, "" if there is none.

    Args:
        topdown: the section of that name that the poses are made with; anything else is valid.
        tracking: the tracker's section, without nulls.

    """
    if not isinstance(topdown, Mapping) or topdown.get("selective") is not True:
        return ""
    sure = topdown.get("sure_score")
    new_track = tracking.new_track_thresh or 0.0
    limits = {
        "tracking.track_high_thresh": tracking.track_high_thresh or 0.0,
        f"tracking.new_track_thresh less {NEW_PERSON_MARGIN:g}": new_track - NEW_PERSON_MARGIN,
    }
    name = min(limits, key=limits.__getitem__)
    if not isinstance(sure, float) or sure <= limits[name] + _ROUNDING:
        return ""
    return (
        f"sure_score: expected at most {name} ({limits[name]:g}), got {sure:g}: people scored in "
        "between get no pose"
    )


def tracking_settings(config: Config, stage1: Mapping[str, object]) -> TrackingConfig:
    """Return ``tracking`` for the kind of network that the poses come from.

    Args:
        config: the whole config.
        stage1: the settings in the manifest of the poses.

    Raises:
        ConfigError: poses that do not say it, or thresholds that contradict each other.

    """
    section = config.tracking
    pose = stage1.get("pose")
    named = pose.get("kind") if isinstance(pose, dict) else None
    kind: PoseKind | None = next((one for one in get_args(PoseKind) if one == named), None)
    if kind is None:
        if None not in (section.track_high_thresh, section.new_track_thresh, section.fuse_score):
            return section
        raise ConfigError(
            "tracking: these poses do not say which kind of network they come from, got "
            f"{named!r}; set tracking.track_high_thresh, tracking.new_track_thresh and "
            "tracking.fuse_score"
        )
    try:
        return section.for_kind(kind)
    except ValueError as error:
        raise ConfigError(str(error)) from error
