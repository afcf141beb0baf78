"""The folder of each stage, and the settings whose digest names it.

    stage  settings -> digest   folder below ``output/<dataset>/``
    1      stage1_settings      stage1_dir: stage1_poses/<model files>-<digest>
    2      stage2_settings      stage2_dir: stage2_tracking/bytetrack-<digest>
    3      stage3_settings      stage3_dir: stage3_dataset/<service>-<window>-<digest>

Settings are what a stage reads and those of the stages before it, so that another tracker never
runs pose estimation again. Each folder's ``manifest.json`` holds its settings in full.
"""

import hashlib
import json
from pathlib import Path

from recognizer.backends.onnx_files import model_digest
from recognizer.config.file import ConfigError
from recognizer.config.models import PoseEstimationConfig
from recognizer.config.schema import Config
from recognizer.model_files import find_model_file
from recognizer.openmmlab import find_pose_config, read_pose_config
from recognizer.pose.settings import pose_settings, tracking_settings
from recognizer.pose.turned import TURNED_REVISION
from recognizer.runs.manifest import MANIFEST, Manifest, Settings
from recognizer.runs.progress import ProgressFactory, silent
from recognizer.runs.shards import shard_of
from recognizer.runs.stage_fetch import fetch_stage
from recognizer.runs.stage_run import read_stage
from recognizer.storage.artifacts import sha256_file, short_digest

LABELS, SOURCES = "labels.csv", "sources.csv"  # beside the tracks of a folder of dataset.also
_MAX_NAME_BYTES = 255


def dataset_dir(config: Config) -> Path:
    """Return the folder of the data set's results. ConfigError if it is no folder."""
    output = config.annotation.output_dir
    return local_place(output, "annotation.output_dir") / config.annotation.dataset


def local_place(place: Path | str, key: str) -> Path:
    """Return a place that must be a folder, for modes other than stages 1 and 2.

    Args:
        place: the folder, or as text an address of object storage.
        key: of the config, for the message.

    Raises:
        ConfigError: it is an address.

    """
    if isinstance(place, Path):
        return place
    raise ConfigError(
        f"{key}: expected a local folder for this mode, got {place}; modes annotation.stage1 and "
        "annotation.stage2 write to object storage. Go on from their tracks by --set "
        "annotation.output_dir=<folder> --set annotation.stage2_dir=<address of the tracks> with "
        "--mode annotation.stage3, which fetches them"
    )


def _dataset_place(config: Config) -> Path | str:
    output, dataset = config.annotation.output_dir, config.annotation.dataset
    return output / dataset if isinstance(output, Path) else f"{output}/{dataset}"


def _below(place: Path | str, name: str) -> Path | str:
    return place / name if isinstance(place, Path) else f"{place}/{name}"


# --- stage 1: poses ----------------------------------------------------------------


def stage1_dir(config: Config) -> Path:
    """Return the folder of the poses. Raises as ``stage1_place``; ConfigError if it is none."""
    return local_place(stage1_place(config), "annotation: the poses of stage 1")


def stage1_place(config: Config) -> Path | str:
    """Return where the poses are, ``annotation.stage1_dir`` if that is set.

    Without the model files it is the only folder of finished poses, if there is just one.

    Returns:
        A folder, or as text an address of object storage.

    Raises:
        ConfigError: no model file, and no finished poses or several.

    """
    if config.annotation.stage1_dir is not None:
        return config.annotation.stage1_dir
    parent = _below(_dataset_place(config), "stage1_poses")
    try:
        settings = stage1_settings(config)
    except ConfigError as error:
        found = parent.glob("*/manifest*.json") if isinstance(parent, Path) else ()  # or of shards
        finished = {path.parent for path in found}
        if len(finished) == 1:
            return finished.pop()
        raise ConfigError(
            f"{error}\nTo go on from finished poses without it, --set "
            "annotation.stage1_dir=<folder>"
        ) from error
    stems = "+".join(Path(m["file"]).stem[:40] for m in settings["models"].values())
    return _below(parent, f"{stems}-{short_digest(settings)}")


def stage1_settings(config: Config) -> Settings:
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
            role: {"file": path.name, "sha256": _content_digest(role, path)}
            for role, path in sorted(files.items())
        },
    }


# Keys that change the speed and not the poses are left out of the digest.
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
# Younger than finished results, which were made with these values: left out of the digest, too.
_LEFT_OUT_AS_DEFAULT = (
    ("openvino_precision", "f32"),
    ("uint8_input", False),
    ("normalisation", "auto"),
    ("network_input_size", None),
)


def _pose_settings(pose: PoseEstimationConfig) -> Settings:
    dumped = pose.model_dump(mode="json", include={"kind", "inference_mode", pose.inference_mode})
    if pose.kind == "topdown":
        dumped["topdown"] = pose.topdown.model_dump(mode="json")
    return _without_execution_keys(dumped)


def _without_execution_keys(value: Settings) -> Settings:
    return {
        key: _without_execution_keys(item) if isinstance(item, dict) else item
        for key, item in value.items()
        if key not in _EXECUTION_KEYS and (key, item) not in _LEFT_OUT_AS_DEFAULT
    }


def _content_digest(role: str, path: Path) -> str:
    """Return the SHA-256 of a network; of a config that of its effective model and codec."""
    if role != "config":
        return model_digest(path)
    config = read_pose_config(path)
    decides = {key: config.get(key) for key in ("model", "codec")}
    return hashlib.sha256(json.dumps(decides, sort_keys=True, default=str).encode()).hexdigest()


# --- stage 2: tracks ---------------------------------------------------------------


def stage2_dir(config: Config) -> Path:
    """Return the folder of the tracks. Raises as ``stage2_place``; ConfigError if it is none."""
    return local_place(stage2_place(config), "annotation: the tracks of stage 2")


