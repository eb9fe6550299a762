import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from limbeck.discovery import kmeans, random

OPTIONS = {"kind": "kmeans", "n_init": 3, "max_iter": 100}


@given(st.integers(1, 30), st.integers(0, 5), st.integers(0, 3))
def test_random_picks_distinct_rows_by_seed_and_class(ipc, seed, label):
    found = random.discover(None, 30, ipc, {"kind": "random"}, seed, label)
    assert len(set(found.indices.tolist())) == ipc
    assert found.indices.max() < 30
    again = random.discover(None, 30, ipc, {"kind": "random"}, seed, label)
    assert np.array_equal(found.indices, again.indices)


def test_a_larger_ipc_extends_a_smaller_one_and_the_reference_draws_apart():
    ten = random.discover(None, 500, 10, {"kind": "random"}, 0, 0).indices
    fifty = random.discover(None, 500, 50, {"kind": "random"}, 0, 0).indices
    assert np.array_equal(fifty[:10], ten)
    assert not np.array_equal(random.discover(None, 500, 10, {"kind": "subset"}, 0, 0).indices, ten)


@given(st.integers(1, 8), st.integers(8, 40), st.integers(0, 1000))
@settings(max_examples=25, deadline=None)
def test_kmeans_centroids_are_means_and_members_are_the_nearest(ipc, n, seed):
    latents = np.random.default_rng(seed).normal(size=(n, 5)).astype(np.float32)
    found = kmeans.discover(latents, n, ipc, OPTIONS, seed, 0)
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
    found = kmeans.discover(latents, 80, 4, OPTIONS, 0, 0)
    assert sorted((found.indices // 20).tolist()) == [0, 1, 2, 3]


def test_too_few_distinct_points_is_an_error():
    with pytest.raises(ValueError, match="only 2 distinct"):
        kmeans.discover(np.repeat(np.eye(2, dtype=np.float32), 5, axis=0), 10, 3, OPTIONS, 0, 0)
