"""Annotations that are looked at before training: what is counted, what is refused and how."""

import json

import pytest

from recognizer.sdpose.coco import CocoFacts, examine

from .small_coco import ASSETS, annotations, needs_coco, write_annotations, write_data

KEYPOINTS = [10, 20, 2] * 17


def person(number=1, image=1, **more):
    return {"id": number, "image_id": image, "category_id": 1, "iscrowd": 0, "area": 50,
            "bbox": [0, 0, 5, 10], "keypoints": KEYPOINTS, "num_keypoints": 17, **more}  # fmt: skip


def content(*persons, **more):
    return {
        "images": [{"id": 1, "file_name": "a.jpg", "width": 20, "height": 30}],
        "categories": [{"id": 1, "name": "person"}],
        "annotations": list(persons) or [person()],
        **more,
    }


@pytest.fixture
def look(tmp_path):
    """Write annotations beside one picture and examine them."""
    (tmp_path / "train2017").mkdir()
    (tmp_path / "train2017" / "a.jpg").touch()

    def examine_it(value):
        write_annotations(tmp_path, "train", value)
        path = tmp_path / "annotations" / "person_keypoints_train2017.json"
        return examine(path, tmp_path / "train2017")

    return examine_it


@needs_coco
def test_real_annotations_are_counted_as_they_are():
    facts = examine(
        ASSETS / "annotations" / "person_keypoints_train2017.json", ASSETS / "train2017"
    )
    raw = json.loads((ASSETS / "annotations" / "person_keypoints_train2017.json").read_text())
    persons = [p for p in raw["annotations"] if not p["iscrowd"]]
    trained = [p for p in persons if p["num_keypoints"]]
    assert facts == CocoFacts(len(raw["images"]), len(persons), len(trained))


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
                "type": "CocoDataset", "data_root": str(data), "ann_file": str(path),
                "data_prefix": {"img": "train2017/"}, "pipeline": [],
            }
        )  # fmt: skip
    assert examine(path, data / "train2017") == CocoFacts(8, 7, 6)
    assert len(dataset) == 6


def test_one_person_is_enough_and_crowds_do_not_count(look):
    crowd = person(900_100_184_613, iscrowd=1, keypoints=[0] * 51)
    unlabelled = person(3, keypoints=[0] * 51, bbox=[3, 3, 0, 0])
    assert look(content(person(), crowd, unlabelled)) == CocoFacts(1, 2, 1)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("", "not JSON"),
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
        (content(images=[{"id": "1", "file_name": "a.jpg"}]), "expected an id and a file_name"),
        (content(images=[{"id": 1}]), "expected an id and a file_name"),
        (content(images=[{"id": 1, "file_name": "../a.jpg", "width": 2, "height": 2}]), "leave"),
        (content(images=[{"id": 1, "file_name": "/a.jpg", "width": 2, "height": 2}]), "leave"),
        (content(images=[{"id": 1, "file_name": "a.jpg"}]), "width and height in pixels"),
        (content(images=[{"id": 1, "file_name": "a.jpg", "width": 1e999, "height": 2}]), "width"),
        (content(images=content()["images"] * 2), "the id 1 is there twice"),
        (content(person(), person()), r"annotations\[1\]: the id 1 is there twice"),
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
        (content(person(bbox=[3, 3, 0, 5])), r"annotations\[0\]: bbox: .* above 0, got"),
        (content(person(bbox=[3, 3, 5, -5])), "a width and a height above 0"),
        (content(person(bbox=[9000, 3, 5, 5])), r"annotations\[0\]: bbox: .* inside the picture"),
        (content(person(bbox=[3, -9, 5, 9])), "part of it inside the picture of"),
        (content({k: v for k, v in person().items() if k != "keypoints"}), "instances_"),
        (content(person(keypoints=[0] * 51)), "found 1 persons in 1 images and none"),
        (content(annotations=[]), "found 0 persons in 1 images"),
        (content(images=[], annotations=[]), "found 0 persons in 0 images"),
    ],
)
def test_what_is_no_keypoint_file_is_refused(look, value, said):
    with pytest.raises(ValueError, match=said) as caught:
        look(value)
    assert "person_keypoints_train2017.json" in str(caught.value)
    assert len(str(caught.value)) < 700


def test_what_is_not_there_is_named(look, tmp_path):
    path = tmp_path / "annotations" / "person_keypoints_train2017.json"
    with pytest.raises(FileNotFoundError, match=r"train\.data_root="):
        examine(path, tmp_path / "train2017")
    assert look(content()).persons == 1
    with pytest.raises(FileNotFoundError, match="expected the pictures of"):
        examine(path, tmp_path / "val2017")
    rows = [{**content()["images"][0], "id": i, "file_name": f"{i}.jpg"} for i in range(9)]
    people = [person(i, i) for i in range(9)]
    with pytest.raises(FileNotFoundError, match=r"9 of 9 pictures .* such as 0\.jpg, 1\.jpg") as e:
        look(content(*people, images=rows))
    assert "8.jpg" not in str(e.value)


def test_pictures_of_nobody_may_be_missing(look):
    empty = {"id": 2, "file_name": "none.jpg", "width": 20, "height": 30}
    assert look(content(images=[*content()["images"], empty])).images == 2
