"""The noise levels of training: any timestep of a prior's schedule, each image its own."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from limbeck.diffusion.levels import Level, variance_preserving


@dataclass(frozen=True)
class Schedule:
    """abar: (T,) float64, the cumulative products of the training table. prediction: epsilon or v_prediction."""

    abar: Tensor
    prediction: str

    @classmethod
    def of(cls, scheduler: Any) -> "Schedule":
        """That of one of diffusers' variance-preserving schedulers."""
        return cls(scheduler.alphas_cumprod.double(), scheduler.config.prediction_type)

    def __len__(self) -> int:
        return len(self.abar)

    def level(self, t: Tensor) -> Level:
        """The levels of timesteps (N,), to be broadcast over latents; -1 is the level of clean latents."""
        abar = torch.where(t < 0, torch.ones((), dtype=self.abar.dtype), self.abar[t.clamp(min=0)])
        return variance_preserving(abar.float().view(-1, 1, 1, 1), self.prediction)

    def noised(self, z0: Tensor, eps: Tensor, t: Tensor) -> Tensor:
        """z_t (IMS3 Eq. 4)."""
        level = self.level(t)
        return level.alpha * z0 + level.sigma * eps

    def wanted(self, z0: Tensor, eps: Tensor, t: Tensor) -> Tensor:
        """What the model should predict at z_t."""
        level = self.level(t)
        return eps if self.prediction == "epsilon" else level.alpha * eps - level.sigma * z0


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
