"""Clusters, trees and embeddings of a class."""

import warnings
from typing import Any

import numpy as np

from benchmarks.cases.base import SEED, Case


def _points(n: int, d: int, modes: int = 20) -> np.ndarray:
    rng = np.random.default_rng([SEED, n, d])
    return (4 * rng.normal(size=(modes, d))[rng.integers(modes, size=n)] + rng.normal(size=(n, d))).astype(np.float32)


def kmeans(points: int, dims: int, ipc: int) -> Case:
    """A class's clusters, their means in float64 and nearest members, beside scikit-learn's clusters alone."""
    from sklearn.cluster import KMeans

    from limbeck.discovery.base import Pool
    from limbeck.discovery.kmeans import discover
    from limbeck.options import KMeansDiscovery
    from limbeck.seeds import stream

    x, options = _points(points, dims), KMeansDiscovery().model_dump()
    state = int(stream(SEED, "select.kmeans", 0).integers(2**31))

    def plain() -> np.ndarray:
        fit = KMeans(ipc, n_init=options["n_init"], max_iter=options["max_iter"], random_state=state).fit(x)
        return np.sort(np.bincount(fit.labels_))[::-1]

    same = lambda found, counts: np.array_equal(found.counts, counts)  # noqa: E731
    # ASSUME: the fewest that Lloyd's iterations can be, two for each start
    flop = options["n_init"] * 2 * 2.0 * points * dims * ipc
    return Case(lambda: discover(Pool(points, x), ipc, options, SEED, 0), plain, "KMeans of scikit-learn", same, flop)


def tree(points: int, dims: int) -> Case:
    """ManifoldGD's divisive tree to depth 8, once for every IPC, beside scikit-learn's bisection to as many leaves."""
    from sklearn.cluster import BisectingKMeans

    from limbeck.discovery.divisive import fit

    x, options = _points(points, dims), {"depth": 8, "n_init": 3}
    leaves = int((fit(x, options, 0).split < 0).sum())

    def plain() -> float:
        how = BisectingKMeans(leaves, n_init=3, random_state=SEED, algorithm="lloyd", bisecting_strategy="biggest_inertia")
        return float(how.fit(x).inertia_)

    def alike(found: Any, inertia: float) -> bool:
        own = [x[found.points(node)] for node in np.flatnonzero(found.split < 0)]
        return sum(float(((each - each.mean(0)) ** 2).sum()) for each in own) <= 1.5 * inertia + 1e-3 * float((x**2).sum())

    return Case(lambda: fit(x, options, 0), plain, f"BisectingKMeans of scikit-learn, {leaves} leaves", alike)


def umap_hdbscan(points: int, dims: int) -> Case:
    """CoDA's embedding and clusters of one class, beside umap-learn and hdbscan on the same standardised points."""
    from sklearn.metrics import adjusted_rand_score
    from sklearn.preprocessing import StandardScaler

    from limbeck.discovery.embedding import reduce
    from limbeck.discovery.hdbscan import cluster

    with warnings.catch_warnings():  # their own, on import
        warnings.simplefilter("ignore")
        from hdbscan import HDBSCAN
        from umap import UMAP

    options = {"reducer": "umap", "standardize": True, "n_neighbors": 15, "components": 10, "min_dist": 0.0}
    rng = np.random.default_rng(SEED)
    x = (4 * rng.normal(size=(5, dims))[np.arange(points) % 5] + rng.normal(size=(points, dims))).astype(np.float32)
    size = max(2, points // 20)

    def plain() -> np.ndarray:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            made = UMAP(n_neighbors=15, n_components=10, min_dist=0.0, random_state=SEED, n_jobs=1)
            found = made.fit_transform(StandardScaler().fit_transform(x))
        return HDBSCAN(min_cluster_size=size, min_samples=5, core_dist_n_jobs=1).fit_predict(found.astype(np.float64))

    ours = lambda: cluster(reduce(x, options, 0).coordinates, size, 5).labels  # noqa: E731
    return Case(ours, plain, "umap-learn and hdbscan", lambda a, b: adjusted_rand_score(a, b) > 0.95)
