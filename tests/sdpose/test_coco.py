"""Annotations that are looked at before training: what is counted, what is refused and how."""

import json
import re
import subprocess
import sys
from functools import partial

import pytest

from recognizer.sdpose.coco import CocoSummary, validate_coco
from tests.sdpose.labels import IMAGE, NAMES, content, person

from .small_coco import (
    ASSETS,
    annotations,
    examine_beside_a_picture,
    needs_coco,
    write_annotations,
    write_data,
)


@pytest.fixture
def look(tmp_path):
    return partial(examine_beside_a_picture, tmp_path, size_wh=(20, 30))


@needs_coco
def test_real_annotations_are_counted_as_they_are():
    summary = validate_coco(
        ASSETS / "annotations" / "person_keypoints_train2017.json", ASSETS / "train2017"
    )
    raw = json.loads((ASSETS / "annotations" / "person_keypoints_train2017.json").read_text())
    persons = [p for p in raw["annotations"] if not p["iscrowd"]]
    trained = [p for p in persons if p["num_keypoints"]]
    assert summary == CocoSummary(
        len(raw["images"]),
        len(persons),
        len(trained),
        pictures=len({p["image_id"] for p in trained}),
    )


@needs_coco
def test_what_is_counted_is_what_mmpose_trains_on(tmp_path):
    from recognizer.openmmlab import load_mmpose, scope

    load_mmpose()
    from mmpose.registry import DATASETS

    data = write_data(tmp_path)
    path = data / "annotations" / "person_keypoints_train2017.json"
    rows = annotations("train", 8)
    rows["annotations"][2].update(keypoints=[0] * 51, num_keypoints=0)
    rows["annotations"][3]["iscrowd"] = 1
    write_annotations(data, "train", rows)
    with scope("mmpose"):
        dataset = DATASETS.build(
            {
                "type": "CocoDataset",
                "data_root": str(data),
                "ann_file": str(path),
                "data_prefix": {"img": "train2017/"},
                "pipeline": [],
            }
        )
    assert validate_coco(path, data / "train2017") == CocoSummary(8, 7, 6, pictures=6)
    assert len(dataset) == 6


