"""The hooks and the seeding that configs may name, each on its own."""

import random
from types import SimpleNamespace

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("mmaction")

from mmengine.config import Config  # noqa: E402
from mmengine.registry import HOOKS  # noqa: E402

from recognizer.action import registered  # noqa: E402, F401
from recognizer.action.train_config import load_train_config  # noqa: E402
from recognizer.openmmlab import scope  # noqa: E402
from recognizer.runner import hooks  # noqa: E402
from recognizer.runner.checkpoints import CheckpointError  # noqa: E402
from recognizer.runner.seeding import EpochSampler, SeededDataset  # noqa: E402
from recognizer.runner.train_config import modernise  # noqa: E402
from tests.action.trainings import FIGHT  # noqa: E402


class Draws:
    """A data set that draws from every generator there is."""

    metainfo: dict[str, str] = {}  # noqa: RUF012

    def __len__(self):
        return 6

    def __getitem__(self, index):
        drawn = np.random.random(), random.random(), torch.rand(1).item()  # noqa: NPY002
        return index, drawn


def test_what_is_drawn_depends_on_seed_epoch_and_sample_only():
    data = SeededDataset(Draws(), seed=3)
    first = {(e, i): data[e, i] for e in (0, 1) for i in (0, 1, 2)}
    assert len({drawn for _, drawn in first.values()}) == 6
    assert {key: data[key] for key in reversed(first)} == first
    assert SeededDataset(Draws(), seed=4)[0, 0] != first[0, 0]


def test_drawing_for_a_sample_leaves_the_generators_where_they_were():
    hooks.reseed(1)
    expected = np.random.random(), random.random(), torch.rand(1).item()  # noqa: NPY002
    hooks.reseed(1)
    SeededDataset(Draws(), seed=3)[0, 0]
    assert (np.random.random(), random.random(), torch.rand(1).item()) == expected  # noqa: NPY002


def test_drawing_for_a_sample_leaves_the_gpus_alone_which_an_epoch_seeds(monkeypatch):
    seeds = []
    monkeypatch.setattr(torch.cuda, "manual_seed_all", seeds.append)
    SeededDataset(Draws(), seed=3)[0, 0]
    assert seeds == []
    hooks.reseed(1)
    hooks.reseed(2)
    hooks.reseed(1)
    assert seeds[0] == seeds[2] != seeds[1]
    assert seeds[0] == torch.initial_seed()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_drawing_for_a_sample_leaves_a_real_gpu_where_it_was():
    hooks.reseed(1)
    expected = torch.rand(3, device="cuda").tolist()
    hooks.reseed(1)
    SeededDataset(Draws(), seed=3)[0, 0]
    assert torch.rand(3, device="cuda").tolist() == expected


def test_the_sampler_gives_another_order_in_each_epoch_and_the_epoch():
    sampler = EpochSampler(Draws(), {"type": "DefaultSampler", "shuffle": True}, seed=0)
    first = list(sampler)
    sampler.set_epoch(1)
    second = list(sampler)
    assert {epoch for epoch, _ in second} == {1}
    assert [i for _, i in first] != [i for _, i in second]
    assert sorted(i for _, i in second) == list(range(6))
    assert len(sampler) == 6


@pytest.mark.parametrize("monitor", ["val/acc_top1", "acc/top1", "acc_top1"])
def test_early_stopping_finds_its_metric_by_any_spelling(monitor):
    hook = hooks.EarlyStoppingHook(monitor=monitor, patience=2, min_delta=0.001)
    loop = SimpleNamespace(stop_training=False)
    runner = SimpleNamespace(train_loop=loop, logger=SimpleNamespace(info=lambda text: None))
    for value in (0.5, 0.5):
        hook.after_val_epoch(runner, {"data_time": 0.1, "acc/top1": value})
    assert not loop.stop_training
    saved = {}
    hook.before_save_checkpoint(runner, saved)
    again = hooks.EarlyStoppingHook(monitor=monitor, patience=2, min_delta=0.001)
    again.after_load_checkpoint(runner, saved)
    again.after_val_epoch(runner, {"acc/top1": 0.5})
    assert loop.stop_training


def test_the_guides_hooks_load_by_name():
    with scope("mmaction"):
        early = HOOKS.build(
            {
                "type": "EarlyStoppingHook",
                "monitor": "val/acc_top1",
                "patience": 10,
                "min_delta": 0.001,
            }
        )
        rate = HOOKS.build({"type": "LrSchedulerHook", "by_epoch": True})
    assert isinstance(early, hooks.EarlyStoppingHook)
    assert isinstance(rate, hooks.LrSchedulerHook)
    with pytest.raises(ValueError, match="ParamSchedulerHook"):
        rate.before_train(SimpleNamespace(hooks=[rate]))


def test_what_a_checkpoint_has_deleted_later_stays_in_the_work_dir(tmp_path):
    info = {"best_ckpt": "/home/somebody/thesis.pth", "last_ckpt": None, "keep_ckpt_ids": [2]}
    hooks._stay_inside(info, tmp_path)
    assert info["best_ckpt"] == str(tmp_path / "thesis.pth")
    with pytest.raises(CheckpointError, match="keep_ckpt_ids"):
        hooks._stay_inside({"keep_ckpt_ids": ["../../x"]}, tmp_path)


def test_with_cp_asks_for_the_network_that_takes_it():
    cfg = load_train_config(FIGHT, ["model.backbone.with_cp=True"])
    assert (cfg.model.backbone.type, cfg.model.backbone.with_cp) == ("FastSTGCN", True)
    cfg = load_train_config(FIGHT, ["model.backbone.with_cp=False"])
    assert cfg.model.backbone.type == "STGCN"
    assert "with_cp" not in cfg.model.backbone


def test_fp16_becomes_amp_on_a_gpu_and_is_refused_on_a_cpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    cfg = load_train_config(FIGHT, ["fp16.loss_scale=512.0"])
    assert cfg.optim_wrapper.type == "AmpOptimWrapper"
    assert cfg.optim_wrapper.loss_scale == 512.0
    assert "fp16" not in cfg
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match="dtype=bfloat16"):
        modernise(Config({"fp16": {"loss_scale": 512.0}}))


@pytest.mark.skipif(torch.cuda.is_available(), reason="this is about a CPU")
def test_mixed_precision_on_a_cpu_is_bfloat16():
    layer = torch.nn.Linear(4, 2)
    wrapper = hooks.CpuOrGpuAmp(optimizer=torch.optim.SGD(layer.parameters(), lr=0.1))
    before = layer.weight.detach().clone()
    with wrapper.optim_context(layer):
        found = layer(torch.ones(3, 4))
    assert found.dtype == torch.bfloat16
    wrapper.update_params(found.float().sum())
    assert not torch.equal(before, layer.weight)
    wrapper.load_state_dict(wrapper.state_dict())
    with pytest.raises(ValueError, match="bfloat16 only"):
        hooks.CpuOrGpuAmp(optimizer=wrapper.optimizer, dtype="float16")
