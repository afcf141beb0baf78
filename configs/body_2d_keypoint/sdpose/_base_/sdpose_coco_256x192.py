"""SDPose-S-V1 on COCO: everything that the configs beside this folder share.

Chen et al., "SDPose: Tokenized Pose Estimation via Circulation-Guide Self-Distillation", CVPR 2024.
Edit a child, not this file: mmengine keeps no aliases, so a child's ``data_root`` reaches the
loaders only through ``main.py`` (or ``--set train.data_root=...``).
"""

default_scope = "mmpose"
# What our names in this config mean; needs the project's folder on PYTHONPATH.
custom_imports = dict(imports=["recognizer.sdpose.registered"], allow_failed_imports=False)

# --- schedule ------------------------------------------------------------------------
train_cfg = dict(by_epoch=True, max_epochs=300, val_interval=5)
val_cfg = dict()
test_cfg = dict()
optim_wrapper = dict(type="OptimWrapper", optimizer=dict(type="Adam", lr=1e-3))
param_scheduler = [
    dict(type="LinearLR", start_factor=0.001, by_epoch=False, begin=0, end=500),  # warm-up
    dict(type="MultiStepLR", milestones=[200, 260], gamma=0.1, by_epoch=True, begin=0, end=300),
]
# The rate is for 8 GPUs x 64 images; --cfg-options auto_scale_lr.enable=True scales it to others.
auto_scale_lr = dict(base_batch_size=512, enable=False)

# --- network -------------------------------------------------------------------------
codec = dict(
    type="MSRAHeatmap",
    input_size=(192, 256),
    heatmap_size=(48, 64),
    sigma=2,
    unbiased=True,
    blur_kernel_size=11,
)
model = dict(
    type="TopdownPoseEstimator",
    data_preprocessor=dict(
        type="PoseDataPreprocessor",
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
    ),
    backbone=dict(type="SDPoseStem"),
    head=dict(
        type="SDPoseHead",
        in_channels=256,
        patch_size=(4, 3),  # rows, columns of the stem's 64 x 48 map
        depth=12,
        cycles=2,
        loss=dict(type="KeypointMSELoss", use_target_weight=True),
        loss_vis_token_dist=dict(type="TokenDistilLoss", loss_weight=5e-6),
        loss_kpt_token_dist=dict(type="TokenDistilLoss", loss_weight=5e-6),
        decoder=codec,
    ),
    test_cfg=dict(flip_test=True, flip_mode="heatmap", shift_heatmap=True),
)

# --- data ----------------------------------------------------------------------------
data_root = "data/coco/"
train_pipeline = [
    dict(type="LoadImage"),
    dict(type="GetBBoxCenterScale", padding=1.25),
    dict(type="RandomFlip", direction="horizontal", prob=0.5),
    dict(type="RandomHalfBody", min_total_keypoints=9, prob=0.3),
    dict(
        type="RandomBBoxTransform",
        shift_factor=0.16,
        shift_prob=0.3,
        scale_factor=(0.65, 1.35),
        rotate_factor=80,
        rotate_prob=0.6,
    ),
    dict(type="TopdownAffine", input_size=codec["input_size"]),
    dict(type="GenerateTarget", encoder=codec),
    dict(type="PackPoseInputs"),
]
val_pipeline = [
    dict(type="LoadImage"),
    dict(type="GetBBoxCenterScale", padding=1.25),
    dict(type="TopdownAffine", input_size=codec["input_size"]),
    dict(type="PackPoseInputs"),
]
train_dataloader = dict(
    batch_size=64,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type="DefaultSampler", shuffle=True),
    dataset=dict(
        type="CocoDataset",
        data_root=data_root,
        data_mode="topdown",
        ann_file="annotations/person_keypoints_train2017.json",
        data_prefix=dict(img="train2017/"),
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=64,
    num_workers=2,
    persistent_workers=True,
    drop_last=False,
    sampler=dict(type="DefaultSampler", shuffle=False, round_up=False),
    dataset=dict(
        type="CocoDataset",
        data_root=data_root,
        data_mode="topdown",
        ann_file="annotations/person_keypoints_val2017.json",
        # Annotated boxes. Published figures are on a detector's boxes: --cfg-options
        # test_dataloader.dataset.bbox_file=<path>/COCO_val2017_detections_AP_H_56_person.json for
        # test.pose, val_dataloader... for evaluation in training.
        bbox_file=None,
        data_prefix=dict(img="val2017/"),
        test_mode=True,
        pipeline=val_pipeline,
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(
    type="CocoMetric",
    ann_file=data_root + "annotations/person_keypoints_val2017.json",
    score_mode="bbox_keypoint",
    keypoint_score_thr=0.2,
    nms_mode="oks_nms",
    nms_thr=0.9,
)
test_evaluator = val_evaluator

# --- checkpoints, logs -----------------------------------------------------------------
default_hooks = dict(
    runtime_info=dict(type="RuntimeInfoHook"),
    timer=dict(type="IterTimerHook"),
    logger=dict(type="LoggerHook", interval=50),
    param_scheduler=dict(type="ParamSchedulerHook"),
    checkpoint=dict(
        type="CheckpointHook", interval=10, save_best="coco/AP", rule="greater", max_keep_ckpts=3
    ),
    sampler_seed=dict(type="DistSamplerSeedHook"),
    sync_buffers=dict(type="SyncBuffersHook"),
)
custom_hooks = [
    dict(type="TrainingMonitorHook"),  # loss spikes, falling AP, training_stats.txt
    dict(type="DetailedLossLogHook", interval=50),  # every loss item
    dict(type="PlainCheckpointHook"),  # resume on torch >= 2.6: no code in a checkpoint
    dict(type="FiniteLossHook"),  # stop where the loss is not a number
]
env_cfg = dict(
    cudnn_benchmark=True,
    mp_cfg=dict(mp_start_method="fork", opencv_num_threads=0),
    dist_cfg=dict(backend="nccl"),  # gloo where there is no GPU (main.py sets it)
)
log_processor = dict(type="LogProcessor", window_size=50, by_epoch=True, num_digits=6)
vis_backends = [dict(type="LocalVisBackend"), dict(type="TensorboardVisBackend")]
visualizer = dict(type="PoseLocalVisualizer", vis_backends=vis_backends, name="visualizer")
log_level = "INFO"
load_from = None
resume = False
