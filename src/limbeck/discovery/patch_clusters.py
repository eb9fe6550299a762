"""k-means clusters of a class's patches (diffusion-driven patch selection, Sec. 3.3)."""

import numpy as np
from sklearn.cluster import KMeans

from limbeck.discovery.base import Clusters, Options
from limbeck.seeds import stream

SEED = 0  # clusters depend on no generation seed, as nothing else of the method does


def fit(features: np.ndarray, options: Options, class_id: int) -> Clusters:  # noqa: ARG001
    """``options["clusters"]`` clusters of (N, D) features, at most as many as there are distinct ones."""
    number = min(options["clusters"], len(np.unique(features, axis=0)))
    # the same stream for all classes: a class's number changes with the subset that it is part of
    state = int(stream(SEED, "fit.patches").integers(2**31))
    found = KMeans(number, n_init=options["n_init"], random_state=state, algorithm="lloyd").fit(features.astype(np.float64))
    distances = np.linalg.norm(features - found.cluster_centers_[found.labels_], axis=1)
    return Clusters(found.labels_.astype(np.int64), np.ones(len(features)), distances)
