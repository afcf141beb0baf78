"""Measure the shipped ONNX classifier against eager mmaction2, one clip at a time.

    python -m benchmarks.classifier_speed --data output/<...>/stage3_dataset/<...>/test.pkl

The guide's network with random weights, real clips (without --data: those of samples/stage1,
tracked and made into samples first). mmaction2: its own STGCN and recognizer in eval mode under
inference_mode, the slots of num_person filled up with zeros, features made before. Ours: the
file in ONNX Runtime with the people present only; "network" with features made before, "whole"
from the sample's keypoints. All take turns in one process, one thread each; CPU time and wall
time, medians. Probabilities are compared.
"""

import argparse
import logging
import os
import statistics
import sys
import tempfile
import time
import warnings
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

TARGETS = {4: 2.0, 2: 4.0}


def ship(folder):
    """Save the guide's network as a checkpoint, export it; return the classifier and member."""
    from deploy.export import export
    from recognizer.action.classifier import Classifier
    from recognizer.action.graphs import load_member
    from recognizer.config.action import ClassifierConfig
    from recognizer.config.schema import Config
    from recognizer.runs.progress import silent
    from tests.action.checkpoints import save, train_config

    checkpoint = save(folder / "guide.pth", train_config(width=64, clip_len=100))
    export(Config.model_validate({"deploy": {"checkpoint": str(checkpoint)}}), silent)
    section = ClassifierConfig(model_path=str(folder / "fight.onnx"))
    return Classifier.open(section), load_member(checkpoint)


def first_people(sample, people):
    """Return the poses of the sample's first people; boxes and movement, not read here, go."""
    from dataclasses import replace

    return replace(
        sample,
        keypoints=sample.keypoints[:people],
        keypoint_scores=sample.keypoint_scores[:people],
        track_ids=sample.track_ids[:people],
        boxes=None,
        movement=None,
    )


def eager(member, persons):
    """Return a call that gives mmaction2's probabilities, on all slots."""
    import torch
    from mmaction.structures import ActionDataSample

    slots = torch.zeros(1, 1, member.features.num_person, *persons.shape[1:])
    slots[0, 0, : len(persons)] = torch.from_numpy(persons)
    network = member.recognizer

    def run():
        with torch.inference_mode():
            judged = network(slots, [ActionDataSample()], mode="predict")
        return judged[0].pred_scores.item.numpy()

    return run


def race(contenders, rounds):
    """Return CPU seconds and wall seconds per contender, which take turns; the first is dropped."""
    taken = {name: [] for name in contenders}
    for _ in range(rounds + 1):
        for name, run in contenders.items():
            wall, cpu = time.perf_counter(), time.process_time()
            run()
            taken[name].append((time.process_time() - cpu, time.perf_counter() - wall))
    return {name: list(zip(*times[1:], strict=True)) for name, times in taken.items()}


def report(people, times, apart):
    base = [statistics.median(kind) for kind in times["mmaction2"]]
    print(f"{people} people present; probabilities differ by at most {apart:.1e}")
    for name, kinds in times.items():
        cpu, wall = (statistics.median(kind) for kind in kinds)
        target = f" (target {TARGETS[people]} x)" if name != "mmaction2" else ""
        print(
            f"  {name:10} CPU {cpu * 1e3:7.2f} ms {base[0] / cpu:6.2f} x, "
            f"wall {wall * 1e3:7.2f} ms {base[1] / wall:6.2f} x{target}"
        )


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, help="a stage-3 pickle; default: from samples/")
    parser.add_argument("--rounds", type=int, default=40)
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    import numpy as np
    import torch

    from recognizer.action.features import network_input
    from recognizer.dataset.mmaction import read_split
    from tests.action.clips import real_samples

    torch.set_num_threads(1)
    samples = read_split(args.data) if args.data else list(real_samples())
    with tempfile.TemporaryDirectory() as folder:
        classifier, member = ship(Path(folder))
        for people in TARGETS:
            cut = [first_people(sample, people) for sample in samples]
            sample = next(s for s in cut if len(network_input(s, member.features)) == people)
            persons = network_input(sample, member.features)
            contenders = {
                "mmaction2": eager(member, persons),
                "network": lambda persons=persons: classifier.run({"persons": persons}),
                "whole": lambda sample=sample: classifier.probabilities(sample),
            }
            answers = [run() for run in contenders.values()]
            apart = max(float(np.abs(answer - answers[0]).max()) for answer in answers)
            report(people, race(contenders, args.rounds), apart)


if __name__ == "__main__":
    main()
