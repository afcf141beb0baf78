"""Keys of mmcv 1.x are answered with the user's values, as mmengine reads them."""

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("mmaction")
pytest.importorskip("mmpose")

from recognizer.runner.config_lines import as_python, config_lines, config_options  # noqa: E402
from recognizer.runner.old_keys import old_key  # noqa: E402
from tests.runner.configs import classifier, pose, refusal, written  # noqa: E402

WARM_UP = "dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=500)"
STEPS = (
    "dict(type='MultiStepLR', milestones=[200, 260], gamma=0.1, by_epoch=True, begin=0, end=300)"
)
CASES = [
    (
        "lr_config = dict(policy='step', step=[200,260], warmup_iters=500)",
        f"param_scheduler = [{WARM_UP}, dict(type='MultiStepLR', milestones=[200, 260], gamma=0.1, "
        "by_epoch=True)]",
    ),
    (
        "lr_config = dict(policy='step', step=7, gamma=0.5, warmup=None)",
        "param_scheduler = [dict(type='StepLR', step_size=7, gamma=0.5, by_epoch=True)]",
    ),
    (
        "lr_config = dict(policy='CosineAnnealing', min_lr=1e-6, warmup='linear', warmup_iters=5, "
        "warmup_ratio=0.1, warmup_by_epoch=True)",
        "param_scheduler = [dict(type='LinearLR', start_factor=0.1, by_epoch=True, begin=0, "
        "end=5), dict(type='CosineAnnealingLR', T_max=300, eta_min=1e-06, by_epoch=True, "
        "begin=0, end=300)]",
    ),
    (
        "lr_config = dict(policy='CosineAnnealing', min_lr_ratio=0.01)",
        f"param_scheduler = [{WARM_UP}, dict(type='CosineAnnealingLR', T_max=300, "
        "eta_min_ratio=0.01, by_epoch=True, begin=0, end=300)]",
    ),
    (
        "lr_config = dict(policy='poly', power=0.9, min_lr=0, warmup='constant', warmup_iters=9)",
        "param_scheduler = [dict(type='ConstantLR', factor=0.001, by_epoch=False, begin=0, end=9), "
        "dict(type='PolyLR', power=0.9, eta_min=0, by_epoch=True, begin=0, end=300)]",
    ),
    (
        "lr_config = dict(policy='exp', gamma=0.98)",
        f"param_scheduler = [{WARM_UP}, dict(type='ExponentialLR', gamma=0.98, by_epoch=True, "
        "begin=0, end=300)]",
    ),
    ("lr_config = dict(policy='fixed')", f"param_scheduler = [{WARM_UP}]"),
    (
        "lr_config = dict(gamma=0.5)",
        f"param_scheduler = [{WARM_UP}, {STEPS.replace('0.1', '0.5')}]",
    ),
    ("total_epochs = 50", "train_cfg = dict(max_epochs=50)"),
    ("runner = dict(type='EpochBasedRunner', max_epochs=210)", "train_cfg = dict(max_epochs=210)"),
    (
        "total_iters = 900",
        "train_cfg = dict(_delete_=True, type='IterBasedTrainLoop', max_iters=900)",
    ),
    ("optimizer_config = dict(grad_clip=None)", ""),
    (
        "optimizer_config = dict(type='GradientCumulativeOptimizerHook', cumulative_iters=4)",
        "optim_wrapper = dict(accumulative_counts=4)",
    ),
    (
        "optimizer_config = dict(type='Fp16OptimizerHook', loss_scale=512.0)",
        "optim_wrapper = dict(type='AmpOptimWrapper', loss_scale=512.0)",
    ),
    (
        "optimizer = dict(type='AdamW', lr=5e-4, weight_decay=0.1)",
        "optim_wrapper = dict(optimizer=dict(_delete_=True, type='AdamW', lr=0.0005, "
        "weight_decay=0.1))",
    ),
    (
        "checkpoint_config = dict(interval=10, max_keep_ckpts=3, save_last=True, out_dir=None)",
        "default_hooks = dict(checkpoint=dict(interval=10, max_keep_ckpts=3, save_last=True))",
    ),
    (
        "log_config = dict(interval=50, hooks=[dict(type='TextLoggerHook'), "
        "dict(type='TensorboardLoggerHook')])",
        "default_hooks = dict(logger=dict(interval=50))\nvisualizer = dict(vis_backends=[dict("
        "type='LocalVisBackend'), dict(type='TensorboardVisBackend')])",
    ),
    (
        "evaluation = dict(interval=10, metric='mAP', save_best='AP', rule='greater')",
        "train_cfg = dict(val_interval=10)\n"
        "default_hooks = dict(checkpoint=dict(save_best='coco/AP', rule='greater'))",
    ),
    (
        "data = dict(samples_per_gpu=64, workers_per_gpu=2, "
        "val_dataloader=dict(samples_per_gpu=32), "
        "train=dict(ann_file='a.json', img_prefix='imgs/'))",
        "train_dataloader = dict(batch_size=64, num_workers=2, dataset=dict(ann_file='a.json', "
        "data_prefix=dict(img='imgs/')))\nval_dataloader = dict(batch_size=32)",
    ),
    ("workflow = [('train', 2), ('val', 1)]", "train_cfg = dict(val_interval=2)"),
    ("workflow = [('train', 1)]", ""),
    (
        "dist_params = dict(backend='gloo')\ncudnn_benchmark = True\nopencv_num_threads = 1",
        "env_cfg = dict(dist_cfg=dict(backend='gloo'), cudnn_benchmark=True, "
        "mp_cfg=dict(opencv_num_threads=1))",
    ),
    ("seed = 3\ndeterministic = True", "randomness = dict(seed=3, deterministic=True)"),
    (
        "channel_cfg = dict(num_output_channels=17, dataset_joints=17)",
        "model = dict(head=dict(num_keypoints=17))",
    ),
    ("gpu_ids = range(2)", ""),
    ("lr_config = dict(policy='nobody knows')", ""),
    ("log_config = 3", ""),
]


