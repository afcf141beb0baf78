"""The mode train.check: what it reports, and that each real failure ends it with a message."""

import logging

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("mmpose")

from main import main  # noqa: E402
from recognizer.training.pose import diagnostics  # noqa: E402
from recognizer.training.pose.diagnostics import check_heatmaps, heatmaps_of  # noqa: E402
from tests.sdpose import small_coco  # noqa: E402
from tests.sdpose.small_coco import BASELINE, CONFIGS, TINY  # noqa: E402

pytestmark = pytest.mark.usefixtures("quick_mmengine")

BEST = CONFIGS / "sdpose_s_v1_fsd_best_coco_256x192.py"

# Heads and losses with one fault each, for configs to name.
FAULTY = """
import torch
from mmpose.registry import MODELS
from recognizer.sdpose.head import SDPoseHead
from recognizer.sdpose.losses import TokenDistilLoss


@MODELS.register_module(force=True)
class NanDistilLoss(TokenDistilLoss):
    def weigh(self, error, *_):
        return error.mean() * float("nan")


@MODELS.register_module(force=True)
class ForgetfulHead(SDPoseHead):
    def loss(self, *arguments, **more):
        losses = super().loss(*arguments, **more)
        losses.pop("kpt_dist_loss")
        return losses


@MODELS.register_module(force=True)
class UnusedHead(SDPoseHead):
    def __init__(self, **options):
        super().__init__(**options)
        self.spare = torch.nn.Linear(3, 4)


@MODELS.register_module(force=True)
class FrozenHead(SDPoseHead):
    def __init__(self, **options):
        super().__init__(**options)
        self.transformer.keypoint_tokens.requires_grad = False


@MODELS.register_module(force=True)
class HungryHead(SDPoseHead):
    def loss(self, *arguments, **more):
        torch.empty(10**15)
"""


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    if not small_coco.ASSETS.is_dir():
        pytest.skip("needs ../shared/assets/coco")
    return small_coco.write_data(tmp_path_factory.mktemp("data"))


@pytest.fixture
def look(data, capsys, caplog, monkeypatch, tmp_path):
    """Run train.check; return its exit code, what it logged and what it said at the end."""
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr("tempfile.tempdir", None)

    def run(*options, config=BASELINE, iterations=2, settings=()):
        given = [
            "--mode",
            "train.check",
            "--train-config",
            str(config),
            "--iterations",
            str(iterations),
            "--set",
            f"train.data_root={data}",
            "--set",
            f"train.work_dir={tmp_path / 'work'}",
            *settings,
        ]
        with caplog.at_level(logging.INFO):
            code = main([*given, "--cfg-options", *TINY, *options])
        assert list((tmp_path / "tmp").glob("recognizer*")) == []
        assert not (tmp_path / "work").exists()
        out, err = capsys.readouterr()
        assert "loading annotations" not in out  # what COCO's tools print is for nobody
        return code, caplog.text, err

    return run


@pytest.fixture
def faulty(tmp_path, monkeypatch):
    """Write a child of the baseline that uses faulty parts, and return a function to do so."""
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "faulty_parts.py").write_text(FAULTY)

    def write(text):
        path = tmp_path / "faulty.py"
        imports = ["recognizer.sdpose.registered", "faulty_parts"]
        path.write_text(
            f"_base_ = {str(BASELINE)!r}\ncustom_imports = dict(imports={imports!r})\n{text}\n"
        )
        return path

    return write


def test_a_sound_config_passes_and_is_described(look):
    code, log, output = look(config=BEST, iterations=3)
    assert code == 0, output
    for text in (
        "training data: 8 people, 2 iterations per epoch of 4",
        "validation data: 4 people; 4 of them decoded and measured",
        "coco/AP ",
        "trainable (",
        "GMACs of 2 cycles",
        "as published",
        "  heatmap_loss: 0.",
        "  vis_dist_loss: ",
        "  kpt_dist_loss: ",
        " .. ",
        " -> ",
        "s per iteration",
        "GiB of",
        "parameters have one",
        "heatmaps differ between people by",
        "nothing is wrong after 3 iterations",
    ):
        assert text in log, text
    assert "epoch 1 validated" not in log


def test_a_baseline_without_distillation_expects_no_such_items(look):
    options = ("model.head.loss_vis_token_dist=None", "model.head.loss_kpt_token_dist=None")
    code, log, output = look(*options)
    assert code == 0, output
    assert "dist_loss" not in log


