"""A small stage-3 folder of made-up people, and predictions of it."""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from annotation.stage3 import run_stage3
from recognizer.config.file import load_config
from recognizer.config.schema import Config
from recognizer.runs import figures
from recognizer.storage.artifacts import write_text
from recognizer.types import NUM_MOVEMENTS, PoseSequence, TimeArray
from tests.annotation.datasets import config as stage3_config
from tests.dataset.tracked import sequence


def dataset(
    folder: Path, clips: int = 9, sources: int = 6, lost: int = 2, *, moving: bool = False
) -> Path:
    """Make a finished stage 3 with some clips in which nobody was tracked.

    With ``moving``, movement was measured: people in fights move more. In one clip of each class
    it was measured of nobody.
    """
    videos = {
        f"{name}/{i:02d}.mp4": sequence(1.0 + i % 3 / 5, people=1 + i % 3)
        for name in ("Fight", "NonFight")
        for i in range(clips)
    }
    if moving:
        videos = {name: _moved(name, clip) for name, clip in videos.items()}
    videos |= {f"NonFight/lost{i}.mp4": sequence(1.0, people=0) for i in range(lost)}
    folder.mkdir(parents=True, exist_ok=True)
    table = folder / "sources.csv"
    rows = [f"{name},s{i % sources}\n" for i, name in enumerate(sorted(videos))]
    table.write_text("video,source\n" + "".join(rows))
    split = {"sources": str(table), "ratios": [0.5, 0.25, 0.25]}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(figures, "save_figure", _no_picture)
        return run_stage3(stage3_config(folder, videos, split))


def _moved(name: str, clip: PoseSequence) -> PoseSequence:
    random = np.random.default_rng(sum(name.encode()))
    rate = 0.6 if name.startswith("Fight") else 0.3
    rows = random.gamma(4.0, rate / 4, (len(clip.poses), NUM_MOVEMENTS)).astype(np.float32)
    if name.endswith("/00.mp4"):
        rows[:] = np.nan
    return replace(clip, poses=clip.poses.with_movement(rows))


def _no_picture(final: Path, root: Path, draw: Callable[[Any], None]) -> None:
    write_text(final, root, "a picture")


def settings(tmp_path: Path, *sets: str) -> Config:
    """Return the plain config with some keys set."""
    tmp_path.mkdir(parents=True, exist_ok=True)
    path = tmp_path / "config.yaml"
    path.write_text("{}\n")
    return load_config(path, list(sets))


def guesses(labels: Sequence[int], seed: int = 0, skill: float = 1.6) -> TimeArray:
    """Return probabilities (N, 2) that are right more often than not."""
    random = np.random.default_rng(seed)
    logit = random.normal(size=len(labels)) * 1.3 + skill * (2 * np.asarray(labels) - 1)
    one = 1 / (1 + np.exp(-logit))
    return np.stack([1 - one, one], 1)


# Small enough that a training takes seconds on one core.
TINY = [
    "model.backbone.base_channels=8",
    "model.cls_head.in_channels=16",
    "train_cfg.max_epochs=1",
    "param_scheduler.1.begin=0",
    "train_dataloader.batch_size=8",
    "val_dataloader.batch_size=8",
    *(f"{part}_dataloader.dataset.pipeline.2.clip_len=20" for part in ("train", "val", "test")),
]


def small_crossval(tmp_path: Path, stage3: Path, config_file: Path, *more: str) -> Config:
    """Return the settings of a cross-validation that takes seconds; later ones win."""
    return settings(
        tmp_path,
        f"train.dataset_dir={stage3}",
        f"train.cfg_options={json.dumps(TINY)}",
        f"train.config_file={config_file}",
        f"crossval.output_dir={tmp_path / 'out'}",
        "crossval.folds=2",
        "crossval.seeds=[0]",
        "annotation.workers=1",
        "test.bootstrap=100",
        *more,
    )
