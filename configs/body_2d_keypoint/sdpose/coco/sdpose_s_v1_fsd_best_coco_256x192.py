"""SDPose-S-V1 with strong foreground self-distillation and learnt weights of the keypoints."""

_base_ = "../_base_/sdpose_coco_256x192.py"

exp_name = "sdpose_s_v1_fsd_best"  # results go to work_dirs/<exp_name>
data_root = "data/coco/"  # annotations/, train2017/, val2017/; or --set train.data_root=...
load_from = None  # weights to start from, such as those of convert.sdpose
resume = False  # or --resume: go on from the last checkpoint in work_dirs/<exp_name>

model = dict(
    head=dict(
        loss_vis_token_dist=dict(
            type="ForegroundTokenDistilLoss",
            loss_weight=8e-6,
            foreground_weight=3.0,
            background_weight=0.3,
            threshold=0.08,
            temperature=0.8,
            use_spatial_weight=True,
            # A detached teacher ran away from its student: docs/gpu/nvidia_h200/fsd.md.
            detach_teacher=False,
        ),
        loss_kpt_token_dist=dict(
            _delete_=True,
            type="AdaptiveForegroundDistilLoss",
            loss_weight=8e-6,
            num_keypoints=17,
            use_keypoint_guidance=True,
            detach_teacher=False,
        ),
    )
)
optim_wrapper = dict(
    clip_grad=dict(max_norm=1.0, norm_type=2),
    # Whatever the weight decay is: it would pull the learnt weights of the keypoints together.
    optimizer=dict(weight_decay=0.0),
    paramwise_cfg=dict(custom_keys={"keypoint_logits": dict(decay_mult=0.0)}),
)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.001, by_epoch=False, begin=0, end=1000),  # warm-up
    dict(type="MultiStepLR", milestones=[200, 260], gamma=0.1, by_epoch=True, begin=0, end=300),
]
train_cfg = dict(val_interval=5)
