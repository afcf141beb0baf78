"""Training: exact resuming, nothing executed, nothing left behind, bad losses stopped."""

import json
import os
import pickle
from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("mmaction")

from mmengine.logging import MessageHub, MMLogger  # noqa: E402
from mmengine.registry import DefaultScope  # noqa: E402

from recognizer.action.training import model_of, predict, train  # noqa: E402
from recognizer.dataset.mmaction import read_split, write_split  # noqa: E402
from recognizer.openmmlab import scope  # noqa: E402
from recognizer.runner.checkpoints import CheckpointError, load_checkpoint  # noqa: E402
from recognizer.runner.hooks import NOT_FINITE, NotFiniteError  # noqa: E402
from recognizer.types import Sample  # noqa: E402
from tests.action.trainings import record_losses, tiny, write_data  # noqa: E402

pytestmark = pytest.mark.usefixtures("quick_mmengine")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_data(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory):
    """Return the config, losses and best checkpoint of a finished run."""
    cfg = tiny(data, tmp_path_factory.mktemp("trained"))
    losses = record_losses(cfg)
    best = train(cfg)
    return cfg, dict(losses), best


def weights(path):
    return load_checkpoint(path)["state_dict"]


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


class KilledError(Exception):
    pass


def killer(at):
    def stop_there(done, total):
        if done == at:
            raise KilledError

    return stop_there


AUGMENTED = [
    "optim_wrapper.accumulative_counts=2",
    "default_hooks.early_stopping.type=EarlyStoppingHook",
    "default_hooks.early_stopping.monitor=val/acc_top1",
    "default_hooks.early_stopping.patience=9",
    "train_cfg.max_epochs=5",
    "param_scheduler.1.milestones=[4]",
    "optim_wrapper.optimizer.lr=0.01",
]


@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.slow)])
@pytest.mark.parametrize("at", [1, 8, 13])
def test_a_resumed_run_has_the_losses_of_an_uninterrupted_one(data, tmp_path, workers, at):
    loading = [f"train_dataloader.num_workers={workers}"]
    loading += [f"train_dataloader.persistent_workers={bool(workers)}"]
    whole_cfg = tiny(data, tmp_path / "whole", *AUGMENTED, *loading)
    whole = record_losses(whole_cfg)
    best = train(whole_cfg)
    parts_cfg = tiny(data, tmp_path / "parts", *AUGMENTED, *loading)
    parts = record_losses(parts_cfg)
    with pytest.raises(KilledError):
        train(parts_cfg, on_progress=killer(at))
    assert len(parts) < len(whole)
    resumed = train(parts_cfg, resume=True)
    assert parts == whole  # to the bit: 3 batches, 5 epochs
    assert len(whole) == 15
    assert resumed.name == best.name
    assert {p.name for p in resumed.parent.glob("*.pth")} == {
        p.name for p in best.parent.glob("*.pth")
    }
    for path in best.parent.glob("*.pth"):
        one, other = load_checkpoint(path), load_checkpoint(resumed.parent / path.name)
        assert same(one["state_dict"], other["state_dict"])
        assert one["early_stopping"] == other["early_stopping"]


def test_validation_that_was_cut_off_is_made_up_for(data, tmp_path):
    cfg = tiny(data, tmp_path / "w", "train_cfg.max_epochs=2")
    best = train(cfg)
    whole = load_checkpoint(best)
    (tmp_path / "w" / "last_checkpoint").write_text(str(tmp_path / "w" / "epoch_2.pth"))
    before = load_checkpoint(tmp_path / "w" / "epoch_2.pth")
    before["meta"]["recognizer"]["validated_epoch"] = 0
    for key in ("best_ckpt", "best_score"):
        before["message_hub"]["runtime_info"].pop(key)
    torch.save(before, tmp_path / "w" / "epoch_2.pth")
    best.unlink()
    assert train(cfg, resume=True) == best
    assert same(weights(best), whole["state_dict"])


@pytest.mark.slow
def test_neither_workers_nor_their_persistence_change_what_is_learnt(data, tmp_path):
    found = []
    for workers, persistent in ((0, False), (2, True), (2, False)):
        cfg = tiny(
            data,
            tmp_path / f"{workers}{persistent}",
            "train_cfg.max_epochs=2",
            f"train_dataloader.num_workers={workers}",
            f"train_dataloader.persistent_workers={persistent}",
        )
        found.append(weights(train(cfg).parent / "epoch_2.pth"))
    assert same(found[0], found[1])
    assert same(found[0], found[2])


def test_two_trainings_in_one_process_are_equal_and_leave_nothing(data, tmp_path, trained):
    _, before, best = trained
    held = [set(kind._instance_dict) for kind in (MMLogger, MessageHub, DefaultScope)]
    numpy_state = np.random.get_state()[1].copy()  # noqa: NPY002
    torch_state = torch.get_rng_state()
    cfg = tiny(data, tmp_path / "again")
    losses = record_losses(cfg)
    again = train(cfg)
    assert losses == before
    assert same(weights(again), weights(best))
    assert held == [set(kind._instance_dict) for kind in (MMLogger, MessageHub, DefaultScope)]
    assert (np.random.get_state()[1] == numpy_state).all()  # noqa: NPY002
    assert torch.equal(torch.get_rng_state(), torch_state)


