"""Scored patches as distilled images: diffusion-driven patch selection (typicality, clusters), RDED (a teacher's loss)."""

import numpy as np

from limbeck.discovery.base import Clusters, Found, Options, Pool
from limbeck.selection.patches import arrange


def discover(pool: Pool, ipc: int, options: Options, seed: int, class_id: int) -> Found:  # noqa: ARG001
    """Patches for ``ipc`` images; of those of several parts the first stands for the image.

    Raises
    ------
    ValueError: too few patches.
    """
    assert pool.scores is not None
    clusters = pool.fit if isinstance(pool.fit, Clusters) else None
    chosen = arrange(
        pool.scores,
        ipc,
        options["parts"],
        None if clusters is None else clusters.labels,
        None if clusters is None else clusters.distances,
        options.get("top_clusters", 0),
    )
    return Found(chosen[:, 0], np.full(ipc, options["parts"]), None, parts=chosen)
