"""SDPose-S-V2: patches of 2 x 2, so 768 + 17 tokens; 8 GPUs x 24 images."""

_base_ = "../_base_/sdpose_coco_256x192.py"

exp_name = "sdpose_s_v2_stemnet"  # results go to work_dirs/<exp_name>
data_root = "data/coco/"  # annotations/, train2017/, val2017/; or --set train.data_root=...
load_from = None  # weights to start from, such as those of convert.sdpose
resume = False  # or --resume: go on from the last checkpoint in work_dirs/<exp_name>

model = dict(head=dict(patch_size=(2, 2)))
train_dataloader = dict(batch_size=24)
auto_scale_lr = dict(base_batch_size=192)
