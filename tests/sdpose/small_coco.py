"""A small COCO data set of real people and pictures, and trainings on it that take seconds."""

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from recognizer.sdpose.coco import CocoSummary, validate_coco

ASSETS = Path(__file__).resolve().parents[3] / "shared" / "assets" / "coco"
CONFIGS = Path(__file__).resolve().parents[2] / "configs" / "body_2d_keypoint" / "sdpose" / "coco"
BASELINE = CONFIGS / "sdpose_s_v1_stemnet_coco_256x192.py"
needs_coco = pytest.mark.skipif(not ASSETS.is_dir(), reason="needs ../shared/assets/coco")

_SIZE, _MAP = "(96,128)", "(24,32)"  # width, height: a quarter of the pixels
# The config's network, narrow, shallow and on small pictures; the warm-up takes two steps.
TINY = (
    "model.head.depth=2",
    "model.head.embed_dims=48",
    "model.head.num_heads=4",
    f"model.head.feature_size={_MAP}",
    f"model.head.heatmap_size={_MAP}",
    f"model.head.decoder.input_size={_SIZE}",
    f"model.head.decoder.heatmap_size={_MAP}",
    f"train_dataloader.dataset.pipeline.5.input_size={_SIZE}",
    f"train_dataloader.dataset.pipeline.6.encoder.input_size={_SIZE}",
    f"train_dataloader.dataset.pipeline.6.encoder.heatmap_size={_MAP}",
    *(f"{split}_dataloader.dataset.pipeline.2.input_size={_SIZE}" for split in ("val", "test")),
    *(f"{split}_dataloader.batch_size=4" for split in ("train", "val", "test")),
    *(f"{split}_dataloader.num_workers=0" for split in ("train", "val", "test")),
    *(f"{split}_dataloader.persistent_workers=False" for split in ("train", "val", "test")),
    "param_scheduler.0.end=2",
    "train_cfg.max_epochs=3",
    "train_cfg.val_interval=1",
    "default_hooks.checkpoint.interval=1",
    "randomness.seed=7",
    "visualizer.vis_backends=[]",
)


def annotations(split: str, persons: int) -> dict[str, Any]:
    """Return COCO's own annotations of the first persons with many keypoints, one per picture."""
    name = f"person_keypoints_{split}2017.json"
    content = json.loads((ASSETS / "annotations" / name).read_text(encoding="utf-8"))
    chosen: dict[int, dict[str, Any]] = {}
    for person in content["annotations"]:
        if person["num_keypoints"] > 8:
            chosen.setdefault(person["image_id"], person)
    kept = list(chosen.values())[:persons]
    assert len(kept) == persons
    pictures = {person["image_id"] for person in kept}
    images = [image for image in content["images"] if image["id"] in pictures]
    return {"images": images, "annotations": kept, "categories": content["categories"]}


def write_data(folder: Path, train: int = 8, val: int = 4) -> Path:
    """Write annotations/, train2017/ and val2017/ with links to the pictures; return the folder."""
    for split, persons in (("train", train), ("val", val)):
        content = annotations(split, persons)
        write_annotations(folder, split, content)
        pictures = folder / f"{split}2017"
        pictures.mkdir()
        for image in content["images"]:
            name = image["file_name"]
            (pictures / name).symlink_to(ASSETS / f"{split}2017" / name)
    return folder


def write_annotations(folder: Path, split: str, content: object) -> None:
    """Write an annotation file, whatever it holds; text goes in as it is."""
    path = folder / "annotations" / f"person_keypoints_{split}2017.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")


def tiny(data: Path, work_dir: Path, *more: str, path: Path = BASELINE) -> Any:
    """Return a config of ours made small."""
    from recognizer.sdpose.training import load_pose_config

    cfg = load_pose_config(path, [*TINY, *more], data)
    cfg.work_dir = str(work_dir)
    return cfg


def record_losses(cfg: Any) -> dict[int, dict[str, float]]:
    """Let a config's training record its loss items; return where they go, by iteration."""
    from mmengine.hooks import Hook
    from mmpose.registry import HOOKS

    losses: dict[int, dict[str, float]] = {}

    class RecordItems(Hook):  # type: ignore[misc]  # mmengine has no types
        def after_train_iter(
            self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None
        ) -> None:
            losses[runner.iter] = {k: v.item() for k, v in outputs.items() if "loss" in k}

    HOOKS.register_module(module=RecordItems, force=True)
    cfg.custom_hooks = [*cfg.custom_hooks, {"type": "RecordItems"}]
    return losses


def examine_beside_a_picture(folder: Path, value: object, size_wh: tuple[int, int]) -> CocoSummary:
    """Write annotations beside one picture of that size and validate them."""
    pictures = folder / "train2017"
    pictures.mkdir(exist_ok=True)
    Image.new("RGB", size_wh).save(pictures / "a.jpg")
    write_annotations(folder, "train", value)
    return validate_coco(folder / "annotations" / "person_keypoints_train2017.json", pictures)
