"""Pickles as read by mmaction2 itself, in a process of its own."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]

READ_WITH_MMACTION = """
import json, sys
import numpy as np
from recognizer.openmmlab import load_mmaction
load_mmaction()
from mmaction.datasets import PoseDataset
from mmengine.registry import init_default_scope
init_default_scope("mmaction")
pipeline = [
    dict(type="PreNormalize2D"),
    dict(type="GenSkeFeat", dataset="coco", feats=["j"]),
    dict(type="UniformSampleFrames", clip_len=16, num_clips=1, test_mode=True),
    dict(type="PoseDecode"),
    dict(type="FormatGCNInput", num_person=4),
    dict(type="PackActionInputs"),
]
answer = {}
for path in sys.argv[1:]:
    plain = PoseDataset(ann_file=path, pipeline=[], test_mode=True)
    dataset = PoseDataset(ann_file=path, pipeline=pipeline, test_mode=True)
    shapes = {tuple(dataset[i]["inputs"].shape) for i in range(len(dataset))}
    answer[path] = {
        "names": [plain.get_data_info(i)["frame_dir"] for i in range(len(plain))],
        "labels": [int(plain[i]["label"]) for i in range(len(plain))],
        "shapes": sorted(shapes),
        "sums": [float(np.sum(plain[i]["keypoint"], dtype=np.float64)) for i in range(len(plain))],
    }
print("ANSWER" + json.dumps(answer))
"""


def read_with_mmaction(*paths: Path) -> dict[str, Any]:
    """Return names, labels, shapes and sums of mmaction2's own samples, by the pickle's path."""
    pytest.importorskip("mmaction")
    done = subprocess.run(
        [sys.executable, "-c", READ_WITH_MMACTION, *map(str, paths)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    answer: dict[str, Any] = json.loads(done.stdout.split("ANSWER", 1)[1])
    return answer
