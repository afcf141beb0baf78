"""A small ST-GCN++ on bones in body sizes, for the few hundred clips one really has.

The default config's network has 275,000 weights and sees bones in parts of the picture. This has
22,000, sees them in body sizes of the people, and every clip mirrored, turned, stretched and cut
anew in every epoch. There is no validation part: 30 clips would choose an epoch by luck; the last
epoch of a schedule that ends at zero is taken. Its sibling stgcnpp_body_motion_fight.py sees
movement, and was the better of the two by far when both were cross-validated; both, and their
probabilities fused:

    python main.py --mode test.crossval --set "crossval.config_files=[<this>, <sibling>]"
"""

_base_ = ["_base_/model.py", "_base_/schedule.py", "_base_/runtime.py"]

num_person = 3
max_epochs = 24
feats = ["b"]

model = dict(
    backbone=dict(type="FastSTGCN", in_channels=3, base_channels=16),
    cls_head=dict(
        in_channels=32,
        dropout=0.4,
        label_smooth_eps=0.1,
        loss_cls=dict(_delete_=True, type="CrossEntropyLoss"),
    ),
)

train_pipeline = [
    dict(type="TemporalCrop", ratio=(0.9, 1.0)),
    dict(type="TemporalSpeed", factor=(0.75, 1.33), parts=3),
    dict(type="FlipSkeleton"),
    dict(type="RandomRotate", angle=12),
    dict(type="RandomRescale", scale_factor=(0.85, 1.18)),
    dict(type="KeypointJitter", sigma=0.005),
    dict(type="KeypointDropout", prob=0.05),
    dict(type="BodyInput", clip_len=32, num_person=num_person, feats=feats),
    dict(type="PackActionInputs"),
]
test_pipeline = [
    dict(type="BodyInput", clip_len=32, num_person=num_person, feats=feats),
    dict(type="PackActionInputs"),
]

train_dataloader = dict(
    batch_size=16,
    num_workers=0,
    sampler=dict(type="DefaultSampler", shuffle=True),
    dataset=dict(
        type="PoseDataset",
        ann_file="data/fight/train.pkl",
        pipeline=train_pipeline,
        test_mode=False,
    ),
)
test_dataloader = dict(
    batch_size=16,
    num_workers=0,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(
        type="PoseDataset",
        ann_file="data/fight/test.pkl",
        pipeline=test_pipeline,
        test_mode=True,
    ),
)
val_dataloader = None
val_cfg = None
val_evaluator = None
test_evaluator = [dict(type="AccMetric")]

train_cfg = dict(max_epochs=max_epochs, val_interval=max_epochs)
optim_wrapper = dict(optimizer=dict(lr=0.002, weight_decay=0.05))
param_scheduler = [
    dict(
        type="LinearLR",
        start_factor=0.1,
        by_epoch=True,
        begin=0,
        end=3,
        convert_to_iter_based=True,
    ),
    dict(
        type="CosineAnnealingLR",
        by_epoch=True,
        begin=3,
        end=max_epochs,
        T_max=max_epochs - 3,
        eta_min=0.0,
        convert_to_iter_based=True,
    ),
]
auto_scale_lr = dict(base_batch_size=16, enable=True)
default_hooks = dict(checkpoint=dict(interval=max_epochs, save_best=None, max_keep_ckpts=1))
