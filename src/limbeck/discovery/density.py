"""CoDA's distribution discovery: HDBSCAN's dense clusters, brought to exactly IPC representatives by Algorithm 2.

Source: CoDA Sec. 3.1, Algorithms 1 and 2 (A.4), and the authors' released code where ``variant`` asks for it; reading in
docs/methods/coda.md. Distances are in the embedding.
"""

import operator
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from sklearn.cluster import KMeans

from limbeck.discovery.base import Clusters, Found, Options, Pool
from limbeck.discovery.hdbscan import cluster
from limbeck.seeds import stream

INITIAL, SPLIT, OUTLIER, FORCED, HALVED = range(5)  # as artifacts.ORIGINS names them
Part = tuple[np.ndarray, int]  # rows of a cluster, and its representative


@dataclass(frozen=True)
class _Rules:
    """What the printed algorithm and the released code do differently.

    enough: compares a cluster's size with the least that may be split. seeds: how many of the largest sub-clusters may seed a
    split; None: all. spare: (up to this IPC, outliers per missing representative that Strategy 2 wants); 1 above. forced:
    clusters of that many times min_cluster_size are Strategy 3's. first: share of min_cluster_size that ForcedSplit tries
    first. whole: the sizes it tries are rounded down before they shrink again.
    """

    enough: Callable[[int, int], bool]
    seeds: int | None
    spare: tuple[tuple[int, int], ...]
    forced: int
    first: float
    whole: bool


RULES = {
    "paper": _Rules(operator.gt, seeds=None, spare=(), forced=2, first=1.0, whole=True),
    "released": _Rules(operator.ge, seeds=3, spare=((10, 5), (50, 3)), forced=1, first=0.75, whole=False),
}


class _Cluster:
    """rows: (n,) of the class. representative: one of them. origin: INITIAL, SPLIT, OUTLIER, FORCED or HALVED."""

    def __init__(self, part: Part, origin: int):
        self.rows, self.representative = part
        self.origin = origin

    def __len__(self) -> int:
        return len(self.rows)


def discover(pool: Pool, ipc: int, options: Options, seed: int, class_id: int) -> Found:
    """IPC representatives, all of them real images, in descending size of the clusters they stand for.

    Raises
    ------
    ValueError: the class has fewer than IPC images.
    """
    if pool.latents is None or pool.embedding is None or not isinstance(pool.fit, Clusters):
        raise ValueError("needs latents, their embedding and its clusters")
    if pool.n < ipc:
        raise ValueError(f"reaches {pool.n} representatives, one per image, fewer than IPC {ipc}")
    state = int(stream(seed, "select.density", class_id).integers(2**31))
    found = _Matching(pool.embedding, pool.fit, ipc, options, state).run()
    found.sort(key=_largest_first)
    return Found(
        indices=np.array([c.representative for c in found], np.int64),
        counts=np.array([len(c) for c in found], np.int64),
        centroids=np.stack([pool.latents[c.rows].mean(axis=0, dtype=np.float64) for c in found]).astype(np.float32),
        origins=np.array([c.origin for c in found], np.uint8),
    )


