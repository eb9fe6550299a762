"""Metrics over features against the equations written out; real features in blocks against the same in memory."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import sqrtm

from limbeck.artifacts import DISTILLED, FEATURES
from limbeck.metrics import coverage, kernels, neighbours, samples
from limbeck.metrics.frechet import Frechet, Moments, frechet
from limbeck.metrics.kernels import kid, mmd
from limbeck.metrics.l2 import L2
from limbeck.metrics.neighbours import precision_recall
from limbeck.records import read_json
from limbeck.stages import measure
from limbeck.store import Artifact, create

seeds = st.integers(0, 2**32 - 1)


def reference_frechet(a: np.ndarray, b: np.ndarray) -> float:
    """The textbook formula in float64 by sqrtm."""
    s1, s2 = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    root = sqrtm(s1 @ s2)
    return float(((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(s1 + s2 - 2 * np.real(root)))


def moments(x: np.ndarray, block: int = 10**6) -> Moments:
    found = Moments(x.shape[1])
    for start in range(0, len(x), block):
        found.add(x[start : start + block])
    return found


@given(st.integers(2, 20), seeds)
@settings(max_examples=25, deadline=None)
def test_frechet_equals_sqrtm_where_both_are_full_rank(dim, seed):
    rng = np.random.default_rng(seed)
    n1, n2 = rng.integers(3 * dim, 200, 2)
    a, b = rng.normal(size=(n1, dim)), rng.normal(0.3, 1.5, (n2, dim)) @ rng.normal(size=(dim, dim))
    assert frechet(a, b) == pytest.approx(reference_frechet(a, b), rel=1e-6)


@pytest.mark.parametrize("n", [2, 3, 17, 100])
def test_frechet_of_few_images_in_many_dimensions_is_finite_symmetric_and_zero_on_itself(n):
    rng = np.random.default_rng(n)
    a, b = rng.gamma(0.5, size=(n, 2048)), rng.gamma(0.5, 1.1, size=(100, 2048))
    found = frechet(a, b)
    assert np.isfinite(found)
    assert found > 0
    assert frechet(b, a) == pytest.approx(found, rel=1e-9)
    assert frechet(a, a) == pytest.approx(0, abs=1e-8)
    assert frechet(a.astype(np.float32), b.astype(np.float32)) == pytest.approx(found, rel=1e-5)


def test_frechet_of_two_points_each_is_worked_out_by_hand():
    """Rank one each: Tr sqrt(S1 S2) = sqrt(u^T S2 u) for S1 = u u^T, here |u . v|."""
    a, b = np.array([[0.0, 0, 0], [2, 0, 0]]), np.array([[0.0, 0, 1], [2, 2, 1]])
    u, v = np.array([math.sqrt(2), 0, 0]), np.array([math.sqrt(2), math.sqrt(2), 0])
    assert frechet(a, b) == pytest.approx(2 + u @ u + v @ v - 2 * abs(u @ v))  # means (1, 0, 0) and (1, 1, 1)
    assert math.isnan(frechet(a[:1], b))


@given(st.integers(2, 40), st.integers(1, 30), st.integers(1, 60), seeds)
@settings(max_examples=40, deadline=None)
def test_frechet_in_blocks_is_that_in_memory(n, dim, block, seed):
    rng = np.random.default_rng(seed)
    a, b = rng.normal(size=(n, dim)), rng.normal(2, 3, size=(50, dim))
    distance = Frechet(moments(a, max(1, block // 3)))
    for start in range(0, 50, block):
        distance.add(b[start : start + block])
    assert distance.value() == pytest.approx(frechet(a, b), rel=1e-9, abs=1e-9)


def test_moments_are_those_of_all_rows():
    x = np.random.default_rng(3).normal(1e4, 1, (200, 7))  # far from the origin
    found = moments(x, 13)
    assert found.count == 200
    np.testing.assert_allclose(found.mean, x.mean(0), rtol=1e-13)
    np.testing.assert_allclose(found.factor.T @ found.factor, np.cov(x, rowvar=False) * 199, rtol=1e-7, atol=1e-7)


def reference_mmd(a: np.ndarray, b: np.ndarray, kernel) -> float:
    pairs = [np.mean([kernel(x, y) for i, x in enumerate(s) for j, y in enumerate(s) if i != j]) for s in (a, b)]
    return sum(pairs) - 2 * np.mean([[kernel(x, y) for y in b] for x in a])


@given(st.integers(2, 9), st.integers(2, 12), st.integers(1, 5), seeds)
@settings(max_examples=25, deadline=None)
def test_mmd_equals_the_double_sum(n1, n2, dim, seed):
    rng = np.random.default_rng(seed)
    a, b = rng.normal(size=(n1, dim)), rng.normal(0.5, 2, size=(n2, dim))
    scale = 2 * np.median([((x - y) ** 2).sum() for x in a for y in b])
    expected = reference_mmd(a, b, lambda x, y: np.exp(-((x - y) ** 2).sum() / scale))
    assert mmd(a, b) == pytest.approx(expected, abs=1e-9)


def test_kid_equals_the_double_sum_over_its_subsets(monkeypatch):
    rng = np.random.default_rng(5)
    a, b = rng.normal(size=(6, 4)), rng.normal(0.4, 1, size=(6, 4))
    expected = reference_mmd(a, b, lambda x, y: (x @ y / 4 + 1) ** 3)
    mean, sd = kid(a, b)  # of equal size: every subset is all of both
    assert mean == pytest.approx(expected, abs=1e-12)
    assert sd == pytest.approx(0, abs=1e-12)
    drawn: list[int] = []
    monkeypatch.setattr(
        kernels, "some", lambda n, most, *_, **__: drawn.append(most) or samples.some(n, most, "t", item=len(drawn))
    )
    several = rng.normal(0.4, 1, size=(400, 4))
    mean, sd = kid(a, several)
    assert set(drawn) == {6}
    within = np.mean([((x @ y) / 4 + 1) ** 3 for i, x in enumerate(a) for j, y in enumerate(a) if i != j])
    x = several.astype(np.float64) @ several.T / 4 + 1
    whole = within + ((x**3).sum() - (np.diag(x) ** 3).sum()) / (400 * 399) - 2 * ((a @ several.T / 4 + 1) ** 3).mean()
    assert abs(mean - whole) < 4 * sd / math.sqrt(kernels.SUBSETS)


def test_kid_takes_subsets_of_large_sets(monkeypatch):
    monkeypatch.setattr(kernels, "SUBSET", 5)
    rng = np.random.default_rng(6)
    _, sd = kid(rng.normal(size=(40, 3)), rng.normal(size=(40, 3)))
    assert sd > 0


@pytest.mark.parametrize("distance", [mmd, lambda a, b: kid(a, b)[0]], ids=["mmd", "kid"])
def test_kernel_distances_of_two_halves_are_centred_on_zero(distance):
    rng = np.random.default_rng(7)
    pool = rng.gamma(2, size=(400, 6))
    halves = []
    for _ in range(80):
        rows = rng.permutation(400)[:80]
        halves.append(distance(pool[rows[:40]], pool[rows[40:]]))
    assert abs(np.mean(halves)) < 3 * np.std(halves, ddof=1) / math.sqrt(len(halves))
    assert np.std(halves) > 0


@given(st.integers(1, 25), seeds)
@settings(max_examples=15, deadline=None)
def test_mmd_in_blocks_is_that_in_memory(block, seed):
    rng = np.random.default_rng(seed)
    a, b = rng.normal(size=(11, 3)), rng.normal(1, 1, size=(50, 3))
    found = kernels.Mmd(a, b)
    for start in range(0, 50, block):
        found.add(b[start : start + block])
    assert found.value() == pytest.approx(mmd(a, b), abs=1e-12)
    assert math.isnan(mmd(a, np.repeat(a[:1], 4, axis=0)[:1]))
    assert math.isnan(mmd(np.ones((4, 2)), np.ones((4, 2))))  # no bandwidth


def test_pairs_within_go_by_blocks(monkeypatch):
    x = np.random.default_rng(8).normal(size=(23, 4))
    whole = kernels.within(x, kernels.polynomial)
    monkeypatch.setattr(kernels, "BLOCK", 5)
    assert kernels.within(x, kernels.polynomial) == pytest.approx(whole, rel=1e-12)


def cosine(x: np.ndarray, y: np.ndarray) -> float:
    return float(x @ y / np.linalg.norm(x) / np.linalg.norm(y))


def classed(rng: np.random.Generator, sizes: list[int], dim: int = 5) -> tuple[np.ndarray, np.ndarray]:
    labels = np.repeat(np.arange(len(sizes)), sizes)
    return rng.normal(0.5, 1, size=(len(labels), dim)).astype(np.float32), labels


@given(st.integers(1, 30), seeds)
@settings(max_examples=20, deadline=None)
def test_rep_and_coverage_equal_brute_force(block, seed):
    rng = np.random.default_rng(seed)
    (s, of), (real, among) = classed(rng, [3, 4]), classed(rng, [20, 17])
    made = coverage.Closeness(s, of)
    for c in (0, 1):
        rows = real[among == c]
        for start in range(0, len(rows), block):
            made.add(c, rows[start : start + block])
    found = made.values()
    best = [max(cosine(x, y) for y in real) for x in s]
    inside = [(s[of == c], real[among == c]) for c in (0, 1)]
    expected = {
        "rep": min(best),
        "rep_q05": np.quantile(best, 0.05),
        "rep_q50": np.quantile(best, 0.5),
        "rep_class": np.mean([min(max(cosine(x, y) for y in b) for x in a) for a, b in inside]),
        "coverage": np.mean([max(cosine(x, y) for y in s) for x in real]),
        "coverage_class": np.mean([np.mean([max(cosine(x, y) for y in a) for x in b]) for a, b in inside]),
    }
    assert found == pytest.approx(expected, abs=1e-6)


def test_div_equals_brute_force():
    s, of = classed(np.random.default_rng(9), [4, 3])
    rest = lambda rows: [1 - max(cosine(x, y) for j, y in enumerate(rows) if j != i) for i, x in enumerate(rows)]  # noqa: E731
    expected = {
        "div": min(rest(s)),
        "div_q05": np.quantile(rest(s), 0.05),
        "div_q50": np.quantile(rest(s), 0.5),
        "div_class": np.mean([min(rest(s[of == c])) for c in (0, 1)]),
    }
    assert coverage.diversity(s, of) == pytest.approx(expected, abs=1e-6)
    twin = np.concatenate([s, s[:1]])
    assert coverage.diversity(twin, np.append(of, 0))["div"] == pytest.approx(0, abs=1e-6)


def reference_balls(s: np.ndarray, real: np.ndarray, k: int) -> dict[str, float]:
    far = lambda x, y: float(np.linalg.norm(x - y))  # noqa: E731
    radius = lambda x, i: sorted(far(x[i], y) for j, y in enumerate(x) if j != i)[k - 1]  # noqa: E731
    of_real, of_s = [radius(real, i) for i in range(len(real))], [radius(s, i) for i in range(len(s))]
    inside = [[far(y, x) <= of_real[i] + 1e-9 for i, x in enumerate(real)] for y in s]
    return {
        "precision": np.mean([any(row) for row in inside]),
        "recall": np.mean([any(far(x, y) <= of_s[j] + 1e-9 for j, y in enumerate(s)) for x in real]),
        "density": sum(map(sum, inside)) / (k * len(s)),
        "knn_coverage": np.mean([any(row[i] for row in inside) for i in range(len(real))]),
    }


@given(st.integers(4, 25), st.integers(4, 25), st.integers(1, 3), seeds)
@settings(max_examples=30, deadline=None)
def test_precision_recall_density_and_coverage_equal_brute_force(n1, n2, k, seed):
    rng = np.random.default_rng(seed)
    s, real = rng.normal(0.5, 1, size=(n1, 3)), rng.normal(size=(n2, 3))
    s[0] = real[0]  # a chosen real image
    assert precision_recall(s, real, k) == pytest.approx(reference_balls(s, real, k))


def test_balls_go_by_blocks_and_far_from_the_origin(monkeypatch):
    rng = np.random.default_rng(10)
    s, real = rng.normal(size=(30, 4)), rng.normal(size=(30, 4))
    s[:10] = real[5:15]
    whole = precision_recall(s, real)
    monkeypatch.setattr(neighbours, "BLOCK", 7)
    assert precision_recall(s, real) == whole
    assert precision_recall(s + 1e7, real + 1e7) == whole
    assert all(math.isnan(x) for x in precision_recall(s[:3], real).values())


def test_l2_equals_brute_force_on_copies_too():
    rng = np.random.default_rng(11)
    s, real = (rng.normal(3, 1, size=(n, 4)).astype(np.float32) for n in (6, 40))
    s[0] = real[7]
    made = L2(s, s.mean(axis=0, dtype=np.float64))
    for start in range(0, 40, 9):
        made.add(real[start : start + 9])
    nearest = [min(np.linalg.norm(x.astype(np.float64) - y) for y in real) for x in s]
    expected = {"l2": np.linalg.norm(s.mean(0) - real.mean(0)), "l2_nearest": np.mean(nearest)}
    assert nearest[0] == 0
    assert made.values() == pytest.approx(expected, rel=1e-6)


# The stage.


def write_features(path: Path, features: np.ndarray, labels: np.ndarray, correct: bool = False) -> Path:
    shapes = {"features": features.shape, "labels": labels.shape} | ({"correct": labels.shape} if correct else {})
    with create(path, FEATURES, shapes, {}, {}, classes=["a", "b"]) as out:
        out.append("features", features)
        out.append("labels", labels)
        if correct:
            out.append("correct", labels == 0)
    return path


def shards(folder: Path, name: str, features: np.ndarray, labels: np.ndarray, **options: bool) -> list[Path]:
    """A shard for every class."""
    return [
        write_features(folder / f"{name}-{c}.zarr.zip", features[labels == c], labels[labels == c], **options)
        for c in np.unique(labels)
    ]


def opened(paths: list[Path]) -> measure.Streamed:
    return measure.Streamed([Artifact(path, FEATURES) for path in paths])


@pytest.fixture
def real(tmp_path: Path) -> tuple[list[Path], list[Path], np.ndarray, np.ndarray]:
    """Features of a training and a test set of two classes in two shards each, and the training features."""
    rng = np.random.default_rng(12)
    (train, of), (test, among) = classed(rng, [40, 35]), classed(rng, [15, 12])
    return shards(tmp_path, "train", train, of), shards(tmp_path, "test", test, among), train, of


def measured(folder: Path, real: tuple, s: np.ndarray, of: np.ndarray, kind: str = "teacher", **options: bool) -> dict:
    images = folder / "images.zarr.zip"
    shapes = {"images": (len(of), 8, 8, 1), "labels": of.shape, "x0_norms": (len(of), 2)}
    with create(images, DISTILLED, shapes, {}, {}, classes=["a", "b"]) as out:
        out.append("images", np.zeros(shapes["images"]))
        out.append("labels", of)
        out.append("x0_norms", np.arange(2 * len(of)).reshape(-1, 2))
    own, spec = shards(folder, "own", s, of, **options), {"extractor": "x", "kind": kind, "code": "c"}
    measure.run(spec, own, [images], real[0], real[1], folder / "m.json")
    return read_json(folder / "m.json", "metrics")


@pytest.mark.parametrize("block", [1, 13, 1000])
def test_rows_are_read_in_blocks_of_a_class_and_gathered_in_the_order_asked_for(real, block):
    source, (_, _, train, of) = opened(real[0]), real
    blocks = list(source.blocks(block=block))
    assert len(source) == 75
    assert max(len(rows) for _, rows in blocks) <= block
    assert np.array_equal(np.concatenate([rows for _, rows in blocks]), train)
    assert np.concatenate([np.full(len(rows), label) for label, rows in blocks]).tolist() == of.tolist()
    wanted = np.random.default_rng(block).permutation(75)[:20]
    rows, labels = source.gather(wanted)
    assert np.array_equal(rows, train[wanted])
    assert np.array_equal(labels, of[wanted])
    assert np.array_equal(source.gather(np.array([3, 1]), 1)[0], train[of == 1][[3, 1]])


def test_the_stage_is_the_metrics_in_memory_whatever_the_blocks(real, tmp_path, monkeypatch):
    s, of = classed(np.random.default_rng(13), [6, 6])
    found = measured(tmp_path, real, s, of, correct=True)
    train, test = (opened(paths) for paths in real[:2])
    everything = {name: np.concatenate([r for _, r in x.blocks()]) for name, x in (("train", train), ("test", test))}
    assert found["fd_x"] == pytest.approx(frechet(s, everything["train"]), rel=1e-9)
    assert found["mmd_x"] == pytest.approx(mmd(s, everything["test"]), abs=1e-12)
    parts = [(s[of == c], np.concatenate([r for _, r in test.blocks(c)])) for c in (0, 1)]
    assert found["mmd_class_x"] == pytest.approx(np.mean([mmd(a, b) for a, b in parts]), abs=1e-12)
    assert found["agreement_x"] == 0.5
    assert found["trajectory_norm_variance"] == pytest.approx(4 * 3.5)  # 1, 3, …, 11 and on
    assert found["images"] == 12
    whole = measure.Streamed.blocks
    monkeypatch.setattr(measure.Streamed, "blocks", lambda self, only=None: whole(self, only, 4))
    assert measured(tmp_path, real, s, of, correct=True) == pytest.approx(found, rel=1e-6, abs=1e-9)


def test_as_many_real_images_are_compared_as_the_set_has(real, tmp_path, monkeypatch):
    own: list[np.ndarray] = []
    seen: list[np.ndarray] = []

    def spied(a: np.ndarray, b: np.ndarray) -> dict[str, float]:
        own.append(a)
        seen.append(b)
        return precision_recall(a, b)

    monkeypatch.setattr("limbeck.metrics.evaluation.precision_recall", spied)
    s, of = classed(np.random.default_rng(14), [5, 5])
    measured(tmp_path, real, s, of)
    measured(tmp_path, real, -s, of)
    measured(tmp_path, real, *classed(np.random.default_rng(18), [50, 50]))
    assert [len(x) for x in own] == [10, 10, 75]  # and no more of a set than there are real ones
    assert len(seen.pop()) == 75
    rows = {row.tobytes() for row in real[2]}
    assert all(len(b) == 10 and len({row.tobytes() for row in b} & rows) == 10 for b in seen)
    assert np.array_equal(*seen)  # the same real images for every set
    assert np.array_equal(seen[0], real[2][samples.some(75, 10, "metrics.train")])


def test_one_image_per_class_is_measured_with_blanks(real, tmp_path):
    s, of = classed(np.random.default_rng(15), [1, 1])
    found = measured(tmp_path, real, s, of)
    undefined = {name for name, value in found.items() if value is None}
    balls = {"precision_x", "recall_x", "density_x", "knn_coverage_x"}
    assert undefined == {*balls, "div_class_x", "mmd_class_x", "trajectory_norm_variance"}
    assert "agreement_x" not in found
    single = measured(tmp_path, real, s[:1], of[:1])
    defined = {name for name, value in single.items() if value is not None}
    assert defined == {f"{name}_x" for name in ("rep", "rep_q05", "rep_q50", "rep_class", "coverage", "coverage_class")} | {
        "l2_x",
        "l2_nearest_x",
        "images",
    }
    json.dumps(single, allow_nan=False)


def test_only_inception_has_a_metric_called_fid(real, tmp_path):
    s, of = classed(np.random.default_rng(16), [3, 3])
    assert "fd_x" not in (found := measured(tmp_path, real, s, of, "inception"))
    assert found["fid_x"] == measured(tmp_path, real, s, of, "hf")["fd_x"]


def test_of_a_very_large_set_pairs_see_a_part_and_moments_all(real, tmp_path, monkeypatch):
    monkeypatch.setattr(measure, "LARGEST", 20)
    about = opened(real[0]).distilled()
    assert len(about.features) == 20
    assert (np.diff(about.labels) >= 0).all()
    np.testing.assert_allclose(about.moments.mean, real[2].mean(0), rtol=1e-6)
    found = measured(tmp_path, real, real[2], real[3])
    assert found["fd_x"] == pytest.approx(0, abs=1e-9)
    assert found["images"] == 75
