"""The joint stream of the falldown detector; train.falldown --train-config <this file>."""

_base_ = "stgcnpp_enhanced_falldown_detection_stable.py"
train_pipeline, val_pipeline = _base_.train_pipeline, _base_.val_pipeline
train_pipeline[1].feats = val_pipeline[1].feats = ["j"]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=val_pipeline))
test_dataloader = dict(dataset=dict(pipeline=val_pipeline))
