"""Where results stand: sixty hostile or odd names, links, locks, manifests, digests."""

import json
import os
import subprocess
import sys
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recognizer.config.file import load_config
from recognizer.config.schema import AnnotationConfig
from recognizer.runs.inputs import find_videos, list_videos
from recognizer.runs.manifest import (
    Manifest,
    Outcome,
    exclusive,
    read_manifest,
    result_path,
    write_manifest,
)
from recognizer.runs.stage_folders import stage1_settings
from recognizer.storage.artifacts import ArtifactError, json_bytes, short_digest
from tests import networks

ROOT = Path(__file__).resolve().parents[2]

REFUSED_NAMES = [
    "",
    ".",
    "..",
    "/",
    "../x.mp4",
    "../../x.mp4",
    "a/../x.mp4",
    "a/../../x.mp4",
    "/etc/x.mp4",
    "//x.mp4",
    "a//x.mp4",
    "a/",
    "./x.mp4",
    "a/./x.mp4",
    "a/b/../../../x.mp4",
    "x\0.mp4",
    "a\0/x.mp4",
    "..//x.mp4",
    "a/..",
    "/",
]
ODD_NAMES = [
    "a b.mp4",
    "-rf.mp4",
    "--help.mp4",
    ".hidden.mp4",
    "..mp4",
    "...mp4",
    "x..mp4",
    "x.mp4.mp4",
    "x.npz.mp4",
    "manifest.json.mp4",
    ".lock.mp4",
    "한글 영상.mp4",
    "日本.mp4",
    "émile.mp4",
    unicodedata.normalize("NFD", "émile.mp4"),
    "🥊.mp4",
    "a'b.mp4",
    'a"b.mp4',
    "a;rm -rf.mp4",
    "$(touch x).mp4",
    "`id`.mp4",
    "a|b.mp4",
    "a>b.mp4",
    "a&b.mp4",
    "a*b.mp4",
    "a?b.mp4",
    "[a].mp4",
    "{a}.mp4",
    "a\nb.mp4",
    "a\tb.mp4",
    "a\\b.mp4",
    "..\\x.mp4",
    "C:\\x.mp4",
    "con.mp4",
    "nul.mp4",
    "%2e%2e%2fx.mp4",
    "~.mp4",
    "~root.mp4",
    "#.mp4",
    "X.MP4",
    "x.mp4",
    "x.avi",
    "x.MP4",
    "a" * 251 + ".mp4",
    "a" * 250 + "b.mp4",
    "한" * 83 + ".mp4",
    "a/x.mp4",
    "b/x.mp4",
    "a.mp4/x.mp4",
    os.fsdecode(b"\xff\xfe.mp4"),
]


def test_there_are_sixty_names():
    assert len(REFUSED_NAMES) + len(ODD_NAMES) >= 60


@pytest.mark.parametrize("name", REFUSED_NAMES)
def test_names_that_would_leave_the_folder_are_refused(tmp_path, name):
    with pytest.raises(ValueError, match="inside the input folder"):
        result_path(tmp_path, name, ".npz")


def test_odd_names_each_get_a_place_of_their_own_inside_the_folder(tmp_path):
    places = [result_path(tmp_path, name, ".npz") for name in ODD_NAMES]
    assert len(set(places)) == len(ODD_NAMES)
    for i, place in enumerate(places):
        assert tmp_path in place.parents
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(str(i))
    assert [p.read_text() for p in places] == [str(i) for i in range(len(places))]
    assert not (tmp_path.parent / "x").exists()


@given(st.text(max_size=80))
def test_no_text_at_all_leaves_the_folder(name):
    folder = Path("/data/stage")
    try:
        place = result_path(folder, name, ".npz")
    except ValueError:
        return
    assert os.path.normpath(place) == str(place)
    assert str(place).startswith("/data/stage/")


def test_the_same_long_name_maps_to_the_same_place_and_keeps_its_start(tmp_path):
    name = "v" * 251 + ".mp4"
    place = result_path(tmp_path, name, ".npz")
    assert place == result_path(tmp_path, name, ".npz")
    assert place.name.startswith("vvvv")
    assert len(place.name.encode()) <= 255


def test_videos_are_found_by_suffix_sorted_and_through_links(tmp_path):
    data = tmp_path / "data"
    for name in ("b/2.MP4", "a/1.avi", "a/note.txt", "b/1.mp4"):
        (data / name).parent.mkdir(parents=True, exist_ok=True)
        (data / name).touch()
    (data / "loop").symlink_to(data, target_is_directory=True)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "3.mp4").touch()
    (data / "link").symlink_to(elsewhere, target_is_directory=True)
    names = [v.relative for v in find_videos(data, [".mp4", ".avi"])]
    assert names == ["a/1.avi", "b/1.mp4", "b/2.MP4", "link/3.mp4"]
    assert [v.relative for v in find_videos(data, [".mp4"], ["b/*"])] == ["b/1.mp4", "b/2.MP4"]


