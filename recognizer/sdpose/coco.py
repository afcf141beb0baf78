"""COCO-format annotations, looked at before anything is trained on them.

mmpose finds a missing picture in the middle of an epoch and takes a file without keypoints for
an empty data set; here every fault is found first and named.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from recognizer.skeleton import NUM_KEYPOINTS

_NAMED = 5  # of many equal faults, how many a message names
_LARGEST, _LARGEST_ID = 10**9, 10**15  # in pixels; ids of crowds are long
_LONGEST_SIDE = 10**6


@dataclass(frozen=True)
class CocoFacts:
    """What a COCO annotation file holds.

    Attributes:
        images: pictures listed.
        persons: annotated persons that are not crowds.
        with_keypoints: those of them with at least one labelled keypoint: what is trained on.

    """

    images: int
    persons: int
    with_keypoints: int


def examine(ann_file: Path, image_dir: Path) -> CocoFacts:
    """Read a COCO keypoint file and say what it holds.

    Args:
        ann_file: such as ``annotations/person_keypoints_train2017.json``.
        image_dir: where its pictures are.

    Raises:
        FileNotFoundError: the file, the folder or a picture is not there.
        ValueError: not a COCO keypoint file of 17 keypoints, or nobody in it to train on.

    """
    if not ann_file.is_file():
        raise FileNotFoundError(
            f"expected COCO annotations at {ann_file}, found none; --set train.data_root=<folder "
            "with annotations/, train2017/ and val2017/>, or data_root in the config"
        )
    if not image_dir.is_dir():
        raise FileNotFoundError(f"expected the pictures of {ann_file.name} in {image_dir}/")
    content = _content(ann_file)
    _check_categories(content["categories"], ann_file)
    files = _files(content["images"], ann_file)
    persons = [_person(a, i, files, ann_file) for i, a in enumerate(content["annotations"])]
    _check_ids(persons, ann_file)
    _check_inside(content["images"], persons, ann_file)
    persons = [person for person in persons if not person.get("iscrowd")]
    labelled = [person for person in persons if any(person["keypoints"][2::3])]
    if not labelled:
        raise ValueError(
            f"{ann_file}: expected persons with labelled keypoints, found {len(persons)} persons "
            f"in {len(files)} images and none of them has any; this is nothing to train on or "
            "measure with"
        )
    _check_pictures({files[p["image_id"]] for p in labelled}, image_dir, ann_file)
    return CocoFacts(len(files), len(persons), len(labelled))


def _content(path: Path) -> Mapping[str, Any]:
    try:
        content = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: not JSON: {str(error)[:200]}") from error
    for key in ("images", "annotations", "categories"):
        rows = content.get(key) if isinstance(content, dict) else None
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise ValueError(
                f"{path}: expected a COCO file with a list of dicts {key!r}, found none"
            )
    return dict(content)


def _check_categories(categories: Sequence[Mapping[str, Any]], path: Path) -> None:
    named = [category for category in categories if category.get("name") == "person"]
    if not named or type(named[0].get("id")) is not int:
        raise ValueError(f"{path}: expected a category named person, with an id, found none")
    keypoints = named[0].get("keypoints")
    if keypoints is None:
        return  # some tools leave the names out; the annotations are checked one by one
    if not isinstance(keypoints, list) or len(keypoints) != NUM_KEYPOINTS:
        count = len(keypoints) if isinstance(keypoints, list) else repr(keypoints)[:40]
        raise ValueError(
            f"{path}: expected the {NUM_KEYPOINTS} keypoints of COCO in category person, got "
            f"{count}; convert the annotations to COCO-17 first"
        )


def _files(images: Sequence[Mapping[str, Any]], path: Path) -> dict[int, str]:
    files: dict[int, str] = {}
    for row, image in enumerate(images):
        number, name = image.get("id"), image.get("file_name")
        if type(number) is not int or not isinstance(name, str) or not name:
            raise ValueError(
                f"{path}: images[{row}]: expected an id and a file_name, got {image!r:.200}"
            )
        if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
            raise ValueError(f"{path}: images[{row}]: {name!r} would leave the folder of pictures")
        if not all(_size(image.get(side)) for side in ("width", "height")):
            raise ValueError(
                f"{path}: images[{row}]: {name}: expected width and height in pixels, got "
                f"{image.get('width')!r:.40} and {image.get('height')!r:.40}"
            )
        if number in files:
            raise ValueError(f"{path}: images[{row}]: the id {number} is there twice")
        files[number] = name
    return files


def _person(
    annotation: Mapping[str, Any], row: int, files: Mapping[int, str], path: Path
) -> Mapping[str, Any]:
    where = f"{path}: annotations[{row}]"
    if "keypoints" not in annotation:
        raise ValueError(
            f"{where}: expected keypoints, found none; is this an instances_*.json? Take "
            "person_keypoints_*.json"
        )
    keypoints = annotation["keypoints"]
    if isinstance(keypoints, list) and not _numbers(keypoints):
        wrong = next(value for value in keypoints if not _numbers([value]))
        raise ValueError(f"{where}: keypoints: expected numbers in pixels, got {wrong!r:.80}")
    if not isinstance(keypoints, list) or len(keypoints) != 3 * NUM_KEYPOINTS:
        count = f"{len(keypoints) / 3:g}" if isinstance(keypoints, list) else repr(keypoints)[:40]
        raise ValueError(
            f"{where}: expected {NUM_KEYPOINTS} keypoints as x, y, visibility, got {count}; "
            "convert the annotations to COCO-17 first"
        )
    used = any(keypoints[2::3]) and not annotation.get("iscrowd")
    _check_box(annotation.get("bbox"), where, used=used)
    _check_counted(annotation, where, used=used)
    for key in ("id", "image_id", "category_id", "iscrowd", "area"):
        whole = key != "area"
        if not _numbers([annotation.get(key)], _LARGEST_ID) or (
            whole and type(annotation[key]) is not int
        ):
            expected = "a whole number" if whole else "a number (that of the box will do)"
            raise ValueError(
                f"{where}: {key}: expected {expected}, got {annotation.get(key)!r:.80}"
            )
    if annotation["image_id"] not in files:
        raise ValueError(f"{where}: image_id {annotation['image_id']} is no listed image")
    return annotation


def _check_counted(annotation: Mapping[str, Any], where: str, *, used: bool) -> None:
    """Refuse whom mmpose would leave out and not say so."""
    labelled, keypoints = annotation.get("num_keypoints"), annotation["keypoints"]
    furthest = max(*keypoints[::3], *keypoints[1::3])
    if used and (labelled == 0 or furthest <= 0):
        raise ValueError(
            f"{where}: expected num_keypoints and coordinates that fit the visibilities, got "
            f"num_keypoints {labelled!r:.40} and nothing above {furthest}, but keypoints marked "
            "as labelled; correct them, or set the person's visibilities to 0"
        )
    crowd = annotation.get("iscrowd")
    if type(crowd) is int and crowd not in (0, 1):
        raise ValueError(f"{where}: iscrowd: expected 0 or 1, got {crowd}")


def _check_box(box: Any, where: str, *, used: bool) -> None:
    if not isinstance(box, list) or not _numbers(box) or len(box) != 4:
        raise ValueError(
            f"{where}: expected bbox as x, y, width, height, below {_LARGEST}, got {box!r:.80}"
        )
    if used and min(box[2:]) <= 0:  # mmpose would leave this person out and not say so
        raise ValueError(
            f"{where}: bbox: expected a width and a height above 0, got {box!r:.80}; give the "
            "person a box, or set its visibilities to 0"
        )


def _check_inside(
    images: Sequence[Mapping[str, Any]], persons: Sequence[Mapping[str, Any]], path: Path
) -> None:
    """Refuse a box that mmpose, which cuts it off at the borders, would leave out unsaid."""
    last = {image["id"]: (image["width"] - 1, image["height"] - 1) for image in images}
    for row, person in enumerate(persons):
        if person.get("iscrowd") or not any(person["keypoints"][2::3]):
            continue
        sides = zip(person["bbox"][:2], person["bbox"][2:], last[person["image_id"]], strict=True)
        if any(min(start + length, end) <= max(start, 0) for start, length, end in sides):
            width, height = (side + 1 for side in last[person["image_id"]])
            raise ValueError(
                f"{path}: annotations[{row}]: bbox: expected part of it inside the picture of "
                f"{width} x {height} pixels, got {person['bbox']!r:.80}; correct the box, or set "
                "the person's visibilities to 0"
            )


def _check_ids(persons: Sequence[Mapping[str, Any]], path: Path) -> None:
    seen: set[int] = set()
    for row, person in enumerate(persons):
        if person["id"] in seen:
            raise ValueError(f"{path}: annotations[{row}]: the id {person['id']} is there twice")
        seen.add(person["id"])


def _size(value: Any) -> bool:
    return type(value) is int and 0 < value < _LONGEST_SIDE


def _numbers(value: Any, most: int = _LARGEST) -> bool:
    return isinstance(value, list) and all(
        type(item) in (int, float) and abs(item) < most for item in value
    )


def _check_pictures(names: set[str], folder: Path, ann_file: Path) -> None:
    missing = sorted(name for name in names if not (folder / name).is_file())
    if missing:
        raise FileNotFoundError(
            f"{folder}: {len(missing)} of {len(names)} pictures that {ann_file.name} names are not "
            f"there, such as {', '.join(missing[:_NAMED])}"
        )