def test_one_person_is_enough_and_crowds_do_not_count(look):
    crowd = person(900_100_184_613, iscrowd=1, keypoints=[0] * 51)
    unlabelled = person(3, keypoints=[0] * 51, bbox=[3, 3, 0, 0])
    assert look(content(person(), crowd, unlabelled)) == CocoSummary(1, 2, 1, pictures=1)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("", "the file is empty"),
        ("<!DOCTYPE html><html>", "the file is an HTML or XML page"),
        ("version https://git-lfs.github.com/spec/v1", "git lfs pull"),
        ('{"images": [], "images": []}', "the key 'images' is there twice"),
        ("{", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("1" * 10_000, "not JSON"),
        ("[]", "list of dicts 'images'"),
        ("null", "list of dicts 'images'"),
        ({"images": {}}, "list of dicts 'images'"),
        ({"images": [], "annotations": [3], "categories": []}, "list of dicts 'annotations'"),
        (content(categories=[]), "a category named person"),
        (content(categories=[{"id": 1, "name": "person", "keypoints": ["nose"] * 16}]), "got 16"),
        (content(categories=[{"id": 1, "name": "person", "keypoints": 17}]), "got 17; convert"),
        (content(images=[{"id": "1", "file_name": "a.jpg"}]), "expected an id .* and a file_name"),
        (content(images=[{"id": 1}]), "expected an id .* and a file_name"),
        (
            content(images=[{**IMAGE, "file_name": "a\0.jpg"}]),
            "cannot be opened .ValueError: embedded null",
        ),
        (content(images=[{**IMAGE, "file_name": "\ud800.jpg"}]), "cannot be opened"),
        (
            content(images=[{**IMAGE, "file_name": "x" * 5000}]),
            "cannot be opened .OSError: .*too long",
        ),
        (content(images=[{"id": 1, "file_name": "../a.jpg", "width": 2, "height": 2}]), "leave"),
        (content(images=[{"id": 1, "file_name": "/a.jpg", "width": 2, "height": 2}]), "leave"),
        (content(images=[{"id": 1, "file_name": "a.jpg"}]), "width and height in pixels"),
        (content(images=[{"id": 1, "file_name": "a.jpg", "width": 1e999, "height": 2}]), "width"),
        (content(images=[{"id": True, "file_name": "a.jpg"}]), "an id .a whole number"),
        (content(images=content()["images"] * 2), r"images\[1\]: the id 1 is there twice"),
        (content(person(), person()), r"annotations\[1\] \(id 1\): the id 1 is there twice"),
        (content(person(image=9)), "image_id 9 is no listed image"),
        (content(person(image=[1])), "image_id: expected a whole number"),
        (content(person(number=1.5)), "id: expected a whole number"),
        (content(person(number=10**400)), "id: expected a whole number"),
        (content(person(area=None)), "area: expected a number"),
        (content(person(iscrowd="no")), "iscrowd: expected a whole number"),
        (content(person(iscrowd=2)), "iscrowd: expected 0 or 1, got 2"),
        (content(person(category_id=None)), "category_id: expected a whole number"),
        (content(categories=[{"name": "person"}]), "a category named person, with an id"),
        (content(person(num_keypoints=0)), "num_keypoints 0 and nothing above .* marked as"),
        (content(person(keypoints=[-1, 0, 2] * 17)), "fit the visibilities, .* nothing above 0"),
        (content(person(bbox=None)), "expected bbox"),
        (content(person(bbox=[0, 0, 5])), "expected bbox"),
        (content(person(bbox=[0, 0, float("nan"), 5])), "expected bbox"),
        (content(person(keypoints=[1, 1, 2] * 16)), "expected 17 keypoints .* got 16"),
        (content(person(keypoints="many")), "expected 17 keypoints"),
        (
            content(person(keypoints=[1, 1, float("inf")] * 17)),
            "expected numbers in pixels, got inf",
        ),
        (content(person(keypoints=[10**30, 1, 2] * 17)), "expected numbers in pixels, got 1000"),
        (content(person(bbox=[3, 3, 0, 5])), r"annotations\[0\] \(id 1\): bbox: .* above 0, got"),
        (content(person(bbox=[3, 3, 5, -5])), "a width and a height above 0"),
        (
            content(person(bbox=[9000, 3, 5, 5])),
            r"annotations\[0\] .*: bbox: .* inside the picture",
        ),
        (content(person(bbox=[3, -9, 5, 9])), r"part of it inside the picture, got .* 20 x 30"),
        (content({k: v for k, v in person().items() if k != "keypoints"}), "instances_"),
        (content(person(keypoints=[0] * 51)), "found 1 persons in 1 images and none"),
        (content(person(keypoints=[4, 8, 3] * 17)), "visibilities 0 .* got 3"),
        (content(person(keypoints=[4, 8, 0.87] * 17)), "visibilities 0 .* got 0.87"),
        (content(person(keypoints=[4, 8, -1] * 17)), "visibilities 0 .* got -1"),
        (content(person(area=0)), "area: expected a number above 0"),
        (content(person(number=True)), "id: expected a whole number, got True"),
        (content(person(image="1")), "image_id: expected a whole number, got '1'"),
        (content(person(category_id=7)), "category_id 7 is no listed category"),
        (content(annotations=[]), "found 0 persons in 1 images"),
        (content(images=[], annotations=[]), "found 0 persons in 0 images"),
    ],
)
def test_what_is_no_keypoint_file_is_refused(look, value, message):
    with pytest.raises(ValueError, match=message) as caught:
        look(value)
    assert "person_keypoints_train2017.json" in str(caught.value)
    assert len(str(caught.value)) < 700


def test_what_is_not_there_is_named(look, tmp_path):
    path = tmp_path / "annotations" / "person_keypoints_train2017.json"
    with pytest.raises(FileNotFoundError, match=r"train\.data_root="):
        validate_coco(path, tmp_path / "train2017")
    assert look(content()).persons == 1
    with pytest.raises(FileNotFoundError, match="expected the pictures of"):
        validate_coco(path, tmp_path / "val2017")
    rows = [{**content()["images"][0], "id": i, "file_name": f"{i}.jpg"} for i in range(9)]
    people = [person(i, i) for i in range(9)]
    with pytest.raises(
        FileNotFoundError, match=r"9 of 9 pictures .* there: 0\.jpg: .* also 1\.jpg"
    ) as e:
        look(content(*people, images=rows))
    assert "8.jpg" not in str(e.value)


def test_pictures_of_nobody_may_be_missing(look):
    empty = {"id": 2, "file_name": "none.jpg", "width": 20, "height": 30}
    assert look(content(images=[*content()["images"], empty])).images == 2


# --- names and categories ------------------------------------------------------------


def named(names, **more):
    return content(categories=[{"id": 1, "name": "person", "keypoints": names, **more}])


