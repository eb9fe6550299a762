"""The noise levels of training: any timestep of a prior's schedule, each image its own."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from limbeck.diffusion.levels import Level, flow, variance_preserving

FLOW = "flow"


@dataclass(frozen=True)
class Schedule:
    """abar: (T,) float64, the cumulative products of the training table, alpha² under flow matching. prediction: epsilon,
    v_prediction or flow.
    """

    abar: Tensor
    prediction: str

    @classmethod
    def of(cls, scheduler: Any) -> "Schedule":
        """That of one of diffusers' schedulers. Under flow matching timestep t is asked at sigma = t / T, without a shift."""
        if not hasattr(scheduler, "alphas_cumprod"):
            steps = scheduler.config.num_train_timesteps
            return cls((1 - torch.arange(steps, dtype=torch.float64) / steps) ** 2, FLOW)
        return cls(scheduler.alphas_cumprod.double(), scheduler.config.prediction_type)

    def __len__(self) -> int:
        return len(self.abar)

    def level(self, t: Tensor) -> Level:
        """The levels of timesteps (N,), to be broadcast over latents; -1 is the level of clean latents."""
        abar = torch.where(t < 0, torch.ones((), dtype=self.abar.dtype), self.abar[t.clamp(min=0)]).view(-1, 1, 1, 1)
        return flow((1 - abar.sqrt()).float()) if self.prediction == FLOW else variance_preserving(abar.float(), self.prediction)

    def noised(self, z0: Tensor, eps: Tensor, t: Tensor) -> Tensor:
        """z_t (IMS3 Eq. 4)."""
        level = self.level(t)
        return level.alpha * z0 + level.sigma * eps

    def wanted(self, z0: Tensor, eps: Tensor, t: Tensor) -> Tensor:
        """What the model should predict at z_t."""
        if self.prediction == FLOW:
            return eps - z0
        level = self.level(t)
        return eps if self.prediction == "epsilon" else level.alpha * eps - level.sigma * z0
