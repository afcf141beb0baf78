"""SDPose away from the CPU, on a fake device: a training step of each config, and a prediction."""

import logging

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("mmpose")

from benchmarks import sdpose_step  # noqa: E402
from recognizer.sdpose import registered  # noqa: E402, F401
from tests import fake_device  # noqa: E402

from .tokens import CASES, inputs  # noqa: E402

NAMES = (
    "s_v1_stemnet",
    "s_v1_fsd",
    "s_v1_fsd_best",
    "s_v1_fsd_dynamic",
    "s_v1_maskedkd",
    "t_stemnet",
)


@pytest.fixture(autouse=True)
def logging_stays_on(monkeypatch):
    monkeypatch.setattr(logging, "disable", lambda _level: None)  # sdpose_step turns it off


def build(name):
    """Return a config's network of one block, and a batch of made people."""
    cfg = sdpose_step.config(name)
    cfg.model.head.depth = 1
    return sdpose_step.network(cfg), sdpose_step.batch(cfg, None, 2)


@pytest.mark.parametrize("name", NAMES)
def test_a_step_stays_on_its_device(name):
    model, batch = build(name)
    with fake_device.fake_device():
        losses = fake_device.train_step(fake_device.move(model).train(), batch)
        assert {one.device for one in losses.values()} == {fake_device.DEVICE}


def test_a_prediction_comes_from_its_device():
    model, batch = build("s_v1_stemnet")
    with fake_device.fake_device(), torch.no_grad():
        people = fake_device.move(model).eval().test_step(batch)
    assert people[0].pred_instances.keypoints.shape == (1, 17, 2)


@pytest.mark.parametrize("name", CASES)
def test_a_loss_stays_on_its_device(name):
    case = CASES[name]
    loss, given = case.build(), inputs(case)
    with fake_device.fake_device():
        there = {k: fake_device.moved(v) if torch.is_tensor(v) else v for k, v in given.items()}
        assert fake_device.move(loss)(**there).device == fake_device.DEVICE
