"""Fréchet distance of Gaussians fitted to features (Heusel et al. 2017, Eq. 6), over real features that need not fit in memory."""

import math

import numpy as np
from scipy.linalg import qr, svdvals


class Moments:
    """Mean (d,) and scatter of rows (n, d) that come in blocks, in float64.

    The scatter, the sum of outer products about the mean, is factor^T factor; the factor (at most max(d, n), d) is updated by
    QR, so that no squares of small singular values are lost as they are in a matrix of second moments. Merging the means as in
    Chan et al. 1983: their difference is one more row.
    """

    def __init__(self, dim: int):
        self.count, self.mean = 0, np.zeros(dim)
        self.factor: np.ndarray = np.zeros((0, dim))

    def add(self, rows: np.ndarray) -> None:
        """One more block (m, d)."""
        x = rows.astype(np.float64)
        mean, total = x.mean(axis=0), self.count + len(x)
        shift = mean - self.mean
        stacked = np.vstack([self.factor, x - mean, math.sqrt(self.count * len(x) / total) * shift])
        self.factor = qr(stacked, mode="r")[0][: len(self.mean)] if len(stacked) > len(self.mean) else stacked
        self.mean += shift * (len(x) / total)
        self.count = total


class Frechet:
    """|mu1 - mu2|² + Tr S1 + Tr S2 - 2 Tr sqrt(S1 S2) of a set's moments and of rows that come in blocks.

    The last trace is the nuclear norm of A B^T for centred features A, B over sqrt(n - 1): exact for rank-deficient sets, where
    sqrtm is not. It needs B in the span of A's rows alone, so what is kept of the rows has the size of the set, not of d or N.
    """

    def __init__(self, own: Moments):
        self.own, self.mean, self.scatter = own, np.zeros_like(own.mean), 0.0
        self.projected = Moments(len(own.factor))

    def add(self, rows: np.ndarray) -> None:
        """One more block (m, d) of the other side."""
        x = rows.astype(np.float64) - self.own.mean
        mean, before = x.mean(axis=0), self.projected.count
        total = before + len(x)
        shift = mean - self.mean
        self.scatter += float(((x - mean) ** 2).sum() + before * len(x) / total * (shift @ shift))
        self.mean += shift * (len(x) / total)
        self.projected.add(x @ self.own.factor.T)

    def value(self) -> float:
        """The distance; nan with fewer than 2 rows on a side."""
        n1, n2 = self.own.count, self.projected.count
        if min(n1, n2) < 2:
            return math.nan
        cross = svdvals(self.projected.factor).sum() / math.sqrt((n1 - 1) * (n2 - 1))
        traces = (self.own.factor**2).sum() / (n1 - 1) + self.scatter / (n2 - 1)
        return float(max(0.0, self.mean @ self.mean + traces - 2 * cross))


def frechet(a: np.ndarray, b: np.ndarray) -> float:
    """Of features (n1, d) and (n2, d) in memory."""
    own = Moments(a.shape[1])
    own.add(a)
    distance = Frechet(own)
    distance.add(b)
    return distance.value()
