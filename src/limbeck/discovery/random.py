"""Real images drawn without replacement."""

import numpy as np

from limbeck.discovery.base import Found, Options, Pool
from limbeck.seeds import stream


def discover(pool: Pool, ipc: int, options: Options, seed: int, class_id: int) -> Found:
    """``ipc`` images of the pool, in the order drawn. Each stands for itself, so its latent is its centroid."""
    indices = stream(seed, f"select.{options['kind']}", class_id).permutation(pool.n)[:ipc]
    return Found(indices, np.ones(ipc, np.int64), None if pool.latents is None else pool.latents[indices])
