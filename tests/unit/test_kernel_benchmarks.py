"""Every kernel's benchmark at small sizes: ours and its reference do the same work."""

import numpy as np
import pytest

from benchmarks import kernels

SMALL = {
    "encode": {"images": 3},
    "decode": {"images": 3},
    "invert": {"latents": 3, "steps": 2},
    "sample": {"classes": 3, "steps": 3},
    "dift": {"patches": 3},
    "kmeans": {"points": 60, "dims": 5, "ipc": 4},
    "tree": {"points": 60, "dims": 5},
    "knn": {"points": 40, "dims": 6},
    "kid": {"own": 30, "real": 50, "dims": 4},
    "mmd": {"own": 30, "real": 50, "dims": 4},
    "prdc": {"own": 60, "dims": 3},
    "student": {"steps": 3},
    "soft labels": {"images": 5},
    "write": {"rows": 20},
    "read": {"rows": 20},
}


@pytest.mark.parametrize("name", kernels.KERNELS)
def test_ours_and_the_reference_agree(name):
    case = kernels.KERNELS[name].make(**SMALL[name])
    assert case.agree(case.ours(), case.reference())
    assert case.flop is not None or kernels.counted(case.ours) > 0


def test_what_differs_is_seen():
    case = kernels.KERNELS["mmd"].make(**SMALL["mmd"])
    assert not case.agree(case.ours(), 1.01 * case.reference())
    case = kernels.KERNELS["decode"].make(**SMALL["decode"])
    assert not case.agree(case.ours(), case.ours() ^ 4)


def test_slopes_are_exponents():
    sizes = [10, 20, 40]
    assert np.isclose(kernels.slope(sizes, [3e-4 * n**1.7 for n in sizes]), 1.7)


def test_operations_of_a_network_are_counted():
    import torch

    layer, x = torch.nn.Linear(30, 20), torch.rand(5, 30)
    assert kernels.counted(lambda: layer(x)) == 2 * 5 * 30 * 20
