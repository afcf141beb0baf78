"""Smoothed velocities: all points at once have the bits of one point after another."""

import numpy as np
import pytest

from recognizer.action.bodyframe import _peaks, joint_velocity
from recognizer.scoring import fight, measures
from recognizer.scoring.measures import PersonFrames

TORSO = (5, 6, 11, 12)
LIMBS = {9: 1.5, 10: 1.5, 7: 1.0, 8: 1.0, 0: 1.0, 15: 0.5, 16: 0.5, 13: 0.5, 14: 0.5}


def random_rows(people=4, frames=60, seed=0):
    """People who come and go, with holes, unequal times and keypoints that are not seen."""
    random = np.random.default_rng(seed)
    time_s = np.cumsum(random.uniform(0.02, 0.09, frames))
    person, frame = np.nonzero(random.random((people, frames)) < 0.8)
    n = len(person)
    keypoints = random.normal(300, 80, (n, 17, 2))
    confidence = np.clip(random.uniform(-0.5, 1.3, (n, 17)), 0, 1)
    return PersonFrames(
        people=people,
        person=person,
        frame=frame,
        time_s=time_s[frame],
        duration_s=np.full(n, 0.04),
        clip_s=float(time_s[-1]) if frames else 0.0,
        keypoints=np.where(confidence[..., None] > 0, keypoints, 0.0),
        confidence=confidence,
        boxes=np.concatenate([keypoints.min(1), keypoints.max(1)], axis=1),
        size_wh=(640, 480),
    )


# --- the definition, one point after another, as before all were worked out at once ---


def centroid(columns, bounds):
    first, last = bounds
    several = (last - first > 1)[:, None]
    running = np.zeros((len(columns) + 1, columns.shape[1]))
    np.cumsum(columns, axis=0, out=running[1:])
    total = running[last] - running[first]
    total -= np.where(several, (columns[first] + columns[last - 1]) / 2, 0.0)
    mass = total[:, -1]
    mean = total[:, :-1] / np.maximum(mass, 1e-9)[:, None]
    return mass / np.maximum(last - first - several[:, 0], 1), mean


def velocity_of(rows, points, confidence):
    columns = np.column_stack([points, rows.time_s, np.ones(len(rows))]) * confidence[:, None]
    mass, past = centroid(columns, rows._before)
    mass_after, future = centroid(columns, rows._after)
    span = future[:, 2] - past[:, 2]
    speed = (future[:, :2] - past[:, :2]) / np.maximum(span, 0.2 * 0.9)[:, None]
    known = np.where(span > 0, np.minimum(mass, mass_after), 0.0)
    return np.where((known > 0)[:, None], speed, 0.0), known


def trunk_of(rows):
    centre = (rows.boxes[:, :2] + rows.boxes[:, 2:]) / 2
    velocity, mass = velocity_of(rows, centre, np.full(len(rows), 0.1))
    total = velocity * mass[:, None]
    for joint in TORSO:
        velocity, known = velocity_of(rows, rows.keypoints[:, joint], rows.confidence[:, joint])
        total += velocity * known[:, None]
        mass = mass + known
    return total / np.maximum(mass, 1e-9)[:, None]


def joints_of(rows):
    trunk, found = trunk_of(rows), np.zeros((len(rows), 17, 2))
    for joint in range(17):
        moved, known = velocity_of(rows, rows.keypoints[:, joint], rows.confidence[:, joint])
        found[:, joint] = (moved - trunk) * known[:, None]
    return found / rows.size[:, None, None]


def limbs_of(rows):
    trunk, square, mass = trunk_of(rows), np.zeros(len(rows)), np.ones(len(rows))
    for joint, weight in LIMBS.items():
        velocity, known = velocity_of(rows, rows.keypoints[:, joint], rows.confidence[:, joint])
        speed = np.minimum(np.hypot(*(velocity - trunk).T) / rows.size, 6.0)
        square += weight * known * np.square(speed)
        mass += weight * known
    pace = np.hypot(*rows.mean(trunk, rows.window(0.5, 0.5)).T) / rows.size
    return np.maximum(np.sqrt(square / mass) - 0.4 * pace, 0)


@pytest.mark.parametrize("at_once", [1, 1000, measures._POINTS_AT_ONCE])
@pytest.mark.parametrize("size", [(4, 60), (1, 1), (1, 2), (3, 0), (9, 200)], ids=str)
def test_all_points_at_once_have_the_bits_of_one_after_another(size, at_once, monkeypatch):
    monkeypatch.setattr(measures, "_POINTS_AT_ONCE", at_once)
    rows = random_rows(*size)
    for found, expected in (
        (rows.trunk_velocity(), trunk_of(rows)),
        (joint_velocity(rows), joints_of(rows)),
        (fight.limb_speed(rows), limbs_of(rows)),
    ):
        assert found.shape == expected.shape
        assert found.tobytes() == expected.tobytes()


def test_the_bits_are_those_of_somebody_who_moves():
    rows = random_rows()
    assert np.abs(joint_velocity(rows)).max() > 1
    assert fight.limb_speed(rows).max() > 0.5


@pytest.mark.parametrize("size", [(4, 60), (1, 1), (2, 2), (3, 0)], ids=str)
def test_peaks_have_the_bits_of_one_quantile_after_another(size):
    rows = random_rows(*size)
    values = np.random.default_rng(1).random((3, len(rows)))
    reference = ((0, 0.8), (1, 0.9), (0, 1.0), (2, 0.95))
    expected = np.zeros((len(rows), len(reference)))
    for person in set(rows.person):
        own = rows.person == person
        expected[own] = [np.quantile(values[which][own], q) for which, q in reference]
    assert _peaks(rows, values, reference).tobytes() == expected.tobytes()
