"""Herding and greedy k-center against naive loops over everything."""

from importlib import import_module
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from limbeck import components
from limbeck.artifacts import LATENTS, PROTOTYPES
from limbeck.config import Config
from limbeck.discovery import herding, kcenter
from limbeck.discovery.base import Pool
from limbeck.methods import embedding_options
from limbeck.resolution import resolve
from limbeck.stages import select
from limbeck.store import Artifact, create

BOTH = pytest.mark.parametrize("kernel", [herding, kcenter], ids=["herding", "kcenter"])
SEEDS = st.integers(0, 100_000)


def discover(kernel, latents, ipc, embedding=None, seed=0):
    return kernel.discover(Pool(len(latents), latents, embedding), ipc, {}, seed, 0)


def points(n, d, seed):
    """Off the origin, of unequal spread, with far outliers; from two dimensions on, no two distances are equal."""
    rng = np.random.default_rng(seed)
    return (3 + rng.standard_t(3, size=(n, d)) * rng.uniform(0.1, 2, d)).astype(np.float32)


def naive_herding(x, ipc):
    """iCaRL's Alg. 4 as printed: the mean of every candidate set, anew."""
    x = x.astype(np.float64)
    chosen = []
    for _ in range(ipc):
        best, lowest = -1, np.inf
        for row in range(len(x)):
            if row in chosen:
                continue
            far = sum((a - b) ** 2 for a, b in zip(x.mean(0), x[[*chosen, row]].mean(0), strict=True))
            if far < lowest:
                best, lowest = row, far
        chosen.append(best)
    return chosen


def distances(x):
    x = x.astype(np.float64)
    return np.array([[np.sqrt(((a - b) ** 2).sum()) for b in x] for a in x])


def naive_kcenter(x, ipc):
    """From the whole matrix of distances."""
    x, matrix = x.astype(np.float64), distances(x)
    chosen = [min(range(len(x)), key=lambda row: np.linalg.norm(x[row] - x.mean(0)))]
    while len(chosen) < ipc:
        rest = [row for row in range(len(x)) if row not in chosen]
        chosen.append(max(rest, key=lambda row: min(matrix[row, c] for c in chosen)))
    return chosen


def owners(x, chosen):
    """Which chosen one each row is nearest to, the first of equally near ones; the chosen ones their own."""
    owner = distances(x)[:, chosen].argmin(1)
    owner[chosen] = np.arange(len(chosen))
    return owner


@pytest.mark.parametrize(("kernel", "naive"), [(herding, naive_herding), (kcenter, naive_kcenter)], ids=["herding", "kcenter"])
@given(st.integers(1, 25), st.integers(2, 8), SEEDS, st.data())
@settings(max_examples=60, deadline=None)
def test_the_choice_is_that_of_a_naive_search(kernel, naive, n, d, seed, data):
    ipc, latents = data.draw(st.integers(1, n)), points(n, d, seed)
    assert discover(kernel, latents, ipc).indices.tolist() == naive(latents, ipc)


@BOTH
@given(st.integers(1, 25), st.integers(2, 6), SEEDS, st.booleans(), st.data())
@settings(max_examples=60, deadline=None)
def test_every_image_counts_for_the_chosen_one_nearest_to_it(kernel, n, d, seed, embedded, data):
    latents, ipc = points(n, d, seed), data.draw(st.integers(1, n))
    embedding = points(n, 3, seed + 1) if embedded else None
    found = discover(kernel, latents, ipc, embedding)
    owner = owners(latents if embedding is None else embedding, found.indices)
    assert found.counts.tolist() == [int((owner == k).sum()) for k in range(ipc)]
    assert found.counts.sum() == n
    means = [latents[owner == k].astype(np.float64).mean(0) for k in range(ipc)]
    assert np.allclose(found.centroids, means, rtol=1e-6)


@BOTH
@given(st.integers(1, 5), st.integers(1, 25), st.integers(2, 40), SEEDS, st.data())
@settings(max_examples=60, deadline=None)
def test_equal_images_are_chosen_in_their_order_and_count_for_themselves(kernel, distinct, n, d, seed, data):
    ipc = data.draw(st.integers(1, n))
    which = np.random.default_rng(seed).integers(0, distinct, n)
    latents = points(distinct, d, seed)[which]
    found = discover(kernel, latents, ipc)
    assert len(set(found.indices.tolist())) == ipc
    assert found.counts.min() >= 1
    assert found.counts.sum() == n
    for value in range(distinct):  # the lowest unused one each time
        taken = found.indices[which[found.indices] == value]
        assert taken.tolist() == np.flatnonzero(which == value)[: len(taken)].tolist()
    owner = owners(latents, found.indices)
    assert found.counts.tolist() == np.bincount(owner).tolist()
    assert np.allclose(found.centroids, [latents[owner == k].astype(np.float64).mean(0) for k in range(ipc)], rtol=1e-6)


@BOTH
def test_a_larger_ipc_extends_a_smaller_one_whatever_the_seed(kernel):
    latents = points(200, 12, 5)
    ten = discover(kernel, latents, 10).indices
    assert np.array_equal(discover(kernel, latents, 5, seed=1).indices, ten[:5])
    assert sorted(discover(kernel, latents, 200).indices.tolist()) == list(range(200))


@pytest.mark.parametrize(
    ("kernel", "line", "order"),
    [
        (kcenter, [0, 0, 0, 10, 10], [0, 3, 1, 2, 4]),  # all are 0 away after two
        (herding, [0, 0, 0, 10, 10], [0, 3, 1, 4, 2]),
        (kcenter, [-2, -1, 0, 1, 2], [2, 0, 4, 1, 3]),
        (herding, [-2, -1, 0, 1, 2], [2, 1, 3, 0, 4]),
    ],
)
def test_ties_go_to_the_lowest_row(kernel, line, order):
    latents = np.array(line, np.float32)[:, None]
    for ipc in range(1, 6):
        assert discover(kernel, latents, ipc).indices.tolist() == order[:ipc]


