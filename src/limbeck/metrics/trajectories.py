"""How far the trajectories of a class's images end apart (ManifoldGD, Fig. 12)."""

import numpy as np


def variance_of_norms(norms: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """(steps,): variance of |x0_hat| (N, steps) over a class's images, mean over classes; nan with one image per class."""
    classes = [norms[labels == c] for c in np.unique(labels)]
    if min(map(len, classes)) < 2:
        return np.full(norms.shape[1], np.nan)
    return np.mean([c.var(axis=0, ddof=1) for c in classes], axis=0)
