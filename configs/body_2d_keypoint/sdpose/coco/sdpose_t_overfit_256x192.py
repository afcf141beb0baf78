"""SDPose-T learning one small data set by heart.

It is measured on the pictures it was trained on: a proof that network, targets, losses, decoding
and metric fit together, and of nothing else. ``benchmarks/sdpose_overfit.py`` runs it.
"""

_base_ = "./sdpose_t_stemnet_coco_256x192.py"

exp_name = "sdpose_t_overfit"
data_root = "data/coco/"

train_cfg = dict(max_epochs=150, val_interval=10)
# Adam's usual 0.999 remembers the first, large gradients for a thousand steps.
optim_wrapper = dict(optimizer=dict(type="Adam", lr=1e-3, betas=(0.9, 0.99)))
param_scheduler = [
    dict(type="LinearLR", start_factor=0.01, by_epoch=False, begin=0, end=30),  # warm-up
    dict(type="MultiStepLR", milestones=[110, 135], gamma=0.3, by_epoch=True, begin=0, end=150),
]
codec = dict(
    type="MSRAHeatmap",
    input_size=(192, 256),
    heatmap_size=(48, 64),
    sigma=2,
    unbiased=True,
    blur_kernel_size=11,
)
train_pipeline = [  # nothing but what the flip test asks for
    dict(type="LoadImage"),
    dict(type="GetBBoxCenterScale", padding=1.25),
    dict(type="RandomFlip", direction="horizontal", prob=0.5),
    dict(type="TopdownAffine", input_size=(192, 256)),
    dict(type="GenerateTarget", encoder=codec),
    dict(type="PackPoseInputs"),
]
ann_file = "annotations/person_keypoints_train2017.json"
train_dataloader = dict(batch_size=16, dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(ann_file=ann_file, data_prefix=dict(img="train2017/")))
test_dataloader = val_dataloader
val_evaluator = dict(ann_file=data_root + ann_file)
test_evaluator = val_evaluator
default_hooks = dict(logger=dict(interval=11), checkpoint=dict(interval=20, max_keep_ckpts=1))
