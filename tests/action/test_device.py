"""Training and judging away from the CPU: on a fake device, and on a GPU where there is one."""

import copy

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("mmaction")

from recognizer.action import registered  # noqa: E402, F401
from recognizer.action.batchnorm import batch_norm  # noqa: E402
from recognizer.openmmlab import scope  # noqa: E402
from tests import fake_device  # noqa: E402
from tests.action import checkpoints  # noqa: E402

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


def build(kind, head, **backbone):
    from mmaction.registry import MODELS

    config = checkpoints.train_config(kind=kind).model
    config.cls_head.type = head
    config.backbone.update(backbone)
    with scope("mmaction"):
        return MODELS.build(config)


def clips(number=4):
    """Return a batch as the train loader collates it; the last slots are empty."""
    from mmaction.structures import ActionDataSample

    inputs = torch.randn(number, 1, 4, 24, 17, 3, generator=torch.Generator().manual_seed(3))
    inputs[:, :, 2:] = 0
    samples = [ActionDataSample().set_gt_labels(i % 2) for i in range(number)]
    return {"inputs": list(inputs), "data_samples": samples}


@pytest.mark.parametrize(
    ("kind", "head", "options"),
    [
        ("FastSTGCN", "Float32GCNHead", {}),
        ("FastSTGCN", "GCNHead", {"data_bn_type": "MVC", "num_person": 4}),
        ("FastSTGCN", "GCNHead", {"gcn_adaptive": "importance", "tcn_type": "unit_tcn"}),
        ("STGCN", "Float32GCNHead", {}),
    ],
)
def test_a_step_stays_on_its_device(kind, head, options):
    model = build(kind, head, **options)
    batch = clips()
    with fake_device.fake_device():
        fake_device.move(model).train()
        fake_device.train_step(model, batch)
        assert model.backbone.data_bn.running_mean.device == fake_device.DEVICE


def test_judging_stays_on_its_device():
    model = build("FastSTGCN", "Float32GCNHead")
    batch = clips()
    with fake_device.fake_device(), torch.no_grad():
        judged = fake_device.move(model).eval().test_step(batch)
        assert judged[0].pred_scores.item.device == fake_device.DEVICE
        assert torch.stack([one.pred_scores.item for one in judged]).cpu().numpy().shape == (4, 2)


def test_the_fake_device_refuses_what_a_gpu_refuses():
    with fake_device.fake_device():
        there = torch.zeros(2, 3, 4, 1, device=fake_device.DEVICE)
        channel = there[0, :, 0, 0]
        with pytest.raises(RuntimeError, match="same device"):
            there + torch.zeros(3, 4, 1)
        with pytest.raises(TypeError, match="to numpy"):
            there.numpy()
        with pytest.raises(TypeError, match="BFloat16"):
            there.cpu().bfloat16().numpy()
        with pytest.raises(RuntimeError, match="every statistic"):
            torch.ops.aten.native_batch_norm_backward(
                there, there, channel, channel, channel, None, channel, False, 1e-5, [True] * 3
            )


@needs_gpu
@pytest.mark.parametrize("repeats", [1, 5])
def test_a_norms_gradients_on_a_gpu_are_those_of_the_cpu(repeats):
    random = torch.Generator().manual_seed(5)
    x, grad = torch.randn(2, 3, 8, 6, 5, generator=random)
    found = []
    for device in ("cpu", "cuda"):
        norm = torch.nn.BatchNorm2d(8).to(device)
        given = x.to(device).contiguous(memory_format=torch.channels_last).requires_grad_()
        batch_norm(given, [norm], repeats, update=True).backward(grad.to(device))
        found.append([given.grad, norm.weight.grad, norm.bias.grad, norm.running_var])
    for cpu, gpu in zip(*found, strict=True):
        torch.testing.assert_close(gpu.cpu(), cpu, rtol=1e-4, atol=1e-5)


@needs_gpu
@pytest.mark.parametrize("bfloat16", [False, True])
@pytest.mark.parametrize("with_cp", [False, True])
def test_a_steps_gradients_on_a_gpu_are_those_of_the_cpu(bfloat16, with_cp, monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    expected = build("FastSTGCN", "Float32GCNHead", with_cp=with_cp).train()
    expected.cls_head.dropout = None
    given = copy.deepcopy(expected).cuda()
    for model, device in ((expected, "cpu"), (given, "cuda")):
        batch = model.data_preprocessor(clips(), True)
        with torch.autocast(device, torch.bfloat16, enabled=bfloat16 and device == "cuda"):
            losses = model(**batch, mode="loss")
        losses["loss_cls"].backward()
    cpu, gpu = (
        torch.cat([p.grad.flatten().cpu() for p in model.parameters() if p.grad is not None])
        for model in (expected, given)
    )
    assert len(cpu) == len(gpu)
    assert (gpu - cpu).norm() < (0.1 if bfloat16 else 1e-3) * cpu.norm()
