"""CoDA's discovery: Algorithm 2's strategies on data made for each, the embedding against brute force."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.manifold import trustworthiness

from limbeck.discovery import density
from limbeck.discovery.base import Clusters, Pool
from limbeck.discovery.density import FORCED, HALVED, INITIAL, OUTLIER, SPLIT
from limbeck.discovery.embedding import nearest_neighbours, reduce
from limbeck.discovery.hdbscan import cluster, fit

OPTIONS = {"min_cluster_size": 10, "min_samples": 3}
VARIANTS = ("paper", "released")


def blobs(centres, size, spread=0.1, seed=0):
    rng = np.random.default_rng(seed)
    return np.concatenate([rng.normal(c, spread, (size, len(c))) for c in centres])


def checked_discovery(points, ipc, size=10, seed=0, variant="paper", labels=None):
    """Discover, and assert what holds for every class: IPC distinct real rows, largest clusters first.

    labels: clusters in place of HDBSCAN's, every member as probable.
    """
    options = {**OPTIONS, "min_cluster_size": size, "variant": variant}
    clusters = fit(points, options, 0) if labels is None else Clusters(np.asarray(labels), np.ones(len(points)))
    found = density.discover(Pool(len(points), points.astype(np.float32), points, clusters), ipc, options, seed, 0)
    assert len(set(found.indices.tolist())) == ipc  # real, distinct
    assert found.indices.min() >= 0
    assert found.indices.max() < len(points)
    assert (np.diff(found.counts) <= 0).all()
    return found


GRID = [(10.0 * i, 10.0 * j) for i in range(3) for j in range(3)]


@pytest.mark.parametrize("variant", VARIANTS)
def test_as_many_clusters_as_asked_for_are_the_blobs(variant):
    found = checked_discovery(blobs(GRID, 30), 9, variant=variant)
    assert sorted((found.indices // 30).tolist()) == list(range(9))
    assert found.origins.tolist() == [INITIAL] * 9
    assert found.counts.tolist() == [30] * 9


@pytest.mark.parametrize("variant", VARIANTS)
def test_too_many_clusters_keep_the_largest(variant):
    sizes = [20, 60, 30, 50]
    points = np.concatenate([blobs([GRID[i]], n, seed=i) for i, n in enumerate(sizes)])
    found = checked_discovery(points, 2, variant=variant)
    assert [int(np.searchsorted(np.cumsum(sizes), i, side="right")) for i in found.indices] == [1, 3]
    assert found.counts.tolist() == [60, 50]


def test_the_representative_is_the_member_of_highest_probability():
    points = blobs(GRID[:2], 40)
    clusters = fit(points, OPTIONS, 0)
    found = checked_discovery(points, 2)
    for row in found.indices:
        members = np.flatnonzero(clusters.labels == clusters.labels[row])
        assert clusters.probabilities[row] == clusters.probabilities[members].max()


def test_strategy_1_splits_a_cluster_that_hides_two():
    """Two dense cores that the first clustering took for one, far from a third."""
    points = np.concatenate([blobs([(0, 0), (2.2, 0)], 60, 0.2), blobs([(100, 0)], 60, 0.2, seed=1)])
    found = checked_discovery(points, 3, labels=np.repeat([0, 0, 1], 60))
    assert sorted(found.origins.tolist()) == [INITIAL, SPLIT, SPLIT]
    assert found.counts.tolist() == [60, 60, 60]
    halves = points[found.indices[found.origins == SPLIT]]
    assert abs(halves[0, 0] - halves[1, 0]) > 1.5


def test_strategy_2_clusters_the_outliers():
    rng = np.random.default_rng(2)
    points = np.concatenate([blobs(GRID[:2], 15, 0.05), rng.uniform(-300, 300, (12, 2))])
    outliers = set(np.flatnonzero(fit(points, OPTIONS, 0).labels < 0).tolist())
    assert len(outliers) >= 5
    found = checked_discovery(points, 7)
    assert sorted(found.origins.tolist()) == [INITIAL] * 2 + [OUTLIER] * 5
    assert set(found.indices[found.origins == OUTLIER].tolist()) <= outliers


def test_strategy_3_lowers_the_size_until_a_cluster_splits(monkeypatch):
    """Clusters of three groups of 7: 10 + 10 never fit, 7 + 14 do. No outliers to fall back on; one of 20 is not viable."""
    asked = []

    def spy(points, size, samples):
        asked.append((len(points), size))
        return cluster(points, size, samples)

    monkeypatch.setattr(density, "cluster", spy)
    groups = [blobs([(x, 0), (x + 1.5, 0), (x + 0.7, 1.2)], 7, 0.05, seed=int(x)) for x in (0, 50, 100)]
    points = np.concatenate([*groups, blobs([(200, 0)], 20, 0.5)])
    found = checked_discovery(points, 6, labels=np.repeat([0, 1, 2, 3], [21, 21, 21, 20]))
    assert sorted(found.counts.tolist()) == [7, 7, 14, 14, 20, 21]
    assert sorted(found.origins.tolist()) == [INITIAL] * 2 + [FORCED] * 4
    # strategy 1 asks each of the three once at full size; then 10, 7 for the first mother and for the second
    assert asked == [(21, 10)] * 3 + [(21, 10), (21, 7)] * 2


def test_a_forced_child_is_viable_by_the_size_that_split_it():
    """Line 32: five groups of 6 split at size 5; their children, below 2 x 10 but above 2 x 5, are split in turn."""
    points = blobs([(0, 0), (1, 0), (3, 0), (7, 0), (15, 0)], 6, 0.02)
    found = checked_discovery(points, 5, labels=np.zeros(30, np.int64))
    assert found.counts.tolist() == [6] * 5
    assert found.origins.tolist() == [FORCED] * 5


@pytest.mark.parametrize("variant", VARIANTS)
def test_when_nothing_can_be_split_the_largest_is_halved(variant):
    points = blobs([(0, 0), (50, 0)], 15, 1e-3)
    found = checked_discovery(points, 20, variant=variant, labels=np.repeat([0, 1], 15))
    assert HALVED in found.origins.tolist()
    assert found.counts.sum() == 30


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("ipc", [1, 2, 7, 30])
def test_one_tight_blob(ipc, variant):
    checked_discovery(blobs([(0, 0, 0)], 30, 1e-3), ipc, variant=variant)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("ipc", [1, 2, 7, 30])
def test_all_points_equal(ipc, variant):
    checked_discovery(np.ones((30, 4)), ipc, variant=variant)


def test_a_class_smaller_than_the_ipc_is_an_error():
    with pytest.raises(ValueError, match="reaches 5 representatives, one per image, fewer than IPC 6"):
        checked_discovery(blobs([(0, 0)], 5), 6)


@pytest.mark.parametrize("variant", VARIANTS)
@given(st.integers(1, 80), st.integers(2, 12), st.integers(0, 10_000), st.sampled_from([0.0, 0.01, 1.0, 30.0]), st.data())
@settings(max_examples=80, deadline=None)
def test_any_class_gives_exactly_ipc(variant, n, size, seed, spread, data):
    rng = np.random.default_rng(seed)
    points = rng.normal(size=(n, 3)) * spread + rng.integers(0, 4, (n, 1)) * 10.0
    checked_discovery(points, data.draw(st.integers(1, n)), size, seed, variant)


def test_a_fixed_seed_gives_the_same_set():
    points = np.random.default_rng(0).normal(size=(200, 5))
    a, b = (checked_discovery(points, 20, 5, seed=3) for _ in range(2))
    assert np.array_equal(a.indices, b.indices)


# Where the released code differs. Every case comes out otherwise under the other variant.


@pytest.mark.parametrize(("variant", "origin"), [("paper", HALVED), ("released", SPLIT)])
def test_released_splits_a_cluster_of_exactly_twice_the_size(variant, origin):
    found = checked_discovery(blobs([(0, 0), (5, 0)], 10), 2, variant=variant, labels=np.zeros(20, np.int64))
    assert found.origins.tolist() == [origin] * 2
    assert found.counts.tolist() == [10, 10]


@pytest.mark.parametrize(("variant", "counts"), [("paper", [105, 38]), ("released", [90, 53])])
def test_released_seeds_a_split_from_the_three_largest_only(variant, counts):
    """A wide rectangle of corners. Three left groups are the largest: any two of them part it into top and bottom, which k-means
    keeps; only a pair with a right corner finds left and right, of lower inertia."""
    places = {(0, 0): 40, (0, 3): 35, (0, 0.3): 30, (5, 0): 20, (5, 3): 18}
    parts = [blobs([place], n, 0.02, seed=n) for place, n in places.items()]
    points = np.concatenate(parts[::-1])  # so that the first found are not the largest
    found = checked_discovery(points, 2, variant=variant, labels=np.zeros(len(points), np.int64))
    assert found.origins.tolist() == [SPLIT] * 2
    assert found.counts.tolist() == counts


@pytest.mark.parametrize(
    ("ipc", "outliers", "paper", "released"),
    [
        (10, 10, OUTLIER, OUTLIER),
        (10, 9, OUTLIER, FORCED),  # 5 for each that is missing
        (11, 6, OUTLIER, OUTLIER),
        (11, 5, OUTLIER, FORCED),  # 3
        (50, 6, OUTLIER, OUTLIER),
        (50, 5, OUTLIER, FORCED),
        (51, 2, OUTLIER, OUTLIER),
        (51, 1, HALVED, FORCED),  # 1, as printed, which takes no cluster of 12 in strategy 3
    ],
)
def test_released_wants_spare_outliers_for_strategy_2(ipc, outliers, paper, released):
    """Two representatives are missing, and every cluster is of two groups of 6."""
    points = blobs([(100.0 * i + x, 0) for i in range(ipc - 2) for x in (0, 5)], 6, 0.05)
    points = np.concatenate([points, np.random.default_rng(0).uniform(-200, -100, (outliers, 2))])
    labels = np.concatenate([np.repeat(np.arange(ipc - 2), 12), np.full(outliers, -1)])
    for variant, origin in zip(VARIANTS, (paper, released), strict=True):
        found = checked_discovery(points, ipc, variant=variant, labels=labels)
        assert set(found.origins.tolist()) == {INITIAL, origin}


@pytest.mark.parametrize(("size", "variant", "origin"), [(5, "paper", HALVED), (5, "released", FORCED), (4, "released", HALVED)])
def test_released_forces_clusters_from_the_size_itself(size, variant, origin):
    """Two groups of 5 are a cluster of 10, of 4 one that is too small even for the released code."""
    points = blobs([(0, 0), (5, 0)], size)
    found = checked_discovery(points, 2, variant=variant, labels=np.zeros(2 * size, np.int64))
    assert found.origins.tolist() == [origin] * 2


@pytest.mark.parametrize(
    ("variant", "size", "tried"),
    [
        ("paper", 10, [10, 7, 5, 3, 2]),
        ("released", 10, [7, 5, 4, 3, 2]),  # 7.5, 5.63, 4.22, 3.16, 2.37
        ("paper", 17, [17, 12, 9, 6, 4, 3, 2]),
        ("released", 17, [12, 9, 7, 5, 4, 3, 2]),  # 12.75, 9.56, 7.17, 5.38, 4.03, 3.03, 2.27
        ("released", 2, [2]),
    ],
)
def test_released_shrinks_the_size_before_it_forces_and_keeps_its_fraction(monkeypatch, variant, size, tried):
    asked = []

    def never(points, size, samples):  # noqa: ARG001
        asked.append(size)
        return Clusters(np.full(len(points), -1), np.zeros(len(points)))

    monkeypatch.setattr(density, "cluster", never)
    points = np.random.default_rng(0).normal(size=(2 * size + 1, 2))
    found = checked_discovery(points, 2, size, variant=variant, labels=np.zeros(len(points), np.int64))
    assert asked == [size, *tried]  # strategy 1 first
    assert found.origins.tolist() == [HALVED] * 2


@pytest.mark.parametrize(("variant", "origins"), [("paper", [FORCED] * 3 + [HALVED] * 2), ("released", [FORCED] * 5)])
def test_released_forces_a_child_of_exactly_twice_the_size_that_split_it(variant, origins):
    """Five groups of 5 split at size 5, and their children of three and of two groups in turn; two groups are 2 x 5."""
    points = blobs([(0, 0), (1, 0), (3, 0), (7, 0), (15, 0)], 5, 0.02)
    found = checked_discovery(points, 5, variant=variant, labels=np.zeros(25, np.int64))
    assert sorted(found.origins.tolist()) == origins
    assert found.counts.tolist() == [5] * 5


@pytest.mark.parametrize("variant", VARIANTS)
def test_strategy_1_stops_at_the_ipc_and_leaves_no_image_out(variant):
    """Two mothers of three groups each: one split is enough, and every image is still an outlier or of a cluster."""
    points = np.concatenate([blobs([(x, 0), (x + 3, 0), (x + 9, 0)], 20) for x in (0, 100)])
    found = checked_discovery(points, 3, variant=variant, labels=np.repeat([0, 1], 60))
    assert sorted(found.origins.tolist()) == [INITIAL, SPLIT, SPLIT]
    assert found.counts.tolist() == [60, 40, 20]


# The embedding.


def options(reducer, **changes):
    return {"reducer": reducer, "components": 5, "n_neighbors": 15, "min_dist": 0.0, "standardize": True, **changes}


@given(st.integers(2, 60), st.integers(0, 1000), st.booleans())
@settings(max_examples=30, deadline=None)
def test_neighbours_are_brute_force_with_oneself_first(n, seed, duplicates):
    points = np.random.default_rng(seed).normal(size=(n, 3000)).astype(np.float32)
    if duplicates:
        points[: n // 2] = points[0]
    k = min(n, 6)
    indices, distances = nearest_neighbours(points, k)
    assert (indices[:, 0] == np.arange(n)).all()
    assert (distances[:, 0] == 0).all()
    assert all(len(set(row)) == k for row in indices.tolist())
    exact = np.sort(np.linalg.norm(points[:, None].astype(np.float64) - points, axis=-1), axis=1)[:, :k]
    assert np.allclose(distances, exact, atol=1e-5)


def test_none_is_the_standard_scores():
    points = np.random.default_rng(0).normal(3, 2, (40, 6)).astype(np.float32)
    found = reduce(points, options("none"), 0).coordinates
    assert np.allclose(found, (points - points.mean(0)) / points.std(0), atol=1e-5)


def test_pca_keeps_the_variance_of_the_leading_axes():
    points = np.random.default_rng(0).normal(size=(40, 6)).astype(np.float32)
    found = reduce(points, options("pca", components=3), 0)
    scores = (points - points.mean(0)) / points.std(0)
    values = np.linalg.svd(scores.astype(np.float64), compute_uv=False)[:3]
    assert np.allclose(np.linalg.norm(found.coordinates, axis=0), values, rtol=1e-5)


@pytest.mark.long
def test_umap_keeps_neighbourhoods_and_gives_the_same_answer_twice():
    points = blobs([tuple(row) for row in np.eye(8)[:4] * 6], 40, 0.8).astype(np.float32)
    found = reduce(points, options("umap"), 0).coordinates
    assert np.array_equal(found, reduce(points, options("umap"), 0).coordinates)
    assert found.shape == (160, 5)
    assert trustworthiness(points, found, n_neighbors=10) > 0.85


@pytest.mark.long
def test_a_class_smaller_than_its_neighbourhood_is_capped_and_says_so():
    points = np.random.default_rng(1).normal(size=(12, 9)).astype(np.float32)
    capped = reduce(points, options("umap", n_neighbors=85, components=50), 7)
    assert capped.coordinates.shape == (12, 50)
    assert capped.note == "has 12 images: n_neighbors 85 capped at 11, components 50 capped at 10"
    tiny = reduce(points[:3], options("umap"), 7)
    assert tiny.coordinates.shape == (3, 5)
    assert tiny.axes is None
    assert "too few for UMAP" in tiny.note
