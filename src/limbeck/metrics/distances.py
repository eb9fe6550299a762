"""Distances between a distilled set and the real one, over features. Arrays in, floats out (EVALUATION.md, Metrics)."""

import faiss
import numpy as np
from scipy.linalg import qr, svdvals


def _scaled(features: np.ndarray) -> np.ndarray:
    """Centred rows over sqrt(n - 1), so that A^T A is the covariance; reduced by QR where n > d (same A^T A)."""
    x = features.astype(np.float64)
    a = (x - x.mean(axis=0)) / np.sqrt(len(x) - 1)
    return qr(a, mode="r")[0][: a.shape[1]] if len(a) > a.shape[1] else a


def frechet(a: np.ndarray, b: np.ndarray) -> float:
    """Fréchet distance of Gaussians fitted to features (n1, d), (n2, d).

    |mu1 - mu2|² + Tr S1 + Tr S2 - 2 Tr sqrt(S1 S2), the last as the nuclear norm of A B^T for scaled centred features
    A, B: exact for rank-deficient sets, where sqrtm is not.
    """
    if min(len(a), len(b)) < 2:
        raise ValueError("the Fréchet distance needs at least 2 rows on each side")
    x, y = _scaled(a), _scaled(b)
    mean = a.mean(axis=0, dtype=np.float64) - b.mean(axis=0, dtype=np.float64)
    cross = svdvals(x @ y.T).sum()
    return float(max(0.0, mean @ mean + (x**2).sum() + (y**2).sum() - 2 * cross))


def _squared(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    x, y = a.astype(np.float64), b.astype(np.float64)
    return np.maximum((x**2).sum(1)[:, None] + (y**2).sum(1) - 2 * x @ y.T, 0)


def mmd(a: np.ndarray, b: np.ndarray) -> float:
    """Unbiased squared maximum mean discrepancy, RBF kernel exp(-|x-y|²/(2 s²)), s² the median squared distance between
    the two sets (Gretton et al. 2012, Eq. 3). May be slightly negative: it is centred on 0 for equal distributions."""
    if min(len(a), len(b)) < 2:
        raise ValueError("the unbiased MMD needs at least 2 rows on each side")
    cross = _squared(a, b)
    scale = 2 * np.median(cross)
    if scale == 0:
        return 0.0
    within = 0.0
    for x in (a, b):
        k = np.exp(-_squared(x, x) / scale)
        within += (k.sum() - np.trace(k)) / (len(x) * (len(x) - 1))
    return float(within - 2 * np.exp(-cross / scale).mean())


def l2_mean(a: np.ndarray, b: np.ndarray) -> float:
    """Distance of the mean features."""
    return float(np.linalg.norm(a.mean(axis=0, dtype=np.float64) - b.mean(axis=0, dtype=np.float64)))


def _nearest(index: "faiss.Index", rows: np.ndarray, queries: np.ndarray, k: int = 1) -> np.ndarray:
    index.add(np.ascontiguousarray(rows, np.float32))
    return index.search(np.ascontiguousarray(queries, np.float32), k)[0]


def l2_nearest(a: np.ndarray, b: np.ndarray) -> float:
    """Mean distance of each row of ``a`` to its nearest row of ``b``."""
    return float(np.sqrt(np.maximum(_nearest(faiss.IndexFlatL2(a.shape[1]), b, a)[:, 0], 0)).mean())


def _unit(x: np.ndarray) -> np.ndarray:
    return (x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)).astype(np.float32)


def best_cosine(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(n1,) for each row of ``a`` the highest cosine to a row of ``b``."""
    return _nearest(faiss.IndexFlatIP(a.shape[1]), _unit(b), _unit(a))[:, 0]


def representativeness(distilled: np.ndarray, real: np.ndarray) -> float:
    """Rep = min_i max_j cos(S_i, D_j) over distilled S and real D (ManifoldGD, Sec. 4)."""
    return float(best_cosine(distilled, real).min())


def diversity(distilled: np.ndarray) -> float:
    """Div = 1 - max_{i != j} cos(S_i, S_j) (ManifoldGD, Sec. 4); 1 for a single image."""
    if len(distilled) < 2:
        return 1.0
    # the nearest of each row is itself (or a twin of it), the second nearest the most similar other
    unit = _unit(distilled)
    return float(1 - _nearest(faiss.IndexFlatIP(unit.shape[1]), unit, unit, 2)[:, 1].max())


def coverage(distilled: np.ndarray, real: np.ndarray) -> float:
    """Mean over real images of the highest cosine to a distilled one."""
    return float(best_cosine(real, distilled).mean())


def all_metrics(
    distilled: np.ndarray, labels: np.ndarray, train: np.ndarray, train_labels: np.ndarray, test: np.ndarray
) -> dict[str, float]:
    """Every metric of one set: Fréchet, Rep, Div and coverage against the training set, l2 and MMD against the test set.

    ``*_class`` are means over classes of the same quantity within the class: Rep and Div are single-outlier statistics.
    """
    classes = np.unique(labels)
    pairs = [(distilled[labels == c], train[train_labels == c]) for c in classes]
    return {
        "fd": frechet(distilled, train),
        "l2": l2_mean(distilled, test),
        "l2_nearest": l2_nearest(distilled, test),
        "mmd": mmd(distilled, test),
        "rep": representativeness(distilled, train),
        "rep_class": float(np.mean([representativeness(s, d) for s, d in pairs])),
        "div": diversity(distilled),
        "div_class": float(np.mean([diversity(s) for s, _ in pairs])),
        "coverage_class": float(np.mean([coverage(s, d) for s, d in pairs])),
    }
