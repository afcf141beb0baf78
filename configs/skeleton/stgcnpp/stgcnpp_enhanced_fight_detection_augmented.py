"""The fight detector with augmentation of keypoints in pixels."""

_base_ = "stgcnpp_enhanced_fight_detection_stable.py"

train_pipeline = [
    dict(type="TemporalCrop", ratio=(0.7, 1.0)),
    dict(type="TemporalSpeed", factor=(0.8, 1.25)),
    dict(type="RandomShift", shift_ratio=0.1),
    dict(type="RandomRotate", angle=15),
    dict(type="RandomRescale", scale_factor=(0.8, 1.2)),
    dict(type="FlipSkeleton", prob=0.5),
    dict(type="KeypointDropout", prob=0.05),
    dict(type="KeypointJitter", sigma=0.01),
    *_base_.train_pipeline,
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
