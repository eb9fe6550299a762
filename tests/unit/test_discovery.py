import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.cluster.hierarchy import fcluster, linkage

from limbeck.discovery import agglomerative, divisive, kmeans, random, tree
from limbeck.discovery.base import Pool
from limbeck.discovery.tree import leaves, start_level

OPTIONS = {"kind": "kmeans", "n_init": 3, "max_iter": 100, "algorithm": "lloyd"}


@given(st.integers(1, 30), st.integers(0, 5), st.integers(0, 3))
def test_random_picks_distinct_rows_by_seed_and_class(ipc, seed, label):
    found = random.discover(Pool(30), ipc, {"kind": "random"}, seed, label)
    assert len(set(found.indices.tolist())) == ipc
    assert found.indices.max() < 30
    again = random.discover(Pool(30), ipc, {"kind": "random"}, seed, label)
    assert np.array_equal(found.indices, again.indices)


def test_a_larger_ipc_extends_a_smaller_one_and_the_reference_draws_apart():
    ten = random.discover(Pool(500), 10, {"kind": "random"}, 0, 0).indices
    fifty = random.discover(Pool(500), 50, {"kind": "random"}, 0, 0).indices
    assert np.array_equal(fifty[:10], ten)
    assert not np.array_equal(random.discover(Pool(500), 10, {"kind": "subset"}, 0, 0).indices, ten)


@given(st.integers(1, 8), st.integers(8, 40), st.integers(0, 1000))
@settings(max_examples=25, deadline=None)
def test_kmeans_centroids_are_means_and_members_are_the_nearest(ipc, n, seed):
    latents = np.random.default_rng(seed).normal(size=(n, 5)).astype(np.float32)
    found = kmeans.discover(Pool(n, latents), ipc, OPTIONS, seed, 0)
    assert found.counts.sum() == n
    assert (np.diff(found.counts) <= 0).all()
    assert len(set(found.indices.tolist())) == ipc
    distance = ((latents[:, None] - found.centroids) ** 2).sum(-1)
    nearest = distance.argmin(1)
    for k in range(ipc):
        members = np.flatnonzero(nearest == k)  # Lloyd has converged: the assignment is the nearest centroid
        assert np.allclose(latents[members].mean(0), found.centroids[k], atol=1e-4)
        assert distance[found.indices[k], k] == pytest.approx(distance[members, k].min())


