"""The configs of configs/body_2d_keypoint/sdpose: what they come to in effect."""

from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("mmpose")

from mmengine.config import Config  # noqa: E402

from recognizer.installation import PROJECT  # noqa: E402
from recognizer.runner.train_config import datasets  # noqa: E402
from recognizer.sdpose.training import load_pose_config  # noqa: E402
from recognizer.training.pose.train import CONFIGS  # noqa: E402
from tests.sdpose.config_files import application, build, child, path_of  # noqa: E402

TOKENS = {"type": "TokenDistilLoss", "loss_weight": 5e-6}
FOREGROUND = {
    "type": "ForegroundTokenDistilLoss",
    "loss_weight": 5e-6,
    "foreground_weight": 2.0,
    "background_weight": 0.5,
    "threshold": 0.1,
    "temperature": 1.0,
    "use_spatial_weight": True,
    "detach_teacher": False,
}
STRONG = {
    **FOREGROUND,
    "loss_weight": 8e-6,
    "foreground_weight": 3.0,
    "background_weight": 0.3,
    "threshold": 0.08,
    "temperature": 0.8,
}
ADAPTIVE = {
    "type": "AdaptiveForegroundDistilLoss",
    "loss_weight": 8e-6,
    "num_keypoints": 17,
    "use_keypoint_guidance": True,
    "detach_teacher": False,
}
DYNAMIC = {
    "type": "DynamicForegroundDistilLoss",
    "loss_weight": 5e-6,
    "start_epoch": 50,
    "end_epoch": 150,
    "max_fg_weight": 3.0,
    "min_bg_weight": 0.3,
    "detach_teacher": False,
}
MASKED = {
    "type": "MaskedTokenDistilLoss",
    "loss_weight": 1e-5,
    "mask_ratio": 0.3,
    "mask_strategy": "random",
    "detach_teacher": False,
}
USUAL = {
    "visual": TOKENS,
    "keypoint": TOKENS,
    "depth": 12,
    "cycles": 2,
    "patch": (4, 3),
    "stem": "SDPoseStem",
    "channels": 256,
    "batch": 64,
    "base": 512,
    "clip": None,
    "warm_up": 500,
    "parameters": 6_620_736,
}
# What each config differs in from S-V1's baseline.
EXPECTED = {
    "s_v1_stemnet": {},
    "s_v2_stemnet": {"patch": (2, 2), "batch": 24, "base": 192, "parameters": 6_227_520},
    "t_stemnet": {"depth": 6, "cycles": 3, "parameters": 4_398_528},
    "b_stemnet": {
        "stem": "HRNetStem",
        "channels": 32,
        "batch": 32,
        "base": 256,
        "parameters": None,
    },
    "s_v1_fsd": {"visual": FOREGROUND},
    "s_v1_fsd_best": {
        "visual": STRONG,
        "keypoint": ADAPTIVE,
        "warm_up": 1000,
        "clip": {"max_norm": 1.0, "norm_type": 2},
        "parameters": 6_620_753,
    },
    "s_v1_fsd_dynamic": {"visual": DYNAMIC},
    "s_v1_maskedkd": {"visual": MASKED},
}
SPLITS = ("train", "val", "test")
ANNOTATIONS = {
    "train": "annotations/person_keypoints_train2017.json",
    "val": "annotations/person_keypoints_val2017.json",
    "test": "annotations/person_keypoints_val2017.json",
}


OVERFIT = CONFIGS / "sdpose_t_overfit_256x192.py"
ALL = [*map(path_of, EXPECTED), OVERFIT]


def effect(name):
    """Return a loaded config's values under the names of ``USUAL``, parameters aside."""
    cfg = load_pose_config(path_of(name))
    head, warm_up = cfg.model.head, cfg.param_scheduler[0]
    return {
        "visual": head.loss_vis_token_dist,
        "keypoint": head.loss_kpt_token_dist,
        "depth": head.depth,
        "cycles": head.cycles,
        "patch": tuple(head.patch_size),
        "stem": cfg.model.backbone.type,
        "channels": head.in_channels,
        "batch": cfg.train_dataloader.batch_size,
        "base": cfg.auto_scale_lr.base_batch_size,
        "clip": cfg.optim_wrapper.get("clip_grad"),
        "warm_up": warm_up.end,
    }


