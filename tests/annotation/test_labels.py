import csv
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from annotation.labels_gmdcsa import gmdcsa_segments, parse_activities, write_segments
from recognizer.config.file import ConfigError
from recognizer.dataset.labels import (
    LabelError,
    Segment,
    clip_segment,
    label_from_folders,
    label_of_window,
    read_segments,
)

ROOT = Path(__file__).resolve().parents[2]
FALLS = ROOT.parent / "shared" / "assets" / "falls"
CLASSES = {"Normal": 0, "Falldown": 1}
VIDEOS = ["a.mp4", "Subject 1/b.mp4", "Subject 1/Fall/ünï,code.mp4", "c/x.mp4", "d/x.mp4"]
HEADER = "video,start_s,stop_s,class\n"


# --- folders -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("video", "name"),
    [
        ("Fight/a.mp4", "Fight"),
        ("train/NonFight/cam 1/a.mp4", "NonFight"),
        ("Fight/Fight/a.mp4", "Fight"),
        ("x/Fight/NonFight.mp4", "Fight"),
    ],
)
def test_label_from_folder(video, name):
    assert label_from_folders(video, {"Fight": 1, "NonFight": 0}) == name


@pytest.mark.parametrize("on_disk", ["NFC", "NFD"])
@pytest.mark.parametrize("typed", ["NFC", "NFD"])
def test_label_from_a_folder_in_either_coding(on_disk, typed):
    classes = {unicodedata.normalize(typed, name): i for i, name in enumerate(("정상", "싸움"))}
    video = unicodedata.normalize(on_disk, "싸움/복도.mp4")
    assert label_from_folders(video, classes) == list(classes)[1]


@pytest.mark.parametrize(
    ("video", "texts"),
    [
        ("fight/a.mp4", ["its folders: fight", "did you mean 'Fight'? Otherwise name it in"]),
        ("data/Fights/a.mp4", ["its folders: data, Fights", "did you mean 'Fight'"]),
        ("zebra/a.mp4", ["its folders: zebra", "dataset.classes"]),
        ("Fight.mp4", ["its folders: none"]),
        ("Fight/NonFight/a.mp4", ["Fight and NonFight"]),
        ("NotFight2/Fight /a.mp4", ["did you mean"]),
    ],
)
def test_no_clear_folder_is_refused_with_what_was_seen(video, texts):
    with pytest.raises(LabelError) as error:
        label_from_folders(video, {"Fight": 1, "NonFight": 0})
    assert all(text in str(error.value) for text in texts)


@pytest.mark.parametrize(
    ("folder", "classes", "meant"),
    [
        ("Flal", ("Fall", "Normal"), "Fall"),
        ("싸옴", ("싸움", "정상"), "싸움"),
        ("NonFigth", ("Fight", "NonFight"), "NonFight"),
    ],
)
def test_the_class_that_a_folder_is_a_slip_of_is_named(folder, classes, meant):
    with pytest.raises(LabelError, match=f"did you mean '{meant}'"):
        label_from_folders(f"{folder}/a.mp4", dict.fromkeys(classes, 0))


@pytest.mark.parametrize(
    ("folder", "classes"),
    [
        ("NonFight", ("Fight", "Walk")),
        ("Fight", ("NonFight", "Walk")),
        ("정상", ("비정상", "싸움")),
    ],
)
def test_the_opposite_of_a_class_is_no_slip_of_it(folder, classes):
    with pytest.raises(LabelError) as error:
        label_from_folders(f"{folder}/a.mp4", dict.fromkeys(classes, 0))
    assert "did you mean" not in str(error.value)


# --- the table of segments ---------------------------------------------------------


def read(tmp_path, content, videos=VIDEOS):
    path = tmp_path / "segments.csv"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return read_segments(path, CLASSES, videos)


@pytest.mark.parametrize("on_disk", ["NFC", "NFD"])
@pytest.mark.parametrize("typed", ["NFC", "NFD"])
def test_a_table_in_either_coding(tmp_path, on_disk, typed):
    path, video = tmp_path / "t.csv", unicodedata.normalize(on_disk, "복도/é.mp4")
    text = "video,start_s,stop_s,class\n복도/é.mp4,0,1,싸움\n복도/é.mp4,1,2,걷기\n"
    path.write_text(unicodedata.normalize(typed, text), encoding="utf-8")
    classes = [unicodedata.normalize(on_disk, name) for name in ("정상", "싸움")]
    others = [unicodedata.normalize(on_disk, "걷기")]
    table = read_segments(path, classes, [video], not_ours=others)
    assert [segment.class_name for segment in table[video]] == [classes[1]]


