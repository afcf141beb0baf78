"""A config that never validates is not asked to stop early, to lower the rate or to keep a best."""

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("mmaction")
pytest.importorskip("mmpose")

from tests.runner.configs import CONFIGS, FIGHT, child, classifier, pose, refusal  # noqa: E402

BODY = CONFIGS / "stgcnpp_body_bone_fight.py"
DEMO = CONFIGS / "demo_fight.py"
STOP = "dict(type='EarlyStoppingHook', monitor='acc/top1', patience=2)"
PLATEAU = "param_scheduler = [dict(type='ReduceOnPlateauLR', monitor='acc/top1')]"
NO_VAL = ("val_dataloader=None", "val_cfg=None", "val_evaluator=None")
SAVE = "default_hooks = dict(checkpoint=dict(save_best='acc/top1'))"


@pytest.mark.parametrize("base", [BODY, DEMO])
@pytest.mark.parametrize(
    ("line", "options", "place"),
    [
        (f"default_hooks = dict(early_stopping={STOP})", (), "default_hooks.early_stopping"),
        (f"custom_hooks = _base_.custom_hooks + [{STOP}]", (), "custom_hooks.2"),
        (PLATEAU, (), "param_scheduler.0"),
        (SAVE, (), "default_hooks.checkpoint.save_best"),
        ("", ("default_hooks.checkpoint.save_best=acc/top1",), "default_hooks.checkpoint.save"),
        ("default_hooks = dict(checkpoint=dict(save_best=['acc/top1']))", (), ".save_best"),
    ],
)
def test_what_needs_validation_is_refused_without(tmp_path, base, line, options, place):
    message = refusal(classifier, tmp_path, line, *options, base=base)
    assert "val_dataloader is None" in message
    assert place in message
    assert "add val_dataloader, val_cfg and val_evaluator, as in configs/skeleton" in message
    if not options:  # and so is a child of such a config
        middle = tmp_path / "mine.py"
        middle = middle.rename(tmp_path / "middle.py")
        assert place in refusal(classifier, tmp_path, "", base=middle)


@pytest.mark.parametrize(
    ("line", "options", "message"),
    [
        ("", ("train_cfg.val_interval=1",), "train_cfg.val_interval=1 will do nothing"),
        ("train_cfg = dict(val_interval=2, val_begin=3)", (), "val_interval=2, train_cfg.val_be"),
        ("", (), ""),
        ("default_hooks = dict(checkpoint=dict(save_best='auto'))", (), ""),
        ("train_cfg = dict(max_epochs=50, val_interval=50)", (), ""),
    ],
)
@pytest.mark.parametrize("base", [BODY, DEMO])
def test_when_to_validate_is_warned_of(tmp_path, caplog, base, line, options, message):
    classifier(tmp_path, line, *options, base=base)
    assert message in caplog.text
    assert bool(message) == ("will do nothing" in caplog.text)


@pytest.mark.parametrize("path", [BODY, DEMO, CONFIGS / "falldown_body.py", FIGHT])
def test_shipped_configs_ask_for_nothing_idle(path, tmp_path, caplog):
    classifier(tmp_path, "", base=path)
    assert "will do nothing" not in caplog.text


def test_who_takes_the_validation_out_is_warned_of_what_it_leaves_idle(tmp_path, caplog):
    pose(tmp_path, "", *NO_VAL)
    assert "default_hooks.checkpoint.save_best (the best by coco/AP) will do nothing" in caplog.text
    assert "sdpose_s_v1_stemnet" in caplog.text
    late = f"{PLATEAU}\ntrain_cfg = dict(val_begin=999)".replace("acc/top1", "coco/AP")
    message = refusal(pose, tmp_path, late)
    assert "validation never begins (train_cfg.val_begin 999" in message


@pytest.mark.parametrize("line", [SAVE, f"default_hooks = dict(early_stopping={STOP})", PLATEAU])
def test_with_validation_all_of_it_may_stand(tmp_path, caplog, line):
    classifier(tmp_path, line)
    assert "will do nothing" not in caplog.text
    path = child(tmp_path, line, FIGHT).rename(tmp_path / "stops.py")
    classifier(tmp_path, "val_dataloader = val_cfg = val_evaluator = None", base=path)
    assert "will do nothing" in caplog.text
