"""A guidance depends on nothing but a solver step and its targets; the sampling loop applies it at its hook."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

from torch import Tensor

Hook = Literal["cond", "combined", "posterior"]


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

    hook ``cond``: x0_hat of the conditional branch += correction, before classifier-free guidance; ``combined``: x0_hat +=
    correction, after it; ``posterior``: the mean of x_{t-1} += correction * sigma.
    ``recompute_noise``: whether eps follows the corrected x0_hat.
    """

    hook: Hook
    recompute_noise: bool

    def __call__(self, step: Step, x_t: Tensor, x0_hat: Tensor) -> Tensor | None:
        """The correction (N, C, H, W) of x0_hat, or None where the guidance is not active."""
        ...


# (step, x_t (N, C, H, W)) -> orthonormal bases (N, D, d) and a point (N, D) of each local plane, in the scale of x_t
Tangents = Callable[[Step, Tensor], tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Targets:
    """What the images of one batch are guided by.

    centroids, members: (N, C, H, W) prototypes. centroid_spread, member_spread: (N,) median distance of the class's latents
    to them. tangents: for manifold guidance.
    """

    centroids: Tensor
    members: Tensor
    centroid_spread: Tensor
    member_spread: Tensor
    tangents: Tangents | None = None

    def prototype(self, target: str) -> Tensor:
        """The prototypes by the option's name."""
        return self.centroids if target == "centroid" else self.members

    def spread(self, target: str) -> Tensor:
        """Their bandwidths by default."""
        return self.centroid_spread if target == "centroid" else self.member_spread