def test_these_are_all_configs():
    assert sorted(CONFIGS.glob("*.py")) == sorted(ALL)


@pytest.mark.parametrize("name", EXPECTED)
def test_each_config_is_what_its_name_says(name):
    expected = {**USUAL, **EXPECTED[name]}
    expected.pop("parameters")
    assert effect(name) == expected


@pytest.mark.parametrize("name", EXPECTED)
def test_all_share_the_published_recipe(name):
    cfg = load_pose_config(path_of(name))
    optimizer = cfg.optim_wrapper.optimizer
    assert (optimizer.type, optimizer.lr, optimizer.get("weight_decay", 0)) == ("Adam", 1e-3, 0)
    warm_up, decay = cfg.param_scheduler
    assert (warm_up.type, warm_up.start_factor, warm_up.by_epoch) == ("LinearLR", 0.001, False)
    assert (decay.type, decay.milestones, decay.gamma) == ("MultiStepLR", [200, 260], 0.1)
    assert (cfg.train_cfg.max_epochs, cfg.train_cfg.val_interval) == (300, 5)
    assert cfg.model.head.loss == {"type": "KeypointMSELoss", "use_target_weight": True}
    codec = {
        "type": "MSRAHeatmap",
        "input_size": (192, 256),
        "heatmap_size": (48, 64),
        "sigma": 2,
        "unbiased": True,
        "blur_kernel_size": 11,
    }
    steps = {step["type"]: step for step in cfg.train_dataloader.dataset.pipeline}
    assert cfg.model.head.decoder == steps["GenerateTarget"]["encoder"] == codec
    assert steps["GetBBoxCenterScale"]["padding"] == 1.25
    assert steps["RandomFlip"]["prob"] == 0.5
    half = steps["RandomHalfBody"]
    assert (half["min_total_keypoints"], half["prob"]) == (9, 0.3)
    assert steps["RandomBBoxTransform"] == {
        "type": "RandomBBoxTransform",
        "shift_factor": 0.16,
        "shift_prob": 0.3,
        "scale_factor": (0.65, 1.35),
        "rotate_factor": 80,
        "rotate_prob": 0.6,
    }
    assert cfg.model.test_cfg == {"flip_test": True, "flip_mode": "heatmap", "shift_heatmap": True}
    for split in ("val", "test"):
        evaluator = cfg[f"{split}_evaluator"]
        assert evaluator.type == "CocoMetric"
        assert evaluator.score_mode == "bbox_keypoint"
        assert (evaluator.keypoint_score_thr, evaluator.nms_mode) == (0.2, "oks_nms")
        assert evaluator.nms_thr == 0.9
        assert [step["type"] for step in cfg[f"{split}_dataloader"].dataset.pipeline] == [
            "LoadImage",
            "GetBBoxCenterScale",
            "TopdownAffine",
            "PackPoseInputs",
        ]
    hooks = {hook["type"] for hook in cfg.custom_hooks}
    assert {"TrainingMonitorHook", "DetailedLossLogHook", "PlainCheckpointHook"} <= hooks
    assert cfg.default_hooks.checkpoint.save_best == "coco/AP"


@pytest.mark.parametrize("name", EXPECTED)
def test_networks_have_the_published_sizes(name):
    model = build(load_pose_config(path_of(name)))
    count = sum(each.numel() for each in model.parameters() if each.requires_grad)
    expected = EXPECTED[name].get("parameters", USUAL["parameters"])
    if expected is None:
        assert round(count / 1e6, 2) == 13.15  # published as 13.2 M
    else:
        assert count == expected
    assert model.head.loss_module.use_target_weight
    for item, key in (("visual", "loss_vis_token_dist"), ("keypoint", "loss_kpt_token_dist")):
        module, given = getattr(model.head, key), {**USUAL, **EXPECTED[name]}[item]
        assert type(module).__name__ == given["type"]
        for option, value in given.items():
            assert option == "type" or getattr(module, option, value) == value