def test_results_inside_the_input_folder_are_no_input(tmp_path):
    for name in ("Fight/1.mp4", "out/set/visualize/Fight/1.mp4.mp4"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    section = AnnotationConfig(input=tmp_path, output_dir=tmp_path / "out")
    assert [v.relative for v in list_videos(section)] == ["Fight/1.mp4"]


def test_results_in_the_input_folder_itself_hide_only_themselves(tmp_path):
    for name in ("Fight/1.mp4", "set/visualize/Fight/1.mp4.mp4"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    section = AnnotationConfig(input=tmp_path, output_dir=tmp_path, dataset="set")
    assert [v.relative for v in list_videos(section)] == ["Fight/1.mp4"]


def test_a_folder_keeps_its_own_name_when_a_link_to_it_comes_first(tmp_path):
    (tmp_path / "Fight").mkdir()
    (tmp_path / "Fight" / "1.mp4").touch()
    (tmp_path / "A_link").symlink_to(tmp_path / "Fight", target_is_directory=True)
    assert [v.relative for v in find_videos(tmp_path, [".mp4"])] == ["Fight/1.mp4"]


def test_a_folder_that_cannot_be_listed_is_an_error(tmp_path, monkeypatch):
    real = os.scandir

    def locked(path):
        if str(path).endswith("locked"):
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    (tmp_path / "locked").mkdir()
    (tmp_path / "1.mp4").touch()
    monkeypatch.setattr(os, "scandir", locked)
    with pytest.raises(OSError, match=r"cannot list .*locked"):
        find_videos(tmp_path, [".mp4"])


def test_a_folder_without_videos_says_what_was_looked_for(tmp_path):
    with pytest.raises(ValueError, match=r"expected videos \(\.mp4\) below"):
        find_videos(tmp_path, [".mp4"])
    with pytest.raises(FileNotFoundError, match=r"annotation\.input"):
        find_videos(tmp_path / "missing", [".mp4"])


def test_two_runs_in_one_folder_the_second_is_reported(tmp_path):
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from pathlib import Path\n"
        "from recognizer.runs.manifest import exclusive\n"
        "with exclusive(Path(sys.argv[2])): pass\n"
    )
    command = [sys.executable, "-c", code, str(ROOT), str(tmp_path)]
    with exclusive(tmp_path):
        second = subprocess.run(command, capture_output=True, text=True, check=False)
        assert second.returncode != 0
        assert "another run is at work" in second.stderr
    assert subprocess.run(command, check=False).returncode == 0


def test_a_killed_runs_scratch_is_removed_at_the_next_start(tmp_path):
    (tmp_path / ".scratch").mkdir()
    (tmp_path / ".scratch" / "half.npz").write_text("half")
    with exclusive(tmp_path):
        assert not (tmp_path / ".scratch").exists()


def test_manifests_hold_one_end_state_per_input_and_come_back(tmp_path):
    outcomes = (
        Outcome("b.mp4", "refused", "no picture in it"),
        Outcome("a.mp4", "done", frames=60),
        Outcome(os.fsdecode(b"\xff.mp4"), "damaged", "3 packets could not be decoded", 57),
    )
    manifest = Manifest("stage1", {"models": {"pose": "x"}}, outcomes)
    write_manifest(tmp_path, manifest)
    first = (tmp_path / "manifest.json").read_bytes()
    back = read_manifest(tmp_path)
    assert sorted(back.outcomes, key=str) == sorted(outcomes, key=str)
    assert back.settings == manifest.settings
    write_manifest(tmp_path, Manifest("stage1", manifest.settings, outcomes[::-1]))
    assert (tmp_path / "manifest.json").read_bytes() == first


@pytest.mark.parametrize("count", [0, 1, 5])
def test_the_bytes_of_a_manifest_are_those_of_any_other_json_file(tmp_path, count):
    outcomes = (
        Outcome('quo"te\\ and\nline.mp4', "done", frames=60, notes=("한 줄", "a\nb  c\t")),
        Outcome("a.mp4", "done", frames=60),
        Outcome("Z/b.mp4", "refused", 'no "picture"\n    in it \u2028 \x07'),
        Outcome("é.mp4", "done", frames=60),
        Outcome(os.fsdecode(b"\xff.mp4"), "damaged", os.fsdecode(b"cut \xff"), 57),
    )[:count]
    write_manifest(tmp_path, Manifest("stage1", {"models": {"pose": "ü"}}, outcomes))
    written = (tmp_path / "manifest.json").read_bytes()
    inputs = {
        o.video: {"state": o.state, "reason": o.reason, "frames": o.frames}
        | ({"notes": list(o.notes)} if o.notes else {})
        for o in outcomes
    }
    value = json.loads(written)
    assert value["totals"]["inputs"] == len(inputs)
    assert written == json_bytes({**value, "inputs": inputs})
    assert set(read_manifest(tmp_path).outcomes) == set(outcomes)


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "{}", '{"schema": "x"}', '{"schema": "recognizer.manifest"}', "[" * 9999],
)
def test_a_damaged_manifest_is_refused_by_name(tmp_path, text):
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(ArtifactError, match=r"manifest\.json"):
        read_manifest(tmp_path)


