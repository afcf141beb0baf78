"""The modes train.fight and train.falldown: what they read, refuse, write and say."""

import json
import logging
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("mmaction")

from recognizer.config.file import ConfigError  # noqa: E402
from recognizer.config.schema import Config  # noqa: E402
from recognizer.dataset.check import DatasetError  # noqa: E402
from recognizer.dataset.mmaction import read_split, write_split  # noqa: E402
from recognizer.runner.checkpoints import CheckpointError, load_checkpoint  # noqa: E402
from recognizer.runs.progress import silent  # noqa: E402
from recognizer.training.classifier.train import prepare, train_falldown, train_fight  # noqa: E402
from tests.action.trainings import TINY, write_data  # noqa: E402

pytestmark = pytest.mark.usefixtures("quick_mmengine")

ROOT = Path(__file__).resolve().parents[2]
SHORT = [*TINY, "train_cfg.max_epochs=1"]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_data(tmp_path_factory.mktemp("data"))


def config(data, work_dir, *options, **more):
    section = {"dataset_dir": str(data), "work_dir": str(work_dir), "cfg_options": [*options]}
    return Config.model_validate({"train": {**section, **more}})


def metadata(folder, **summary):
    value = {"schema": "recognizer.dataset", "classes": {"Fight": 1, "NonFight": 0}, **summary}
    (folder / "metadata.json").write_text(json.dumps(value))


def test_a_training_ends_with_a_checkpoint_and_the_command_to_test_it(data, tmp_path, caplog):
    with caplog.at_level(logging.INFO):
        assert train_fight(config(data, tmp_path / "w", *SHORT), silent) == 0
    assert "--mode test.fight --checkpoint" in caplog.text
    (best,) = (tmp_path / "w").glob("best_*.pth")
    metadata = load_checkpoint(best)["meta"]["recognizer"]
    assert metadata["service"] == "fight"
    assert metadata["classes"] == ["NonFight", "Fight"]
    assert metadata["window_s"] is None
    with pytest.raises(FileExistsError, match="--resume"):
        train_fight(config(data, tmp_path / "w", *SHORT), silent)


def test_settings_come_from_the_service_the_seed_and_the_metadata(data, tmp_path):
    folder = write_data(tmp_path / "d")
    metadata(
        folder,
        class_weights={"Fight": 0.7, "NonFight": 1.3},
        settings={"dataset": {"window_s": 2.5}},
    )
    options = ["class_weight_from=metadata"]
    cfg, _ = prepare(config(folder, tmp_path, *options, seed=5), "falldown")
    assert cfg.model.cls_head.dropout == 0.2
    assert cfg.randomness.seed == 5
    assert cfg.model.cls_head.loss_cls.class_weight == [1.3, 0.7]
    assert cfg.recognizer.window_s == 2.5
    given, _ = prepare(config(folder, tmp_path, "randomness.seed=9"), "fight")
    assert given.randomness.seed == 9
    assert given.model.cls_head.loss_cls.class_weight == [1.2, 1.0]


