"""Tracks of real clips of samples/, and data sets of fights that learn from falls."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from annotation.stage3 import run_stage3
from recognizer.config.schema import Config
from recognizer.runs import figures
from recognizer.runs.stage2 import run_stage2
from recognizer.storage.artifacts import write_text

SAMPLES = Path(__file__).resolve().parents[2] / "samples"
FIGHT = ("fi005", "fi013", "fi015", "fi018", "fi019", "fi031", "fi043", "fi044")
NORMAL = ("nofi004", "nofi006", "nofi007", "nofi010", "nofi012", "nofi019", "nofi050", "nofi061")
CLIPS = [*(f"Fight/{name}.mp4" for name in FIGHT), *(f"NonFight/{name}.mp4" for name in NORMAL)]
# Of 4.32, 8.88 and 6.54 s.
FALLS = ["Subject_1/Fall/13.mp4", "Subject_2/Fall/13.mp4", "Subject_3/ADL/19.mp4"]


def tracks(folder: Path, stage1: str, videos: Iterable[str]) -> Path:
    """Track some videos of samples/<stage1> and return stage 2's folder."""
    section = {
        "stage1_dir": SAMPLES / stage1,
        "output_dir": folder,
        "dataset": stage1,
        "include": list(videos),
        "workers": 1,
    }
    return run_stage2(Config.model_validate({"annotation": section}))


def of_fights(
    output: Path | str, clips: Path | str, negatives: Iterable[Path] = (), **dataset: Any
) -> Config:
    """Return the config of a data set of the clips, with folders of negatives."""
    split = {"sources": str(SAMPLES / "sources.csv"), "ratios": [0.5, 0.25, 0.25]}
    return Config.model_validate(
        {
            "annotation": {"output_dir": str(output), "stage2_dir": str(clips)},
            "dataset": {
                "negatives": [str(folder) for folder in negatives],
                "split": split,
                **dataset,
            },
        }
    )


def without_pictures(config: Config) -> Path:
    """Run stage 3 without drawing, and return its folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(figures, "save_figure", _no_picture)
        return run_stage3(config)


def _no_picture(final: Path, root: Path, draw: Callable[[Any], None]) -> None:
    write_text(final, root, "a picture")
