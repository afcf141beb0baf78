"""A contact sheet of labelled pictures: what a small network would learn, to look at first."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from annotation.distill_video import IMAGES
from recognizer.draw import draw_caption, draw_people
from recognizer.sequences import evenly_spaced
from recognizer.storage.artifacts import atomic_path
from recognizer.types import ImageArray, Poses

SHEET = "contact_sheet.png"
_PICTURES, _COLUMNS = 24, 4
_CELL_WH = (480, 360)
_LEGEND_HEIGHT = 24
_LEGEND = (
    "box and skeleton: a label; box alone: a person, pose unknown; hatched: ignored in training"
)
JsonObject = dict[str, Any]


def write_sheet(folder: Path, pictures: Mapping[str, Sequence[JsonObject]]) -> None:
    """Draw some pictures with boxes and keypoints, spread over all videos.

    Ignore regions are hatched; people without keypoints are boxes alone.

    Args:
        folder: the data set's.
        pictures: by video, as ``VideoLabeller`` makes them.

    """
    chosen = _choose(pictures)
    if not chosen:
        (folder / SHEET).unlink(missing_ok=True)
        return
    cells = [_cell(folder, video, picture) for video, picture in chosen]
    columns = min(_COLUMNS, max(2, len(cells)))
    cells += [np.zeros_like(cells[0])] * (-len(cells) % columns)
    rows = [np.hstack(cells[i : i + columns]) for i in range(0, len(cells), columns)]
    legend = np.zeros((_LEGEND_HEIGHT, rows[0].shape[1], 3), np.uint8)
    rows.append(draw_caption(legend, _LEGEND))
    with atomic_path(folder / SHEET, folder) as scratch:
        scratch.write_bytes(cv2.imencode(".png", np.vstack(rows))[1].data)


def _choose(pictures: Mapping[str, Sequence[JsonObject]]) -> list[tuple[str, JsonObject]]:
    """Return pictures with people in them, those of all videos in turn."""
    labelled = [
        (video, picture)
        for video in sorted(pictures)
        for picture in pictures[video]
        if picture["annotations"]
    ]
    return evenly_spaced(labelled, _PICTURES)


def _cell(folder: Path, video: str, picture: JsonObject) -> ImageArray:
    """Return a picture with its labels, fitted into a cell."""
    bgr = cv2.imread(str(folder / IMAGES / picture["file_name"]))
    cell = np.zeros((_CELL_WH[1], _CELL_WH[0], 3), np.uint8)
    if bgr is None:
        return draw_caption(cell, f"{video}: {picture['file_name']} is missing")
    scale = min(_CELL_WH[0] / bgr.shape[1], _CELL_WH[1] / bgr.shape[0])
    wh = (max(1, round(bgr.shape[1] * scale)), max(1, round(bgr.shape[0] * scale)))
    small = cv2.resize(bgr, wh, interpolation=cv2.INTER_AREA)
    ignored = [one for one in picture["annotations"] if one["iscrowd"]]
    people = [one for one in picture["annotations"] if not one["iscrowd"]]
    hatched = _hatch(np.asarray(small, np.uint8), ignored, scale)
    drawn = draw_people(hatched, _poses(people, scale))
    cell[: wh[1], : wh[0]] = draw_caption(drawn, f"{video}  {picture['time_s']:.1f} s")
    return cell


def _poses(people: Sequence[JsonObject], scale: float) -> Poses:
    boxes = np.array([p["bbox"] for p in people], np.float32).reshape(-1, 4) * np.float32(scale)
    boxes[:, 2:] += boxes[:, :2]
    keypoints = np.array([p["keypoints"] for p in people], np.float32).reshape(-1, 17, 3)
    scores = (keypoints[..., 2] > 0).astype(np.float32)
    poses = Poses.untracked(
        keypoints[..., :2] * np.float32(scale), scores, boxes, np.ones(len(people), np.float32)
    )
    return poses.with_ids(np.arange(len(people), dtype=np.int64))


def _hatch(image: ImageArray, regions: Sequence[JsonObject], scale: float) -> ImageArray:
    """Return the image with diagonal stripes over the ignore regions."""
    canvas = image.copy()
    rows, columns = np.indices(canvas.shape[:2])
    stripes = (rows + columns) % 8 < 2
    for region in regions:
        x, y, width, height = (round(value * scale) for value in region["bbox"])
        part = np.s_[y : y + height, x : x + width]
        canvas[part][stripes[part]] = (40, 40, 230)
        cv2.rectangle(canvas, (x, y), (x + width, y + height), (40, 40, 230), 1)
    return canvas
