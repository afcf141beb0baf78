"""The metadata baseline: a random forest on a clip's width, height, fps and length alone.

Recordings of fights often come from other cameras than those of everyday life. A classifier is
worth what it knows beyond that.
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
        tested: facts of the samples, by name.
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
    labels = np.array([facts.label for facts in learnt.values()], np.int64)
    if len(np.unique(labels)) < 2:
        return "the clips to learn from are of one class only"
    forest = RandomForestClassifier(_TREES, random_state=seed, n_jobs=1).fit(train, labels)
    rows = np.zeros((len(predicted.names), len(predicted.classes)))
    if len(test):
        rows[:, forest.classes_] = forest.predict_proba(test)
    return replace(predicted, probabilities=rows)


def split_baseline(
    predicted: Predictions,
    everything: Mapping[str, ClipLabel],
    negatives: Mapping[str, ClipLabel] | None = None,
) -> Predictions | str:
    """Return the predictions of a forest learnt from the train split, or why there are none.

    Args:
        predicted: the classifier's predictions of the clips.
        everything: facts of all labelled clips of the data set; none where nobody knows them.
        negatives: those of ``dataset.negatives``, learnt from as well, as the classifier does.

    """
    tested = set(predicted.names)
    known = {**everything, **(negatives or {})}
    learnt = {n: f for n, f in known.items() if f.split == "train" and n not in tested}
    if not learnt:
        return "there is no train split beside the pickle to learn from"
    return metadata_baseline(predicted, learnt, everything, 0)


def fold_baselines(
    tested: Sequence[tuple[Predictions, int]],
    everything: Mapping[str, ClipLabel],
    negatives: Mapping[str, ClipLabel] | None = None,
) -> list[Predictions] | str:
    """Return a forest's predictions of each fold's test part, learnt from all other clips.

    Args:
        tested: the classifier's predictions of each test part, and the seed.
        everything: facts of all labelled clips.
        negatives: those of ``dataset.negatives``, learnt from in every fold.

    """
    found = []
    for predicted, seed in tested:
        own = set(predicted.names)
        learnt = {name: facts for name, facts in everything.items() if name not in own}
        learnt |= negatives or {}
        baseline = metadata_baseline(predicted, learnt, everything, seed)
        if isinstance(baseline, str):
            return baseline
        found.append(baseline)
    return found


def _table(facts: Sequence[ClipLabel]) -> NDArray[np.float64] | None:
    """Return the features (N, 4) of clips, None where those of one are not known."""
    if any(one.size_wh is None or one.fps is None for one in facts):
        return None
    rows = [(*(one.size_wh or ()), one.fps or 0.0, one.seconds) for one in facts]
    return np.array(rows, np.float64).reshape(-1, len(FEATURES))


def compare(
    predicted: Predictions, baseline: Predictions | str, bootstrap: int, seed: int
) -> dict[str, Any]:
    """Return the baseline's figures and by how much the classifier is better, as plain values.

    Both are measured on the same resamples of sources, so that what is difficult for both does
    not widen the interval of the difference.
    """
    if isinstance(baseline, str):
        return {"state": "unknown", "reason": baseline, "features": list(FEATURES)}
    mine, other = predicted.scores(0, 0).overall, baseline.scores(bootstrap, seed).overall
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
        key: _difference(mine[key].value, other[key].value, draws[key]).to_json()
        for key in COMPARED
    }
    return {
        "state": "measured",
        "features": list(FEATURES),
        **{key: other[key].to_json() for key in COMPARED},
        "better_by": better,
    }


def _difference(
    mine: float | None, other: float | None, draws: Sequence[NDArray[np.float64]]
) -> Estimate:
    if mine is None or other is None:
        return Estimate(None, reason="undefined: the labels are of one class only")
    ends = resampling.interval(np.concatenate(draws)) if draws else None
    return Estimate(mine - other, *(ends or ()))


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
