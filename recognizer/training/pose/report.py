"""The report of a pose network's test: metrics, a summary, and pictures."""

import json
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from recognizer.draw import color_of, draw_skeleton
from recognizer.runs.figures import plain, save_figure
from recognizer.sdpose.evaluation import DETECTIONS, OVERLAP_IOU, ApMetrics, PoseScores
from recognizer.sequences import evenly_spaced
from recognizer.storage.artifacts import write_json, write_text
from recognizer.types import FloatArray, ImageArray

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from recognizer.runner.engine import Config as PoseConfig

METRICS, SUMMARY, SHEET = "metrics.json", "summary.txt", "skeletons.png"
SCHEMA, SCHEMA_VERSION = "recognizer.pose_report", 1
COLUMNS = ("AP", "AP50", "AP75", "AP(M)", "AP(L)", "AR")
_PICTURES = 8
_DRAWN_AT = 0.2  # the lowest score of a keypoint that CocoMetric counts in our configs
_CELL_HEIGHT_PX = 320

Row = Mapping[str, Any]


def write_report(cfg: "PoseConfig", scores: PoseScores, output: Path) -> str:
    """Write metrics.json, summary.txt and skeletons.png beside the detections; return the text."""
    from recognizer.runner.train_config import datasets

    dataset = datasets(cfg)["test"]
    images = Path(dataset.get("data_root") or "") / dataset.get("data_prefix", {}).get("img", "")
    truth = json.loads(Path(scores.metadata["annotations"]).read_bytes())
    predictions = json.loads((output / DETECTIONS).read_bytes())
    draw = partial(draw_sheet, truth=truth, predictions=predictions, images=images)
    save_figure(output / SHEET, output, draw)
    text = summarise(scores)
    write_text(output / SUMMARY, output, text)
    value = {"schema": SCHEMA, "schema_version": SCHEMA_VERSION, **scores.to_json()}
    write_json(output / METRICS, output, value)
    return text


# --- text --------------------------------------------------------------------------


def summarise(scores: PoseScores) -> str:
    """Return the summary text."""
    epoch = scores.metadata.get("epoch")
    after = "" if epoch is None else f", after epoch {epoch}"
    parts = {
        "all images": scores.every,
        "overlapping people": scores.overlapping,
        "other images": scores.others,
    }
    lines = [
        f"{scores.metadata['checkpoint']}{after}",
        f"on {scores.metadata['annotations']}",
        f"boxes: {scores.boxes}; flip test: {'yes' if scores.flip_test else 'no'}",
        "",
        f"{'':<20}{'images':>7}{'persons':>9}" + "".join(f"{name:>8}" for name in COLUMNS),
        *(_line(name, part) for name, part in parts.items()),
        "",
        f"overlapping people: two annotated boxes with an IoU above {OVERLAP_IOU}",
        "persons: those with labelled keypoints; -: nobody of that kind",
    ]
    return "\n".join(lines) + "\n"


def _line(name: str, part: ApMetrics) -> str:
    values = part.to_json()
    cells = "".join(f"{number(values[column]):>8}" for column in COLUMNS)
    return f"{name:<20}{part.images:>7}{part.persons:>9}{cells}"


def number(value: float | None, digits: int = 3) -> str:
    """Return a figure as text, ``-`` where there is none."""
    return "-" if value is None else f"{value:.{digits}f}"


# --- picture -----------------------------------------------------------------------


def draw_sheet(figure: "Figure", truth: Row, predictions: Sequence[Row], images: Path) -> None:
    """Draw some test images twice: with annotated and with predicted keypoints.

    Args:
        figure: matplotlib's.
        truth: the COCO annotations.
        predictions: the results, in COCO's form.
        images: the folder of the pictures.

    """
    annotated = _by_image(
        row
        for row in truth["annotations"]
        if not row.get("iscrowd") and any(row["keypoints"][2::3])
    )
    predicted = _by_image(predictions)
    chosen = evenly_spaced(sorted(annotated.keys() & predicted.keys()), _PICTURES)
    names = {row["id"]: row["file_name"] for row in truth["images"]}
    rows = max(1, -(-len(chosen) // 2))
    figure.set_size_inches(16, 0.6 + 2.9 * rows)
    grid = figure.subplots(rows, 2, squeeze=False).ravel()
    for axes in grid:
        axes.set_axis_off()
    for axes, image in zip(grid, chosen, strict=False):
        picture = cv2.imread(str(images / names[image]))
        if picture is None:
            raise ValueError(f"{images / names[image]}: expected a picture, it cannot be decoded")
        true, people = _keypoints(annotated[image]), _keypoints(predicted[image])
        parts = (true, range(len(true))), (people, _nearest(true, people))
        pair = [_people(picture.astype(np.uint8), *part) for part in parts]
        gap = np.full((_CELL_HEIGHT_PX, 6, 3), 255, np.uint8)
        joined = np.hstack([pair[0], gap, pair[1]])
        axes.imshow(joined[..., ::-1], interpolation="antialiased")
        count = f"{len(annotated[image])} annotated, {len(predicted[image])} found"
        axes.set_title(f"{plain(names[image])}: {count}", loc="left", fontsize=10)
    if not chosen:
        grid[0].text(0.5, 0.5, "nobody was found", ha="center")
    figure.suptitle(f"left: annotated; right: found (keypoints scored {_DRAWN_AT} or more)")


def _by_image(rows: Iterable[Row]) -> dict[int, list[Row]]:
    grouped: dict[int, list[Row]] = {}
    for row in rows:
        grouped.setdefault(row["image_id"], []).append(row)
    return grouped


def _keypoints(rows: Sequence[Row]) -> FloatArray:  # (P, 17, 3): x, y, visibility or score
    return np.array([row["keypoints"] for row in rows], np.float32).reshape(-1, 17, 3)


def _nearest(true: FloatArray, predicted: FloatArray) -> Sequence[int]:
    """Return for each predicted person the nearest annotated one, for the same colour."""
    apart = np.linalg.norm(predicted[:, None, :, :2] - true[None, :, :, :2], axis=-1)  # (F, P, 17)
    labelled = (true[..., 2] > 0)[None]  # at least one of each person is
    nearest: list[int] = ((apart * labelled).sum(-1) / labelled.sum(-1)).argmin(1).tolist()
    return nearest


def _people(picture: ImageArray, people: FloatArray, colors: Sequence[int]) -> ImageArray:
    """Return the picture in the sheet's height with all skeletons."""
    scale = _CELL_HEIGHT_PX / picture.shape[0]
    size = max(1, round(picture.shape[1] * scale)), _CELL_HEIGHT_PX
    canvas = np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), np.uint8)
    for values, color in zip(people, colors, strict=True):
        canvas = draw_skeleton(
            canvas, values[:, :2] * scale, values[:, 2], color_of(color), _DRAWN_AT
        )
    return canvas
