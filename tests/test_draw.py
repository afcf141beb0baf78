import time
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recognizer.draw import color_of, draw_caption, draw_people, draw_skeleton
from recognizer.types import Poses
from tests.people import BODY

RED = (0, 0, 255)
FIELDS = ("keypoints", "keypoint_scores", "boxes", "box_scores", "track_ids")


def canvas(height=240, width=320, grey=60):
    return np.full((height, width, 3), grey, np.uint8)


def body(centre=(160, 120), height=180.0):
    return (np.asarray(centre) + BODY * height).astype(np.float32)


def people(ids, box_scores=None, height=180.0):
    count = len(ids)
    keypoints = np.stack([body((60 + 100 * i, 120), height) for i in range(count)])
    low, high = keypoints.min(axis=1) - 5, keypoints.max(axis=1) + 5
    return Poses(
        keypoints,
        np.full((count, 17), 0.9, np.float32),
        np.concatenate([low, high], axis=1).astype(np.float32),
        np.asarray(box_scores or [0.9] * count, np.float32),
        np.asarray(ids, np.int64),
    )


def changed(before, after):
    return (before != after).any(axis=2)


def test_skeleton_lies_on_the_keypoints_and_the_image_stays():
    image = canvas()
    drawn = draw_skeleton(image, body(), np.ones(17), RED)
    assert (image == 60).all()
    assert drawn.shape == image.shape
    mask = changed(image, drawn)
    assert all(mask[round(y), round(x)] for x, y in body().tolist())
    rows, columns = np.nonzero(mask)
    low, high = body().min(axis=0) - 6, body().max(axis=0) + 6
    assert rows.min() >= low[1]
    assert rows.max() <= high[1]
    assert columns.min() >= low[0]
    assert columns.max() <= high[0]


@pytest.mark.parametrize("score", [0.0, 0.29, np.nan], ids=["missing", "below", "nan"])
def test_keypoint_that_does_not_count_is_left_out_with_its_limbs(score):
    points, scores = body(), np.ones(17)
    points[9], scores[9] = (10, 10), score
    mask = changed(canvas(), draw_skeleton(canvas(), points, scores, RED))
    assert not mask[:40, :40].any()


def test_score_0_is_missing_even_at_threshold_0():
    scores = np.zeros(17)
    assert not changed(canvas(), draw_skeleton(canvas(), body(), scores, RED, 0.0)).any()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e30, -1e9, 2.0**31, 5000])
def test_coordinates_out_of_all_reason(value):
    poses = people([1, 2])
    poses.keypoints[0, ::2, 0] = value
    poses.boxes[1, 2] = value
    assert draw_people(canvas(), poses, {1: 0.5, 2: np.nan}).shape == (240, 320, 3)


@given(
    seed=st.integers(0, 2**32 - 1),
    spread=st.sampled_from([1.0, 100.0, 1e4, 1e7, 1e30]),
    size=st.tuples(st.integers(1, 90), st.integers(1, 90)),
)
@settings(max_examples=60, deadline=None)
def test_anything_goes_in_and_a_picture_comes_out(seed, spread, size):
    rng = np.random.default_rng(seed)
    count = int(rng.integers(0, 4))
    poses = Poses(
        (rng.normal(0, 1, (count, 17, 2)) * spread).astype(np.float32),
        rng.uniform(0, 1, (count, 17)).astype(np.float32),
        (rng.normal(0, 1, (count, 4)) * spread).astype(np.float32),
        rng.choice([0.0, 0.5], count).astype(np.float32),
        rng.integers(-1, 2**62, count),
    )
    image = canvas(*size)
    drawn = draw_caption(draw_people(image, poses, {}), "caption")
    assert drawn.shape == image.shape
    assert drawn.dtype == np.uint8
    assert (image == 60).all()


def test_nobody_changes_nothing():
    assert not changed(canvas(), draw_people(canvas(), Poses.empty(), None)).any()


def test_color_belongs_to_the_id():
    first = [color_of(i) for i in range(12)]
    assert first == [color_of(i) for i in range(12)]
    distance = [np.abs(np.subtract(a, b)).sum() for a, b in pairwise(first)]
    assert min(distance) > 150
    assert len(set(first)) == 12
    assert color_of(-1) not in first


def test_interpolated_people_are_fainter():
    image = canvas(grey=0)
    seen = draw_people(image, people([1]))
    guessed = draw_people(image, people([1], [0.0]))
    assert 0 < guessed[40:].sum(dtype=int) < 0.6 * seen[40:].sum(dtype=int)


def test_people_without_id_are_faint_only_beside_tracked_ones():
    image = canvas(grey=0)
    stage1 = draw_people(image, people([-1]), None)
    stage2 = draw_people(image, people([-1]), {})
    assert 0 < stage2.sum(dtype=int) < 0.6 * stage1.sum(dtype=int)


