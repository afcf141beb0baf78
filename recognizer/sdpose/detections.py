"""Check detected boxes, by which people are cut out, against the annotated pictures."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from recognizer.sdpose.json_file import JsonObject, read_json
from recognizer.sdpose.problems import DatasetProblems, Problem, are_many

_LARGEST, _SOME_PX = 10**9, 32
_PERSON = 1  # the category that mmpose takes, whatever the annotations call it

_NO_DICT = "expected a detection as a dict, got {got}"
_WHOLE = {
    key: f"{key}: expected a whole number, got {{got}}" for key in ("image_id", "category_id")
}
_NO_IMAGE = (
    "image_id {got} is no image of the annotations; take the detections of this very data set"
)
_NO_BOX = "expected bbox as x, y, width, height in pixels, got {got}"
_FLAT = "bbox: expected a width and a height above 0, got {got}"
_NO_SCORE = "score: expected a number from 0 to 1, got {got}"
_AWAY = (
    "bbox: expected part of it inside the picture, got {got}; boxes are x, y, width, height in "
    "pixels of the annotated size"
)
_PARTS = "bbox: expected pixels, got {got}, which reads like parts of the picture (0 to 1)"


def check_detections(
    path: Path, images: Mapping[int, JsonObject], person_id: int
) -> tuple[frozenset[int], list[str]]:
    """Check a file of detected boxes; return the pictures that it names people in, and warnings.

    Args:
        path: a list of dicts with image_id, category_id, bbox and score.
        images: the annotated pictures by id.
        person_id: the category of people in the annotations.

    Raises:
        FileNotFoundError: no such file.
        ValueError: other pictures, other categories, boxes that are none, or no person.

    """
    if not path.is_file():
        raise FileNotFoundError(
            f"bbox_file: expected detected boxes at {path}, found none; None takes the annotated "
            "boxes"
        )
    rows = read_json(path)
    if not isinstance(rows, list) or not rows:
        got = "an empty list" if isinstance(rows, list) else type(rows).__name__
        raise ValueError(f"{path}: expected a list of detections as COCO's results, got {got}")
    problems, odd = DatasetProblems(), DatasetProblems()
    people: list[JsonObject] = []
    others: dict[int, int] = {}
    for number, row in enumerate(rows):
        if problem := _problem(row, images):
            problems.add(problem[0], f"detections[{number}]", problem[1])
        elif row["category_id"] == _PERSON:
            people.append(row)
            if problem := _odd_box(row["bbox"], images[row["image_id"]]):
                odd.add(problem[0], f"detections[{number}]", problem[1])
        else:
            others[row["category_id"]] = others.get(row["category_id"], 0) + 1
    if are_many(len(odd), len(people)):
        problems.merge(odd)
    problems.refuse(path)
    _check_category(path, len(people), others, person_id)
    warnings = [f"{path}: {line}" for line in odd.lines()]
    named = frozenset(row["image_id"] for row in people)
    return named, [*warnings, *_left_out(path, len(people), others, len(images) - len(named))]


def _problem(row: object, images: Mapping[int, JsonObject]) -> Problem | None:
    if not isinstance(row, dict):
        return _NO_DICT, row
    for key, kind in _WHOLE.items():
        if type(row.get(key)) is not int:
            return kind, f"{row.get(key)!r:.80}"
    image = images.get(row["image_id"])
    if image is None:
        return _NO_IMAGE, row["image_id"]
    box: Any = row.get("bbox")
    score: Any = row.get("score")
    if type(score) not in (int, float) or not 0 <= score <= 1:
        return _NO_SCORE, f"{score!r:.80}"
    numbers = isinstance(box, list) and all(type(x) in (int, float) for x in box)
    if not numbers or len(box) < len("xywh") or not all(abs(x) < _LARGEST for x in box):
        return _NO_BOX, box
    return None


def _odd_box(box: Sequence[float], image: JsonObject) -> Problem | None:
    """Return what is wrong with a box; mmpose takes every one."""
    size = image["width"], image["height"]
    if min(box[2:4]) <= 0:
        return _FLAT, box
    if max(box[:4]) <= 1 and min(size) > _SOME_PX:
        return _PARTS, box
    sides = zip(box[:2], box[2:4], size, strict=True)
    if any(min(start + length, end) <= max(start, 0) for start, length, end in sides):
        return _AWAY, f"{box} in one of {size[0]} x {size[1]} pixels"
    return None


def _check_category(path: Path, people: int, others: Mapping[int, int], person_id: int) -> None:
    if not people:
        listed = ", ".join(f"{count} of {number}" for number, count in sorted(others.items())[:5])
        raise ValueError(
            f"{path}: expected detections of category {_PERSON}, which mmpose takes for people, "
            f"got only {listed}; renumber the category of people"
        )
    if person_id != _PERSON:
        raise ValueError(
            f"{path}: mmpose gives people that it finds by detected boxes category {_PERSON}, but "
            f"the annotations call person {person_id}: nothing would match; renumber it"
        )


def _left_out(path: Path, people: int, others: Mapping[int, int], without: int) -> list[str]:
    warnings = []
    if others:
        count, listed = sum(others.values()), ", ".join(map(str, sorted(others)[:8]))
        warnings.append(
            f"{path}: {count} of {count + people} detections are of other categories than "
            f"{_PERSON}, person, and are left out: {listed}"
        )
    if without:
        warnings.append(f"{path}: {without} of the annotated pictures have no detected person")
    return warnings
