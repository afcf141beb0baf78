"""Checks of arguments of the public API: what was expected, and what came."""

from numbers import Integral, Real
from types import NoneType

import numpy as np

MAX_THREADS = 256


MAX_BATCH_SIZE = 256


def check_type(name: str, value: object, *expected: type) -> None:
    """Raise TypeError for an argument that is of none of the types."""
    if not isinstance(value, expected):
        kinds = " or ".join("None" if kind is NoneType else kind.__name__ for kind in expected)
        raise TypeError(f"{name}: expected {kinds}, got {repr(value)[:50]}")


def check_number(name: str, value: object) -> None:
    """Raise TypeError for what is no real number, ValueError for one too large for a float."""
    check_type(name, value, Real)
    try:
        float(value)  # type: ignore[arg-type]
    except OverflowError:
        raise ValueError(f"{name}: expected a number below 1.8e308, got a larger one") from None


def check_whole(name: str, value: object, minimum: int = 1, maximum: int | None = None) -> None:
    """Raise ValueError for anything but a whole number in the range; True and False are none."""
    whole = isinstance(value, Integral) and not isinstance(value, bool)
    if not whole or value < minimum or (maximum is not None and value > maximum):  # type: ignore[operator]
        end = "or more" if maximum is None else f"to {maximum}"
        raise ValueError(
            f"{name}: expected a whole number of {minimum} {end}, got {repr(value)[:50]}"
        )


def check_pixels(image: object) -> None:
    """Raise ValueError for anything but pixels (H, W, 3) uint8, at least one."""
    came = repr(image)[:50]
    if isinstance(image, np.ndarray):
        if image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3 and image.size:
            return
        came = f"{image.shape} {image.dtype}"
    raise ValueError(f"image: expected (H, W, 3) uint8 BGR pixels, got {came}")
