"""Where everything stands on disk, and the end state of every input.

``output/<dataset>/stage1_poses/<name>-<digest>/<path of the video>.npz`` and so on. The
digest covers only what the stage reads, so that changing the tracker never runs pose
estimation again. A ``manifest.json`` in each stage's folder gives each input exactly one
end state; it holds no times and no machine, so that equal work gives equal bytes.
"""

import hashlib
import json
import logging
from pathlib import Path
from typing import Any

from recognizer.backends.onnx_files import model_digest
from recognizer.config.file import ConfigError
from recognizer.config.models import PoseEstimationConfig
from recognizer.config.schema import Config
from recognizer.model_files import find_model_file
from recognizer.openmmlab import find_pose_config, read_pose_config
from recognizer.pose.selection import TURNED_REVISION
from recognizer.pose.settings import pose_settings, tracking_settings
from recognizer.runs.manifest import MANIFEST, Manifest, read_manifest
from recognizer.storage.artifacts import (
    sha256_file,
    short_digest,
)

logger = logging.getLogger(__name__)

_MAX_NAME_BYTES = 255


# --- the folder of each stage ------------------------------------------------------


def dataset_dir(config: Config) -> Path:
    """Return the folder of the data set's results."""
    return config.annotation.output_dir / config.annotation.dataset


def pose_model_files(config: Config) -> dict[str, Path]:
    """Return the files of the pose model by role (``detector``, ``pose``, mmpose's ``config``)."""
    pose, folders = config.models.pose_estimation, config.models.weights_dirs
    key = f"models.pose_estimation.{pose.inference_mode}"
    if pose.inference_mode == "pth":
        files = {
            "config": _pose_config(pose.pth.config_file),
            "pose": find_model_file(pose.pth.checkpoint_path, folders, f"{key}.checkpoint_path"),
        }
    else:
        name = getattr(pose, pose.inference_mode).model_path
        files = {"pose": find_model_file(name, folders, f"{key}.model_path")}
    if pose_settings(config, files).kind == "topdown":
        detector_key = "models.pose_estimation.topdown.detector.model_path"
        try:
            files["detector"] = find_model_file(
                pose.topdown.detector.model_path, folders, detector_key
            )
        except ConfigError as error:
            raise ConfigError(
                f"{files['pose']} sees one person at a time (kind: topdown) and needs a person "
                f"detector.\n{error}"
            ) from error
    return files


def _pose_config(name: str) -> Path:
    try:
        return find_pose_config(name)
    except FileNotFoundError as error:
        raise ConfigError(str(error)) from error


# What changes the speed, not the poses: left out of the digest.
_EXECUTION_KEYS = {
    "device",
    "threads",
    "allow_spinning",
    "execution_mode",
    "graph_optimization_level",
    "enable_mem_pattern",
    "enable_cpu_mem_arena",
    "gpu_mem_limit_gb",
    "arena_extend_strategy",
    "tunable_op_enable",
    "tunable_op_tuning_enable",
    "cudnn_conv_algo_search",
    "model_path",
    "checkpoint_path",
    "config_file",
    "min_batch",
    "opt_batch",
    "max_batch",
    "workspace_gb",
    "optimization_level",
    "engine_dir",
    "timing_cache",
    "trust_model_path",
    "pinned_memory",
    "static_batch",
    "cuda_graph",
    "channels_last",
    "provider",
    "tensorrt_cache_dir",
}
# Younger than results that are kept: counted only where it is not what those had.
_UNLESS = (("openvino_precision", "f32"), ("uint8_input", False))


def stage1_settings(config: Config) -> dict[str, Any]:
    """Return all that decides the poses: the network files' content and how they are read."""
    files = pose_model_files(config)
    pose = pose_settings(config, files)
    turned = pose.kind == "topdown" and pose.topdown.turned
    return {
        "pose": _pose_settings(pose),
        "sample_fps": config.annotation.sample_fps,
        **({"movement": True} if config.annotation.movement else {}),  # older results have none
        **({"turned_revision": TURNED_REVISION} if turned else {}),
        "models": {
            role: {"file": path.name, "sha256": _digest(role, path)}
            for role, path in sorted(files.items())
        },
    }


def _digest(role: str, path: Path) -> str:
    """Return the SHA-256 of a network; of a config what it comes to, its bases included."""
    if role != "config":
        return model_digest(path)
    config = read_pose_config(path)
    decides = {key: config.get(key) for key in ("model", "codec")}
    return hashlib.sha256(json.dumps(decides, sort_keys=True, default=str).encode()).hexdigest()


