"""Selective Subgroup Sampling against Eqs. 8-10 written out in loops."""

import itertools
import math
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from limbeck.seeds import stream
from limbeck.selection import subgroup
from limbeck.selection.subgroup import centroid, objective, select

SEED, WEIGHT = st.integers(0, 2**32 - 1), st.sampled_from([0.1, 0.4, 0.9])
SIZES = {"seed": SEED, "classes": st.integers(2, 5), "count": st.integers(1, 4)}


def vectors(seed, classes, count, dims=6):
    """Candidates (C, G, D) around references (C, D), of lengths other than 1."""
    rng = np.random.default_rng(seed)
    references = rng.normal(size=(classes, dims))
    return references[:, None] + rng.normal(size=(classes, count, dims)), 3 * references


def gap(a, b):
    """log(1 - cos)."""
    cosine = sum(x * y for x, y in zip(a, b, strict=True)) / math.sqrt(sum(x * x for x in a) * sum(y * y for y in b))
    return math.log(max(1 - cosine, 1e-6))


def tables(candidates, references):
    """near[i][g] and pair[i][g][j][h] as nested lists."""
    near = [[gap(c, r) for c in row] for row, r in zip(candidates.tolist(), references.tolist(), strict=True)]
    pair = [[[[gap(a, b) for b in other] for other in candidates.tolist()] for a in row] for row in candidates.tolist()]
    return near, pair


def equation(near, pair, groups, alpha, beta):
    """Eq. 10."""
    classes, count = len(near), len(near[0])
    first = second = 0.0
    for i in range(classes):
        first += near[i][groups[i]]
        for j in range(classes):
            if j != i:
                for g in range(count):
                    second += pair[i][groups[i]][j][g]
    return alpha * first - beta / ((classes - 1) * count) * second


def selected_pairs(near, pair, groups, alpha, beta):
    """The objective of the release."""
    classes = len(near)
    first = second = 0.0
    for i in range(classes):
        first += near[i][groups[i]]
        for j in range(classes):
            if j != i:
                second += pair[i][groups[i]][j][groups[j]]
    return alpha * first - beta / (classes - 1) * second


@given(**SIZES, alpha=WEIGHT, beta=WEIGHT)
@settings(max_examples=40, deadline=None)
def test_the_argmin_per_class_is_the_minimum_over_all_assignments(seed, classes, count, alpha, beta):
    candidates, references = vectors(seed, classes, count)
    near, pair = tables(candidates, references)
    found = select(candidates, references, alpha=alpha, beta=beta)
    every = {g: equation(near, pair, g, alpha, beta) for g in itertools.product(range(count), repeat=classes)}
    assert tuple(found.groups) == min(every, key=every.get)
    assert np.allclose(found.near, near)
    for groups in itertools.islice(every, 0, None, 7):
        assert objective(candidates, references, np.array(groups), alpha=alpha, beta=beta) == pytest.approx(every[groups])
    assert found.scores.min(axis=1).sum() == pytest.approx(min(every.values()))


@given(**SIZES, alpha=WEIGHT, beta=WEIGHT)
@settings(max_examples=60, deadline=None)
def test_no_change_of_one_class_improves_the_released_selection(seed, classes, count, alpha, beta):
    candidates, references = vectors(seed, classes, count)
    near, pair = tables(candidates, references)
    groups = select(candidates, references, alpha=alpha, beta=beta, variant="released", seed=seed).groups.tolist()
    lowest = selected_pairs(near, pair, groups, alpha, beta)
    for i, g in itertools.product(range(classes), range(count)):
        assert selected_pairs(near, pair, [*groups[:i], g, *groups[i + 1 :]], alpha, beta) > lowest - 1e-8


def test_the_released_search_starts_at_a_seeded_draw_and_ends_apart_from_the_paper():
    candidates, references = vectors(1, 40, 5)
    found = [select(candidates, references, variant="released", seed=s) for s in (3, 3, 4)]
    assert np.array_equal(found[0].groups, found[1].groups)
    paper = select(candidates, references)
    assert not np.array_equal(found[0].groups, paper.groups)
    for name in ("near", "apart", "scores"):
        assert np.array_equal(getattr(found[0], name), getattr(paper, name))
    start = select(candidates, references, alpha=0, beta=0, variant="released", seed=3).groups
    assert np.array_equal(start, stream(3, "subgroup").integers(5, size=40))


@pytest.mark.parametrize("variant", ["paper", "released"])
def test_only_the_ratio_of_the_weights_and_directions_count(variant):
    candidates, references = vectors(2, 8, 4)
    rng = np.random.default_rng(0)
    expected = select(candidates, references, variant=variant).groups
    scaled = candidates * rng.uniform(0.01, 100, (8, 4, 1)), references * rng.uniform(0.01, 100, (8, 1))
    assert np.array_equal(select(*scaled, variant=variant).groups, expected)
    assert np.array_equal(select(candidates, references, alpha=0.04, beta=0.09, variant=variant).groups, expected)
    assert not np.array_equal(select(candidates, references, alpha=0.9, beta=0.04, variant=variant).groups, expected)