def test_without_metadata_class_weights_are_counted(data, tmp_path):
    cfg, _ = prepare(config(data, tmp_path, "class_weight_from=metadata"), "fight")
    assert cfg.model.cls_head.loss_cls.class_weight == [1.0, 1.0]  # five of each


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["train_pipeline=[]"], "no aliases"),
        (["ann_file_train=x.pkl"], "no aliases"),
        (["optim_wraper.type=X"], "did you mean optim_wrapper"),
        (["max_epochs"], "key=value"),
        (["class_weight_from=thin_air"], "config or metadata"),
        (["fp16.loss_scale=512.0"], "bfloat16"),
    ],
)
def test_an_option_that_would_do_nothing_is_refused(data, tmp_path, options, message):
    if "fp16" in options[0] and torch.cuda.is_available():
        pytest.skip("a GPU takes fp16")
    with pytest.raises(ConfigError, match=message):
        prepare(config(data, tmp_path, *options), "fight")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["model.cls_head.num_classes=3"], "expected 2, as many as the data set has classes"),
        (["recognizer.service=falldown"], "recognizer.service: expected 'fight'"),
        (["recognizer.classes=[Fight,NonFight]"], "recognizer.classes: expected"),
        (["recognizer.threshold=7"], "recognizer.threshold: expected above 0 to 1, got 7"),
        (["recognizer.window_s=long"], "recognizer.window_s"),
        (["recognizer=3"], "recognizer: expected a dict"),
        (["model.cls_head.loss_cls.class_weight=[1.0,2.0,3.0]"], "class_weight: expected 2 numb"),
        (["model.cls_head.loss_cls.class_weight=[0.0,0.0]"], "not all 0, one for each class"),
        (["model.cls_head.loss_cls.class_weight=[1.0,-1.0]"], "class_weight: expected 2 numbers"),
        (["train_dataloader.dataset.ann_file=x.pkl"], "would change nothing: the pickles of"),
        (["train_dataloader=None"], "expected train_dataloader = dict"),
        (["model=3"], "expected model = dict"),
        (["train_dataloader.dataset=3"], "expected a dataset with an ann_file"),
    ],
)
def test_a_config_that_contradicts_the_data_is_refused(data, tmp_path, options, message):
    with pytest.raises(ConfigError, match=message):
        prepare(config(data, tmp_path, *options), "fight")


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("model.backbone.base_chanels=16", "base_chanels"),
        ("optim_wrapper.type=Nope", "Nope"),
    ],
)
def test_what_cannot_be_built_is_the_configs_fault(data, tmp_path, option, message):
    with pytest.raises(ConfigError, match=f"no training can be built: .*{message}.*misspelt key"):
        train_fight(config(data, tmp_path / "w", *SHORT, option), silent)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("train_cfg.max_epoch=3", r"did you mean train_cfg\.max_epochs"),
        (
            "default_hooks.checkpoint.intervall=1",
            r"did you mean default_hooks\.checkpoint\.interval",
        ),
        ("model.backbone.base_channels=2", "cls_head.in_channels=4 is missing"),
        ("mask_ratio=0.5", "would change nothing"),
    ],
)
def test_what_nothing_reads_is_refused_before_anything_is_built(data, tmp_path, option, message):
    with pytest.raises(ConfigError, match=message):
        prepare(config(data, tmp_path / "w", *SHORT, option), "fight")


@pytest.mark.parametrize("epochs", ["1.5", "many", "0"])
def test_epochs_that_are_no_number_are_named(data, tmp_path, epochs):
    options = [*SHORT, f"train_cfg.max_epochs={epochs}"]
    with pytest.raises(ConfigError, match=r"train_cfg\.max_epochs: expected a number above 0, got"):
        train_fight(config(data, tmp_path / "w", *options), silent)


def test_a_config_that_is_no_config_names_itself(data, tmp_path):
    for name, text in (("a.py", "x = 1 / 0"), ("b.txt", "{"), ("c.py", ""), ("d.py", "x = = 1")):
        (tmp_path / name).write_text(text)
        with pytest.raises(ConfigError, match=name):
            prepare(config(data, tmp_path, config_file=str(tmp_path / name)), "fight")


def test_metadata_of_other_pickles_is_not_believed(data, tmp_path):
    folder = write_data(tmp_path / "d")
    metadata(folder, service="falldown")
    with pytest.raises(ConfigError, match="expected a data set for fight, it was made for falld"):
        prepare(config(folder, tmp_path), "fight")
    metadata(folder, splits={"train": {"sha256": "0" * 64}})
    with pytest.raises(ConfigError, match=r"is not the pickle that metadata\.json"):
        prepare(config(folder, tmp_path), "fight")
    metadata(folder, classes={"Fight": 1, "NonFight": 1})
    with pytest.raises(ConfigError, match="each once"):
        prepare(config(folder, tmp_path), "fight")
    (folder / "metadata.json").write_text("[" * 100_000)
    with pytest.raises(ConfigError, match="not stage 3's metadata"):
        prepare(config(folder, tmp_path), "fight")


def test_no_pickles_names_both_places_and_the_command(tmp_path):
    section = {"annotation": {"output_dir": str(tmp_path)}, "train": {"work_dir": str(tmp_path)}}
    with pytest.raises(ConfigError, match=r"data/fight/train\.pkl.*annotation\.pipeline"):
        prepare(Config.model_validate(section), "fight")
    with pytest.raises(ConfigError, match="dataset_dir"):
        prepare(config(tmp_path, tmp_path), "fight")


def test_whether_the_samples_carry_movement_is_reported(data, tmp_path):
    folder = write_data(tmp_path / "d")
    samples = [replace(sample, movement=None) for sample in read_split(folder / "train.pkl")]
    write_split(folder / "train.pkl", folder, samples)
    assert [prepare(config(place, tmp_path), "fight")[1] for place in (data, folder)] == [
        True,
        False,
    ]


