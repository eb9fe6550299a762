"""A class as one Gaussian per dimension (D3HR Sec. 4.3), and how Gaussian its dimensions are.

Moments are streamed: those of batches add up to those of the whole, so a class's latents need not be in memory at once.
"""

from dataclasses import dataclass

import numpy as np
from scipy.stats import chi2

SMALLEST = 20  # images below which the kurtosis test's approximation is not valid (Anscombe & Glynn 1983)
ROUNDING = 1e-12  # a standard deviation this small beside the mean is rounding: one float32 step in a million images is larger


@dataclass(frozen=True)
class Moments:
    """Of ``count`` points, per dimension: the mean and the sums of (x - mean)², ³ and ⁴, each (D,) float64."""

    count: int
    mean: np.ndarray
    m2: np.ndarray
    m3: np.ndarray
    m4: np.ndarray

    @classmethod
    def none(cls, *shape: int) -> "Moments":
        """Of no points: where a sum starts."""
        return cls(0, *np.zeros((4, *shape)))

    @classmethod
    def of(cls, points: np.ndarray) -> "Moments":
        """Of one batch (N, D) of at least one point."""
        mean = points.mean(axis=0, dtype=np.float64)
        centred = points - mean
        squared = centred * centred
        return cls(len(points), mean, squared.sum(axis=0), (squared * centred).sum(axis=0), (squared * squared).sum(axis=0))

    def __add__(self, other: "Moments") -> "Moments":
        """Of both batches together (Pébay 2008, Eqs. 2.1 and 3.1; Chan et al. for the second moment)."""
        a, b = self.count, other.count
        n = max(1, a + b)
        delta = other.mean - self.mean
        m2 = self.m2 + other.m2 + delta**2 * a * b / n
        m3 = self.m3 + other.m3 + delta**3 * a * b * (a - b) / n**2 + 3 * delta * (a * other.m2 - b * self.m2) / n
        m4 = self.m4 + other.m4 + delta**4 * a * b * (a * a - a * b + b * b) / n**3
        m4 += 6 * delta**2 * (a * a * other.m2 + b * b * self.m2) / n**2 + 4 * delta * (a * other.m3 - b * self.m3) / n
        return Moments(a + b, self.mean + delta * b / n, m2, m3, m4)

    @property
    def variance(self) -> np.ndarray:
        """(D,) unbiased. A single image has none to show: 0, so that every draw is that image."""
        return self.m2 / max(1, self.count - 1)

    @property
    def constant(self) -> np.ndarray:
        """(D,) bool, where all points are equal up to rounding."""
        return self.m2 <= self.count * (ROUNDING * self.mean) ** 2

    @property
    def skewness(self) -> np.ndarray:
        """(D,) of the points themselves, m3 / m2^1.5 by population moments; 0 for a constant dimension."""
        m2 = self._divisor()
        return np.where(self.constant, 0.0, self.m3 / m2 / np.sqrt(m2 / self.count))

    @property
    def kurtosis(self) -> np.ndarray:
        """(D,) excess over a Gaussian's, m4 / m2² - 3 by population moments; 0 for a constant dimension."""
        m2 = self._divisor()
        return np.where(self.constant, 0.0, self.m4 / m2 / m2 * self.count - 3)

    def _divisor(self) -> np.ndarray:
        return np.where(self.constant, 1.0, self.m2)


@dataclass(frozen=True)
class Normality:
    """Of a class: how many dimensions were tested, which share of them is not Gaussian, and means over dimensions.

    rejected is None where nothing could be tested: fewer than SMALLEST images, or constant dimensions only.
    """

    tested: int
    rejected: float | None
    skewness: float
    kurtosis: float


def normality(moments: Moments, level: float = 0.05) -> Normality:
    """Share of non-constant dimensions that D'Agostino and Pearson's test rejects at ``level``; mean |skewness|, |excess kurtosis|.

    The test needs no more than the moments, and keeps its level from 20 points on, where Jarque and Bera's needs thousands.
    """
    varying = ~moments.constant
    tested = int(varying.sum()) if moments.count >= SMALLEST else 0
    rejected = float((normal_p(moments)[varying] < level).mean()) if tested else None
    return Normality(tested, rejected, float(np.abs(moments.skewness).mean()), float(np.abs(moments.kurtosis).mean()))


def normal_p(moments: Moments) -> np.ndarray:
    """(D,) p-values of D'Agostino and Pearson's K² (1973), as scipy.stats.normaltest has them from the points."""
    n = float(moments.count)
    return chi2.sf(_skewness_score(moments.skewness, n) ** 2 + _kurtosis_score(moments.kurtosis, n) ** 2, 2)


def _skewness_score(skewness: np.ndarray, n: float) -> np.ndarray:
    """Standard normal for Gaussian points (D'Agostino 1970)."""
    beta2 = 3 * (n * n + 27 * n - 70) * (n + 1) * (n + 3) / ((n - 2) * (n + 5) * (n + 7) * (n + 9))
    w2 = np.sqrt(2 * (beta2 - 1)) - 1
    y = skewness * np.sqrt((n + 1) * (n + 3) / (6 * (n - 2)))
    return np.arcsinh(y / np.sqrt(2 / (w2 - 1))) / np.sqrt(0.5 * np.log(w2))


def _kurtosis_score(excess: np.ndarray, n: float) -> np.ndarray:
    """Standard normal for Gaussian points (Anscombe & Glynn 1983, Eqs. 1-5)."""
    variance = 24 * n * (n - 2) * (n - 3) / ((n + 1) ** 2 * (n + 3) * (n + 5))
    x = (excess + 3 - 3 * (n - 1) / (n + 1)) / np.sqrt(variance)
    skew = 6 * (n * n - 5 * n + 2) / ((n + 7) * (n + 9)) * np.sqrt(6 * (n + 3) * (n + 5) / (n * (n - 2) * (n - 3)))
    a = 6 + 8 / skew * (2 / skew + np.sqrt(1 + 4 / skew**2))
    with np.errstate(divide="ignore"):  # the pole is as far from a Gaussian as can be
        root = np.cbrt((1 - 2 / a) / (1 + x * np.sqrt(2 / (a - 4))))
    return (1 - 2 / (9 * a) - root) / np.sqrt(2 / (9 * a))
