"""Measures of a clip: in body sizes and seconds, whatever the camera, and finite."""

from dataclasses import replace

import numpy as np
import pytest

from recognizer.action.classifier_metadata import SERVICES
from recognizer.action.measures import _cut, clip_measures, has_movement, measure_names
from tests.action.clips import still
from tests.action.moving import clip, without_movement


def named(sample, service):
    return dict(zip(measure_names(service), clip_measures(sample, service).tolist(), strict=True))


@pytest.mark.parametrize("service", SERVICES)
@pytest.mark.parametrize("people", [1, 2, 4])
def test_one_finite_number_for_each_name(service, people):
    values = clip_measures(clip(people), service)
    names = measure_names(service)
    assert (values.dtype, values.shape) == (np.float32, (len(names),))
    assert np.isfinite(values).all()
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("service", SERVICES)
@pytest.mark.parametrize(
    "other", [{"scale": 4.0}, {"shift": (2.0, -1.0)}], ids=["four times as near", "elsewhere"]
)
def test_neither_pixels_nor_place_count(service, other):
    np.testing.assert_allclose(
        clip_measures(clip(**other), service), clip_measures(clip(), service), rtol=0, atol=2e-3
    )


@pytest.mark.parametrize("service", SERVICES)
def test_the_picture_does_not_count(service):
    other = replace(clip(), size_wh=(64, 48))
    np.testing.assert_array_equal(clip_measures(other, service), clip_measures(clip(), service))


@pytest.mark.parametrize("service", SERVICES)
def test_the_frame_rate_hardly_counts(service):
    values = clip_measures(clip(frames=25, fps=12.5), service)
    twice = clip_measures(clip(frames=50, fps=25.0), service)
    assert np.abs(values - twice).max() < 0.12 * max(1.0, np.abs(values).max())


def test_more_movement_and_nearer_people_show():
    slow, fast = (named(clip(rate=rate), "fight") for rate in (0.1, 2.0))
    assert fast["first_limbs_max"] > slow["first_limbs_max"] > 0
    assert fast["contact_max"] > slow["contact_max"] > 0
    one, two = (named(clip(people), "fight") for people in (1, 2))
    assert two["distance_mean"] < one["distance_mean"]
    assert (one["people_max"], two["people_max"]) == (1, 2)
    assert one["second_limbs_max"] == one["contact_max"] == 0


def falling(drop):
    """Return one person whose box comes down and lies down half-way through."""
    sample = clip(1)
    boxes = sample.boxes.copy()
    _, y1, x2, y2 = boxes[0].T
    late = np.arange(len(y1)) >= len(y1) // 2
    height = y2 - y1
    boxes[0, late, 1] = (y1 + drop * height)[late]
    boxes[0, late, 2] = (x2 + drop * height)[late]
    return replace(sample, boxes=boxes)


def test_a_fall_shows():
    upright, fallen = (named(falling(drop), "falldown") for drop in (0.0, 0.7))
    assert fallen["top_drop"] == pytest.approx(0.7, abs=0.1)
    assert fallen["top_fastest"] == pytest.approx(0.7, abs=0.1)
    assert upright["top_drop"] == pytest.approx(0, abs=0.02)
    assert fallen["aspect_change"] > 1 > abs(upright["aspect_change"])
    assert fallen["height_change"] < -1


def test_of_several_people_the_one_who_falls_counts():
    fallen, other = falling(0.7), clip(1)
    both = clip(2)
    for order in ((other, fallen), (fallen, other)):
        arrays = {
            key: np.concatenate([getattr(one, key) for one in order])
            for key in ("keypoints", "keypoint_scores", "boxes", "movement")
        }
        assert named(replace(both, **arrays), "falldown")["top_drop"] > 0.6


