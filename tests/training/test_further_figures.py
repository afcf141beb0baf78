"""What stands beside a classifier's figures: metadata baseline and alarm curves."""

import csv

import numpy as np
import pytest

from recognizer.training.classifier.alarm_curve import (
    alarm_curves,
    curve_lines,
    timelines,
    write_context,
)
from recognizer.training.classifier.baseline import (
    baseline_line,
    compare,
    fold_baselines,
    split_baseline,
)
from recognizer.training.classifier.labels import ClipLabel
from recognizer.training.classifier.predictions import Predictions

CLASSES = ("NonFight", "Fight")


def clip_labels(count=60, telling=True):
    """Return clips of 12 sources; large pictures are fights, or say nothing."""
    random = np.random.default_rng(0)
    found = {}
    for i in range(count):
        label = i % 2
        width = 640 if (label if telling else random.integers(2)) else 320
        split = "train" if i % 12 < 8 else "test"
        name = f"clip{i:02d}"
        found[name] = ClipLabel(label, f"s{i % 12}", split, 2.0, name, 0.0, (width, 240), 25.0)
    return found


def predictions(known, names, right=1.0, seed=0):
    labels = np.array([known[name].label for name in names])
    true = np.random.default_rng(seed).random(len(labels)) < right
    one = np.where(true == (labels == 1), 0.9, 0.1)
    sources = tuple(known[name].source for name in names)
    rows = np.stack([1 - one, one], 1)
    return Predictions(CLASSES, tuple(names), labels, rows, sources, np.ones(len(labels), bool))


def test_where_the_pictures_size_tells_the_class_nothing_is_left_to_beat():
    known = clip_labels()
    tested = [name for name, own in known.items() if own.split == "test"]
    right = predictions(known, tested)
    value = compare(right, split_baseline(right, known), 200, 0)
    assert value["accuracy"]["value"] == value["roc_auc"]["value"] == 1
    assert value["better_by"]["accuracy"] == {"value": 0.0, "low": 0.0, "high": 0.0}


def test_where_it_says_nothing_the_classifier_is_better_with_an_interval():
    known = clip_labels(telling=False)
    names = sorted(known)
    dealt = {f"s{i}": i // 3 for i in range(12)}
    folds = [[name for name in names if dealt[known[name].source] == i] for i in range(4)]
    right = [predictions(known, fold, right=0.95, seed=i) for i, fold in enumerate(folds)]
    baselines = fold_baselines([(part, 0) for part in right], known)
    assert [part.names for part in baselines] == [tuple(fold) for fold in folds]
    value = compare(right[0], baselines[0], 200, 0)
    assert value["better_by"]["accuracy"]["value"] > 0.2
    low, high = (value["better_by"]["roc_auc"][end] for end in ("low", "high"))
    assert 0 < low < value["better_by"]["roc_auc"]["value"] <= high
    assert "a forest on width, height, fps and length alone" in baseline_line(value)


def test_the_baseline_learns_from_negatives_as_the_classifier_does():
    """Negatives as large as fights: the size does not tell the class any more."""
    known = clip_labels()
    negatives = {
        f"negatives/1/{i}": ClipLabel(0, f"n{i}", "train", 2.0, "n", 0.0, (640, 240), 25.0)
        for i in range(80)
    }
    tested = [name for name, own in known.items() if own.split == "test"]
    right = predictions(known, tested)
    without, learnt = split_baseline(right, known), split_baseline(right, known, negatives)
    assert without.predicted.tolist() == right.labels.tolist()
    assert learnt.names == right.names
    assert set(learnt.predicted.tolist()) == {0}
    (fold,) = fold_baselines([(right, 0)], known, negatives)
    assert set(fold.predicted.tolist()) == {0}
    assert set(fold_baselines([(right, 0)], known)[0].predicted.tolist()) == {0, 1}


def test_missing_metadata_are_reported_and_no_figure_is_made_up():
    known = {name: ClipLabel(f.label, f.source, f.split, 2.0) for name, f in clip_labels().items()}
    tested = [name for name, own in known.items() if own.split == "test"]
    value = compare(
        predictions(known, tested), split_baseline(predictions(known, tested), known), 10, 0
    )
    assert value["state"] == "unknown"
    assert "run --mode annotation.stage3 again" in baseline_line(value)
    nothing = split_baseline(predictions(known, tested), {})
    assert nothing == "there is no train split beside the pickle to learn from"


def windows():
    """Return overlapping windows of one video: normal, a fall from 2 to 4 s, normal; a hole."""
    starts = [0, 1, 2, 3, 4, 20]
    return {
        f"v@{start}": ClipLabel(int(start in (2, 3)), "s", "test", 1.5, "v", float(start))
        for start in starts
    }


def test_windows_become_events_and_hours():
    known = windows()
    right = predictions(known, sorted(known))
    first, second = sorted(timelines(right, known, 1), key=lambda part: part.span_s)
    assert first.span_s == (0, 5.5)
    assert first.truth.tolist() == [[2.0, 4.5]]
    assert second.span_s == (20, 21.5)
    (chosen, curve) = alarm_curves([right, right], known)["Fight"]
    assert (chosen.events, chosen.found, chosen.false_alarms) == (2, 2, 0)
    assert chosen.normal_hours * 3600 == pytest.approx(2 * (3.0 + 1.5))
    assert len(curve) == 99
    (line,) = curve_lines({"Fight": (chosen, curve)}, 2)
    assert "2 of 2 Fight found, 0.0 false alarms per hour, in " in line
    assert "in 4 s of normal video" in line
    assert "over 2 seeds" in line


def test_the_curve_is_written_as_csv_and_picture(tmp_path):
    known = clip_labels()
    names = sorted(known)
    mine = predictions(known, names, right=0.8)
    lines, value = write_context(tmp_path, (mine, [mine]), "no forest", known, 20)
    with (tmp_path / "alarm_curve.csv").open(newline="", encoding="utf-8-sig") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 99
    half = next(row for row in rows if row["threshold"] == "0.5")
    assert int(half["false_alarms"]) == value["alarms"]["classes"]["Fight"]["false_alarms"] > 0
    assert float(half["normal_hours"]) == pytest.approx(30 * 2 / 3600, abs=1e-6)
    assert (tmp_path / "alarm_curve.png").read_bytes()[:4] == b"\x89PNG"
    assert lines[0] == "Metadata baseline: not known: no forest."
    assert "per hour, in 0.017 h (1 min) of normal video" in lines[1]
