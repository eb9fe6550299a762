"""Metrics of distilled features against real ones."""

import numpy as np

from benchmarks.cases.base import SEED, Case, close


def _features(own: int, real: int, dims: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(SEED)
    return rng.normal(0.1, 1, (own, dims)).astype(np.float32), rng.normal(size=(real, dims)).astype(np.float32)


def kid(own: int, real: int, dims: int) -> Case:
    """Fifty subsets of at most 1,000."""
    from sklearn.metrics.pairwise import polynomial_kernel

    from limbeck.metrics import kernels
    from limbeck.metrics.samples import some

    a, b = _features(own, real, dims)
    m = min(own, real, kernels.SUBSET)

    def direct() -> tuple[float, float]:
        values = []
        for draw in range(kernels.SUBSETS):
            x = a[some(own, m, "metrics.kid.set", item=draw)].astype(np.float64)
            y = b[some(real, m, "metrics.kid.real", item=draw)].astype(np.float64)
            xx, yy, xy = (polynomial_kernel(*pair, degree=3, gamma=1 / dims, coef0=1) for pair in ((x, x), (y, y), (x, y)))
            values.append(((xx.sum() - np.trace(xx)) + (yy.sum() - np.trace(yy))) / (m * (m - 1)) - 2 * xy.mean())
        return float(np.mean(values)), float(np.std(values, ddof=1))

    flop = kernels.SUBSETS * 3 * 2.0 * m**2 * dims
    return Case(
        lambda: kernels.kid(a, b), direct, "polynomial_kernel of scikit-learn", lambda u, v: close(u, v, 1e-9), flop, double=True
    )


def mmd(own: int, real: int, dims: int) -> Case:
    """RBF, unbiased, with the median heuristic."""
    from scipy.spatial.distance import cdist

    from limbeck.metrics import kernels
    from limbeck.metrics.samples import some

    a, b = _features(own, real, dims)

    def direct() -> float:
        x, y = a.astype(np.float64), b.astype(np.float64)
        few = x[some(own, kernels.MEDIAN_ROWS, "metrics.mmd")]
        scale = 2 * np.median(cdist(few, y[: kernels.MEDIAN_ROWS], "sqeuclidean"))
        xx, yy, xy = (np.exp(-cdist(*pair, "sqeuclidean") / scale) for pair in ((x, x), (y, y), (x, y)))
        inside = [(k.sum() - np.trace(k)) / (len(k) * (len(k) - 1)) for k in (xx, yy)]
        return float(sum(inside) - 2 * xy.mean())

    flop = 2.0 * (own**2 + real**2 + own * real) * dims
    return Case(
        lambda: kernels.mmd(a, b), direct, "cdist of SciPy, whole matrices", lambda u, v: close(u, v, 1e-6), flop, double=True
    )


def prdc(own: int, dims: int) -> Case:
    """Precision, recall, density and coverage of as many rows on either side."""
    from sklearn.metrics import pairwise_distances

    from limbeck.metrics.neighbours import K, precision_recall

    a, b = _features(own, own, dims)

    def direct() -> list[float]:
        radii = [np.partition(pairwise_distances(x), K, axis=1)[:, K] for x in (b, a)]
        between = pairwise_distances(b, a)
        real, made = between <= radii[0][:, None], between <= radii[1]
        return [real.any(0).mean(), made.any(1).mean(), real.sum(0).mean() / K, real.any(1).mean()]

    names = ("precision", "recall", "density", "knn_coverage")
    same = lambda found, values: close([found[name] for name in names], values, 5e-3)  # noqa: E731 - float32 there
    return Case(
        lambda: precision_recall(a, b), direct, "pairwise_distances of scikit-learn", same, 3 * 2.0 * own**2 * dims, double=True
    )
