"""The newest frames of each camera, and batches over all cameras."""

import threading
import time

import numpy as np
import pytest

from recognizer.live.errors import Reason
from recognizer.live.gather import Gatherer
from recognizer.live.slot import FrameSlot
from recognizer.live.values import DropCause, Gap, LiveFrame
from recognizer.types import Frame
from recognizer.video.array_image import ArrayImage

IMAGE = ArrayImage(np.zeros((4, 4, 3), np.uint8))


def live(camera: str, index: int, captured_s: float = 0.0) -> LiveFrame:
    return LiveFrame(camera, Frame(IMAGE, index, captured_s), captured_s, 1)


def slots_of(
    number: int, max_age_s: float | None = None, capacity: int = 2
) -> tuple[list[FrameSlot], threading.Condition]:
    ready = threading.Condition()
    return [FrameSlot(capacity, ready, max_age_s) for _ in range(number)], ready


def test_the_newest_frames_stay_and_the_others_are_counted():
    (slot,), _ = slots_of(1)
    for index in range(5):
        slot.put(live("a", index))
    taken = [slot.take(0.0), slot.take(0.0), slot.take(0.0)]
    assert [item and item.frame.index for item in taken] == [3, 4, None]
    assert slot.drops()[DropCause.QUEUE_FULL] == 3


def test_a_gap_is_never_dropped_and_keeps_its_place():
    (slot,), _ = slots_of(1)
    gap = Gap("a", 0.0, 2.0, Reason.TIMEOUT)
    slot.put(live("a", 0))
    slot.put(gap)
    for index in range(1, 4):
        slot.put(live("a", index))
    taken = [slot.take(0.0) for _ in range(3)]
    assert taken[0] is gap
    assert [item.frame.index for item in taken[1:]] == [2, 3]


def test_old_frames_are_counted_as_stale():
    (slot,), _ = slots_of(1, max_age_s=0.5)
    slot.put(live("a", 0, captured_s=10.0))
    slot.put(live("a", 1, captured_s=10.3))
    assert slot.take(10.6).frame.index == 1
    assert slot.drops()[DropCause.STALE] == 1


def test_dropped_frames_leave_no_gap_unreported():
    slot = FrameSlot(2, threading.Condition())
    slot.report_gaps(1.0)
    lost = Gap("a", 3.0, 9.0, Reason.TIMEOUT)
    for time_s in (1.0, 1.5):
        slot.put(live("a", 0, time_s))
        assert slot.take(0.0).captured_s == time_s
    slot.put(live("a", 0, 3.0))
    assert slot.take(0.0) == Gap("a", 1.5, 3.0, Reason.OVERLOAD)
    assert slot.take(0.0).captured_s == 3.0
    slot.put(lost)
    slot.put(live("a", 0, 10.5))
    assert [slot.take(0.0), slot.take(0.0)] == [lost, Gap("a", 9.0, 10.5, Reason.OVERLOAD)]
    assert slot.take(0.0).captured_s == 10.5
    assert not slot.has_items


def test_a_files_frames_wait_and_none_is_dropped():
    (slot,), ready = slots_of(1)
    stop, gatherer = threading.Event(), Gatherer([slot], ready)

    def fill() -> None:
        for index in range(100):
            assert slot.put_waiting(live("a", index), stop)
        slot.close()

    thread = threading.Thread(target=fill)
    thread.start()
    seen = []
    while not (batch := gatherer.batch(5.0)).is_last:
        seen += [item.frame.index for item in batch.frames]
    thread.join(5)
    assert seen == list(range(100))
    assert sum(slot.drops().values()) == 0


def test_a_waiting_frame_gives_way_to_a_stop():
    (slot,), _ = slots_of(1, capacity=1)
    stop = threading.Event()
    assert slot.put_waiting(live("a", 0), stop)
    stop.set()
    assert not slot.put_waiting(live("a", 1), stop)


def test_a_batch_has_one_frame_of_each_camera_and_gaps_before_them():
    slots, ready = slots_of(3)
    gap = Gap("b", 0.0, 1.0, Reason.RESET)
    slots[0].put(live("a", 0))
    slots[0].put(live("a", 1))
    slots[1].put(gap)
    slots[1].put(live("b", 0))
    batch = Gatherer(slots, ready, gather_s=0.0).batch(1.0)
    assert [(item.camera, item.frame.index) for item in batch.frames] == [("a", 0), ("b", 0)]
    assert batch.gaps == (gap,)


def test_a_gap_behind_a_frame_comes_with_the_next_batch():
    slots, ready = slots_of(1)
    gap = Gap("a", 0.0, 1.0, Reason.RESET)
    slots[0].put(live("a", 0))
    slots[0].put(gap)
    slots[0].put(live("a", 1))
    gatherer = Gatherer(slots, ready)
    assert gatherer.batch(1.0).gaps == ()
    second = gatherer.batch(1.0)
    assert second.gaps == (gap,)
    assert second.frames[0].frame.index == 1


def test_turns_are_fair_where_a_batch_is_smaller_than_the_cameras():
    slots, ready = slots_of(5, capacity=100)
    names = "abcde"
    for slot, name in zip(slots, names, strict=True):
        for index in range(20):
            slot.put(live(name, index))
    gatherer = Gatherer(slots, ready, max_frames=2)
    taken = [item.camera for _ in range(30) for item in gatherer.batch(1.0).frames]
    assert {name: taken.count(name) for name in names} == dict.fromkeys(names, 12)


def test_dead_cameras_do_not_hold_up_the_others():
    slots, ready = slots_of(4)
    gatherer = Gatherer(slots, ready, gather_s=0.03)
    slots[2].put(live("c", 0))
    start_s = time.monotonic()
    assert len(gatherer.batch(10.0).frames) == 1
    assert time.monotonic() - start_s < 5  # it does not wait for the whole timeout


def test_an_empty_batch_after_the_timeout_and_the_last_after_the_end():
    slots, ready = slots_of(2)
    gatherer = Gatherer(slots, ready)
    assert gatherer.batch(0.01) == gatherer.batch(0.01)
    assert not gatherer.batch(0.01).is_last
    slots[0].put(Gap("a", 1.0, 1.0, Reason.ENDED))
    for slot in slots:
        slot.close()
    assert len(gatherer.batch(1.0).gaps) == 1
    assert gatherer.batch(1.0).is_last


@pytest.mark.parametrize("number", [0, -1])
def test_sizes_below_one_are_refused(number):
    ready = threading.Condition()
    with pytest.raises(ValueError, match=f"capacity: expected 1 or more, got {number}"):
        FrameSlot(number, ready)
    with pytest.raises(ValueError, match=f"max_frames: expected 1 or more, got {number}"):
        Gatherer([], ready, max_frames=number)
