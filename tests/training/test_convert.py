"""The mode convert.sdpose: a published checkpoint made ours through the command line."""

import logging

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("mmpose")

from main import main  # noqa: E402
from recognizer.openmmlab import scope  # noqa: E402
from recognizer.runner.checkpoints import (  # noqa: E402
    CheckpointError,
    load_checkpoint,
    load_weights,
)
from recognizer.sdpose.training import load_pose_config, train  # noqa: E402
from recognizer.training.pose.train import CONFIGS  # noqa: E402
from tests.sdpose import small_coco  # noqa: E402
from tests.sdpose.golden import (  # noqa: E402
    GOLDEN,
    golden_input,
    needs_golden,
    published_weights,
    silence,
)

pytestmark = needs_golden
HEAD = "keypoint_head.tokenpose."


@pytest.fixture(scope="module")
def published():
    return published_weights("t")


@pytest.fixture
def run(tmp_path, capsys):
    """Convert weights, or bytes, through the command line; return exit code and what it said."""

    def convert(source, out=tmp_path / "out.pth"):
        path = tmp_path / "published.pth"
        if isinstance(source, bytes):
            path.write_bytes(source)
        else:
            torch.save(source, path)
        code = main(["--mode", "convert.sdpose", "--source", str(path), "--out", str(out)])
        return code, capsys.readouterr().err

    return convert


def config_model(name):
    """Return the network that a config of ours describes."""
    from mmpose.registry import MODELS

    cfg = load_pose_config(CONFIGS / f"sdpose_{name}_stemnet_coco_256x192.py")
    with scope("mmpose"), silence():
        return MODELS.build(cfg.model).eval()


@pytest.mark.parametrize("name", ["t", "s_v1", "s_v2"])
def test_a_published_checkpoint_gives_the_published_heatmaps(name, run, tmp_path, caplog):
    weights = {f"module.{key}": tensor for key, tensor in published_weights(name).items()}
    meta = {"epoch": 300, "mmpose_version": "0.29.0"}
    with caplog.at_level(logging.INFO):
        assert run({"state_dict": weights, "meta": meta})[0] == 0
    assert f"SDPose-{name.upper().replace('_', '-')}, {len(weights) - 1} tensors" in caplog.text
    assert f"sdpose_{name}_stemnet_coco_256x192.py" in caplog.text
    assert [path.name for path in tmp_path.iterdir() if path.suffix != ".pth"] == []
    plain = torch.load(tmp_path / "out.pth", weights_only=True)
    model = config_model(name)
    model.load_state_dict(plain["state_dict"], strict=True)
    golden = np.load(GOLDEN / f"sdpose_{name}_keyed_small.npz")
    with torch.no_grad():
        found = model(golden_input(), None, mode="tensor").numpy().ravel()
    expected, index = golden["cycle1_heatmap"], golden["cycle1_heatmap_idx"]
    np.testing.assert_allclose(found[index], expected, rtol=0, atol=1e-5 * np.abs(expected).max())


@small_coco.needs_coco
def test_training_starts_from_the_result_and_does_not_resume_it(run, tmp_path, published):
    work_dir = tmp_path / "work"
    work_dir.mkdir()
    assert run(published, work_dir / "epoch_1.pth")[0] == 0
    checkpoint = load_checkpoint(work_dir / "epoch_1.pth")
    weights = checkpoint["state_dict"]
    load_weights(config_model("t"), weights, work_dir / "epoch_1.pth", strict=True)
    cfg = small_coco.tiny(small_coco.write_data(tmp_path / "data"), work_dir)
    with pytest.raises(CheckpointError, match="load_from"):
        train(cfg, resume=True)


def test_nothing_is_overwritten(run, tmp_path, published):
    (tmp_path / "out.pth").write_bytes(b"mine")
    code, output = run(published)
    assert code == 2
    assert "out.pth is already there" in output
    assert (tmp_path / "out.pth").read_bytes() == b"mine"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "convert.source: expected a file"),
        (["--source", "x.pth"], "convert.out: expected a file"),
        (["--out", "x.pth"], "convert.source: expected a file"),
    ],
)
def test_both_files_must_be_named(arguments, message, capsys):
    assert main(["--mode", "convert.sdpose", *arguments]) == 2
    assert message in capsys.readouterr().err


class Stranger:
    """Something that only code could bring back."""


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: {"state_dict": w, "hook": Stranger()}, "tensors and plain values"),
        (lambda w: b"", "damaged, or not a checkpoint of torch"),
        (lambda w: b"PK\x03\x04 and no more", "damaged, or not a checkpoint of torch"),
        (lambda w: [1, 2], "expected a dict, got list"),
        (lambda w: {"state_dict": {}}, "expected state_dict to hold tensors by name"),
        (lambda w: {**w, "backbone.extra": torch.zeros(2)}, "backbone.extra"),
        (
            lambda w: {k: v for k, v in w.items() if k != "backbone.bn1.bias"},
            "no key for backbone.bn1.bias",
        ),
        (lambda w: {**w, HEAD + "keypoint_token": torch.zeros(1, 16, 192)}, "expected (1, 17, 192"),
    ],
    ids=["code", "empty", "damaged", "list", "nothing", "extra", "missing", "shape"],
)
def test_what_is_no_published_checkpoint_is_refused(change, message, run, tmp_path, published):
    code, text = run(change(published))
    assert code == 1
    assert message in text
    assert not (tmp_path / "out.pth").exists()


def test_a_source_that_is_not_there_is_named(tmp_path, capsys):
    out = tmp_path / "deep" / "out.pth"
    arguments = ["--source", str(tmp_path / "none.pth"), "--out", str(out)]
    assert main(["--mode", "convert.sdpose", *arguments]) == 1
    assert "none.pth, found none" in capsys.readouterr().err
    assert not out.exists()
