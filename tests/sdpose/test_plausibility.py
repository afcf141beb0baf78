"""Annotations that are well formed and cannot be right: many are refused, few warned of."""

import json
from functools import partial

import pytest

from recognizer.sdpose.coco import validate_coco
from recognizer.sdpose.problems import DatasetProblems
from tests.sdpose.labels import content, person

from .small_coco import ASSETS, examine_beside_a_picture, needs_coco, write_annotations


def crowd(change, count=20, size=(200, 300)):
    """Return people of whom ``change`` makes the keypoints and box."""
    people = []
    for number in range(count):
        x, y = 20 + 5 * number, 40 + 6 * number
        box, points = change([x, y, 50, 80], [x + 20, y + 30, 2] * 17, number)
        people.append(person(number, bbox=box, keypoints=points, area=4000))
    image = {"id": 1, "file_name": "a.jpg", "width": size[0], "height": size[1]}
    return content(*people, images=[image])


def corners(box, points, number):
    return [box[0], box[1], box[0] + box[2], box[1] + box[3]], points


def in_parts(box, points, number):
    return [0.1, 0.1, 0.3, 0.3], [0.2, 0.2, 2] * 17


def shifted(box, points, number):
    return box, [150 - points[0], 10, 2] * 17


def off(box, points, number):
    return box, [5000, 20, 2] * 17


BOX, POINTS = [20, 40, 50, 80], [40, 70, 2] * 17


@pytest.fixture
def big(tmp_path):
    return partial(examine_beside_a_picture, tmp_path, size_wh=(200, 300))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (corners, "read like x1, y1, x2, y2"),
        (in_parts, "read like parts of the picture"),
        (shifted, "inside the person's bbox, .*20 in all"),
        (off, "labelled ones inside the picture"),
    ],
)
def test_what_most_people_have_is_refused(big, change, message):
    with pytest.raises(ValueError, match=message):
        big(crowd(change))


def test_what_few_people_have_is_warned_of(big):
    def change(box, points, number):
        return (off if number == 3 else lambda *given: given[:2])(box, points, number)

    summary = big(crowd(change))
    assert summary.with_keypoints == 20
    assert "annotation 3 (image 1): keypoints: expected labelled ones inside" in summary.warnings[0]
    assert "17 of 340 labelled keypoints lie outside" in summary.warnings[1]


@pytest.mark.parametrize(("odd", "persons"), [(1, 10), (1, 2), (5, 20), (5, 100)])
def test_a_few_odd_people_do_not_refuse_a_small_set(big, odd, persons):
    def change(box, points, number):
        return (box, points) if number >= odd else shifted(box, points, 0)

    summary = big(crowd(lambda box, points, number: change(BOX, POINTS, number), persons))
    assert any("inside the person's bbox" in text for text in summary.warnings)


def test_most_of_a_few_people_are_a_fault(big):
    with pytest.raises(ValueError, match="read like parts of the picture"):
        big(crowd(in_parts, 3))


def test_keypoints_that_are_not_there_but_labelled(big):
    summary = big(crowd(lambda box, points, number: (box, [0, 0, 2, *points[3:]])))
    (warning,) = [text for text in summary.warnings if "at 0, 0" in text]
    assert "train2017.json: 20 of 340 labelled keypoints are at 0, 0" in warning


def test_people_that_are_there_twice_are_warned_of(big):
    value = crowd(lambda box, points, number: (box, points), 7)
    value["annotations"] += [{**one, "id": one["id"] + 50} for one in value["annotations"]]
    (warning,) = big(value).warnings
    assert "train2017.json: annotation 50 (image 1): expected every person once" in warning
    assert "keypoints of annotation 0 again" in warning
    assert "7 in all; also annotation 51 (image 1)" in warning


@needs_coco
@pytest.mark.parametrize("split", ["train", "val"])
def test_boxes_by_their_center_are_refused(tmp_path, split):
    path = ASSETS / "annotations" / f"person_keypoints_{split}2017.json"
    value = json.loads(path.read_text(encoding="utf-8"))
    for one in value["annotations"]:
        x, y, width, height = one["bbox"]
        one["bbox"] = [x + width / 2, y + height / 2, width, height]
    write_annotations(tmp_path, split, value)
    (changed,) = (tmp_path / "annotations").iterdir()
    with pytest.raises(ValueError, match="read like center x, center y, width, height"):
        validate_coco(changed, ASSETS / f"{split}2017")


def test_boxes_that_cut_most_people_off_are_warned_of(big):
    def change(box, points, number):
        return [*box[:2], 25, 40], [*points[:-3], points[0] + 30, points[1] + 45, 2]

    assert any("20 of 20 boxes do not hold all" in text for text in big(crowd(change)).warnings)


def test_an_equal_kind_adds_up():
    faults, others = DatasetProblems(), DatasetProblems()
    for number in range(3):
        faults.add("odd", f"a{number}")
        others.add("odd", f"b{number}")
    others.add("worse", "c")
    faults.merge(others)
    assert faults.counts == {"odd": 6, "worse": 1}
    assert faults.lines() == ["a0: odd (6 in all; also a1, a2, b0, b1, ...)", "c: worse"]
    others.add("odd", "b3")
    assert len(faults) == 7