@pytest.mark.parametrize(
    "names",
    [
        [name.replace("_", " ").title() for name in NAMES],
        [name.title().replace("_", "") for name in NAMES],
        [name.replace("left_", "l_").replace("right_", "R-") for name in NAMES],
        ["_".join(reversed(name.split("_"))) for name in NAMES],
        [name.replace("_", "") for name in NAMES],
    ],
    ids=["blanks", "one word", "l and r", "side last", "no separator"],
)
def test_names_may_be_written_otherwise(look, names):
    assert look(named(names)) == CocoSummary(1, 1, 1, pictures=1)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (NAMES[::-1], "16 of 17 differ: number 1 is 'right_ankle', expected nose.*another order"),
        ([NAMES[0], NAMES[2], NAMES[1], *NAMES[3:]], "2 of 17 differ: .*in another order"),
        ([*NAMES[:16], "neck"], "number 17 is 'neck', expected right_ankle; if the keypoints are"),
        ([*NAMES[:16], NAMES[15]], "1 of 17 differ"),
        ([None] * 17, "17 of 17 differ"),
    ],
)
def test_other_names_and_another_order_are_refused(look, names, message):
    with pytest.raises(ValueError, match=message):
        look(named(names))


@pytest.mark.parametrize("names", [None, []])
def test_no_names_are_warned_of(look, names):
    (warning,) = look(named(names)).warnings
    assert "category person names no keypoints" in warning


def test_the_category_is_person_in_any_case(look):
    assert look(named(NAMES, name="Person ")).persons == 1


@pytest.mark.parametrize(
    ("categories", "message"),
    [
        ([{"id": 1, "name": "dog"}], "found none among 'dog'"),
        ([{"id": 1, "name": "person"}, {"id": 2, "name": "Person"}], "got 2 .ids 1, 2"),
        ([{"id": 1, "name": "person"}, {"id": 1, "name": "dog"}], "the id 1 of person is .* twice"),
        ([{"id": "1", "name": "person"}], "with an id .a whole number"),
    ],
)
def test_categories_that_are_not_one_person(look, categories, message):
    with pytest.raises(ValueError, match=message):
        look(content(categories=categories))


def test_annotations_of_other_categories(look):
    categories = [{"id": 1, "name": "person", "keypoints": NAMES}, {"id": 2, "name": "dog"}]
    dogs = [person(number, category_id=2) for number in range(2, 10)]
    with pytest.raises(ValueError, match=r"annotations\[1\] .id 2.: .*category 'dog'.*8 in all"):
        look(content(person(), *dogs, categories=categories))
    boxes = {key: value for key, value in dogs[0].items() if key != "keypoints"}
    with pytest.raises(ValueError, match="its metric needs keypoints of all"):
        look(content(person(), boxes, categories=categories))
    unlabelled = person(2, category_id=2, keypoints=[0] * 51, num_keypoints=0)
    assert look(content(person(), unlabelled, categories=categories)) == CocoSummary(
        1, 1, 1, pictures=1
    )


# --- many faults, encodings ----------------------------------------------------------


def test_equal_faults_are_counted_and_the_first_five_named(look):
    people = [person(number, bbox=None) for number in range(300)]
    with pytest.raises(ValueError, match=r"annotations\[0\] .id 0.: expected bbox") as caught:
        look(content(*people, person(900, area=None)))
    text = str(caught.value)
    assert "301 faults of 2 kinds" in text
    assert "300 in all" in text
    assert "annotations[4]" in text
    assert "annotations[5]" not in text
    assert "annotations[300] (id 900): area" in text


@pytest.mark.parametrize(
    ("encoding", "message"),
    [("utf-8-sig", "byte order mark"), ("utf-16", "got UTF-16"), ("utf-32", "got UTF-32")],
)
def test_other_encodings_are_named_and_the_remedy_mends_them(look, tmp_path, encoding, message):
    look(content())
    path = tmp_path / "annotations" / "person_keypoints_train2017.json"
    path.write_bytes(path.read_text(encoding="utf-8").encode(encoding))
    with pytest.raises(ValueError, match=message) as caught:
        validate_coco(path, tmp_path / "train2017")
    remedy = re.search(r'-c "(.*)"', str(caught.value))[1]
    subprocess.run([sys.executable, "-c", remedy], check=True)
    assert validate_coco(path, tmp_path / "train2017") == CocoSummary(1, 1, 1, pictures=1)


def test_latin_1_is_named(look, tmp_path):
    look(content())
    path = tmp_path / "annotations" / "person_keypoints_train2017.json"
    path.write_bytes(b'{"info": "caf\xe9"}')
    with pytest.raises(ValueError, match="byte 0xe9 at 13"):
        validate_coco(path, tmp_path / "train2017")
