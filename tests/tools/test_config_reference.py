"""docs/configuration.md is what the config models and configs/config.yaml make of it."""

import re

import pytest

from recognizer.config.file import known_keys
from tools import config_reference
from tools.config_reference import CONFIG_FILE, comments_of, keys_of, reference

TEXT = CONFIG_FILE.read_text(encoding="utf-8")


def row_of(text, section, key):
    part = text.split(f" {section}\n", 1)[1].split("\n#", 1)[0]
    return next(line for line in part.splitlines() if line.startswith(f"| `{key}` |"))


def test_the_committed_reference_is_up_to_date():
    assert config_reference.main(["--check"]) == 0


def test_a_changed_default_makes_the_reference_out_of_date(tmp_path, monkeypatch, capsys):
    changed = tmp_path / "config.yaml"
    changed.write_text(TEXT.replace("merge_gap_s: 1.0", "merge_gap_s: 2.5"), encoding="utf-8")
    monkeypatch.setattr(config_reference, "CONFIG_FILE", changed)
    assert config_reference.main(["--check"]) == 1
    assert "docs/configuration.md: out of date" in capsys.readouterr().err
    monkeypatch.setattr(config_reference, "REFERENCE", tmp_path / "configuration.md")
    assert config_reference.main([]) == 0
    assert config_reference.main(["--check"]) == 0
    written = (tmp_path / "configuration.md").read_text(encoding="utf-8")
    assert "| `2.5` |" in row_of(written, "inference", "merge_gap_s")


def test_a_missing_reference_is_out_of_date(tmp_path, monkeypatch):
    monkeypatch.setattr(config_reference, "REFERENCE", tmp_path / "configuration.md")
    assert config_reference.main(["--check"]) == 1


def test_every_key_has_one_row_or_heading():
    assert sorted(key.path for key in keys_of(TEXT)) == sorted(known_keys())
    text = reference(TEXT)
    for key in keys_of(TEXT):
        if key.type_text:
            assert row_of(text, key.section, key.name)
        else:
            assert f" {key.path}\n" in text


@pytest.mark.parametrize(
    ("section", "key", "cells"),
    [
        ("annotation", "workers", "`auto` or whole number 1 to 256 | `auto` |  |"),
        ("annotation", "stall_timeout_s", "number > 0 to 86400 | `120.0` | s |"),
        ("annotation", "sample_fps", "number > 0 or null | `null` | frames/s |"),
        ("annotation", "input", "path or text | `../data` |  |"),
        ("dataset", "classes", "map of text to whole number >= 0 | `{NonFight: 0, Fight: 1}` |"),
        ("tracking", "min_box_area", "number >= 0 | `100.0` | px^2 |"),
        ("tracking", "fuse_score", "true or false or null | `null` |"),
        ("models.pose_estimation.topdown", "turned_period_s", "number > 0 to 10 | `0.4` | s |"),
        ("deploy", "precision", "`both`, `fp32`, `fp16` | `both` |"),
        ("inference.zones", "rest", "list of {name, videos, polygon} | `[]` |"),
        ("models.pose_estimation.pth", "config_file", 'text | `""` |'),
    ],
)
def test_type_range_default_and_unit(section, key, cells):
    assert row_of(reference(TEXT), section, key).startswith(f"| `{key}` | {cells}")


def test_the_meaning_is_the_whole_comment_above_the_key():
    comments = comments_of("a:\n  # One,\n  # two.\n  b: 1\n\n  # Not of c.\n\n  c: 2\n")
    assert comments == {"a": "", "a.b": "One, two.", "a.c": ""}


def test_a_key_without_comment_refers_to_the_one_that_explains_it():
    text = reference(TEXT)
    link = "as [`models.pose_estimation.onnx.device`](#modelspose_estimationonnx) |"
    assert row_of(text, "inference.fight", "device").endswith(link)
    assert row_of(text, "models.pose_estimation.topdown", "std_rgb").endswith("with `mean_rgb` |")


def test_pipes_and_stars_of_comments_stay_text():
    changed = TEXT.replace("# Where results go. ", "# A|B, <c> and *. ")
    assert "A\\|B, \\<c> and \\*." in row_of(reference(changed), "annotation", "output_dir")


def test_a_file_that_lacks_a_key_is_refused_by_name():
    with pytest.raises(ValueError, match=r"too few: annotation\.movement"):
        reference(TEXT.replace("  movement: true\n", "", 1))


def test_a_key_that_nothing_explains_is_refused_by_name():
    at = TEXT.index("  # Folder of videos, one sub-folder")
    until = TEXT.index("  input: ../data")
    changed = TEXT[:at] + TEXT[until:]
    changed = re.sub(r"  # A video or a folder of videos,.*\n", "", changed)
    with pytest.raises(ValueError, match=r"expected a comment above annotation\.input"):
        reference(changed)
