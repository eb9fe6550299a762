"""diffusers' schedulers from a stored prior's scheduler_config.json."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from diffusers.schedulers.scheduling_ddpm import DDPMScheduler


def load_config(path: Path) -> dict[str, Any]:
    """The scheduler_config.json of a stored prior."""
    return dict(DDIMScheduler.load_config(path.parent))


def build(config: Mapping[str, Any], solver: str, steps: int, learned_variance: bool = False) -> DDIMScheduler | DDPMScheduler:
    """The scheduler of a solver with ``steps`` timesteps set."""
    if solver == "ddim":
        scheduler = DDIMScheduler.from_config(config, clip_sample=False)
    else:
        variance = "learned_range" if learned_variance else "fixed_small"
        scheduler = DDPMScheduler.from_config(config, clip_sample=False, variance_type=variance)
    scheduler.set_timesteps(steps)
    return scheduler
