"""Greedy k-center: real images that no image of the class is far from (Gonzalez 1985; Sener & Savarese 2018, Alg. 1).

The largest distance of an image to its nearest chosen one is at most twice the least possible (Gonzalez 1985).
"""

import numpy as np

from limbeck.discovery.base import Found, Options, Pool
from limbeck.discovery.coreset import Cover, squares


def discover(pool: Pool, ipc: int, options: Options, seed: int, class_id: int) -> Found:  # noqa: ARG001
    """``ipc`` images in the order taken: the one nearest to the class's mean, then each time the one farthest from all taken.

    Raises
    ------
    ValueError: no latents, or fewer images than ``ipc``.
    """
    cover = Cover(pool, ipc)
    cover.choose(int(np.argmin(squares(cover.points))))
    for _ in range(ipc - 1):
        cover.choose(cover.farthest())
    return cover.found()
