"""What a config's files read, by their syntax: names that only look unread must stay."""

import json

import pytest

pytest.importorskip("torch")
pytest.importorskip("mmaction")

from recognizer.runner.config_source import places_of, read_sources
from tests.runner.configs import FIGHT, child

KEYS = {"model", "train_dataloader", "val_dataloader", "test_dataloader", "visualizer"}
SPLITS = ("train", "val", "test")


def last(folder, text, base=FIGHT):
    source = read_sources(child(folder, text, base))[-1]
    return source, source.unread - KEYS


@pytest.mark.parametrize(
    ("text", "unread"),
    [
        ("a = 1\nb = a\nmodel = dict(x=b)", set()),
        ("a = 1\nb = a", {"b"}),
        ("date = '1'\nname = f'x{date}'\nmodel = dict(x=name)", set()),
        ("steps = _base_.train_pipeline\nsteps.insert(0, dict())\nmodel = dict(x=steps)", set()),
        ("x = {{_base_.train_pipeline}}\nmodel = dict(x=x)", set()),
        ("x = {{'$NOT_SET_ANYWHERE:3'}}\nmodel = dict(x=x)", set()),
        ("for i in range(3):\n    n = i\n    model = dict(x=n)", set()),
        ("for i in range(3):\n    model = dict(x=n if i else 0)\n    n = i", set()),
        ("def f():\n    return q\nq = 3\nmodel = dict(x=f())", set()),
        ("r = 2\nmodel = dict(x=[r for _ in range(2)])", set()),
        ("if True:\n    lr = 1\nelse:\n    lr = 2\nmodel = dict(x=lr)", set()),
        ("try:\n    lr = 1\nexcept OSError:\n    lr = 2", {"lr"}),
        ("a, b = 1, 2\nmodel = dict(x=a)", {"b"}),
        ("a: int = 3", {"a"}),
        ("x = 1\ndel x", set()),
        ("q = dict(a=1)\nq['b'] = 2\nq.update(c=3)", {"q"}),
        ("p = [1]\nmodel = dict(x=p)\np = [2]", {"p"}),
        ("import os\nfrom pathlib import Path\ndef g(): pass", set()),
    ],
)
def test_a_name_is_read_where_its_value_goes_somewhere(tmp_path, text, unread):
    assert last(tmp_path, text)[1] == unread


def test_what_a_child_reads_of_its_base_is_read(tmp_path):
    base = tmp_path / "base.py"
    base.write_text("mine = 3\nyours = 4\nits = 5\nhers = 6\n", encoding="utf-8")
    text = "model = dict(a=_base_.mine, b={{_base_.yours}}, c=_base_['its'])"
    source, _ = last(tmp_path, text, base)
    assert source.base_reads == {"mine", "yours", "its"}


@pytest.mark.parametrize(
    ("text", "changed"),
    [
        ("_base_.train_pipeline.insert(0, 1)", {"train_pipeline": 2}),
        ("_base_.train_pipeline[1]['feats'] = ['j']", {"train_pipeline": 2}),
        ("_base_.train_pipeline[1].feats += ['j']", {"train_pipeline": 2}),
        ("p = _base_.train_pipeline", {}),
    ],
)
def test_changes_of_the_bases_variables_are_seen(tmp_path, text, changed):
    source, _ = last(tmp_path, text)
    assert source.base_changes == changed
    assert source.base_reads == ({"train_pipeline"} if not changed else set())


def test_assignments_that_are_lost_are_seen(tmp_path):
    source, _ = last(tmp_path, "model = dict(a=dict(b=1))\nmodel = dict(a=dict(c=2))")
    assert source.lost == [("model", 2, 3, "model = dict(a=dict(b=1, c=2))")]
    for text in (
        "model = dict(a=1)\nother = model\nmodel = dict(b=other)",
        "model = dict(a=1)\nif other:\n    model = dict(a=2)",
        "model = dict(a=1)\nmodel['b'] = 2",
    ):
        assert not last(tmp_path, text)[0].lost


def test_the_places_of_a_variable_are_followed_through_others():
    found = {
        name: {
            ".".join(place): whole for place, whole in places_of(name, read_sources(FIGHT), KEYS)
        }
        for name in ("train_pipeline", "val_pipeline", "data_root", "vis_backends")
    }
    assert found == {
        "train_pipeline": {"train_dataloader.dataset.pipeline": True},
        "val_pipeline": {f"{split}_dataloader.dataset.pipeline": True for split in SPLITS[1:]},
        "data_root": {f"{split}_dataloader.dataset.ann_file": False for split in SPLITS},
        "vis_backends": {"visualizer.vis_backends": True},
    }


@pytest.mark.parametrize("suffix", [".json", ".yaml"])
def test_configs_without_expressions_read_nothing(tmp_path, suffix):
    path = tmp_path / f"mine{suffix}"
    path.write_text(json.dumps({"_base_": str(FIGHT), "mask_ratio": 0.5}), encoding="utf-8")
    sources = read_sources(path)
    assert sources[-1].unread == {"mask_ratio"}
    assert sources[-1].inherits
    assert sources[-2].path.name == FIGHT.name


def test_bases_by_imports_are_read(tmp_path):
    (tmp_path / "base.py").write_text("width = 3\nmodel = dict(x=width)\n", encoding="utf-8")
    path = tmp_path / "mine.py"
    path.write_text(
        "from mmengine.config import read_base\nwith read_base():\n    from .base import *\n"
        "mask_ratio = width\n",
        encoding="utf-8",
    )
    base, mine = read_sources(path)
    assert (base.path.name, mine.unread) == ("base.py", {"mask_ratio"})
    assert "width" in mine.base_reads
