"""How the neighbourhood's radius shrinks over the guided steps (ManifoldGD Table 4)."""

import math
from typing import Literal

Schedule = Literal["none", "exponential", "cosine", "linear"]


def interpolate(schedule: Schedule, u: float, first: float, last: float) -> float:
    """From ``first`` at u = 0 to ``last`` at u = 1, both positive; ``none`` stays at ``first``."""
    if schedule == "exponential":
        return first * (last / first) ** u
    if schedule == "cosine":
        return last + (first - last) * (1 + math.cos(math.pi * u)) / 2
    if schedule == "linear":
        return first + (last - first) * u
    return first


def decay(schedule: Schedule, steps: int, warmup: int, last: float) -> list[float]:
    """Factor of the radius at each guided step: 1 for ``warmup`` steps, then down to ``last`` at the final one."""
    span = max(1, steps - 1 - warmup)
    return [interpolate(schedule, min(1.0, max(0, i - warmup) / span), 1.0, last) for i in range(steps)]


def released(schedule: Schedule, steps: int, warmup: int, first: float) -> list[float]:
    """As in the authors' code: from ``first`` to 1 during the warm-up, then 1."""
    if schedule == "none" or not warmup:
        return [1.0] * steps
    return [interpolate(schedule, min(1.0, i / warmup), first, 1.0) for i in range(steps)]
