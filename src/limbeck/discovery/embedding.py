"""A class's latents in few dimensions, before anything is clustered: UMAP, PCA or none."""

import sys
import warnings

import faiss
import numpy as np
from sklearn.decomposition import PCA
from sklearn.preprocessing import StandardScaler

from limbeck.discovery.base import Embedded, Options
from limbeck.seeds import stream


def reduce(latents: np.ndarray, options: Options, class_id: int) -> Embedded:
    """Coordinates (N, components) of (N, D) float32 latents; with ``standardize`` after StandardScaler.

    A class too small for the asked neighbours or components gets as many as it can carry.
    """
    points = StandardScaler().fit_transform(latents.astype(np.float64)) if options["standardize"] else latents.astype(np.float64)
    if options["reducer"] == "none":
        return Embedded(points)
    if options["reducer"] == "umap" and len(points) > 5:
        return Embedded(_umap(points.astype(np.float32), options, class_id))
    return _pca(points, options["components"])


def _pca(points: np.ndarray, components: int) -> Embedded:
    n, dims = points.shape
    axes, centre = np.zeros((components, dims)), points.mean(axis=0)
    possible = min(components, n - 1, dims)  # fewer images span fewer axes; the rest stay 0
    if possible > 0 and points.std() > 0:
        axes[:possible] = PCA(possible, svd_solver="full").fit(points).components_
    return Embedded((points - centre) @ axes.T, axes, centre)


def _umap(points: np.ndarray, options: Options, class_id: int) -> np.ndarray:
    """UMAP on exact neighbours from FAISS; a fixed seed makes it one thread and one answer."""
    with warnings.catch_warnings():  # numba's and its own deprecations on import
        warnings.simplefilter("ignore")
        from umap import UMAP
    n = len(points)
    neighbours, components = min(options["n_neighbors"], n - 1), min(options["components"], n - 2)
    if neighbours < options["n_neighbors"]:
        print(
            f"warning: class {class_id} has {n} images: n_neighbors {options['n_neighbors']} capped at {neighbours}",
            file=sys.stderr,
        )
    state = int(stream(0, "reduce.umap", class_id).integers(2**31))
    made = UMAP(
        n_neighbors=neighbours,
        n_components=components,
        min_dist=options["min_dist"],
        random_state=state,
        n_jobs=1,
        precomputed_knn=nearest_neighbours(points, neighbours),
        force_approximation_algorithm=True,  # or it ignores the neighbours given to it below 4,096 points
    )
    with warnings.catch_warnings():  # that new points cannot be transformed, and that a graph in pieces starts at random
        warnings.simplefilter("ignore")
        embedding = made.fit_transform(points)
    return np.pad(embedding, [(0, 0), (0, options["components"] - components)]).astype(np.float64)


def nearest_neighbours(points: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Indices and distances (N, k) of each point's exact Euclidean neighbours, itself first."""
    squared, indices = faiss.knn(points, points, k)
    own = np.arange(len(points))
    for row in np.flatnonzero(indices[:, 0] != own):  # equal points may come before oneself
        at = np.flatnonzero(indices[row] == row)
        last = int(at[0]) if len(at) else k - 1
        indices[row, 1 : last + 1] = indices[row, :last]
        squared[row, 1 : last + 1] = squared[row, :last]
        indices[row, 0] = row
    squared[:, 0] = 0
    return indices.astype(np.int32), np.sqrt(np.maximum(squared, 0))
