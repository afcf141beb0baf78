"""Bootstrap resamples of a classifier's figures, many at once.

scikit-learn measures one set of samples in some ten milliseconds; two thousand resamples
of nine figures would take half a minute. A resample is a weight per sample, how often it
was drawn, and every figure here is sums of these weights. The figures are those of
scikit-learn; the tests hold them together.
"""

from collections.abc import Iterator, Sequence

import numpy as np

from recognizer.types import BoolArray, Float64Array, IntArray

LEVEL = 0.95
_CHUNK = 4_000_000  # weights at a time, 32 MB


def units(groups: Sequence[str] | None, count: int) -> IntArray:
    """Return the unit (N,) that each sample is drawn with: its source, or itself."""
    if groups is None:
        return np.arange(count)
    if len(groups) != count:
        raise ValueError(f"groups: expected one for each of {count} samples, got {len(groups)}")
    inverse = np.unique(np.asarray(groups, dtype=str), return_inverse=True)[1]
    return np.asarray(inverse, np.int64)


def weights(unit: IntArray, resamples: int, seed: int) -> Iterator[Float64Array]:
    """Yield, in parts, how often each sample is in each resample, (B, N).

    As many units are drawn, with replacement, as there are. Fewer than two units cannot be
    resampled: nothing is yielded then.
    """
    total = int(unit.max(initial=-1)) + 1
    if total < 2:
        return
    random = np.random.default_rng(seed)
    step = max(1, _CHUNK // len(unit))
    for start in range(0, resamples, step):
        drawn = random.integers(0, total, (min(step, resamples - start), total))
        counts = np.zeros((len(drawn), total))
        np.add.at(counts, (np.arange(len(drawn))[:, None], drawn), 1.0)
        yield counts[:, unit]


def interval(draws: Float64Array) -> tuple[float, float] | None:
    """Return the ends of the 95 % percentile interval; None where most draws are NaN."""
    defined = draws[~np.isnan(draws)]
    if len(defined) == 0 or len(defined) < len(draws) / 2:
        return None
    low, high = np.quantile(defined, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def figures(
    labels: IntArray, probabilities: Float64Array, w: Float64Array
) -> dict[str, Float64Array]:
    """Return every figure of every resample, (B,) each, NaN where it is undefined.

    Args:
        labels: (N,).
        probabilities: (N, K).
        w: (B, N) how often each sample was drawn.

    """
    classes = probabilities.shape[1]
    table = _confusion(labels, probabilities.argmax(1), classes, w)
    hit = np.diagonal(table, axis1=1, axis2=2)
    truth, predicted = table.sum(2), table.sum(1)
    with np.errstate(invalid="ignore", divide="ignore"):
        recall, precision = hit / truth, hit / predicted
        f1 = 2 * hit / (truth + predicted)
        found = {
            "accuracy": hit.sum(1) / w.sum(1),
            "balanced_accuracy": np.nansum(recall, 1) / (truth > 0).sum(1),
            "log_loss": w @ _losses(labels, probabilities) / w.sum(1),
            "brier_score": w @ squares(labels, probabilities) / w.sum(1),
        }
        found |= _ranked(labels, probabilities, w)
    for label in range(classes):
        found[f"precision/{label}"] = precision[:, label]
        found[f"recall/{label}"] = recall[:, label]
        found[f"f1/{label}"] = f1[:, label]
    return found


def _confusion(
    labels: IntArray, predicted: IntArray, classes: int, w: Float64Array
) -> Float64Array:
    """Return the weighted confusion matrices (B, K, K), rows are the truth."""
    cell = np.eye(classes * classes)[labels * classes + predicted]
    table: Float64Array = (w @ cell).reshape(-1, classes, classes)
    return table


def _losses(labels: IntArray, probabilities: Float64Array) -> Float64Array:
    # The limit that scikit-learn's log_loss sets, so that 0 costs 36 and not infinity.
    tiny = np.finfo(np.float64).eps
    true = np.take_along_axis(probabilities, labels[:, None], 1)[:, 0] / probabilities.sum(1)
    losses: Float64Array = -np.log(np.clip(true, tiny, 1 - tiny))
    return losses


def squares(labels: IntArray, probabilities: Float64Array) -> Float64Array:
    """Return half the squared distance of each sample's probabilities from the truth, (N,).

    With two classes its mean is the Brier score (Brier 1950) of label 1.
    """
    away = probabilities - np.eye(probabilities.shape[1])[labels]
    half: Float64Array = (away**2).sum(1) / 2
    return half


def _ranked(
    labels: IntArray, probabilities: Float64Array, w: Float64Array
) -> dict[str, Float64Array]:
    """Return ROC-AUC and average precision: of label 1, or the mean over three and more."""
    classes = probabilities.shape[1]
    asked = [1] if classes == 2 else range(classes)
    both = [_of_label(labels == label, probabilities[:, label], w) for label in asked]
    auc, precision = np.mean(both, axis=0)
    return {"roc_auc": auc, "average_precision": precision}


def _of_label(
    positive: BoolArray, score: Float64Array, w: Float64Array
) -> tuple[Float64Array, Float64Array]:
    """Return weighted ROC-AUC and average precision (B,) each of one class against the rest."""
    order = np.argsort(-score, kind="stable")
    starts = np.flatnonzero(np.diff(score[order], prepend=np.inf))  # equal scores count as one
    hits = np.add.reduceat((w * positive)[:, order], starts, axis=1)
    misses = np.add.reduceat((w * ~positive)[:, order], starts, axis=1)
    above = np.cumsum(hits, axis=1)
    total, others = above[:, -1], misses.sum(1)
    auc = (misses * (above - hits / 2)).sum(1) / (total * others)
    seen = above + np.cumsum(misses, axis=1)
    precision = (hits * above / np.maximum(seen, 1)).sum(1) / total
    precision = np.where(others > 0, precision, np.nan)
    return auc, precision
