"""A guidance is a pure function of a solver step and its target; the sampling loop applies it at its hook."""

from dataclasses import dataclass
from typing import Literal, Protocol

from torch import Tensor

Hook = Literal["combined", "posterior"]


@dataclass(frozen=True)
class Step:
    """Where the solver is. ``abar`` and ``sigma`` belong to the step, not to a row of the noise table.

    index: 0 for the first (noisiest) of ``steps``; sigma: standard deviation of the posterior (0 for DDIM).
    """

    index: int
    steps: int
    abar: float
    sigma: float


class Guidance(Protocol):
    """Corrects the predicted clean latent.

    hook ``combined``: x0_hat += correction, after classifier-free guidance; ``posterior``: the mean of
    x_{t-1} += correction * sigma. ``recompute_noise``: whether eps follows the corrected x0_hat.
    """

    hook: Hook
    recompute_noise: bool

    def __call__(self, step: Step, x_t: Tensor, x0_hat: Tensor) -> Tensor | None:
        """The correction (N, C, H, W) of x0_hat, or None where the guidance is not active."""
        ...
