"""Clean latents taken up a DDIM sampling grid to one of its steps: inverted deterministically, or noised.

The ladder is the sampling grid read upwards. Rung 0 holds clean latents at the level where sampling ends, rung i those that
sampling starts from at step ``steps - i``: i network evaluations up, i down again, through the same levels.
"""

from collections.abc import Iterator
from itertools import pairwise
from typing import Any, Literal, NamedTuple

import torch
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from torch import Tensor

from limbeck.diffusion.levels import Level, levels
from limbeck.diffusion.sampling import Denoiser, branches, combine


class Rung(NamedTuple):
    """Where latents stand. timestep: at which the network is asked there. asked: the level of that timestep."""

    level: Level
    timestep: int
    asked: Level


def ladder(scheduler: Any, step: int) -> list[Rung]:
    """Rungs 0 … ``step`` of a scheduler with its timesteps set.

    Eq. 3 asks at the current timestep. Clean latents have none, so rung 0 asks at that of rung 1, the one of sampling's last step:
    up and down ask at the same timesteps.

    Raises
    ------
    ValueError: another solver than DDIM, or a step that the grid does not have.
    """
    if not isinstance(scheduler, DDIMScheduler):
        raise ValueError(f"only DDIM's grid is inverted, not that of {type(scheduler).__name__}")
    times = [int(t) for t in reversed(scheduler.timesteps)]
    if not 0 <= step <= len(times):
        raise ValueError(f"step {step} is not on the grid of {len(times)} steps")
    clean, *noisy = reversed(levels(scheduler))
    rungs = [Rung(level, t, level) for level, t in zip(noisy, times, strict=True)]
    return [Rung(clean, times[0], noisy[0]), *rungs[:step]]


@torch.inference_mode()
def inverted(
    denoise: Denoiser,
    scheduler: Any,
    latents: Tensor,
    labels: Tensor,
    step: int,
    *,
    null: int,
    cfg_scale: float = 1.0,
    cfg_channels: int | Literal["all"] = "all",
) -> Iterator[Tensor]:
    """The latents (N, C, H, W) on rungs 0 … ``step``, ``step`` + 1 tensors, by class-conditional DDIM inversion (D3HR Eq. 3).

    Parameters
    ----------
    labels: (N,) the prior's labels. cfg_scale, cfg_channels: as in sampling; at scale 1 the conditional branch alone is evaluated.
    """
    rungs, z = ladder(scheduler, step), latents
    yield z
    for below, above in pairwise(rungs):
        cond, uncond, _ = branches(denoise, z, below.timestep, labels, null, cfg_scale)
        output = cond if uncond is None else combine(cond, uncond, cfg_scale, cfg_channels)
        ratio = above.level.alpha / below.level.alpha
        # Eq. 3 with the factor sqrt(abar_next) of its inverse, Eq. 2, where the paper prints abar_next
        z = ratio * z + (above.level.sigma - ratio * below.level.sigma) * below.asked.noise(z, output)
        yield z


def noised(scheduler: Any, latents: Tensor, noise: Tensor, step: int) -> Iterator[Tensor]:
    """The same rungs by adding each image's own ``noise`` (N, C, H, W), the same on all of them (D3HR Eq. 1, Base-DDPM)."""
    _, *rungs = ladder(scheduler, step)
    yield latents
    for rung in rungs:
        yield rung.level.alpha * latents + rung.level.sigma * noise
