"""Pipelines with augmentation as the user's guide writes them: a network learns from them."""

import pytest

pytest.importorskip("mmaction")

import recognizer.action.registered  # noqa: F401 - registers
from recognizer.dataset.mmaction import write_split
from recognizer.openmmlab import scope
from tests.action.clips import real_samples

# Section 6.3 of the user's guide, as it stands.
GUIDE = {
    "in time": [
        {"type": "PreNormalize2D"},
        {"type": "GenSkeFeat", "dataset": "coco", "feats": ["b"]},
        {"type": "UniformSampleFrames", "clip_len": 100},
        {"type": "PoseDecode"},
        {"type": "RandomRescale", "scale_factor": (0.8, 1.2)},
        {"type": "FormatGCNInput", "num_person": 4},
        {"type": "PackActionInputs"},
    ],
    "in space": [
        {"type": "PreNormalize2D"},
        {"type": "RandomShift", "shift_ratio": 0.1},
        {"type": "RandomRotate", "angle": 15},
        {"type": "GenSkeFeat", "dataset": "coco", "feats": ["b"]},
        {"type": "UniformSampleFrames", "clip_len": 100},
        {"type": "PoseDecode"},
        {"type": "FormatGCNInput", "num_person": 4},
        {"type": "PackActionInputs"},
    ],
}


@pytest.mark.parametrize("name", GUIDE)
def test_the_guides_snippets_train(name, tmp_path):
    import torch
    from mmaction.registry import DATASETS, MODELS
    from mmengine.dataset import pseudo_collate

    write_split(tmp_path / "train.pkl", tmp_path, real_samples()[::6])
    graph = {"layout": "coco", "mode": "spatial"}
    backbone = {
        "type": "STGCN",
        "gcn_adaptive": "init",
        "gcn_with_res": True,
        "tcn_type": "mstcn",
        "graph_cfg": graph,
        "num_stages": 2,
        "base_channels": 12,
        "inflate_stages": [],
        "down_stages": [],
    }
    with scope("mmaction"):
        dataset = DATASETS.build(
            {
                "type": "PoseDataset",
                "ann_file": str(tmp_path / "train.pkl"),
                "pipeline": GUIDE[name],
            }
        )
        model = MODELS.build(
            {
                "type": "RecognizerGCN",
                "backbone": backbone,
                "cls_head": {"type": "GCNHead", "num_classes": 2, "in_channels": 12},
            }
        )
    data = model.data_preprocessor(pseudo_collate([dataset[i] for i in range(4)]), training=True)
    loss = model(**data, mode="loss")["loss_cls"]
    loss.backward()
    assert torch.isfinite(loss)
    moved = [p.grad for p in model.parameters() if p.grad is not None]
    assert all(torch.isfinite(grad).all() for grad in moved)
    assert sum(float(grad.abs().sum()) for grad in moved) > 0
