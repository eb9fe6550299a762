"""Fréchet distance of 100 images' features against SciPy's sqrtm, and the memory of a measurement by the number of real images."""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from threadpoolctl import threadpool_limits

from benchmarks.measure import Line, alone, judged

IMAGES, D, REAL = 100, 2048, 5000
CLASSES, WIDTH, TEST = 10, 512, 2000
SIZES = (10_000, 100_000)
ROUNDS, SEED = 3, 0


def by_sqrtm(a: np.ndarray, b: np.ndarray) -> float:
    """The textbook formula: the square root of a d x d matrix."""
    from scipy.linalg import sqrtm

    s1, s2 = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    return float(((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(s1 + s2 - 2 * np.real(sqrtm(s1 @ s2))))


def _ours() -> Callable[[np.ndarray, np.ndarray], float]:
    from limbeck.metrics.frechet import frechet

    return frechet


def timed(case: str) -> dict[str, float]:
    """Seconds of CPU time on one thread, the least of ROUNDS (sqrtm: of one), covariances included, and the distance."""
    rng = np.random.default_rng(SEED)
    a, b = rng.gamma(0.5, 1.1, size=(IMAGES, D)), rng.gamma(0.5, size=(REAL, D))
    distance, times = (by_sqrtm, []) if case == "sqrtm" else (_ours(), [])
    for _ in range(1 if case == "sqrtm" else ROUNDS):
        begun = time.process_time()
        value = distance(a, b)
        times.append(time.process_time() - begun)
    return {"seconds": min(times), "value": value}


def _features(path: Path, n: int, seed: int) -> str:
    """An artifact of n features in CLASSES classes, written a class at a time."""
    from limbeck.artifacts import FEATURES
    from limbeck.store import create

    with create(path, FEATURES, {"features": (n, WIDTH), "labels": (n,)}, {}, {}) as out:
        for label in range(CLASSES):
            rng = np.random.default_rng([seed, label])
            out.append("features", rng.normal(label, 1, size=(n // CLASSES, WIDTH)).astype(np.float32))
            out.append("labels", np.full(n // CLASSES, label))
    return str(path)


def _measured(folder: Path) -> list[Line]:
    own, test = _features(folder / "own.zarr.zip", IMAGES, 1), _features(folder / "test.zarr.zip", TEST, 2)
    spec, out = json.dumps({"extractor": "x", "kind": "hf", "code": ""}), str(folder / "metrics.json")
    lines: list[Line] = []
    for n in SIZES:
        train = _features(folder / f"train-{n}.zarr.zip", n, 3)
        files = ["--distilled", own, "--images", own, "--train", train, "--test", test, "--metrics", out, "--prov", f"{out}.prov"]
        usage = alone(["--threads", "1", "measure", "--spec", spec, *files])
        what = f"measure, {IMAGES} images against {n} x {WIDTH}"
        lines.append({"benchmark": "metrics", "case": what, "seconds": usage.seconds, "peak_mb": usage.peak_mb})
    of = f"times the memory of {SIZES[0]}"
    lines = [{**line, "ratio": line["peak_mb"] / lines[0]["peak_mb"], "of": of} for line in lines]
    return [lines[0], judged(lines[1], ratio=(None, 1.1))]  # independent of the number of real images


def run(folder: Path) -> list[Line]:
    """Each in a process of its own."""
    out, lines, found, peaks = folder / "frechet.json", list[Line](), {}, {}
    for case in ("sqrtm", "nuclear norm"):
        peaks[case] = alone([case, str(out)], module="benchmarks.metrics").peak_mb
        found[case] = json.loads(out.read_text())
    if abs(found["sqrtm"]["value"] / found["nuclear norm"]["value"] - 1) > 1e-3:
        raise RuntimeError("the Fréchet distance is not what sqrtm gives")
    for case, result in found.items():
        what = f"Fréchet by {case}, {IMAGES} and {REAL} x {D}, CPU on 1 thread"
        line: Line = {"benchmark": "metrics", "case": what, "seconds": result["seconds"], "peak_mb": peaks[case]}
        line |= {"ratio": found["sqrtm"]["seconds"] / result["seconds"], "of": "times faster than sqrtm"}
        lines.append(line if case == "sqrtm" else judged(line, ratio=(20, None)))
    return [*lines, *_measured(folder)]


if __name__ == "__main__":
    with threadpool_limits(1, "blas"):
        Path(sys.argv[2]).write_text(json.dumps(timed(sys.argv[1])))