@pytest.mark.parametrize("path", ALL, ids=lambda path: path.stem)
def test_each_reads_with_plain_mmengine_from_anywhere(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    cfg = Config.fromfile(str(path))
    assert cfg.default_scope == "mmpose"
    assert cfg.load_from is None
    assert cfg.resume is False
    text = path.read_text(encoding="utf-8")
    assert "exp_name = " in text
    assert 'data_root = "data/coco/"' in text
    for key in () if path == OVERFIT else ("load_from = None", "resume = False"):
        assert key in text, "where a user looks for it"
    for split in SPLITS:
        dataset = cfg[f"{split}_dataloader"].dataset
        assert dataset.data_root == "data/coco/"
        if split != "train" and path != OVERFIT:
            assert cfg[f"{split}_evaluator"].ann_file == f"data/coco/{dataset.ann_file}"


def test_the_overfit_config_is_measured_on_what_it_learns():
    cfg = load_pose_config(OVERFIT, data_root=Path("/d"))
    assert {dataset.ann_file for dataset in datasets(cfg).values()} == {ANNOTATIONS["train"]}
    assert {dataset.data_prefix.img for dataset in datasets(cfg).values()} == {"train2017/"}
    for split in ("val", "test"):
        assert cfg[f"{split}_evaluator"].ann_file == f"/d/{ANNOTATIONS['train']}"
    assert (cfg.model.head.depth, cfg.model.head.cycles) == (6, 3)
    kinds = [step["type"] for step in cfg.train_dataloader.dataset.pipeline]
    assert not {"RandomHalfBody", "RandomBBoxTransform"} & set(kinds)


# --- where the data is ---------------------------------------------------------------


def roots(cfg):
    """Return the folders that loaders and evaluators read from."""
    found = {str(dataset.data_root).rstrip("/") for dataset in datasets(cfg).values()}
    for split in ("val", "test"):
        ann_file = cfg[f"{split}_evaluator"].ann_file
        assert ann_file.endswith(ANNOTATIONS[split])
        found.add(ann_file.removesuffix(ANNOTATIONS[split]).rstrip("/"))
    return found


def test_a_childs_own_data_root_reaches_everything(tmp_path):
    path = child(tmp_path, "data_root = '/data/mine'")
    assert roots(load_pose_config(path)) == {"/data/mine"}
    assert roots(Config.fromfile(str(path))) == {"data/coco"}, "what mmengine alone would do"


def test_train_data_root_has_the_last_word(tmp_path, monkeypatch):
    path = child(tmp_path, "data_root = '/data/mine'")
    assert roots(application(path, "train.data_root=/data/other")) == {"/data/other"}
    monkeypatch.setenv("HOME", "/home/somebody")
    assert roots(application(path, "train.data_root=~/coco")) == {"/home/somebody/coco"}
    (found,) = roots(application(path, "train.data_root=data/there"))
    assert found.endswith("data/there")


def test_options_reach_the_evaluator_too(tmp_path):
    options = ["val_dataloader.dataset.data_root=/val", "data_root=/all"]
    cfg = load_pose_config(path_of("t_stemnet"), options)
    assert cfg.val_evaluator.ann_file == f"/val/{ANNOTATIONS['val']}"
    assert cfg.test_evaluator.ann_file == f"/all/{ANNOTATIONS['test']}"
    assert cfg.train_dataloader.dataset.data_root == "/all"
    cfg = load_pose_config(path_of("t_stemnet"), ["val_dataloader.dataset.ann_file=mine.json"])
    assert cfg.val_evaluator.ann_file == "data/coco/mine.json"


@pytest.mark.parametrize("path", ALL, ids=lambda path: path.stem)
def test_results_go_to_a_folder_named_by_exp_name(path):
    name = path.stem.removesuffix("_coco_256x192").removesuffix("_256x192")
    assert application(path).work_dir == str(PROJECT / "work_dirs" / name)
