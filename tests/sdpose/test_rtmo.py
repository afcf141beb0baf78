"""RTMO's configs: mmpose's own network, targets and losses; trainings that resume exactly."""

import random
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("mmpose")

from mmengine.config import Config  # noqa: E402
from mmengine.dataset import pseudo_collate  # noqa: E402
from mmengine.structures import InstanceData  # noqa: E402
from mmpose.registry import DATASETS, MODELS  # noqa: E402
from mmpose.structures import PoseDataSample  # noqa: E402

from recognizer.openmmlab import scope, shipped_config, without_initial_weights  # noqa: E402
from recognizer.sdpose.evaluation import evaluate, quietly  # noqa: E402
from recognizer.sdpose.mmpose import RTMOHead  # noqa: E402
from recognizer.sdpose.rtmo import RTMOScheduleHook  # noqa: E402
from recognizer.sdpose.training import load_pose_config, train, validate_data  # noqa: E402
from tests.sdpose import small_coco  # noqa: E402

pytestmark = pytest.mark.usefixtures("quick_mmengine")
CONFIGS = small_coco.CONFIGS.parents[1] / "rtmo"
SHIPPED = {
    "t_coco_416x416": "body7/rtmo-t_8xb32-600e_body7-416x416.py",
    "s_coco_640x640": "coco/rtmo-s_8xb32-600e_coco-640x640.py",
    "m_coco_640x640": "coco/rtmo-m_16xb16-600e_coco-640x640.py",
    "l_coco_640x640": "coco/rtmo-l_16xb16-600e_coco-640x640.py",
}
SIDE = 96
QUICK = (
    *(f"{split}_dataloader.num_workers=0" for split in ("train", "val", "test")),
    "train_dataloader.batch_size=2",
    "train_dataloader.drop_last=True",
    "visualizer.vis_backends=[]",
    "randomness.seed=7",
)


def shipped(name):
    return Config.fromfile(shipped_config("mmpose", f"body_2d_keypoint/rtmo/{SHIPPED[name]}"))


def shrink(value, side=SIDE):
    """Return a config with square sizes in pixels replaced by a small one."""
    if isinstance(value, dict):
        return {key: shrink(part, side) for key, part in value.items()}
    if isinstance(value, list | tuple):
        if tuple(value) in [(640, 640), (416, 416)]:
            return (side, side)
        return type(value)(shrink(part, side) for part in value)
    return value


def small(name, data, work_dir, *options):
    cfg = load_pose_config(CONFIGS / name, [*QUICK, *options], data)
    for key in ("model", "train_dataloader", "val_dataloader", "test_dataloader"):
        cfg[key] = shrink(cfg[key].to_dict())
    cfg.custom_hooks = [shrink(dict(hook)) for hook in cfg.custom_hooks]
    cfg.model.data_preprocessor.batch_augments[0].update(random_size_range=(64, 128))
    cfg.work_dir = str(work_dir)
    return cfg


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    if not small_coco.ASSETS.is_dir():
        pytest.skip("needs ../shared/assets/coco")
    return small_coco.write_data(tmp_path_factory.mktemp("data"), train=4, val=2)


@pytest.mark.parametrize("name", SHIPPED)
def test_the_network_losses_and_schedule_are_those_of_mmpose(name):
    ours, theirs = load_pose_config(CONFIGS / "coco" / f"rtmo_{name}.py"), shipped(name)
    model, expected = ours.model.to_dict(), theirs.model.to_dict()
    expected["backbone"].pop("init_cfg")  # fetched from the internet
    expected["head"]["assigner"].setdefault("use_keypoints_for_center", False)  # the default
    assert model == expected
    assert ours.optim_wrapper.to_dict() == theirs.optim_wrapper.to_dict()
    assert [dict(one) for one in ours.param_scheduler] == [dict(o) for o in theirs.param_scheduler]
    (schedule,) = [hook for hook in ours.custom_hooks if hook["type"] == "RTMOScheduleHook"]
    (changes,) = [hook for hook in theirs.custom_hooks if hook["type"] == "RTMOModeSwitchHook"]
    assert schedule["changes"] == changes["epoch_attributes"]
    assert ours.train_dataloader.batch_size == theirs.train_dataloader.batch_size


