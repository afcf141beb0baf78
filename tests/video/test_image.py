"""Pictures have the right colours, size and orientation, however they were stored."""

from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from av.video.reformatter import ColorRange, Colorspace
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from recognizer.video.array_image import ArrayImage
from recognizer.video.display import Display, Orientation
from recognizer.video.image import Converter, DecodedImage
from recognizer.video.reader import VideoReader
from tests.bad_videos import PLAIN, burn_number, encode, set_rotation

COLOURS = [(0, 0, 255), (0, 255, 0), (255, 0, 0), (255, 255, 255), (0, 0, 0), (30, 140, 220)]
ONE = 1 << 16


def tagged_frame(bgr: np.ndarray, pix_fmt: str, matrix: Colorspace, full: bool) -> av.VideoFrame:
    frame = av.VideoFrame.from_ndarray(bgr, format="bgr24").reformat(
        format=pix_fmt,
        dst_colorspace=matrix,
        dst_color_range=ColorRange.JPEG if full else ColorRange.MPEG,
    )
    frame.colorspace = 1 if matrix == Colorspace.ITU709 else 6
    frame.color_range = 2 if full else 1
    return frame


@pytest.mark.parametrize("size_wh", [None, (31, 22)], ids=["whole", "scaled"])
@pytest.mark.parametrize(
    ("pix_fmt", "matrix", "full"),
    [
        pytest.param("yuv420p", Colorspace.ITU601, False, id="BT.601 limited"),
        pytest.param("yuv420p", Colorspace.ITU709, False, id="BT.709 limited"),
        pytest.param("yuv420p", Colorspace.ITU709, True, id="BT.709 full"),
        pytest.param("yuvj420p", Colorspace.ITU601, True, id="yuvj"),
        pytest.param("yuv422p", Colorspace.ITU709, False, id="4:2:2"),
        pytest.param("yuv420p10le", Colorspace.ITU709, False, id="10 bits"),
        pytest.param("nv12", Colorspace.ITU601, False, id="nv12"),
        pytest.param("rgb24", Colorspace.ITU601, True, id="rgb"),
    ],
)
def test_colours_follow_the_tags(
    pix_fmt: str, matrix: Colorspace, full: bool, size_wh: tuple[int, int] | None
) -> None:
    for colour in COLOURS:
        bgr = np.full((48, 64, 3), colour, np.uint8)
        frame = tagged_frame(bgr, pix_fmt, matrix, full)
        image = DecodedImage(frame, Converter(Display((64, 48))))
        came = image.bgr(size_wh)
        assert came.shape[:2] == (size_wh or (64, 48))[::-1]
        assert np.abs(came.astype(int) - colour).max() <= 6, (colour, came[5, 5])


@pytest.mark.parametrize("name", ["h264.mp4", "mjpeg.avi"])
def test_whole_pictures_are_those_of_pyav(tmp_path: Path, name: str) -> None:
    path = encode(tmp_path / name, PLAIN[name], range(3))
    with VideoReader(path) as reader, av.open(str(path)) as container:
        for frame, stored in zip(reader, container.decode(video=0), strict=True):
            ours = frame.image.bgr().astype(int)
            assert np.abs(ours - stored.to_ndarray(format="bgr24")).max() <= 3


def test_scaling_keeps_positions() -> None:
    y, x = np.mgrid[0:360, 0:640]
    for centre in [(101, 53), (500, 300)]:
        blob = 255 * np.exp(-((x - centre[0]) ** 2 + (y - centre[1]) ** 2) / 800)
        frame = av.VideoFrame.from_ndarray(
            np.repeat(blob[..., None], 3, 2).astype(np.uint8), "bgr24"
        )
        image = DecodedImage(
            frame.reformat(format="yuv420p"), Converter(Display((frame.width, frame.height)))
        )
        small = image.bgr((208, 117))[..., 1].astype(float)
        small[small < 20] = 0
        sy, sx = np.mgrid[0:117, 0:208]
        found = (small * sx).sum() / small.sum(), (small * sy).sum() / small.sum()
        # Pixel centres: (x + 1/2) scales, not x. FAST_BILINEAR is off by 1.05.
        expected = [(c + 0.5) * 208 / 640 - 0.5 for c in centre]
        assert np.abs(np.subtract(found, expected)).max() < 0.1


def test_scaling_is_close_to_opencv() -> None:
    bgr = cv2.GaussianBlur(burn_number(77, (640, 360)), (0, 0), 3)
    frame = av.VideoFrame.from_ndarray(bgr, format="bgr24").reformat(format="yuv420p")
    image = DecodedImage(frame, Converter(Display((frame.width, frame.height))))
    reference = cv2.resize(image.bgr(), (416, 234), interpolation=cv2.INTER_LINEAR)
    assert np.abs(image.bgr((416, 234)).astype(int) - reference).mean() < 1.8


