"""Pictures of noise as the bytes of a file."""

import io

import numpy as np
from PIL import Image

WIDE = (60, 40)


def picture(
    size: tuple[int, int] = WIDE,
    orientation: int | None = None,
    form: str = "JPEG",
    mode: str = "RGB",
) -> bytes:
    """Return the bytes of a picture of noise."""
    noise = np.random.default_rng(0).integers(0, 255, (size[1], size[0], 3), np.uint8)
    exif, file = Image.Exif(), io.BytesIO()
    if orientation:
        exif[0x0112] = orientation
    Image.fromarray(noise).convert(mode).save(file, form, exif=exif.tobytes())
    return file.getvalue()
