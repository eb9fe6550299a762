"""What the coresets share: the points of a class that they choose among, and which chosen one each image is nearest to."""

import numpy as np
from scipy.spatial.distance import cdist

from limbeck.discovery.base import Found, Pool


def squares(points: np.ndarray) -> np.ndarray:
    """(N,) squared norms of points (N, m)."""
    return np.asarray(np.einsum("nd,nd->n", points, points))


class Cover:
    """Images of a class chosen one by one, and for each of its N images the chosen one that it is nearest to.

    points: (N, m) float64, the class's embedding, or its latents where it has none, minus their mean.
    indices: rows chosen, in that order. owner: (N,) which of them is nearest, the first of equally near ones; each chosen one
    owns itself, also where an equal point was chosen before it. distance: (N,) squared, to the owner; -1 for the chosen ones.

    Raises
    ------
    ValueError: no latents, or fewer images than ``ipc``.
    """

    def __init__(self, pool: Pool, ipc: int):
        if pool.latents is None:
            raise ValueError("needs latents")
        if pool.n < ipc:
            raise ValueError(f"has {pool.n} images, fewer than IPC {ipc}")
        points = pool.latents if pool.embedding is None else pool.embedding
        self.latents, self.points = pool.latents, np.asarray(points - points.mean(axis=0, dtype=np.float64))
        self.indices: list[int] = []
        self.owner = np.zeros(pool.n, np.int64)
        self.distance = np.full(pool.n, np.inf)

    def choose(self, row: int) -> None:
        """Take a row that has not been chosen."""
        # of differences: exactly 0 between equal points, and no array of N x m
        distance = cdist(self.points, self.points[row : row + 1], "sqeuclidean")[:, 0]
        nearer = distance < self.distance
        nearer[row] = True
        self.owner[nearer], self.distance[nearer] = len(self.indices), distance[nearer]
        self.distance[row] = -1
        self.indices.append(row)

    def farthest(self) -> int:
        """The row farthest from all chosen ones; the lowest of equally far ones."""
        return int(np.argmax(self.distance))

    def found(self) -> Found:
        """The chosen ones in the order chosen, with the number and the mean latent of the images that each owns."""
        owned = [np.flatnonzero(self.owner == k) for k in range(len(self.indices))]
        return Found(
            indices=np.array(self.indices, np.int64),
            counts=np.array([len(rows) for rows in owned], np.int64),
            centroids=np.stack([self.latents[rows].mean(axis=0, dtype=np.float64) for rows in owned]).astype(np.float32),
        )
