"""RTMO-m fine-tuned on your own cameras: 30 epochs from the official weights, on one GPU.

`--mode models.fetch --set models.fetch=rtmo-m` brings the weights. The data are in COCO's format.
"""

_base_ = [
    "../_base_/rtmo_m.py",
    "../_base_/data_640x640.py",
    "../_base_/schedule_cctv.py",
]

exp_name = "rtmo_m_cctv"  # results go to work_dirs/<exp_name>
data_root = "data/cctv/"  # annotations/, train2017/, val2017/; or --set train.data_root=...
load_from = "weights/rtmo-m_16xb16-600e_body7-640x640-39e78cc4_20231211.pth"
resume = False  # or --resume: go on from the last checkpoint in work_dirs/<exp_name>

train_dataloader = dict(batch_size=16)
custom_hooks = [
    dict(
        type="RTMOScheduleHook",
        changes={0: _base_.last_losses},  # the official weights were trained with these at last
        last_epochs=10,  # whole pictures, with ignore regions
        last_pipeline=_base_.last_pipeline,
        priority=48,
    ),
    *_base_.training_hooks,
]
