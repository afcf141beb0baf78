"""The token transformer of SDPose: keypoint tokens and image patches, mixed in cycles.

One set of blocks runs over the same sequence again and again: a cycle's whole output is the
next one's input. The keypoint tokens come first in the sequence. The position table is fixed
and is added to the patches before every block of every cycle, except that the first block finds
it already added in cycle 1 and does without in the others.

Source: SDPose (CVPR 2024); tokens and "sine-full" position after TokenPose (ICCV 2021).
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional


def sine_table(rows: int, columns: int, dims: int) -> Tensor:
    """Return the fixed position of every token of a grid, (1, rows * columns, dims).

    Half of the dimensions code the row r, half the column c, counted from 0: entry k of the
    first half is sin(Y / w) for even k and cos(Y / w) for odd k, with
    Y = 2 pi (r + 1) / (rows + 1e-6) and w = 10000^(2 floor(k / 2) / (dims / 2)).

    Raises:
        ValueError: dims that 4 does not divide: sines and cosines come in pairs for both halves.

    """
    if dims % 4:
        raise ValueError(f"sine table: expected dims divisible by 4, got {dims}")
    half = dims // 2
    pair = torch.arange(half, dtype=torch.float64) // 2
    wavelength = 10000 ** (2 * pair / half)  # (half,)
    even = torch.arange(half) % 2 == 0

    def encode(count: int) -> Tensor:  # (count, half)
        steps = torch.arange(1, count + 1, dtype=torch.float64)
        angle = (2 * math.pi / (count + 1e-6) * steps)[:, None] / wavelength
        return torch.where(even, angle.sin(), angle.cos())

    by_row = encode(rows)[:, None].expand(rows, columns, half)
    by_column = encode(columns)[None].expand(rows, columns, half)
    return torch.cat([by_row, by_column], -1).reshape(1, rows * columns, dims).float()


class Attention(nn.Module):
    """Multi-head self-attention, (B, T, D) -> (B, T, D); no attention map is kept."""

    def __init__(self, dims: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dims, 3 * dims, bias=False)
        self.projection = nn.Linear(dims, dims)

    def forward(self, x: Tensor, first: int | None = None) -> Tensor:
        """Return what every token gathered, or only the ``first`` ones."""
        if first is None:
            query, key, value = torch.unflatten(self.qkv(x), -1, (3, self.heads, -1)).unbind(2)
        else:
            dims = x.shape[-1]
            query = functional.linear(x[:, :first], self.qkv.weight[:dims])
            query = torch.unflatten(query, -1, (self.heads, -1))
            both = functional.linear(x, self.qkv.weight[dims:])
            key, value = torch.unflatten(both, -1, (2, self.heads, -1)).unbind(2)
        gathered = functional.scaled_dot_product_attention(
            query.transpose(1, 2), key.transpose(1, 2), value.transpose(1, 2)
        )  # (B, heads, T, D / heads)
        return self.projection(gathered.transpose(1, 2).flatten(2))  # type: ignore[no-any-return]


class Block(nn.Module):
    """A pre-norm transformer block, (B, T, D) -> (B, T, D)."""

    def __init__(self, dims: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(dims)
        self.attention = Attention(dims, heads)
        self.mlp_norm = nn.LayerNorm(dims)
        self.mlp = nn.Sequential(nn.Linear(dims, hidden), nn.GELU(), nn.Linear(hidden, dims))

    def forward(self, x: Tensor, first: int | None = None) -> Tensor:
        """Return the tokens after the block, or only the ``first`` ones (they see them all)."""
        gathered = self.attention(self.attention_norm(x), first)
        x = (x if first is None else x[:, :first]) + gathered
        return x + self.mlp(self.mlp_norm(x))  # type: ignore[no-any-return]


class TokenTransformer(nn.Module):
    """Feature map -> token sequence (B, J + P, D), and the cycles over it.

    Args:
        in_channels: channels of the feature map.
        patch_size: (rows, columns) of a patch.
        grid: (rows, columns) of patches, P = rows * columns.
        num_keypoints: J, the keypoint tokens in front.
        dims: D.
        depth: blocks.
        heads: attention heads; they divide D.
        hidden: width inside the MLP.

    """

    table: Tensor

    def __init__(  # noqa: PLR0913
        self,
        *,
        in_channels: int,
        patch_size: tuple[int, int],
        grid: tuple[int, int],
        num_keypoints: int,
        dims: int,
        depth: int,
        heads: int,
        hidden: int,
    ) -> None:
        super().__init__()
        self.patch_embedding = nn.Conv2d(in_channels, dims, patch_size, stride=patch_size)
        self.keypoint_tokens = nn.Parameter(torch.zeros(1, num_keypoints, dims))
        nn.init.trunc_normal_(self.keypoint_tokens, std=0.02)
        # Zeros in front let one addition reach the whole sequence: keypoints have no position.
        table = torch.cat([torch.zeros(1, num_keypoints, dims), sine_table(*grid, dims)], 1)
        self.register_buffer("table", table, persistent=False)  # (1, J + P, D)
        self.blocks = nn.ModuleList(Block(dims, heads, hidden) for _ in range(depth))

    def embed(self, features: Tensor) -> Tensor:
        """Return the sequence (B, J + P, D) that cycle 1 starts from."""
        patches = self.patch_embedding(features).flatten(2).transpose(1, 2)  # (B, P, D)
        tokens = self.keypoint_tokens.expand(features.shape[0], -1, -1)  # (B, J, D)
        return torch.cat([tokens, patches], 1) + self.table

    def cycle(self, sequence: Tensor, first: int | None = None) -> Tensor:
        """Run all blocks once on (B, J + P, D).

        Args:
            sequence: as ``embed`` or an earlier cycle gave it.
            first: how many tokens to return; the last block computes no others.

        """
        last = len(self.blocks) - 1
        for index, block in enumerate(self.blocks):
            if index:
                sequence = sequence + self.table
            sequence = block(sequence, first if index == last else None)
        return sequence
