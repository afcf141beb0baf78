"""When a time without frames is a gap, and which frames end it."""

from recognizer.live.errors import Reason
from recognizer.live.gaps import GapDetector
from recognizer.live.values import Gap

FORM = ("h264", (160, 96))


def detector(start_s: float = 10.0, gap_s: float | None = 1.0) -> GapDetector:
    made = GapDetector("door", gap_s)
    made.begin(start_s)
    return made


def test_a_gap_is_reported_when_it_is_noticed_and_when_it_is_over():
    gaps = detector()
    assert gaps.frame(10.5, FORM) == []
    assert gaps.tick(11.4) is None
    gaps.lost(Reason.REFUSED)
    assert gaps.tick(11.6) == Gap("door", 10.5, None, Reason.REFUSED)
    assert gaps.tick(11.8) is None
    assert gaps.frame(14.0, FORM) == [Gap("door", 10.5, 14.0, Reason.REFUSED)]
    assert gaps.frame(14.1, FORM) == []


def test_a_gap_that_is_over_when_it_is_noticed_comes_once():
    gaps = detector()
    gaps.frame(10.5, FORM)
    assert gaps.frame(11.6, FORM) == [Gap("door", 10.5, 11.6, Reason.STALLED)]
    assert gaps.tick(11.7) is None


def test_a_camera_that_is_being_opened_first_has_no_gap_until_it_fails():
    gaps = detector()
    assert gaps.tick(13.0) is None
    gaps.lost(Reason.REFUSED)
    assert gaps.tick(13.2) == Gap("door", 10.0, None, Reason.REFUSED)


def test_a_short_loss_is_no_gap():
    gaps = detector()
    gaps.frame(10.5, FORM)
    gaps.lost(Reason.ENDED)
    assert gaps.frame(11.4, FORM) == []


def test_another_size_or_codec_is_a_gap_without_length():
    gaps = detector()
    gaps.frame(10.5, FORM)
    change = Gap("door", 10.6, 10.6, Reason.CHANGED)
    assert gaps.frame(10.6, ("h264", (320, 192))) == [change]
    assert gaps.frame(10.7, ("hevc", (320, 192)))[0].reason is Reason.CHANGED


def test_a_slow_camera_has_no_gap_between_its_frames():
    gaps = detector()
    gaps.expect(1.0)
    gaps.frame(10.5, FORM)
    assert gaps.tick(12.0) is None
    assert gaps.frame(12.5, FORM) == []


def test_a_late_frame_of_the_time_before_does_not_end_the_gap():
    gaps = detector()
    gaps.frame(10.5, FORM)
    assert gaps.tick(12.0) is not None
    assert gaps.is_straggler(10.54, captured_s=12.6)
    assert not gaps.is_straggler(12.55, captured_s=12.6)
    # What goes on in the stream's own time is no straggler, however late it comes.
    assert not gaps.is_straggler(11.7, captured_s=15.0)


def test_a_file_has_only_its_end():
    gaps = detector(gap_s=None)
    gaps.frame(0.0, FORM)
    assert gaps.frame(60.0, FORM) == []
    assert gaps.tick(1e9) is None
    assert gaps.end(Reason.ENDED) == Gap("door", 60.0, 60.0, Reason.ENDED)
