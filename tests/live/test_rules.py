"""Rules: when windows are an event, when it ends, what is a near miss, what is muted."""

import itertools
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recognizer.action.events import EventMerger
from recognizer.config.alerts import LiveZoneConfig, RulesConfig, ScheduleConfig
from recognizer.live.events import LiveEvent, NearMiss, event_from_dict
from recognizer.live.rules import CameraRules, Scene
from recognizer.live.schedule import schedules_of_camera
from recognizer.live.zones import CameraZones, zones_of_camera
from tests.live.windows import CLASSES, LENGTH_S, SIZE, STRIDE_S, UTC_S, fed, person, window

PLAIN = {"smoothing_s": 0.0}


def camera(scene=None, service="fight", classes=CLASSES, **rules):
    numbers = itertools.count(1)
    return CameraRules(
        scene or Scene("hall"),
        service,
        classes,
        RulesConfig(**{**PLAIN, **rules}),
        lambda: f"id{next(numbers)}",
    )


def states(outcomes):
    return [(o.state, o.closed_by) for o in outcomes if isinstance(o, LiveEvent)]


def misses(outcomes):
    return [o.rule for o in outcomes if isinstance(o, NearMiss)]


# --- from windows to an event --------------------------------------------------------


def test_a_fight_opens_with_the_fourth_high_window_and_begins_with_the_first():
    rules = camera()
    assert fed(rules, [0.1, 0.9, 0.8, 0.9]) == []
    (event,) = fed(rules, [0.7], first=4)
    assert (event.state, event.revision, event.camera, event.class_name) == (
        *("new", 0),
        *("hall", "Fight"),
    )
    assert (event.start_s, event.end_s) == (0.5, 4.0)
    assert (event.start_utc_s, event.end_utc_s) == (UTC_S + 0.5, UTC_S + 4.0)
    assert (event.peak_probability, event.peak_s) == (0.9, 2.0)
    assert event.probabilities == ((2.0, 0.9), (2.5, 0.8), (3.0, 0.9), (3.5, 0.7))


def test_a_fall_needs_one_second_and_a_fight_one_and_a_half():
    fall = camera(service="falldown", classes=("Normal", "Falldown"))
    assert states(fed(fall, [0.9] * 3, name="Falldown")) == [("new", None)]
    assert states(fed(camera(), [0.9] * 3)) == []


def test_two_of_five_windows_are_no_event():
    outcomes = fed(camera(min_s=0.0), [0.9, 0, 0, 0.9, 0] * 3 + [0] * 20)
    assert states(outcomes) == []
    assert misses(outcomes) == ["windows"]


def test_three_of_five_windows_need_not_follow_one_another():
    assert states(fed(camera(min_s=1.0), [0.9, 0, 0.9, 0, 0.9])) == [("new", None)]


def test_smoothing_follows_time_not_windows():
    rules = camera(smoothing_s=0.5, min_s=0.0, windows_needed=1)
    assert fed(rules, [0.0, 0.9]) == []  # 0.9 * (1 - 1 / e) = 0.57
    (event,) = fed(rules, [0.9], first=2)
    assert event.peak_probability == pytest.approx(0.9 * (1 - 0.1353), abs=1e-4)


def test_an_event_holds_between_leave_and_enter_and_ends_five_seconds_after():
    rules = camera()
    outcomes = fed(rules, [0.9] * 4 + [0.5] * 4 + [0.1] * 14)
    assert states(outcomes) == [("new", None)]
    (end,) = fed(rules, [0.1], first=22 + 1)
    assert (end.state, end.closed_by, end.end_s) == ("end", "quiet", 3.5 + LENGTH_S)
    assert end.probabilities[-1] == (5.5, 0.5)


def test_windows_within_merge_s_are_the_same_event():
    rules = camera()
    apart = int((5.0 + LENGTH_S) / STRIDE_S)  # the next window starts 5 s after the end
    outcomes = fed(rules, [0.9] * 4 + [0.0] * (apart - 1) + [0.9] * 4 + [0] * 40)
    assert states(outcomes) == [("new", None), ("update", None), ("end", "quiet")]
    assert {o.event_id for o in outcomes} == {"id1"}
    assert outcomes[-1].end_s == (3 + apart + 3) * STRIDE_S + LENGTH_S


def test_windows_beyond_merge_s_are_another_event():
    outcomes = fed(camera(merge_s=1.0), [0.9] * 4 + [0.0] * 6 + [0.9] * 4)
    assert states(outcomes) == [("new", None), ("end", "quiet"), ("new", None)]
    assert outcomes[1].end_s + 1.0 < outcomes[2].start_s


