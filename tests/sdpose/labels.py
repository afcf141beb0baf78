"""COCO annotations of one image, as JSON values."""

from typing import Any

from recognizer.skeleton import KEYPOINT_NAMES

KEYPOINTS = [4, 8, 2] * 17
NAMES = list(KEYPOINT_NAMES)
IMAGE = {"id": 1, "file_name": "a.jpg", "width": 20, "height": 30}


def person(number: int = 1, image: int = 1, **more: Any) -> dict[str, Any]:
    return {
        "id": number,
        "image_id": image,
        "category_id": 1,
        "iscrowd": 0,
        "area": 50,
        "bbox": [0, 0, 5, 10],
        "keypoints": KEYPOINTS,
        "num_keypoints": 17,
        **more,
    }


def content(*persons: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {
        "images": [IMAGE],
        "categories": [{"id": 1, "name": "person", "keypoints": NAMES}],
        "annotations": list(persons) or [person()],
        **more,
    }
