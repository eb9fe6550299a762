"""Group sampling against Eqs. 5-9 written out in float64 for every candidate of every class."""

from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from limbeck.seeds import stream
from limbeck.selection import group
from limbeck.selection.group import Sampling, draws, latents, search

WEIGHTS = st.tuples(*[st.sampled_from([0.0, 0.5, 1.0, 3.0])] * 3)


def equations(z, mu, sigma):
    """Eqs. 6-8 per dimension, (3, D), of a group (n, D)."""
    n = len(z)
    mean = (z.mean(axis=0) - mu) ** 2
    sd = (np.sqrt(((z - mu) ** 2).mean(axis=0)) - sigma) ** 2
    skew = n / ((n - 1) * (n - 2)) * (((z - mu) / sigma) ** 3).sum(axis=0) if n > 2 else np.zeros(len(mu))
    return np.stack([mean, sd, skew**2])


def candidates(sampling, dims, seed, class_id):
    """All groups u (m, n, D) that a class sees, from the format's own definition."""
    shared = sampling.pool == "shared"
    size = max(1, group.BLOCK // (sampling.n * dims))
    drawn = [
        stream(seed, "group", 0 if shared else class_id, block).standard_normal((size, sampling.n, dims), dtype=np.float32)
        for block in range(-(-sampling.candidates // size))
    ]
    u = np.concatenate(drawn)[: sampling.candidates].astype(np.float64)
    if not shared:
        return u
    rng = stream(seed, "group.permutation", class_id)
    order, sign = rng.permutation(dims), rng.choice([-1.0, 1.0], dims)
    return (u * sign)[:, :, np.argsort(order)]


def direct(mu, sigma, sampling, seed, class_id):
    """(m, 3, D) terms of every candidate."""
    sigma = sigma * np.sqrt(sampling.variance_scale)
    return np.stack([equations(mu + sigma * u, mu, sigma) for u in candidates(sampling, len(mu), seed, class_id)])


def gaussians(seed, classes, dims):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(classes, dims)), rng.uniform(0.1, 3, (classes, dims))


def alike(n=10, classes=6, dims=40, m=300, seed=3, **options):
    """mu, sigma, the classes' numbers and a search of them."""
    mu, sigma = gaussians(seed, classes, dims)
    sampling = Sampling(n, m, **options)
    return mu, sigma, list(range(classes)), sampling


@given(
    seed=st.integers(0, 2**32 - 1),
    n=st.integers(1, 50),
    dims=st.integers(1, 40),
    block=st.sampled_from([1, 700, 2**17]),
    memory=st.sampled_from([1, 2**13, 2**24]),
    weights=WEIGHTS,
    scale=st.sampled_from([0.5, 1.0, 1.5]),
    pool=st.sampled_from(["shared", "independent"]),
)
@settings(max_examples=60, deadline=None)
@pytest.mark.long
def test_the_search_is_the_direct_one(seed, n, dims, block, memory, weights, scale, pool):
    """Losses, winners, terms and spread, for classes numbered at will, whatever the block and the memory."""
    mu, sigma = gaussians(seed, 3, dims)
    classes = [7, 0, 512]
    sampling = Sampling(n, 90, weights, scale, pool)
    with mock.patch.object(group, "BLOCK", block):
        found = search(sigma, classes, sampling, seed, memory=memory)
        for row, c in enumerate(classes):
            terms = direct(mu[row], sigma[row], sampling, seed, c).sum(axis=2)
            losses = terms @ np.array(weights)
            winner = found.indices[row, 0]
            # equal up to rounding of z: a tie, which the lowest index of the exact losses decides
            assert winner == losses.argmin() or np.isclose(losses[winner], losses.min(), rtol=1e-10, atol=1e-13)
            assert np.isclose(found.losses[row], losses[winner], rtol=1e-6, atol=1e-13)
            assert np.allclose(found.terms[row], terms[winner], rtol=1e-6, atol=1e-13)
            assert np.allclose(found.spread[row], terms.std(axis=0), rtol=1e-5, atol=1e-7)
            z = latents(mu[row], sigma[row], found.indices[row], sampling, seed, c)
            u = candidates(sampling, dims, seed, c)[winner]
            assert np.array_equal(z, (mu[row] + np.sqrt(scale) * sigma[row] * u).astype(np.float32))


@given(st.integers(0, 2**32 - 1), st.integers(1, 50), st.floats(0.1, 10))
@settings(max_examples=100, deadline=None)
def test_the_factorised_score_is_the_equations(seed, n, scale):
    rng = np.random.default_rng(seed)
    u = rng.standard_normal((4, n, 60), dtype=np.float32)
    mu, sigma = rng.normal(size=60), scale * rng.uniform(0.1, 3, 60)
    mean, sd, skew = group.statistics(u)
    for k in range(4):
        expected = equations(mu + sigma * u[k].astype(np.float64), mu, sigma)
        found = np.stack([mean[k] * sigma**2, sd[k] * sigma**2, skew[k]])
        assert np.allclose(found.sum(axis=1), expected.sum(axis=1), rtol=1e-6)
        assert np.allclose(found, expected, rtol=1e-6, atol=1e-12 * scale**2)


@pytest.mark.parametrize("pool", ["shared", "independent"])
def test_more_memory_and_threads_change_nothing(pool):
    _, sigma, classes, sampling = alike(m=300, pool=pool)
    with mock.patch.object(group, "BLOCK", 1200):
        expected = search(sigma, classes, sampling, 1)
        for memory in (1, 30_000, 10**5):
            for threads in (1, 3):
                found = search(sigma, classes, sampling, 1, threads=threads, memory=memory)
                assert np.array_equal(found.indices, expected.indices)
                assert np.array_equal(found.losses, expected.losses)
                assert np.allclose(found.spread, expected.spread, rtol=1e-6)


def test_threads_change_no_bit_of_anything():
    _, sigma, classes, sampling = alike(m=2000)
    with mock.patch.object(group, "BLOCK", 1200):
        one, three = (search(sigma, classes, sampling, 1, threads=t, memory=30_000) for t in (1, 3))
    for name in ("indices", "losses", "terms", "spread"):
        assert np.array_equal(getattr(one, name), getattr(three, name))


@pytest.mark.parametrize("pool", ["shared", "independent"])
@pytest.mark.parametrize("blocks", [1, 4])
def test_a_class_does_not_depend_on_the_others(pool, blocks):
    _, sigma, classes, sampling = alike(pool=pool, blocks=blocks)
    together = search(sigma, classes, sampling, 1)
    order = [4, 1]
    some = search(sigma[order], order, sampling, 1)
    for name in ("indices", "losses", "terms", "spread"):
        assert np.array_equal(getattr(some, name), getattr(together, name)[order])


def test_equal_losses_go_to_the_lowest_index():
    """Nothing counts, or nothing varies: all candidates are equal, in every block of them."""
    sampling = Sampling(4, 500, weights=(0, 0, 0))
    with mock.patch.object(group, "BLOCK", 64):
        assert search(np.ones((2, 8)), [0, 1], sampling, 0, memory=1).indices.tolist() == [[0], [0]]
        assert search(np.zeros((1, 8)), [3], Sampling(2, 500), 0, memory=1).indices.tolist() == [[0]]


def test_more_candidates_never_have_a_larger_loss():
    """A smaller m sees the first of the same candidates."""
    losses = []
    for m in (1, 10, 100, 1000):
        _, sigma, classes, sampling = alike(m=m)
        losses.append(search(sigma, classes, sampling, 0).losses)
    assert (np.diff(losses, axis=0) <= 0).all()
    assert (losses[-1] < losses[0]).all()


@pytest.mark.parametrize("pool", ["shared", "independent"])
@pytest.mark.parametrize("blocks", [2, 7, 40])
def test_blocks_of_dimensions_are_separate_searches(pool, blocks):
    mu, sigma, classes, sampling = alike(pool=pool, blocks=blocks)
    found, whole = search(sigma, classes, sampling, 5), search(sigma, classes, Sampling(10, 300, pool=pool), 5)
    assert found.indices.shape == (6, blocks)
    assert (found.losses < whole.losses).all()
    for c in classes:
        losses = (direct(mu[c], sigma[c], sampling, 5, c) * np.array(sampling.weights)[:, None]).sum(axis=1)
        if pool == "shared":  # parts are contiguous in the pool's order
            losses = losses[:, stream(5, "group.permutation", c).permutation(40)]
        edges = [40 * b // blocks for b in range(blocks)]
        per_block = np.add.reduceat(losses, edges, axis=1)
        assert np.array_equal(found.indices[c], per_block.argmin(axis=0))
        assert found.losses[c] == pytest.approx(per_block.min(axis=0).sum(), rel=1e-9)
        z = latents(mu[c], sigma[c], found.indices[c], sampling, 5, c).astype(np.float64)
        again = equations(z, mu[c], sigma[c]).sum(axis=1) @ np.array(sampling.weights)
        assert again == pytest.approx(found.losses[c], rel=1e-4)  # of float32 latents


@pytest.mark.parametrize("n", [1, 2])
def test_one_and_two_latents_have_no_skewness(n):
    mu, sigma, classes, sampling = alike(n=n)
    found = search(sigma, classes, sampling, 0)
    assert np.isfinite(found.losses).all()
    assert (found.terms[:, 2] == 0).all()
    assert (found.spread[:, 2] == 0).all()
    assert (found.terms[:, :2] > 0).all()
    assert latents(mu[0], sigma[0], found.indices[0], sampling, 0, 0).shape == (n, 40)


def test_classes_that_share_a_candidate_draw_it_uncorrelated():
    """With equal variances all classes have one winner; their signed permutations of it look like separate draws."""
    classes = list(range(60))
    sampling = Sampling(10, 50)
    found = search(np.ones((60, 500)), classes, sampling, 2)
    assert len(np.unique(found.indices)) == 1
    u = np.stack([draws(i, 500, sampling, 2, c) for c, i in enumerate(found.indices)])
    off = np.corrcoef(u.reshape(60, -1))[np.triu_indices(60, 1)]
    # 1770 correlations of 5000 normals each: sd 1 / sqrt(5000), their mean sd 3e-4
    assert np.abs(off).max() < 5 / np.sqrt(5000)
    assert abs(off.mean()) < 1.5e-3
    assert off.std() == pytest.approx(1 / np.sqrt(5000), rel=0.15)
    rows = np.corrcoef(u.reshape(600, -1))  # images of different classes, at different places of their groups
    assert np.abs(rows[np.triu_indices(600, 1)]).max() < 6 / np.sqrt(500)


def test_independent_pools_are_different_draws():
    sampling = Sampling(10, 50, pool="independent")
    found = search(np.ones((20, 100)), list(range(20)), sampling, 2)
    assert len(np.unique(found.indices)) > 5
    u = np.stack([draws(np.array([0]), 100, sampling, 2, c).ravel() for c in range(20)])
    assert np.abs(np.corrcoef(u)[np.triu_indices(20, 1)]).max() < 5 / np.sqrt(1000)


@given(st.integers(0, 2**32 - 1), st.integers(2, 50), st.sampled_from(["shared", "independent"]), st.sampled_from([0.5, 1.0]))
@settings(max_examples=60, deadline=None)
def test_exact_matches_mean_and_sd(seed, n, pool, scale):
    mu, sigma, classes, sampling = alike(n=n, pool=pool, variance_scale=scale, search="exact", seed=seed)
    found = search(sigma, classes, sampling, seed)
    assert np.abs(found.terms[:, :2]).max() < 1e-20
    for c in classes:
        z = latents(mu[c], sigma[c], found.indices[c], sampling, seed, c).astype(np.float64)
        assert np.abs(z.mean(axis=0) - mu[c]).max() < 1e-6
        assert np.abs(np.sqrt(((z - mu[c]) ** 2).mean(axis=0)) - np.sqrt(scale) * sigma[c]).max() < 1e-6
        if n > 2:
            u = candidates(sampling, 40, seed, c)[0]
            z0 = (u - u.mean(axis=0)) / u.std(axis=0)
            assert found.terms[c, 2] == pytest.approx(equations(z0, np.zeros(40), np.ones(40))[2].sum(), rel=1e-6)


@pytest.mark.parametrize("weights", [(1.0, 1.0, 0.5), (1.0, 0.0, 0.5), (0.0, 2.0, 0.0), (1.0, 3.0, 0.0), (0.0, 0.0, 0.5)])
def test_exact_with_one_latent_is_the_minimum_of_the_loss(weights):
    mu, sigma, classes, sampling = alike(n=1, weights=weights, search="exact")
    found = search(sigma, classes, sampling, 0)
    grid = np.linspace(-4, 4, 8001)
    lowest = (weights[0] * grid**2 + weights[1] * (np.abs(grid) - 1) ** 2).min()
    assert np.allclose(found.losses, lowest * (sigma**2).sum(axis=1), rtol=1e-5)
    assert np.isfinite(latents(mu[0], sigma[0], found.indices[0], sampling, 0, 0)).all()
    if weights[1]:  # both signs are drawn
        assert np.unique(np.sign(draws(found.indices[0], 40, sampling, 0, 0))).tolist() == [-1, 1]


def test_exact_where_all_draws_of_a_dimension_are_equal():
    with mock.patch.object(group, "_candidate", return_value=np.full((3, 5), 0.25, np.float32)):
        u = draws(np.array([0]), 5, Sampling(3, 1, search="exact"), 0, 0)
    assert np.abs(u.mean(axis=0)).max() < 1e-15
    assert np.allclose(u.std(axis=0), 1)


@pytest.mark.parametrize("n", [1, 2, 10])
@pytest.mark.parametrize("options", [{}, {"search": "exact"}, {"blocks": 3}, {"pool": "independent"}])
def test_dimensions_of_zero_variance_stay_at_the_mean(n, options):
    """They leave the mean and sd terms, and count in the skewness as they do for the smallest variance."""
    mu, sigma, classes, sampling = alike(n=n, **options)
    sigma[:, :5], sigma[2] = 0, 0
    found = search(sigma, classes, sampling, 0)
    for name in ("losses", "terms", "spread"):
        assert np.isfinite(getattr(found, name)).all()
    assert (found.terms[2, :2] == 0).all()
    limit = search(np.maximum(sigma, 1e-20), classes, sampling, 0)
    assert np.array_equal(limit.indices[[0, 1, 3, 4, 5]], found.indices[[0, 1, 3, 4, 5]])
    assert np.allclose(limit.terms, found.terms, rtol=1e-9, atol=1e-30)
    z = latents(mu[0], sigma[0], found.indices[0], sampling, 0, 0)
    assert np.array_equal(z[:, :5], np.broadcast_to(mu[0, :5].astype(np.float32), (n, 5)))
    assert (z[:, 5:].std(axis=0) > 0).all() or n == 1


def test_variance_scale_moves_the_balance_of_the_terms():
    """It multiplies the mean and sd terms of a candidate and leaves its skewness alone: equal to scaled weights."""
    _, sigma, classes, _ = alike()
    scaled = search(sigma, classes, Sampling(10, 300, (1, 1, 0.5), variance_scale=0.3), 0)
    weighted = search(sigma, classes, Sampling(10, 300, (0.3, 0.3, 0.5)), 0)
    assert np.array_equal(scaled.indices, weighted.indices)
    assert np.allclose(scaled.losses, weighted.losses, rtol=1e-12)


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match="finite"):
        search(np.array([[1.0, np.nan]]), [0], Sampling(3), 0)
    with pytest.raises(ValueError, match="not negative"):
        search(np.array([[1.0, -1.0]]), [0], Sampling(3), 0)
    with pytest.raises(ValueError, match="3 blocks are more than the 2 dimensions"):
        search(np.ones((1, 2)), [0], Sampling(3, blocks=3), 0)
    for options in ({"n": 0}, {"candidates": 0}, {"blocks": 0}, {"weights": (1.0, -1.0, 0.0)}, {"variance_scale": 0.0}):
        with pytest.raises(ValueError, match="must"):
            Sampling(**{"n": 3} | options)


def test_golden_values_pin_the_format():
    """Candidates past the first block, as they were first drawn; and the winner of a small search."""
    sampling = Sampling(10, 5000, weights=(1, 1, 0))
    assert (draws(np.array([4999]), 64, sampling, 1, 5)[3, :5] * 1e6).round().tolist() == DRAWN
    found = search(0.05 + (np.arange(192).reshape(3, 64) % 7 == 0), [0, 1, 5], sampling, 1)
    assert found.indices.ravel().tolist() == WINNERS


DRAWN = [-1600342, -317211, 1812729, -1169582, -417889]
WINNERS = [4658, 2375, 4074]
