"""RTMO-t: YOLOX-tiny's backbone, pictures of 416 x 416, no MixUp; 8 GPUs x 32 images."""

_base_ = [
    "../_base_/rtmo_t.py",
    "../_base_/data_416x416.py",
    "../_base_/schedule_coco.py",
]

exp_name = "rtmo_t"  # results go to work_dirs/<exp_name>
data_root = "data/coco/"  # annotations/, train2017/, val2017/; or --set train.data_root=...
load_from = None  # weights to start from, such as those of models.fetch=rtmo-t
resume = False  # or --resume: go on from the last checkpoint in work_dirs/<exp_name>

custom_hooks = [
    dict(
        type="RTMOScheduleHook",
        changes={280: _base_.last_losses},
        last_epochs=20,
        last_pipeline=_base_.last_pipeline,
        priority=48,
    ),
    *_base_.training_hooks,
]
