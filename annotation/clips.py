"""Labelled clips of tracked videos: their times, people and statistics."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recognizer.config.schema import Config
from recognizer.dataset.labels import (
    LabelError,
    Segment,
    clip_segment,
    label_from_folders,
    label_of_window,
)
from recognizer.dataset.near_duplicates import hashes_within
from recognizer.dataset.samples import NoTrackedPeopleError, build_sample, people_of
from recognizer.dataset.windows import plan_windows, slice_sequence, span_of
from recognizer.runs.manifest import Outcome, result_path
from recognizer.storage.artifacts import ArtifactError, read_poses
from recognizer.types import PoseSequence, Sample
from recognizer.video.hashes import TIMES, VALUES, check_hashes

CONFIDENCE_BINS = 50
_MAX_PEOPLE = 20  # the last bin of people per frame holds this many and more
_MAX_PARTS = 5  # of a long segment


@dataclass(frozen=True, slots=True)
class Clip:
    """A sample without its keypoints, so that all of a data set fit into memory.

    Attributes:
        name: unique name of the sample.
        video: the video it is part of.
        start_s: start in the video, seconds.
        stop_s: its end, exclusive.
        class_name: its label.
        track_ids: the people of the slots, most involved first.
        frames: number of frames.

    """

    name: str
    video: str
    start_s: float
    stop_s: float
    class_name: str
    track_ids: tuple[int, ...]
    frames: int


@dataclass(eq=False, slots=True)
class ClassStatistics:
    """Statistics of one class for the report.

    Attributes:
        seconds: length of each clip.
        people: (21,) frames with 0, 1, ... 20 and more people.
        confidence: (50,) keypoints found on people, by network confidence in (0, 1].
        confidence_sum: sum of these confidences.
        missing: keypoints of tracked people that were not found.

    """

    seconds: list[float] = field(default_factory=list)
    people: NDArray[np.int64] = field(default_factory=lambda: np.zeros(_MAX_PEOPLE + 1, np.int64))
    confidence: NDArray[np.int64] = field(
        default_factory=lambda: np.zeros(CONFIDENCE_BINS, np.int64)
    )
    confidence_sum: float = 0.0
    missing: int = 0

    def add(self, clip: PoseSequence) -> None:
        """Count one clip."""
        self.seconds.append(clip.duration_s)
        seen = clip.poses.keypoint_scores.any(axis=1) & (clip.poses.track_ids >= 0)
        per_frame = np.bincount(clip.frame_of_row[seen], minlength=len(clip))
        self.people += np.bincount(
            np.minimum(per_frame, _MAX_PEOPLE), minlength=_MAX_PEOPLE + 1
        ).astype(np.int64)
        scores = clip.poses.keypoint_scores[seen]
        self.missing += int((scores <= 0).sum())
        scores = scores[scores > 0].clip(0, 1)
        self.confidence += np.histogram(scores, CONFIDENCE_BINS, (0, 1))[0]
        self.confidence_sum += float(scores.sum(dtype=np.float64))


@dataclass(eq=False, slots=True)
class VideoClips:
    """The clips of one video, and what was left out.

    Attributes:
        outcome: its end state in stage 3.
        clips: in order of time.
        problems: parts that were refused: (part, reason); the part is empty for the whole.
        unlabelled_windows: windows of which no class covers half.
        empty_windows: windows without a tracked person, as is usual for a camera.
        untracked: labelled parts without a tracked person, windows among them: no samples, but
            classifiers are tested on them.
        content: SHA-256 of the video file, to find copies; empty if unknown.
        hashes: difference hashes of each sample's pictures; empty where stage 1 made none.
        size_wh: width and height of the pictures, pixels.
        fps: pictures per second that stage 1 saw; 0 of a single picture.
        unreadable: whether stage 2's result is missing or damaged.
        whole: its one sample is the whole video, under the video's name.

    """

    outcome: Outcome
    clips: list[Clip] = field(default_factory=list)
    problems: list[tuple[str, str]] = field(default_factory=list)
    unlabelled_windows: int = 0
    empty_windows: int = 0
    untracked: list[Segment] = field(default_factory=list)
    content: str = ""
    hashes: dict[str, NDArray[np.uint64]] = field(default_factory=dict)
    size_wh: tuple[int, int] = (0, 0)
    fps: float = 0.0
    unreadable: bool = False
    whole: bool = False


class ClipFinder:
    """Finds the clips of videos and sums up statistics per class.

    Attributes:
        statistics: of each class.
        reasons: why parts were left out, with counts.

    """

    def __init__(
        self,
        config: Config,
        folder: Path,
        segments: Mapping[str, tuple[Segment, ...]] | None,
        class_name: str | None = None,
    ) -> None:
        """Take the config, stage 2's folder, and the labels.

        Args:
            config: the config.
            folder: stage 2's.
            segments: of each video; None: the label is the folder's name.
            class_name: the class of everything there, whatever its folders are called.

        """
        self._config, self._dataset = config, config.dataset
        self._scoring = config.scoring
        self._folder = folder
        self._segments = segments
        self._class_name = class_name
        self._part_s: float | None = None
        self.statistics = {name: ClassStatistics() for name in config.dataset.classes}
        self.reasons: Counter[str] = Counter()

    def beside(
        self, folder: Path, segments: Mapping[str, tuple[Segment, ...]], part_s: float | None
    ) -> "ClipFinder":
        """Return a finder for another folder, whose statistics and reasons count with these.

        Args:
            folder: stage 2's.
            segments: of each video.
            part_s: longer segments are cut into parts of so many seconds, without
                ``dataset.window_s``; None: they stay whole.

        """
        other = ClipFinder(self._config, folder, segments)
        other._part_s = part_s
        other.statistics, other.reasons = self.statistics, self.reasons
        return other

    def find(self, before: Outcome) -> VideoClips:
        """Return the clips of a video of stage 2; faults are recorded, not raised."""
        if before.state == "refused":
            return self._refused(before, before.reason)
        try:
            sequence, extra, meta = self._read(before.video)
            hashes = check_hashes(extra)
            video = self._clips(before, sequence)
        except LabelError as error:
            return self._refused(before, f"label: {error}")
        except (ArtifactError, ValueError) as error:
            return self._refused(before, f"stage 2 result: {error}", unreadable=True)
        source = meta.get("source")
        if isinstance(source, dict):
            video.content = str(source.get("sha256", ""))
        if hashes:
            times, values = hashes[TIMES], hashes[VALUES]
            video.hashes = {
                c.name: hashes_within(times, values, c.start_s, c.stop_s) for c in video.clips
            }
        video.size_wh = sequence.size_wh
        video.fps = round(1 / sequence.frame_period_s, 3) if sequence.frame_period_s > 0 else 0.0
        return video

    def _refused(self, before: Outcome, reason: str, *, unreadable: bool = False) -> VideoClips:
        self.reasons[reason] += 1
        outcome = replace(before, state="refused", reason=reason, frames=0)
        return VideoClips(outcome, unreadable=unreadable)

    def _read(self, video: str) -> tuple[PoseSequence, dict[str, NDArray[Any]], dict[str, Any]]:
        path = result_path(self._folder, video, ".npz")
        try:
            sequence, extra, meta = read_poses(path)
        except (ArtifactError, OSError) as error:
            text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            raise ArtifactError(text.replace(str(path), video)) from error
        if min(sequence.size_wh) < 1:
            raise ArtifactError(f"expected a picture size above 0, got {sequence.size_wh}")
        return sequence, extra, meta

    def _clips(self, before: Outcome, sequence: PoseSequence) -> VideoClips:
        video = VideoClips(before, whole=self._whole)
        names: set[str] = set()
        for part in self._parts(sequence, video):
            try:
                clip = self._clip(before.video, sequence, part)
                if clip.name in names:
                    raise ValueError("the same part of the video a second time")
            except ValueError as error:
                self._leave_out(video, part, error)
                continue
            names.add(clip.name)
            video.clips.append(clip)
        video.outcome = _outcome(video)
        return video

    def _leave_out(self, video: VideoClips, part: Segment, error: ValueError) -> None:
        self.reasons[str(error)] += 1
        if isinstance(error, NoTrackedPeopleError):
            video.untracked.append(part)
        if isinstance(error, NoTrackedPeopleError) and self._dataset.window_s is not None:
            video.empty_windows += 1
        else:
            where = "" if self._whole else f"{part.start_s:.2f}-{part.stop_s:.2f} s"
            video.problems.append((where, str(error)))

    @property
    def _whole(self) -> bool:
        return self._segments is None and self._dataset.window_s is None

    def _parts(self, sequence: PoseSequence, video: VideoClips) -> Iterator[Segment]:
        """Yield the labelled parts of a video; record in ``video`` what is left out."""
        dataset, name = self._dataset, video.outcome.video
        if self._segments is None:
            class_name = self._class_name or label_from_folders(name, dataset.classes)
            for start, stop in self._windows(sequence):
                yield Segment(start, stop, class_name)
            return
        if name not in self._segments:
            raise LabelError("no row in the table of dataset.segments names it")
        segments = self._inside(self._segments[name], sequence, video)
        if dataset.window_s is None:
            for segment in segments:
                yield from [segment] if self._part_s is None else parts_of(segment, self._part_s)
            return
        for start, stop in self._windows(sequence):
            label = label_of_window(segments, start, stop)
            if label is None:
                video.unlabelled_windows += 1
            else:
                yield Segment(start, stop, label)

    def _inside(
        self, segments: tuple[Segment, ...], sequence: PoseSequence, video: VideoClips
    ) -> list[Segment]:
        """Return the segments clipped to the video; record in ``video`` those outside it."""
        begin, end = span_of(sequence)
        inside = []
        for segment in segments:
            try:
                inside.append(clip_segment(segment, begin, end))
            except LabelError as error:
                video.problems.append(("", str(error)))
                self.reasons["a segment outside its video"] += 1
        return inside

    def _windows(self, sequence: PoseSequence) -> list[tuple[float, float]]:
        if self._dataset.window_s is None:
            return [span_of(sequence)]
        return plan_windows(sequence, self._dataset.window_s, self._dataset.stride_s)

    def _clip(self, video: str, sequence: PoseSequence, part: Segment) -> Clip:
        """Return the clip of a part; its sample is built once as a check."""
        dataset = self._dataset
        start, stop = round(part.start_s, 6), round(part.stop_s, 6)
        cut = slice_sequence(sequence, start, stop)
        if len(cut) < dataset.min_frames:
            raise ValueError(f"fewer than dataset.min_frames = {dataset.min_frames} frames")
        people, _ = people_of(cut, dataset.service, self._scoring, dataset.num_person)
        name = clip_name(video, start, stop, whole=self._whole)
        label = dataset.classes[part.class_name]
        build_sample(cut, people, dataset.num_person, name, label)
        self.statistics[part.class_name].add(cut)
        ids = tuple(people.tolist())
        return Clip(name, video, start, stop, part.class_name, ids, len(cut))

    def samples(self, video: str, clips: list[Clip]) -> Iterator[Sample]:
        """Yield the samples of clips of one video, which is read again.

        Raises:
            ArtifactError: the result has changed since ``find`` read it.

        """
        sequence, _, _ = self._read(video)
        for clip in clips:
            cut = slice_sequence(sequence, clip.start_s, clip.stop_s)
            if len(cut) != clip.frames:
                raise ArtifactError(f"{video}: its stage 2 result changed during the run")
            label = self._dataset.classes[clip.class_name]
            yield build_sample(cut, clip.track_ids, len(clip.track_ids), clip.name, label)


def median_s(clips: Sequence[Clip]) -> float:
    """Return the median length of clips, seconds: the window where whole clips are learnt from."""
    return round(float(np.median([clip.stop_s - clip.start_s for clip in clips])), 3)


def parts_of(segment: Segment, part_s: float) -> list[Segment]:
    """Return parts of a long segment, evenly spread over it; one that is not long is its own part.

    Neighbouring parts are much alike, so that a long event gives five at most.

    Args:
        segment: a part of a video.
        part_s: seconds of a part; a segment under one and a half of it is not long.

    """
    length_s = segment.stop_s - segment.start_s
    count = min(round(length_s / part_s), _MAX_PARTS)
    if count < 2:
        return [segment]
    starts = np.linspace(segment.start_s, segment.stop_s - part_s, count).round(6)
    return [replace(segment, start_s=s, stop_s=round(s + part_s, 6)) for s in starts.tolist()]


def clip_name(video: str, start_s: float, stop_s: float, *, whole: bool) -> str:
    """Return the name of a sample: its video's, with the time if it is a part of it."""
    name = video if whole else f"{video}@{start_s:.3f}-{stop_s:.3f}"
    return name.encode("utf-8", "backslashreplace").decode()


