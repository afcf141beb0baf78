"""SDPose-S-V1 with foreground weights that grow from epoch 50 to epoch 150."""

_base_ = "../_base_/sdpose_coco_256x192.py"

exp_name = "sdpose_s_v1_fsd_dynamic"  # results go to work_dirs/<exp_name>
data_root = "data/coco/"  # annotations/, train2017/, val2017/; or --set train.data_root=...
load_from = None  # weights to start from, such as those of convert.sdpose
resume = False  # or --resume: go on from the last checkpoint in work_dirs/<exp_name>

model = dict(
    head=dict(
        loss_vis_token_dist=dict(
            type="DynamicForegroundDistilLoss",
            loss_weight=5e-6,
            start_epoch=50,
            end_epoch=150,
            max_fg_weight=3.0,
            min_bg_weight=0.3,
            # A detached teacher ran away from its student: docs/gpu/nvidia_h200/fsd.md.
            detach_teacher=False,
        ),
    )
)
