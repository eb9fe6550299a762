"""The guided sampling loop around diffusers' schedulers. It knows no method: guidances bring their own hook."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from diffusers.schedulers.scheduling_ddpm import DDPMScheduler
from torch import Tensor

from limbeck.diffusion.levels import levels
from limbeck.guidance.base import Guidance, Step

# (x_t, timestep, labels) -> the model's output (predicted noise, or velocity), raw variance output or None
Denoiser = Callable[[Tensor, float, Tensor], tuple[Tensor, Tensor | None]]
# step index -> one generator per image, for the noise of stochastic solvers
StepGenerators = Callable[[int], list[torch.Generator]]


def combine(cond: Tensor, null: Tensor, scale: float, channels: int | Literal["all"]) -> Tensor:
    """Classifier-free guidance out_null + w (out_cond - out_null) on the first ``channels`` latent channels or all.

    The channels left out keep the conditional prediction, as in DiT's own sampler.
    """
    guided = null + scale * (cond - null)
    if channels == "all":
        return guided
    return torch.cat([guided[:, :channels], cond[:, channels:]], dim=1)


def branches(
    denoise: Denoiser, x: Tensor, t: float, labels: Tensor, null: int, scale: float
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Conditional output, null output and the conditional branch's variance; at scale 1 the null branch is not evaluated."""
    if scale == 1:
        output, variance = denoise(x, t, labels)
        return output, None, variance
    both = torch.cat([labels, torch.full_like(labels, null)])
    output, variance = denoise(torch.cat([x, x]), t, both)
    cond, uncond = output.chunk(2)
    return cond, uncond, None if variance is None else variance.chunk(2)[0]


@dataclass(frozen=True)
class Sampled:
    """latents: (N, C, H, W). step_norms: |x_next - x_t|, x0_norms: |x0_hat| after guidance; both (N, steps)."""

    latents: Tensor
    step_norms: Tensor
    x0_norms: Tensor

    def checked(self) -> "Sampled":
        """Itself. Asked once at the end, so that no step waits for the device.

        Raises
        ------
        NotNumbersError: latents are no longer numbers; the first step that made them so is named.
        """
        if (bad := ~torch.isfinite(self.step_norms + self.x0_norms).all(dim=0)).any():
            raise NotNumbersError(f"the latents are not numbers from step {int(bad.nonzero()[0]) + 1} of {len(bad)} on")
        return self


class NotNumbersError(ArithmeticError):
    """See :meth:`Sampled.checked`."""


@torch.inference_mode()
def sample(
    denoise: Denoiser,
    scheduler: Any,
    noise: Tensor,
    labels: Tensor,
    *,
    null: int,
    cfg_scale: float,
    cfg_channels: int | Literal["all"] = "all",
    guidance: Sequence[Guidance] = (),
    generators: StepGenerators | None = None,
    start: int = 0,
) -> Sampled:
    """Denoise ``noise`` (N, C, H, W) to clean latents; it, and the guidances' targets, are on one device, and what comes out too.

    Parameters
    ----------
    scheduler: one of ``limbeck.priors.schedulers``, with its timesteps set.
    labels: (N,) the prior's labels.
    generators: of each step's fresh noise; needed by DDPM, ignored by the others.
    start: the step whose level ``noise`` has, 0 … steps. Those before it are left out, their norms are 0; guidances and generators
        still count steps on the whole grid.
    """
    stochastic = isinstance(scheduler, DDPMScheduler)
    x, timesteps, grid = noise, scheduler.timesteps, levels(scheduler)
    norms, x0_norms = ([x.new_zeros(len(x))] * start for _ in range(2))
    if start and hasattr(scheduler, "set_begin_index"):
        scheduler.set_begin_index(start)
    for index, t in enumerate(timesteps[start:], start):
        level, step = grid[index], Step(index, len(timesteps), grid[index])
        output, uncond, variance = branches(denoise, x, t.item(), labels, null, cfg_scale)
        for guide in guidance:
            if guide.hook == "cond" and (correction := guide(step, x, level.clean(x, output))) is not None:
                output = output + correction / level.from_output  # CoDA Eq. 7
        if uncond is not None:
            output = combine(output, uncond, cfg_scale, cfg_channels)
        x0_hat = level.clean(x, output)
        shift, guided = torch.zeros_like(x), x0_hat
        for guide in guidance:
            if guide.hook == "cond" or (correction := guide(step, x, x0_hat)) is None:
                continue
            if guide.hook == "posterior":
                shift = shift + correction * _posterior_std(scheduler, int(t), variance)
                continue
            guided = guided + correction
            if guide.recompute_noise:
                # the output that belongs to x0_hat + correction at this x_t; exactly the same where the correction is 0
                output = output + correction / level.from_output
            else:
                # x_next = alpha_next x0 + sigma_next eps: moving x0 alone moves x_next by this
                shift = shift + grid[index + 1].alpha * correction
        if stochastic and variance is not None:
            output = torch.cat([output, variance], dim=1)
        noise_of = {"generator": generators(index) if generators else None} if stochastic else {}
        following = scheduler.step(output, t, x, **noise_of).prev_sample + shift
        norms.append((following - x).flatten(1).norm(dim=1))
        x0_norms.append(guided.flatten(1).norm(dim=1))
        x = following
    return Sampled(x, torch.stack(norms, dim=1), torch.stack(x0_norms, dim=1))


def _posterior_std(scheduler: Any, t: int, variance: Tensor | None) -> Tensor:
    """Standard deviation of p(x_{t-1} | x_t) under the scheduler's own variance rule; a scalar, or (N, C, H, W) if learned."""
    # diffusers has no public accessor; for a learned range it returns the log variance
    value = scheduler._get_variance(t, predicted_variance=variance)
    return torch.exp(0.5 * value) if scheduler.variance_type == "learned_range" else torch.as_tensor(value) ** 0.5
