"""Training SDPose on a few real people: losses fall, resuming is exact, two processes are one."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("mmpose")

from recognizer.runner.checkpoints import CheckpointError  # noqa: E402
from recognizer.sdpose.hooks import STATE, STATS_FILE  # noqa: E402
from recognizer.sdpose.training import train  # noqa: E402
from recognizer.training.pose.learning_curves import TABLE, CurvesHook, read_curve  # noqa: E402

from .small_coco import (  # noqa: E402
    CONFIGS,
    TINY,
    annotations,
    needs_coco,
    record_losses,
    tiny,
    write_annotations,
    write_data,
)

pytestmark = [needs_coco, pytest.mark.usefixtures("quick_mmengine", "quick_figures")]
ROOT = Path(__file__).resolve().parents[2]
DYNAMIC = CONFIGS / "sdpose_s_v1_fsd_dynamic_coco_256x192.py"
# Weights that are others in each of the three epochs, and a rate that is, too.
CHANGING = (
    "model.head.loss_vis_token_dist.start_epoch=0",
    "model.head.loss_vis_token_dist.end_epoch=2",
    "model.head.loss_vis_token_dist.loss_weight=0.01",
    "param_scheduler.1.milestones=[2]",
    "custom_hooks.0.interval=1",
)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_data(tmp_path_factory.mktemp("data"))


def dynamic(data, work_dir, *more):
    return tiny(data, work_dir, *CHANGING, *more, path=DYNAMIC)


@pytest.fixture(scope="module")
def whole(data, tmp_path_factory):
    """Return the folder, the losses and the best checkpoint of a run that nobody stopped."""
    cfg = dynamic(data, tmp_path_factory.mktemp("whole"))
    losses = record_losses(cfg)
    best = train(cfg, hooks=[CurvesHook()])
    return Path(cfg.work_dir), dict(losses), best


class KilledError(Exception):
    pass


def killer(at):
    def stop_there(done, total):
        if done == at:
            raise KilledError

    return stop_there


def plain(path):
    """Return a checkpoint, read with nothing allowed."""
    return torch.load(path, weights_only=True)


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


def test_the_losses_fall_and_all_items_are_there(whole):
    _, losses, _ = whole
    assert sorted(losses) == list(range(6))  # 8 people by 4, 3 epochs
    for items in losses.values():
        assert set(items) == {"loss", "heatmap_loss", "vis_dist_loss", "kpt_dist_loss"}
        parts = items["heatmap_loss"] + items["vis_dist_loss"] + items["kpt_dist_loss"]
        assert items["loss"] == pytest.approx(parts, rel=1e-6)
    heatmap = [losses[step]["heatmap_loss"] for step in range(6)]
    assert sum(heatmap[4:]) < 0.7 * sum(heatmap[:2])


@pytest.mark.parametrize("at", [1, *(pytest.param(n, marks=pytest.mark.slow) for n in (2, 3)), 5])
def test_a_resumed_run_is_one_that_was_never_stopped(data, tmp_path, whole, at):
    folder, losses, best = whole
    cfg = dynamic(data, tmp_path / "w")
    parts = record_losses(cfg)
    with pytest.raises(KilledError):
        train(cfg, on_progress=killer(at), hooks=[CurvesHook()])
    assert len(parts) < len(losses)
    resumed = train(cfg, resume=True, hooks=[CurvesHook()])
    assert parts == losses  # every item, to the bit
    assert resumed.name == best.name
    names = {path.name for path in folder.glob("*.pth")}
    assert {path.name for path in resumed.parent.glob("*.pth")} == names
    for name in names:
        one, other = plain(folder / name), plain(tmp_path / "w" / name)
        assert same(one["state_dict"], other["state_dict"]), name
        assert one[STATE] == other[STATE], name
    for name in (STATS_FILE, TABLE):
        assert (tmp_path / "w" / name).read_text() == (folder / name).read_text()


def test_the_dynamic_weights_did_change_the_losses(data, tmp_path, whole):
    """Otherwise resuming would be exact whatever the epoch is."""
    late = ("start_epoch=90", "end_epoch=99")
    options = [f"model.head.loss_vis_token_dist.{option}" for option in late]
    cfg = dynamic(data, tmp_path / "w", *options, "train_cfg.max_epochs=2")
    losses = record_losses(cfg)
    train(cfg)
    assert losses[0] == whole[1][0]
    assert losses[2]["vis_dist_loss"] != whole[1][2]["vis_dist_loss"]


def test_statistics_and_curves_show_every_iteration(whole):
    folder, losses, _ = whole
    values = [items["loss"] for items in losses.values()]
    text = (folder / STATS_FILE).read_text()
    assert "Iterations: 6" in text
    assert f"Final: {values[-1]:.6g}" in text
    assert f"Mean: {sum(values) / 6:.6g}" in text
    rows = read_curve(folder / TABLE)
    assert [row["epoch"] for row in rows] == [1, 2, 3]
    for epoch, row in enumerate(rows):
        mean = sum(losses[2 * epoch + i]["heatmap_loss"] for i in range(2)) / 2
        assert row["heatmap_loss"] == pytest.approx(mean, rel=1e-4)
        assert 0 <= row["coco/AP"] <= 1
    assert (folder / "learning_curve.png").read_bytes().startswith(b"\x89PNG")


def test_checkpoints_hold_no_code_and_say_what_they_learnt_from(whole):
    folder, _, best = whole
    for path in folder.glob("*.pth"):
        metadata = plain(path)["meta"]["recognizer"]
        assert metadata["config"] == DYNAMIC.stem
        assert (metadata["train_persons"], metadata["val_persons"]) == (8, 4)
        assert len(metadata["train_sha256"]) == 64
    assert best.name.startswith("best_coco_AP_epoch_")


def test_neither_workers_nor_another_process_change_what_is_learnt(data, tmp_path, whole):
    cfg = dynamic(
        data,
        tmp_path / "w",
        "train_dataloader.num_workers=1",
        "train_dataloader.persistent_workers=True",
        "train_cfg.max_epochs=2",
    )
    losses = record_losses(cfg)
    train(cfg)
    assert dict(losses) == {step: whole[1][step] for step in range(4)}


def test_other_annotations_are_not_gone_on_with(data, tmp_path, whole):
    other = write_data(tmp_path / "other")
    content = annotations("train", 8)
    content["annotations"].pop()
    write_annotations(other, "train", content)
    with pytest.raises(CheckpointError, match="other data"):
        train(dynamic(other, whole[0]), resume=True)
    with pytest.raises(FileExistsError, match="--resume"):
        train(dynamic(data, whole[0]))


# Without batch statistics, two half batches are one batch; every process writes its losses.
FIXED = """
import json
import os
from pathlib import Path
from mmengine.hooks import Hook
from mmpose.registry import HOOKS
from torch.nn import BatchNorm2d


