"""FastSTGCN: mmaction2's STGCN with the same parameters and results, computed in another order.

Three things differ from mmaction2's forward, none of them in what it returns:

- joints are mixed before channels, and what they exchange is never kept (``graphconv``);
- the 1x1 convolutions that open the branches of the temporal part are one convolution, their
  batch norms one batch norm, and everything runs in channels_last;
- absent persons, which FormatGCNInput fills with zeros, are equal in every layer: one of them is
  computed and counts as often as it was there (``batchnorm``).

Parameter names, shapes and initialisation come from mmaction2's own constructor, so a checkpoint
moves between STGCN and FastSTGCN unchanged, in both directions.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from recognizer.action.batchnorm import BatchNorm, as_affine, batch_norm, joined, supports
from recognizer.action.graphconv import graph_conv
from recognizer.action.mmaction import MODELS, STGCN, GCNHead, STGCNBlock, mstcn, unit_gcn, unit_tcn


@MODELS.register_module(name="STGCN", force=True)
class PlainSTGCN(STGCN):
    """STGCN of mmaction2 unchanged, with advice for ``with_cp``."""

    def __init__(self, *args: Any, with_cp: bool = False, **kwargs: Any) -> None:
        if with_cp:
            raise ValueError(
                "STGCN takes no with_cp; write type='FastSTGCN' beside it (model.backbone.type="
                "FastSTGCN), which has the same weights and results"
            )
        super().__init__(*args, **kwargs)


@MODELS.register_module()
class FastSTGCN(STGCN):
    """STGCN of mmaction2, restructured; takes its arguments and ``with_cp``.

    Absent persons are skipped with ``data_bn_type='VC'`` (the default) or none; with 'MVC' the
    slots have weights of their own, so all are computed. So they are where dropout inside the
    temporal part makes equal persons differ; its masks are then drawn in another order than
    mmaction2 draws them. Norms other than BatchNorm (SyncBatchNorm, say), and norms of which some
    are frozen, run mmaction2's own forward.

    Args:
        with_cp: keep only the blocks' inputs for backward and compute the rest again there.

    """

    def __init__(self, *args: Any, with_cp: bool = False, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.with_cp = with_cp

    def forward(self, x: Tensor) -> Tensor:
        """Return the features (N, M, C', T', V) of skeletons (N, M, T, V, C).

        Raises:
            ValueError: ``with_cp`` with a norm that mmaction2's own forward has to run.

        """
        if not _understood(self):
            if self.with_cp and self.training:
                raise ValueError(
                    "FastSTGCN: with_cp expects BatchNorm layers, all in training mode or all in "
                    "eval mode, found others; set with_cp=False or leave sync_bn out"
                )
            features: Tensor = super().forward(x)
            return features
        number, slots = x.shape[:2]
        if self.data_bn_type == "MVC":
            x = self.data_bn(x.permute(0, 1, 3, 4, 2).reshape(number, -1, x.shape[2])).view(
                number, slots, *x.shape[3:], -1
            )
            people, owners, repeats = x.permute(0, 1, 4, 2, 3).flatten(0, 1), None, 1
        else:
            people, owners, repeats = _distinct(x.flatten(0, 1), skip=not _has_dropout(self))
        with_cp = self.with_cp and torch.is_grad_enabled()
        y = _features(self, people, repeats, with_cp=with_cp)
        if owners is not None:
            y = y.index_select(0, owners)
        return y.view(number, slots, *y.shape[1:])


@MODELS.register_module()
class Float32GCNHead(GCNHead):
    """mmaction2's GCNHead in float32 also under autocast; parameters and results are the same.

    GCNHead itself hands its scores to NumPy, which has no bfloat16: training with bfloat16
    autocast stops there with a TypeError. The head is one small matrix, so nothing is lost.
    """

    def forward(self, x: Tensor, **kwargs: Any) -> Tensor:
        """Return class scores (N, classes) of features (N, M, C, T, V)."""
        with torch.autocast(x.device.type, enabled=False):
            scores: Tensor = super().forward(x.float(), **kwargs)
            return scores


def pooled_features(backbone: STGCN, persons: Tensor) -> Tensor:
    """Return the features that the head averages over persons: (P, C') of skeletons (P, T, V, C).

    Every row is one person, zeros too. Made of operations that torch.onnx exports
    (``dynamo=False``); P may be dynamic.

    Args:
        backbone: FastSTGCN or mmaction2's own STGCN, in eval mode.
        persons: (P, T, V, C).

    Raises:
        ValueError: the backbone is in training mode, its persons are not independent (MVC), or
            its norms are not BatchNorm.

    """
    if backbone.training:
        raise ValueError("pooled_features: expected eval mode, got a training backbone; .eval()")
    if backbone.data_bn_type == "MVC":
        raise ValueError("pooled_features: data_bn_type 'MVC' normalises slots, not persons")
    if not _understood(backbone):
        raise ValueError("pooled_features: expected BatchNorm layers only, got another norm")
    return _features(backbone, persons, 1, with_cp=False).mean((2, 3))


def _features(backbone: STGCN, people: Tensor, repeats: int, *, with_cp: bool) -> Tensor:
    """Return (P, C', T', V) of (P, T, V, C), whose last item stands for ``repeats`` people."""
    if backbone.data_bn_type == "VC":
        channels = people.flatten(2).transpose(1, 2).unsqueeze(-1)
        y = batch_norm(channels, [backbone.data_bn], repeats, update=True)
        people = y.squeeze(-1).transpose(1, 2).reshape(people.shape)
    x = people.permute(0, 3, 1, 2)
    for block in backbone.gcn:
        if with_cp:
            x = checkpoint(_Once(block, repeats), x, use_reentrant=False)
        else:
            x = _block(block, x, repeats, update=True)
    return x


def _distinct(people: Tensor, *, skip: bool) -> tuple[Tensor, Tensor | None, int]:
    """Return the distinct people, the index of each input, and the count of the last one.

    people (P, T, V, C) -> (D, T, V, C) with D <= P, (P,) or None, repeats >= 1.
    """
    present = people.flatten(1).ne(0).any(1)
    chosen = present.nonzero().squeeze(1)
    repeats = len(people) - len(chosen)
    if not skip or repeats < 2:
        return people.contiguous(), None, 1
    distinct = torch.cat([people[chosen], people.new_zeros(1, *people.shape[1:])])
    owners = torch.where(present, present.cumsum(0) - 1, len(chosen))
    return distinct, owners, repeats


class _Once:
    """One block for torch's checkpoint: running statistics move the first time it is called."""

    def __init__(self, block: STGCNBlock, repeats: int) -> None:
        self.block, self.repeats, self.update = block, repeats, True

    def __call__(self, x: Tensor) -> Tensor:
        update, self.update = self.update, False
        return _block(self.block, x, self.repeats, update=update)


def _block(block: STGCNBlock, x: Tensor, repeats: int, *, update: bool) -> Tensor:
    """Run an STGCNBlock on (P, C, T, V)."""
    y = _unit_gcn(block.gcn, x, repeats, update=update)
    if isinstance(block.tcn, mstcn):
        y = _multi_scale(block.tcn, y, repeats, update=update)
    else:
        y = _unit_tcn(block.tcn, y, repeats, update=update)
    if isinstance(block.residual, unit_tcn):
        y = _add(y, _unit_tcn(block.residual, x, repeats, update=update))
    else:
        y = _add(y, block.residual(x))
    return _activate(block.relu, y)


def _unit_gcn(gcn: unit_gcn, x: Tensor, repeats: int, *, update: bool) -> Tensor:
    weight, offset = _graph_weights(gcn)
    if gcn.bn.training:
        y = graph_conv(x, _adjacency(gcn), weight, offset)
        y = batch_norm(y, [gcn.bn], repeats, update=update)
    else:
        scale, shift = as_affine([gcn.bn])
        y = graph_conv(x, _adjacency(gcn), weight * scale, offset * scale + shift)
    projected = gcn.with_res and isinstance(gcn.down, nn.Sequential)
    if projected:
        y = _add(y, _conv_norm([gcn.down[0]], [gcn.down[1]], x, repeats, update=update))
    elif gcn.with_res:
        y = _add(y, x)
    return _activate(gcn.act, y)


def _adjacency(gcn: unit_gcn) -> Tensor:
    graph: Tensor = gcn.A
    if gcn.adaptive == "offset":
        return graph.add(gcn.PA)
    if gcn.adaptive == "importance":
        return graph.mul(gcn.PA)
    return graph


def _graph_weights(gcn: unit_gcn) -> tuple[Tensor, Tensor]:
    """Return the 1x1 convolution of the graph part as (K, C, D) and (V, D)."""
    weight = gcn.conv.weight.flatten(1)
    if gcn.conv_pos == "post":
        weight = weight.view(gcn.out_channels, gcn.num_subsets, -1).permute(1, 2, 0)
        return weight, gcn.conv.bias.expand(gcn.A.shape[-1], -1)
    weight = weight.view(gcn.num_subsets, gcn.out_channels, -1).transpose(1, 2)
    # A bias added before the joints are mixed reaches each joint as often as joints send to it.
    bias = gcn.conv.bias.view(gcn.num_subsets, -1)
    return weight, _adjacency(gcn).sum(1).t() @ bias


def _multi_scale(tcn: mstcn, x: Tensor, repeats: int, *, update: bool) -> Tensor:
    """Run an mstcn on (P, C, T, V): the branches' opening convolutions in one."""
    opened = [branch for branch in tcn.branches if not isinstance(branch, nn.Conv2d)]
    convs, norms = [branch[0] for branch in opened], [branch[1] for branch in opened]
    y = _activate(tcn.act, _conv_norm(convs, norms, x, repeats, update=update))
    parts = iter(torch.split(y, [conv.out_channels for conv in convs], 1))
    y = torch.cat(
        [
            branch(x)
            if isinstance(branch, nn.Conv2d)
            else branch[3](next(parts).contiguous(memory_format=torch.channels_last))
            for branch in tcn.branches
        ],
        1,
    )
    norm, act, conv = tcn.transform
    y = _activate(act, batch_norm(y, [norm], repeats, update=update))
    dropped: Tensor = tcn.drop(_conv_norm([conv], [tcn.bn], y, repeats, update=update))
    return dropped


def _unit_tcn(tcn: unit_tcn, x: Tensor, repeats: int, *, update: bool) -> Tensor:
    y: Tensor = tcn.drop(_conv_norm([tcn.conv], [tcn.bn], x, repeats, update=update))
    return y


def _conv_norm(
    convs: Sequence[nn.Conv2d], norms: Sequence[BatchNorm], x: Tensor, repeats: int, *, update: bool
) -> Tensor:
    """Convolve and normalise, several pairs side by side as one, folded into one in eval mode."""
    first = convs[0]
    weight, bias = joined(convs, "weight"), joined(convs, "bias")
    if not norms[0].training:
        scale, shift = as_affine(norms)
        weight, bias = weight * scale.view(-1, 1, 1, 1), bias * scale + shift
    y = functional.conv2d(x, weight, bias, first.stride, first.padding, first.dilation)
    return batch_norm(y, norms, repeats, update=update) if norms[0].training else y


def _add(y: Tensor, other: Tensor | int) -> Tensor:
    """Add in place what no backward needs as it was; mmaction2's missing residual is the int 0."""
    if not isinstance(other, torch.Tensor):
        return y
    return y.add_(other) if y.dtype == other.dtype else y + other


def _activate(act: nn.Module, x: Tensor) -> Tensor:
    return x.relu_() if type(act) is nn.ReLU else act(x)


def _understood(backbone: STGCN) -> bool:
    norms = list(_norms(backbone))
    return all(supports(norm) for norm in norms) and len({norm.training for norm in norms}) == 1


def _norms(backbone: STGCN) -> Iterator[nn.Module]:
    """Yield the norm layers by their place, whatever they are."""
    if not isinstance(backbone.data_bn, nn.Identity):
        yield backbone.data_bn
    for module in backbone.modules():
        if isinstance(module, unit_gcn):
            yield module.bn
            if isinstance(getattr(module, "down", None), nn.Module):
                yield module.down[1]
        elif isinstance(module, unit_tcn) and not isinstance(module.bn, nn.Identity):
            yield module.bn
        elif isinstance(module, mstcn):
            yield from (module.bn, module.transform[0])
            yield from (b[1] for b in module.branches if isinstance(b, nn.Sequential))


def _has_dropout(backbone: STGCN) -> bool:
    return any(isinstance(m, nn.Dropout) and m.training and m.p > 0 for m in backbone.modules())