def test_kmeans_finds_separated_blobs():
    rng = np.random.default_rng(0)
    centres = np.eye(4) * 50
    latents = np.concatenate([c + rng.normal(size=(20, 4)) for c in centres]).astype(np.float32)
    found = kmeans.discover(Pool(80, latents), 4, OPTIONS, 0, 0)
    assert sorted((found.indices // 20).tolist()) == [0, 1, 2, 3]


def test_too_few_distinct_points_is_an_error():
    with pytest.raises(ValueError, match="only 2 distinct"):
        kmeans.discover(Pool(10, np.repeat(np.eye(2, dtype=np.float32), 5, axis=0)), 3, OPTIONS, 0, 0)


# Trees.


def points(n=60, seed=0, dims=6):
    return np.random.default_rng(seed).normal(size=(n, dims)).astype(np.float32)


def options(kind="divisive", **changes):
    base = {"kind": kind, "selection": "levelwise", "s_start": 3, "classes": 10, "depth": 5, "n_init": 2, "linkage": "ward"}
    return {**base, **changes}


def pool(latents, **changes):
    opts = options(**changes)
    module = agglomerative if opts["kind"] == "agglomerative" else divisive
    return Pool(len(latents), latents, fit=module.fit(latents, opts, 0)), opts


def sse(x):
    return ((x - x.mean(0)) ** 2).sum()


@given(st.integers(1, 70), st.integers(0, 500), st.sampled_from(["divisive", "agglomerative"]), st.integers(0, 6), st.booleans())
@settings(max_examples=60, deadline=None)
def test_a_tree_is_a_tree(n, seed, kind, depth, duplicates):
    latents = points(n, seed)
    if duplicates:
        latents[: n // 2] = latents[0]
    found, _ = pool(latents, kind=kind, depth=depth)
    grown = found.fit
    assert sorted(grown.order.tolist()) == list(range(n))
    assert (grown.start[0], grown.stop[0], grown.parent[0], grown.depth[0]) == (0, n, -1, 0)
    for node in range(1, len(grown.start)):
        parent = grown.parent[node]
        assert grown.start[parent] <= grown.start[node] < grown.stop[node] <= grown.stop[parent]
        assert grown.depth[node] == grown.depth[parent] + 1
        assert grown.split[node] == -1 or grown.split[node] > grown.split[parent]
    inner = np.flatnonzero(grown.split >= 0)
    assert sorted(grown.split[inner].tolist()) == list(range(len(inner)))
    for node in inner:  # two children that share out its points
        children = np.flatnonzero(grown.parent == node)
        assert len(children) == 2
        assert (grown.stop - grown.start)[children].sum() == grown.stop[node] - grown.start[node]
    for node in np.flatnonzero(grown.split < 0):
        equal = len(np.unique(latents[grown.points(node)], axis=0)) == 1
        assert equal or (kind == "divisive" and grown.depth[node] == depth)


def test_divisive_splits_the_leaf_of_largest_sse_each_time():
    latents = points(80)
    grown = pool(latents, depth=4)[0].fit
    for count in range(1, int((grown.split >= 0).sum()) + 1):
        frontier = leaves(grown, count)
        assert len(frontier) == count
        next_node = int(np.flatnonzero(grown.split == count - 1)[0])
        open_leaves = [node for node in frontier if grown.split[node] >= 0]
        assert next_node in open_leaves
        assert sse(latents[grown.points(next_node)]) == pytest.approx(
            max(sse(latents[grown.points(i)]) for i in open_leaves), rel=1e-6
        )


def test_a_bisection_is_a_minimum_of_two_means():
    latents = points(40)
    grown = pool(latents, depth=1)[0].fit
    means = [latents[grown.points(node)].mean(0) for node in (1, 2)]
    closest = np.argmin([((latents - m) ** 2).sum(1) for m in means], axis=0)
    assert set(np.flatnonzero(closest == 0).tolist()) == set(grown.points(1).tolist())


@given(st.integers(2, 40), st.integers(0, 500), st.sampled_from(["ward", "average", "complete", "single"]), st.data())
@settings(max_examples=40, deadline=None)
def test_agglomerative_leaves_are_scipys_flat_clusters(n, seed, method, data):
    latents = points(n, seed)
    ipc = data.draw(st.integers(1, n))
    grown = pool(latents, kind="agglomerative", linkage=method)[0].fit
    ours = {frozenset(grown.points(node).tolist()) for node in leaves(grown, ipc)}
    labels = fcluster(linkage(latents.astype(np.float64), method), ipc, "maxclust")
    assert ours == {frozenset(np.flatnonzero(labels == c).tolist()) for c in np.unique(labels)}


def rounds(sizes, s_start, last, ipc):
    """Levels that Alg. 1 takes nodes from when no image runs out: rounds from s_start, each one deeper than the last."""
    sizes, taken = list(sizes), []
    for top in range(s_start, last + 1):
        for level in range(top, -1, -1):
            if level < len(sizes) and sizes[level] and len(taken) < ipc:
                sizes[level] -= 1
                taken.append(level)
    return taken


@pytest.fixture(scope="module")
def large():
    return pool(points(2000, 1), depth=6)[0]


@given(st.integers(1, 25), st.integers(0, 6), st.integers(0, 100))
@settings(max_examples=40, deadline=None)
def test_levelwise_goes_round_by_round_one_level_deeper_each_time(large, ipc, s_start, seed):
    found = tree.discover(large, ipc, options(depth=6, s_start=s_start), seed, 0)
    sizes = [int((large.fit.depth == d).sum()) for d in range(7)]
    expected = rounds(sizes, s_start, 6, ipc)
    assert found.levels[: len(expected)].tolist() == expected
    assert len(set(found.indices.tolist())) == ipc  # a real image is used once
    again = tree.discover(large, ipc, options(depth=6, s_start=s_start), seed, 0)
    assert np.array_equal(found.indices, again.indices)


def test_the_rounds_go_to_the_asked_depth_where_the_tree_is_shallower():
    given_pool, _ = pool(points(64, 3), depth=12)
    deepest = int(given_pool.fit.depth.max())
    assert 6 < deepest < 12
    sizes = [int((given_pool.fit.depth == d).sum()) for d in range(deepest + 1)]
    found = tree.discover(given_pool, 12, options(depth=12, s_start=deepest), 0, 0)
    assert found.levels[0] == deepest
    assert found.levels.tolist()[: deepest + 1] == rounds(sizes, deepest, 12, 12)[: deepest + 1]


@given(st.integers(1, 40), st.integers(0, 100))
@settings(max_examples=20, deadline=None)
def test_levelwise_in_a_dendrogram_uses_every_image_at_most_once(ipc, seed):
    given_pool, opts = pool(points(60, 1), kind="agglomerative", s_start=4)
    del opts["depth"]
    found = tree.discover(given_pool, ipc, opts, seed, 0)
    assert len(set(found.indices.tolist())) == ipc
    assert found.levels[: min(ipc, 5)].tolist() == [4, 3, 2, 1, 0][: min(ipc, 5)]


def test_prototypes_are_means_and_nearest_free_members():
    latents = points(50)
    given_pool, opts = pool(latents, depth=4, s_start=2)
    found = tree.discover(given_pool, 9, opts, 0, 0)
    used = set()
    nodes = {
        (int(d), int(b - a), latents[given_pool.fit.points(i)].mean(0, dtype=np.float64).astype(np.float32).tobytes()): i
        for i, (d, a, b) in enumerate(zip(given_pool.fit.depth, given_pool.fit.start, given_pool.fit.stop, strict=True))
    }
    for row, count, centroid, level in zip(found.indices, found.counts, found.centroids, found.levels, strict=True):
        members = given_pool.fit.points(nodes[int(level), int(count), centroid.tobytes()])
        free = [m for m in members if m not in used]
        assert row == free[int(((latents[free] - centroid) ** 2).sum(1).argmin())]
        used.add(int(row))


def test_s_start_changes_the_prototypes_and_the_seed_does_too():
    latents = points(200)
    given_pool, _ = pool(latents, depth=6)
    chosen = {s: tree.discover(given_pool, 10, options(depth=6, s_start=s), 0, 0) for s in (0, 2, 4, 6)}
    assert [chosen[s].levels[0] for s in (0, 2, 4, 6)] == [0, 2, 4, 6]
    assert len({tuple(sorted(f.indices.tolist())) for f in chosen.values()}) == 4
    other = tree.discover(given_pool, 10, options(depth=6, s_start=4), 1, 0)
    assert not np.array_equal(other.indices, chosen[4].indices)


def test_leaves_only_is_bisecting_k_means_with_ipc_clusters():
    latents = points(100)
    given_pool, opts = pool(latents, selection="leaves")
    found = tree.discover(given_pool, 12, opts, 0, 0)
    assert found.counts.sum() == 100
    assert (np.diff(found.counts) <= 0).all()


def test_an_ipc_above_the_trees_nodes_is_an_error():
    given_pool, opts = pool(points(50), depth=2)
    with pytest.raises(ValueError, match=r"a tree with 7 usable of 7 nodes, fewer than IPC 8: raise 'depth'"):
        tree.discover(given_pool, 8, opts, 0, 0)
    given_pool, opts = pool(points(50), depth=2, selection="leaves")
    with pytest.raises(ValueError, match="fewer than IPC 5"):
        tree.discover(given_pool, 5, opts, 0, 0)


def test_the_default_start_follows_the_number_of_classes():
    assert [start_level(None, c, 8) for c in (2, 10, 99, 100, 1000)] == [6, 6, 6, 1, 1]
    assert start_level(None, 10, 3) == 3
    assert start_level(2, 10, 8) == 2


@pytest.mark.parametrize("algorithm", ["lloyd", "minibatch"])
def test_every_cluster_of_either_k_means_has_members(algorithm):
    rng = np.random.default_rng()
    points = np.concatenate([rng.normal(0, 1e-3, (200, 2)), rng.normal(50, 1, (8, 2))]).astype(np.float32)
    for seed in range(5):
        options = {"kind": "kmeans", "n_init": 1, "max_iter": 3, "algorithm": algorithm}
        found = kmeans.discover(Pool(len(points), points), 12, options, seed, 0)
        assert found.counts.min() >= 1
        assert found.counts.sum() == len(points)
        assert len(np.unique(found.indices)) == 12
