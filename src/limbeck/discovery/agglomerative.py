"""Agglomerative discovery (ManifoldGD Table 3): the dendrogram of a class, cut into IPC clusters."""

import numpy as np
from scipy.cluster.hierarchy import linkage

from limbeck.discovery.base import Options, Tree


def fit(latents: np.ndarray, options: Options, class_id: int) -> Tree:  # noqa: ARG001
    """All merges by Euclidean ``linkage``, read from the last one down. Takes N²/2 distances of memory.

    Parameters
    ----------
    latents: (N, D) float32 of one class.
    """
    n = len(latents)
    merges = (
        linkage(latents.astype(np.float64), options["linkage"])[:, :2].astype(np.int64) if n > 1 else np.empty((0, 2), np.int64)
    )
    sizes = np.concatenate([np.ones(n, np.int64), np.zeros(n - 1, np.int64)])
    for i, (a, b) in enumerate(merges):
        sizes[n + i] = sizes[a] + sizes[b]
    # node i of the tree is scipy's cluster 2n - 2 - i: the root first, and the k-th split undoes the k-th last merge
    nodes = 2 * n - 1
    start, parent, depth = np.zeros(nodes, np.int64), np.full(nodes, -1), np.zeros(nodes, np.int64)
    for i in range(n - 1):
        left, right = (nodes - 1 - cluster for cluster in merges[n - 2 - i])
        for child, offset in ((left, 0), (right, sizes[nodes - 1 - left])):
            start[child], parent[child], depth[child] = start[i] + offset, i, depth[i] + 1
    order = np.empty(n, np.int64)
    order[start[n - 1 :]] = nodes - 1 - np.arange(n - 1, nodes)
    split = np.where(np.arange(nodes) < n - 1, np.arange(nodes), -1)
    return Tree(order, start, start + sizes[::-1], parent, depth, split)
