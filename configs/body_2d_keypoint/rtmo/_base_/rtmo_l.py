"""RTMO-l: YOLOX-l's backbone."""

_base_ = "rtmo_s.py"

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
last_losses = {
    "overlaps_power": 1.0,
    "loss_cls.loss_weight": 2.0,
}  # and those of rtmo_s.py
