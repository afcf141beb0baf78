"""Label footage by a strong, slow teacher: what our small pose network learns from.

    python -m benchmarks.gpu.small_labels --assets ../shared/assets --out output/small_labels

The teacher is ``annotation.teacher``. All opinions are kept as they are; which of them make a label
is decided when they are packed (``benchmarks.gpu.small_data``).

Frames are taken round-robin over the clips, so that an early stop still covers all sources. Each
clip of a round is one file, written whole; what is there is not labelled again.
"""

import argparse
import csv
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from annotation.teacher import Teacher, build_teacher
from benchmarks.gpu._part import ROOT
from benchmarks.gpu.small_data import SIDE
from recognizer.config.models import PoseEstimationConfig
from recognizer.geometry import Letterbox
from recognizer.types import ImageArray
from recognizer.video.array_image import ArrayImage
from recognizer.video.reader import VideoReader

PER_ROUND = 3


@dataclass(frozen=True)
class Clip:
    """A video, the recording that it comes from, and how many frames to take of it."""

    path: Path
    source: str
    frames: int


def clips(assets: Path) -> list[Clip]:
    """Return all footage; those with one ``source`` never part between training and test."""
    with (assets / "fight_surv" / "sources.csv").open(encoding="utf-8-sig") as file:
        rows = list(csv.DictReader(file))
    found = [Clip(assets / "fight_surv" / r["video"], f"fight/{r['source']}", 12) for r in rows]
    for path in sorted((assets / "falls").glob("*/*/*.mp4")):
        found.append(Clip(path, f"falls/{path.parts[-3]}", 24))
    for path in sorted((assets / "multiview_falls").glob("*/*.mp4")):
        found.append(Clip(path, "multiview", 24))
    for path in sorted((assets / "bed_falls").glob("*/*.mp4")):
        # Synthetic clips of one prompt look alike: the folder and the first two digits part them.
        found.append(Clip(path, f"bed/{path.stem[:-1]}", 4))
    for path in sorted((assets / "videos").iterdir()):
        found.append(Clip(path, f"videos/{path.stem}", 36))
    return found


def sampled_indices(count: int, frames: int, turn: int) -> list[int]:
    """Return the indices of a round: three or fewer, spread, none of an earlier round."""
    rounds = max(1, -(-frames // PER_ROUND))
    if turn >= rounds:
        return []
    places = (np.arange(PER_ROUND) + (turn * 0.618 + 0.31) % 1) / PER_ROUND
    return sorted({int(place * count) for place in places[: frames - turn * PER_ROUND]})


def read_frames(path: Path, frames: int, turn: int) -> list[tuple[float, ImageArray]]:
    """Return time and BGR pixels of the frames of a round."""
    with VideoReader(path) as reader:
        count = sum(1 for _ in reader)
    indices = sampled_indices(count, frames, turn)
    with VideoReader(path) as reader:
        return [(f.time_s, f.image.bgr()) for f in reader if f.index in indices]


def label_clip(teacher: Teacher, clip: Clip, turn: int, target: Path) -> int:
    """Label the frames of a round and write them; return their number.

    The file holds per frame i: ``jpeg_i`` (picture with a long side of ``SIDE``) and the
    candidates' arrays ``boxes_i``, ... in pixels of that picture; ``times``, ``source``, ``video``.
    """
    frames = read_frames(clip.path, clip.frames, turn)
    arrays: dict[str, NDArray[Any]] = {
        "times": np.array([t for t, _ in frames]),
        "source": np.array(clip.source),
        "video": np.array("/".join(clip.path.parts[-3:])),
    }
    for i, (_, bgr) in enumerate(frames):
        fit = Letterbox.fit((bgr.shape[1], bgr.shape[0]), (SIDE, SIDE))
        for name, values in teacher(ArrayImage(bgr)).items():
            place = values.copy()
            if name == "boxes":
                place = fit.to_input(values)
            elif name in ("keypoints", "movenet"):
                place[..., :2] = fit.to_input(values[..., :2])
            arrays[f"{name}_{i}"] = place
        small = cv2.resize(bgr, fit.inner_wh, interpolation=cv2.INTER_AREA)
        jpeg = cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, 97])[1]
        arrays[f"jpeg_{i}"] = jpeg
    scratch = target.with_suffix(".part")
    with scratch.open("wb") as file:
        np.savez(file, **arrays)
    scratch.replace(target)
    return len(frames)


def main() -> int:
    """Label until everything is labelled or the time is over."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--assets", type=Path, default=ROOT.parent / "shared" / "assets")
    parser.add_argument("--out", type=Path, default=ROOT / "output" / "small_labels")
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--part", default="0/1", help="i/n: every n-th clip, from the i-th")
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--backwards", action="store_true", help="beside another run: last first")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    cv2.setNumThreads(1)
    weights = given.assets / "weights"
    files = {
        "pose": weights / "pp_tinypose_256x192.onnx",
        "detector": weights / "yolox_nano.onnx",
    }
    teacher = build_teacher(PoseEstimationConfig(), files, weights / "movenet_multipose.onnx")
    first, step = (int(n) for n in given.part.split("/"))
    mine = clips(given.assets)[first::step]
    if given.backwards:
        mine.reverse()
    start, done = time.monotonic(), 0
    for turn in range(given.rounds):
        for clip in mine:
            name = "-".join((*clip.path.parts[-3:-1], clip.path.stem))
            target = given.out / f"{turn:02d}-{name}.npz"
            if turn * PER_ROUND >= clip.frames or target.is_file():
                continue
            if time.monotonic() - start > given.minutes * 60:
                return 0
            try:
                done += label_clip(teacher, clip, turn, target)
            except (OSError, ValueError) as error:
                print(f"{clip.path}: left out: {error}", flush=True)
            spent = time.monotonic() - start
            each = spent / max(1, done)
            print(f"{target.name}: {done} frames, {each:.2f} s a frame", flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
