"""The fight detector, wider: 96 channels."""

_base_ = "stgcnpp_enhanced_fight_detection_stable.py"

model = dict(backbone=dict(base_channels=96), cls_head=dict(in_channels=192))
