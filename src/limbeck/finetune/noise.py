"""DDIM inversion between two levels of training, and the bound of a learned variance."""

import torch
from torch import Tensor

from limbeck.diffusion.schedule import Schedule


def invert(schedule: Schedule, z: Tensor, output: Tensor, t: Tensor, above: Tensor) -> Tensor:
    """One step of DDIM inversion (D3HR Eq. 3) from level ``t`` to ``above``, both (N,), by the model's ``output`` at ``t``.

    Clean latents, t = -1, have no timestep of their own: the model is asked at 0.
    """
    below, next_, asked = schedule.level(t), schedule.level(above), schedule.level(t.clamp(min=0))
    ratio = next_.alpha / below.alpha
    return ratio * z + (next_.sigma - ratio * below.sigma) * asked.noise(z, output)


def variance_bound(schedule: Schedule, z0: Tensor, z: Tensor, output: Tensor, variance: Tensor, t: Tensor) -> Tensor:
    """(N,) the variational bound of a learned variance, bits per dimension, the mean held fixed (Nichol & Dhariwal 2021, Eq. 16).

    DiT is trained by the mean squared error plus this, so fine-tuning without it would let its variances drift.
    """
    abar = schedule.abar
    before = torch.cat([torch.ones(1, dtype=abar.dtype), abar[:-1]])
    beta = 1 - abar / before
    posterior = beta * (1 - before) / (1 - abar)
    # the posterior of the first step has none: as the release does, that of the second
    posterior = torch.cat([posterior[1:2], posterior[1:]])
    to_clean = torch.sqrt(before) * beta / (1 - abar)

    def of(values: Tensor) -> Tensor:
        return values[t].float().view(-1, 1, 1, 1)

    low, high = of(posterior.log()), of(beta.log())
    learned = low + (variance + 1) / 2 * (high - low)
    shift = of(to_clean) * (z0 - schedule.level(t).clean(z, output.detach()))
    divergence = 0.5 * (learned - low - 1 + torch.exp(low - learned) + shift**2 * torch.exp(-learned))
    bits = divergence.flatten(1).mean(1) / torch.log(torch.tensor(2.0))
    # ASSUME: the release's discretised likelihood of the first step is one of 8-bit pixels; latents have none
    return torch.where(t > 0, bits, torch.zeros_like(bits))