def test_it_fails_where_a_loss_is_no_number(look, faulty):
    path = faulty("model = dict(head=dict(loss_vis_token_dist=dict(type='NanDistilLoss')))")
    code, _, output = look(config=path)
    assert code == 1
    assert "loss item vis_dist_loss: is nan at iteration 1" in output
    assert "loss item loss: is nan" in output
    assert "heatmap_loss" not in output


def test_it_fails_where_training_diverges(look):
    options = ("optim_wrapper.optimizer.lr=1e30", "param_scheduler=[]")
    code, _, output = look(*options, iterations=4)
    assert code == 1
    assert "loss item heatmap_loss: is nan" in output or "loss item heatmap_loss: is inf" in output
    assert "optim_wrapper.optimizer.lr" in output


def test_it_fails_where_a_loss_item_is_missing(look, faulty):
    code, _, output = look(config=faulty("model = dict(head=dict(type='ForgetfulHead'))"))
    assert code == 1
    assert "loss item kpt_dist_loss: expected it of this config, but the head gives only" in output
    assert "1 found wrong" in output


def test_it_fails_where_a_parameter_gets_no_gradient(look, faulty):
    code, _, output = look(config=faulty("model = dict(head=dict(type='UnusedHead'))"))
    assert code == 1
    assert "2 parameters get no gradient" in output
    assert "head.spare.weight, head.spare.bias; use them" in output


def test_what_is_frozen_on_purpose_needs_no_gradient(look, faulty):
    code, log, output = look(config=faulty("model = dict(head=dict(type='FrozenHead'))"))
    assert code == 0, output
    assert f"{17 * 48} numbers are frozen" in log


def test_it_fails_where_a_gradient_is_always_0(look):
    """What the learnt weights of the joints get without a weight of their loss."""
    code, _, output = look("model.head.loss_kpt_token_dist.loss_weight=0.0", config=BEST)
    assert code == 1
    assert "gradient of exactly 0 in every iteration: head.loss_kpt_token_dist.keypoint" in output


def test_it_fails_where_heatmaps_are_flat(look, faulty):
    path = faulty(
        "model = dict(head=dict(init_cfg=[dict(type='Constant', val=0, layer='Linear')]))\n"
        "param_scheduler = [dict(type='ConstantLR', factor=1e-6, by_epoch=False)]"
    )
    code, _, output = look("param_scheduler.0.end=9", config=path)
    assert code == 1
    assert "heatmaps of joints 0, 1, 2," in output
    assert "the same value everywhere" in output


def test_it_fails_where_heatmaps_are_the_same_for_everybody(look, faulty):
    """A stem of zeros hands nothing of the picture on."""
    zero = "[dict(type='Constant', val=0, layer=['Conv2d', 'BatchNorm2d'])]"
    code, _, output = look(config=faulty(f"model = dict(backbone=dict(init_cfg={zero}))"))
    assert code == 1
    assert "heatmaps: the same for every person of a batch" in output
    assert "backbone.conv1.weight" in output  # its gradient is 0, too


def test_a_loss_that_does_not_fall_is_a_warning(look):
    code, log, output = look(
        "optim_wrapper.optimizer.lr=0.0",
        "train_dataloader.batch_size=8",
        "train_dataloader.dataset.pipeline.2.prob=0.0",
        "train_dataloader.dataset.pipeline.3.prob=0.0",
        "train_dataloader.dataset.pipeline.4.shift_prob=0.0",
        "train_dataloader.dataset.pipeline.4.rotate_prob=0.0",
        "train_dataloader.dataset.pipeline.4.scale_prob=0.0",
    )
    assert code == 0, output
    assert "heatmap_loss has not fallen in 2 iterations" in log


def test_memory_that_runs_out_is_advised_on(look, faulty):
    code, _, output = look(config=faulty("model = dict(head=dict(type='HungryHead'))"))
    assert code == 1
    assert "out of memory with train_dataloader.batch_size=4" in output
    assert "train_dataloader.batch_size=2" in output


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["model.head.cycles=1"], "expected cycles >= 2"),
        (["model.head.loss_vis_token_dist.type=NoSuchLoss"], "NoSuchLoss"),
        (["model.head.patch_size=(5,3)"], "whole patches"),
        (["modell.head.depth=2"], "did you mean model"),
    ],
)
def test_a_config_that_cannot_be_built_is_exit_code_2(look, options, message):
    code, _, text = look(*options)
    assert code == 2
    assert message in text


