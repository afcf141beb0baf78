"""The fight detector, shallower: three stages of 48 channels."""

_base_ = "stgcnpp_enhanced_fight_detection_stable.py"

model = dict(
    backbone=dict(num_stages=3, base_channels=48, inflate_stages=[], down_stages=[]),
    cls_head=dict(in_channels=48),
)
