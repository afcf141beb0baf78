"""docs/coming-from.md: each old key has today's place, and values are those of the configs."""

import re

import pytest
from mmengine.config import Config as TrainConfig

from recognizer.config.file import known_keys, load_config
from recognizer.runner.checkpoint_search import todays_checkpoint
from recognizer.runner.old_keys import _KEYS, old_key
from recognizer.training.classifier.artifacts import existing_config
from tests.test_docs import ROOT, text_of

PAGE = text_of(ROOT / "docs" / "coming-from.md")
SDPOSE = ROOT / "configs" / "body_2d_keypoint" / "sdpose" / "coco"


def rows(heading, table=0):
    """Return the cells of a table below a heading, without its first two lines."""
    part = PAGE.split(f"\n## {heading}\n", 1)[1].split("\n## ", 1)[0]
    tables = re.findall(r"(?:^\|.*\n)+", part, re.M)
    return [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in tables[table].splitlines()[2:]
    ]


def names(cell):
    return re.findall(r"`([^`]+)`", cell)


def test_every_key_of_mmcv_that_is_answered_has_todays_place():
    shown = {
        old: names(now)[0]
        for first, now, _ in rows("Keys of training configs")
        for old in names(first)
    }
    assert shown == {key: place for key, (place, _) in _KEYS.items()}


def test_every_key_of_the_blocks_exists_with_the_default_that_is_shown():
    shown = [
        (key, cell)
        for first, _, cell in rows("Keys of the program's config")
        for key in names(first)
    ]
    config = load_config(ROOT / "configs" / "config.yaml", []).models.pose_estimation
    assert len(shown) >= 8
    for key, cell in shown:
        assert f"models.pose_estimation.{key}" in known_keys()
        block, name = key.split(".")
        value = getattr(getattr(config, block), name)
        spelt = {None: "null", True: "true", False: "false"}.get(value, f"`{value}`")
        assert cell.startswith(spelt), key


@pytest.mark.parametrize("row", rows("Distillation losses"), ids=lambda row: row[0][1:-4])
def test_distillation_losses_are_those_of_the_configs(row):
    config, visual, keypoint = row
    head = TrainConfig.fromfile(SDPOSE / names(config)[0]).model.head
    assert visual.startswith(
        f"`{head.loss_vis_token_dist.type}`, {spelt(head.loss_vis_token_dist)}"
    )
    if keypoint == "as the baseline":
        keypoint = rows("Distillation losses")[0][2]
    assert keypoint == f"`{head.loss_kpt_token_dist.type}`, {spelt(head.loss_kpt_token_dist)}"
    numbers = {float(n) for n in re.findall(r"(?<![\w.])\d+\.\d+(?!\d*e)", visual)}
    clipped = (
        TrainConfig.fromfile(SDPOSE / names(config)[0]).optim_wrapper.get("clip_grad") or {}
    ).values()
    held = [*head.loss_vis_token_dist.values(), *clipped]
    assert numbers <= {float(one) for one in held if isinstance(one, int | float)}


def spelt(loss):
    return f"{loss.loss_weight:.0e}".replace("e-0", "e-")


def test_the_schedule_is_that_of_the_config_and_of_the_old_lr_config():
    (block,) = re.findall(r"```python\n(.*?)```", PAGE, re.S)
    shown = {}
    exec(block, shown)
    cfg = TrainConfig.fromfile(SDPOSE / "sdpose_s_v1_stemnet_coco_256x192.py")
    assert [dict(one) for one in cfg.param_scheduler] == shown["param_scheduler"]
    old = {
        "policy": "step",
        "step": [200, 260],
        "warmup": "linear",
        "warmup_iters": 500,
        "warmup_ratio": 0.001,
    }
    _, changes = old_key(
        "lr_config", old, {"param_scheduler": [], "train_cfg": {"max_epochs": 300}}
    )
    for made, one in zip(changes["param_scheduler"], shown["param_scheduler"], strict=True):
        assert made.items() <= one.items()


def test_old_paths_of_configs_and_checkpoints_are_found(tmp_path):
    (tmp_path / "best_coco_AP_epoch_280.pth").touch()
    found = todays_checkpoint(tmp_path / "best_AP_epoch_280.pth")
    assert found.name in names(
        dict((row[0], row[1]) for row in rows("Files"))["`best_AP_epoch_280.pth`"]
    )
    name = "sdpose_s_v1_fsd_best_coco_256x192.py"
    old = tmp_path / "configs/body/2d_kpt_sview_rgb_img/sdpose/coco" / name
    assert existing_config(old) == SDPOSE / name


def test_log_lines_are_those_of_the_monitor():
    source = text_of(ROOT / "recognizer" / "sdpose" / "hooks.py")
    for text in re.findall(r"`(?:WARNING: )?([A-Z][\w ]+!)`", PAGE):
        assert f'"{text}\\n' in source, text
    for text in ("Current AP", "Best AP", "Recent avg", "Ratio", "Iter ["):
        assert text in source
