"""What the distillation measurement travels with: crops of people, their keypoints, augmentations.

    python -m benchmarks.gpu.fsd_data .gpu/data/fsd

Leeds Sports Pose Extended (research use: for this measurement only, nothing is shipped) and the
labelled people of a small COCO. LSPET labels no faces: PP-TinyPose adds the face points that it
is sure of, and is itself measured against the twelve true points. The augmentations of every
epoch are drawn here by mmpose's own transforms, as the training config lists them, and travel as
numbers: the device only warps pictures.
"""

import json
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from recognizer.skeleton import FLIP_INDEX

ROOT = Path(__file__).resolve().parents[2]
ASSETS = ROOT.parent / "shared" / "assets"
CONFIG = ROOT / "configs/body_2d_keypoint/sdpose/coco/sdpose_s_v1_stemnet_coco_256x192.py"
LONGEST = 256  # pixels of a crop's longer side, at most
SHRINK = 0.85  # of LSPET's pictures, to fit the budget; people are then 113 pixels high
QUALITY = 45  # of WebP
REACH = 0.9  # half a COCO crop's side, in heights of the padded box: room for scale and rotation
PADDING = 1.25
FACE = 5  # keypoints 0 to 4
EPOCHS = 24  # drawn; a longer training begins again with the first
WIDTH, HEIGHT = 192, 256  # of the network's input


@dataclass(frozen=True)
class Person:
    """A crop of one person; places are in pixels of the crop."""

    picture: Any  # (h, w, 3) uint8 BGR
    keypoints: Any  # (17, 2) float32
    visible: Any  # (17,) 0 or 1
    box: Any  # (4,) x1, y1, x2, y2
    area: float
    image: int
    origin: tuple[float, float, float, float]  # x, y of the crop in its image; its scale in x, y


def people(annotations: Path, pictures: Path, limit: int | None = None) -> Iterator[Person]:
    """Yield the labelled people of a COCO-format file; LSPET's pictures are crops already."""
    content = json.loads(annotations.read_text(encoding="utf-8"))
    files = {image["id"]: pictures / image["file_name"] for image in content["images"]}
    kept = [a for a in content["annotations"] if a["num_keypoints"] and not a["iscrowd"]]
    for each in kept[:limit]:
        image = cv2.imread(str(files[each["image_id"]]))
        if image is None:
            raise ValueError(f"{files[each['image_id']]}: expected a picture that can be read")
        yield crop_person(image, each)


def crop_person(image: Any, annotation: dict[str, Any]) -> Person:
    """Cut a person out of an image, with room for every augmentation, and shrink the crop."""
    height, width = image.shape[:2]
    x, y, w, h = annotation["bbox"]
    box = np.clip([x, y, x + w, y + h], 0, [width - 1, height - 1] * 2)  # as CocoDataset does
    tall = PADDING * max(box[3] - box[1], (box[2] - box[0]) * HEIGHT / WIDTH)
    centre = (box[:2] + box[2:]) / 2
    low = np.maximum(np.floor(centre - REACH * tall), 0).astype(int)
    high = np.minimum(np.ceil(centre + REACH * tall), [width, height]).astype(int)
    if max(width, height) <= LONGEST:
        low, high, scale = np.zeros(2, int), np.array([width, height]), SHRINK
    else:
        scale = min(1.0, LONGEST / int((high - low).max()))
    size = np.maximum(1, np.round((high - low) * scale)).astype(int)
    crop = image[low[1] : high[1], low[0] : high[0]]
    crop = cv2.resize(crop, (int(size[0]), int(size[1])), interpolation=cv2.INTER_AREA)
    ratio = size / (high - low)

    def move(places: Any) -> Any:
        return ((np.asarray(places) - low + 0.5) * ratio - 0.5).astype(np.float32)

    labelled = np.array(annotation["keypoints"], np.float32).reshape(-1, 3)
    visible = (labelled[:, 2] > 0).astype(np.float32)
    points = move(labelled[:, :2]) * visible[:, None]
    corners = move(box.reshape(2, 2)).ravel()
    area = float(annotation["area"] * ratio.prod())
    origin = (float(low[0]), float(low[1]), float(ratio[0]), float(ratio[1]))
    return Person(crop, points, visible, corners, area, annotation["image_id"], origin)


