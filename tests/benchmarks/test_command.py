"""What a benchmark's command line refuses, and how."""

import argparse

import pytest

from benchmarks._command import existing_file, existing_folder, one_line_errors, positive, seconds
from recognizer.config.file import ConfigError
from recognizer.runs.worker_pool import RunError


@pytest.mark.parametrize("text", ["0", "-3", "1.5", "nan", "", "two"])
def test_a_count_is_a_whole_number_from_1_on(text):
    assert positive("3") == 3
    with pytest.raises(
        argparse.ArgumentTypeError, match=f"whole number of at least 1, got '{text}"
    ):
        positive(text)


@pytest.mark.parametrize("text", ["0", "-1", "nan", "inf", "soon"])
def test_seconds_are_finite_and_above_0(text):
    assert seconds("0.5") == 0.5
    with pytest.raises(argparse.ArgumentTypeError, match=f"seconds above 0, got '{text}'"):
        seconds(text)


def test_a_folder_is_no_file_and_both_exist(tmp_path):
    (tmp_path / "file").touch()
    assert existing_folder(str(tmp_path)) == tmp_path
    assert existing_file(str(tmp_path / "file")) == tmp_path / "file"
    for place in (tmp_path, tmp_path / "absent"):
        with pytest.raises(argparse.ArgumentTypeError, match=f"a file, found none at {place}"):
            existing_file(str(place))
    for name in ("file", "absent"):
        with pytest.raises(argparse.ArgumentTypeError, match=f"found none at .*{name}"):
            existing_folder(str(tmp_path / name))


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ConfigError("a:\n  b"), "ConfigError: a:; b\n"),
        (ConfigError("a\nb\nc\nd\ne"), "ConfigError: a; b; c; and 2 more\n"),
        (FileNotFoundError("none"), "FileNotFoundError: none\n"),
        (RunError("no model"), "RunError: no model\n"),
    ],
)
def test_an_error_of_reading_is_one_line(error, line, capsys):
    @one_line_errors
    def main():
        raise error

    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 2
    assert capsys.readouterr().err == line


def test_other_errors_and_results_pass():
    assert one_line_errors(lambda: 0)() == 0
    with pytest.raises(KeyError):
        one_line_errors(lambda: {}["a bug"])()
