"""Checkpoints, logs and what surrounds a training."""

default_scope = "mmaction"
# What our names in this config mean; needs the project's folder on PYTHONPATH.
custom_imports = dict(imports=["recognizer.action.registered"], allow_failed_imports=False)

default_hooks = dict(
    runtime_info=dict(type="RuntimeInfoHook"),
    timer=dict(type="IterTimerHook"),
    logger=dict(type="LoggerHook", interval=20, ignore_last=False),
    param_scheduler=dict(type="ParamSchedulerHook"),
    checkpoint=dict(type="CheckpointHook", interval=10, save_best="auto", max_keep_ckpts=5),
    sampler_seed=dict(type="DistSamplerSeedHook"),
    sync_buffers=dict(type="SyncBuffersHook"),
    # Early stopping is off: see stgcnpp_enhanced_fight_detection_stable.py for the option.
)
custom_hooks = [
    dict(type="PlainCheckpointHook"),  # resume on torch >= 2.6: no code in a checkpoint
    dict(type="FiniteLossHook"),  # stop where the loss is not a number
]

env_cfg = dict(
    cudnn_benchmark=False,
    mp_cfg=dict(mp_start_method="fork", opencv_num_threads=0),
    dist_cfg=dict(backend="nccl"),  # gloo where there is no GPU (main.py sets it)
)
log_processor = dict(type="LogProcessor", window_size=20, by_epoch=True)
vis_backends = [dict(type="LocalVisBackend"), dict(type="TensorboardVisBackend")]
visualizer = dict(type="ActionVisualizer", vis_backends=vis_backends)
log_level = "INFO"
load_from = None
resume = False
