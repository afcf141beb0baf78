"""Names and keys of training configs that nothing reads are refused, with where they belong."""

import re

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("mmaction")
pytest.importorskip("mmpose")

from mmengine.config import Config  # noqa: E402

from recognizer.action.train_config import load_train_config  # noqa: E402
from recognizer.openmmlab import scope  # noqa: E402
from tests.runner.configs import CONFIGS, FIGHT, classifier, pose, refusal, written  # noqa: E402

DEMO = CONFIGS / "demo_fight.py"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("train_cfgg = dict(max_epochs=3)", "train_cfgg: did you mean train_cfg\n"),
        ("Model = dict()", "Model: did you mean model\n"),
        ("max_epoch = 3", "max_epoch: did you mean train_cfg.max_epochs\n"),
        ("lr = 1e-3", "lr: did you mean optim_wrapper.optimizer.lr\n"),
        ("batchsize = 3", "batchsize: did you mean train_dataloader.batch_size or val_"),
        ("ann_file_train = 'x.pkl'", "did you mean train_dataloader.dataset.ann_file; "),
        ("vis_backends = []", "did you mean visualizer.vis_backends; "),
        ("early_stopping = dict(type='EarlyStoppingHook')", "mean default_hooks.early_stopping\n"),
        ("clip_len = 50", "_base_.train_dataloader.dataset.pipeline[2].clip_len = 50"),
        ("nonsense = 1", "nonsense: neither a key nor a name that this config or its classes know"),
        ("exp_name = 'x'", "work_dir = 'work_dirs/x'"),
        (
            "model = dict(cls_head=dict(dropout=0.1)),",
            "the comma at the end of line 2 makes a tuple",
        ),
        ("_base_.train_pipeline[1].feats = ['j']", "change train_dataloader.dataset.pipeline"),
        ("import math\nnonsense = math.pi", "nonsense: neither"),
    ],
)
def test_a_name_that_nothing_reads_is_refused(tmp_path, line, message):
    assert message in f"{refusal(classifier, tmp_path, line)}\n"


def test_a_name_that_a_base_of_ones_own_leaves_unread_is_the_bases_fault(tmp_path):
    base = tmp_path / "base.py"
    base.write_text(f"_base_ = {str(FIGHT)!r}\nmask_ratio = 0.5\n", encoding="utf-8")
    assert refusal(classifier, tmp_path, "", base=base).startswith(f"{base}: expected")
    message = classifier(tmp_path, "randomness = dict(seed=int(_base_.mask_ratio * 10))", base=base)
    assert message.randomness.seed == 5


def test_a_variable_is_reported_with_all_places_that_the_base_put_it_to(tmp_path):
    message = refusal(classifier, tmp_path, "max_epochs = 5", base=DEMO)
    assert "compute param_scheduler.1.T_max anew" in message
    cfg = classifier(tmp_path, written(message), base=DEMO)
    assert (cfg.train_cfg.max_epochs, cfg.param_scheduler[1].end) == (5, 5)
    message = refusal(pose, tmp_path, "codec = dict(type='MSRAHeatmap', sigma=3)")
    cfg = pose(tmp_path, written(message))
    encoder = cfg.train_dataloader.dataset.pipeline[6].encoder
    assert (cfg.model.head.decoder.sigma, encoder.sigma, encoder.unbiased) == (3, 3, True)


