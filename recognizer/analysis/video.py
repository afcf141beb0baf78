"""One video of an analysis, in a worker process: its JSON file and its overlay."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from recognizer.action.classifier import Classifier
from recognizer.action.events import merge_to_events
from recognizer.action.results import Window
from recognizer.action.windows import classify_windows
from recognizer.analysis.grades import grade_events, lying_rules
from recognizer.analysis.overlay import overlay_frames
from recognizer.analysis.record import (
    SCHEMA_VERSION,
    Record,
    ServiceResult,
    read_record,
    record_bytes,
    write_record,
)
from recognizer.analysis.services import open_classifier, window_plan
from recognizer.analysis.zones import Zone, without_ignored, zones_of
from recognizer.backends.network import ModelError
from recognizer.config.schema import Config
from recognizer.dataset.windows import TIME_DIGITS, span_of
from recognizer.runs.inputs import Video, local_file
from recognizer.runs.journal import Journal
from recognizer.runs.manifest import Outcome, Settings, State, result_path
from recognizer.runs.overlays import SourceVideoError, black_pictures, pictures_of, write_frames
from recognizer.runs.stills import sample_fps_of
from recognizer.runs.worker_pool import OnFrames, StopRunError
from recognizer.scoring.ranking import Service
from recognizer.storage.artifacts import (
    POSE_SCHEMA,
    ArtifactError,
    read_npz_meta,
    read_poses,
    short_digest,
)
from recognizer.storage.objects import ObjectError, StoreError
from recognizer.storage.results import file_stamp
from recognizer.types import ImageArray, PoseSequence
from recognizer.video.reader import VideoError

VIDEOS = "videos"


@dataclass(frozen=True, slots=True)
class AnalysisPlan:
    """Settings of one worker.

    Attributes:
        config: the config; its ``annotation`` section points at the videos.
        folder: the analysis's folder.
        root: the folder whose scratch takes unfinished files.
        tracks: folder of stage 2's results.
        made_from: names of the folders of poses and tracks.
        files: classifier file of each service.
        classifiers: all that decides the windows of each service.
        rules: how windows become events, for each service.

    """

    config: Config
    folder: Path
    root: Path
    tracks: Path
    made_from: dict[str, str]
    files: dict[Service, Path]
    classifiers: dict[Service, dict[str, Any]]
    rules: dict[Service, dict[str, float]]


@dataclass(frozen=True, slots=True)
class Input:
    """A video with stage 2's end state of it."""

    before: Outcome
    video: Video


def record_path(folder: Path, video: str) -> Path:
    """Return the path of a video's JSON file."""
    return result_path(folder / VIDEOS, video, ".json")


def overlay_path(folder: Path, video: str, *, skeleton_only: bool) -> Path:
    """Return the path of a video's overlay, on its pictures or of skeletons on black."""
    return result_path(folder / VIDEOS, video, ".skeleton.mp4" if skeleton_only else ".mp4")


def decisive_settings(plan: AnalysisPlan) -> Settings:
    """Return all that decides the results: a journal of other settings is begun anew."""
    section = plan.config.inference
    return {
        "schema_version": SCHEMA_VERSION,
        "made_from": plan.made_from,
        "classifiers": {service: plan.classifiers[service] for service in plan.files},
        "rules": {service: plan.rules[service] for service in plan.files},
        "zones": section.zones.model_dump(mode="json"),
        "lying": lying_rules(plan.config),
        "overlay": section.overlay,
    }


def input_stamp(plan: AnalysisPlan, before: Outcome) -> str:
    """Return text that changes with stage 2's result and end state, "" if there is no result."""
    stamp = file_stamp(result_path(plan.tracks, before.video, ".npz"))
    return f"{stamp} {short_digest([before.state, before.reason, before.notes])}" if stamp else ""


def remove_results(folder: Path, video: str) -> None:
    """Remove an earlier run's record and overlays of a video."""
    for skeleton_only in (False, True):
        overlay_path(folder, video, skeleton_only=skeleton_only).unlink(missing_ok=True)
    record_path(folder, video).unlink(missing_ok=True)


