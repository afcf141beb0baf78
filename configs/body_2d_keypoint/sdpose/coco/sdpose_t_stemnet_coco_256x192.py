"""SDPose-T: 256 + 17 tokens, 6 blocks, 3 cycles."""

_base_ = "../_base_/sdpose_coco_256x192.py"

exp_name = "sdpose_t_stemnet"  # results go to work_dirs/<exp_name>
data_root = "data/coco/"  # annotations/, train2017/, val2017/; or --set train.data_root=...
load_from = None  # weights to start from, such as those of convert.sdpose
resume = False  # or --resume: go on from the last checkpoint in work_dirs/<exp_name>

model = dict(head=dict(depth=6, cycles=3))
