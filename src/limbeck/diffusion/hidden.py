"""What a block inside the denoiser makes of noised latents: diffusion features (DIFT, Tang et al. 2023)."""

from contextlib import suppress
from typing import Any

import torch
from torch import Tensor

from limbeck.devices import joined
from limbeck.errors import LimbeckError
from limbeck.priors.base import Prior


class _Reached(Exception):
    """The block has been evaluated; what follows it is not needed."""


def block_of(prior: Prior, number: int | None) -> int:
    """The block that is meant, or the middle one of a transformer and the second of a UNet's upward path (as DIFT) for None.

    Raises
    ------
    LimbeckError: the prior has no such block.
    """
    blocks = prior.blocks
    if number is None:
        return min(1, len(blocks) - 1) if blocks and hasattr(blocks[0], "resnets") else len(blocks) // 2
    if number >= len(blocks):
        raise LimbeckError(f"dift_block: {number} is beyond the denoiser's {len(blocks)} blocks; name one below {len(blocks)}")
    return number


@torch.inference_mode()
def hidden(prior: Prior, x: Tensor, t: Tensor, labels: Tensor, block: int) -> Tensor:
    """(N, D) outputs of a block at x_t (N, C, H, W), timesteps (N,) and labels (N,), averaged over places.

    The network is left behind the block.
    """
    found: list[Tensor] = []

    def keep(module: Any, given: Any, output: Any) -> None:  # noqa: ARG001
        found.append(output[-1] if isinstance(output, tuple) else output)
        raise _Reached

    def once(x: Tensor, t: Tensor, labels: Tensor) -> Tensor:
        found.clear()
        with suppress(_Reached):
            prior.ask(x, t, labels)
        values = found[0].to(x.device, torch.float32)
        # ASSUME: the paper does not say how a patch's feature map becomes one vector; its mean is free of where things lie
        return values.flatten(2).mean(dim=2) if values.ndim == 4 else values.mean(dim=1)

    handle = prior.blocks[block].register_forward_hook(keep)
    try:
        return joined(prior.fitting(once, x, t, labels))
    finally:
        handle.remove()
