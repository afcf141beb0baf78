"""The fight detector, deeper: six stages, twice as many channels twice."""

_base_ = "stgcnpp_enhanced_fight_detection_stable.py"

model = dict(
    backbone=dict(num_stages=6, inflate_stages=[2, 4], down_stages=[2, 4]),
    cls_head=dict(in_channels=256),
)
