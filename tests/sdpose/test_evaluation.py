"""What a pose network reaches: against mmpose's own metric, on subsets of images, and refusals."""

import copy
import json

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("mmpose")

from mmpose.datasets.datasets.utils import parse_pose_metainfo  # noqa: E402
from mmpose.evaluation.metrics import CocoMetric  # noqa: E402
from mmpose.registry import DATASETS, MODELS  # noqa: E402

from recognizer.openmmlab import scope  # noqa: E402
from recognizer.runner.checkpoints import (  # noqa: E402
    CheckpointError,
    load_checkpoint,
    load_weights,
)
from recognizer.runner.train_config import TrainConfigError  # noqa: E402
from recognizer.sdpose.evaluation import (  # noqa: E402
    OVERLAP_IOU,
    count_parameters,
    evaluate,
    overlapping_images,
    quietly,
    score_subsets,
)
from tests.sdpose.small_coco import (  # noqa: E402
    ASSETS,
    BASELINE,
    CONFIGS,
    needs_coco,
    tiny,
    write_annotations,
    write_data,
)

ONE_CYCLE_WITHOUT_FLIP = ("model.test_cfg.flip_test=False",)


def annotations():
    path = ASSETS / "annotations" / "person_keypoints_train2017.json"
    return json.loads(path.read_text(encoding="utf-8"))


# --- subsets of the images ---------------------------------------------------------


def person(image, x, y, w, h, **more):
    return {"image_id": image, "bbox": [x, y, w, h], **more}


def test_people_overlap_above_the_threshold_only_and_crowds_do_not_count():
    side = 100.0
    # Two equal squares, one shifted by d: IoU = (side - d) / (side + d).
    touching = side * (1 - OVERLAP_IOU) / (1 + OVERLAP_IOU)
    rows = [
        person(1, 0, 0, side, side),
        person(1, touching - 1, 0, side, side),
        person(2, 0, 0, side, side),
        person(2, touching + 1, 0, side, side),
        person(3, 0, 0, side, side),
        person(3, 0, 0, side, side, iscrowd=1),
        person(4, 0, 0, side, side),
        person(5, 0, 0, side, side),
        person(6, 0, 0, side, side),
    ]
    assert overlapping_images(rows) == {1}


@pytest.fixture
def metric(tmp_path):
    """CocoMetric on all annotations that are here."""
    with scope("mmpose"), quietly():
        one = CocoMetric(ann_file=str(ASSETS / "annotations" / "person_keypoints_train2017.json"))
        one.dataset_meta = parse_pose_metainfo({"from_file": "configs/_base_/datasets/coco.py"})
    return one


def write_found(path, wrong):
    """Write the annotated people as if found; in ``wrong`` images everybody is beside himself."""
    rng = np.random.default_rng(3)
    rows = []
    for row in annotations()["annotations"]:
        points = np.array(row["keypoints"], float).reshape(-1, 3)
        if row["iscrowd"] or not points[:, 2].any():
            continue
        noise = rng.normal(0, 0.02 * np.sqrt(row["area"]), (17, 2))
        points[:, :2] += 5000 if row["image_id"] in wrong else noise
        points[:, 2] = 1
        rows.append(
            {
                "image_id": row["image_id"],
                "category_id": 1,
                "bbox": row["bbox"],
                "keypoints": points.ravel().tolist(),
                "score": rng.random(),
            }
        )
    path.write_text(json.dumps(rows))


@needs_coco
def test_figures_of_all_images_are_those_of_mmposes_own_metric(metric, tmp_path):
    write_found(tmp_path / "x.keypoints.json", wrong=set())
    with quietly():
        own = dict(metric._do_python_keypoint_eval(str(tmp_path / "x")))
        every, overlapping, others = score_subsets(metric, tmp_path / "x.keypoints.json")
    values = [own[k] for k in ("AP", "AP .5", "AP .75", "AP (M)", "AP (L)", "AR")]
    ours = [every.ap, every.ap50, every.ap75, every.ap_medium, every.ap_large, every.ar]
    assert ours == pytest.approx(values, abs=0)
    assert 0.3 < every.ap < 1
    assert (every.images, every.persons) == (80, 86)
    assert every.images == overlapping.images + others.images
    assert every.persons == overlapping.persons + others.persons