@pytest.mark.parametrize(
    "lines",
    [
        "steps = [dict(type='PreNormalize2D')]\n"
        "train_dataloader = dict(dataset=dict(pipeline=steps))",
        "train_pipeline = _base_.train_pipeline\ntrain_pipeline[1].feats = ['j']\n"
        "train_dataloader = dict(dataset=dict(pipeline=train_pipeline))",
        "data_root = '/x'\ntrain_dataloader = dict(dataset=dict(ann_file=f'{data_root}/t.pkl'))",
        "_base_.train_dataloader.dataset.pipeline[1].feats = ['j']",
        "resume_from = 'work_dirs/x/epoch_3.pth'",
        "class_weight_from = 'metadata'\nrecognizer = dict(threshold=0.4)\ncompile = False",
        "model = dict(test_cfg=None)\nfind_unused_parameters = True",
        "train_dataloader = dict(dataset=dict(_delete_=True, type='RepeatDataset', times=3, "
        "dataset=dict(type='PoseDataset', ann_file='t.pkl', pipeline=_base_.train_pipeline)))",
        "optim_wrapper = dict(type='AmpOptimWrapper', loss_scale=512.0, paramwise_cfg=dict("
        "norm_decay_mult=0.0, custom_keys={'backbone': dict(lr_mult=0.1)}))",
        "custom_hooks = [dict(type='EMAHook', momentum=0.1)]",
    ],
)
def test_what_is_read_is_left_alone(tmp_path, lines):
    classifier(tmp_path, lines)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        (
            "mask_ratio=0.5",
            "--cfg-options model.head.loss_vis_token_dist._delete_=True "
            "model.head.loss_vis_token_dist.type=MaskedTokenDistilLoss",
        ),
        ("loss_vis_token_dist.loss_weight=1", "--cfg-options model.head.loss_vis_token_dist.loss"),
        ("model.head.nonexist=1", "model.head.nonexist: SDPoseHead takes no nonexist"),
        ("model.head.cyles=3", "did you mean model.head.cycles"),
        ("model.keypoint_head.depth=3", "keypoint_head; mmengine reads model.head in its place"),
        ("model.test_cfg.flip_tst=False", "did you mean model.test_cfg.flip_test"),
        (
            "train_dataloader.dataset.data_prefix.image=x",
            "--cfg-options train_dataloader.dataset.data_prefix.img=x",
        ),
        ("train_dataloader.batchsize=3", "did you mean train_dataloader.batch_size"),
        ("train_dataloader.dataset.bbox_fil=x", "did you mean train_dataloader.dataset.bbox_file"),
        ("env_cfg.cudnn_benchmrk=True", "did you mean env_cfg.cudnn_benchmark"),
        ("env_cfg.mp_cfg.start_method=spawn", "did you mean env_cfg.mp_cfg.mp_start_method"),
        ("auto_scale_lr.enabled=True", "did you mean auto_scale_lr.enable"),
        ("randomness.sed=3", "did you mean randomness.seed"),
        ("optim_wrapper.paramwise_cfg.norm_decay=0", "paramwise_cfg.norm_decay_mult"),
        ("optim_wrapper.optimizer.weight_deacy=1", "mean optim_wrapper.optimizer.weight_decay"),
        ("optim_wrapper.clip_grad.max_nrm=1", "did you mean optim_wrapper.clip_grad.max_norm"),
        ("optim_wrapper.accumulative_count=4", "did you mean optim_wrapper.accumulative_counts"),
        ("param_scheduler.1.milestone=[3]", "'param_scheduler.1.milestones=[3]'"),
        ("default_hooks.checkpoint.max_keep_ckpt=3", "default_hooks.checkpoint.max_keep_ckpts=3"),
        ("default_hooks.checkpont.interval=3", "default_hooks.checkpoint.interval=3"),
        ("default_hooks.early_stopping.patience=3", "early_stopping.type=EarlyStoppingHook"),
        ("val_evaluator.metric=mAP", "val_evaluator.metric: CocoMetric takes no metric"),
        ("val_cfg.interval=3", "val_cfg.interval: val_cfg takes no interval"),
        ("train_cfg.max_epoch=3", "did you mean train_cfg.max_epochs"),
        ("visualizer.vis_backend=[]", "did you mean visualizer.vis_backends"),
        ("custom_hooks.0.windw=3", "TrainingMonitorHook takes no windw"),
        ("model.backbone.type=HRNetStm", None),  # what builds it says so
    ],
)
def test_an_option_that_nothing_reads_is_refused(tmp_path, option, message):
    if message is None:
        pose(tmp_path, "", option)
    else:
        assert message in refusal(pose, tmp_path, "", option)


