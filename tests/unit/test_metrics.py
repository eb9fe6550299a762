import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import sqrtm

from limbeck.metrics import distances as d


def reference_frechet(a: np.ndarray, b: np.ndarray) -> float:
    """The textbook formula in float64 by sqrtm."""
    s1, s2 = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    root = sqrtm(s1 @ s2)
    return float(((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(s1 + s2 - 2 * np.real(root)))


@pytest.mark.parametrize(("n1", "n2", "dim"), [(60, 80, 5), (50, 400, 20), (300, 300, 40)])
def test_frechet_equals_sqrtm_where_both_are_full_rank(n1, n2, dim):
    rng = np.random.default_rng(n1)
    a, b = rng.normal(size=(n1, dim)), rng.normal(0.3, 1.5, (n2, dim)) @ rng.normal(size=(dim, dim))
    assert d.frechet(a, b) == pytest.approx(reference_frechet(a, b), rel=1e-6)


@given(st.integers(2, 12), st.integers(2, 12), st.integers(1, 30), st.integers(0, 10**6))
@settings(max_examples=60, deadline=None)
def test_frechet_is_finite_symmetric_and_zero_on_itself_at_any_rank(n1, n2, dim, seed):
    rng = np.random.default_rng(seed)
    a, b = rng.normal(size=(n1, dim)), rng.normal(size=(n2, dim)) + 1
    assert d.frechet(a, b) == pytest.approx(d.frechet(b, a), rel=1e-9, abs=1e-9)
    assert d.frechet(a, a) == pytest.approx(0, abs=1e-8)
    assert np.isfinite(d.frechet(a, b))


def test_mmd_equals_the_double_sum_and_is_centred_on_zero():
    rng = np.random.default_rng(1)
    a, b = rng.normal(size=(9, 3)), rng.normal(0.5, 1, (11, 3))
    cross = [[((x - y) ** 2).sum() for y in b] for x in a]
    scale = 2 * np.median(cross)
    kernel = lambda x, y: np.exp(-((x - y) ** 2).sum() / scale)  # noqa: E731
    within = [np.mean([kernel(x, y) for i, x in enumerate(s) for j, y in enumerate(s) if i != j]) for s in (a, b)]
    assert d.mmd(a, b) == pytest.approx(sum(within) - 2 * np.mean([[kernel(x, y) for y in b] for x in a]), abs=1e-12)
    halves = [d.mmd(x[:40], x[40:]) for x in (rng.normal(size=(80, 4)) for _ in range(60))]
    assert abs(np.mean(halves)) < 3 * np.std(halves) / np.sqrt(60)


def test_rep_div_and_coverage_equal_brute_force():
    rng = np.random.default_rng(2)
    s, real = rng.normal(size=(7, 5)), rng.normal(size=(30, 5))
    cos = lambda x, y: x @ y / np.linalg.norm(x) / np.linalg.norm(y)  # noqa: E731
    assert d.representativeness(s, real) == pytest.approx(min(max(cos(x, y) for y in real) for x in s), abs=1e-6)
    assert d.coverage(s, real) == pytest.approx(np.mean([max(cos(x, y) for y in s) for x in real]), abs=1e-6)
    others = max(cos(x, y) for i, x in enumerate(s) for j, y in enumerate(s) if i != j)
    assert d.diversity(s) == pytest.approx(1 - others, abs=1e-6)
    assert d.diversity(np.concatenate([s, s[:1]])) == pytest.approx(0, abs=1e-6)
    nearest = np.mean([min(np.linalg.norm(x - y) for y in real) for x in s])
    assert d.l2_nearest(s, real) == pytest.approx(nearest, rel=1e-5)