@needs_coco
def test_a_network_that_fails_where_people_overlap_is_seen_to(metric, tmp_path):
    crowded = overlapping_images(annotations()["annotations"])
    assert crowded
    write_found(tmp_path / "x.json", wrong=crowded)
    with quietly():
        every, overlapping, others = score_subsets(metric, tmp_path / "x.json")
    assert overlapping.ap == 0
    assert others.ap > 0.3
    assert 0 < every.ap < others.ap


@needs_coco
def test_where_nobody_is_there_is_no_figure(metric, tmp_path):
    for row in metric.coco.anns.values():  # everybody in crowded images is a crowd now
        row["iscrowd"] = 1
    write_found(tmp_path / "x.json", wrong=set())
    with quietly():
        every, overlapping, _ = score_subsets(metric, tmp_path / "x.json")
    assert (every.persons, every.ap, every.ar) == (0, None, None)
    assert overlapping.images == 0
    assert overlapping.to_json()["AP(M)"] is None


# --- a whole test ------------------------------------------------------------------


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Five pictures: two overlapping people in one, one person in each of the others."""
    folder = write_data(tmp_path_factory.mktemp("coco"), train=4, val=4)
    content = json.loads((folder / "annotations" / "person_keypoints_val2017.json").read_text())
    more = annotations()
    image = 488571
    (picture,) = (row for row in more["images"] if row["id"] == image)
    content["images"].append(picture)
    content["annotations"] += [r for r in more["annotations"] if r["image_id"] == image]
    write_annotations(folder, "val", content)
    name = picture["file_name"]
    (folder / "val2017" / name).symlink_to(ASSETS / "train2017" / name)
    return folder


def network(cfg):
    with scope("mmpose"):
        torch.manual_seed(0)
        model = MODELS.build(cfg.model)
        model.init_weights()
    return model.eval()


def knowing_one_pose(cfg):
    """Return a network that says of everybody the first person's pose, and who that is.

    The last layer is linear and has more inputs than there are keypoints, so that the heatmaps
    wanted of it can be solved for.
    """
    dataset = copy.deepcopy(cfg.val_dataloader.dataset)
    codec = cfg.train_dataloader.dataset.pipeline[-2]
    dataset.pipeline.insert(3, codec)
    with scope("mmpose"), quietly():
        first = DATASETS.build(dataset)[0]
    model = network(cfg)
    with torch.no_grad():
        image = model.data_preprocessor({"inputs": [first["inputs"]], "data_samples": []}, False)
        tokens = model.head.run_cycles(model.extract_feat(image["inputs"]), 1)[0].keypoint_tokens
        hidden = model.head.heatmap_head[:-1](tokens)[0].double()  # (17, H)
        target = first["data_samples"].gt_fields.heatmaps.flatten(1).double()  # (17, P)
        last = model.head.heatmap_head[-1]
        last.weight.copy_(torch.linalg.lstsq(hidden, target, driver="gelsd").solution.T)
        last.bias.zero_()
    return model, first["data_samples"].img_id


@needs_coco
def test_a_network_is_tested_as_mmposes_runner_would(data, tmp_path):
    cfg = tiny(data, tmp_path, *ONE_CYCLE_WITHOUT_FLIP)
    model, image = knowing_one_pose(cfg)
    path = tmp_path / "bare.pth"
    torch.save(model.state_dict(), path)
    reported = []
    scores = evaluate(cfg, path, tmp_path / "r", on_progress=lambda *at: reported.append(at))
    assert reported == [(1, 2), (2, 2)]
    found = json.loads((tmp_path / "r" / "detections.json").read_text())
    assert len(found) == 6
    assert (scores.every.images, scores.every.persons) == (5, 6)
    assert (scores.overlapping.images, scores.overlapping.persons) == (1, 2)
    assert 0 < scores.every.ap < 1
    assert scores.others.ap >= scores.every.ap
    truth = json.loads((data / "annotations" / "person_keypoints_val2017.json").read_text())
    (known,) = (row for row in truth["annotations"] if row["image_id"] == image)
    (predicted,) = (row for row in found if row["image_id"] == image)
    points, mine = (np.array(r["keypoints"]).reshape(-1, 3) for r in (known, predicted))
    seen = points[:, 2] > 0
    off = np.abs(points[seen, :2] - mine[seen, :2]).max() / max(known["bbox"][2:])
    assert off < 0.02  # of the person's size
    value = scores.to_json()
    assert (value["boxes"], value["flip_test"], value["epoch"]) == ("annotated", False, None)
    assert value["all"]["AP"] == scores.every.ap
    assert not list((tmp_path / "r").glob(".testing-*"))


@needs_coco
def test_weights_that_only_a_loss_learns_do_not_matter(data, tmp_path):
    best = CONFIGS / "sdpose_s_v1_fsd_best_coco_256x192.py"
    cfg, other = (tiny(data, tmp_path, *ONE_CYCLE_WITHOUT_FLIP, path=p) for p in (best, BASELINE))
    model = network(cfg)
    assert any(key.startswith("head.loss_") for key in model.state_dict())
    torch.save({"state_dict": model.state_dict(), "meta": {"epoch": 7}}, tmp_path / "x.pth")
    scores = evaluate(other, tmp_path / "x.pth", tmp_path / "r")
    assert scores.metadata["epoch"] == 7
    assert count_parameters(cfg) == count_parameters(other)
    assert count_parameters(other) == sum(weight.numel() for weight in network(other).parameters())


@needs_coco
def test_boxes_of_a_detector_are_used_and_named(data, tmp_path):
    truth = json.loads((data / "annotations" / "person_keypoints_val2017.json").read_text())
    rows = [
        {"image_id": row["image_id"], "category_id": 1, "bbox": row["bbox"], "score": 0.9}
        for row in truth["annotations"][:3]
    ]
    boxes = tmp_path / "boxes.json"
    boxes.write_text(json.dumps(rows))
    option = f"test_dataloader.dataset.bbox_file={boxes}"
    cfg = tiny(data, tmp_path, option, *ONE_CYCLE_WITHOUT_FLIP)
    torch.save(network(cfg).state_dict(), tmp_path / "x.pth")
    scores = evaluate(cfg, tmp_path / "x.pth", tmp_path / "r")
    assert scores.boxes == str(boxes)
    assert len(json.loads((tmp_path / "r" / "detections.json").read_text())) == 3
    boxes.unlink()
    with pytest.raises(FileNotFoundError, match="bbox_file"):
        evaluate(cfg, tmp_path / "x.pth", tmp_path / "r")


@needs_coco
def test_what_cannot_be_tested_is_refused(data, tmp_path):
    cfg = tiny(data, tmp_path)
    path = tmp_path / "x.pth"
    with pytest.raises(FileNotFoundError, match="expected a checkpoint"):
        evaluate(cfg, path, tmp_path / "r")
    path.write_bytes(b"PK\3\4 not a checkpoint")
    with pytest.raises(CheckpointError, match="damaged"):
        evaluate(cfg, path, tmp_path / "r")
    torch.save(network(tiny(data, tmp_path, "model.head.depth=1")).state_dict(), path)
    with pytest.raises(CheckpointError, match=r"none that fit .* and 0 with names"):
        evaluate(cfg, path, tmp_path / "r")
    torch.save({"keypoint_head.tokenpose.patch_to_embedding.weight": torch.zeros(3)}, path)
    with pytest.raises(CheckpointError, match="convert it first: --mode"):
        evaluate(cfg, path, tmp_path / "r")
    model = network(tiny(data, tmp_path))
    weights = {**model.state_dict(), **load_checkpoint(path)["state_dict"]}
    with pytest.raises(CheckpointError, match="convert it first: --mode"):  # its stem would fit
        load_weights(model, weights, path, strict=False)
    assert not list((tmp_path / "r").glob("*.json"))
    without = copy.deepcopy(cfg)
    without.test_dataloader = None
    with pytest.raises(TrainConfigError, match="test_dataloader"):
        evaluate(without, path, tmp_path / "r")
    crowd = tiny(data, tmp_path, "test_evaluator.iou_type=keypoints_crowd")
    with pytest.raises(TrainConfigError, match="CocoMetric of keypoints"):
        evaluate(crowd, path, tmp_path / "r")
    unknown = tiny(data, tmp_path, "model.head.loss.type=NoSuchLoss")
    with pytest.raises(TrainConfigError, match="NoSuchLoss"):
        evaluate(unknown, path, tmp_path / "r")
    cfg.test_dataloader.dataset.ann_file = "annotations/none.json"
    with pytest.raises(FileNotFoundError, match=r"none\.json"):
        evaluate(cfg, path, tmp_path / "r")
