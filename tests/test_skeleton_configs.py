"""The configs of configs/skeleton: what they come to in effect, and that all of them train."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("mmaction")

import mmaction  # noqa: E402
from mmengine.config import Config  # noqa: E402

from recognizer.action.train_config import load_train_config  # noqa: E402
from recognizer.openmmlab import scope  # noqa: E402
from recognizer.runner.train_config import datasets  # noqa: E402
from tests.action.trainings import CONFIGS, FALLDOWN, FIGHT, options, write_data  # noqa: E402

ROOT = Path(__file__).resolve().parents[1]
ENHANCED = sorted(CONFIGS.glob("stgcnpp_enhanced_*.py"))
STREAMS = {"joint": "j", "joint_motion": "jm", "bone_motion": "bm", "stable": "b"}
VARIANTS = ("deeper", "shallower", "wider", "lighter")


def steps(pipeline):
    return [step["type"] for step in pipeline]


PIPELINE = [
    "PreNormalize2D",
    "GenSkeFeat",
    "UniformSampleFrames",
    "PoseDecode",
    "FormatGCNInput",
    "PackActionInputs",
]


@pytest.mark.parametrize(
    ("path", "dropout", "weights", "data"),
    [(FIGHT, 0.3, [1.2, 1.0], "fight"), (FALLDOWN, 0.2, [1.0, 1.5], "falldown")],
    ids=["fight", "falldown"],
)
def test_the_two_configs_are_the_guides(path, dropout, weights, data):
    cfg = Config.fromfile(str(path))
    backbone, head = cfg.model.backbone, cfg.model.cls_head
    assert backbone == {
        "type": "STGCN",
        "gcn_adaptive": "init",
        "gcn_with_res": True,
        "tcn_type": "mstcn",
        "graph_cfg": {"layout": "coco", "mode": "spatial"},
        "num_stages": 4,
        "base_channels": 64,
        "inflate_stages": [2],
        "down_stages": [2],
    }
    assert (head.type, head.num_classes, head.in_channels) == ("GCNHead", 2, 128)
    assert (head.dropout, head.loss_cls.class_weight) == (dropout, weights)
    optimizer = cfg.optim_wrapper.optimizer
    assert (optimizer.type, optimizer.lr, optimizer.weight_decay) == ("AdamW", 1e-4, 1e-3)
    assert cfg.optim_wrapper.clip_grad == {"max_norm": 2.0, "norm_type": 2}
    warm_up, decay = cfg.param_scheduler
    assert (warm_up.type, warm_up.end, warm_up.convert_to_iter_based) == ("LinearLR", 3, True)
    assert (decay.type, decay.milestones, decay.gamma) == ("MultiStepLR", [15, 25], 0.5)
    assert cfg.train_cfg == {
        "type": "EpochBasedTrainLoop",
        "max_epochs": 30,
        "val_begin": 1,
        "val_interval": 2,
    }
    assert cfg.auto_scale_lr == {"base_batch_size": 128, "enable": True}
    hook = cfg.default_hooks.checkpoint
    assert (hook.interval, hook.save_best, hook.max_keep_ckpts) == (10, "auto", 5)
    assert steps([*cfg.visualizer.vis_backends]) == ["LocalVisBackend", "TensorboardVisBackend"]
    for split, dataset in datasets(cfg).items():
        assert dataset.ann_file == f"data/{data}/{split}.pkl"
        assert steps(dataset.pipeline) == PIPELINE
        assert dataset.pipeline[1].feats == ["b"]
        assert dataset.pipeline[2].clip_len == 100
        assert dataset.pipeline[2].get("test_mode", False) == (split != "train")
        assert dataset.pipeline[4].num_person == 4
        assert cfg[f"{split}_dataloader"].batch_size == 32
        assert dataset.test_mode == (split != "train")


@pytest.mark.parametrize("service", ["fight", "falldown"])
@pytest.mark.parametrize("name", STREAMS)
def test_a_stream_changes_every_loader_and_nothing_else(service, name):
    usual = Config.fromfile(str(CONFIGS / f"stgcnpp_enhanced_{service}_detection_stable.py"))
    stream = Config.fromfile(str(CONFIGS / f"stgcnpp_enhanced_{service}_detection_{name}.py"))
    for split, dataset in datasets(stream).items():
        assert dataset.pipeline[1].feats == [STREAMS[name]], split
        dataset.pipeline[1].feats = ["b"]
    for key in ("model", "train_dataloader", "val_dataloader", "test_dataloader", "optim_wrapper"):
        assert stream[key] == usual[key]


def test_the_alternatives_are_the_guides():
    def effect(name):
        return Config.fromfile(str(CONFIGS / f"stgcnpp_enhanced_fight_detection_{name}.py"))

    warm_up, cosine = effect("cosine").param_scheduler
    assert (warm_up.end, cosine.begin, cosine.T_max, cosine.eta_min) == (5, 5, 25, 1e-6)
    sgd = effect("sgd").optim_wrapper
    assert sgd.optimizer == {"type": "SGD", "lr": 0.01, "momentum": 0.9, "weight_decay": 0.0005}
    assert sgd.clip_grad.max_norm == 2.0
    augmented = datasets(effect("augmented"))
    assert {"RandomShift", "RandomRotate", "RandomRescale"} <= set(
        steps(augmented["train"].pipeline)
    )
    assert steps(augmented["val"].pipeline) == PIPELINE


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_data(tmp_path_factory.mktemp("data"))


def _train_step(cfg):
    """Build model, data and optimiser and take a step; return the losses before and after."""
    from mmengine.runner import Runner

    cfg.launcher = "none"
    with scope("mmaction"):
        loader = Runner.build_dataloader(cfg.train_dataloader, seed=0)
        model = Runner.build_model(None, cfg.model)
        cfg.optim_wrapper.optimizer.lr = 1e-3
        wrapper = Runner.build_optim_wrapper(type("R", (), {"model": model})(), cfg.optim_wrapper)
        torch.manual_seed(0)
        model.train()
        batch = next(iter(loader))
        return [model.train_step(batch, wrapper)["loss"].item() for _ in range(2)], model


@pytest.mark.parametrize("path", ENHANCED, ids=lambda path: path.stem[17:])
def test_every_config_builds_and_takes_a_step(path, data):
    given = [o for o in options(data) if "ann_file" in o or "num_workers" in o or "persist" in o]
    cfg = load_train_config(path, [*given, "train_dataloader.batch_size=2"])
    for step in cfg.train_dataloader.dataset.pipeline:
        if "clip_len" in step:
            step.clip_len = 12
    losses, model = _train_step(cfg)
    assert losses[0] != losses[1]
    assert all(map(torch.isfinite, map(torch.tensor, losses)))
    depth = cfg.model.backbone.num_stages
    assert len(model.backbone.gcn) == depth


def mmaction2s_own_tool(path, folder, changes, *more):
    """Run tools/train.py of mmaction2; return its exit code and what it said of errors."""
    tool = Path(mmaction.__file__).parent / ".mim" / "tools" / "train.py"
    done = subprocess.run(
        [
            sys.executable,
            str(tool),
            str(path),
            "--work-dir",
            str(folder),
            *more,
            "--cfg-options",
            *changes,
        ],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
    )
    return done.returncode, done.stderr[-3000:]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["stable", "cosine"])
def test_mmaction2s_own_tool_trains_a_single_epoch(name, data, tmp_path):
    changes = [o for o in options(data) if "max_epochs" not in o] + ["train_cfg.max_epochs=1"]
    path = CONFIGS / f"stgcnpp_enhanced_fight_detection_{name}.py"
    assert mmaction2s_own_tool(path, tmp_path, changes)[0] == 0
    assert (tmp_path / "epoch_1.pth").is_file()


@pytest.mark.slow
def test_mmaction2s_own_tool_says_what_takes_with_cp(data, tmp_path):
    code, output = mmaction2s_own_tool(
        FIGHT, tmp_path, [*options(data), "model.backbone.with_cp=True"]
    )
    assert code == 1
    assert "STGCN takes no with_cp; write type='FastSTGCN'" in output


@pytest.mark.slow
@pytest.mark.parametrize("path", [FIGHT, FALLDOWN], ids=["fight", "falldown"])
def test_mmaction2s_own_tool_trains_and_resumes(path, data, tmp_path):
    changes = [o for o in options(data) if "vis_backends" not in o]

    def run(*more):
        code, output = mmaction2s_own_tool(path, tmp_path, changes, *more)
        assert code == 0, output

    run()
    assert (tmp_path / "epoch_4.pth").is_file()
    assert list(tmp_path.glob("best_acc_top1_epoch_*.pth"))
    assert list(tmp_path.glob("*/vis_data/events.out.tfevents*"))
    changes = [o for o in changes if "max_epochs" not in o] + ["train_cfg.max_epochs=5"]
    run("--resume")
    assert (tmp_path / "epoch_5.pth").is_file()
