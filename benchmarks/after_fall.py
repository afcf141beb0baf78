"""Measure how long people stay tracked after a fall: turned searches off and on, our own network.

    python -m benchmarks.after_fall

Stages 1 and 2 run on 11 clips of falls and 4 views of two more (``_falls_data.py`` cuts them),
with ``topdown.turned`` off, with it on, and with ``small_pose.onnx``. ``tracked`` is the share of
frames, from the start of the fall until the person gets up or the clip ends, in which a row with an
id overlaps the person by an IoU above 0.3. ``on no person`` counts rows with an id whose IoU with
the person is below 0.15, per frame of the whole clip; each clip shows one person.

The reference is MoveNet MultiPose, which finds people who lie and has no part in stage 1: its best
box if it scores 0.14 or more, else the detector's best of the picture as it is and turned both ways
if that scores 0.25 or more. In frames without either, any row with an id counts as the person and
none as on no person.
"""

import argparse
import logging
import os
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from benchmarks._command import (
    ASSETS,
    ROOT,
    SMALL_POSE,
    Parser,
    add_config,
    existing_file,
    existing_folder,
    one_line_errors,
    positive,
    weights_of,
)
from benchmarks._falls_data import Fall, falls_of, write_falls
from benchmarks._needs import need
from recognizer.backends.network import ModelError, Network, describe
from recognizer.backends.onnx import OnnxNetwork
from recognizer.config.file import ConfigError, load_config
from recognizer.config.schema import Config
from recognizer.config.types import OnnxRuntimeOptions
from recognizer.geometry import box_iou
from recognizer.pose.detector import YoloxDetector
from recognizer.pose.turned import TURNS, TurnedImage, turned_back
from recognizer.runs.manifest import result_path
from recognizer.runs.progress import on_console
from recognizer.runs.stage1 import run_stage1
from recognizer.runs.stage2 import run_stage2
from recognizer.runs.stage_folders import pose_model_files
from recognizer.storage.artifacts import read_poses
from recognizer.types import FloatArray, Image, PoseSequence
from recognizer.video.reader import VideoReader

TRACKED_IOU, ELSEWHERE_IOU = 0.3, 0.15
MOVENET_SCORE, DETECTOR_SCORE = 0.14, 0.25
LONG_SIDE, MULTIPLE = 512, 32  # pixels of MoveNet's input
_TURNED = "models.pose_estimation.topdown.turned"
# What is changed in the config, by column.
COLUMNS = {"off": f"{_TURNED}=false", "on": f"{_TURNED}=true", "small": SMALL_POSE}
# MoveNet's input and output.
MOVENET = [("tensor(int32)", (1, None, None, 3)), ("tensor(float)", (1, 12, 56))]


@dataclass(frozen=True)
class Counts:
    """Counts of one clip: frames after the fall, those tracked, all frames, rows elsewhere."""

    after: int
    tracked: int
    frames: int
    elsewhere: int

    @property
    def tracked_share(self) -> float:
        """Return the share of frames after the fall in which the person is tracked."""
        return self.tracked / self.after

    @property
    def elsewhere_rate(self) -> float:
        """Return the rows elsewhere per frame."""
        return self.elsewhere / self.frames


