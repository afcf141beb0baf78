"""The fight detector, lighter: 32 channels, a quarter of the weights."""

_base_ = "stgcnpp_enhanced_fight_detection_stable.py"

model = dict(backbone=dict(base_channels=32), cls_head=dict(in_channels=64))
