"""Clean latents taken up a DDIM grid to one of its steps: deterministically (D3HR Eq. 3), or by adding noise.

The ladder is the sampling grid's own, read upwards: rung 0 holds clean latents, rung i those that step ``steps - i`` of the grid
starts from, so that i network evaluations go up and i come down again through the same levels and timesteps.
"""

from collections.abc import Iterator
from itertools import pairwise
from typing import Literal

import torch
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from torch import Tensor

from limbeck.diffusion.levels import Level, levels
from limbeck.diffusion.sampling import Denoiser, branches, combine


def ladder(scheduler: DDIMScheduler, rungs: int) -> list[tuple[Level, int]]:
    """(level, timestep) of rungs 0 … ``rungs``. Rung 0 has the level the grid ends at, and the timestep of rung 1.

    Eq. 3 evaluates eps at the current timestep; clean latents have none, so the first evaluation asks at the lowest of the grid,
    the one that the last sampling step asks at too.

    Raises
    ------
    ValueError: another solver than DDIM, or more rungs than the grid has steps.
    """
    if not isinstance(scheduler, DDIMScheduler):
        raise ValueError(f"only DDIM's grid is inverted, not {type(scheduler).__name__}'s")
    grid, times = levels(scheduler), [int(t) for t in scheduler.timesteps]
    if rungs > len(times):
        raise ValueError(f"step {rungs} is beyond the grid of {len(times)} steps")
    upwards = list(zip(reversed(grid), [times[-1], *reversed(times)], strict=True))
    return upwards[: rungs + 1]


@torch.inference_mode()
def inverted(
    denoise: Denoiser,
    scheduler: DDIMScheduler,
    latents: Tensor,
    labels: Tensor,
    rungs: int,
    *,
    null: int,
    cfg_scale: float = 1.0,
    cfg_channels: int | Literal["all"] = "all",
) -> Iterator[Tensor]:
    """The latents (N, C, H, W) at every rung, the clean ones first: ``rungs`` + 1 tensors, the last of them z_T.

    z_next = alpha_next x0_hat + sigma_next eps, with x0_hat and eps from the network at the current rung (Eq. 3; its factor is
    sqrt(abar_next), the paper prints abar_next).
    """
    z = latents
    yield z
    steps = ladder(scheduler, rungs)
    for (level, t), (following, _) in pairwise(steps):
        cond, uncond, _ = branches(denoise, z, t, labels, null, cfg_scale)
        output = cond if uncond is None else combine(cond, uncond, cfg_scale, cfg_channels)
        z = following.alpha * level.clean(z, output) + following.sigma * level.noise(z, output)
        yield z


def noised(scheduler: DDIMScheduler, latents: Tensor, noise: Tensor, rungs: int) -> Iterator[Tensor]:
    """The same rungs by adding noise: alpha z0 + sigma eps, each image's own ``noise`` on every rung (D3HR's Base-DDPM)."""
    yield latents
    for level, _ in ladder(scheduler, rungs)[1:]:
        yield level.alpha * latents + level.sigma * noise
