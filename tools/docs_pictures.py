"""Draw the pictures of docs/ from the samples and the reports in the repository.

    python -m tools.docs_pictures                    # all
    python -m tools.docs_pictures overlay timeline   # these

No footage is used: people are the poses of samples/, on black. The pictures of the page of live
detection are taken by Chromium in a test of it; without Chromium they stay as they are.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

import recognizer as rz
from recognizer.action.evaluation import Estimate, Scores
from recognizer.action.events import merge_to_events
from recognizer.analysis.overlay import overlay_frames
from recognizer.analysis.record import Record, ServiceResult
from recognizer.dataset.samples import people_of
from recognizer.runs.figures import save_figure
from recognizer.runs.strips import draw_plan, draw_strip, plan_strip, slot_legend
from recognizer.training.classifier.report import draw_confusion
from recognizer.types import ImageArray

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from recognizer.scoring.ranking import Service

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
SAMPLES = ROOT / "samples"
CROSSVAL = SAMPLES / "models" / "fight_crossval.json"
LIVE = ("live-cameras", "live-event", "live-events", "live-zones")
_LIVE_TEST = "tests/live/page/test_browser_zones.py"
_SIZE_WH = 640, 480  # of a drawn video, pixels
_GAP = 8
_LEGEND = 22  # of the timeline: what its last line takes, pixels
_GREY = 70
# Video, service, moment in seconds, height of the part that is shown in pixels.
_OVERLAY: tuple[tuple[str, "Service", float, float], ...] = (
    ("stage1/Fight/fi125.mp4", "fight", 0.73, 260),
    ("falls_stage1/Subject_2/Fall/13.mp4", "falldown", 3.5, 400),
)
_TIMELINE = "falls_stage1/Subject_2/Fall/12.mp4"
_MOMENTS = 6
_SHEET: tuple[tuple[str, "Service"], ...] = (
    ("stage1/Fight/fi034.mp4", "fight"),
    ("stage1/Fight/fi120.mp4", "fight"),
    ("stage1/NonFight/nofi103.mp4", "fight"),
    ("falls_stage1/Subject_2/Fall/13.mp4", "falldown"),
)
_SLOTS = 3


def draw_overlay(path: Path) -> None:
    """Draw a frame of a fight's overlay beside one of a fall's."""
    frames = [
        overlay_at(analysed(video, (service,)), view(video, height=height), time_s)
        for video, service, time_s, height in _OVERLAY
    ]
    _write(path, beside(frames))


def draw_timeline(path: Path) -> None:
    """Draw moments of a fall above the timeline that its overlay has."""
    record, cell_wh = analysed(_TIMELINE, ("fight", "falldown")), (210, 158)
    seen = view(_TIMELINE, cell_wh)
    start, stop = record.span_s
    times = start + (np.arange(_MOMENTS) + 0.5) / _MOMENTS * (stop - start)
    cells = []
    for time_s in times.tolist():
        t = int(np.searchsorted(seen.time_s, time_s))
        cell = rz.draw_people(_black(seen), seen.frame(t), {})
        cells.append(rz.draw_caption(cell, f"{seen.time_s[t]:.1f} s"))
    above = beside(cells)
    wide = replace(seen, size_wh=(above.shape[1], _SIZE_WH[1]))
    strip = overlay_at(record, wide, float(times[_MOMENTS // 2]))[_SIZE_WH[1] : -_LEGEND]
    _write(path, np.concatenate([above, strip]))


def draw_fight_confusion(path: Path) -> None:
    """Draw the confusion matrix of the shipped fight classifier's cross-validation."""
    whole = scores_of(_crossval()["scores"]["all"])
    save_figure(path, path.parent, lambda figure: draw_confusion(figure, whole))


def draw_fight_sources(path: Path) -> None:
    """Draw the accuracy of the same on each source, with the number of its clips."""
    sources = sorted(_crossval()["by_source"], key=lambda one: (one["accuracy"], one["clips"]))

    def draw(figure: "Figure") -> None:
        figure.set_size_inches(8, 3)
        axes = figure.subplots()
        values = [one["accuracy"] for one in sources]
        axes.bar(range(len(sources)), values, color="#0072B2")
        axes.set_xticks(range(len(sources)), [str(one["clips"]) for one in sources], fontsize=9)
        axes.axhline(0.5, color="black", linestyle=":", linewidth=1)
        axes.margins(x=0.01)
        axes.set_xlabel("source (recording), by its number of clips")
        axes.set_ylabel("accuracy on its clips")
        axes.set_ylim(0, 1)

    save_figure(path, path.parent, draw)


def draw_skeletons(path: Path) -> None:
    """Draw a contact sheet: the people of samples, most involved first."""

    def draw(figure: "Figure") -> None:
        figure.set_size_inches(11, 1 + 1.75 * len(_SHEET))
        for axes, (video, service) in zip(figure.subplots(len(_SHEET)), _SHEET, strict=True):
            tracked = tracks(video)
            ids, _ = people_of(tracked, service, rz.ScoringConfig(), _SLOTS)
            sample = rz.build_sample(tracked, ids, _SLOTS, video, 0)
            strip = draw_plan(plan_strip(sample, tracked.duration_s))
            draw_strip(axes, strip, video.partition("/")[2])
        slot_legend(figure, _SLOTS)

    save_figure(path, path.parent, draw)


