"""Check the pictures of a COCO file by their headers: readable, whole, of the listed size.

What counts is the size as training loads it. mmpose's LoadImage decodes with OpenCV, which turns
a picture as its EXIF orientation says, unless the config asks for the stored pixels.
"""

import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

from recognizer.names import folded
from recognizer.sdpose.json_file import SPECIAL, JsonObject, content_kind, is_special
from recognizer.sdpose.problems import DatasetProblems

_ORIENTATION = 0x0112
_TURNED = (5, 6, 7, 8)  # width and height change places
_FLIPPED = (2, 3, 4)  # the size says nothing
# Format -> what a whole file ends with; others are decoded.
_ENDS = {"JPEG": b"\xff\xd9", "MPO": b"\xff\xd9", "PNG": b"IEND\xaeB`\x82"}
_THREADS = 8

_MISSING = "expected a picture there, found none{got}"
_UNREADABLE = "expected a picture that can be decoded, got {got}"
_EXIF = (
    "expected the size that training sees, {got}; the annotations are of the stored pixels: write "
    "the pictures again without that orientation, as they are stored, or load them so: "
    "--cfg-options <split>_dataloader.dataset.pipeline.0.color_type=color_ignore_orientation"
)
_SWAPPED = "expected width and height as in the picture, {got}; are they swapped?"
_SCALED = (
    "expected a picture of the annotated size, {got}; the pictures were resized after they were "
    "annotated: take the original ones, or scale width, height, keypoints, bbox and area, too"
)
_SIZE = "expected a picture of the annotated size, {got}; is it another picture?"

OnImage = Callable[[int, int], None]
"""Called with how many pictures have been looked at and how many there are."""


@dataclass(frozen=True, slots=True)
class ImageChecks:
    """How the pictures of a data set are checked.

    Attributes:
        turned: whether training turns pictures as their EXIF says; see ``is_turned``.
        boxes: a file of detected boxes, whose pictures are read besides those of labelled persons.
        on_image: called after each picture.

    """

    turned: bool = True
    boxes: Path | None = None
    on_image: OnImage | None = None


@dataclass(frozen=True, slots=True)
class ImageInfo:
    """Header of an image file: stored size, EXIF orientation (1: upright), and its problem."""

    size_wh: tuple[int, int] = (0, 0)
    orientation: int = 1
    problem: str = ""


def is_turned(pipeline: Sequence[Any]) -> bool:
    """Return whether a pipeline of mmpose turns pictures as their EXIF orientation says."""
    for step in pipeline:
        if isinstance(step, Mapping) and str(step.get("type")).rpartition(".")[2].startswith(
            "Load"
        ):
            flag = step.get("color_type", "color")
            reader = step.get("imdecode_backend", "cv2")
            return flag in ("color", "grayscale") and reader in ("cv2", "pillow", None)
    return True


def check_pictures(
    images: Sequence[JsonObject], folder: Path, problems: DatasetProblems, checks: ImageChecks
) -> list[str]:
    """Add the problems of the pictures of a COCO file; return warnings.

    Args:
        images: their rows of the file.
        folder: where they are.
        problems: takes in the problems.
        checks: how they are checked.

    Raises:
        FileNotFoundError: pictures are missing, and nothing else is wrong.

    """
    missing, own, ambiguous = DatasetProblems(), DatasetProblems(), 0
    paths = [folder / image["file_name"] for image in images]
    for done, (image, picture) in enumerate(zip(images, _look(paths), strict=True), 1):
        name = str(image["file_name"])
        if picture is None:
            missing.add(
                _MISSING, name, _written_otherwise(folder, name) if len(missing) < 5 else ""
            )
        elif picture.problem:
            own.add(_UNREADABLE, name, picture.problem)
        else:
            ambiguous += checks.turned and _is_ambiguous(picture)
            _compare(image, picture, own, turned=checks.turned)
        if checks.on_image is not None:
            checks.on_image(done, len(images))
    if missing and not own and not problems:
        raise FileNotFoundError(
            f"{folder}: {len(missing)} of {len(images)} pictures that the annotations name are not "
            f"there: {missing.lines()[0]}"
        )
    for part in (missing, own):
        problems.merge(part)
    if not ambiguous:
        return []
    return [
        f"{folder}: {ambiguous} of {len(images)} pictures have an EXIF orientation that their size "
        "does not show (turned by 180 degrees, mirrored, or square); training turns them: the "
        "annotations have to be of the turned pictures"
    ]


