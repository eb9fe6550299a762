"""Typicality of every place of an image: how much its class helps the prior to denoise it.

    R = E_{t, eps}[ L_t(z, eps, null) - L_t(z, eps, class) ],   L_t(z, eps, c) = |eps_hat(z_t, t, c) - eps|²   (Eqs. 2, 3)

Source: diffusion-driven patch selection. Higher is more typical of the class: the sign of the printed Eq. 6 contradicts the argmax
of Algorithm 1. Both branches see the same noise; its levels are those of ``diffusion.schedule`` (the printed Eq. 1 misses a root).
"""

from collections.abc import Callable
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from limbeck.diffusion.schedule import Schedule

# (x_t (N, C, H, W), timesteps (N,), labels (N,)) -> the model's output, and its variance or None
Denoiser = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor | None]]


def timesteps(
    rng: np.random.Generator, draws: int, t_range: tuple[float, float], steps: int, rule: Literal["uniform", "stratified"]
) -> np.ndarray:
    """(draws,) timesteps of one image.

    t_range: as shares of the ``steps`` of training. uniform: independent (the paper); stratified: one in each of ``draws`` equal
    parts of the range, which leaves the expectation and takes the spread between parts out of its estimate.
    """
    u = rng.random(draws)
    share = (np.arange(draws) + u) / draws if rule == "stratified" else u
    low, high = t_range
    return np.minimum((steps * (low + (high - low) * share)).astype(np.int64), steps - 1)


@torch.inference_mode()
def typicality(
    denoise: Denoiser,
    schedule: Schedule,
    z: Tensor,
    labels: Tensor,
    null: int,
    times: Tensor,
    noise: Callable[[int], Tensor],
) -> Tensor:
    """Maps (N, H, W) of latents (N, C, H, W): squared errors are summed over channels, averaged over draws.

    Parameters
    ----------
    labels: (N,) the prior's own. times: (N, draws) timesteps. noise: draw -> (N, C, H, W); a draw is in memory at a time.
    """
    total = torch.zeros(len(z), *z.shape[2:], dtype=torch.float64)
    both = torch.cat([labels, torch.full_like(labels, null)])
    for draw, t in enumerate(times.T):
        eps = noise(draw)
        x = schedule.noised(z, eps, t)
        output, _ = denoise(torch.cat([x, x]), torch.cat([t, t]), both)
        level = schedule.level(t)
        known, unknown = (((level.noise(x, branch) - eps) ** 2).sum(dim=1) for branch in output.chunk(2))
        total += unknown - known
    return (total / times.shape[1]).float()
