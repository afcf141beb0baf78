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
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from benchmarks._command import ROOT
from benchmarks._turns import race

CONFIGS = ROOT / "configs" / "body_2d_keypoint" / "sdpose" / "coco"
STEP_TARGET = 1.03
INFERENCE_TARGETS = {"s_v1": 1.4, "t": 1.6}


def config(name: str) -> Any:
    """Read a config of the COCO trainings."""
    from recognizer.sdpose.training import load_pose_config

    return load_pose_config(CONFIGS / f"sdpose_{name}_coco_256x192.py")


def network(cfg: Any) -> Any:
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


def batch(cfg: Any, data: Path | None, size: int) -> dict[str, Any]:
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
            return dict(pseudo_collate([items[i % len(items)] for i in range(size)]))
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
        return dict(pseudo_collate(rows))


def training_steps(size: int, data: Path | None, rounds: int) -> dict[str, list[float]]:
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
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for turn in range(rounds + 2):
        order = list(sides) if turn % 2 else list(sides)[::-1]
        for name in order:
            model, wrapper = sides[name]
            start = time.process_time()
            model.train_step(inputs, wrapper)
            if turn > 1:  # the first two allocate
                seconds[name].append(time.process_time() - start)
    return seconds


def inference(name: str, rounds: int) -> tuple[float, float, float]:
    """Return CPU seconds for 8 pictures: one cycle as we run it, all cycles as published.

    The third value is the largest difference of a heatmap.
    """
    import torch

    model = network(config(f"{name}_stemnet"))
    model.eval()
    pictures = torch.rand(8, 3, 256, 192)
    calls: dict[str, Callable[[], Any]] = {
        "one cycle": lambda: model(pictures, None, mode="tensor"),
        "all cycles": lambda: (
            model.head.run_cycles(model.extract_feat(pictures), model.head.cycles)[0].heatmaps
        ),
    }
    with torch.inference_mode():
        one, everything = (call() for call in calls.values())
        times = race(calls, rounds, warm_up=0)
    difference = float((one - everything).abs().max())
    return times["one cycle"][0], times["all cycles"][0], difference


def main() -> None:
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
        one, everything, difference = inference(name, options.rounds)
        print(
            f"inference, {name}, batch 8: one cycle {one:.3f}   all cycles {everything:.3f}   "
            f"ratio {everything / one:.2f} (target >= {target}); "
            f"largest difference of a heatmap {difference:.1e}"
        )


if __name__ == "__main__":
    main()
