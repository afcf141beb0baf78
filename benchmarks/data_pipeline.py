"""Measure the skeleton pipeline that chooses frames first against mmaction2's own.

    python -m benchmarks.data_pipeline                     # the clips of samples/
    python -m benchmarks.data_pipeline path/to/train.pkl   # any stage-3 pickle

Both read the same pickle by their data set (PoseDataset, LeanPoseDataset) as a training does:
sample after sample in a shuffled order, one process, one thread, CPU time, in turn over several
rounds. Before that every sample of both is compared, in training and in test mode, from the same
state of NumPy's generator. Prints samples/s of each and the ratio.
"""

# ruff: noqa: NPY002 - mmaction2 draws from the global generator

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np

import recognizer.action.registered  # noqa: F401 - registers
from recognizer.dataset.mmaction import read_split, write_split
from recognizer.openmmlab import scope
from tests.action.clips import plain_steps, real_samples

Datasets = dict[str, Any]  # mmaction2's own, by name
TARGET = 5
STREAMS = {
    "bones": ["b"],
    "joints": ["j"],
    "bone motions": ["bm"],
    "all four": ["j", "b", "jm", "bm"],
}


def pipelines(
    feats: Sequence[str], clip_len: int, num_person: int, test_mode: bool
) -> dict[str, list[dict[str, Any]]]:
    """Return the steps of both data sets, by the data set's name."""
    sampling = {"num_clips": 1, "test_mode": True} if test_mode else {}
    ours: list[dict[str, Any]] = [
        {"type": "SampleSkeleton", "clip_len": clip_len, "num_person": num_person, **sampling},
        {"type": "SkeletonInput", "feats": feats},
        {"type": "PackActionInputs"},
    ]
    plain = plain_steps(feats, clip_len, num_person, test_mode)
    return {"PoseDataset": plain, "LeanPoseDataset": ours}


def datasets(
    path: Path, feats: Sequence[str], args: argparse.Namespace, test_mode: bool = False
) -> Datasets:
    """Return both data sets of a pickle."""
    from mmaction.registry import DATASETS

    steps = pipelines(feats, args.clip_len, args.num_person, test_mode)
    with scope("mmaction"):
        return {
            name: DATASETS.build(
                {"type": name, "ann_file": str(path), "pipeline": pipeline, "test_mode": test_mode}
            )
            for name, pipeline in steps.items()
        }


def compare(found: Datasets) -> int:
    """Return the number of samples that are not equal bit for bit."""
    plain, ours = found.values()
    different = 0
    for i in range(len(plain)):
        np.random.seed(i)
        a = plain[i]
        np.random.seed(i)
        b = ours[i]
        same = np.array_equal(a["inputs"].numpy(), b["inputs"].numpy())
        same &= bool((a["data_samples"].gt_labels.item == b["data_samples"].gt_labels.item).all())
        different += not same
    return different


def measure(found: Datasets, rounds: int, least: int) -> dict[str, list[float]]:
    """Return CPU seconds per sample of each data set, one value per round, in turn."""
    spent: dict[str, list[float]] = {name: [] for name in found}
    number = len(next(iter(found.values())))
    passes = max(1, -(-least // number))
    for r in range(rounds):
        order = np.random.RandomState(r).permutation(np.tile(np.arange(number), passes))
        for name, dataset in found.items():
            np.random.seed(r)
            begin = time.process_time()
            for i in order:
                dataset[int(i)]
            spent[name].append((time.process_time() - begin) / len(order))
    return spent


def report(path: Path, args: argparse.Namespace) -> int:
    """Print the table; return the exit code, 1 where samples differ."""
    samples = read_split(path)
    frames = sorted(s.keypoints.shape[1] for s in samples)
    people = sorted(len(s.keypoints) for s in samples)
    print(
        f"{len(samples)} samples, {frames[0]}-{frames[-1]} frames (median "
        f"{statistics.median(frames):.0f}), {people[0]}-{people[-1]} people; input "
        f"{args.num_person} people x {args.clip_len} frames; CPU time, {args.rounds} rounds:"
    )
    failed = False
    for title, feats in STREAMS.items():
        wrong = sum(compare(datasets(path, feats, args, mode)) for mode in (False, True))
        spent = measure(datasets(path, feats, args), args.rounds, args.samples)
        plain, ours = spent.values()
        ratios = [a / b for a, b in zip(plain, ours, strict=True)]
        equal = "all samples equal" if not wrong else f"{wrong} SAMPLES DIFFER"
        print(
            f"  {title:14} mmaction2 {1 / statistics.median(plain):6.0f}/s, ours "
            f"{1 / statistics.median(ours):6.0f}/s: {statistics.median(ratios):5.1f} x "
            f"(least {min(ratios):.1f}, wanted {TARGET}); {equal}",
            flush=True,
        )
        failed |= bool(wrong)
    return int(failed)


def from_samples(folder: Path) -> Path:
    """Write the clips of samples/ as a pickle."""
    write_split(folder / "train.pkl", folder, real_samples())
    return folder / "train.pkl"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("ann_file", type=Path, nargs="?", help="a stage-3 pickle")
    parser.add_argument("--clip-len", type=int, default=100)
    parser.add_argument("--num-person", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--samples", type=int, default=300, help="samples a round, at least")
    args = parser.parse_args()
    if args.ann_file:
        return report(args.ann_file, args)
    with tempfile.TemporaryDirectory() as folder:
        return report(from_samples(Path(folder)), args)


if __name__ == "__main__":
    sys.exit(main())
