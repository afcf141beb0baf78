"""A model file that is missing: the message names the mode that fetches it."""

import pytest

from annotation.workspace import find_model_file
from deploy import official
from recognizer.config import Config
from recognizer.config_file import ConfigError
from recognizer.model_files import fetch_hint

KEY = "models.pose_estimation.onnx.model_path"


@pytest.mark.parametrize("name", [name for name in official.FILES if name.startswith("rtmo")])
def test_every_official_rtmo_file_is_fetched_by_its_name(name):
    file = official.named(name)
    assert f"models.fetch={name} fetches it" in fetch_hint(file.file_name, KEY)


@pytest.mark.parametrize("name", official.ALIASES)
def test_so_are_the_guides(name):
    assert fetch_hint(f"{name}.onnx", KEY).endswith(f"models.fetch={name} fetches it")


@pytest.mark.parametrize("name", ["rtmo.trt", "sdpose.onnx", "end2end.onnx", "end2end_x.onnx", ""])
def test_other_files_are_not(name):
    assert fetch_hint(name, KEY) == ""


def test_a_missing_file_names_the_mode(tmp_path):
    config = Config.model_validate({"models": {"weights_dirs": [str(tmp_path)]}})
    with pytest.raises(ConfigError, match=r"--mode models.fetch --set models.fetch=end2end_l"):
        find_model_file(config, "end2end_l.onnx", KEY)
    guide = "/workspace/mmpose/checkpoints/end2end_l.onnx"
    with pytest.raises(ConfigError, match=rf"into models.weights_dirs, then --set {KEY}=end2end_l"):
        find_model_file(config, guide, KEY)
