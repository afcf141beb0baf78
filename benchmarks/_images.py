"""Pictures of files as 8-bit BGR arrays."""

from pathlib import Path

import cv2
import numpy as np

from recognizer.types import ImageArray


def read_image(path: Path) -> ImageArray:
    """Read a picture (H, W, 3).

    Raises:
        ValueError: there is none, or OpenCV cannot read it.

    """
    pixels = cv2.imread(str(path))
    if pixels is None:
        raise ValueError(f"{path}: expected a picture that OpenCV reads, found none")
    return np.asarray(pixels, np.uint8)
