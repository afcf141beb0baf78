from pathlib import Path

import pytest

from annotation.sources import find_sources
from recognizer.config import SplitSection
from recognizer.config_file import ConfigError

VIDEOS = ["Fight/a.mp4", "Fight/b.mp4", "NonFight/c.mp4"]
CLASS_OF = {"Fight/a.mp4": "Fight", "Fight/b.mp4": "Fight", "NonFight/c.mp4": "NonFight"}
GOOD = "video,source\nFight/a.mp4,cam1\nFight/b.mp4,cam2\nNonFight/c.mp4,cam1\nother.mp4,cam3\n"


def sources(tmp_path: Path, text: str) -> dict[str, str]:
    path = tmp_path / "sources.csv"
    path.write_text(text, encoding="utf-8")
    return find_sources(SplitSection(sources=path), VIDEOS, CLASS_OF)


def test_every_video_is_its_own_source_by_default():
    assert find_sources(SplitSection(), VIDEOS, {}) == {v: v for v in VIDEOS}


def test_sources_from_a_table(tmp_path):
    expected = {"Fight/a.mp4": "cam1", "Fight/b.mp4": "cam2", "NonFight/c.mp4": "cam1"}
    assert sources(tmp_path, GOOD) == expected
    assert sources(tmp_path, "\ufeff" + GOOD.replace("\n", "\r\n")) == expected


def test_the_class_column_is_checked_where_it_is(tmp_path):
    good = "video,class,source\nFight/a.mp4,Fight,1\nFight/b.mp4,,1\nNonFight/c.mp4,NonFight,2\n"
    assert sources(tmp_path, good)["Fight/a.mp4"] == "1"
    with pytest.raises(ConfigError, match=r"sources\.csv:4: NonFight/c\.mp4: class 'Fight'"):
        sources(tmp_path, good.replace("c.mp4,NonFight", "c.mp4,Fight"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("video,source\nFight/a.mp4,cam1\n", "2 are missing: Fight/b.mp4, NonFight/c.mp4"),
        ("video\nFight/a.mp4\n", "missing: source"),
        (GOOD + "Fight/a.mp4,cam9\n", ":6: Fight/a.mp4: source 'cam9', but 'cam1' on line 2"),
        (GOOD.replace("cam2", ""), ":3: expected a video and a source"),
        ("", "found: nothing"),
    ],
    ids=["missing videos", "no column", "two sources", "empty cell", "empty"],
)
def test_bad_tables(tmp_path, text, message):
    with pytest.raises(ConfigError) as error:
        sources(tmp_path, text)
    assert message in str(error.value)


def test_sources_from_the_path():
    split = SplitSection(source_regex=r"/(.)\.mp4$")
    assert find_sources(split, VIDEOS, {})["Fight/b.mp4"] == "b"


@pytest.mark.parametrize("pattern", [r"Non(Fight)", r"(x?)\.mp4"])
def test_a_path_without_source_is_refused_by_name(pattern):
    with pytest.raises(ConfigError, match=r"Fight/a\.mp4"):
        find_sources(SplitSection(source_regex=pattern), VIDEOS, {})


def test_table_and_regex_together_are_refused(tmp_path):
    with pytest.raises(ValueError, match="sources: expected this or source_regex, got both"):
        SplitSection(sources=tmp_path / "x.csv", source_regex="(a)")
