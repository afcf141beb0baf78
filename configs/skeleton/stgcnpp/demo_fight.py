"""The demo's network: one stream of the fight detector, trained for a minute or two on a CPU.

The same input and the same small network as its base, with somewhat fewer epochs. A checkpoint
every few epochs lets an interrupted demo go on.
"""

_base_ = "stgcnpp_body_motion_fight.py"

max_epochs = 20

train_cfg = dict(max_epochs=max_epochs, val_interval=max_epochs)
param_scheduler = [
    dict(
        type="LinearLR",
        start_factor=0.1,
        by_epoch=True,
        begin=0,
        end=2,
        convert_to_iter_based=True,
    ),
    dict(
        type="CosineAnnealingLR",
        by_epoch=True,
        begin=2,
        end=max_epochs,
        T_max=max_epochs - 2,
        eta_min=0.0,
        convert_to_iter_based=True,
    ),
]
default_hooks = dict(checkpoint=dict(interval=5))
