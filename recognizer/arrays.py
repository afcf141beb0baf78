"""Checks of arrays: type, shape, and values that can be."""

import numpy as np
from numpy.typing import NDArray


def require_array(
    name: str, array: NDArray[np.generic], dtype: type, shape: tuple[int | None, ...]
) -> None:
    """Raise ValueError unless an array has a type and a shape; None: any size."""
    if isinstance(array, np.ndarray) and array.shape == shape and array.dtype == dtype:
        return  # the quick way out: a tracker makes Poses 10,000 times a second
    fits = isinstance(array, np.ndarray) and array.ndim == len(shape) and array.dtype == dtype
    if not fits or any(w is not None and w != g for w, g in zip(shape, array.shape, strict=True)):
        expected = "(" + ", ".join("N" if s is None else str(s) for s in shape) + ")"
        came = f"{array.shape} {array.dtype}" if hasattr(array, "dtype") else repr(array)[:50]
        raise ValueError(f"{name}: expected {expected} {np.dtype(dtype).name}, got {came}")


def require_rows(name: str, array: NDArray[np.float32], shape: tuple[int, ...]) -> None:
    """Raise ValueError unless an array is float32 whose last axis is all finite or all NaN."""
    require_array(name, array, np.float32, shape)
    unknown = np.isnan(array)
    if np.isinf(array).any() or (unknown.any(-1) != unknown.all(-1)).any():
        raise ValueError(f"{name}: expected rows of finite numbers or of NaN, got inf or a mixture")


def require_rising(name: str, time_s: NDArray[np.float64]) -> None:
    """Raise ValueError unless times, seconds, are finite and never fall."""
    if not np.all(np.abs(time_s) <= 1e10) or np.any(np.diff(time_s) < 0):  # NaN is not, either
        raise ValueError(f"{name}: expected finite times that never fall, within 1e10 s of 0")
