"""Published SDPose checkpoints: every key mapped, everything else named."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("mmpose")

from recognizer.sdpose.convert import (  # noqa: E402
    convert_file,
    convert_state_dict,
    recognise,
)
from recognizer.storage.artifacts import ArtifactError  # noqa: E402

from .golden import VARIANTS, B, build, needs_golden, published_weights, variant  # noqa: E402

pytestmark = needs_golden
HEAD = "keypoint_head.tokenpose."
BLOCK = HEAD + "transformer_layer1.layers.0."


@pytest.fixture(scope="module")
def published():
    return published_weights("t")


@pytest.mark.parametrize("name", VARIANTS)
@pytest.mark.parametrize("prefix", ["", "module.", "ema.module."])
def test_all_of_a_checkpoint_is_taken(name, prefix):
    weights = {prefix + key: tensor for key, tensor in published_weights(name).items()}
    ours = convert_state_dict(weights)
    assert recognise(weights) == name
    assert len(ours) == len(weights) - 1, "all but the position table"
    variant(name).load_state_dict(ours, strict=True)


def test_values_go_where_they_belong(published):
    ours = convert_state_dict(published)
    matrix = published[HEAD + "patch_to_embedding.weight"]  # (192, row * column * channel)
    kernel = ours["head.transformer.patch_embedding.weight"]  # (192, 256, 4, 3)
    assert kernel[7, 100, 3, 2] == matrix[7, (3 * 3 + 2) * 256 + 100]
    for theirs, mine in (
        (HEAD + "keypoint_token", "head.transformer.keypoint_tokens"),
        (BLOCK + "0.fn.norm.bias", "head.transformer.blocks.0.attention_norm.bias"),
        (BLOCK + "0.fn.fn.to_qkv.weight", "head.transformer.blocks.0.attention.qkv.weight"),
        (BLOCK + "0.fn.fn.to_out.0.bias", "head.transformer.blocks.0.attention.projection.bias"),
        (BLOCK + "1.fn.norm.weight", "head.transformer.blocks.0.mlp_norm.weight"),
        (BLOCK + "1.fn.fn.net.0.weight", "head.transformer.blocks.0.mlp.0.weight"),
        (BLOCK + "1.fn.fn.net.3.weight", "head.transformer.blocks.0.mlp.2.weight"),
        (HEAD + "mlp_head.3.weight", "head.heatmap_head.3.weight"),
        ("backbone.bn1.num_batches_tracked", "backbone.bn1.num_batches_tracked"),
    ):
        assert torch.equal(published[theirs], ours[mine])


def test_b_is_recognised_by_its_channels(published):
    """No golden keys of B: its stem keeps its names, its head has those of S-V1."""
    stem = build(**B).backbone.state_dict()
    weights = {k: v for k, v in published_weights("s_v1").items() if k.startswith(HEAD)}
    weights |= {f"backbone.{key}": tensor for key, tensor in stem.items()}
    weights[HEAD + "patch_to_embedding.weight"] = torch.randn(192, 4 * 3 * 32)
    assert recognise(weights) == "b"
    build(**B).load_state_dict(convert_state_dict(weights), strict=True)


def test_the_result_is_independent_of_the_source(published):
    source = {key: tensor.clone() for key, tensor in published.items()}
    ours = convert_state_dict(source)
    for tensor in source.values():
        tensor.zero_()
    assert ours["backbone.conv1.weight"].any()


@pytest.mark.parametrize(
    ("change", "messages"),
    [
        ({"backbone.extra.weight": torch.zeros(1)}, ["unknown key, backbone.extra.weight"]),
        ({"keypoint_head.other": torch.zeros(1)}, ["unknown key keypoint_head.other"]),
        ({BLOCK + "1.fn.fn.net.1.weight": torch.zeros(1)}, [r"unknown key .*0\.1\.fn.*net\.1"]),
        ({HEAD + "mlp_head.1.bias": None}, ["no key for head.heatmap_head.1.bias"]),
        (
            {"backbone.conv1.weight": None, "backbone.bn1.bias": None},
            ["no key for backbone.conv1.weight", "no key for backbone.bn1.bias"],
        ),
        (
            {"backbone.conv1.weight": torch.zeros(64, 1, 3, 3)},
            [r"conv1.weight of shape \(64, 1, 3, 3\), expected \(64, 3, 3, 3\)"],
        ),
        (
            {HEAD + "keypoint_token": torch.zeros(1, 16, 192)},
            [r"shape \(1, 16, 192\), expected \(1, 17, 192\)"],
        ),
        ({HEAD + "pos_embedding": None}, ["no key keypoint_head.tokenpose.pos_embedding"]),
        ({HEAD + "pos_embedding": torch.zeros(1, 256, 192)}, ["not the fixed sine table"]),
        ({HEAD + "pos_embedding": torch.zeros(1, 768, 192)}, [r"expected \(1, 256, 192\)"]),
    ],
)
def test_what_does_not_fit_is_named(published, change, messages):
    weights = {**published, **change}
    weights = {key: tensor for key, tensor in weights.items() if tensor is not None}
    with pytest.raises(ValueError, match="published checkpoint") as caught:
        convert_state_dict(weights)
    for message in messages:
        assert caught.match(message)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: {}, "got 0 among 0 keys"),
        (lambda w: {**w, "stranger": torch.zeros(1)}, "unknown key stranger"),
        (
            lambda w: {**{f"module.{k}": v for k, v in w.items()}, "stranger": torch.zeros(1)},
            r"start with 'module\.', got \['stranger'\]",
        ),
        (lambda w: {k: v for k, v in w.items() if ".layers.5." not in k}, "got 3072 and 5"),
    ],
)
def test_other_networks_are_refused(published, change, message):
    with pytest.raises(ValueError, match=message):
        convert_state_dict(change(published))


@pytest.mark.parametrize("wrapped", [True, False])
def test_a_file_is_converted(tmp_path, published, wrapped):
    source, out = tmp_path / "published.pth", tmp_path / "new" / "sdpose_t.pth"
    best = np.float64(0.7)  # mmcv 1.x keeps NumPy's number of the best epoch
    meta = {"epoch": 300, "mmpose_version": "0.29.0", "hook_msgs": {"best_score": best}}
    torch.save({"meta": meta, "state_dict": published} if wrapped else published, source)
    assert convert_file(source, out) == "t"
    saved = torch.load(out, weights_only=True)
    assert saved["meta"]["variant"] == "t"
    assert saved["meta"]["source"] == "published.pth"
    variant("t").load_state_dict(saved["state_dict"], strict=True)


class Stranger:
    """Something that only code could bring back."""


def test_files_that_are_no_checkpoints_are_refused(tmp_path, published):
    out = tmp_path / "out.pth"
    with pytest.raises(FileNotFoundError, match="expected a checkpoint"):
        convert_file(tmp_path / "none.pth", out)
    hostile, damaged, other = (tmp_path / name for name in ("h.pth", "d.pth", "o.pth"))
    torch.save({**published, "config": Stranger()}, hostile)
    damaged.write_bytes(hostile.read_bytes()[:1000])
    torch.save({"a": 1}, other)
    for source, message in (
        (hostile, "tensors and plain values"),
        (damaged, "damaged, or not a checkpoint"),
        (other, "expected state_dict to hold tensors"),
    ):
        with pytest.raises(ArtifactError, match=message) as caught:
            convert_file(source, out)
        assert "weights_only" not in str(caught.value)  # torch's advice to run the code in it
    assert not out.exists()


def test_half_precision_is_taken_and_numbers_that_are_none_are_not(tmp_path, published):
    source, out = tmp_path / "published.pth", tmp_path / "new.pth"
    torch.save({key: tensor.half() for key, tensor in published.items()}, source)
    assert convert_file(source, out) == "t"
    broken = {**published, "backbone.bn1.weight": published["backbone.bn1.weight"] * np.nan}
    torch.save(broken, source)
    with pytest.raises(ValueError, match=r"published\.pth: .*\n  backbone\.bn1\.weight: NaN"):
        convert_file(source, tmp_path / "other.pth")
    torch.save({key: tensor.to_sparse() for key, tensor in published.items()}, source)
    with pytest.raises(ArtifactError, match=r"expected plain tensors with values, got \S+ of layo"):
        convert_file(source, tmp_path / "other.pth")


def test_a_place_that_cannot_be_written_is_named(tmp_path, published):
    source, out = tmp_path / "published.pth", tmp_path / "published.pth" / "new.pth"
    torch.save(published, source)
    with pytest.raises(ArtifactError, match=r"new\.pth cannot be written: .*published.pth"):
        convert_file(source, out)
