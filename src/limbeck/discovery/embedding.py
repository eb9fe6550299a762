"""A class's latents in few dimensions, before anything is clustered: UMAP, PCA or none."""

import warnings

import faiss
import numpy as np
from sklearn.decomposition import PCA
from sklearn.preprocessing import StandardScaler

from limbeck.discovery.base import Embedded, Options
from limbeck.seeds import stream

SMALLEST = 5  # images that UMAP's spectral start cannot do with
ROWS = 64  # points whose neighbours are in memory at once


def reduce(latents: np.ndarray, options: Options, class_id: int) -> Embedded:
    """Coordinates (N, components) of (N, D) float32 latents; with ``standardize`` after StandardScaler.

    A class too small for the asked neighbours or components gets as many as it can carry, and a note.
    """
    points = StandardScaler().fit_transform(latents.astype(np.float64)) if options["standardize"] else latents.astype(np.float64)
    if options["reducer"] == "none":
        return Embedded(points)
    if options["reducer"] == "pca":
        return _pca(points, options["components"])
    if len(points) <= SMALLEST:
        return Embedded(
            _pca(points, options["components"]).coordinates, note=f"{len(points)} images are too few for UMAP: PCA instead"
        )
    return _umap(points.astype(np.float32), options, class_id)


def _pca(points: np.ndarray, components: int) -> Embedded:
    n, dims = points.shape
    axes, centre = np.zeros((components, dims)), points.mean(axis=0)
    possible = min(components, n - 1, dims)  # fewer images span fewer axes; the rest stay 0
    if possible > 0 and points.std() > 0:
        axes[:possible] = PCA(possible, svd_solver="full").fit(points).components_
    return Embedded((points - centre) @ axes.T, axes, centre)


def _umap(points: np.ndarray, options: Options, class_id: int) -> Embedded:
    """UMAP on exact neighbours from FAISS; a fixed seed makes it one thread and one answer."""
    with warnings.catch_warnings():  # numba's and its own deprecations on import
        warnings.simplefilter("ignore")
        from umap import UMAP
    n = len(points)
    neighbours, components = min(options["n_neighbors"], n - 1), min(options["components"], n - 2)
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
        found = made.fit_transform(points)
    capped = [
        f"{key} {options[key]} capped at {now}"
        for key, now in (("n_neighbors", neighbours), ("components", components))
        if now < options[key]
    ]
    note = f"has {n} images: {', '.join(capped)}" if capped else ""
    return Embedded(np.pad(found, [(0, 0), (0, options["components"] - components)]), note=note)


def nearest_neighbours(points: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Indices and distances (N, k) of each point's nearest by Euclidean distance, itself first.

    FAISS finds them by |x|² + |y|² - 2xy, which loses the small distances that UMAP starts from; those are taken again from
    the differences.
    """
    indices = faiss.knn(points, points, k)[1].astype(np.int64)
    for row in np.flatnonzero(~(indices == np.arange(len(points))[:, None]).any(axis=1)):
        indices[row, -1] = row  # equal points crowded it out of its own list
    distances = np.empty(indices.shape)
    for start in range(0, len(points), ROWS):
        part = slice(start, start + ROWS)
        differences = points[indices[part]].astype(np.float64) - points[part, None]
        distances[part] = np.sqrt((differences**2).sum(axis=-1))
    distances[indices == np.arange(len(points))[:, None]] = -1  # oneself before equal points
    order = np.argsort(distances, axis=1, kind="stable")
    indices, distances = np.take_along_axis(indices, order, 1), np.take_along_axis(distances, order, 1)
    return indices.astype(np.int32), np.maximum(distances, 0).astype(np.float32)
