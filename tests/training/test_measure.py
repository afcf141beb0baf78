"""Test mode: from checkpoints and a pickle to a report that hides nothing."""

import csv
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import recognizer.training.classifier.evaluate as mode
from recognizer.action.classifier import Classifier
from recognizer.config.action import ClassifierConfig
from recognizer.config.file import ConfigError
from recognizer.dataset.check import DatasetError
from recognizer.dataset.mmaction import read_split, write_split
from recognizer.runs.progress import silent
from recognizer.training.classifier.labels import read_labels
from tests.analysis.classifiers import place_classifier
from tests.training.measured import TINY, dataset, settings

pytestmark = pytest.mark.usefixtures("quick_mmengine", "quick_figures", "few_trees")

ROOT = Path(__file__).resolve().parents[2]
CONFIG = ROOT / "configs/skeleton/stgcnpp/stgcnpp_enhanced_fight_detection_stable.py"


@pytest.fixture(scope="module")
def stage3(tmp_path_factory):
    return dataset(tmp_path_factory.mktemp("data"), clips=14, lost=6)


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory, stage3):
    """Train two tiny networks: what test mode is for is real checkpoints."""
    from recognizer.action.training import load_train_config, train
    from recognizer.runner.train_config import datasets

    found = []
    for seed in range(2):
        cfg = load_train_config(CONFIG, TINY)
        cfg.work_dir = str(tmp_path_factory.mktemp(f"work{seed}"))
        cfg.randomness = {"seed": seed}
        for split, part in datasets(cfg).items():
            part.ann_file = str(stage3 / f"{split}.pkl")
        found.append(train(cfg, resume=False))
    return found


def run(tmp_path, stage3, checkpoints, *sets):
    paths = json.dumps([str(path) for path in checkpoints])
    config = settings(
        tmp_path,
        f"train.dataset_dir={stage3}",
        f"test.checkpoint={paths}",
        f"test.output_dir={tmp_path / 'report'}",
        "test.bootstrap=200",
        "test.worst=3",
        *sets,
    )
    assert mode.test_fight(config, silent) == 0
    return tmp_path / "report"


def test_the_report_has_every_figure_and_every_clip(tmp_path, stage3, checkpoints):
    report = run(tmp_path, stage3, checkpoints[:1])
    value = json.loads((report / "report.json").read_text())
    truth = read_labels(stage3)
    lost = {name for name, label in truth.untracked.items() if label.split == "test"}
    assert lost, "the data set is made so that the test split has such clips"
    samples = read_split(stage3 / "test.pkl")
    assert value["scores"]["tracked"]["samples"] == len(samples)
    assert value["scores"]["all"]["samples"] == len(samples) + len(lost)
    assert set(value["nobody_tracked"]["clips"]) == lost
    assert value["nobody_tracked"]["right"] == len(lost)  # all of them are NonFight
    assert set(value["scores"]["all"]["overall"]) == {
        "accuracy",
        "balanced_accuracy",
        "roc_auc",
        "average_precision",
        "log_loss",
        "brier_score",
        "calibration_error",
    }
    assert value["scores"]["all"]["bootstrap"]["unit"] == "source"
    assert value["threshold"]["chosen_on"]["file"] == "val.pkl"
    assert value["metadata_baseline"]["state"] == "measured"
    assert value["alarms"]["classes"]["Fight"]["normal_hours"] > 0
    assert (report / "alarm_curve.csv").is_file()
    with (report / "predictions.csv").open(newline="", encoding="utf-8-sig") as file:
        rows = {row["sample"]: row for row in csv.DictReader(file)}
    assert set(rows) == {sample.name for sample in samples} | lost
    for name in lost:
        assert (rows[name]["tracked"], rows[name]["probability_NonFight"]) == ("0", "1.000000")
    text = (report / "summary.txt").read_text()
    assert f"In {len(lost)} labelled clips of this split nobody was tracked" in text


def test_equal_input_gives_equal_bytes_and_no_folder_of_this_machine(tmp_path, stage3, checkpoints):
    first = run(tmp_path / "a", stage3, checkpoints[:1])
    second = run(tmp_path / "b", stage3, checkpoints[:1])
    names = {p.relative_to(first) for p in first.rglob("*") if p.is_file()}
    assert names == {p.relative_to(second) for p in second.rglob("*") if p.is_file()}
    for name in names:
        assert (first / name).read_bytes() == (second / name).read_bytes(), name
    for name in ("report.json", "summary.txt", "predictions.csv"):
        assert str(tmp_path) not in (first / name).read_text()
        assert str(stage3) not in (first / name).read_text()


