"""Steps of the small pose network's training, and the files its commands read."""

import itertools
import json
import sys

import numpy as np
import pytest

torch = pytest.importorskip("torch")
onnx = pytest.importorskip("onnx")

from onnx import numpy_helper  # noqa: E402

from samples.small_pose import (  # noqa: E402
    mix,
    split,
    starts,
    train_detector,
    train_pose,
    training,
)
from samples.small_pose.crops import CROP, CropSampler  # noqa: E402
from samples.small_pose.data import TRAIN, VAL, load, write  # noqa: E402
from samples.small_pose.files import read_network, write_network  # noqa: E402
from samples.small_pose.graph import TrainableGraph  # noqa: E402
from samples.small_pose.optimization import layerwise_adamw, set_learning_rate  # noqa: E402
from tests.samples.small_pictures import ASSETS, coco_pictures, picture  # noqa: E402

WEIGHTS = ASSETS / "weights"
needs_assets = pytest.mark.skipif(not ASSETS.is_dir(), reason="needs ../shared/assets")


def convolution():
    """Return y = conv(x), 1 -> 1 channel, kernel 1, weight 2."""
    values = [
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1, 1, 4, 4])
        for name in "xy"
    ]
    weight = numpy_helper.from_array(np.full((1, 1, 1, 1), 2, np.float32), "w")
    node = onnx.helper.make_node("Conv", ["x", "w"], ["y"])
    graph = onnx.helper.make_graph([node], "g", values[:1], values[1:], [weight])
    return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)])


def arguments(out, *more):
    made = training.parser("Train.", minutes=0, learning_rate=0.1, batch=2)
    return made.parse_args(["--data", "d", "--weights", "w", "--out", str(out), *more])


def weights_of(model):
    arrays = {value.name: numpy_helper.to_array(value) for value in model.graph.initializer}
    return {name: array for name, array in arrays.items() if array.dtype == np.float32}


def square(network, batch):
    return network(batch[0]).square().mean()


ONES = [torch.ones(1, 1, 4, 4)]


# --- steps ----------------------------------------------------------------------------


def test_a_step_moves_the_average_the_file_and_the_log(tmp_path):
    out, network, seen = tmp_path / "new" / "a.onnx", TrainableGraph(convolution()), []

    def measure(average):
        seen.append((out.is_file(), next(average.parameters()).item()))
        return {"figure": len(seen)}

    training.train(
        network, arguments(out), itertools.repeat(ONES), square, measure, max_grad_norm=1
    )
    now = next(network.parameters()).item()
    # Adam's first step is the learning rate: 0.1 of the weight, 2, at the warm-up's 1 of 100.
    assert now == pytest.approx(2 - 0.1 * 2 / 100, abs=1e-6)
    average = 2 + (now - 2) * 9 / 11
    assert seen == [(False, 2.0), (True, pytest.approx(average))]  # written, then measured
    assert weights_of(read_network(out))["w"].item() == pytest.approx(average)
    rows = [json.loads(line) for line in out.with_suffix(".log.jsonl").open(encoding="utf-8")]
    assert rows == [
        {"step": 0, "loss": 0.0, "figure": 1},
        {"step": 1, "loss": 4.0, "figure": 2},
    ]


@pytest.mark.parametrize("worst", [float("nan"), float("inf")])
@pytest.mark.parametrize("before", [False, True])
def test_a_loss_that_is_not_finite_stops_the_training(tmp_path, worst, before):
    out, network = tmp_path / "a.onnx", TrainableGraph(convolution())
    if before:
        write_network(convolution(), out)
    kept = out.read_bytes() if before else None
    steps = itertools.count(1)

    def loss(network, batch):
        return square(network, batch) * (worst if next(steps) == 3 else 1.0)

    with pytest.raises(ValueError, match=r"step 3: expected a finite loss and gradient") as error:
        training.train(
            network,
            arguments(out, "--minutes", "60"),
            itertools.repeat(ONES),
            loss,
            lambda _: {},
            max_grad_norm=1,
        )
    assert ("stays as last written" if before else "is not written") in str(error.value)
    assert (out.read_bytes() if out.is_file() else None) == kept


