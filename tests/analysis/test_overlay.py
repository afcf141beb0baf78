"""The overlay: the picture stays whole, the strip tells time, probability and events."""

import tracemalloc
from dataclasses import replace

import numpy as np
import pytest

from recognizer.action.results import Event
from recognizer.analysis.overlay import overlay_frames
from recognizer.analysis.timeline import LANE_COLORS, LEGEND, LEGEND_RESTING, Lane, Timeline
from recognizer.analysis.zones import Zone
from recognizer.draw import color_of
from recognizer.text import TextStyle
from recognizer.types import Poses, PoseSequence
from tests.analysis.records import person, record, result, sliding, window

SPAN_S = (0.0, 10.0)


def lane(values, events=(), threshold=0.5):
    windows = sliding(values)
    return Lane(
        "Fight",
        LANE_COLORS[0],
        np.array([(w.start_s, w.stop_s) for w in windows]).reshape(-1, 2),
        np.array(values, float),
        threshold,
        np.array(events, float).reshape(-1, 2),
    )


def cursor_column(strip, still):
    """Return the column that differs most between two strips."""
    return int(np.abs(strip.astype(int) - still.astype(int))[:, 60:].sum(axis=(0, 2)).argmax()) + 60


def test_the_value_at_a_time_is_the_highest_around_it():
    one = lane([0.1, 0.9, np.nan, 0.3])
    assert [one.at(t) for t in (0.5, 1.5, 2.5, 3.5, 4.5, 5.0)] == [0.1, 0.9, 0.9, 0.3, 0.3, None]


def test_an_event_is_half_open():
    one = lane([0.9], [(0.0, 2.0)])
    assert [one.is_event(t) for t in (0.0, 1.99, 2.0)] == [True, True, False]


@pytest.mark.parametrize("size", [(160, 120), (640, 360), (1920, 1080), (240, 640)])
@pytest.mark.parametrize("lanes", [1, 2, 4])
def test_the_strip_fits_its_picture(size, lanes):
    width, height = size
    timeline = Timeline([lane([0.2, 0.8])] * lanes, SPAN_S, width, height)
    strip = timeline.draw(3.0)
    assert strip.shape == (timeline.height, width, 3)
    assert strip.dtype == np.uint8
    assert timeline.height % 2 == 0