def test_a_quiet_event_is_not_held_by_what_is_only_above_leave():
    outcomes = fed(camera(), [0.9] * 4 + [0.1] + [0.5] * 40)
    assert states(outcomes)[-1] == ("end", "quiet")
    assert next(o for o in outcomes if isinstance(o, LiveEvent) and o.state == "end").end_s == 3.5


def test_an_event_of_max_s_is_continued_by_a_new_one():
    outcomes = [o for o in fed(camera(max_s=10.0, cooldown_s=0), [0.9] * 60) if o.state != "update"]
    assert states(outcomes)[:3] == [("new", None), ("end", "max_s"), ("new", None)]
    first, second = outcomes[1], outcomes[2]
    assert first.end_s - first.start_s == 10.0
    assert (second.start_s, second.continues) == (first.end_s, first.event_id)


def test_updates_come_every_update_s():
    outcomes = fed(camera(), [0.9] * 40)
    assert [o.revision for o in outcomes] == list(range(len(outcomes)))
    ends = [o.end_s for o in outcomes]
    assert ends == [3.5, 8.5, 13.5, 18.5]


def test_windows_without_a_probability_neither_count_nor_hold():
    rules = camera()
    assert states(fed(rules, [0.9, None, 0.9, None, 0.9, 0.9])) == [("new", None)]
    outcomes = fed(rules, [None] * 40, first=6)
    assert states(outcomes) == [("end", "quiet")]


def test_people_of_all_windows_are_joined_and_the_stream_of_the_peak_is_named():
    rules = camera(min_s=0.5, windows_needed=2)
    fed(rules, [0.7], [person(1, 0.2)], streams={"pose": 0.9, "movement": 0.1})
    (event,) = fed(rules, [0.9], [person(2)], first=1, streams={"pose": 0.1, "movement": 0.8})
    assert [p.track_id for p in event.people] == [1, 2]
    assert event.stream == "movement"
    assert event_from_dict(event.as_dict()) == event


def test_a_gap_closes_events_and_starts_anew():
    rules = camera()
    fed(rules, [0.9] * 4)
    (end,) = rules.interrupt("gap")
    assert (end.state, end.closed_by, end.end_s) == ("end", "gap", 3.5)
    assert rules.interrupt("gap") == []
    assert fed(rules, [0.9] * 3) == []  # an earlier time is right after it
    assert misses(rules.interrupt("gap")) == ["gap"]


@pytest.mark.parametrize(("start", "stop"), [(1.0, 4.0), (3.0, 3.5), (5.0, 5.0), (5.0, 4.0)])
def test_windows_out_of_order_are_refused(start, stop):
    rules = camera()
    rules.update(window(4, 0.1), UTC_S, SIZE)
    wrong = replace(window(0, 0.1), start_s=start, stop_s=stop)
    with pytest.raises(ValueError, match="window: expected"):
        rules.update(wrong, UTC_S, SIZE)


# --- near misses -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("probabilities", "rule"),
    [([0.5] * 10, "enter"), ([0.9, 0.9], "windows"), ([0.9] * 3, "min_s"), ([0.3] * 10, None)],
)
def test_a_near_miss_names_the_rule(probabilities, rule):
    outcomes = fed(camera(), probabilities + [0.0] * 20)
    assert misses(outcomes) == ([rule] if rule else [])
    for miss in outcomes:
        assert (miss.start_s, miss.peak_probability) == (0.0, max(probabilities))
        assert miss.end_s == (len(probabilities) - 1) * STRIDE_S + LENGTH_S
        assert miss.start_utc_s == UTC_S


def test_outside_the_schedule_there_are_near_misses():
    hours = {"camera": "ha*", "timezone": "UTC", "hours": [{"from": "08:00", "to": "08:30"}]}
    schedules = schedules_of_camera([ScheduleConfig.model_validate(hours)], "hall")
    rules = camera(Scene("hall", schedules=schedules))  # UTC_S is 08:00:00
    assert states(fed(rules, [0.9] * 4)) == [("new", None)]
    rules.interrupt("gap")
    late = [
        o
        for n in range(40)
        for o in rules.update(window(n, 0.9 * (n < 10)), UTC_S + 1800 + n / 2, SIZE)
    ]
    assert (states(late), misses(late)) == ([], ["schedule"])


def test_an_event_begins_with_the_schedule():
    hours = {"hours": [{"from": "08:00", "to": "08:30"}]}
    schedules = schedules_of_camera([ScheduleConfig.model_validate(hours)], "hall")
    rules = camera(Scene("hall", schedules=schedules))
    events = [o for n in range(40) for o in rules.update(window(n, 0.9), UTC_S - 10 + n / 2, SIZE)]
    assert states(events)[0] == ("new", None)
    assert events[0].end_utc_s == pytest.approx(UTC_S)


# --- zones and cooldown ------------------------------------------------------------------

