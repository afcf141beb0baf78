import unicodedata
from pathlib import Path

import pytest

from annotation.sources import find_sources, known_sources
from recognizer.config.file import ConfigError
from recognizer.config.schema import SplitConfig

VIDEOS = ["Fight/a.mp4", "Fight/b.mp4", "NonFight/c.mp4"]
CLASS_OF = {"Fight/a.mp4": "Fight", "Fight/b.mp4": "Fight", "NonFight/c.mp4": "NonFight"}
GOOD = "video,source\nFight/a.mp4,cam1\nFight/b.mp4,cam2\nNonFight/c.mp4,cam1\nother.mp4,cam3\n"


def sources(tmp_path: Path, text: str) -> dict[str, str]:
    path = tmp_path / "sources.csv"
    path.write_text(text, encoding="utf-8")
    return find_sources(SplitConfig(sources=path), VIDEOS, CLASS_OF)


def test_every_video_is_its_own_source_by_default():
    assert find_sources(SplitConfig(), VIDEOS, {}) == {v: v for v in VIDEOS}


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
    split = SplitConfig(source_regex=r"/(.)\.mp4$")
    assert find_sources(split, VIDEOS, {})["Fight/b.mp4"] == "b"


@pytest.mark.parametrize("pattern", [r"Non(Fight)", r"(x?)\.mp4"])
def test_a_path_without_source_is_refused_by_name(pattern):
    with pytest.raises(ConfigError, match=r"Fight/a\.mp4"):
        find_sources(SplitConfig(source_regex=pattern), VIDEOS, {})


def test_table_and_regex_together_are_refused(tmp_path):
    with pytest.raises(ValueError, match="sources: expected this or source_regex, got both"):
        SplitConfig(sources=tmp_path / "x.csv", source_regex="(a)")


@pytest.mark.parametrize("on_disk", ["NFC", "NFD"])
@pytest.mark.parametrize("typed", ["NFC", "NFD"])
def test_names_in_either_coding(tmp_path, on_disk, typed):
    """Rows of both codings of one recording name one source: no leak between splits."""
    videos = [unicodedata.normalize(on_disk, name) for name in ("싸움/1.mp4", "싸움/2.mp4")]
    text = "video,source,class\n싸움/1.mp4,복도,싸움\n" + unicodedata.normalize(
        typed, "싸움/2.mp4,복도,싸움\n"
    )
    path = tmp_path / "sources.csv"
    path.write_text(text, encoding="utf-8")
    class_of = dict.fromkeys(videos, unicodedata.normalize(on_disk, "싸움"))
    found = find_sources(SplitConfig(sources=path), videos, class_of)
    assert list(found) == videos
    assert len(set(found.values())) == 1
    by_path = find_sources(SplitConfig(source_regex="^(싸움)/"), videos, {})
    assert set(by_path.values()) == {"싸움"}


def test_one_video_in_two_codings_has_one_source(tmp_path):
    twice = [unicodedata.normalize(form, "복도.mp4") for form in ("NFC", "NFD")]
    text = f"video,source\n{twice[0]},1\n{twice[1]},2\n"
    with pytest.raises(ConfigError, match=r":3: .*source '2', but '1' on line 2"):
        sources(tmp_path, text)


@pytest.mark.parametrize(
    "row", ["Fight\\a.mp4", "C:\\data\\Fight\\a.mp4", "data/Fight/a.mp4", "Fight/A.mp4"]
)
def test_a_row_that_means_a_missing_video_is_suggested(tmp_path, row):
    with pytest.raises(ConfigError) as error:
        sources(tmp_path, GOOD.replace("Fight/a.mp4", row, 1))
    assert f"of its row {row!r}: did you mean 'Fight/a.mp4'?" in str(error.value)


def test_other_footage_is_of_the_sources_that_are_known_of_it(tmp_path):
    videos = ["cam1_01.mp4", "street/x.mp4"]
    assert known_sources(SplitConfig(), videos) == {v: v for v in videos}
    by_name = SplitConfig(source_regex=r"^([^/]+)_\d+\.mp4$")
    assert known_sources(by_name, videos) == {"cam1_01.mp4": "cam1", "street/x.mp4": "street/x.mp4"}
    table = tmp_path / "sources.csv"
    table.write_text("video,source\nstreet/x.mp4,street\nelsewhere.mp4,cam9\n")
    by_table = SplitConfig(sources=table)
    assert known_sources(by_table, videos) == {
        "cam1_01.mp4": "cam1_01.mp4",
        "street/x.mp4": "street",
    }