@HOOKS.register_module(force=True)
class FixedNormsHook(Hook):
    def before_train(self, runner):
        self.losses = []

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        for module in runner.model.modules():
            if isinstance(module, BatchNorm2d):
                module.eval()

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.losses.append({k: v.item() for k, v in outputs.items() if "loss" in k})
        path = Path(runner.work_dir) / f"losses_{runner.rank}_of_{runner.world_size}.json"
        path.write_text(json.dumps(self.losses))
"""


@pytest.mark.slow
def test_two_processes_of_torchrun_learn_what_one_does(data, tmp_path):
    (tmp_path / "fixed_norms.py").write_text(FIXED)
    config = tmp_path / "fixed.py"
    config.write_text(
        f"_base_ = {str(DYNAMIC)!r}\n"
        "custom_imports = dict(imports=['recognizer.sdpose.registered', 'fixed_norms'])\n"
        "custom_hooks = [dict(type='TrainingMonitorHook'), dict(type='FixedNormsHook')]\n"
    )
    found = {}
    for processes in (1, 2):
        work_dir = tmp_path / f"w{processes}"
        options = [
            *TINY,
            *CHANGING,
            "train_cfg.max_epochs=2",
            "train_cfg.val_interval=2",
            f"train_dataloader.batch_size={4 // processes}",
        ]
        start = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
        command = [
            sys.executable,
            *(start if processes == 2 else []),
            str(ROOT / "main.py"),
            "--mode",
            "train.pose",
            "--train-config",
            str(config),
            "--set",
            f"train.data_root={data}",
            "--set",
            f"train.work_dir={work_dir}",
            "--cfg-options",
            *options,
        ]
        done = subprocess.run(
            command,
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
            timeout=600,
            env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": f"{tmp_path}:{ROOT}"},
        )
        assert done.returncode == 0, done.stderr[-3000:]
        assert done.stderr.count("to test it:") == 1  # one process speaks
        files = sorted(work_dir.glob("losses_*.json"))
        assert [path.stem for path in files] == [
            f"losses_{rank}_of_{processes}" for rank in range(processes)
        ]
        ranks = [json.loads(path.read_text()) for path in files]
        found[processes] = [
            {key: sum(rank[step][key] for rank in ranks) / processes for key in items}
            for step, items in enumerate(ranks[0])
        ]
        assert "coco/AP" in (work_dir / TABLE).read_text()
    assert len(found[1]) == len(found[2]) == 4
    for one, two in zip(found[1], found[2], strict=True):
        assert two == pytest.approx(one, rel=1e-3)
    one, two = (plain(tmp_path / name / "epoch_2.pth")["state_dict"] for name in ("w1", "w2"))
    for key, value in one.items():
        torch.testing.assert_close(two[key], value, atol=5e-4, rtol=1e-2, msg=key)
