"""The page on which administrators draw zones."""

import json
import time
from dataclasses import dataclass
from typing import get_args

from pydantic import ValidationError
from starlette.responses import RedirectResponse, Response

from recognizer.config.zones import PolygonError
from recognizer.live.drawn_zones import ZoneLimitError, checked_zone
from recognizer.live.page import formats
from recognizer.live.page.auth import LOCAL_USER
from recognizer.live.page.views import skeleton_edges
from recognizer.live.page.visit import RefusedError, Visit, quoted
from recognizer.live.values import CameraStatus
from recognizer.live.zones import Kind


@dataclass(frozen=True, slots=True)
class Draft:
    """Fields of the form; ``zone`` is the id of the zone that is changed, empty for a new one."""

    zone: str = ""
    name: str = ""
    kind: str = "include"
    polygon: str = "[]"


def zones_page(visit: Visit) -> Response:
    """Show a camera's zones to an administrator; without a camera in the address, the first's."""
    cameras = visit.site.live.cameras()
    name = visit.request.query_params.get("camera")
    if name is None and not cameras:
        return _page(visit, None, Draft(), None)
    return _page(visit, cameras[0] if name is None else _camera(visit, name), Draft(), None)


def _page(visit: Visit, camera: CameraStatus | None, draft: Draft, problem: str | None) -> Response:
    book = visit.site.zones
    width, height = (camera.size_wh if camera else None) or (640, 360)
    return visit.page(
        "zones.html",
        200 if problem is None else 400,
        place="zones",
        cameras=visit.site.live.cameras(),
        camera=camera,
        width=width,
        height=height,
        configured=book.configured(camera.name) if camera else (),
        drawn=book.drawn(camera.name) if camera else (),
        kinds=get_args(Kind),
        draft=draft,
        problem=problem,
        has_still=not visit.site.config.skeleton_only,
        edges=skeleton_edges(),
        as_json=json.dumps,
        f=formats,
    )


def change_zone(visit: Visit) -> Response:
    """Add, change or remove a zone; what is wrong is shown beside the form."""
    camera = _camera(visit, visit.form.get("camera", ""))
    try:
        _change(visit, camera.name)
    except KeyError:
        problem = "gone"
    except ZoneLimitError:
        problem = "limit"
    except ValidationError as error:
        problem = _problem(error)
    else:
        return RedirectResponse(f"/zones?camera={quoted(camera.name)}", 303)
    form = visit.form
    draft = Draft(
        form.get("zone", ""), form.get("name", ""), form.get("kind", ""), form.get("polygon", "[]")
    )
    return _page(visit, camera, draft, visit.texts.zone_problems[problem])


def _change(visit: Visit, camera: str) -> None:
    book, form = visit.site.zones, visit.form
    author, now_s = (visit.user or LOCAL_USER).name, time.time()
    zone_id = form.get("zone", "")
    if "remove" in form:
        book.remove(zone_id, camera, author, now_s)
        return
    zone = checked_zone(form.get("name", "").strip(), form.get("kind", ""), form.get("polygon", ""))
    if zone_id:
        book.change(zone_id, camera, zone, author, now_s)
    else:
        book.add(camera, zone, author, now_s)


def _problem(error: ValidationError) -> str:
    """Return what is wrong first: the name, the kind, or something about the corners."""
    first = error.errors()[0]
    field = str(first["loc"][0])
    if field != "polygon":
        return field
    cause = first.get("ctx", {}).get("error")
    return cause.problem if isinstance(cause, PolygonError) else "range"


def still(visit: Visit) -> Response:
    """Send a camera's last frame, where the config permits pictures."""
    camera = _camera(visit, visit.request.query_params.get("camera", ""))
    hidden = visit.site.config.skeleton_only
    picture = None if hidden else visit.site.live.still(camera.name)
    if picture is None:
        raise RefusedError(404, visit.texts.not_found)
    return Response(picture, media_type="image/jpeg")


def _camera(visit: Visit, name: str) -> CameraStatus:
    for camera in visit.site.live.cameras():
        if camera.name == name:
            return camera
    raise RefusedError(404, visit.texts.not_found)