def test_an_image_between_two_chosen_ones_counts_for_the_first():
    assert discover(kcenter, np.array([[-2], [-1], [0], [1], [2]], np.float32), 3).counts.tolist() == [3, 1, 1]
    assert discover(kcenter, np.array([[0], [0], [0], [10], [10]], np.float32), 3).counts.tolist() == [2, 2, 1]


@given(st.integers(2, 30), st.integers(2, 6), SEEDS, st.lists(st.integers(-200, 200), min_size=6, max_size=6))
@settings(max_examples=60, deadline=None)
def test_kcenter_does_not_depend_on_a_translation(n, d, seed, shift):
    latents = (np.random.default_rng(seed).integers(-(2**14), 2**14, (n, d)) / 2**12).astype(np.float32)
    moved = latents + np.array(shift[:d], np.float32)
    assert np.array_equal(moved - np.array(shift[:d], np.float32), latents)  # nothing was rounded
    here, there = discover(kcenter, latents, n), discover(kcenter, moved, n)
    assert np.array_equal(here.indices, there.indices)
    assert np.allclose(here.centroids + np.array(shift[:d]), there.centroids, atol=1e-4)


@given(st.integers(1, 9), st.integers(1, 3), SEEDS, st.data())
@settings(max_examples=100, deadline=None)
def test_kcenters_radius_is_at_most_twice_the_least(n, d, seed, data):
    latents, ipc = points(n, d, seed), data.draw(st.integers(1, n))
    matrix = distances(latents)
    radius = matrix[:, discover(kcenter, latents, ipc).indices].min(1).max()
    least = min(matrix[:, list(centres)].min(1).max() for centres in combinations(range(n), ipc))
    assert radius <= 2 * least + 1e-9


def test_herdings_mean_is_nearer_than_that_of_random_images():
    latents = points(500, 20, 3).astype(np.float64)
    rng = np.random.default_rng(0)
    herded = np.linalg.norm(latents[discover(herding, latents, 10).indices].mean(0) - latents.mean(0))
    drawn = [np.linalg.norm(latents[rng.permutation(500)[:10]].mean(0) - latents.mean(0)) for _ in range(200)]
    assert herded < 0.5 * min(drawn)


@BOTH
def test_a_given_embedding_is_where_they_choose(kernel):
    latents, embedding = points(60, 7, 1), points(60, 3, 2)
    chosen = discover(kernel, latents, 8, embedding).indices
    assert np.array_equal(chosen, discover(kernel, embedding, 8).indices)
    assert not np.array_equal(chosen, discover(kernel, latents, 8).indices)


@BOTH
def test_what_cannot_be_chosen_from_is_refused(kernel):
    with pytest.raises(ValueError, match="needs latents"):
        kernel.discover(Pool(5), 2, {}, 0, 0)
    with pytest.raises(ValueError, match="has 5 images, fewer than IPC 6"):
        discover(kernel, points(5, 2, 0), 6)


@pytest.mark.parametrize("kind", ["herding", "kcenter"])
def test_they_are_methods_that_keep_real_images_of_latents_or_features(kind):
    own = {"plain": {"base": kind}, "pca": {"base": kind, "features": "teacher", "reducer": "pca", "components": 9}}
    config = Config(methods={**own, "guided": {"base": "mgd", "discovery": kind}})
    plain, pca, guided = (resolve(config, name, 10, "fashion-dit", "d") for name in config.methods)
    assert plain.discovery == guided.discovery == {"kind": kind}  # latents as they are
    assert resolve(Config(), kind, 10, "fashion-dit", "d").discovery == plain.discovery
    assert plain.sampler is None
    assert plain.needs_prior
    assert embedding_options(pca.discovery) == {"features": "teacher", "reducer": "pca", "components": 9, "standardize": True}
    assert hasattr(import_module(components.DISCOVERY[kind]), "discover")


@BOTH
def test_the_stage_writes_what_they_choose(kernel, tmp_path):
    latents = points(30, 8, 4).astype(np.float16).astype(np.float32)  # as latents are stored
    kind = kernel.__name__.rsplit(".", 1)[-1]
    of = {"classes": ["a", "b"], "class_range": [0, 2]}
    with create(tmp_path / "l.zarr.zip", LATENTS, {"latents": (30, 2, 2, 2), "labels": (30,)}, {}, {}, **of) as out:
        out.append("latents", latents.reshape(30, 2, 2, 2))
        out.append("labels", np.repeat([0, 1], [13, 17]))
    select.run({"discovery": {"kind": kind}, "ipc": 4, "seed": 0}, tmp_path / "l.zarr.zip", tmp_path / "p.zarr.zip")
    with Artifact(tmp_path / "p.zarr.zip", PROTOTYPES) as made:
        assert made["indices"][:4].tolist() == discover(kernel, latents[:13], 4).indices.tolist()
        assert (made["indices"][4:] - 13).tolist() == discover(kernel, latents[13:], 4).indices.tolist()
        assert np.array_equal(made["members"].reshape(8, 8), latents[made["indices"]])
        assert made["counts"].sum() == 30
        for name, of in (("centroid", "centroids"), ("member", "members")):
            for k, each in enumerate(made[of].reshape(8, 8).astype(np.float64)):
                own = latents[:13] if k < 4 else latents[13:]
                assert np.isclose(made[f"{name}_spread"][k], np.median(np.linalg.norm(own - each, axis=1)), rtol=1e-6)
