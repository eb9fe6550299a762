"""Moments against two passes in long double and scipy; the normality test against scipy's own."""

import functools
import operator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from limbeck.discovery.gaussian import SMALLEST, Moments, normal_p, normality


def total(parts):
    return functools.reduce(operator.add, (Moments.of(part) for part in parts), Moments.none(parts[0].shape[1]))


def points_of(seed, n, dims, offset=0.0):
    """Skewed and heavy-tailed, with scales from 1e-3 to 1e3."""
    rng = np.random.default_rng(seed)
    return (rng.standard_gamma(2, (n, dims)) * 10.0 ** rng.uniform(-3, 3, dims) + offset * rng.normal(size=dims)).astype(np.float32)


@given(st.integers(0, 2**32 - 1), st.integers(1, 60), st.lists(st.integers(0, 60), max_size=6), st.sampled_from([0.0, 100.0]))
@settings(max_examples=150, deadline=None)
def test_any_split_adds_up_to_the_whole(seed, n, cuts, offset):
    points = points_of(seed, n, 5, offset)
    parts = [part for part in np.split(points, sorted(c for c in cuts if c < n)) if len(part)]
    found = total(parts)
    exact = points.astype(np.longdouble)
    centred = exact - exact.mean(axis=0)
    assert found.count == n
    assert np.allclose(found.mean, exact.mean(axis=0).astype(float), rtol=1e-12)
    size = np.abs(centred).max(axis=0)
    for order, value in ((2, found.m2), (3, found.m3), (4, found.m4)):
        # odd sums cancel: their error is relative to what was added, not to what is left
        scale = (np.abs(centred) ** order).sum(axis=0) + 1e-14 * np.abs(exact).max(axis=0) * size ** (order - 1)
        assert (np.abs(value - (centred**order).sum(axis=0)) <= 1e-9 * scale).all()


@given(st.integers(0, 2**32 - 1), st.integers(3, 400))
@settings(max_examples=50, deadline=None)
def test_variance_skewness_and_kurtosis_are_scipys(seed, n):
    points = points_of(seed, n, 7).astype(np.float64)
    found = total(np.array_split(points, 3))
    assert np.allclose(found.variance, points.var(axis=0, ddof=1), rtol=1e-9)
    assert np.allclose(found.skewness, stats.skew(points), rtol=1e-9, atol=1e-12)
    assert np.allclose(found.kurtosis, stats.kurtosis(points), rtol=1e-9, atol=1e-12)


@given(st.integers(0, 2**32 - 1), st.integers(SMALLEST, 5000))
@settings(max_examples=50, deadline=None)
def test_p_values_are_those_of_scipys_normaltest(seed, n):
    rng = np.random.default_rng(seed)
    points = np.stack([rng.normal(size=n), rng.uniform(size=n), rng.standard_t(5, n), rng.standard_gamma(50, n)], axis=1)
    assert np.allclose(normal_p(Moments.of(points)), stats.normaltest(points).pvalue, rtol=1e-6, atol=1e-300)


@pytest.mark.parametrize("n", [30, 100, 1000])
def test_about_five_percent_of_gaussian_dimensions_are_rejected(n):
    found = normality(Moments.of(np.random.default_rng(n).normal(3, 2, (n, 4000))))
    assert found.tested == 4000
    assert 0.035 < found.rejected < 0.075  # 4000 tests: 5 % ± 0.35 %; the approximation is a little high for few points
    assert found.skewness < 2.5 / np.sqrt(n)  # sd sqrt(6 / n), mean of the absolute value 1.95 / sqrt(n)
    assert found.kurtosis < 5 / np.sqrt(n)


def test_uniform_and_bimodal_dimensions_are_nearly_all_rejected():
    rng = np.random.default_rng(0)
    bimodal = rng.normal(size=(400, 500)) + 4 * rng.integers(0, 2, (400, 500))
    for points in (rng.uniform(size=(400, 500)), bimodal):
        found = normality(Moments.of(points))
        assert found.rejected > 0.99
        assert found.kurtosis > 1
    skewed = normality(Moments.of(rng.standard_gamma(1, (400, 500))))
    assert skewed.rejected == 1
    assert skewed.skewness == pytest.approx(2, rel=0.15)  # an exponential's


def test_one_image_has_no_variance_and_nothing_to_test():
    points = np.array([[1.5, -2.0]], np.float32)
    found = Moments.of(points)
    assert np.array_equal(found.mean, points[0])
    for value in (found.variance, found.skewness, found.kurtosis):
        assert np.array_equal(value, [0, 0])
    summary = normality(found)
    assert (summary.tested, summary.rejected, summary.skewness, summary.kurtosis) == (0, None, 0, 0)


def test_constant_dimensions_are_left_out():
    rng = np.random.default_rng(1)
    points = np.concatenate([rng.normal(size=(300, 40)), np.full((300, 3), 0.1), np.zeros((300, 1))], axis=1)
    found = total(np.array_split(points, 7))  # the parts' means of 0.1 differ in the last bit
    assert np.array_equal(np.flatnonzero(found.constant), [40, 41, 42, 43])
    assert np.array_equal(found.skewness[40:], np.zeros(4))
    assert np.array_equal(found.kurtosis[40:], np.zeros(4))
    assert normality(found).tested == 40
    assert normality(total([points[:, 40:]])).rejected is None


def test_a_single_float32_step_among_many_images_is_a_variance():
    points = np.full((200_000, 1), 1000, np.float32)
    points[7] = np.nextafter(np.float32(1000), np.float32(2000))
    assert not Moments.of(points).constant.any()


def test_the_farthest_from_gaussian_is_rejected_too():
    signs = np.array([1.0, -1.0] * 30)[:, None]  # the least kurtosis there is
    assert normal_p(Moments.of(signs))[0] < 1e-6
    assert Moments.of(signs).kurtosis[0] == pytest.approx(-2)
