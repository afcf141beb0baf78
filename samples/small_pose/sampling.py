"""How often each row of the training data is drawn."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray


def probabilities(
    groups: NDArray[np.str_], drawn: NDArray[np.bool_], weights: Mapping[str, float]
) -> NDArray[np.float64]:
    """Return the probability (N,) of each row: a data set's weight, in equal parts of its rows.

    Weights of data sets that are absent go to the others in proportion.

    Args:
        groups: (N,) data set of each row.
        drawn: (N,) whether a row is drawn at all.
        weights: of the data sets.

    Raises:
        ValueError: a data set without a weight, or no row to draw.

    """
    names, own, counts = np.unique(groups[drawn], return_inverse=True, return_counts=True)
    if missing := sorted(set(names.tolist()) - weights.keys()):
        raise ValueError(
            f"data set {', '.join(missing)}: expected a sampling weight, found those of "
            f"{', '.join(sorted(weights))}; add it to SAMPLING_WEIGHTS or collect without it"
        )
    if not len(names):
        raise ValueError(
            f"expected rows to draw, found none of {len(groups)} that may be drawn; collect again "
            "with pictures for training"
        )
    result = np.zeros(len(groups))
    result[drawn] = (np.array([weights[name] for name in names.tolist()]) / counts)[own]
    result /= result.sum()
    return result
