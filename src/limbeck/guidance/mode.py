"""Mode guidance (MGD): pull the predicted clean latent towards a prototype of its class.

Source: Chan-Santiago et al. 2025 (MGD3), restated as g_mode in ManifoldGD Sec. 3.2; reading in METHODS.md section 1.
"""

from dataclasses import dataclass

from torch import Tensor

from limbeck.guidance.base import Hook, Step


@dataclass(frozen=True)
class ModeGuidance:
    """-lambda * (x0_hat - c) during the first ``t_stop`` steps, then nothing.

    target: c, (N, C, H, W), one prototype per image, in scaled latents.
    """

    target: Tensor
    weight: float
    t_stop: int
    hook: Hook
    recompute_noise: bool

    def __call__(self, step: Step, x_t: Tensor, x0_hat: Tensor) -> Tensor | None:  # noqa: ARG002
        if step.index >= self.t_stop:
            return None
        return -self.weight * (x0_hat - self.target)  # r = x0_hat - c: both are clean latents, x_t is not


def build(options: dict, targets: dict[str, Tensor], solver: str) -> ModeGuidance:
    """From resolved options; ``targets`` has the prototypes' ``centroids`` and ``members``."""
    return ModeGuidance(
        target=targets["centroids" if options["target"] == "centroid" else "members"],
        weight=options["weight"],
        t_stop=options["t_stop"],
        hook="posterior" if solver == "ddpm" else "combined",
        recompute_noise=options["noise"] == "recompute",
    )
