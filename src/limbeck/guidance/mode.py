"""Mode guidance (MGD): pull the predicted clean latent towards a prototype of its class.

Source: Chan-Santiago et al. 2025 (MGD3), restated as g_mode in ManifoldGD Sec. 3.2; reading in docs/methods/mgd.md.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from limbeck.guidance.base import Hook, Step, Targets


@dataclass(frozen=True)
class ModeGuidance:
    """-lambda w(r) r with r = x0_hat - c during the first ``t_stop`` steps, then nothing.

    target: c, (N, C, H, W), one prototype per image, in scaled latents. bandwidth: s, (N,), of the Laplace and IMQ kernels.
    """

    target: Tensor
    weight: float
    t_stop: int
    hook: Hook
    recompute_noise: bool
    kernel: str = "rbf"
    bandwidth: Tensor | None = None

    def __call__(self, step: Step, x_t: Tensor, x0_hat: Tensor) -> Tensor | None:  # noqa: ARG002
        if step.index >= self.t_stop:
            return None
        r = x0_hat - self.target  # r = x0_hat - c: both are clean latents, x_t is not
        return -self.weight * self._kernel_weight(r) * r

    def _kernel_weight(self, r: Tensor) -> Tensor | float:
        """phi'(|r|) / |r| relative to the RBF's (ManifoldGD Sec. 3.2, footnote 1): (N, 1, 1, 1), or 1."""
        if self.kernel == "rbf":
            return 1.0
        assert self.bandwidth is not None
        norm = r.flatten(1).norm(dim=1)
        if self.kernel == "laplace":
            # clipped so that one step never overshoots the prototype
            w = self.bandwidth / norm.clamp_min(torch.finfo(norm.dtype).tiny)
            w = w.clamp_max(1 / self.weight) if self.weight else torch.zeros_like(w)
        else:
            w = 1 / (1 + norm**2 / (2 * self.bandwidth**2))
        return w.view(-1, 1, 1, 1)


def build(options: dict, targets: Targets, solver: str) -> ModeGuidance:
    """From resolved options and the batch's prototypes."""
    target, bandwidth = targets.prototype(options["target"]), options["bandwidth"]
    return ModeGuidance(
        target=target,
        weight=options["weight"],
        t_stop=options["t_stop"],
        hook="posterior" if solver == "ddpm" else "combined",
        recompute_noise=options["noise"] == "recompute",
        kernel=options["kernel"],
        bandwidth=targets.spread(options["target"]) if bandwidth is None else target.new_full((len(target),), bandwidth),
    )
