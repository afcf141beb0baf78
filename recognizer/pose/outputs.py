"""Checks of what a network gives when it runs: scores, boxes and places that can be."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from recognizer.backends.network import ModelError
from recognizer.config.types import MAX_SIDE
from recognizer.types import FloatArray

_ROUNDING = 0.01  # of half precision and 8-bit layers
_FAR = 100  # sides of the input: no person is so far outside the picture
_REMEDY = (
    "the file is damaged or is not such a network: get it or export it again, or set another file"
)


def check_scores(scores: FloatArray, which: str) -> None:
    """Refuse scores outside 0-1, but for rounding.

    Args:
        scores: any shape, finite.
        which: the network, for the message.

    Raises:
        ModelError: the message shows the worst score.

    """
    if scores.size and (scores.min() < -_ROUNDING or scores.max() > 1 + _ROUNDING):
        worst = scores.flat[np.abs(scores - 0.5).argmax()]
        raise ModelError(f"{which}: expected scores of 0 to 1, got {worst:.4g}", _REMEDY)


def check_boxes(boxes: FloatArray, input_wh: tuple[float, float], which: str) -> None:
    """Refuse boxes whose corners change places or are far outside the input.

    Args:
        boxes: (N, 4) x1 y1 x2 y2, finite.
        input_wh: width and height of the input in the same unit.
        which: the network, for the message.

    Raises:
        ModelError: the message shows a box.

    """
    slack = _ROUNDING * max(input_wh)
    inverted = (boxes[:, 2:] < boxes[:, :2] - slack).any(axis=1)
    if inverted.any():
        shown = [float(f"{value:.4g}") for value in boxes[inverted.argmax()]]
        raise ModelError(
            f"{which}: expected boxes x1 y1 x2 y2 with x1 <= x2 and y1 <= y2, got {shown}", _REMEDY
        )
    check_places(boxes, input_wh, which)


def check_places(places: FloatArray, input_wh: tuple[float, float], which: str) -> None:
    """Refuse coordinates more than 100 times the input's longer side from its corner.

    Args:
        places: any shape, finite.
        input_wh: width and height of the input in the same unit.
        which: the network, for the message.

    Raises:
        ModelError: the message shows the farthest one.

    """
    limit = _FAR * max(input_wh)
    far = float(np.abs(places).max(initial=0))
    if far > limit:
        raise ModelError(
            f"{which}: expected coordinates of at most {limit:g} for an input of {input_wh[0]:g} x "
            f"{input_wh[1]:g}, got {far:.4g}",
            _REMEDY,
        )


def are_rows(
    outputs: tuple[NDArray[Any], ...], tails: tuple[tuple[int, ...], ...], images: int
) -> bool:
    """Return whether outputs are (B, N, *tail) with one N and B >= ``images``."""
    first = outputs[0]
    people = first.shape[1] if first.ndim > 1 else 0
    return all(
        output.ndim > 1 and len(output) >= images and output.shape[1:] == (people, *tail)
        for output, tail in zip(outputs, tails, strict=True)
    )


def check_input_size(size_wh: tuple[int, int], which: str) -> None:
    """Refuse an input too large for memory.

    Raises:
        ModelError: a side above ``MAX_SIDE`` pixels.

    """
    if max(size_wh) > MAX_SIDE:
        raise ModelError(
            f"{which}: expected an input of at most {MAX_SIDE} pixels a side, got {size_wh[0]} x "
            f"{size_wh[1]}; use a file of another input size"
        )
