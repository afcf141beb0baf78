"""What a training config is for: told from its model, its name or its data."""

import json
from pathlib import Path

import pytest

pytest.importorskip("mmengine")


from recognizer.config.file import ConfigError
from recognizer.training.classifier.artifacts import existing_config
from recognizer.training.classifier.by_config import kind_of, read

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
SHIPPED = [path for path in CONFIGS.rglob("*.py") if path.parent.name != "_base_"]


def written(path, values):
    path.write_text("".join(f"{key} = {value!r}\n" for key, value in values.items()))
    return path


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_shipped_configs_are_known(path):
    fall = "falldown" if "fall" in path.stem else "fight"
    assert kind_of(read(path)) == ("pose" if "body_2d_keypoint" in path.parts else fall)


@pytest.mark.parametrize(
    ("name", "values", "kind"),
    [
        ("a.py", {"model": {"type": "X", "head": {}}}, "pose"),
        ("a.py", {"default_scope": "mmpose"}, "pose"),
        ("fight.py", {"model": {"cls_head": {}}}, "fight"),
        ("fall_2.py", {"model": {"backbone": {}}, "default_scope": "mmaction"}, "falldown"),
        (
            "fight.py",
            {"model": {"cls_head": {}}, "recognizer": {"service": "falldown"}},
            "falldown",
        ),
        ("a.py", {"model": {"cls_head": {}}}, "expected a classifier of fights or of falls"),
        ("a.py", {"model": {"backbone": {}}}, "expected a model with a cls_head"),
        ("a.py", {}, "expected a model with a cls_head"),
    ],
)
def test_other_configs_by_what_is_in_them(tmp_path, name, values, kind):
    cfg = read(written(tmp_path / name, values))
    if kind in ("pose", "fight", "falldown"):
        assert kind_of(cfg) == kind
        return
    with pytest.raises(ConfigError, match=kind):
        kind_of(cfg)


def test_the_data_name_the_service(tmp_path):
    (tmp_path / "metadata.json").write_text(json.dumps({"service": "falldown"}))
    loader = {"dataset": {"ann_file": str(tmp_path / "train.pkl")}}
    values = {"model": {"cls_head": {}}, "train_dataloader": loader}
    assert kind_of(read(written(tmp_path / "mine.py", values))) == "falldown"


def test_a_config_that_cannot_be_read_is_named(tmp_path):
    (tmp_path / "bad.py").write_text("raise SystemExit(3)")
    with pytest.raises(ConfigError, match=r"bad\.py: not a config of mmengine"):
        read(tmp_path / "bad.py")


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("configs/body/2d_kpt_sview_rgb_img/sdpose/coco/sdpose_s_v1_stemnet_coco_256x192.py", ""),
        (
            "/workspace/mmaction2/configs/skeleton/stgcnpp/"
            "stgcnpp_enhanced_fight_detection_stable.py",
            "",
        ),
        ("mine/sdpose_s_v1_stemnet_coco_256x192.py", r"did you mean .*sdpose_s_v1_stemnet"),
        ("configs/sdpose_s_v1_stemnet_coco_256x19.py", r"did you mean .*sdpose_s_v1_stemnet"),
        ("configs/model.py", "ours are in"),
    ],
)
def test_a_config_of_an_older_folder_is_found_by_its_name(path, message, caplog):
    if message:
        with pytest.raises(ConfigError, match=message):
            existing_config(Path(path))
        return
    found = existing_config(Path(path))
    assert found.is_file()
    assert found.name == Path(path).name
    assert f"taking {found}" in caplog.text
