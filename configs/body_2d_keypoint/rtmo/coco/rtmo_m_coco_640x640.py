"""RTMO-m: YOLOX-m's backbone; 16 GPUs x 16 images."""

_base_ = [
    "../_base_/rtmo_m.py",
    "../_base_/data_640x640.py",
    "../_base_/schedule_coco.py",
]

exp_name = "rtmo_m"  # results go to work_dirs/<exp_name>
data_root = "data/coco/"  # annotations/, train2017/, val2017/; or --set train.data_root=...
load_from = None  # weights to start from, such as those of models.fetch=rtmo-m
resume = False  # or --resume: go on from the last checkpoint in work_dirs/<exp_name>

train_dataloader = dict(batch_size=16)
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
