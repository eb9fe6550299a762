"""Spreads, paired tests, Holm's correction and ranks against scipy and definitions written out."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from limbeck.report.statistics import holm, mean_ranks, paired, summarise

A = {0: [0.70, 0.72], 1: [0.75, 0.73], 2: [0.71, 0.74]}
B = {0: [0.68, 0.71], 1: [0.71, 0.72], 2: [0.70, 0.70]}
seeds = st.dictionaries(st.integers(0, 4), st.lists(st.integers(0, 2000).map(lambda hits: hits / 2000), min_size=2, max_size=2))


def test_spreads_are_kept_apart():
    s = summarise(A, 2000)
    means, pooled = [np.mean(v) for v in A.values()], [x for v in A.values() for x in v]
    assert s.mean == pytest.approx(np.mean(pooled))
    assert s.sd == pytest.approx(np.std(pooled, ddof=1))
    assert s.sd_seed == pytest.approx(np.std(means, ddof=1))
    assert s.sd_repeat == pytest.approx(math.sqrt(np.mean([np.var(v, ddof=1) for v in A.values()])))
    assert s.binomial == pytest.approx(math.sqrt(s.mean * (1 - s.mean) / 2000))
    single = summarise({0: [0.5]}, 100)
    assert math.isnan(single.sd)
    assert math.isnan(single.sd_repeat)


def test_paired_difference_is_scipys_paired_t_test():
    found = paired(A, B)
    a, b = ([np.mean(x[s]) for s in range(3)] for x in (A, B))
    test = stats.ttest_rel(a, b)
    low, high = test.confidence_interval(0.95)
    assert (found.difference - found.half_width, found.difference + found.half_width) == pytest.approx((low, high))
    assert found.p == pytest.approx(test.pvalue)
    assert found.resolved == (test.pvalue < 0.05) == (low > 0 or high < 0)
    d = np.subtract(a, b)
    assert found.effect == pytest.approx(d.mean() / d.std(ddof=1)) == pytest.approx(test.statistic / math.sqrt(3))
    assert paired(A, {7: [0.1]}) is None


@given(seeds, seeds)
def test_pairs_are_antisymmetric(a, b):
    one, other = paired(a, b), paired(b, a)
    if one is None:
        assert other is None
        assert len(set(a) & set(b)) < 2
        return
    assert (one.difference, one.effect) == pytest.approx((-other.difference, -other.effect), nan_ok=True)
    assert (one.half_width, one.p) == pytest.approx((other.half_width, other.p), nan_ok=True)
    assert one.resolved == other.resolved
    assert not one.resolved or abs(one.difference) > one.half_width


def test_differences_without_spread_are_not_tested():
    """Hits are counted: that all seeds differ by the same number of images is a coincidence, and no difference is none."""
    shifted = {seed: [x + 0.01 for x in values] for seed, values in A.items()}
    found = paired(shifted, A)
    assert found.difference == pytest.approx(0.01)
    assert math.isnan(found.p)
    assert not found.resolved
    assert paired(A, A).p == 1


def by_definition(p):
    """The least level that rejects; a level rejects from the smallest on while the k-th of m is at most level / (m - k + 1)."""

    def rejects(level):
        out = [False] * len(p)
        for k, i in enumerate(sorted(range(len(p)), key=p.__getitem__)):
            if p[i] * (len(p) - k) > level * (1 + 1e-12):
                break
            out[i] = True
        return out

    levels = sorted({min(1.0, x * m) for x in p for m in range(1, len(p) + 1)} | {1.0})
    return [next((level for level in levels if rejects(level)[i]), 1.0) for i in range(len(p))]


@given(st.lists(st.floats(1e-6, 1), max_size=7))
def test_holm_is_its_definition(p):
    assert holm(p) == pytest.approx(by_definition(p))


def test_holm_leaves_out_what_was_not_tested():
    assert holm([0.02, math.nan, 0.01]) == pytest.approx([0.02, math.nan, 0.02], nan_ok=True)
    assert holm([]) == []


def test_mean_ranks_share_ties_and_put_failures_last():
    assert mean_ranks([[0.7, 0.8, 0.7], [0.9, None, 0.5]]) == [(2.5 + 1) / 2, (1 + 3) / 2, (2.5 + 2) / 2]


@given(st.permutations(range(4)))
def test_ranks_follow_their_methods(order):
    cell = [0.4, 0.9, None, 0.7]
    ranks = [3, 1, 4, 2]
    assert mean_ranks([[cell[i] for i in order]]) == [ranks[i] for i in order]
