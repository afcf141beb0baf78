"""The bar over pictures: nothing for few, one bar for each data set that takes long."""

import contextlib

import pytest

from recognizer.training.classifier import picture_bar


@pytest.mark.parametrize(("step_s", "bars"), [(0.01, []), (1.5, [(4, 4), (3, 3)])])
def test_bars(monkeypatch, step_s, bars):
    clock, shown = [0.0], []
    monkeypatch.setattr(picture_bar.time, "monotonic", lambda: clock[0])

    @contextlib.contextmanager
    def watch(title, total):
        told = []
        yield lambda outcome, frames: told.append(outcome.state)
        shown.append((total, len(told)))

    with picture_bar.picture_bar(watch) as heard:
        for total in (4, 3):
            for done in range(1, total + 1):
                heard(done, total)
                clock[0] += step_s
    assert shown == bars
