"""Real clips of samples/ and mmaction2's pipelines, for the tests of recognizer/action."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recognizer.config.schema import Config
from recognizer.dataset.mmaction import to_mmaction
from recognizer.dataset.samples import NoTrackedPeopleError, build_sample
from recognizer.scoring.ranking import rank_people
from recognizer.storage.artifacts import read_poses
from recognizer.tracking.tracker import Tracker
from recognizer.tracking.tracks import fill_gaps
from recognizer.types import PoseSequence, Sample

STAGE1 = Path(__file__).resolve().parents[2] / "samples" / "stage1"


@cache
def real_samples() -> tuple[Sample, ...]:
    """Return every ninth clip of samples/ in which somebody is: up to 6 people each."""
    config = Config()
    samples = []
    for path in sorted(STAGE1.rglob("*.npz"))[::9]:
        sequence = fill_gaps(track(read_poses(path)[0], Tracker(config.tracking)), 0.5)
        ranked = rank_people(sequence, "fight", config.scoring)
        name, label = path.relative_to(STAGE1).as_posix(), int(path.parent.name == "Fight")
        try:
            samples.append(build_sample(sequence, ranked.track_ids, 6, name, label))
        except NoTrackedPeopleError:
            continue
    return tuple(samples)


def track(sequence: PoseSequence, tracker: Tracker) -> PoseSequence:
    """Return the same people with ids, as stage 2 does; that one needs PyAV."""
    frames = zip(sequence.frames(), sequence.time_s, strict=True)
    ids = [tracker.update(poses, float(time_s)).track_ids for poses, time_s in frames]
    return replace(sequence, poses=sequence.poses.with_ids(np.concatenate(ids)))


def still(
    people: int = 2,
    frames: int = 20,
    size_wh: tuple[int, int] = (320, 240),
    seed: int = 0,
    present: NDArray[np.bool_] | None = None,
) -> Sample:
    """Return a made sample; ``present`` (M, T) says who is there, otherwise all zeros."""
    random = np.random.default_rng(seed)
    keypoints = random.uniform(20, 200, (people, frames, 17, 2)).astype(np.float32)
    scores = random.uniform(0.3, 1, (people, frames, 17)).astype(np.float32)
    if present is not None:
        keypoints[~present], scores[~present] = 0, 0
    ids = np.arange(people, dtype=np.int64)
    return Sample("made.mp4", 0, keypoints, scores, size_wh, ids)


def plain_steps(
    feats: Sequence[str],
    clip_len: int = 100,
    num_person: int = 4,
    test_mode: bool = True,
    first: Sequence[dict[str, Any]] = (),
) -> list[dict[str, Any]]:
    """Return the guide's pipeline, of mmaction2's own steps."""
    sampling: dict[str, Any] = {"type": "UniformSampleFrames", "clip_len": clip_len}
    if test_mode:
        sampling |= {"num_clips": 1, "test_mode": True}
    return [
        {"type": "PreNormalize2D"},
        *first,
        {"type": "GenSkeFeat", "dataset": "coco", "feats": feats},
        sampling,
        {"type": "PoseDecode"},
        {"type": "FormatGCNInput", "num_person": num_person},
        {"type": "PackActionInputs"},
    ]


def compose(steps: Sequence[Mapping[str, Any]]) -> Any:
    """Build a pipeline by the names of mmaction2's registry."""
    from mmengine.dataset import Compose

    from recognizer.openmmlab import scope

    with scope("mmaction"):
        return Compose([dict(step) for step in steps])


def item(sample: Sample) -> dict[str, Any]:
    """Return a sample as PoseDataset hands it to a pipeline: a copy of everything."""
    values = to_mmaction(sample)
    arrays = {key: value.copy() for key, value in values.items() if hasattr(value, "copy")}
    return {**values, **arrays, "start_index": 0, "modality": "Pose"}
