"""What stage 3 says while it runs and when it cannot."""

import contextlib

import pytest

from annotation.stage3 import run_stage3
from recognizer.runs.manifest import Outcome, read_manifest
from tests.annotation.datasets import clips, config, quick_pictures
from tests.dataset.tracked import sequence

__all__ = ["quick_pictures"]
pytestmark = pytest.mark.usefixtures("quick_pictures")


def test_hears_of_every_input_once(tmp_path):
    videos = clips(3) | {"odd/x.mp4": sequence(), "Fight/gone.mp4": Outcome("x", "refused", "no")}
    reported, frames, totals = [], [], []

    def report(outcome, count):
        reported.append(outcome.video if outcome else None)
        frames.append(count)

    @contextlib.contextmanager
    def watch(title, total):
        totals.append(total)
        yield report if title == "stage 3: videos" else lambda outcome, frames: None

    run_stage3(config(tmp_path, videos), watch)
    assert totals[0] == len(videos)
    names = {outcome.video for outcome in read_manifest(tmp_path / "stage2").outcomes}
    assert sorted(name for name in reported if name) == sorted(names)
    assert sum(frames) == sum(len(v) for v in videos.values() if not isinstance(v, Outcome))


def test_too_few_sources_says_where_the_others_went(tmp_path):
    videos = {
        "Fight/a.mp4": sequence(),
        "NonFight/a.mp4": sequence(),
        "Fight/empty.mp4": sequence(people=0),
        "NonFight/empty.mp4": sequence(people=0),
        "Fight/broken.mp4": Outcome("Fight/broken.mp4", "refused", "no video"),
    }
    with pytest.raises(ValueError, match="expected at least 3 sources") as caught:
        run_stage3(config(tmp_path, videos))
    assert str(caught.value).endswith(
        ". 3 of 5 videos gave no sample: 2 x nobody was tracked; 1 x no video"
    )


def test_what_is_not_included_is_not_waited_for(tmp_path):
    totals = []

    @contextlib.contextmanager
    def watch(title, total):
        totals.append(total)
        yield lambda outcome, frames: None

    app = config(tmp_path, clips(4))
    included = [f"{name}/0[012].mp4" for name in ("Fight", "NonFight")]
    section = app.annotation.model_copy(update={"include": included})
    run_stage3(app.model_copy(update={"annotation": section}), watch)
    assert totals[0] == 6
