"""Ball guidance: the predicted clean latent goes where it likes within a ball around its prototype, and no further."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from limbeck.config import Model

if TYPE_CHECKING:  # a plan reads the options, and starts without torch
    from torch import Tensor

    from limbeck.guidance.base import Hook, Step, Targets


class BallOptions(Model):
    """Ball guidance: what is farther from its prototype than a radius is brought back to it."""

    radius: float = Field(0.5, gt=0, description="of the ball: root mean square over the latent's dimensions")
    t_stop: int = Field(25, ge=0, description="guided steps, counted from the first")
    target: Literal["centroid", "member"] = Field("centroid", description="its centre: a cluster's mean, or nearest real latent")


@dataclass(frozen=True)
class BallGuidance:
    """min(1, radius / |r|) r - r with r = x0_hat - c. target: c, (N, C, H, W), one prototype per image."""

    target: Tensor
    radius: float
    t_stop: int
    hook: Hook = "combined"  # after classifier-free guidance
    recompute_noise: bool = True  # the noise follows x0_hat, so that both describe the same x_t

    def __call__(self, step: Step, x_t: Tensor, x0_hat: Tensor) -> Tensor | None:  # noqa: ARG002
        if step.index >= self.t_stop:
            return None
        r = x0_hat - self.target
        length = r.square().mean(dim=(1, 2, 3), keepdim=True).sqrt()
        return (self.radius / length).clamp(max=1) * r - r


def build(options: dict, targets: Targets, solver: str) -> BallGuidance:  # noqa: ARG001
    """From resolved options and the batch's prototypes."""
    return BallGuidance(targets.prototype(options["target"]), options["radius"], options["t_stop"])
