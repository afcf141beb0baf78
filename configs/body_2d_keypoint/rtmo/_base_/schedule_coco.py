"""Schedule of RTMO on COCO, logs and checkpoints: 600 epochs.

Lu et al., "RTMO: Towards High-Performance One-Stage Real-Time Multi-Person Pose Estimation", CVPR
2024; networks, losses and schedule are those of mmpose 1.3. Edit a child, not this file.
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
# A config puts its RTMOScheduleHook before them in custom_hooks.
training_hooks = [
    dict(type="TrainingMonitorHook", heatmaps=False),  # loss spikes, falling AP
    dict(type="DetailedLossLogHook", interval=50),  # every loss item
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
