"""Distances of distributions by kernels: MMD (Gretton et al. 2012) and KID (Bińkowski et al. 2018)."""

import math
from collections.abc import Callable

import numpy as np

from limbeck.metrics.samples import BLOCK, some

MEDIAN_ROWS = 1000  # of each side, behind the median heuristic
SUBSET, SUBSETS = 1000, 50  # rows of a subset of KID, and how many subsets
Kernel = Callable[[np.ndarray, np.ndarray], np.ndarray]


def squared(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(n1, n2) squared Euclidean distances in float64."""
    x, y = a.astype(np.float64), b.astype(np.float64)
    return np.maximum((x**2).sum(1)[:, None] + (y**2).sum(1) - 2 * x @ y.T, 0)


def within(x: np.ndarray, kernel: Kernel) -> float:
    """Mean of the kernel over pairs of different rows: Eq. 3's first term."""
    total = 0.0
    for start in range(0, len(x), BLOCK):
        values = kernel(x[start : start + BLOCK], x)
        total += values.sum() - np.trace(values, offset=start)
    return total / (len(x) * (len(x) - 1))


class Mmd:
    """Unbiased squared maximum mean discrepancy of a set and of rows that come in blocks (Gretton et al. 2012, Eq. 3).

    RBF kernel exp(-|x-y|²/(2 s²)), s² the median squared distance between the two sides. ``sample``: rows of the other side in
    random order. Pairs across are of all rows; pairs within the other side are of the sample alone, which leaves the estimate
    unbiased, and the median is of at most MEDIAN_ROWS of each side. May be slightly negative: it is centred on 0 for equal
    distributions.
    """

    def __init__(self, own: np.ndarray, sample: np.ndarray):
        self.own, self.across, self.count, self.scale, self.pairs = own, 0.0, 0, 0.0, math.nan
        if min(len(own), len(sample)) < 2:
            return
        few = own[some(len(own), MEDIAN_ROWS, "metrics.mmd")]
        self.scale = 2 * float(np.median(squared(few, sample[:MEDIAN_ROWS])))
        if self.scale > 0:
            self.pairs = within(own, self._kernel) + within(sample, self._kernel)

    def _kernel(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return np.exp(-squared(x, y) / self.scale)

    def add(self, rows: np.ndarray) -> None:
        """One more block (m, d) of the other side."""
        self.count += len(rows)
        if self.scale > 0:
            starts = range(0, len(self.own), BLOCK)
            self.across += sum(float(self._kernel(self.own[start : start + BLOCK], rows).sum()) for start in starts)

    def value(self) -> float:
        """The estimate; nan with fewer than 2 rows on a side, or where the median distance is 0."""
        return self.pairs - 2 * self.across / (len(self.own) * self.count) if self.count else math.nan


def mmd(a: np.ndarray, b: np.ndarray) -> float:
    """Of features (n1, d) and, in random order, (n2, d) in memory."""
    found = Mmd(a, b)
    found.add(b)
    return found.value()


def polynomial(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """(x·y / d + 1)³ (Bińkowski et al. 2018)."""
    return (x @ y.T / x.shape[1] + 1) ** 3


def kid(a: np.ndarray, b: np.ndarray) -> tuple[float, float]:
    """Kernel inception distance of features (n1, d) and (n2, d): mean and standard deviation over subsets.

    Every subset has SUBSET rows of each side, or all of a smaller one and as many of the other; nan with fewer than 2.
    """
    m = min(len(a), len(b), SUBSET)
    if m < 2:
        return math.nan, math.nan
    values = []
    for draw in range(SUBSETS):
        x = a[some(len(a), m, "metrics.kid.set", item=draw)].astype(np.float64)
        y = b[some(len(b), m, "metrics.kid.real", item=draw)].astype(np.float64)
        values.append(within(x, polynomial) + within(y, polynomial) - 2 * polynomial(x, y).mean())
    return float(np.mean(values)), float(np.std(values, ddof=1))
