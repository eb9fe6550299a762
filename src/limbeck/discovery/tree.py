"""Prototypes from a tree's nodes: level by level (ManifoldGD Alg. 1), or its leaves after IPC - 1 splits."""

import numpy as np

from limbeck.discovery.base import Found, Options, Pool, Tree
from limbeck.seeds import stream

FEW_CLASSES, COARSE_START, FINE_START = 100, 1, 6


def start_level(s_start: int | None, classes: int, depth: int) -> int:
    """Deepest level of the first round; ManifoldGD Fig. 10 starts deep with few classes and near the root with many."""
    chosen = s_start if s_start is not None else (FINE_START if classes < FEW_CLASSES else COARSE_START)
    return min(chosen, depth)


def discover(pool: Pool, ipc: int, options: Options, seed: int, class_id: int) -> Found:
    """IPC nodes of the tree ``pool.fit``.

    The real image of a node is its member nearest to the node's mean that no other node has taken.

    ``options['classes']`` is the number of classes of the whole dataset.

    Raises
    ------
    ValueError: the tree has fewer usable nodes than IPC.
    """
    if pool.latents is None or not isinstance(pool.fit, Tree):
        raise ValueError("needs latents and their tree")
    tree = pool.fit
    takers = _Takers(pool.latents, tree)
    if options["selection"] == "levelwise":
        last = int(options.get("depth", tree.depth.max()))
        start = start_level(options["s_start"], options["classes"], last)
        nodes = _levelwise(tree, ipc, (start, last), stream(seed, f"select.{options['kind']}", class_id), takers)
    else:
        nodes = [node for node in leaves(tree, ipc) if takers.take(node)]
    if len(nodes) < ipc:
        raise ValueError(
            f"has a tree with {len(nodes)} usable of {len(tree.start)} nodes, fewer than IPC {ipc}: raise 'depth' or lower the IPC "
            "(equal latents are not split)"
        )
    return Found(
        indices=np.array([takers.row[node] for node in nodes], np.int64),
        counts=(tree.stop - tree.start)[nodes].astype(np.int64),
        centroids=np.stack([takers.mean(node) for node in nodes]).astype(np.float32),
        levels=tree.depth[nodes].astype(np.int32),
    )


class _Takers:
    """Which real image each chosen node has taken; each image serves one node."""

    def __init__(self, latents: np.ndarray, tree: Tree):
        self.latents, self.tree = latents, tree
        self.row: dict[int, int] = {}
        self.used: set[int] = set()

    def mean(self, node: int) -> np.ndarray:
        return self.latents[self.tree.points(node)].mean(axis=0, dtype=np.float64)

    def take(self, node: int) -> bool:
        """Give the node its nearest free member; False when all its members serve other nodes."""
        free = [int(i) for i in self.tree.points(node) if int(i) not in self.used]
        if not free:
            return False
        distances = ((self.latents[free] - self.mean(node)) ** 2).sum(axis=1)
        self.row[node] = free[int(np.argmin(distances))]
        self.used.add(self.row[node])
        return True


def _levelwise(tree: Tree, ipc: int, rounds: tuple[int, int], rng: np.random.Generator, takers: _Takers) -> list[int]:
    """Rounds s_start … 0, then s_start + 1 … 0 up to L … 0; each takes one random unused node per level (Alg. 1, lines 4-14).

    rounds: (s_start, L). What is still missing after the last round comes from random leaves (Sec. 3.3, step 2), then from any
    other node.
    """
    start, last = rounds
    # L_d: all nodes at depth d. The printed "leaf nodes at depth d" would leave L_0 empty and s_start without effect
    levels = [[int(n) for n in np.flatnonzero(tree.depth == d)] for d in range(last + 1)]
    chosen: list[int] = []
    for top in range(start, last + 1):
        for level in range(top, -1, -1):
            if len(chosen) < ipc:
                chosen += _draw(levels[level], 1, rng, takers)
    rest = {node for level in levels for node in level}
    fine = [node for node in sorted(rest) if tree.split[node] < 0]
    for remaining in (fine, sorted(rest - set(fine))):
        chosen += _draw(remaining, ipc - len(chosen), rng, takers)
    return chosen


def _draw(nodes: list[int], count: int, rng: np.random.Generator, takers: _Takers) -> list[int]:
    """Up to ``count`` random nodes that still have a free image; drawn nodes leave the list."""
    drawn: list[int] = []
    while nodes and len(drawn) < count:
        node = nodes.pop(int(rng.integers(len(nodes))))
        if takers.take(node):
            drawn.append(node)
    return drawn


def leaves(tree: Tree, count: int) -> list[int]:
    """The leaves after ``count - 1`` splits in the tree's own order, largest first; fewer where the tree has fewer splits."""
    exists = (tree.parent < 0) | (tree.split[tree.parent] < count - 1)
    whole = (tree.split < 0) | (tree.split >= count - 1)
    nodes = np.flatnonzero(exists & whole)
    return [int(n) for n in nodes[np.argsort(-(tree.stop - tree.start)[nodes], kind="stable")]]