@pytest.mark.parametrize("partial", [False, True])
def test_windows_separators_are_answered(tmp_path, partial):
    path = tmp_path / "t.csv"
    path.write_text("video,start_s,stop_s,class\nFall\\a.mp4,0,1,Falldown\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"t\.csv:2: .*did you mean 'Fall/a\.mp4'"):
        read_segments(path, CLASSES, ["Fall/a.mp4", "Fall/b.mp4"], partial=partial)


GOOD = 'a.mp4,1,2.5,Falldown\n"Subject 1/Fall/ünï,code.mp4",0,3,Normal\n'


@pytest.mark.parametrize(
    "content",
    [
        HEADER + GOOD,
        "\ufeff" + HEADER + GOOD,
        (HEADER + GOOD).replace("\n", "\r\n"),
        HEADER + "\n  \n" + GOOD + "\n\n",
        HEADER + GOOD.rstrip("\n"),
        " class , stop_s,start_s,note,video\nFalldown, 2.5 ,1,x,a.mp4\n"
        'Normal,3.,.0e1,,"Subject 1/Fall/ünï,code.mp4"\n',
        # the same name in decomposed letters, as macOS writes it
        HEADER + GOOD.replace("ü", "u\u0308").replace("ï", "i\u0308"),
    ],
    ids=["plain", "BOM", "CRLF", "empty lines", "no last newline", "other order", "NFD"],
)
def test_good_tables(tmp_path, content):
    table = read(tmp_path, content)
    assert {v: [(s.start_s, s.stop_s, s.class_name) for s in x] for v, x in table.items()} == {
        "a.mp4": [(1.0, 2.5, "Falldown")],
        "Subject 1/Fall/ünï,code.mp4": [(0.0, 3.0, "Normal")],
    }


def test_segments_are_sorted_and_may_touch_or_repeat_a_class(tmp_path):
    table = read(
        tmp_path,
        HEADER + "a.mp4,4,6,Normal\na.mp4,2,4,Falldown\na.mp4,0,2,Normal\na.mp4,1,2,Normal",
    )
    assert [s.start_s for s in table["a.mp4"]] == [0, 1, 2, 4]


BAD = {
    "empty file": ("", ":1: expected the columns video,start_s,stop_s,class", "found: nothing"),
    "missing column": ("video,start_s,class\n", ":1:", "missing: stop_s"),
    "semicolons": ("video;start_s;stop_s;class\n", ":1:", "with commas"),
    "column twice": ("video,start_s,stop_s,class,class\n", ":1:", "class twice"),
    "unknown video": (HEADER + "aa.mp4,0,1,Normal", ":2:", "did you mean 'a.mp4'"),
    "folder missing": (HEADER + "b.mp4,0,1,Normal", ":2:", "did you mean 'Subject 1/b.mp4'"),
    "backslashes": (HEADER + "Subject 1\\b.mp4,0,1,Normal", ":2:", "mean 'Subject 1/b.mp4'"),
    "going up": (HEADER + "../a.mp4,0,1,Normal", ":2:", "unknown video '../a.mp4'"),
    "absolute": (HEADER + "/etc/passwd,0,1,Normal", ":2:", "unknown video '/etc/passwd'"),
    "no video": (HEADER + ",0,1,Normal", ":2:", "unknown video ''"),
    "unknown class": (HEADER + "a.mp4,0,1,falldown", ":2:", "did you mean 'Falldown'"),
    "text": (HEADER + "a.mp4,zero,1,Normal", ":2:", "start_s: expected seconds"),
    "decimal comma": (HEADER + 'a.mp4,0,"1,5",Normal', ":2:", "stop_s: expected seconds"),
    "NaN": (HEADER + "a.mp4,0,nan,Normal", ":2:", "stop_s: expected seconds"),
    "infinite": (HEADER + "a.mp4,0,inf,Normal", ":2:", "stop_s: expected seconds"),
    "overflow": (HEADER + "a.mp4,0,1e999,Normal", ":2:", "stop_s: expected seconds"),
    "underscore": (HEADER + "a.mp4,0,1_0,Normal", ":2:", "stop_s: expected seconds"),
    "negative": (HEADER + "a.mp4,-1,1,Normal", ":2:", "start_s: expected seconds >= 0"),
    "empty number": (HEADER + "a.mp4,,1,Normal", ":2:", "start_s: expected seconds"),
    "no length": (HEADER + "a.mp4,1,1,Normal", ":2:", "expected stop_s after start_s"),
    "backwards": (HEADER + "a.mp4,2,1,Normal", ":2:", "expected stop_s after start_s"),
    "few cells": (HEADER + "a.mp4,0,1", ":2:", "expected 4 cells"),
    "many cells": (HEADER + "a.mp4,0,1,Normal,\n", ":2:", "expected 4 cells"),
    "open quote": (HEADER + 'a.mp4,0,1,"Normal\n', "segments.csv:", "not a CSV table"),
    "overlap": (
        HEADER + "a.mp4,0,2,Normal\n\na.mp4,1.9,3,Falldown",
        ":4: a.mp4: Falldown 1.9-3 overlaps Normal 0-2 of line 2",
        "",
    ),
    "overlap hidden behind a short one": (
        HEADER + "a.mp4,0,9,Normal\na.mp4,1,2,Normal\na.mp4,3,4,Falldown",
        ":4:",
        "overlaps Normal 0-9 of line 2",
    ),
    "row twice": (HEADER + "a.mp4,0,1,Normal\na.mp4,0,1.0,Normal", ":3:", "row as on line 2"),
    "Latin-1": ((HEADER + "a.mp4,0,1,Fälldown").encode("latin-1"), ":2:", "expected UTF-8"),
    "UTF-16": ((HEADER + GOOD).encode("utf-16"), ":1:", "expected UTF-8"),
    "NUL": (HEADER + "a.mp4\0,0,1,Normal", "segments.csv:2", ""),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_tables_are_refused_with_file_and_line(tmp_path, name):
    content, *texts = BAD[name]
    with pytest.raises(ConfigError) as error:
        read(tmp_path, content)
    assert str(tmp_path / "segments.csv") in str(error.value)
    for text in texts:
        assert text in str(error.value)


def test_several_bad_rows_are_named_at_once(tmp_path):
    with pytest.raises(ConfigError) as error:
        read(tmp_path, HEADER + "".join(f"no{i}.mp4,0,1,Normal\n" for i in range(30)))
    lines = str(error.value).splitlines()
    assert len(lines) == 21
    assert "segments.csv:2: unknown video 'no0.mp4'" in lines[0]
    assert lines[-1].startswith("... the rows after these")


def test_two_names_of_one_look_are_not_guessed(tmp_path):
    with pytest.raises(ConfigError, match="unknown video"):
        read(tmp_path, HEADER + "\u212b.mp4,0,1,Normal", ["\u00c5.mp4", "A\u030a.mp4"])


def test_missing_table(tmp_path):
    with pytest.raises(ConfigError, match="found none"):
        read_segments(tmp_path / "no.csv", CLASSES, VIDEOS)


@pytest.mark.parametrize(
    ("segment", "expected"),
    [
        ((1, 3), (1, 3)),
        ((0, 10.4), (0.5, 10)),
        ((9.9, 11), (9.9, 10)),
        ((0, 11.1), "reaches beyond the video's end at 10.00 s"),
        ((0, 0.4), "is outside the video"),
        ((10, 10.2), "is outside the video"),
        ((50, 60), "reaches beyond"),
    ],
)
def test_segments_are_clipped_or_refused(segment, expected):
    if isinstance(expected, str):
        with pytest.raises(LabelError, match=expected):
            clip_segment(Segment(*segment, "Normal", 7), 0.5, 10.0)
    else:
        clipped = clip_segment(Segment(*segment, "Normal", 7), 0.5, 10.0)
        assert (clipped.start_s, clipped.stop_s) == expected


@pytest.mark.parametrize(
    ("segments", "expected"),
    [
        ([(0, 1, "Normal")], "Normal"),
        ([(0, 0.99, "Normal")], None),
        ([(0, 0.9, "Normal"), (0.9, 2, "Falldown")], "Falldown"),
        ([(0, 1, "Normal"), (1, 2, "Falldown")], None),
        ([(0, 0.6, "Normal"), (0.3, 0.9, "Normal")], None),
        ([(0, 0.5, "Normal"), (1.5, 2, "Normal")], "Normal"),
        ([(-5, 9, "Falldown")], "Falldown"),
        ([(2, 9, "Falldown")], None),
        ([], None),
    ],
)
def test_window_takes_the_class_that_covers_half(segments, expected):
    assert label_of_window([Segment(*s) for s in segments], 0.0, 2.0) == expected


@given(st.floats(0, 10), st.floats(0.1, 5))
def test_windows_inside_a_segment_have_its_class(start, length):
    segment = Segment(start, start + 3 * length, "Falldown")
    assert label_of_window([segment], start + length, start + 2 * length) == "Falldown"


# --- GMDCSA24 ----------------------------------------------------------------------

ACTIVITIES = {
    "Falling (SW)[3.4 to 6]; Sitting[0 to 3.4]": [
        ("Falling", (3.4, 6.0)),
        ("Sitting", (0.0, 3.4)),
    ],
    "Falling (SW)[1.8 to 5]:; Walking[0 to 1.8]": [
        ("Falling", (1.8, 5.0)),
        ("Walking", (0.0, 1.8)),
    ],
    "Falling (BW[5.9 to 10]; Walking[0 to 1.3]": [
        ("Falling", (5.9, 10.0)),
        ("Walking", (0.0, 1.3)),
    ],
    "Fall (FW)[0 to 3]": [("Fall", (0.0, 3.0))],
    " Falling (SW) [ 2.8 to 6] ; Sitting [0 to 2.9]": [
        ("Falling", (2.8, 6.0)),
        ("Sitting", (0.0, 2.9)),
    ],
    "Standing[0 to 0.5; 4.2 to 6.5];Walking[5 to 7]; ": [
        ("Standing", (0.0, 0.5)),
        ("Standing", (4.2, 6.5)),
        ("Walking", (5.0, 7.0)),
    ],
}


@pytest.mark.parametrize("text", ACTIVITIES)
def test_activities(text):
    assert parse_activities(text) == ACTIVITIES[text]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Sitting",
        "Sitting[]",
        "Eating[0.9 4.6]",
        "Sitting[9.7 to 3]",
        "Standing[2.4 to 3.6; 6.6 to 7.9; Walking[3.6 to 5.2]",
        "Reading; Sitting[0.8 to 8.1]",
        "Sitting[0 to 1",
        "Sitting 0 to 1]",
        "Sitting[0 to 1]]",
        "Sitting[-1 to 1]",
        "Sitting[0 to 1] Walking[1 to 2]",
    ],
)
def test_doubtful_activities_are_refused(text):
    with pytest.raises(ValueError, match="expected"):
        parse_activities(text)


