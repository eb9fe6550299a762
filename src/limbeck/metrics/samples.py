"""Seeded draws among real images, where a metric takes as many of them as the set has, or no more than fit in memory."""

import numpy as np

from limbeck.seeds import stream

SEED = 0  # of no generation seed: every row of a table is measured against the same real images
LARGEST = 10_000  # rows of a set, or of a draw among real images, that metrics of pairs see
BLOCK = 1024  # rows of a matrix of distances or kernels in memory at a time


def some(n: int, most: int, name: str, class_id: int = 0, item: int = 0) -> np.ndarray:
    """At most ``most`` of ``n`` rows without replacement, in random order; ``name`` is the stream's."""
    return stream(SEED, name, class_id, item).permutation(n)[:most]
