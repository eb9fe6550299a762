"""What is minimised while a prior is tuned: the diffusion loss, and beside it inversion matching or Minimax's two criteria.

A criterion is called with a batch and returns its terms (N,) by name, already weighted; their sum is the loss.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from limbeck.diffusion.schedule import Schedule
from limbeck.finetune.noise import invert, variance_bound

# (z_t, timesteps, labels) -> the model's output, raw variance output or None
Model = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor | None]]
Terms = dict[str, Tensor]


@dataclass(frozen=True)
class Batch:
    """clean, noise: (N, C, H, W). t: (N,) timesteps. classes: (N,) of the dataset. labels: (N,) the prior's. dropped: those with
    some replaced by the null label.
    """

    clean: Tensor
    noise: Tensor
    t: Tensor
    classes: Tensor
    labels: Tensor
    dropped: Tensor


class Criterion(Protocol):
    """See the module. ``state`` is what must be kept to go on after an interruption."""

    state: dict[str, Tensor]

    def __call__(self, model: Model, batch: Batch) -> Terms:
        """The weighted terms of a batch."""
        ...


def flat_cosine(a: Tensor, b: Tensor) -> Tensor:
    """(N,) cosine similarity of flattened samples."""
    return F.cosine_similarity(a.flatten(1), b.flatten(1), dim=1)


DISTANCES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "cosine": lambda a, b: 1 - flat_cosine(a, b),
    "l1": lambda a, b: (a - b).abs().flatten(1).mean(1),
    "l2": lambda a, b: (a - b).square().flatten(1).mean(1),
}


@dataclass
class Diffusion:
    """The diffusion loss alone, mean over dimensions (IMS3 Eq. 6), with the variational bound of a learned variance."""

    schedule: Schedule

    def __post_init__(self) -> None:
        self.state: dict[str, Tensor] = {}

    def __call__(self, model: Model, batch: Batch) -> Terms:
        z = self.schedule.noised(batch.clean, batch.noise, batch.t)
        return self.terms(batch, z, *model(z, batch.t, batch.dropped))

    def terms(self, batch: Batch, z: Tensor, output: Tensor, variance: Tensor | None) -> Terms:
        """Of the model's output at z_t."""
        wanted = self.schedule.wanted(batch.clean, batch.noise, batch.t)
        terms = {"diffusion": (output - wanted).square().flatten(1).mean(1)}
        if variance is not None:
            terms["variance"] = variance_bound(self.schedule, batch.clean, z, output, variance, batch.t)
        return terms


@dataclass
class InversionMatching(Diffusion):
    """IMS3's inversion matching (Eqs. 5, 7).

    z_t depends on no weight, so the gradient must come through the inversion: its last step is differentiated, those before it are
    taken without gradient.

    weight: lambda. distance: 1 - cosine, or Table 7's l1 and l2. steps: of the inversion, evenly from clean latents to t.
    variant: released: one step without gradient, matched to the mean of the model's posterior of z_(t-1).
    """

    weight: float
    distance: str
    steps: int
    variant: Literal["paper", "released"]

    def __call__(self, model: Model, batch: Batch) -> Terms:
        schedule, z_t = self.schedule, self.schedule.noised(batch.clean, batch.noise, batch.t)
        if self.variant == "released":
            output, variance = model(z_t, batch.t, batch.dropped)
            # ASSUME: the inverted latent stands where the posterior's mean does, a step below z_t
            inverted = self.inverted(model, batch, batch.t - 1, 1)
            matched = self._posterior_mean(z_t, output, batch.t)
        else:
            *_, below = rungs = self._rungs(batch.t, self.steps)
            z = self._climb(model, batch, rungs)
            # one evaluation for both: the last step of the inversion, and the prediction at z_t
            asked = torch.cat([below.clamp(min=0), batch.t])
            out, var = model(torch.cat([z, z_t]), asked, torch.cat([batch.labels, batch.dropped]))
            (last, output), variance = out.chunk(2), None if var is None else var.chunk(2)[1]
            inverted, matched = invert(schedule, z, last, below, batch.t), z_t
        return {
            **self.terms(batch, z_t, output, variance),
            "matching": self.weight * DISTANCES[self.distance](inverted, matched),
        }

    def inverted(self, model: Model, batch: Batch, t: Tensor, steps: int) -> Tensor:
        """z_t^inv at level ``t`` by class-conditional DDIM inversion in ``steps`` steps, without gradient."""
        return self._climb(model, batch, [*self._rungs(t, steps), t])

    @staticmethod
    def _rungs(t: Tensor, steps: int) -> list[Tensor]:
        """Levels of the inversion below ``t``, each (N,): clean latents (-1), then evenly up."""
        return [torch.full_like(t, -1), *((t * k) // steps for k in range(1, steps))]

    @torch.no_grad()
    def _climb(self, model: Model, batch: Batch, rungs: list[Tensor]) -> Tensor:
        """The latents on the last of ``rungs``."""
        z = batch.clean
        for below, above in pairwise(rungs):
            z = invert(self.schedule, z, model(z, below.clamp(min=0), batch.labels)[0], below, above)
        return z

    def _posterior_mean(self, z: Tensor, output: Tensor, t: Tensor) -> Tensor:
        """Mean of q(z_(t-1) | z_t, x0_hat) (Ho et al. 2020, Eq. 7)."""
        at, before = self.schedule.level(t), self.schedule.level(t - 1)
        step = at.alpha / before.alpha
        noise = at.sigma**2
        return (before.alpha * (1 - step**2) * at.clean(z, output) + step * before.sigma**2 * z) / noise


@dataclass
class Minimax(Diffusion):
    """MinimaxDiffusion's criteria (Gu et al. 2024): representativeness and diversity of the predicted clean latent.

    Each class remembers its last ``memory`` real latents and predictions: the prediction should be near even the least similar real
    one, and far from the most similar earlier prediction.
    """

    representativeness: float
    diversity: float
    memory: int
    classes: int

    def __call__(self, model: Model, batch: Batch) -> Terms:
        z = self.schedule.noised(batch.clean, batch.noise, batch.t)
        output, variance = model(z, batch.t, batch.dropped)
        predicted = self.schedule.level(batch.t).clean(z, output)
        if not self.state:
            empty = torch.zeros(self.classes, self.memory, predicted[0].numel())
            self.state = {"real": empty, "predicted": empty.clone(), "seen": torch.zeros(self.classes, dtype=torch.int64)}
        near = [1 - found.min() if len(found) else found.sum() for found in self._remembered("real", predicted, batch)]
        far = [found.max() if len(found) else found.sum() for found in self._remembered("predicted", predicted, batch)]
        self._remember(batch, predicted.detach())
        return {
            **self.terms(batch, z, output, variance),
            "representativeness": self.representativeness * torch.stack(near),
            "diversity": self.diversity * torch.stack(far),
        }

    def _remembered(self, which: str, predicted: Tensor, batch: Batch) -> list[Tensor]:
        """Each prediction's cosines to what its class remembers."""
        out = []
        for one, label in zip(predicted.flatten(1), batch.classes.tolist(), strict=True):
            known = self.state[which][label, : int(self.state["seen"][label])]
            out.append(F.cosine_similarity(one[None], known, dim=1))
        return out

    def _remember(self, batch: Batch, predicted: Tensor) -> None:
        """First in, first out."""
        for row, label in enumerate(batch.classes.tolist()):
            at = int(self.state["seen"][label]) % self.memory
            self.state["real"][label, at] = batch.clean[row].flatten()
            self.state["predicted"][label, at] = predicted[row].flatten()
            self.state["seen"][label] += 1