def test_label_tells_the_involvement_and_untracked_people_have_none():
    image = canvas()
    plain, scored = draw_people(image, people([7])), draw_people(image, people([7]), {7: 0.5})
    assert changed(plain, scored).any()
    nameless = draw_people(image, people([-1]), {7: 0.5})
    # Above the box of somebody without id there is nothing.
    top = int(people([-1]).boxes[0, 1])
    assert not changed(image, nameless)[: top - 3].any()
    assert changed(image, scored)[: top - 3].any()


@pytest.mark.parametrize("box", [(-50, -50, 20, 20), (310, 230, 400, 300), (0, 0, 320, 240)])
def test_label_stays_inside_the_picture(box):
    poses = people([123456])
    poses.boxes[0] = box
    poses.keypoint_scores[:] = 0
    drawn = draw_people(canvas(), poses, {123456: 0.25})
    label = (np.abs(drawn.astype(int) - color_of(123456)).sum(axis=2) < 30).sum()
    assert label > 300


def test_sizes_follow_the_picture():
    small = draw_skeleton(canvas(270, 480), body((200, 130), 180), np.ones(17), RED)
    large = draw_skeleton(canvas(1080, 1920), body((800, 520), 720), np.ones(17), RED)
    part = [changed(canvas(*i.shape[:2]), i).mean() for i in (small, large)]
    assert 0.4 < part[1] / part[0] < 1.5


@pytest.mark.parametrize(
    "text",
    ["", "a/b.mp4  1.20 s", "x" * 500, "안녕 é\n\t\0.mp4"],
    ids=["none", "short", "long", "odd"],
)
def test_caption_fits_and_lies_at_the_bottom(text):
    image = canvas()
    mask = changed(image, draw_caption(image, text))
    assert not mask[:180].any()
    assert not mask[:, -2:].any()
    assert mask.any() == bool(text)


def test_pictures_that_opencv_does_not_own():
    """Views and read-only arrays go in as they are."""
    image = canvas()[:, ::-1]
    image.setflags(write=False)
    assert draw_people(image, people([1, 2]), {}).any()
    assert draw_caption(image, "text").any()
    assert (image == 60).all()


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((4, 4), np.uint8),
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((4, 4, 3), np.float32),
        np.zeros((0, 4, 3), np.uint8),
        None,
        "picture.png",
    ],
    ids=["grey", "alpha", "float", "empty", "none", "path"],
)
def test_what_is_no_picture_is_refused(image):
    calls = (
        lambda: draw_people(image, Poses.empty()),
        lambda: draw_skeleton(image, body(), np.ones(17), RED),
        lambda: draw_caption(image, "text"),
        lambda: draw_caption(image, ""),
    )
    for call in calls:
        with pytest.raises(ValueError, match=r"image: expected \(H, W, 3\) uint8 BGR pixels, got"):
            call()


def test_a_caption_of_any_length_takes_no_longer():
    image = canvas()
    start = time.process_time()
    drawn = draw_caption(image, "word " * 10**6)
    assert time.process_time() - start < 5  # it took minutes
    assert (drawn == draw_caption(image, "word " * 10**3)).all()


def tag_pixels(image, track_id):
    """Return how many pixels are of the ground of an id's tag."""
    return int((image == color_of(track_id)).all(axis=2).sum())


@pytest.mark.parametrize("place", [(60, 60), (0, 0), (300, 200), (60, 200)])
def test_tags_do_not_cover_each_other(place):
    """People at one place, each with a tag of the same size: all of them are seen whole."""
    ids = [7, 8, 9, 6]
    poses = people(ids)
    poses.boxes[:] = np.float32([[*place, *place]] * 4) + np.float32([[0, 0, 60, 90]])
    poses.boxes[:, :2] += np.arange(4)[:, None]
    poses.keypoint_scores[:] = 0
    apart = {}
    for row, track_id in enumerate(ids):
        alone = Poses(*(getattr(poses, f)[row : row + 1] for f in FIELDS))
        apart[track_id] = tag_pixels(draw_people(canvas(), alone), track_id)
    drawn = draw_people(canvas(), poses)
    seen = {track_id: tag_pixels(drawn, track_id) for track_id in ids}
    assert all(seen[i] > 0.75 * apart[i] for i in ids), (seen, apart)


def test_the_most_involved_keeps_the_place_of_its_tag():
    poses = people([1, 2])
    poses.boxes[1] = poses.boxes[0]
    poses.keypoint_scores[:] = 0
    alone = Poses(*(getattr(poses, f)[1:] for f in FIELDS))
    both = draw_people(canvas(), poses, {1: 0.2, 2: 0.9})
    ground = (draw_people(canvas(), alone, {2: 0.9}) == color_of(2)).all(axis=2)
    assert ground.any()
    assert (both[ground] == color_of(2)).all()


def test_a_crowd_takes_as_many_measured_texts_as_people(monkeypatch):
    from recognizer import text

    boxes_made, box = [], text.Tag.box
    monkeypatch.setattr(
        text.Tag, "box", lambda tag, size_wh: boxes_made.append(tag) or box(tag, size_wh)
    )
    count = 200
    draw_people(canvas(), people(list(range(count))))
    assert 0 < len(boxes_made) <= count + 3 * 50  # 50 tags are placed: own box, places, result
