"""Errors of mmengine about a config or an option name the place and the remedy."""

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("mmaction")
pytest.importorskip("mmpose")

from recognizer.runner.train_config import error_text  # noqa: E402
from recognizer.sdpose.training import load_pose_config  # noqa: E402
from tests.runner.configs import POSE, pose, refusal  # noqa: E402


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (['_base_ = "0.py"'], "0.py -> 0.py"),
        (['_base_ = ["1.py"]', '_base_ = "0.py"'], "0.py -> 1.py -> 0.py"),
        (
            ["from mmengine.config import read_base\nwith read_base():\n    from .b import *\n"],
            '_base_ = "b.py" in place of read_base()',
        ),
    ],
)
def test_a_base_that_cannot_be_one(tmp_path, texts, message):
    (tmp_path / "b.py").write_text(f"_base_ = {str(POSE / 'sdpose_t_stemnet_coco_256x192.py')!r}")
    for number, text in enumerate(texts):
        (tmp_path / f"{number}.py").write_text(text)
    with pytest.raises(ValueError, match="not a config of mmengine") as caught:
        load_pose_config(tmp_path / "0.py")
    assert message in str(caught.value)


def test_an_option_in_the_place_of_a_section_is_named(tmp_path):
    message = refusal(pose, tmp_path, "", "train_dataloader.dataset.pipeline.0=x")
    assert "train_dataloader.dataset.pipeline.0=x: a section (LoadImage) stands there" in message


def test_several_files_in_one_data_set_are_refused_with_the_cure(tmp_path):
    line = "train_dataloader = dict(dataset=dict(_delete_=True, type='ConcatDataset', datasets=[]))"
    assert "merge the files into one" in refusal(pose, tmp_path, line)


def test_an_error_without_words_gives_its_line():
    with pytest.raises(AssertionError) as caught:
        _fail()
    assert "`raise AssertionError` (test_config_errors.py, line" in error_text(caught.value)


def _fail():
    raise AssertionError
