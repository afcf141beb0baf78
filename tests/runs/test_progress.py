"""Progress lines: what is counted, how fast, and names that cannot steer the terminal."""

import pytest

from recognizer.runs import progress
from recognizer.runs.event_curves import hours_text
from recognizer.runs.manifest import Outcome
from tests.annotation import clips


def lines_of(caplog, *steps, title="stage 1: videos"):
    caplog.set_level("INFO")
    with progress.on_console(title, len(steps)) as advance:
        for outcome, frames in steps:
            advance(outcome, frames)
    return [record.getMessage() for record in caplog.records]


def test_a_line_says_how_many_of_how_many(caplog, monkeypatch):
    times = iter([0.0, 0.0, 5.0])
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(times, 5.0))
    (line,) = lines_of(caplog, (Outcome("a.mp4", "done"), 2))
    assert line == "stage 1: videos: 1 of 1, 0.4 frames/s"


def test_stages_say_what_they_count(tmp_path):
    from annotation import pipeline
    from recognizer.config.file import load_config

    titles = []

    def watch(title, total):
        titles.append(title)
        return progress.silent(title, total)

    config = load_config(clips.make_dataset(tmp_path, clips=3))
    pipeline.pipeline(config, watch)
    assert {f"stage {number}: videos" for number in (1, 2, 3)} <= set(titles)


def test_a_name_with_control_characters_is_one_harmless_line(caplog):
    line, _ = lines_of(caplog, (Outcome("a\x1b[2J\nb.mp4", "refused", "no\nframes"), 0))
    assert line == "a\\x1b[2J\\nb.mp4: refused: no\\nframes"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(3, "3 s"), (36, "36 s"), (61, "0.017 h (1 min)"), (1260, "0.35 h (21 min)"), (9000, "2.5 h")],
)
def test_a_length_has_a_unit_that_fits(seconds, text):
    assert hours_text(seconds / 3600) == text
