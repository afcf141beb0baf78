"""Measure what foreground self-distillation adds to a training step, and what one cycle saves.

    python -m benchmarks.sdpose_step --data /data/coco

SDPose-S-V1, one batch of real persons (without --data: random pictures and targets, which cost
the same). The step of the configs fsd_best and baseline: forward, losses, backward, clipping,
optimiser step, by mmengine's own OptimWrapper as the config builds it. Inference of S-V1 and T on
8 pictures: the one cycle that our eval mode runs, against all cycles as the published code runs
them. The contenders of a pair take turns in one process; CPU time, one thread, medians.
"""

import argparse
import logging
import os
import statistics
import sys
import time
import warnings
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
CONFIGS = ROOT / "configs" / "body_2d_keypoint" / "sdpose" / "coco"
STEP_TARGET = 1.03
INFERENCE_TARGETS = {"s_v1": 1.4, "t": 1.6}


def config(name):
    from recognizer.sdpose.training import load_pose_config

    return load_pose_config(CONFIGS / f"sdpose_{name}_coco_256x192.py")


def network(cfg):
    """Build a config's model with weights from a seed."""
    import torch
    from mmpose.registry import MODELS

    from recognizer.openmmlab import scope

    torch.manual_seed(0)
    with scope("mmpose"):
        model = MODELS.build(cfg.model)
    logging.disable(logging.CRITICAL)
    model.init_weights()
    return model


def batch(cfg, data, size):
    """Return a batch as the train loader gives it."""
    import numpy as np
    import torch
    from mmengine.dataset import Compose, pseudo_collate
    from mmpose.registry import DATASETS, TRANSFORMS

    from recognizer.openmmlab import scope

    np.random.seed(0)  # noqa: NPY002  # mmpose's transforms draw from it
    torch.manual_seed(0)
    with scope("mmpose"):
        if data is not None:
            dataset = cfg.train_dataloader.dataset
            dataset.data_root = str(data)
            items = DATASETS.build(dataset)
            return pseudo_collate([items[i % len(items)] for i in range(size)])
        steps = [TRANSFORMS.build(step) for step in cfg.train_dataloader.dataset.pipeline[1:]]
        rng = np.random.default_rng(0)
        rows = []
        for i in range(size):
            info = {
                "img": rng.integers(0, 256, (256, 192, 3), dtype=np.uint8),
                "img_path": "",
                "id": i,
                "img_id": i,
                "ori_shape": (256, 192),
                "img_shape": (256, 192),
                "bbox": np.array([[0, 0, 192, 256]], np.float32),
                "bbox_score": np.ones(1, "f4"),
                "keypoints": rng.uniform((0, 0), (192, 256), (1, 17, 2)).astype(np.float32),
                "keypoints_visible": np.ones((1, 17), np.float32),
                "flip_indices": list(range(17)),
                "upper_body_ids": list(range(11)),
                "lower_body_ids": list(range(11, 17)),
                "category_id": 1,
                "iscrowd": 0,
                "segmentation": None,
                "area": 1.0,
                "raw_ann_info": {},
            }
            rows.append(Compose(steps)(info))
        return pseudo_collate(rows)


def training_steps(size, data, rounds):
    """Return CPU seconds per step of baseline and fsd_best, in turns."""
    from mmengine.optim import build_optim_wrapper

    from recognizer.openmmlab import scope

    sides = {}
    for name in ("s_v1_stemnet", "s_v1_fsd_best"):
        cfg = config(name)
        model = network(cfg)
        model.train()
        with scope("mmpose"):
            sides[name] = (model, build_optim_wrapper(model, cfg.optim_wrapper))
    inputs = batch(config("s_v1_stemnet"), data, size)
    seconds = {name: [] for name in sides}
    for turn in range(rounds + 2):
        order = list(sides) if turn % 2 else list(sides)[::-1]
        for name in order:
            model, wrapper = sides[name]
            start = time.process_time()
            model.train_step(inputs, wrapper)
            if turn > 1:  # the first two allocate
                seconds[name].append(time.process_time() - start)
    return seconds


def inference(name, rounds):
    """Return CPU seconds for 8 pictures: one cycle as we run it, all cycles as published."""
    import torch

    model = network(config(f"{name}_stemnet"))
    model.eval()
    pictures = torch.rand(8, 3, 256, 192)
    ways = {
        "one cycle": lambda: model(pictures, None, mode="tensor"),
        "all cycles": lambda: (
            model.head.run_cycles(model.extract_feat(pictures), model.head.cycles)[0].heatmaps
        ),
    }
    seconds = {way: [] for way in ways}
    with torch.inference_mode():
        results = [run() for run in ways.values()]
        difference = (results[0] - results[1]).abs().max().item()
        for _ in range(rounds):
            for way, run in ways.items():
                start = time.process_time()
                run()
                seconds[way].append(time.process_time() - start)
    return seconds, difference


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="COCO folder with annotations/ and train2017/")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    import torch

    torch.set_num_threads(1)
    seconds = training_steps(options.batch, options.data, options.rounds)
    base, best = (statistics.median(seconds[n]) for n in ("s_v1_stemnet", "s_v1_fsd_best"))
    pairs = [b / a for a, b in zip(seconds["s_v1_stemnet"], seconds["s_v1_fsd_best"], strict=True)]
    print(f"training step, S-V1, batch {options.batch}, CPU seconds on one thread:")
    print(
        f"  baseline {base:.3f}   fsd_best {best:.3f}   ratio {best / base:.3f}, median of pairs "
        f"{statistics.median(pairs):.3f} (target <= {STEP_TARGET})"
    )
    for name, target in INFERENCE_TARGETS.items():
        seconds, difference = inference(name, options.rounds)
        one, everything = (statistics.median(seconds[way]) for way in ("one cycle", "all cycles"))
        print(
            f"inference, {name}, batch 8: one cycle {one:.3f}   all cycles {everything:.3f}   "
            f"ratio {everything / one:.2f} (target >= {target}); "
            f"largest difference of a heatmap {difference:.1e}"
        )


if __name__ == "__main__":
    main()
