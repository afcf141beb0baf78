"""Names, options and the optimiser of SDPose's configs; keys that would change nothing."""

import pytest

pytest.importorskip("torch")
pytest.importorskip("mmpose")

from mmengine.optim import build_optim_wrapper

from recognizer.config.file import ConfigError
from recognizer.config.schema import Config as AppConfig
from recognizer.installation import PROJECT
from recognizer.openmmlab import scope
from recognizer.sdpose.training import load_pose_config
from tests.sdpose.config_files import application, build, child, path_of
from tests.sdpose.golden import silence


def test_the_work_dir_is_the_users_first(tmp_path):
    path = child(tmp_path, "exp_name = 'run_7'")
    assert application(path).work_dir == str(PROJECT / "work_dirs" / "run_7")
    given = f"train.work_dir={tmp_path}/here"
    assert application(path, given).work_dir == f"{tmp_path}/here"
    named = child(tmp_path, f"work_dir = '{tmp_path}/own'")
    assert application(named).work_dir == f"{tmp_path}/own"
    for bad in ("'../../x'", "'a/b'", "7"):
        with pytest.raises(ConfigError, match="exp_name: expected a plain name"):
            application(child(tmp_path, f"exp_name = {bad}"))


def test_options_change_what_they_name():
    options = [
        "train_cfg.max_epochs=7",
        "model.head.depth=2",
        "load_from=x.pth",
        "model.head.loss_vis_token_dist.loss_weight=1e-6",
    ]
    cfg = load_pose_config(path_of("s_v1_fsd"), options)
    assert (cfg.train_cfg.max_epochs, cfg.model.head.depth, cfg.load_from) == (7, 2, "x.pth")
    plain = load_pose_config(path_of("s_v1_fsd")).model.head.loss_vis_token_dist
    assert plain["loss_weight"] != 1e-6
    assert cfg.model.head.loss_vis_token_dist == {**plain, "loss_weight": 1e-6}


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("codec.sigma=3", "no aliases"),
        ("train_pipeline=[]", "no aliases"),
        ("optim_wraper.optimizer.lr=1", "did you mean optim_wrapper"),
        ("exp_nam=x", "would change nothing"),
        ("total_epochs=50", "mmengine reads train_cfg.max_epochs in its place"),
        ("data.samples_per_gpu=32", "mmengine reads train_dataloader.batch_size in its place"),
        ("optimizer.lr=1e-4", "mmengine reads optim_wrapper.optimizer in its place"),
        ("train_dataloader.samples_per_gpu=3", "mmengine reads train_dataloader.batch_size in"),
        ("resume=no", "resume: expected True or False, got 'no'"),
        ("compile=3", "compile: expected True, False or options of torch.compile"),
        ("compile.backend=nope", r"compile\.backend: expected one of .*inductor.*, got 'nope'"),
        ("train_cfg.max_epochs=None", "expected a number above 0, got None"),
    ],
)
def test_an_option_that_would_do_nothing_is_refused(option, message):
    with pytest.raises(ValueError, match=message):
        load_pose_config(path_of("s_v1_stemnet"), [option])


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("total_epochs = 50", "total_epochs is now train_cfg.max_epochs"),
        ("optimizer_config = dict(grad_clip=dict(max_norm=1.0))", "now optim_wrapper.clip_grad"),
        ("lr_config = dict(step=[200, 260])", "lr_config is now param_scheduler"),
        ("evaluation = dict(interval=5)", "evaluation is now train_cfg.val_interval"),
        ("data = dict(samples_per_gpu=32)", "data is now train_dataloader, val_dataloader"),
        ("optimizer = dict(type='Adam', lr=1)", "optimizer is now optim_wrapper.optimizer"),
        ("max_epochs = 3", "max_epochs is now train_cfg.max_epochs"),
        ("runner = dict(max_epochs=3)", "runner is now train_cfg"),
        ("raise SystemExit(0)", "not a config of mmengine: SystemExit"),
    ],
)
def test_keys_of_old_guides_in_a_config_are_not_passed_over(tmp_path, line, message):
    with pytest.raises(ValueError, match=message):
        load_pose_config(child(tmp_path, line))


def test_names_that_only_look_like_old_keys_are_left_alone(tmp_path):
    lines = "data = dict(root='/mine')\noptimizer = dict(type='Adam', lr=3e-4)\n"
    lines += "data_root = data['root']\noptim_wrapper = dict(optimizer=optimizer)"
    cfg = load_pose_config(child(tmp_path, lines))
    assert cfg.optim_wrapper.optimizer.lr == 3e-4
    assert cfg.train_dataloader.dataset.data_root == "/mine"


def test_the_seed_is_the_applications_unless_the_config_has_one(tmp_path):
    assert application(path_of("t_stemnet"), "train.seed=5").randomness == {"seed": 5}
    path = child(tmp_path, "randomness = dict(seed=3)")
    assert application(path, "train.seed=5").randomness == {"seed": 3}


def test_pickles_of_classifiers_are_no_data_for_a_pose_network():
    with pytest.raises(ConfigError, match=r"set train\.data_root"):
        application(path_of("t_stemnet"), "train.dataset_dir=/pickles")
    assert AppConfig().train.data_root is None


def decays(name, *options):
    """Return the weight decay of each parameter, 0 where the optimiser has none."""
    cfg = load_pose_config(path_of(name), options)
    model = build(cfg)
    with scope("mmpose"), silence():
        wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    found = {}
    for group in wrapper.optimizer.param_groups:
        for each in group["params"]:
            found[id(each)] = group.get("weight_decay", 0)
    return {key: found[id(each)] for key, each in model.named_parameters()}


def test_the_learnt_weights_of_joints_have_no_weight_decay():
    theta = "head.loss_kpt_token_dist.keypoint_logits"
    assert decays("s_v1_fsd_best")[theta] == 0
    found = decays("s_v1_fsd_best", "optim_wrapper.optimizer.weight_decay=0.1")
    assert found.pop(theta) == 0
    assert set(found.values()) == {0.1}
