"""Euclidean distances between a distilled set and real features that come in blocks."""

import math

import faiss
import numpy as np


class L2:
    """Distance of the mean features, and the mean distance of a distilled row to its nearest real one."""

    def __init__(self, distilled: np.ndarray, mean: np.ndarray):
        self.rows, self.mean = np.ascontiguousarray(distilled, np.float32), mean
        self.total, self.count = np.zeros(len(mean)), 0
        self.nearest = np.full(len(distilled), math.inf)

    def add(self, real: np.ndarray) -> None:
        """One more block (m, d)."""
        self.total += real.sum(axis=0, dtype=np.float64)
        self.count += len(real)
        found = faiss.knn(self.rows, np.ascontiguousarray(real, np.float32), 1)[1][:, 0]
        # FAISS finds the neighbour; its distance is a difference of float32 squares
        distances = np.linalg.norm(self.rows.astype(np.float64) - real[found], axis=1)
        self.nearest = np.minimum(self.nearest, distances)

    def values(self) -> dict[str, float]:
        """Both; nan without real rows."""
        if not self.count:
            return {"l2": math.nan, "l2_nearest": math.nan}
        return {"l2": float(np.linalg.norm(self.mean - self.total / self.count)), "l2_nearest": float(self.nearest.mean())}
