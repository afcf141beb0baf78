"""Tracks to measure: a folder of stage 2, given or made from samples/."""

from pathlib import Path

from benchmarks._command import ROOT
from recognizer.config.file import ConfigError, load_config
from recognizer.runs.manifest import read_manifest, result_path
from recognizer.runs.progress import on_console
from recognizer.runs.stage2 import run_stage2
from recognizer.storage.artifacts import read_poses

SAMPLES = ROOT / "samples"


def tracked_samples(name: str, config_file: Path, out: Path) -> Path:
    """Track the poses of samples/<name> and return stage 2's folder below ``out``."""
    overrides = [
        f"annotation.stage1_dir={SAMPLES / name}",
        f"annotation.dataset={name}",
        f"annotation.output_dir={out}",
    ]
    return run_stage2(load_config(config_file, overrides), on_console)


def tracked_videos(folder: Path) -> list[str]:
    """Return the videos of a stage 2 that have tracks; each of those files can be read.

    Raises:
        ConfigError: the folder of another stage, or one without tracks.
        FileNotFoundError, ArtifactError: a file is missing or damaged.

    """
    manifest = read_manifest(folder)
    if manifest.stage != "stage2":
        raise ConfigError(
            f"expected the folder of a stage 2 (tracks), got one of {manifest.stage}: {folder}; "
            "name the folder that --mode annotation.stage2 writes"
        )
    videos = [o.video for o in manifest.outcomes if o.state != "refused"]
    if not videos:
        raise ConfigError(
            f"expected tracked videos in {folder}, found none ({len(manifest.outcomes)} refused)"
        )
    for video in videos:
        read_poses(result_path(folder, video, ".npz"))
    return videos