def _pose_settings(pose: PoseEstimationConfig) -> dict[str, Any]:
    dumped = pose.model_dump(mode="json", include={"kind", "inference_mode", pose.inference_mode})
    if pose.kind == "topdown":
        dumped["topdown"] = pose.topdown.model_dump(mode="json")
    return _without(dumped, _EXECUTION_KEYS)


def _without(value: dict[str, Any], names: set[str]) -> dict[str, Any]:
    return {
        key: _without(item, names) if isinstance(item, dict) else item
        for key, item in value.items()
        if key not in names and (key, item) not in _UNLESS
    }


def stage1_dir(config: Config) -> Path:
    """Return the folder of the poses, ``annotation.stage1_dir`` if that is set."""
    if config.annotation.stage1_dir is not None:
        return config.annotation.stage1_dir
    try:
        settings = stage1_settings(config)
    except ConfigError as error:
        return _only_poses(config, error)
    stems = "+".join(Path(m["file"]).stem[:40] for m in settings["models"].values())
    return dataset_dir(config) / "stage1_poses" / f"{stems}-{short_digest(settings)}"


def _only_poses(config: Config, error: ConfigError) -> Path:
    """Return the one folder of finished poses there is; they need no model file any more."""
    folders = sorted((dataset_dir(config) / "stage1_poses").glob(f"*/{MANIFEST}"))
    if len(folders) == 1:
        return folders[0].parent
    raise ConfigError(
        f"{error}\nTo go on from finished poses without it, --set annotation.stage1_dir=<folder>"
    ) from error


def stage2_settings(config: Config, stage1: Manifest) -> dict[str, Any]:
    """Return all that decides the tracks: the poses' settings, the tracker, the scorers."""
    return {
        "stage1": stage1.settings,
        "tracking": tracking_settings(config, stage1.settings).model_dump(mode="json"),
        "scoring": config.scoring.model_dump(mode="json"),
    }


def stage2_dir(config: Config) -> Path:
    """Return the folder of the tracks, ``annotation.stage2_dir`` if that is set."""
    if config.annotation.stage2_dir is not None:
        return config.annotation.stage2_dir
    settings = stage2_settings(config, read_manifest(stage1_dir(config)))
    return dataset_dir(config) / "stage2_tracking" / f"bytetrack-{short_digest(settings)}"


def stage3_settings(config: Config, stage2: Manifest) -> dict[str, Any]:
    """Return all that decides the pickles; files the config names count by content."""
    dataset = config.dataset.model_dump(mode="json")
    segments, sources = config.dataset.segments, config.dataset.split.sources
    dataset["segments"] = sha256_file(_existing(segments, "segments")) if segments else None
    dataset["split"]["sources"] = (
        sha256_file(_existing(sources, "split.sources")) if sources else None
    )
    if config.dataset.negatives:
        manifests = map(negatives_manifest, config.dataset.negatives)
        dataset["negatives"] = [sha256_file(path) for path in manifests]
    else:  # older results know neither
        del dataset["negatives"], dataset["negatives_s"]
    selected = {"include": config.annotation.include} if config.annotation.include else {}
    return {"stage2": stage2.settings, "dataset": dataset, **selected}


def _existing(path: Path, key: str) -> Path:
    if not path.is_file():
        raise ConfigError(f"dataset.{key}: expected a CSV file, found none at {path}")
    return path


def negatives_manifest(negatives: Path) -> Path:
    """Return the manifest of a folder of ``dataset.negatives``; ConfigError if there is none."""
    path = negatives / MANIFEST
    try:
        path.open("rb").close()
    except (OSError, ValueError) as error:  # of another user, or a name that is too long
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise ConfigError(
            f"dataset.negatives: expected the folder of a finished stage 2, found no {MANIFEST} in "
            f"{str(negatives)[:_MAX_NAME_BYTES]} ({reason}); run --mode annotation.stage2 on that "
            "footage first"
        ) from error
    return path


def stage3_dir(config: Config) -> Path:
    """Return the folder of the pickles."""
    settings = stage3_settings(config, read_manifest(stage2_dir(config)))
    window = config.dataset.window_s
    kind = "clips" if window is None else f"{window:g}s"
    name = f"{config.dataset.service}-{kind}-{short_digest(settings)}"
    return dataset_dir(config) / "stage3_dataset" / name


# --- one run at a time, and its manifest -------------------------------------------


"""Called with (an input's end state or None, frames since the last call)."""
