"""Real images drawn without replacement."""

import numpy as np

from limbeck.discovery.base import Found, Options
from limbeck.seeds import stream


def discover(latents: np.ndarray | None, n: int, ipc: int, options: Options, seed: int, class_id: int) -> Found:
    """``ipc`` of ``n`` images, in the order drawn. Each stands for itself, so its latent is its centroid."""
    indices = stream(seed, f"select.{options['kind']}", class_id).permutation(n)[:ipc]
    return Found(indices, np.ones(ipc, np.int64), None if latents is None else latents[indices])
