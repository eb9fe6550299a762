"""k-means with K = IPC per class, in latent space or in an embedding (CoDA Table 10; Figure 3, MGD(c)).

The real image of a cluster is the member nearest to its centroid there; the prototypes' centroids are mean latents.
"""

import numpy as np
from sklearn.cluster import KMeans, MiniBatchKMeans

from limbeck.discovery.base import Found, Options, Pool
from limbeck.seeds import stream


def discover(pool: Pool, ipc: int, options: Options, seed: int, class_id: int) -> Found:
    """Clusters in descending size.

    Raises
    ------
    ValueError: no latents, or fewer distinct points than ``ipc``.
    """
    latents = pool.latents
    if latents is None:
        raise ValueError("k-means needs latents")
    points = latents if pool.embedding is None else pool.embedding
    distinct = len(np.unique(points, axis=0)) if ipc > 1 else pool.n
    if distinct < ipc:
        raise ValueError(f"has only {distinct} distinct points, fewer than IPC {ipc}")
    state = int(stream(seed, "select.kmeans", class_id).integers(2**31))
    common = {"n_init": options["n_init"], "max_iter": options["max_iter"], "random_state": state}
    fit = (MiniBatchKMeans if options["algorithm"] == "minibatch" else KMeans)(ipc, **common).fit(points)
    counts = np.bincount(fit.labels_, minlength=ipc)
    if counts.min() == 0:  # mini-batches may leave a centre to which nothing is nearest; full steps never do
        fit = KMeans(ipc, **common | {"init": fit.cluster_centers_, "n_init": 1}).fit(points)
        counts = np.bincount(fit.labels_, minlength=ipc)
    order = np.argsort(-counts, kind="stable")
    centroids = np.empty((ipc, latents.shape[1]), np.float32)
    indices = np.empty(ipc, np.int64)
    for row, cluster in enumerate(order):
        members = np.flatnonzero(fit.labels_ == cluster)
        # the mean in float64: sklearn's centre carries its own translation and rounding
        centroids[row] = latents[members].mean(axis=0, dtype=np.float64)
        middle = points[members].mean(axis=0, dtype=np.float64)
        indices[row] = members[np.argmin(((points[members] - middle) ** 2).sum(axis=1))]
    return Found(indices, counts[order].astype(np.int64), centroids)
