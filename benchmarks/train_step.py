"""Measure a training step of FastSTGCN against mmaction2's STGCN, in fp32 and in bfloat16.

    python -m benchmarks.train_step --data output/<...>/stage3_dataset/<...>/train.pkl

The guide's model, batch 16, AdamW, clipping; forward, loss, backward and optimiser step. Real
clips (without --data: those of samples/stage1, tracked and made into samples first) through the
guide's pipeline of mmaction2. Each network trains in a process of its own, from the same weights
on the same batches, and they take turns step by step; CPU time, one thread, medians. The losses
in fp32 are compared step by step. In bfloat16 both have our head, as mmaction2's own fails there.
"""

import argparse
import logging
import multiprocessing
import os
import statistics
import tempfile
import time
import warnings
from collections.abc import Iterable, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

    Batch = tuple[torch.Tensor, list[int]]  # inputs and labels

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from benchmarks._command import ROOT

HEAD: dict[str, Any] = {
    "num_classes": 2,
    "in_channels": 128,
    "dropout": 0.3,
    "loss_cls": {"type": "CrossEntropyLoss", "class_weight": [1.2, 1.0]},
}
# name -> backbone, its settings, bfloat16 autocast
CONTENDERS: dict[str, tuple[str, dict[str, bool], bool]] = {
    "mmaction2 fp32": ("STGCN", {}, False),
    "ours fp32": ("FastSTGCN", {}, False),
    "mmaction2 bf16": ("STGCN", {}, True),
    "ours bf16": ("FastSTGCN", {}, True),
    "ours bf16, with_cp": ("FastSTGCN", {"with_cp": True}, True),
}
TARGETS = {"ours fp32": 1.25, "ours bf16": 2.0}


def make_samples(folder: Path) -> Path:
    """Track and assemble the clips of samples/stage1; return the training pickle."""
    from annotation.stage3 import run_stage3
    from recognizer.config.schema import Config
    from recognizer.runs.manifest import read_manifest
    from recognizer.runs.stage2 import run_stage2

    samples = ROOT / "samples"
    names = [outcome.video for outcome in read_manifest(samples / "stage1").outcomes]
    config = Config.model_validate(
        {
            "annotation": {
                "output_dir": str(folder),
                "dataset": "benchmark",
                "include": names,
                "stage1_dir": str(samples / "stage1"),
            },
            "dataset": {"split": {"sources": str(samples / "sources.csv")}},
        }
    )
    run_stage2(config)
    return run_stage3(config) / "train.pkl"


def make_batches(pickle: Path, size: int, number: int) -> "list[Batch]":
    """Return (inputs, labels) of batches drawn from a pickle, by mmaction2's own data set."""
    import numpy as np
    import torch
    from mmaction.registry import DATASETS

    from recognizer.openmmlab import scope
    from tests.action.clips import plain_steps

    np.random.seed(0)  # noqa: NPY002  # UniformSampleFrames draws from it
    with scope("mmaction"):
        pipeline = plain_steps(["b"], test_mode=False)
        data = DATASETS.build(
            {"type": "PoseDataset", "ann_file": str(pickle), "pipeline": pipeline}
        )
    order = np.random.default_rng(0).permutation(len(data))
    batches = []
    for b in range(number):
        items = [data[int(order[(b * size + i) % len(order)])] for i in range(size)]
        labels = [int(item["data_samples"].gt_labels.item) for item in items]
        batches.append((torch.stack([item["inputs"] for item in items]), labels))
    return batches


def train(contender: str, batches: "Sequence[Batch]", pipe: Connection) -> None:
    """Do one training step for each number received; send CPU seconds and loss."""
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    import torch
    from mmaction.structures import ActionDataSample

    from recognizer.action import registered  # noqa: F401
    from recognizer.openmmlab import scope
    from tests.action.checkpoints import BACKBONE

    torch.set_num_threads(1)
    kind, settings, bf16 = CONTENDERS[contender]
    torch.manual_seed(0)
    with scope("mmaction"):
        from mmaction.registry import MODELS

        head = {**HEAD, "type": "Float32GCNHead" if bf16 else "GCNHead"}
        backbone = {"type": kind, **BACKBONE, **settings}
        net = MODELS.build({"type": "RecognizerGCN", "backbone": backbone, "cls_head": head})
    net.init_weights()
    net.train()
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-4, weight_decay=1e-3)
    while (step := pipe.recv()) is not None:
        inputs, labels = batches[step % len(batches)]
        samples = [ActionDataSample().set_gt_labels(label) for label in labels]
        torch.manual_seed(step)  # the same dropout for everyone
        start = time.process_time()
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            loss = net.loss(inputs, samples)["loss_cls"]
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 2.0)
        optimizer.step()
        pipe.send((time.process_time() - start, loss.item()))


def race(
    batches: "Sequence[Batch]", rounds: int, names: Iterable[str]
) -> dict[str, list[tuple[float, float]]]:
    """Return seconds and losses per contender, which take turns."""
    context = multiprocessing.get_context("spawn")
    pipes, workers = {}, []
    for name in names:
        pipes[name], theirs = context.Pipe()
        workers.append(context.Process(target=train, args=(name, batches, theirs), daemon=True))
        workers[-1].start()
        theirs.close()
    results: dict[str, list[tuple[float, float]]] = {name: [] for name in pipes}
    for step in range(rounds):
        for name, pipe in pipes.items():
            pipe.send(step)
            results[name].append(pipe.recv())
    for pipe in pipes.values():
        pipe.send(None)
    for worker in workers:
        worker.join()
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, help="a stage-3 pickle; default: from samples/")
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=8, help="the first is not timed")
    parser.add_argument("--only", nargs="*", choices=CONTENDERS, default=list(CONTENDERS))
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    from recognizer.openmmlab import load_mmaction

    load_mmaction()
    with tempfile.TemporaryDirectory() as folder:
        pickle = args.data or make_samples(Path(folder))
        batches = make_batches(pickle, args.batch_size, 5)
    present = [inputs.flatten(3).ne(0).any(3).sum().item() for inputs, _ in batches]
    slots = batches[0][0][..., 0, 0, 0].numel()
    print(f"batches of {args.batch_size} clips, {slots} slots, people present: {present}")
    results = race(batches, args.rounds, args.only)
    first = next(iter(results))
    base = statistics.median(seconds for seconds, _ in results[first][1:])
    for name, steps in results.items():
        median = statistics.median(seconds for seconds, _ in steps[1:])
        apart = max(abs(a[1] - b[1]) for a, b in zip(steps, results[first], strict=True))
        target = f" (target {TARGETS[name]} x)" if name in TARGETS else ""
        print(
            f"{name:20} {median:6.2f} s a step, {base / median:5.2f} x{target}; "
            f"losses differ by at most {apart:.1e} in {len(steps)} steps"
        )


if __name__ == "__main__":
    main()
