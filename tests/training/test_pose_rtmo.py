"""RTMO through the command line: every mode that a pose config may be run with."""

import json
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("mmpose")

from main import main  # noqa: E402
from recognizer.backends.metadata import PoseModelMetadata  # noqa: E402
from recognizer.backends.onnx import OnnxNetwork  # noqa: E402
from recognizer.config.models import OnnxPoseConfig  # noqa: E402
from recognizer.files import load_poses  # noqa: E402
from recognizer.training.pose.learning_curves import TABLE, read_curve  # noqa: E402
from recognizer.video.reader import VideoReader  # noqa: E402
from tests.backends import pose_models  # noqa: E402
from tests.sdpose import small_coco  # noqa: E402
from tests.sdpose.test_rtmo import CONFIGS, small  # noqa: E402

pytestmark = [small_coco.needs_coco, pytest.mark.usefixtures("quick_mmengine", "quick_figures")]
ROOT = Path(__file__).resolve().parents[2]
VIDEOS = small_coco.ASSETS.parent / "videos"
FIGHTS = small_coco.ASSETS.parent / "fight_surv" / "Fight"
OPTIONS = (
    "train_cfg.max_epochs=1",
    "train_cfg.val_interval=1",
    "train_cfg.dynamic_intervals=None",
    "default_hooks.checkpoint.interval=1",
)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return small_coco.write_data(tmp_path_factory.mktemp("data"), train=4, val=2)


@pytest.fixture(scope="module")
def config(data, tmp_path_factory):
    """Return RTMO-t's config, on pictures of 96 x 96, as a file."""
    folder = tmp_path_factory.mktemp("config")
    cfg = small("coco/rtmo_t_coco_416x416.py", data, folder, *OPTIONS)
    cfg.exp_name = "rtmo_small"
    cfg.pop("work_dir")
    path = folder / "rtmo_small.py"
    path.write_text(cfg.pretty_text, encoding="utf-8")
    return path


@pytest.fixture
def run(config, data, caplog, capsys, tmp_path):
    """Run a mode through the command line; return the exit code, the log and the error."""

    def start(mode, *more, options=(), path=config, place=None):
        own = ("output_dir" if mode == "train.ablation" else "work_dir", tmp_path / "work")
        section = "ablation" if mode == "train.ablation" else "train"
        sets = [f"train.data_root={place or data}", f"{section}.{own[0]}={own[1]}"]
        given = [word for value in sets for word in ("--set", value)]
        arguments = ["--mode", mode, "--train-config", str(path), *given, *more]
        with caplog.at_level(logging.INFO):
            code = main([*arguments, *(["--cfg-options", *options] if options else [])])
        return code, caplog.text, capsys.readouterr().err

    return start


def test_a_training_is_checked_done_resumed_and_measured(run, tmp_path):
    code, log, error = run("train.check", "--iterations", "2")
    assert code == 0, error
    assert "training data: 4 pictures, 2 iterations per epoch of 2" in log
    assert "nothing is wrong after 2 iterations" in log
    assert not (tmp_path / "work").exists()
    code, log, error = run("train.pose")
    assert code == 0, error
    code, log, error = run("train.pose", "--resume", options=["train_cfg.max_epochs=2"])
    assert code == 0, error
    assert [row["epoch"] for row in read_curve(tmp_path / "work" / TABLE)] == [1, 2]
    code, log, error = run("test.pose")
    assert code == 0, error
    assert "boxes: the network's own" in log
    assert "--mode deploy.export" in log
    metrics = json.loads((tmp_path / "work" / "report" / "metrics.json").read_text())
    assert metrics["all"]["images"] == 2


def test_an_ablation_measures_rtmo_as_well(run, tmp_path):
    code, _, error = run("train.ablation", "--seeds", "0")
    assert code == 0, error
    value = json.loads((tmp_path / "work" / "ablation.json").read_text())
    (trial,) = value["runs"]
    assert trial["state"] == "done"
    assert trial["figures"]["AP"] is not None
    assert trial["heatmap_loss"] is None  # it has no heatmaps


def test_pictures_that_show_no_people_are_trained_on(run, config, tmp_path):
    """mmpose's keep_empty=False keeps them, and its head then gives what mmengine cannot add."""
    path = tmp_path / "empty.py"
    none = (
        "dict(type='FilterAnnotations', by_box=True, min_gt_bbox_wh=(999, 999), keep_empty=False)"
    )
    path.write_text(
        f"_base_ = {str(config)!r}\n"
        "train_dataloader = dict(dataset=dict(pipeline=[\n"
        f"    {none} if step['type'] == 'FilterAnnotations' else step\n"
        "    for step in _base_.train_dataloader.dataset.pipeline\n"
        "]))\n"
        "custom_hooks = [one for one in _base_.custom_hooks if one['type'] != 'RTMOScheduleHook']\n"
    )
    code, _, error = run("train.pose", path=path)
    assert code == 0, error
    (row,) = read_curve(tmp_path / "work" / TABLE)
    assert row["loss"] == pytest.approx(row["loss_cls"])
    assert "loss_bbox" not in row


