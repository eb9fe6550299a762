"""Coresets of 60,000 features of 256 numbers, 100 for each of ten classes, against the algorithms read directly on one class.

Ours also count and average the images that each chosen one stands for.
"""

import json
import sys
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import numpy as np
from threadpoolctl import threadpool_limits

from benchmarks.measure import Line, alone, judged

ROUNDS, SEED = 3, 0
CLASSES, IMAGES, D, MODES = 10, 6000, 256, 20
IPC = 100
NAIVE = "naive "


def features(label: int) -> np.ndarray:
    """(IMAGES, D) float32 of one class, around MODES middles."""
    rng = np.random.default_rng([SEED, label])
    middles = rng.normal(size=(MODES, D))
    return (middles[rng.integers(MODES, size=IMAGES)] + rng.normal(size=(IMAGES, D))).astype(np.float32)


def naive_herding(points: np.ndarray) -> list[int]:
    """iCaRL's Alg. 4 read directly: the mean with every candidate, an array of N x D at each step."""
    x = points.astype(np.float64)
    mean, total = x.mean(axis=0), np.zeros(D)
    rows: list[int] = []
    for k in range(1, IPC + 1):
        far = np.linalg.norm(mean - (x + total) / k, axis=1)
        far[rows] = np.inf
        rows.append(int(far.argmin()))
        total += x[rows[-1]]
    return rows


def naive_kcenter(points: np.ndarray) -> list[int]:
    """Greedy k-center from the whole matrix of distances."""
    from scipy.spatial.distance import cdist

    x = points.astype(np.float64)
    matrix = cdist(x, x)
    rows = [int(np.linalg.norm(x - x.mean(axis=0), axis=1).argmin())]
    while len(rows) < IPC:
        rows.append(int(matrix[:, rows].min(axis=1).argmax()))
    return rows


def _ours(kind: str) -> Callable[[np.ndarray], list[int]]:
    from limbeck.components import DISCOVERY
    from limbeck.discovery.base import Pool

    discover = import_module(DISCOVERY[kind]).discover
    return lambda points: discover(Pool(IMAGES, points), IPC, {}, SEED, 0).indices.tolist()


def timed(case: str) -> dict[str, object]:
    """Seconds for each class, the median of ROUNDS, and the first class's choice.

    Of CPU time on one thread, which others on the same cores change least. One class is in memory at a time.
    """
    naive = {NAIVE + "herding": naive_herding, NAIVE + "kcenter": naive_kcenter}
    choose = naive.get(case) or _ours(case)
    classes = 1 if case in naive else CLASSES
    times = np.zeros((ROUNDS, classes))
    first: list[int] = []
    for label in range(classes):
        points = features(label)
        for k in range(ROUNDS):
            begun = time.process_time()
            chosen = choose(points)
            times[k, label] = time.process_time() - begun
        first = first or chosen
    return {"seconds": float(np.median(times.mean(axis=1))), "classes": classes, "first": first}


def run(folder: Path) -> list[Line]:
    """Each in a process of its own; both must choose the same."""
    out = folder / "coresets.json"
    lines: list[Line] = []
    for kind in ("herding", "kcenter"):
        found, peaks = {}, {}
        for case in (NAIVE + kind, kind):
            peaks[case] = alone([case, str(out)], module="benchmarks.coresets").peak_mb
            found[case] = json.loads(out.read_text())
        if found[kind]["first"] != found[NAIVE + kind]["first"]:
            raise RuntimeError(f"{kind} does not choose what the algorithm read directly does")
        for case, result in found.items():
            seconds, classes = result["seconds"], result["classes"]
            what = f"{case}, {classes} x {IMAGES} x {D}, IPC {IPC}, CPU on 1 thread"
            line: Line = {"benchmark": "coresets", "case": what, "seconds": seconds * classes, "peak_mb": peaks[case]}
            line |= {"ratio": found[NAIVE + kind]["seconds"] / seconds, "of": "times faster than naive, per class"}
            lines.append(judged(line, seconds=(None, 10)) if case == "kcenter" else line)
    return lines


if __name__ == "__main__":
    with threadpool_limits(1, "blas"):
        Path(sys.argv[2]).write_text(json.dumps(timed(sys.argv[1])))
