"""Which patch of an image is the most typical one, and which patches of a class become its distilled images.

Source: diffusion-driven patch selection, Alg. 1, Secs. 3.3, 3.4 and supp. 5; reading in docs/methods/patches.md.
"""

import numpy as np


def merged(maps: np.ndarray, corners: np.ndarray) -> np.ndarray:
    """One map (H, W) float64 of an image from those (K, h, w) of its windows: the mean over the windows that cover a place.

    corners: (K, 2) top and left of every window; together they cover the whole rectangle.
    """
    side = np.array(maps.shape[1:])
    total, covered = np.zeros((2, *(corners.max(axis=0) + side)))
    for values, (top, left) in zip(maps, corners, strict=True):
        at = np.s_[top : top + side[0], left : left + side[1]]
        total[at] += values
        covered[at] += 1
    return total / covered


def best_patch(scores: np.ndarray, side: int) -> tuple[float, int, int]:
    """The square of ``side`` with the highest mean score: that mean, top and left; of equal ones the first in reading order.

    scores: (H, W), at least ``side`` in both directions.
    """
    # an average pool of stride 1 by cumulative sums
    sums = np.zeros((scores.shape[0] + 1, scores.shape[1] + 1))
    sums[1:, 1:] = scores.astype(np.float64).cumsum(0).cumsum(1)
    pooled = (sums[side:, side:] - sums[:-side, side:] - sums[side:, :-side] + sums[:-side, :-side]) / side**2
    top, left = np.unravel_index(int(np.argmax(pooled)), pooled.shape)
    return float(pooled[top, left]), int(top), int(left)


def arrange(
    scores: np.ndarray, ipc: int, parts: int, clusters: np.ndarray | None = None, distances: np.ndarray | None = None, top: int = 10
) -> np.ndarray:
    """(ipc, parts) patches of a class, each used once: an image is made of the ``parts`` of one row.

    Clusters are ranked by the median score of their patches, patches within one by their distance to its centre. Each of the
    ``top`` first gives ``parts * ipc // top``; what is missing is filled by score (Sec. 3.3, supp. 5), without clusters all.

    Parameters
    ----------
    scores, clusters, distances: (N,).

    Raises
    ------
    ValueError: fewer than ``parts * ipc`` patches.
    """
    wanted = parts * ipc
    if len(scores) < wanted:
        raise ValueError(f"has {len(scores)} patches, fewer than the {wanted} that IPC {ipc} takes")
    chosen: list[int] = []
    if clusters is not None and distances is not None:
        numbers = np.unique(clusters)
        medians = np.array([np.median(scores[clusters == number]) for number in numbers])
        for number in numbers[np.argsort(-medians, kind="stable")][:top]:
            members = np.flatnonzero(clusters == number)
            chosen += members[np.argsort(distances[members], kind="stable")][: wanted // top].tolist()
    rest = np.setdiff1d(np.arange(len(scores)), chosen)
    chosen += rest[np.argsort(-scores[rest], kind="stable")][: wanted - len(chosen)].tolist()
    return np.array(chosen).reshape(ipc, parts)