@pytest.mark.parametrize("size", ["t", "s", "m", "l"])
def test_fine_tuning_starts_from_the_file_that_models_fetch_brings(size):
    from deploy.model_zoo import FILES

    (path,) = (CONFIGS / "cctv").glob(f"rtmo_{size}_cctv_*.py")
    cfg = load_pose_config(path)
    assert Path(cfg.load_from).name == FILES[f"rtmo-{size}"].file_name
    assert cfg.train_cfg.max_epochs <= 50


def test_a_step_gives_the_targets_and_losses_of_mmpose(data, tmp_path):
    name = "s_coco_640x640"
    ours = small(f"coco/rtmo_{name}.py", data, tmp_path)
    theirs = shrink(shipped(name).to_dict())
    theirs["train_dataloader"]["dataset"].update(
        data_root=str(data),
        ann_file="annotations/person_keypoints_train2017.json",
        data_prefix={"img": "train2017/"},
    )
    theirs["model"]["head"]["type"] = RTMOHead  # not ours, which has taken its name
    seen = []
    for model, loader in (
        (ours.model.to_dict(), ours.train_dataloader.to_dict()),
        (theirs["model"], theirs["train_dataloader"]),
    ):
        with scope("mmpose"), quietly():
            dataset = DATASETS.build(loader["dataset"])
            model["data_preprocessor"].pop("batch_augments")  # its size is drawn in a training only
            torch.manual_seed(1)
            network = MODELS.build(without_initial_weights(model))
            random.seed(2)
            np.random.seed(2)  # noqa: NPY002 - the transforms draw from it
            batch = pseudo_collate([dataset[index] for index in (0, 1)])
            inputs = network.data_preprocessor(batch, training=True)
            network.head.use_aux_loss = True
            losses = network.loss(inputs["inputs"], inputs["data_samples"])
        labels = [sample.gt_instance_labels for sample in inputs["data_samples"]]
        seen.append((inputs["inputs"], labels, losses))
    (first, labels, losses), (second, expected_labels, expected) = seen
    assert torch.equal(first, second)
    for label, expected_label in zip(labels, expected_labels, strict=True):
        assert label.keys() == expected_label.keys()
        assert all(torch.equal(label[key], expected_label[key]) for key, _ in label.items())
    assert losses.keys() == expected.keys() >= {"loss_cls", "loss_oks", "loss_mle", "loss_bbox_aux"}
    for key, value in expected.items():
        assert torch.equal(torch.as_tensor(losses[key]), torch.as_tensor(value)), key


def test_a_resumed_training_is_that_which_never_stopped(data, tmp_path):
    options = (
        "train_cfg.max_epochs=3",
        "train_cfg.val_interval=2",
        "train_cfg.dynamic_intervals=None",
        "default_hooks.checkpoint.interval=1",
    )
    runs = []
    for folder, resume in (("whole", False), ("resumed", tmp_path / "whole" / "epoch_2.pth")):
        cfg = small("coco/rtmo_t_coco_416x416.py", data, tmp_path / folder, *options)
        (schedule,) = [hook for hook in cfg.custom_hooks if hook["type"] == "RTMOScheduleHook"]
        schedule.update(last_epochs=1, changes={1: schedule["changes"][280]})
        losses = small_coco.record_losses(cfg)
        with quietly():
            best = train(cfg, resume=resume)
        last = torch.load(tmp_path / folder / "epoch_3.pth", weights_only=True)
        runs.append((losses, last["state_dict"]))
    (whole, weights), (resumed, again) = runs
    assert sorted(whole) == list(range(6))
    assert sorted(resumed) == [4, 5]
    assert all("loss_bbox_aux" in whole[step] for step in (4, 5))  # the last epoch's
    assert all(whole[step] == resumed[step] for step in resumed)
    assert all(torch.equal(weights[key], again[key]) for key in weights)
    scores = evaluate(cfg, best, tmp_path / "report")
    assert scores.boxes == "the network's own"
    assert scores.every.persons == 2


