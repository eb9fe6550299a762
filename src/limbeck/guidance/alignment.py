"""CoDA's distribution alignment: pull the conditional prediction towards a real representative, before CFG.

Source: CoDA Sec. 3.2, Eqs. 4-7; reading in docs/methods/coda.md.
"""

from dataclasses import dataclass

from torch import Tensor

from limbeck.guidance.base import Hook, Step, Targets


@dataclass(frozen=True)
class AlignmentGuidance:
    """gamma (s_j - x0_hat) on the conditional branch, but for the last ``prior_injection_steps`` steps (Eq. 5).

    The loop turns it into the output that belongs to it, Eq. 7 (under flow matching into a velocity), so that
    x0_new = (1 - gamma) x0_hat + gamma s_j.
    target: s_j, (N, C, H, W). released: the authors' code multiplies by the solver's sigma (sqrt((1 - abar) / abar)) on top.
    """

    target: Tensor
    gamma: float
    prior_injection_steps: int
    released: bool = False
    hook: Hook = "cond"
    recompute_noise: bool = True

    def __call__(self, step: Step, x_t: Tensor, x0_hat: Tensor) -> Tensor | None:  # noqa: ARG002
        if not self.gamma or step.index >= step.steps - self.prior_injection_steps:
            return None
        scale = step.level.solver_sigma if self.released else 1.0
        return self.gamma * scale * (self.target - x0_hat)


def build(options: dict, targets: Targets, solver: str) -> AlignmentGuidance:  # noqa: ARG001
    """From resolved options and the batch's representatives."""
    return AlignmentGuidance(
        targets.prototype(options["target"]), options["gamma"], options["prior_injection_steps"], options["alignment"] == "released"
    )
