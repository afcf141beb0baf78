"""Overfit SDPose-T to 86 persons: network, losses, decoding and AP fit together.

    python -m benchmarks.sdpose_overfit --data /data/coco --bf16

The training is that of the config sdpose_t_overfit (three cycles, both distillation losses), on the
pictures of the first persons with keypoints, and AP is measured on the same pictures with flip
test. A number near 1 proves that the parts fit together, and nothing about other pictures. From
nothing, all of them stayed at heatmaps of zeros for the 35 epochs that were tried; so a few persons
are learnt first, in whole batches, and all of them from there. The same command goes on where it
was stopped.
"""

import argparse
import json
import logging
import os
from pathlib import Path
from typing import Any

from benchmarks._command import ASSETS, ROOT
from benchmarks._needs import need

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
CONFIG = ROOT / "configs/body_2d_keypoint/sdpose/coco/sdpose_t_overfit_256x192.py"
TARGET = 0.9


def write_part(data: Path, persons: int, path: Path) -> tuple[int, int]:
    """Write the annotations of the first pictures with so many labelled persons; return counts.

    Returns:
        number of pictures, and of labelled persons.

    """
    content = json.loads((data / "annotations/person_keypoints_train2017.json").read_text())
    labelled = 0
    kept: set[int] = set()
    for person in content["annotations"]:
        if labelled >= persons and person["image_id"] not in kept:
            continue
        if person["num_keypoints"] and not person["iscrowd"]:
            kept.add(person["image_id"])
            labelled += 1
    content["images"] = [image for image in content["images"] if image["id"] in kept]
    content["annotations"] = [a for a in content["annotations"] if a["image_id"] in kept]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return len(content["images"]), sum(a["num_keypoints"] > 0 for a in content["annotations"])


def spread_tokens(model: Any) -> None:
    """Change a model's published first weights for the few steps that there are.

    From the published start the first hundred steps only shrink the heatmaps, and what tells one
    picture from another goes with it. Here heatmaps begin near zero, and tokens differ by picture
    and by keypoint.
    """
    import torch

    with torch.no_grad():
        for module in model.head.transformer.modules():
            if isinstance(module, torch.nn.Linear):
                torch.nn.init.xavier_uniform_(module.weight)
        for block in model.head.transformer.blocks:
            queries_and_keys = 2 * block.attention.qkv.in_features
            block.attention.qkv.weight[:queries_and_keys] *= 2
        model.head.transformer.keypoint_tokens *= 25
        model.head.heatmap_head[-1].weight *= 0.02


def write_start(cfg: Any, path: Path) -> None:
    """Write first weights, see ``spread_tokens``, as a checkpoint."""
    import torch
    from mmpose.registry import MODELS

    from recognizer.openmmlab import scope

    torch.manual_seed(0)
    with scope("mmpose"):
        model = MODELS.build(cfg.model)
    logging.disable(logging.INFO)
    model.init_weights()
    logging.disable(logging.NOTSET)
    spread_tokens(model)
    torch.save({"state_dict": model.state_dict(), "meta": {}}, path)


def score_true_keypoints(cfg: Any) -> float:
    """Return the AP of the annotations themselves, made heatmaps and decoded: the upper bound."""
    import numpy as np
    import torch
    from mmpose.registry import DATASETS, KEYPOINT_CODECS, METRICS, MODELS
    from mmpose.structures.bbox import get_warp_matrix

    from recognizer.openmmlab import scope

    with scope("mmpose"):
        head = MODELS.build(cfg.model).head
        dataset = DATASETS.build(cfg.val_dataloader.dataset)
        metric = METRICS.build(cfg.val_evaluator)
        codec = KEYPOINT_CODECS.build(cfg.model.head.decoder)
    metric.dataset_meta = dataset.metainfo
    for item in dataset:
        sample = item["data_samples"]
        center, scale = sample.metainfo["input_center"], sample.metainfo["input_scale"]
        warp = get_warp_matrix(center, scale, 0, output_size=codec.input_size)  # (2, 3)
        keypoints = sample.gt_instances.keypoints  # (1, 17, 2) in pixels of the picture
        inside = (keypoints @ warp[:, :2].T + warp[:, 2]).astype(np.float32)  # of the crop
        visible = sample.gt_instances.keypoints_visible
        heatmaps = torch.from_numpy(codec.encode(inside, visible)["heatmaps"])[None]
        with np.errstate(invalid="ignore"):  # heatmaps of what is not labelled are 0 throughout
            (decoded,) = head.decode(heatmaps)
        shift = center - 0.5 * scale
        decoded.keypoints = decoded.keypoints / sample.metainfo["input_size"] * scale + shift
        sample.pred_instances = decoded
        metric.process({}, [sample.to_dict()])
    return float(metric.evaluate(len(dataset))["coco/AP"])


