"""Tangent spaces against a dense float64 eigendecomposition of the D x D covariance."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import example, given, settings
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


def basis_of(points, found):
    return lift(points.astype(np.float64), found.coefficients.astype(np.float64))[:, : found.rank]


@given(st.integers(0, 2**32 - 1), st.integers(1, 5), st.integers(2, 60), st.integers(6, 90))
@example(61, 5, 4, 7)  # rounding beside three directions of four points was a fourth
@settings(max_examples=60, deadline=None)
def test_exact_is_the_dense_eigendecomposition(seed, d, k, dims):
    """K below and above d + 1, below and above D: min(d, rank) vectors, principal angles below 1e-5."""
    points = cloud(np.random.default_rng(seed), k, dims, d)
    found = tangent(points, d)
    values, expected = dense(points, d)
    assert found.rank == expected.shape[1] == min(d, k - 1)
    basis = basis_of(points, found)
    if values[min(d, k - 1) - 1] > 1.2 * values[min(d, k - 1)]:  # a subspace is only defined by a gap
        assert angle(basis, expected) < 1e-5
    assert np.abs(basis.T @ basis - np.eye(basis.shape[1])).max() < 1e-5
    full = np.pad(values, (0, d + EXTRA))[: d + EXTRA]
    assert np.allclose(found.spectrum, full, rtol=1e-5, atol=values[0] * 1e-7)
    assert np.isclose(found.variance, values.sum(), rtol=1e-5)


def test_exact_at_4096_dimensions_against_lapack():
    rng = np.random.default_rng(1)
    for points in (cloud(rng, 12, 4096, 3) for _ in range(3)):
        # the thin SVD is the dense eigendecomposition without its 4084 zeros
        expected = np.linalg.svd(points - points.mean(0), full_matrices=False)[2][:3].T
        assert angle(basis_of(points, tangent(points, 3)), expected) < 1e-5


@pytest.mark.long
def test_exact_at_4096_dimensions_against_the_dense_covariance():
    points = cloud(np.random.default_rng(2), 300, 4096, 3)
    found = tangent(points, 3)
    centred = points - points.mean(0)
    covariance = centred.T @ centred / len(points)
    basis = basis_of(points, found)
    # an invariant subspace of the dense matrix with the three largest eigenvalues
    small = basis.T @ covariance @ basis
    assert np.linalg.norm(covariance @ basis - basis @ small, 2) < 1e-5 * found.spectrum[0]
    assert np.isclose(np.trace(small), np.linalg.eigvalsh(centred @ centred.T / 300)[-3:].sum(), rtol=1e-6)


def test_float32_points_meet_the_bound_too():
    points = cloud(np.random.default_rng(3), 300, 512, 3).astype(np.float32)
    assert angle(basis_of(points, tangent(points, 3)), dense(points.astype(np.float64), 3)[1]) < 1e-5


@pytest.mark.parametrize("solver", ["exact", "subspace"])
def test_duplicates_lower_the_rank_and_leave_zero_columns(solver):
    points = np.repeat(np.random.default_rng(4).normal(size=(3, 40)), 5, axis=0)
    found = tangent(points, 4, solver)
    assert found.rank == 2
    assert (found.coefficients[:, 2:] == 0).all()
    assert angle(basis_of(points, found), dense(points, 4)[1]) < 1e-5
    same = tangent(np.repeat(points[:1], 15, axis=0), 4, solver)
    assert same.rank == 0
    assert (same.coefficients == 0).all()
    assert np.isfinite([*same.spectrum, same.variance, same.residual]).all()


def test_a_cloud_far_from_the_origin_is_centred():
    points = cloud(np.random.default_rng(7), 40, 300, 3)
    assert angle(basis_of(points, tangent(points + 1e3, 3)), basis_of(points, tangent(points, 3))) < 1e-5


@given(st.integers(0, 2**32 - 1), st.integers(2, 40), st.integers(4, 120))
@settings(max_examples=30, deadline=None)
def test_subspace_iteration_finds_the_same_space_where_there_is_a_gap(seed, k, dims):
    points = cloud(np.random.default_rng(seed), k, dims, 3)
    found, exact = tangent(points, 3, "subspace", 1e-9), tangent(points, 3)
    assert found.rank == exact.rank
    assert 1 <= found.iterations <= MAX_ITERATIONS
    assert np.isclose(found.variance, exact.variance, rtol=1e-5)
    if found.rank and exact.spectrum[found.rank - 1] > 1.5 * exact.spectrum[found.rank]:
        assert found.residual <= 1e-9 or found.iterations == MAX_ITERATIONS
        assert angle(basis_of(points, found), basis_of(points, exact)) < 1e-5
    assert np.allclose(found.spectrum[: found.rank], exact.spectrum[: found.rank], rtol=1e-4)


def test_subspace_iteration_keeps_weak_directions_in_float32():
    """Rank 3 with the second eigenvalue 3e-4 of the first: both solvers span the same space."""
    rng = np.random.default_rng(5)
    axes = np.linalg.qr(rng.normal(size=(4096, 3)))[0]
    points = (rng.normal(size=(50, 3)) * [50, 1, 0.7] @ axes.T).astype(np.float32)
    exact, subspace = tangent(points, 3), tangent(points, 3, "subspace", 1e-6)
    assert exact.rank == subspace.rank == 3
    assert angle(basis_of(points, exact), basis_of(points, subspace)) < 1e-2  # as far as float32 iterations see the weak ones


def test_float32_duplicates_do_not_look_like_directions():
    points = np.repeat(np.random.default_rng(6).normal(size=(3, 400)).astype(np.float32) + 5, 20, axis=0)
    assert tangent(points, 4).rank == tangent(points, 4, "subspace").rank == 2


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
