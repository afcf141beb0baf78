"""RTMO-s on COCO at 640 x 640: what the configs of the other folders share.

Lu et al., "RTMO: Towards High-Performance One-Stage Real-Time Multi-Person Pose Estimation", CVPR
2024. Network, losses and schedule are those of mmpose 1.3 (its rtmo-s, m and l on COCO; its rtmo-t
is trained on seven data sets). Edit a child, not this file.
"""

default_scope = "mmpose"
# What our names in this config mean; needs the project's folder on PYTHONPATH.
custom_imports = dict(imports=["recognizer.sdpose.registered"], allow_failed_imports=False)

# --- schedule ------------------------------------------------------------------------
# From epoch 280 on the keypoints of the coordinate classification teach the regression; the last
# 20 epochs see whole pictures, without Mosaic and MixUp.
train_cfg = dict(by_epoch=True, max_epochs=600, val_interval=20, dynamic_intervals=[(580, 1)])
val_cfg = dict()
test_cfg = dict()
optim_wrapper = dict(
    type="OptimWrapper",
    constructor="ForceDefaultOptimWrapperConstructor",
    optimizer=dict(type="AdamW", lr=0.004, weight_decay=0.05),
    paramwise_cfg=dict(
        norm_decay_mult=0,
        bias_decay_mult=0,
        bypass_duplicate=True,
        force_default_settings=True,
        custom_keys={"neck.encoder": dict(lr_mult=0.05)},
    ),
    clip_grad=dict(max_norm=0.1, norm_type=2),
)
param_scheduler = [
    dict(type="QuadraticWarmupLR", by_epoch=True, begin=0, end=5, convert_to_iter_based=True),
    dict(
        type="CosineAnnealingLR",
        eta_min=2e-4,
        by_epoch=True,
        begin=5,
        end=280,
        T_max=280,
        convert_to_iter_based=True,
    ),
    dict(type="ConstantLR", by_epoch=True, factor=2.5, begin=280, end=281),  # 2e-4 to 5e-4
    dict(
        type="CosineAnnealingLR",
        eta_min=2e-4,
        by_epoch=True,
        begin=281,
        end=580,
        T_max=300,
        convert_to_iter_based=True,
    ),
    dict(type="ConstantLR", by_epoch=True, factor=1, begin=580, end=600),
]
# The rate is for 8 GPUs x 32 images; --cfg-options auto_scale_lr.enable=True scales it to others.
auto_scale_lr = dict(base_batch_size=256, enable=False)
# A batch without people after the augmentation trains the classification alone.
find_unused_parameters = True

# --- network -------------------------------------------------------------------------
keypoints = "configs/_base_/datasets/coco.py"  # mmpose's own: sigmas for OKS
norm_cfg = dict(type="BN", momentum=0.03, eps=0.001)
model = dict(
    type="BottomupPoseEstimator",
    init_cfg=dict(
        type="Kaiming",
        layer="Conv2d",
        a=5**0.5,
        distribution="uniform",
        mode="fan_in",
        nonlinearity="leaky_relu",
    ),
    data_preprocessor=dict(
        type="PoseDataPreprocessor",  # BGR, 0 to 255
        mean=[0, 0, 0],
        std=[1, 1, 1],
        pad_size_divisor=32,
        batch_augments=[
            dict(
                type="BatchSyncRandomResize",
                random_size_range=(480, 800),
                size_divisor=32,
                interval=1,
            )
        ],
    ),
    # Published RTMOs start from YOLOX on COCO: init_cfg=dict(type="Pretrained", prefix="backbone.",
    # checkpoint=<file or address of yolox_s_8x8_300e_coco_20211121_095711-4592a793.pth>).
    backbone=dict(
        type="CSPDarknet",
        deepen_factor=0.33,
        widen_factor=0.5,
        out_indices=(2, 3, 4),
        spp_kernal_sizes=(5, 9, 13),  # mmpose's spelling
        norm_cfg=norm_cfg,
        act_cfg=dict(type="Swish"),
    ),
    neck=dict(
        type="HybridEncoder",
        in_channels=[128, 256, 512],
        deepen_factor=0.33,
        widen_factor=0.5,
        hidden_dim=256,
        output_indices=[1, 2],
        encoder_cfg=dict(
            self_attn_cfg=dict(embed_dims=256, num_heads=8, dropout=0.0),
            ffn_cfg=dict(
                embed_dims=256, feedforward_channels=1024, ffn_drop=0.0, act_cfg=dict(type="GELU")
            ),
        ),
        projector=dict(
            type="ChannelMapper",
            in_channels=[256, 256],
            out_channels=256,
            kernel_size=1,
            num_outs=2,
            act_cfg=None,
            norm_cfg=dict(type="BN"),
        ),
    ),
    head=dict(
        type="RTMOHead",
        num_keypoints=17,
        featmap_strides=(16, 32),
        head_module_cfg=dict(
            num_classes=1,
            in_channels=256,
            cls_feat_channels=256,
            channels_per_group=36,
            pose_vec_channels=256,
            widen_factor=0.5,
            stacked_convs=2,
            norm_cfg=norm_cfg,
            act_cfg=dict(type="Swish"),
        ),
        assigner=dict(
            type="SimOTAAssigner",
            dynamic_k_indicator="oks",
            oks_calculator=dict(type="PoseOKS", metainfo=keypoints),
            use_keypoints_for_center=True,
        ),
        prior_generator=dict(type="MlvlPointGenerator", centralize_points=True, strides=[16, 32]),
        dcc_cfg=dict(
            in_channels=256,
            feat_channels=128,
            num_bins=(192, 256),
            spe_channels=128,
            gau_cfg=dict(
                s=128,
                expansion_factor=2,
                dropout_rate=0.0,
                drop_path=0.0,
                act_fn="SiLU",
                pos_enc="add",
            ),
        ),
        overlaps_power=0.5,
        loss_cls=dict(
            type="VariFocalLoss", reduction="sum", use_target_weight=True, loss_weight=1.0
        ),
        loss_bbox=dict(type="IoULoss", mode="square", eps=1e-16, reduction="sum", loss_weight=5.0),
        loss_oks=dict(type="OKSLoss", reduction="none", metainfo=keypoints, loss_weight=30.0),
        loss_vis=dict(type="BCELoss", reduction="mean", use_target_weight=True, loss_weight=1.0),
        loss_mle=dict(type="MLECCLoss", use_target_weight=True, loss_weight=1.0),
        loss_bbox_aux=dict(type="L1Loss", reduction="sum", loss_weight=1.0),
    ),
    test_cfg=dict(input_size=(640, 640), score_thr=0.1, nms_thr=0.65),
)

