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
class Pool:
    """The images of one class that a discovery chooses from.

    n: how many. latents: (n, D) float32, or None where none were asked for. tree: the cached fit of discoveries that have one.
    """

    n: int
    latents: np.ndarray | None = None
    tree: Tree | None = None


@dataclass(frozen=True)
class Found:
    """Prototypes of one class.

    indices: (IPC,) rows of the class's images, distinct. counts: (IPC,) images each stands for.
    centroids: (IPC, D) mean latents, or None where no latents were asked for. levels: (IPC,) depth in the tree, or None.
    """

    indices: np.ndarray
    counts: np.ndarray
    centroids: np.ndarray | None
    levels: np.ndarray | None = None
