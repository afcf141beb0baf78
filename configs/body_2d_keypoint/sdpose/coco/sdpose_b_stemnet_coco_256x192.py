"""SDPose-B: HRNet-W32 without its fourth stage as stem, otherwise as S-V1; 8 GPUs x 32 images.

Its HRNet starts from random weights, not from ImageNet's, unless ``load_from`` names some.
"""

_base_ = "../_base_/sdpose_coco_256x192.py"

exp_name = "sdpose_b_stemnet"  # results go to work_dirs/<exp_name>
data_root = "data/coco/"  # annotations/, train2017/, val2017/; or --set train.data_root=...
load_from = None  # weights to start from, such as those of convert.sdpose
resume = False  # or --resume: go on from the last checkpoint in work_dirs/<exp_name>

model = dict(backbone=dict(_delete_=True, type="HRNetStem"), head=dict(in_channels=32))
train_dataloader = dict(batch_size=32)
auto_scale_lr = dict(base_batch_size=256)
