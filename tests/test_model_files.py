"""A model file that is missing: the message names the mode that fetches it."""

import re

import pytest

from deploy import model_zoo
from recognizer.config.file import ConfigError
from recognizer.config.schema import Config
from recognizer.model_files import fetch_hint, find_file, find_model_file, unset
from recognizer.runs.stage_folders import pose_model_files

KEY = "models.pose_estimation.onnx.model_path"


@pytest.mark.parametrize(
    "name", [name for name in model_zoo.FILES if not name.startswith("stgcnpp")]
)
def test_every_official_pose_or_detector_file_is_fetched_by_its_name(name):
    file = model_zoo.named(name)
    assert fetch_hint(file.file_name, KEY).endswith(f"models.fetch={name} fetches it")


@pytest.mark.parametrize("name", ["rtmo-s.onnx", "rtmo-l.onnx", "end2end_m.onnx"])
def test_what_the_hint_fetches_is_kept_under_the_name_that_was_asked_for(name):
    (fetched,) = re.findall(r"models\.fetch=(\S+) fetches it$", fetch_hint(name, KEY))
    assert model_zoo.named(fetched).file_name == name
    assert model_zoo.named(name).file_name == name


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("rtmo-s-onnx.onnx", "rtmo-s.onnx"),
        ("weights/rtmo-s.onnx", "rtmo-s.onnx"),
        ("rtmo-s_8xb32-600e.onnx", "rtmo-s.onnx"),
        ("rtmo-s.pth", "<the name it shows>"),
    ],
)
def test_another_name_is_followed_by_the_one_to_set(name, kept):
    assert fetch_hint(name, KEY).endswith(f" into models.weights_dirs, then --set {KEY}={kept}")


@pytest.mark.parametrize("name", model_zoo.ALIASES)
def test_so_are_the_guides(name):
    assert fetch_hint(f"{name}.onnx", KEY).endswith(f"models.fetch={name} fetches it")


@pytest.mark.parametrize("name", ["rtmo.trt", "sdpose.onnx", "end2end.onnx", "end2end_x.onnx", ""])
def test_other_files_are_not(name):
    assert fetch_hint(name, KEY) == ""


def test_a_missing_file_names_the_mode(tmp_path):
    with pytest.raises(ConfigError, match=r"--mode models.fetch --set models.fetch=end2end_l"):
        find_model_file("end2end_l.onnx", [tmp_path], KEY)
    guide = "/workspace/mmpose/checkpoints/end2end_l.onnx"
    with pytest.raises(ConfigError, match=rf"into models.weights_dirs, then --set {KEY}=end2end_l"):
        find_model_file(guide, [tmp_path], KEY)


@pytest.mark.parametrize(
    ("pose", "message"),
    [
        ({"inference_mode": "tensorrt"}, r"tensorrt\.model_path is not set: .*deploy.tensorrt"),
        ({"inference_mode": "pth"}, r"pth\.config_file is not set: .*mmpose.*--mode models.fetch"),
        (
            {"inference_mode": "pth", "pth": {"config_file": __file__}},
            r"pth\.checkpoint_path is not set: .*\.pth that was trained with .*--mode models.fetch",
        ),
        ({"onnx": {"model_path": ""}}, r"onnx\.model_path is not set: .*--mode models.fetch"),
    ],
)
def test_a_file_that_nobody_named_is_not_looked_for(pose, message):
    config = Config.model_validate({"models": {"pose_estimation": pose}})
    with pytest.raises(ConfigError, match=message) as caught:
        pose_model_files(config)
    assert "''" not in str(caught.value)


@pytest.mark.parametrize("key", ["topdown.detector.model_path", "other.model_path"])
def test_every_key_has_a_next_step(key):
    assert unset(key).startswith(f"{key} is not set: set it to ")


def test_a_file_beside_the_shell_comes_before_those_of_the_folders(tmp_path, monkeypatch):
    folders = [tmp_path / "one", tmp_path / "two"]
    for folder in folders:
        folder.mkdir()
        (folder / "a.onnx").touch()
    monkeypatch.chdir(tmp_path)
    assert find_file("a.onnx", folders) == folders[0] / "a.onnx"
    (tmp_path / "a.onnx").touch()
    assert find_file("a.onnx", folders) == tmp_path / "a.onnx"
    with pytest.raises(FileNotFoundError) as caught:
        find_file("/gone/a.onnx", folders)
    assert str(caught.value) == "/gone/a.onnx"  # an absolute name is looked for nowhere else


def test_a_missing_file_comes_with_the_advice_of_the_caller(tmp_path):
    with pytest.raises(ConfigError, match=r"found none at .*; write it first$"):
        find_model_file("net.onnx", [tmp_path], KEY, "write it first")
    (tmp_path / "net.onnx").touch()
    assert find_model_file("net.onnx", [tmp_path], KEY) == tmp_path / "net.onnx"


def test_a_name_too_long_for_the_disk_is_the_name_of_no_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"^.{0,2000}$"):
        find_file("a" * 5000, [tmp_path])