def take_live(folder: Path) -> bool:
    """Take the pictures of the page by Chromium; tell whether it is here.

    Raises:
        RuntimeError: the test that takes them fails.

    """
    if shutil.which("chromium") is None:
        return False
    with tempfile.TemporaryDirectory() as taken:
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", "slow"]
        done = subprocess.run(
            [*command, _LIVE_TEST, "-k", "10000_events"],
            cwd=ROOT,
            env={**os.environ, "RECOGNIZER_SCREENSHOTS": taken},
            capture_output=True,
            text=True,
        )
        pictures = [Path(taken) / f"{name}.png" for name in LIVE]
        if done.returncode or not all(path.is_file() for path in pictures):
            raise RuntimeError(f"{_LIVE_TEST}: no pictures\n{done.stdout[-3000:]}")
        for picture in pictures:
            shutil.copy(picture, folder)
    return True


PICTURES: Mapping[str, Callable[[Path], None]] = {
    "overlay": draw_overlay,
    "timeline": draw_timeline,
    "fight-confusion": draw_fight_confusion,
    "fight-sources": draw_fight_sources,
    "skeletons": draw_skeletons,
}


def main(argv: Sequence[str] | None = None) -> int:
    """Draw pictures into docs/; return the exit code."""
    parser = argparse.ArgumentParser(
        "python -m tools.docs_pictures", description=(__doc__ or "").splitlines()[0]
    )
    names = (*PICTURES, "live")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(names)}")
    chosen = parser.parse_args(argv).names or names
    if unknown := sorted(set(chosen) - set(names)):
        parser.error(f"expected names of {', '.join(names)}, got {', '.join(unknown)}")
    for name in chosen:
        if name in PICTURES:
            PICTURES[name](DOCS / f"{name}.png")
        elif not take_live(DOCS):
            sys.stderr.write("live: left as they are; chromium is not installed\n")
    return 0


@cache
def tracks(video: str) -> rz.PoseSequence:
    """Return a sample's tracks.

    Args:
        video: folder of samples/, and the video in it.

    """
    return rz.track_people(rz.load_poses(SAMPLES / f"{video}.npz"), kind="topdown")


def view(
    video: str, size_wh: tuple[int, int] = _SIZE_WH, height: float | None = None
) -> rz.PoseSequence:
    """Return a sample's tracks in a part of the picture around the people, scaled.

    Args:
        video: as of ``tracks``.
        size_wh: width and height of the view, pixels.
        height: height of that part, pixels of the video; None: all of it.

    """
    tracked = tracks(video)
    whole = np.array(tracked.size_wh, np.float32)
    by = np.float32(size_wh[1] / (whole[1] if height is None else height))
    centre = np.median(by * tracked.poses.boxes.reshape(-1, 2), axis=0)
    most = np.maximum(by * whole - size_wh, 0)
    corner = np.clip(centre - np.array(size_wh) / 2, 0, most).astype(np.float32)
    keypoints = tracked.poses.keypoints * by - corner
    rows = replace(
        tracked.poses, keypoints=keypoints, boxes=tracked.poses.boxes * by - np.tile(corner, 2)
    )
    return replace(tracked, poses=rows, size_wh=size_wh)


def analysed(video: str, services: Sequence["Service"]) -> Record:
    """Return the analysis of a sample by shipped classifiers, without lying and zones."""
    tracked = tracks(video)
    return Record(
        video=video.partition("/")[2],
        source={},
        state="done",
        damage="",
        size_wh=tracked.size_wh,
        frames=len(tracked),
        span_s=(float(tracked.time_s[0]), float(tracked.time_s[0]) + tracked.duration_s),
        made_from={},
        services={service: _result(tracked, service) for service in services},
    )


def overlay_at(record: Record, seen: rz.PoseSequence, time_s: float) -> ImageArray:
    """Return the frame of a sample's overlay at a time, on black.

    Args:
        record: the analysis.
        seen: the tracks as they are drawn.
        time_s: the time.

    """
    number = int(np.searchsorted(seen.time_s, time_s))
    pictures: Iterator[ImageArray] = (_black(seen) for _ in range(len(seen)))
    (frame, _) = next(islice(overlay_frames(record, seen, pictures), number, None))
    return frame


def beside(pictures: Sequence[ImageArray]) -> ImageArray:
    """Return pictures of one height side by side, with a gap between them."""
    gap = np.full((len(pictures[0]), _GAP, 3), _GREY, np.uint8)
    parts = [part for picture in pictures for part in (picture, gap)][:-1]
    return np.concatenate(parts, axis=1)


def scores_of(report: Mapping[str, Any]) -> Scores:
    """Return the scores of a report's JSON, as far as the confusion matrix needs them."""
    confusion = report["confusion"]
    overall = {
        name: Estimate(one["value"], one["low"], one["high"])
        for name, one in report["overall"].items()
    }
    return Scores(
        classes=tuple(confusion["classes"]),
        counts=tuple(sum(row) for row in confusion["rows_are_truth"]),
        overall=overall,
        by_class={},
        confusion=tuple(tuple(row) for row in confusion["rows_are_truth"]),
        calibration=(),
    )


def _result(tracked: rz.PoseSequence, service: "Service") -> ServiceResult:
    classifier = rz.open_classifier(SAMPLES / "models" / f"{service}.onnx", threads=1)
    windows = tuple(rz.classify_windows(tracked, classifier))
    rules = {"threshold": classifier.threshold, "merge_gap_s": 1.0, "min_event_s": 0.0}
    events = merge_to_events(windows, classifier.classes, rules)
    return ServiceResult({"classes": list(classifier.classes)}, rules, windows, events)


def _crossval() -> Any:
    return json.loads(CROSSVAL.read_text(encoding="utf-8"))


def _black(tracked: rz.PoseSequence) -> ImageArray:
    width, height = tracked.size_wh
    return np.zeros((height, width, 3), np.uint8)


def _write(path: Path, picture: ImageArray) -> None:
    if not cv2.imwrite(str(path), picture, [cv2.IMWRITE_PNG_COMPRESSION, 9]):
        raise OSError(f"{path.name}: cannot be written")


if __name__ == "__main__":
    sys.exit(main())
