"""What part ``small`` learns from: packed here as one video, and unpacked on the GPU's machine.

``python -m samples.small_pose.data`` collects it; 4,000 pictures take 5 GB there and tens of MB as
a video, whose neighbouring frames are of one clip.
"""

import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks.gpu._part import ROOT
from recognizer.types import ImageArray
from samples.small_pose.data import SIDE

COLLECTED = ROOT / "output" / "small_pose"
WEIGHTS = ROOT.parent / "shared" / "assets" / "weights"
STARTS = ("yolox_nano.onnx", "pp_tinypose_256x192.onnx")
_CRF = "25"


def pack(target: Path, collected: Path = COLLECTED, weights: Path = WEIGHTS) -> None:
    """Write ``pictures.mp4``, ``labels.npz`` and the public files into a folder.

    Raises:
        FileNotFoundError: nothing is collected, or a public file is missing.

    """
    needed = [collected / "pictures.npy", collected / "labels.npz"]
    needed += [weights / name for name in STARTS]
    if absent := [str(path) for path in needed if not path.is_file()]:
        raise FileNotFoundError(
            f"expected {', '.join(absent)}; run python -m samples.small_pose.data --out {collected}"
        )
    target.mkdir(parents=True, exist_ok=True)
    for path in needed[1:]:
        shutil.copyfile(path, target / path.name)
    scratch = target / "scratch.mp4"
    _write_video(scratch, np.load(needed[0], mmap_mode="r"))
    scratch.replace(target / "pictures.mp4")


def _write_video(path: Path, pictures: Iterable[ImageArray]) -> None:
    import av

    with av.open(str(path), "w") as file:
        stream = file.add_stream("libx264", rate=25)
        stream.width = stream.height = SIDE
        stream.pix_fmt = "yuv420p"
        stream.options = {"crf": _CRF, "preset": "fast", "threads": "1"}
        for picture in pictures:
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="bgr24")
            file.mux(stream.encode(frame))
        file.mux(stream.encode())


def unpack(packed: Path, target: Path, most: int | None = None) -> None:
    """Write what ``samples.small_pose.data.load`` reads.

    Args:
        packed: as ``pack`` left it.
        target: folder, made where it is missing.
        most: pictures of each data set and split; None for all.

    Raises:
        ValueError: the video has fewer frames than there are labels.

    """
    with np.load(packed / "labels.npz") as file:
        arrays = {name: file[name] for name in file.files}
    rows = _chosen(arrays["groups"], arrays["splits"], most)
    target.mkdir(parents=True, exist_ok=True)
    shape = (len(rows), SIDE, SIDE, 3)
    stored = np.lib.format.open_memmap(  # type: ignore[no-untyped-call]
        target / "pictures.npy", mode="w+", dtype=np.uint8, shape=shape
    )
    for place, picture in enumerate(_frames(packed / "pictures.mp4", rows)):
        stored[place] = picture
    stored.flush()
    np.savez(target / "labels.npz", **{name: value[rows] for name, value in arrays.items()})


def _chosen(
    groups: NDArray[np.str_], splits: NDArray[np.uint8], most: int | None
) -> NDArray[np.int64]:
    keys = np.char.add(groups, splits.astype(str))
    return np.sort(np.concatenate([np.flatnonzero(keys == key)[:most] for key in np.unique(keys)]))


def _frames(path: Path, rows: NDArray[np.int64]) -> Iterator[ImageArray]:
    """Yield these frames, whose numbers rise."""
    video, place = cv2.VideoCapture(str(path)), -1
    try:
        for row in rows.tolist():
            read = True
            while read and place < row:
                read, place = video.grab(), place + 1
            read, frame = video.retrieve() if read else (False, None)
            if not read:
                raise ValueError(f"{path}: expected frame {row}, found {place}; pack it again")
            yield np.asarray(frame, np.uint8)
    finally:
        video.release()