def probabilities(report):
    with (report / "predictions.csv").open(newline="", encoding="utf-8-sig") as file:
        return np.array([float(row["probability_Fight"]) for row in csv.DictReader(file)])


def test_several_checkpoints_are_fused_by_their_mean(tmp_path, stage3, checkpoints):
    one, two = (
        probabilities(run(tmp_path / str(i), stage3, [c])) for i, c in enumerate(checkpoints)
    )
    both = probabilities(run(tmp_path / "both", stage3, checkpoints))
    assert np.abs(one - two).max() > 1e-4
    assert both == pytest.approx((one + two) / 2, abs=2e-6)


def test_the_probabilities_are_the_networks_own(tmp_path, stage3, checkpoints):
    from recognizer.action.training import predict

    samples = read_split(stage3 / "test.pkl")
    own = predict(checkpoints[0], samples)
    got = probabilities(run(tmp_path, stage3, checkpoints[:1]))
    assert got[: len(samples)] == pytest.approx(own[:, 1], abs=1e-6)


def test_a_pickle_of_ones_own_has_no_sources_and_says_so(tmp_path, stage3, checkpoints):
    samples = read_split(stage3 / "test.pkl")
    path = tmp_path / "mine" / "clips.pkl"
    path.parent.mkdir()
    write_split(path, path.parent, samples)
    report = run(tmp_path, stage3, checkpoints[:1], f"test.ann_file={path}")
    value = json.loads((report / "report.json").read_text())
    assert list(value["scores"]) == ["tracked"]
    assert value["scores"]["tracked"]["bootstrap"]["unit"] == "sample"
    assert value["threshold"] is None
    assert "are not counted" in (report / "summary.txt").read_text()


def test_clips_of_one_class_only_can_be_tested(tmp_path, stage3, checkpoints):
    samples = [s for s in read_split(stage3 / "test.pkl") if s.label == 1]
    path = tmp_path / "fights.pkl"
    write_split(path, tmp_path, samples)
    report = run(tmp_path, stage3, checkpoints[:1], f"test.ann_file={path}")
    overall = json.loads((report / "report.json").read_text())["scores"]["tracked"]["overall"]
    assert overall["roc_auc"]["value"] is None
    assert "one class" in overall["roc_auc"]["reason"]
    assert (report / "roc.png").is_file()


def test_what_does_not_fit_is_refused(tmp_path, stage3, checkpoints):
    with pytest.raises(ConfigError, match=r"expected a checkpoint at .*found none"):
        run(tmp_path, stage3, [tmp_path / "missing.pth"])
    with pytest.raises(ConfigError, match=r"expected a best_.* train first: .*train\.fight"):
        run(tmp_path, stage3, [], f"train.work_dir={tmp_path / 'nothing'}")
    with pytest.raises(ConfigError, match=r"expected test\.pkl, .*annotation\.pipeline"):
        run(tmp_path, tmp_path, checkpoints)
    config = settings(tmp_path, f"train.dataset_dir={stage3}", f"test.checkpoint={checkpoints[0]}")
    with pytest.raises(ConfigError, match="expected a data set for falldown, it was made for"):
        mode.test_falldown(config, silent)


def test_an_empty_pickle_is_refused(tmp_path, stage3, checkpoints):
    path = tmp_path / "none.pkl"
    write_split(path, tmp_path, [])
    with pytest.raises(ValueError, match="expected samples to test on"):
        run(tmp_path, stage3, checkpoints, f"test.ann_file={path}")


def test_a_pickle_that_is_not_the_metadatas_is_refused(tmp_path, checkpoints):
    folder = dataset(tmp_path / "data", clips=4, sources=4)
    (folder / "test.pkl").write_bytes((folder / "val.pkl").read_bytes())
    with pytest.raises(ValueError, match=r"test\.pkl: is not the pickle"):
        run(tmp_path, folder, checkpoints)


def test_the_best_checkpoint_of_the_work_dir_is_taken(tmp_path, stage3, checkpoints):
    best = tmp_path / "best_acc_top1_epoch_1.pth"
    best.write_bytes(checkpoints[1].read_bytes())
    report = run(tmp_path, stage3, [], f"train.work_dir={tmp_path}")
    value = json.loads((report / "report.json").read_text())
    assert [c["file"] for c in value["checkpoints"]] == [best.name]


def with_metadata(path, source, **label):
    """Save a checkpoint that says other things of itself; return its path."""
    import torch

    checkpoint = torch.load(source, weights_only=True)
    checkpoint["meta"]["recognizer"] = {**checkpoint["meta"]["recognizer"], **label}
    torch.save(checkpoint, path)
    return path