def test_options_that_are_reported_can_be_given(tmp_path):
    message = refusal(pose, tmp_path, "", "mask_ratio=0.5")
    words = written(message).removeprefix("--cfg-options ").split()
    loss = pose(tmp_path, "", *words).model.head.loss_vis_token_dist
    assert loss == {"type": "MaskedTokenDistilLoss", "loss_weight": 5e-6, "mask_ratio": 0.5}
    message = refusal(classifier, tmp_path, "", "train_pipeline.1.feats=[j]")
    assert written(message) == "--cfg-options 'train_dataloader.dataset.pipeline.1.feats=[j]'"
    message = refusal(classifier, tmp_path, "", "data_root=/x")
    words = written(message).removeprefix("--cfg-options ").split()
    assert classifier(tmp_path, "", *words).test_dataloader.dataset.ann_file == "/x/test.pkl"


def test_a_section_of_another_type_names_delete(tmp_path):
    message = refusal(classifier, tmp_path, "", "optim_wrapper.optimizer.type=SGD")
    assert "SGD takes no betas, eps, which stayed of the base's AdamW" in message
    assert "--cfg-options optim_wrapper.optimizer._delete_=True" in message
    lines = "model = dict(head=dict(loss_vis_token_dist=dict(type='TokenDistilLoss')))"
    message = refusal(pose, tmp_path, lines, base="s_v1_fsd_best")
    assert "which stayed of the base's ForegroundTokenDistilLoss" in message
    loss = pose(tmp_path, written(message), base="s_v1_fsd_best").model.head.loss_vis_token_dist
    assert loss == {"type": "TokenDistilLoss", "loss_weight": 8e-6, "detach_teacher": False}
    message = refusal(
        classifier,
        tmp_path,
        "optim_wrapper = dict(optimizer=dict(_delete_=True, type='SGD', lr=0.1, betas=3))",
    )
    assert "betas: SGD takes no betas" in message
    assert "stayed" not in message


def test_a_second_hook_of_a_kind_is_refused(tmp_path):
    message = refusal(
        classifier, tmp_path, "default_hooks = dict(ckpt=dict(type='CheckpointHook'))"
    )
    assert "a second CheckpointHook beside default_hooks.checkpoint" in message
    line = "custom_hooks = [dict(type='LoggerHook', interval=20, ignore_last=True)]"
    message = refusal(classifier, tmp_path, line)
    assert written(message) == "default_hooks = dict(logger=dict(interval=20, ignore_last=True))"


def test_hooks_of_a_kind_that_say_what_tells_them_apart_may_stand(tmp_path):
    cfg = classifier(
        tmp_path,
        "custom_hooks = [dict(type='CheckpointHook', interval=1, out_dir='each'),"
        "dict(type='EarlyStoppingHook', monitor='acc/top1'),"
        "dict(type='EarlyStoppingHook', monitor='acc/mean1')]",
    )
    assert len(cfg.custom_hooks) == 3


def test_a_config_that_mmengine_wrote_can_be_trained_again(tmp_path):
    """Variables are values there: those that still hold pass, others are told."""
    path = tmp_path / "dumped.py"
    Config.fromfile(str(FIGHT)).dump(str(path))
    assert "train_pipeline = [" in path.read_text(encoding="utf-8")
    assert load_train_config(path).model == load_train_config(FIGHT).model
    with path.open("a", encoding="utf-8") as file:
        file.write("\nmask_ratio = 0.5\n")
    with pytest.raises(
        ValueError, match=r"in a config that mmengine wrote .*\n  mask_ratio: neither"
    ):
        load_train_config(path)
    load_train_config(FIGHT, ["train_dataloader.dataset.ann_file=x.pkl"]).dump(str(path))
    assert load_train_config(path).train_dataloader.dataset.ann_file == "x.pkl"


