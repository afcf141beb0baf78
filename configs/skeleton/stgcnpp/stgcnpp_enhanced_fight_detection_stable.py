"""ST-GCN++ on bones that tells fights from other scenes: a plain mmaction2 config.

    python main.py --mode train.fight
    PYTHONPATH=. python <mmaction2>/tools/train.py <this file>

Changes by --cfg-options, which also take "a.b=c" of these:

    mixed precision          optim_wrapper.type=AmpOptimWrapper
                             (on a CPU: optim_wrapper.dtype=bfloat16 beside it)
    accumulation             optim_wrapper.accumulative_counts=4
    gradient checkpointing   model.backbone.type=FastSTGCN model.backbone.with_cp=True
    early stopping           default_hooks.early_stopping.type=EarlyStoppingHook
                             default_hooks.early_stopping.monitor=acc/top1
                             default_hooks.early_stopping.patience=10
    weights of the classes   class_weight_from=metadata (stage 3's metadata.json; main.py only)
    lighter, wider           model.backbone.base_channels=32 model.cls_head.in_channels=64 (96, 192)

The other configs here are children of this one. mmengine keeps no aliases: changing
``train_pipeline`` in a child changes nothing, so children edit the loaders.
"""

_base_ = ["_base_/model.py", "_base_/schedule.py", "_base_/runtime.py"]

dataset_type = "PoseDataset"
data_root = "data/fight"
ann_file_train = data_root + "/train.pkl"
ann_file_val = data_root + "/val.pkl"
ann_file_test = data_root + "/test.pkl"

train_pipeline = [
    dict(type="PreNormalize2D"),
    dict(type="GenSkeFeat", dataset="coco", feats=["b"]),
    dict(type="UniformSampleFrames", clip_len=100),
    dict(type="PoseDecode"),
    dict(type="FormatGCNInput", num_person=4),
    dict(type="PackActionInputs"),
]
val_pipeline = [
    dict(type="PreNormalize2D"),
    dict(type="GenSkeFeat", dataset="coco", feats=["b"]),
    dict(type="UniformSampleFrames", clip_len=100, num_clips=1, test_mode=True),
    dict(type="PoseDecode"),
    dict(type="FormatGCNInput", num_person=4),
    dict(type="PackActionInputs"),
]
test_pipeline = val_pipeline

train_dataloader = dict(
    batch_size=32,
    num_workers=8,
    persistent_workers=True,
    sampler=dict(type="DefaultSampler", shuffle=True),
    dataset=dict(
        type=dataset_type, ann_file=ann_file_train, pipeline=train_pipeline, test_mode=False
    ),
)
val_dataloader = dict(
    batch_size=32,
    num_workers=8,
    persistent_workers=True,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(type=dataset_type, ann_file=ann_file_val, pipeline=val_pipeline, test_mode=True),
)
test_dataloader = dict(
    batch_size=32,
    num_workers=8,
    persistent_workers=True,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(type=dataset_type, ann_file=ann_file_test, pipeline=test_pipeline, test_mode=True),
)

val_evaluator = [
    dict(
        type="AccMetric",
        metric_options=dict(top_k_accuracy=dict(topk=(1,)), mean_class_accuracy=dict()),
    )
]
test_evaluator = val_evaluator
