"""The movement stream with a group of falls left out: nothing of that group is learnt from."""

import json
import sys

import numpy as np
import pytest

import benchmarks._left_out as left_out
import benchmarks.cross_confusion as cross_confusion
from recognizer.config.file import ConfigError
from recognizer.installation import SHIPPED_MODELS
from recognizer.storage.artifacts import read_poses
from tests.action.moving import LOGISTIC
from tests.annotation.real_tracks import CLIPS, FALLS, SAMPLES, of_fights, tracks, without_pictures


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    clips = tracks(folder / "clips", "stage1", CLIPS)
    falls = tracks(folder / "falls", "falls_stage1", FALLS)
    return falls, without_pictures(of_fights(folder, clips, [falls]))


def events_of(path, videos):
    """Write the rows of samples/falls_segments.csv that are about some videos."""
    header, *rows = (SAMPLES / "falls_segments.csv").read_text().splitlines()
    own = [row for row in rows if row.split(",")[0] in videos]
    path.write_text("\n".join([header, *own]))
    return path


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(left_out, "SEEDS", (0,))
    monkeypatch.setattr(left_out, "FOLDS", 2)


def test_each_group_is_judged_by_a_model_without_it(made, tmp_path, monkeypatch, capsys):
    falls, stage3 = made
    data = left_out.read_data(stage3)
    fitted, judged = [], []
    fit_movement, classify = left_out.fit_movement, left_out.classify

    def spy_fit(setting, rows, labels, seed):
        fitted.append((rows, fit_movement(setting, rows, labels, seed)))
        return fitted[-1][1]

    def spy_classify(data, model, sequence, config):
        (rows,) = [rows for rows, result in fitted if result is model]
        judged.append((names_of(rows), len(sequence), classify(data, model, sequence, config)))
        return judged[-1][2]

    def names_of(rows):
        return {
            name
            for row in rows
            for name, own in data.measures.items()
            if own is not None and np.array_equal(own, row)
        }

    monkeypatch.setattr(left_out, "fit_movement", spy_fit)
    monkeypatch.setattr(left_out, "classify", spy_classify)
    arguments = ["--falls", falls, "--leave-out", stage3, "--out", tmp_path]
    arguments += ["--setting", LOGISTIC, "--events", events_of(tmp_path / "falls.csv", FALLS)]
    monkeypatch.setattr(sys, "argv", ["cross_confusion", *map(str, arguments)])
    assert cross_confusion.main() == 0

    lengths = {len(read_poses(falls / f"{video}.npz")[0]): video for video in FALLS}
    assert len(lengths) == len(FALLS)
    assert len(judged) == 2 * len(FALLS)
    measured = {name for name, own in data.measures.items() if own is not None}
    for names, frames, (spans, event) in judged:
        group = left_out.group_of(lengths[frames])
        learnt = {
            left_out.group_of(data.truth.negatives[n].video)
            for n in names - data.truth.samples.keys()
        }
        assert learnt in (set(), {"Subject_1", "Subject_2", "Subject_3"} - {group})
        assert measured & data.truth.samples.keys() <= names
        assert len(spans) == len(event) > 0
        assert all(np.isclose(stop - start, data.window_s) for start, stop in spans)
    assert sum(bool(names & data.truth.negatives.keys()) for names, _, _ in judged) == len(FALLS)

    result = json.loads((tmp_path / "left_out.json").read_text())
    for own in result.values():
        assert own["usual"]["falls"] == 2
        assert own["same_recall"]["recall"] >= result["without"]["usual"]["recall"] - 1e-9
    assert "movement stream, with negatives: fight clips in " in capsys.readouterr().out


def test_a_data_set_without_negatives_is_refused(made, tmp_path):
    metadata = json.loads((made[1] / "metadata.json").read_text())
    del metadata["negatives"]
    (tmp_path / "metadata.json").write_text(json.dumps(metadata))
    with pytest.raises(ConfigError, match=r"expected a stage 3 with dataset\.negatives"):
        left_out.read_data(tmp_path)


def test_a_group_without_negatives_is_refused(made):
    both = r"none of falls \(falls/Subject_1/Fall/13\.mp4\).* are of Subject_1, .*\(Subject_1/Fall/"
    with pytest.raises(ConfigError, match=both):
        left_out.read_data(made[1], LOGISTIC, [f"falls/{video}" for video in FALLS])
    with pytest.raises(ConfigError, match=r"none of Subject_4 \(Subject_4/a\.mp4\)"):
        left_out.read_data(made[1], LOGISTIC, [*FALLS, "Subject_4/a.mp4"])


def test_a_model_without_negatives_is_learnt_once(made, monkeypatch):
    data, fitted = left_out.read_data(made[1], LOGISTIC, FALLS), []
    fit_movement = left_out.fit_movement
    monkeypatch.setattr(
        left_out, "fit_movement", lambda *given: fitted.append(given[1]) or fit_movement(*given)
    )
    groups = ["Subject_1", "Subject_2", "Subject_3"]
    models = left_out.fit_groups(data, groups, negatives=False)
    assert len(fitted) == len(set(models.values())) == 1
    models = left_out.fit_groups(data, groups, negatives=True)
    assert list(models) == groups
    assert len(fitted) - 1 == len(set(models.values())) == 3


def test_each_group_has_its_own_classifier(made):
    shipped = str(SHIPPED_MODELS / "fight.onnx")
    assert cross_confusion.group_files([shipped]) == {"": shipped}
    files = cross_confusion.group_files([f"Subject_1={shipped}", f"Subject_2={shipped}"])
    models = cross_confusion.read_models("fight", files)
    assert set(models) == {"Subject_1", "Subject_2"}
    sequence = read_poses(made[0] / f"{FALLS[0]}.npz")[0]
    config = of_fights("unused", "unused")
    classify = cross_confusion.classifier_of(models, config)
    spans, event, threshold = classify(FALLS[0], sequence)
    assert len(spans) == len(event) > 0
    assert threshold == models["Subject_1"].threshold
    cross_confusion.check_groups(models, FALLS[:2])
