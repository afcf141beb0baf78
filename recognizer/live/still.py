"""One picture of a camera as JPEG."""

from fractions import Fraction

import av

from recognizer.types import Image

_MAX_SIDE = 1280  # pixels; enough to draw zones on


def jpeg_of(image: Image) -> bytes:
    """Return a picture as JPEG, scaled to at most 1280 pixels a side.

    Raises:
        ValueError: as ``Image.bgr``.

    """
    width, height = image.size_wh
    scale = min(1.0, _MAX_SIDE / max(width, height))
    # Even sides: the colours of JPEG are kept at half the resolution.
    size_wh = (_even(width * scale), _even(height * scale))
    frame = av.VideoFrame.from_ndarray(image.bgr(size_wh), format="bgr24")
    encoder = av.CodecContext.create("mjpeg", "w")
    encoder.width, encoder.height = size_wh
    encoder.pix_fmt, encoder.time_base = "yuvj420p", Fraction(1, 1)
    packets = [*encoder.encode(frame.reformat(format="yuvj420p")), *encoder.encode(None)]
    return b"".join(bytes(packet) for packet in packets)


def _even(side: float) -> int:
    return max(2, round(side / 2) * 2)
