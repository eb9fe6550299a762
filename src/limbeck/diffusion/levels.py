"""Noise levels of a solver's steps, whatever its schedule and whatever the model predicts.

They belong to steps, not to rows of the training table: under Karras sigmas its rows are up to 14 % off, and timesteps repeat.
"""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

Scalar = float | Tensor  # of all latents, or (N, 1, 1, 1), each its own


@dataclass(frozen=True)
class Level:
    """x_t = alpha z0 + sigma eps; x0_hat = from_x x_t + from_output output, eps_hat = noise_from_x x_t + noise_from_output output.

    solver_sigma: what the solver itself calls sigma: sigma / alpha where alpha² + sigma² = 1, sigma under flow matching.
    """

    alpha: Scalar
    sigma: Scalar
    from_x: Scalar
    from_output: Scalar
    noise_from_x: Scalar
    noise_from_output: Scalar
    solver_sigma: Scalar

    def clean(self, x: Tensor, output: Tensor) -> Tensor:
        """x0_hat of a model's output; for predicted noise (x_t - sqrt(1 - abar) eps) / sqrt(abar) (CoDA Eq. 4)."""
        return self.from_x * x + self.from_output * output

    def noise(self, x: Tensor, output: Tensor) -> Tensor:
        """eps_hat of a model's output; defined where sigma is 0 too."""
        return self.noise_from_x * x + self.noise_from_output * output


def variance_preserving(abar: Scalar, prediction: str = "epsilon") -> Level:
    """alpha² = abar, sigma² = 1 - abar; ``prediction``: epsilon, or v = alpha eps - sigma z0 (Salimans & Ho 2022, App. D).

    Raises
    ------
    ValueError: another prediction.
    """
    alpha: Scalar
    sigma: Scalar
    if isinstance(abar, Tensor):
        alpha, sigma = torch.sqrt(abar), torch.sqrt(1 - abar)
    else:
        alpha, sigma = math.sqrt(abar), math.sqrt(1 - abar)
    if prediction == "epsilon":
        return Level(alpha, sigma, 1 / alpha, -sigma / alpha, 0.0, 1.0, sigma / alpha)
    if prediction == "v_prediction":
        return Level(alpha, sigma, alpha, -sigma, sigma, alpha, sigma / alpha)
    raise ValueError(f"predicts {prediction}; supported: epsilon, v_prediction, and velocities of flow matching")


def flow(sigma: Scalar) -> Level:
    """Rectified flow: alpha = 1 - sigma, the model predicts v = eps - z0 (Esser et al. 2024, Eq. 13)."""
    return Level(1 - sigma, sigma, 1.0, -sigma, 1.0, 1 - sigma, sigma)


def clean() -> Level:
    """That of clean latents."""
    return variance_preserving(1.0)


def levels(scheduler: Any) -> list[Level]:
    """The level of every step of one of diffusers' schedulers with its timesteps set, and after the last that of clean latents."""
    if not hasattr(scheduler, "alphas_cumprod"):
        return [flow(float(sigma)) for sigma in scheduler.sigmas]
    prediction = scheduler.config.prediction_type
    if hasattr(scheduler, "sigmas"):
        abars = [1 / (1 + float(sigma) ** 2) for sigma in scheduler.sigmas]
    else:
        abars = [float(scheduler.alphas_cumprod[int(t)]) for t in scheduler.timesteps]
        abars.append(float(getattr(scheduler, "final_alpha_cumprod", 1.0)))
    return [variance_preserving(abar, prediction) for abar in abars]
