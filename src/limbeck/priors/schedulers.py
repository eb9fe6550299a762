"""diffusers' schedulers from a stored prior's scheduler_config.json."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from diffusers.schedulers.scheduling_ddpm import DDPMScheduler
from diffusers.schedulers.scheduling_dpmsolver_multistep import DPMSolverMultistepScheduler
from diffusers.schedulers.scheduling_flow_match_euler_discrete import FlowMatchEulerDiscreteScheduler

from limbeck.priors.files import verify

Scheduler: TypeAlias = DDIMScheduler | DDPMScheduler | DPMSolverMultistepScheduler | FlowMatchEulerDiscreteScheduler


def load_config(path: Path) -> dict[str, Any]:
    """The scheduler_config.json of a stored prior; refused where it is not as it was stored."""
    verify(path.parent.parent, f"{path.parent.name}/")
    return dict(DDIMScheduler.load_config(path.parent))


def build(config: Mapping[str, Any], solver: str, steps: int, learned_variance: bool = False) -> Scheduler:
    """The scheduler of a solver with ``steps`` timesteps set.

    solver: ddim, ddpm, dpm++ (DPM-Solver++ 2M under Karras sigmas) or flow (Euler steps of flow matching).
    """
    if solver == "flow":
        scheduler = FlowMatchEulerDiscreteScheduler.from_config(config)
    elif solver == "dpm++":
        scheduler = DPMSolverMultistepScheduler.from_config(
            config, use_karras_sigmas=True, algorithm_type="dpmsolver++", variance_type=None, thresholding=False
        )
    elif solver == "ddim":
        scheduler = DDIMScheduler.from_config(config, clip_sample=False)
    else:
        variance = "learned_range" if learned_variance else "fixed_small"
        scheduler = DDPMScheduler.from_config(config, clip_sample=False, variance_type=variance)
    scheduler.set_timesteps(steps)
    if hasattr(scheduler, "set_begin_index"):  # or it would look the first timestep up, which may stand there twice
        scheduler.set_begin_index(0)
    return scheduler
