"""The movement stream: a small model of scikit-learn on the measures of a clip.

Which kind of model is decided by cross-validation over sources inside the training samples, among
few settings; ``movement_graph`` writes the result as ONNX.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recognizer.action.fusion import logarithms
from recognizer.dataset.folds import Fold, source_folds
from recognizer.types import Float64Array, FloatArray

Labels = NDArray[np.int64]


def _logistic(strength: float, parts: int, seed: int) -> Any:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    model = LogisticRegression(C=strength / parts, max_iter=5000, random_state=seed)
    return make_pipeline(StandardScaler(), model)


def _forest(leaf: float, parts: int, seed: int) -> Any:
    from sklearn.ensemble import RandomForestClassifier

    return RandomForestClassifier(
        300, min_samples_leaf=int(leaf) * parts, max_depth=8, random_state=seed, n_jobs=1
    )


def _boosting(rate: float, parts: int, seed: int) -> Any:
    from sklearn.ensemble import GradientBoostingClassifier

    return GradientBoostingClassifier(
        n_estimators=100,
        learning_rate=rate,
        max_depth=2,
        subsample=0.7,
        min_samples_leaf=5 * parts,
        max_features="sqrt",
        random_state=seed,
    )


# name -> what makes it, of its one number, the parts of each clip and the seed: few, since every
# choice is fitted to the folds.
SETTINGS: Mapping[str, tuple[Callable[[float, int, int], Any], float]] = {
    "logistic regression, C 0.003": (_logistic, 0.003),
    "logistic regression, C 0.03": (_logistic, 0.03),
    "logistic regression, C 0.3": (_logistic, 0.3),
    "random forest, leaves of 2": (_forest, 2),
    "random forest, leaves of 4": (_forest, 4),
    "gradient boosting, rate 0.05": (_boosting, 0.05),
}


@dataclass(frozen=True, eq=False, slots=True)
class SelectedSetting:
    """The setting chosen by cross-validation over sources.

    Attributes:
        setting: a name of ``SETTINGS``.
        log_loss: mean of each setting over all samples, by name.
        held_out: (N, K) probabilities of the chosen setting, each of a model that had not
            learnt from the sample's source, of the samples in the folds' test parts, in order.

    """

    setting: str
    log_loss: Mapping[str, float]
    held_out: Float64Array


def choose_setting(
    rows: FloatArray, labels: Labels, folds: Sequence[Fold], seed: int
) -> SelectedSetting:
    """Return the setting with the least log loss on the folds' test parts.

    Args:
        rows: (N, P, F) measures; those of the whole clip first, then of parts of it, which are
            for training only.
        labels: (N,).
        folds: of the same samples; see ``inner_folds``. Samples may be in no test part: they are
            for training only.
        seed: of the models.

    """
    tested = np.sort(np.concatenate([fold.test for fold in folds]))
    held_out = {name: _held_out(name, rows, labels, folds, seed)[tested] for name in SETTINGS}
    losses = {
        name: float(-logarithms(predicted)[np.arange(len(tested)), labels[tested]].mean())
        for name, predicted in held_out.items()
    }
    best = min(losses, key=lambda name: losses[name])  # of equals the first, the simpler one
    return SelectedSetting(best, losses, held_out[best])


def _held_out(
    name: str, rows: FloatArray, labels: Labels, folds: Sequence[Fold], seed: int
) -> Float64Array:
    out = np.zeros((len(labels), int(labels.max()) + 1))
    for fold in folds:
        if not len(fold.test):  # nothing was measured in it
            continue
        model = fit_movement(name, rows[fold.train], labels[fold.train], seed)
        out[fold.test] = predict_movement(model, rows[fold.test, 0])
    return out


def inner_folds(labels: Sequence[int], sources: Sequence[str], folds: int, seed: int) -> list[Fold]:
    """Return folds by source of a training part, fewer where there are fewer sources.

    Raises:
        ValueError: fewer than two sources, or a class in one source only.

    """
    count = min(folds, len(set(sources)))
    if count < 2:
        raise ValueError(
            f"the movement stream needs samples of two sources or more to learn from, got {count}"
        )
    return source_folds(labels, sources, count, seed)


def fit_movement(setting: str, rows: FloatArray, labels: Labels, seed: int) -> Any:
    """Return a fitted model of a setting.

    Args:
        setting: a name of ``SETTINGS``.
        rows: (N, P, F) measures of clips and of parts of them.
        labels: (N,).
        seed: of the model.

    Raises:
        ValueError: measures that are not finite, or labels that are not 0, 1, ... each.

    """
    if not np.isfinite(rows).all():
        raise ValueError("expected finite measures to learn from, got NaN or inf")
    present = np.unique(labels)
    if len(present) < 2 or not np.array_equal(present, np.arange(len(present))):
        raise ValueError(f"expected samples of every label 0, 1, ..., got {present.tolist()}")
    make, number = SETTINGS[setting]
    parts = rows.shape[1]
    return make(number, parts, seed).fit(rows.reshape(-1, rows.shape[2]), np.repeat(labels, parts))


def predict_movement(model: Any, rows: FloatArray) -> Float64Array:
    """Return the probabilities (N, K) of measures (N, F)."""
    predicted: Float64Array = model.predict_proba(rows)
    return predicted.astype(np.float64)