# --- the face, by a teacher --------------------------------------------------------------


def label(persons: list[Person]) -> tuple[Any, Any]:
    """Return PP-TinyPose's keypoints (N, 17, 2) and scores (N, 17) on the people's own boxes."""
    from recognizer.backends.onnx import OnnxNetwork
    from recognizer.config.file import load_config
    from recognizer.pose.detector import Boxes
    from recognizer.pose.topdown import TopDownPose
    from recognizer.video.array_image import ArrayImage

    pose = load_config(ROOT / "configs" / "config.yaml").models.pose_estimation
    settings = pose.topdown.model_copy(update={"decoding": "dark", "flip_test": True})
    network = OnnxNetwork(ASSETS / "weights" / "pp_tinypose_256x192.onnx", pose.onnx)
    teacher = TopDownPose(lambda _: [], network, settings)
    boxes = [Boxes(p.box[None].astype(np.float32), np.ones(1, np.float32)) for p in persons]
    points, scores = [], []
    for start in range(0, len(persons), 64):
        part = slice(start, start + 64)
        images = [ArrayImage(person.picture) for person in persons[part]]
        for found in teacher.with_boxes(images, boxes[part]):
            points.append(found.keypoints[0])
            scores.append(found.keypoint_scores[0])
    return np.stack(points), np.stack(scores)


def torso(keypoints: Any, visible: Any) -> Any:
    """Return left shoulder to right hip of each person (N,), NaN where one is not labelled."""
    length = np.linalg.norm(keypoints[:, 5] - keypoints[:, 12], axis=-1)
    return np.where((visible[:, 5] > 0) & (visible[:, 12] > 0) & (length > 0), length, np.nan)


def pck(found: Any, true: Any, visible: Any, share: float = 0.2) -> float:
    """Return the share of labelled keypoints that lie within 0.2 torsos of the truth."""
    limit = torso(true, visible)
    counted = (visible > 0) & np.isfinite(limit)[:, None]
    near = np.linalg.norm(found - true, axis=-1) <= share * limit[:, None]
    return float(near[counted].mean()) if counted.any() else float("nan")


# --- augmentations, by mmpose ----------------------------------------------------------------


def draw(persons: list[Any], seed: int) -> Any:
    """Return one epoch's draw, (N, 5) float32: mirrored, centre x, y, width, degrees.

    ``persons``: (keypoints, visible, box, (height, width)) each. Mirroring comes first: the
    centre is that in the mirrored crop. The region is 3 : 4, so that its width tells its height.
    """
    from mmpose.registry import TRANSFORMS

    from recognizer.openmmlab import scope
    from recognizer.sdpose.training import load_pose_config

    listed = load_pose_config(CONFIG).train_dataloader.dataset.pipeline
    names = ("GetBBoxCenterScale", "RandomFlip", "RandomHalfBody", "RandomBBoxTransform")
    with scope("mmpose"):
        steps = [TRANSFORMS.build(step) for step in listed if step["type"] in names]
    np.random.seed(seed)  # noqa: NPY002  # mmpose's transforms draw from it
    rows = np.empty((len(persons), 5), np.float32)
    for row, (keypoints, visible, box, shape) in zip(rows, persons, strict=True):
        info = {
            "img": np.zeros((1, 1, 3), np.uint8),
            "img_shape": shape,
            "bbox": box[None].copy(),
            "keypoints": keypoints[None].copy(),
            "keypoints_visible": visible[None].copy(),
            "flip_indices": FLIP_INDEX.tolist(),
            "upper_body_ids": list(range(11)),
            "lower_body_ids": list(range(11, 17)),
        }
        for step in steps:
            info = step(info)
        width, height = info["bbox_scale"][0]
        row[:] = (
            info["flip"],
            *info["bbox_center"][0],
            max(width, height * WIDTH / HEIGHT),
            info["bbox_rotation"][0],
        )
    return rows