def test_a_checkpoint_for_something_else_is_refused(tmp_path, stage3, checkpoints):
    other = with_metadata(tmp_path / "other.pth", checkpoints[0], service="falldown")
    with pytest.raises(ConfigError, match=r"expected a classifier for fight, .* one for falldown"):
        run(tmp_path, stage3, [other])
    turned = with_metadata(tmp_path / "turned.pth", checkpoints[0], classes=["Fight", "NonFight"])
    with pytest.raises(ConfigError, match=r"the classes are NonFight, Fight, those of .* Fight, N"):
        run(tmp_path, stage3, [turned])
    assert not (tmp_path / "report").exists()


def test_without_metadata_the_checkpoints_own_classes_count(tmp_path, stage3, checkpoints):
    path = tmp_path / "mine" / "clips.pkl"
    path.parent.mkdir()
    write_split(path, path.parent, read_split(stage3 / "test.pkl"))
    own = with_metadata(tmp_path / "own.pth", checkpoints[0], classes=["Calm", "Brawl"])
    report = run(tmp_path, stage3, [own], f"test.ann_file={path}")
    assert json.loads((report / "report.json").read_text())["classes"] == ["Calm", "Brawl"]


def test_measuring_on_what_was_learnt_from_is_reported(tmp_path, stage3, checkpoints):
    report = run(tmp_path, stage3, checkpoints[:1], f"test.ann_file={stage3 / 'train.pkl'}")
    assert "learnt from train.pkl itself" in (report / "summary.txt").read_text()
    report = run(tmp_path, stage3, checkpoints[:1])
    assert "itself" not in (report / "summary.txt").read_text()


def test_bad_samples_are_named_before_anything_is_predicted(tmp_path, stage3, checkpoints):
    samples = read_split(stage3 / "test.pkl")
    samples[1].keypoints[:] = 3e38
    path = tmp_path / "clips.pkl"
    write_split(path, tmp_path, samples)
    with pytest.raises(DatasetError, match=f"clips: '{samples[1].name}': expected keypoints in p"):
        run(tmp_path, stage3, checkpoints[:1], f"test.ann_file={path}")


# --- a shipped ONNX file -----------------------------------------------------------


def test_a_shipped_onnx_file_is_measured_without_torch(tmp_path, stage3):
    classifier = place_classifier(tmp_path / "fight.onnx")
    command = (
        "import sys; from pathlib import Path; "
        "import recognizer.training.classifier.evaluate as mode; "
        "from recognizer.runs.progress import silent; "
        "from recognizer.config.file import load_config; "
        f"path = Path({str(tmp_path / 'config.yaml')!r}); path.write_text('{{}}'); "
        f"sets = ['train.dataset_dir={stage3}', 'test.checkpoint={classifier}', "
        f"'test.output_dir={tmp_path / 'report'}', 'test.bootstrap=50']; "
        "assert mode.test_fight(load_config(path, sets), silent) == 0; "
        "assert not {'torch', 'mmengine', 'mmaction'} & set(sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", command], cwd=ROOT, check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    opened = Classifier(classifier, ClassifierConfig())
    own = [opened.probabilities(sample)[1] for sample in read_split(stage3 / "test.pkl")]
    assert probabilities(tmp_path / "report")[: len(own)] == pytest.approx(own, abs=1e-6)


def test_a_shipped_file_for_something_else_is_refused(tmp_path, stage3):
    falldown = place_classifier(tmp_path / "falldown.onnx", "falldown")
    with pytest.raises(ConfigError, match=r"expected a classifier for fight, .* one for falldown"):
        run(tmp_path, stage3, [falldown])


def test_without_a_test_split_val_is_taken_and_that_is_reported(
    tmp_path, stage3, checkpoints, caplog
):
    """RWF-2000 has train/ and val/ only; stage 3 then writes an empty test.pkl."""
    for missing in (False, True):
        folder = tmp_path / f"missing_{missing}"
        folder.mkdir()
        for split in ("train", "val"):
            (folder / f"{split}.pkl").write_bytes((stage3 / f"{split}.pkl").read_bytes())
        if not missing:
            write_split(folder / "test.pkl", folder, [])
        caplog.clear()
        report = run(folder, folder, checkpoints[:1])
        value = json.loads((report / "report.json").read_text())
        assert value["dataset"]["file"] == "val.pkl"
        assert "no test split: tested on val.pkl" in value["notes"][0]
        assert "no test split" in caplog.text
        assert value["threshold"] is None
