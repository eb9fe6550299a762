"""A class's latents in few dimensions, before anything is clustered: UMAP, PCA or none."""

import warnings
from functools import cache
from importlib import import_module
from typing import Any

import faiss
import numpy as np
from sklearn.decomposition import PCA
from sklearn.preprocessing import StandardScaler

from limbeck.discovery.base import Embedded, Options
from limbeck.seeds import stream

SMALLEST = 5  # images that UMAP's spectral start cannot do with
# what a fit of UMAP compiles, by module, and whether with fast mathematics (as umap-learn has it)
COMPILED = (
    ("umap_", "smooth_knn_dist", False),
    ("umap_", "compute_membership_strengths", False),
    ("layouts", "_nb_optimize_layout_euclidean_single_epoch", True),
)


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
    n = len(points)
    neighbours, components = min(options["n_neighbors"], n - 1), min(options["components"], n - 2)
    state = int(stream(0, "reduce.umap", class_id).integers(2**31))
    made = _umap_class()(
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


@cache
def _umap_class() -> Any:
    """UMAP, with what it compiles compiled for one thread and kept on disk by numba.

    umap-learn compiles it in every process, most of the time for parallel loops that a fixed seed never uses. The numbers are the
    same, bit for bit.
    """
    with warnings.catch_warnings():  # numba's and its own deprecations on import
        warnings.simplefilter("ignore")
        import numba
        from umap import UMAP
    for name, function, fast in COMPILED:
        module = import_module(f"umap.{name}")
        setattr(module, function, numba.njit(getattr(module, function).py_func, fastmath=fast, cache=True))
    return UMAP


def nearest_neighbours(points: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Indices and distances (N, k) of each point's nearest by Euclidean distance, itself first.

    FAISS finds them by |x|² + |y|² - 2xy, which loses the small distances that UMAP starts from; those are taken again from
    the differences.
    """
    indices = faiss.knn(points, points, k)[1].astype(np.int64)
    for row in np.flatnonzero(~(indices == np.arange(len(points))[:, None]).any(axis=1)):
        indices[row, -1] = row  # equal points crowded it out of its own list
    distances = np.empty(indices.shape)
    for i, near in enumerate(indices):  # one at a time: k differences fit the cache
        differences = points[near].astype(np.float64) - points[i]
        distances[i] = np.sqrt(np.einsum("ij,ij->i", differences, differences))
    distances[indices == np.arange(len(points))[:, None]] = -1  # oneself before equal points
    order = np.argsort(distances, axis=1, kind="stable")
    indices, distances = np.take_along_axis(indices, order, 1), np.take_along_axis(distances, order, 1)
    return indices.astype(np.int32), np.maximum(distances, 0).astype(np.float32)
