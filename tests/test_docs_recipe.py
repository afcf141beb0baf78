"""docs/recipe.md and its config: the names of networks fit each other and what can be fetched."""

from pathlib import Path

import main
from deploy.model_zoo import FILES
from recognizer.config.file import load_config
from recognizer.openmmlab import find_pose_config
from tests.test_docs import ROOT, commands, text_of

RECIPE = ROOT / "configs" / "recipe.yaml"
PAGE = ROOT / "docs" / "recipe.md"


def test_the_config_names_an_official_checkpoint_its_config_and_the_file_made_of_it():
    pose = load_config(RECIPE).models.pose_estimation
    assert pose.pth.checkpoint_path == FILES["rtmo-l"].file_name
    assert find_pose_config(pose.pth.config_file).is_file()
    made = Path(pose.pth.checkpoint_path).with_suffix(".onnx").name
    assert pose.onnx.model_path == pose.tensorrt.model_path == made


def test_every_command_reads_that_config_and_the_page_goes_from_weights_to_cameras():
    every = commands(text_of(PAGE))
    assert all(words[words.index("--config") + 1] == "configs/my.yaml" for words in every)
    modes = [words[words.index("--mode") + 1] for words in every]
    assert modes[0] == "models.fetch"
    assert modes[-1] == "inference.realtime"
    for words in every:
        load_config(RECIPE, main._arguments(words).overrides)
