"""Small data sets for the tests of stage 3, and what they all look at."""

import hashlib
import json

import pytest

from recognizer.config.schema import Config
from recognizer.runs import figures
from recognizer.storage.artifacts import atomic_path
from tests.dataset.tracked import sequence, write_stage2


@pytest.fixture
def quick_pictures(monkeypatch):
    """Draw nothing: test_report.py looks at the pictures."""

    def save(final, root, draw):
        with atomic_path(final, root) as scratch:
            scratch.write_bytes(b"a picture")

    monkeypatch.setattr(figures, "save_figure", save)


def clips(count=10, seconds=1.0):
    return {
        f"{name}/{i:02d}.mp4": sequence(seconds + i % 3 / 5, people=1 + i % 3)
        for name in ("Fight", "NonFight")
        for i in range(count)
    }


def config(tmp_path, videos=None, split=None, **dataset):
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


def facts(folder):
    return json.loads((folder / "metadata.json").read_text())


def digests(folder):
    files = [p for p in folder.rglob("*") if p.is_file() and p.name != ".lock"]
    return {
        p.relative_to(folder).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest() for p in files
    }
