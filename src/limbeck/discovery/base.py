"""What every discovery takes and returns for one class: ``discover(pool, ipc, options, seed, class_id) -> Found``."""

from dataclasses import dataclass
from typing import Any

import numpy as np

Options = dict[str, Any]


@dataclass(frozen=True)
class Tree:
    """A binary tree over the N points of a class; node 0 is the root, which holds all of them.

    order: (N,) a permutation of the points, in which every node is the contiguous range ``start:stop``.
    start, stop, parent (-1 for the root), depth (0 for the root): one entry per node.
    split: a node's place in the order in which nodes were split (0 is the root's), -1 for a leaf.
    """

    order: np.ndarray
    start: np.ndarray
    stop: np.ndarray
    parent: np.ndarray
    depth: np.ndarray
    split: np.ndarray

    def points(self, node: int) -> np.ndarray:
        """Rows of a node's points, ascending."""
        return np.sort(self.order[self.start[node] : self.stop[node]])


@dataclass(frozen=True)
class Clusters:
    """Clusters of N points. labels: (N,) 0, 1, … or -1 for an outlier. probabilities: (N,) of membership. distances: (N,) to the
    cluster's centre, where it has one.
    """

    labels: np.ndarray
    probabilities: np.ndarray
    distances: np.ndarray | None = None


@dataclass(frozen=True)
class Embedded:
    """Coordinates (N, m); of a linear embedding also its axes (m, D) and what it subtracts first, centre (D,).

    note: what was not done as asked, and why.
    """

    coordinates: np.ndarray
    axes: np.ndarray | None = None
    centre: np.ndarray | None = None
    note: str = ""


@dataclass(frozen=True)
class Pool:
    """The images of one class, or their scored patches, that a discovery chooses from.

    n: how many. latents: (n, D) float32, or None where none were asked for. embedding: (n, m), and fit: the cached one, of
    discoveries that have them. scores: (n,) of patches, higher is better.
    """

    n: int
    latents: np.ndarray | None = None
    embedding: np.ndarray | None = None
    fit: Tree | Clusters | None = None
    scores: np.ndarray | None = None


@dataclass(frozen=True)
class Found:
    """Prototypes of one class.

    indices: (IPC,) rows of the class's images, distinct. counts: (IPC,) images each stands for.
    centroids: (IPC, D) mean latents, or None where no latents were asked for. levels: (IPC,) depth in the tree, or None.
    origins: (IPC,) indices into artifacts.ORIGINS (CoDA Alg. 2), or None. parts: (IPC, parts) the patches that an image is made
    of, of which ``indices`` are the first, or None.
    """

    indices: np.ndarray
    counts: np.ndarray
    centroids: np.ndarray | None
    levels: np.ndarray | None = None
    origins: np.ndarray | None = None
    parts: np.ndarray | None = None
