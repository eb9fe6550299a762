"""Kernels of the stages, each against a stated reference: times, memory, how far from what its arithmetic takes, and how it grows.

The floor is floating-point operations, counted, over the rate of a product of matrices, or the bytes that must be moved over that
of a copy, whichever takes longer; both rates are measured in the same run. Products: of a network's time what torch spends inside
convolutions, matrix products and attention. One thread, CPU time. Growth is the slope of log seconds against the log of a size, by
least squares.
"""

import json
import math
import re
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.cases import discovery, files, guidance, metrics, networks, students
from benchmarks.cases.base import Kernel, Run
from benchmarks.measure import alone

ROUNDS = 5
PRODUCTS = re.compile("^aten::(mkldnn_convolution|convolution_backward|addmm|mm|bmm|baddbmm|_scaled_dot_product.*)$")
LONG_ENOUGH = 0.5  # seconds of a round's calls
SQUARE, COPIED = 1024, 1 << 26
FEW, REAL = {"own": 500, "real": 2000, "dims": 128}, (500, 1000, 2000, 4000)
# images of a class in a step, at a latent's size of Stable Diffusion's VAE and 256 pixels
STEP, GROWN, NEAR = {"images": 10, "dims": 4096}, {"images": (5, 10, 20), "dims": (1024, 4096, 16384)}, {"points": 300}
KERNELS = {
    "encode": Kernel(networks.encode, {"images": 100}, {"images": (25, 50, 100, 200)}),
    "decode": Kernel(networks.decode, {"images": 100}, {"images": (25, 50, 100, 200)}),
    "invert": Kernel(networks.invert, {"latents": 64, "steps": 4}, {"latents": (16, 32, 64, 128), "steps": (1, 2, 4)}),
    "sample": Kernel(networks.sample, {"classes": 50, "steps": 4}, {"classes": (10, 25, 50, 100), "steps": (2, 4, 8)}),
    "linear": Kernel(networks.linear, {"rows": 1024, "width": 160}, {"rows": (128, 512, 2048), "width": (80, 160, 320)}),
    "bfloat16": Kernel(networks.bfloat16, {"images": 64}, {"images": (16, 64, 256)}),
    "dift": Kernel(networks.dift, {"patches": 64}, {"patches": (16, 32, 64, 128)}),
    "kmeans": Kernel(
        discovery.kmeans,
        {"points": 500, "dims": 256, "ipc": 10},
        {"points": (250, 500, 1000, 2000), "dims": (128, 256, 512), "ipc": (5, 10, 20)},
    ),
    "tree": Kernel(discovery.tree, {"points": 500, "dims": 256}, {"points": (250, 500, 1000), "dims": (128, 256, 512)}),
    "umap, hdbscan": Kernel(
        discovery.umap_hdbscan, {"points": 500, "dims": 256}, {"points": (500, 1000, 2000), "dims": (256, 512, 1024)}
    ),
    "knn": Kernel(guidance.knn, {"points": 1300, "dims": 4096}, {"points": (650, 1300, 2600), "dims": (1024, 2048, 4096)}),
    "guidance, mode": Kernel(guidance.mode, STEP, GROWN),
    "guidance, alignment": Kernel(guidance.alignment, STEP, GROWN),
    "guidance, manifold, expected": Kernel(guidance.expected, STEP | NEAR, GROWN),
    "guidance, manifold, monte_carlo": Kernel(guidance.monte_carlo, STEP | NEAR, GROWN),
    "kid": Kernel(metrics.kid, FEW, {"own": (250, 500, 1000), "dims": (64, 128, 256)}),
    "mmd": Kernel(metrics.mmd, FEW, {"own": (250, 500, 1000), "real": REAL, "dims": (64, 128, 256)}),
    "prdc": Kernel(metrics.prdc, {"own": 1000, "dims": 128}, {"own": REAL, "dims": (64, 128, 256)}),
    "student": Kernel(students.student, {"steps": 20}, {"steps": (10, 20, 40)}),
    "soft labels": Kernel(students.soft_labels, {"images": 500}, {"images": (125, 250, 500)}),
    "soft training": Kernel(students.soft_training, {"steps": 20}, {"steps": (10, 20, 40)}),
    "write": Kernel(files.write, {"rows": 20_000}, {"rows": (5_000, 10_000, 20_000)}),
    "read": Kernel(files.read, {"rows": 20_000}, {"rows": (5_000, 10_000, 20_000)}),
}


def seconds(call: Run, rounds: int = ROUNDS) -> float:
    """The least over rounds of a call's CPU time; a round's calls take long enough to be timed."""
    call()
    calls, least = 1, math.inf
    for _ in range(rounds):
        begun = time.process_time()
        for _ in range(calls):
            call()
        spent = time.process_time() - begun
        least = min(least, spent / calls)
        calls = max(calls, min(1000, int(LONG_ENOUGH / max(spent / calls, 1e-9) / rounds)))
    return least


