"""RTMO-t: YOLOX-tiny's backbone, pictures of 416 x 416, no MixUp; 8 GPUs x 32 images."""

_base_ = "../_base_/rtmo_coco.py"

exp_name = "rtmo_t"  # results go to work_dirs/<exp_name>
data_root = "data/coco/"  # annotations/, train2017/, val2017/; or --set train.data_root=...
load_from = None  # weights to start from, such as those of models.fetch=rtmo-t
resume = False  # or --resume: go on from the last checkpoint in work_dirs/<exp_name>

model = dict(
    data_preprocessor=dict(
        batch_augments=[
            dict(
                type="BatchSyncRandomResize",
                random_size_range=(320, 640),
                size_divisor=32,
                interval=1,
            )
        ]
    ),
    backbone=dict(widen_factor=0.375),
    neck=dict(in_channels=[96, 192, 384], widen_factor=0.375, projector=dict(out_channels=192)),
    head=dict(
        head_module_cfg=dict(pose_vec_channels=192, widen_factor=0.375),
        dcc_cfg=dict(in_channels=192),
    ),
    test_cfg=dict(input_size=(416, 416)),
)
codec = dict(type="YOLOXPoseAnnotationProcessor", input_size=(416, 416))
train_pipeline = [
    dict(type="LoadImage"),
    dict(
        type="Mosaic", img_scale=(416, 416), pad_val=114.0, pre_transform=[dict(type="LoadImage")]
    ),
    dict(
        type="BottomupRandomAffine",
        input_size=(416, 416),
        shift_factor=0.1,
        rotate_factor=10,
        scale_factor=(0.75, 1.0),
        pad_val=114,
        distribution="uniform",
        transform_mode="perspective",
        bbox_keep_corner=False,
        clip_border=True,
    ),
    dict(type="YOLOXHSVRandomAug"),
    dict(type="RandomFlip"),
    dict(type="FilterAnnotations", by_kpt=True, by_box=True, keep_empty=False),
    dict(type="GenerateTarget", encoder=codec),
    dict(type="PackPoseInputs"),
]
last_pipeline = [
    dict(type="LoadImage"),
    dict(
        type="BottomupRandomAffine",
        input_size=(416, 416),
        shift_prob=0,
        rotate_prob=0,
        scale_prob=0,
        scale_type="long",
        pad_val=(114, 114, 114),
        bbox_keep_corner=False,
        clip_border=True,
    ),
    dict(type="YOLOXHSVRandomAug"),
    dict(type="RandomFlip"),
    dict(type="BottomupGetHeatmapMask", get_invalid=True),
    dict(type="FilterAnnotations", by_kpt=True, by_box=True, keep_empty=False),
    dict(type="GenerateTarget", encoder=codec),
    dict(type="PackPoseInputs"),
]
val_pipeline = [
    dict(type="LoadImage"),
    dict(type="BottomupResize", input_size=(416, 416), pad_val=(114, 114, 114)),
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
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=val_pipeline))
test_dataloader = val_dataloader
custom_hooks = [
    dict(type="TrainingMonitorHook", heatmaps=False),
    dict(type="DetailedLossLogHook", interval=50),
    dict(
        type="RTMOScheduleHook",
        changes={
            280: {
                "proxy_target_cc": True,
                "loss_mle.loss_weight": 5.0,
                "loss_oks.loss_weight": 10.0,
            }
        },
        last_epochs=20,
        last_pipeline=last_pipeline,
        priority=48,
    ),
    dict(type="SyncNormHook", priority=48),
    dict(
        type="EMAHook",
        ema_type="ExpMomentumEMA",
        momentum=0.0002,
        update_buffers=True,
        strict_load=False,
        priority=49,
    ),
    dict(type="PlainCheckpointHook"),
    dict(type="FiniteLossHook"),
]