@pytest.mark.parametrize(("lines", "expected"), CASES, ids=[case[0][:40] for case in CASES])
def test_an_old_key_is_answered_with_its_value(tmp_path, lines, expected):
    message = refusal(pose, tmp_path, lines)
    key = lines.partition(" =")[0]
    assert f"{key}: {key} is now " in message
    assert written(message) == expected
    pose(tmp_path, expected)


def test_data_cfg_reaches_codec_and_pipelines(tmp_path):
    message = refusal(
        pose, tmp_path, "data_cfg = dict(image_size=[288, 384], heatmap_size=[72, 96])"
    )
    cfg = pose(tmp_path, written(message))
    sizes = [cfg.model.head.decoder.input_size]
    for split in ("train", "val", "test"):
        pipeline = cfg[f"{split}_dataloader"].dataset.pipeline
        sizes += [step.input_size for step in pipeline if "input_size" in step]
    assert sizes == [(288, 384)] * 4


def test_the_best_classifier_is_named_as_today(tmp_path):
    message = refusal(classifier, tmp_path, "evaluation = dict(save_best='top1_acc', interval=1)")
    assert "checkpoint=dict(save_best='acc/top1')" in message


def test_a_key_that_is_none_of_theirs_is_not_translated():
    assert old_key("mask_ratio", 0.5, {}) is None
    assert old_key("resume_from", "x.pth", {}) is None


def test_lines_are_in_the_style_of_configs():
    assert as_python({"a": (1,), "b": [{"c.d": "e"}]}) == "dict(a=(1,), b=[{'c.d': 'e'}])"
    assert config_lines({"a.b.c": 1, "a.b.d": {"x": 2}, "a.l.0.k": 3}) == [
        "a = dict(b=dict(c=1, d=dict(x=2)))",
        "_base_.a.l[0].k = 3",
    ]
    assert config_options({"a.b": {"c": 1e-4}, "l": [1, "x y"]}) == "a.b.c=0.0001 'l=[1,x y]'"
    assert config_options({"a": [{"type": "b"}]}) is None
