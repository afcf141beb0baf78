"""Where a training goes on: from any checkpoint, in its folder or another, with nothing mixed."""

from pathlib import Path

import pytest

import main
from recognizer.config.file import ConfigError, load_config
from recognizer.installation import SHIPPED_CONFIG

torch = pytest.importorskip("torch")
pytest.importorskip("mmaction")

from mmengine.config import Config  # noqa: E402

from recognizer.action.training import train  # noqa: E402
from recognizer.runner.checkpoint_search import missing_checkpoint, todays_checkpoint  # noqa: E402
from recognizer.runner.checkpoints import load_checkpoint  # noqa: E402
from recognizer.runner.resume import LATEST, find_source, link, restore_best  # noqa: E402
from tests.action.trainings import record_losses, tiny, write_data  # noqa: E402

pytestmark = pytest.mark.usefixtures("quick_mmengine")

EPOCHS = (
    "train_cfg.max_epochs=3",
    "train_cfg.val_interval=1",
    "default_hooks.checkpoint.interval=1",
)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_data(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def whole(data, tmp_path_factory):
    """Return the folder and the losses of a training that nobody stopped."""
    cfg = tiny(data, tmp_path_factory.mktemp("whole"), *EPOCHS)
    losses = record_losses(cfg)
    return train(cfg).parent, dict(losses)


def weights(path):
    return load_checkpoint(path)["state_dict"]


@pytest.mark.parametrize(
    ("kind", "message"), [("epoch_1.pth", "argument"), ("best_*.pth", "config")]
)
def test_any_checkpoint_goes_on_as_if_nobody_had_stopped(data, whole, tmp_path, kind, message):
    folder, losses = whole
    (source,) = folder.glob(kind)
    done = load_checkpoint(source)["meta"]["epoch"]
    options = [f"resume_from={source}"] if message == "config" else []
    cfg = tiny(data, tmp_path / "other", *EPOCHS, *options)
    again = record_losses(cfg)
    if done == 3:  # the best one is the last one
        cfg.train_cfg.max_epochs = 4
    best = train(cfg, resume=source if message == "argument" else False)
    assert {step: loss for step, loss in again.items() if step < 9} == {
        step: loss for step, loss in losses.items() if step >= 3 * done
    }
    assert best.is_file()
    assert best.parent == tmp_path / "other"
    for path in (tmp_path / "other").glob("epoch_[23].pth"):
        one, other = weights(path), weights(folder / path.name)
        assert all(torch.equal(value, other[key]) for key, value in one.items())


def test_a_finished_training_says_that_nothing_is_left(data, whole, tmp_path, caplog):
    lone = tmp_path / "lone" / "epoch_3.pth"  # its best one is not beside it
    lone.parent.mkdir()
    lone.write_bytes((whole[0] / LATEST).read_bytes())
    with pytest.raises(ValueError, match="max_epochs is 3: nothing is left to train"):
        train(tiny(data, tmp_path / "other", *EPOCHS), resume=lone)
    assert "nothing is left to train" in caplog.text


@pytest.mark.parametrize(
    ("words", "value"),
    [
        ([], False),
        (["--resume"], True),
        (["--resume", "auto"], True),
        (["--resume", "a/epoch_1.pth"], Path("a/epoch_1.pth").absolute()),
        (["--set", "train.resume=true"], True),
        (["--set", "train.resume=auto"], True),
        (["--set", "train.resume=a/epoch_1.pth"], Path("a/epoch_1.pth").absolute()),
        (["--set", "train.resume=3"], None),
    ],
)
def test_the_command_line_names_it(words, value):
    overrides = main._arguments(["--mode", "train.pose", *words]).overrides
    if value is None:
        with pytest.raises(ConfigError, match="resume"):
            load_config(SHIPPED_CONFIG, overrides)
        return
    assert load_config(SHIPPED_CONFIG, overrides).train.resume == value


# --- which checkpoint ---------------------------------------------------------------


def folder_of(tmp_path, *names):
    folder = tmp_path / "run"
    folder.mkdir(exist_ok=True)
    for name in names:
        (folder / name).write_bytes(b"x")
    return folder


@pytest.mark.parametrize(
    ("names", "config", "resume", "expected"),
    [
        ([], {}, False, None),
        ([], {}, True, None),
        (["epoch_1.pth", "epoch_2.pth"], {}, True, "run/epoch_2.pth"),
        (["epoch_1.pth", "epoch_2.pth"], {"resume": True}, False, "run/epoch_2.pth"),
        (["epoch_1.pth", "epoch_2.pth"], {}, "run/epoch_1.pth", "run/epoch_1.pth"),
        (["epoch_2.pth"], {"resume_from": "run/epoch_2.pth"}, False, "run/epoch_2.pth"),
        ([], {"resume_from": "other.pth"}, False, "other.pth"),
        ([], {"resume_from": "other.pth"}, True, "other.pth"),
        # An interrupted run goes on where it was, not where it once came from.
        (["epoch_9.pth"], {"resume_from": "other.pth"}, True, "run/epoch_9.pth"),
        (["epoch_9.pth"], {"resume_from": "other.pth"}, "run/epoch_9.pth", "run/epoch_9.pth"),
        ([], {"resume_from": None}, False, None),
        (["epoch_1.pth"], {}, False, FileExistsError),
        (["epoch_1.pth"], {}, "other.pth", FileExistsError),
        (["epoch_1.pth"], {"resume_from": "other.pth"}, False, FileExistsError),
        (["epoch_1.pth"], {}, "run/epoch_7.pth", FileNotFoundError),
        ([], {"resume_from": "nowhere/epoch_7.pth"}, False, FileNotFoundError),
    ],
)
def test_the_checkpoint_that_is_gone_on_from(
    tmp_path, monkeypatch, names, config, resume, expected
):
    monkeypatch.chdir(tmp_path)
    folder = folder_of(tmp_path, *names)
    (tmp_path / "other.pth").write_bytes(b"x")
    resume = tmp_path / resume if isinstance(resume, str) else resume
    if isinstance(expected, type):
        with pytest.raises(expected):
            find_source(Config(config), folder, resume)
        return
    source = find_source(Config(config), folder, resume)
    assert source == (expected and tmp_path / expected)


@pytest.mark.parametrize(
    ("resume", "expected"),
    [
        (True, "run/epoch_2.pth"),
        ("run/epoch_1.pth", "run/epoch_1.pth"),
        ("run/epoch_7.pth", "holds epoch_1.pth, epoch_2.pth"),
        ("run", "got the folder"),
        ("other.pth", r"holds a training \(epoch_2.pth\); go on with it"),
        (False, r"holds a training \(epoch_2.pth\); go on with it"),
    ],
)
@pytest.mark.parametrize("pointer", ["/gone/run/epoch_2.pth", "/gone/run/epoch_9.pth"])
def test_a_folder_that_was_copied(tmp_path, monkeypatch, pointer, resume, expected):
    """Only what follows ``last_checkpoint`` can be led astray by it."""
    monkeypatch.chdir(tmp_path)
    folder = folder_of(tmp_path, "epoch_1.pth", "epoch_2.pth")
    (tmp_path / "other.pth").write_bytes(b"x")
    (folder / "last_checkpoint").write_text(pointer)
    if resume is True and "9" in pointer:
        expected = "delete .*last_checkpoint to go on from the latest"
    resume = tmp_path / resume if isinstance(resume, str) else resume
    if (tmp_path / expected).exists():
        assert find_source(Config({}), folder, resume) == tmp_path / expected
        return
    with pytest.raises((OSError, ValueError), match=expected):
        find_source(Config({}), folder, resume)


def test_what_an_earlier_training_left_is_put_aside(tmp_path):
    names = [
        "last_checkpoint",
        "best_acc_top1_epoch_9.pth",
        LATEST,
        "latest.log",
        "latest.log.json",
    ]
    folder = folder_of(tmp_path, *names, "notes.txt")
    assert find_source(Config({}), folder, resume=False) is None
    left = {path.name.partition(".earlier")[0] for path in folder.glob("*.earlier*")}
    assert left == set(names)
    assert not any((folder / name).exists() for name in names)
    assert (folder / "notes.txt").exists()


def test_going_back_puts_best_ones_of_later_epochs_aside(tmp_path):
    folder = folder_of(tmp_path, "best_coco_AP_epoch_95.pth", "best_coco_AP_epoch_140.pth")
    checkpoint = {"meta": {"epoch": 100, "iter": 500}, "message_hub": {}}
    restore_best(folder, folder / "epoch_100.pth", checkpoint)
    assert [path.name for path in folder.glob("best_*.pth")] == ["best_coco_AP_epoch_95.pth"]


def test_the_best_one_of_another_folder_is_taken_along(tmp_path):
    folder = folder_of(tmp_path, "best_coco_AP_epoch_95.pth")
    new = tmp_path / "new"
    hub = {"runtime_info": {"best_ckpt": "/gone/best_coco_AP_epoch_95.pth", "best_score": 0.7}}
    restore_best(new, folder / "epoch_100.pth", {"meta": {"epoch": 100}, "message_hub": hub})
    assert (new / "best_coco_AP_epoch_95.pth").read_bytes() == b"x"


def test_a_second_name_is_a_copy_where_there_are_no_hard_links(tmp_path, monkeypatch):
    def refuse(*_):
        raise PermissionError("no links on this disk")

    folder = folder_of(tmp_path, "epoch_1.pth", "epoch_2.pth")
    (folder / "epoch_2.pth").write_bytes(b"second")
    link(folder / "epoch_1.pth", folder / LATEST)
    link(folder / "epoch_1.pth", folder / LATEST)
    assert (folder / LATEST).samefile(folder / "epoch_1.pth")
    monkeypatch.setattr("os.link", refuse)
    link(folder / "epoch_2.pth", folder / LATEST)
    assert (folder / LATEST).read_bytes() == b"second"
    assert (folder / "epoch_1.pth").read_bytes() == b"x"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("best_AP_epoch_280.pth", "did you mean best_coco_AP_epoch_275.pth?"),
        ("epoch_100.pth", " holds best_coco_AP_epoch_275.pth, epoch_9.pth, epoch_10.pth"),
        ("../gone/epoch_1.pth", "there is no folder"),
        (".", "got the folder"),
        ("empty/epoch_1.pth", "no *.pth is in"),
    ],
)
def test_a_checkpoint_that_is_not_there_is_answered_by_those_that_are(tmp_path, name, message):
    folder = folder_of(tmp_path, "best_coco_AP_epoch_275.pth", "epoch_9.pth", "epoch_10.pth")
    (folder / "empty").mkdir()
    assert message in missing_checkpoint(folder / name)


@pytest.mark.parametrize(
    ("typed", "today"),
    [
        ("best_AP_epoch_3.pth", "best_coco_AP_epoch_3.pth"),
        ("best_top1_acc_epoch_3.pth", "best_acc_top1_epoch_3.pth"),
    ],
)
def test_a_best_checkpoint_is_found_by_its_name_in_older_guides(tmp_path, typed, today):
    assert todays_checkpoint(tmp_path / typed) == tmp_path / typed  # neither is there
    (tmp_path / today).touch()
    assert todays_checkpoint(tmp_path / typed) == tmp_path / today
    (tmp_path / typed).touch()
    assert todays_checkpoint(tmp_path / typed) == tmp_path / typed
