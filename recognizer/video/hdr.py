"""High dynamic range to what a common screen shows, so that networks see usual pictures."""

from functools import cache

import cv2
import numpy as np
from numpy.typing import NDArray

from recognizer.types import ImageArray

PQ, HLG = 16, 18  # transfer characteristics (ITU-T H.273, table 3)
NAMES = {PQ: "PQ", HLG: "HLG"}
_BT2020, _UNSPECIFIED = 9, 2
# Luminance of the source's and of our white in cd/m2: the usual mastering peak, and what
# ITU-R BT.2408 takes for a white sheet, so that faces and clothes keep their brightness.
_PEAK, _WHITE = 1000.0, 203.0
_CODES = 4096
_SDR_GAMMA = 2.4  # ITU-R BT.1886
_HLG_GAMMA = 1.2  # ITU-R BT.2100, for a screen of 1000 cd/m2
_BT2020_TO_BT709 = np.array(  # ITU-R BT.2087, for RGB
    [[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]], np.float32
)
_LUMA = np.array([[0.2627, 0.6780, 0.0593]], np.float32)


def to_sdr(rgb: NDArray[np.uint16], transfer: int, primaries: int) -> ImageArray:
    """Return 8-bit BGR pixels of BT.709.

    Light is computed from the codes (ITU-R BT.2100), brought to BT.709's primaries, and
    squeezed to the range of a common screen by the curve of ITU-R BT.2390-8, 5.4.1.

    Args:
        rgb: (H, W, 3), full range.
        transfer: PQ or HLG.
        primaries: of the picture, as in H.273, table 2.

    Returns:
        (H, W, 3) uint8.

    """
    light = np.take(_light_table(transfer), rgb)
    if transfer == HLG:
        luma = cv2.transform(light, _LUMA)
        light *= (_PEAK * np.power(luma, _HLG_GAMMA - 1))[..., None]
    wide = primaries in {_BT2020, _UNSPECIFIED}
    to_bgr = (_BT2020_TO_BT709 if wide else np.eye(3, dtype=np.float32))[::-1]
    bgr = np.asarray(cv2.transform(light, np.ascontiguousarray(to_bgr)), np.float32)
    np.sqrt(np.maximum(bgr, 0, out=bgr), out=bgr)
    bgr *= _CODES / 100
    return np.take(_screen_table(), bgr.astype(np.uint16), mode="clip")


@cache
def _light_table(transfer: int) -> NDArray[np.float32]:
    """Return the light of every 16-bit code: cd/m2 of PQ, the scene's 0 to 1 of HLG."""
    code = np.arange(65_536, dtype=np.float64) / 65_535
    return (_pq_light(code) if transfer == PQ else _hlg_light(code)).astype(np.float32)


def _pq_light(code: NDArray[np.float64]) -> NDArray[np.float64]:
    m1, m2, c1, c2, c3 = 1305 / 8192, 2523 / 32, 107 / 128, 2413 / 128, 2392 / 128
    root = np.power(code, 1 / m2)
    ratio = np.maximum(root - c1, 0) / (c2 - c3 * root)
    light: NDArray[np.float64] = 10_000 * np.power(ratio, 1 / m1)
    return light


def _pq_code(light: NDArray[np.float64]) -> NDArray[np.float64]:
    m1, m2, c1, c2, c3 = 1305 / 8192, 2523 / 32, 107 / 128, 2413 / 128, 2392 / 128
    root = np.power(light / 10_000, m1)
    code: NDArray[np.float64] = np.power((c1 + c2 * root) / (1 + c3 * root), m2)
    return code


def _hlg_light(code: NDArray[np.float64]) -> NDArray[np.float64]:
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    light: NDArray[np.float64] = np.where(
        code <= 0.5, code**2 / 3, (np.exp((code - c) / a) + b) / 12
    )
    return light


@cache
def _screen_table() -> NDArray[np.uint8]:
    """Return the 8-bit code for light whose square root is evenly spaced."""
    light = 10_000 * np.square((np.arange(_CODES, dtype=np.float64) + 0.5) / _CODES)
    shown = _pq_light(_squeezed(_pq_code(light), *_pq_code(np.array([_PEAK, _WHITE]))))
    code = 255 * np.power(np.clip(shown / _WHITE, 0, 1), 1 / _SDR_GAMMA)
    table: NDArray[np.uint8] = np.round(code).astype(np.uint8)
    return table


def _squeezed(code: NDArray[np.float64], peak: float, white: float) -> NDArray[np.float64]:
    """Bend PQ codes so that ``peak`` comes out as ``white`` (BT.2390-8, 5.4.1)."""
    x, top = np.clip(code / peak, 0, 1), white / peak
    knee = 1.5 * top - 0.5
    t = (x - knee) / (1 - knee)
    bent = (2 * t**3 - 3 * t**2 + 1) * knee + (t**3 - 2 * t**2 + t) * (1 - knee)
    bent += (-2 * t**3 + 3 * t**2) * top
    squeezed: NDArray[np.float64] = peak * np.where(x < knee, x, bent)
    return squeezed