def test_bad_samples_are_named_before_training(data, tmp_path):
    folder = write_data(tmp_path / "d")
    samples = read_split(folder / "train.pkl")
    samples[2].keypoints[0, 0, 0, 0] = float("nan")
    write_split(folder / "train.pkl", folder, samples)
    with pytest.raises(DatasetError, match=samples[2].name):
        train_fight(config(folder, tmp_path / "w", *SHORT), silent)
    assert not (tmp_path / "w").exists()


# --- data of another service, of other classes, or too little of it -------------------


def test_fight_pickles_are_no_data_for_falls(data, tmp_path):
    with pytest.raises(ConfigError, match=r"dataset\.service: expected falldown, .*got fight"):
        train_falldown(config(data, tmp_path / "w", *SHORT), silent)
    metadata(folder := write_data(tmp_path / "d"), service="fight")
    with pytest.raises(ConfigError, match="expected a data set for falldown, it was made for fig"):
        train_falldown(config(folder, tmp_path / "w", *SHORT), silent)
    assert not (tmp_path / "w").exists()


def with_classes(value, **classes):
    return value.model_copy(
        update={"dataset": value.dataset.model_copy(update={"classes": classes})}
    )


def test_resuming_with_other_classes_is_refused(data, tmp_path):
    train_fight(config(data, tmp_path / "w", *SHORT), silent)
    again = config(data, tmp_path / "w", *TINY, "train_cfg.max_epochs=2", resume=True)
    with pytest.raises(DatasetError, match="folder Fight has label 1, which is NonFight"):
        train_fight(with_classes(again, Fight=0, NonFight=1), silent)
    with pytest.raises(CheckpointError, match=r"learnt classes \['NonFight', 'Fight'\], which are"):
        train_fight(with_classes(again, Calm=0, Violence=1), silent)
    assert train_fight(again, silent) == 0


def test_a_batch_that_is_never_full_is_refused_with_the_numbers(data, tmp_path):
    options = [*SHORT, "train_dataloader.batch_size=1000", "train_dataloader.drop_last=True"]
    with pytest.raises(ConfigError, match=r"at most 10 with drop_last=True, got 1000: .*10 samp"):
        train_fight(config(data, tmp_path / "w", *options), silent)


def test_validation_of_one_class_is_warned_of(data, tmp_path, caplog):
    folder = write_data(tmp_path / "d")
    kept = [sample for sample in read_split(folder / "val.pkl") if sample.label]
    write_split(folder / "val.pkl", folder, kept)
    assert train_fight(config(folder, tmp_path / "w", *SHORT), silent) == 0
    assert "none of NonFight: its accuracy says nothing about telling them apart" in caplog.text


def test_class_weights_that_metadata_lacks_are_named(data, tmp_path):
    metadata(folder := write_data(tmp_path / "d"), class_weights={"Fight": 0.7})
    with pytest.raises(ConfigError, match="class_weights: expected a number for each of NonFight"):
        prepare(config(folder, tmp_path, "class_weight_from=metadata"), "fight")


@pytest.mark.slow
def test_two_processes_of_torchrun_learn_what_one_does(data, tmp_path):
    """With statistics of the batch norms fixed, two half batches are one batch."""
    shared = [
        *TINY,
        "train_cfg.max_epochs=2",
        "model.cls_head.dropout=0.0",
        "train_dataloader.dataset.pipeline.2.test_mode=True",
        "train_dataloader.dataset.pipeline.2.num_clips=1",
    ]
    (tmp_path / "data").symlink_to(data)
    found = {}
    for processes, size in ((1, 10), (2, 5)):
        work_dir = tmp_path / f"w{processes}"
        command = [
            sys.executable,
            "-m",
            "torch.distributed.run",
            "--nproc_per_node",
            str(processes),
            "--master_port",
            "29611",
            str(ROOT / "main.py"),
            "--mode",
            "train.fight",
            "--set",
            f"train.dataset_dir={data}",
            "--set",
            f"train.work_dir={work_dir}",
            "--cfg-options",
            *shared,
            f"train_dataloader.batch_size={size}",
        ]
        done = subprocess.run(
            command,
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
            timeout=600,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        assert done.returncode == 0, done.stderr[-3000:]
        assert done.stderr.count("next: ") == 1  # one process speaks
        found[processes] = load_checkpoint(work_dir / "epoch_2.pth")
    assert found[1]["meta"]["iter"] == found[2]["meta"]["iter"] == 2
    one, two = found[1]["state_dict"], found[2]["state_dict"]
    for key in one:
        if key.endswith(".weight"):  # the same rate, 10 samples a step; norms see halves
            torch.testing.assert_close(two[key], one[key], atol=2e-4, rtol=1e-2)
