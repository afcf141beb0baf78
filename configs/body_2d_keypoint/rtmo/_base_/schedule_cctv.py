"""Schedule of fine-tuning RTMO on your own cameras: 30 epochs with 16 pictures a step."""

_base_ = "schedule_coco.py"

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
default_hooks = dict(checkpoint=dict(interval=2))
