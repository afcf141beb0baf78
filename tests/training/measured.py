"""A small stage-3 folder of made-up people, and predictions of it."""

import numpy as np

from annotation.stage3 import run_stage3
from recognizer.config_file import load_config
from tests.annotation.datasets import config as stage3_config
from tests.dataset.tracked import sequence


def dataset(folder, clips=9, sources=6, lost=2):
    """Make a finished stage 3 with some clips in which nobody was tracked."""
    videos = {
        f"{name}/{i:02d}.mp4": sequence(1.0 + i % 3 / 5, people=1 + i % 3)
        for name in ("Fight", "NonFight")
        for i in range(clips)
    }
    videos |= {f"NonFight/lost{i}.mp4": sequence(1.0, people=0) for i in range(lost)}
    folder.mkdir(parents=True, exist_ok=True)
    table = folder / "sources.csv"
    rows = [f"{name},s{i % sources}\n" for i, name in enumerate(sorted(videos))]
    table.write_text("video,source\n" + "".join(rows))
    split = {"sources": str(table), "ratios": [0.5, 0.25, 0.25]}
    return run_stage3(stage3_config(folder, videos, split))


def settings(tmp_path, *sets):
    """Return the plain config with some keys set."""
    path = tmp_path / "config.yaml"
    path.write_text("{}\n")
    return load_config(path, list(sets))


def guesses(labels, seed=0, skill=1.6):
    """Return probabilities (N, 2) that are right more often than not."""
    random = np.random.default_rng(seed)
    logit = random.normal(size=len(labels)) * 1.3 + skill * (2 * np.asarray(labels) - 1)
    one = 1 / (1 + np.exp(-logit))
    return np.stack([1 - one, one], 1)
