"""RTMO-t: YOLOX-tiny's backbone, pictures of 416 x 416."""

_base_ = "rtmo_s.py"

model = dict(
    data_preprocessor=dict(
        batch_augments=[
            dict(
                type="BatchSyncRandomResize",
                random_size_range=(320, 640),
                size_divisor=32,
                interval=1,
            )
        ]
    ),
    backbone=dict(widen_factor=0.375),
    neck=dict(in_channels=[96, 192, 384], widen_factor=0.375, projector=dict(out_channels=192)),
    head=dict(
        head_module_cfg=dict(pose_vec_channels=192, widen_factor=0.375),
        dcc_cfg=dict(in_channels=192),
    ),
    test_cfg=dict(input_size=(416, 416)),
)
