"""The intruder study (CoDA A.15): what it counts, on points made for it; its bound, on the embedded benchmark."""

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "workflow/scripts"))
try:
    import intruders
finally:
    sys.path.pop(0)


def test_a_mixed_class_ends_with_ten_images_of_the_other():
    points, labels = np.arange(90.0)[:, None], np.repeat([0, 1, 2], 30)
    mixed = [intruders.mix(points, labels, 1, 2, seed)[:, 0] for seed in (0, 0, 1)]
    for made in mixed:
        assert made[:-10].tolist() == list(range(30, 60))
        assert len(set(made[-10:]) & set(range(60, 90))) == 10
    assert np.array_equal(mixed[0], mixed[1])
    assert not np.array_equal(mixed[0], mixed[2])


def test_pairs_name_every_class_once_as_host_and_itself_never():
    assert set(intruders.PAIRS) == set(intruders.FASHION_CLASSES)
    assert set(intruders.PAIRS.values()) <= set(intruders.FASHION_CLASSES)
    assert all(host != other for host, other in intruders.PAIRS.items())


@pytest.mark.parametrize(("size", "initial", "found", "left"), [(10, 4, 1, 0), (15, 3, 0, 10)])
def test_ten_intruders_are_a_cluster_only_where_ten_images_may_be_one(size, initial, found, left):
    """Three groups of 40 and, far off, ten intruders as dense as they."""
    rng = np.random.default_rng(0)
    centres = np.repeat([[0, 0], [10, 0], [0, 10], [40, 40]], [40, 40, 40, intruders.INTRUDERS], axis=0)
    points = (centres + rng.normal(0, 0.1, centres.shape)).astype(np.float32)
    dense, means = intruders.chosen(4, {"reducer": "none", "min_cluster_size": size})
    counts = intruders.count(points, 0, 4, dense, means, 0)
    assert (counts["initial"], counts["initial intruders"], counts["left out"]) == (initial, found, left)
    assert (counts["all"], counts["all intruders"]) == (4, 1)  # Algorithm 2 turns to the outliers
    assert (counts["kmeans"], counts["kmeans intruders"]) == (4, 1)


def test_a_row_has_the_shares():
    found = {"initial": 80, "initial intruders": 4, "all": 300, "all intruders": 17, "kmeans": 300, "kmeans intruders": 30}
    line = intruders.row("s", {**found, "left out": 7})
    assert line == "| s | 4 of 80 (5.0%) | 17 of 300 (5.7%) | 30 of 300 (10.0%) | 7 of 300 |"


@pytest.fixture(scope="module")
def benchmark():
    return intruders.latents()


@pytest.mark.long
@pytest.mark.parametrize("ipc", [10, 50])
def test_at_most_a_twentieth_of_the_initial_representatives_are_intruders(benchmark, ipc):
    """The first of the study's three draws, all ten pairs. Ten images are fewer than CoDA's min_cluster_size at either IPC."""
    found = intruders.study(*benchmark, ipc, {}, seeds=(0,))
    assert found["initial"] >= 20  # HDBSCAN finds two clusters or none
    assert found["initial intruders"] <= 0.05 * found["initial"]
    assert found["kmeans intruders"] > 0.05 * found["kmeans"]  # which does choose them
