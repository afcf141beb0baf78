"""Detected boxes (bbox_file): that they are of the annotated pictures and of people."""

import json

import pytest

from recognizer.sdpose.coco import validate_coco
from recognizer.sdpose.pictures import ImageChecks
from tests.sdpose.labels import KEYPOINTS, content, person
from tests.sdpose.picture_files import picture

from .small_coco import write_annotations


def box(**more):
    return {"image_id": 1, "category_id": 1, "bbox": [5, 5, 20, 30], "score": 0.9, **more}


@pytest.fixture
def look(tmp_path):
    (tmp_path / "val2017").mkdir()
    for name in "ab":
        (tmp_path / "val2017" / f"{name}.jpg").write_bytes(picture())

    def run(detections, number=1):
        images = [
            {"id": i, "file_name": f"{name}.jpg", "width": 60, "height": 40}
            for i, name in ((1, "a"), (2, "b"))
        ]
        categories = [{"id": number, "name": "person"}]
        one = person(category_id=number, keypoints=KEYPOINTS)
        write_annotations(tmp_path, "val", content(one, images=images, categories=categories))
        path = tmp_path / "boxes.json"
        text = detections if isinstance(detections, str) else json.dumps(detections)
        path.write_text(text, encoding="utf-8")
        annotations = tmp_path / "annotations" / "person_keypoints_val2017.json"
        return validate_coco(annotations, tmp_path / "val2017", ImageChecks(boxes=path)).warnings[
            1:
        ]

    return run


def test_good_boxes_pass(look):
    assert look([box(), box(image_id=2), box(bbox=[-3, 0, 20, 90])]) == ()


def test_what_is_left_out_is_reported(look):
    first, second = look([box(), box(category_id=3), box(category_id=18)])
    assert "2 of 3 detections are of other categories than 1, person, and are left out: 3" in first
    assert "1 of the annotated pictures have no detected person" in second


@pytest.mark.parametrize(
    ("detections", "message"),
    [
        ("", "the file is empty"),
        ([], "got an empty list"),
        ({"annotations": []}, "list of detections as COCO's results, got dict"),
        ([3], r"detections\[0\]: expected a detection as a dict, got 3"),
        ([box(image_id=9)], "image_id 9 is no image of the annotations"),
        ([box(image_id="1")], "image_id: expected a whole number, got '1'"),
        ([box(category_id=1.0)], "category_id: expected a whole number, got 1.0"),
        ([box(category_id=None)], "category_id: expected a whole number, got None"),
        ([box(category_id=0)] * 3, "of category 1, which mmpose takes for people, got only 3 of 0"),
        ([box(score=None)], "score: expected a number from 0 to 1, got None"),
        ([box(score=90)], "score: expected a number from 0 to 1, got 90"),
        ([box(bbox=[1, 2, 3])], "expected bbox as x, y, width, height"),
        ([box(bbox=None)], "expected bbox as x, y, width, height"),
        ([box(bbox=[1, 2, "3", 4])], "expected bbox as x, y, width, height"),
        ([box(bbox=[1, 2, 0, 4])], "a width and a height above 0"),
        ([box(bbox=[0.1, 0.2, 0.3, 0.4])] * 9, "reads like parts of the picture .*9 in all"),
        ([box(bbox=[900, 2, 30, 4])], "part of it inside the picture, .*60 x 40"),
    ],
)
def test_other_detections_are_refused(look, detections, message):
    with pytest.raises(ValueError, match=message) as caught:
        look(detections)
    assert "boxes.json" in str(caught.value)


def test_a_few_odd_boxes_are_warned_of(look):
    first, *_ = look([box()] * 40 + [box(bbox=[900, 2, 30, 4])])
    assert "detections[40]: bbox: expected part of it inside" in first


def test_people_of_another_category_would_match_nobody(look):
    with pytest.raises(ValueError, match="the annotations call person 7: nothing would match"):
        look([box()], number=7)


def test_pictures_that_only_the_boxes_name_are_looked_at(look, tmp_path):
    (tmp_path / "val2017" / "b.jpg").write_bytes(b"")
    look([box()])
    with pytest.raises(ValueError, match=r"b\.jpg: .* empty"):
        look([box(), box(image_id=2)])
