"""The guided sampling loop around diffusers' schedulers. It knows no method: guidances bring their own hook."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from limbeck.guidance.base import Guidance, Step

# (x_t, timestep, labels) -> predicted noise, raw variance output or None
Denoiser = Callable[[Tensor, int, Tensor], tuple[Tensor, Tensor | None]]
# step index -> one generator per image, for the noise of stochastic solvers
StepGenerators = Callable[[int], list[torch.Generator]]


def combine(cond: Tensor, null: Tensor, scale: float, channels: int | Literal["all"]) -> Tensor:
    """Classifier-free guidance eps_null + w (eps_cond - eps_null) on the first ``channels`` latent channels or all.

    The channels left out keep the conditional prediction, as in DiT's own sampler.
    """
    guided = null + scale * (cond - null)
    if channels == "all":
        return guided
    return torch.cat([guided[:, :channels], cond[:, channels:]], dim=1)


def branches(
    denoise: Denoiser, x: Tensor, t: int, labels: Tensor, null: int, scale: float
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Conditional noise, null noise and the conditional branch's variance; at scale 1 the null branch is not evaluated."""
    if scale == 1:
        eps, variance = denoise(x, t, labels)
        return eps, None, variance
    both = torch.cat([labels, torch.full_like(labels, null)])
    eps, variance = denoise(torch.cat([x, x]), t, both)
    cond, uncond = eps.chunk(2)
    return cond, uncond, None if variance is None else variance.chunk(2)[0]


@dataclass(frozen=True)
class Sampled:
    """latents: (N, C, H, W). step_norms: |x_next - x_t|, x0_norms: |x0_hat| after guidance; both (N, steps)."""

    latents: Tensor
    step_norms: Tensor
    x0_norms: Tensor


def step_abars(scheduler: Any) -> list[float]:
    """abar of every step of a scheduler with its timesteps set."""
    return [float(scheduler.alphas_cumprod[int(t)]) for t in scheduler.timesteps]


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
) -> Sampled:
    """Denoise ``noise`` (N, C, H, W) to clean latents.

    Parameters
    ----------
    scheduler: diffusers' DDIMScheduler or DDPMScheduler with its timesteps set.
    labels: (N,) the prior's labels.
    generators: of each step's fresh noise; needed by DDPM, ignored by DDIM.
    """
    stochastic = "variance_type" in scheduler.config
    x = noise * scheduler.init_noise_sigma
    timesteps = [int(t) for t in scheduler.timesteps]
    abars = step_abars(scheduler)
    norms, x0_norms = torch.empty(2, len(x), len(timesteps))
    for index, (t, abar) in enumerate(zip(timesteps, abars, strict=True)):
        cond, uncond, variance = branches(denoise, x, t, labels, null, cfg_scale)
        sigma = _posterior_std(scheduler, t, variance) if stochastic else torch.zeros(())
        step = Step(index, len(timesteps), abar, float(sigma.mean()))
        for guide in guidance:
            if guide.hook == "cond" and (correction := guide(step, x, _clean(x, cond, abar))) is not None:
                cond = cond - math.sqrt(abar / (1 - abar)) * correction  # CoDA Eq. 7
        eps = cond if uncond is None else combine(cond, uncond, cfg_scale, cfg_channels)
        x0_hat = _clean(x, eps, abar)
        shift, guided = torch.zeros_like(x), x0_hat
        for guide in guidance:
            if guide.hook == "cond" or (correction := guide(step, x, x0_hat)) is None:
                continue
            if guide.hook == "posterior":
                shift = shift + correction * sigma
                continue
            guided = guided + correction
            if guide.recompute_noise:
                # the eps that belongs to x0_hat + correction at this x_t; exactly eps where the correction is 0
                eps = eps - math.sqrt(abar / (1 - abar)) * correction
            else:
                # x_next = sqrt(abar_next) x0 + sqrt(1 - abar_next) eps: moving x0 alone moves x_next by this
                shift = shift + math.sqrt(_next_abar(scheduler, t)) * correction
        if stochastic:
            output = eps if variance is None else torch.cat([eps, variance], dim=1)
            generator = generators(index) if generators else None
            following = scheduler.step(output, t, x, generator=generator).prev_sample + shift
        else:
            following = scheduler.step(eps, t, x).prev_sample + shift
        norms[:, index] = (following - x).flatten(1).norm(dim=1)
        x0_norms[:, index] = guided.flatten(1).norm(dim=1)
        x = following
    return Sampled(x, norms, x0_norms)


def _clean(x: Tensor, eps: Tensor, abar: float) -> Tensor:
    """x0_hat = (x_t - sqrt(1 - abar) eps) / sqrt(abar)."""
    return (x - math.sqrt(1 - abar) * eps) / math.sqrt(abar)


def _posterior_std(scheduler: Any, t: int, variance: Tensor | None) -> Tensor:
    """Standard deviation of p(x_{t-1} | x_t) under the scheduler's own variance rule; a scalar, or (N, C, H, W) if learned."""
    # diffusers has no public accessor; for a learned range it returns the log variance
    value = scheduler._get_variance(t, predicted_variance=variance)
    return torch.exp(0.5 * value) if scheduler.variance_type == "learned_range" else torch.as_tensor(value) ** 0.5


def _next_abar(scheduler: Any, t: int) -> float:
    """The abar that DDIMScheduler.step moves to from ``t``."""
    following = t - scheduler.config.num_train_timesteps // scheduler.num_inference_steps
    return float(scheduler.alphas_cumprod[following] if following >= 0 else scheduler.final_alpha_cumprod)
