"""The bar over counted work: nothing for little, one bar for each count that takes long."""

import contextlib

import pytest

from recognizer.runs import progress


@pytest.mark.parametrize(("step_s", "bars"), [(0.01, []), (1.5, [(4, 4), (3, 3)])])
def test_bars(monkeypatch, step_s, bars):
    clock, shown = [0.0], []
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock[0])

    @contextlib.contextmanager
    def factory(title, total):
        states = []
        yield lambda outcome, frames: states.append(outcome.state)
        shown.append((total, len(states)))

    with progress.counted_progress(factory, "pictures", patience_s=2.0) as on_progress:
        for total in (4, 3):
            for done in range(1, total + 1):
                on_progress(done, total)
                clock[0] += step_s
    assert shown == bars
