"""Which files are videos, and what is said of those that are not looked at."""

import logging
import unicodedata

import pytest

from recognizer.config.file import ConfigError
from recognizer.config.schema import AnnotationConfig
from recognizer.runs import inputs
from recognizer.runs.inputs import find_videos, is_included


def make(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


@pytest.fixture(autouse=True)
def _no_warnings_yet():
    inputs._warned.clear()


def nfc(text):
    return unicodedata.normalize("NFC", text)


def nfd(text):
    return unicodedata.normalize("NFD", text)


@pytest.mark.parametrize("suffixes", [["mp4"], [".MP4"], ["*.mp4"], [" mp4 ", ".avi"]])
def test_a_suffix_may_be_written_as_people_write_it(tmp_path, suffixes):
    make(tmp_path, "a/1.mp4", "a/2.Mp4", "a/mp4", "a/3.xmp4")
    assert [v.relative for v in find_videos(tmp_path, suffixes)] == ["a/1.mp4", "a/2.Mp4"]


@pytest.mark.parametrize("suffix", ["", ".", "a/b", "*", "tar.gz", "m p4"])
def test_what_is_no_suffix_is_refused(tmp_path, suffix):
    make(tmp_path, "1.mp4")
    with pytest.raises(ConfigError, match=r"video_suffixes: expected suffixes such as \.mp4"):
        find_videos(tmp_path, [".mp4", suffix])


def test_files_of_a_video_kind_are_counted_and_named_once(tmp_path, caplog):
    make(tmp_path, "F/1.mp4", "F/2.DAV", "F/3.dav", "F/a.gif", "F/notes.txt", "F/x.zip")
    with caplog.at_level(logging.WARNING):
        assert [v.relative for v in find_videos(tmp_path, [".mp4"])] == ["F/1.mp4"]
        find_videos(tmp_path, [".mp4"])
    (line,) = (record.message for record in caplog.records)
    assert "2 .dav, 1 .gif, such as F/2.DAV" in line
    assert "annotation.video_suffixes" in line
    assert "txt" not in line
    assert "zip" not in line


def test_they_are_named_also_where_there_is_no_video(tmp_path, caplog):
    make(tmp_path, "F/2.dav")
    with caplog.at_level(logging.WARNING), pytest.raises(ValueError, match="found none"):
        find_videos(tmp_path, [".mp4"])
    assert "1 .dav" in caplog.text


def test_attribute_files_of_macos_are_skipped_with_a_line(tmp_path, caplog):
    make(tmp_path, "F/1.mp4", "F/._1.mp4", "F/._2.dav", "F/.DS_Store", "F/Thumbs.db", "F/.2.mp4")
    with caplog.at_level(logging.WARNING):
        assert [v.relative for v in find_videos(tmp_path, [".mp4"])] == ["F/.2.mp4", "F/1.mp4"]
    (line,) = (record.message for record in caplog.records)
    assert "skipped 2 of macOS's ._* files, such as F/._1.mp4" in line


def test_nothing_is_reported_where_all_is_read(tmp_path, caplog):
    make(tmp_path, "F/1.mp4", "F/2.dav", "F/3.264", "F/4.asf", "F/5.H265", "F/.DS_Store")
    with caplog.at_level(logging.WARNING):
        assert len(find_videos(tmp_path, AnnotationConfig().video_suffixes)) == 5
    assert not caplog.records


def test_every_default_suffix_is_of_a_video_kind():
    assert set(AnnotationConfig().video_suffixes) <= inputs._VIDEO_KINDS


@pytest.mark.parametrize("on_disk", [nfc, nfd])
@pytest.mark.parametrize("typed", [nfc, nfd])
def test_include_compares_names_in_either_coding(tmp_path, on_disk, typed):
    make(tmp_path, on_disk("싸움/é1.mp4"), on_disk("정상/1.mp4"))
    (video,) = find_videos(tmp_path, [".mp4"], [typed("싸움/é?.mp4")])
    assert video.relative == on_disk("싸움/é1.mp4")  # as it is on the disk
    assert video.path.is_file()
    assert not is_included(on_disk("정상/1.mp4"), [typed("싸움/*")])