def _look(paths: Sequence[Path]) -> Iterator[ImageInfo | None]:
    with warnings.catch_warnings(), ThreadPoolExecutor(_THREADS) as pool:
        warnings.simplefilter("ignore")  # Pillow's, of very large pictures and odd EXIF
        yield from pool.map(look_at, paths)


def look_at(path: Path) -> ImageInfo | None:
    """Return the header of an image file, None where there is none or a folder.

    What does not look whole, or is no JPEG or PNG, is decoded.
    """
    try:
        if is_special(path):
            return ImageInfo(problem=SPECIAL)
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(0)
            image = Image.open(file)
            picture = ImageInfo(image.size, _orientation(image))
            end = _ENDS.get(str(image.format), b"")
            file.seek(-min(size, len(end) or 1), os.SEEK_END)
            whole = bool(end) and file.read() == end
        return picture if whole else _decoded(path, picture)
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        return None
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        return ImageInfo(problem=_reason(path, error))


def _orientation(image: Image.Image) -> int:
    """Return the EXIF orientation as OpenCV reads it, without XMP."""
    value = image.getexif().get(_ORIENTATION) if "exif" in image.info else 1
    return value if value in (*_TURNED, *_FLIPPED) else 1


def _decoded(path: Path, picture: ImageInfo) -> ImageInfo:
    """Decode a picture as a training does, and as one that refuses what is cut off."""
    with Image.open(path) as image:
        image.load()  # OSError where it is cut off
        form = image.format
    if cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), cv2.IMREAD_COLOR) is None:
        return ImageInfo(problem=f"{form}, which OpenCV does not read here: convert it")
    return picture


def _reason(path: Path, error: Exception) -> str:
    if isinstance(error, PermissionError):
        return "a file that may not be read"
    if "truncated" in str(error):
        return "one that is cut off: copy it again"
    try:
        with path.open("rb") as file:
            kind = content_kind(file.read(512))
    except (OSError, ValueError) as unopened:
        return f"a file that cannot be opened ({type(unopened).__name__}: {str(unopened)[:40]})"
    if kind and "picture" not in kind:
        return f"a file that is {kind}"
    return f"a damaged one ({type(error).__name__}): copy it again"


def _is_ambiguous(picture: ImageInfo) -> bool:
    square = picture.size_wh[0] == picture.size_wh[1]
    return picture.orientation in _FLIPPED or (square and picture.orientation in _TURNED)


def _compare(
    image: JsonObject, picture: ImageInfo, problems: DatasetProblems, *, turned: bool
) -> None:
    expected, stored = (image["width"], image["height"]), picture.size_wh
    seen = stored[::-1] if turned and picture.orientation in _TURNED else stored
    if seen == expected:
        return
    text = f"{seen[0]} x {seen[1]}, got {expected[0]} x {expected[1]} in the annotations"
    ratios = [side / listed for side, listed in zip(seen, expected, strict=True)]
    if stored == expected:
        kind, text = _EXIF, f"{text}, and EXIF orientation {picture.orientation} in the file"
    elif seen == expected[::-1]:
        kind = _SWAPPED
    elif abs(ratios[0] / ratios[1] - 1) < max(1 / side for side in seen):
        kind, text = _SCALED, f"{text} (1 : {1 / ratios[0]:.3g})"
    else:
        kind = _SIZE
    problems.add(kind, str(image["file_name"]), text)


def _written_otherwise(folder: Path, name: str) -> str:
    """Return a hint where the file is there under a name that only looks the same."""
    if "\\" in name and (folder / name.replace("\\", "/")).is_file():
        return "; write / for \\ in file_name"
    path = folder / name
    if (folder / path.name).is_file():
        return f"; {path.name} itself is in the folder: file_name is relative to it"
    expected = folded(path.name)
    there = path.parent.iterdir() if path.parent.is_dir() else ()
    close = next((file.name for file in there if folded(file.name) == expected), None)
    return f"; there is {close!r}, written otherwise (case, or Unicode NFC/NFD)" if close else ""