def make_falls(folder, rows):
    (folder / "Subject_1" / "Fall").mkdir(parents=True)
    header = "File Name,Length (seconds),Time of Recording,Attire,Description, Classes\n"
    lines = [f"{name},05, Day,T-shirt,Something,{classes}\n" for name, classes in rows.items()]
    (folder / "Subject_1" / "Fall.csv").write_text(header + "".join(lines))
    for name in rows:
        (folder / "Subject_1" / "Fall" / name).touch()


def test_falls_become_segments_without_overlap(tmp_path):
    make_falls(
        tmp_path,
        {
            "1.mp4": "Falling (SW)[1.8 to 6]; Sitting[0 to 2]",
            "2.mp4": "Falling (BW)[6.9 to 12]; Drinking[3.5 to 5.3]; Standing[3.6 to 6.9]; "
            "Walking[0 to 3.6]",
            "3.mp4": "Falling (BW)[2 to 4]; Falling (SW)[4 to 11]; Standing[1 to 12]",
            "4.mp4": "Eating[0.9 4.6]",
        },
    )
    (tmp_path / "Subject_1" / "Fall" / "2.mp4").rename(tmp_path / "Subject_1" / "Fall" / "9.mp4")
    rows, refused = gmdcsa_segments(tmp_path)
    assert rows == [
        ("Subject_1/Fall/1.mp4", 0.0, 1.8, "Normal"),
        ("Subject_1/Fall/1.mp4", 1.8, 6.0, "Falldown"),
        ("Subject_1/Fall/3.mp4", 1.0, 2.0, "Normal"),
        ("Subject_1/Fall/3.mp4", 2.0, 11.0, "Falldown"),
        ("Subject_1/Fall/3.mp4", 11.0, 12.0, "Normal"),
    ]
    assert refused == ["Subject_1/Fall.csv:5: expected 'start to stop' in brackets, got '0.9 4.6'"]


def test_no_tables(tmp_path):
    with pytest.raises(FileNotFoundError, match="Subject_"):
        gmdcsa_segments(tmp_path)


def test_the_sample_table_is_what_the_footage_says(tmp_path):
    if not FALLS.is_dir():
        pytest.skip(f"needs {FALLS}")
    rows, refused = gmdcsa_segments(FALLS)
    write_segments(tmp_path / "segments.csv", rows)
    assert refused == []
    committed = ROOT / "samples" / "falls_segments.csv"
    assert (tmp_path / "segments.csv").read_bytes() == committed.read_bytes()
    assert [p.name for p in tmp_path.iterdir()] == ["segments.csv"]


def test_the_sample_table_is_readable():
    committed = ROOT / "samples" / "falls_segments.csv"
    with committed.open(newline="") as file:
        videos = sorted({row["video"] for row in csv.DictReader(file)})
    table = read_segments(committed, CLASSES, videos)
    assert len(table) == 16
    names = [s.class_name for segments in table.values() for s in segments]
    assert (names.count("Falldown"), names.count("Normal")) == (11, 15)
