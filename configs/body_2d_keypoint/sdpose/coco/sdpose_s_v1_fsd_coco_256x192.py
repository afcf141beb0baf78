"""SDPose-S-V1 with foreground self-distillation: the person counts twice, the background half."""

_base_ = "../_base_/sdpose_coco_256x192.py"

exp_name = "sdpose_s_v1_fsd"  # results go to work_dirs/<exp_name>
data_root = "data/coco/"  # annotations/, train2017/, val2017/; or --set train.data_root=...
load_from = None  # weights to start from, such as those of convert.sdpose
resume = False  # or --resume: go on from the last checkpoint in work_dirs/<exp_name>

model = dict(
    head=dict(
        loss_vis_token_dist=dict(
            type="ForegroundTokenDistilLoss",
            loss_weight=5e-6,
            foreground_weight=2.0,
            background_weight=0.5,
            threshold=0.1,
            temperature=1.0,
            use_spatial_weight=True,
            # A detached teacher ran away from its student: docs/gpu/nvidia_h200/fsd.md.
            detach_teacher=False,
        ),
    )
)