def test_a_gradient_that_is_not_finite_leaves_no_damaged_file(tmp_path):
    out, network = tmp_path / "a.onnx", TrainableGraph(convolution())

    def loss(network, batch):
        return (network(batch[0]) - 2).abs().sqrt().mean()  # 0, of an infinite slope

    with pytest.raises(ValueError, match=r"step 1: .* a loss of 0 and a gradient of norm nan"):
        training.train(
            network, arguments(out), itertools.repeat(ONES), loss, lambda _: {}, max_grad_norm=1
        )
    assert not out.exists()


def test_steps_are_in_proportion_to_a_layers_weights():
    network = TrainableGraph(convolution())
    optimizer = layerwise_adamw(network, fused=False)
    set_learning_rate(optimizer, 0.25)
    assert [group["lr"] for group in optimizer.param_groups] == [pytest.approx(0.5)]


def test_the_help_says_that_start_does_not_resume():
    text = " ".join(
        training.parser("T.", minutes=1, learning_rate=1, batch=1).format_help().split()
    )
    assert "a new training, not a resumed one" in text
    assert "--learning-rate" in text


@needs_assets
def test_steps_on_annotated_pictures_change_the_pose_network(tmp_path):
    write(coco_pictures(3, TRAIN), tmp_path)
    data, start = load(tmp_path), starts.pose(WEIGHTS / "pp_tinypose_256x192.onnx", CROP, CROP)
    sampler = CropSampler(data, TRAIN, {"coco": 1.0}, 0)
    batch = train_pose.tensors(sampler.draw(2))
    network, out = TrainableGraph(start), tmp_path / "pose.onnx"
    losses = []

    def loss(network, batch):
        losses.append(train_pose.loss(network, batch))
        return losses[-1]

    training.train(
        network,
        arguments(out, "--minutes", "0.05", "--learning-rate", "0.002"),
        itertools.repeat(batch),
        loss,
        lambda _: {},
        max_grad_norm=5,
    )
    assert len(losses) >= 1
    with torch.no_grad():
        assert train_pose.loss(network, batch) < losses[0]
    before, after = weights_of(start), weights_of(read_network(out))
    assert before.keys() == after.keys()
    assert any((before[name] != after[name]).any() for name in before)


@needs_assets
@pytest.mark.parametrize(("module", "file"), [(train_detector, "detector"), (train_pose, "pose")])
def test_a_data_set_without_a_weight_stops_a_training(tmp_path, monkeypatch, capsys, module, file):
    groups = ("fight_surv", "falls", "coco")
    pictures = [picture(name, split) for name in groups for split in (TRAIN, VAL)]
    write([*pictures, picture("new_set", TRAIN)], tmp_path)
    out = tmp_path / f"{file}.onnx"
    words = ["--data", tmp_path, "--weights", WEIGHTS, "--out", out, "--minutes", "0"]
    monkeypatch.setattr(sys, "argv", [file, *map(str, words)])
    with pytest.raises(SystemExit, match="2"):
        module.main()
    assert "data set new_set: expected a sampling weight" in capsys.readouterr().err
    assert not out.exists()


# --- files that are no networks -------------------------------------------------------


@pytest.mark.parametrize("content", [b"", b"no network at all, but a text", b"\x08\x07" * 40])
def test_a_file_that_is_no_onnx_is_refused_by_name(tmp_path, content):
    path = tmp_path / "odd.onnx"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"odd\.onnx: expected an ONNX file"):
        read_network(path)


@pytest.mark.parametrize("command", ["mix", "split", "starts"])
def test_commands_name_a_damaged_file_in_one_line(tmp_path, monkeypatch, capsys, command):
    bad, good = tmp_path / "odd.onnx", tmp_path / "good.onnx"
    bad.write_bytes(b"no network at all, but a text")
    write_network(convolution(), good)
    for name in ("yolox_nano.onnx", "pp_tinypose_256x192.onnx"):
        (tmp_path / name).write_bytes(bad.read_bytes())
    module, words, named = {
        "mix": (mix, [good, bad, 0.5, tmp_path / "out.onnx"], "odd.onnx"),
        "split": (split, [bad, tmp_path, tmp_path / "out"], "odd.onnx"),
        "starts": (starts, [tmp_path, tmp_path / "out"], "yolox_nano.onnx"),
    }[command]
    monkeypatch.setattr(sys, "argv", [command, *map(str, words)])
    with pytest.raises(SystemExit, match="2"):
        module.main()
    (line,) = capsys.readouterr().err.splitlines()
    assert f"{tmp_path / named}: expected an ONNX file" in line
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "out.onnx").exists()
