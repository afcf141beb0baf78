"""Names as people read them: composed (NFC, keyboards) or in parts (NFD, a Mac's folders)."""

import unicodedata
from pathlib import Path

import pytest

from recognizer.config.file import load_config
from recognizer.names import as_on_disk, printable

WORD = "싸움영상"
PARTS = unicodedata.normalize("NFD", WORD)


@pytest.mark.parametrize(("disk", "typed"), [(PARTS, WORD), (WORD, PARTS)])
def test_a_folder_is_found_under_either_form(tmp_path, monkeypatch, disk, typed):
    (tmp_path / disk / disk).mkdir(parents=True)
    for path in (tmp_path / typed / typed / "new", tmp_path / disk / typed / "new"):
        assert as_on_disk(path) == tmp_path / disk / disk / "new"
    monkeypatch.chdir(tmp_path)
    assert as_on_disk(Path(typed)) == Path(disk)
    (tmp_path / "config.yaml").write_text(f"annotation:\n  input: {typed}\n", "utf-8")
    for settings in ([], [f"annotation.input={typed}"]):
        config = load_config(tmp_path / "config.yaml", settings)
        assert config.annotation.input == tmp_path / disk


def test_other_paths_stay(tmp_path):
    (tmp_path / WORD).mkdir()
    (tmp_path / PARTS).mkdir()
    (tmp_path / f"{PARTS}.mp4").write_bytes(b"")
    for name in (WORD, PARTS, "é", f"{WORD}.mkv", "a" * 5000 + "é", "plain"):
        assert as_on_disk(tmp_path / name / "x") == tmp_path / name / "x"
    assert as_on_disk(tmp_path / f"{PARTS}.mp4" / "é") == tmp_path / f"{PARTS}.mp4" / "é"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("싸움 é.mp4", "싸움 é.mp4"),
        ("a\nb", "a\\nb"),
        ("a\x1b[31mb\x07", "a\\x1b[31mb\\x07"),
        ("a\x85b\x7f", "a\\x85b\\x7f"),
    ],
)
def test_control_characters_are_shown_escaped(text, shown):
    assert printable(text) == shown


def test_control_characters_that_are_allowed_stay():
    assert printable("a\nb\x1b", keep="\n") == "a\nb\\x1b"
