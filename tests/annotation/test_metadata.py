"""What metadata.json says beyond the samples themselves."""

import pytest

from annotation.stage3 import run_stage3
from tests.annotation.datasets import clips, config, quick_pictures, read_metadata
from tests.dataset.tracked import sequence

__all__ = ["quick_pictures"]
pytestmark = pytest.mark.usefixtures("quick_pictures")


def test_clips_in_which_nobody_was_tracked_are_part_of_the_truth(tmp_path):
    videos = clips(6)
    videos |= {f"NonFight/still{i}.mp4": sequence(2.0, people=0) for i in range(2)}
    source_of = {name: name for name in videos} | {"NonFight/still0.mp4": "Fight/00.mp4"}
    table = tmp_path / "sources.csv"
    table.write_text("video,source\n" + "".join(f"{v},{s}\n" for v, s in source_of.items()))
    metadata = read_metadata(run_stage3(config(tmp_path, videos, {"sources": str(table)})))
    recorded = metadata["nobody_tracked"]
    assert set(recorded) == {"NonFight/still0.mp4", "NonFight/still1.mp4"}
    assert not set(recorded) & set(metadata["samples"])
    assert {summary["label"] for summary in recorded.values()} == {metadata["classes"]["NonFight"]}
    first, alone = (recorded[f"NonFight/still{i}.mp4"] for i in range(2))
    assert first["split"] == metadata["samples"]["Fight/00.mp4"]["split"]  # as its source
    assert alone["split"] is None  # nothing else is of its source
