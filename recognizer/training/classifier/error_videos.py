"""The worst misclassified clips: a sheet on the videos' pictures, and skeleton videos on black."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from recognizer.draw import draw_skeleton
from recognizer.names import nfc
from recognizer.runs.figures import save_figure
from recognizer.runs.manifest import Outcome
from recognizer.runs.progress import ProgressFactory
from recognizer.runs.stills import Stills
from recognizer.runs.strips import StripPlan, draw_plan, plan_strip, slot_color
from recognizer.storage.artifacts import atomic_path
from recognizer.text import Color, Tag, TextStyle, draw_text, fit_text, readable_on, text_width
from recognizer.training.classifier.labels import ClipLabel
from recognizer.training.classifier.predictions import Predictions
from recognizer.training.classifier.report import draw_misclassified
from recognizer.types import ImageArray, Sample
from recognizer.video.writer import VideoWriter

FOLDER = "mistakes"
HEIGHT_PX = 480
_SHEET_ROWS = 12
_MAX_WIDTH_PX = 1280
_NAME_LETTERS = 60  # of up to 4 bytes; a file's name may have 255
_BAND_PX = 64
_GROUND = 24
_BAND = 60
_DRAWN_AT = 0.2  # the lowest keypoint score that is drawn
_DEFAULT_FPS = 25.0
_RIGHT, _WRONG, _WHITE = (115, 200, 0), (80, 110, 255), (240, 240, 240)
_TEXT_PX = 17
_PALE: Color = (190, 190, 190)


@dataclass(frozen=True, slots=True)
class Misclassified:
    """A misclassified clip, as the text above its skeleton video names it.

    Attributes:
        rank: place among the worst, from 1.
        truth: name of the true class.
        predicted: name of the predicted class.
        probabilities: of every class, by name.
        seconds: length of the sample; None if unknown.

    """

    rank: int
    truth: str
    predicted: str
    probabilities: Mapping[str, float]
    seconds: float | None


def write_error_videos(
    folder: Path,
    tested: tuple[Predictions, Mapping[str, Sample]],
    clips: Mapping[str, ClipLabel],
    count: int,
    progress: ProgressFactory,
    *,
    stills: Stills | None = None,
) -> None:
    """Write skeleton videos of the worst misclassified clips and one contact sheet of them.

    Args:
        folder: the report's folder; videos go to ``mistakes/``, those of an earlier run
            are removed.
        tested: predictions, and the samples by name; clips without a tracked person have none
            and no video.
        clips: of the samples, where known.
        count: at most this many.
        progress: shows the videos written, and those read for the sheet.
        stills: source of the sheet's pictures; None: grey.

    """
    predictions, samples = tested
    for old in (folder / FOLDER).glob("*.mp4"):
        old.unlink()
    predictions = predictions[predictions.tracked]
    rows = predictions.worst(count)
    plans: dict[str, StripPlan] = {}  # by title, the worst first
    with progress("videos of the worst mistakes", len(rows)) as advance:
        for rank, i in enumerate(rows, 1):
            sample = samples[predictions.names[i]]
            known = clips.get(sample.name)
            probabilities = predictions.probabilities[i].tolist()
            wrong = Misclassified(
                rank=rank,
                truth=predictions.classes[predictions.labels[i]],
                predicted=predictions.classes[predictions.predicted[i]],
                probabilities=dict(zip(predictions.classes, probabilities, strict=True)),
                seconds=None if known is None else known.seconds,
            )
            write_video(folder / FOLDER / video_name(rank, sample.name), folder, sample, wrong)
            if rank <= _SHEET_ROWS:
                seconds = wrong.seconds or sample.keypoints.shape[1] / _DEFAULT_FPS
                plans[_title(sample, wrong)] = plan_strip(sample, seconds)
            advance(Outcome(sample.name, "done"), 0)
    grounds = _grounds(plans, clips, stills, progress)
    strips = [(title, draw_plan(plan, grounds.get(plan.name))) for title, plan in plans.items()]
    draw = partial(draw_misclassified, strips=strips)
    save_figure(folder / f"{FOLDER}.png", folder, draw)


def _grounds(
    plans: Mapping[str, StripPlan],
    clips: Mapping[str, ClipLabel],
    stills: Stills | None,
    progress: ProgressFactory,
) -> dict[str, list[ImageArray]]:
    """Return the available pictures of the videos, by sample."""
    if stills is None:
        return {}
    moments = {}
    for plan in plans.values():
        clip = clips.get(plan.name)
        if clip is not None and clip.video:
            stop_s = clip.start_s + clip.seconds
            moments[plan.name] = plan.moments(clip.video, clip.start_s, stop_s)
    return stills.read(moments, progress)


def _title(sample: Sample, clip: Misclassified) -> str:
    probability = clip.probabilities[clip.predicted]
    predicted = f"predicted {clip.predicted} ({probability:.2f})"
    return f"{clip.rank}. {sample.name}: {clip.truth}, {predicted}"


def video_name(rank: int, sample: str) -> str:
    """Return the file name of a clip's video: its rank, and the sample's name in plain letters."""
    composed = nfc(sample.removesuffix(".mp4"))
    plain = re.sub(r"[^\w.@-]+", "_", composed).strip("._")[-_NAME_LETTERS:]
    return f"{rank:02d}_{plain}.mp4"


def write_video(path: Path, root: Path, sample: Sample, clip: Misclassified) -> None:
    """Write one sample as a skeleton video with its true and its predicted class.

    Raises:
        OSError: the disk is full or not writable.

    """
    frames = sample.keypoints.shape[1]
    fps = frames / clip.seconds if clip.seconds else _DEFAULT_FPS
    fps = float(np.clip(fps, 1.0, 240.0))
    width, height = _canvas_wh(sample.size_wh)
    with (
        atomic_path(path, root) as scratch,
        VideoWriter(scratch, (width, height + _BAND_PX), fps) as writer,
    ):
        for t, picture in enumerate(draw_frames(sample, clip)):
            writer.write(picture, t / fps)


def _canvas_wh(size_wh: tuple[int, int]) -> tuple[int, int]:
    """Return the size of the drawing area: always tall enough for readable letters."""
    scale = min(HEIGHT_PX / size_wh[1], _MAX_WIDTH_PX / size_wh[0])
    width, height = (max(64, round(side * scale)) for side in size_wh)
    return max(width, 360), height


def draw_frames(sample: Sample, clip: Misclassified) -> Iterator[ImageArray]:
    """Yield every frame: people by slot with their rank, below a band of text."""
    width, height = _canvas_wh(sample.size_wh)
    scale = np.float32(min(width / sample.size_wh[0], height / sample.size_wh[1]))
    band = _band(width, sample.name, clip)
    people, frames = sample.keypoint_scores.shape[:2]
    for t in range(frames):
        picture: ImageArray = np.full((height, width, 3), _GROUND, np.uint8)
        for slot in reversed(range(people)):  # the most involved lies on top
            points, scores = sample.keypoints[slot, t] * scale, sample.keypoint_scores[slot, t]
            picture = draw_skeleton(picture, points, scores, slot_color(slot), _DRAWN_AT)
            _write_rank(picture, points[scores >= _DRAWN_AT], slot)
        seen = (sample.keypoint_scores[:, t] >= _DRAWN_AT).any()
        _write_time(picture, t, frames, clip.seconds, empty=not seen)
        yield np.concatenate([band, picture])


def _write_rank(picture: ImageArray, points: NDArray[np.float32], slot: int) -> None:
    """Write the slot's number above its highest keypoint, inside the picture."""
    if len(points) == 0:
        return
    left, top = points[points[:, 1].argmin()].tolist()
    style = TextStyle(14, readable_on(slot_color(slot)), bold=True)
    place = (round(left) - 6, round(top) - style.height - 6)
    Tag(str(slot + 1), *place, style, slot_color(slot)).draw(picture)


