"""Precision and recall (Kynkäänniemi et al. 2019), density and coverage (Naeem et al. 2020) by balls to the k-th neighbour."""

import math
from collections.abc import Iterator

import numpy as np

from limbeck.metrics.kernels import squared
from limbeck.metrics.samples import BLOCK

K = 3
# ASSUME: a point as far from a centre as the radius lies inside whatever rounding makes of the two; a chosen real image may be
# the very neighbour that set the radius
SLACK = 1 + 1e-9


def _rows(x: np.ndarray, y: np.ndarray) -> Iterator[tuple[slice, np.ndarray]]:
    """Blocks (m, n2) of the squared distances, and which rows of ``x`` they are of."""
    for start in range(0, len(x), BLOCK):
        rows = slice(start, start + BLOCK)
        yield rows, squared(x[rows], y)


def radii(x: np.ndarray, k: int = K) -> np.ndarray:
    """(n,) squared distance of every row to its k-th nearest other one."""
    # the row itself is the nearest, at 0
    return np.concatenate([np.partition(distances, k, axis=1)[:, k] for _, distances in _rows(x, x)])


def precision_recall(distilled: np.ndarray, real: np.ndarray, k: int = K) -> dict[str, float]:
    """Of a set and as many real rows: the more of either, the smaller its balls; nan where a side has no k neighbours.

    precision: share of distilled rows in the ball of a real one; recall: of real rows in the ball of a distilled one; density:
    mean number of real balls around a distilled row, over k; knn_coverage: share of real balls with a distilled row in them.
    """
    if min(len(distilled), len(real)) <= k:
        return dict.fromkeys(("precision", "recall", "density", "knn_coverage"), math.nan)
    centre = real.mean(axis=0, dtype=np.float64)  # far from the origin, differences of squares lose digits
    distilled, real = distilled - centre, real - centre
    around_real, around_distilled = SLACK * radii(real, k), SLACK * radii(distilled, k)
    balls, recalled, covered = np.zeros(len(distilled)), np.zeros(len(real), bool), np.zeros(len(real), bool)
    for rows, distances in _rows(real, distilled):
        inside = distances <= around_real[rows, None]
        balls += inside.sum(axis=0)
        covered[rows] = inside.any(axis=1)
        recalled[rows] = (distances <= around_distilled).any(axis=1)
    return {
        "precision": float((balls > 0).mean()),
        "recall": float(recalled.mean()),
        "density": float(balls.mean() / k),
        "knn_coverage": float(covered.mean()),
    }