LEFT = [[0.0, 0.0], [0.5, 0.0], [0.5, 1.0], [0.0, 1.0]]
RIGHT = [[0.5, 0.0], [1.0, 0.0], [1.0, 1.0], [0.5, 1.0]]


def zoned(*zones):
    made = [LiveZoneConfig(name=n, kind=k, polygon=[tuple(p) for p in c]) for n, k, c in zones]
    return Scene("hall", CameraZones(zones_of_camera(made, "hall")))


def test_people_outside_the_included_zone_are_a_near_miss():
    outcomes = fed(
        camera(zoned(("door", "include", LEFT))), [0.9] * 6 + [0.0] * 20, [person(x=0.8)]
    )
    assert (states(outcomes), misses(outcomes)) == ([], ["zone"])
    assert outcomes[0].peak_probability == 0.9


def test_the_zone_of_the_most_involved_counts():
    scene = zoned(("door", "include", LEFT), ("yard", "include", RIGHT))
    (event,) = fed(camera(scene), [0.9] * 4, [person(1, 0.7), person(2, 0.2, involvement=0.1)])
    assert event.zone == "yard"


def test_people_in_ignored_zones_are_left_out():
    scene = zoned(("screen", "ignore", LEFT))
    (event,) = fed(camera(scene), [0.9] * 4, [person(1, 0.2), person(2, 0.8)])
    assert [p.track_id for p in event.people] == [2]


def test_rest_zones_are_for_falls_alone():
    scene, people = zoned(("bed", "rest", LEFT)), [person(x=0.2)]
    falls = camera(scene, "falldown", ("Normal", "Falldown"))
    outcomes = fed(falls, [0.9] * 4 + [0] * 20, people, name="Falldown")
    assert (states(outcomes), misses(outcomes)) == ([], ["zone"])
    assert outcomes[0].zone == "bed"
    assert states(fed(camera(scene), [0.9] * 4, people)) == [("new", None)]


def test_the_cooldown_mutes_notices_and_counts_from_the_one_that_was_sent():
    rules = camera(quiet_s=1.0, merge_s=1.0, cooldown_s=20.0)
    outcomes = fed(rules, ([0.9] * 5 + [0.0] * 11) * 6)  # an event every 8 s
    new = [o for o in outcomes if isinstance(o, LiveEvent) and o.state == "new"]
    assert [o.muted for o in new] == [False, True, True, False, True, True]
    by_id = {o.event_id: o.muted for o in new}
    assert all(o.muted == by_id[o.event_id] for o in outcomes)


def test_the_cooldown_is_of_each_zone():
    scene = zoned(("door", "include", LEFT), ("yard", "include", RIGHT))
    rules = camera(scene, quiet_s=1.0, merge_s=1.0)
    one = fed(rules, [0.9] * 4 + [0.0] * 12, [person(x=0.2)])
    other = fed(rules, [0.9] * 4, [person(x=0.8)], first=16)
    assert [o.muted for o in one + other if o.state == "new"] == [False, False]


def test_cameras_have_their_own_thresholds():
    overrides = [{"camera": "ha*", "class_name": "Fight", "enter": 0.95}]
    rules = {"overrides": overrides}
    assert states(fed(camera(**rules), [0.9] * 6)) == []
    assert states(fed(camera(Scene("yard"), **rules), [0.9] * 6)) == [("new", None)]


# --- what holds for all windows ------------------------------------------------------------

PIECES = st.lists(
    st.one_of(
        st.tuples(st.sampled_from([0.0, 0.3, 0.45, 0.7, 1.0, None]), st.integers(1, 30)),
        st.just("gap"),
    ),
    max_size=12,
)
RULES = st.fixed_dictionaries(
    {
        "smoothing_s": st.sampled_from([0.0, 0.5]),
        "min_s": st.sampled_from([None, 0.0, 3.0]),
        "merge_s": st.sampled_from([0.0, 1.0, 5.0]),
        "max_s": st.sampled_from([10.0, 14.3, 300.0]),
        "cooldown_s": st.sampled_from([0.0, 10.0, 60.0]),
    }
)


def played(pieces, rules):
    """Return all outcomes of a camera, and the windows that it gave."""
    outcomes, windows, number = [], [], 0
    for piece in pieces:
        if piece == "gap":
            outcomes += rules.interrupt("gap")
            number += 10
            continue
        probability, count = piece
        for _ in range(count):
            windows.append(window(number, probability))
            outcomes += rules.update(windows[-1], UTC_S + windows[-1].stop_s, SIZE)
            number += 1
    return outcomes + rules.interrupt("stop"), windows