def test_weights_that_are_not_there_are_named_with_what_to_do(run):
    for mode in ("train.check", "train.pose"):
        code, _, error = run(mode, path=CONFIGS / "cctv" / "rtmo_t_cctv_416x416.py")
        assert code == 1
        assert "load_from: expected weights to start from at weights/rtmo-t_8xb32" in error
        assert "models.fetch" in error
        assert "--cfg-options load_from=<file>" in error


@pytest.mark.slow
def test_labels_of_a_teacher_fine_tune_rtmo(run, tmp_path):
    """annotation.distill's data train by the config for cameras, from other weights."""
    labels = tmp_path / "labels"
    (tmp_path / "clips").mkdir()
    for name in ("fi034.mp4", "fi150.mp4"):
        (tmp_path / "clips" / name).symlink_to(FIGHTS / name)
    settings = (
        f"annotation.input={tmp_path / 'clips'}",
        f"distill.output={labels}",
        f"models.weights_dirs=[{small_coco.ASSETS.parent / 'weights'}]",
        "distill.max_pictures=3",
        "distill.every_s=1.0",
        "distill.neighbours=0",
        "distill.val_share=0.5",
    )
    arguments = [word for value in settings for word in ("--set", value)]
    assert main(["--mode", "annotation.distill", *arguments]) == 0
    path = CONFIGS / "cctv" / "rtmo_t_cctv_416x416.py"
    torch.save({"state_dict": pose_models.random_model(path).state_dict()}, tmp_path / "start.pth")
    splits = {"train": "train", "val": "val", "test": "val"}
    options = [
        *(f"{k}_dataloader.dataset.ann_file=person_keypoints_{v}.json" for k, v in splits.items()),
        *(f"{split}_dataloader.dataset.data_prefix.img=images/" for split in splits),
        *(f"{split}_dataloader.num_workers=0" for split in splits),
        f"load_from={tmp_path / 'start.pth'}",
        "train_dataloader.batch_size=2",
        "model.data_preprocessor.batch_augments=None",
        *OPTIONS,
    ]
    code, _, error = run("train.pose", path=path, place=labels, options=options)
    assert code == 0, error
    assert (tmp_path / "work" / "epoch_1.pth").is_file()


@pytest.mark.slow
def test_two_processes_of_torchrun_train(config, data, tmp_path):
    done = subprocess.run(
        [
            *(sys.executable, "-m", "torch.distributed.run", "--standalone"),
            *("--nproc_per_node", "2", str(ROOT / "main.py"), "--mode", "train.pose"),
            *("--train-config", str(config), "--set", f"train.data_root={data}"),
            *("--set", f"train.work_dir={tmp_path / 'work'}"),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stderr.count("next: ") == 1  # one process speaks
    assert [row["epoch"] for row in read_curve(tmp_path / "work" / TABLE)] == [1]


@pytest.mark.usefixtures("forked_workers")
def test_an_exported_checkpoint_is_compared_with_torch_and_read_by_stage_1(tmp_path):
    """Our config's network, with weights that detect something in any picture."""
    path, video = CONFIGS / "coco" / "rtmo_t_coco_416x416.py", VIDEOS / "street_5_frames.mp4"
    with VideoReader(video) as reader:
        frames = [frame.image for frame in reader]  # as stage 1 takes them
    model = pose_models.calibrate_rtmo(pose_models.random_model(path), shown=frames[:1])
    torch.save({"state_dict": model.state_dict(), "meta": {}}, tmp_path / "t.pth")
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / video.name).symlink_to(video)
    block = {"config_file": str(path), "checkpoint_path": str(tmp_path / "t.pth")}
    pose = "models.pose_estimation"
    settings = [
        *(f"{pose}.pth.{key}={value}" for key, value in block.items()),
        f"{pose}.onnx.model_path={tmp_path / 't.onnx'}",
        f"{pose}.kind=rtmo",
        "deploy.model=pose",
        "deploy.precision=fp32",
        f"deploy.frames_dir={tmp_path / 'in'}",
        f"annotation.input={tmp_path / 'in'}",
        f"annotation.stage1_dir={tmp_path / 'out'}",
        "annotation.workers=1",
    ]
    arguments = [word for value in settings for word in ("--set", value)]
    assert main(["--mode", "deploy.export", *arguments]) == 0
    network = OnnxNetwork(tmp_path / "t.onnx", OnnxPoseConfig())
    assert [spec.name for spec in network.outputs] == ["dets", "keypoints"]  # mmdeploy's end2end
    metadata = PoseModelMetadata.of(network.metadata)
    assert metadata is not None
    assert metadata.config == path.name
    assert main(["--mode", "annotation.stage1", *arguments]) == 0
    stored = load_poses(tmp_path / "out" / f"{video.name}.npz")
    assert sum(len(people) for people in stored.frames()) > 0
