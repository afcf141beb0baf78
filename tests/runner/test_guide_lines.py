"""The guides' snippets as lines of a child config: each does what it says, or is told how to.

Where lines are refused, those that the refusal tells are written in their place, and must load
and mean what the guide says.
"""

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("mmaction")
pytest.importorskip("mmpose")

from recognizer.runner.config_places import at  # noqa: E402
from tests.runner.configs import CONFIGS, classifier, pose, refusal, written  # noqa: E402

STEPS = "[dict(type='PreNormalize2D'), dict(type='PackActionInputs')]"
VIS, KPT = "model.head.loss_vis_token_dist", "model.head.loss_kpt_token_dist"
WARM_UP = {"type": "LinearLR", "start_factor": 0.001, "by_epoch": False, "begin": 0}
SDPOSE_STEPS = {"type": "MultiStepLR", "milestones": [200, 260], "gamma": 0.1, "by_epoch": True}

# section of the guide: lines, and what they mean
TAKEN = {
    "2.4": (
        "model = dict(cls_head=dict(dropout=0.2, loss_cls=dict(type='CrossEntropyLoss', "
        "class_weight=[1.0, 1.5])))",
        {"model.cls_head.dropout": 0.2},
    ),
    "3.2": (
        "param_scheduler = [dict(type='LinearLR', start_factor=0.1, by_epoch=True, begin=0, "
        "end=5, convert_to_iter_based=True), dict(type='CosineAnnealingLR', by_epoch=True, "
        "begin=5, T_max=25, eta_min=1e-6)]",
        {"param_scheduler.1.T_max": 25},
    ),
    "3.4": (
        "train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=31, val_begin=1, "
        "val_interval=2)\nauto_scale_lr = dict(base_batch_size=128, enable=True)",
        {"train_cfg.max_epochs": 31},
    ),
    "4.2": (
        "default_hooks = dict(checkpoint=dict(type='CheckpointHook', interval=9, "
        "save_best='auto', max_keep_ckpts=5), logger=dict(type='LoggerHook', interval=20, "
        "ignore_last=False))",
        {"default_hooks.checkpoint.interval": 9},
    ),
    "4.3": (
        "vis_backends = [dict(type='LocalVisBackend')]\nvisualizer = dict(type="
        "'ActionVisualizer', vis_backends=vis_backends)",
        {"visualizer.vis_backends": [{"type": "LocalVisBackend"}]},
    ),
    "7.1": (
        "train_dataloader = dict(num_workers=16, persistent_workers=True, pin_memory=True, "
        "prefetch_factor=4,)",
        {"train_dataloader.prefetch_factor": 4},
    ),
    "7.2 with_cp": (
        "model = dict(backbone=dict(with_cp=True))",
        {"model.backbone.type": "FastSTGCN", "model.backbone.with_cp": True},
    ),
    "7.2": (
        "optim_wrapper = dict(accumulative_counts=4)",
        {"optim_wrapper.accumulative_counts": 4},
    ),
    "7.3": (
        "default_hooks = dict(early_stopping=dict(type='EarlyStoppingHook', monitor="
        "'val/acc_top1', patience=10, min_delta=0.001), lr_scheduler=dict(type="
        "'LrSchedulerHook', by_epoch=True))",
        {"default_hooks.early_stopping.patience": 10},
    ),
    "8.1": ("train_dataloader = dict(batch_size=64)", {"train_dataloader.batch_size": 64}),
}
REFUSED = {
    "2.2": (
        f"train_pipeline = {STEPS}\nval_pipeline = {STEPS}",
        {
            f"{split}_dataloader.dataset.pipeline.1.type": "PackActionInputs"
            for split in ("train", "val", "test")
        },
    ),
    "2.3": (
        "dataset_type = 'PoseDataset'\ndata_root = '/w/test_data'\n"
        "ann_file_train = '/w/a.pkl'\nann_file_val = '/w/b.pkl'\nann_file_test = '/w/c.pkl'",
        {
            "train_dataloader.dataset.ann_file": "/w/a.pkl",
            "val_dataloader.dataset.ann_file": "/w/b.pkl",
            "test_dataloader.dataset.ann_file": "/w/c.pkl",
        },
    ),
    "2.3 weights": (
        "loss_cls=dict(\n    type='CrossEntropyLoss',\n    class_weight=[1.3, 1.0]\n)",
        {"model.cls_head.loss_cls.class_weight": [1.3, 1.0]},
    ),
    "3.1": (
        "optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=0.01, "
        "momentum=0.9, weight_decay=0.0005))",
        {
            "optim_wrapper.optimizer": {
                "type": "SGD",
                "lr": 0.01,
                "momentum": 0.9,
                "weight_decay": 0.0005,
            }
        },
    ),
    "6.1 deeper": (
        "backbone=dict(\n    num_stages=6,  # 4 -> 6\n    base_channels=64,\n"
        "    inflate_stages=[2, 4],\n    down_stages=[2, 4],\n)",
        {"model.backbone.num_stages": 6, "model.cls_head.in_channels": 256},
    ),
    "6.1 shallower": (
        "backbone=dict(num_stages=3, base_channels=48, inflate_stages=[], down_stages=[],)",
        {"model.backbone.num_stages": 3, "model.cls_head.in_channels": 48},
    ),
    "6.1 wider": ("backbone=dict(base_channels=96)", {"model.cls_head.in_channels": 192}),
    "6.2": (
        "cls_head=dict(\n    dropout=0.5,\n)\noptimizer=dict(weight_decay=0.0001)",
        {
            "model.cls_head.dropout": 0.5,
            "optim_wrapper.optimizer.weight_decay": 0.0001,
            "optim_wrapper.optimizer.type": "AdamW",
        },
    ),
    "8.1": ("optimizer=dict(lr=0.00001)", {"optim_wrapper.optimizer.lr": 1e-5}),
    "8.2 over": (
        "cls_head=dict(dropout=0.7)\noptimizer=dict(weight_decay=0.01)",
        {"model.cls_head.dropout": 0.7, "optim_wrapper.optimizer.weight_decay": 0.01},
    ),
    "8.2 under": (
        "backbone=dict(\n    num_stages=6,\n    base_channels=96\n)\ncls_head=dict(dropout=0.1)",
        {
            "model.backbone.base_channels": 96,
            "model.cls_head.dropout": 0.1,
            "model.cls_head.in_channels": 192,
        },
    ),
}
POSE_TAKEN = {
    "exp_name": (
        "date = '1027'\nexp_description = 'original_sdpose'\n"
        "exp_name = f'sdpose_s_v1_{date}_{exp_description}'\n"
        "work_dir = f'./work_dirs/{exp_name}'",
        {
            "exp_name": "sdpose_s_v1_1027_original_sdpose",
            "work_dir": "./work_dirs/sdpose_s_v1_1027_original_sdpose",
        },
    ),
    "load_from": (
        "load_from = './pretrained_model/sdpose_s_v1.pth'",
        {"load_from": "./pretrained_model/sdpose_s_v1.pth"},
    ),
    "data_root": (
        "data_root = '/dockerdata/coco/'",
        {"train_dataloader.dataset.data_root": "/dockerdata/coco/"},
    ),
}
FSD = {"type": "ForegroundTokenDistilLoss", "foreground_weight": 2.0, "background_weight": 0.5}
POSE_REFUSED = {
    "ratio": (
        "s_v1_maskedkd",
        "exp_name = 'ratio_0.5'\nmask_ratio = 0.5  # 50%",
        {f"{VIS}.mask_ratio": 0.5, f"{VIS}.mask_strategy": "random"},
    ),
    "ratio of a baseline": (
        "s_v1_stemnet",
        "mask_ratio = 0.5",
        {
            f"{VIS}.type": "MaskedTokenDistilLoss",
            f"{VIS}.mask_ratio": 0.5,
            f"{VIS}.loss_weight": 5e-6,
        },
    ),
    "weight": ("s_v1_maskedkd", "loss_weight = 1e-4", {f"{VIS}.loss_weight": 1e-4}),
    "importance": (
        "s_v1_maskedkd",
        "mask_strategy = 'importance'",
        {f"{VIS}.mask_strategy": "importance"},
    ),
    "masked": (
        "s_v1_stemnet",
        "loss_vis_token_dist=dict(\n    type='MaskedTokenDistilLoss', \n"
        "    loss_weight=1e-5,\n    mask_ratio=0.3,\n    mask_strategy='random'\n),",
        {
            VIS: {
                "type": "MaskedTokenDistilLoss",
                "loss_weight": 1e-5,
                "mask_ratio": 0.3,
                "mask_strategy": "random",
            }
        },
    ),
    "masked in place of fsd": (
        "s_v1_fsd",
        "model = dict(head=dict(loss_vis_token_dist=dict("
        "type='MaskedTokenDistilLoss', mask_ratio=0.3)))",
        {f"{VIS}.type": "MaskedTokenDistilLoss", f"{VIS}.mask_ratio": 0.3},
    ),
    "data": (
        "s_v1_stemnet",
        "data = dict(\n    samples_per_gpu=48,\n    workers_per_gpu=4,\n)",
        {"train_dataloader.batch_size": 48, "train_dataloader.num_workers": 4},
    ),
    "oom": (
        "s_v1_stemnet",
        "samples_per_gpu=32  # 64 -> 32\nworkers_per_gpu=1",
        {"train_dataloader.batch_size": 32, "train_dataloader.num_workers": 1},
    ),
    "recipe": (
        "s_v1_fsd_best",
        "optimizer = dict(\n    type='Adam',\n    lr=1e-3,\n)\n"
        "lr_config = dict(\n    policy='step',\n    step=[200, 260],\n)\ntotal_epochs = 300",
        {
            "optim_wrapper.optimizer.lr": 1e-3,
            "train_cfg.max_epochs": 300,
            "param_scheduler": [{**WARM_UP, "end": 1000}, SDPOSE_STEPS],
        },
    ),
    "log": (
        "s_v1_stemnet",
        "log_config = dict(interval=51, hooks=[dict(type='TextLoggerHook'), "
        "dict(type='TensorboardLoggerHook')])",
        {
            "default_hooks.logger.interval": 51,
            "visualizer.vis_backends": [
                {"type": "LocalVisBackend"},
                {"type": "TensorboardVisBackend"},
            ],
        },
    ),
    "evaluation": (
        "s_v1_stemnet",
        "evaluation = dict(interval=10, metric='mAP', save_best='AP')",
        {"train_cfg.val_interval": 10, "default_hooks.checkpoint.save_best": "coco/AP"},
    ),
    "checkpoints": (
        "s_v1_stemnet",
        "checkpoint_config = dict(interval=11, max_keep_ckpts=4, save_last=True, out_dir=None)",
        {"default_hooks.checkpoint.interval": 11, "default_hooks.checkpoint.max_keep_ckpts": 4},
    ),
    "divergence": (
        "s_v1_stemnet",
        "optimizer_config = dict(grad_clip=dict(max_norm=1.0))\nloss_weight=1e-6",
        {
            "optim_wrapper.clip_grad.max_norm": 1.0,
            f"{VIS}.loss_weight": 1e-6,
            f"{KPT}.loss_weight": 1e-6,
        },
    ),
    "fsd 1": (
        "s_v1_stemnet",
        "loss_vis_token_dist=dict(\n    type='ForegroundTokenDistilLoss',\n"
        "    foreground_weight=2.0,\n    background_weight=0.5,\n),",
        {f"{VIS}.{key}": value for key, value in FSD.items()},
    ),
    "fsd 2": (
        "s_v1_fsd",
        "loss_vis_token_dist=dict(type='ForegroundTokenDistilLoss', "
        "loss_weight=5e-6, foreground_weight=3.0, background_weight=0.3, "
        "use_spatial_weight=True,),",
        {f"{VIS}.foreground_weight": 3.0, f"{VIS}.threshold": 0.1},
    ),
    "fsd 3": (
        "s_v1_stemnet",
        "loss_vis_token_dist=dict(type='ForegroundTokenDistilLoss', "
        "foreground_weight=2.0, background_weight=0.5,),\nloss_kpt_token_dist=dict(type="
        "'AdaptiveForegroundDistilLoss', num_keypoints=17, use_keypoint_guidance=True,),",
        {f"{VIS}.foreground_weight": 2.0, f"{KPT}.type": "AdaptiveForegroundDistilLoss"},
    ),
    "fsd 4": (
        "s_v1_fsd",
        "loss_vis_token_dist=dict(type='DynamicForegroundDistilLoss', "
        "start_epoch=50, end_epoch=150, max_fg_weight=3.0,),",
        {
            VIS: {
                "type": "DynamicForegroundDistilLoss",
                "start_epoch": 50,
                "end_epoch": 150,
                "max_fg_weight": 3.0,
            }
        },
    ),
    "simple": (
        "s_v1_fsd",
        "foreground_weight=1.5\nbackground_weight=0.7",
        {f"{VIS}.foreground_weight": 1.5, f"{VIS}.background_weight": 0.7},
    ),
    "nan": (
        "s_v1_stemnet",
        "foreground_weight=1.5\ntemperature=2.0",
        {f"{VIS}.foreground_weight": 1.5, f"{VIS}.temperature": 2.0},
    ),
    "start": ("s_v1_fsd_dynamic", "start_epoch=60", {f"{VIS}.start_epoch": 60}),
    "stability": (
        "s_v1_stemnet",
        "optimizer_config = dict(grad_clip=dict(max_norm=1.0, "
        "norm_type=2))\nlr_config = dict(\n    warmup_iters=1000,\n)\n"
        "evaluation = dict(interval=5)",
        {
            "optim_wrapper.clip_grad": {"max_norm": 1.0, "norm_type": 2},
            "param_scheduler.0": {**WARM_UP, "end": 1000},
            "param_scheduler.1.milestones": [200, 260],
            "train_cfg.val_interval": 5,
        },
    ),
    "fewer epochs": ("s_v1_stemnet", "total_epochs = 50", {"train_cfg.max_epochs": 50}),
}


