"""Data of RTMO-t: the steps of data_640x640.py on pictures of 416 x 416, no MixUp."""

_base_ = "data_640x640.py"

codec = dict(type="YOLOXPoseAnnotationProcessor", input_size=(416, 416))
# In place of a step's own, wherever it has one.
sizes = dict(img_scale=(416, 416), input_size=(416, 416), encoder=codec)
train_pipeline = [
    {key: sizes.get(key, value) for key, value in step.items()}
    for step in _base_.train_pipeline
    if step["type"] != "YOLOXMixUp"
]
last_pipeline = [
    {key: sizes.get(key, value) for key, value in step.items()} for step in _base_.last_pipeline
]
val_pipeline = [
    {key: sizes.get(key, value) for key, value in step.items()} for step in _base_.val_pipeline
]
del sizes
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=val_pipeline))
test_dataloader = val_dataloader