def test_the_cursor_moves_with_time():
    timeline = Timeline([lane([])], SPAN_S, 640, 360)
    strips = [timeline.draw(t) for t in (0.0, 2.5, 5.0, 7.5, 10.0)]
    columns = [cursor_column(strips[k], strips[(k + 2) % 5]) for k in range(5)]
    white = [
        int(np.flatnonzero((s == 255).all(axis=2).sum(axis=0) > timeline.height // 2)[0])
        for s in strips
    ]
    steps = np.diff(white)
    assert steps.min() > 0
    assert steps.max() - steps.min() <= 2
    assert all(
        c in (w, white[(k + 2) % 5]) for k, (c, w) in enumerate(zip(columns, white, strict=True))
    )


def test_a_higher_probability_fills_more_of_the_lane():
    filled = []
    for value in (0.0, 0.3, 0.6, 1.0):
        quiet = Timeline([lane([])], SPAN_S, 640, 360).draw(9.0).astype(int)
        strip = Timeline([lane([value] * 8)], SPAN_S, 640, 360).draw(9.0).astype(int)
        filled.append(int((strip[:, 200] != quiet[:, 200]).any(axis=1).sum()))
    assert filled == sorted(filled)
    assert filled[0] <= 2
    assert filled[3] > 1.5 * filled[2] > 2 * filled[1]


def test_an_event_shows_in_its_colour_and_nowhere_else():
    strip = Timeline([lane([], [(4.0, 6.0)])], SPAN_S, 640, 360).draw(10.0)
    columns = np.flatnonzero((strip == LANE_COLORS[0]).all(axis=2).any(axis=0))
    everything = Timeline([lane([], [(0.0, 10.0)])], SPAN_S, 640, 360).draw(10.0)
    whole = np.flatnonzero((everything == LANE_COLORS[0]).all(axis=2).any(axis=0))
    begin, width = whole[0], whole[-1] - whole[0]
    assert columns[0] - begin == pytest.approx(0.4 * width, abs=2)
    assert columns[-1] - begin == pytest.approx(0.6 * width, abs=2)


# --- the whole picture -----------------------------------------------------------------


def tracks(frames=50, size_wh=(96, 64)):
    """Return two people standing still for five seconds."""
    boxes = np.tile(np.array([[8, 10, 28, 58], [60, 10, 80, 58]], np.float32), (frames, 1))
    keypoints = np.zeros((2 * frames, 17, 2), np.float32)
    poses = Poses(
        keypoints,
        np.zeros((2 * frames, 17), np.float32),
        boxes,
        np.ones(2 * frames, np.float32),
        np.tile(np.array([1, 2], np.int64), frames),
    )
    offsets = np.arange(0, 2 * frames + 1, 2, dtype=np.int64)
    times = np.arange(frames) / 10
    return PoseSequence(poses, offsets, times, np.zeros(frames, bool), size_wh)


def drawn(services, sequence=None, zones=()):
    sequence = sequence or tracks()
    width, height = sequence.size_wh
    pictures = iter([np.full((height, width, 3), 90, np.uint8)] * len(sequence))
    one = replace(record(services, stop_s=5.0), size_wh=sequence.size_wh, zones=zones)
    return list(overlay_frames(one, sequence, pictures))


def near(image, color):
    return int((np.abs(image.astype(int) - np.array(color)).max(axis=2) < 10).sum())


def test_those_of_an_event_are_framed_while_it_lasts():
    windows = [window(0.0, 0.1, people=(1, 2)), window(2.0, 0.9, people=(2,))]
    frames = drawn({"fight": result(windows)})
    assert len(frames) == 50
    scale = frames[0][0].shape[1] // 96
    calm, alarm = frames[10][0][: 64 * scale], frames[30][0][: 64 * scale]
    assert near(calm, LANE_COLORS[0]) == 0
    left, right = alarm[:, : 44 * scale], alarm[:, 44 * scale :]
    assert near(left, LANE_COLORS[0]) == 0
    assert near(right, LANE_COLORS[0]) > 500


def crowd(frames=50):
    """Return four people beside each other for five seconds, in a picture of 480 x 270."""
    boxes = np.array([[20 + 115 * i, 80, 100 + 115 * i, 180] for i in range(4)], np.float32)
    count = 4 * frames
    poses = Poses(
        np.zeros((count, 17, 2), np.float32),
        np.zeros((count, 17), np.float32),
        np.tile(boxes, (frames, 1)),
        np.ones(count, np.float32),
        np.tile(np.arange(1, 5), frames),
    )
    offsets = np.arange(0, count + 1, 4, dtype=np.int64)
    return PoseSequence(poses, offsets, np.arange(frames) / 10, np.zeros(frames, bool), (480, 270))


def marked(image, color):
    """Return which of the crowd's boxes have a thick frame: colour at their left edge."""
    return [near(image[95:165, 18 + 115 * i : 26 + 115 * i], color) > 100 for i in range(4)]


@pytest.mark.parametrize(
    ("service", "expected"),
    [("fight", [False, True, True, False]), ("falldown", [False, False, True, False])],
)
def test_only_those_an_event_is_about_are_marked(service, expected):
    """The two most involved of a fight, the one of a fall; the others lose their colours."""
    windows = [window(2.0, 0.9, people=(3, 2, 4, 1), service=service)]
    frames = drawn({service: result(windows, service=service)}, crowd())
    assert marked(frames[30][0], LANE_COLORS[0]) == expected
    assert marked(frames[5][0], LANE_COLORS[0]) == [False] * 4
    for i in range(4):
        own, frame = color_of(i + 1), slice(15 + 115 * i, 105 + 115 * i)
        assert near(frames[5][0][60:185, frame], own) > 100
        kept = near(frames[30][0][60:185, frame], own) > 100  # the plate of the id
        assert kept == expected[i]


@pytest.mark.parametrize(
    "box", [(0, 0, 40, 63), (70, 0, 95, 63), (60, 30, 95, 63), (0, 40, 95, 60)]
)
def test_tags_at_the_edges_are_whole(box):
    """A tag is as large at the edge of the picture as in its middle."""
    letters = []
    for place in (box, (30, 5, 60, 30)):
        video = tracks(20)
        video.poses.boxes[::2] = place
        video.poses.boxes[1::2] = 48, 20, 56, 24
        windows = [window(0.0, 0.9, people=(1,))]
        image = drawn({"fight": result(windows)}, video)[5][0][: 64 * 5]
        letters.append(int((image.astype(int).sum(axis=2) < 60).sum()))
    assert letters[0] == letters[1] > 100


def test_tags_of_neighbours_do_not_cover_each_other():
    video = tracks(20, (480, 270))
    video.poses.boxes[::2] = 100, 60, 140, 150
    video.poses.boxes[1::2] = 110, 60, 150, 152
    image = drawn({"fight": result([window(0.0, 0.9, people=(1, 2))])}, video)[5][0]
    rows = (np.abs(image[140:230].astype(int) - LANE_COLORS[0]).max(axis=2) < 10).sum(axis=1)
    line = TextStyle(12).height
    assert (rows > 30).sum() >= 2 * line - 2


@pytest.mark.parametrize("names", [("싸움", "정상"), ("бой", "μάχη")])
def test_names_of_classes_are_read_in_the_strip_and_the_tags(names):
    one, other = (replace(lane([0.2, 0.8], [(0.0, 2.0)]), name=name) for name in names)
    strips = [Timeline([each], SPAN_S, 640, 360).draw(1.0) for each in (one, other)]
    changed = (strips[0] != strips[1]).any(axis=2)
    assert changed[:, :60].any()
    assert all((strip[:30, :60] > 180).any() for strip in strips)


def test_the_strip_says_what_the_boxes_mean():
    quiet = Timeline([lane([])], SPAN_S, 960, 540)
    below = quiet.draw(9.0)[-TextStyle(13).height - 6 :]
    assert (below > 100).any(axis=2).sum() > 300
    assert all(word in LEGEND for word in ("thick", "grey", "dashed"))


def test_two_alarms_on_one_person_both_show():
    fight = result([window(0.0, 0.9, people=(1,), length_s=5.0)])
    fall = result(
        [window(0.0, 0.8, people=(1,), length_s=5.0, service="falldown")], service="falldown"
    )
    image = drawn({"fight": fight, "falldown": fall})[20][0]
    scale = image.shape[1] // 96
    person = image[: 64 * scale, : 44 * scale]
    assert near(person, LANE_COLORS[0]) > 200
    assert near(person, LANE_COLORS[1]) > 200


@pytest.mark.parametrize("size_wh", [(32, 24), (96, 64), (479, 361), (1280, 720)])
def test_all_frames_have_one_size_and_the_small_are_enlarged(size_wh):
    windows = result([window(0.0, 0.9, people=(1,), length_s=5.0)])
    frames = drawn({"fight": windows}, tracks(3, size_wh))
    shapes = {image.shape for image, _ in frames}
    assert len(shapes) == 1
    (_, width, _) = shapes.pop()
    assert width % size_wh[0] == 0
    assert width >= min(480, 4 * size_wh[0])
    assert [time for _, time in frames] == [0.0, 0.1, 0.2]


def test_a_video_without_anybody_or_any_window_is_drawn():
    empty = PoseSequence(
        Poses.empty(), np.zeros(3, np.int64), np.array([0.0, 0.1]), np.zeros(2, bool), (96, 64)
    )
    assert len(drawn({"fight": result([])}, empty)) == 2


def test_memory_does_not_grow_with_the_video():
    peaks = []
    for frames in (20, 200):
        windows = result([window(0.0, 0.9, people=(1,), length_s=frames / 10)])
        video = tracks(frames)
        one = record({"fight": windows}, stop_s=frames / 10)
        pictures = (np.full((64, 96, 3), 90, np.uint8) for _ in range(frames))
        tracemalloc.start()
        for _ in overlay_frames(one, video, pictures):
            pass
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.1 * peaks[0]


# --- who lies, and zones ----------------------------------------------------------------


def lying(start_s, stop_s, ids=(3,), zone=None):
    people = tuple(person(i, start_s, stop_s) for i in ids)
    return Event("Lying", start_s, stop_s, 1.0, start_s + 1, 0, people, "lying", zone=zone)


def falls(events=(), suppressed=()):
    """Return a result without an event of the windows, whose lane comes first."""
    calm = result([window(0.0, 0.1, service="falldown", people=(1, 2, 3))], service="falldown")
    return replace(calm, events=events, suppressed=suppressed, lying={"long_lie_s": 1.0})


def test_who_lies_is_framed_in_the_colour_of_an_own_lane():
    frames = drawn({"falldown": falls([lying(2.0, 4.0)])}, crowd())
    assert marked(frames[30][0], LANE_COLORS[1]) == [False, False, True, False]
    for calm in (frames[10][0], frames[45][0]):
        assert marked(calm, LANE_COLORS[1]) == [False] * 4
    assert near(frames[30][0][270:], LANE_COLORS[1]) > 200
    without = drawn({"falldown": replace(falls(), lying={})}, crowd())
    assert without[0][0].shape[0] < frames[0][0].shape[0]


def test_the_lane_of_lying_says_how_long_by_now():
    events = np.array([[2.0, 9.0], [5.0, 30.0]])
    one = Lane("Lying", LANE_COLORS[1], np.zeros((0, 2)), np.zeros(0), None, events)
    assert [one.value_text(t) for t in (1.9, 2.0, 8.9, 20.0, 30.0)] == [
        "",
        "0 s",
        "7 s",
        "15 s",
        "",
    ]
    assert lane([0.25]).value_text(0.5) == "0.25"


def test_the_lane_says_on_which_side_of_the_threshold_a_probability_is():
    near = lane([0.499, 0.1, 0.1, 0.5], threshold=0.5)
    assert [near.value_text(t) for t in (0.5, 2.5, 3.5)] == ["0.499", "0.10", "0.50"]
    assert near.widest_value() == "00000"
    assert lane([np.nan, 0.3]).widest_value() == "0000"
    narrow, wide = (Timeline([one], SPAN_S, 480, 270) for one in (lane([0.4]), lane([0.499996])))
    begins = [int((one.draw(0) == 255).all(axis=2).sum(axis=0).argmax()) for one in (narrow, wide)]
    assert begins[0] < begins[1]  # the curve begins where the longer number ends


def test_what_a_rest_zone_suppresses_is_a_grey_bar_and_frames_nobody():
    frames = drawn({"falldown": falls(suppressed=[lying(2.0, 4.0, zone="bed")])}, crowd())
    still = drawn({"falldown": falls()}, crowd())
    assert marked(frames[30][0], LANE_COLORS[1]) == [False] * 4
    assert (frames[30][0][:270] == still[30][0][:270]).all()
    changed = (frames[30][0][270:] != still[30][0][270:]).any(axis=2)
    assert changed.any()
    assert all(word in LEGEND_RESTING for word in ("thick", "grey bar", "dashed", "rest zone"))


def test_zones_are_outlined_and_what_is_ignored_is_darker():
    bed = Zone("rest", "bed", ((0.1, 0.5), (0.4, 0.5), (0.4, 0.9), (0.1, 0.9)))
    screen = Zone("ignore", "TV", ((0.6, 0.3), (0.9, 0.3), (0.9, 0.6), (0.6, 0.6)))
    empty = replace(tracks(3, (480, 270)), size_wh=(480, 270))
    empty.poses.boxes[:] = np.nan
    image = drawn({"falldown": falls()}, empty, (bed, screen))[0][0]
    x, y = 480, 270
    assert (image[round(0.7 * y), round(0.25 * x)] == 90).all()  # inside the bed nothing changes
    assert (image[round(0.5 * y), round(0.75 * x)] == 45).all()
    for place in ((0.9, 0.25), (0.6, 0.75)):
        row, column = round(place[0] * y), round(place[1] * x)
        assert (image[row - 2 : row + 3, column] != image[row - 6, column]).any()
