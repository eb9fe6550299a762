"""Tangent spaces against a dense float64 eigendecomposition of the D x D covariance."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from limbeck.geometry.annealing import decay, released
from limbeck.geometry.tangent import EXTRA, MAX_ITERATIONS, lift, tangent


def cloud(rng, k, dims, d, gap=10.0):
    """K points whose covariance has d directions well above the rest (float64)."""
    axes = np.linalg.qr(rng.normal(size=(dims, d)))[0]
    return rng.normal(size=(k, d)) * gap @ axes.T + rng.normal(size=(k, dims)) / np.sqrt(dims) + rng.normal(size=dims)


def dense(points, d):
    """(eigenvalues, top-d eigenvectors) of the covariance, the D x D way, and its rank."""
    centred = points - points.mean(0)
    values, vectors = np.linalg.eigh(centred.T @ centred / len(points))
    rank = int((values > values[-1] * 1e-10).sum()) if values[-1] > 0 else 0
    return values[::-1], vectors[:, ::-1][:, : min(d, rank)]


def angle(a, b):
    """Largest principal angle between two column spaces, by the sine (the cosine cannot resolve small ones)."""
    a, b = np.linalg.qr(a)[0], np.linalg.qr(b)[0]
    return float(np.arcsin(np.clip(np.linalg.norm(a - b @ (b.T @ a), 2), 0, 1)))


def basis_of(points, found, i=0):
    rank = int(found.ranks[i])
    return lift(torch.from_numpy(points), found.coefficients[i].double()).numpy()[:, :rank]


@given(st.integers(0, 2**32 - 1), st.integers(1, 5), st.integers(2, 60), st.integers(6, 90))
@settings(max_examples=60, deadline=None)
def test_exact_is_the_dense_eigendecomposition(seed, d, k, dims):
    """K below and above d + 1, below and above D: min(d, rank) vectors, principal angles below 1e-5."""
    points = cloud(np.random.default_rng(seed), k, dims, d)
    found = tangent(torch.from_numpy(points)[None], d)
    values, expected = dense(points, d)
    assert int(found.ranks[0]) == expected.shape[1] == min(d, k - 1)
    basis = basis_of(points, found)
    if values[min(d, k - 1) - 1] > 1.2 * values[min(d, k - 1)]:  # a subspace is only defined by a gap
        assert angle(basis, expected) < 1e-5
    assert np.abs(basis.T @ basis - np.eye(basis.shape[1])).max() < 1e-5
    full = np.pad(values, (0, d + EXTRA))[: d + EXTRA]
    assert np.allclose(found.spectrum[0], full, rtol=1e-5, atol=values[0] * 1e-7)
    assert np.isclose(found.variance[0], values.sum(), rtol=1e-5)


def test_exact_at_4096_dimensions_against_lapack():
    rng = np.random.default_rng(1)
    points = np.stack([cloud(rng, 12, 4096, 3) for _ in range(3)])
    found = tangent(torch.from_numpy(points), 3)
    for i in range(3):
        # the thin SVD is the dense eigendecomposition without its 4084 zeros
        expected = np.linalg.svd(points[i] - points[i].mean(0), full_matrices=False)[2][:3].T
        assert angle(basis_of(points[i], found, i), expected) < 1e-5


@pytest.mark.long
def test_exact_at_4096_dimensions_against_the_dense_covariance():
    points = cloud(np.random.default_rng(2), 300, 4096, 3)
    found = tangent(torch.from_numpy(points)[None], 3)
    centred = points - points.mean(0)
    covariance = centred.T @ centred / len(points)
    basis = basis_of(points, found)
    # an invariant subspace of the dense matrix with the three largest eigenvalues
    small = basis.T @ covariance @ basis
    assert np.linalg.norm(covariance @ basis - basis @ small, 2) < 1e-5 * found.spectrum[0, 0]
    assert np.isclose(np.trace(small), np.linalg.eigvalsh(centred @ centred.T / 300)[-3:].sum(), rtol=1e-6)


def test_float32_points_meet_the_bound_too():
    points = cloud(np.random.default_rng(3), 300, 512, 3).astype(np.float32)
    found = tangent(torch.from_numpy(points)[None], 3)
    basis = lift(torch.from_numpy(points).double(), found.coefficients[0].double()).numpy()
    assert angle(basis, dense(points.astype(np.float64), 3)[1]) < 1e-5


@pytest.mark.parametrize("solver", ["exact", "subspace"])
def test_duplicates_lower_the_rank_and_leave_zero_columns(solver):
    rng = np.random.default_rng(4)
    distinct = rng.normal(size=(3, 40))
    points = torch.from_numpy(np.stack([np.repeat(distinct, 5, axis=0), np.repeat(distinct[:1], 15, axis=0)]))
    found = tangent(points, 4, solver)
    assert found.ranks.tolist() == [2, 0]
    assert (found.coefficients[0, :, 2:] == 0).all()
    assert (found.coefficients[1] == 0).all()
    assert angle(basis_of(points[0].numpy(), found), dense(points[0].numpy(), 4)[1]) < 1e-5
    assert torch.isfinite(found.spectrum).all()
    assert torch.isfinite(found.residuals).all()


@given(st.integers(0, 2**32 - 1), st.integers(2, 40), st.integers(4, 120))
@settings(max_examples=30, deadline=None)
def test_subspace_iteration_finds_the_same_space_where_there_is_a_gap(seed, k, dims):
    points = cloud(np.random.default_rng(seed), k, dims, 3)
    found = tangent(torch.from_numpy(points)[None], 3, "subspace", tolerance=1e-9)
    exact = tangent(torch.from_numpy(points)[None], 3)
    rank = int(exact.ranks[0])
    assert int(found.ranks[0]) == rank
    assert 1 <= int(found.iterations[0]) <= MAX_ITERATIONS
    top = exact.spectrum[0]
    if rank and top[rank - 1] > 1.5 * top[rank]:
        assert found.residuals[0] <= 1e-9 or int(found.iterations[0]) == MAX_ITERATIONS
        assert angle(basis_of(points, found), basis_of(points, exact)) < 1e-5
    assert torch.allclose(found.spectrum[:, :rank], top[None, :rank], rtol=1e-4)


def test_subspace_iteration_keeps_weak_directions_in_float32():
    """Rank 3 with the second eigenvalue 3e-4 of the first: both solvers span the same space."""
    rng = np.random.default_rng(5)
    axes = np.linalg.qr(rng.normal(size=(4096, 3)))[0]
    points = torch.from_numpy((rng.normal(size=(50, 3)) * [50, 1, 0.7] @ axes.T).astype(np.float32))[None]
    exact, subspace = tangent(points, 3), tangent(points, 3, "subspace", tolerance=1e-6)
    assert exact.ranks.tolist() == subspace.ranks.tolist() == [3]
    bases = [lift(points[0].double(), found.coefficients[0].double()).numpy() for found in (exact, subspace)]
    assert angle(*bases) < 1e-2  # as far as float32 iterations see the weak ones


def test_float32_duplicates_do_not_look_like_directions():
    points = torch.from_numpy(np.random.default_rng(6).normal(size=(3, 400)).astype(np.float32) + 5).repeat_interleave(20, 0)[None]
    assert tangent(points, 4).ranks.tolist() == tangent(points, 4, "subspace").ranks.tolist() == [2]


def test_chunks_change_nothing():
    points = torch.from_numpy(np.stack([cloud(np.random.default_rng(s), 20, 30, 3) for s in range(7)]))
    whole, small = tangent(points, 3), tangent(points, 3, memory_limit=1)
    for name in ("coefficients", "spectrum", "variance", "ranks"):
        assert torch.allclose(getattr(whole, name), getattr(small, name), atol=1e-6), name


@given(
    st.sampled_from(["none", "exponential", "cosine", "linear"]),
    st.integers(1, 60),
    st.integers(0, 70),
    st.floats(0.01, 1),
    st.floats(1, 5),
)
def test_annealing_starts_and_ends_where_it_says(schedule, steps, warmup, last, first):
    f = decay(schedule, steps, warmup, last)
    assert len(f) == steps
    assert all(x == 1 for x in f[: warmup + 1])
    assert all(a >= b - 1e-12 for a, b in pairwise(f))
    if schedule == "none":
        assert set(f) == {1.0}
    elif steps - 1 > warmup:
        assert np.isclose(f[-1], last)
    g = released(schedule, steps, warmup, first)
    assert np.isclose(g[0], 1 if schedule == "none" or not warmup else first)
    assert np.allclose(g[warmup:], 1)


def test_annealing_is_the_formula():
    assert np.allclose(decay("exponential", 5, 0, 0.0625), [1, 0.5, 0.25, 0.125, 0.0625])
    assert np.allclose(decay("linear", 5, 0, 0.2), [1, 0.8, 0.6, 0.4, 0.2])
    assert np.allclose(decay("cosine", 3, 0, 0.2), [1, 0.6, 0.2])
    assert np.allclose(released("linear", 4, 2, 2.0), [2, 1.5, 1, 1])
