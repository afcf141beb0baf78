"""The pages that show cameras and events, and what their scripts ask for."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from starlette.responses import FileResponse, JSONResponse, Response

from recognizer.live.events import LiveEvent
from recognizer.live.page import formats
from recognizer.live.page.filters import (
    UNREVIEWED,
    Fields,
    cursor_of,
    cursor_text,
    fields_of,
)
from recognizer.live.page.texts import Texts
from recognizer.live.page.timeline import plan, timeline
from recognizer.live.page.visit import RefusedError, Visit
from recognizer.live.store_reads import (
    Cursor,
    EventRow,
    Filter,
    count_events,
    list_events,
    list_gaps,
    list_near_misses,
    list_reviews,
    newer_event,
    read_event,
)
from recognizer.live.values import CameraState, CameraStatus
from recognizer.skeleton import EDGES
from recognizer.types import PoseSequence

PAGE_SIZE = 50
_AROUND_S, _MAX_AROUND = 120.0, 10
_MAX_PEOPLE = 100  # drawn in one picture


def cameras(visit: Visit) -> Response:
    """Show all cameras."""
    return visit.page(
        "cameras.html",
        place="cameras",
        cameras=visit.site.live.cameras(),
        skeleton_only=visit.site.config.skeleton_only,
        edges=skeleton_edges(),
    )


def skeleton_edges() -> str:
    """Return the pairs of keypoints that scripts join with lines."""
    return " ".join(f"{a},{b}" for a, b in EDGES)


def camera_states(visit: Visit) -> Response:
    """Return state and latest poses of all cameras, for the cameras' script."""
    t = visit.texts
    return JSONResponse(
        [
            _camera(camera, visit.site.live.latest(camera.name), t)
            for camera in visit.site.live.cameras()
        ]
    )


def _camera(camera: CameraStatus, poses: PoseSequence | None, t: Texts) -> dict[str, Any]:
    error = camera.last_error
    is_live = camera.state in {CameraState.STREAMING, CameraState.ENDED}
    return {
        "name": camera.name,
        "state": camera.state,
        "state_name": t.camera_states[camera.state],
        "fps": round(camera.fps, 1),
        "drops": camera.dropped,
        "reconnects": sum(camera.reconnects.values()),
        "age_s": camera.last_frame_age_s and round(camera.last_frame_age_s, 1),
        "last_error": error and {"text": t.camera_error(error.reason), "message": error.text},
        "size": camera.size_wh if poses is None else poses.size_wh,
        "people": _people(poses) if is_live and poses is not None and len(poses) else [],
    }


def _people(poses: PoseSequence) -> list[dict[str, Any]]:
    """Return the people of the last frame: ids, and x, y in pixels and score by keypoint."""
    frame = poses.frame(len(poses) - 1)
    points = np.concatenate([frame.keypoints, frame.keypoint_scores[..., None]], axis=2)
    points[~np.isfinite(points).all(axis=2)] = 0  # score 0: missing
    rows = np.round(points[:_MAX_PEOPLE].astype(np.float64), 2).tolist()
    ids = frame.track_ids[:_MAX_PEOPLE].tolist()
    return [{"id": one, "points": row} for one, row in zip(ids, rows, strict=True)]


def events(visit: Visit) -> Response:
    """List the events that the address asks for."""
    fields, chosen, after = asked(visit)
    page = list_events(visit.site.store.path, chosen, after, PAGE_SIZE)
    return visit.page(
        "events.html",
        place="events",
        fields=fields,
        rows=page.events,
        following=cursor_text(page.following),
        is_first=after is None,
        camera_names=_names(fields.camera, [c.name for c in visit.site.live.cameras()]),
        class_names=_names(fields.class_name, [n for n, _ in count_events(visit.site.store.path)]),
        unreviewed=UNREVIEWED,
        f=formats,
    )


def near_misses(visit: Visit) -> Response:
    """List what nearly was an event, and times without video."""
    path = visit.site.store.path
    return visit.page(
        "near_misses.html",
        place="near_misses",
        misses=list_near_misses(path, None, PAGE_SIZE),
        gaps=list_gaps(path, None, PAGE_SIZE),
        f=formats,
    )


