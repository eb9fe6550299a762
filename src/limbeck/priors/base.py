"""What the pipeline asks of a diffusion prior, whatever its family."""

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from torch import Tensor


class Prior(Protocol):
    """A latent-diffusion prior. Latents are (N, C, H, W) float32 after scaling (and shift)."""

    latent_shape: tuple[int, int, int]
    null: int  # the label of "no class"

    def encode(self, images: np.ndarray) -> Tensor:
        """uint8 (N, H, W, channels) to the posterior means."""
        ...

    def decode(self, latents: Tensor, channels: int) -> np.ndarray:
        """Latents to uint8 (N, H, W, channels)."""
        ...

    def class_ids(self, classes: Sequence[str]) -> list[int]:
        """The prior's own label of each class name."""
        ...

    def denoise(self, x: Tensor, t: int, labels: Tensor) -> tuple[Tensor, Tensor | None]:
        """Predicted noise and, where the model learns it, the raw variance output."""
        ...

    def scheduler(self, solver: str, steps: int) -> Any:
        """A diffusers scheduler with ``steps`` timesteps set."""
        ...
