"""The fight detector with the guide's SGD (3.1)."""

_base_ = "stgcnpp_enhanced_fight_detection_stable.py"

optim_wrapper = dict(
    optimizer=dict(_delete_=True, type="SGD", lr=0.01, momentum=0.9, weight_decay=0.0005)
)