def learn(
    options: argparse.Namespace,
    persons: int,
    epochs: int,
    batch: int,
    work_dir: Path,
    start: Path | None,
) -> tuple[Any, int, int, Path]:
    """Train on the first persons; return config, pictures, persons and the best checkpoint."""
    from recognizer.sdpose.evaluation import quietly
    from recognizer.sdpose.training import load_pose_config, train
    from recognizer.training.pose.learning_curves import CurvesHook

    part = (work_dir / "annotations.json").absolute()
    images, persons = write_part(options.data, persons, part)
    changes = [
        f"train_cfg.max_epochs={epochs}",
        "train_dataloader.num_workers=0",
        f"train_dataloader.batch_size={batch or persons}",
        "val_dataloader.num_workers=0",
        f"train_dataloader.dataset.ann_file={part}",
        f"val_dataloader.dataset.ann_file={part}",
        f"param_scheduler.1.end={epochs}",
        f"param_scheduler.1.milestones=[{epochs * 3 // 4},{epochs * 9 // 10}]",
        f"train_cfg.val_interval={max(1, epochs // 20)}",
        "default_hooks.checkpoint.interval=20",
    ]
    if options.bf16:
        changes += ["optim_wrapper.type=AmpOptimWrapper", "optim_wrapper.dtype=bfloat16"]
    cfg = load_pose_config(CONFIG, changes, options.data.absolute())
    cfg.work_dir = str(work_dir.absolute())
    cfg.randomness = {"seed": 0}
    cfg.load_from = str((start or part.with_name("start.pth")).absolute())
    if start is None:
        write_start(cfg, Path(cfg.load_from))
    with quietly():
        return cfg, images, persons, train(cfg, resume=True, hooks=[CurvesHook()])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=ASSETS / "coco", help="COCO folder")
    parser.add_argument("--persons", type=int, default=86, help="and all others of their pictures")
    parser.add_argument("--epochs", type=int, default=120)
    parser.add_argument("--batch-size", type=int, default=22)
    parser.add_argument("--first", type=int, default=12, help="persons to begin with; 0: all")
    parser.add_argument("--first-epochs", type=int, default=180, help="each is one batch")
    parser.add_argument("--work-dir", type=Path, default=ROOT / "work_dirs" / "sdpose_t_overfit")
    parser.add_argument("--bf16", action="store_true", help="half precision in training")
    options = parser.parse_args()
    need(files=[options.data])
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    from recognizer.sdpose.evaluation import quietly
    from recognizer.training.pose.learning_curves import TABLE, read_curve

    start, work_dir = None, options.work_dir
    if options.first:  # one batch: nothing but the flips makes its gradient noisy
        first = learn(options, options.first, options.first_epochs, 0, work_dir / "first", None)
        start = first[-1]
    cfg, images, persons, checkpoint = learn(
        options, options.persons, options.epochs, options.batch_size, work_dir, start
    )
    with quietly():
        ceiling = score_true_keypoints(cfg)
    last = read_curve(work_dir / TABLE)[-1]
    print(
        f"{persons} persons in {images} pictures, epoch {last['epoch']:.0f}, with flip test: AP "
        f"{last['coco/AP']:.3f} (target {TARGET}; the annotations themselves, made heatmaps and "
        f"decoded: {ceiling:.3f}); heatmap loss {last['heatmap_loss']:.5f}; best: {checkpoint}"
    )


if __name__ == "__main__":
    main()
