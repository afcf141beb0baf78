"""Zones in an analysis as a whole: who is looked at, what is suppressed, what is done again."""

import json
from pathlib import Path

import pytest

from recognizer.analysis.record import SCHEMA_FILE
from tests.analysis.schema import problems
from tests.analysis.small_runs import files, out, record_of, run, states, summary

pytestmark = pytest.mark.usefixtures("forked_workers")

SCHEMA = json.loads(SCHEMA_FILE.read_bytes())
EVERYWHERE = "[[0, 0], [1, 0], [1, 1], [0, 1]]"


def zone(kind, videos="*"):
    return f"inference.zones.{kind}=[{{name: all, videos: '{videos}', polygon: {EVERYWHERE}}}]"


def test_zones_change_what_is_looked_at_in_their_videos_alone(analysed):
    work = files(out(analysed) / "work", "*.npz")
    before = {name: record_of(analysed, name) for name in states(analysed)}
    looked, other = sorted(before)
    overlays = files(out(analysed), "*.mp4")
    run(analysed, zone("ignore", looked))
    after = record_of(analysed, looked)
    assert [(z.kind, z.name) for z in after.zones] == [("ignore", "all")]
    assert {w.state for w in after.services["fight"].windows} == {"nobody"}
    assert record_of(analysed, other) == before[other]
    changed = {p for p, at in files(out(analysed), "*.mp4").items() if at != overlays[p]}
    assert changed == {Path("videos") / f"{looked}.mp4"}
    run(analysed)
    assert {name: record_of(analysed, name) for name in before} == before
    assert files(out(analysed) / "work", "*.npz") == work


def test_a_rest_zone_asks_no_network_and_suppresses_falls(analysed):
    """The dot is somebody small who never lies; its falls are those of the classifier."""
    run(analysed, "inference.falldown.threshold=0.2", "inference.falldown.long_lie_s=0.5")
    before = record_of(analysed, "Fight/f0.mp4").services["falldown"]
    assert before.lying == {"long_lie_s": 0.5, "gap_s": 5.0}
    assert before.events
    assert before.suppressed == ()
    resting = [
        "inference.falldown.threshold=0.2",
        "inference.falldown.long_lie_s=0.5",
        zone("rest"),
    ]
    run(analysed, *resting)
    after = record_of(analysed, "Fight/f0.mp4")
    falls = after.services["falldown"]
    assert falls.windows == before.windows
    assert falls.events == ()
    assert {event.zone for event in falls.suppressed} == {"all"}
    assert [e.start_s for e in falls.suppressed] == [e.start_s for e in before.events]
    assert {event.grade for event in falls.suppressed} == {e.grade for e in before.events}
    row = next(r for r in summary(analysed) if r["service"] == "falldown" and r["suppressed"])
    assert (row["events"], row["lying"]) == ("0", "0")
    written = (out(analysed) / "videos" / "Fight" / "f0.mp4.json").read_bytes()
    assert problems(json.loads(written), SCHEMA) == []
    stamps = files(out(analysed) / "videos", "*")
    run(analysed, *resting)
    assert files(out(analysed) / "videos", "*") == stamps


def test_a_zone_that_no_video_shows_is_reported(analysed, caplog):
    run(analysed, zone("rest", "kitchen/*"))
    assert "inference.zones.rest: 'all': no video fits 'kitchen/*'" in caplog.text
