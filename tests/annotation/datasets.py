"""Small data sets for the tests of stage 3, and what they all look at."""

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from recognizer.config.schema import Config
from recognizer.dataset.mmaction import read_split
from recognizer.runs import figures
from recognizer.storage.artifacts import atomic_path
from recognizer.types import PoseSequence, Sample
from tests.dataset.tracked import sequence, write_stage2


@pytest.fixture
def quick_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Draw nothing: test_report.py looks at the pictures."""

    def save(final: Path, root: Path, draw: Callable[[Any], None]) -> None:
        with atomic_path(final, root) as scratch:
            scratch.write_bytes(b"a picture")

    monkeypatch.setattr(figures, "save_figure", save)


def clips(count: int = 10, seconds: float = 1.0) -> dict[str, PoseSequence]:
    return {
        f"{name}/{i:02d}.mp4": sequence(seconds + i % 3 / 5, people=1 + i % 3)
        for name in ("Fight", "NonFight")
        for i in range(count)
    }


def config(
    tmp_path: Path,
    videos: Mapping[str, PoseSequence] | None = None,
    split: Mapping[str, Any] | None = None,
    **dataset: Any,
) -> Config:
    if videos is not None:
        write_stage2(tmp_path / "stage2", videos)
    return Config.model_validate(
        {
            "annotation": {
                "output_dir": str(tmp_path / "output"),
                "stage2_dir": str(tmp_path / "stage2"),
            },
            "dataset": {**dataset, "split": split or {}},
        }
    )


def read_metadata(folder: Path) -> dict[str, Any]:
    metadata: dict[str, Any] = json.loads((folder / "metadata.json").read_text())
    return metadata


def digests(folder: Path) -> dict[str, str]:
    files = [p for p in folder.rglob("*") if p.is_file() and p.name != ".lock"]
    return {
        p.relative_to(folder).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest() for p in files
    }


def all_samples(folder: Path) -> dict[str, Sample]:
    """Return the samples of all splits by name."""
    splits = ("train", "val", "test")
    return {s.name: s for split in splits for s in read_split(folder / f"{split}.pkl")}