class Reference:
    """Find the one person of an image."""

    def __init__(self, movenet: Network, detector: YoloxDetector) -> None:
        self._movenet, self._detector = movenet, detector

    def __call__(self, image: Image) -> FloatArray | None:
        """Return the box (4,) in pixels, None without one."""
        boxes, scores = self._by_movenet(image)
        if scores.max() >= MOVENET_SCORE:
            return _best(boxes, scores)
        boxes, scores = self._by_detector(image)
        if len(scores) and scores.max() >= DETECTOR_SCORE:
            return _best(boxes, scores)
        return None

    def _by_movenet(self, image: Image) -> tuple[FloatArray, FloatArray]:
        """Return boxes (12, 4) in pixels and scores (12,), in no order."""
        width, height = image.size_wh
        scale = LONG_SIDE / max(width, height)
        small = round(width * scale), round(height * scale)
        across, down = (-(-side // MULTIPLE) * MULTIPLE for side in small)
        pixels = np.zeros((1, down, across, 3), np.int32)
        pixels[0, : small[1], : small[0]] = image.bgr(small)[..., ::-1]
        (output,) = self._movenet.run({self._movenet.inputs[0].name: pixels}).values()
        y1, x1, y2, x2, scores = output[0, :, -5:].T
        sides = x1 * across, y1 * down, x2 * across, y2 * down
        return np.stack(sides, axis=1) / np.tile(np.divide(small, image.size_wh), 2), scores

    def _by_detector(self, image: Image) -> tuple[FloatArray, FloatArray]:
        """Return boxes (N, 4) in pixels and scores (N,) of the picture in all three turns."""
        upright, *turned = self._detector([image, *(TurnedImage(image, turn) for turn in TURNS)])
        boxes = [upright.xyxy]
        for detections, turn in zip(turned, TURNS, strict=True):
            boxes.append(turned_back(detections.xyxy, turn, image.size_wh))
        return np.concatenate(boxes), np.concatenate([s.scores for s in (upright, *turned)])


def _best(boxes: FloatArray, scores: FloatArray) -> FloatArray:
    return np.asarray(boxes[scores.argmax()])


def open_reference(config: Config, movenet: Path) -> Reference:
    """Open the networks that find the person.

    Raises:
        ConfigError: a pose model without a person detector.
        ModelError: a file that is no network, or not MoveNet MultiPose.

    """
    cores = len(os.sched_getaffinity(0))
    section = config.models.pose_estimation.topdown.detector
    files = pose_model_files(config)
    if "detector" not in files:
        raise ConfigError(f"expected a pose model with a person detector, got {files['pose']}")
    detector = OnnxNetwork(files["detector"], section, cores)
    network = OnnxNetwork(movenet, OnnxRuntimeOptions(), cores)
    if [(s.dtype, s.shape) for s in (*network.inputs, *network.outputs)] != MOVENET:
        raise ModelError(f"{movenet}: expected MoveNet MultiPose, got {describe(network)}")
    return Reference(network, YoloxDetector(detector, section))


def count(sequence: PoseSequence, people: Iterable[FloatArray | None], fall: Fall) -> Counts:
    """Return the counts of one clip.

    Args:
        sequence: its tracks.
        people: the box (4,) of the person in each frame, None where it is unknown.
        fall: when it starts and the person gets up.

    """
    after = tracked = elsewhere = 0
    for time_s, poses, person in zip(sequence.time_s, sequence.frames(), people, strict=True):
        boxes = poses.boxes[poses.track_ids >= 0]
        overlaps = np.ones(len(boxes)) if person is None else box_iou(boxes, person[None])[:, 0]
        elsewhere += int((overlaps < ELSEWHERE_IOU).sum())
        if fall.start_s <= time_s < fall.stop_s:
            after += 1
            tracked += int((overlaps > TRACKED_IOU).any())
    return Counts(after, tracked, len(sequence), elsewhere)


def configure(args: argparse.Namespace, folder: Path, column: str) -> Config:
    """Return the config of stages 1 and 2 for a column of the table."""
    return load_config(
        args.config,
        [
            *weights_of(args.config),
            f"annotation.input={folder / 'videos'}",
            f"annotation.output_dir={folder / column}",
            "annotation.movement=false",
            *args.set,
            COLUMNS[column],
        ],
    )


def track(config: Config) -> Path:
    """Run stages 1 and 2; return the folder of the tracks."""
    run_stage1(config, on_console)
    return run_stage2(config, on_console)


def measure(
    args: argparse.Namespace, falls: Mapping[str, Fall], folder: Path
) -> list[list[Counts]]:
    """Return each clip's counts for every column; print them."""
    configs = [configure(args, folder, column) for column in COLUMNS]
    reference = open_reference(configs[0], args.movenet)
    pairs: list[list[Counts]] = []
    write_falls(args.assets, falls, folder / "videos")
    tracks = [track(config) for config in configs]
    heads = "".join(f"{column:>7}" for column in COLUMNS)
    print(f"\n{'tracked after the fall; on no person':50} frames{heads}{heads}")
    for name, fall in falls.items():
        path = folder / "videos" / name
        with VideoReader(path, sample_fps=configs[0].annotation.sample_fps) as reader:
            people = [reference(frame.image) for frame in reader]
        sequences = [read_poses(result_path(stage2, name, ".npz"))[0] for stage2 in tracks]
        pairs.append([count(sequence, people, fall) for sequence in sequences])
        show(name, pairs[-1:])
    return pairs


def show(name: str, pairs: Sequence[Sequence[Counts]]) -> None:
    """Print a row: the mean over clips for every column."""
    tracked = np.mean([[counts.tracked_share for counts in pair] for pair in pairs], axis=0)
    elsewhere = np.mean([[counts.elsewhere_rate for counts in pair] for pair in pairs], axis=0)
    frames = sum(row[0].after for row in pairs)
    cells = "".join(f"{value:7.3f}" for value in (*tracked, *elsewhere))
    print(f"{name:50} {frames:6}{cells}", flush=True)


def check_clips(assets: Path, falls: Mapping[str, Fall]) -> None:
    """Refuse assets without the clips."""
    absent = [fall.source for fall in falls.values() if not (assets / fall.source).is_file()]
    if absent:
        raise ConfigError(
            f"--assets: expected the clips of falls in {assets}, found no {absent[0]} "
            f"({len(absent)} of {len(falls)} are not there)"
        )


@one_line_errors
def main() -> None:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--assets", type=existing_folder, default=ASSETS)
    parser.add_argument(
        "--movenet", type=existing_file, default=ASSETS / "weights/movenet_multipose.onnx"
    )
    add_config(parser)
    parser.add_argument("--clips", type=positive, help="the first of the 15 only")
    args = parser.parse_args()
    need(files=[args.assets, args.movenet])
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    falls = dict(islice(falls_of(ROOT / "samples" / "falls_segments.csv").items(), args.clips))
    check_clips(args.assets, falls)
    with tempfile.TemporaryDirectory() as out:
        show(f"mean of {len(falls)} clips", measure(args, falls, Path(out)))


if __name__ == "__main__":
    main()