def test_pictures_not_people_fill_a_batch(data, tmp_path):
    cfg = small("coco/rtmo_t_coco_416x416.py", data, tmp_path, "train_dataloader.batch_size=5")
    with pytest.raises(ValueError, match="pictures"):
        validate_data(cfg)


def test_a_crowd_is_no_place_to_learn_from(tmp_path):
    """The last pipeline masks what COCO marks as a crowd."""
    if not small_coco.ASSETS.is_dir():
        pytest.skip("needs ../shared/assets/coco")
    content = small_coco.annotations("train", 1)
    image = content["images"][0]
    width, height = image["width"], image["height"]
    half = [0, 0, width / 2, 0, width / 2, height, 0, height]
    crowd = {
        **content["annotations"][0],
        "id": 1,
        "iscrowd": 1,
        "num_keypoints": 0,
        "keypoints": [0] * 51,
        "bbox": [0, 0, width / 2, height],
        "segmentation": [half],
    }
    content["annotations"].append(crowd)
    small_coco.write_annotations(tmp_path, "train", content)
    (tmp_path / "train2017").symlink_to(small_coco.ASSETS / "train2017")
    cfg = small("coco/rtmo_t_coco_416x416.py", tmp_path, tmp_path)
    (schedule,) = [hook for hook in cfg.custom_hooks if hook["type"] == "RTMOScheduleHook"]
    dataset = {**cfg.train_dataloader.dataset, "pipeline": schedule["last_pipeline"]}
    with scope("mmpose"), quietly():
        sample = DATASETS.build(dataset)[0]["data_samples"]
    mask = sample.gt_fields.heatmap_mask
    assert 0.2 < float(mask.float().mean()) < 0.9
    assert len(sample.gt_instance_labels.bboxes) == 1


def test_negative_epochs_are_refused():
    with pytest.raises(ValueError, match="epochs >= 0"):
        RTMOScheduleHook(last_epochs=-1)


@pytest.mark.parametrize("auxiliary", [False, True])
@pytest.mark.parametrize("people", [(0, 0), (1, 0), (1,)])
def test_a_batch_of_few_places_has_losses(people, auxiliary):
    """mmpose gives a plain number without people, and no batch norm of a single one."""
    cfg = load_pose_config(CONFIGS / "coco/rtmo_t_coco_416x416.py")
    samples = []
    for count in people:
        labels = InstanceData(
            bboxes=torch.tensor([[55.0, 55.0, 85.0, 85.0]]).repeat(count, 1),
            labels=torch.zeros(count, dtype=torch.long),
            keypoints=torch.full((count, 17, 2), 70.0),
            keypoints_visible=torch.ones(count, 17),
            keypoints_visible_weights=torch.ones(count, 17),
            areas=torch.full((count,), 600.0),
        )
        sample = PoseDataSample()
        sample.gt_instance_labels = labels
        samples.append(sample)
    with scope("mmpose"), quietly():
        model = MODELS.build(without_initial_weights(cfg.model.to_dict()))
        model.head.use_aux_loss = auxiliary
        pictures = 255 * torch.rand(len(people), 3, 128, 128)
        loss, items = model.parse_losses(model.loss(pictures, samples))
        loss.backward()
    assert torch.isfinite(loss)
    assert ("loss_oks" in items) == bool(sum(people))
    assert ("loss_bbox_aux" in items) == (auxiliary and bool(sum(people)))
