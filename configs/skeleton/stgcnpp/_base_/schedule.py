"""How the network learns: AdamW, warm-up and steps, 30 epochs."""

optim_wrapper = dict(
    type="OptimWrapper",
    optimizer=dict(type="AdamW", lr=0.0001, weight_decay=0.001, betas=(0.9, 0.999), eps=1e-8),
    clip_grad=dict(max_norm=2.0, norm_type=2),
)
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
        type="MultiStepLR",
        by_epoch=True,
        begin=3,
        end=1000,  # without it, the last epoch, which mmengine refuses below begin
        milestones=[15, 25],
        gamma=0.5,
    ),
]

train_cfg = dict(type="EpochBasedTrainLoop", max_epochs=30, val_begin=1, val_interval=2)
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")

# lr is meant for 128 samples a step (over all processes) and is scaled to those there really are.
auto_scale_lr = dict(base_batch_size=128, enable=True)
