"""Density clusters of a class: the IPC-free part of CoDA's discovery (Sec. 3.1)."""

import warnings

import numpy as np

from limbeck.discovery.base import Clusters, Options

with warnings.catch_warnings():  # its own deprecated syntax
    warnings.simplefilter("ignore")
    from hdbscan import HDBSCAN


def fit(points: np.ndarray, options: Options, class_id: int) -> Clusters:  # noqa: ARG001
    """Of a class's embedding (N, m)."""
    return cluster(points, options["min_cluster_size"], options["min_samples"])


def cluster(points: np.ndarray, min_cluster_size: int, min_samples: int) -> Clusters:
    """HDBSCAN of (N, m) points. It never returns a single cluster: fewer than two dense regions leave outliers alone."""
    n = len(points)
    if n < 2 * min_cluster_size:  # cannot hold two clusters of that size
        return Clusters(np.full(n, -1), np.zeros(n))
    made = HDBSCAN(min_cluster_size=min_cluster_size, min_samples=min_samples, approx_min_span_tree=False, core_dist_n_jobs=1)
    made.fit(points.astype(np.float64))
    return Clusters(made.labels_.astype(np.int64), made.probabilities_.astype(np.float64))
