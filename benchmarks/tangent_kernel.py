"""The tangent kernel at a real latent's size against the released code's dense D x D eigendecomposition, on one thread each."""

import json
import sys
import time
from pathlib import Path

import numpy as np

from benchmarks.measure import Line, alone, judged

D, K, DIM, SAMPLES, BATCH = 4096, 300, 3, 100, 10
# a few directions far above the rest, and pure noise, where only the exact solver has an easy time
CASES = {"gap": 10.0, "flat": 0.0}


def clouds(count: int, gap: float, seed: int) -> np.ndarray:
    """(count, K, D) float32."""
    rng = np.random.default_rng(seed)
    axes = rng.standard_normal((DIM, D), dtype=np.float32) / np.sqrt(D, dtype=np.float32)
    noise = rng.standard_normal((count, K, D), dtype=np.float32)
    return noise + gap * np.sqrt(D / K, dtype=np.float32) * rng.standard_normal((count, K, DIM), dtype=np.float32) @ axes


def work(what: str, case: str) -> dict[str, float]:
    """Seconds per sample of one way; the clouds come in batches of one class's images, as in the stage."""
    import torch
    from threadpoolctl import threadpool_limits

    from limbeck.geometry.tangent import tangent

    torch.set_num_threads(1)
    threadpool_limits(1)
    spent, iterations, residuals, done = 0.0, [], [0.0], 0
    for start in range(0, 1 if what == "dense" else SAMPLES, BATCH):
        points = clouds(1 if what == "dense" else BATCH, CASES[case], start)
        if start == 0 and what != "dense":
            tangent(points[0, :20, :50], DIM, what)  # type: ignore[arg-type]  # first calls load the linear algebra
        begun = time.perf_counter()
        if what == "dense":
            centred = torch.from_numpy(points[0] - points[0].mean(0))
            torch.linalg.eigh(centred.T @ centred / K)
        else:
            found = [tangent(cloud, DIM, what) for cloud in points]  # type: ignore[arg-type]
            iterations += [f.iterations for f in found]
            residuals += [f.residual for f in found]
        spent += time.perf_counter() - begun
        done += len(points)
    return {"seconds": spent / done, "iterations": float(np.mean(iterations or [0])), "residual": max(residuals)}


def run(folder: Path) -> list[Line]:
    """Seconds per sample; ratios are speed-ups over the dense way."""
    found = {}
    for what, case in (("dense", "gap"), *((solver, case) for case in CASES for solver in ("exact", "subspace"))):
        out = folder / f"{what}-{case}.json"
        used = alone([what, case, str(out)], module="benchmarks.tangent_kernel")
        found[what, case] = (json.loads(out.read_text()), used.peak_mb)
    dense = found["dense", "gap"][0]["seconds"]
    lines: list[Line] = []
    for (what, case), (result, peak) in found.items():
        detail = f", {result['iterations']:.0f} iterations, residual {result['residual']:.0e}" if what == "subspace" else ""
        line: Line = {"benchmark": "tangent", "case": f"{what}, {case} spectrum{detail}", "peak_mb": peak}
        line |= {"seconds": result["seconds"], "ratio": dense / result["seconds"], "of": "times faster than dense 4096 x 4096"}
        if what == "subspace" and case == "gap":  # five times as fast again, where the spectrum has a gap
            line["of exact"] = found["exact", case][0]["seconds"] / result["seconds"]
            line = judged(line, **{"of exact": (5, None), "peak_mb": (None, 1000)})
        elif what == "subspace":
            line = judged(line, peak_mb=(None, 1000))
        elif what == "exact":
            line = judged(line, ratio=(200, None), peak_mb=(None, 1000))
        lines.append(line)
    return lines


if __name__ == "__main__":
    Path(sys.argv[3]).write_text(json.dumps(work(sys.argv[1], sys.argv[2])))