@pytest.mark.parametrize(
    "outcome",
    [
        {"state": "weird", "reason": "", "frames": 1},
        {"state": None, "reason": "", "frames": 1},
        {"state": ["done"], "reason": "", "frames": 1},
        {"state": "done", "reason": None, "frames": 1},
        {"state": "done", "reason": "", "frames": "abc"},
        {"state": "done", "reason": "", "frames": -1},
        {"state": "done", "more": 1},
    ],
)
def test_a_manifest_with_impossible_end_states_is_refused(tmp_path, outcome):
    write_manifest(tmp_path, Manifest("stage1", {}, ()))
    value = json.loads((tmp_path / "manifest.json").read_text())
    (tmp_path / "manifest.json").write_text(json.dumps(value | {"inputs": {"a.mp4": outcome}}))
    with pytest.raises(ArtifactError, match=r"manifest\.json"):
        read_manifest(tmp_path)


def test_a_missing_manifest_says_which_stage_to_run(tmp_path):
    with pytest.raises(FileNotFoundError, match="run the stage before"):
        read_manifest(tmp_path)


@pytest.fixture
def digest(tmp_path):
    (tmp_path / "config.yaml").write_text("{}")
    for name, score in (("a.onnx", 0.9), ("b.onnx", 0.8)):
        networks.rtmo(tmp_path / name, score=score)

    def of(*overrides, model="a.onnx"):
        key = "models.pose_estimation.onnx.model_path"
        settings = [f"{key}={tmp_path / model}", *overrides]
        return short_digest(stage1_settings(load_config(tmp_path / "config.yaml", settings)))

    return of


@pytest.mark.parametrize(
    ("override", "changes"),
    [
        ("tracking.match_thresh=0.7", False),
        ("dataset.num_person=2", False),
        ("annotation.workers=1", False),
        ("models.pose_estimation.onnx.threads=2", False),
        ("models.pose_estimation.onnx.device=cuda:0", False),
        ("models.pose_estimation.pth.score_threshold=0.9", False),
        ("models.pose_estimation.onnx.score_threshold=0.9", True),
        ("annotation.sample_fps=5.0", True),
        # What null and auto come to counts, not how it is written.
        ("models.pose_estimation.kind=rtmo", False),
        ("models.pose_estimation.onnx.keypoint_threshold=0.3", False),
        ("models.pose_estimation.onnx.keypoint_threshold=0.0", True),
    ],
)
def test_the_digest_covers_what_decides_the_poses_and_nothing_else(digest, override, changes):
    assert (digest() != digest(override)) == changes


def test_the_digest_follows_the_revision_of_the_turned_search(digest, monkeypatch, tmp_path):
    networks.heatmap(tmp_path / "a.onnx")
    detector = networks.constant_yolox(tmp_path / "detector.onnx", {})
    topdown = [f"models.pose_estimation.topdown.detector.model_path={detector}"]
    kinds = {
        name: [*topdown, f"models.pose_estimation.topdown.turned={name}"]
        for name in ("true", "false")
    }
    before = {name: digest(*kinds[name]) for name in kinds}
    monkeypatch.setattr("recognizer.runs.stage_folders.TURNED_REVISION", 3)
    assert digest(*kinds["true"]) != before["true"]
    assert digest(*kinds["false"]) == before["false"]


def test_the_digest_follows_the_models_content_not_its_place(digest, tmp_path):
    (tmp_path / "copy").mkdir()
    (tmp_path / "copy" / "a.onnx").write_bytes((tmp_path / "a.onnx").read_bytes())
    assert digest() == digest(model="copy/a.onnx")
    assert digest() != digest(model="b.onnx")
