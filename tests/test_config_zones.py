"""What a zone may be, and how a wrong one is refused."""

import json
from pathlib import Path

import pytest

from recognizer.config.file import ConfigError, load_config

SQUARE = "[[0.1, 0.1], [0.9, 0.1], [0.9, 0.9], [0.1, 0.9]]"


def load(folder: Path, polygon: str, *, more: str = ""):
    path = folder / "config.yaml"
    path.write_text(
        f"inference:\n  zones:\n    rest:\n    - name: bed\n      polygon: {polygon}\n{more}",
        encoding="utf-8",
    )
    return load_config(path)


@pytest.mark.parametrize(
    "polygon",
    [
        SQUARE,
        "[[0, 0], [1, 0], [0, 1]]",
        "[[0.1, 0.9], [0.9, 0.9], [0.9, 0.1], [0.1, 0.1]]",
        "[[0, 0], [1, 0], [1, 1], [0.5, 0.2], [0, 1]]",
    ],
    ids=["square", "triangle of whole numbers", "the other way round", "dented"],
)
def test_zones_are_read(tmp_path, polygon):
    (zone,) = load(tmp_path, polygon).inference.zones.rest
    assert (zone.name, zone.videos) == ("bed", "*")
    assert len(zone.polygon) >= 3
    assert zone.shows("any/video.mp4")


@pytest.mark.parametrize(
    ("polygon", "message"),
    [
        ("[[0.1, 0.1], [0.9, 0.9]]", "expected 3 to 100 corners [x, y], got 2"),
        ("[]", "expected 3 to 100 corners [x, y], got 0"),
        ("[[0.1, 0.1], [0.9, 0.1], [1.2, 0.9]]", "expected at most 1.0; got 1.2"),
        ("[[0.1, 0.1], [-0.1, 0.1], [0.2, 0.9]]", "expected at least 0.0; got -0.1"),
        ("[[100, 50], [300, 50], [200, 400]]", "expected at most 1.0; got 100"),
        (
            "[[0.1, 0.1], [0.9, 0.9], [0.9, 0.1], [0.1, 0.9]]",
            "expected corners in their order around the zone, got sides 1 and 3 that cross",
        ),
        ("[[0.1, 0.1], [0.9, 0.1], [0.9, 0.9], [0.5, 0.1]]", "got sides 1 and 3 that cross"),
        ("[[0.1, 0.1], [0.5, 0.5], [0.9, 0.9]]", "got corners on one line"),
        (
            "[[0.1, 0.1], [0.9, 0.1], [0.9, 0.9], [0.1, 0.1]]",
            "expected every corner once, the last is joined to the first; got [0.1, 0.1] twice",
        ),
        ("[[0.1, 0.1, 0.3], [0.9, 0.1], [0.9, 0.9]]", "expected a list of 2"),
        ("[[0.1, left], [0.9, 0.1], [0.9, 0.9]]", "expected a number; got 'left'"),
        ("[[0.1, .nan], [0.9, 0.1], [0.9, 0.9]]", "expected a finite number; got nan"),
    ],
)
def test_what_is_no_polygon_is_refused(tmp_path, polygon, message):
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, polygon)
    text = str(caught.value)
    assert message in text
    assert "inference.zones.rest.0.polygon" in text
    assert "config.yaml:5" in text


def test_a_zone_has_a_name_and_no_unknown_keys(tmp_path):
    with pytest.raises(ConfigError, match=r"zones\.rest\.0\.colour: unknown key"):
        load(tmp_path, SQUARE, more="      colour: red\n")
    path = tmp_path / "config.yaml"
    path.write_text(f"inference: {{zones: {{ignore: [{{polygon: {SQUARE}}}]}}}}\n")
    with pytest.raises(ConfigError, match=r"inference\.zones\.ignore\.0"):
        load_config(path)


def test_zones_come_with_set_as_well(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text("{}\n")
    text = f"inference.zones.ignore=[{{name: TV, videos: 'hall/*', polygon: {SQUARE}}}]"
    (zone,) = load_config(path, [text]).inference.zones.ignore
    assert (zone.name, zone.shows("hall/a.mp4"), zone.shows("b.mp4")) == ("TV", True, False)


@pytest.mark.parametrize("name", ["  ", "a\u001b[2Jb", "bed\nroom"])
def test_a_name_that_cannot_be_seen_is_refused(tmp_path, name):
    path = tmp_path / "config.yaml"
    zone = {"name": name, "polygon": json.loads(SQUARE)}
    path.write_text(json.dumps({"inference": {"zones": {"ignore": [zone]}}}))
    with pytest.raises(ConfigError, match=r"ignore\.0\.name: expected a name of visible"):
        load_config(path)


def test_a_view_named_twice_is_refused(tmp_path):
    """It would count double in the mean."""
    path = tmp_path / "config.yaml"
    path.write_text("inference: {views: [mirror, mirror]}")
    with pytest.raises(ConfigError, match=r"inference\.views: expected each view once"):
        load_config(path)
