"""Times, durations and probabilities as the pages show them."""

from datetime import datetime

_MINUTE_S, _HOUR_S = 60, 3600


def moment(utc_s: float) -> str:
    """Return a time on this machine's clock: 2030-01-31 14:05:09."""
    return datetime.fromtimestamp(utc_s).strftime("%Y-%m-%d %H:%M:%S")


def iso(utc_s: float) -> str:
    """Return a time with its zone: 2030-01-31T14:05:09.250+09:00."""
    return datetime.fromtimestamp(utc_s).astimezone().isoformat(timespec="milliseconds")


def zone_name() -> str:
    """Return the name of this machine's time zone."""
    return datetime.now().astimezone().tzname() or "UTC"


def duration(seconds: float, text: str) -> str:
    """Return a duration: 3.5 s (by the text of seconds), 2:05, 1:02:05."""
    if seconds < _MINUTE_S:
        return text.format(seconds=f"{seconds:.1f}")
    minutes, rest = divmod(round(seconds), _MINUTE_S)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def probability(value: float) -> str:
    """Return a probability with two digits."""
    return f"{value:.2f}"


def number(value: float) -> str:
    """Return a number with one digit, without .0."""
    return f"{value:.1f}".removesuffix(".0")
