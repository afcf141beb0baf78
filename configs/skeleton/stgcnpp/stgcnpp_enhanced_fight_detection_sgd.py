"""The fight detector with SGD."""

_base_ = "stgcnpp_enhanced_fight_detection_stable.py"

optim_wrapper = dict(
    optimizer=dict(_delete_=True, type="SGD", lr=0.01, momentum=0.9, weight_decay=0.0005)
)
