"""HDR video looks like the same scene in standard range."""

import av
import numpy as np
import pytest

from recognizer.video import hdr
from recognizer.video.display import Display
from recognizer.video.image import Converter, DecodedImage

PQ, HLG, WHITE = 16, 18, 203.0
BT2020, BT709 = 9, 1
# RGB of BT.2020 seen as RGB of BT.709, by their XYZ matrices (ITU-R BT.2020, BT.709).
XYZ_OF_2020 = np.array(
    [[0.636958, 0.144617, 0.168881], [0.262700, 0.677998, 0.059302], [0, 0.028073, 1.060985]]
)
XYZ_OF_709 = np.array(
    [[0.412391, 0.357584, 0.180481], [0.212639, 0.715169, 0.072192], [0.019331, 0.119195, 0.950532]]
)


def pq_code(nits: np.ndarray) -> np.ndarray:
    """SMPTE ST 2084, as ITU-R BT.2100 writes it."""
    y = (np.asarray(nits) / 10_000) ** 0.1593017578125
    return ((0.8359375 + 18.8515625 * y) / (1 + 18.6875 * y)) ** 78.84375


def hlg_code(nits: np.ndarray) -> np.ndarray:
    """ITU-R BT.2100 for neutral light on a screen of 1000 cd/m2."""
    scene = (np.asarray(nits) / 1000) ** (1 / 1.2)
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    high = a * np.log(np.maximum(12 * scene - b, 1e-9)) + c
    return np.where(scene <= 1 / 12, np.sqrt(3 * scene), high)


CODES = {PQ: pq_code, HLG: hlg_code}


def hdr_frame(codes: np.ndarray, transfer: int, matrix: int = BT2020) -> av.VideoFrame:
    """Make a limited-range 10-bit picture of neutral columns, 16 pixels wide each."""
    luma = np.repeat(np.round(codes * 876 + 64).astype(np.uint16), 16)[None].repeat(32, axis=0)
    frame = av.VideoFrame(luma.shape[1], 32, "yuv420p10le")
    rows = np.zeros((32, frame.planes[0].line_size // 2), np.uint16)
    rows[:, : luma.shape[1]] = luma
    frame.planes[0].update(rows.tobytes())
    for plane in frame.planes[1:]:
        plane.update(np.full(plane.buffer_size // 2, 512, np.uint16).tobytes())
    frame.colorspace, frame.color_primaries = matrix, BT2020
    frame.color_trc, frame.color_range = transfer, 1
    return frame


def shown(frame: av.VideoFrame, size_wh: tuple[int, int] | None = None) -> np.ndarray:
    return DecodedImage(frame, Converter(Display((frame.width, frame.height)))).bgr(size_wh)


@pytest.mark.parametrize("transfer", [PQ, HLG], ids=["PQ", "HLG"])
def test_light_up_to_a_white_sheet_keeps_its_brightness(transfer: int) -> None:
    nits = np.array([0.5, 2, 5, 20, 50, 80])
    bgr = shown(hdr_frame(CODES[transfer](nits), transfer))
    came = bgr[16, 8::16].astype(float)
    assert np.ptp(came, axis=1).max() <= 1, "grey stays grey"
    screen = WHITE * (came.mean(axis=1) / 255) ** 2.4
    np.testing.assert_allclose(screen[1:], nits[1:], rtol=0.12)


@pytest.mark.parametrize("transfer", [PQ, HLG], ids=["PQ", "HLG"])
def test_brighter_stays_brighter_up_to_the_peak(transfer: int) -> None:
    nits = np.array([0, 1, 10, 50, 100, 203, 400, 700, 1000])
    came = shown(hdr_frame(CODES[transfer](nits), transfer))[16, 8::16, 1].astype(int)
    assert (np.diff(came[:7]) > 0).all(), came
    assert (np.diff(came[6:]) >= 0).all(), came
    assert came[0] <= 1
    assert 210 <= came[5] <= 240, "a white sheet is nearly white"
    assert came[-1] >= 253


def test_wide_colours_become_those_of_the_screen() -> None:
    rgb709 = np.array([[60.0, 20, 20], [10, 50, 10], [15, 15, 60], [60, 60, 10]])  # cd/m2
    rgb2020 = rgb709 @ (np.linalg.inv(XYZ_OF_2020) @ XYZ_OF_709).T
    codes = np.round(65_535 * pq_code(rgb2020)).astype(np.uint16)[None]
    bgr = hdr.to_sdr(codes, PQ, BT2020)[0]
    screen = WHITE * (bgr[:, ::-1] / 255) ** 2.4
    np.testing.assert_allclose(screen, rgb709, rtol=0.12, atol=1)
    narrow = np.round(65_535 * pq_code(rgb709)).astype(np.uint16)[None]
    np.testing.assert_allclose(hdr.to_sdr(narrow, PQ, BT709)[0], bgr, atol=2)


def test_untagged_matrix_of_hdr_is_bt2020_and_small_sizes_are_like_large_ones() -> None:
    codes = pq_code(np.array([5.0, 20, 80, 300]))
    whole = shown(hdr_frame(codes, PQ))
    np.testing.assert_array_equal(shown(hdr_frame(codes, PQ, matrix=2)), whole)
    small = shown(hdr_frame(codes, PQ), (16, 8))
    assert small.shape == (8, 16, 3)
    assert np.abs(small[4, 2::4].astype(int) - whole[16, 8::16]).max() <= 2


def test_standard_range_is_left_alone() -> None:
    frame = hdr_frame(np.linspace(0, 1, 6), PQ)
    frame.color_trc = BT709
    assert np.abs(shown(frame)[16, 8::16, 0] - np.linspace(0, 255, 6)).max() <= 2