def check(cfg, meant):
    assert {place: at(cfg, place) for place in meant} == meant


@pytest.mark.parametrize("name", TAKEN)
def test_lines_of_the_classifiers_guide_do_what_they_say(name, tmp_path):
    lines, meant = TAKEN[name]
    check(classifier(tmp_path, lines), meant)


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_to_be_written_does_what_the_classifiers_guide_says(name, tmp_path):
    lines, meant = REFUSED[name]
    message = refusal(classifier, tmp_path, lines)
    assert lines.partition(" =")[0].partition("=")[0] in message
    check(classifier(tmp_path, written(message)), meant)


@pytest.mark.parametrize("name", POSE_TAKEN)
def test_lines_of_the_pose_guides_do_what_they_say(name, tmp_path):
    lines, meant = POSE_TAKEN[name]
    check(pose(tmp_path, lines), meant)


@pytest.mark.parametrize("name", POSE_REFUSED)
def test_what_is_to_be_written_does_what_the_pose_guides_say(name, tmp_path):
    base, lines, meant = POSE_REFUSED[name]
    message = refusal(pose, tmp_path, lines, base=base)
    check(pose(tmp_path, written(message), base=base), meant)


def test_half_precision_is_what_the_guide_says_on_a_gpu(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    cfg = classifier(tmp_path, "fp16 = dict(loss_scale=512.0)")
    check(cfg, {"optim_wrapper.type": "AmpOptimWrapper", "optim_wrapper.loss_scale": 512.0})
    for text, scale in (("True", "dynamic"), ("dict()", "dynamic"), ("dict(loss_scale=8)", 8.0)):
        check(classifier(tmp_path, f"fp16 = {text}"), {"optim_wrapper.loss_scale": scale})
    for text in ("False", "None"):
        check(classifier(tmp_path, f"fp16 = {text}"), {"optim_wrapper.type": "OptimWrapper"})
    for text in ("512.0", "dict(loss_scal=2)"):
        assert "fp16: expected dict(loss_scale=512.0)" in refusal(
            classifier, tmp_path, f"fp16 = {text}"
        )


def test_half_precision_on_a_cpu_names_the_lines_that_work_there(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    message = refusal(classifier, tmp_path, "fp16 = dict(loss_scale=512.0)")
    line = "optim_wrapper = dict(type='AmpOptimWrapper', dtype='bfloat16')"
    assert line in message
    check(classifier(tmp_path, line), {"optim_wrapper.dtype": "bfloat16"})


def test_two_snippets_of_one_section_are_joined(tmp_path):
    """Python keeps the second assignment alone."""
    lines = (
        "default_hooks = dict(early_stopping=dict(type='EarlyStoppingHook', "
        "monitor='val/acc_top1'), logger=dict(interval=5))\n"
        "default_hooks = dict(logger=dict(ignore_last=True))"
    )
    message = refusal(classifier, tmp_path, lines)
    assert "default_hooks: line 3 takes the place of line 2" in message
    line = message[message.index("default_hooks = dict") :]
    check(
        classifier(tmp_path, line),
        {
            "default_hooks.early_stopping.type": "EarlyStoppingHook",
            "default_hooks.logger": {
                "type": "LoggerHook",
                "interval": 5,
                "ignore_last": True,
            },
        },
    )


def test_a_deeper_network_names_the_channels_it_lacks(tmp_path):
    lines = "model = dict(backbone=dict(num_stages=6, inflate_stages=[2, 4], down_stages=[2, 4]))"
    message = refusal(classifier, tmp_path, lines)
    assert "cls_head.in_channels=256 is missing: the rest asks for it, got 128" in message
    base = CONFIGS / "stgcnpp_enhanced_fight_detection_deeper.py"
    assert classifier(tmp_path, "", base=base).model.cls_head.in_channels == 256
    message = refusal(classifier, tmp_path, "", "model.backbone.base_channels=32")
    assert "--cfg-options model.cls_head.in_channels=64" in message
    options = ["model.backbone.base_channels=32", "model.cls_head.in_channels=64"]
    assert classifier(tmp_path, "", *options).model.cls_head.in_channels == 64
