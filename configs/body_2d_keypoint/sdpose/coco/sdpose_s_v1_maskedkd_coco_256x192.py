"""SDPose-S-V1 distilled on a random 70 % of the visual tokens (an experiment, not a default)."""

_base_ = "../_base_/sdpose_coco_256x192.py"

exp_name = "sdpose_s_v1_maskedkd"  # results go to work_dirs/<exp_name>
data_root = "data/coco/"  # annotations/, train2017/, val2017/; or --set train.data_root=...
load_from = None  # weights to start from, such as those of convert.sdpose
resume = False  # or --resume: go on from the last checkpoint in work_dirs/<exp_name>

model = dict(
    head=dict(
        loss_vis_token_dist=dict(
            type="MaskedTokenDistilLoss",
            loss_weight=1e-5,
            mask_ratio=0.3,
            mask_strategy="random",  # or "importance"
            # A detached teacher ran away from its student: docs/gpu/nvidia_h200/fsd.md.
            detach_teacher=False,
        ),
    )
)