def finished(plan: AnalysisPlan, before: Outcome, stamp: str, journal: Journal) -> Outcome | None:
    """Return the outcome of a finished analysis, None if anything is missing or out of date.

    Args:
        plan: the settings.
        before: stage 2's end state of the video.
        stamp: ``input_stamp`` of it.
        journal: of this run, whose settings are ``decisive_settings``.

    """
    overlay, other = _overlays(plan, before.video)
    if other.is_file() or (plan.config.inference.overlay and not overlay.is_file()):
        return None
    present = file_stamp(record_path(plan.folder, before.video))
    outcome = journal.outcome(before.video, stamp, present)
    if outcome is None and (read := _read_finished(plan, before)) is not None:
        return replace(read, stamp=present)
    return outcome


def _read_finished(plan: AnalysisPlan, before: Outcome) -> Outcome | None:
    """Return what the record of a video says of its end, None if it is out of date."""
    try:
        meta = read_npz_meta(result_path(plan.tracks, before.video, ".npz"), POSE_SCHEMA)
    except (ArtifactError, OSError):
        return None
    record = _earlier(plan, before.video, meta)
    if record is None or set(record.services) != set(plan.files):
        return None
    settled = _settled(before, record.services, record.frames)
    same = all(
        record.services[service].classifier == plan.classifiers[service]
        and record.services[service].rules == plan.rules[service]
        for service in plan.files
    )
    same &= record.zones == zones_of(plan.config.inference.zones, before.video)
    falls = record.services.get("falldown")
    same &= falls is None or falls.lying == lying_rules(plan.config)
    as_before = (record.state, record.damage) == (settled.state, settled.reason)
    return settled if same and as_before else None


def _overlays(plan: AnalysisPlan, video: str) -> tuple[Path, Path]:
    """Return the path of a video's overlay, and that of the kind that is not asked for."""
    hidden = plan.config.visualize.skeleton_only
    return (
        overlay_path(plan.folder, video, skeleton_only=hidden),
        overlay_path(plan.folder, video, skeleton_only=not hidden),
    )


def _earlier(plan: AnalysisPlan, video: str, meta: Mapping[str, Any]) -> Record | None:
    """Return an earlier analysis made from the same video and tracks, None without one."""
    try:
        record = read_record(record_path(plan.folder, video))
    except (ArtifactError, OSError):
        return None
    same = (record.video, record.made_from, record.source) == (
        video,
        plan.made_from,
        meta.get("source"),
    )
    return record if same else None


def _settled(before: Outcome, services: Mapping[str, ServiceResult], frames: int) -> Outcome:
    """Return the end state that follows from stage 2's and from the windows."""
    silent = [
        f"{service}: {count} windows have fewer than dataset.min_frames frames and are not judged"
        for service, result in sorted(services.items())
        if (count := sum(w.state == "too_few_frames" for w in result.windows))
    ]
    reason = "; ".join(filter(None, [before.reason, *silent]))
    state: State = "damaged" if reason else "done"
    return Outcome(before.video, state, reason, frames, before.notes)


