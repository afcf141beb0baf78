"""RTMO-l: YOLOX-l's backbone; 16 GPUs x 16 images."""

_base_ = "../_base_/rtmo_coco.py"

exp_name = "rtmo_l"  # results go to work_dirs/<exp_name>
data_root = "data/coco/"  # annotations/, train2017/, val2017/; or --set train.data_root=...
load_from = None  # weights to start from, such as those of models.fetch=rtmo-l
resume = False  # or --resume: go on from the last checkpoint in work_dirs/<exp_name>

model = dict(
    backbone=dict(deepen_factor=1.0, widen_factor=1.0),
    neck=dict(
        in_channels=[256, 512, 1024],
        deepen_factor=1.0,
        widen_factor=1.0,
        projector=dict(out_channels=512),
    ),
    head=dict(
        head_module_cfg=dict(pose_vec_channels=512, widen_factor=1.0),
        assigner=dict(use_keypoints_for_center=False),
        dcc_cfg=dict(in_channels=512),
        loss_mle=dict(loss_weight=0.01),
    ),
)
train_dataloader = dict(batch_size=16)
custom_hooks = [
    dict(type="TrainingMonitorHook", heatmaps=False),
    dict(type="DetailedLossLogHook", interval=50),
    dict(
        type="RTMOScheduleHook",
        changes={
            280: {
                "proxy_target_cc": True,
                "overlaps_power": 1.0,
                "loss_cls.loss_weight": 2.0,
                "loss_mle.loss_weight": 5.0,
                "loss_oks.loss_weight": 10.0,
            }
        },
        last_epochs=20,
        last_pipeline={{_base_.last_pipeline}},
        priority=48,
    ),
    dict(type="SyncNormHook", priority=48),
    dict(
        type="EMAHook",
        ema_type="ExpMomentumEMA",
        momentum=0.0002,
        update_buffers=True,
        strict_load=False,
        priority=49,
    ),
    dict(type="PlainCheckpointHook"),
    dict(type="FiniteLossHook"),
]
