"""RTMO-m: YOLOX-m's backbone."""

_base_ = "rtmo_s.py"

model = dict(
    backbone=dict(deepen_factor=0.67, widen_factor=0.75),
    neck=dict(
        in_channels=[192, 384, 768],
        deepen_factor=0.67,
        widen_factor=0.75,
        projector=dict(out_channels=384),
    ),
    head=dict(
        head_module_cfg=dict(pose_vec_channels=384, widen_factor=0.75),
        assigner=dict(use_keypoints_for_center=False),
        dcc_cfg=dict(in_channels=384),
        loss_mle=dict(loss_weight=0.01),
    ),
)
last_losses = {
    "overlaps_power": 1.0,
    "loss_cls.loss_weight": 2.0,
}  # and those of rtmo_s.py
