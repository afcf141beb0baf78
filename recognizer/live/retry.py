"""When a lost camera is opened again: soon at first, then once a minute, for ever."""

from recognizer.config.live import RetryConfig
from recognizer.live.errors import Reason

_NEEDS_A_PERSON = frozenset({Reason.CREDENTIALS, Reason.NOT_FOUND})


def delay_s(plan: RetryConfig, failures: int, reason: Reason, chance: float) -> float:
    """Return how long to wait before the next try.

    Credentials and names that are wrong wait longest at once: tries may lock the account.

    Args:
        plan: the waits, step by step.
        failures: failures in a row so far, this one included; 1 or more.
        reason: why this one failed.
        chance: a random number from 0 to 1, for the jitter that keeps cameras apart.

    Raises:
        ValueError: failures below 1, or chance outside 0 to 1.

    """
    if failures < 1 or not 0 <= chance <= 1:
        raise ValueError(
            f"expected failures of 1 or more and a chance of 0 to 1, got {failures}, {chance}"
        )
    wait_s = plan.final_s if reason in _NEEDS_A_PERSON else _planned_s(plan, failures)
    return wait_s * (1 + plan.jitter * (2 * chance - 1))


def _planned_s(plan: RetryConfig, failures: int) -> float:
    left = failures - 1
    for step in plan.steps:
        if left < step.times:
            share = left / (step.times - 1) if step.times > 1 else 0.0
            return step.first_s + share * (step.last_s - step.first_s)
        left -= step.times
    return plan.final_s


def failures_after(plan: RetryConfig, failures: int, streamed_s: float) -> int:
    """Return the failures in a row after one more; a connection that lasted starts anew.

    Args:
        plan: says how long a connection lasts to count.
        failures: failures in a row before.
        streamed_s: seconds from the first to the last frame of the connection, 0 without any.

    """
    return 1 if streamed_s >= plan.lasted_s > 0 else failures + 1
