"""Divisive discovery: a tree by bisecting k-means, grown once per class and used for every IPC (ManifoldGD Alg. 1)."""

import heapq

import numpy as np
from sklearn.cluster import KMeans

from limbeck.discovery.base import Options, Tree
from limbeck.seeds import stream


def fit(latents: np.ndarray, options: Options, class_id: int) -> Tree:
    """Split by 2-means, always the leaf of largest SSE, until every leaf is at ``depth`` or holds equal points.

    Parameters
    ----------
    latents: (N, D) float32 of one class.
    """
    order = np.arange(len(latents))
    start, stop, parent, depth, split = [0], [len(latents)], [-1], [0], [-1]
    queue = [(-_sse(latents), 0)]
    splits = 0
    while queue:
        _, node = heapq.heappop(queue)
        rows = order[start[node] : stop[node]]
        second = _bisect(latents[rows], options["n_init"], class_id, node) if depth[node] < options["depth"] else None
        if second is None:
            continue
        order[start[node] : stop[node]] = np.concatenate([rows[~second], rows[second]])
        middle = stop[node] - int(second.sum())
        split[node], splits = splits, splits + 1
        for a, b in ((start[node], middle), (middle, stop[node])):
            heapq.heappush(queue, (-_sse(latents[order[a:b]]), len(start)))
            for column, value in ((start, a), (stop, b), (parent, node), (depth, depth[node] + 1), (split, -1)):
                column.append(value)
    return Tree(order, *(np.array(column, np.int64) for column in (start, stop, parent, depth, split)))


def _sse(points: np.ndarray) -> float:
    return float(((points - points.mean(axis=0, dtype=np.float64)) ** 2).sum())


def _bisect(points: np.ndarray, n_init: int, class_id: int, node: int) -> np.ndarray | None:
    """(n,) bool, True for the second half; None where all points are equal."""
    if (points == points[0]).all():
        return None
    state = int(stream(0, "fit.divisive", class_id, node).integers(2**31))
    labels = KMeans(2, n_init=n_init, random_state=state, algorithm="lloyd").fit(points).labels_
    return labels == 1 if 0 < labels.sum() < len(labels) else None