class VideoWorker:
    """One worker: classifiers opened once, then one video after another."""

    def __init__(self, plan: AnalysisPlan) -> None:
        import cv2

        cv2.setNumThreads(1)  # its pool would fight the other workers for the cores
        self._plan = plan
        self._classifiers = {
            service: open_classifier(plan.config, service, path)
            for service, path in plan.files.items()
        }

    def __call__(self, job: Input, on_frames: OnFrames) -> Outcome:
        """Analyse one video and return its end state."""
        plan, video = self._plan, job.before.video
        tracks = result_path(plan.tracks, video, ".npz")
        try:
            sequence, _, meta = read_poses(tracks)
        except (ArtifactError, OSError) as error:
            remove_results(plan.folder, video)
            text = str(error).replace(str(tracks), video)
            return Outcome(video, "refused", f"stage 2 result: {text}; delete it, run again")
        if len(sequence) > 1 and sequence.duration_s <= 0:
            remove_results(plan.folder, video)
            reason = f"all {len(sequence)} frames carry the same time: there is no time to judge"
            return Outcome(video, "refused", f"{reason}; write the file anew with its frame rate")
        zones = zones_of(plan.config.inference.zones, video)
        sequence = without_ignored(sequence, zones)
        try:
            services = self._services(sequence, zones, _earlier(plan, video, meta), on_frames)
        except ModelError as error:
            raise StopRunError(str(error)) from error
        settled = _settled(job.before, services, len(sequence))
        record = Record(
            video=video,
            source=meta["source"],
            state="damaged" if settled.reason else "done",
            damage=settled.reason,
            size_wh=sequence.size_wh,
            frames=len(sequence),
            span_s=_rounded_span(sequence),
            made_from=plan.made_from,
            services=services,
            zones=zones,
        )
        try:
            _keep(plan, record)
            on_frames(0 if plan.config.inference.overlay else len(sequence))
            problem = self._draw(job, record, sequence, meta, on_frames)
        except OSError as error:
            raise StopRunError(f"cannot write the analysis of {video}: {error}") from error
        settled = replace(settled, stamp=file_stamp(record_path(plan.folder, video)))
        if problem:
            reason = "; ".join(filter(None, [settled.reason, f"no overlay: {problem}"]))
            return replace(settled, state="damaged", reason=reason)
        return settled

    def _services(
        self,
        sequence: PoseSequence,
        zones: tuple[Zone, ...],
        earlier: Record | None,
        on_frames: OnFrames,
    ) -> dict[str, ServiceResult]:
        """Return the results of every classifier; unchanged windows of an earlier run are kept."""
        plan, results = self._plan, {}
        if earlier is not None and _ignored(earlier.zones) != _ignored(zones):
            earlier = None  # other people were classified
        for service, classifier in self._classifiers.items():
            about, rules = plan.classifiers[service], plan.rules[service]
            before = earlier.services.get(service) if earlier is not None else None
            if before is not None and before.classifier == about:
                windows = before.windows
            else:
                windows = self._windows(sequence, classifier, on_frames)
            events = merge_to_events(windows, about["classes"], rules)
            result = ServiceResult(about, rules, windows, events)
            if service == "falldown":
                lying = lying_rules(plan.config)
                events, suppressed = grade_events(events, sequence, zones, lying)
                result = replace(result, events=events, suppressed=suppressed, lying=lying)
            results[str(service)] = result
        return results

    def _windows(
        self, sequence: PoseSequence, classifier: Classifier, on_frames: OnFrames
    ) -> tuple[Window, ...]:
        windows, config = [], self._plan.config
        plan = window_plan(config, classifier)
        for window in classify_windows([sequence], classifier, plan, config.scoring):
            windows.append(window)
            on_frames(0)
        return tuple(windows)

    def _draw(
        self,
        job: Input,
        record: Record,
        sequence: PoseSequence,
        meta: Mapping[str, Any],
        on_frames: OnFrames,
    ) -> str:
        """Draw the overlay unless it exists; return the reason if it cannot be drawn.

        One of the other kind, on pictures or on black, is removed.
        """
        plan, (final, other) = self._plan, _overlays(self._plan, record.video)
        other.unlink(missing_ok=True)
        if not plan.config.inference.overlay or final.is_file():
            return ""
        path = Path(record.video)
        try:
            if plan.config.visualize.skeleton_only:
                self._write(final, record, sequence, black_pictures(sequence), on_frames)
                return ""
            with local_file(job.video, plan.root, on_frames) as path:
                pictures = pictures_of(path, sequence, sample_fps_of(meta.get("settings", {})))
                self._write(final, record, sequence, pictures, on_frames)
        except StoreError as error:
            raise StopRunError(f"inference.input: {error}") from error
        except (SourceVideoError, VideoError, ObjectError) as error:
            return str(error).replace(str(path), record.video)
        return ""

    def _write(
        self,
        final: Path,
        record: Record,
        sequence: PoseSequence,
        pictures: Iterator[ImageArray],
        on_frames: OnFrames,
    ) -> None:
        frames, crf = overlay_frames(record, sequence, pictures), self._plan.config.visualize.crf
        write_frames(final, self._plan.root, frames, sequence.frame_period_s, crf, on_frames)


def _ignored(zones: tuple[Zone, ...]) -> list[Zone]:
    return [zone for zone in zones if zone.kind == "ignore"]


def _rounded_span(sequence: PoseSequence) -> tuple[float, float]:
    begin, end = span_of(sequence)
    return round(begin, TIME_DIGITS), round(end, TIME_DIGITS)


def _keep(plan: AnalysisPlan, record: Record) -> None:
    """Write the JSON file unless it is unchanged; the overlay of another one is removed."""
    final = record_path(plan.folder, record.video)
    if not final.is_file() or final.read_bytes() != record_bytes(record):
        remove_results(plan.folder, record.video)
        write_record(final, plan.root, record)
