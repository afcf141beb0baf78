"""Published SDPose weights -> ours, key by key and strict.

The published checkpoints (mmpose 0.x) name the same tensors otherwise, store the patch embedding
as a matrix over (row, column, channel) and the fixed position table as a parameter. Every key is
mapped or knowingly dropped; whatever does not fit is named.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from recognizer.runner.checkpoints import CheckpointError, load_checkpoint
from recognizer.sdpose.head import SDPoseHead
from recognizer.sdpose.stem import HRNetStem, SDPoseStem
from recognizer.sdpose.transformer import sine_table
from recognizer.storage.artifacts import ArtifactError, atomic_path, sha256_file


@dataclass(frozen=True)
class Variant:
    """The sizes by which the published networks differ."""

    stem: type
    channels: int
    patch_size: tuple[int, int]
    depth: int

    @property
    def patch_inputs(self) -> int:
        """The numbers in one patch of the stem's feature map."""
        return self.patch_size[0] * self.patch_size[1] * self.channels


VARIANTS = {
    "t": Variant(SDPoseStem, 256, (4, 3), 6),
    "s_v1": Variant(SDPoseStem, 256, (4, 3), 12),
    "s_v2": Variant(SDPoseStem, 256, (2, 2), 12),
    "b": Variant(HRNetStem, 32, (4, 3), 12),  # its HRNet is taken to have HRNet's own names
}

_TOKENS = "keypoint_head.tokenpose."
_PATCHES = _TOKENS + "patch_to_embedding.weight"
_TABLE = _TOKENS + "pos_embedding"
_TABLE_TOLERANCE = 1e-4  # the published table was summed up in float32
_BLOCK = re.compile(r"transformer_layer1\.layers\.(\d+)\.([01])\.fn\.(norm|fn\.[\w.]+?)\.(\w+)")
_BLOCK_PARTS = {
    ("0", "norm"): "attention_norm",
    ("0", "fn.to_qkv"): "attention.qkv",
    ("0", "fn.to_out.0"): "attention.projection",
    ("1", "norm"): "mlp_norm",
    ("1", "fn.net.0"): "mlp.0",
    ("1", "fn.net.3"): "mlp.2",
}
_OTHER_PARTS = {
    "keypoint_token": "transformer.keypoint_tokens",
    "patch_to_embedding.weight": "transformer.patch_embedding.weight",
    "patch_to_embedding.bias": "transformer.patch_embedding.bias",
}


