"""Tracks of made-up people and data sets of them, so that a case takes no time."""

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from recognizer.config.schema import Config
from recognizer.runs.manifest import Manifest, Outcome, result_path, write_manifest
from recognizer.storage.artifacts import write_poses
from tests.dataset.tracked import sequence

SETTINGS = {"stage1": {"models": {"pose": {"file": "x.onnx", "sha256": "00"}}}}
CLIPS = {f"{name}/{i}.mp4": 1.0 for name in ("Fight", "NonFight") for i in range(4)}
FALLS = {"a/0.mp4": 4.0, "a/1.mp4": 3.0}


def stage2(
    folder: Path,
    videos: Mapping[str, float],
    contents: Iterable[tuple[str, str]] | Mapping[str, str] = (),
    hashes: Mapping[str, Mapping[str, NDArray[Any]]] | tuple[()] = (),
    settings: dict[str, Any] = SETTINGS,
) -> Path:
    """Write tracks: ``videos`` maps names to seconds; contents and hashes (K,) of some of them."""
    outcomes = []
    for video, seconds in videos.items():
        own = hashlib.sha256(f"{folder.name}/{video}".encode()).hexdigest()
        meta = {"video": video, "source": {"sha256": dict(contents).get(video, own)}}
        made = sequence(seconds, people=2)
        extra = dict(hashes).get(video, {})
        write_poses(result_path(folder, video, ".npz"), folder, made, meta, extra)
        outcomes.append(Outcome(video, "done", frames=len(made)))
    write_manifest(folder, Manifest("stage2", settings, tuple(outcomes)))
    return folder


def config(
    tmp_path: Path,
    negatives: Iterable[Path],
    clips: Path | None = None,
    split: Mapping[str, Any] | None = None,
    **dataset: Any,
) -> Config:
    clips = clips or stage2(tmp_path / "clips", CLIPS)
    return Config.model_validate(
        {
            "annotation": {"output_dir": str(tmp_path / "output"), "stage2_dir": str(clips)},
            "dataset": {"negatives": [str(n) for n in negatives], "split": split or {}, **dataset},
        }
    )