def test_classes_in_another_order_select_the_same():
    candidates, references = vectors(3, 9, 4)
    order = np.random.default_rng(0).permutation(9)
    found, moved = select(candidates, references), select(candidates[order], references[order])
    for name in ("groups", "near", "apart", "scores"):
        assert np.allclose(getattr(moved, name), getattr(found, name)[order], rtol=1e-12)


@pytest.mark.parametrize("memory", [1, 5000, 30_000])
def test_chunks_of_classes_change_nothing(memory):
    candidates, references = vectors(4, 23, 5)
    expected = select(candidates, references)
    with mock.patch.object(subgroup, "MEMORY", memory):
        found = select(candidates, references)
    assert np.array_equal(found.groups, expected.groups)
    assert np.allclose(found.apart, expected.apart, rtol=1e-12)


def test_float32_selects_as_float64():
    candidates, references = vectors(5, 12, 5)
    wide, narrow = (select(candidates.astype(d), references.astype(d)) for d in (np.float64, np.float32))
    assert np.array_equal(narrow.groups, wide.groups)
    assert narrow.scores.dtype == np.float64
    assert np.allclose(narrow.scores, wide.scores, atol=1e-5)


@pytest.mark.parametrize("variant", ["paper", "released"])
def test_one_class_and_one_group(variant):
    """A single class has no others; a single group no rivals."""
    candidates, references = vectors(6, 1, 5)
    found = select(candidates, references, variant=variant)
    assert (found.apart == 0).all()
    assert found.groups.tolist() == [found.near.argmin()]
    found = select(*vectors(6, 7, 1), variant=variant)
    assert found.groups.tolist() == [0] * 7
    assert np.isfinite(found.scores).all()


@pytest.mark.parametrize("variant", ["paper", "released"])
def test_equal_candidates_meet_the_clamp(variant):
    candidates, references = np.ones((4, 3, 5)), np.ones((4, 5))
    found = select(candidates, references, variant=variant)
    assert np.allclose([found.near, found.apart], math.log(1e-6))
    expected = [0] * 4 if variant == "paper" else stream(0, "subgroup").integers(3, size=4)
    assert np.array_equal(found.groups, expected)


@given(SEED, st.integers(1, 6), st.sampled_from([np.float32, np.float64]))
@settings(max_examples=40, deadline=None)
def test_centroids_are_mean_directions(seed, k, dtype):
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(2, 3, k, 4)).astype(dtype)
    found = centroid(features)
    assert found.dtype == np.float64
    for group in np.ndindex(2, 3):
        units = [x / math.sqrt(sum(x * x)) for x in features[group].astype(np.float64)]
        mean = sum(units) / k
        assert np.allclose(found[group], mean / math.sqrt(sum(mean * mean)), atol=1e-9)
        assert np.array_equal(centroid(features[group]), found[group])
    lengths = rng.uniform(0.01, 100, (2, 3, k, 1))
    assert np.allclose(centroid(features * lengths), found, atol=1e-9)


@pytest.mark.parametrize("value", [0, np.nan, np.inf])
def test_vectors_without_direction_are_named(value):
    candidates, references = vectors(7, 3, 2)
    fault = "not finite" if value else "zero"
    bad = candidates.copy()
    bad[2, 1] = value
    for call in (select, lambda c, r: objective(c, r, np.zeros(3, int))):
        with pytest.raises(ValueError, match=rf"candidates\[2, 1\] is {fault}"):
            call(bad, references)
        with pytest.raises(ValueError, match=rf"references\[1\] is {fault}"):
            call(candidates, np.where(np.arange(3)[:, None] == 1, value, references))
    with pytest.raises(ValueError, match=rf"features\[2, 1\] is {fault}"):
        centroid(bad)


def test_features_that_cancel_are_refused():
    opposed = np.array([[0.1, 0.2, 0.3], [-0.3, -0.6, -0.9]])
    with pytest.raises(ValueError, match="mean direction is zero"):
        centroid(opposed)
    with pytest.raises(ValueError, match=r"mean direction\[1\] is zero"):
        centroid(np.stack([np.eye(3)[:2], opposed]))


def test_bad_input_is_refused():
    candidates, references = vectors(8, 3, 2)
    for shape in ((3,), (0, 3), (2, 0)):
        with pytest.raises(ValueError, match="at least one feature"):
            centroid(np.ones(shape))
    for shape in ((3, 2), (0, 2, 6), (3, 0, 6)):
        with pytest.raises(ValueError, match="candidates must be"):
            select(np.ones(shape), references)
    with pytest.raises(ValueError, match=r"references must be \(3, 6\)"):
        select(candidates, references[:2])
    for weights in ({"alpha": -1}, {"beta": np.nan}, {"alpha": np.inf}):
        with pytest.raises(ValueError, match="alpha and beta"):
            select(candidates, references, **weights)
    with pytest.raises(ValueError, match="variant must be"):
        select(candidates, references, variant="greedy")
    for groups in ([0, 1], [0, 1, 2], [0, -1, 0]):
        with pytest.raises(ValueError, match="3 indices below 2"):
            objective(candidates, references, np.array(groups))
