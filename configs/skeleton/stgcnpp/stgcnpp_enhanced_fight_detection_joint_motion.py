"""The joint-motion stream of the fight detector; train.fight --train-config <this file>."""

_base_ = "stgcnpp_enhanced_fight_detection_stable.py"
train_pipeline, val_pipeline = _base_.train_pipeline, _base_.val_pipeline
train_pipeline[1].feats = val_pipeline[1].feats = ["jm"]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=val_pipeline))
test_dataloader = dict(dataset=dict(pipeline=val_pipeline))