def _outcome(video: VideoClips) -> Outcome:
    before, frames = video.outcome, sum(clip.frames for clip in video.clips)
    if not video.clips:
        reasons = _grouped(video.problems)
        if video.empty_windows:
            reasons.append(f"windows in which nobody was tracked: {video.empty_windows}")
        if video.unlabelled_windows:
            reasons.append(f"windows of which no class covers half: {video.unlabelled_windows}")
        return replace(
            before, state="refused", reason="; ".join(reasons or ["no frames"]), frames=0
        )
    if video.problems:
        reasons = [*filter(None, [before.reason]), *_grouped(video.problems, "left out: ")]
        return replace(before, state="damaged", reason="; ".join(reasons), frames=frames)
    return replace(before, frames=frames)


def _grouped(problems: list[tuple[str, str]], prefix: str = "") -> list[str]:
    """Return one text per reason, with its first few parts."""
    parts: dict[str, list[str]] = {}
    for where, reason in problems:
        parts.setdefault(reason, []).append(where)
    texts = []
    for reason, places in parts.items():
        shown = ", ".join(place for place in places[:3] if place)
        more = f" and {len(places) - 3} more" if len(places) > 3 else ""
        texts.append(f"{prefix}{shown}{more}: {reason}" if shown else f"{prefix}{reason}")
    return texts