@settings(max_examples=150, deadline=None)
@given(PIECES, RULES)
def test_every_event_is_whole_and_none_overlap(pieces, values):
    outcomes, windows = played(pieces, camera(**values))
    events: dict[str, list[LiveEvent]] = {}
    open_id = None
    for event in (o for o in outcomes if isinstance(o, LiveEvent)):
        assert open_id in {None, event.event_id}  # at most one is open
        assert (event.state == "new") == (open_id is None)
        open_id = None if event.state == "end" else event.event_id
        events.setdefault(event.event_id, []).append(event)
    assert open_id is None
    end_s = -1.0
    for one in events.values():
        assert [e.state for e in one] == ["new", *["update"] * (len(one) - 2), "end"]
        assert [e.revision for e in one] == list(range(len(one)))
        assert len({(e.start_s, e.zone, e.muted, e.continues) for e in one}) == 1
        last = one[-1]
        assert last.probabilities[-1][0] == pytest.approx(last.end_s - last.start_s, abs=1e-3)
        assert end_s <= last.start_s < last.end_s <= last.start_s + values["max_s"] + 1e-6
        assert last.end_utc_s - last.start_utc_s == pytest.approx(last.end_s - last.start_s)
        assert last.continues is None or last.start_s <= end_s + values["merge_s"] + 1e-6
        end_s = last.end_s
        first_s = last.start_s if values["smoothing_s"] == 0 else 0.0  # else the past counts too
        inside = [w for w in windows if first_s < w.stop_s <= last.end_s + STRIDE_S]
        peak = max(w.probabilities.get("Fight", 0) for w in inside)
        assert last.peak_probability <= peak + 1e-4


@settings(max_examples=100, deadline=None)
@given(PIECES, RULES)
def test_no_high_window_is_lost(pieces, values):
    """Every window above enter is in an event or a near miss."""
    values = {**values, "smoothing_s": 0.0}
    outcomes, windows = played(pieces, camera(**values))
    spans = [(o.start_s, o.end_s) for o in outcomes if getattr(o, "state", "end") == "end"]
    for one in windows:
        if one.probabilities.get("Fight", 0.0) >= 0.6:
            assert any(a < one.stop_s and one.start_s < b for a, b in spans)


@settings(max_examples=100, deadline=None)
@given(PIECES, RULES)
def test_notices_of_a_zone_are_a_cooldown_apart(pieces, values):
    outcomes, _ = played(pieces, camera(**values))
    sent = [o.end_s for o in outcomes if getattr(o, "state", "") == "new" and not o.muted]
    assert all(b - a >= values["cooldown_s"] - 1e-6 for a, b in itertools.pairwise(sent))


@settings(max_examples=60, deadline=None)
@given(PIECES, RULES)
def test_muting_changes_nothing_but_itself(pieces, values):
    muted, _ = played(pieces, camera(**values))
    free, _ = played(pieces, camera(**{**values, "cooldown_s": 0.0}))
    assert [replace(o, muted=False) if isinstance(o, LiveEvent) else o for o in muted] == free


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.sampled_from([0.0, 0.3, 0.59, 0.6, 0.9, None]), max_size=60),
    st.sampled_from([0.0, 1.0, 5.0]),
)
def test_with_plain_thresholds_events_are_those_of_an_analysis(probabilities, gap_s):
    """One level, one window, no shortest time: as the offline merger finds them."""
    merger = EventMerger(CLASSES, threshold=0.6, merge_gap_s=gap_s)
    windows = [window(number, p) for number, p in enumerate(probabilities)]
    offline = [e for w in windows for e in merger.update(w)] + merger.finish()
    values = {"leave": 0.6, "windows_needed": 1, "windows_of": 1, "min_s": 0.0}
    rules = camera(**values, merge_s=gap_s, quiet_s=max(gap_s, 0.001))
    outcomes = fed(rules, probabilities) + rules.interrupt("stop")
    live = [o for o in outcomes if isinstance(o, LiveEvent) and o.state == "end"]
    assert [(e.start_s, e.end_s, e.peak_probability) for e in live] == [
        (e.start_s, e.stop_s, e.peak_probability) for e in offline
    ]


@pytest.mark.parametrize(("ago_s", "muted"), [(5.0, True), (25.0, False), (-3600.0, True)])
def test_the_cooldown_goes_on_after_a_restart(ago_s, muted):
    """A clock that was set back meanwhile mutes for one cooldown, no longer."""
    rules = camera(quiet_s=1.0, merge_s=1.0, cooldown_s=20.0)
    rules.remember_notice("Fight", "", ago_s, 0.0)
    rules.remember_notice("Fight", "elsewhere", 0.0, 0.0)
    rules.remember_notice("Other", "", 0.0, 0.0)
    outcomes = fed(rules, [0.9] * 5 + [0.0] * 40 + [0.9] * 5)
    new = [o for o in outcomes if isinstance(o, LiveEvent) and o.state == "new"]
    assert [o.muted for o in new] == [muted, False]
