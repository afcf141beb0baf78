"""RTMO-t fine-tuned on your own cameras: 30 epochs from the official weights, on one GPU.

`--mode models.fetch --set models.fetch=rtmo-t` brings the weights. The data are in COCO's format.
"""

_base_ = "../coco/rtmo_t_coco_416x416.py"

exp_name = "rtmo_t_cctv"  # results go to work_dirs/<exp_name>
data_root = "data/cctv/"  # annotations/, train2017/, val2017/; or --set train.data_root=...
load_from = "../weights/rtmo-t_8xb32-600e_body7-416x416-f48f75cb_20231219.pth"
resume = False  # or --resume: go on from the last checkpoint in work_dirs/<exp_name>

train_cfg = dict(max_epochs=30, val_interval=2, dynamic_intervals=[(20, 1)])
# 0.004 for 256 images is 2.5e-4 for 16.
optim_wrapper = dict(optimizer=dict(lr=2.5e-4))
auto_scale_lr = dict(base_batch_size=16)
param_scheduler = [
    dict(type="QuadraticWarmupLR", by_epoch=True, begin=0, end=1, convert_to_iter_based=True),
    dict(
        type="CosineAnnealingLR",
        eta_min=1e-5,
        by_epoch=True,
        begin=1,
        end=30,
        T_max=29,
        convert_to_iter_based=True,
    ),
]
train_dataloader = dict(batch_size=16)
default_hooks = dict(checkpoint=dict(interval=2))
custom_hooks = [
    dict(type="TrainingMonitorHook", heatmaps=False),
    dict(type="DetailedLossLogHook", interval=50),
    dict(
        type="RTMOScheduleHook",
        changes={
            0: {  # the official weights were trained with these at last
                "proxy_target_cc": True,
                "loss_mle.loss_weight": 5.0,
                "loss_oks.loss_weight": 10.0,
            }
        },
        last_epochs=10,  # whole pictures, with ignore regions
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
