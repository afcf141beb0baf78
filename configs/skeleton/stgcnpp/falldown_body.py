"""A small ST-GCN++ that tells falls, for the few dozen falls one really has.

Sees movement against the trunk, the trunk's own movement, and how falls show (the measures that
rank people: how far the head came down, lying, its height over the feet, and their peaks), all in
body sizes and seconds. Mirrored, turned, stretched and cut anew in every epoch; the last epoch of
a schedule that ends at zero is taken. What it is worth: benchmarks/falls_events.py.

    python main.py --mode train.falldown --train-config configs/skeleton/stgcnpp/falldown_body.py
"""

_base_ = "stgcnpp_body_bone_fight.py"

num_person = 2
max_epochs = 10
feats = ["v", "t", "f", "q"]
body = dict(type="BodyInput", clip_len=32, num_person=num_person, feats=feats)
pack = dict(type="PackActionInputs")

model = dict(
    backbone=dict(in_channels=11),
    cls_head=dict(loss_cls=dict(class_weight=[1.0, 3.0])),
)
train_dataloader = dict(
    batch_size=32,
    dataset=dict(
        ann_file="data/falldown/train.pkl",
        pipeline=[
            dict(type="TemporalCrop", ratio=(0.75, 1.0)),
            dict(type="FlipSkeleton"),
            dict(type="RandomRotate", angle=10),
            dict(type="RandomRescale", scale_factor=(0.85, 1.18)),
            dict(type="KeypointJitter", sigma=0.005),
            dict(type="KeypointDropout", prob=0.05),
            body,
            pack,
        ],
    ),
)
test_dataloader = dict(
    batch_size=32, dataset=dict(ann_file="data/falldown/test.pkl", pipeline=[body, pack])
)
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
auto_scale_lr = dict(base_batch_size=32, enable=True)
default_hooks = dict(checkpoint=dict(interval=max_epochs))