# --- data ----------------------------------------------------------------------------
data_root = "data/coco/"
codec = dict(type="YOLOXPoseAnnotationProcessor", input_size=(640, 640))
train_pipeline = [
    dict(type="LoadImage"),
    dict(
        type="Mosaic", img_scale=(640, 640), pad_val=114.0, pre_transform=[dict(type="LoadImage")]
    ),
    dict(
        type="BottomupRandomAffine",
        input_size=(640, 640),
        shift_factor=0.1,
        rotate_factor=10,
        scale_factor=(0.75, 1.0),
        pad_val=114,
        distribution="uniform",
        transform_mode="perspective",
        bbox_keep_corner=False,
        clip_border=True,
    ),
    dict(
        type="YOLOXMixUp",
        img_scale=(640, 640),
        ratio_range=(0.8, 1.6),
        pad_val=114.0,
        pre_transform=[dict(type="LoadImage")],
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
        input_size=(640, 640),
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
    # Crowds and people without keypoints: ignore regions, neither a person nor
    # background.
    dict(type="BottomupGetHeatmapMask", get_invalid=True),
    dict(type="FilterAnnotations", by_kpt=True, by_box=True, keep_empty=False),
    dict(type="GenerateTarget", encoder=codec),
    dict(type="PackPoseInputs"),
]
val_pipeline = [
    dict(type="LoadImage"),
    dict(type="BottomupResize", input_size=(640, 640), pad_val=(114, 114, 114)),
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
train_dataloader = dict(
    batch_size=32,
    num_workers=8,
    persistent_workers=True,
    pin_memory=True,
    sampler=dict(type="DefaultSampler", shuffle=True),
    dataset=dict(
        type="CocoDataset",
        data_root=data_root,
        data_mode="bottomup",
        ann_file="annotations/person_keypoints_train2017.json",
        data_prefix=dict(img="train2017/"),
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=2,
    persistent_workers=True,
    pin_memory=True,
    drop_last=False,
    sampler=dict(type="DefaultSampler", shuffle=False, round_up=False),
    dataset=dict(
        type="CocoDataset",
        data_root=data_root,
        data_mode="bottomup",
        ann_file="annotations/person_keypoints_val2017.json",
        data_prefix=dict(img="val2017/"),
        test_mode=True,
        pipeline=val_pipeline,
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(
    type="CocoMetric",
    ann_file=data_root + "annotations/person_keypoints_val2017.json",
    score_mode="bbox",
    nms_mode="none",
)
test_evaluator = val_evaluator

# --- checkpoints, logs -----------------------------------------------------------------
default_hooks = dict(
    runtime_info=dict(type="RuntimeInfoHook"),
    timer=dict(type="IterTimerHook"),
    logger=dict(type="LoggerHook", interval=50),
    param_scheduler=dict(type="ParamSchedulerHook"),
    checkpoint=dict(
        type="CheckpointHook", interval=40, save_best="coco/AP", rule="greater", max_keep_ckpts=3
    ),
    sampler_seed=dict(type="DistSamplerSeedHook"),
    sync_buffers=dict(type="SyncBuffersHook"),
)
custom_hooks = [
    dict(type="TrainingMonitorHook", heatmaps=False),  # loss spikes, falling AP
    dict(type="DetailedLossLogHook", interval=50),  # every loss item
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
        type="EMAHook",  # checkpoints hold the mean; so do validations
        ema_type="ExpMomentumEMA",
        momentum=0.0002,
        update_buffers=True,
        strict_load=False,
        priority=49,
    ),
    dict(type="PlainCheckpointHook"),  # resume on torch >= 2.6: no code in a checkpoint
    dict(type="FiniteLossHook"),  # stop where the loss is not a number
]
env_cfg = dict(
    cudnn_benchmark=False,  # the size changes from batch to batch
    mp_cfg=dict(mp_start_method="fork", opencv_num_threads=0),
    dist_cfg=dict(backend="nccl"),  # gloo where there is no GPU (main.py sets it)
)
log_processor = dict(type="LogProcessor", window_size=50, by_epoch=True, num_digits=6)
vis_backends = [dict(type="LocalVisBackend"), dict(type="TensorboardVisBackend")]
visualizer = dict(type="PoseLocalVisualizer", vis_backends=vis_backends, name="visualizer")
log_level = "INFO"
load_from = None
resume = False
