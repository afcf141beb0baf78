"""With keypoint weight 0 at 30 frames/s, ids are the original's, frame by frame."""

import numpy as np
import pytest

from recognizer.config.schema import TrackingConfig
from recognizer.tracking.tracker import Tracker
from tests.people import Camera, crowd, film
from tests.tracking.original import OriginalByteTrack

OURS = {"keypoint_weight": 0.0, "iou_weight": 1.0, "min_box_area": 0.0}
CLEAN = Camera(scores=(0.65, 0.95))
NOISY = Camera(jitter=0.02, missed=0.1, low=0.15, scores=(0.4, 0.95))
ROUGH = Camera(jitter=0.04, missed=0.3, low=0.4, scores=(0.3, 0.95))

# people, how long each stays (s), camera, seconds, seeds
SCENES = {
    "few": (5, np.inf, CLEAN, 6, range(2)),
    "few, noisy": (5, 3.0, NOISY, 6, range(2)),
    "few, rough": (8, 2.0, ROUGH, 6, range(3)),
    "crossing": (15, np.inf, NOISY, 4, range(2)),
    "coming and going": (15, 0.7, NOISY, 4, range(2)),
    "crowd": (30, 4.0, NOISY, 2, range(2)),
    "dense crowd, rough": (60, 1.0, ROUGH, 1.5, range(1)),
}


def _compare(people, camera, seed, seconds, ours, original):
    tracked = 0
    for number, shot in enumerate(film(people, 30, seconds, camera, seed)):
        got = ours.update(shot.poses, shot.time_s).track_ids
        expected = original.update(shot.poses.boxes, shot.poses.box_scores)
        assert got.tolist() == expected.tolist(), f"frame {number}"
        tracked += int((got > 0).sum())
    return tracked


@pytest.mark.parametrize("name", SCENES)
def test_same_ids(name):
    count, stay_s, camera, seconds, seeds = SCENES[name]
    for seed in seeds:
        people = crowd(count, seed, seconds=seconds, stay_s=stay_s)
        ours, original = Tracker(TrackingConfig(**OURS)), OriginalByteTrack()
        tracked = _compare(people, camera, seed, seconds, ours, original)
        assert tracked > 10 * count, f"seed {seed}: the scene must give ids to compare"


@pytest.mark.parametrize(
    ("keys", "original"),
    [
        ({"track_buffer_s": 0.1}, {"buffer_frames": 3}),
        ({"track_buffer_s": 2.0}, {"buffer_frames": 60}),
        ({"match_thresh": 0.6}, {"match": 0.6}),
        ({"track_high_thresh": 0.7, "new_track_thresh": 0.8}, {"high": 0.7, "new": 0.8}),
        ({"track_low_thresh": 0.3}, {"low": 0.3}),
    ],
    ids=["short buffer", "long buffer", "strict match", "high scores only", "few low scores"],
)
def test_same_ids_with_other_settings(keys, original):
    for seed in range(2):
        people = crowd(12, seed, seconds=4, stay_s=2.0)
        ours = Tracker(TrackingConfig(**OURS, **keys))
        _compare(people, ROUGH, seed, 4, ours, OriginalByteTrack(**original))


def test_same_ids_when_nobody_was_there_first():
    people = [p for p in crowd(8, 3, seconds=3, stay_s=1.0) if p.first_s > 0]
    ours, original = Tracker(TrackingConfig(**OURS)), OriginalByteTrack()
    assert _compare(people, NOISY, 0, 3, ours, original) > 0


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(100, 160))
def test_same_ids_at_length(seed):
    rng = np.random.default_rng(seed)
    camera = Camera(
        jitter=rng.uniform(0.002, 0.05),
        missed=rng.uniform(0, 0.4),
        low=rng.uniform(0, 0.5),
        scores=(rng.uniform(0.2, 0.7), 0.95),
    )
    people = crowd(int(rng.integers(5, 50)), seed, seconds=5, stay_s=rng.uniform(0.3, 6))
    ours, original = Tracker(TrackingConfig(**OURS)), OriginalByteTrack()
    _compare(people, camera, seed, 5, ours, original)