MATRICES = {
    "upright": (ONE, 0, 0, ONE),
    "90": (0, ONE, -ONE, 0),
    "180": (-ONE, 0, 0, -ONE),
    "270": (0, -ONE, ONE, 0),
    "mirrored": (-ONE, 0, 0, ONE),
    "upside down": (ONE, 0, 0, -ONE),
    "transposed": (0, ONE, ONE, 0),
    "other diagonal": (0, -ONE, -ONE, 0),
    "half size": (0, ONE // 2, -ONE // 2, 0),
}


@pytest.mark.parametrize("entries", MATRICES.values(), ids=MATRICES.keys())
@given(arrays(np.uint8, st.tuples(st.integers(1, 6), st.integers(1, 6), st.just(3))))
def test_orientation_moves_points_as_the_matrix_says(
    entries: tuple[int, int, int, int], bgr: np.ndarray
) -> None:
    a, b, c, d = (int(np.sign(e)) for e in entries)
    orientation = Orientation.from_matrix((entries[0], entries[1], 0, entries[2], entries[3], 0))
    shown = orientation.apply(bgr)
    height, width = bgr.shape[:2]
    assert shown.shape[1::-1] == orientation.turn_size((width, height))
    ys, xs = np.mgrid[0:height, 0:width]
    to_x, to_y = a * xs + c * ys, b * xs + d * ys
    np.testing.assert_array_equal(shown[to_y - to_y.min(), to_x - to_x.min()], bgr)


@pytest.mark.parametrize(
    ("matrix", "expected"),
    [
        pytest.param([0] * 9, Orientation(), id="all zero"),
        pytest.param([ONE, ONE, 0, ONE, ONE, 0, 0, 0, 1 << 30], Orientation(), id="a line"),
        pytest.param([ONE, 3, 0, -3, ONE, 0, 0, 0, 1 << 30], Orientation(), id="rounding"),
    ],
)
def test_odd_matrices(matrix: list[int], expected: Orientation) -> None:
    assert Orientation.from_matrix(matrix) == expected


@pytest.mark.parametrize(("degrees", "turns"), [(0, 0), (90, -1), (180, 2), (270, 1)])
def test_a_rotated_video_is_shown_upright(tmp_path: Path, degrees: int, turns: int) -> None:
    plain = encode(tmp_path / "plain.mp4", frames=range(3))
    turned = tmp_path / "turned.mp4"
    turned.write_bytes(set_rotation(plain.read_bytes(), degrees))
    with VideoReader(plain) as upright, VideoReader(turned) as reader:
        assert reader.info.rotation_deg == degrees
        assert reader.info.coded_size_wh == upright.size_wh
        size = upright.size_wh[:: 1 if degrees % 180 == 0 else -1]
        assert reader.size_wh == size
        for stored, frame in zip(upright, reader, strict=True):
            assert frame.image.size_wh == size
            np.testing.assert_array_equal(frame.image.bgr(), np.rot90(stored.image.bgr(), turns))
            small = frame.image.bgr((40, 30))
            assert small.shape == (30, 40, 3)
            reference = cv2.resize(frame.image.bgr(), (40, 30), interpolation=cv2.INTER_AREA)
            assert np.abs(small.astype(int) - reference).mean() < 25


def test_array_image() -> None:
    bgr = burn_number(3)
    image = ArrayImage(bgr)
    assert image.size_wh == (bgr.shape[1], bgr.shape[0])
    assert image.bgr() is bgr
    assert image.bgr((50, 20)).shape == (20, 50, 3)


@pytest.mark.parametrize(
    "bad",
    [
        np.zeros((4, 4), np.uint8),
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((4, 4, 3), np.float32),
        np.zeros((0, 4, 3), np.uint8),
        None,
        "picture",
    ],
    ids=["grey", "alpha", "float", "empty", "None", "text"],
)
def test_array_image_refuses_other_shapes(bad: object) -> None:
    with pytest.raises(ValueError, match="expected"):
        ArrayImage(bad)  # type: ignore[arg-type]


@pytest.mark.parametrize("size_wh", [(0, 5), (5, -1)])
def test_sizes_are_checked(size_wh: tuple[int, int]) -> None:
    frame = av.VideoFrame.from_ndarray(burn_number(1), format="bgr24")
    for image in (
        ArrayImage(burn_number(1)),
        DecodedImage(frame, Converter(Display((frame.width, frame.height)))),
    ):
        with pytest.raises(ValueError, match="size_wh"):
            image.bgr(size_wh)


def test_odd_sizes_and_many_sizes(tmp_path: Path) -> None:
    frame = av.VideoFrame.from_ndarray(burn_number(1, (161, 97)), format="bgr24")
    image = DecodedImage(
        frame.reformat(format="yuv420p"), Converter(Display((frame.width, frame.height)))
    )
    for size in [None, (1, 1), (7, 5), (161, 97), (320, 200), (80, 48), (81, 47), (7, 5)]:
        assert image.bgr(size).shape[:2] == (size or (161, 97))[::-1]