def test_mmaction2s_network_says_what_takes_with_cp():
    from mmaction.registry import MODELS

    import recognizer.action.registered  # noqa: F401

    backbone = load_train_config(FIGHT).model.backbone
    with scope("mmaction"):
        with pytest.raises(ValueError, match=re.escape("STGCN takes no with_cp; write type='Fast")):
            MODELS.build({**backbone, "with_cp": True})
        plain, usual = (MODELS.build({**backbone, **more}) for more in ({"with_cp": False}, {}))
    assert plain.state_dict().keys() == usual.state_dict().keys()


@pytest.mark.parametrize(
    "lines",
    [
        "custom_hooks = [dict(type='EarlyStoppingHook', monitor='acc/top1', priority='LOW')]",
        "default_hooks = dict(checkpoint=dict(priority='LOW'), timer=dict(priority=40))",
        "optim_wrapper = dict(constructor='SwinOptimWrapperConstructor', paramwise_cfg=dict("
        "norm=dict(decay_mult=0.0)))",
        "param_scheduler = [dict(type='CosineAnnealingLR', T_max=30, convert_to_iter_based=True, "
        "epoch_length=9), dict(type='LinearParamScheduler', param_name='weight_decay', end=3)]",
        "train_dataloader = dict(persistent_workers=True, num_batch_per_epoch=3, pin_memory=True, "
        "collate_fn=dict(type='default_collate'), dataset=dict(lazy_init=True), "
        "worker_init_fn=dict(type='worker_init_fn', seed=3), batch_sampler=dict("
        "type='BatchSampler', drop_last=True))",
        "visualizer = dict(name='mine', save_dir='x')",
        "val_evaluator = dict(_delete_=True, type='Evaluator', metrics=[dict(type='AccMetric', "
        "prefix='x', collect_device='gpu')])",
        "model = dict(data_preprocessor=dict(type='ActionDataPreprocessor'), backbone=dict("
        "init_cfg=dict(type='Pretrained', checkpoint='x.pth', prefix='backbone')))",
        "model_wrapper_cfg = dict(type='MMDistributedDataParallel', broadcast_buffers=True)",
        "model = dict(backbone=dict(_delete_=True, type='AAGCN', gcn_attention=False, "
        "graph_cfg=dict(layout='coco', mode='spatial')), cls_head=dict(in_channels=256))",
        "model = dict(backbone=dict(_delete_=True, type='ResNet3d', depth=50, pretrained=None, "
        "norm_cfg=dict(type='SyncBN', requires_grad=True)))",
    ],
)
def test_what_builders_and_classes_take_of_their_own_is_left_alone(tmp_path, lines):
    classifier(tmp_path, lines)


def test_the_file_or_the_options_are_blamed_by_whose_fault_it_is(tmp_path):
    line, option = "train_dataloader = dict(batch_sise=8)", "train_dataloader.num_workers=0"
    message = refusal(classifier, tmp_path, line, option)
    assert message.startswith(f"{tmp_path / 'mine.py'}: these would change nothing:")
    assert written(message) == "train_dataloader = dict(batch_size=8)"
    message = refusal(classifier, tmp_path, line, "train_dataloader.batch_sise=16")
    assert written(message) == "train_dataloader = dict(batch_size=8)"
    message = refusal(classifier, tmp_path, "", option, "train_dataloader.batch_sise=16")
    assert written(message) == "--cfg-options train_dataloader.batch_size=16"
    wider = "model = dict(backbone=dict(base_channels=32))"
    message = refusal(classifier, tmp_path, wider, "model.cls_head.dropout=0.1")
    assert written(message) == "model = dict(cls_head=dict(in_channels=64))"
    message = refusal(classifier, tmp_path, "", "model.backbone.base_channels=32")
    assert written(message) == "--cfg-options model.cls_head.in_channels=64"
    classifier(tmp_path, wider, "model.cls_head.in_channels=64")
