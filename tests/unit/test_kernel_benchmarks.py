"""Every kernel's benchmark at small sizes: ours and its reference do the same work."""

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks import kernels, overhead

SMALL = {
    "encode": {"images": 3},
    "decode": {"images": 3},
    "invert": {"latents": 3, "steps": 2},
    "sample": {"classes": 3, "steps": 3},
    "linear": {"rows": 128, "width": 8},
    "bfloat16": {"images": 3},
    "dift": {"patches": 3},
    "kmeans": {"points": 60, "dims": 5, "ipc": 4},
    "tree": {"points": 60, "dims": 5},
    "umap, hdbscan": {"points": 100, "dims": 8},
    "knn": {"points": 40, "dims": 6},
    "guidance, mode": {"images": 3, "dims": 16},
    "guidance, alignment": {"images": 3, "dims": 16},
    "guidance, manifold, expected": {"images": 3, "dims": 64, "points": 20},
    "guidance, manifold, monte_carlo": {"images": 3, "dims": 64, "points": 20},
    "kid": {"own": 30, "real": 50, "dims": 4},
    "mmd": {"own": 30, "real": 50, "dims": 4},
    "prdc": {"own": 60, "dims": 3},
    "student": {"steps": 3},
    "soft labels": {"images": 5},
    "soft training": {"steps": 3},
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


def test_a_runs_time_is_told_apart_by_what_it_is_spent_in(tmp_path: Path):
    files = {
        "d/p/inverted/inversion-1/0": ("denoiser", 1),
        "d/p/m/ipc1/seed0/distilled-0": ("denoiser", 2),
        "priors/p-im/prior": ("denoiser", 4),
        "d/teachers/t/teacher": ("student", 8),
        "d/none/random/ipc1/seed0/students/tiny-hard/convnet3": ("student", 16),
        "d/v32/p/latents/0": ("VAE", 32),
        "priors/p/prior": ("others", 64),
        "d/v32/p/prototypes/kmeans-1/ipc1/seed0/0": ("others", 128),
        "d/p/random/ipc1/seed0/distilled-0": ("others", 256),  # real images
        "d/p/candidates/c/ipc1/seed0/0": ("denoiser", 512),
        "d/p/candidates/c/ipc1/seed0/features/teacher-0": ("others", 1024),
    }
    for name, (kind, seconds) in files.items():
        path = tmp_path / f"{name}.prov.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"cpu_seconds": seconds} | ({"seconds_per_image": 1} if kind == "denoiser" else {})))
    wanted = {kind: sum(s for k, s in files.values() if k == kind) for kind in ("denoiser", "student", "VAE", "others")}
    assert overhead.spent(tmp_path) == wanted


@pytest.mark.parametrize(("slow", "met"), [(1, True), (9, False)])
def test_a_demo_is_judged_by_its_time_and_by_what_was_no_work(tmp_path: Path, monkeypatch, slow, met):
    asked = []

    def measured(place, cores, server):
        asked.append((place.name, cores, server))
        (place / "results/d/p/latents").mkdir(parents=True)
        (place / "results/d/p/latents/0.prov.json").write_text(json.dumps({"cpu_seconds": 720}))
        parts = {"jobs": 3, "work": 800, "starts": 60 * slow, "Snakemake": 40, "all": 1600}
        return parts | {"seconds": 500 * slow, "peak_mb": 700, "again": 3 * slow if server else 6, "again_mb": 90}

    monkeypatch.setattr(overhead, "measured", measured)
    lines = overhead.run(tmp_path)
    assert asked == [("processes", 2, False), ("forked", 2, True)]
    judged = [line for line in lines if "met" in line]
    assert (len(lines), [line["met"] for line in judged]) == (7, [met] * 4)
    assert lines[4]["ratio"] == 6 / (3 * slow)
    assert lines[5]["ratio"] == (60 * slow + 40) / 1600
    assert "work 50.0 %, starts" in lines[5]["case"]
    assert lines[6]["ratio"] == 720 / (840 + 60 * slow)


def test_time_inside_products_is_told_from_the_rest():
    import time

    import torch

    a = torch.randn(256, 256)
    assert kernels.in_products(lambda: a.exp()) == 0
    started = time.perf_counter()
    alone = kernels.in_products(lambda: [a @ a for _ in range(20)])
    assert 0 < alone < time.perf_counter() - started
