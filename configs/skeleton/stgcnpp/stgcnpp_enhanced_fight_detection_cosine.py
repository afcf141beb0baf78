"""The fight detector with a cosine schedule: T_max is all epochs less warm-up."""

_base_ = "stgcnpp_enhanced_fight_detection_stable.py"

param_scheduler = [
    dict(
        type="LinearLR",
        start_factor=0.1,
        by_epoch=True,
        begin=0,
        end=5,
        convert_to_iter_based=True,
    ),
    dict(type="CosineAnnealingLR", by_epoch=True, begin=5, end=1000, T_max=25, eta_min=1e-6),
]