def draw_epochs(persons: list[Person], epochs: int) -> Any:
    """Return (epochs, N, 5) draws; epoch e has the seed e."""
    plain = [(p.keypoints, p.visible, p.box, p.picture.shape[:2]) for p in persons]
    with ProcessPoolExecutor(2) as pool:
        return np.stack(list(pool.map(draw, [plain] * epochs, range(epochs))))


# --- the pack -------------------------------------------------------------------------------


def as_arrays(persons: list[Person]) -> dict[str, Any]:
    """Return what is kept of people, as arrays; pictures as WebP, one after another."""
    coded = [
        cv2.imencode(".webp", p.picture, [cv2.IMWRITE_WEBP_QUALITY, QUALITY])[1].ravel()
        for p in persons
    ]
    return {
        "bytes": np.concatenate(coded),
        "lengths": np.array([len(each) for each in coded]),
        "keypoints": np.stack([p.keypoints for p in persons]),
        "visible": np.stack([p.visible for p in persons]).astype(np.uint8),
        "box": np.stack([p.box for p in persons]),
        "area": np.array([p.area for p in persons]),
        "image": np.array([p.image for p in persons]),
        "origin": np.array([p.origin for p in persons], np.float32),
        "shape": np.array([p.picture.shape[:2] for p in persons], np.int32),
    }


def pack(
    target: Path, limit: int | None = None, epochs: int = EPOCHS, sure: float = 0.5
) -> dict[str, Any]:
    """Write train.npz, lspet.npz, coco.npz and notes.json, and return the notes.

    What is there already is kept: delete the folder to pack anew (ten minutes of two cores).

    Args:
        target: folder; made where it is missing.
        limit: people of each source, for tests; None for all.
        epochs: augmentations to draw.
        sure: the teacher's score from which a face point counts as labelled.

    Raises:
        FileNotFoundError: the data sets are not there.

    """
    if (target / "notes.json").is_file():  # written last
        return json.loads((target / "notes.json").read_text(encoding="utf-8"))  # type: ignore[no-any-return]
    target.mkdir(parents=True, exist_ok=True)
    coco, lspet = ASSETS / "coco", ASSETS / "lspet"
    sports = list(people(lspet / "person_keypoints_train.json", lspet / "images", limit))
    points, scores = label(sports)
    true = np.stack([p.keypoints for p in sports])
    seen = np.stack([p.visible for p in sports])
    face = np.arange(17) < FACE
    added = (scores >= sure) & face & (seen == 0)
    notes = {
        "lspet_train": len(sports),
        "teacher_pck_train": pck(points, true, seen),
        "teacher_pck_train_where_sure": pck(points, true, seen * (scores >= sure)),
        "face_points": int(added.sum()),
        "face_sure": float(added[:, face].mean()),
        "sure": sure,
    }
    for person, place, which in zip(sports, points, added, strict=True):
        person.keypoints[which], person.visible[which] = place[which], 1
    part = coco / "annotations"
    common = list(people(part / "person_keypoints_train2017.json", coco / "train2017", limit))
    both = sports + common
    np.savez(target / "train.npz", draws=draw_epochs(both, epochs), **as_arrays(both))
    measured = list(people(lspet / "person_keypoints_val.json", lspet / "images", limit))
    np.savez(target / "lspet.npz", **as_arrays(measured))
    found, _ = label(measured)
    notes["teacher_pck_val"] = pck(
        found, np.stack([p.keypoints for p in measured]), np.stack([p.visible for p in measured])
    )
    val = list(people(part / "person_keypoints_val2017.json", coco / "val2017", limit))
    np.savez(target / "coco.npz", **as_arrays(val))
    notes |= {"coco_train": len(common), "lspet_val": len(measured), "coco_val": len(val)}
    (target / "notes.json").write_text(json.dumps(notes, indent=1) + "\n", encoding="utf-8")
    return notes


def main() -> int:
    """Pack into the folder that is named."""
    print(json.dumps(pack(Path(sys.argv[1])), indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
