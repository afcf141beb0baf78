"""ST-GCN++ on bones that tells falls from other scenes: the fight detector's, more sensitive.

python main.py --mode train.falldown
"""

_base_ = "stgcnpp_enhanced_fight_detection_stable.py"

data_root = "data/falldown"
ann_file_train = data_root + "/train.pkl"
ann_file_val = data_root + "/val.pkl"
ann_file_test = data_root + "/test.pkl"

model = dict(cls_head=dict(dropout=0.2, loss_cls=dict(class_weight=[1.0, 1.5])))
train_dataloader = dict(dataset=dict(ann_file=ann_file_train))
val_dataloader = dict(dataset=dict(ann_file=ann_file_val))
test_dataloader = dict(dataset=dict(ann_file=ann_file_test))
