"""A guidance depends on nothing but a solver step and its targets; the sampling loop applies it at its hook."""

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Literal, Protocol

import torch
from torch import Tensor

from limbeck.diffusion.levels import Level

Hook = Literal["cond", "combined", "posterior"]


@dataclass(frozen=True)
class Step:
    """Where the solver is. index: 0 for the first (noisiest) of ``steps``."""

    index: int
    steps: int
    level: Level


class Guidance(Protocol):
    """Corrects the predicted clean latent.

    hook ``cond``: x0_hat of the conditional branch += correction, before classifier-free guidance; ``combined``: x0_hat +=
    correction, after it; ``posterior``: the mean of x_{t-1} += correction times the posterior's standard deviation (DDPM).
    ``recompute_noise``: whether the predicted noise follows the corrected x0_hat.
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
    to them. Members alone where the chosen images were re-encoded. tangents: for manifold guidance.
    """

    members: Tensor
    centroids: Tensor | None = None
    centroid_spread: Tensor | None = None
    member_spread: Tensor | None = None
    tangents: Tangents | None = None

    def to(self, where: torch.device) -> "Targets":
        """On a device; tangent spaces follow the latents that they are asked for."""
        moved = {f.name: v.to(where) for f in fields(self) if isinstance(v := getattr(self, f.name), Tensor)}
        return replace(self, **moved)  # type: ignore[arg-type]

    def prototype(self, target: str) -> Tensor:
        """The prototypes by the option's name."""
        found = self.centroids if target == "centroid" else self.members
        assert found is not None
        return found

    def spread(self, target: str) -> Tensor | None:
        """Their bandwidths by default."""
        return self.centroid_spread if target == "centroid" else self.member_spread
