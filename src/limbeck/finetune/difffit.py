"""DiffFit (Xie et al. 2023): which parameters of a denoiser are trained, and the scales that are added to it for that.

A scale multiplies the output of a block's attention or feed-forward network, one factor per channel, and starts at 1. It stands
behind the last linear layer, so folding it into that layer gives a plain model of the same function.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from diffusers.models.attention import BasicTransformerBlock
from torch import Tensor, nn

TABLE = "embedding_table"
SCALE = "scale"


class Scaled(nn.Module):
    """A linear layer whose output is multiplied by a learnable factor per channel."""

    def __init__(self, linear: nn.Linear):
        super().__init__()
        self.linear, self.scale = linear, nn.Parameter(torch.ones_like(linear.weight[:, 0]))

    def forward(self, x: Tensor) -> Tensor:
        """(..., in) to (..., out)."""
        return self.scale * self.linear(x)

    @torch.no_grad()
    def folded(self) -> nn.Linear:
        """The linear layer with the factors in its weight and bias; the same function."""
        self.linear.weight.mul_(self.scale[:, None])
        if self.linear.bias is not None:
            self.linear.bias.mul_(self.scale)
        return self.linear


@dataclass(frozen=True)
class Counts:
    """How many parameters a denoiser has and which of them are trained: biases, norms and scales; class tables; everything else."""

    total: int
    light: int
    tables: int
    other: int

    def __str__(self) -> str:
        shares = ((self.light, "biases, norms, scales"), (self.tables, "class tables"), (self.other, "others"))
        parts = ", ".join(f"{count:,} {name} ({count / self.total:.2%})" for count, name in shares if count)
        return f"{parts} of {self.total:,} parameters are trained"


def add_scales(model: nn.Module) -> None:
    """Put a scale behind every attention and feed-forward network of the transformer blocks.

    Raises
    ------
    ValueError: a model without such blocks.
    """
    found = [block for block in model.modules() if isinstance(block, BasicTransformerBlock)]
    if not found:
        raise ValueError(f"{type(model).__name__} has no transformer blocks that DiffFit could scale")
    for block in found:
        for layers in _last_linears(block):
            at, linear = _last(layers)
            layers[at] = Scaled(linear)


def fold_scales(model: nn.Module) -> None:
    """Undo :func:`add_scales`, the function unchanged."""
    for block in model.modules():
        if isinstance(block, BasicTransformerBlock):
            for layers in _last_linears(block):
                for at, layer in enumerate(layers):
                    if isinstance(layer, Scaled):
                        layers[at] = layer.folded()


def choose(model: nn.Module, mode: Literal["difffit", "full"]) -> Counts:
    """Let exactly those parameters require gradients that are trained; ``difffit`` needs :func:`add_scales` before.

    difffit: biases, the weights of normalisation layers, scales, class tables. The modulation ``norm1.linear`` of a DiT's adaptive
    norms is a linear layer, 30 % of DiT-XL/2: of it the bias alone.
    """
    norms = {id(p) for module in model.modules() if isinstance(module, nn.LayerNorm | nn.GroupNorm) for p in module.parameters()}
    total = light = tables = other = 0
    for name, parameter in model.named_parameters():
        leaf, n = name.rsplit(".", 1)[-1], parameter.numel()
        table, small = f"{TABLE}." in name, leaf in ("bias", SCALE) or id(parameter) in norms
        parameter.requires_grad_(mode == "full" or table or small)
        total += n
        light, tables = light + n * (small and not table), tables + n * table
        other += n * (mode == "full" and not (table or small))
    return Counts(total, light, tables, other)


def trained(model: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters that require gradients, by name."""
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


def named(model: nn.Module) -> list[str]:
    """A line for the trained parameters of each kind, the blocks' numbers left out: name, how many, shape."""
    kinds: dict[str, list[Tensor]] = {}
    for name, parameter in trained(model).items():
        kinds.setdefault(re.sub(r"\.\d+\.(?=.*\.)", ".*.", name, count=1), []).append(parameter)
    return [f"{name}: {len(found)} x {tuple(found[0].shape)}" for name, found in kinds.items()]


def apply(model: nn.Module, delta: dict[str, Tensor]) -> None:
    """Put a stored delta onto the base's denoiser: DiffFit's trained values, then the scales folded in.

    Raises
    ------
    ValueError: a delta that does not belong to this denoiser.
    """
    add_scales(model)
    unknown = set(delta) - set(dict(model.named_parameters()))
    if unknown:
        raise ValueError(f"the delta has {min(unknown)!r}, which this denoiser has not")
    model.load_state_dict(delta, strict=False)
    fold_scales(model)


def _last_linears(block: BasicTransformerBlock) -> Iterator[nn.ModuleList]:
    """The lists that end with the last linear layer of a block's attentions and feed-forward network."""
    for attention in (block.attn1, block.attn2):
        if attention is not None:
            yield attention.to_out
    yield block.ff.net


def _last(layers: nn.ModuleList) -> tuple[int, nn.Linear]:
    return [(at, layer) for at, layer in enumerate(layers) if isinstance(layer, nn.Linear)][-1]
