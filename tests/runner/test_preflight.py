"""Checks before a training starts: batches, and what a checkpoint is gone on with."""

from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("mmengine")

from mmengine.config import Config

from recognizer.runner.checkpoints import CheckpointError
from recognizer.runner.preflight import check_batches, check_same_task
from recognizer.runner.train_config import TrainConfigError


def loader(size, drop_last=True, **dataset):
    inner = {"type": "PoseDataset", "ann_file": "x.pkl"}
    outer = {**inner, **dataset} if "times" not in dataset else {**dataset, "dataset": inner}
    return Config(
        {"train_dataloader": {"batch_size": size, "drop_last": drop_last, "dataset": outer}}
    )


@pytest.mark.parametrize(
    ("cfg", "processes", "message"),
    [
        (loader(9), 1, "at most 8 with drop_last=True, got 9: the train data holds 8 samples, wh"),
        (loader(8), 1, ""),
        (loader(9, drop_last=False), 1, ""),
        (loader(9, times=2), 1, ""),
        (loader(17, times=2), 1, "holds 16 samples"),
        (loader(5, indices=4), 1, "holds 4 samples"),
        (loader(5, indices=[1, 2, 3]), 1, "holds 3 samples"),
        (loader(5), 2, "at most 4 .*8 samples, 4 for each of 2 processes"),
        (loader(4), 2, ""),
        (Config({"train_dataloader": None}), 1, ""),
    ],
)
def test_a_loader_without_a_batch_is_refused(monkeypatch, cfg, processes, message):
    monkeypatch.setenv("WORLD_SIZE", str(processes))
    if not message:
        check_batches(cfg, "train", 8, "samples")
        return
    with pytest.raises(TrainConfigError, match=message):
        check_batches(cfg, "train", 8, "samples")


@pytest.mark.parametrize(
    ("before", "now", "message"),
    [
        ({"classes": ["a", "b"]}, {"classes": ["b", "a"]}, r"learnt classes \['a', 'b'\]"),
        ({"service": "fight"}, {"service": "falldown"}, "learnt service 'fight'"),
        ({"classes": ["a", "b"]}, {"classes": ("a", "b")}, ""),
        ({}, {"classes": ["a", "b"]}, ""),
        ({"classes": ["a", "b"]}, {}, ""),
    ],
)
def test_a_training_of_something_else_is_not_gone_on_with(before, now, message):
    if not message:
        check_same_task(before, now, Path("epoch_1.pth"))
        return
    with pytest.raises(CheckpointError, match=message):
        check_same_task(before, now, Path("epoch_1.pth"))


def test_other_validation_data_is_warned_of(caplog, monkeypatch):
    check_same_task({"val_sha256": "a"}, {"val_sha256": "b"}, Path("epoch_1.pth"))
    assert "epoch_1.pth: was validated on other data" in caplog.text
    caplog.clear()
    monkeypatch.setenv("RANK", "1")
    check_same_task({"val_sha256": "a"}, {"val_sha256": "b"}, Path("epoch_1.pth"))
    assert not caplog.text
