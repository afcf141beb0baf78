"""Nulls by kind: RTMO gets the thresholds of ByteTrack itself, weaker scores lower ones."""

import pytest

from recognizer.config.file import ConfigError, load_config
from recognizer.pose.settings import people_left_out, tracking_settings
from recognizer.runs.manifest import read_manifest
from recognizer.runs.stage1 import run_stage1
from recognizer.runs.stage2 import run_stage2
from recognizer.runs.stage_folders import stage1_dir, stage2_dir
from tests import movenets, networks
from tests.annotation import clips

pytestmark = pytest.mark.usefixtures("forked_workers")

RTMO = {"track_high_thresh": 0.5, "new_track_thresh": 0.6, "fuse_score": True}
POSES = {"pose": {"kind": "topdown", "topdown": {"selective": True, "sure_score": 0.25}}}
MOVENET = {"track_high_thresh": 0.12, "new_track_thresh": 0.15, "fuse_score": False}
TOPDOWN = {"track_high_thresh": 0.25, "new_track_thresh": 0.3, "fuse_score": False}


def load(folder, *overrides):
    path = folder / "empty.yaml"
    path.write_text("")
    return load_config(path, overrides)


def thresholds(section):
    return {name: getattr(section, name) for name in RTMO}


@pytest.mark.parametrize(
    ("kind", "overrides", "expected"),
    [
        ("rtmo", [], RTMO),
        ("topdown", [], TOPDOWN),
        ("movenet", [], MOVENET),
        ("rtmo", ["tracking.new_track_thresh=0.7"], {**RTMO, "new_track_thresh": 0.7}),
        ("topdown", ["tracking.fuse_score=true"], {**TOPDOWN, "fuse_score": True}),
    ],
)
def test_thresholds_that_are_null_go_by_the_kind_of_the_poses(tmp_path, kind, overrides, expected):
    section = tracking_settings(load(tmp_path, *overrides), {"pose": {"kind": kind}})
    assert thresholds(section) == expected


def test_thresholds_that_contradict_each_other_for_this_kind_are_refused(tmp_path):
    config = load(tmp_path, "tracking.track_low_thresh=0.4")
    assert tracking_settings(config, {"pose": {"kind": "rtmo"}}).track_low_thresh == 0.4
    with pytest.raises(ConfigError, match=r"track_high_thresh, which is 0\.25 for topdown"):
        tracking_settings(config, {"pose": {"kind": "topdown"}})


@pytest.mark.parametrize("settings", [{}, {"pose": None}, {"pose": {"kind": "face"}}])
def test_poses_that_do_not_say_their_kind_need_thresholds(tmp_path, settings):
    with pytest.raises(ConfigError, match="which kind of network"):
        tracking_settings(load(tmp_path), settings)
    own = [f"tracking.{name}={str(value).lower()}" for name, value in TOPDOWN.items()]
    assert thresholds(tracking_settings(load(tmp_path, *own), settings)) == TOPDOWN


def test_the_results_of_each_kind_hold_the_numbers_that_were_used(tmp_path):
    """From video: auto finds the kind, and folders do not depend on how it was written."""
    config = clips.make_dataset(tmp_path, clips=1)
    networks.heatmap(tmp_path / "heat.onnx")
    movenets.multipose(tmp_path / "movenet.onnx")
    networks.constant_yolox(tmp_path / "yolox_nano.onnx", {})
    key = "models.pose_estimation.onnx.model_path"
    for kind, sets, expected in (
        ("rtmo", [], RTMO),
        ("topdown", [f"{key}={tmp_path / 'heat.onnx'}"], TOPDOWN),
        ("movenet", [f"{key}={tmp_path / 'movenet.onnx'}"], MOVENET),
    ):
        auto = load_config(config, sets)
        poses = run_stage1(auto)
        pose = read_manifest(poses).settings["pose"]
        threshold = {"rtmo": 0.3, "topdown": 0.0, "movenet": 0.1}[kind]
        assert (pose["kind"], pose["onnx"]["keypoint_threshold"]) == (kind, threshold)
        tracking = read_manifest(run_stage2(auto)).settings["tracking"]
        assert {name: tracking[name] for name in RTMO} == expected
        explicit = load_config(config, [*sets, f"models.pose_estimation.kind={kind}"])
        assert (stage1_dir(explicit), stage2_dir(explicit)) == (poses, stage2_dir(auto))


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (
            ["models.pose_estimation.topdown.sure_score=0.4"],
            r"track_high_thresh \(0\.25\), got 0\.4",
        ),
        (["tracking.track_high_thresh=0.15"], r"track_high_thresh \(0\.15\), got 0\.25"),
        (["tracking.new_track_thresh=0.2"], r"new_track_thresh less 0\.05 \(0\.15\), got 0\.25"),
    ],
)
def test_a_score_that_leaves_people_out_is_refused_before_any_work(tmp_path, overrides, expected):
    """Boxes between the tracker's threshold and this one would get no pose, silently."""
    clips.make_dataset(tmp_path, clips=1)
    networks.heatmap(tmp_path / "heat.onnx")
    networks.constant_yolox(tmp_path / "yolox_nano.onnx", {})
    pose = "models.pose_estimation"
    base = [f"{pose}.onnx.model_path=heat.onnx", f"models.weights_dirs=[{tmp_path}]"]
    config = load_config(tmp_path / "config.yaml", [*base, *overrides])
    with pytest.raises(ConfigError, match=rf"topdown\.sure_score: expected at most .*{expected}"):
        stage1_dir(config)
    assert stage1_dir(load_config(tmp_path / "config.yaml", base)).name.startswith("yolox")
    stage1_dir(
        load_config(
            tmp_path / "config.yaml", [*base, *overrides, f"{pose}.topdown.selective=false"]
        )
    )


def test_poses_of_another_config_that_lack_people_are_warned_of(tmp_path):
    section = tracking_settings(load(tmp_path, "tracking.track_high_thresh=0.2"), POSES)
    assert "track_high_thresh (0.2), got 0.25" in people_left_out(POSES["pose"]["topdown"], section)
    for unknown in (None, {}, {"selective": True}, {"selective": True, "sure_score": "0.9"}):
        assert people_left_out(unknown, section) == ""
