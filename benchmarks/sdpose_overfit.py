"""Let SDPose-T learn a few persons by heart: proof that network, losses, decoding and AP fit.

    python -m benchmarks.sdpose_overfit --data /data/coco --persons 24 --epochs 150

The training is that of the config sdpose_t_overfit (three cycles, both distillation losses), on the
pictures of the first persons with keypoints, and AP is measured on the same pictures with flip
test. A number near 1 proves that the parts fit together, and nothing about other pictures. The
same command goes on where it was stopped.
"""

import argparse
import json
import logging
import os
import sys
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
CONFIG = ROOT / "configs/body_2d_keypoint/sdpose/coco/sdpose_t_overfit_256x192.py"
TARGET = 0.9


def write_part(data, persons, path):
    """Write the annotations of the first pictures that hold so many labelled persons."""
    content = json.loads((data / "annotations/person_keypoints_train2017.json").read_text())
    labelled, kept = 0, set()
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


def write_start(cfg, path):
    """Write first weights for the few steps that there are.

    From the published start the first hundred steps only shrink the heatmaps, and what tells one
    picture from another goes with it. Here heatmaps begin near zero, and tokens differ by picture
    and by keypoint.
    """
    import torch
    from mmpose.registry import MODELS

    from recognizer.openmmlab import scope

    torch.manual_seed(0)
    with scope("mmpose"):
        model = MODELS.build(cfg.model)
    logging.disable(logging.INFO)
    model.init_weights()
    logging.disable(logging.NOTSET)
    with torch.no_grad():
        for module in model.head.transformer.modules():
            if isinstance(module, torch.nn.Linear):
                torch.nn.init.xavier_uniform_(module.weight)
        for block in model.head.transformer.blocks:
            queries_and_keys = 2 * block.attention.qkv.in_features
            block.attention.qkv.weight[:queries_and_keys] *= 2
        model.head.transformer.keypoint_tokens *= 25
        model.head.heatmap_head[-1].weight *= 0.02
    torch.save({"state_dict": model.state_dict(), "meta": {}}, path)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="COCO folder")
    parser.add_argument("--persons", type=int, default=24)
    parser.add_argument("--epochs", type=int, default=150)
    parser.add_argument("--batch-size", type=int, help="all of them: no noise but the flips")
    parser.add_argument("--start", type=Path, help="first weights: those of an earlier run")
    parser.add_argument("--work-dir", type=Path, default=ROOT / "work_dirs" / "sdpose_t_overfit")
    parser.add_argument("--bf16", action="store_true", help="half precision in training")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    from recognizer.sdpose.evaluation import quietly
    from recognizer.sdpose.training import load_pose_config, train
    from training.pose_curves import TABLE, CurvesHook, read_curve

    part = (options.work_dir / "annotations.json").absolute()
    images, persons = write_part(options.data, options.persons, part)
    epochs = options.epochs
    changes = [
        f"train_cfg.max_epochs={epochs}", "train_dataloader.num_workers=0",
        f"train_dataloader.batch_size={options.batch_size or persons}",
        "val_dataloader.num_workers=0", f"train_dataloader.dataset.ann_file={part}",
        f"val_dataloader.dataset.ann_file={part}", f"param_scheduler.1.end={epochs}",
        f"param_scheduler.1.milestones=[{epochs * 3 // 4},{epochs * 9 // 10}]",
        f"train_cfg.val_interval={max(1, epochs // 20)}", "default_hooks.checkpoint.interval=20",
    ]  # fmt: skip
    if options.bf16:
        changes += ["optim_wrapper.type=AmpOptimWrapper", "optim_wrapper.dtype=bfloat16"]
    cfg = load_pose_config(CONFIG, changes, options.data.absolute())
    cfg.work_dir = str(options.work_dir.absolute())
    cfg.randomness = {"seed": 0}
    cfg.load_from = str((options.start or part.with_name("start.pth")).absolute())
    if options.start is None:
        write_start(cfg, Path(cfg.load_from))
    with quietly():
        train(cfg, resume=True, hooks=[CurvesHook()])
    last = read_curve(options.work_dir / TABLE)[-1]
    print(
        f"{persons} persons in {images} pictures, epoch {last['epoch']:.0f}, with flip test: AP "
        f"{last['coco/AP']:.3f} (target {TARGET}); heatmap loss {last['heatmap_loss']:.5f}"
    )


if __name__ == "__main__":
    main()
