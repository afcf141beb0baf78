"""The mode test.pose: which checkpoint it takes, what it writes, says and refuses."""

import json
import logging

import cv2
import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("mmpose")

from mmpose.registry import MODELS  # noqa: E402

from recognizer.config.file import ConfigError  # noqa: E402
from recognizer.config.schema import Config  # noqa: E402
from recognizer.openmmlab import scope  # noqa: E402
from recognizer.runs.progress import silent  # noqa: E402
from recognizer.sdpose.evaluation import ApMetrics, PoseScores  # noqa: E402
from recognizer.training.pose.report import _nearest, summarise  # noqa: E402
from recognizer.training.pose.train import test_pose as run_test  # noqa: E402 - pytest would take it for a test
from tests.sdpose.small_coco import BASELINE, TINY, needs_coco, tiny, write_data  # noqa: E402

pytestmark = pytest.mark.usefixtures("quick_figures")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_data(tmp_path_factory.mktemp("coco"), train=2, val=3)


@pytest.fixture(scope="module")
def weights(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights")
    with scope("mmpose"):
        model = MODELS.build(tiny(data, folder).model)
    torch.save({"state_dict": model.state_dict(), "meta": {"epoch": 3}}, folder / "x.pth")
    return folder / "x.pth"


def config(data, work_dir, *options, test=None, **more):
    section = {
        "config_file": str(BASELINE),
        "data_root": str(data),
        "work_dir": str(work_dir),
        "cfg_options": [*TINY, *options],
        **more,
    }
    return Config.model_validate({"train": section, "test": test or {}})


@needs_coco
def test_the_best_checkpoint_of_the_work_dir_is_tested(data, weights, tmp_path, caplog, capsys):
    best = tmp_path / "best_coco_AP_epoch_3.pth"
    best.write_bytes(weights.read_bytes())
    (tmp_path / "epoch_4.pth").write_bytes(b"not looked at")
    with caplog.at_level(logging.INFO):
        assert run_test(config(data, tmp_path), silent) == 0
    report = tmp_path / "report"
    written = {path.name for path in report.iterdir() if not path.name.startswith(".")}
    assert written == {"metrics.json", "summary.txt", "skeletons.png", "detections.json"}
    metrics = json.loads((report / "metrics.json").read_text())
    assert metrics["checkpoint"] == str(best)
    assert metrics["all"]["persons"] == 3
    assert metrics["flip_test"] is True
    assert metrics["overlapping"]["AP"] is None  # one person in each picture
    summary = (report / "summary.txt").read_text()
    assert summary in caplog.text
    assert "after epoch 3" in summary
    picture = cv2.imread(str(report / "skeletons.png"))
    assert picture is not None
    assert picture.std() > 10
    assert not capsys.readouterr().out  # COCO's tools print
    # Named, it is tested elsewhere.
    elsewhere = {"checkpoint": str(weights), "output_dir": str(tmp_path / "there")}
    assert run_test(config(data, tmp_path / "none", test=elsewhere), silent) == 0
    again = json.loads((tmp_path / "there" / "metrics.json").read_text())
    assert again["all"] == metrics["all"]


@needs_coco
def test_what_is_missing_or_wrong_is_reported(data, tmp_path, monkeypatch):
    with pytest.raises(ConfigError, match=r"or train first: .*--mode train\.pose"):
        run_test(config(data, tmp_path), silent)
    none = {"checkpoint": str(tmp_path / "none.pth")}
    with pytest.raises(FileNotFoundError, match=r"none\.pth"):
        run_test(config(data, tmp_path, test=none), silent)
    with pytest.raises(ConfigError, match="expected one checkpoint, got 2"):
        run_test(config(data, tmp_path, test={"checkpoint": ["a.pth", "b.pth"]}), silent)
    (tmp_path / "epoch_1.pth").write_bytes(b"damaged")
    with pytest.raises(ValueError, match="damaged"):
        run_test(config(data, tmp_path), silent)
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ConfigError, match="without torchrun"):
        run_test(config(data, tmp_path), silent)


@needs_coco
def test_a_config_of_which_no_test_can_be_built_is_the_configs_fault(data, weights, tmp_path):
    named = {"checkpoint": str(weights), "output_dir": str(tmp_path)}
    with pytest.raises(ConfigError, match="no_such_key"):
        run_test(config(data, tmp_path, "model.head.no_such_key=1", test=named), silent)


def test_a_figure_that_does_not_exist_is_a_dash():
    empty, some = ApMetrics(4, 0), ApMetrics(2, 3, 0.5, 0.75, 0.25, None, 0.5, 0.625)
    metadata = {"checkpoint": "x.pth", "epoch": None, "annotations": "val.json"}
    text = summarise(PoseScores(some, empty, some, "annotated", False, metadata))
    rows = {line[:20].strip(): line.split()[2:] for line in text.splitlines()[5:8]}
    assert rows["overlapping people"] == ["4", "0", "-", "-", "-", "-", "-", "-"]
    assert rows["all images"] == ["2", "3", "0.500", "0.750", "0.250", "-", "0.500", "0.625"]
    assert "flip test: no" in text


def test_who_is_found_is_drawn_as_the_annotated_person_below():
    """Keypoints without a label lie at (0, 0) in COCO and must not draw anybody there."""
    true = np.zeros((2, 17, 3), np.float32)
    true[0, :, :] = (100, 100, 2)
    true[1, :3, :] = (20, 20, 2)
    found = np.zeros((3, 17, 3), np.float32)
    found[0, :, :2], found[1, :, :2], found[2, :, :2] = 22, 95, (98, 101)
    found[0, 3:, :2] = 300  # far off, but not labelled
    assert _nearest(true, found) == [1, 0, 0]