@pytest.mark.parametrize("measured", [False, True], ids=["keypoints-only", "movement"])
def test_boxes_movement_and_times_are_carried_along_unread(data, tmp_path, trained, measured):
    random = np.random.default_rng(0)
    for split in ("train", "val", "test"):
        samples = [
            replace(
                sample,
                boxes=sample.boxes if measured else None,
                movement=random.random((*sample.keypoints.shape[:2], 6), np.float32)
                if measured
                else None,
                time_s=sample.time_s if measured else None,
            )
            for sample in read_split(data / f"{split}.pkl")
        ]
        write_split(tmp_path / f"{split}.pkl", tmp_path, samples)
    cfg = tiny(tmp_path, tmp_path / "run", "train_cfg.max_epochs=1")
    losses = record_losses(cfg)
    train(cfg)
    assert losses
    assert losses == {i: trained[1][i] for i in losses}


def test_another_seed_gives_another_training(data, tmp_path, trained):
    cfg = tiny(data, tmp_path / "other", "randomness.seed=8", "train_cfg.max_epochs=1")
    losses = record_losses(cfg)
    train(cfg)
    assert losses[0] != trained[1][0]


def test_a_finished_run_is_neither_overwritten_nor_trained_on(trained):
    cfg, _, best = trained
    with pytest.raises(FileExistsError, match="--resume"):
        train(cfg)
    before = best.stat().st_mtime_ns
    assert train(cfg, resume=True) == best
    assert best.stat().st_mtime_ns == before


def test_a_finished_run_can_be_made_longer(data, tmp_path):
    cfg = tiny(data, tmp_path / "w", "train_cfg.max_epochs=2")
    train(cfg)
    longer = tiny(data, tmp_path / "w", "train_cfg.max_epochs=3")
    train(longer, resume=True)
    assert (tmp_path / "w" / "epoch_3.pth").is_file()


def test_resuming_an_empty_folder_starts_and_puts_a_stale_best_aside(data, tmp_path):
    (tmp_path / "w").mkdir()
    (tmp_path / "w" / "best_acc_top1_epoch_9.pth").write_bytes(b"stale")
    cfg = tiny(data, tmp_path / "w", "train_cfg.max_epochs=1")
    best = train(cfg, resume=True)
    assert list((tmp_path / "w").glob("best_*.pth")) == [best]
    (aside,) = (tmp_path / "w").glob("best_acc_top1_epoch_9.pth.earlier*")
    assert aside.read_bytes() == b"stale"


def test_resuming_with_other_data_is_refused(data, tmp_path, trained):
    cfg = trained[0].copy()
    samples = read_split(data / "train.pkl")
    write_split(tmp_path / "train.pkl", tmp_path, samples[:-1])
    cfg.train_dataloader.dataset.ann_file = str(tmp_path / "train.pkl")
    with pytest.raises(CheckpointError, match="other data"):
        train(cfg, resume=True)


def test_the_checkpoint_says_what_it_is(data, trained):
    checkpoint = torch.load(trained[2], weights_only=True)  # as it is, nothing allowed
    metadata = checkpoint["meta"]["recognizer"]
    assert metadata["config"] == "stgcnpp_enhanced_fight_detection_stable"
    assert len(metadata["train_sha256"]) == 64
    model, cfg, _ = model_of(trained[2])
    assert cfg.model.backbone.base_channels == 16
    assert not model.training


def test_predictions_are_those_of_mmaction2s_own_test(data, trained, tmp_path):
    from mmengine.runner import Runner

    cfg, _, best = trained
    found = predict(best, data / "test.pkl")
    assert found.shape == (len(read_split(data / "test.pkl")), 2)
    assert found.dtype == np.float64
    np.testing.assert_allclose(found.sum(1), 1, atol=1e-6)
    np.testing.assert_array_equal(found, predict(best, read_split(data / "test.pkl")))
    plain = cfg.copy()
    plain.work_dir = str(tmp_path)
    plain.test_evaluator = [{"type": "DumpResults", "out_file_path": str(tmp_path / "out.pkl")}]
    plain.load_from = str(best)
    with scope("mmaction"):
        Runner.from_cfg(plain).test()
    results = pickle.loads((tmp_path / "out.pkl").read_bytes())
    theirs = [result["pred_scores"]["item"].numpy() for result in results]
    np.testing.assert_allclose(found, np.stack(theirs), atol=1e-6)


def test_nobody_to_predict_gives_no_rows(trained):
    assert predict(trained[2], []).shape == (0, 2)


def test_weights_of_a_plain_mmaction2_run_can_be_started_from(data, tmp_path, trained):
    path = tmp_path / "plain.pth"
    torch.save({"state_dict": weights(trained[2]), "meta": {}}, path)
    cfg = tiny(
        data,
        tmp_path / "w",
        f"load_from={path}",
        "train_cfg.max_epochs=1",
        "optim_wrapper.optimizer.lr=0.0",
        "train_dataloader.batch_size=4",
    )
    learnt = weights(train(cfg))
    key = "cls_head.fc.weight"
    assert torch.equal(learnt[key], weights(trained[2])[key])