def stage2_place(config: Config) -> Path | str:
    """Return where the tracks are, ``annotation.stage2_dir`` if that is set.

    Returns:
        A folder, or as text an address of object storage.

    """
    if config.annotation.stage2_dir is not None:
        return config.annotation.stage2_dir
    shard = shard_of(config.annotation)
    settings = stage2_settings(config, read_stage(stage1_place(config), "stage1", shard))
    parent = _below(_dataset_place(config), "stage2_tracking")
    return _below(parent, f"bytetrack-{short_digest(settings)}")


def fetched_tracks(config: Config, progress: ProgressFactory = silent) -> Path:
    """Return the folder of the tracks; those in object storage are fetched into one.

    Raises:
        ConfigError: ``annotation.output_dir``, below which they go, is none.
        FileNotFoundError, OSError: as of ``fetch_stage``.

    """
    place = stage2_place(config)
    if isinstance(place, Path):
        return place
    name = f"fetched-{place.rpartition('/')[2][:100]}-{short_digest(place)}"
    return fetch_stage(place, "stage2", dataset_dir(config) / "stage2_tracking" / name, progress)


def stage2_settings(config: Config, stage1: Manifest) -> Settings:
    """Return all that decides the tracks: the poses' settings, the tracker, the scorers."""
    return {
        "stage1": stage1.settings,
        "tracking": tracking_settings(config, stage1.settings).model_dump(mode="json"),
        "scoring": config.scoring.model_dump(mode="json"),
    }


# --- stage 3: pickles --------------------------------------------------------------


def stage3_dir(config: Config, settings: Settings | None = None) -> Path:
    """Return the folder of the pickles; ``settings``: of stage 3, None to read them now."""
    if settings is None:
        settings = stage3_settings(config, read_stage(stage2_place(config), "stage2"))
    window = config.dataset.window_s
    kind = "clips" if window is None else f"{window:g}s"
    name = f"{config.dataset.service}-{kind}-{short_digest(settings)}"
    return dataset_dir(config) / "stage3_dataset" / name


def stage3_settings(config: Config, stage2: Manifest) -> Settings:
    """Return all that decides the pickles; files that the config names count by content."""
    dataset = config.dataset.model_dump(mode="json")
    dataset["segments"] = _table_digest(config.dataset.segments, "segments")
    dataset["split"]["sources"] = _table_digest(config.dataset.split.sources, "split.sources")
    if config.dataset.negatives:
        manifests = map(negatives_manifest, config.dataset.negatives)
        dataset["negatives"] = [sha256_file(path) for path in manifests]
    else:  # older results know neither
        del dataset["negatives"], dataset["negatives_s"]
    if config.dataset.also:
        dataset["also"] = [list(map(sha256_file, also_files(p))) for p in config.dataset.also]
        if config.dataset.window_s is None:
            dataset["also_parts_revision"] = 1  # how long events are cut
    else:
        del dataset["also"]
    selected = {"include": config.annotation.include} if config.annotation.include else {}
    return {"stage2": stage2.settings, "dataset": dataset, **selected}


def _table_digest(path: Path | None, key: str) -> str | None:
    if path is None:
        return None
    if not path.is_file():
        raise ConfigError(f"dataset.{key}: expected a CSV file, found none at {path}")
    return sha256_file(path)


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


def also_files(folder: Path) -> list[Path]:
    """Return manifest, labels and sources of a folder of ``dataset.also``.

    Raises:
        ConfigError: one of them is missing.

    """
    files = [folder / name for name in (MANIFEST, LABELS, SOURCES)]
    for path in files:
        try:
            path.open("rb").close()
        except (OSError, ValueError) as error:  # of another user, or a name that is too long
            reason = error.strerror if isinstance(error, OSError) else str(error)
            raise ConfigError(
                f"dataset.also: expected a folder with {MANIFEST}, {LABELS} and {SOURCES}, as "
                f"--mode annotation.from_reviews writes it, found no {path.name} in "
                f"{str(folder)[:_MAX_NAME_BYTES]} ({reason})"
            ) from error
    return files


# --- model files of the poses -------------------------------------------------------


def pose_model_files(config: Config) -> dict[str, Path]:
    """Return the files of the pose model by role (``detector``, ``pose``, mmpose's ``config``)."""
    pose, folders = config.models.pose_estimation, config.models.folders()
    key = f"models.pose_estimation.{pose.inference_mode}"
    if pose.inference_mode == "pth":
        files = {
            "config": _pose_config(pose.pth.config_file),
            "pose": find_model_file(pose.pth.checkpoint_path, folders, f"{key}.checkpoint_path"),
        }
    else:
        name = getattr(pose, pose.inference_mode).model_path
        files = {"pose": find_model_file(name, folders, f"{key}.model_path")}
    detector_key = "models.pose_estimation.topdown.detector.model_path"
    detector: Path | ConfigError
    try:
        detector = find_model_file(pose.topdown.detector.model_path, folders, detector_key)
    except ConfigError as error:
        detector = error  # RTMO needs none
    # With the detector, a wrong pair is refused by the names of both.
    known = {**files, "detector": detector} if isinstance(detector, Path) else files
    if pose_settings(config, known).kind != "topdown":
        return files
    if isinstance(detector, ConfigError):
        raise ConfigError(
            f"{files['pose']} sees one person at a time (kind: topdown) and needs a person "
            f"detector.\n{detector}"
        ) from detector
    return {**files, "detector": detector}


def _pose_config(name: str) -> Path:
    try:
        return find_pose_config(name)
    except FileNotFoundError as error:
        raise ConfigError(str(error)) from error
