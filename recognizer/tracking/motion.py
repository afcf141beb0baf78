"""The constant-velocity Kalman filter of SORT and ByteTrack.

A box is measured as (centre x, centre y, aspect = width / height, height). The state of n
tracks is one array (5, 4, n): for each of these four quantities its value, its speed, the
variance of the value, the variance of the speed, and the covariance of the two. Nothing
couples the four quantities, so that the 8x8 covariance matrix of the original is four
independent 2x2 blocks, and its matrix inversion a division.

Time is counted in reference frames of 1/30 s, for which the original chose its noise;
process noise grows in proportion to time, so that one reference frame is the original.

Source: Bewley et al. 2016 (SORT), Wojke et al. 2017 (noise relative to the height),
Zhang et al. 2022 (ByteTrack).
"""

import numpy as np

from recognizer.types import Float64Array

REFERENCE_FPS = 30.0
CENTRE_X, CENTRE_Y, ASPECT, HEIGHT = range(4)
VALUE, SPEED, VALUE_VARIANCE, SPEED_VARIANCE, COVARIANCE = range(5)

_VALUE_STD = 1 / 20  # of the height
_SPEED_STD = 1 / 160  # of the height, per reference frame


def _variances(of_height: float, of_aspect: float) -> tuple[list[float], list[float]]:
    """Return variances as a part to multiply with the squared height and a fixed part."""
    return [of_height**2, of_height**2, 0.0, of_height**2], [0.0, 0.0, of_aspect**2, 0.0]


def _noise(*stds: tuple[float, float]) -> tuple[Float64Array, Float64Array]:
    relative, fixed = zip(*(_variances(*std) for std in stds), strict=True)
    return np.array(relative)[..., None], np.array(fixed)[..., None]  # each (len(stds), 4, 1)


_START_NOISE = _noise((2 * _VALUE_STD, 1e-2), (10 * _SPEED_STD, 1e-5))
_PROCESS_NOISE = _noise((_VALUE_STD, 1e-2), (_SPEED_STD, 1e-5))
_MEASUREMENT_NOISE = _noise((_VALUE_STD, 1e-1))


def no_motion() -> Float64Array:
    """Return the state (5, 4, 0) of no tracks."""
    return np.zeros((5, 4, 0))


def start(measured: Float64Array) -> Float64Array:
    """Return the state (5, 4, n) of tracks first seen as ``measured`` (4, n), standing still."""
    relative, fixed = _START_NOISE
    state = np.zeros((5, *measured.shape))
    state[VALUE] = measured
    state[VALUE_VARIANCE : SPEED_VARIANCE + 1] = relative * np.square(measured[HEIGHT]) + fixed
    return state


def predict(state: Float64Array, elapsed: float) -> None:
    """Move a state (5, 4, n) on by ``elapsed`` reference frames, in place."""
    value, speed, value_variance, speed_variance, covariance = state
    relative, fixed = _PROCESS_NOISE
    noise = relative * np.square(value[HEIGHT])
    noise += fixed
    noise *= elapsed
    value += elapsed * speed
    carried = elapsed * speed_variance
    value_variance += elapsed * (2 * covariance + carried)
    covariance += carried
    state[VALUE_VARIANCE : SPEED_VARIANCE + 1] += noise


def correct(state: Float64Array, measured: Float64Array) -> Float64Array:
    """Return the state (5, 4, n) after the tracks were seen as ``measured`` (4, n)."""
    value, speed, value_variance, speed_variance, covariance = state
    relative, fixed = _MEASUREMENT_NOISE
    noise = relative[0] * np.square(value[HEIGHT])
    noise += fixed[0]
    total = value_variance + noise
    gain = value_variance / total
    speed_gain = covariance / total
    innovation = measured - value
    rest = 1 - gain
    corrected = np.empty_like(state)
    np.add(value, gain * innovation, out=corrected[VALUE])
    np.add(speed, speed_gain * innovation, out=corrected[SPEED])
    np.multiply(value_variance, rest, out=corrected[VALUE_VARIANCE])
    np.subtract(speed_variance, speed_gain * covariance, out=corrected[SPEED_VARIANCE])
    np.multiply(covariance, rest, out=corrected[COVARIANCE])
    return corrected


def measure(corners: Float64Array) -> Float64Array:
    """Return centre x, centre y, aspect, height (4, n) of x1, y1, x2, y2 (4, n)."""
    size = corners[2:] - corners[:2]
    measured = np.empty_like(corners)
    np.add(corners[:2], size / 2, out=measured[:2])
    np.divide(size[0], size[1], out=measured[ASPECT])
    measured[HEIGHT] = size[1]
    return measured


def corners_of(state: Float64Array) -> Float64Array:
    """Return x1, y1, x2, y2 (4, n) of the boxes in a state (5, 4, n)."""
    value = state[VALUE]
    half = value[2:] / 2
    half[0] *= value[HEIGHT]  # aspect x height = width
    corners: Float64Array = np.empty_like(value)
    np.subtract(value[:2], half, out=corners[:2])
    np.add(value[:2], half, out=corners[2:])
    return corners