def test_weights_of_another_network_are_refused(data, tmp_path):
    torch.save({"conv.weight": torch.zeros(3)}, tmp_path / "other.pth")
    cfg = tiny(data, tmp_path / "w", f"load_from={tmp_path / 'other.pth'}")
    with pytest.raises(CheckpointError, match="another network"):
        train(cfg)


def test_a_loss_that_is_no_number_stops_and_names_the_batch(data, tmp_path):
    cfg = tiny(
        data,
        tmp_path / "w",
        "optim_wrapper.optimizer.lr=1e30",
        "optim_wrapper.clip_grad.max_norm=1e30",
        "param_scheduler.0.start_factor=1.0",
    )
    with pytest.raises(NotFiniteError, match="iteration"):
        train(cfg)
    report = json.loads((tmp_path / "w" / NOT_FINITE).read_text())
    names = {sample.name for sample in read_split(data / "train.pkl")}
    assert report["samples"]
    assert set(report["samples"]) <= names
    assert report["iteration"] >= report["batch"] >= 1
    assert not list((tmp_path / "w").glob("best_*"))


def test_weights_that_are_no_numbers_are_not_saved(data, tmp_path):
    cfg = tiny(
        data,
        tmp_path / "w",
        "optim_wrapper.optimizer.lr=inf",
        "train_cfg.max_epochs=1",
        "train_dataloader.batch_size=16",
        "param_scheduler=[]",
        "optim_wrapper.clip_grad=None",
    )
    with pytest.raises(NotFiniteError, match=r"the weight .* is NaN"):
        train(cfg)
    assert not list((tmp_path / "w").glob("*.pth"))


@pytest.mark.parametrize(
    ("part", "value", "message"),
    [
        ("optimizer", 5, "no training can be built"),
        ("message_hub", 5, "no training can be built"),
        ("param_schedulers", [1, 2], "no training can be built"),
        ("seed", "abc", "expected a seed"),
        ("epoch", -5, "expected a seed and an epoch"),
    ],
)
def test_a_checkpoint_with_odd_parts_is_not_gone_on_from(
    data, tmp_path, trained, part, value, message
):
    source = max(trained[2].parent.glob("epoch_*.pth"))
    checkpoint = torch.load(source, weights_only=True)
    (checkpoint if part in checkpoint else checkpoint["meta"])[part] = value
    (tmp_path / "w").mkdir()
    torch.save(checkpoint, tmp_path / "w" / source.name)
    with pytest.raises(ValueError, match=message):
        train(tiny(data, tmp_path / "w", "train_cfg.max_epochs=9"), resume=True)


def test_a_hostile_pickle_is_not_executed(data, tmp_path):
    class Bomb:
        def __reduce__(self):
            return os.system, (f"touch {tmp_path}/exploded",)

    (tmp_path / "train.pkl").write_bytes(pickle.dumps([Bomb()]))
    cfg = tiny(data, tmp_path / "w", f"train_dataloader.dataset.ann_file={tmp_path}/train.pkl")
    with pytest.raises(ValueError, match="system"):
        train(cfg)
    assert not (tmp_path / "exploded").exists()


def test_early_stopping_stops_where_nothing_gets_better(data, tmp_path, caplog):
    cfg = tiny(
        data,
        tmp_path / "w",
        "train_cfg.max_epochs=9",
        "train_cfg.val_interval=1",
        "optim_wrapper.optimizer.lr=0.0",
        "default_hooks.early_stopping.type=EarlyStoppingHook",
        "default_hooks.early_stopping.monitor=val/acc_top1",
        "default_hooks.early_stopping.patience=2",
        "default_hooks.early_stopping.min_delta=0.001",
    )
    losses = record_losses(cfg)
    train(cfg)
    assert len(losses) == 3 * 3


def test_early_stopping_on_what_nobody_measures_is_an_error(data, tmp_path):
    cfg = tiny(
        data,
        tmp_path / "w",
        "default_hooks.early_stopping.type=EarlyStoppingHook",
        "default_hooks.early_stopping.monitor=val/mAP",
    )
    with pytest.raises(RuntimeError, match="mAP"):
        train(cfg)


def test_the_console_stays_quiet(data, tmp_path, capfd):
    train(tiny(data, tmp_path / "w", "train_cfg.max_epochs=1"))
    out, _ = capfd.readouterr()
    assert len(out.splitlines()) < 5
    logs = list((tmp_path / "w").glob("*/*.log"))
    assert "Epoch(train)" in logs[0].read_text()


def test_a_sample_type_is_what_predict_takes(trained):
    one = Sample(
        "x",
        0,
        np.zeros((1, 20, 17, 2), np.float32) + 5,
        np.ones((1, 20, 17), np.float32),
        (100, 50),
        np.zeros(1, np.int64),
    )
    before = one.keypoints.copy()
    assert predict(trained[2], [one]).shape == (1, 2)
    np.testing.assert_array_equal(one.keypoints, before)
