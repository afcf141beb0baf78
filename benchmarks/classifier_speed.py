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
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from recognizer.action.classifier import Classifier
    from recognizer.action.onnx_export import EnsembleMember
    from recognizer.types import FloatArray, Sample

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
TARGETS = {4: 2.0, 2: 4.0}


def ship(folder: Path) -> "tuple[Classifier, EnsembleMember]":
    """Save the guide's network as a checkpoint, export it; return the classifier and member."""
    from deploy.export import export
    from recognizer.action.classifier import Classifier
    from recognizer.action.onnx_export import load_member
    from recognizer.config.action import ClassifierConfig
    from recognizer.config.schema import Config
    from recognizer.runs.progress import silent
    from tests.action.checkpoints import save, train_config

    checkpoint = save(folder / "guide.pth", train_config(width=64, clip_len=100))
    export(Config.model_validate({"deploy": {"checkpoint": str(checkpoint)}}), silent)
    section = ClassifierConfig(model_path=str(folder / "fight.onnx"))
    return Classifier.open(section), load_member(checkpoint)


def first_people(sample: "Sample", people: int) -> "Sample":
    """Return the poses of the sample's first people, without boxes and movement."""
    return replace(
        sample,
        keypoints=sample.keypoints[:people],
        keypoint_scores=sample.keypoint_scores[:people],
        track_ids=sample.track_ids[:people],
        boxes=None,
        movement=None,
    )


def eager(
    member: "EnsembleMember", persons: "FloatArray"
) -> "Callable[[], NDArray[np.floating[Any]]]":
    """Return a call that gives mmaction2's probabilities, on all slots."""
    import torch
    from mmaction.structures import ActionDataSample

    slots = torch.zeros(1, 1, member.features.num_person, *persons.shape[1:])
    slots[0, 0, : len(persons)] = torch.from_numpy(persons)
    network = member.recognizer

    def run() -> Any:
        with torch.inference_mode():
            predictions = network(slots, [ActionDataSample()], mode="predict")
        return predictions[0].pred_scores.item.numpy()

    return run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, help="a stage-3 pickle; default: from samples/")
    parser.add_argument("--rounds", type=int, default=40)
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    import numpy as np
    import torch

    from benchmarks._turns import print_ratios, race
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
            calls: dict[str, Callable[[], NDArray[np.floating[Any]]]] = {
                "mmaction2": eager(member, persons),
                "network": partial(classifier.run, {"persons": persons}),
                "whole": partial(classifier.probabilities, sample),
            }
            answers = [run() for run in calls.values()]
            apart = max(float(np.abs(answer - answers[0]).max()) for answer in answers)
            print(f"{people} people present; probabilities differ by at most {apart:.1e}")
            times = race(calls, args.rounds)
            print_ratios(times, "mmaction2", dict.fromkeys(("network", "whole"), TARGETS[people]))


if __name__ == "__main__":
    main()