class _Matching:
    """Algorithm 2 for one class. ``current`` is C together with S: every cluster carries its representative."""

    def __init__(self, embedding: np.ndarray, clusters: Clusters, ipc: int, options: Options, state: int):
        self.points, self.ipc, self.state = embedding.astype(np.float64), ipc, state
        self.size, self.samples, self.rules = options["min_cluster_size"], options["min_samples"], RULES[options["variant"]]
        self.current = [_Cluster(part, INITIAL) for part in representatives(self.points, clusters)]
        self.outliers = np.flatnonzero(clusters.labels < 0)  # of no cluster, and so they stay: a split parts the whole mother

    def run(self) -> list[_Cluster]:
        """Lines 1-25."""
        if len(self.current) >= self.ipc:
            return sorted(self.current, key=_largest_first)[: self.ipc]
        self._split_viable()
        needed = self.ipc - len(self.current)
        spare = next((share for most, share in self.rules.spare if self.ipc <= most), 1)
        if needed and len(self.outliers) >= spare * needed:  # Strategy 2, lines 13-15
            self.current += [_Cluster(part, OUTLIER) for part in self._kmeans(self.outliers, needed)]
        elif needed:
            self._force()
        return self.current

    def _split_viable(self) -> None:
        """Strategy 1, lines 5-9."""
        waiting = self._viable(self.current, 2 * self.size)
        while len(self.current) < self.ipc and waiting:
            waiting += self._viable(self._split(_pop_largest(waiting), self.size, SPLIT), 2 * self.size)

    def _force(self) -> None:
        """Strategy 3, lines 17-21; then, where the printed one would not end and the released fails, the largest is halved."""
        waiting = self._viable(self.current, self.rules.forced * self.size)
        while len(self.current) < self.ipc and waiting:
            mother = _pop_largest(waiting)
            for size in self._relaxed():
                if children := self._split(mother, size, FORCED):
                    waiting += self._viable(children, 2 * size)  # line 32: by the size that SplitCluster was given
                    break
        while len(self.current) < self.ipc:
            largest = min(self.current, key=_largest_first, default=None)
            if largest is not None and len(largest) > 1:
                self._replace(largest, self._kmeans(largest.rows, 2), HALVED)
            else:  # nothing left to halve: the outliers, too few for Strategy 2
                self.current += [_Cluster(part, HALVED) for part in self._kmeans(self.outliers, self.ipc - len(self.current))]

    def _relaxed(self) -> Iterator[int]:
        """The sizes that ForcedSplit tries, down to 2 (Algorithm 1, lines 10-14)."""
        size = self.rules.first * self.size
        yield max(2, int(size))
        while int(size) > 2:
            size = int(size * 0.75) if self.rules.whole else size * 0.75
            yield int(size)

    def _viable(self, clusters: list[_Cluster], least: int) -> list[_Cluster]:
        return [c for c in clusters if self.rules.enough(len(c), least)]

    def _split(self, mother: _Cluster, size: int, origin: int) -> list[_Cluster]:
        """SplitCluster, lines 26-34: the two clusters that replace the mother, or none."""
        points = self.points[mother.rows]
        inner = representatives(points, cluster(points, size, self.samples))
        inner = sorted(inner, key=lambda part: -len(part[0]))[: self.rules.seeds]
        best: list[Part] = []
        lowest = np.inf
        for (_, a), (_, b) in combinations(inner, 2):
            made = KMeans(2, init=points[[a, b]], n_init=1, algorithm="lloyd").fit(points)
            halves = self._parts(mother.rows, made.labels_)
            if len(halves) == 2 and made.inertia_ < lowest:
                best, lowest = halves, made.inertia_
        return self._replace(mother, best, origin) if best else []

    def _replace(self, mother: _Cluster, parts: list[Part], origin: int) -> list[_Cluster]:
        children = [_Cluster(part, origin) for part in parts]
        self.current = [c for c in self.current if c is not mother] + children
        return children

    def _kmeans(self, rows: np.ndarray, k: int) -> list[Part]:
        """Exactly k clusters of at least k rows with their middles; equal points are shared out by index."""
        points = self.points[rows]
        distinct = min(k, len(np.unique(points, axis=0)))
        parts = self._parts(rows, KMeans(distinct, n_init=3, random_state=self.state, algorithm="lloyd").fit(points).labels_)
        while len(parts) < k:
            parts.sort(key=lambda part: -len(part[0]))
            halves = np.array_split(parts.pop(0)[0], 2)
            parts += [(half, self._middle(half)) for half in halves]
        return parts

    def _parts(self, rows: np.ndarray, labels: np.ndarray) -> list[Part]:
        return [(own, self._middle(own)) for own in (rows[labels == c] for c in np.unique(labels))]

    def _middle(self, rows: np.ndarray) -> int:
        """The member nearest to the centroid."""
        points = self.points[rows]
        return int(rows[np.argmin(((points - points.mean(axis=0)) ** 2).sum(axis=1))])


def representatives(points: np.ndarray, clusters: Clusters) -> list[Part]:
    """HDBSCAN's clusters with the member of highest probability; ties by distance to the cluster's mean, then by index."""
    parts = []
    for c in range(int(clusters.labels.max(initial=-1)) + 1):
        rows = np.flatnonzero(clusters.labels == c)
        distance = ((points[rows] - points[rows].mean(axis=0)) ** 2).sum(axis=1)
        parts.append((rows, int(rows[np.lexsort((rows, distance, -clusters.probabilities[rows]))[0]])))
    return parts


def _largest_first(cluster: _Cluster) -> tuple[int, int]:
    return -len(cluster), cluster.representative


def _pop_largest(waiting: list[_Cluster]) -> _Cluster:
    waiting.sort(key=_largest_first)
    return waiting.pop(0)
