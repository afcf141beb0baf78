"""Measure how long people stay tracked after a fall, with and without turned searches.

    python -m benchmarks.after_fall

Stages 1 and 2 run on 11 clips of falls and 4 views of two more (``_falls_data.py`` cuts them),
once with ``topdown.turned`` off and once on. ``tracked`` is the share of frames, from the start of
the fall until the person gets up or the clip ends, in which a row with an id overlaps the person
by an IoU above 0.3. ``on nobody`` counts rows with an id whose IoU with the person is below 0.15,
per frame of the whole clip; each clip shows one person.

Where the person is, says MoveNet MultiPose, which sees people who lie and has no part in stage 1:
its best box if it scores 0.14 or more, else the detector's best of the picture as it is and turned
both ways if that scores 0.25 or more. Of frames without either, any row with an id counts as the
person, none as on nobody.
"""

import argparse
import logging
import os
import tempfile
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from benchmarks._command import (
    Parser,
    existing_file,
    existing_folder,
    one_line_errors,
    positive,
    weights_of,
)
from benchmarks._falls_data import falls_of, write_falls
from benchmarks._needs import need
from recognizer.backends.network import ModelError, describe
from recognizer.backends.onnx import OnnxNetwork
from recognizer.config.file import ConfigError, load_config
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
from recognizer.video.reader import VideoReader

ROOT = Path(__file__).resolve().parents[1]
TRACKED_IOU, NOBODY_IOU = 0.3, 0.15
MOVENET_SCORE, DETECTOR_SCORE = 0.14, 0.25
LONG_SIDE, MULTIPLE = 512, 32  # pixels of MoveNet's input
# MoveNet's input and output.
MOVENET = [("tensor(int32)", (1, None, None, 3)), ("tensor(float)", (1, 12, 56))]


@dataclass(frozen=True)
class Figures:
    """Counts of one clip: frames after the fall, those tracked, all frames, rows on nobody."""

    after: int
    tracked: int
    frames: int
    on_nobody: int

    @property
    def share(self):
        """Return the share of frames after the fall in which the person is tracked."""
        return self.tracked / self.after

    @property
    def nobody(self):
        """Return the rows on nobody per frame."""
        return self.on_nobody / self.frames


class Reference:
    """Tell where the one person of an image is."""

    def __init__(self, movenet, detector):
        self._movenet, self._detector = movenet, detector

    def __call__(self, image):
        """Return the box (4,) in pixels, None where nobody is seen."""
        boxes, scores = self._by_movenet(image)
        if scores.max() >= MOVENET_SCORE:
            return boxes[scores.argmax()]
        boxes, scores = self._by_detector(image)
        if len(scores) and scores.max() >= DETECTOR_SCORE:
            return boxes[scores.argmax()]
        return None

    def _by_movenet(self, image):
        """Return boxes (12, 4) in pixels and scores (12,), in no order."""
        width, height = image.size_wh
        scale = LONG_SIDE / max(width, height)
        small = round(width * scale), round(height * scale)
        across, down = (-(-side // MULTIPLE) * MULTIPLE for side in small)
        pixels = np.zeros((1, down, across, 3), np.int32)
        pixels[0, : small[1], : small[0]] = image.bgr(small)[..., ::-1]
        (found,) = self._movenet.run({self._movenet.inputs[0].name: pixels}).values()
        y1, x1, y2, x2, scores = found[0, :, -5:].T
        sides = x1 * across, y1 * down, x2 * across, y2 * down
        return np.stack(sides, axis=1) / np.tile(np.divide(small, image.size_wh), 2), scores

    def _by_detector(self, image):
        """Return boxes (N, 4) in pixels and scores (N,) of the picture in all three turns."""
        upright, *turned = self._detector([image, *(TurnedImage(image, turn) for turn in TURNS)])
        boxes = [upright.xyxy]
        for seen, turn in zip(turned, TURNS, strict=True):
            boxes.append(turned_back(seen.xyxy, turn, image.size_wh))
        return np.concatenate(boxes), np.concatenate([s.scores for s in (upright, *turned)])


def open_reference(config, movenet):
    """Open the networks that tell where the person is.

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


def count(sequence, people, fall):
    """Return the figures of one clip.

    Args:
        sequence: what stage 2 gives.
        people: where the person is in each frame, a box (4,) or None.
        fall: when the fall starts and the person gets up.

    """
    after = tracked = on_nobody = 0
    for time_s, poses, person in zip(sequence.time_s, sequence.frames(), people, strict=True):
        boxes = poses.boxes[poses.track_ids >= 0]
        overlaps = np.ones(len(boxes)) if person is None else box_iou(boxes, person[None])[:, 0]
        on_nobody += int((overlaps < NOBODY_IOU).sum())
        if fall.start_s <= time_s < fall.stop_s:
            after += 1
            tracked += int((overlaps > TRACKED_IOU).any())
    return Figures(after, tracked, len(sequence), on_nobody)


def configure(args, folder, turned):
    """Return the config of stages 1 and 2."""
    return load_config(
        args.config,
        [
            *weights_of(args.config),
            f"annotation.input={folder / 'videos'}",
            f"annotation.output_dir={folder / turned}",
            "annotation.movement=false",
            *args.set,
            f"models.pose_estimation.topdown.turned={turned}",
        ],
    )


def track(config):
    """Run stages 1 and 2; return the folder of the tracks."""
    run_stage1(config, on_console)
    return run_stage2(config, on_console)


def measure(args, falls, folder):
    """Return two figures of each clip, without and with turned searches; print them."""
    configs = [configure(args, folder, turned) for turned in ("false", "true")]
    reference, found = open_reference(configs[0], args.movenet), []
    write_falls(args.assets, falls, folder / "videos")
    tracks = [track(config) for config in configs]
    print(f"\n{'tracked after the fall; on nobody':50} frames    off     on    off     on")
    for name, fall in falls.items():
        path = folder / "videos" / name
        with VideoReader(path, sample_fps=configs[0].annotation.sample_fps) as reader:
            people = [reference(frame.image) for frame in reader]
        sequences = [read_poses(result_path(own, name, ".npz"))[0] for own in tracks]
        found.append([count(sequence, people, fall) for sequence in sequences])
        show(name, found[-1:])
    return found


def show(name, pairs):
    """Print a row: the mean over clips of the figures without and with turned searches."""
    shares = np.mean([[figures.share for figures in pair] for pair in pairs], axis=0)
    nobody = np.mean([[figures.nobody for figures in pair] for pair in pairs], axis=0)
    frames = sum(off.after for off, _ in pairs)
    cells = "".join(f"{value:7.3f}" for value in (*shares, *nobody))
    print(f"{name:50} {frames:6}{cells}", flush=True)


def check_clips(assets, falls):
    """Refuse assets without the clips."""
    absent = [fall.source for fall in falls.values() if not (assets / fall.source).is_file()]
    if absent:
        raise ConfigError(
            f"--assets: expected the clips of falls in {assets}, found no {absent[0]} "
            f"({len(absent)} of {len(falls)} are not there)"
        )


@one_line_errors
def main():
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    assets = ROOT.parent / "shared" / "assets"
    parser.add_argument("--assets", type=existing_folder, default=assets)
    parser.add_argument(
        "--movenet", type=existing_file, default=assets / "weights/movenet_multipose.onnx"
    )
    parser.add_argument("--config", type=Path, default=ROOT / "configs" / "config.yaml")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
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