def asked(visit: Visit) -> tuple[Fields, Filter, Cursor | None]:
    """Return the filter's fields, the filter, and the place in the list of an address.

    Raises:
        RefusedError: 400, fields that cannot be read.

    """
    query = visit.request.query_params
    try:
        fields = fields_of(query)
        return fields, fields.chosen(), cursor_of(query.get("after", ""))
    except ValueError as error:
        raise RefusedError(400, visit.texts.bad_request) from error


def _names(chosen: str, found: Sequence[str]) -> list[str]:
    return sorted({*found, *([chosen] if chosen else [])})


def event(visit: Visit) -> Response:
    """Show an event: timeline, people, clip, why it is one, and what was decided."""
    one = event_of(visit)
    fields, chosen, _ = asked(visit)
    here, path = Cursor(one.start_utc_s, one.event_id), visit.site.store.path
    older = list_events(path, chosen, here, 1).events
    newer = newer_event(path, chosen, here)
    rules = visit.site.rules.rules_for(one.camera, one.class_name)
    sizes = {camera.name: camera.size_wh for camera in visit.site.live.cameras()}
    reviews = list_reviews(path, one.event_id)
    return visit.page(
        "event.html",
        place="events",
        event=one,
        fields=fields,
        older=older[0].event_id if older else None,
        newer=newer,
        verdict=reviews[-1].verdict if reviews else None,
        reviews=reviews,
        timeline=timeline(one, rules.enter, rules.leave),
        plan=plan(one, sizes.get(one.camera)),
        enter=rules.enter,
        leave=rules.leave,
        reasons=_reasons(visit, one, rules.enter),
        around=_around(visit, one),
        has_clip=_clip(visit, one.event_id) is not None,
        f=formats,
    )


def event_of(visit: Visit) -> LiveEvent:
    """Return the event that the address names.

    Raises:
        RefusedError: 404, there is none.

    """
    event_id = str(visit.request.path_params["event_id"])
    try:
        event_id.encode("utf-8")
        return read_event(visit.site.store.path, event_id)
    except (KeyError, UnicodeError) as error:
        raise RefusedError(404, visit.texts.not_found) from error


def _reasons(visit: Visit, one: LiveEvent, enter: float) -> list[str]:
    """Return sentences on why the windows became an event, and why it ended."""
    t = visit.texts
    above = sum(value >= enter for _, value in one.probabilities)
    reasons = [
        t.why_peak.format(
            name=t.named(t.classes, one.class_name),
            peak=formats.probability(one.peak_probability),
            seconds=formats.number(one.peak_s),
        ),
        t.why_windows.format(
            above=above, count=len(one.probabilities), enter=formats.probability(enter)
        ),
    ]
    if one.stream is not None:
        reasons.append(t.why_stream.format(stream=t.named(t.stream_names, one.stream)))
    if one.muted:
        reasons.append(t.why_muted)
    if one.continues is not None:
        reasons.append(t.why_continues)
    reasons.append(t.why_open if one.closed_by is None else t.closings[one.closed_by])
    return reasons


def _around(visit: Visit, one: LiveEvent) -> list[EventRow]:
    near = Filter(
        camera=one.camera,
        from_utc_s=one.start_utc_s - _AROUND_S,
        until_utc_s=one.end_utc_s + _AROUND_S,
    )
    rows = list_events(visit.site.store.path, near, None, _MAX_AROUND + 1).events
    return [row for row in rows if row.event_id != one.event_id][:_MAX_AROUND]


def _clip(visit: Visit, event_id: str) -> Path | None:
    path = visit.site.live.clip(event_id)
    return path if path is not None and path.is_file() else None


def clip(visit: Visit) -> Response:
    """Send the clip of an event."""
    one = event_of(visit)
    path = _clip(visit, one.event_id)
    if path is None:
        raise RefusedError(404, visit.texts.no_clip)
    kind = "attachment" if "download" in visit.request.query_params else "inline"
    return FileResponse(path, filename=path.name, content_disposition_type=kind)
