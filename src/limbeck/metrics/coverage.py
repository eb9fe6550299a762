"""Rep, Div (ManifoldGD, Sec. 4) and coverage: highest cosines between a distilled set and real features that come in blocks."""

import math

import faiss
import numpy as np

QUANTILES = {"q05": 0.05, "q50": 0.5}  # beside the minimum, which is one outlier's


def unit(x: np.ndarray) -> np.ndarray:
    """Rows of length 1, float32."""
    return np.ascontiguousarray(x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12), np.float32)


def nearest(queries: np.ndarray, rows: np.ndarray, rank: int = 1) -> np.ndarray:
    """(n,) the ``rank``-th highest cosine of every query to a row; both of unit length."""
    return faiss.knn(queries, rows, rank, metric=faiss.METRIC_INNER_PRODUCT)[0][:, rank - 1]


def distinctness(distilled: np.ndarray) -> np.ndarray:
    """(n,) 1 minus the highest cosine of every row to another: Div is the least; nan for a single row."""
    if len(distilled) < 2:
        return np.full(len(distilled), math.nan)
    rows = unit(distilled)
    # the nearest of each row is itself (or a twin of it), the second nearest the most similar other
    return 1 - nearest(rows, rows, 2).astype(np.float64)


def described(name: str, values: np.ndarray) -> dict[str, float]:
    """Minimum and quantiles of a quantity of every image; nan where it is undefined."""
    return {name: float(values.min()), **{f"{name}_{key}": float(np.quantile(values, q)) for key, q in QUANTILES.items()}}


def class_mean(values: np.ndarray, labels: np.ndarray) -> float:
    """Mean over classes of the class's minimum."""
    return float(np.mean([values[labels == c].min() for c in np.unique(labels)]))


def diversity(distilled: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Div = 1 - max_{i != j} cos(S_i, S_j), quantiles over images, and the mean over classes of Div within each."""
    inside = np.empty(len(labels))
    for c in np.unique(labels):
        inside[labels == c] = distinctness(distilled[labels == c])
    return {**described("div", distinctness(distilled)), "div_class": class_mean(inside, labels)}


class Closeness:
    """Rep = min_i max_j cos(S_i, D_j) over distilled S and real D, and coverage, the mean over D of the highest cosine to S."""

    def __init__(self, distilled: np.ndarray, labels: np.ndarray):
        self.rows, self.labels = unit(distilled), labels
        self.best, self.best_inside = (np.full(len(labels), -math.inf) for _ in range(2))
        # sum and count over real rows, by all rows (None) and by those of the class
        self.covered: dict[int | None, list[float]] = {name: [0.0, 0] for name in (None, *np.unique(labels).tolist())}

    def add(self, label: int, real: np.ndarray) -> None:
        """One more block (m, d) of a class."""
        real = unit(real)
        inside = self.labels == label
        for name, best, own in ((None, self.best, np.ones_like(inside)), (label, self.best_inside, inside)):
            if own.any():
                rows = self.rows[own]
                best[own] = np.maximum(best[own], nearest(rows, real))
                self.covered[name][0] += float(nearest(real, rows).sum(dtype=np.float64))
                self.covered[name][1] += len(real)

    def values(self) -> dict[str, float]:
        """Rep with quantiles over images and its mean over classes, coverage and its mean over classes; nan without real rows."""
        best, inside = (np.where(np.isinf(x), math.nan, x) for x in (self.best, self.best_inside))
        means = {name: total / n if n else math.nan for name, (total, n) in self.covered.items()}
        return {
            **described("rep", best),
            "rep_class": class_mean(inside, self.labels),
            "coverage": means.pop(None),
            "coverage_class": float(np.mean(list(means.values()))),
        }
