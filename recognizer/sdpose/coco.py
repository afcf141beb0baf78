"""COCO-format annotations, checked before a training.

mmpose finds a missing picture in the middle of an epoch, takes a file without keypoints for an
empty data set, and never asks whether names, categories and sizes are those of the data: here
every problem is found first, counted and named.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from recognizer.sdpose.categories import person_category
from recognizer.sdpose.detections import check_detections
from recognizer.sdpose.json_file import JsonObject, read_json
from recognizer.sdpose.pictures import ImageChecks, check_pictures
from recognizer.sdpose.plausibility import check_plausible
from recognizer.sdpose.problems import DatasetProblems, Problem
from recognizer.skeleton import NUM_KEYPOINTS

_LARGEST, _LARGEST_ID = 10**9, 10**15  # in pixels; ids of crowds are long
_LONGEST_SIDE = 10**6
_VISIBILITIES = (0, 1, 2)

# --- kinds of problems: what is expected, what came, what to do ---------------------------
_NO_FILE = "expected an id (a whole number) and a file_name, got {got}"
_LEAVES = "{got} would leave the folder of pictures; name files relative to it"
_NO_SIZE = "expected width and height in pixels, got {got}"
_TWICE = "the id {got} is there twice; give each its own"
_NO_KEYPOINTS = (
    "expected keypoints, found none; is this an instances_*.json? Take person_keypoints_*.json"
)
_NO_NUMBERS = "keypoints: expected numbers in pixels, got {got}"
_COUNT = (
    f"expected {NUM_KEYPOINTS} keypoints as x, y, visibility, got {{got}}; convert the annotations "
    "to COCO-17 first"
)
_VISIBILITY = (
    "keypoints: expected visibilities 0 (not labelled), 1 (hidden) or 2 (visible), got {got}; "
    "scores of a network are none"
)
_NO_BOX = f"expected bbox as x, y, width, height, below {_LARGEST}, got {{got}}"
_FLAT_BOX = (  # mmpose would silently leave this person out
    "bbox: expected a width and a height above 0, got {got}; give the person a box, or set its "
    "visibilities to 0"
)
_OUTSIDE = (  # mmpose cuts it off at the borders and leaves the person out
    "bbox: expected part of it inside the picture, got {got}; correct the box, or set the person's "
    "visibilities to 0"
)
_UNCOUNTED = (
    "expected num_keypoints and coordinates that fit the visibilities, got {got}, but keypoints "
    "marked as labelled; correct them, or set the person's visibilities to 0"
)
_CROWD = "iscrowd: expected 0 or 1, got {got}"
_WHOLE = {
    key: f"{key}: expected a whole number, got {{got}}"
    for key in ("id", "image_id", "category_id", "iscrowd")
}
_AREA = "area: expected a number above 0 (that of the box will do), got {got}"
_NO_IMAGE = "image_id {got} is no listed image; add it to images, or take the annotation out"
_NO_CATEGORY = "category_id {got} is no listed category; expected that of person"
_OTHER = (
    "expected annotations of people alone, got one of category {got}; mmpose trains on all of them "
    "as people and its metric needs keypoints of all: take the others out, or give them "
    "the category of person if they are people"
)


@dataclass(frozen=True)
class CocoSummary:
    """What a COCO annotation file holds.

    Attributes:
        images: pictures listed.
        persons: annotated persons that are not crowds.
        with_keypoints: those of them with at least one labelled keypoint: what is trained on.
        pictures: how many pictures those are in: what a one-stage network is trained on.
        warnings: what may or may not be wrong, a sentence each.

    """

    images: int
    persons: int
    with_keypoints: int
    warnings: tuple[str, ...] = ()
    pictures: int = 0


def validate_coco(
    ann_file: Path, image_dir: Path, checks: ImageChecks | None = None
) -> CocoSummary:
    """Check a COCO keypoint file and its pictures, and return its summary.

    Args:
        ann_file: such as ``annotations/person_keypoints_train2017.json``.
        image_dir: where its pictures are.
        checks: how pictures are checked.

    Raises:
        FileNotFoundError: the file, the folder, a picture or the detected boxes are not there.
        ValueError: not a COCO keypoint file of 17 keypoints, pictures that are not those of the
            annotations, or no person to train on.

    """
    if not ann_file.is_file():
        raise FileNotFoundError(
            f"expected COCO annotations at {ann_file}, found none; --set train.data_root=<folder "
            "with annotations/, train2017/ and val2017/>, or data_root in the config"
        )
    if not image_dir.is_dir():
        raise FileNotFoundError(f"expected the pictures of {ann_file.name} in {image_dir}/")
    checks = checks or ImageChecks()
    content, problems = read_coco(ann_file), DatasetProblems()
    category, warnings = person_category(content["categories"], ann_file)
    images = _images(content["images"], problems)
    people = _people(content, category, images, problems)
    problems.refuse(ann_file)
    labelled = [person for person in people if any(person["keypoints"][2::3])]
    if not labelled:
        raise ValueError(
            f"{ann_file}: expected persons with labelled keypoints, found {len(people)} persons "
            f"in {len(images)} images and none of them has any; this is nothing to train on or "
            "measure with"
        )
    warnings += [f"{ann_file}: {text}" for text in check_plausible(labelled, images, problems)]
    ids = {person["image_id"] for person in labelled}
    pictures = len(ids)
    if checks.boxes is not None:
        named, notes = check_detections(checks.boxes, images, category)
        ids |= named
        warnings += notes
    warnings += check_pictures([images[i] for i in sorted(ids)], image_dir, problems, checks)
    problems.refuse(ann_file)
    return CocoSummary(len(images), len(people), len(labelled), tuple(warnings), pictures)


def read_coco(path: Path) -> JsonObject:
    """Return a COCO file's content, with its three lists of dicts.

    Raises:
        ValueError: it is something else.

    """
    content = read_json(path)
    for key in ("images", "annotations", "categories"):
        rows = content.get(key) if isinstance(content, dict) else None
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise ValueError(
                f"{path}: expected a COCO file with a list of dicts {key!r}, found none"
            )
    return dict(content)


def _images(rows: Sequence[JsonObject], problems: DatasetProblems) -> dict[int, JsonObject]:
    images: dict[int, JsonObject] = {}
    for row, image in enumerate(rows):
        where, number, name = f"images[{row}]", image.get("id"), image.get("file_name")
        if type(number) is not int or not isinstance(name, str) or not name:
            problems.add(_NO_FILE, where, image)
        elif PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
            problems.add(_LEAVES, where, name)
        elif not all(_is_side(image.get(side)) for side in ("width", "height")):
            sizes = f"{image.get('width')!r:.30} and {image.get('height')!r:.30}"
            problems.add(_NO_SIZE, f"{where} ({name})", sizes)
        elif number in images:
            problems.add(_TWICE, where, number)
        if type(number) is int:
            images.setdefault(number, image)
    return images


def _people(
    content: JsonObject,
    category: int,
    images: Mapping[int, JsonObject],
    problems: DatasetProblems,
) -> list[JsonObject]:
    """Return the persons that are not crowds."""
    names = {
        row.get("id"): row.get("name")
        for row in content["categories"]
        if type(row.get("id")) is int
    }
    seen: set[int] = set()
    people = []
    for row, annotation in enumerate(content["annotations"]):
        problem = _annotation_problem(annotation, images)
        number = annotation.get("category_id")
        if problem is None and number != category and number not in names:
            problem = _NO_CATEGORY, number
        elif number != category and type(number) is int and _has_labels(annotation):
            problem = _OTHER, f"{names.get(number)!r} (id {number})"
        elif problem is None and annotation["id"] in seen:
            problem = _TWICE, annotation["id"]
        if problem is not None:
            problems.add(
                problem[0], f"annotations[{row}] (id {annotation.get('id')!r:.20})", problem[1]
            )
            continue
        seen.add(annotation["id"])
        if not annotation["iscrowd"] and number == category:
            people.append(annotation)
    return people


def _has_labels(annotation: JsonObject) -> bool:
    """Return whether an annotation of another category would count as a person, or fail."""
    keypoints = annotation.get("keypoints")
    return not isinstance(keypoints, list) or any(keypoints[2::3])


def _annotation_problem(annotation: JsonObject, images: Mapping[int, JsonObject]) -> Problem | None:
    """Return the first thing that is wrong with an annotation: its kind, and what came."""
    if "keypoints" not in annotation:
        return _NO_KEYPOINTS, ""
    keypoints = annotation["keypoints"]
    problem = _keypoint_problem(keypoints)
    if problem is not None:
        return problem
    used = any(keypoints[2::3]) and not annotation.get("iscrowd")
    return (
        _box_problem(annotation.get("bbox"), used=used)
        or _number_problem(annotation, used=used)
        or _count_problem(annotation, used=used)
        or _place_problem(annotation, images, used=used)
    )


def _keypoint_problem(keypoints: object) -> Problem | None:
    if isinstance(keypoints, list) and not _numbers(keypoints):
        return _NO_NUMBERS, next(value for value in keypoints if not _numbers([value]))
    if not isinstance(keypoints, list) or len(keypoints) != 3 * NUM_KEYPOINTS:
        return _COUNT, f"{len(keypoints) / 3:g}" if isinstance(
            keypoints, list
        ) else f"{keypoints!r:.80}"
    wrong = [value for value in keypoints[2::3] if value not in _VISIBILITIES]
    return (_VISIBILITY, wrong[0]) if wrong else None


def _box_problem(box: object, *, used: bool) -> Problem | None:
    if not isinstance(box, list) or not _numbers(box) or len(box) != 4:
        return _NO_BOX, box
    return (_FLAT_BOX, box) if used and min(box[2:]) <= 0 else None


def _number_problem(annotation: JsonObject, *, used: bool) -> Problem | None:
    for key, kind in _WHOLE.items():
        value = annotation.get(key)
        if type(value) is not int or abs(value) >= _LARGEST_ID:
            return kind, f"{value!r:.80}"
    area: Any = annotation.get("area")
    if not _numbers([area], _LARGEST_ID) or (used and area <= 0):
        return _AREA, f"{area!r:.80}"
    return None


def _count_problem(annotation: JsonObject, *, used: bool) -> Problem | None:
    """Refuse persons that mmpose would silently leave out."""
    labelled, keypoints = annotation.get("num_keypoints"), annotation["keypoints"]
    furthest = max(*keypoints[::3], *keypoints[1::3])
    if used and (labelled == 0 or furthest <= 0):
        return _UNCOUNTED, f"num_keypoints {labelled!r:.30} and nothing above {furthest}"
    crowd = annotation["iscrowd"]
    return (_CROWD, crowd) if crowd not in (0, 1) else None


def _place_problem(
    annotation: JsonObject, images: Mapping[int, JsonObject], *, used: bool
) -> Problem | None:
    image = images.get(annotation["image_id"])
    if image is None:
        return _NO_IMAGE, annotation["image_id"]
    last: list[Any] = [image.get("width"), image.get("height")]
    if not used or not all(map(_is_side, last)):
        return None
    box = annotation["bbox"]
    sides = zip(box[:2], box[2:], (last[0] - 1, last[1] - 1), strict=True)
    if any(min(start + length, end) <= max(start, 0) for start, length, end in sides):
        return _OUTSIDE, f"{box} in one of {last[0]} x {last[1]} pixels"
    return None


def _is_side(value: object) -> bool:
    return type(value) is int and 0 < value < _LONGEST_SIDE


def _numbers(value: object, most: int = _LARGEST) -> bool:
    return isinstance(value, list) and all(
        type(item) in (int, float) and abs(item) < most for item in value
    )
