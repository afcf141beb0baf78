"""RTMO-t learning a few pictures by heart, at 256 x 256.

It is measured on the pictures it was trained on: a proof that network, targets, losses, decoding
and metric fit together, and of nothing else. ``benchmarks/rtmo_overfit.py`` runs it.
"""

_base_ = "./rtmo_t_coco_416x416.py"

exp_name = "rtmo_t_overfit"
data_root = "data/coco/"

train_cfg = dict(max_epochs=400, val_interval=40, dynamic_intervals=None)
# A handful of places hold a person, so that every step is a large one: with the rates of COCO, or
# the OKS loss at 30, boxes jump and the bins of the keypoints, which lie in the boxes, with them.
optim_wrapper = dict(
    optimizer=dict(type="AdamW", lr=1e-4, betas=(0.9, 0.99), weight_decay=0.0),
    paramwise_cfg=dict(custom_keys={"neck.encoder": dict(lr_mult=0.5)}),
    clip_grad=dict(max_norm=10),
)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.01, by_epoch=False, begin=0, end=20),  # warm-up
    dict(type="MultiStepLR", milestones=[266, 360], gamma=0.3, by_epoch=True, begin=0, end=400),
]
model = dict(
    data_preprocessor=dict(batch_augments=None),
    head=dict(loss_oks=dict(loss_weight=1.0), proxy_target_cc=True),
    test_cfg=dict(input_size=(256, 256), score_thr=0.1),
)
codec = dict(type="YOLOXPoseAnnotationProcessor", input_size=(256, 256))
train_pipeline = [  # no augmentation
    dict(type="LoadImage"),
    dict(
        type="BottomupRandomAffine",
        input_size=(256, 256),
        shift_prob=0,
        rotate_prob=0,
        scale_prob=0,
        scale_type="long",
        pad_val=(114, 114, 114),
        bbox_keep_corner=False,
        clip_border=True,
    ),
    dict(type="BottomupGetHeatmapMask", get_invalid=True),
    dict(type="FilterAnnotations", by_kpt=True, by_box=True, keep_empty=False),
    dict(type="GenerateTarget", encoder=codec),
    dict(type="PackPoseInputs"),
]
val_pipeline = [
    dict(type="LoadImage"),
    dict(type="BottomupResize", input_size=(256, 256), pad_val=(114, 114, 114)),
    dict(
        type="PackPoseInputs",
        meta_keys=(
            "id",
            "img_id",
            "img_path",
            "ori_shape",
            "img_shape",
            "input_size",
            "input_center",
            "input_scale",
        ),
    ),
]
ann_file = "annotations/person_keypoints_train2017.json"
train_dataloader = dict(batch_size=4, dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(
    dataset=dict(ann_file=ann_file, data_prefix=dict(img="train2017/"), pipeline=val_pipeline)
)
test_dataloader = val_dataloader
val_evaluator = dict(ann_file=data_root + ann_file)
test_evaluator = val_evaluator
default_hooks = dict(logger=dict(interval=10), checkpoint=dict(interval=100, max_keep_ckpts=1))
custom_hooks = [
    dict(type="TrainingMonitorHook", heatmaps=False),
    dict(type="PlainCheckpointHook"),
    dict(type="FiniteLossHook"),
    dict(type="DetailedLossLogHook", interval=10),
]