def test_a_fall_shows_though_the_id_changes_in_it():
    whole = falling(0.7)
    early = np.arange(whole.boxes.shape[1]) < whole.boxes.shape[1] // 2
    arrays = {}
    for key, nothing in (
        ("keypoints", 0),
        ("keypoint_scores", 0),
        ("boxes", np.nan),
        ("movement", np.nan),
    ):
        both = np.repeat(getattr(whole, key), 2, axis=0)
        both[0, ~early] = both[1, early] = nothing
        arrays[key] = both
    parted = replace(whole, **arrays, track_ids=np.array([3, 8]))
    assert clip_measures(parted, "falldown") == pytest.approx(clip_measures(whole, "falldown"))
    away = np.array([0, 900], np.float32)[:, None, None]
    elsewhere = replace(parted, boxes=parted.boxes + away)
    assert named(elsewhere, "falldown")["any_top_drop"] < 0.1
    assert named(elsewhere, "falldown")["top_fastest"] < 0.1


def absent(sample, slot, frames):
    boxes, movement = sample.boxes.copy(), sample.movement.copy()
    boxes[slot, frames] = np.nan
    movement[slot, frames] = np.nan
    return replace(sample, boxes=boxes, movement=movement)


@pytest.mark.parametrize("service", SERVICES)
@pytest.mark.parametrize(
    "sample",
    [
        absent(clip(2), 1, slice(None)),
        absent(absent(clip(2), 0, slice(0, 12)), 1, slice(12, None)),
        absent(clip(1), 0, slice(1, None)),
        replace(clip(2), keypoint_scores=np.zeros((2, 25, 17), np.float32)),
        replace(clip(2), time_s=np.zeros(25)),
        clip(1, frames=1),
    ],
    ids=["never there", "by turns", "one frame", "no keypoint", "no time passes", "still"],
)
@pytest.mark.filterwarnings("error")
def test_people_who_are_absent_leave_finite_numbers(service, sample):
    assert has_movement(sample)
    assert np.isfinite(clip_measures(sample, service)).all()


@pytest.mark.parametrize(
    "sample",
    [
        still(),
        without_movement(clip()),
        replace(clip(), boxes=None),
        absent(clip(2), slice(None), slice(None)),
    ],
    ids=["an old pickle", "none", "no boxes", "nothing measured"],
)
def test_without_movement_the_way_to_it_is_reported(sample):
    assert not has_movement(sample)
    with pytest.raises(ValueError, match=r"made.mp4: expected boxes and movement.*stage1"):
        clip_measures(sample, "fight")


def timed(time_s):
    return replace(clip(2, frames=len(time_s)), time_s=np.asarray(time_s, np.float64))


@pytest.mark.parametrize("frames", [1, 2, 7, 25, 35, 50])
@pytest.mark.parametrize(
    "times",
    [
        lambda i: i / 12.5,
        lambda i: np.round(i / 29.97, 3),
        lambda i: np.floor(i * 30 / 12.5) / 30,
        lambda i: i * 0.0,
    ],
    ids=["constant", "to the millisecond", "every second or third frame", "no time passes"],
)
def test_at_a_constant_rate_parts_are_shares_of_the_frames(times, frames):
    sample = timed(times(np.arange(frames)))
    unknown = replace(sample, time_s=None)
    for start, stop in ((0.0, 0.6), (0.2, 0.8), (0.4, 1.0), (1.0, 1.0)):
        expected = _cut(unknown, start, stop)
        for key in ("keypoints", "keypoint_scores", "boxes", "movement"):
            assert np.array_equal(getattr(_cut(sample, start, stop), key), getattr(expected, key))


def test_at_a_changing_rate_parts_are_shares_of_the_seconds():
    time_s = np.concatenate([np.arange(40) * 0.05, 2 + np.arange(10) * 0.2])  # 2 s, then 2 s
    sample = timed(time_s)
    found = [_cut(sample, *part) for part in ((0.0, 0.6), (0.2, 0.8), (0.4, 1.0))]
    span_s = time_s[-1] + 0.05  # the median step stands for the last one
    for part, (start, stop) in zip(found, ((0.0, 0.6), (0.2, 0.8), (0.4, 1.0)), strict=True):
        inside = (time_s > start * span_s - 0.05) & (time_s < stop * span_s)
        assert part.time_s.tolist() == time_s[inside].tolist()
        assert part.keypoints.shape[1] == part.boxes.shape[1] == part.movement.shape[1]
    assert found[0].keypoints.shape[1] > 40  # 30 by frames


def test_an_unknown_service_is_refused():
    with pytest.raises(ValueError, match="service: expected one of"):
        measure_names("theft")