def test_several_processes_are_refused(look, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    code, _, output = look()
    assert code == 2
    assert "not torchrun" in output


def test_more_iterations_than_an_epoch_has_are_run(look):
    code, log, output = look("train_cfg.max_epochs=1", iterations=5)
    assert code == 0, output
    assert "nothing is wrong after 5 iterations" in log


# --- the thresholds ------------------------------------------------------------------


def test_flat_and_alike_are_distinguished():
    torch.manual_seed(0)
    base = torch.rand(1, 17, 8, 6)
    assert check_heatmaps(base.repeat(4, 1, 1, 1)) == ([], 0.0)
    rounding = base.repeat(4, 1, 1, 1) + 1e-7 * torch.randn(4, 17, 8, 6)
    assert check_heatmaps(rounding)[1] < diagnostics.ALIKE / 10
    assert check_heatmaps(torch.rand(4, 17, 8, 6))[1] > 100 * diagnostics.ALIKE
    assert check_heatmaps(base)[1] is None, "one person cannot be compared"
    flat = base.repeat(2, 1, 1, 1)
    flat[:, 5] = 0.3
    assert check_heatmaps(flat) == ([5], None)
    flat[1, 5, 0, 0] = 0.4
    assert check_heatmaps(flat)[0] == [], "flat for one person only"
    flat[:, 2] = float("nan")
    assert check_heatmaps(flat)[0] == [2]


@pytest.mark.parametrize("name", ["t", "s_v1"])
def test_networks_at_their_start_are_far_from_alike(name):
    from tests.sdpose.golden import batch, variant

    model = variant(name)
    images, samples = batch(2)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    heatmaps = heatmaps_of(model, {"inputs": list(images), "data_samples": samples})
    flat, alike = check_heatmaps(heatmaps)
    assert not flat
    assert alike > 100 * diagnostics.ALIKE
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


# --- data that is not what it says ----------------------------------------------------

FAULTS = small_coco.ASSETS.parent / "faults"


@pytest.mark.parametrize("mode", ["train.check", "train.pose", "train.ablation"])
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("order", "number 1 is 'right_ankle', expected nose"),
        ("exif", "EXIF orientation 6"),
        ("resized", "the pictures were resized after they were annotated"),
        ("twocat", "one of category 'dog'"),
        ("bom", "UTF-8 with a byte order mark"),
        ("html", "000000466137.jpg: expected a picture that can be decoded, got a file that is an"),
    ],
)
def test_data_that_is_not_what_it_says_is_refused(tmp_path, capsys, mode, name, message):
    folder = FAULTS / f"coco_v_{name}"
    if not folder.is_dir():
        pytest.skip("needs ../shared/assets/faults")
    own = f"ablation.output_dir={tmp_path}" if "ablation" in mode else f"train.work_dir={tmp_path}"
    options = ["--set", own, "--set", f"train.data_root={folder}", "--cfg-options", *TINY]
    assert main(["--mode", mode, "--train-config", str(BASELINE), *options]) == 1
    err = capsys.readouterr().err
    assert message in err
    assert str(folder / "annotations" / "person_keypoints_train2017.json") in err


def test_good_data_beside_them_passes(look):
    folder = FAULTS / "coco_base"
    if not folder.is_dir():
        pytest.skip("needs ../shared/assets/faults")
    code, _, output = look(iterations=1, settings=["--set", f"train.data_root={folder}"])
    assert code == 0, output


def test_a_batch_that_is_never_full_is_refused(look):
    code, _, output = look("train_dataloader.batch_size=99", "train_dataloader.drop_last=True")
    assert code == 2
    assert "at most 8 with drop_last=True, got 99: the train data holds 8 people" in output


def test_detected_boxes_of_others_are_refused(look, tmp_path):
    path = tmp_path / "boxes.json"
    path.write_text('[{"image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4], "score": 0.5}]')
    code, _, output = look(f"val_dataloader.dataset.bbox_file={path}")
    assert code == 1
    assert "boxes.json: detections[0]: image_id 1 is no image of the annotations" in output


def test_the_same_people_for_training_and_validation_are_warned_of(look):
    split = "val_dataloader.dataset"
    code, log, output = look(
        f"{split}.ann_file=annotations/person_keypoints_train2017.json",
        f"{split}.data_prefix.img=train2017/",
        iterations=1,
    )
    assert code == 0, output
    assert "the best epoch is chosen on the people that were trained on" in log