def machine() -> dict[str, float]:
    """Operations per second of products of matrices in float32 and float64, and bytes per second that a copy reads and writes.

    In float32 by torch's product or as a convolution, whichever is faster here.
    """
    import torch

    from limbeck.priors.cpu import Linear

    found = {}
    for name, kind in (("flop", torch.float32), ("double", torch.float64)):
        a = torch.randn(SQUARE, SQUARE, dtype=kind)
        found[name] = 2 * SQUARE**3 / seconds(lambda a=a: a @ a)  # type: ignore[misc]
    a, layer = torch.randn(SQUARE, SQUARE), Linear(SQUARE, SQUARE, bias=False).requires_grad_(False)
    found["flop"] = max(found["flop"], 2 * SQUARE**3 / seconds(lambda: layer(a)))
    source = np.zeros(COPIED, np.uint8)
    target = np.ones_like(source)
    found["bytes"] = 2 * COPIED / seconds(lambda: np.copyto(target, source))
    return found


def counted(call: Run) -> float:
    """Floating-point operations of what torch's networks do in a call."""
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        call()
    return float(counter.get_total_flops())


def in_products(call: Run) -> float:
    """Seconds of a call inside torch's convolutions, matrix products and attention, gradients too: the least of ROUNDS."""
    from torch.profiler import ProfilerActivity, profile

    def once() -> float:
        with profile(activities=[ProfilerActivity.CPU]) as seen:
            call()
        return sum(event.self_cpu_time_total for event in seen.key_averages() if PRODUCTS.search(event.key)) / 1e6

    return min(once() for _ in range(ROUNDS))


def slope(sizes: list[int], times: list[float]) -> float:
    """Of log seconds against log size."""
    return float(np.polyfit(np.log(sizes), np.log(times), 1)[0])


def compared(name: str, rates: dict[str, float]) -> dict[str, Any]:
    """Seconds of ours and of the reference, of the floor, and slopes by size."""
    kernel = KERNELS[name]
    case = kernel.make(**kernel.sizes)
    if not case.agree(case.ours(), case.reference()):
        raise RuntimeError(f"{name}: ours and the reference ({case.of}) differ")
    flop = counted(case.ours) if case.flop is None else case.flop
    ours, reference = seconds(case.ours), seconds(case.reference, 3)
    networks = {"products": in_products(case.ours)} if case.flop is None else {}
    floor = max(flop / rates["double" if case.double else "flop"], case.moved / rates["bytes"])
    growth = {}
    for size, values in kernel.grown.items():
        grown = [seconds(kernel.make(**{**kernel.sizes, size: value}).ours, 2) for value in values]
        growth[size] = slope(list(values), grown)
    return {"ours": ours, "reference": reference, "of": case.of, "flop": flop, "floor": floor, "growth": growth, **networks}


def run(folder: Path) -> list[dict[str, object]]:
    """A line for each; the peak is of a process that does ours alone, its imports included."""
    alone(["machine", str(folder / "machine.json"), "{}"], module="benchmarks.kernels")
    rates, lines = json.loads((folder / "machine.json").read_text()), list[dict[str, object]]()
    for name, kernel in KERNELS.items():
        out = folder / f"{name}.json"
        alone([name, str(out), json.dumps(rates)], module="benchmarks.kernels")
        peak = alone([name, str(out.with_suffix(".peak")), ""], module="benchmarks.kernels").peak_mb
        found = json.loads(out.read_text())
        sizes = ", ".join(f"{value:,} {size}" for size, value in kernel.sizes.items())
        line: dict[str, object] = {"benchmark": name, "case": sizes, "seconds": found["ours"], "peak_mb": peak}
        line |= {"ratio": found["reference"] / found["ours"], "of": f"times faster than {found['of']}", "growth": found["growth"]}
        line |= {name: found[name] / found["ours"] for name in ("floor", "products") if found.get(name)}
        lines.append(line)
    return lines


def main(name: str, out: str, rates: str) -> None:
    """One process of :func:`run`: the rates; a comparison; or, without rates, ours once."""
    import torch
    from threadpoolctl import threadpool_limits

    from limbeck.cli import keep_freed_memory

    keep_freed_memory()
    torch.set_num_threads(1)
    with threadpool_limits(1):
        found = None
        if name == "machine":
            found = machine()
        elif rates:
            found = compared(name, json.loads(rates))
        else:
            KERNELS[name].make(**KERNELS[name].sizes).ours()
    Path(out).write_text(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