def convert_state_dict(published: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights of TopdownPoseEstimator with SDPoseStem (B: HRNetStem) and SDPoseHead.

    Args:
        published: an SDPose state dict; its keys may have a prefix, such as ``module.``.

    Raises:
        ValueError: keys or shapes that are not those of a published network, each of them named,
            or a position table that is not the fixed one.

    """
    weights = _without_prefix(published)
    variant = VARIANTS[_recognise(weights)]
    ours, unknown = {}, []
    for key, tensor in weights.items():
        target = _our_key(key)
        if target is not None:
            ours[target] = tensor
        elif key != _TABLE:
            unknown.append(key)
    problems = [f"unknown key {key}" for key in unknown]
    problems += _patch_as_convolution(ours, variant)
    problems += _misfits(ours, variant)
    problems += _table_misfits(weights, variant)
    problems += [f"{k}: NaN or infinity" for k, v in weights.items() if not v.isfinite().all()]
    if problems:
        raise ValueError(
            "convert SDPose: expected the keys and shapes of a published checkpoint, got\n  "
            + "\n  ".join(problems)
        )
    return {key: tensor.clone() for key, tensor in ours.items()}


def recognise(published: Mapping[str, Tensor]) -> str:
    """Return which published network a state dict is: 't', 's_v1', 's_v2' or 'b'.

    Raises:
        ValueError: none of them.

    """
    return _recognise(_without_prefix(published))


def convert_file(source: Path, out: Path) -> str:
    """Write a published checkpoint in our keys and return which network it is.

    Nothing in the file is run: a checkpoint that holds more than tensors and plain values is
    refused.

    Args:
        source: a published ``.pth`` file.
        out: the new one, for ``load_from`` and for testing; written atomically.

    Raises:
        FileNotFoundError: there is no source.
        ArtifactError: it is no checkpoint that can be read safely, or out cannot be written.
        ValueError: as ``convert_state_dict``.

    """
    if not source.is_file():
        raise FileNotFoundError(f"convert SDPose: expected a checkpoint at {source}, found none")
    published = _read(source)
    try:
        weights, variant = convert_state_dict(published), recognise(published)
    except ValueError as error:
        raise ValueError(f"{source}: {error}") from error
    meta = {"variant": variant, "source": source.name, "source_sha256": sha256_file(source)}
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(out, out.parent) as scratch:
            torch.save({"state_dict": weights, "meta": meta}, scratch)
    except OSError as error:
        raise ArtifactError(f"convert SDPose: {out} cannot be written: {error}") from error
    return variant


def _read(source: Path) -> Mapping[str, Tensor]:
    try:
        weights: Mapping[str, Tensor] = load_checkpoint(source)["state_dict"]
    except CheckpointError as error:
        raise ArtifactError(f"convert SDPose: {error}") from error
    return weights


def _without_prefix(published: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    found = [key for key in published if key.endswith(_PATCHES)]
    if len(found) != 1:
        raise ValueError(
            f"convert SDPose: expected one key that ends with {_PATCHES}, got {len(found)} among "
            f"{len(published)} keys; this is no published SDPose checkpoint"
        )
    prefix = found[0].removesuffix(_PATCHES)
    strangers = [key for key in published if not key.startswith(prefix)]
    if strangers:
        raise ValueError(
            f"convert SDPose: expected every key to start with {prefix!r}, got {strangers}"
        )
    return {key.removeprefix(prefix): tensor for key, tensor in published.items()}


def _recognise(weights: Mapping[str, Tensor]) -> str:
    matches = (_BLOCK.fullmatch(key.removeprefix(_TOKENS)) for key in weights)
    depth = 1 + max((int(match[1]) for match in matches if match), default=-1)
    inputs = weights[_PATCHES].shape[-1]
    for name, variant in VARIANTS.items():
        if (inputs, depth) == (variant.patch_inputs, variant.depth):
            return name
    known = ", ".join(f"{name}: {v.patch_inputs} and {v.depth}" for name, v in VARIANTS.items())
    raise ValueError(
        f"convert SDPose: expected patch inputs and blocks as in ({known}), "
        f"got {inputs} and {depth}"
    )


def _our_key(key: str) -> str | None:
    if key.startswith("backbone."):
        return key
    if not key.startswith(_TOKENS):
        return None
    name = key.removeprefix(_TOKENS)
    if name in _OTHER_PARTS:
        return f"head.{_OTHER_PARTS[name]}"
    if name.startswith("mlp_head."):
        return f"head.heatmap_head.{name.removeprefix('mlp_head.')}"
    match = _BLOCK.fullmatch(name)
    part = _BLOCK_PARTS.get((match[2], match[3])) if match else None
    if match is None or part is None:
        return None
    return f"head.transformer.blocks.{match[1]}.{part}.{match[4]}"


def _patch_as_convolution(ours: dict[str, Tensor], variant: Variant) -> Iterator[str]:
    """Turn the matrix over (row, column, channel) into a convolution, in place."""
    name = "head." + _OTHER_PARTS["patch_to_embedding.weight"]
    matrix, size = ours[name], (*variant.patch_size, variant.channels)
    if matrix.ndim != 2:
        yield f"{_PATCHES} of shape {tuple(matrix.shape)}, expected a matrix"
        return
    ours[name] = torch.unflatten(matrix, 1, size).permute(0, 3, 1, 2)


def _misfits(ours: Mapping[str, Tensor], variant: Variant) -> Iterator[str]:
    with torch.device("meta"):
        network = nn.ModuleDict(
            {
                "backbone": variant.stem(),
                "head": SDPoseHead(
                    variant.channels, patch_size=variant.patch_size, depth=variant.depth
                ),
            }
        )
    expected = {key: tuple(tensor.shape) for key, tensor in network.state_dict().items()}
    yield from (f"no key for {key}" for key in sorted(expected.keys() - ours.keys()))
    yield from (f"unknown key, {key} in our names" for key in sorted(ours.keys() - expected.keys()))
    for key in sorted(expected.keys() & ours.keys()):
        if tuple(ours[key].shape) != expected[key]:
            yield f"{key} of shape {tuple(ours[key].shape)}, expected {expected[key]}"


def _table_misfits(weights: Mapping[str, Tensor], variant: Variant) -> Iterator[str]:
    if _TABLE not in weights:
        yield f"no key {_TABLE}"
        return
    rows, columns = variant.patch_size
    expected = sine_table(64 // rows, 48 // columns, weights[_PATCHES].shape[0])
    table = weights[_TABLE].float().cpu()
    if table.shape != expected.shape:
        yield f"{_TABLE} of shape {tuple(table.shape)}, expected {tuple(expected.shape)}"
    elif not torch.allclose(table, expected, rtol=0, atol=_tolerance(weights[_TABLE].dtype)):
        off = (table - expected).abs().max().item()
        yield f"{_TABLE} is not the fixed sine table: it is off by up to {off:.3g}"


def _tolerance(dtype: torch.dtype) -> float:
    """Return how far the table may be off: in half precision, by what its rounding takes."""
    return max(_TABLE_TOLERANCE, torch.finfo(dtype).eps) if dtype.is_floating_point else 0.0
