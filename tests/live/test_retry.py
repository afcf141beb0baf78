"""When a lost camera is opened again."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recognizer.config.live import RetryConfig
from recognizer.live.errors import Reason
from recognizer.live.retry import delay_s, failures_after

PLAN = RetryConfig()


def test_the_waits_are_those_of_the_plan():
    waits = [delay_s(PLAN, failures, Reason.TIMEOUT, 0.5) for failures in range(1, 24)]
    assert waits == pytest.approx(
        [0.5, 0.625, 0.75, 0.875, 1.0, *[5.0] * 5, *[10.0] * 10, 60.0, 60.0, 60.0]
    )


def test_a_camera_is_tried_for_ever():
    assert delay_s(PLAN, 1_000_000, Reason.REFUSED, 0.5) == 60


@pytest.mark.parametrize("reason", [Reason.CREDENTIALS, Reason.NOT_FOUND])
def test_what_only_a_person_can_mend_waits_longest_at_once(reason):
    assert delay_s(PLAN, 1, reason, 0.5) == 60


@given(st.integers(1, 100), st.floats(0, 1), st.sampled_from(Reason))
def test_jitter_is_within_a_fifth(failures, chance, reason):
    middle = delay_s(PLAN, failures, reason, 0.5)
    assert 0.8 * middle - 1e-9 <= delay_s(PLAN, failures, reason, chance) <= 1.2 * middle + 1e-9


@pytest.mark.parametrize(("failures", "chance"), [(0, 0.5), (1, -0.1), (1, 1.1)])
def test_arguments_out_of_range_are_refused(failures, chance):
    with pytest.raises(ValueError, match="expected failures of 1 or more and a chance of 0 to 1"):
        delay_s(PLAN, failures, Reason.TIMEOUT, chance)


def test_only_a_connection_that_lasted_starts_the_plan_anew():
    assert failures_after(PLAN, 7, 0.0) == 8
    assert failures_after(PLAN, 7, PLAN.lasted_s - 0.01) == 8
    assert failures_after(PLAN, 7, PLAN.lasted_s) == 1