def _write_time(
    picture: ImageArray, frame: int, frames: int, seconds: float | None, *, empty: bool
) -> None:
    text = f"frame {frame + 1}/{frames}"
    text += f"  {frame / frames * seconds:.2f} s" if seconds else ""
    text += "  nobody seen" if empty else ""
    style = TextStyle(14, _PALE)
    draw_text(picture, text, (8, picture.shape[0] - style.height - 4), style)


def _band(width: int, name: str, clip: Misclassified) -> ImageArray:
    """Return the text above the picture: the name, the true and the predicted class."""
    band: ImageArray = np.full((_BAND_PX, width, 3), _BAND, np.uint8)
    _write(band, f"{clip.rank}. {name}", (8, 6), _WHITE, width - 16)
    predicted = clip.probabilities[clip.predicted]
    truth = clip.probabilities[clip.truth]
    second = _BAND_PX // 2 + 4
    left = f"truth {clip.truth} ({truth:.2f})"
    used = _write(band, left, (8, second), _RIGHT, width // 2 - 16)
    right = f"predicted {clip.predicted} ({predicted:.2f})"
    _write(band, right, (used + 16, second), _WRONG, width - used - 24)
    return band


def _write(band: ImageArray, text: str, place: tuple[int, int], ink: Color, room: int) -> int:
    """Write text, shortened to the room; return where it ends."""
    style = TextStyle(_TEXT_PX, ink)
    text = fit_text(text, style, room)
    draw_text(band, text, place, style)
    return place[0] + text_width(text, style)
