"""The first run on a fresh clone: no weights, no videos, only samples/."""

import json
from pathlib import Path

import pytest

from annotation.progress import silent
from annotation.workspace import read_manifest
from recognizer.config_file import load_config
from training.demo import SAMPLES, demo

ROOT = Path(__file__).resolve().parents[2]


def test_the_samples_are_both_classes_whole_and_small():
    outcomes = read_manifest(SAMPLES / "stage1").outcomes
    assert len(outcomes) == 24
    assert sum(o.video.startswith("Fight/") for o in outcomes) == 12
    assert {o.state for o in outcomes} == {"done"}
    files = list((SAMPLES / "stage1").rglob("*.npz"))
    assert len(files) == 24
    assert sum(f.stat().st_size for f in files) < 3e6


@pytest.fixture(scope="module")
def output(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo")
    sets = [f"annotation.output_dir={folder}", "models.weights_dirs=[]"]
    assert demo(load_config(ROOT / "configs" / "config.yaml", sets), silent) == 0
    return folder / "demo"


def test_the_demo_leaves_pickles_a_report_and_skeleton_videos(output):
    (stage3,) = (output / "stage3_dataset").iterdir()
    metadata = json.loads((stage3 / "metadata.json").read_text())
    assert len(metadata["samples"]) >= 22
    for name in ("train.pkl", "val.pkl", "test.pkl", "report/skeletons_Fight.png"):
        assert (stage3 / name).stat().st_size > 1000
    assert len(list((output / "visualize").rglob("*.mp4"))) == 2


def test_the_demos_pickles_train_with_mmaction2s_own_data_set(output):
    from recognizer.openmmlab import load_mmaction, scope

    load_mmaction()
    from mmaction.registry import DATASETS

    (stage3,) = (output / "stage3_dataset").iterdir()
    pipeline = [
        {"type": "PreNormalize2D"},
        {"type": "GenSkeFeat", "dataset": "coco", "feats": ["b"]},
        {"type": "UniformSampleFrames", "clip_len": 100},
        {"type": "PoseDecode"},
        {"type": "FormatGCNInput", "num_person": 4},
        {"type": "PackActionInputs"},
    ]
    with scope("mmaction"):
        for split in ("train", "val", "test"):
            data = DATASETS.build(
                {
                    "type": "PoseDataset",
                    "ann_file": str(stage3 / f"{split}.pkl"),
                    "pipeline": pipeline,
                }
            )
            assert len(data) > 0
            for item in data:
                assert tuple(item["inputs"].shape) == (1, 4, 100, 17, 3)
