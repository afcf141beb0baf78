"""The journal: what it decides, what it leaves to the results, and how it is torn."""

import json
import os
import random
import shutil
import zlib
from dataclasses import replace

import pytest

from recognizer.config.file import load_config
from recognizer.runs import stage1, stage2
from recognizer.runs.journal import JOURNAL, open_journal
from recognizer.runs.manifest import Outcome
from recognizer.runs.stage1 import run_stage1
from recognizer.runs.stage2 import run_stage2
from recognizer.storage.results import file_stamp
from tests.annotation import clips

SETTINGS = {"models": {"pose": "1" * 64}}
ODD = Outcome("Fight/a\udcffb\n.mp4", "damaged", "7 packets", 3, ("a note",))


@pytest.fixture
def result(tmp_path):
    path = tmp_path / "result.npz"
    path.write_bytes(b"poses")
    return path


def with_stamp(outcome, result):
    return replace(outcome, stamp=file_stamp(result))


def written(root, result, count=20):
    entries = [Outcome(f"Fight/{i}.mp4", "done", frames=i) for i in range(count - 1)] + [ODD]
    with open_journal(root, SETTINGS) as journal:
        for outcome in entries:
            journal.record(with_stamp(outcome, result), "source")
    return entries


def found(root, entries, result, settings=SETTINGS, source="source"):
    with open_journal(root, settings) as journal:
        return [journal.outcome(o.video, source, file_stamp(result)) for o in entries]


def test_what_was_recorded_is_read_back(tmp_path, result):
    entries = written(tmp_path, result)
    assert found(tmp_path, entries, result) == entries


def test_other_settings_another_source_and_no_source_decide_nothing(tmp_path, result):
    entries = written(tmp_path, result)
    none = [None] * len(entries)
    assert found(tmp_path, entries, result, source="other") == none
    assert found(tmp_path, entries, result, source="") == none
    assert found(tmp_path, entries, result, {"models": {}}) == none
    assert found(tmp_path, entries, result) == none, "begun anew for the other settings"


def rewrite(path):
    path.write_bytes(b"other")  # of the same size
    os.utime(path, ns=(0, 0))


@pytest.mark.parametrize(
    "change", [lambda p: p.unlink(), lambda p: p.write_bytes(b"longer than before"), rewrite]
)
def test_a_changed_result_is_looked_at(tmp_path, result, change):
    os.utime(result, ns=(0, 0))
    entries = written(tmp_path, result)
    change(result)
    assert found(tmp_path, entries, result) == [None] * len(entries)


def test_a_refused_input_is_tried_again(tmp_path, result):
    with open_journal(tmp_path, SETTINGS) as journal:
        journal.record(with_stamp(Outcome("a.mp4", "refused", "no permission"), result), "source")
    assert found(tmp_path, [Outcome("a.mp4", "done")], result) == [None]


def test_a_journal_torn_at_any_byte_is_read_to_its_last_whole_line(tmp_path, result):
    entries = written(tmp_path, result)
    whole = (tmp_path / JOURNAL).read_bytes()
    ends = [i + 1 for i, byte in enumerate(whole) if byte == ord("\n")]
    for cut in random.Random(0).sample(range(len(whole)), 60):
        (tmp_path / JOURNAL).write_bytes(whole[:cut])
        kept = max(0, sum(end <= cut for end in ends) - 1)  # the first line is the header
        expected = [*entries[:kept], *[None] * (len(entries) - kept)]
        assert found(tmp_path, entries, result) == expected
        with open_journal(tmp_path, SETTINGS) as journal:
            journal.record(with_stamp(entries[-1], result), "source")
        assert found(tmp_path, entries, result)[-1] == ODD, "the torn line is gone"


def test_a_line_of_nothing_with_its_checksum_ends_the_journal(tmp_path, result):
    entries = written(tmp_path, result)
    with (tmp_path / JOURNAL).open("ab") as file:
        file.write(b"00000000\n")
    assert found(tmp_path, entries, result) == entries


def test_a_flipped_bit_ends_the_journal(tmp_path, result):
    entries = written(tmp_path, result)
    data = bytearray((tmp_path / JOURNAL).read_bytes())
    data[len(data) // 2] ^= 4
    (tmp_path / JOURNAL).write_bytes(data)
    back = found(tmp_path, entries, result)
    assert None in back
    assert [o for o in back if o is not None] == entries[: back.index(None)]


@pytest.mark.parametrize(
    "value",
    [
        5,
        ["a.mp4", "source"],
        [["a.mp4"], "source", "result", "done", "", 1, []],
        ["a.mp4", "source", "result", "perfect", "", 1, []],
        ["a.mp4", "source", "result", "done", "", "1", []],
        ["a.mp4", "source", "result", "done", "", 1, None],
    ],
)
def test_a_whole_line_of_another_form_ends_the_journal(tmp_path, result, value):
    (first, *_) = written(tmp_path, result, count=2)
    data = json.dumps(value).encode()
    with (tmp_path / JOURNAL).open("ab") as file:
        file.write(b"%08x %s\n" % (zlib.crc32(data), data))
    assert found(tmp_path, [first, Outcome("a.mp4", "done")], result) == [first, None]


def test_a_journal_of_many_repetitions_is_written_short(tmp_path, result):
    with open_journal(tmp_path, SETTINGS) as journal:
        for number in range(1500):
            one = Outcome("a.mp4", "done", frames=number)
            journal.record(with_stamp(one, result), "source")
    assert found(tmp_path, [ODD], result) == [None]
    assert (tmp_path / JOURNAL).read_bytes().count(b"\n") == 2
    (last,) = found(tmp_path, [Outcome("a.mp4", "done")], result)
    assert last.frames == 1499


def test_a_stamp_sees_a_copy_that_keeps_size_and_time(tmp_path, result):
    before = file_stamp(result)
    other = tmp_path / "other"
    other.write_bytes(b"OTHER")
    shutil.copystat(result, other)
    other.replace(result)
    assert file_stamp(result) != before
    assert file_stamp(tmp_path / "none") == ""


@pytest.mark.usefixtures("forked_workers")
def test_a_restart_opens_no_result(tmp_path, monkeypatch):
    config = load_config(clips.make_dataset(tmp_path))
    poses, tracks = run_stage1(config), run_stage2(config)
    before = clips.contents(poses), clips.contents(tracks)

    def opened(path, schema):
        raise AssertionError(f"{path} was opened")

    monkeypatch.setattr(stage1, "read_npz_meta", opened)
    monkeypatch.setattr(stage2, "read_npz_meta", opened)
    run_stage1(config)
    run_stage2(config)
    assert (clips.contents(poses), clips.contents(tracks)) == before


@pytest.mark.usefixtures("forked_workers")
def test_without_a_journal_results_decide_and_fill_it(tmp_path):
    config = load_config(clips.make_dataset(tmp_path))
    poses = run_stage1(config)
    journal = (poses / JOURNAL).read_bytes()
    times = {p: p.stat().st_mtime_ns for p in poses.rglob("*.npz")}
    (poses / JOURNAL).unlink()
    run_stage1(config)
    assert {p: p.stat().st_mtime_ns for p in poses.rglob("*.npz")} == times
    assert sorted((poses / JOURNAL).read_bytes().splitlines()) == sorted(journal.splitlines())
