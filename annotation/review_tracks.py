"""The tracks of one event of live detection, as a result of stage 2, and what they are labelled."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote

from annotation.negatives_folders import differences, normal_class
from annotation.reviews import ReviewRecord
from recognizer.config.schema import Config
from recognizer.dataset.windows import frame_range, span_of
from recognizer.live.clips import POSES, find_event_file
from recognizer.live.events import LiveEvent
from recognizer.live.kept_poses import KeptPoses, read_kept_poses
from recognizer.live.store_reads import DecidedEvent
from recognizer.runs.manifest import Settings, result_path
from recognizer.runs.stage2 import ranking_arrays
from recognizer.storage.artifacts import ArtifactError, read_poses, sha256_file, write_poses
from recognizer.storage.tables import known_as
from recognizer.types import PoseSequence

_CUT_S = 1.0  # a label that is so much shorter than its event gets a remark
_NAMED = 3  # of many differences, how many a message names
_UNDECIDED = {None: "not reviewed", "unsure": "reviewed as unsure"}
_BEGIN = "begin_s"  # key of a result's metadata: when its first frame was, on the event's clock


class OtherServiceError(ValueError):
    """An event of another service: it is evidence neither for nor against this one."""


@dataclass(frozen=True, eq=False, slots=True)
class _Tracks:
    """Tracks that begin at 0 s, when that was on the event's clock, and what they are made of.

    ``source`` None: an earlier run has written them.
    """

    sequence: PoseSequence
    begin_s: float
    source: Mapping[str, object] | None = None


class ReviewExport:
    """Make results of stage 2 of the poses that live detection kept.

    Args:
        config: the config.
        folder: where results go.
        settings: what must have made the poses, and the scorers.

    """

    def __init__(self, config: Config, folder: Path, settings: Settings) -> None:
        self._config, self._dataset = config, config.dataset
        self._folder, self._settings = folder, settings
        self._normal = normal_class(config.dataset)

    def record(self, one: DecidedEvent, source: str) -> ReviewRecord:
        """Write the tracks of an event, where it was decided; return what became of it.

        Raises:
            OSError: the result cannot be written.

        """
        event, verdict = one.event, one.verdict
        video = f"{source}/{event.event_id}"
        record = ReviewRecord(
            event.event_id, event.camera, event.class_name, verdict, video, source, "skipped"
        )
        if reason := self._skipped(one):
            return replace(record, reason=reason)
        try:
            tracks = self._tracks(event, video)
            labelled = self._labelled(record, event, tracks)
        except OtherServiceError as error:
            return replace(record, reason=str(error))
        except ArtifactError as error:
            return replace(record, state="refused", reason=str(error))
        if tracks.source is not None:
            self._write(video, tracks)
        return labelled

    def _skipped(self, one: DecidedEvent) -> str:
        """Return why nothing is to be learnt from an event, "" if something is."""
        if reason := _UNDECIDED.get(one.verdict):
            return reason
        if one.verdict not in ("confirmed", "false_alarm"):
            return f"reviewed as {one.verdict!r:.60}, which this version does not know"
        if one.event.state != "end":
            return "reviewed, but it goes on still"
        if known_as(one.event.class_name, self._dataset.classes) in (None, self._normal):
            events = [name for name in self._dataset.classes if name != self._normal]
            return (
                f"an event of the class {one.event.class_name}, which is none of "
                f"dataset.classes ({', '.join(events)}): of another service, or to be named there"
            )
        return ""

    # --- tracks ----------------------------------------------------------------------

    def _tracks(self, event: LiveEvent, video: str) -> _Tracks:
        """Return the tracks of an event, from an earlier run or of the poses that were kept.

        Raises:
            ArtifactError: no poses, or poses that cannot be used.
            OtherServiceError: poses of another service.

        """
        earlier, made_of = self._earlier(video)
        kept = find_event_file(self._config.live.clips_dir, event.event_id, POSES)
        if kept is None:
            if earlier is None:
                raise ArtifactError(
                    "its poses are missing in live.clips_dir: live.keep_poses was off, they are "
                    "not written yet, or were removed"
                )
            return earlier
        try:
            source = {"sha256": sha256_file(kept), "size_bytes": kept.stat().st_size}
            if earlier is not None and made_of == source:
                return earlier
            poses = read_kept_poses(kept)
        except ArtifactError as error:
            raise ArtifactError(str(error).replace(str(kept), "its poses")) from error
        except OSError as error:
            raise ArtifactError(f"its poses cannot be read: {error.strerror or error}") from error
        self._check(poses, event)
        sequence = poses.sequence
        begin_s = float(sequence.time_s[0]) if len(sequence) else 0.0
        people = sequence.poses
        if not self._config.annotation.movement:
            people = replace(people, movement=None)
        return _Tracks(
            replace(sequence, poses=people, time_s=sequence.time_s - begin_s), begin_s, source
        )

    def _earlier(self, video: str) -> tuple[_Tracks | None, object]:
        """Return what an earlier run wrote with these settings, and what it was made of."""
        try:
            sequence, _, meta = read_poses(result_path(self._folder, video, ".npz"))
            begin_s, settings, source = float(meta[_BEGIN]), meta["settings"], meta["source"]
        except (ArtifactError, FileNotFoundError, KeyError, TypeError, ValueError):
            return None, None  # damaged or of another version: made anew
        return (_Tracks(sequence, begin_s), source) if settings == self._settings else (None, None)

    def _write(self, video: str, tracks: _Tracks) -> None:
        arrays, names = ranking_arrays(tracks.sequence, self._config.scoring)
        meta = {
            "video": video,
            "source": tracks.source,
            "frames": len(tracks.sequence),
            "settings": self._settings,
            "measures": names,
            _BEGIN: tracks.begin_s,
        }
        final = result_path(self._folder, video, ".npz")
        write_poses(final, self._folder, tracks.sequence, meta, arrays)

    def _check(self, poses: KeptPoses, event: LiveEvent) -> None:
        if poses.event_id != event.event_id:
            raise ArtifactError(f"its file of poses is that of the event {poses.event_id:.60}")
        if poses.service != self._dataset.service:
            raise OtherServiceError(f"an event of dataset.service {poses.service}")
        ours, theirs = _comparable(poses.settings), _comparable(self._settings)
        if differ := list(differences(ours, theirs)):
            shown = "; ".join(f"{key} {a!r:.60}, not {b!r:.60}" for key, a, b in differ[:_NAMED])
            raise ArtifactError(
                f"its poses were made with other settings ({shown}); run with those of that time"
            )

    # --- labels ----------------------------------------------------------------------

    def _labelled(self, record: ReviewRecord, event: LiveEvent, tracks: _Tracks) -> ReviewRecord:
        """Return the record with the label of the event's seconds.

        The seconds before and after it, on which nothing was decided, are not labelled.

        Raises:
            ArtifactError: too few frames of the event.

        """
        sequence, notes = tracks.sequence, []
        begin_s, end_s = span_of(sequence)
        start_s = max(event.start_s - tracks.begin_s, begin_s)
        stop_s = min(event.end_s - tracks.begin_s, end_s)
        first, stop = frame_range(sequence, start_s, max(start_s, stop_s))
        if stop - first < self._dataset.min_frames:
            raise ArtifactError(
                f"too short: {stop - first} frames of the event have poses, fewer than "
                f"dataset.min_frames = {self._dataset.min_frames}"
            )
        if (lasted_s := event.end_s - event.start_s) - (stop_s - start_s) > _CUT_S:
            notes.append(f"poses of {stop_s - start_s:.1f} of its {lasted_s:.1f} s")
        if self._config.annotation.movement and sequence.poses.movement is None:
            notes.append("no movement was measured: no classifier of live detection needed it")
        is_event = record.verdict == "confirmed"
        label = known_as(event.class_name, self._dataset.classes) if is_event else self._normal
        return replace(
            record,
            state="done",
            label=label or self._normal,
            start_s=round(start_s, 6),
            stop_s=round(stop_s, 6),
            frames=len(sequence),
            notes=tuple(notes),
        )


def _comparable(settings: Settings) -> Settings:
    """Return what must be equal: that movement was measured is no difference of the poses."""
    stage1 = settings.get("stage1")
    kept = {key: value for key, value in settings.items() if key not in ("stage1", "scoring")}
    if isinstance(stage1, Mapping):
        kept["stage1"] = {key: value for key, value in stage1.items() if key != "movement"}
    return kept


def source_of(event: LiveEvent, events: Mapping[str, LiveEvent]) -> str:
    """Return the recording of an event, as a path: the camera and the local day.

    An event that continues another is of the day on which that began: midnight parts nothing.

    Args:
        event: the event.
        events: all events by id.

    """
    seen = {event.event_id}
    first = event
    while (before := events.get(first.continues or "")) and before.event_id not in seen:
        first = before
        seen.add(first.event_id)
    day = datetime.fromtimestamp(first.start_utc_s, UTC).astimezone().date()
    return f"{folder_name(event.camera)}/{day.isoformat()}"


def folder_name(camera: str) -> str:
    """Return a camera's name as a folder: unchanged, but for what no folder or table can hold."""
    if camera in {"", ".", ".."}:
        return camera.replace(".", "%2E") or "%"
    stripped = camera.strip()
    start = camera.index(stripped) if stripped else len(camera)
    stop = start + len(stripped)
    return "".join(
        quote(char, safe="")
        if char in "/\\%" or not char.isprintable() or not start <= i < stop
        else char
        for i, char in enumerate(camera)
    )
