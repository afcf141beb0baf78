"""The metadata baseline: a random forest on a clip's width, height, fps and length alone.

Recordings of fights often come from other cameras than those of everyday life: a classifier has to
be better than what that alone gives.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recognizer.action import bootstrap as resampling
from recognizer.action.evaluation import Estimate
from recognizer.training.classifier.labels import ClipLabel
from recognizer.training.classifier.predictions import Predictions

FEATURES = ("width", "height", "fps", "seconds")
COMPARED = ("accuracy", "roc_auc")
_TREES = 500


def metadata_baseline(
    predicted: Predictions,
    learnt: Mapping[str, ClipLabel],
    tested: Mapping[str, ClipLabel],
    seed: int,
) -> Predictions | str:
    """Return the forest's predictions of the same samples, or why there are none.

    Args:
        predicted: the classifier's predictions of the samples.
        learnt: clips to learn from, none of them among the samples.
        tested: the samples' clips, by name.
        seed: of the forest.

    """
    from sklearn.ensemble import RandomForestClassifier

    if missing := [name for name in predicted.names if name not in tested]:
        return f"metadata.json does not name {missing[0]!r}"
    train, test = _table(list(learnt.values())), _table([tested[name] for name in predicted.names])
    if train is None or test is None:
        return (
            "metadata.json has no size and rate of each clip's pictures; run "
            "--mode annotation.stage3 again"
        )
    labels = np.array([clip.label for clip in learnt.values()], np.int64)
    if len(np.unique(labels)) < 2:
        return "the clips to learn from are of one class only"
    forest = RandomForestClassifier(_TREES, random_state=seed, n_jobs=1).fit(train, labels)
    rows = np.zeros((len(predicted.names), len(predicted.classes)))
    if len(test):
        rows[:, forest.classes_] = forest.predict_proba(test)
    return replace(predicted, probabilities=rows)


def split_baseline(
    predicted: Predictions,
    clips: Mapping[str, ClipLabel],
    negatives: Mapping[str, ClipLabel] | None = None,
) -> Predictions | str:
    """Return the predictions of a forest learnt from the train split, or why there are none.

    Args:
        predicted: the classifier's predictions of the clips.
        clips: all labelled clips of the data set; empty if unknown.
        negatives: of ``dataset.negatives``, learnt from as well, as the classifier does.

    """
    tested = set(predicted.names)
    known = {**clips, **(negatives or {})}
    learnt = {n: f for n, f in known.items() if f.split == "train" and n not in tested}
    if not learnt:
        return "there is no train split beside the pickle to learn from"
    return metadata_baseline(predicted, learnt, clips, 0)


def fold_baselines(
    tested: Sequence[tuple[Predictions, int]],
    clips: Mapping[str, ClipLabel],
    negatives: Mapping[str, ClipLabel] | None = None,
) -> list[Predictions] | str:
    """Return a forest's predictions of each fold's test part, learnt from all other clips.

    Args:
        tested: the classifier's predictions of each test part, and the seed.
        clips: all labelled clips.
        negatives: of ``dataset.negatives``, learnt from in every fold.

    """
    baselines = []
    for predicted, seed in tested:
        test = set(predicted.names)
        learnt = {name: clip for name, clip in clips.items() if name not in test}
        learnt |= negatives or {}
        baseline = metadata_baseline(predicted, learnt, clips, seed)
        if isinstance(baseline, str):
            return baseline
        baselines.append(baseline)
    return baselines


def _table(clips: Sequence[ClipLabel]) -> NDArray[np.float64] | None:
    """Return the features (N, 4) of clips, None if those of one are unknown."""
    if any(clip.size_wh is None or clip.fps is None for clip in clips):
        return None
    rows = [(*(clip.size_wh or ()), clip.fps or 0.0, clip.seconds) for clip in clips]
    return np.array(rows, np.float64).reshape(-1, len(FEATURES))


def compare(
    predicted: Predictions, baseline: Predictions | str, bootstrap: int, seed: int
) -> dict[str, Any]:
    """Return the baseline's metrics and by how much the classifier is better, as plain values.

    Both are measured on the same resamples of sources, so that samples difficult for both do not
    widen the interval of the difference.
    """
    if isinstance(baseline, str):
        return {"state": "unknown", "reason": baseline, "features": list(FEATURES)}
    classifier, other = predicted.scores(0, 0).overall, baseline.scores(bootstrap, seed).overall
    unit = resampling.units(predicted.sources, len(predicted.names))
    draws: dict[str, list[NDArray[np.float64]]] = {key: [] for key in COMPARED}
    for weights in resampling.weights(unit, bootstrap, seed):
        pair = [
            resampling.figures(one.labels, one.probabilities, weights)
            for one in (predicted, baseline)
        ]
        for key in COMPARED:
            draws[key].append(pair[0][key] - pair[1][key])
    better = {
        key: _difference(classifier[key].value, other[key].value, draws[key]).to_json()
        for key in COMPARED
    }
    return {
        "state": "measured",
        "features": list(FEATURES),
        **{key: other[key].to_json() for key in COMPARED},
        "better_by": better,
    }


def _difference(
    classifier: float | None, other: float | None, draws: Sequence[NDArray[np.float64]]
) -> Estimate:
    if classifier is None or other is None:
        return Estimate(None, reason="undefined: the labels are of one class only")
    ends = resampling.interval(np.concatenate(draws)) if draws else None
    return Estimate(classifier - other, *(ends or ()))


def baseline_line(value: Mapping[str, Any]) -> str:
    """Return the line of a summary."""
    if value["state"] == "unknown":
        return f"Metadata baseline: not known: {value['reason']}."
    accuracy, auc = (Estimate(**value[key]) for key in COMPARED)
    by_accuracy, by_auc = (Estimate(**value["better_by"][key]) for key in COMPARED)
    return (
        "Metadata baseline (a forest on width, height, fps and length alone): accuracy "
        f"{accuracy}, ROC-AUC {auc}; the classifier is better by {by_accuracy} and {by_auc}."
    )
